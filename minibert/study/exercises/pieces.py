"""Text to pieces: the words of a text, the pieces of a word, the row of one text or two."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Collection, Sequence
from typing import Any

from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

LONGEST_WORD = 100  # characters
# The blocks of Chinese characters that the cases draw from: the common ones and two rarer.
CHINESE = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0xF900, 0xFAFF))
OTHER_ASIAN = ((0x3040, 0x30FF), (0xAC00, 0xD7AF), (0x1100, 0x11FF))  # kana, Hangul, and Hangul in parts

WORDPIECE = {
    "shortest": "the shortest piece that fits is taken, not the longest",
    "from the end": "the word is cut from its end instead of its beginning",
    "whole words": "a word that is not in the vocabulary as a whole is [UNK] at once",
    "looked up without ##": "the pieces after the first are looked up without ##, and returned without",
    "## added afterwards": "the pieces after the first are looked up without ##, which is added afterwards",
    "## dropped": "the pieces after the first are looked up with ##, but returned without",
    "## in front": "the first piece is looked up with ##, too",
    "pieces kept": "[UNK] stands only for the rest that does not fit, not for the whole word",
    "rest dropped": "the rest that does not fit is dropped, instead of making the whole word [UNK]",
    "character skipped": "a character that does not fit becomes [UNK] alone, and the word goes on after it",
    "backtracking": "another cut is tried where the longest piece leads to a dead end",
    "no single characters": "pieces of a single character are never tried",
    "no limit": f"words of more than {LONGEST_WORD} characters are cut, too, instead of being [UNK]",
    "limit too low": f"a word of exactly {LONGEST_WORD} characters is [UNK] already",
}

WORDS = {
    "not lower-cased": "letters are not lower-cased",
    "always lower-cased": "letters are lower-cased and lose their accents in a cased tokenizer, too",
    "accents kept": "accents are kept although the text is lower-cased",
    "accents always dropped": "accents are dropped in a cased tokenizer, too",
    "nfkd": "accents are found with NFKD, which also rewrites ligatures and the like, instead of NFD",
    "ascii only": "every character outside ASCII is dropped",
    "punctuation glued": "the text is split at spaces only, so punctuation stays in the word",
    "ascii punctuation only": "only the punctuation of ASCII is split off, not “, ” and the like",
    "unicode punctuation only": "ASCII symbols that Unicode does not call punctuation ($, +, ...) are not split off",
    "punctuation in runs": "several punctuation characters in a row stay together as one word",
    "punctuation dropped": "punctuation is dropped instead of being a word",
    "apostrophes kept": "apostrophes stay in the word",
    "chinese glued": "Chinese characters are not words by themselves",
    "kana and hangul split": "characters of Japanese kana and Korean Hangul are words by themselves, too",
    "control characters kept": "control and format characters are kept",
    "control characters split": "control and format characters become spaces instead of nothing",
    "line breaks dropped": "tabs and line breaks are dropped as control characters, which joins the words around them",
}

PAIR = {
    "second [CLS]": "the second text begins with a [CLS] of its own",
    "no last [SEP]": "the last [SEP] is missing",
    "no first [SEP]": "there is no [SEP] between the two texts",
    "two [SEP] between": "there are two [SEP] between the texts, as in RoBERTa",
    "one segment": "all segments are 0",
    "segments from one": "segments count from 1",
    "first [SEP] in segment 1": "the [SEP] between the texts belongs to the second one",
    "last [SEP] in segment 0": "the last [SEP] belongs to segment 0",
    "row cut": "the finished row is cut at its end, so that its last [SEP] is lost",
    "only the second cut": "only the second text is cut, even if the first is longer",
    "only the first cut": "only the first text is cut, even if the second is longer",
    "halves": "each text gets half of the room, even if the other one needs less",
    "beginning cut": "pieces are cut from the beginning of a text instead of its end",
    "[CLS] and [SEP] not counted": "the room does not count [CLS] and [SEP], so the row is longer than max_length",
    "room of a pair": "a text alone also leaves room for a third special token",
}


def wordpiece(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (word, vocabulary) -> the pieces of one word, a list; the vocabulary is a set of pieces."""
    return judge(mine, WORDPIECE_TASK)


def words(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (text, lowercase) -> the words of a text before they are cut into pieces, a list."""
    return judge(mine, WORDS_TASK)


def pair(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (first, second, max_length) -> (pieces, segments) of a row, two lists.

    `first` and `second` are lists of pieces; `second` may be None. The longer text is cut first, then both evenly.
    """
    return judge(mine, PAIR_TASK)


def cut_word(word: str, vocabulary: Collection[str], mistakes: frozenset[str] = frozenset()) -> list[str]:
    """The pieces of one word, with some mistakes."""
    longest = LONGEST_WORD - ("limit too low" in mistakes)
    if len(word) > longest and "no limit" not in mistakes:
        return ["[UNK]"]
    if "whole words" in mistakes:
        return [word if word in vocabulary else "[UNK]"]
    pieces: list[str] = []
    start, end = 0, len(word)
    while start < end:
        found = _first_fit(word, start, end, vocabulary, mistakes)
        if found is None and "character skipped" not in mistakes:
            return [*pieces, *([] if "rest dropped" in mistakes else ["[UNK]"])] if _keeps(mistakes) else ["[UNK]"]
        if found is None and "from the end" in mistakes:
            pieces, end = ["[UNK]", *pieces], end - 1
        elif found is None:
            pieces, start = [*pieces, "[UNK]"], start + 1
        elif "from the end" in mistakes:
            pieces, end = [found[0], *pieces], found[1]
        else:
            pieces, start = [*pieces, found[0]], found[1]
    return pieces


def _keeps(mistakes: frozenset[str]) -> bool:
    return not mistakes.isdisjoint({"pieces kept", "rest dropped"})


def _first_fit(
    word: str, start: int, end: int, vocabulary: Collection[str], mistakes: frozenset[str]
) -> tuple[str, int] | None:
    """The piece that is taken next from word[start:end], and where the rest begins (or ends)."""
    shortest = 2 if "no single characters" in mistakes else 1
    lengths = list(range(end - start, shortest - 1, -1))
    for length in lengths[::-1] if "shortest" in mistakes else lengths:
        first, last = (end - length, end) if "from the end" in mistakes else (start, start + length)
        prefix = "##" if first > 0 or "## in front" in mistakes else ""
        bare = not mistakes.isdisjoint({"looked up without ##", "## added afterwards"})
        if ("" if bare else prefix) + word[first:last] not in vocabulary:
            continue
        plain = not mistakes.isdisjoint({"looked up without ##", "## dropped"})
        piece = ("" if plain else prefix) + word[first:last]
        rest = (start, first) if "from the end" in mistakes else (last, end)
        if "backtracking" not in mistakes or _fits(word, *rest, vocabulary, mistakes):
            return piece, first if "from the end" in mistakes else last
    return None


def _fits(word: str, start: int, end: int, vocabulary: Collection[str], mistakes: frozenset[str]) -> bool:
    return start >= end or _first_fit(word, start, end, vocabulary, mistakes) is not None


def _in(character: str, blocks: Sequence[tuple[int, int]]) -> bool:
    return any(first <= ord(character) <= last for first, last in blocks)


def split_words(text: str, lowercase: bool, mistakes: frozenset[str] = frozenset()) -> list[str]:
    """The words of a text, with some mistakes."""
    result = ""
    for character in text:
        control = unicodedata.category(character) in ("Cc", "Cf", "Co") or character == "\ufffd"
        line_break = character in "\t\n\r"
        if line_break and "line breaks dropped" in mistakes:
            continue
        if line_break or character.isspace():
            result += " "
        elif not control or "control characters kept" in mistakes:
            result += character
        elif "control characters split" in mistakes:
            result += " "
    lower = lowercase or "always lower-cased" in mistakes
    if (lower and "accents kept" not in mistakes) or "accents always dropped" in mistakes:
        parts = unicodedata.normalize("NFKD" if "nfkd" in mistakes else "NFD", result)
        result = "".join(part for part in parts if unicodedata.category(part) != "Mn")
    if lower and "not lower-cased" not in mistakes:
        result = "".join(character.lower() for character in result)
    if "ascii only" in mistakes:
        result = result.encode("ascii", "ignore").decode()
    result = "".join(_apart(character, mistakes) for character in result)
    if "punctuation in runs" in mistakes:
        result = re.sub("\0 *\0", "", result)
    return result.replace("\0", " ").split()


def _apart(character: str, mistakes: frozenset[str]) -> str:
    """One character, with spaces around it if it is a word by itself; \\0 is the edge of punctuation."""
    ascii_sign, unicode_sign = character in string.punctuation, unicodedata.category(character).startswith("P")
    if "ascii punctuation only" in mistakes:
        unicode_sign = unicode_sign and ascii_sign
    if "unicode punctuation only" in mistakes:
        ascii_sign = False
    kept = "punctuation glued" in mistakes or ("apostrophes kept" in mistakes and character in "'’")
    if (ascii_sign or unicode_sign) and not kept:
        return " " if "punctuation dropped" in mistakes else f"\0{character}\0"
    alone = _in(character, CHINESE) and "chinese glued" not in mistakes
    alone = alone or ("kana and hangul split" in mistakes and _in(character, OTHER_ASIAN))
    return f" {character} " if alone else character


def make_row(
    first: list[str], second: list[str] | None, max_length: int, mistakes: frozenset[str] = frozenset()
) -> tuple[list[str], list[int]]:
    """The pieces and segments of a row, with some mistakes."""
    texts = [first] if second is None else [first, second]
    special = 3 if "room of a pair" in mistakes else 1 + len(texts)
    room = max_length - (0 if "[CLS] and [SEP] not counted" in mistakes else special)
    if "row cut" not in mistakes:
        kept = _kept([len(text) for text in texts], room, mistakes)
        front = "beginning cut" in mistakes
        pairs = zip(texts, kept, strict=True)
        texts = [text[len(text) - count :] if front else text[:count] for text, count in pairs]
    pieces, segments = [], []
    for number, text in enumerate(texts):
        last = number == len(texts) - 1
        begins = ["[CLS]"] if number == 0 or "second [CLS]" in mistakes else []
        ends = 0 if (last and "no last [SEP]" in mistakes) or (not last and "no first [SEP]" in mistakes) else 1
        ends += not last and "two [SEP] between" in mistakes
        pieces += [*begins, *text, *["[SEP]"] * ends]
        of_end = number + (not last and "first [SEP] in segment 1" in mistakes)
        of_end = 0 if last and "last [SEP] in segment 0" in mistakes else of_end
        segments += [number] * (len(begins) + len(text)) + [of_end] * ends
    if "one segment" in mistakes:
        segments = [0] * len(segments)
    segments = [number + ("segments from one" in mistakes) for number in segments]
    end = max_length if "row cut" in mistakes else None
    return pieces[:end], segments[:end]


def _kept(lengths: list[int], room: int, mistakes: frozenset[str]) -> list[int]:
    """How many pieces stay of each text."""
    if len(lengths) == 1 or sum(lengths) <= room:
        return [min(length, room) for length in lengths]
    first, second = lengths
    if "only the second cut" in mistakes:
        return [min(first, room), max(0, room - first)]
    if "only the first cut" in mistakes:
        return [max(0, room - second), min(second, room)]
    if "halves" in mistakes:
        return [min(length, room // 2) for length in lengths]
    shorter = min(first, second, room // 2)
    return [room - shorter, shorter] if first > second else [shorter, room - shorter]


PIECES = """film un una play player a s able ing er fi p pl snow aff unaff ##s ##able ##a ##ble ##b ##le ##er ##ing ##in
##f ##m ##play ##l ##ay ##y ##un ##film ##board ##boar ##ding ##aff ##ab"""
VOCABULARY = frozenset(PIECES.split())
WORDPIECE_TASK = Task(
    cut_word,
    [
        Case("a word that the vocabulary has", ("film", VOCABULARY), "It is a piece as a whole."),
        Case("a word of two pieces", ("films", VOCABULARY), "Look at ## and where the second piece begins."),
        Case("a word of three pieces", ("filmables", VOCABULARY), "Look at the loop."),
        Case("a word that can be cut in several ways", ("unable", VOCABULARY), "The longest piece comes first."),
        Case("a word that begins with a single character", ("sing", VOCABULARY), "Look at where the search ends."),
        Case("a word with a character that no piece has", ("film☺s", VOCABULARY), "Such a word is [UNK] as a whole."),
        Case("a word whose last character no piece has", ("film☺", VOCABULARY), "Such a word is [UNK] as a whole."),
        Case("a word whose longest first piece leads to a dead end", ("playerding", VOCABULARY - {"##er"})),
        Case("a longest piece that leaves a rest that nothing fits", ("unaffing", VOCABULARY - {"##ing", "##in"})),
        Case("a dead end that another cut would avoid", ("snowboarding", VOCABULARY - {"##ing", "##in"})),
        Case("a word of 100 characters", ("a" * 100, VOCABULARY), "100 characters are still allowed."),
        Case("a word of 101 characters", ("a" * 101, VOCABULARY), "More than 100 characters are [UNK]."),
    ],
    WORDPIECE,
)
WORDS_TASK = Task(
    split_words,
    [
        Case("two plain words", ("a film", True), "Split at the space."),
        Case("capital letters", ("A Film", True), "Look at the lower-casing."),
        Case("a full stop", ("a film.", True), "Look at the punctuation."),
        Case("an apostrophe", ("It's fun", True), "Punctuation is a word by itself inside a word, too."),
        Case("several signs in a row", ("Well... what?!", True), "Each sign is a word."),
        Case("symbols of ASCII", ("$5 + ~3^2 <b>", True), "All signs of ASCII count as punctuation."),
        Case("other punctuation", ("“so”—they say…¿", True), "Look at the categories of Unicode that begin with P."),
        Case("accents", ("Café naïve re\u0301sume\u0301", True), "Look at NFD and the category Mn."),
        Case("letters that have no accents to lose", ("smørbrød straße ﬁne №5", True), "NFD leaves them alone."),
        Case("a cased tokenizer", ("A Café ﬁne.", False), "Capital letters and accents stay."),
        Case("Chinese", ("我看了film。", True), "Each Chinese character is a word."),
        Case("rare Chinese characters", ("㐀a豈b", True), "There are several blocks of Chinese characters."),
        Case("Japanese and Korean", ("テスト 한국어", True), "Kana and Hangul are not split."),
        Case("tabs, line breaks and wide spaces", ("one\ttwo\nthree\u3000four\xa0five", True), "All become spaces."),
        Case("invisible characters", ("so\xadft zero\u200bwidth nul\x00l b\ufffdad", True), "They vanish."),
    ],
    WORDS,
)
_A, _B, _LONG = ["a", "film"], ["about", "what", "?"], [f"w{number}" for number in range(9)]
PAIR_TASK = Task(
    make_row,
    [
        Case("one text", (_A, None, 10), "Look at [CLS] and [SEP]."),
        Case("two texts", (_A, _B, 10), "Look at the second text and its segment."),
        Case("one text that is too long", (_LONG, None, 8), "[CLS] and [SEP] count."),
        Case("a long first text", (_LONG, _B, 10), "The longer text is cut first."),
        Case("a long second text", (_A, _LONG, 10), "The longer text is cut first."),
        Case("two long texts", (_LONG, [*_LONG, "more"], 11), "Once they are equally long, both are cut."),
        Case("two texts that just fit", (_A, _B, 8), "Nothing has to be cut."),
    ],
    PAIR,
)
