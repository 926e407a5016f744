"""Checks for the exercises of the course: is your function right, and if not, which mistake was made?

A check calls your function with small random input and compares shape, numbers and gradients with those of BERT, and
tries what has to hold whatever the weights are. If the numbers are others, it makes the classic mistakes itself
(`mistakes.py`), one and two at a time, and names those that give your numbers. For a mistake that it does not know, it
says at which step your numbers first depart, and by how much.

    >>> from minibert.study import exercises as check
    >>> check.attention(my_attention)
    Right: shape, numbers, gradients and padding. The largest difference is 2.4e-07 of the largest number.
"""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minibert.data import mixed_seed
from minibert.study import mistakes as with_mistakes
from minibert.study.doctor import make_case
from minibert.study.mistakes import MINUS_INFINITY, MISTAKES

EQUAL = 2e-5  # the largest difference over the largest number: float32 rounds to about 1e-6 in one layer
Inputs = tuple[Tensor, ...]  # the last one is the mask (B, S)

EMBEDDINGS = (
    "positions from one", "no positions", "no segments", "one segment", "scaled words", "no embedding norm", "eps 1e-5",
    "unbiased variance", "gamma and beta dropped",
)  # fmt: skip
ATTENTION = (
    "no scale", "scale by D", "scale without root", "padding attended", "mask on queries", "mask inverted", "causal",
    "softmax over queries", "softmax over heads", "query and key swapped", "key and value swapped",
    "query and value swapped",
)  # fmt: skip
SELF_ATTENTION = (
    *ATTENTION, "interleaved heads", "heads not brought back", "attention transposed", "output transposed",
    "no output projection", "attention biases dropped", "output biases dropped",
)  # fmt: skip
LAYER = (
    "pre-norm", "norm inside the residual", "no attention residual", "no feed-forward residual", "unbiased variance",
    "gamma and beta dropped", "tanh gelu", "sigmoid gelu", "relu", "silu", "no activation",
    "activation after the second map",
)  # fmt: skip
PADDING = 100.0  # what padding is multiplied by: nothing at a real token may change


@dataclass(frozen=True, repr=False)
class Verdict:
    """What a check found; in a notebook it shows its text.

    Attributes:
        right: whether everything holds.
        text: what is wrong, in sentences.
        mistakes: the known mistakes that together give the numbers; several entries mean that each of them does.
    """

    right: bool
    text: str
    mistakes: tuple[tuple[str, ...], ...] = ()

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Step:
    """Input on which only some of a function's steps can go wrong."""

    what: str
    inputs: Inputs
    look: str


@dataclass(frozen=True)
class Exercise:
    """What a check needs to know.

    Attributes:
        truth: inputs and mistakes -> what the function should return; with no mistakes it is BERT.
        batches: inputs, with padding on the right of some rows.
        steps: simple inputs first, each with one more step that matters.
        known: the mistakes to try.
        names: what to call the inputs that are not integers.
        mixes: whether tokens of a row see each other, so that padding could leak.
    """

    truth: Callable[[Inputs, frozenset[str]], Tensor]
    batches: Sequence[Inputs]
    steps: Sequence[Step]
    known: tuple[str, ...]
    names: tuple[str, ...]
    mixes: bool = True

    def right(self, inputs: Inputs, *mistakes: str) -> Tensor:
        """What BERT computes, in float64, with some mistakes."""
        exact = tuple(x.double() if x.is_floating_point() else x for x in inputs)
        return self.truth(exact, frozenset(mistakes))


def embeddings(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (ids, segments, tables, eps) -> embeddings (B, S, D).

    ids and segments are (B, S). `tables` maps "word", "position" and "segment" to (rows, D), and "weight" and "bias" of
    the layer norm to (D,).
    """
    official = {
        "word": "word_embeddings.weight", "position": "position_embeddings.weight",
        "segment": "token_type_embeddings.weight", "weight": "LayerNorm.weight", "bias": "LayerNorm.bias",
    }  # fmt: skip
    case = make_case((3, 8, 4, 6, 1, 37, 99), mixed_seed("embeddings"), layers=1)

    def truth(inputs: Inputs, mistakes: frozenset[str]) -> Tensor:
        ids, segments, *tables, _ = inputs
        named = {f"embeddings.{name}": table for name, table in zip(official.values(), tables, strict=True)}
        return with_mistakes.embed(case.config, named, ids, segments, mistakes)  # (B, S, D)

    def with_tables(ids: Tensor, segments: Tensor, *tables: Tensor) -> Any:
        return mine(ids, segments, dict(zip(official, tables[:-1], strict=True)), case.config["layer_norm_eps"])

    word, position, segment, *norm = (case.tensors[f"embeddings.{name}"] for name in official.values())
    plain = (torch.ones_like(norm[0]), torch.zeros_like(norm[1]))  # (D,) each
    ids, segments, everything = case.ids, case.segments, torch.ones_like(case.mask, dtype=torch.bool)  # (B, S) each
    nowhere, nothing = position * 0, segment * 0  # (rows, D) each
    steps = [
        Step(
            "the table of words alone, and a norm without weight and bias",
            (ids, segments, word, nowhere, nothing, *plain, everything),
            "Look at the lookup and at mean, variance and eps.",
        ),
        Step(
            "weight and bias of the norm",
            (ids, segments, word, nowhere, nothing, *norm, everything),
            "Look at how the norm uses them.",
        ),
        Step("positions", (ids, segments, word, position, nothing, *norm, everything), "Look at the positions."),
        Step("segments", (ids, segments, word, position, segment, *norm, everything), "Look at the segments."),
    ]
    batch = (ids, segments, word, position, segment, *norm, everything)
    return _judge(with_tables, Exercise(truth, [batch], steps, EMBEDDINGS, tuple(official), mixes=False))


def attention(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (query, key, value, mask) -> context.

    query, key, value and the context are (B, N, S, H); the mask is (B, S) bool, True = a real token. The function may
    return (context, pattern) instead, with the pattern (B, N, S, S). Rows of padding may hold anything.
    """

    def truth(inputs: Inputs, mistakes: frozenset[str]) -> Tensor:
        if "query and key swapped" in mistakes:
            inputs = (inputs[1], inputs[0], *inputs[2:])
        if "key and value swapped" in mistakes:
            inputs = (inputs[0], inputs[2], inputs[1], inputs[3])
        if "query and value swapped" in mistakes:
            inputs = (inputs[2], inputs[1], inputs[0], inputs[3])
        query, key, value, mask = inputs
        return with_mistakes.attend(query, key, value, mask, mistakes)[2]  # (B, N, S, H)

    batches = []
    for sizes in ((3, 4, 7, 6), (2, 3, 5, 8)):  # B, N, S, H
        generator = torch.Generator().manual_seed(mixed_seed("attention", *sizes))
        qkv = (1.5 * torch.randn(3, *sizes, generator=generator)).unbind()  # (B, N, S, H) each
        batches.append((*qkv, _mask(sizes[0], sizes[2])))
    query, key, value, mask = batches[0]
    everything = torch.ones_like(mask)  # (B, S)
    steps = [
        Step(
            "a single token, which can only read itself",
            (query[:, :, :1], key[:, :, :1], value[:, :, :1], everything[:, :1]),
            "Its weight is 1. Look at what becomes of the values.",
        ),
        Step(
            "queries of zero, which weigh all tokens the same",
            (query * 0, key, value, everything),
            "Look at the softmax.",
        ),
        Step("rows without padding", (query, key, value, everything), "Look at the scores and their scale."),
        Step("padding", (query, key, value, mask), "Look at the mask."),
    ]
    return _judge(mine, Exercise(truth, batches, steps, ATTENTION, ("query", "key", "value")))


def self_attention(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (hidden, mask, weights, heads) -> output: the whole layer with its projections.

    hidden and output are (B, S, D), the mask is (B, S) bool, `heads` is N, and `weights` maps "query.weight",
    "query.bias", the same of "key", "value" and "output", to tensors in torch's layout (out, in). Rows of padding may
    hold anything.
    """
    official = {"output": "attention.output.dense"} | {
        kind: f"attention.self.{kind}" for kind in ("query", "key", "value")
    }
    case = make_case((3, 7, 4, 6, 1, 37, 99), mixed_seed("self-attention"), layers=1)
    config, heads = case.config, case.config["num_attention_heads"]
    layer = {name.removeprefix("encoder.layer.0."): tensor for name, tensor in case.tensors.items()}
    weights = {f"{mine}.{end}": layer[f"{his}.{end}"] for mine, his in official.items() for end in ("weight", "bias")}

    def truth(inputs: Inputs, mistakes: frozenset[str]) -> Tensor:
        exact = {name: tensor.double() for name, tensor in layer.items()}
        hidden, mask = inputs
        return with_mistakes.attention(config, exact, hidden, mask, mistakes, {}, "")  # (B, S, D)

    def with_weights(hidden: Tensor, mask: Tensor) -> Any:
        return mine(hidden, mask, {name: tensor.clone() for name, tensor in weights.items()}, heads)

    generator = torch.Generator().manual_seed(mixed_seed("hidden"))
    hidden = torch.randn(3, 7, config["hidden_size"], generator=generator)  # (B, S, D)
    mask = _mask(3, 7)  # (B, S)
    everything = torch.ones_like(mask)  # (B, S)
    steps = [
        Step(
            "a single token, which can only read itself",
            (hidden[:, :1], everything[:, :1]),
            "Look at the value's projection and the output's.",
        ),
        Step(
            "seven times the same token, which is weighed the same",
            (hidden[:, :1].repeat(1, 7, 1), everything),
            "Look at the softmax, and at how the heads are brought back.",
        ),
        Step("rows without padding", (hidden, everything), "Look at the heads, the scores and their scale."),
        Step("padding", (hidden, mask), "Look at the mask."),
    ]
    return _judge(with_weights, Exercise(truth, [(hidden, mask)], steps, SELF_ATTENTION, ("hidden",)))


def layer(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (hidden, attend, weights, eps) -> output: an encoder layer around a given attention.

    hidden and output are (B, S, D); `attend` is a function, from (B, S, D) to the output of self-attention (B, S, D).
    `weights` maps "attention_norm", "inner", "outer" and "feed_forward_norm", each with ".weight" and ".bias", to
    tensors in torch's layout (out, in). F is larger than D.
    """
    official = {
        "attention_norm": "attention.output.LayerNorm", "inner": "intermediate.dense", "outer": "output.dense",
        "feed_forward_norm": "output.LayerNorm",
    }  # fmt: skip
    case = make_case((3, 7, 4, 6, 1, 37, 99), mixed_seed("layer"), layers=1)
    tensors = {name.removeprefix("encoder.layer.0."): tensor for name, tensor in case.tensors.items()}
    ends = ("weight", "bias")
    mine_to_official = {f"{name}.{end}": f"{full}.{end}" for name, full in official.items() for end in ends}
    mask = _mask(3, 7)  # (B, S)

    def truth(inputs: Inputs, mistakes: frozenset[str]) -> Tensor:
        hidden, *given, mask = inputs
        weights = {name: tensor.to(hidden.dtype) for name, tensor in tensors.items()}
        weights |= dict(zip(mine_to_official.values(), given, strict=True))
        return with_mistakes.layer(case.config, weights, hidden, mask, mistakes, {}, "")  # (B, S, D)

    def with_weights(*inputs: Tensor) -> Any:
        hidden, *given, mask = inputs

        def attend(x: Tensor) -> Tensor:
            return with_mistakes.attention(case.config, tensors, x, mask, frozenset(), {}, "")  # (B, S, D)

        weights = dict(zip(mine_to_official, given, strict=True))
        return mine(hidden, attend, weights, case.config["layer_norm_eps"])

    generator = torch.Generator().manual_seed(mixed_seed("hidden of a layer"))
    hidden = torch.randn(3, 7, case.config["hidden_size"], generator=generator)  # (B, S, D)
    weights = {name: tensors[full] for name, full in mine_to_official.items()}
    silent = {name: tensor * 0 if name.startswith("outer") else tensor for name, tensor in weights.items()}
    steps = [
        Step(
            "a feed-forward block that returns zeros",
            (hidden, *silent.values(), mask),
            "Look at the sums and the norms.",
        ),
        Step("all weights", (hidden, *weights.values(), mask), "Look at the feed-forward block."),
    ]
    names = ("hidden", *weights)
    batch = (hidden, *weights.values(), mask)
    return _judge(with_weights, Exercise(truth, [batch], steps, LAYER, names, mixes=False))


def _mask(rows: int, columns: int) -> Tensor:
    lengths = torch.tensor([columns, *(columns - 1 - row for row in range(1, rows))])  # (B,)
    return torch.arange(columns) < lengths[:, None]  # (B, S)


def _judge(mine: Callable[..., Any], exercise: Exercise) -> Verdict:
    try:
        with torch.no_grad():
            outputs = [_call(mine, inputs) for inputs in exercise.batches]
            again, _ = _call(mine, exercise.batches[0])
    except Exception as error:  # the code is the reader's
        return Verdict(False, f"The function stopped with an error.\n{_traceback(error)}")
    if outputs[0][0] is None:
        return Verdict(False, "Not written yet: the function returns None.")
    for (found, _), inputs in zip(outputs, exercise.batches, strict=True):
        problem = _problem_of_form(found, exercise.right(inputs))
        if problem:
            return Verdict(False, problem)
    if _distance(again, outputs[0][0], exercise.batches[0][-1]) > EQUAL:
        return Verdict(False, "Two calls with the same input gave different numbers: is dropout on?")
    contexts = [context for context, _ in outputs]
    far = max(_distance(x, exercise.right(y), y[-1]) for x, y in zip(contexts, exercise.batches, strict=True))
    if far > EQUAL:
        return _explain(mine, exercise, contexts, far)
    try:
        problem = (
            _problem_of_patterns([pattern for _, pattern in outputs], exercise.batches)
            or (_problem_of_properties(mine, exercise.batches[0]) if exercise.mixes else None)
            or _problem_of_gradients(mine, exercise)
        )
    except Exception as error:  # the code is the reader's
        problem = f"But with other input, or with gradients, the function stops.\n{_traceback(error)}"
    if problem:
        return Verdict(False, f"The numbers are right. {problem}")
    what = "shape, numbers, gradients and padding" if exercise.mixes else "shape, numbers and gradients"
    return Verdict(True, f"Right: {what}. The largest difference is {far:.0e} of the largest number.")


def _traceback(error: Exception) -> str:
    """Where in the reader's own code an error arose, and what it says."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    return "".join([*traceback.format_list(frames), *traceback.format_exception_only(error)]).rstrip()


def _call(mine: Callable[..., Any], inputs: Inputs) -> tuple[Any, Any]:
    """What a function returns, on copies that it may change: the context, and the pattern or None."""
    returned = mine(*(x * 1 if x.is_floating_point() else x.clone() for x in inputs))
    return returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)


def _problem_of_form(found: Any, right: Tensor) -> str | None:
    if not isinstance(found, Tensor):
        return f"The function returns {type(found).__name__}, not a tensor."
    if found.shape == right.shape:
        return None
    forgotten = right.dim() == 4 and found.shape == right.transpose(1, 2).shape
    hint = " Are the axes of heads and tokens swapped?" if forgotten else ""
    return f"The result has shape {tuple(found.shape)}, but should have {tuple(right.shape)}.{hint}"


def _distance(mine: Tensor, right: Tensor, mask: Tensor) -> float:
    """The largest difference at real tokens over the largest number there; infinite where only one is NaN."""
    a, b = (_tokens(x)[mask].double() for x in (mine, right))  # (T, ...) each
    if not torch.equal(a.isnan(), b.isnan()):
        return float("inf")
    return float((a - b).nan_to_num().abs().max() / b.nan_to_num().abs().max())


def _tokens(values: Tensor) -> Tensor:
    """(B, N, S, H) -> (B, S, N, H); (B, S, D) stays."""
    return values.transpose(1, 2) if values.dim() == 4 else values  # (B, S, ...)


def _explain(mine: Callable[..., Any], exercise: Exercise, found: Sequence[Tensor], far: float) -> Verdict:
    """The known mistakes that give the numbers, or else the first step that departs."""

    def gives(names: tuple[str, ...], everywhere: bool = False) -> bool:
        for values, inputs in zip(found, exercise.batches, strict=True):
            mask = torch.ones_like(inputs[-1]) if everywhere else inputs[-1]  # (B, S)
            # A row that may read nothing is a plain mean, or NaN, or in torch's own attention zeros.
            blank = exercise.right(inputs, *names, MINUS_INFINITY)
            forms = (exercise.right(inputs, *names), blank, blank.nan_to_num())
            if all(_distance(values, form, mask) > EQUAL for form in forms):
                return False
        return True

    singles: list[tuple[str, ...]] = [(name,) for name in exercise.known]
    matching = [names for names in singles if gives(names)]
    matching = matching or [names for names in itertools.combinations(exercise.known, 2) if gives(names)]
    # Some mistakes differ only in what they leave in rows of padding.
    matching = [names for names in matching if gives(names, everywhere=True)] or matching
    lines = [f"Not right: the numbers differ by up to {far:.2g} of the largest number."]
    for names in matching:
        lines.append(f"They are what you get if {', and '.join(MISTAKES[name] for name in names)}.")
    if not matching:
        lines += ["No known mistake, alone or with another, gives these numbers.", _first_step(mine, exercise)]
    return Verdict(False, "\n".join(lines), tuple(matching))


def _first_step(mine: Callable[..., Any], exercise: Exercise) -> str:
    for step in exercise.steps:
        try:
            with torch.no_grad():
                found, _ = _call(mine, step.inputs)
            far = _distance(found, exercise.right(step.inputs), step.inputs[-1])
        except Exception as error:  # the code is the reader's
            return f"With {step.what}, the function stops: {type(error).__name__}: {error}"
        if far > EQUAL:
            return f"They first depart with {step.what}: by {far:.2g} of the largest number. {step.look}"
    return "With simpler input they are right, so the mistake depends on the sizes of the batch."


def _problem_of_patterns(patterns: Sequence[Any], batches: Sequence[Inputs]) -> str | None:
    for pattern, inputs in zip(patterns, batches, strict=True):
        if isinstance(pattern, Tensor):
            sums = _tokens(pattern.sum(dim=-1, keepdim=True))[inputs[-1]]  # (T, N, 1)
            off = float((sums - 1).abs().max())
            if not off <= EQUAL:
                return f"But rows of the pattern do not sum to 1: they are off by up to {off:.2g}."
    return None


def _problem_of_properties(mine: Callable[..., Any], inputs: Inputs) -> str | None:
    *values, mask = inputs
    with torch.no_grad():
        before, _ = _call(mine, inputs)
        padding = [_tokens(torch.where(mask.view(*mask.shape, *[1] * (x.dim() - 2)), _tokens(x), PADDING * _tokens(x)))
                   for x in values]  # fmt: skip
        after, _ = _call(mine, (*padding, mask))
        leak = _distance(after, before, mask)
        if leak > EQUAL:
            return f"But padding leaks: with larger numbers there, real tokens change by {leak:.2g} of the largest."
        row = [x[:1] for x in inputs]  # the first row has no padding
        turned = [_tokens(_tokens(x).flip(1)) for x in row[:-1]]
        backwards, _ = _call(mine, (*turned, row[-1]))
        moved = _distance(_tokens(_tokens(backwards).flip(1)), before[:1], row[-1])
    if moved > EQUAL:
        return "But tokens in another order give other vectors; attention itself knows nothing about the order."
    return None


def _problem_of_gradients(mine: Callable[..., Any], exercise: Exercise) -> str | None:
    gradients = []
    for function, dtype in (
        (lambda *x: _call(mine, x)[0], torch.float32),
        (lambda *x: exercise.right(x), torch.double),
    ):
        inputs = [x.to(dtype).requires_grad_() if x.is_floating_point() else x for x in exercise.batches[0]]
        leaves = [x for x in inputs if x.requires_grad]
        real = _tokens(function(*inputs))[inputs[-1]]  # (T, ...)
        if not real.requires_grad:
            return "But gradients do not get through: is something detached, or computed under no_grad?"
        weights = torch.linspace(-1, 1, real.numel(), dtype=dtype).view(real.shape)  # (T, ...)
        gradients.append(torch.autograd.grad((real * weights).sum(), leaves, allow_unused=True))
    for name, ours, right in zip(exercise.names, *gradients, strict=True):
        if ours is None:
            return f"But {name} gets no gradient: is it detached?"
        far = float((ours.double() - right).abs().max() / right.abs().max())
        if not far <= 10 * EQUAL:
            return f"But the gradient of {name} is wrong: by {far:.2g} of its largest number."
    return None
