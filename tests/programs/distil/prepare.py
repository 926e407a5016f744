"""Reads the texts that the small models learn from, and cuts them into fragments.

A fragment is one to three sentences that follow each other, so that a model that is taught the
meaning of fragments knows short texts as well as whole reviews. The documents that the recipe
`minibert-small` holds out stay held out, and test splits are only measured on.

    python -m tests.programs.distil.prepare --data MINIBERT_DATA --teacher MINILM \
        --samples minibert/workbench/data/samples/reviews_train.jsonl --output FOLDER
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minibert.data import mixed_seed
from minibert.tokenizer import BertTokenizer
from minibert.workbench import recipes
from minibert.workbench.data import passages
from minibert.workbench.data.documents import read_documents, sentences
from minibert.workbench.runs.pretrain_settings import PretrainSettings
from minibert.workbench.tasks.pretrain_data import _distinct
from tests.programs.distil.made_up import made_up_texts

SHARDS = 16
BREAKS_KEPT = 0.5  # the share of documents that keep their `<br />`
SIZES = ((1, 0.6), (2, 0.25), (3, 0.15))  # sentences in a fragment, and how often
MADE_UP = 400_000  # texts
FEELINGS = {"joy": 1, "love": 1, "sadness": 0, "anger": 0, "fear": 0}  # of the data set emotion


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.programs.distil.prepare", description=__doc__)
    for name in ("data", "samples", "teacher", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--share", type=float, default=1.0, help="of the texts, for a trial run")
    options = parser.parse_args()
    vocabulary = BertTokenizer.from_pretrained(options.teacher).vocabulary
    words = [word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2]
    prepare(options.data, options.samples, options.output, words, options.share)


def prepare(data: Path, samples: Path, folder: Path, words: list[str], share: float = 1.0) -> None:
    """Writes the texts as `texts-NN.jsonl.gz`: each line a document {kind, label, fragments}."""
    draw = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    documents = list(_documents(data, samples, draw, share))
    for text, label in made_up_texts(words, int(MADE_UP * share)):
        documents.append({"kind": "made up", "label": label, "fragments": [text]})
    draw.shuffle(documents)
    _write(folder, "texts", documents)
    _write(folder, "test", list(_test_reviews(data))[:: round(2 / share)])  # half are enough


def _write(folder: Path, name: str, documents: list[dict[str, Any]]) -> None:
    for number in range(SHARDS):
        with gzip.open(folder / f"{name}-{number:02}.jsonl.gz", "wt", encoding="utf-8") as file:
            for document in documents[number::SHARDS]:
                file.write(json.dumps(document) + "\n")


def _test_reviews(data: Path) -> Iterator[dict[str, Any]]:
    """To measure on at the end, and for nothing else."""
    with gzip.open(data / "imdb" / "test.jsonl.gz", "rt", encoding="utf-8") as file:
        for review in map(json.loads, file):
            yield {"kind": "test", "label": int(review["label"] == "pos"), "fragments": [review["text"]]}


def _documents(data: Path, samples: Path, draw: random.Random, share: float) -> Iterator[dict[str, Any]]:
    files = _corpus(data)
    labels = _labels_of_reviews(data / "imdb" / "train.jsonl.gz")
    known: set[str] = set()
    distinct = _distinct(read_documents(files), known)
    settings = PretrainSettings(corpus=[str(file) for file in files])
    train, _ = passages.hold_out(
        distinct, settings.validation_fraction, seed=mixed_seed(settings.seed, "held out"), least=2
    )
    for document in train[:: round(1 / share)]:
        text = document.text
        if draw.random() > BREAKS_KEPT:
            text = text.replace("<br />", "\n")
        label = labels.get(" ".join(document.text.split()))
        kind = "review" if "imdb" in document.guid else "prose"
        fragments = list(_fragments(sentences(text), draw))
        if fragments:
            yield {"kind": kind, "label": label, "fragments": fragments}
    for text, label in list(_short_texts(data))[:: round(1 / share)]:
        yield {"kind": "short", "label": label, "fragments": [text]}
    for line in samples.read_text(encoding="utf-8").splitlines():
        sample = json.loads(line)
        yield {"kind": "sample", "label": int(sample["label"] == "positive"), "fragments": [sample["text"]]}


def _corpus(data: Path) -> list[Path]:
    return [data / name for name in recipes.load("minibert-small").local["corpus"]]


def _labels_of_reviews(path: Path) -> dict[str, int]:
    """Review without its spacing -> 1 for positive."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return {" ".join(row["text"].split()): int(row["label"] == "pos") for row in rows}


def _fragments(found: list[str], draw: random.Random) -> Iterator[str]:
    rest = iter([" ".join(sentence.split()) for sentence in found])
    counts, weights = zip(*SIZES, strict=True)
    while together := list(itertools.islice(rest, draw.choices(counts, weights)[0])):
        yield " ".join(together)


def _short_texts(data: Path) -> Iterator[tuple[str, int | None]]:
    """Tweets with a feeling, and sentences of linguists and newspapers."""
    for line in (data / "emotion" / "train.txt").read_text(encoding="utf-8").splitlines():
        text, feeling = line.rsplit(";", 1)
        yield text, FEELINGS.get(feeling)
    for file, columns in (("cola/train.tsv", (3,)), ("rte/train.tsv", (1, 2))):
        with open(data / file, encoding="utf-8", newline="") as lines:
            for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
                for column in columns:
                    if row[column] not in ("sentence1", "sentence2"):
                        yield row[column], None


if __name__ == "__main__":
    main()
