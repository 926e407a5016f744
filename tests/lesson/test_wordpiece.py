"""The plain-Python WordPiece against the library: each is the other's witness.

Full form (every text, four vocabularies): pytest -m full tests/lesson
"""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minibert.tokenizer import BertTokenizer
from minibert.wordpiece import WordPiece, normalise
from tests.texts import VOCABULARIES, all_texts

LONG = 10**6


def assert_same_pieces(library: BertTokenizer, by_hand: WordPiece, texts: list[str]) -> int:
    """Ids and offsets of every text; returns the number of tokens."""
    tokens = 0
    for text, row in zip(texts, library.encode(texts), strict=True):
        pieces = by_hand(text)
        ids = [by_hand.vocabulary[piece.token] for piece in pieces]
        assert ids == row.input_ids[1:-1], text[:200]
        assert [(piece.start, piece.end) for piece in pieces] == row.offsets[1:-1], text[:200]
        tokens += len(row.input_ids)
    return tokens


def both(data, name: str, lowercase: bool) -> tuple[BertTokenizer, WordPiece]:
    path = data / "bert_vocabs" / name / "vocab.txt"
    library = BertTokenizer.from_vocab(path, lowercase=lowercase, max_length=LONG)
    return library, WordPiece(library.vocabulary, lowercase=lowercase)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_pieces_equal_the_library(data, sample, name):
    library, by_hand = both(data, name, VOCABULARIES[name][0])
    assert assert_same_pieces(library, by_hand, sample[::2]) > 100_000


@pytest.mark.full
@pytest.mark.parametrize("name", VOCABULARIES)
def test_pieces_equal_the_library_on_every_text(data, name):
    library, by_hand = both(data, name, VOCABULARIES[name][0])
    for part, texts in all_texts(data):
        tokens = 0
        for start in range(0, len(texts), 2000):
            tokens += assert_same_pieces(library, by_hand, texts[start : start + 2000])
        print(f"{name}: {part}: {len(texts)} texts, {tokens} tokens equal by hand")


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("accents", [True, False, None])
@pytest.mark.parametrize("chinese", [True, False])
def test_every_old_character_equals_the_library(lowercase, accents, chinese):
    """Each character of Unicode 3.2 whose category has not changed since, alone and in a word."""
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 5, "##a": 6}
    flags = {"lowercase": lowercase, "strip_accents": accents, "chinese_characters": chinese}
    library, by_hand = BertTokenizer(vocabulary, **flags), WordPiece(vocabulary, **flags)
    old = unicodedata.ucd_3_2_0
    characters = [
        character
        for character in map(chr, range(0x110000))
        if old.category(character) == unicodedata.category(character) not in ("Cn", "Cs", "Co")
    ]
    assert len(characters) > 90_000
    normalizer = library._tokenizer.normalizer
    for character in characters:
        ours = normalise(character, *by_hand._flags).replace(" ", "")
        assert ours == normalizer.normalize_str(character).replace(" ", ""), hex(ord(character))
    if accents is not None and chinese:
        # Does it end a word, vanish, or belong to the word?
        words = [f"a{character}a" for character in characters]
        texts = [" ".join(words[start : start + 100]) for start in range(0, len(words), 100)]
        assert_same_pieces(library, by_hand, texts)


OLD_LETTERS = st.characters(max_codepoint=0x3000, exclude_categories=("Cs", "Cn"))


@settings(max_examples=300, deadline=None)
@given(text=st.text(OLD_LETTERS, max_size=50))
def test_any_text_equals_the_library(uncased_pair, text):
    library, by_hand = uncased_pair
    text = "".join(
        character for character in text if unicodedata.ucd_3_2_0.category(character) == unicodedata.category(character)
    )
    assert_same_pieces(library, by_hand, [text])


@pytest.fixture(scope="module")
def uncased_pair(data):
    return both(data, "bert-base-uncased", True)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100,  # the longest word that is cut
        "a" * 101,  # one more: [UNK]
        "[CLS] in [MASK]ed text[SEP]",
        "ΟΔΟΣ Σ",  # capital sigma at the end of a word
        "İstanbul ǅ ß ﬁ",  # lower-casing that makes two characters
        "한국어 テスト 漢字かな",
        "\u037e\u1fef\u2260",  # punctuation that only shows once accents are gone
        "e\u0301e\u0323\u0301x",
        "a𠀀a\U0002b820a\U0002b920a",  # ideographs beyond the first plane
        "x\u00adx\u200dx\u2028x\u3000x\x85x\x1cx\ue000x\ufffdx\ufffex\x00x",
    ],
)
def test_odd_words(data, text):
    for name, (lowercase, _) in VOCABULARIES.items():
        assert_same_pieces(*both(data, name, lowercase), [text])


def test_ids_of_a_pair(data, uncased):
    by_hand = WordPiece(uncased.vocabulary)
    assert by_hand.ids("Tokenizing text", "is a task") == (uncased.encode("Tokenizing text", "is a task")[0].input_ids)


def test_words_equal_the_library(data, sample):
    library, by_hand = both(data, "bert-base-multilingual-cased", False)
    for text in sample[::40]:
        assert library.words(text) == [word for word, _ in by_hand._words(text)]


def test_pieces_and_frame_make_a_row(uncased):
    pieces = uncased.pieces(["A long text", "a pair"], offsets=False)
    ids, types = uncased.frame(*(text.ids for text in pieces))
    [row] = uncased.encode("A long text", "a pair")
    assert (ids, types) == (row.input_ids, row.token_type_ids)
