"""minibert: a from-scratch BERT to read, trust, train and take apart.

The shape legend, used everywhere and never redefined:

    B  sequences in a batch              D  hidden_size
    S  columns of the padded batch       N  attention heads
    T  real tokens in the batch          H  head size, D = N * H
    L  layers                            F  intermediate_size
    V  vocabulary                        C  classes
"""

__version__ = "0.1.0"

from minibert.errors import MinibertError
from minibert.model import (
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    Layout,
    Trace,
)
from minibert.tasks.features import extract_features
from minibert.tasks.finetune import Settings, finetune, resume
from minibert.tasks.predict import Embedder, MaskFiller, Predictor
from minibert.tasks.pretrain import pretrain, resume_pretraining
from minibert.tasks.pretrain_settings import PretrainSettings
from minibert.text.tokenizer import BertTokenizer

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
    "BertTokenizer",
    "Embedder",
    "Layout",
    "MaskFiller",
    "MinibertError",
    "Predictor",
    "PretrainSettings",
    "Settings",
    "Trace",
    "extract_features",
    "finetune",
    "pretrain",
    "resume",
    "resume_pretraining",
]
