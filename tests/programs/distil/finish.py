"""Trains minibert-sentiment further on a CPU, on true labels alone.

    python -m tests.programs.distil.finish --model FOLDER --data MINIBERT_DATA \
        --samples minibert/workbench/data/samples/reviews_train.jsonl --output FOLDER --seconds 2000

Nine tenths of the tokens are IMDB's 25,000 training reviews (their first 256 tokens), the others the
samples to train on and opinions made up by templates, so that short texts stay right. The learning
rate falls to zero with the time that is left; the weights are saved every five minutes.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from minibert import BertForSequenceClassification
from minibert.fast.accelerate import accelerate
from minibert.tokenizer import BertTokenizer
from tests.programs.distil.made_up import THINGS, made_up_texts
from tests.programs.distil.texts import full_layout
from tests.programs.distil.train import Weights, save, steps

Texts = list[tuple[list[int], int]]  # pieces, and 1 for positive


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
    reviews = _pieces(_reviews(options.data / "imdb" / "train.jsonl.gz"), tokenizer)
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
        for ids, labels in (next(long), next(short)):
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(ids, layout=full_layout(*ids.shape, "cpu")).logits.float()  # (R, 2)
            losses.append(F.cross_entropy(logits, labels))
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


def _reviews(path: Path) -> Iterator[tuple[str, int]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            yield row["text"], int(row["label"] == "pos")


def _samples(path: Path) -> Iterator[tuple[str, int]]:
    for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        yield row["text"], int(row["label"] == "positive")


def _opinions(count: int) -> Iterator[tuple[str, int]]:
    for text, good in made_up_texts(THINGS, 2 * count):
        if good is not None:
            yield text, good


def _pieces(texts: Iterator[tuple[str, int]] | Sequence[tuple[str, int]], tokenizer: BertTokenizer) -> Texts:
    labelled = list(texts)
    found = tokenizer.pieces([text for text, _ in labelled], split_special_tokens=True, offsets=False)
    special = tokenizer.special_tokens
    ends = special["[CLS]"], special["[SEP]"]
    return [([ends[0], *one.ids[:254], ends[1]], label) for one, (_, label) in zip(found, labelled, strict=True)]


def _batches(texts: Texts, tokens: int, step: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of one length, cut to a multiple of `step`, in random order, without end: ids (R, S), labels (R,)."""
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
            yield ids, torch.tensor([texts[row][1] for row in rows])  # (R, S), (R,)


if __name__ == "__main__":
    main()
