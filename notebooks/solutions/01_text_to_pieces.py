"""Solutions of chapter 01: the pieces of a word, the words of a text and the row of a pair, each in three styles."""

import re
import string
import unicodedata


# Exercise 1, as in the chapter's own steps.
def my_wordpiece(word, vocabulary):
    if len(word) > 100:
        return ["[UNK]"]
    pieces, start = [], 0
    while start < len(word):
        prefix = "##" if start > 0 else ""
        end = len(word)
        while end > start and prefix + word[start:end] not in vocabulary:
            end -= 1
        if end == start:
            return ["[UNK]"]
        pieces.append(prefix + word[start:end])
        start = end
    return pieces


# The same with a function that calls itself: the longest piece, then the pieces of the rest.
def my_wordpiece_recursive(word, vocabulary):
    def cut(rest):  # the pieces of "##ing", say; None if it cannot be cut
        stem = rest.removeprefix("##")
        for end in range(len(rest), len(rest) - len(stem), -1):
            if rest[:end] in vocabulary:
                following = cut(f"##{rest[end:]}") if end < len(rest) else []
                return None if following is None else [rest[:end], *following]
        return None

    return (cut(word) if len(word) <= 100 else None) or ["[UNK]"]


# The same with for loops, the longest length first.
def my_wordpiece_with_loops(word, vocabulary):
    pieces, rest = [], word
    for _ in range(len(word) if len(word) <= 100 else 0):
        for length in range(len(rest), 0, -1):
            piece = ("##" if pieces else "") + rest[:length]
            if piece in vocabulary:
                pieces.append(piece)
                rest = rest[length:]
                break
        else:
            return ["[UNK]"]
        if not rest:
            return pieces
    return ["[UNK]"]


CHINESE = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0xF900, 0xFAFF), (0x20000, 0x2FA1F))


# Exercise 2, as in the chapter's own steps.
def my_words(text, lowercase):
    spaced = ""
    for character in text:
        category = unicodedata.category(character)
        if character in "\t\n\r" or (character.isspace() and category != "Cc"):
            spaced += " "
        elif category not in ("Cc", "Cf", "Co") and character != "\ufffd":
            spaced += character
    if lowercase:
        parts = unicodedata.normalize("NFD", spaced)
        spaced = "".join(part.lower() for part in parts if unicodedata.category(part) != "Mn")
    result = ""
    for character in spaced:
        alone = character in string.punctuation or unicodedata.category(character).startswith("P")
        alone = alone or any(first <= ord(character) <= last for first, last in CHINESE)
        result += f" {character} " if alone else character
    return result.split()


# The same with regular expressions. The signs of Unicode are collected once, over all characters.
SIGNS = "".join(c for c in map(chr, range(0x110000)) if c.isprintable() and unicodedata.category(c)[0] == "P")
BLOCKS = "".join(f"{chr(first)}-{chr(last)}" for first, last in CHINESE)
ALONE = re.compile(f"([{re.escape(string.punctuation + SIGNS)}{BLOCKS}])")


def my_words_with_a_pattern(text, lowercase):
    text = re.sub(r"[\t\n\r]", " ", text)
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Co") and c != "\ufffd")
    if lowercase:
        kept = filter(lambda part: unicodedata.category(part) != "Mn", unicodedata.normalize("NFD", text))
        text = "".join(map(str.lower, kept))
    return ALONE.sub(r" \1 ", text).split()


# The same as one pass over the characters that builds the words.
def my_words_one_by_one(text, lowercase):
    words = [""]
    for original in text:
        parts = unicodedata.normalize("NFD", original) if lowercase else original
        for part in parts:
            kind = unicodedata.category(part)
            if part in "\t\n\r" or kind in ("Zs", "Zl", "Zp"):
                words.append("")
            elif kind in ("Cc", "Cf", "Co") or part == "\ufffd" or (lowercase and kind == "Mn"):
                continue
            elif kind[0] == "P" or part in "$+<=>^`|~" or any(a <= ord(part) <= b for a, b in CHINESE):
                words += [part, ""]
            else:
                words[-1] += part.lower() if lowercase else part
    return [word for word in words if word]


# Exercise 3: the longer text is cut first, and the last [SEP] belongs to segment 1.
def nearly(first, second, max_length):
    room = max_length - (2 if second is None else 3)
    first, kept = list(first), list(second or [])
    while len(first) + len(kept) > room:
        longer = first if len(first) > len(kept) else kept
        longer.pop()
    pieces = ["[CLS]", *first, "[SEP]"]
    segments = [0] * len(pieces)
    if second is not None:
        pieces += [*kept, "[SEP]"]
        segments += [1] * (len(kept) + 1)
    return pieces, segments


# The same, where the two texts are alike.
def pair_with_pops(first, second, max_length):
    texts = [list(text) for text in (first, second) if text is not None]
    while 1 + sum(len(text) + 1 for text in texts) > max_length:
        max(texts, key=len).pop()
    pieces, segments = ["[CLS]"], [0]
    for number, text in enumerate(texts):
        for piece in [*text, "[SEP]"]:
            pieces.append(piece)
            segments.append(number)
    return pieces, segments


# The same with the lengths worked out beforehand.
def pair_with_slices(first, second, max_length):
    if second is None:
        pieces = ["[CLS]", *first[: max_length - 2], "[SEP]"]
        return pieces, [0] * len(pieces)
    room = max_length - 3
    shorter = min(len(first), len(second), room // 2)
    longer = room - shorter
    kept = (longer, shorter) if len(first) > len(second) else (shorter, longer)
    left, right = ["[CLS]", *first[: kept[0]], "[SEP]"], [*second[: kept[1]], "[SEP]"]
    return left + right, [0] * len(left) + [1] * len(right)
