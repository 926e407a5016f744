"""The doctor: names every known mistake, alone and in pairs, and says nothing against a BERT that is right."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional as F

from minibert import BertModel, checkpoint
from minibert.io.errors import DataError, InputError
from minibert.study import mistakes
from minibert.study.doctor import EQUAL, SIZES, diagnose, distance, make_case, make_cases
from minibert.study.mistakes import MISTAKES, forward
from minibert.workbench.cli import main
from minibert.workbench.tasks.doctor import examine_file
from tests.lesson.reference import our_config

PAIRS = [*itertools.combinations(MISTAKES, 2)]
# A mistake -> those that change nothing where it is made, too: the doctor names it alone.
HIDES = {
    "no positions": ["positions from one"],
    "no segments": ["one segment"],
    "no embedding norm": ["eps 1e-5"],  # the other norms read large numbers
    "pre-norm": ["norm inside the residual", "residual of the sum"],
    "norm inside the residual": ["residual of the sum"],  # what is handed on is the sum
    "no feed-forward residual": ["residual of the sum"],
    "no scale": ["scale by D", "scale without root"],
    "scale by D": ["scale without root"],
    "padding attended": ["mask on queries", "masked scores of zero", "mask after the softmax"],
    "mask on queries": ["masked scores of zero"],  # differs in rows of padding alone
    "causal": ["padding attended", "mask on queries"],  # padding is on the right
    "softmax over queries": ["masked scores of zero", "softmax over heads"],  # one number in all of a key's column
    "softmax over heads": ["masked scores of zero"],
    "interleaved heads": ["heads cut without a swap"],
    "no output projection": ["output transposed"],
    "tanh gelu": ["sigmoid gelu", "relu", "silu", "no activation"],
    "sigmoid gelu": ["relu", "silu", "no activation"],
    "relu": ["silu", "no activation"],
    "silu": ["no activation"],
    "no activation": ["activation after the second map"],
    "first layer repeated": ["layers reversed"],
    "pooler of the mean": ["pooler of the last token"],
}
SAME_ORDER = [("query and key swapped", "key and value swapped"), ("key and value swapped", "query and value swapped")]
NAMES = {frozenset((winner, other)): [(winner,)] for winner, others in HIDES.items() for other in others}
NAMES |= {frozenset(pair): SAME_ORDER for pair in SAME_ORDER}


def with_mistakes(*names):
    def build(config, tensors):
        def bert(ids, mask, segments):
            values = forward(config, tensors, ids, mask, segments, frozenset(names))
            return {"hidden": values["hidden"], "pooled": values["pooled"]}

        return bert

    return build


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_is_named_and_no_other(name):
    verdict = diagnose(with_mistakes(name))
    assert not verdict.equal and verdict.mistakes == [(name,)]
    assert MISTAKES[name] in str(verdict)


@pytest.mark.parametrize("pair", random.Random(2).sample(PAIRS, 2), ids=" and ".join)
def test_pairs_are_named(pair):
    assert diagnose(with_mistakes(*pair)).mistakes == NAMES.get(frozenset(pair), [pair])


@pytest.mark.full
def test_pairs_that_cannot_be_told_apart_are_listed():
    cases = make_cases(0)
    sets = [(name,) for name in MISTAKES] + PAIRS
    vectors = []
    for names in sets:
        found = [case.values(*names) for case in cases]
        hidden = [values["hidden"][case.mask.bool()] for values, case in zip(found, cases, strict=True)]
        vectors.append(torch.cat([x.flatten() for x in (*hidden, *(values["pooled"] for values in found))]))  # (all,)
    numbers = torch.stack(vectors)  # (sets, all)
    alike = {}
    for pair, vector in zip(PAIRS, vectors[len(MISTAKES) :], strict=True):
        far = (numbers - vector).abs().amax(dim=1)  # (sets,)
        same = [names for names, one in zip(sets, far.tolist(), strict=True) if one <= EQUAL]
        singles = [names for names in same if len(names) == 1]
        if (singles or same) != [pair]:
            alike[frozenset(pair)] = singles or same
    assert alike == NAMES


@pytest.mark.full
@pytest.mark.parametrize("pair", random.Random(1).sample(PAIRS, 50), ids=" and ".join)
def test_fifty_pairs_are_named(pair):
    assert diagnose(with_mistakes(*pair)).mistakes == NAMES.get(frozenset(pair), [pair])


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1, 20))
def test_every_mistake_is_named_with_other_weights(seed):
    wrong = {
        name: found for name in MISTAKES if (found := diagnose(with_mistakes(name), seed=seed).mistakes) != [(name,)]
    }
    assert wrong == {}


# Five that are right.


def by_transformers(config, tensors):
    model = transformers.BertModel(transformers.BertConfig(**config))
    model.load_state_dict(tensors)
    return lambda ids, mask, segments: model.eval()(ids, mask, segments)


def by_minibert(config, tensors):
    model = BertModel(our_config(config))
    checkpoint.load_state_dict(model, tensors)
    return lambda ids, mask, segments: model.eval()(ids, mask, segments)


def by_numpy(config, tensors):
    w = {name: tensor.numpy().astype(np.float64) for name, tensor in tensors.items()}

    def affine(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def layer_norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    erf = np.vectorize(math.erf)

    def bert(ids, mask, segments):
        ids, mask, segments = ids.numpy(), mask.numpy().astype(bool), segments.numpy()
        rows, columns = ids.shape
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][:columns]
        x = layer_norm(x + w["embeddings.token_type_embeddings.weight"][segments], "embeddings.LayerNorm")
        heads = config["num_attention_heads"]
        for number in range(config["num_hidden_layers"]):
            name = f"encoder.layer.{number}"
            q, k, v = (
                affine(x, f"{name}.attention.self.{part}").reshape(rows, columns, heads, -1)
                for part in ("query", "key", "value")
            )
            scores = np.einsum("bqnh,bknh->bnqk", q, k) / q.shape[-1] ** 0.5
            scores = np.where(mask[:, None, None], scores, -np.inf)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            context = np.einsum("bnqk,bknh->bqnh", weights, v).reshape(x.shape)
            x = layer_norm(x + affine(context, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
            inner = affine(x, f"{name}.intermediate.dense")
            inner = inner * (1 + erf(inner / math.sqrt(2))) / 2
            x = layer_norm(x + affine(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        return x

    return bert


def from_the_paper(config, tensors):
    """One token and one head at a time, as the equations of Vaswani et al. read; padding is cut off first."""
    size, heads = config["hidden_size"], config["num_attention_heads"]
    width = size // heads

    def layer(x, name):
        t = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        outputs = []
        for position in range(len(x)):
            parts = []
            for head in range(heads):
                rows = slice(head * width, (head + 1) * width)

                def make(kind, y, rows=rows):
                    return t[f"attention.self.{kind}.weight"][rows] @ y + t[f"attention.self.{kind}.bias"][rows]

                query = make("query", x[position])
                scores = torch.stack([query @ make("key", y) / width**0.5 for y in x])
                parts.append(sum(p * make("value", y) for p, y in zip(scores.softmax(0), x, strict=True)))
            outputs.append(t["attention.output.dense.weight"] @ torch.cat(parts) + t["attention.output.dense.bias"])

        def ln(y, key):
            return F.layer_norm(y, (size,), t[f"{key}.weight"], t[f"{key}.bias"], 1e-12)

        x = [ln(a + b, "attention.output.LayerNorm") for a, b in zip(x, outputs, strict=True)]
        fed = [F.gelu(t["intermediate.dense.weight"] @ y + t["intermediate.dense.bias"]) for y in x]
        fed = [t["output.dense.weight"] @ y + t["output.dense.bias"] for y in fed]
        return [ln(a + b, "output.LayerNorm") for a, b in zip(x, fed, strict=True)]

    def bert(ids, mask, segments):
        result = torch.zeros(*ids.shape, size)
        tables = [tensors[f"embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type")]
        norm = [tensors[f"embeddings.LayerNorm.{n}"] for n in ("weight", "bias")]
        for row in range(len(ids)):
            x = []
            for place in range(int(mask[row].sum())):
                chosen = (ids[row, place], place, segments[row, place])
                x.append(F.layer_norm(sum(t[i] for t, i in zip(tables, chosen, strict=True)), (size,), *norm, 1e-12))
            for number in range(config["num_hidden_layers"]):
                x = layer(x, f"encoder.layer.{number}")
            result[row, : len(x)] = torch.stack(x)
        return result

    return bert


@pytest.mark.parametrize("build", [by_transformers, by_minibert, with_mistakes(), by_numpy, from_the_paper])
def test_nothing_is_said_against_a_bert_that_is_right(build):
    for seed in range(2):
        verdict = diagnose(build, seed=seed)
        assert verdict.equal and verdict.difference < 1e-5 and verdict.mistakes == []
    assert "Equal to BERT" in str(verdict)


# Twenty mistakes that are not in the catalogue: changes of the weights, or of a part.

TABLES = "embeddings.{}_embeddings.weight"


def changed(part, change):
    """A BERT whose tensors with a part of a name are changed when they are loaded."""

    def build(config, tensors):
        tensors = {name: change(tensor) if part in name else tensor for name, tensor in tensors.items()}
        return with_mistakes()(config, tensors)

    return build


def replaced(name, function):
    """A BERT with another function in place of a part of `mistakes`."""

    def build(config, tensors):
        right = getattr(mistakes, name)

        def bert(*batch):
            setattr(mistakes, name, lambda *given, **more: function(right, *given, **more))
            try:
                return with_mistakes()(config, tensors)(*batch)
            finally:
                setattr(mistakes, name, right)

        return bert

    return build


def seen(keys):
    """A BERT that reads fewer keys, those where keys(S) is not 0."""
    return replaced("visible", lambda right, mask, m: right(mask, m) & keys(mask.shape[1]).bool())


UNKNOWN = {
    "positions reversed": changed("position_embeddings", lambda t: t.flip(0)),
    "segments exchanged": changed("token_type", lambda t: t.flip(0)),
    "words halved": changed("word_embeddings", lambda t: t / 2),
    "dimension lost": changed("word_embeddings", lambda t: t * (torch.arange(t.shape[1]) != 5)),
    "heads reversed": changed("self.value.weight", lambda t: t.flip(0)),
    "key bias doubled, query weight halved": changed("self.query.weight", lambda t: t / 2),
    "value bias lost": changed("self.value.bias", torch.zeros_like),
    "intermediate bias lost": changed("intermediate.dense.bias", torch.zeros_like),
    "gain squared": changed("output.LayerNorm.weight", torch.square),
    "norm bias negated": changed("attention.output.LayerNorm.bias", torch.neg),
    "half of the neurons": changed("intermediate.dense.weight", lambda t: t * (torch.arange(len(t)) % 2)[:, None]),
    "weights rounded": changed("weight", lambda t: t.to(torch.float8_e4m3fn).float()),
    "softmax of twice the scores": changed("self.key", lambda t: 2 * t),
    "residual halved": replaced("layer", lambda right, c, w, x, *more: right(c, w, x / 2, *more)),
    "layer twice": replaced("layer", lambda right, c, w, x, *more: right(c, w, right(c, w, x, *more), *more)),
    "norm without the mean": replaced("norm", lambda right, c, w, x, m: x / x.norm(dim=-1, keepdim=True) * w["weight"]),
    "no reading of oneself": seen(lambda size: 1 - torch.eye(size)),
    "a window of one": seen(lambda size: torch.ones(size, size).tril(1).triu(-1)),
    "first token not read": seen(lambda size: torch.arange(size).sign()),
    "feed-forward twice": replaced("feed_forward", lambda right, w, x, m: right(w, right(w, x, m), m)),
}  # fmt: skip


@pytest.mark.parametrize("name", [*list(UNKNOWN)[::4], *(pytest.param(n, marks=pytest.mark.full) for n in UNKNOWN)])
def test_an_unknown_mistake_gets_no_wrong_name(name):
    verdict = diagnose(UNKNOWN[name])
    assert not verdict.equal and verdict.mistakes == [] and len(verdict.evidence) == 4


@pytest.mark.parametrize(
    ("name", "first"),
    [("segments exchanged", "embeddings"), ("softmax of twice the scores", "layers.0.scores")]
    + [("no reading of oneself", "layers.0.pattern"), ("value bias lost", "layers.0.context")]
    + [("norm bias negated", "layers.0.attention"), ("feed-forward twice", "layers.0.output")],
)
def test_the_first_value_that_departs(name, first):
    def build(config, tensors):
        def bert(*batch):
            inside = {}
            whole = mistakes.forward

            def keeping(*given):
                inside.update(whole(*given))
                return inside

            globals()["forward"] = keeping
            try:
                UNKNOWN[name](config, tensors)(*batch)
            finally:
                globals()["forward"] = whole
            return inside

        return bert

    verdict = diagnose(build)
    assert verdict.departs == first and first in str(verdict)


def test_evidence_tells_when_the_numbers_are_right():
    def only_with_padding(config, tensors):
        right = with_mistakes()(config, tensors)
        return lambda ids, mask, segments: right(ids, mask, segments)["hidden"] * (1 + (mask == 0).any() * 0.1)

    evidence = " ".join(diagnose(only_with_padding).evidence)
    assert "With a row without padding the numbers are right. Look at the mask." in evidence
    assert "With segments that are all 0 the numbers are wrong" in evidence


def test_dropout_is_noticed():
    def build(config, tensors):
        right = with_mistakes()(config, tensors)
        return lambda *batch: F.dropout(right(*batch)["hidden"], 0.1)

    [sentence] = diagnose(build).evidence
    assert "dropout" in sentence


def test_an_error_of_the_code_is_part_of_the_verdict():
    verdict = diagnose(lambda config, tensors: lambda ids, mask, segments: ids @ mask)
    assert not verdict.equal and "RuntimeError" in verdict.error and "RuntimeError" in str(verdict)
    with pytest.raises(InputError) as caught:
        diagnose(lambda config, tensors: lambda ids, mask, segments: ids)
    assert caught.value.key == "hidden"


@pytest.mark.parametrize(
    ("returned", "key"), [(None, "hidden"), ({}, "hidden"), ({"hidden": 1.0, "layer.0.scores": 1.0}, "values")]
)
def test_what_cannot_be_compared_is_refused_by_name(returned, key):
    with pytest.raises(InputError) as caught:
        diagnose(lambda config, tensors: lambda ids, mask, segments: returned)
    assert caught.value.key == key


def test_sizes_differ_and_every_tensor_matters():
    for sizes in SIZES:
        case = make_case(sizes, 0)
        batch, columns, heads, head_size, depth, inner, vocabulary = sizes
        every = [batch, columns, heads, head_size, depth, inner, vocabulary, heads * head_size]
        assert max(Counter(every).values()) == 1
        right = case.values()
        for name in case.tensors:
            if name.endswith("self.key.bias"):
                continue  # the softmax does not see it
            tensors = {**case.tensors, name: case.tensors[name] * 1.1}
            found = forward(case.config, tensors, case.ids, case.mask, case.segments)
            assert max(distance(found, right, case, each) for each in ("hidden", "pooled")) > 1e-4, name


def test_the_command(tmp_path, capsys):
    path = tmp_path / "my_bert.py"
    source = """
from minibert.study.mistakes import forward


def build(config, tensors):
    return lambda ids, mask, segments: forward(config, tensors, ids, mask, segments, {"tanh gelu"})["hidden"]
"""
    path.write_text(source)
    assert main(["doctor", str(path)]) == 1
    assert MISTAKES["tanh gelu"] in capsys.readouterr().out
    assert main(["doctor", str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["mistakes"] == [["tanh gelu"]]
    path.write_text(source.replace('{"tanh gelu"}', "set()"))
    assert main(["doctor", str(path)]) == 0
    path.write_text("def build(:")
    assert main(["doctor", str(path)]) == 1
    assert "SyntaxError" in capsys.readouterr().out
    path.write_text("x = 1")
    assert main(["doctor", str(path)]) == 2
    for wrong in (path, tmp_path / "none.py"):
        with pytest.raises(DataError):
            examine_file(wrong)
