"""A vocabulary that is trained: the same each time, whole in its characters, open to others."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys

import pytest
import transformers

from minibert.io.errors import ConfigError, DataError
from minibert.io.tokenizer_files import SPECIAL_TOKENS
from minibert.tokenizer import BertTokenizer
from minibert.wordpiece import WordPiece
from minibert.workbench.tasks.vocabulary import train_tokenizer
from tests.conftest import refused

# No pair of letters is more frequent than another: nothing but ties.
TIES = [" ".join(a + b + c for a in "abcdefgh" for b in "ijklmnop" for c in "qrst")] * 2
ODD = ["Émile met ÉMILE, naïve", "我们 我们", "αβγ αβγ", "\x00gone\u200b gone", "😀 😀 once: ж", "x" * 150]


def train(texts, size=400, **options) -> BertTokenizer:
    return train_tokenizer(texts, size=size, **options)


def pieces(tokenizer: BertTokenizer) -> list[str]:
    return sorted(tokenizer.vocabulary, key=tokenizer.vocabulary.__getitem__)


AGAIN = """
import json, sys
from minibert.workbench.tasks.vocabulary import train_tokenizer
texts = json.load(sys.stdin)
print(json.dumps(train_tokenizer(texts, size=200).vocabulary))
"""


def test_the_same_texts_give_the_same_vocabulary():
    expected = train(TIES, size=200).vocabulary
    assert len(expected) == 200
    assert train(TIES[::-1], size=200).vocabulary == expected  # the library's hash tables differ in each run
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", AGAIN],
            input=json.dumps(TIES),
            env={**os.environ, "PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": "true"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert json.loads(done.stdout) == expected, done.stderr


def test_special_tokens_come_first_then_characters_then_frequent_pieces():
    found = pieces(train(["the then there the, a b b"] * 3, size=30))
    assert tuple(found[:5]) == tuple(SPECIAL_TOKENS)
    assert found[5:13] == [",", "a", "b", "e", "h", "n", "r", "t"]
    assert found[13:18] == ["##e", "##h", "##n", "##r", "##t"]
    assert found[18:20] == ["th", "the"]


def test_every_character_that_occurs_twice_is_kept_in_both_of_its_forms():
    tokenizer = train(ODD, size=500)
    found = tokenizer.vocabulary
    for character in "éem我们αβγ😀":
        plain = "e" if character == "é" else character
        assert plain in found
    assert {"##α", "##e"} <= found.keys()
    assert "ж" not in found and "##我" not in found and "É" not in found
    assert "##x" in found and not any("xx" in piece for piece in found)  # over 100: is [UNK]
    assert not any(len(piece) > 1 and piece[0].isspace() for piece in found)
    assert "[UNK]" not in tokenizer.encode("γβαβγ")[0].tokens  # a word that the text has not


def test_cased_text_keeps_its_capitals_and_accents():
    texts = ["Émile ÉMILE Émile"] * 2
    assert "É" in train(texts, lowercase=False).vocabulary
    assert train(texts, lowercase=False).lowercase is False
    assert "É" not in train(texts).vocabulary and train(texts).lowercase


def test_what_occurs_once_does_not_become_a_piece():
    found = pieces(train(["ab cd", "ab"], size=100))
    assert "ab" in found and "cd" not in found and "c" not in found


@pytest.mark.parametrize("size", [0, 17])
def test_a_size_below_the_alphabet_is_refused(size):
    with refused(ConfigError, "size") as error:
        train(["the then there the, a b b"] * 3, size=size)
    assert str(size) in str(error.value) and "18" in str(error.value)
    assert len(train(["the then there the, a b b"] * 3, size=18)) == 18


def test_texts_without_words_and_values_that_are_not_text():
    for texts in ([], [""], [" \n"]):
        with refused(DataError, None):
            train(texts)
    with refused(DataError, "1"):
        train(["a", None])
    with refused(DataError, "0"):
        train(["a \ud800"])


def test_a_text_may_be_longer_than_one_that_is_encoded():
    assert len(train(["long text " * 150_000], size=25)) > 15


@pytest.mark.parametrize("lowercase", [True, False])
def test_saved_files_open_in_transformers(tmp_path, data, lowercase):
    with gzip.open(data / "english_corpus/inaugural.jsonl.gz", "rt", encoding="utf-8") as file:
        speeches = [json.loads(line)["text"] for line in file]
    ours = train(speeches[:40], size=1_000, lowercase=lowercase, max_length=128)
    ours.save_pretrained(tmp_path)
    texts = [*(text[2_000:2_400] for text in speeches), *ODD]
    rows = [row.input_ids for row in ours.encode(texts)]
    by_hand = WordPiece(ours.vocabulary, lowercase=lowercase)
    for kind in (transformers.AutoTokenizer, transformers.BertTokenizer):
        theirs = kind.from_pretrained(tmp_path)
        assert len(theirs) == ours.vocab_size == 1_000 and theirs.model_max_length == 128
        assert theirs(texts, truncation=True)["input_ids"] == rows
    again = BertTokenizer.from_pretrained(tmp_path)
    assert again.vocabulary == ours.vocabulary and again.lowercase is lowercase
    assert [by_hand.ids(text) for text in texts[:55]] == [
        row.input_ids for row in BertTokenizer(ours.vocabulary, lowercase=lowercase).encode(texts[:55])
    ]
