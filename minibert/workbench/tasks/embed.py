"""`minibert embed`: one vector for each text."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from minibert.bert import BertModel
from minibert.data import Dataset, Example
from minibert.fast.precision import Precision, choose_precision
from minibert.io.errors import CheckpointError, ConfigError
from minibert.io.files import atomic_path
from minibert.io.source import CONFIG, Source, open_source
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.records import Record
from minibert.workbench.tasks.common import pick_device
from minibert.workbench.tasks.inference import ready_for_inference, run
from minibert.workbench.tasks.pooling import SentenceEncoder, UnitLength
from minibert.workbench.tasks.sentence_recipe import MODULES, SETTINGS, SentenceRecipe, sentence_recipe


@dataclass(frozen=True)
class Embedding:
    """A text and its vector, (D,)."""

    text: str
    vector: np.ndarray

    def columns(self) -> dict[str, float]:
        """The vector as cells of a table, one for each number."""
        return {f"embedding_{place}": number for place, number in enumerate(self.vector.tolist())}

    def __str__(self) -> str:
        start = " ".join(f"{number:+.4f}" for number in self.vector[:6])
        return f"{self.text[:40]:<40}  {start} ... ({len(self.vector)} numbers)"


class Embedder:
    """A BertModel as an encoder of sentences, with its tokenizer."""

    def __init__(
        self,
        encoder: SentenceEncoder,
        tokenizer: BertTokenizer,
        precision: Precision,
        max_length: int | None = None,
        prompt: str = "",
    ):
        self.encoder = encoder.to(precision.device).eval()
        self.tokenizer = tokenizer
        self.precision = precision
        self.max_length = max_length
        self.prompt = prompt

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
        prompt: str | None = None,
    ) -> Self:
        """Opens a checkpoint; a sentence-transformers folder says itself how to pool.

        Args:
            pooling, normalize: override what the folder says; without `modules.json` the defaults
                are "mean" and no scaling.
            layer: which hidden state is pooled: 0 the embeddings, -1 the last layer.
            prompt: the name of a prompt in the folder, whose text is put before each text; by
                default the folder's default, if it has one.

        Raises:
            CheckpointError: the folder asks for something that is not supported (see
                `sentence_recipe`), or for lowercase texts while the tokenizer keeps capitals.
            ConfigError: the folder has no such prompt.
        """
        source = open_source(source, revision, (CONFIG, MODULES))
        recipe = sentence_recipe(source)
        before = _prompt(source, recipe, prompt)
        tokenizer = BertTokenizer.from_pretrained(recipe.model)
        model = BertModel.from_pretrained(recipe.model)
        if recipe.lowercase and not tokenizer.lowercase:
            raise CheckpointError(
                f"{source} asks for lowercase texts (sentence_bert_config.json), but its tokenizer keeps capitals.",
                path=source.folder,
                key="do_lower_case",
                hint="Lowercase the texts yourself and set do_lower_case to false there.",
            )
        longest = min(recipe.max_length or tokenizer.max_length, model.config.max_position_embeddings)
        tokenizer.max_length = max(longest, tokenizer.max_length)  # the recipe counts before the tokenizer's limit
        steps = [step for step in recipe.steps if normalize is not False or not isinstance(step, UnitLength)]
        if normalize:
            steps.append(UnitLength())
        chosen = choose_precision(precision, pick_device(device))
        ready, chosen = ready_for_inference(model, chosen)
        encoder = SentenceEncoder(ready, recipe.pooling if pooling is None else pooling, steps, layer)
        return cls(encoder, tokenizer, chosen, longest, before)

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
            none = torch.zeros(0, self.encoder.model.config.hidden_size, device=self.precision.device)  # (0, D)
            return self.encoder.steps(none).detach().cpu().numpy()  # (0, D)
        if self.prompt:
            examples = [replace(example, text=f"{self.prompt}{example.text}") for example in examples]
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

    def of_records(self, records: Sequence[Record], **how: Any) -> list[Embedding]:
        """The vectors of the texts of records, as readers give them; see `__call__`."""
        texts = [record.sentence for record in records]
        return [Embedding(text, vector) for text, vector in zip(texts, self(texts, **how), strict=True)]

    @staticmethod
    def write(path: str | Path, vectors: np.ndarray) -> None:
        """Writes vectors as a .npy file."""
        buffer = io.BytesIO()
        np.save(buffer, vectors, allow_pickle=False)
        with atomic_path(path) as temporary:
            temporary.write_bytes(buffer.getvalue())


def _prompt(source: Source, recipe: SentenceRecipe, name: str | None) -> str:
    """The text that is put before each text; prompts of which none is used are mentioned."""
    listed = ", ".join(recipe.prompts) or "none"
    if name is not None and name not in recipe.prompts:
        raise ConfigError(f"{source} has no prompt {name!r}: it has {listed}.", key="prompt")
    name = recipe.default_prompt if name is None else name
    if name is None:
        if any(recipe.prompts.values()):
            warnings.warn(f"{source} has the prompts {listed}, and uses none by default: --prompt NAME.", stacklevel=3)
        return ""
    if recipe.prompts[name] and not recipe.pool_prompt:
        raise CheckpointError(
            f"{source} asks for a pooling without the prompt's tokens, which is not supported.",
            path=source.folder,
            key="include_prompt",
            hint=f"Remove the prompts from {SETTINGS}, or choose an empty one.",
        )
    return recipe.prompts[name]
