"""Classic mistakes around the network: their damage, a loss over batches, and a guard that notices them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minibert.data import IGNORED_LABEL, mixed_seed
from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict, traceback_of

# Most damage first, and why each costs more than the next one.
DAMAGE = {
    "pooler transposed": "A scrambled pooler turns answers round. Without the future, [CLS] sees itself alone, and the "
    "answer is the same for every text.",
    "causal": "[CLS] is the first token: with a causal mask it can read nothing else. Padding that is read "
    "only dilutes the text.",
    "padding attended": "Padding is a third of these batches. The order of words decides the class of few reviews.",
    "no positions": "Without positions a text is a bag of words, and *not good* means what *good not* means. An eps of "
    "1e-5 beside variances near 1 changes nothing.",
    "eps 1e-5": "",
}

WINDOW = {
    "double softmax": "the cross-entropy gets probabilities and applies the softmax to them once more",
    "mean of means": "each batch has the same weight, however many labels it has",
    "-100 counted": "labels of -100 count, as if their class were 0",
    "0 ignored": "class 0 is ignored, too, as with ignore_index=0",
    "divided by all tokens": "the sum is divided by all positions instead of those with a label",
    "divided by batches": "the sum over labels is divided by the number of batches",
    "divided by rows": "the sum over labels is divided by the number of rows",
    "not divided": "the sum is not divided by the number of labels",
    "labels shifted": "each position is compared with the label of the next one, as in a decoder",
    "last batch alone": "only the last batch counts",
    "mean of rows": "each row has the same weight, however many labels it has",
}

GUARD = {
    "[CLS] in column 0": "[CLS] is looked for in column 0, which is padding where that is on the left",
    "a second [CLS] is missed": "only the first real token is looked at, so that a second [CLS] is missed",
    "all padding": "any padding is reported, although the mask covers it",
    "mask inverted": "text that the mask hides is reported, instead of padding that it shows",
    "sums alone": "logits count as probabilities as soon as they sum to 1, although some are negative",
    "signs alone": "logits count as probabilities as soon as none is negative",
    "-100 refused": "a label of -100 is reported",
    "C allowed": "a label of C is allowed, although classes end at C - 1",
    "negative labels": "negative labels other than -100 are allowed",
}


def damage_order(mine: Callable[[], Any]) -> Verdict:
    """Checks a guess: a function that returns the names in `DAMAGE`, the one with the most damage first."""
    right = list(DAMAGE)
    try:
        found = mine()
    except Exception as error:  # the code is the reader's
        return Verdict(False, f"The function stopped with an error.\n{traceback_of(error)}")
    if found is None:
        return Verdict(False, "Not written yet: the function returns None.")
    if not isinstance(found, Sequence) or sorted(map(str, found)) != sorted(right):
        return Verdict(False, f"Return a list of these five names, each once: {', '.join(sorted(right))}.")
    if list(found) == right:
        return Verdict(True, "Right: that is the order of the damage.")
    if list(found) == right[::-1]:
        text = "Not right: the order is turned round. The one with the most damage comes first."
        return Verdict(False, text, (("least damage first",),))
    places = {name: place for place, name in enumerate(found)}
    pairs = [*itertools.combinations(right, 2)]
    wrong = [(worse, milder) for worse, milder in pairs if places[worse] > places[milder]]
    good = len(pairs) - len(wrong)
    worse, milder = min(wrong, key=lambda pair: right.index(pair[1]) - right.index(pair[0]))
    text = f"Not right: {good} of {len(pairs)} pairs are in order. '{worse}' does more damage than '{milder}'."
    return Verdict(False, f"{text} {DAMAGE[worse]}", ((f"{milder} before {worse}",),))


def window_loss(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (batches) -> loss, the mean cross-entropy over all labels of several batches.

    `batches` is a list of (logits (B, S, C), labels (B, S)); a label of -100 never counts.
    """
    generator = torch.Generator().manual_seed(mixed_seed("window"))

    def batch(rows: int, columns: int, share: float) -> tuple[Tensor, Tensor]:
        logits = 3 * torch.randn(rows, columns, 5, generator=generator)  # (B, S, C)
        labels = torch.randint(0, 5, (rows, columns), generator=generator)  # (B, S)
        kept = torch.rand(rows, columns, generator=generator) < share  # (B, S)
        kept[:, 0] = True
        return logits, labels.masked_fill(~kept, IGNORED_LABEL)

    one, two, three = batch(3, 7, 2.0), batch(4, 6, 0.5), batch(2, 9, 0.2)
    single = (one[0][:1, :1], one[1][:1, :1])
    cases = [
        Case("a single label", ([single],), "Look at what the cross-entropy is given."),
        Case("one batch in which every position has a label", ([one],), "Look at what the sum is divided by."),
        Case("one batch with labels of -100", ([two],), "Look at which labels count."),
        Case("three batches", ([one, two, three],), "Look at how batches are put together."),
    ]

    def gradients_arrive(mine: Callable[..., Any]) -> str | None:
        logits = two[0].clone().requires_grad_()
        loss = mine([(logits, two[1]), one])
        if not isinstance(loss, Tensor) or not loss.requires_grad:
            return "But gradients do not get through: is something detached, or turned into a number?"
        return None

    return judge(mine, Task(_window_loss, cases, WINDOW, properties=[gradients_arrive]))


def _window_loss(batches: list[tuple[Tensor, Tensor]], mistakes: frozenset[str]) -> Tensor:
    sums, counts, means = [], [], []
    for logits, labels in batches[-1:] if "last batch alone" in mistakes else batches:
        logits = logits.double()  # (B, S, C)
        if "labels shifted" in mistakes:
            logits, labels = logits[:, :-1], labels[:, 1:]  # (B, S - 1, C), (B, S - 1)
        if "-100 counted" in mistakes:
            labels = labels.clamp(min=0)  # (B, S)
        if "0 ignored" in mistakes:
            labels = labels.masked_fill(labels == 0, IGNORED_LABEL)  # (B, S)
        if "double softmax" in mistakes:
            logits = logits.softmax(dim=-1)  # (B, S, C)
        losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")  # (B, S)
        here = labels != IGNORED_LABEL  # (B, S)
        if "mean of rows" in mistakes:
            losses, here = losses.sum(dim=1) / here.sum(dim=1), here.any(dim=1)  # (B,) each
        size = here.numel() if "divided by all tokens" in mistakes else here.sum()
        size = len(labels) if "divided by rows" in mistakes else size
        sums.append(losses.sum())
        counts.append(torch.as_tensor(size))
        means.append(losses.sum() / size)
    if "mean of means" in mistakes:
        return torch.stack(means).mean()
    total = torch.stack(sums).sum()
    if "not divided" in mistakes:
        return total
    return total / (len(batches) if "divided by batches" in mistakes else torch.stack(counts).sum())


def guard(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (ids, mask, logits, labels, cls_id, pad_id) -> what is suspicious about a batch.

    ids and mask are (B, S), logits (B, C), labels (B,). It returns a dict of bools: "padding read" (padding where the
    mask is 1), "special tokens" (a row does not begin with one [CLS] and hold no other), "probabilities" (logits that
    are probabilities), "labels" (one that is neither -100 nor a class).
    """
    ids = torch.tensor([[1, 7, 8, 9, 2], [1, 5, 6, 2, 0], [1, 4, 2, 0, 0]])  # (B, S)
    mask = (ids != 0).long()  # (B, S)
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.3, 1.2, -2.0], [-0.7, 0.2, 0.1]])  # (B, C)
    labels = torch.tensor([2, 0, 1])  # (B,)
    unmasked, doubled, second, missing, hidden = mask.clone(), ids.clone(), ids.clone(), ids.clone(), mask.clone()
    unmasked[2, 3], doubled[1, 1], second[0, 3], missing[1, 0], hidden[0, 2] = 1, 1, 1, 5, 0
    shares = logits.softmax(dim=-1)  # (B, C)
    to_one = logits + (1 - logits.sum(dim=-1, keepdim=True)) / 3  # (B, C), each row sums to 1
    left, left_mask = ids.roll(1, dims=1), mask.roll(1, dims=1)  # (B, S) each
    left[0], left_mask[0] = ids[0], mask[0]
    rows = slice(0, 2)
    batches = [
        ("a batch that is in order", ids[:1], mask[:1], logits[:1], labels[:1]),
        ("padding that is masked", ids, mask, logits, labels),
        ("padding that is not masked", ids, unmasked, logits, labels),
        ("a token that the mask hides", ids, hidden, logits, labels),
        ("a row without [CLS]", missing, mask, logits, labels),
        ("[CLS] twice at the start", doubled, mask, logits, labels),
        ("a second [CLS] further on", second, mask, logits, labels),
        ("padding on the left", left[rows], left_mask[rows], logits[rows], labels[rows]),
        ("probabilities", ids, mask, shares, labels),
        ("logits that happen to sum to 1", ids, mask, to_one, labels),
        ("logits that are all positive", ids, mask, logits.abs(), labels),
        ("probabilities in one row only", ids, mask, torch.cat([shares[:1], logits[1:]]), labels),
        ("a label of -100", ids, mask, logits, torch.tensor([2, -100, 1])),
        ("a label of C", ids, mask, logits, torch.tensor([2, 3, 1])),
        ("a label of -1", ids, mask, logits, torch.tensor([2, -1, 1])),
    ]
    looks = {"padding": "Look at the mask.", "[CLS]": "Look at [CLS].", "label": "Look at the labels."}
    looks |= {"token": "Look at the mask.", "probab": "Look at the logits.", "logits": "Look at the logits."}
    cases = [
        Case(what, (*inputs, 1, 0), next((look for part, look in looks.items() if part in what), ""))
        for what, *inputs in batches
    ]
    return judge(mine, Task(_guard, cases, GUARD))


def _guard(
    ids: Tensor, mask: Tensor, logits: Tensor, labels: Tensor, cls_id: int, pad_id: int, mistakes: frozenset[str]
) -> dict[str, bool]:
    padding, starts = ids == pad_id, ids == cls_id  # (B, S) each
    read = padding & (mask == 1)  # (B, S)
    if "all padding" in mistakes:
        read = padding  # (B, S)
    if "mask inverted" in mistakes:
        read = ~padding & (mask == 0)  # (B, S)
    first = torch.zeros(len(ids), dtype=torch.long) if "[CLS] in column 0" in mistakes else mask.argmax(dim=1)  # (B,)
    begins = starts[torch.arange(len(ids)), first]  # (B,)
    fine = begins if "a second [CLS] is missed" in mistakes else begins & (starts.sum(dim=1) == 1)  # (B,)
    sums = (logits.sum(dim=-1) - 1).abs() < 1e-4  # (B,)
    signs = (logits >= 0).all(dim=-1)  # (B,)
    shares = sums if "sums alone" in mistakes else signs if "signs alone" in mistakes else sums & signs  # (B,)
    least = -(10**9) if "negative labels" in mistakes else 0
    most = logits.shape[-1] if "C allowed" in mistakes else logits.shape[-1] - 1
    known = (labels >= least) & (labels <= most)  # (B,)
    if "-100 refused" not in mistakes:
        known |= labels == IGNORED_LABEL
    return {
        "padding read": bool(read.any()),
        "special tokens": not bool(fine.all()),
        "probabilities": bool(shares.all()),
        "labels": not bool(known.all()),
    }
