"""The lens: what the head would answer if the encoder ended earlier.

Each layer's hidden states go through the head of the last one (nostalgebraist 2020, "the logit lens"). BERT was trained
to be read at the end only, and early layers may speak another language, so a tuned lens (Belrose et al. 2023, section
3) first translates each layer's states by an affine map of its own, fitted so that the answer comes as close as
possible to the final one.

    >>> lens(model, tokenizer, "The capital of France is [MASK].").table("[MASK]")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from minibert.base import Model
from minibert.heads import BertForMaskedLM, BertForPreTraining, ModelWithHead
from minibert.io.errors import DataError, InputError
from minibert.io.seeds import mixed_seed
from minibert.io.tables import table
from minibert.layout import Layout
from minibert.outputs import Encoded
from minibert.study.pictures import Picture, grid
from minibert.study.readout import answers, is_masked_lm, names_of, probabilities
from minibert.study.sentence import Sentence, in_eval, run, sentence, several
from minibert.tokenizer import BertTokenizer
from minibert.trace import Scope, Trace

STATES = ("embeddings.output", "layers.*.feed_forward.norm")
Translate = Callable[[int, Tensor], Tensor]  # the layer and its states (T, D) -> states (T, D)


@dataclass(frozen=True)
class Lens:
    """What each layer's hidden states mean to the head.

    There are L + 1 states: number 0 is the embeddings, number k what k layers have made of them, and number L gives the
    model's own answer. Tables and pictures call number k "layer k - 1", since layers count from 0 as in a trace.

    Attributes:
        given: the sentence.
        names: the classes, or the pieces of the vocabulary, in the order of the logits.
        over_tokens: whether there is an answer for each piece; otherwise there is one for the sentence.
    """

    given: Sentence
    names: Sequence[str]
    over_tokens: bool
    _states: list[Tensor] = field(repr=False)  # L + 1 of (T, D)
    _read: Callable[[int, Tensor], Tensor] = field(repr=False)
    _meaning: Callable[[Tensor], Tensor] = field(repr=False)

    def __len__(self) -> int:
        return len(self._states)

    def logits(self, layer: int) -> Tensor:
        """(S, V) or (S, C), or (1, C) for a head over sentences; those of layer L are the model's own, bit for bit."""
        if not 0 <= layer < len(self):
            raise InputError(f"layer is {layer}, but must be 0 (the embeddings) to {len(self) - 1}.", key="layer")
        with torch.no_grad():
            return self._read(layer, self._states[layer])

    def probabilities(self, layer: int) -> Tensor:
        """What the logits of a layer stand for, in the same shape: see `readout.probabilities`."""
        return self._meaning(self.logits(layer))  # (S, C), or (1, C)

    def top(self, layer: int, position: int | str | None = None, count: int = 5) -> list[tuple[str, float]]:
        """The most likely answers: (name, probability).

        Args:
            position: the column, or a piece that occurs once; by default the first [MASK]. Heads over sentences have
                one answer and take no position.
        """
        best = self.probabilities(layer)[self._row(position)].topk(min(count, len(self.names)))  # (count,) each
        return [(self.names[i], chance) for chance, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]

    def divergence(self) -> Tensor:
        """(L + 1, S) or (L + 1, 1): KL of each layer's answer from the final one, in nats."""
        final = self.logits(len(self) - 1)  # (S, V)
        return torch.stack([kl_divergence(final, self.logits(layer)) for layer in range(len(self))])  # (L + 1, S)

    def table(self, position: int | str | None = None, count: int = 3) -> str:
        """The most likely answers at a position, one line for each layer; arguments as for `top`."""
        rows = []
        for layer in range(len(self)):
            best = [f"{name} {chance:.3f}" for name, chance in self.top(layer, position, count)]
            rows.append(("embeddings" if layer == 0 else f"layer {layer - 1}", *best))
        return table(rows, ("after", "first", *["next"] * (len(rows[0]) - 2)))

    def picture(self) -> Picture:
        """The most likely answer at each layer and piece, the colour its probability."""
        tokens = self.given.tokens if self.over_tokens else ["[CLS]"]
        chances, texts = [], []
        for layer in range(len(self)):
            best = self.probabilities(layer).max(dim=-1)  # (S,) each
            chances.append(best.values)
            texts.append([self.names[number] for number in best.indices.tolist()])
        rows = ["embeddings", *(f"layer {number}" for number in range(len(self) - 1))]
        return grid(torch.stack(chances), rows, tokens, "What each layer says", texts=texts, signed=False, most=1.0)

    def _row(self, position: int | str | None) -> int:
        if not self.over_tokens:
            if position is not None:
                raise InputError("The head reads [CLS] alone, so it takes no position.", key="position")
            return 0
        if position is None and "[MASK]" not in self.given.tokens:
            message = "The head has an answer at each piece, so a position is needed."
            raise InputError(message, key="position", hint="Give the number of a column.")
        return self.given.column(self.given.tokens.index("[MASK]") if position is None else position)


def lens(
    model: Model, tokenizer: BertTokenizer, text: str, pair: str | None = None, translate: Translate | None = None
) -> Lens:
    """Reads each layer of a forward pass through the model's head.

    Args:
        model: with any head but multiple choice.
        translate: applied to each layer's states first, such as a `TunedLens`.

    Raises:
        InputError: the model has no head, or a `forward` of its own that does more than run the head.
    """
    if not isinstance(model, ModelWithHead):
        message = f"A {type(model).__name__} has no head to read a layer through."
        raise InputError(message, key="model", hint="Open the checkpoint as BertForMaskedLM or as a classifier.")
    given = sentence(tokenizer, text, pair, model)
    output, trace = run(model, given.inputs, *STATES)
    layout, states = trace.layout, list(trace.values.values())  # L + 1 of (T, D)
    assert layout is not None
    with torch.no_grad():
        final = head_logits(model, states[-1], layout)  # (S, V), or (1, C)
    if not torch.allclose(final, answers(output).reshape(final.shape), rtol=1e-3, atol=1e-3, equal_nan=True):
        message = f"The head of this {type(model).__name__} does not give its logits: its `forward` changes them."
        raise InputError(message, key="model", hint="Compute the logits in `answer`.")

    def read(layer: int, hidden: Tensor) -> Tensor:
        last = layer == len(states) - 1
        hidden = hidden if translate is None or last else translate(layer, hidden)  # (T, D)
        return head_logits(model, hidden, layout)

    over_tokens = len(final) == len(given.tokens)
    return Lens(given, names_of(model, tokenizer), over_tokens, states, read, partial(probabilities, model))


def head_logits(model: ModelWithHead, states: Tensor, layout: Layout) -> Tensor:
    """What a model's head makes of the hidden states (T, D) of one sentence: (S, ...) or (1, C).

    The head runs without dropout; the model is left as it was.
    """
    scope = Scope(layout)
    with in_eval(model):
        pooler = model.body.pooler
        pooled = None if pooler is None else pooler(layout.first_tokens(states), scope)  # (1, D)
        logits, _ = model.answer(Encoded(states, pooled, scope, Trace()))
    logits = logits[0] if isinstance(model, BertForPreTraining) else logits
    return logits[0] if logits.dim() == 3 else logits  # (S, V), or (1, C)


def kl_divergence(final: Tensor, other: Tensor) -> Tensor:
    """(rows,) KL(final || other) of two tables of logits (rows, V), in nats."""
    p, q = final.log_softmax(dim=-1), other.log_softmax(dim=-1)  # (rows, V)
    return F.kl_div(q, p, reduction="none", log_target=True).sum(dim=-1)  # (rows,)


class TunedLens(nn.Module):
    """For each layer but the last a map h + A h + b; it starts as the identity. Use it as `lens(translate=...)`."""

    def __init__(self, layers: int, size: int):
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(size, size) for _ in range(layers))
        for part in self.maps.parameters():
            nn.init.zeros_(part)

    def forward(self, layer: int, states: Tensor) -> Tensor:
        """states (T, D) of a layer -> (T, D)."""
        return states + self.maps[layer](states)  # (T, D)


def tune(
    model: BertForMaskedLM | BertForPreTraining,
    tokenizer: BertTokenizer,
    texts: Sequence[str],
    *,
    steps: int = 300,
    batch_size: int = 8,
    max_length: int = 64,
    learning_rate: float = 1e-3,
    seed: int = 0,
    progress: bool = True,
) -> TunedLens:
    """Fits a tuned lens: AdamW on the KL divergence of each layer's answer from the final one; the model stays.

    15% of the pieces are masked, as many as in pre-training, so that the answers are not all in sight.

    Args:
        texts: as many as there can be, of the kind that the lens will be used on.
        steps, batch_size, max_length, learning_rate: of the fit; the rate falls to zero along half a cosine.
        seed: of the order of the texts and of the masks.
        progress: show a bar on standard error, if that is a terminal.
    """
    _require_masked_lm(model)
    if len(several(texts)) < batch_size:
        message = f"{len(texts)} texts are fewer than one batch of {batch_size}."
        raise DataError(message, key="texts", hint="Give more, or a smaller batch_size.")
    config, device = model.config, next(model.parameters()).device
    translator = TunedLens(config.num_hidden_layers, config.hidden_size).to(device)
    optimizer = torch.optim.AdamW(translator.parameters(), lr=learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(mixed_seed("tuned lens", seed))
    for _ in tqdm(range(steps), desc="tuned lens", disable=None if progress else True):
        places = torch.randperm(len(texts), generator=generator)[:batch_size].tolist()
        batch = _masked(tokenizer, [texts[place] for place in places], max_length, generator)
        states, layout = _states(model, batch)
        final = _flat_logits(model, states[-1], layout).detach()  # (T, V)
        for layer, hidden in enumerate(states[:-1]):
            logits = _flat_logits(model, translator(layer, hidden), layout)  # (T, V)
            gradients = torch.autograd.grad(kl_divergence(final, logits).mean(), [*translator.maps[layer].parameters()])
            for part, gradient in zip(translator.maps[layer].parameters(), gradients, strict=True):
                part.grad = gradient
        optimizer.step()
        schedule.step()
    return translator.eval()


def mean_divergence(
    model: BertForMaskedLM | BertForPreTraining,
    tokenizer: BertTokenizer,
    texts: Sequence[str],
    translate: Translate | None = None,
    *,
    max_length: int = 64,
    seed: int = 0,
) -> list[float]:
    """For each layer, the mean KL divergence from the final answer over all pieces of texts, masked as for `tune`.

    The gain of a tuned lens is the difference between this without and with it, on texts that it was not fitted to.
    """
    _require_masked_lm(model)
    several(texts)
    generator = torch.Generator().manual_seed(mixed_seed("held out", seed))
    sums, count = [0.0] * model.config.num_hidden_layers, 0
    for start in range(0, len(texts), 8):
        batch = _masked(tokenizer, texts[start : start + 8], max_length, generator)
        states, layout = _states(model, batch)
        with torch.no_grad():
            final = _flat_logits(model, states[-1], layout)  # (T, V)
            count += len(final)
            for layer, hidden in enumerate(states[:-1]):
                hidden = hidden if translate is None else translate(layer, hidden)  # (T, D)
                sums[layer] += kl_divergence(final, _flat_logits(model, hidden, layout)).sum().item()
    return [total / count for total in sums]


def _require_masked_lm(model: Model) -> None:
    if not is_masked_lm(model):
        message = f"A tuned lens is fitted to the answers of a masked LM, and a {type(model).__name__} is not one."
        raise InputError(message, key="model", hint="Open the checkpoint as BertForMaskedLM.")


def _masked(
    tokenizer: BertTokenizer, texts: Sequence[str], max_length: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """The inputs of a batch with 15% of the pieces masked."""
    with_room = min(max_length, tokenizer.max_length)
    rows = [row.input_ids for row in tokenizer.encode(list(texts), max_length=with_room)]
    columns = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_id] * (columns - len(row)) for row in rows])  # (B, S)
    real = torch.tensor([[1] * len(row) + [0] * (columns - len(row)) for row in rows])  # (B, S)
    hidden = torch.rand(ids.shape, generator=generator) < 0.15  # (B, S)
    special = (ids == tokenizer.cls_id) | (ids == tokenizer.sep_id) | (real == 0)  # (B, S)
    return {"input_ids": ids.masked_fill(hidden & ~special, tokenizer.mask_id), "attention_mask": real}  # (B, S)


def _states(model: Model, batch: dict[str, Tensor]) -> tuple[list[Tensor], Layout]:
    """The hidden states (T, D) of the embeddings and of each layer."""
    device = next(model.parameters()).device
    _, trace = run(model, {name: tensor.to(device) for name, tensor in batch.items()}, *STATES)
    assert trace.layout is not None
    return list(trace.values.values()), trace.layout


def _flat_logits(model: BertForMaskedLM | BertForPreTraining, states: Tensor, layout: Layout) -> Tensor:
    """The masked-LM logits (T, V) of packed states (T, D)."""
    head = model.head if isinstance(model, BertForMaskedLM) else model.masked_lm
    return head(states, model.body.embeddings.word.weight, Scope(layout))  # (T, V)
