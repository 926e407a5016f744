"""Made-up batches, and models of both sides with the same random weights, made on the device."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor

import minibert
from minibert import checkpoint
from tests.lesson.reference import our_config
from tests.programs.gpu.table import Setting

# layers, hidden size, heads, feed-forward size
SIZES = {
    "MiniLM": (6, 384, 12, 1536),
    "BERT-base": (12, 768, 12, 3072),
    "BERT-large": (24, 1024, 16, 4096),
    "tiny": (2, 64, 2, 128),
}
TINY = "tiny"
VOCABULARY = 30522
CLASSES = 6
NAME = "BertForSequenceClassification"

Batch = dict[str, Tensor]


def pair(size: str, setting: Setting) -> tuple[Any, Any]:
    """transformers' model with SDPA and ours, in fp32."""
    layers, hidden, heads, inner = SIZES[TINY if setting.tiny else size]
    config = transformers.BertConfig(
        vocab_size=1000 if setting.tiny or size == TINY else VOCABULARY,
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=inner,
        num_labels=CLASSES,
        attn_implementation="sdpa",
    )
    with torch.device(setting.device):
        theirs = getattr(transformers, NAME)(config)
    with torch.device("meta"):
        ours = getattr(minibert, NAME)(our_config(theirs.config.to_dict()))
    ours.to_empty(device=setting.device)
    checkpoint.load_state_dict(ours, theirs.state_dict())
    return theirs, ours


def batches(kind: str, rows: int, count: int, setting: Setting) -> list[Batch]:
    """Batches on the CPU in random order, each padded to its longest row.

    "tweets" have the lengths of the emotion data set, about: 22 pieces on average, up to 87. "long"
    ones are those of reviews: 230 on average, one in ten cut at 512.
    """
    generator = torch.Generator().manual_seed(0)
    middle, spread, longest = {"tweets": (19.0, 0.55, 87), "long": (200.0, 0.7, 512)}[kind]
    if setting.tiny:
        rows, count, longest = min(rows, 4), 1, min(longest, 64)
    made = []
    for _ in range(count):
        drawn = middle * (spread * torch.randn(rows, generator=generator)).exp()  # (B,)
        lengths = drawn.round().clamp(4, longest).long()  # (B,)
        mask = torch.arange(int(lengths.max())) < lengths[:, None]  # (B, S)
        ids = torch.randint(5, 1000, mask.shape, generator=generator) * mask  # (B, S)
        labels = torch.randint(0, CLASSES, (rows,), generator=generator)  # (B,)
        inputs = {"input_ids": ids, "attention_mask": mask.long(), "token_type_ids": torch.zeros_like(ids)}
        made.append({**inputs, "labels": labels})
    return made


def tokens_of(batch: Batch) -> int:
    return int(batch["attention_mask"].sum())


def operations(size: str, batch: Batch) -> float:
    """Floating-point operations of a forward pass over the real tokens: two for each weight, and attention."""
    layers, hidden, _, inner = SIZES[size]
    lengths = batch["attention_mask"].sum(dim=1).double()  # (B,)
    weights = 4 * hidden**2 + 2 * hidden * inner
    return layers * (2 * weights * lengths.sum().item() + 4 * hidden * lengths.square().sum().item())
