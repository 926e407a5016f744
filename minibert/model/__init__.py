"""The network; nothing here reads a file, knows a tokenizer or a training loop."""

from minibert.model.bert import BertModel, BertOutput
from minibert.model.config import BertConfig
from minibert.model.heads import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from minibert.model.layout import Layout
from minibert.model.trace import Trace

__all__ = [
    "BertConfig",
    "BertForMaskedLM",
    "BertForMultipleChoice",
    "BertForNextSentencePrediction",
    "BertForPreTraining",
    "BertForQuestionAnswering",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertModel",
    "BertOutput",
    "Layout",
    "Trace",
]
