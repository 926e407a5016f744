"""The parts of the training loop: an AdamW step, a schedule, an accumulated gradient, a step with a scaler."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minibert.io.seeds import mixed_seed
from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

BETAS, EPS = (0.9, 0.999), 1e-8
Mistakes = frozenset[str]


def adamw_step(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (weight, gradient, mean, square, step, rate, decay) -> (weight, mean, square).

    All tensors have the shape of the weight. `step` counts from 1; betas are 0.9 and 0.999, eps is 1e-8.
    """
    generator = torch.Generator().manual_seed(mixed_seed("adamw"))
    weight, gradient, mean = torch.randn(3, 4, 5, generator=generator).unbind()  # (4, 5) each
    square = mean.square() + torch.rand(4, 5, generator=generator)  # (4, 5)
    # Two tensors, since a reader may change them in place.
    no_mean, no_square = torch.zeros(2, 4, 5).unbind()  # (4, 5) each
    tiny = 1e-8 * gradient  # (4, 5)
    cases = [
        Case("the first step, without decay", (weight, gradient, no_mean, no_square, 1, 0.1, 0.0),
             "Look at the two running means and their correction."),
        Case("the third step, without decay", (weight, gradient, mean, square, 3, 0.1, 0.0),
             "Look at how the running means take up the gradient."),
        Case("gradients as small as eps", (weight, tiny, no_mean, no_square, 1, 0.1, 0.0), "Look at eps."),
        Case("decay", (weight, gradient, mean, square, 3, 0.1, 0.2), "Look at the decay."),
    ]  # fmt: skip
    return judge(mine, Task(_adamw, cases, ADAMW))


ADAMW = {
    "L2": "the decay is added to the gradient instead of being taken from the weight (Adam with L2)",
    "decay without rate": "the weight shrinks by `decay` instead of by rate times decay",
    "decay last": "the weight decays after the update instead of before it",
    "no decay": "nothing decays",
    "mean not corrected": "the mean of the gradients is used without its bias correction",
    "square not corrected": "the mean of the squares is used without its bias correction",
    "one step less": "the bias correction counts the steps before this one, so that it begins at 0",
    "one step more": "the bias correction counts one step too many, as if steps began at 0",
    "eps inside the root": "eps is added before the root is taken",
    "eps before the correction": "eps is added to the root before its bias correction",
    "betas swapped": "the two betas are swapped",
    "corrected means kept": "the corrected means are returned, so that the next step corrects them again",
    "no root": "the update is divided by the mean of the squares instead of by its root",
}


def _adamw(
    weight: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, step: int, rate: float, decay: float,
    *, mistakes: Mistakes,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    weight, gradient, mean, square = (x.double() for x in (weight, gradient, mean, square))
    first, second = reversed(BETAS) if "betas swapped" in mistakes else BETAS
    shrink = 1 - decay * (1.0 if "decay without rate" in mistakes else rate)
    if "L2" in mistakes:
        gradient, shrink = gradient + decay * weight, 1.0
    if "no decay" in mistakes:
        shrink = 1.0
    mean = first * mean + (1 - first) * gradient  # (...)
    square = second * square + (1 - second) * gradient.square()  # (...)
    step += ("one step more" in mistakes) - ("one step less" in mistakes)
    # A tensor, since the correction of step 0 divides by zero.
    corrections = 1 - torch.tensor([first, second], dtype=torch.float64) ** step  # (2,)
    if "mean not corrected" in mistakes:
        corrections[0] = 1
    if "square not corrected" in mistakes:
        corrections[1] = 1
    power = 1.0 if "no root" in mistakes else 0.5
    if "eps inside the root" in mistakes:
        below = (square / corrections[1] + EPS) ** power  # (...)
    elif "eps before the correction" in mistakes:
        below = (square**power + EPS) / corrections[1] ** power  # (...)
    else:
        below = (square / corrections[1]) ** power + EPS  # (...)
    update = rate * mean / corrections[0] / below  # (...)
    weight = (weight - update) * shrink if "decay last" in mistakes else weight * shrink - update  # (...)
    if "corrected means kept" in mistakes:
        mean, square = mean / corrections[0], square / corrections[1]  # (...) each
    return weight, mean, square


def schedule(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (update, warmup, total) -> the share of the peak rate: linear warm-up, then linear decay.

    `update` is how many updates were made before this one, from 0.
    """
    look = "Work it out on paper."
    cases = [
        *(Case(f"update {n} of 10, without a warm-up", (n, 0, 10), f"Look at the decay. {look}") for n in (0, 1, 5, 9)),
        *(Case(f"update {n} in a warm-up of 4", (n, 4, 12), f"Look at the warm-up. {look}") for n in (0, 1, 3)),
        *(Case(f"update {n} after a warm-up of 4, of 12", (n, 4, 12), "Look at where the decay begins and ends.")
          for n in (4, 5, 8, 11)),
        Case("the end of the run, update 12 of 12", (12, 4, 12), "Look at where the decay ends."),
        Case("update 15 of a run of 12", (15, 4, 12), "The rate must never be negative."),
    ]  # fmt: skip
    return judge(mine, Task(_schedule, cases, SCHEDULE))


SCHEDULE = {
    "warm-up from one": "the warm-up counts from 1, so that the first update has a rate above 0",
    "warm-up too short": "the warm-up ends one update early, divided by warmup - 1",
    "no warm-up": "there is no warm-up",
    "decay from the start": "the decay is measured from update 0, so that the rate jumps down when the warm-up ends",
    "decay too long": "the decay takes `total` updates after the warm-up, so that the run ends above 0",
    "decay in the warm-up": "the rate is multiplied by the decay during the warm-up, too",
    "one early": "the rate is 0 one update before the end, at total - 1",
    "one late": "the rate is 0 one update after the end, at total + 1",
    "negative": "the rate becomes negative after the end",
    "constant": "the rate stays at its peak after the warm-up",
    "cosine": "the decay follows a cosine instead of a straight line",
    "zero without a warm-up": "a warm-up of 0 is taken for one of 1, so that the first update has rate 0",
}


def _schedule(update: int, warmup: int, total: int, *, mistakes: Mistakes) -> float:
    if "no warm-up" in mistakes:
        warmup = 0
    if "zero without a warm-up" in mistakes:
        warmup = max(1, warmup)
    total += ("one late" in mistakes) - ("one early" in mistakes)
    start, end = (0 if "decay from the start" in mistakes else warmup), total
    if "decay too long" in mistakes:
        end = start + total
    left = (end - update) / (end - start)
    if "negative" not in mistakes:
        left = max(0.0, left)
    if "cosine" in mistakes:
        left = 0.5 - 0.5 * math.cos(math.pi * left)
    if "constant" in mistakes:
        left = 1.0
    if update >= warmup:
        return left
    before = (update + ("warm-up from one" in mistakes)) / (warmup - ("warm-up too short" in mistakes))
    return before * (left if "decay in the warm-up" in mistakes else 1.0)


def accumulate(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (weight, batches) -> gradient (D, C) of the mean cross-entropy over all labels of the batches.

    The weight is (D, C); a batch is (features (B, D), labels (B,)), whose logits are features @ weight. Labels of -100
    do not count.
    """
    generator = torch.Generator().manual_seed(mixed_seed("accumulate"))
    weight = torch.randn(6, 3, generator=generator)  # (D, C)

    def batch(rows: int, ignored: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        features = torch.randn(rows, 6, generator=generator)  # (B, D)
        labels = torch.randint(3, (rows,), generator=generator)  # (B,)
        labels[list(ignored)] = -100
        return features, labels

    even = [batch(4), batch(4)]
    last_is_short = [batch(4), batch(4), batch(1)]
    ignored = [batch(3, [0]), batch(5, [1, 2]), batch(4)]
    silent = [batch(4), batch(2, [0, 1]), batch(1)]
    cases = [
        Case("a single batch", (weight, even[:1]), "Look at the loss of one batch."),
        Case("two batches of one size", (weight, even), "Look at how the gradients of the batches are put together."),
        Case("a last batch that is shorter", (weight, last_is_short), "Look at what the sums are divided by."),
        Case("labels of -100", (weight, ignored), "Look at which labels are counted."),
        Case("a batch without a label that counts", (weight, silent), "Look at a division by 0."),
    ]
    return judge(mine, Task(_accumulate, cases, ACCUMULATE))


ACCUMULATE = {
    "mean of means": "each batch has the mean of its own labels, and the mean of these is taken",
    "sum of means": "each batch has the mean of its own labels, and these are added up",
    "last batch only": "only the last batch counts, as if the gradient were set to zero before each",
    "not divided": "the sum is not divided by anything",
    "divided by batches": "the sums of the batches are divided by the number of batches",
    "divided by rows": "rows with the label -100 are counted in what the sum is divided by",
    "nominal size": "the sum is divided as if every batch were as large as the first",
    "softmax twice": "a softmax is taken before the cross-entropy, which has one of its own",
}


def _accumulate(weight: Tensor, batches: Sequence[tuple[Tensor, Tensor]], *, mistakes: Mistakes) -> Tensor:
    leaf = weight.double().requires_grad_()
    counts = [len(labels) if "divided by rows" in mistakes else int((labels >= 0).sum()) for _, labels in batches]
    sums = []
    for features, labels in batches:
        logits = features.double() @ leaf  # (B, C)
        if "softmax twice" in mistakes:
            logits = logits.softmax(dim=-1)  # (B, C)
        sums.append(F.cross_entropy(logits, labels, reduction="sum"))
    if "last batch only" in mistakes:
        sums, counts = sums[-1:], (counts if "divided by rows" in mistakes else counts[-1:])
    total = torch.stack(sums).sum()  # ()
    if "mean of means" in mistakes or "sum of means" in mistakes:
        total = sum((one / count for one, count in zip(sums, counts, strict=True)), torch.zeros(()))
        loss = total / len(sums) if "mean of means" in mistakes else total
    elif "not divided" in mistakes:
        loss = total
    elif "divided by batches" in mistakes:
        loss = total / len(batches)
    elif "nominal size" in mistakes:
        loss = total / (len(batches[0][1]) * len(batches))
    else:
        loss = total / sum(counts)
    [gradient] = torch.autograd.grad(loss, leaf)
    return gradient


def scaled_step(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (weights, scaled, scale, limit, rate, updates) -> (weights, scale, updates).

    `weights` and `scaled` are lists of tensors; `scaled` holds gradients times `scale`, as they come out of a backward
    pass. A step is plain gradient descent after clipping the norm of all gradients together to `limit`.
    """
    generator = torch.Generator().manual_seed(mixed_seed("scaled step"))
    shapes = [(3, 4), (4,), (2, 2)]
    weights = [torch.randn(shape, generator=generator) for shape in shapes]
    gradients = [torch.randn(shape, generator=generator) for shape in shapes]
    norm = float(torch.cat([x.flatten() for x in gradients]).norm())  # () of (all,)
    infinite = [x * 1024 for x in gradients]
    infinite[1] = torch.full_like(infinite[1], math.inf)  # (4,)
    missing = [x * 1024 for x in gradients]
    missing[0] = missing[0].index_fill(0, torch.tensor([1]), math.nan)  # (3, 4)

    def case(what: str, scaled: list[Tensor], scale: float, limit: float, look: str) -> Case:
        return Case(what, (weights, scaled, scale, limit, 0.1, 7), look)

    cases = [
        case("a scale of 1 and nothing to clip", gradients, 1.0, 2 * norm, "Look at the update of the weights."),
        case("a scale of 1024 and nothing to clip", [x * 1024 for x in gradients], 1024.0, 2 * norm,
             "Look at where the gradients are divided by the scale."),
        case("gradients above the limit", [x * 1024 for x in gradients], 1024.0, 0.2 * norm, "Look at the clipping."),
        case("an infinite gradient in one tensor", infinite, 1024.0, 0.5 * norm,
             "After an overflow, only the scale changes."),
        case("a gradient that is NaN", missing, 1024.0, 0.5 * norm, "inf - inf is NaN: that is an overflow, too."),
    ]  # fmt: skip
    return judge(mine, Task(_scaled_step, cases, SCALED_STEP))


SCALED_STEP = {
    "not unscaled": "the gradients are never divided by the scale",
    "clipped before unscaling": "the scaled gradient is compared with the limit: clipped first, then unscaled",
    "not clipped": "nothing is clipped",
    "always clipped": "gradients below the limit are scaled up to it",
    "clipped one by one": "each tensor is clipped by its own norm, which turns the direction of the step",
    "each number clipped": "each number is cut off at the limit by itself, which turns the direction of the step",
    "sum of norms": "the norms of the tensors are added up, instead of the root of the sum of their squares",
    "steps on overflow": "the weights are updated although a gradient is not finite",
    "skips one tensor": "only the tensors whose own gradients are not finite are left out",
    "only infinity": "a gradient that is NaN is not taken for an overflow",
    "scale kept": "the scale stays the same after an overflow",
    "scale doubled": "the scale is doubled after an overflow",
    "skipped step counted": "a skipped step counts as an update, so that the schedule moves on",
}


def _scaled_step(
    weights: Sequence[Tensor], scaled: Sequence[Tensor], scale: float, limit: float, rate: float, updates: int,
    *, mistakes: Mistakes,
) -> tuple[list[Tensor], float, int]:  # fmt: skip
    weights = [weight.double() for weight in weights]
    given = [x.double() for x in scaled]

    def unscaled(tensors: Sequence[Tensor]) -> list[Tensor]:
        return list(tensors) if "not unscaled" in mistakes else [x / scale for x in tensors]

    def clipped(tensors: Sequence[Tensor]) -> list[Tensor]:
        norms = torch.stack([x.norm() for x in tensors])  # (tensors,)
        total = norms.sum() if "sum of norms" in mistakes else norms.norm()  # ()
        factors = limit / (norms if "clipped one by one" in mistakes else total.expand(len(norms)))  # (tensors,)
        if "always clipped" not in mistakes:
            factors = torch.where(factors < 1, factors, 1.0)  # (tensors,), 1 for NaN, as min(1.0, limit / norm) gives
        if "each number clipped" in mistakes:
            tensors, factors = [x.clamp(-limit, limit) for x in tensors], torch.ones_like(factors)  # (tensors,)
        return list(tensors) if "not clipped" in mistakes else [x * f for x, f in zip(tensors, factors, strict=True)]

    def bad(tensor: Tensor) -> bool:
        wrong = tensor.isinf() if "only infinity" in mistakes else ~tensor.isfinite()  # (...)
        return bool(wrong.any())

    overflow = any(bad(x) for x in given)
    if "skips one tensor" in mistakes:
        given = [torch.zeros_like(x) if bad(x) else x for x in given]
    first, second = (clipped, unscaled) if "clipped before unscaling" in mistakes else (unscaled, clipped)
    if not overflow or mistakes & {"steps on overflow", "skips one tensor"}:
        weights = [weight - rate * x for weight, x in zip(weights, second(first(given)), strict=True)]
    if overflow:
        scale *= 1.0 if "scale kept" in mistakes else 2.0 if "scale doubled" in mistakes else 0.5
    return weights, scale, updates + (not overflow or "skipped step counted" in mistakes)
