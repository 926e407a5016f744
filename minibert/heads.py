"""The heads: what BERT's hidden states are turned into, and the losses that train them.

Pre-training heads: Devlin et al. 2018, section 3.1 (masked LM, next sentence). Fine-tuning heads:
section 3.2, figure 4, and section 4 (4.1 classification, 4.2 spans, 4.4 choices). DistilBERT's
forms follow its published code: a dense layer with ReLU in the place of the pooler, and dropouts of
its own.

Every head returns logits, never probabilities. With labels it also returns `loss`, transformers'
mean, and `loss_terms`: name -> (sum, count), which a training loop adds up over a whole accumulated
batch before it divides. A class of -100 never counts. `count_labels` gives the counts before the
forward pass. Names in a trace: head.dense, .activation, .norm, .logits, those that the head has;
(T, ...) for heads over tokens, (B, ...) for heads over rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minibert.bert import BertBase, BertModel, Encoded
from minibert.config import BertConfig
from minibert.io.errors import ConfigError, InputError
from minibert.layers import ACTIVATIONS, Dropout, LayerNorm, Linear, default_generator, initialise
from minibert.layout import Layout
from minibert.trace import Scope

IGNORED = -100  # the label that never counts

LossTerms = dict[str, tuple[Tensor, float]]


@dataclass(frozen=True)
class HeadOutput:
    """What a model with a head gives back.

    Attributes:
        loss: the mean over the labels that count (0 if none does), or None without labels.
        loss_terms: name -> (sum, count); `loss` is the sum of sum / count.
        logits: the head's numbers before softmax or sigmoid; its shape is the head's.
        hidden_states: L + 1 tensors (B, S, D), if asked for.
        attentions: L tensors (B, N, S, S), if asked for.
    """

    loss: Tensor | None
    loss_terms: LossTerms
    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None


@dataclass(frozen=True)
class PreTrainingOutput:
    """As HeadOutput, with the logits of both heads: (B, S, V) and (B, 2)."""

    loss: Tensor | None
    loss_terms: LossTerms
    prediction_logits: Tensor
    seq_relationship_logits: Tensor
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None


@dataclass(frozen=True)
class SpanOutput:
    """As HeadOutput, with a logit for each column to be the start, the end: (B, S) each."""

    loss: Tensor | None
    loss_terms: LossTerms
    start_logits: Tensor
    end_logits: Tensor
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None

    @property
    def logits(self) -> Tensor:
        """Both as one: (B, S, 2)."""
        return torch.stack((self.start_logits, self.end_logits), dim=-1)  # (B, S, 2)


class ModelWithHead(BertBase):
    """A BertModel with something on top, in `head` or in attributes that the class names."""

    def __init__(self, config: BertConfig, pooler: bool, generator: torch.Generator):
        super().__init__(config)
        self.bert = BertModel(config, pooler=pooler, generator=generator)

    @property
    def body(self) -> BertModel:
        return self.bert

    @abstractmethod
    def count_labels(self, batch: Mapping[str, Any]) -> Mapping[str, float]:
        """For each loss term of this batch, the number of labels it will be the mean over.

        Known from the labels alone, so a training loop can divide each part of a large batch by
        the count of the whole before it has seen the rest.
        """


class ClassLoss:
    """Cross-entropy of one class for each row, as a sum and a count.

    Args:
        weights: (C,) what a label of each class counts; None: 1. The mean is then that of
            torch.nn.CrossEntropyLoss(weight=...): sum of weight * loss over sum of weights.
    """

    def __init__(self, weights: Tensor | None = None):
        self.weights = weights

    def __call__(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """logits (B, C), labels (B,) -> the sum () and what the labels count."""
        return _class_loss(logits, labels, self.weights)

    def count(self, labels: Tensor) -> float:
        """What the labels (B,) count together."""
        if self.weights is None:
            return _count(labels)
        return float(self.weights.cpu()[labels[labels != IGNORED].cpu()].sum())


class MaskedLMHead(nn.Module):
    """Dense, activation, norm, then a product with every row of the word table, plus a bias.

    The table is the embeddings' own ("tied"), handed in at each call, so there is one of it;
    `decoder` is a second table for a config that unties them, else None.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        size = config.hidden_size
        self.dense = Linear(size, size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.norm = LayerNorm(size, config.layer_norm_eps)
        tied = config.tie_word_embeddings
        self.decoder = None if tied else Linear(size, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))  # (V,)

    def forward(self, hidden: Tensor, word_table: Tensor, scope: Scope) -> Tensor:
        """hidden (T, D), word_table (V, D) -> logits (T, V)."""
        table = word_table if self.decoder is None else self.decoder.weight  # (V, D)
        hidden = scope("dense", self.dense(hidden))  # (T, D)
        hidden = scope("activation", self.activation(hidden))  # (T, D)
        hidden = scope("norm", self.norm(hidden))  # (T, D)
        return scope("logits", F.linear(hidden, table, self.bias))  # (T, V)


class NextSentenceHead(nn.Module):
    """One linear map of the pooled [CLS]: class 0, B follows A; class 1, B is another text."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.classifier = Linear(config.hidden_size, 2)

    def forward(self, pooled: Tensor, scope: Scope) -> Tensor:
        return scope("logits", self.classifier(pooled))  # (B, 2)


class RowHead(nn.Module):
    """Dropout and a linear map of each row's vector.

    BERT's row vector is the pooled [CLS]. DistilBERT has no pooler: its head takes [CLS] itself
    through a dense layer with ReLU first, and has a dropout rate of its own.
    """

    def __init__(self, config: BertConfig, outputs: int):
        super().__init__()
        size = config.hidden_size
        self.dense = Linear(size, size) if config.is_distilbert else None
        self.dropout = Dropout(
            config.seq_classif_dropout if config.is_distilbert else config.head_dropout
        )
        self.classifier = Linear(size, outputs)

    def forward(self, encoded: Encoded) -> Tensor:
        """(B, outputs); zeros for a row with no token."""
        scope, layout = encoded.scope.inside("head"), encoded.layout
        if self.dense is None:
            row = encoded.pooled  # (B, D)
        else:
            dense = scope("dense", self.dense(layout.first_tokens(encoded.hidden)))  # (B, D)
            row = scope("activation", F.relu(dense))  # (B, D)
        logits = scope("logits", self.classifier(self.dropout(row)))  # (B, outputs)
        return layout.zero_empty_rows(logits)  # (B, outputs)


class TokenHead(nn.Module):
    """Dropout and a linear map of each token's vector."""

    def __init__(self, config: BertConfig, outputs: int, dropout_p: float):
        super().__init__()
        self.dropout = Dropout(dropout_p)
        self.classifier = Linear(config.hidden_size, outputs)

    def forward(self, encoded: Encoded) -> Tensor:
        """(T, outputs)."""
        scope = encoded.scope.inside("head")
        return scope("logits", self.classifier(self.dropout(encoded.hidden)))  # (T, outputs)


class BertForMaskedLM(ModelWithHead):
    """Predicts the piece at each position; logits (B, S, V), zeros at padding."""

    def __init__(self, config: BertConfig, generator: torch.Generator | None = None):
        generator = default_generator(generator)
        super().__init__(config, pooler=False, generator=generator)
        self.head = MaskedLMHead(config)
        initialise(self.head, config.initializer_range, generator)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        labelled_only: bool = False,
        **options: Any,
    ) -> HeadOutput:
        """As BertModel.encode.

        Args:
            labels: (B, S), a piece id, or -100 to be ignored.
            labelled_only: run the head at the M labelled positions alone, about a seventh of all
                in pre-training. The loss and its gradients are the same; logits are (M, V), in
                packed order.
        """
        encoded = self.bert.encode(input_ids, attention_mask, token_type_ids, **options)
        table = self.bert.embeddings.word.weight  # (V, D)
        scope = encoded.scope.inside("head")
        logits, terms = _masked_lm(self.head, encoded, table, scope, labels, labelled_only)
        return HeadOutput(_mean(terms), terms, logits, *encoded.finish())

    def count_labels(self, batch: Mapping[str, Any]) -> dict[str, int]:
        return {"masked_lm": _count(batch["labels"])}

    def _vocabulary_heads(self) -> list[Any]:
        return [self.head]


class BertForNextSentencePrediction(ModelWithHead):
    """Tells whether the second text followed the first; logits (B, 2). BERT only."""

    def __init__(self, config: BertConfig, generator: torch.Generator | None = None):
        _refuse_distilbert(config, "next-sentence prediction")
        generator = default_generator(generator)
        super().__init__(config, pooler=True, generator=generator)
        self.head = NextSentenceHead(config)
        initialise(self.head, config.initializer_range, generator)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        **options: Any,
    ) -> HeadOutput:
        """As BertModel.encode; labels (B,): 0 it followed, 1 it did not."""
        encoded = self.bert.encode(input_ids, attention_mask, token_type_ids, **options)
        logits = self.head(encoded.pooled, encoded.scope.inside("head"))  # (B, 2)
        logits = encoded.layout.zero_empty_rows(logits)  # (B, 2)
        terms = {} if labels is None else {"next_sentence": _class_loss(logits, labels)}
        return HeadOutput(_mean(terms), terms, logits, *encoded.finish())

    def count_labels(self, batch: Mapping[str, Any]) -> dict[str, int]:
        return {"next_sentence": _count(batch["labels"])}


class BertForPreTraining(ModelWithHead):
    """Both heads of pre-training at once; the loss is the sum of their means. BERT only."""

    def __init__(self, config: BertConfig, generator: torch.Generator | None = None):
        _refuse_distilbert(config, "pre-training with next sentences")
        generator = default_generator(generator)
        super().__init__(config, pooler=True, generator=generator)
        self.masked_lm = MaskedLMHead(config)
        self.next_sentence = NextSentenceHead(config)
        initialise(self.masked_lm, config.initializer_range, generator)
        initialise(self.next_sentence, config.initializer_range, generator)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        next_sentence_label: Tensor | None = None,
        labelled_only: bool = False,
        **options: Any,
    ) -> PreTrainingOutput:
        """As BertForMaskedLM, with next_sentence_label (B,)."""
        encoded = self.bert.encode(input_ids, attention_mask, token_type_ids, **options)
        table = self.bert.embeddings.word.weight  # (V, D)
        scope = encoded.scope.inside("masked_lm")
        pieces, terms = _masked_lm(self.masked_lm, encoded, table, scope, labels, labelled_only)
        scope = encoded.scope.inside("next_sentence")
        follows = self.next_sentence(encoded.pooled, scope)  # (B, 2)
        follows = encoded.layout.zero_empty_rows(follows)  # (B, 2)
        if next_sentence_label is not None:
            terms["next_sentence"] = _class_loss(follows, next_sentence_label)
        return PreTrainingOutput(_mean(terms), terms, pieces, follows, *encoded.finish())

    def count_labels(self, batch: Mapping[str, Any]) -> dict[str, int]:
        names = {"masked_lm": "labels", "next_sentence": "next_sentence_label"}
        given = {term: batch.get(key) for term, key in names.items()}
        return {term: _count(labels) for term, labels in given.items() if labels is not None}

    def _vocabulary_heads(self) -> list[Any]:
        return [self.masked_lm]


class BertForSequenceClassification(ModelWithHead):
    """One row, one answer: a class, several yes/no labels, or numbers; logits (B, C).

    Which of them is `config.problem_type`; where that is None it is told from the labels, as in
    transformers: one output means regression, integer labels a class, other labels several.

    Attributes:
        class_loss: the loss where the answer is a class.
    """

    def __init__(self, config: BertConfig, generator: torch.Generator | None = None):
        generator = default_generator(generator)
        super().__init__(config, pooler=True, generator=generator)
        self.head = RowHead(config, config.num_labels)
        self.class_loss = ClassLoss()
        initialise(self.head, config.initializer_range, generator)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        **options: Any,
    ) -> HeadOutput:
        """As BertModel.encode; labels (B,) class numbers, or (B, C) numbers."""
        encoded = self.bert.encode(input_ids, attention_mask, token_type_ids, **options)
        logits = self.head(encoded)  # (B, C)
        terms = {} if labels is None else {"label": self._loss(logits, labels)}
        return HeadOutput(_mean(terms), terms, logits, *encoded.finish())

    def count_labels(self, batch: Mapping[str, Any]) -> dict[str, float]:
        labels = batch["labels"]
        one_class = self.problem_type(labels) == "single_label_classification"
        return {"label": self.class_loss.count(labels) if one_class else labels.numel()}

    def problem_type(self, labels: Tensor) -> str:
        """The config's problem_type, or the one that the labels' shape and dtype mean."""
        if self.config.problem_type is not None:
            return self.config.problem_type
        if self.config.num_labels == 1:
            return "regression"
        if labels.is_floating_point():
            return "multi_label_classification"
        return "single_label_classification"

    def _loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        problem_type = self.problem_type(labels)
        if problem_type == "single_label_classification":
            return self.class_loss(logits, labels)
        one_number_each = logits.shape[1] == 1 and labels.shape == logits.shape[:1]
        if labels.shape != logits.shape and not one_number_each:
            raise InputError(
                f"labels have shape {tuple(labels.shape)}, but {problem_type} with "
                f"{self.config.num_labels} outputs needs {tuple(logits.shape)}.",
                key="labels",
            )
        logits = _precise(logits)  # (B, C)
        labels = labels.view(logits.shape).to(logits.dtype)  # (B, C)
        if problem_type == "regression":
            return F.mse_loss(logits, labels, reduction="sum"), labels.numel()  # ()
        loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")  # ()
        return loss, labels.numel()


class BertForTokenClassification(ModelWithHead):
    """A class for each token; logits (B, S, C), zeros at padding."""

    def __init__(self, config: BertConfig, generator: torch.Generator | None = None):
        generator = default_generator(generator)
        super().__init__(config, pooler=False, generator=generator)
        self.head = TokenHead(config, config.num_labels, config.head_dropout)
        initialise(self.head, config.initializer_range, generator)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        **options: Any,
    ) -> HeadOutput:
        """As BertModel.encode; labels (B, S): a class, or -100 to be ignored."""
        encoded = self.bert.encode(input_ids, attention_mask, token_type_ids, **options)
        logits = self.head(encoded)  # (T, C)
        terms = {} if labels is None else {"token": _token_loss(logits, labels, encoded.layout)}
        return HeadOutput(_mean(terms), terms, encoded.layout.pad(logits), *encoded.finish())

    def count_labels(self, batch: Mapping[str, Any]) -> dict[str, int]:
        return {"token": _count(batch["labels"])}


class BertForQuestionAnswering(ModelWithHead):
    """Where an answer starts and ends; two logits for each column, -inf at padding.

    NOTE: transformers lets the softmax over columns run through the padding, so that there a row's
    loss depends on how long its neighbours are.
    """

    def __init__(self, config: BertConfig, generator: torch.Generator | None = None):
        generator = default_generator(generator)
        super().__init__(config, pooler=False, generator=generator)
        self.head = TokenHead(config, 2, config.qa_dropout if config.is_distilbert else 0.0)
        initialise(self.head, config.initializer_range, generator)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **options: Any,
    ) -> SpanOutput:
        """As BertModel.encode.

        start_positions, end_positions: (B,) columns; -100, or a column beyond S (an answer that was
        cut off), does not count.
        """
        encoded = self.bert.encode(input_ids, attention_mask, token_type_ids, **options)
        layout = encoded.layout
        logits = layout.pad(self.head(encoded), value=-torch.inf)  # (B, S, 2)
        start_logits, end_logits = logits.unbind(dim=-1)  # (B, S), (B, S)
        terms: LossTerms = {}
        if start_positions is not None and end_positions is not None:
            terms["start"] = _span_loss(start_logits, start_positions, layout)
            terms["end"] = _span_loss(end_logits, end_positions, layout)
        return SpanOutput(_mean(terms), terms, start_logits, end_logits, *encoded.finish())

    def count_labels(self, batch: Mapping[str, Any]) -> dict[str, int]:
        words = batch.get("input_ids")
        columns = (batch["inputs_embeds"] if words is None else words).shape[1]
        return {
            "start": int(_inside(batch["start_positions"], columns).sum()),
            "end": int(_inside(batch["end_positions"], columns).sum()),
        }


class BertForMultipleChoice(ModelWithHead):
    """Which of several texts fits; ids (B, choices, S) in, logits (B, choices) out."""

    def __init__(self, config: BertConfig, generator: torch.Generator | None = None):
        generator = default_generator(generator)
        super().__init__(config, pooler=True, generator=generator)
        self.head = RowHead(config, 1)
        initialise(self.head, config.initializer_range, generator)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **options: Any,
    ) -> HeadOutput:
        """As BertModel.encode, with (B, choices, S) for (B, S); labels (B,).

        A choice without a token is none: its logit is -inf. So rows may have unlike numbers of
        choices. Hidden states, attentions, layout and trace have B * choices rows.
        """
        words = input_ids if input_ids is not None else inputs_embeds
        if words is None or words.dim() < 3:
            raise InputError("Multiple choice needs input_ids of shape (B, choices, S).")
        ids, mask, segments, positions, vectors = (
            _flat(table, words)  # (B * choices, S, ...)
            for table in (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        )
        encoded = self.bert.encode(ids, mask, segments, positions, vectors, **options)
        logits = self.head(encoded).view(words.shape[:2])  # (B, choices)
        none = (~encoded.layout.occupied).view(words.shape[:2])  # (B, choices)
        # A row of nothing at all keeps its zeros: a softmax over -inf alone is NaN.
        none = none & ~none.all(dim=1, keepdim=True)  # (B, choices)
        logits = logits.masked_fill(none, -torch.inf)  # (B, choices)
        terms = {} if labels is None else {"choice": _class_loss(logits, labels)}
        return HeadOutput(_mean(terms), terms, logits, *encoded.finish())

    def count_labels(self, batch: Mapping[str, Any]) -> dict[str, int]:
        return {"choice": _count(batch["labels"])}


def _flat(table: Tensor | None, words: Tensor) -> Tensor | None:
    """(B, choices, S, ...) -> (B * choices, S, ...)."""
    if table is None:
        return None
    if table.shape[:3] != words.shape[:3]:
        raise InputError(
            f"A table of shape {tuple(table.shape)} was given, but with choices it is "
            f"(B, choices, S) = {tuple(words.shape[:3])}.",
        )
    return table.flatten(0, 1)  # (B * choices, S, ...)


def _count(labels: Tensor) -> int:
    return int((labels != IGNORED).sum())


def _mean(terms: LossTerms) -> Tensor | None:
    """The sum over the terms of sum / count; a term in which nothing counts adds 0, not NaN."""
    if not terms:
        return None
    means = [total / (count or 1) for total, count in terms.values()]
    return torch.stack(means).sum()  # ()


def _class_loss(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, float]:
    """Cross-entropy of logits (M, C) with class numbers (M,), summed over those that count."""
    if labels.shape != logits.shape[:1] or labels.is_floating_point():
        raise InputError(
            f"labels have shape {tuple(labels.shape)} and {labels.dtype}, but "
            f"{tuple(logits.shape[:1])} integers are needed.",
            key="labels",
        )
    wrong = (labels != IGNORED) & ((labels < 0) | (labels >= logits.shape[1]))  # (M,)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise InputError(
            f"labels[{row}] is {int(labels[row])}, but there are {logits.shape[1]} classes.",
            key="labels",
        )
    labels, logits = labels.long(), _precise(logits)  # (M,), (M, C)
    per_class = None if weights is None else weights.to(logits)  # (C,)
    loss = F.cross_entropy(logits, labels, per_class, ignore_index=IGNORED, reduction="sum")  # ()
    return loss, ClassLoss(weights).count(labels)


def _masked_lm(
    head: MaskedLMHead,
    encoded: Encoded,
    table: Tensor,
    scope: Scope,
    labels: Tensor | None,
    labelled_only: bool,
) -> tuple[Tensor, LossTerms]:
    """Logits (B, S, V), or (M, V) at the labelled positions alone, and the loss if there is one."""
    hidden, layout = encoded.hidden, encoded.layout
    if labels is None:
        if labelled_only:
            raise InputError("labelled_only needs labels.", key="labels", hint="Leave it out.")
        return layout.pad(head(hidden, table, scope)), {}  # (B, S, V)
    packed = _packed_labels(labels, layout)  # (T,)
    if labelled_only:
        counting = (packed != IGNORED).nonzero().squeeze(1)  # (M,)
        packed = packed.index_select(0, counting)  # (M,)
        hidden = hidden.index_select(0, counting)  # (M, D)
    logits = head(hidden, table, scope)  # (T, V) or (M, V)
    terms = {"masked_lm": _class_loss(logits, packed)}
    return logits if labelled_only else layout.pad(logits), terms  # (B, S, V) or (M, V)


def _token_loss(logits: Tensor, labels: Tensor, layout: Layout) -> tuple[Tensor, float]:
    """Cross-entropy of packed logits (T, C) with a table of labels (B, S)."""
    return _class_loss(logits, _packed_labels(labels, layout))


def _packed_labels(labels: Tensor, layout: Layout) -> Tensor:
    """A table of labels (B, S) as one for each token (T,)."""
    table = (layout.batch_size, layout.columns)
    if tuple(labels.shape) != table:
        raise InputError(
            f"labels have shape {tuple(labels.shape)}, but the batch is {table}.",
            key="labels",
        )
    if bool(((labels != IGNORED) & ~layout.mask).any()):
        raise InputError(
            f"labels hold something other than {IGNORED} at padding.",
            key="labels",
            hint=f"Fill the labels of padded columns with {IGNORED}; collate does.",
        )
    return layout.unpad(labels)  # (T,)


def _inside(positions: Tensor, columns: int) -> Tensor:
    """(B,) whether an answer's column is one of the row's; the others do not count."""
    return (positions != IGNORED) & (positions < columns)


def _span_loss(logits: Tensor, positions: Tensor, layout: Layout) -> tuple[Tensor, int]:
    """Cross-entropy over columns (B, S); half of it, since start and end share the loss."""
    inside = _inside(positions, layout.columns)  # (B,)
    logits, positions = logits[inside], positions[inside].long()  # (rows, S), (rows,)
    rows = torch.arange(len(positions), device=positions.device)  # (rows,)
    if bool((positions < 0).any()) or not bool(layout.mask[inside][rows, positions].all()):
        raise InputError(
            "An answer's start or end is a negative column or a padded one.",
            key="start_positions",
            hint=f"Use {IGNORED} for a row without an answer.",
        )
    return F.cross_entropy(_precise(logits), positions, reduction="sum") / 2, len(positions)


def _precise(logits: Tensor) -> Tensor:
    """At least float32: a softmax over thousands of classes is a long sum."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _refuse_distilbert(config: BertConfig, what: str) -> None:
    if config.is_distilbert:
        raise ConfigError(f"DistilBERT was published without {what}.", key="model_type")


# The classes that a checkpoint can name, by name.
MODELS: dict[str, type[BertBase]] = {
    model.__name__: model
    for model in (
        BertModel,
        BertForMaskedLM,
        BertForNextSentencePrediction,
        BertForPreTraining,
        BertForSequenceClassification,
        BertForTokenClassification,
        BertForQuestionAnswering,
        BertForMultipleChoice,
    )
}
