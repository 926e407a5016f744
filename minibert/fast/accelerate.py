"""accelerate(model): the same network with faster parts, for training.

    model = accelerate(BertForSequenceClassification.from_pretrained(source, labels=names))

The class of a part is changed in place, which keeps its parameters, hooks, optimizer references and
frozen eval mode. Tests hold each fast part to the numbers of the lesson's.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from minibert.attention import SelfAttention, attend_by_length
from minibert.encoder import Encoder, EncoderLayer
from minibert.fast.attend import attend_fast
from minibert.fast.dropout import FastDropout
from minibert.fast.graphs import GraphedEncoder
from minibert.fast.rows import FilledEncoder

M = TypeVar("M", bound=nn.Module)


def accelerate(model: M, graphs: bool = False) -> M:
    """Gives a model faster parts, in place; parts that somebody has changed are left alone.

    Args:
        graphs: on a GPU, start the encoder's kernels together where shapes come back (see graphs.py).
    """
    for part in model.modules():
        if type(part) is SelfAttention and part.attend is attend_by_length:
            part.attend = attend_fast
        elif type(part) is nn.Dropout:
            part.__class__ = FastDropout
    for part in model.modules():
        if type(part) is Encoder and all(_attends_fast(layer) for layer in part.layers):
            part.__class__ = GraphedEncoder if graphs else FilledEncoder
    return model


def _attends_fast(layer: nn.Module) -> bool:
    return type(layer) is EncoderLayer and layer.attention.attend is attend_fast
