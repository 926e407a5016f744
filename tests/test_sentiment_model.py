"""weights/minibert-sentiment, which gives the first answer of the README."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from minibert.io.bundled import bundled
from minibert.workbench import Predictor
from minibert.workbench.data import samples

NAME = "minibert-sentiment"


@pytest.fixture(scope="module")
def predictor():
    return Predictor.from_pretrained(NAME)


@pytest.mark.parametrize(
    "text, label",
    [
        ("This is a great movie. I enjoyed it a lot!", "POSITIVE"),
        ("This movie is so bad, I almost fell asleep.", "NEGATIVE"),
        ("what a lovely day", "POSITIVE"),
        ("The food was great", "POSITIVE"),
    ],
)
def test_it_answers_what_anyone_would_try_first(predictor, text, label):
    assert predictor(text)[0].label == label


def test_it_gets_95_of_100_plain_sentences(predictor):
    lines = (Path(samples.__file__).parent / "plain_test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    found = predictor([row["text"] for row in rows])
    assert sum(one.label.lower() == row["label"] for one, row in zip(found, rows, strict=True)) >= 95


def test_it_opens_in_transformers_with_the_same_answer(transformers, predictor):
    folder = bundled(NAME)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    batch = transformers.AutoTokenizer.from_pretrained(folder)("a dull film", return_tensors="pt")
    probabilities = model(**batch).logits.softmax(dim=1)[0].tolist()  # (C,)
    [found] = predictor("a dull film")
    assert found.probabilities == pytest.approx(
        dict(zip(model.config.id2label.values(), probabilities, strict=True)), abs=1e-3
    )


def test_it_is_small_and_the_card_is_that_of_these_weights():
    folder = bundled(NAME)
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= 15e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() in card
    for heading in ("Data", "Recipe", "Scores", "Known errors", "Licence"):
        assert f"\n## {heading}" in card
