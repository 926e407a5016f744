"""The heads: what BERT's hidden states are used for.

Pre-training: Devlin et al. 2019, section 3.1 (masked LM, next sentence). Fine-tuning: figure 4 and
section 4 (4.1 classification, 4.2 spans, 4.4 choices). DistilBERT's forms follow its code.

Every head returns logits, never probabilities; with labels also `loss`, transformers' mean, and
`loss_terms`, its sums and counts (see losses.py). Names in a trace: head.dense, .activation, .norm
and .logits, those that the head has; (T, ...) for heads over tokens, (B, ...) for heads over rows.

A head of your own: subclass a model below, make its modules in `build`, and compute logits and loss
terms in `answer`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minibert import losses
from minibert.base import Model, initialise
from minibert.bert import BertModel
from minibert.config import BertConfig
from minibert.inputs import pack
from minibert.io.checks import IGNORED, check_labels, require
from minibert.io.device import on_both, on_host, to_device
from minibert.io.errors import ConfigError, InputError
from minibert.io.seeds import default_generator
from minibert.layers import ACTIVATIONS
from minibert.layout import Layout
from minibert.losses import ClassLoss, LossTerms
from minibert.outputs import Encoded, HeadOutput, PreTrainingOutput, SpanOutput
from minibert.trace import Scope, Trace

Answer = tuple[Any, LossTerms]  # logits, and loss terms if there are labels


class ModelWithHead(Model):
    """A BertModel with something on top; arguments as for BertModel."""

    pooler: ClassVar[bool] = False  # whether the head reads the pooled [CLS]
    for_distilbert: ClassVar[bool] = True  # whether DistilBERT was published with such a head
    output: ClassVar[type[HeadOutput]] = HeadOutput
    counted: ClassVar[Mapping[str, str]] = {}  # loss term -> the argument with its labels

    def __init__(self, config: BertConfig, generator: torch.Generator | None = None):
        super().__init__(config)
        if config.is_distilbert and not self.for_distilbert:
            raise ConfigError(f"DistilBERT was published without a {type(self).__name__}.", key="model_type")
        generator = default_generator(generator)
        self.bert = BertModel(config, pooler=self.pooler, generator=generator)
        self.build(config)
        for name, module in self.named_children():
            if name != "bert":
                initialise(module, config.initializer_range, generator)

    @property
    def body(self) -> BertModel:
        return self.bert

    @abstractmethod
    def build(self, config: BertConfig) -> None:
        """Makes the modules on top of the body."""

    @abstractmethod
    def answer(self, encoded: Encoded, *args: Any, **given: Any) -> Answer:
        """Logits and loss terms, none without labels."""

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None, position_ids: Tensor | None = None, inputs_embeds: Tensor | None = None,
        output_hidden_states: bool = False, output_attentions: bool = False,
        layout: Layout | None = None, trace: Trace | None = None, **given: Any,
    ) -> Any:  # fmt: skip
        """Runs body and head; the keywords `given` are those of the head's `answer`."""
        packed = pack(self.bert.config, input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, layout)
        encoded = self.bert.encode(packed, output_hidden_states, output_attentions, trace)
        logits, terms = self.answer(encoded, **given)
        return self.output(losses.mean(terms), terms, logits, *encoded.finish())

    def count_labels(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """For each loss term of a batch, the number of labels that its sum will be over.

        A training loop can divide each part of a large batch by the count of the whole.
        """
        given = {term: batch.get(name) for term, name in self.counted.items()}
        return {term: losses.count(labels) for term, labels in given.items() if labels is not None}


class MaskedLMHead(nn.Module):
    """Dense, activation, norm, then a product with every row of the word table, plus a bias.

    The table is the embeddings' own ("tied"), passed in at each call, so there is one of it.
    `decoder` is a second table for a config that unties them, else None.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        size = config.hidden_size
        self.dense = nn.Linear(size, size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.norm = nn.LayerNorm(size, config.layer_norm_eps)
        self.decoder = None if config.tie_word_embeddings else nn.Linear(size, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))  # (V,)

    def forward(self, hidden: Tensor, word_table: Tensor, scope: Scope) -> Tensor:
        """hidden (T, D), word_table (V, D) -> logits (T, V)."""
        table = word_table if self.decoder is None else self.decoder.weight  # (V, D)
        hidden = scope.tap("dense", self.dense(hidden))  # (T, D)
        hidden = scope.tap("activation", self.activation(hidden))  # (T, D)
        hidden = scope.tap("norm", self.norm(hidden))  # (T, D)
        logits = F.linear(hidden, table, self.bias)  # (T, V)
        return scope.tap("logits", logits)

    def read(self, encoded: Encoded, table: Tensor, labels: Tensor | None, only: bool, scope: Scope) -> Answer:
        """Logits (B, S, V), or (M, V) at the `only` labelled positions, and the loss term."""
        hidden, layout = encoded.hidden, encoded.layout  # (T, D)
        if labels is None:
            require(not only, "labels", "are missing, and labelled_only needs them.", "Leave it out.")
            return layout.pad(self(hidden, table, scope)), {}  # (B, S, V)
        check_labels("labels", labels, tuple(layout.mask.shape), len(table), layout.mask)
        packed = layout.unpad(labels)  # (T,)
        if only:
            labelled = to_device((on_host(packed) != IGNORED).nonzero().squeeze(1), hidden.device)  # (M,)
            packed = on_both(lambda x, places: x.index_select(0, places), packed, labelled)  # (M,)
            hidden = hidden.index_select(0, labelled)  # (M, D)
        logits = self(hidden, table, scope)  # (T, V) or (M, V)
        terms = {"masked_lm": losses.cross_entropy(logits, packed)}
        return logits if only else layout.pad(logits), terms  # (B, S, V) or (M, V)


class RowHead(nn.Module):
    """Dropout and a linear map of each row's vector.

    BERT's row vector is the pooled [CLS]. DistilBERT has no pooler: its head takes [CLS] itself
    through a dense layer with ReLU first, and has a dropout rate of its own.
    """

    def __init__(self, config: BertConfig, outputs: int, dropout_p: float | None = None):
        super().__init__()
        size, distil = config.hidden_size, config.is_distilbert
        rate = config.seq_classif_dropout if distil else config.head_dropout
        self.dense = nn.Linear(size, size) if distil else None
        self.dropout = nn.Dropout(rate if dropout_p is None else dropout_p)
        self.classifier = nn.Linear(size, outputs)

    def forward(self, encoded: Encoded, row: Tensor | None = None, name: str = "head") -> Tensor:
        """(B, outputs), zeros for a row without tokens; `row` (B, D) is used in place of [CLS]."""
        scope, layout = encoded.scope.inside(name), encoded.layout
        if row is None:
            row = encoded.pooled if self.dense is None else layout.first_tokens(encoded.hidden)
        if self.dense is not None:
            dense = scope.tap("dense", self.dense(row))  # (B, D)
            row = scope.tap("activation", F.relu(dense))  # (B, D)
        logits = self.classifier(self.dropout(row))  # (B, outputs)
        return layout.zero_empty_rows(scope.tap("logits", logits))  # (B, outputs)


class TokenHead(nn.Module):
    """Dropout and a linear map of each token's vector."""

    def __init__(self, config: BertConfig, outputs: int, dropout_p: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout_p)
        self.classifier = nn.Linear(config.hidden_size, outputs)

    def forward(self, encoded: Encoded) -> Tensor:
        """(T, outputs)."""
        logits = self.classifier(self.dropout(encoded.hidden))  # (T, outputs)
        return encoded.scope.inside("head").tap("logits", logits)


class BertForMaskedLM(ModelWithHead):
    """Predicts the piece at each position; logits (B, S, V), zeros at padding."""

    counted = {"masked_lm": "labels"}

    def build(self, config: BertConfig) -> None:
        self.head = MaskedLMHead(config)

    def answer(self, encoded: Encoded, labels: Tensor | None = None, labelled_only: bool = False) -> Answer:
        """labels (B, S): an id, or -100.

        With `labelled_only` the head runs at the M labelled positions only, about a seventh of all
        in pre-training. Loss and gradients are the same; logits are (M, V), in packed order.
        """
        table, scope = self.bert.embeddings.word.weight, encoded.scope.inside("head")  # (V, D)
        return self.head.read(encoded, table, labels, labelled_only, scope)


class BertForNextSentencePrediction(ModelWithHead):
    """Tells whether the second text followed the first; logits (B, 2). BERT only."""

    pooler, for_distilbert = True, False
    counted = {"next_sentence": "labels"}

    def build(self, config: BertConfig) -> None:
        self.head = RowHead(config, 2, dropout_p=0.0)

    def answer(self, encoded: Encoded, labels: Tensor | None = None) -> Answer:
        """labels (B,): 0, it followed; 1, it is from another text."""
        logits = self.head(encoded)  # (B, 2)
        return logits, {} if labels is None else {"next_sentence": losses.one_class("labels", logits, labels)}


class BertForPreTraining(ModelWithHead):
    """Both heads of pre-training at once; the loss is the sum of their means. BERT only."""

    pooler, for_distilbert, output = True, False, PreTrainingOutput
    counted = {"masked_lm": "labels", "next_sentence": "next_sentence_label"}

    def build(self, config: BertConfig) -> None:
        self.masked_lm = MaskedLMHead(config)
        self.next_sentence = RowHead(config, 2, dropout_p=0.0)

    def answer(
        self, encoded: Encoded, labels: Tensor | None = None, next_sentence_label: Tensor | None = None,
        labelled_only: bool = False,
    ) -> Answer:  # fmt: skip
        """As BertForMaskedLM, with next_sentence_label (B,)."""
        table, scope = self.bert.embeddings.word.weight, encoded.scope.inside("masked_lm")  # (V, D)
        pieces, terms = self.masked_lm.read(encoded, table, labels, labelled_only, scope)
        follows = self.next_sentence(encoded, name="next_sentence")  # (B, 2)
        if next_sentence_label is not None:
            terms["next_sentence"] = losses.one_class("next_sentence_label", follows, next_sentence_label)
        return (pieces, follows), terms


class BertForSequenceClassification(ModelWithHead):
    """One row, one answer: a class, several yes/no labels, or numbers; logits (B, C).

    `config.problem_type` says which. Where that is None the labels tell, as in transformers: one
    output means regression, integer labels a class, other labels several.
    """

    pooler = True

    def build(self, config: BertConfig) -> None:
        self.head = RowHead(config, config.num_labels)
        self.class_loss = ClassLoss()  # where the answer is a class

    def answer(self, encoded: Encoded, labels: Tensor | None = None) -> Answer:
        """labels (B,) class numbers, or (B, C) numbers."""
        logits = self.head(encoded)  # (B, C)
        return logits, self.loss_terms(logits, labels)

    def loss_terms(self, logits: Tensor, labels: Tensor | None) -> LossTerms:
        """The loss of logits (B, C), by the problem type."""
        if labels is None:
            return {}
        problem_type = self.problem_type(labels)
        if problem_type == "single_label_classification":
            return {"label": losses.one_class("labels", logits, labels, self.class_loss)}
        loss = losses.squared_error if problem_type == "regression" else losses.yes_or_no
        return {"label": loss("labels", logits, labels)}

    def count_labels(self, batch: Mapping[str, Any]) -> dict[str, float]:
        labels = batch["labels"]
        one_class = self.problem_type(labels) == "single_label_classification"
        return {"label": self.class_loss.count(labels) if one_class else losses.count(labels)}

    def problem_type(self, labels: Tensor) -> str:
        """The config's problem_type, or the one that the labels' shape and dtype mean."""
        if self.config.problem_type is not None:
            return self.config.problem_type
        if self.config.num_labels == 1:
            return "regression"
        return "multi_label_classification" if labels.is_floating_point() else "single_label_classification"


class BertForTokenClassification(ModelWithHead):
    """A class for each token; logits (B, S, C), zeros at padding."""

    counted = {"token": "labels"}

    def build(self, config: BertConfig) -> None:
        self.head = TokenHead(config, config.num_labels, config.head_dropout)

    def answer(self, encoded: Encoded, labels: Tensor | None = None) -> Answer:
        """labels (B, S): a class, or -100."""
        logits, layout = self.head(encoded), encoded.layout  # (T, C)
        if labels is None:
            return layout.pad(logits), {}  # (B, S, C)
        check_labels("labels", labels, tuple(layout.mask.shape), logits.shape[1], layout.mask)
        return layout.pad(logits), {"token": losses.cross_entropy(logits, layout.unpad(labels))}


class BertForQuestionAnswering(ModelWithHead):
    """Where an answer starts and ends; two logits for each column, -inf at padding.

    NOTE: transformers lets the softmax over columns run through the padding, so that there a row's
    loss depends on how long its neighbours are.
    """

    output = SpanOutput

    def build(self, config: BertConfig) -> None:
        self.head = TokenHead(config, 2, config.qa_dropout if config.is_distilbert else 0.0)

    def answer(
        self, encoded: Encoded, start_positions: Tensor | None = None, end_positions: Tensor | None = None
    ) -> Answer:
        """start_positions, end_positions (B,): columns; -100 and columns beyond S do not count."""
        logits = encoded.layout.pad(self.head(encoded), value=-torch.inf)  # (B, S, 2)
        terms: LossTerms = {}
        if start_positions is not None and end_positions is not None:
            start, end = logits.unbind(dim=-1)  # (B, S), (B, S)
            mask = encoded.layout.mask  # (B, S)
            terms["start"] = losses.half_of_a_span("start_positions", start, start_positions, mask)
            terms["end"] = losses.half_of_a_span("end_positions", end, end_positions, mask)
        return logits, terms

    def count_labels(self, batch: Mapping[str, Any]) -> dict[str, float]:
        words = batch.get("input_ids")
        columns = (batch["inputs_embeds"] if words is None else words).shape[1]
        ends = {term: batch[f"{term}_positions"] for term in ("start", "end")}
        return {term: losses.count(losses.inside(ends[term], columns)) for term in ends}


class BertForMultipleChoice(ModelWithHead):
    """Which of several texts fits; ids (B, choices, S) in, logits (B, choices) out.

    A choice without tokens does not exist: its logit is -inf. So rows may have unequal numbers of
    choices. Hidden states, attentions, layout and trace have B * choices rows.
    """

    pooler = True
    counted = {"choice": "labels"}

    def build(self, config: BertConfig) -> None:
        self.head = RowHead(config, 1)

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None, position_ids: Tensor | None = None, inputs_embeds: Tensor | None = None,
        *args: Any, **given: Any,
    ) -> Any:  # fmt: skip
        """As BertModel, with (B, choices, S) for (B, S), and labels (B,)."""
        words = input_ids if input_ids is not None else inputs_embeds
        if words is None or words.dim() < 3:
            raise InputError("input_ids must be (B, choices, S).", key="input_ids")
        tables = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        flatten = partial(on_both, lambda x: x.flatten(0, 1))  # (B * choices, ...)
        flat: Any = [None if table is None else flatten(table) for table in tables]  # (B * choices, S, ...)
        return super().forward(*flat, *args, **given, choices=words.shape[1])

    def answer(self, encoded: Encoded, labels: Tensor | None = None, choices: int = 1) -> Answer:
        logits = self.head(encoded).view(-1, choices)  # (B, choices)
        occupied = on_host(encoded.layout.occupied).view(-1, choices)  # (B, choices)
        # A row of nothing at all keeps its zeros: a softmax over -inf alone is NaN.
        absent = ~occupied & occupied.any(dim=1, keepdim=True)  # (B, choices)
        logits = logits.masked_fill(to_device(absent, logits.device), -torch.inf)  # (B, choices)
        if labels is None:
            return logits, {}
        term = losses.one_class("labels", logits, labels)
        labels = on_host(labels)  # (B,)
        rows = (labels != IGNORED).nonzero().squeeze(1)  # (rows that count,)
        missing = bool(absent[rows, labels[rows].long()].any())
        require(not missing, "labels", "names a choice that is absent: it has no tokens.")
        return logits, {"choice": term}


# The classes that a checkpoint can name.
_CLASSES: tuple[type[Model], ...] = (BertModel, *ModelWithHead.__subclasses__())
MODELS = {model.__name__: model for model in _CLASSES}
