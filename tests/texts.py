"""The texts and vocabularies that token tests run on."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minibert.io.errors import MinibertError
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data import corpora

# The published vocabularies, whether each goes with lower-casing, and its size.
VOCABULARIES = {
    "bert-base-uncased": (True, 30522),
    "bert-base-cased": (False, 28996),
    "bert-base-chinese": (False, 21128),
    "bert-base-multilingual-cased": (False, 119547),
}


@pytest.fixture(scope="session")
def uncased(data) -> BertTokenizer:
    return BertTokenizer.from_vocab(data / "bert_vocabs/bert-base-uncased/vocab.txt")


def all_texts(data: Path) -> Iterator[tuple[str, list[str]]]:
    """(name, texts) of every set that tokens are compared on."""
    for part in ("train", "val", "test"):
        path = data / f"emotion/{part}.txt"
        yield f"emotion {part}", texts(path, sep=";", names=["text", "label"])
    for part in ("train", "dev"):
        yield f"chnsenticorp {part}", texts(data / f"chnsenticorp/{part}.tsv", text="text_a")
    for part in ("train", "test"):
        yield f"imdb {part}", texts(data / f"imdb/{part}.jsonl.gz")
    with gzip.open(data / "multilingual/udhr.jsonl.gz", "rt", encoding="utf-8") as file:
        yield "435 languages", [json.loads(line)["text"] for line in file]
    blns = (data / "multilingual/blns.json").read_text(encoding="utf-8")
    yield "naughty strings", json.loads(blns)


def texts(path: Path, **options) -> list[str]:
    return [example.text for example in corpora.read(path, **options)]


@pytest.fixture(scope="session")
def sample(data) -> list[str]:
    """Some of every set: all naughty strings, the beginning of each language, long reviews."""
    result = []
    for name, found in all_texts(data):
        if name == "naughty strings":
            result += found
        elif name == "435 languages":
            result += [text[:1500] for text in found]
        else:
            result += found[:: max(1, len(found) // 60)]
    assert len(result) > 1300
    return result


@contextmanager
def refused(error: type[MinibertError], key: str | None) -> Iterator[pytest.ExceptionInfo]:
    """What happens inside has to raise an error of this class that names this key."""
    with pytest.raises(error) as caught:
        yield caught
    assert caught.value.key == key, caught.value
