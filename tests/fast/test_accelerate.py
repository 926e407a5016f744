"""accelerate: faster parts in place, with the lesson's numbers; what has been changed stays."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from minibert import Trace
from minibert.attention import SelfAttention, attend_by_length, attention_by_hand
from minibert.fast import attend as fast
from minibert.fast import rows, varlen
from minibert.fast.accelerate import accelerate
from minibert.fast.attend import attend_fast
from minibert.fast.dropout import FastDropout
from tests.conftest import BOUNDS
from tests.lesson import reference as ref
from tests.lesson.reference import CASES, N, batch, outputs, pair, run

RATES = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("family", "name"), CASES)
def test_outputs_and_gradients_are_those_of_the_lesson(family, name, training):
    inputs = batch(family, name)
    found = []
    for change in (lambda model: model, accelerate):
        _, ours = pair(family, name, torch.float32)
        ours = change(ours.train(training))
        result = run(ours, inputs)
        ref.loss_of(name, result, inputs).backward()
        gradients = {key: part.grad for key, part in ours.named_parameters()}
        assert None not in gradients.values()
        found.append({**outputs(name, result, inputs), **gradients})
    ref.assert_close(found[0], found[1], BOUNDS["by hand against sdpa fp32"])


def test_parts_keep_their_parameters_mode_and_hooks():
    _, ours = pair("bert", "BertForSequenceClassification", **RATES)
    ours.freeze(ours.bert.embeddings)
    parameters, seen = list(ours.parameters()), []
    ours.bert.encoder.layers[0].attention_dropout.register_forward_hook(lambda *hooked: seen.append(1))
    assert accelerate(ours) is ours
    ours.train()
    assert all(old is new for old, new in zip(parameters, ours.parameters(), strict=True))
    assert isinstance(ours.bert.embeddings.dropout, FastDropout)
    assert not ours.bert.embeddings.dropout.training and ours.head.dropout.training
    run(copy.deepcopy(ours), batch("bert", "BertForSequenceClassification"))
    assert seen


def test_what_has_been_changed_stays():
    def zero(query, key, value, layout, dropout_p):
        return torch.zeros_like(query)

    class Own(nn.Dropout):
        pass

    _, ours = pair("bert", "BertModel")
    ours.encoder.layers[0].attention.attend = zero
    ours.embeddings.dropout = Own(0.5)
    accelerate(ours)
    assert ours.encoder.layers[0].attention.attend is zero
    assert ours.encoder.layers[1].attention.attend is attend_fast
    assert type(ours.embeddings.dropout) is Own
    assert not isinstance(ours.encoder, rows.FilledEncoder)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("rate", [0.1, 0.0])
def test_chunks_for_gradients_and_sdpa_without_on_a_cpu(rate, gradients, monkeypatch):
    taken = []
    for name in ("attention_in_chunks", "attend_by_length"):
        function = getattr(fast, name)

        def watched(*args, name=name, function=function, **kwargs):
            taken.append(name)
            return function(*args, **kwargs)

        monkeypatch.setattr(fast, name, watched)
    _, ours = pair("bert", "BertModel", attention_probs_dropout_prob=rate)
    for layer in ours.encoder.layers:
        layer.attention.attend = attend_fast
    with torch.set_grad_enabled(gradients):
        run(ours.train(), batch("bert", "BertModel"))
    assert set(taken) == {"attention_in_chunks" if gradients else "attend_by_length"}


def test_varlen_is_given_every_row_with_its_boundaries(monkeypatch):
    """The kernel runs on GPUs only: a plain one in its place, with its signature, sees the rows."""

    def in_loops(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, dropout_p, is_causal, debug):
        assert dropout_p == 0.25 and not is_causal and not debug
        assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
        lengths = cu_seq_q.diff().tolist()
        assert max_q == max_k == max(lengths) and cu_seq_q[0] == 0 and min(lengths) > 0
        rows = (part.split(lengths) for part in (query, key, value))
        blocks = [[part.transpose(0, 1)[None] for part in row] for row in zip(*rows, strict=True)]
        context = torch.cat([attention_by_hand(*block)[0].transpose(0, 1) for block in blocks])
        return context, None, None, None, None

    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", in_loops)
    name = "BertForTokenClassification"
    for kind in ("holes", "full", "left"):
        inputs = batch("bert", name, kind)
        found = []
        for attend in (attend_by_length, lambda q, k, v, layout, p: varlen.attention_varlen(q, k, v, layout, 0.25)):
            _, ours = pair("bert", name)
            for layer in ours.body.encoder.layers:
                layer.attention.attend = attend
            found.append(outputs(name, run(ours, inputs), inputs))
        ref.assert_close(found[0], found[1], BOUNDS["fp64"])


@pytest.mark.parametrize(
    ("dtype", "size", "recent", "expected"),
    [
        (torch.bfloat16, 8, True, True),
        (torch.float16, 256, True, True),
        (torch.bfloat16, 12, True, False),
        (torch.bfloat16, 264, True, False),
        (torch.float32, 8, True, False),
        (torch.bfloat16, 8, False, False),
    ],
)
def test_varlen_is_used_where_it_can_compute_what_is_asked(dtype, size, recent, expected, monkeypatch):
    monkeypatch.setattr(varlen, "_has_varlen", lambda device: recent)
    monkeypatch.setattr(fast, "attention_varlen", lambda *given: ("varlen", given[4]))
    monkeypatch.setattr(fast, "attend_by_length", lambda *given: ("sdpa", given[4]))
    query = torch.empty(1, N, size, dtype=dtype, device="meta")  # any device but a CPU
    layout = SimpleNamespace(groups=((1, 1),))
    found = attend_fast(query, query, query, layout, 0.1)
    assert found == ("varlen" if expected else "sdpa", 0.1)


def _in_bf16(monkeypatch, count, train, poison=False):
    """Loss, logits and gradients under autocast, with rows filled up to a multiple of `count`.

    And how many rows the feed-forward blocks saw.
    """
    monkeypatch.setattr(rows, "_has_amx", lambda: True)
    monkeypatch.setattr(rows, "_ROWS", count)
    if poison:  # memory as it may be found
        like = torch.empty_like
        monkeypatch.setattr(torch, "empty_like", lambda part: like(part).fill_(float("nan")))
    inputs = batch("bert", "BertForSequenceClassification", "right")
    _, ours = pair("bert", "BertForSequenceClassification", torch.float32)
    accelerate(ours.train(train))
    seen = []
    for layer in ours.body.encoder.layers:
        layer.feed_forward.register_forward_hook(lambda *hooked: seen.append(len(hooked[1][0])))
    with torch.autocast("cpu", torch.bfloat16):
        output = ours(**inputs)
    output.loss.backward()
    monkeypatch.undo()
    gradients = [parameter.grad for parameter in ours.parameters()]
    return [output.loss.detach(), output.logits.detach(), *gradients], set(seen)


@pytest.mark.parametrize("train", [True, False])
def test_spare_rows_change_nothing_in_16_bits(monkeypatch, train):
    plain, seen = _in_bf16(monkeypatch, 1, train)
    assert seen == {13}  # T: 7 + 4 + 2
    filled, seen = _in_bf16(monkeypatch, 32, train, poison=True)
    assert seen == {32}
    for one, other in zip(plain, filled, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=BOUNDS["module bf16"])
        assert one.abs().max() > 0


def test_there_are_no_spare_rows_in_32_bits_without_amx_or_for_traces(monkeypatch):
    inputs = batch("bert", "BertModel", "right")
    _, ours = pair("bert", "BertModel", torch.float32)
    accelerate(ours)
    seen = []
    ours.encoder.layers[0].feed_forward.register_forward_hook(lambda *hooked: seen.append(len(hooked[2])))
    monkeypatch.setattr(rows, "_has_amx", lambda: True)
    ours(**inputs)
    with torch.autocast("cpu", torch.bfloat16):
        ours(**inputs)
        with torch.no_grad():
            ours(**inputs)
        states = ours(**inputs, output_hidden_states=True).hidden_states
        ours(**inputs, trace=Trace("layers.0.attention.norm"))
        ours(**inputs, output_attentions=True)
        monkeypatch.setattr(rows, "_has_amx", lambda: False)
        ours(**inputs)
    assert seen == [13, 32, 32, 13, 13, 13, 13]
    assert {state.shape for state in states} == {(ref.B, ref.S, ref.D)}


def test_spare_rows_and_recomputation_and_dropout(monkeypatch):
    monkeypatch.setattr(rows, "_has_amx", lambda: True)
    inputs = batch("bert", "BertForSequenceClassification", "right")
    found = []
    for checkpointing in (False, True):
        _, ours = pair("bert", "BertForSequenceClassification", torch.float32, **RATES)
        accelerate(ours.train()).use_gradient_checkpointing(checkpointing)
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16):
            loss = ours(**inputs).loss
        loss.backward()
        found.append([parameter.grad for parameter in ours.parameters()])
    for plain, recomputed in zip(*found, strict=True):
        assert torch.equal(plain, recomputed) and plain.isfinite().all()


def test_a_subclass_of_attention_stays():
    class Own(SelfAttention):
        pass

    _, ours = pair("bert", "BertModel")
    ours.encoder.layers[0].attention.__class__ = Own
    accelerate(ours)
    assert ours.encoder.layers[0].attention.attend is attend_by_length
    assert not isinstance(ours.encoder, rows.FilledEncoder)
