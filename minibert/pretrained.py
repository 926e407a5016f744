"""from_pretrained, save_pretrained: what every model class takes on to read and write files.

It works on names, shapes and a config alone and imports no model: which official name belongs to
which parameter stands in names.py as data, and `weights.match` decides what becomes of each tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from minibert import checkpoint as weights
from minibert import names
from minibert.io.errors import CheckpointError, ConfigError
from minibert.io.files import inside, read_object, write_json, write_tensors


class Pretrained(nn.Module):
    """Official files in, official files out, for a model with a `config` and a `config_class`.

    Attributes:
        load_report: what became of every tensor; None for a model that was not loaded.
    """

    config_class: ClassVar[Any]
    config: Any
    load_report: weights.LoadReport | None = None
    # The parameters that a load left to chance -> the values drawn for them.
    _drawn: Mapping[str, Tensor] = {}

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        labels: Sequence[str] | None = None,
        num_labels: int | None = None,
        problem_type: str | None = None,
        fresh_head: bool = False,
        dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
        allow_nonfinite: bool = False,
    ) -> Self:
        """Loads a model, in eval mode, from a folder or from the Hub. Strict: all or nothing.

        A head is drawn anew only where that is asked for. With `labels` or `num_labels`, it is if
        the file has no head of this class, one with another number of classes, or one with other
        label names (a stored LABEL_0, LABEL_1, ... is no name). With `fresh_head`, it is if the
        file has none. A pooler that the file lacks is drawn together with the head that needs it.

        Args:
            source: a folder, or a Hub id such as "google-bert/bert-base-uncased".
            revision: branch, tag or commit on the Hub.
            labels: the C label names, for a sequence or token classification.
            num_labels: C, where there are no names.
            problem_type: as in the official config: "regression", "single_label_classification"
                or "multi_label_classification".
            fresh_head: whether a head that is not in the file is drawn anew.
            dtype: of the parameters.
            generator: where new weights come from; None: one with seed 0.
            allow_nonfinite: whether weights that are NaN or infinite are a warning, not an error.

        Raises:
            CheckpointError: the files are missing, damaged, pickles, or do not fit this class.
            ConfigError: config.json holds a value that no model can be built from.
            HubError: a download failed.
        """
        local, files = weights.find(source, revision)
        stored_config = _read_config(cls.config_class, local.folder)
        stored = weights.stored_shapes(files)
        weights.check_layers(stored, stored_config.num_hidden_layers, local.folder)
        if cls.__name__ not in names.HEADS[stored_config.model_type]:
            raise CheckpointError(
                f"{source} is a DistilBERT, which has no form of {cls.__name__}.",
                path=local.folder,
                key="model_type",
            )
        config = _with_labels(cls.__name__, stored_config, labels, num_labels, problem_type)
        model = cls._without_numbers(config, stored)
        asked = labels is not None or num_labels is not None
        ignored, fresh = model._choose_head(stored, stored_config, asked, fresh_head)
        entries = weights.match(
            cls.__name__,
            config.model_type,
            config.tie_word_embeddings,
            model._shapes(),
            stored,
            fresh=fresh,
            ignored=ignored,
            where=files.main,
        )
        tensors = weights.assemble(
            entries,
            weights.read(files, entries),
            dtype=dtype,
            tied=config.tie_word_embeddings,
            allow_nonfinite=allow_nonfinite,
            where=files.main,
        )
        drawn = _draw(entries, config.initializer_range, generator)
        tensors.update({name: tensor.to(dtype, copy=True) for name, tensor in drawn.items()})
        model.load_state_dict(tensors, assign=True)
        model._drawn = drawn
        model.load_report = weights.LoadReport(str(source), local.revision, cls.__name__, entries)
        return model.eval()

    def save_pretrained(self, folder: str | Path, *, allow_untrained: bool = False) -> None:
        """Writes model.safetensors and config.json, which transformers opens too.

        Each file is whole or absent; config.json comes last. The tokenizer saves its own files.

        Raises:
            CheckpointError: a head was drawn anew and never trained, and `allow_untrained` is off.
            DiskError: a write failed.
        """
        untrained = self.untrained()
        if untrained and not allow_untrained:
            raise CheckpointError(
                f"{', '.join(untrained)} of this {type(self).__name__} still hold the random "
                "numbers they were drawn with, so it is not saved.",
                path=folder,
                key=untrained[0],
                hint="Train it first, or say allow_untrained=True.",
            )
        tensors = self.official_state_dict()
        copies = weights.copies_of(type(self).__name__, self.config.model_type, False)
        if not self.config.tie_word_embeddings:
            tensors.update({copy: tensors[original].clone() for copy, original in copies.items()})
        write_tensors(Path(folder) / weights.SINGLE, tensors)
        write_json(Path(folder) / weights.CONFIG, self._official_config())

    def official_names(self) -> dict[str, str]:
        """The name of every parameter here -> its official name."""
        return weights.official_names(
            type(self).__name__,
            self.config.model_type,
            self._shapes(),
            self.config.tie_word_embeddings,
        )

    def official_state_dict(self) -> dict[str, Tensor]:
        """The parameters under their official names; a tied decoder is there once."""
        official = self.official_names()
        return {official[name]: tensor for name, tensor in self.state_dict().items()}

    def load_official_state_dict(self, tensors: Mapping[str, Tensor]) -> weights.LoadReport:
        """Copies tensors with official names into this model, as strictly as from_pretrained.

        Raises:
            CheckpointError: something does not fit; the model is then as it was.
        """
        shapes = {
            name: (tuple(tensor.shape), _SAFETENSORS_DTYPES.get(tensor.dtype, str(tensor.dtype)))
            for name, tensor in tensors.items()
        }
        name, config = type(self).__name__, self.config
        tied = config.tie_word_embeddings
        entries = weights.match(name, config.model_type, tied, self._shapes(), shapes)
        self.load_state_dict(weights.assemble(entries, tensors, tied=tied))
        self.load_report = weights.LoadReport("a state dict", None, name, entries)
        return self.load_report

    def untrained(self) -> tuple[str, ...]:
        """The parameters that loading drew anew, of modules that still hold exactly those values.

        Values are compared, not counters: they survive `deepcopy`, `to(dtype)`, `to(device)` and
        any optimizer. Whole modules, since a bias alone may rightly stay as it was: that of a score
        for each choice cancels in the softmax, and its gradient is zero. A model built from a
        config alone has none, since nothing was loaded.
        """
        parameters = dict(self.named_parameters())
        trained = {
            name.rpartition(".")[0]
            for name, drawn in self._drawn.items()
            if not torch.equal(parameters[name].detach().cpu(), drawn.to(parameters[name].dtype))
        }
        return tuple(name for name in self._drawn if name.rpartition(".")[0] not in trained)

    @classmethod
    def _without_numbers(cls, config: Any, stored: weights.Shapes) -> Self:
        """The model on the meta device: shapes and no memory. A bare model has the pooler that the
        file has."""
        build: Any = cls
        with torch.device("meta"):
            if cls.__name__ != names.BARE_MODEL:
                return build(config)
            pooler = any(weights.bare_name(name).startswith("pooler.") for name in stored)
            return build(config, pooler=pooler)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}

    def _choose_head(
        self, stored: weights.Shapes, stored_config: Any, asked: bool, fresh_head: bool
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Which stored tensors are not to be used, and which parameters may be drawn, and why."""
        ignored = self._heads_of_others(stored, stored_config)
        fresh: dict[str, str] = {}
        official = self.official_names()
        found = {weights.bare_name(key): key for key in stored if key not in ignored}
        for attribute in names.HEADS[self.config.model_type][type(self).__name__]:
            head = [name for name in official if name.startswith(f"{attribute}.")]
            keys = [found[official[name]] for name in head if official[name] in found]
            if not keys and (asked or fresh_head):
                reason = "not in the file; train before use"
            elif keys and asked:
                other = self._other_classes(stored, found, stored_config)
                if other is None:
                    continue
                reason = f"{other}; train before use"
                ignored.update(dict.fromkeys(keys, other))
            else:
                continue
            fresh.update(dict.fromkeys(head, reason))
        if fresh:
            pooler = [name for name in official if name.startswith(f"{names.OUR_PREFIX}pooler.")]
            fresh.update(dict.fromkeys(pooler, "not in the file, drawn with the head"))
        return ignored, fresh

    def _heads_of_others(self, stored: weights.Shapes, stored_config: Any) -> dict[str, str]:
        """A head that another class stored under the names of this class's head."""
        own = names.ARCHITECTURES[stored_config.model_type][type(self).__name__]
        stated = stored_config.extra.get("architectures")
        for architecture in stated if isinstance(stated, list) else ():
            if architecture in names.ARCHITECTURES[stored_config.model_type].values() and (
                architecture != own
            ):
                reason = f"the head of {architecture}, which is another task's"
                return {key: reason for key in stored if key.startswith(names.SHARED_HEAD_NAMES)}
        return {}

    def _other_classes(
        self, stored: weights.Shapes, found: Mapping[str, str], stored_config: Any
    ) -> str | None:
        """How the classes of the stored head differ from those asked for; None if they do not."""
        asked, known = self.config.id2label, stored_config.id2label
        shape = stored[found["classifier.weight"]][0] if "classifier.weight" in found else ()
        if shape[:1] != (len(asked),):
            return f"the stored head has {(*shape, 0)[0]} classes, and {len(asked)} were asked for"
        if asked != known and not _are_placeholders(known):
            return f"the stored head's classes are {', '.join(known.values())}"
        return None

    def _official_config(self) -> dict[str, Any]:
        """The content of config.json."""
        model_type = self.config.model_type
        keys = names.CONFIG_KEYS[model_type]
        left_out = {*names.CONFIG_NOT_CARRIED_OVER, *names.CONFIG_OF_OTHERS[model_type]}
        if type(self).__name__ not in names.LABELLED:
            left_out |= {"id2label", "label2id"}  # transformers insists on 2 for spans
        values = {
            keys.get(key, key): value
            for key, value in self.config.to_official().items()
            if key not in left_out
        }
        values["architectures"] = [names.ARCHITECTURES[model_type][type(self).__name__]]
        values["dtype"] = str(next(self.parameters()).dtype).removeprefix("torch.")
        return dict(sorted(values.items()))


_SAFETENSORS_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
}


def class_name(folder: Path) -> str:
    """The class here that `architectures` in a folder's config.json names; BertModel if none is.

    Raises:
        CheckpointError: config.json is missing, is no JSON object, or names other classes.
    """
    path, values = _config_object(folder)
    stated = values.get("architectures") or []
    ours = {
        official: name
        for family in names.ARCHITECTURES.values()
        for name, official in family.items()
    }
    are_names = isinstance(stated, list) and all(isinstance(name, str) for name in stated)
    known = [ours[name] for name in stated if name in ours] if are_names else []
    if stated and not known:
        raise CheckpointError(
            f"{path} names the architectures {stated!r}, none of which minibert has: it has "
            f"{', '.join(ours)}.",
            path=path,
            key="architectures",
        )
    return known[0] if known else names.BARE_MODEL


def _config_object(folder: Path) -> tuple[Path, dict[str, Any]]:
    """A folder's config.json, and the JSON object that is in it."""
    path = inside(folder, weights.CONFIG)
    return path, read_object(path)


def _read_config(config_class: Any, folder: Path) -> Any:
    """The config of a folder, with DistilBERT's keys translated.

    Raises:
        CheckpointError: no config.json, or not an object of JSON.
        ConfigError: a value that no model can be built from.
    """
    path, values = _config_object(folder)
    family = str(values.get("model_type", "bert"))
    if family not in names.CONFIG_KEYS:
        family = "bert"  # whose from_official refuses a family that is not known
    ours = {official: name for name, official in names.CONFIG_KEYS[family].items()}
    for official, name in ours.items():
        if official in values and values.get(name, values[official]) != values[official]:
            raise ConfigError(
                f"{path} has {official} {values[official]!r} and {name} {values[name]!r}, which "
                "mean the same.",
                path=path,
                key=official,
            )
    translated: dict[Any, Any] = {ours.get(key, key): value for key, value in values.items()}
    try:
        return config_class.from_official({**translated, **names.CONFIG_FACTS[family]})
    except ConfigError as error:
        raise ConfigError(
            f"{path}: {error}",
            path=path,
            key=error.key,
        ) from error


def _with_labels(
    class_name: str,
    config: Any,
    labels: Sequence[str] | None,
    num_labels: int | None,
    problem_type: str | None,
) -> Any:
    """The stored config with the labels and the problem type that were asked for."""
    if problem_type is not None:
        config = config.replace(problem_type=problem_type)
    if labels is None and num_labels is None:
        return config
    count = len(labels) if labels is not None else num_labels
    if class_name not in names.LABELLED:
        raise ConfigError(
            f"{class_name} has no labels of the user's own.",
            key="labels",
        )
    if num_labels not in (None, count) or not count or count < 1:
        raise ConfigError(
            f"{count} labels and num_labels {num_labels} were given.",
            key="num_labels",
        )
    if labels is None and count == config.num_labels:
        return config
    chosen = list(labels) if labels is not None else [f"LABEL_{i}" for i in range(count)]
    if len(set(chosen)) != count:
        raise ConfigError(
            f"A label is there twice: {chosen}.",
            key="labels",
        )
    return config.replace(id2label=dict(enumerate(chosen)))


def _are_placeholders(id2label: Mapping[int, str]) -> bool:
    """Whether these are the names that are written where nobody gave any."""
    return all(name == f"LABEL_{number}" for number, name in id2label.items())


def _draw(
    entries: Sequence[weights.Entry], deviation: float, generator: torch.Generator | None
) -> dict[str, Tensor]:
    """Values for the fresh entries, as new models draw them: normal, biases 0, norm weights 1."""
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    drawn: dict[str, Tensor] = {}
    for entry in entries:
        if entry.status != "fresh" or entry.name is None:
            continue
        values = torch.zeros(entry.shape)  # as the parameter
        if entry.name.endswith("norm.weight"):
            values.fill_(1.0)
        elif entry.name.endswith("weight"):
            values.normal_(0.0, deviation, generator=generator)
        drawn[entry.name] = values
    return drawn
