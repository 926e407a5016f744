"""What every model can do besides computing: load, save, freeze, recompute, resize its vocabulary.

The files themselves are the subject of checkpoint.py.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from minibert.config import BertConfig
from minibert.io.likeness import unchanged
from minibert.io.seeds import default_generator
from minibert.io.shards import LoadReport
from minibert.io.source import Source


class Model(nn.Module):
    """A network (`body`) with or without a head on top, built from a `config`.

    To change a model, derive a class from it and make the change in its `__init__` (or `build`),
    from nothing but the config; what else it needs goes into `config.extra`. The subclass loads
    official files: parameters that it adds are freshly initialised, those that it drops are left
    out. It saves its own parameters under their own names, and its own name as `minibert_class` in
    config.json. A model that was changed after its `__init__` cannot be saved: loading builds it
    from class and config, and would lose the change.
    """

    config: BertConfig  # what the model was built from
    load_report: LoadReport | None = None  # what became of every tensor, if the model was loaded
    _fresh: Mapping[str, Tensor] = {}  # parameters that loading freshly initialised -> their values then

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self._frozen: list[nn.Module] = []

    @property
    @abstractmethod
    def body(self) -> Any:
        """The BertModel inside; itself, for a BertModel."""

    @classmethod
    def from_pretrained(
        cls, source: str | Path | Source, *, revision: str | None = None,
        labels: Sequence[str] | None = None, num_labels: int | None = None, problem_type: str | None = None,
        fresh_head: bool = False, num_hidden_layers: int | None = None, dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None, allow_nonfinite: bool = False,
    ) -> Self:  # fmt: skip
        """Loads a model, in eval mode, from a folder or from the Hub. Strict: all or nothing.

        A head is freshly initialised only on request. `labels` or `num_labels` ask for one where
        the file has no head of this class, or one with other classes or label names (a stored
        LABEL_0, LABEL_1, ... does not count as a name). `fresh_head` asks for one where the file
        has none. A pooler that the file lacks comes with the head that needs it.

        Args:
            source: a folder, a Hub id such as "google-bert/bert-base-uncased", or an open Source.
            revision: branch, tag or commit on the Hub.
            labels: the C label names, for sequence or token classification.
            num_labels: C, without names.
            problem_type: "regression", "single_label_classification" or "multi_label_classification".
            fresh_head: whether a head that the file lacks is freshly initialised.
            num_hidden_layers: how many layers to keep, the first ones; by default all.
            generator: draws the fresh weights; by default one with seed 0.
            allow_nonfinite: warn of weights that are NaN or infinite instead of refusing them.

        Raises:
            CheckpointError: the files are missing, damaged, pickles, or do not fit this class.
            ConfigError: config.json holds a value that no model can be built from.
            HubError: a download failed.
        """
        from minibert import checkpoint

        return checkpoint.load(
            cls, source, revision, labels=labels, num_labels=num_labels, problem_type=problem_type,
            fresh_head=fresh_head, num_hidden_layers=num_hidden_layers, dtype=dtype, generator=generator,
            allow_nonfinite=allow_nonfinite,
        )  # fmt: skip

    def save_pretrained(self, folder: str | Path, *, allow_untrained: bool = False) -> None:
        """Writes model.safetensors and then config.json, each whole or not at all; transformers opens them.

        Raises:
            CheckpointError: a freshly initialised head was never trained, unless `allow_untrained`;
                or the class would not build this model again from its config.
            DiskError: a write failed.
        """
        from minibert import checkpoint

        checkpoint.save(self, Path(folder), allow_untrained)

    def official_names(self) -> dict[str, str]:
        """The name of every parameter here -> its name in official files."""
        from minibert import checkpoint

        return checkpoint.official_names(self)

    def official_state_dict(self) -> dict[str, Tensor]:
        """The parameters under their official names; a tied decoder appears once."""
        official = self.official_names()
        return {official[name]: tensor for name, tensor in self.state_dict().items()}

    def untrained(self) -> tuple[str, ...]:
        """The parameters that loading freshly initialised and that still hold those values."""
        return unchanged(self, self._fresh)

    def freeze(self, *modules: nn.Module) -> None:
        """Freezes modules, by default the body: no gradients, no dropout, whatever `train()` says."""
        for module in modules or (self.body,):
            module.requires_grad_(False).eval()
            self._frozen.append(module)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for part in (part for module in self._frozen for part in module.modules()):
            part.training = False  # not eval(), which would come back here
        return self

    def use_gradient_checkpointing(self, on: bool = True) -> None:
        """Switches the recomputation of layers in the backward pass on or off (see Encoder)."""
        self.body.encoder.gradient_checkpointing = on

    def resize_token_embeddings(self, vocab_size: int, generator: torch.Generator | None = None) -> None:
        """Makes the word table (V, D), and a masked-LM head's decoder and bias, longer or shorter.

        Old rows stay; new ones are freshly initialised, with zero biases.
        """
        generator = default_generator(generator)
        config = self.config.replace(vocab_size=vocab_size)

        def resized(old: nn.Parameter, deviation: float = config.initializer_range) -> nn.Parameter:
            new = torch.empty(vocab_size, *old.shape[1:], dtype=old.dtype)  # (V, ...)
            new.normal_(0.0, deviation, generator=generator)
            kept = min(len(new), len(old))
            new[:kept] = old.detach()[:kept]  # (V, ...)
            return nn.Parameter(new.to(old.device), requires_grad=old.requires_grad)

        table = self.body.embeddings.word
        table.weight, table.num_embeddings = resized(table.weight), vocab_size  # (V, D)
        heads: list[Any] = [part for part in self.modules() if hasattr(part, "decoder")]
        for head in heads:
            head.bias = resized(head.bias, deviation=0.0)  # (V,)
            if head.decoder is not None:
                head.decoder.weight, head.decoder.out_features = resized(head.decoder.weight), vocab_size  # (V, D)
        self.config = self.body.config = config


def initialise(module: nn.Module, deviation: float, generator: torch.Generator | None) -> None:
    """Draws matrices and tables from a normal distribution; zero biases and pad row, layer norms 1 and 0.

    Parameters on the meta device, which have no numbers, are left alone.

    NOTE(paper): the paper does not say how. The published code draws from a normal distribution
    truncated at two deviations, the PyTorch ports from an untruncated one, as here.
    """
    generator = default_generator(generator)
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            part.reset_parameters()
        if not isinstance(part, (nn.Linear, nn.Embedding)) or part.weight.is_meta:
            continue
        nn.init.normal_(part.weight, 0.0, deviation, generator=generator)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            nn.init.zeros_(part.weight.data[part.padding_idx])
