"""transformers as the reference: tiny models on both sides with the same weights, and batches.

All sizes differ, so that no two axes can be taken for each other: B 3, S 7, D 32, N 4, H 8, L 2,
F 37, V 99, C 5. Weights go through the real table of names.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor, nn

import minibert
from minibert import BertConfig, BertOutput, checkpoint, names
from minibert.attention import attend_by_length, attention_by_hand
from minibert.fast.attend import attend_fast
from minibert.fast.chunked import attention_in_chunks

B, S, D, N, L, F, V, C = 3, 7, 32, 4, 2, 37, 99, 5

BARE = "BertModel"
TOKEN_HEADS = ("BertForMaskedLM", "BertForTokenClassification")
ROW_HEADS = ("BertForNextSentencePrediction", "BertForSequenceClassification", "BertForMultipleChoice")
SPAN_HEAD = "BertForQuestionAnswering"
ALL = (BARE, *TOKEN_HEADS, *ROW_HEADS, "BertForPreTraining", SPAN_HEAD)
CASES = [(family, name) for family in ("bert", "distilbert") for name in ALL]
CASES = [(family, name) for family, name in CASES if name in names.HEADS[family]]

SIZES = {
    "vocab_size": V,
    "hidden_size": D,
    "num_hidden_layers": L,
    "num_attention_heads": N,
    "intermediate_size": F,
    "max_position_embeddings": 19,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "qa_dropout": 0.0,
    "seq_classif_dropout": 0.0,
    "num_labels": C,
}

# Masks by name: which columns are real. In every one a row fills all columns or nearly.
MASKS = {
    "right": [[1] * 7, [1] * 4 + [0] * 3, [1] * 2 + [0] * 5],
    "left": [[1] * 7, [0] * 3 + [1] * 4, [0] * 5 + [1] * 2],
    "holes": [[1, 1, 0, 1, 0, 1, 1], [1, 0, 0, 0, 0, 0, 1], [1] * 7],
    "equal": [[1] * 7, [1] * 5 + [0] * 2, [0] * 2 + [1] * 5],
    "full": [[1] * 7] * 3,
}


def reference_config(family: str, name: str, **changes: Any) -> Any:
    """A transformers config, from BERT's names for the keys."""
    values = {**SIZES, **changes}
    if name == SPAN_HEAD:
        values["num_labels"] = 2
    keys = names.CONFIG_KEYS[family]
    values = {keys.get(key, key): value for key, value in values.items()}
    if family == "distilbert":
        for key in ("type_vocab_size", "layer_norm_eps", "classifier_dropout"):
            values.pop(key, None)
        return transformers.DistilBertConfig(**values, attn_implementation="eager")
    return transformers.BertConfig(**values, attn_implementation="eager")


def our_config(official: Mapping[str, Any]) -> BertConfig:
    """Our config of an official dict, DistilBERT's key names translated."""
    family = official["model_type"]
    keys = names.CONFIG_KEYS[family]
    values = {key: value for key, value in official.items() if key not in keys.values()}
    values |= {ours: official[theirs] for ours, theirs in keys.items()}
    return BertConfig.from_official({**values, **names.CONFIG_FACTS[family]})


def pair(family: str, name: str, dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any) -> tuple[Any, Any]:
    """transformers' model and ours, with the same random weights, in eval mode."""
    config = reference_config(family, name, **changes)
    reference = getattr(transformers, names.ARCHITECTURES[family][name])(config)
    randomise(reference, seed)
    ours = getattr(minibert, name)(our_config(reference.config.to_dict()))
    checkpoint.load_state_dict(ours, reference.state_dict())
    return reference.to(dtype).eval(), ours.to(dtype).eval()


def randomise(model: nn.Module, seed: int) -> None:
    """Weights that make every part matter: no zero bias, no neutral norm, no flat attention."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.copy_(1 + 0.3 * noise)
            elif parameter.dim() == 1:
                parameter.copy_(0.3 * noise)
            else:
                is_table = "embeddings" in name
                parameter.copy_(noise * (0.2 if is_table else 1.2 * parameter.shape[1] ** -0.5))
        predictions = getattr(getattr(model, "cls", None), "predictions", None)
        if predictions is not None:  # two names of one bias, whether the tables are tied or not
            predictions.bias.copy_(predictions.decoder.bias)


def batch(family: str, name: str, mask: str | None = "right", seed: int = 0, segments: int = 2) -> dict[str, Tensor]:
    """Inputs and labels for a class; labels that mean the same on both sides.

    transformers pools column 0 and lets spans run over padding, so rows without a real column 0
    have no row label, and padded rows no span.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = MASKS["full" if mask is None else mask]
    real = torch.tensor(rows, dtype=torch.bool)
    if name == "BertForMultipleChoice":
        real = torch.stack([real, real], dim=1)  # (B, choices, S)

    def draw(high: int, shape: tuple[int, ...] = tuple(real.shape)) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    inputs = {"input_ids": 1 + draw(V - 1)}
    if mask is not None:
        inputs["attention_mask"] = real.long()
    if family == "bert":
        inputs["token_type_ids"] = draw(segments)
    columns_real = torch.where(real & (draw(4) > 0), draw(V), -100)
    first_real = real[..., 0] if real.dim() == 2 else real[..., 0].all(dim=1)
    unpadded = real.reshape(B, -1).all(dim=1)
    if name == "BertForMaskedLM":
        inputs["labels"] = columns_real
    elif name == "BertForTokenClassification":
        inputs["labels"] = torch.where(columns_real >= 0, columns_real % C, -100)
    elif name == "BertForPreTraining":
        inputs["labels"] = columns_real
        inputs["next_sentence_label"] = torch.where(first_real, draw(2, (B,)), -100)
    elif name in ROW_HEADS:
        classes = C if name == "BertForSequenceClassification" else 2
        inputs["labels"] = torch.where(first_real, draw(classes, (B,)), -100)
    elif name == SPAN_HEAD:
        inputs["start_positions"] = torch.where(unpadded, draw(S, (B,)), S)
        inputs["end_positions"] = torch.where(unpadded, draw(S, (B,)), S + 3)
    return inputs


def real_cells(inputs: Mapping[str, Tensor]) -> Tensor:
    """(B, S) bool; for multiple choice (B * choices, S)."""
    ids = inputs.get("input_ids")
    shape = inputs["inputs_embeds"].shape[:-1] if ids is None else ids.shape
    mask = inputs.get("attention_mask", torch.ones(shape)).bool()
    return mask.flatten(0, -2)


def run(model: nn.Module, inputs: Mapping[str, Tensor], attentions: bool = False) -> Any:
    """A forward pass; attentions are made by hand over the padded table, all else in groups."""
    return model(**inputs, output_hidden_states=True, output_attentions=attentions)


TOKEN_OUTPUTS = ("last_hidden_state", "prediction_logits", "start_logits", "end_logits")


def outputs(name: str, result: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Everything that a result holds, by name, at the places where both sides mean the same."""
    real = real_cells(inputs)
    both = real[:, None, :, None] & real[:, None, None, :]
    first = real[:, 0]
    found = {}
    for number, state in enumerate(result.hidden_states):
        found[f"hidden_states[{number}]"] = state[real]
    for number, pattern in enumerate(result.attentions or ()):
        found[f"attentions[{number}]"] = pattern[both.expand_as(pattern)]
    for key in TOKEN_OUTPUTS:
        if hasattr(result, key):
            found[key] = getattr(result, key)[real]
    if hasattr(result, "seq_relationship_logits"):
        found["seq_relationship_logits"] = result.seq_relationship_logits[first]
    pooled = getattr(result, "pooled" if isinstance(result, BertOutput) else "pooler_output", None)
    if pooled is not None:
        found["pooler_output"] = pooled[first]
    if isinstance(getattr(result, "logits", None), Tensor) and not hasattr(result, "start_logits"):
        logits = result.logits
        if name == "BertForMultipleChoice":
            found["logits"] = logits.flatten()[first]
        else:
            found["logits"] = logits[real if name in TOKEN_HEADS else first]
    if getattr(result, "loss", None) is not None:
        found["loss"] = result.loss
    return found


def loss_of(name: str, result: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """The loss; of the bare model, a sum over its outputs with weights that differ."""
    if name != BARE:
        return result.loss
    found = outputs(name, result, inputs)
    kept = [found[key] for key in ("last_hidden_state", "pooler_output") if key in found]
    return sum((value * torch.linspace(-1, 1, value.numel()).view_as(value)).sum() for value in kept)


def gradients(reference: nn.Module, ours: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """Official name -> (reference's gradient, ours), for every parameter; none may be missing."""
    twin = copy.deepcopy(ours)
    for to, source in zip(twin.parameters(), ours.parameters(), strict=True):
        to.data = torch.zeros_like(source) if source.grad is None else source.grad
    found = twin.official_state_dict()
    expected = {key: value.grad for key, value in reference.named_parameters() if value.grad is not None}
    assert expected.keys() <= found.keys(), expected.keys() - found.keys()
    for key in found.keys() - expected.keys():
        assert key == "cls.predictions.bias" or not found[key].any(), key
    return {key: (expected[key], found[key]) for key in expected}


def weights(reference: nn.Module, ours: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """Official name -> (reference's parameter, ours)."""
    expected, found = dict(reference.named_parameters()), ours.official_state_dict()
    return {key: (expected[key].detach(), found[key]) for key in expected.keys() & found.keys()}


def assert_close(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], bound: float) -> None:
    """Compares values by name; a failure names each brick that is off, with both differences."""
    assert expected.keys() <= found.keys(), expected.keys() - found.keys()
    lines = []
    for key, value in expected.items():
        assert value.shape == found[key].shape, (key, value.shape, found[key].shape)
        difference = (found[key].double() - value.double()).abs()
        largest = difference.max().item() if difference.numel() else 0.0
        MEASURED[bound] = max(MEASURED.get(bound, 0.0), largest)
        if not largest <= bound:
            lines.append(f"{key}: largest {largest:.3g}, mean {difference.mean().item():.3g}")
    assert not lines, f"beyond {bound}:\n" + "\n".join(lines)


def unseen_by_softmax(reference: nn.Module) -> set[str]:
    """Parameters whose gradient is zero in theory and noise in practice.

    They add one number to everything that a softmax runs over: a key's bias to all scores of a row,
    a choice's bias to all choices, a span's bias (and the last norm's, below it) to all columns.
    """
    keys = {key for key, _ in reference.named_parameters()}
    unseen = {key for key in keys if key.endswith(("self.key.bias", "k_lin.bias"))}
    if type(reference).__name__.endswith("MultipleChoice"):
        unseen.add("classifier.bias")
    if type(reference).__name__.endswith("QuestionAnswering"):
        unseen.add("qa_outputs.bias")
        last = f"layer.{len(reference.base_model.get_submodule(_stack(reference)).layer) - 1}"
        ends = (f"{last}.output.LayerNorm.bias", f"{last}.output_layer_norm.bias")
        unseen |= {key for key in keys if key.endswith(ends)}
    return unseen


def _stack(reference: Any) -> str:
    return "encoder" if reference.config.model_type == "bert" else "transformer"


def assert_gradients_close(reference: nn.Module, ours: Any, bound: float) -> None:
    """By tensor: norm of the difference over the norm; absolutely where it is zero in theory."""
    lines = []
    zero_in_theory = unseen_by_softmax(reference)
    for key, (expected, found) in gradients(reference, ours).items():
        difference = (expected - found).norm().item()
        size = 1.0 if key in zero_in_theory else expected.norm().item()
        relative = difference / size if size else difference
        MEASURED[bound] = max(MEASURED.get(bound, 0.0), relative)
        if not relative <= bound:
            lines.append(f"{key}: {relative:.3g}")
    assert not lines, f"gradients beyond {bound}:\n" + "\n".join(lines)


FORMS: dict[str, Any] = {
    "by_hand": partial(attend_by_length, form=attention_by_hand),
    "sdpa": attend_by_length,
    "in_chunks": lambda query, key, value, layout, p: attention_in_chunks(query, key, value, layout.groups, p),
    "fast": attend_fast,
}


def attend_by(model: Any, name: str) -> None:
    """Makes every layer attend by one of the forms."""
    for layer in model.body.encoder.layers:
        layer.attention.attend = FORMS[name]


MEASURED: dict[float, float] = {}  # bound -> the largest difference seen; for reports by hand


@contextmanager
def watched(reference: nn.Module, monkeypatch: Any) -> Iterator[dict[str, Tensor]]:
    """What goes into and out of every module of the reference: "path:in" and "path:out".

    Scores are an inner value of transformers' eager attention: what its softmax is given.
    """
    seen: dict[str, Tensor] = {}
    handles = []
    for path, module in reference.named_modules():

        def keep(_module: nn.Module, given: Any, made: Any, path: str = path) -> None:
            if given and isinstance(given[0], Tensor):
                seen[f"{path}:in"] = given[0].detach()
            made = made[0] if isinstance(made, tuple) else made
            if isinstance(made, Tensor):
                seen[f"{path}:out"] = made.detach()

        handles.append(module.register_forward_hook(keep))
    softmax = nn.functional.softmax
    scores: list[Tensor] = []

    def watching_softmax(values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        scores.append(values.detach())
        seen[f"scores.{len(scores) - 1}"] = values.detach()
        seen[f"pattern.{len(scores) - 1}"] = softmax(values, *args, **kwargs).detach()
        return softmax(values, *args, **kwargs)

    monkeypatch.setattr(nn.functional, "softmax", watching_softmax)
    try:
        yield seen
    finally:
        monkeypatch.setattr(nn.functional, "softmax", softmax)
        for handle in handles:
            handle.remove()
