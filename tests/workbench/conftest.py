"""Small pre-trained models and small data that a small model can learn in seconds."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from minibert import BertConfig, BertForMaskedLM
from minibert.tokenizer import BertTokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MOODS = ["angry", "calm", "happy"]
NAMES = ["anna", "berlin", "cairo", "david"]
FILLERS = [
    "the",
    "one",
    "day",
    "sky",
    "was",
    "is",
    "and",
    "so",
    "very",
    "walk",
    "rain",
    "tree",
    "over",
    "under",
    "green",
    "small",
]
PIECES = [*"abcdefghijklmnopqrstuvwxyz.", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
VOCABULARY = [*SPECIAL, *MOODS, *NAMES, *FILLERS, *PIECES]


def save_model(folder: Path, kind: type[Any] = BertForMaskedLM, **changes: Any) -> Path:
    """A folder with a random model: D 32, L 2, N 4, F 37, 30 positions, and its tokenizer."""
    values = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 37,
        "max_position_embeddings": 30,
        "initializer_range": 0.2,
    }
    kind(BertConfig(**{**values, **changes})).save_pretrained(folder)
    save_vocabulary(folder, VOCABULARY)
    return folder


def save_vocabulary(folder: Path, vocabulary: Sequence[str]) -> None:
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocabulary))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Features are cached beside the test's files, not in the user's folder."""
    monkeypatch.setenv("MINIBERT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A masked language model with random weights: no pooler, no classifier."""
    return save_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tokenizer(tiny) -> BertTokenizer:
    return BertTokenizer.from_pretrained(tiny)


def sentence(draw: random.Random, *words: str) -> str:
    """The words among fillers, 2 to 9 of them."""
    chosen = draw.choices(FILLERS, k=draw.randint(2, 9)) + list(words)
    draw.shuffle(chosen)
    return " ".join(chosen)


def mixed_texts() -> list[str]:
    """Texts of 3 to 20 words, in no order of length."""
    draw = random.Random(3)
    return [" ".join([sentence(draw, "happy")] * draw.randint(1, 2)) for _ in range(40)]


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_moods(path: Path, count: int, seed: int) -> Path:
    """Texts whose label is a word in them; the classes have 1, 2 and 3 shares."""
    draw = random.Random(seed)
    labels = [MOODS[0]] * 1 + [MOODS[1]] * 2 + [MOODS[2]] * 3
    rows = [(sentence(draw, labels[row % 6]), labels[row % 6]) for row in range(count)]
    return write_table(path, ["text", "label"], rows)


@pytest.fixture(scope="session")
def moods(tmp_path_factory) -> Path:
    """A folder with train.csv, validation.csv and test.csv."""
    folder = tmp_path_factory.mktemp("moods")
    for seed, (name, count) in enumerate({"train": 120, "validation": 30, "test": 36}.items()):
        write_moods(folder / f"{name}.csv", count, seed)
    return folder
