"""Planted circuits: small BERTs whose weights were set by hand, so that what they do, and where, is known.

The D = 128 dimensions of a hidden state are three lists of flags: which piece this is (V of them), which column (P),
and which piece is to be answered (V). Every position has one flag of the first two lists: all layer norms scale alike.
"""

from __future__ import annotations

import torch
from torch import nn

from minibert import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertTokenizer

WORDS = [f"word{number}" for number in range(20)]
VOCABULARY = {token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
V, P, D, N, H, L = len(VOCABULARY), 16, 128, 4, 32, 3
PIECE, COLUMN, ANSWER = 0, V, V + P  # where each list of flags begins

LAYER, HEAD = 1, 2  # of the planted heads


def tokenizer() -> BertTokenizer:
    return BertTokenizer(VOCABULARY, max_length=P)


def copies_previous(distance: int = 1) -> BertForMaskedLM:
    """Predicts at each position the piece `distance` columns before it, by head 2 of layer 1 and nothing else."""
    model = _blank(BertForMaskedLM)
    head = slice(HEAD * H, (HEAD + 1) * H)
    attention = model.bert.encoder.layers[LAYER].attention
    with torch.no_grad():
        for column in range(P):
            attention.key.weight[head][column, COLUMN + column] = 8.0
            if column >= distance:
                attention.query.weight[head][column - distance, COLUMN + column] = 8.0
        for piece in range(V):
            attention.value.weight[head][piece, PIECE + piece] = 4.0
            attention.output.weight[:, head][ANSWER + piece, piece] = 1.0
            model.head.dense.weight[PIECE + piece, ANSWER + piece] = 4.0
    return model.eval()


def finds_word(word: str = "word7") -> BertForSequenceClassification:
    """Says YES where a piece occurs: head 2 of layer 1 looks for it from [CLS]."""
    model = _blank(BertForSequenceClassification, id2label={0: "NO", 1: "YES"})
    head, wanted = slice(HEAD * H, (HEAD + 1) * H), PIECE + VOCABULARY[word]
    attention = model.bert.encoder.layers[LAYER].attention
    with torch.no_grad():
        attention.query.weight[head][0, PIECE + VOCABULARY["[CLS]"]] = 8.0
        attention.key.weight[head][0, wanted] = 8.0
        attention.value.weight[head][0, wanted] = 8.0
        attention.output.weight[:, head][ANSWER, 0] = 1.0
        model.bert.pooler.dense.weight[0, ANSWER] = 1.0
        model.head.classifier.weight[1, 0], model.head.classifier.weight[0, 0] = 4.0, -4.0
        model.head.classifier.bias[0] = 1.0
    return model.eval()


def _blank(kind: type, **settings: object) -> nn.Module:
    """A model whose embeddings set the flags and whose layers do nothing."""
    config = BertConfig(
        vocab_size=V, hidden_size=D, num_hidden_layers=L, num_attention_heads=N, intermediate_size=48,
        max_position_embeddings=P, **settings,
    )  # fmt: skip
    model = kind(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.zero_()
        embeddings = model.bert.embeddings
        embeddings.word.weight[range(V), range(PIECE, PIECE + V)] = 1.0
        embeddings.position.weight[range(P), range(COLUMN, COLUMN + P)] = 1.0
    return model
