"""`minibert embed`: one vector for each text."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch

from minibert.bert import BertModel
from minibert.data import Dataset, Example
from minibert.fast.precision import Precision, choose_precision
from minibert.io.errors import CheckpointError
from minibert.io.files import atomic_path
from minibert.io.source import Source, open_source
from minibert.tokenizer import BertTokenizer
from minibert.workbench.tasks.common import pick_device
from minibert.workbench.tasks.inference import ready_for_inference, run
from minibert.workbench.tasks.pooling import SentenceEncoder
from minibert.workbench.tasks.sentence_recipe import sentence_recipe


class Embedder:
    """A BertModel as an encoder of sentences, with its tokenizer."""

    def __init__(
        self, encoder: SentenceEncoder, tokenizer: BertTokenizer, precision: Precision, max_length: int | None = None
    ):
        self.encoder = encoder.to(precision.device).eval()
        self.tokenizer = tokenizer
        self.precision = precision
        self.max_length = max_length

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | Source,
        *,
        revision: str | None = None,
        device: str = "auto",
        precision: str = "fp32",
        pooling: str | None = None,
        normalize: bool | None = None,
        layer: int = -1,
    ) -> Self:
        """Opens a checkpoint; a sentence-transformers folder says itself how to pool.

        Args:
            pooling, normalize: override what the folder says; without `modules.json` the defaults
                are "mean" and no scaling.
            layer: which hidden state is pooled: 0 the embeddings, -1 the last layer.

        Raises:
            CheckpointError: `modules.json` names an unknown module, or texts are to be lowercased
                and the tokenizer keeps capitals.
        """
        source = open_source(source, revision)
        tokenizer = BertTokenizer.from_pretrained(source)
        model = BertModel.from_pretrained(source)
        recipe = sentence_recipe(source)
        if recipe.lowercase and not tokenizer.lowercase:
            raise CheckpointError(
                f"{source} asks for lowercase texts (sentence_bert_config.json), but its tokenizer keeps capitals.",
                path=source.folder,
                key="do_lower_case",
                hint="Lowercase the texts yourself and set do_lower_case to false there.",
            )
        chosen = choose_precision(precision, pick_device(device))
        ready, chosen = ready_for_inference(model, chosen)
        encoder = SentenceEncoder(
            ready,
            recipe.pooling if pooling is None else pooling,
            recipe.normalize if normalize is None else normalize,
            layer,
        )
        longest = min(recipe.max_length or tokenizer.max_length, tokenizer.max_length)
        return cls(encoder, tokenizer, chosen, longest)

    def __call__(
        self,
        texts: str | Sequence[str] | Sequence[Example],
        *,
        batch_size: int = 32,
        max_length: int | None = None,
        progress: bool = False,
    ) -> np.ndarray:
        """One vector for each text, or pair of texts, in the order given: float32 (texts, D)."""
        texts = [texts] if isinstance(texts, str) else texts
        examples = [text if isinstance(text, Example) else Example(text) for text in texts]
        if not examples:
            return np.zeros((0, self.encoder.model.config.hidden_size), np.float32)
        length = self.max_length if max_length is None else max_length
        show = progress and len(examples) > batch_size
        rows = Dataset(examples, self.tokenizer, max_length=length, progress=show)
        result = run(
            self.encoder,
            rows,
            self.tokenizer,
            self.precision,
            batch_size=batch_size,
            progress="embedding" if show else None,
        )
        return torch.stack(result.logits).numpy()  # (texts, D)

    @staticmethod
    def write(path: str | Path, vectors: np.ndarray) -> None:
        """Writes vectors as a .npy file."""
        buffer = io.BytesIO()
        np.save(buffer, vectors, allow_pickle=False)
        with atomic_path(path) as temporary:
            temporary.write_bytes(buffer.getvalue())
