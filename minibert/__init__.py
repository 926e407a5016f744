"""minibert: a from-scratch BERT to read, trust, train and take apart.

The shape legend, used everywhere and never redefined:

    B  sequences in a batch              D  hidden_size
    S  columns of the padded batch       N  attention heads
    T  real tokens in the batch          H  head size, D = N * H
    L  layers                            F  intermediate_size
    V  vocabulary                        C  classes
"""

from minibert.bert import BertModel, BertOutput
from minibert.config import BertConfig
from minibert.heads import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from minibert.io.errors import MinibertError
from minibert.io.version import __version__
from minibert.layout import Layout
from minibert.tokenizer import BertTokenizer
from minibert.trace import Trace

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
    "BertTokenizer",
    "Layout",
    "MinibertError",
    "Trace",
    "__version__",
]
