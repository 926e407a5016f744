"""Numbers with few digits: the distance to the next number, a softmax that does not overflow, a norm in fp16."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minibert.data import mixed_seed
from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

SPACING = {
    "hidden bit counted": "the leading 1, which is not stored, is counted among the bits",
    "exponent rounded": "the exponent is rounded to the nearest power of two instead of downwards",
    "exponent rounded up": "the exponent is rounded up instead of downwards",
    "no subnormals": "numbers below the smallest exponent get closer and closer, although they are evenly spaced there",
    "relative": "the spacing near 1 is returned for all numbers",
    "half": "half of the spacing is returned, which is the largest rounding error",
    "sign kept": "a negative number gets a negative spacing",
    "0 has none": "0 gets a spacing of 0, instead of that of the smallest numbers",
    "decimal": "the exponent is one of ten instead of two",
}

SOFTMAX = {
    "no maximum": "no maximum is subtracted, so that exp of a large score is infinite",
    "maximum of everything": "the maximum of all rows is subtracted, so that a row far below it has only zeros",
    "maximum of the sizes": "the largest absolute value is subtracted, so that a row of negative scores has only zeros",
    "mean subtracted": "the mean is subtracted instead of the maximum, so that a single large score still overflows",
    "minimum subtracted": "the minimum is subtracted instead of the maximum",
    "wrong axis": "the softmax runs over the first axis (dim=0) instead of the last one (dim=-1)",
    "not divided": "the exponentials are not divided by their sum",
    "scores cut off": "scores are cut off at 80, so that all above are the same",
}

NORM = {
    "sum in 16 bits": "the sum of a row is taken in 16 bits, where it can be infinite, and divided afterwards",
    "squares in 16 bits": "squares are taken in 16 bits, where those of numbers above 255 are infinite",
    "eps in 16 bits": "eps becomes a 16-bit number, in which 1e-12 is 0",
    "no eps": "eps is not added",
    "eps 1e-5": "eps is 1e-5, whatever the argument says",
    "eps after the root": "eps is added to the root of the variance instead of the variance",
    "unbiased": "the variance is divided by D - 1 instead of D",
    "mean kept": "the mean is not subtracted from what is divided",
    "bias scaled": "the bias is added before the multiplication with the weight",
}


def spacing(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (x, bits, smallest) -> the distance between neighbouring numbers of a format near x, a float.

    `bits` are the stored bits of the fraction, and 2**smallest is the smallest number with a leading 1.
    """
    fp32, fp16, bf16 = (23, -126), (10, -14), (7, -126)
    cases = [
        Case("1 in fp16", (1.0, *fp16), "Numbers from 1 to 2 are 2**-bits apart."),
        Case("1 in fp32", (1.0, *fp32), "Numbers from 1 to 2 are 2**-bits apart."),
        Case("100 in bf16", (100.0, *bf16), "Between 64 and 128 numbers are 64 times as far apart as between 1 and 2."),
        Case("1.9 in fp16", (1.9, *fp16), "All numbers from 1 to 2 are equally far apart."),
        Case("8 in fp16", (8.0, *fp16), "A power of two begins a new stretch."),
        Case("5 in fp16", (5.0, *fp16), "The exponent is that of the power of two below: 4."),
        Case("0.1 in fp32", (0.1, *fp32), "Exponents can be negative."),
        Case("-3 in bf16", (-3.0, *bf16), "Only the size of a number counts."),
        Case("1e-6 in fp16", (1e-6, *fp16), "Below 2**smallest the spacing no longer shrinks."),
        Case("0 in fp16", (0.0, *fp16), "Look at what becomes of the logarithm of 0."),
    ]
    return judge(mine, Task(_spacing, cases, SPACING))


def _spacing(x: float, bits: int, smallest: int, mistakes: frozenset[str]) -> float:
    if x == 0 and "0 has none" in mistakes:
        return 0.0
    exponent = math.log2(abs(x)) if x else -math.inf
    if "decimal" in mistakes:
        exponent = math.log10(abs(x)) if x else -math.inf
    if "no subnormals" not in mistakes or not x:
        exponent = max(exponent, smallest)
    down = math.ceil if "exponent rounded up" in mistakes else round if "exponent rounded" in mistakes else math.floor
    bits = bits - 1 if "hidden bit counted" in mistakes else bits
    result = 2.0 ** ((0 if "relative" in mistakes else down(exponent)) - bits)
    result = result / 2 if "half" in mistakes else result
    return -result if "sign kept" in mistakes and x < 0 else result


def stable_softmax(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (scores) -> weights, the softmax over the last axis of (S,) or (rows, S)."""
    generator = torch.Generator().manual_seed(mixed_seed("softmax"))
    scores = torch.randn(3, 5, generator=generator)  # (rows, S)
    masked = scores.masked_fill(torch.tensor([False, False, False, True, True]), -math.inf)  # (rows, S)
    lowest = torch.full((2, 4), torch.finfo(torch.float32).min)  # (rows, S)
    cases = [
        Case("a table of small scores", (scores,), "Look at the axis and at what the exponentials are divided by."),
        Case("one row", (scores[0],), "Count axes from the end."),
        Case("scores of 100", (scores + 100,), "Look at what exp gets: above 88 it is infinite in float32."),
        Case("scores of -1000", (scores - 1000,), "Look at what exp gets: below -104 it is 0 in float32."),
        Case(
            "rows with different sizes of scores", (scores + torch.tensor([[0.0], [500.0], [-500.0]]),), "Row by row."
        ),
        Case("one score of 200 among small ones", (scores.index_fill(1, torch.tensor([2]), 200.0),), "Look at exp."),
        Case("scores of -inf where tokens are masked", (masked,), "exp(-inf) is 0, and the rest sums to 1."),
        Case("a row in which all is masked with the smallest number", (lowest,), "All weights are equal there."),
    ]
    return judge(mine, Task(_softmax, cases, SOFTMAX, gradients=[0]))


def _softmax(scores: Tensor, mistakes: frozenset[str]) -> Tensor:
    # In float64 for the right answer; overflow is shown in the numbers that the reader has.
    axis = 0 if "wrong axis" in mistakes else -1
    if not mistakes:
        return scores.double().softmax(dim=-1)  # (rows, S)
    if "scores cut off" in mistakes:
        scores = scores.clamp(max=80.0)  # (rows, S)
    if "no maximum" in mistakes or "scores cut off" in mistakes:
        away = torch.zeros(())  # ()
    elif "maximum of everything" in mistakes:
        away = scores.max()  # ()
    elif "maximum of the sizes" in mistakes:
        away = scores.abs().masked_fill(scores.isinf(), 0.0).amax(dim=axis, keepdim=True)  # (rows, 1)
    elif "mean subtracted" in mistakes:
        away = scores.mean(dim=axis, keepdim=True)  # (rows, 1)
    elif "minimum subtracted" in mistakes:
        away = scores.amin(dim=axis, keepdim=True)  # (rows, 1)
    else:
        away = scores.amax(dim=axis, keepdim=True)  # (rows, 1)
    positive = (scores - away).exp()  # (rows, S)
    if "not divided" in mistakes:
        return positive
    return positive / positive.sum(dim=axis, keepdim=True)  # (rows, S)


def norm_in_16_bits(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (x, weight, bias, eps) -> the layer norm of x over its last axis, in fp16.

    x is (rows, D) in fp16; weight and bias are (D,) in fp32. The result may be off by a few roundings of fp16.
    """
    generator = torch.Generator().manual_seed(mixed_seed("norm in 16 bits"))
    x = torch.randn(4, 64, generator=generator)  # (rows, D)
    norm = 1 + 0.3 * torch.randn(64, generator=generator), torch.randn(64, generator=generator)  # (D,) each
    plain = torch.ones(64), torch.zeros(64)  # (D,) each
    quiet = "Look at the mean and the variance."
    cases = [
        Case("numbers near 1, without weight and bias", (x.half(), *plain, 1e-12), quiet),
        Case("weight and bias", (x.half(), *norm, 1e-12), "Look at how weight and bias are used."),
        Case("an eps of 0.1", (x.half(), *norm, 0.1), "Look at where eps is added."),
        Case("small numbers", ((0.002 * x).half(), *norm, 1e-12), "Their variance is near 4e-6. Look at eps."),
        Case("numbers of several hundred", ((400 * x).half(), *norm, 1e-12), "fp16 ends at 65504. Look at squares."),
        Case("a sum above 65504", ((2000 + 100 * x).half(), *norm, 1e-12), "Look at sums and squares."),
        Case("a row of equal numbers", (torch.full((1, 64), 0.5).half(), *norm, 1e-12), "The variance is 0 there."),
    ]

    def stays_in_16_bits(mine: Callable[..., Any]) -> str | None:
        result = mine(x.half(), *norm, 1e-12)
        right = isinstance(result, Tensor) and result.dtype == torch.float16
        return None if right else f"But the result is {getattr(result, 'dtype', type(result).__name__)}, not fp16."

    return judge(mine, Task(_norm, cases, NORM, properties=[stays_in_16_bits], equal=2e-3))


def _norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, mistakes: frozenset[str]) -> Tensor:
    size, exact = x.shape[-1], x.double()  # (rows, D)
    mean = exact.mean(dim=-1, keepdim=True)  # (rows, 1)
    if "sum in 16 bits" in mistakes:
        mean = (x.sum(dim=-1, keepdim=True) / size).double()  # (rows, 1)
    centred = exact - mean  # (rows, D)
    squares = centred.square()  # (rows, D)
    if "squares in 16 bits" in mistakes:
        squares = centred.half().square().double()  # (rows, D)
    variance = squares.sum(dim=-1, keepdim=True) / (size - 1 if "unbiased" in mistakes else size)  # (rows, 1)
    eps = float(torch.tensor(eps).half()) if "eps in 16 bits" in mistakes else eps
    eps = 0.0 if "no eps" in mistakes else 1e-5 if "eps 1e-5" in mistakes else eps
    late = "eps after the root" in mistakes
    divisor = variance.sqrt() + eps if late else (variance + eps).sqrt()  # (rows, 1)
    normed = (exact if "mean kept" in mistakes else centred) / divisor  # (rows, D)
    result = (normed + bias) * weight if "bias scaled" in mistakes else normed * weight + bias  # (rows, D)
    return result.half().double()  # (rows, D)
