"""Traces: every value has a name and the shape that trace.py says, and can be replaced."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from minibert import Layout, Trace
from minibert import trace as trace_module
from minibert.io.errors import InputError
from tests.lesson import reference as ref
from tests.lesson.reference import CASES, B, D, F, L, N, S, V, batch, pair

H = D // N
RATES = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2}


def _inputs(family: str, name: str, labels: bool = False) -> dict[str, Tensor]:
    wanted = ("input_ids", "attention_mask", "token_type_ids", *(("labels",) if labels else ()))
    return {key: value for key, value in batch(family, name).items() if key in wanted}


def _names(family: str, name: str) -> list[str]:
    _, ours = pair(family, name)
    trace = Trace("*")
    with torch.no_grad():
        ours(**_inputs(family, name), trace=trace)
    return trace.names


def _shape(name: str, tokens: int, rows: int) -> tuple[int, ...]:
    """What the docstring of trace.py says."""
    last = name.rsplit(".", 1)[1]
    if last in ("scores", "pattern"):
        return (rows, N, S, S)
    if last in ("query", "key", "value", "context"):
        return (tokens, N, H)
    if last in ("inner", "activation") and "feed_forward" in name:
        return (tokens, F)
    return (rows, D) if name.startswith("pooler") else (tokens, D)


@pytest.mark.parametrize("implementation", ["by_hand", "sdpa"])
@pytest.mark.parametrize(("family", "name"), CASES)
def test_every_name_is_readable_with_its_shape(family, name, implementation):
    _, ours = pair(family, name)
    ref.attend_by(ours, implementation)
    inputs = _inputs(family, name)
    real = ref.real_cells(inputs)
    trace = Trace("*")
    ours(**inputs, trace=trace)
    assert list(trace.values) == trace.names == list(dict.fromkeys(trace.names))
    for value_name in trace.names:
        value = trace[value_name]
        if not value_name.startswith(("head", "masked_lm", "next_sentence")):
            assert value.shape == _shape(value_name, int(real.sum()), len(real)), value_name
        if len(value) == int(real.sum()):
            padded = trace.padded(value_name)
            assert padded.shape == (*real.shape, *value.shape[1:])
            assert torch.equal(padded[real], trace.layout.pad(value)[real])
            assert not padded[~real].any()
    heads = [value_name for value_name in trace.names if value_name.endswith(".logits")]
    assert len(heads) == {"BertModel": 0, "BertForPreTraining": 2}.get(name, 1)


def test_the_names_of_a_model_are_those_that_the_module_lists():
    listed = trace_module.__doc__.split("Names and shapes")[1]
    for name in _names("bert", "BertModel"):
        part, _, last = re.sub(r"layers\.\d+", "layers.3", name).rpartition(".")
        line = next(line for line in listed.splitlines() if f".{last} " in line and part in line)
        assert line


@pytest.mark.parametrize(("family", "name"), CASES)
def test_replacing_each_name_in_turn_changes_the_output(family, name):
    _, ours = pair(family, name)
    inputs = _inputs(family, name)
    with torch.no_grad():
        plain = _numbers(ours(**inputs))
        for value_name in _names(family, name):
            trace = Trace(replace={value_name: _disturbed})
            changed = _numbers(ours(**inputs, trace=trace))
            assert (changed - plain).abs().max() > 1e-6, value_name
            same = Trace(replace={value_name: lambda value: value})
            assert (_numbers(ours(**inputs, trace=same)) - plain).abs().max() < 1e-12


def _disturbed(value: Tensor) -> Tensor:
    """Another value; not a shift, which the softmax above scores would not see."""
    return value * 1.5 + torch.linspace(-0.5, 0.5, value.shape[-1], dtype=value.dtype)


def _numbers(result: Any) -> Tensor:
    """All outputs in one line; -inf at padded columns left out."""
    keys = ("last_hidden_state", "pooled", "logits", "prediction_logits")
    keys += ("seq_relationship_logits", "start_logits", "end_logits")
    parts = [getattr(result, key, None) for key in keys]
    line = torch.cat([part.flatten() for part in parts if isinstance(part, Tensor)])
    return line[line.isfinite()]


@pytest.mark.parametrize("implementation", ["by_hand", "sdpa"])
@pytest.mark.parametrize("training", [True, False])
def test_reading_changes_no_bit_of_outputs_and_gradients(training, implementation):
    """Names that exist under SDPA; in training with dropout, from the same seed."""
    name = "BertForTokenClassification"
    _, ours = pair("bert", name, torch.float32, **RATES)
    ref.attend_by(ours, implementation)
    ours.train(training)
    inputs = _inputs("bert", name, labels=True)
    results = []
    asked = ("embeddings.*", "*.query", "*.context", "*.norm", "*.activation", "head.*")
    for trace in (None, Trace(*asked), Trace(*asked, replace={"*.value": lambda value: value})):
        torch.manual_seed(5)
        ours.zero_grad()
        result = ours(**inputs, trace=trace)
        result.loss.backward()
        gradients = [parameter.grad.clone() for parameter in ours.parameters()]
        results.append([result.logits, result.loss, *gradients])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_reading_the_pattern_in_full_batches_changes_no_bit_by_hand():
    """With rows of one length, the padded table is the one group there is."""
    _, ours = pair("bert", "BertModel", torch.float32, **RATES)
    ref.attend_by(ours.train(), "by_hand")
    ids = batch("bert", "BertModel", "full")["input_ids"]
    results = []
    for trace in (None, Trace("*.scores", "*.pattern")):
        torch.manual_seed(6)
        results.append(ours(ids, torch.ones_like(ids), trace=trace).last_hidden_state)
    assert torch.equal(*results)


def test_only_the_layer_that_is_asked_leaves_sdpa(monkeypatch):
    calls = []
    by_hand = ref.minibert.attention.attention_by_hand

    def watched(*args: Any) -> Any:
        calls.append(1)
        return by_hand(*args)

    monkeypatch.setattr(ref.minibert.attention, "attention_by_hand", watched)
    _, ours = pair("bert", "BertModel")
    inputs = _inputs("bert", "BertModel")
    ours(**inputs, trace=Trace("*.query", "*.context"))
    assert not calls
    ours(**inputs, trace=Trace("layers.1.attention.pattern"))
    assert len(calls) == 1


def test_the_pattern_of_a_trace_is_that_of_output_attentions():
    _, ours = pair("bert", "BertModel", **RATES)
    ours.train()
    trace = Trace("*.pattern")
    result = ours(**_inputs("bert", "BertModel"), output_attentions=True, trace=trace)
    for layer, pattern in enumerate(result.attentions):
        assert torch.equal(pattern, trace[f"layers.{layer}.attention.pattern"])
    assert any((pattern == 0).any() for pattern in result.attentions)  # after dropout


def _without_head(number: int) -> Callable[[Tensor], Tensor]:
    def zero(context: Tensor) -> Tensor:
        keep = torch.ones(context.shape[1], 1, dtype=context.dtype)
        keep[number] = 0
        return context * keep

    return zero


@pytest.mark.parametrize("head", range(N))
def test_ablating_a_head_is_zeroing_its_columns_of_the_output_projection(head):
    _, ours = pair("bert", "BertModel")
    inputs = _inputs("bert", "BertModel")
    name = "layers.1.attention.context"
    with torch.no_grad():
        plain = ours(**inputs).last_hidden_state
        ablated = ours(**inputs, trace=Trace(replace={name: _without_head(head)}))
        cut = copy.deepcopy(ours)
        cut.encoder.layers[1].attention.output.weight[:, head * H : (head + 1) * H] = 0
        expected = cut(**inputs).last_hidden_state
    assert (ablated.last_hidden_state - expected).abs().max() < 1e-12
    assert (plain - expected).abs().max() > 1e-3


REPLACED = {
    "a head of one layer": {"layers.0.attention.context": _without_head(2)},
    "patterns everywhere": {"*.pattern": lambda pattern: pattern * 0.5},
    "the last layer": {"layers.1.feed_forward.activation": _disturbed},
}


@pytest.mark.parametrize("which", REPLACED)
def test_checkpointing_gives_the_gradients_of_the_replaced_pass(which):
    name = "BertForTokenClassification"
    inputs = _inputs("bert", name, labels=True)
    found = []
    for checkpointing in (False, True):
        _, ours = pair("bert", name, torch.float32, **RATES)
        ours.train().use_gradient_checkpointing(checkpointing)
        torch.manual_seed(7)
        trace = Trace("*.query", replace=REPLACED[which])
        loss = ours(**inputs, trace=trace).loss
        names = list(trace.names)
        loss.backward()
        assert trace.names == names and len(trace.values) == L  # a recomputation records nothing
        found.append([parameter.grad for parameter in ours.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_checkpointing_sees_the_trace_of_its_own_pass_when_another_ran_in_between():
    name = "BertForTokenClassification"
    inputs = _inputs("bert", name, labels=True)
    found = []
    for disturbed in (False, True):
        _, ours = pair("bert", name, torch.float32)
        ours.train().use_gradient_checkpointing()
        loss = ours(**inputs, trace=Trace(replace={"*.context": _without_head(0)})).loss
        if disturbed:
            ours(**inputs, trace=Trace("*", replace={"*.context": _without_head(3)}))
        loss.backward()
        found.append([parameter.grad for parameter in ours.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_gradients_flow_through_values_that_are_read():
    _, ours = pair("bert", "BertModel")
    trace = Trace("layers.0.attention.scores")
    result = ours(**_inputs("bert", "BertModel"), trace=trace)
    (gradient,) = torch.autograd.grad(result.last_hidden_state.sum(), [trace[trace.read[0]]])
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("use", ["read", "replace"])
@pytest.mark.parametrize("misspelt", ["layers.0.attention.pattrn", "layers.7.*", "head.logits"])
def test_misspelt_names_raise(misspelt, use):
    _, ours = pair("bert", "BertModel")
    trace = Trace(misspelt) if use == "read" else Trace(replace={misspelt: torch.neg})
    with pytest.raises(InputError) as caught:
        ours(**_inputs("bert", "BertModel"), trace=trace)
    if misspelt.endswith("pattrn"):
        assert "Near it: layers.0.attention." in str(caught.value)


def test_asking_a_trace_for_what_it_does_not_hold():
    _, ours = pair("bert", "BertModel")
    trace = Trace("embeddings.norm", "*.pattern", "pooler.output")
    ours(**_inputs("bert", "BertModel"), trace=trace)
    with pytest.raises(InputError):
        trace["embeddings.sum"]
    with pytest.raises(InputError) as caught:
        trace["embeddings.nrm"]
    assert caught.value.key == "embeddings.nrm"
    assert "embeddings.norm" in str(caught.value)  # the nearest name
    for unpacked in ("layers.0.attention.pattern", "pooler.output"):
        with pytest.raises(InputError):
            trace.padded(unpacked)


@pytest.mark.parametrize("wrong", [lambda value: value[:1], lambda value: value.float()])
def test_replacements_of_another_shape_or_dtype_are_refused(wrong):
    _, ours = pair("bert", "BertModel")
    trace = Trace(replace={"embeddings.norm": wrong})
    with pytest.raises(InputError) as caught:
        ours(**_inputs("bert", "BertModel"), trace=trace)
    assert caught.value.key == "embeddings.norm"


def test_a_trace_forgets_the_pass_before():
    _, ours = pair("bert", "BertModel")
    trace = Trace("embeddings.word")
    for columns in (5, 3):
        ids = torch.randint(1, V, (B, columns))
        ours(ids, trace=trace)
        assert trace["embeddings.word"].shape == (B * columns, D)
        assert len(trace.names) == len(set(trace.names))
        assert isinstance(trace.layout, Layout) and trace.layout.columns == columns
