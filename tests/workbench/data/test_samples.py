"""The sample reviews: what their card says of them."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB

from minibert.io.errors import DataError
from minibert.workbench.data.corpora import read
from minibert.workbench.data.sources import SAMPLES


def rows(split: str) -> list[dict[str, str]]:
    lines = (SAMPLES / f"reviews_{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


TRAIN, TEST = rows("train"), rows("test")
TEXTS = [row["text"] for row in TRAIN + TEST]


def test_every_domain_has_as_many_of_each_class():
    for split, each in ((TRAIN, 15), (TEST, 5)):
        counts = Counter((row["domain"], row["label"]) for row in split)
        assert len(counts) == 40 and set(counts.values()) == {each}
    assert (len(TRAIN), len(TEST)) == (600, 200)


def test_no_review_occurs_twice_or_nearly_so_in_both_parts():
    assert len({" ".join(text.lower().split()) for text in TEXTS}) == len(TEXTS)
    vectors = TfidfVectorizer().fit_transform(TEXTS)
    likeness = vectors[: len(TRAIN)] @ vectors[len(TRAIN) :].T
    assert likeness.max() < 0.65


def test_characters_and_lengths():
    allowed = set("\u2018\u2019\u201c\u201d") | {chr(code) for code in range(32, 127)}
    assert all(set(text) <= allowed and text == text.strip() for text in TEXTS)
    words = sorted(len(text.split()) for text in TEXTS)
    assert words[0] >= 2 and words[-1] <= 60
    assert sum(n < 10 for n in words) >= 100 and sum(n >= 30 for n in words) >= 60


def test_they_are_neither_trivial_nor_impossible():
    count = CountVectorizer()
    inputs = count.fit_transform(row["text"] for row in TRAIN)
    bayes = MultinomialNB().fit(inputs, [row["label"] for row in TRAIN])
    tests = count.transform(row["text"] for row in TEST)
    assert 0.55 < bayes.score(tests, [row["label"] for row in TEST]) <= 0.85


def test_they_are_read_by_name():
    for split, found in (("train", TRAIN), ("test", TEST)):
        corpus = read("samples", split=split)
        assert corpus.label_names == ("negative", "positive") and len(corpus) == len(found)
    with pytest.raises(DataError) as caught:
        read("samples", split="validation")
    assert caught.value.key == "split" and "validation" in str(caught.value)
