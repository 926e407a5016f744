"""Measures what the card of weights/minibert-sentiment states, as a user would get it.

python -m tests.programs.distil.scores MODEL --data MINIBERT_DATA [--reviews 5000]
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from importlib import resources
from pathlib import Path

from minibert.io.tables import table
from minibert.workbench import Predictor

Labelled = list[tuple[str, bool]]  # a text, and whether it is positive


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.programs.distil.scores", description=__doc__)
    parser.add_argument("model", help="minibert-sentiment, or another model with such labels")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--reviews", type=int, default=25_000, help="of IMDB's test, drawn with seed 0")
    options = parser.parse_args()
    predictor = Predictor.from_pretrained(options.model)
    sets = {name: _samples(f"{name}.jsonl") for name in ("plain_test", "reviews_test")}
    sets["imdb"] = _reviews(options.data / "imdb" / "test.jsonl.gz", options.reviews)
    rows = []
    for name, texts in sets.items():
        found = [one.label == "POSITIVE" for one in predictor([text for text, _ in texts])]
        wrong = [text for (text, positive), one in zip(texts, found, strict=True) if one != positive]
        rows.append((name, str(len(texts)), f"{1 - len(wrong) / len(texts):.4f}"))
        if name == "plain_test":
            print(*wrong, sep="\n")
    print(table(rows, ("data", "texts", "accuracy")))


def _samples(name: str) -> Labelled:
    text = (resources.files("minibert.workbench.data.samples") / name).read_text(encoding="utf-8")
    return [(row["text"], row["label"] == "positive") for row in map(json.loads, text.splitlines())]


def _reviews(path: Path, count: int) -> Labelled:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [(row["text"], row["label"] == "pos") for row in random.Random(0).sample(rows, count)]


if __name__ == "__main__":
    main()
