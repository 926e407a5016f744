"""The sample reviews: what their card says of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import product

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB

from minibert.io.errors import DataError
from minibert.workbench.data.checks import check, in_words
from minibert.workbench.data.corpora import read
from minibert.workbench.data.sources import SAMPLES

# A construction, and how many of each class it has at least: none belongs to one class.
CONSTRUCTIONS = {
    r"^what an? ": 20,
    r"\bi (love|hate)\b": 30,
    r"(was|were|is) (so |very |really )?(great|lovely|excellent|wonderful|awful|terrible|horrible|rude)": 40,
    r"\bbest\b|\bworst\b": 40,
    r"!": 60,
    r"\?": 15,
    r"\bbut\b": 90,
    r"\b(not|never|no|nothing|nobody)\b|n't\b": 300,
    r"\bi (had |had been )?(expected|hoped|thought|feared)\b": 10,
    r"\b(say|says|said|told)\b": 60,
    r"\bif\b": 25,
    r"\bthan\b": 25,
    r"couldn't be": 3,
    r"^(my|our) ": 70,
    r"^the ": 150,
    r"^(i|we) ": 250,
    r"^(it|they|this) ": 150,
    r"^you ": 20,
    r"^(\S+ ){0,3}\S+$": 100,
    r"^(\S+ ){24}": 100,
}


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (SAMPLES / name).read_text(encoding="utf-8").splitlines()]


TRAIN, TEST = rows("reviews_train.jsonl"), rows("reviews_test.jsonl")
TEXTS = [row["text"] for row in TRAIN + TEST]


def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, without punctuation and apostrophes."""
    return tuple(re.findall("[a-z0-9]+", re.sub("['\u2019]", "", text.lower())))


def test_the_card_has_the_counts():
    card = (SAMPLES / "README.md").read_text(encoding="utf-8")
    assert f"{len(TRAIN):,} to train on and {len(TEST):,} to test on" in card
    for name, split in (("train", TRAIN), ("test", TEST)):
        counts = Counter((row["part"], row["label"]) for row in split)
        cells = [len(split), *(counts[key] for key in product(("plain", "hard"), ("negative", "positive")))]
        assert " | ".join(["", name, *(f"{cell:,}" for cell in cells), ""]).strip() in card
    assert len(TRAIN) >= 2000 and len(TEST) >= 400
    assert f"**Domains.** {len({row['domain'] for row in TRAIN})}," in card


@pytest.mark.parametrize("split", [TRAIN, TEST], ids=["train", "test"])
def test_classes_are_balanced_in_every_part_and_domain(split):
    for key in ("part", "domain"):
        counts = Counter((row[key], row["label"]) for row in split)
        for value in {row[key] for row in split}:
            negative, positive = (counts[value, label] for label in ("negative", "positive"))
            assert abs(negative - positive) <= 2 + 0.1 * negative, value
    assert {row["part"] for row in split} == {"plain", "hard"}


def test_no_review_occurs_twice_or_nearly_so_in_both_parts():
    assert len({words(text) for text in TEXTS}) == len(TEXTS)
    vectors = TfidfVectorizer().fit_transform(TEXTS)
    likeness = vectors[: len(TRAIN)] @ vectors[len(TRAIN) :].T
    assert likeness.max() < 0.65
    used = CountVectorizer(analyzer=words, binary=True).fit_transform(TEXTS)
    shared = (used[: len(TRAIN)] @ used[len(TRAIN) :].T).toarray()
    each = used.sum(axis=1).A1
    assert (shared / (each[: len(TRAIN), None] + each[None, len(TRAIN) :] - shared)).max() < 0.5


def test_no_review_of_test_shares_runs_of_three_words_with_train():
    runs = CountVectorizer(analyzer=lambda text: _runs(words(text)), binary=True).fit_transform(TEXTS)
    shared = (runs[: len(TRAIN)] @ runs[len(TRAIN) :].T).tocoo()
    each = runs.sum(axis=1).A1
    for first, second, count in zip(shared.row, shared.col, shared.data, strict=True):
        near = count / min(each[first], each[len(TRAIN) + second])
        assert count < 2 or near < 0.4, (TRAIN[first]["text"], TEST[second]["text"])


def _runs(found: tuple[str, ...]) -> set[str]:
    return {" ".join(found[start : start + 3]) for start in range(len(found) - 2)}


@pytest.mark.parametrize(("split", "often"), [(TRAIN, 60), (TEST, 16)], ids=["train", "test"])
def test_no_frequent_word_of_a_hard_review_tells_its_class(split, often):
    """Contrast pairs: the same words occur under both labels, so that counts of them say little."""
    counts: dict[str, Counter[str]] = {"negative": Counter(), "positive": Counter()}
    for row in split:
        if row["part"] == "hard":
            counts[row["label"]].update(set(words(row["text"])))
    frequent = {word for word, count in (counts["negative"] + counts["positive"]).items() if count >= often}
    assert len(frequent) > 30
    for word in frequent:
        pair = sorted(count[word] for count in counts.values())
        assert pair[1] <= 2.2 * pair[0], (word, pair)


def test_none_is_a_sentence_of_the_separate_test():
    """The plain sentences judge what was trained on the samples; the authors of these have not seen them."""
    separate = {words(row["text"]) for row in rows("plain_test.jsonl")}
    assert len(separate) == 100 and not separate & {words(text) for text in TEXTS}


def test_characters_and_lengths():
    allowed = set("\u2018\u2019\u201c\u201d") | {chr(code) for code in range(32, 127)}
    assert all(set(text) <= allowed and text == text.strip() for text in TEXTS)
    lengths = sorted(len(text.split()) for text in TEXTS)
    assert lengths[0] >= 2 and lengths[-1] <= 60
    assert sum(n < 10 for n in lengths) >= 400 and sum(n >= 20 for n in lengths) >= 200


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_no_construction_belongs_to_one_class(construction):
    found = Counter(row["label"] for row in TRAIN + TEST if re.search(construction, row["text"].lower()))
    assert min(found["negative"], found["positive"]) >= CONSTRUCTIONS[construction], found
    assert max(found.values()) <= 1.5 * min(found.values()) + 3, found


def test_they_are_neither_trivial_nor_impossible():
    count = CountVectorizer()
    inputs = count.fit_transform(row["text"] for row in TRAIN)
    bayes = MultinomialNB().fit(inputs, [row["label"] for row in TRAIN])
    tests = count.transform(row["text"] for row in TEST)
    assert 0.55 < bayes.score(tests, [row["label"] for row in TEST]) <= 0.75
    right = bayes.predict(tests) == [row["label"] for row in TEST]
    hard = np.array([row["part"] == "hard" for row in TEST])
    assert right[hard].mean() <= 0.58 and right[~hard].mean() >= 0.8
    assert 0.5 <= hard.mean() <= 0.65  # half or more of test is for what counts of words miss


def test_the_check_of_data_finds_nothing():
    assert check([in_words(name, read("samples", split=name)) for name in ("train", "test")]) == []


def test_they_are_read_by_name():
    for split, found in (("train", TRAIN), ("test", TEST)):
        corpus = read("samples", split=split)
        assert corpus.label_names == ("negative", "positive") and len(corpus) == len(found)
    with pytest.raises(DataError) as caught:
        read("samples", split="validation")
    assert caught.value.key == "split" and "validation" in str(caught.value)
