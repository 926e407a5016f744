"""Trains minibert-small further and makes minibert-sentiment of it, with MiniLM as the teacher.

    python -m tests.programs.distil.train --texts FOLDER --teacher MINILM --student weights/minibert-small \
        --samples minibert/workbench/data/samples --output FOLDER --budget 200

1. The teacher reads every fragment and every review: vectors, as its authors make them.
2. minibert-small learns masked words, the next sentence, and to tell the teacher's vector from its
   own pooled [CLS] and from the mean of its states. No label of sentiment is used.
3. A copy of the teacher is fine-tuned for sentiment, and labels every text with its probabilities.
4. minibert-sentiment, which begins as minibert-small, learns from these and from true labels.

Every stage has a share of the budget in seconds, and its learning rate falls with the time left, so
that a faster processor reads more text. Weights are kept in float32 and used in bfloat16 on a GPU.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from minibert import BertForPreTraining, BertForSequenceClassification, BertModel
from minibert.io.files import write_json, write_tensors
from minibert.outputs import Encoded
from minibert.tokenizer import BertTokenizer
from tests.programs.distil.texts import Pieces, Rows, Texts, full_layout, load

LABELS = ("NEGATIVE", "POSITIVE")
MASK_SHARE = 0.2
RESERVE = 0.12  # of the budget, for what is not training: labels, saving, measuring
SHARES = {"small": 0.55, "teacher": 0.14, "sentiment": 0.31}  # of the time for training


class Clock:
    def __init__(self, budget: float):
        self.begin, self.budget = time.perf_counter(), budget

    def left(self) -> float:
        return self.budget - (time.perf_counter() - self.begin)


class Log:
    """Records, printed and written as they come."""

    def __init__(self, folder: Path):
        self.path, self.records, self.begin = folder / "log.json", [], time.perf_counter()

    def __call__(self, **record: Any) -> None:
        seconds = round(time.perf_counter() - self.begin, 1)
        self.records.append({"seconds": seconds, **record})
        print(json.dumps(self.records[-1]), flush=True)
        write_json(self.path, self.records)


class Weights:
    """AdamW on float32 weights whose copies in the modules may be bfloat16."""

    def __init__(self, module: nn.Module, dtype: torch.dtype, learning_rate: float, weight_decay: float = 0.01):
        self.module = module.float()
        self.exact = [parameter.detach().clone() for parameter in module.parameters()]
        module.to(dtype)
        self.used = list(module.parameters())
        decay = [weight for weight in self.exact if weight.dim() > 1]
        others = [weight for weight in self.exact if weight.dim() < 2]
        groups = [{"params": decay}, {"params": others, "weight_decay": 0.0}]
        fused = self.exact[0].device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            groups, lr=learning_rate, betas=(0.9, 0.98), eps=1e-6, weight_decay=weight_decay, fused=fused
        )
        self.peak = learning_rate

    def step(self, loss: Tensor, share: float, warmup: float = 0.04) -> None:
        """One update; share: of the stage's time that has passed."""
        loss.backward()
        for exact, used in zip(self.exact, self.used, strict=True):
            exact.grad = None if used.grad is None else used.grad.float()
            used.grad = None
        nn.utils.clip_grad_norm_(self.exact, 1.0, foreach=True)
        rate = self.peak * min(1.0, share / warmup, (1 - share) / (1 - warmup))
        for group in self.optimizer.param_groups:
            group["lr"] = max(rate, 1e-7)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_(self.used, self.exact)

    def finish(self) -> None:
        """Puts the exact weights into the modules."""
        self.module.float()
        with torch.no_grad():
            for used, exact in zip(self.module.parameters(), self.exact, strict=True):
                used.copy_(exact)


def steps(seconds: float) -> Iterator[tuple[int, float]]:
    """The number of each step and the share of the time that has passed; at least two steps."""
    begin, number = time.perf_counter(), 0
    while (share := (time.perf_counter() - begin) / max(seconds, 1e-3)) < 1 or number < 2:
        yield number, min(share, 0.999)
        number += 1


def run_body(body: BertModel, ids: Tensor) -> Encoded:
    """ids (R, S) without padding."""
    layout = full_layout(*ids.shape, str(ids.device))
    return body.encode(ids, None, None, None, None, False, False, layout, None)


def mean_of(encoded: Encoded) -> Tensor:
    """The mean state of each row, (R, D)."""
    return encoded.hidden.view(len(encoded.layout.first), -1, encoded.hidden.shape[1]).mean(dim=1)


@torch.no_grad()
def vectors(teacher: BertModel, rows: Rows, total: int, tokens: int) -> Tensor:
    """The teacher's sentence vectors, (total, D of the teacher), of length one."""
    found = None
    for numbers, ids in rows.epoch(tokens, np.random.default_rng(0)):
        vector = F.normalize(mean_of(run_body(teacher, ids)).float(), dim=1)
        if found is None:
            found = torch.zeros(total, vector.shape[1], dtype=torch.bfloat16, device=ids.device)
        found[torch.from_numpy(numbers).to(ids.device)] = vector.to(found.dtype)
    return found


@torch.no_grad()
def logits_of(model: BertForSequenceClassification, rows: Rows, total: int, tokens: int) -> Tensor:
    """(total, 2) logits; zeros for what is not among the rows."""
    device = rows.pieces.ids.device
    found = torch.zeros(total, 2, device=device)
    for numbers, ids in rows.epoch(tokens, np.random.default_rng(0)):
        layout = full_layout(*ids.shape, str(device))
        found[torch.from_numpy(numbers).to(device)] = model(ids, layout=layout).logits.float()
    return found


# Pre-training


def pair_rows(
    pieces: Pieces, junctions: Tensor, count: int, columns: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """[CLS] A [SEP] B [SEP]: ids and segments (R, S), and whether B is a stranger (R,).

    B begins with a fragment: the one that follows A, or, in half of the rows, any other.
    """
    device, room = pieces.ids.device, columns - 3

    def drawn(high: int, low: int = 0) -> Tensor:
        return torch.randint(low, high, (count,), generator=generator, device=device)

    junction = junctions[drawn(len(junctions))]  # (R,)
    stranger = drawn(2)  # (R,)
    second = torch.where(stranger == 1, junctions[drawn(len(junctions))], junction)  # (R,)
    length = drawn(room - 4, 5)[:, None]  # (R, 1), of A
    column = torch.arange(columns, device=device)[None]  # (1, S)
    in_a = junction[:, None] - length + column - 1  # (R, S)
    in_b = second[:, None] + column - length - 2  # (R, S)
    place = torch.where(column <= length, in_a, in_b).clamp(0, len(pieces.ids) - 1)  # (R, S)
    ids = pieces.ids[place].long()  # (R, S)
    ids = torch.where((column == length + 1) | (column == columns - 1), pieces.sep, ids)  # (R, S)
    ids[:, 0] = pieces.cls
    return ids, (column > length + 1).long(), stranger


def masked(pieces: Pieces, ids: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Masked ids and labels, (R, S) each, as in `workbench.data.masking`."""

    def uniform() -> Tensor:
        return torch.rand(ids.shape, generator=generator, device=ids.device)  # (R, S)

    is_ordinary = torch.zeros(int(pieces.ordinary.max()) + 1, dtype=torch.bool, device=ids.device)
    is_ordinary[pieces.ordinary] = True
    chosen = is_ordinary[ids] & (uniform() < MASK_SHARE)  # (R, S)
    fate = uniform()
    others = torch.randint(len(pieces.ordinary), ids.shape, generator=generator, device=ids.device)
    hidden = torch.where(chosen & (fate < 0.8), pieces.mask, ids)
    hidden = torch.where(chosen & (fate >= 0.9), pieces.ordinary[others], hidden)
    return hidden, torch.where(chosen, ids, -100)


def pretrain(
    student: BertForPreTraining,
    texts: Texts,
    goals: Sequence[tuple[Rows, Tensor]],
    seconds: float,
    tokens: int,
    dtype: torch.dtype,
    log: Log,
    learning_rate: float,
) -> None:
    """Trains in place. goals: rows and the teacher's vectors of them, by number."""
    device = texts.student.ids.device
    generator = torch.Generator(device=device).manual_seed(0)
    draw = np.random.default_rng(1)
    junctions = _junctions(texts).to(device)
    size = goals[0][1].shape[1]
    maps = nn.ModuleDict({name: nn.Linear(student.config.hidden_size, size) for name in ("pooled", "mean")}).to(device)
    weights = Weights(nn.ModuleList([student, maps]), dtype, learning_rate)
    student.train()
    batches = [rows.forever(tokens // 2, draw) for rows, _ in goals]
    read, since = 0, time.perf_counter()
    for number, share in steps(seconds):
        columns = 64 if number % 2 else 256
        ids, segments, stranger = pair_rows(texts.student, junctions, tokens // columns, columns, generator)
        hidden, labels = masked(texts.student, ids, generator)
        output = student(
            hidden, token_type_ids=segments, layout=full_layout(*ids.shape, str(device)),
            labels=labels, next_sentence_label=stranger, labelled_only=True,
        )  # fmt: skip
        which = int(number % 4 == 0) % len(goals)  # mostly fragments
        numbers, ids = next(batches[which])
        goal = goals[which][1][torch.from_numpy(numbers).to(device)]  # (R, D of the teacher)
        encoded = run_body(student.bert, ids)
        pooled = 1 - F.cosine_similarity(maps["pooled"](encoded.pooled).float(), goal.float()).mean()
        mean = 1 - F.cosine_similarity(maps["mean"](mean_of(encoded)).float(), goal.float()).mean()
        weights.step(output.loss + 4 * pooled + 2 * mean, share)
        read += ids.numel() + hidden.numel()
        if number % 100 == 99:
            terms = {name: round(float(total) / count, 4) for name, (total, count) in output.loss_terms.items()}
            pace = int(read / (time.perf_counter() - since))
            kinds = {"pooled": round(pooled.item(), 4), "mean": round(mean.item(), 4), "goal": which}
            log(stage="small", step=number + 1, share=round(share, 3), **terms, **kinds, tokens=read, pace=pace)
    weights.finish()
    student.eval()
    log(stage="small", steps=number + 1, tokens=read)


def _junctions(texts: Texts) -> Tensor:
    """Where a fragment begins that follows another of the same document of natural text."""
    natural = int(texts.is_kind("review", "prose", "short").sum())
    starts = texts.student.ends[: texts.first[natural]]
    inside = np.ones(len(starts), dtype=bool)
    inside[texts.first[:natural]] = False
    last = texts.student.ends[texts.first[natural]]
    places = starts[inside]
    return torch.from_numpy(places[(places > 256) & (places < last - 256)])


# Sentiment


def classify(
    model: BertForSequenceClassification,
    sources: Sequence[tuple[Rows, Tensor, int]],
    seconds: float,
    dtype: torch.dtype,
    log: Log,
    learning_rate: float,
    stage: str,
) -> None:
    """Trains in place. sources: rows, the probability of each class (numbers, 2), tokens in a batch."""
    draw = np.random.default_rng(2)
    weights = Weights(model, dtype, learning_rate)
    model.train()
    batches = [(rows.forever(tokens, draw), goals) for rows, goals, tokens in sources if len(rows.numbers)]
    for number, share in steps(seconds):
        loss = torch.zeros((), device=weights.exact[0].device)
        losses = []
        for rows, goals in batches:
            numbers, ids = next(rows)
            goal = goals[torch.from_numpy(numbers).to(ids.device)]  # (R, 2)
            logits = model(ids, layout=full_layout(*ids.shape, str(ids.device))).logits.float()  # (R, 2)
            losses.append(-(goal * logits.log_softmax(dim=1)).sum(dim=1).mean())
            loss = loss + losses[-1]
        weights.step(loss / len(losses), share, warmup=0.08)
        if number % 100 == 99:
            log(stage=stage, step=number + 1, share=round(share, 3), losses=[round(x.item(), 4) for x in losses])
    weights.finish()
    model.eval()
    log(stage=stage, steps=number + 1)


def certain(labels: NDArray[np.int64], device: str) -> Tensor:
    """(M,) classes -> (M, 2) probabilities; an unknown class gets one half each."""
    known = torch.from_numpy(labels).to(device)
    one_hot = F.one_hot(known.clamp(min=0), 2).float()
    return torch.where(known[:, None] < 0, 0.5, one_hot)


def accuracy(model: BertForSequenceClassification, tokenizer: BertTokenizer, file: Path, device: str) -> float:
    """The share of a file of labelled texts that a model gets right."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    right = 0
    for start in range(0, len(rows), 100):
        part = rows[start : start + 100]
        encoded = tokenizer([row["text"] for row in part], max_length=256)
        with torch.inference_mode():
            ids, mask = encoded["input_ids"].to(device), encoded["attention_mask"].to(device)
            positive = model(ids, attention_mask=mask).logits.argmax(dim=1).tolist()
        right += sum(
            bool(one) == row["label"].lower().startswith("pos") for one, row in zip(positive, part, strict=True)
        )
    return right / len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.programs.distil.train", description=__doc__)
    for name in ("texts", "teacher", "student", "samples", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--budget", type=float, default=200, metavar="SECONDS")
    parser.add_argument("--tokens", type=int, default=32_768, metavar="N", help="in a batch of masked words")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--processes", type=int, default=16)
    options = parser.parse_args()
    train(options, Clock(options.budget))


def train(options: argparse.Namespace, clock: Clock) -> None:
    device, output = options.device, options.output
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    output.mkdir(parents=True, exist_ok=True)
    log = Log(output)
    torch.manual_seed(0)
    texts = load(options.texts, options.student, options.teacher, device, options.processes)
    fragments, documents = len(texts.student.ends) - 1, len(texts.kinds)
    log(stage="texts", documents=documents, fragments=fragments, pieces=len(texts.student.ids))
    of = texts.document_of_fragment
    use = ~texts.is_kind("test", "sample")  # the samples are for fine-tuning alone
    reviews, whole = texts.is_kind("review"), texts.is_kind("review", "prose")

    def fragment_rows(pieces: Pieces, wanted: NDArray[np.bool_]) -> Rows:
        return Rows.of_fragments(texts, pieces, wanted[of])

    def document_rows(pieces: Pieces, wanted: NDArray[np.bool_]) -> Rows:
        return Rows.of_documents(texts, pieces, wanted)

    big = 2 * options.tokens
    teacher = BertModel.from_pretrained(options.teacher).to(device, dtype)
    of_fragments = vectors(teacher, fragment_rows(texts.teacher, use), fragments, big)
    of_documents = vectors(teacher, document_rows(texts.teacher, whole), documents, big)
    log(stage="vectors")
    del teacher

    room = clock.left() - RESERVE * clock.budget
    student = BertForPreTraining.from_pretrained(options.student).to(device)
    goals = [(fragment_rows(texts.student, use), of_fragments), (document_rows(texts.student, whole), of_documents)]
    pretrain(student, texts, goals, SHARES["small"] * room, options.tokens, dtype, log, learning_rate=1e-3)
    save(student, output / "minibert-small.safetensors")
    del of_fragments, of_documents

    tokenizer = BertTokenizer.from_pretrained(options.student)
    teacher_tokenizer = BertTokenizer.from_pretrained(options.teacher)
    guide = BertForSequenceClassification.from_pretrained(options.teacher, labels=LABELS).to(device)
    known = texts.labels >= 0
    truth = certain(texts.labels, device)
    kinds = {kind: texts.is_kind(kind) & known for kind in ("review", "sample", "short", "made up")}
    shorts = {kind: fragment_rows(texts.teacher, kinds[kind]) for kind in ("sample", "short", "made up")}
    truth_of_fragments = truth[torch.from_numpy(of).to(device)]
    half = options.tokens // 2
    sources = [
        (document_rows(texts.teacher, kinds["review"]), truth, half),
        (shorts["sample"], truth_of_fragments, half // 8),
        (shorts["short"], truth_of_fragments, half // 16),
        (shorts["made up"], truth_of_fragments, half // 16),
    ]
    classify(guide, sources, SHARES["teacher"] * room, dtype, log, 1e-4, "teacher")
    guide.to(dtype)
    test = texts.is_kind("test")
    scores: dict[str, Any] = {
        "teacher": measure(guide, teacher_tokenizer, document_rows(texts.teacher, test), texts, options)
    }
    log(stage="teacher", **scores["teacher"])
    soft_documents = logits_of(guide, document_rows(texts.teacher, whole), documents, big).softmax(dim=1)
    soft_fragments = logits_of(guide, fragment_rows(texts.teacher, ~test), fragments, big).softmax(dim=1)
    log(stage="labels")
    del guide

    mixed = torch.where(torch.from_numpy(known).to(device)[:, None], (truth + soft_documents) / 2, soft_documents)
    some = torch.from_numpy(known[of] & texts.is_kind("made up", "sample")[of]).to(device)[:, None]
    mixed_fragments = torch.where(some, (truth_of_fragments + soft_fragments) / 2, soft_fragments)
    sentiment = classifier(student).to(device)
    sources = [
        (document_rows(texts.student, reviews), mixed, half),
        (fragment_rows(texts.student, reviews), mixed_fragments, half),
        (fragment_rows(texts.student, texts.is_kind("made up", "short")), mixed_fragments, half // 4),
        (fragment_rows(texts.student, texts.is_kind("sample")), mixed_fragments, half // 8),
    ]
    classify(sentiment, sources, clock.left() - RESERVE / 2 * clock.budget, dtype, log, 4e-4, "sentiment")
    save(sentiment, output / "minibert-sentiment.safetensors")
    scores["sentiment"] = measure(sentiment, tokenizer, document_rows(texts.student, test), texts, options)
    log(stage="sentiment", **scores["sentiment"])
    write_json(output / "scores.json", scores)


def classifier(student: BertForPreTraining) -> BertForSequenceClassification:
    """A classifier with the student's body, and BERT's dropout for fine-tuning."""
    config = replace(
        student.config, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
        id2label=dict(enumerate(LABELS)),
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    model.bert.load_state_dict(student.bert.state_dict())
    return model


def measure(
    model: BertForSequenceClassification,
    tokenizer: BertTokenizer,
    rows: Rows,
    texts: Texts,
    options: argparse.Namespace,
) -> dict[str, float]:
    """Accuracies on the test reviews of IMDB, on the samples' test, and on the plain sentences."""
    predicted = logits_of(model, rows, len(texts.kinds), options.tokens).argmax(dim=1).cpu().numpy()
    scores = {"imdb": float(np.mean(predicted[rows.numbers] == texts.labels[rows.numbers]))}
    for name in ("reviews_test", "plain_test"):
        scores[name] = accuracy(model, tokenizer, options.samples / f"{name}.jsonl", options.device)
    return {name: round(score, 4) for name, score in scores.items()}


def save(model: nn.Module, path: Path) -> None:
    """The weights in half precision."""
    halves = {name: tensor.half().cpu() for name, tensor in model.official_state_dict().items()}
    write_tensors(path, halves)


if __name__ == "__main__":
    main()
