"""Trains minibert-sentiment further on a CPU, on true labels and on reviews without labels.

    python -m tests.programs.distil.finish --model FOLDER --data MINIBERT_DATA \
        --samples minibert/workbench/data/samples/reviews_train.jsonl --output FOLDER --seconds 2000

Nine tenths of the tokens are IMDB's 25,000 training reviews and its 20,000 reviews without labels (their
first 256 tokens), the others the samples to train on and opinions made up by templates, so that short
texts stay right. A review without a label is taught what the model that begins and the word pairs of the
whole review (`counts.py`) give together; a labelled one its label, and to three tenths what word pairs
give that were counted without it. The learning rate falls to zero with the time that is left; the weights
are saved every five minutes.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from minibert import BertForSequenceClassification
from minibert.fast.accelerate import accelerate
from minibert.tokenizer import BertTokenizer
from tests.programs.distil.counts import probabilities
from tests.programs.distil.made_up import THINGS, made_up_texts
from tests.programs.distil.texts import full_layout
from tests.programs.distil.train import Weights, save, steps

LABEL_SHARE = 0.7  # of the target of a labelled review; the rest is the word pairs'
Texts = list[tuple[list[int], float]]  # pieces, and the probability of positive


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.programs.distil.finish", description=__doc__)
    for name in ("model", "data", "samples", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=2_000)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    tokenizer = BertTokenizer.from_pretrained(options.model)
    model = BertForSequenceClassification.from_pretrained(options.model)
    reviews = _taught_reviews(options.data / "imdb", model, tokenizer)
    shorts = _pieces([*_samples(options.samples), *_opinions(3_000)], tokenizer)
    options.output.mkdir(parents=True, exist_ok=True)
    accelerate(model)
    weights = Weights(model, torch.float32, options.learning_rate)
    model.train()
    long, short = _batches(reviews, 8_192, 8, options.seed), _batches(shorts, 900, 1, options.seed)
    saved = begin = time.perf_counter()
    read, shown = 0, []
    for number, share in steps(options.seconds):
        losses = []
        for ids, targets in (next(long), next(short)):
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(ids, layout=full_layout(*ids.shape, "cpu")).logits.float()  # (R, 2)
            losses.append(F.cross_entropy(logits, torch.stack([1 - targets, targets], dim=1)))
            read += ids.numel()
        weights.step(0.85 * losses[0] + 0.15 * losses[1], share, warmup=0.05)
        shown.append([loss.item() for loss in losses])
        if number % 20 == 19:
            means = np.mean(shown, axis=0).round(4).tolist()
            seconds = time.perf_counter() - begin
            print(
                f"step {number + 1}, {share:.3f} of the time: {means}, {read} tokens, {read / seconds:.0f}/s",
                flush=True,
            )
            shown = []
        if time.perf_counter() - saved > 300:
            _save(weights, options.output)
            saved = time.perf_counter()
    _save(weights, options.output)


def _save(weights: Weights, folder: Path) -> None:
    weights.finish()
    save(weights.module, folder / "minibert-sentiment.safetensors")


def _taught_reviews(folder: Path, model: BertForSequenceClassification, tokenizer: BertTokenizer) -> Texts:
    labelled, unlabelled = (_rows(folder / name) for name in ("train.jsonl.gz", "unsup_first20000.jsonl.gz"))
    texts, others = ([row["text"] for row in rows] for rows in (labelled, unlabelled))
    labels = np.array([int(row["label"] == "pos") for row in labelled])  # (texts,)
    unseen, counted = probabilities(texts, labels.tolist(), others)
    known = _pieces(zip(texts, (LABEL_SHARE * labels + (1 - LABEL_SHARE) * unseen).tolist(), strict=True), tokenizer)
    blank = _pieces([(text, 0.5) for text in others], tokenizer)
    logits = _logits(model, blank) + np.log(counted / (1 - counted))  # (others,)
    together = 1 / (1 + np.exp(-logits / 2))  # (others,)   the mean of both in logits
    print(f"word pairs are right on {((unseen > 0.5) == labels).mean():.4f} of the labelled reviews", flush=True)
    return known + [(ids, float(target)) for (ids, _), target in zip(blank, together, strict=True)]


@torch.no_grad()
def _logits(model: BertForSequenceClassification, texts: Texts) -> np.ndarray:
    """How much the second class is ahead of the first, (texts,)."""
    model.eval()
    ahead = np.zeros(len(texts))  # (texts,)
    by_length = sorted(range(len(texts)), key=lambda number: len(texts[number][0]))
    for _, group in itertools.groupby(by_length, key=lambda number: len(texts[number][0])):
        rows = list(group)
        for start in range(0, len(rows), 64):
            some = rows[start : start + 64]
            ids = torch.tensor([texts[row][0] for row in some])  # (R, S)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(ids, layout=full_layout(*ids.shape, "cpu")).logits.double()  # (R, 2)
            ahead[some] = (logits[:, 1] - logits[:, 0]).numpy()
    return ahead


def _rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _samples(path: Path) -> Iterator[tuple[str, int]]:
    for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        yield row["text"], int(row["label"] == "positive")


def _opinions(count: int) -> Iterator[tuple[str, int]]:
    for text, good in made_up_texts(THINGS, 2 * count):
        if good is not None:
            yield text, good


def _pieces(texts: Iterable[tuple[str, float]], tokenizer: BertTokenizer) -> Texts:
    labelled = list(texts)
    found = tokenizer.pieces([text for text, _ in labelled], split_special_tokens=True, offsets=False)
    special = tokenizer.special_tokens
    ends = special["[CLS]"], special["[SEP]"]
    return [([ends[0], *one.ids[:254], ends[1]], label) for one, (_, label) in zip(found, labelled, strict=True)]


def _batches(texts: Texts, tokens: int, step: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of one length, cut to a multiple of `step`, in random order, without end: ids (R, S), targets (R,)."""
    draw = np.random.default_rng(seed)
    columns = np.array([len(ids) // step * step for ids, _ in texts])
    while True:
        order = np.lexsort((draw.random(len(texts)), columns))
        chunks = []
        for size, group in itertools.groupby(order, key=columns.__getitem__):
            rows = list(group)
            most = max(1, tokens // size)
            chunks += [(size, rows[start : start + most]) for start in range(0, len(rows), most)]
        for number in draw.permutation(len(chunks)):
            size, rows = chunks[number]
            ids = torch.tensor([texts[row][0][:size] for row in rows])  # (R, S)
            yield ids, torch.tensor([float(texts[row][1]) for row in rows])  # (R, S), (R,)


if __name__ == "__main__":
    main()
