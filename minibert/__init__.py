"""minibert: a from-scratch BERT to read, trust, train and take apart.

The shape legend, used everywhere and never redefined:

    B  sequences in a batch              D  hidden_size
    S  columns of the padded batch       N  attention heads
    T  real tokens in the batch          H  head size, D = N * H
    L  layers                            F  intermediate_size
    V  vocabulary                        C  classes
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from minibert.io.errors import MinibertError as MinibertError
from minibert.io.version import __version__ as __version__

if TYPE_CHECKING:  # for type checkers: the names of the table below
    from minibert.bert import BertModel as BertModel
    from minibert.bert import BertOutput as BertOutput
    from minibert.config import BertConfig as BertConfig
    from minibert.heads import BertForMaskedLM as BertForMaskedLM
    from minibert.heads import BertForMultipleChoice as BertForMultipleChoice
    from minibert.heads import BertForNextSentencePrediction as BertForNextSentencePrediction
    from minibert.heads import BertForPreTraining as BertForPreTraining
    from minibert.heads import BertForQuestionAnswering as BertForQuestionAnswering
    from minibert.heads import BertForSequenceClassification as BertForSequenceClassification
    from minibert.heads import BertForTokenClassification as BertForTokenClassification
    from minibert.layout import Layout as Layout
    from minibert.tokenizer import BertTokenizer as BertTokenizer
    from minibert.trace import Trace as Trace

# Each name is imported when it is first used: `minibert --help` need not wait for torch.
_TASKS = ["MaskedLM", "MultipleChoice", "NextSentencePrediction", "PreTraining", "QuestionAnswering"]
_TASKS += ["SequenceClassification", "TokenClassification"]
_HOME = {f"BertFor{task}": "minibert.heads" for task in _TASKS} | {
    "BertConfig": "minibert.config",
    "BertModel": "minibert.bert",
    "BertOutput": "minibert.bert",
    "BertTokenizer": "minibert.tokenizer",
    "Layout": "minibert.layout",
    "Trace": "minibert.trace",
}
__all__ = ["MinibertError", "__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'minibert' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
