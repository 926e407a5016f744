"""The varlen kernel beside the equation by hand in fp64, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from minibert.attention import attend_by_length, attention_by_hand
from minibert.fast.attend import attend_fast
from minibert.fast.varlen import can_use_varlen
from minibert.layout import Layout
from tests.conftest import BOUNDS
from tests.programs.gpu.table import Check, Row, Setting, at_most

# Lengths of the rows of a batch; 0 is a row without tokens.
BATCHES = {
    "random rows": [5, 31, 12, 77, 1, 31, 64, 128, 9, 3],
    "empty rows": [0, 17, 0, 40, 1, 0],
    "one row": [33],
    "one token": [1],
    "512 tokens": [512, 511, 130, 512],
}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
BOUND = {
    name: BOUNDS["module bf16" if dtype.itemsize == 2 else "by hand against sdpa fp32"]
    for name, dtype in DTYPES.items()
}


def checks(setting: Setting) -> Iterator[Check]:
    for name, lengths in BATCHES.items():
        for precision in DTYPES:
            yield f"{name} {precision}", partial(_against_by_hand, setting, name, lengths, precision)
    yield "no tokens", partial(_no_tokens, setting)
    yield "dropout", partial(_dropout, setting)


def _layout(lengths: list[int], device: torch.device) -> Layout:
    columns = torch.arange(max(1, *lengths) if len(lengths) > 1 else lengths[0])  # (S,)
    return Layout.from_mask(columns < torch.tensor(lengths)[:, None]).to(device)


def _packed(layout: Layout, size: int, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Query, key, value and the gradient of the context, (T, N, H) each."""
    generator = torch.Generator().manual_seed(layout.tokens)
    shape = (layout.tokens, 4, size)
    return [torch.randn(shape, generator=generator).to(device, dtype) for _ in range(4)]


def _with_gradients(attend: Callable[..., Tensor], parts: list[Tensor], *given: object) -> list[Tensor]:
    """The context, and the gradients of query, key and value."""
    *inputs, gradient = parts
    inputs = [part.clone().requires_grad_() for part in inputs]
    context = attend(*inputs, *given)  # (T, N, H)
    context.backward(gradient)
    return [context.detach(), *(part.grad for part in inputs)]


def _against_by_hand(setting: Setting, name: str, lengths: list[int], precision: str) -> list[Row]:
    """The largest error of context and gradients, norm over norm, for both head sizes of published models."""
    layout = _layout(lengths, setting.device)
    by_hand = partial(attend_by_length, form=attention_by_hand)
    errors, kinds = [], set()
    for size in (32, 64):
        parts = _packed(layout, size, DTYPES[precision], setting.device)
        exact = _with_gradients(by_hand, [part.double() for part in parts], layout)
        found = _with_gradients(attend_fast, parts, layout)
        for one, right in zip(found, exact, strict=True):
            # Of one token the pattern is 1, whatever query and key are: their gradients are zero.
            errors.append(((one.double() - right).norm() / max(right.norm().item(), 1.0)).item())
        kinds.add("varlen" if can_use_varlen(parts[0], layout) else "by length")
    row = at_most(f"{name}, {precision}: error", max(errors), BOUND[precision])
    as_meant = kinds == {"varlen"} or setting.device.type != "cuda" or precision == "fp32"
    return [replace(row, bound=f"{row.bound} {' '.join(kinds)}", holds=bool(row.holds and as_meant))]


def _no_tokens(setting: Setting) -> list[Row]:
    layout = _layout([0], setting.device)
    *parts, _ = _packed(layout, 32, torch.bfloat16, setting.device)
    shape = tuple(attend_fast(*parts, layout).shape)
    return [Row("no tokens: nothing comes out", str(shape), "", shape == (0, 4, 32))]


def _dropout(setting: Setting) -> list[Row]:
    """Dropout has its rate and scale, and the backward pass has the mask of the forward pass."""
    layout, rate = _layout([512, 300, 37, 512], setting.device), 0.1
    query, key, value, gradient = _packed(layout, 64, torch.bfloat16, setting.device)
    ones = torch.ones_like(value)  # (T, N, H): a context is then the sum of what is left of a pattern
    mean = attend_fast(query, key, ones, layout, rate).float().mean().item()
    torch.manual_seed(1)
    found = _with_gradients(attend_fast, [query, key, value, gradient], layout, rate)
    torch.manual_seed(1)
    again = _with_gradients(attend_fast, [query, key, value, gradient], layout, rate)
    # A context is linear in the values, so <context, its gradient> is <values, their gradient>.
    forward = (found[0].double() * gradient.double()).sum()
    backward = (value.double() * found[3].double()).sum()
    size = found[0].double().norm() * gradient.double().norm()
    plain = attend_fast(query, key, value, layout)
    changed = not torch.equal(plain, found[0])
    same = torch.equal(found[0], again[0])
    return [
        at_most("dropout: the mean of what is left is 1", abs(mean - 1), 0.01),
        at_most("dropout: one mask forward and backward", ((forward - backward).abs() / size).item(), 1e-3),
        Row(
            "dropout: the same seed gives the same mask, and one that drops",
            str(same and changed),
            "",
            same and changed,
        ),
    ]
