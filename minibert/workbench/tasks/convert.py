"""Converting a TensorFlow checkpoint of BERT into a folder that minibert and transformers open.

The variables of the published code (google-research/bert, modeling.py) become tensors with their
official names; its kernels are stored (in, out), and PyTorch's weights (out, in).

NOTE(paper): the published code computes GELU by its tanh approximation, and calls it "gelu". As in
the official files on the Hub, that name is kept, and stands for the exact form there and here.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from minibert import checkpoint
from minibert.config import BertConfig
from minibert.heads import MODELS
from minibert.io import shards, tensorflow
from minibert.io.errors import CheckpointError, ConfigError, TokenizerError
from minibert.io.files import atomic_folder, parse_json
from minibert.io.shards import LoadReport
from minibert.io.tensorflow import Package, TensorBundle, Variable
from minibert.io.tokenizer_files import LARGEST_VOCAB, parse_vocab
from minibert.tokenizer import BertTokenizer
from minibert.workbench.tasks.common import require_new_folder

_CONFIGS = ("bert_config.json", "config.json")
_VOCABULARY = "vocab.txt"

# The last part of a variable's name -> of the official one. The others are the same.
_LAST = {
    **{"kernel": "weight", "gamma": "weight", "beta": "bias", "output_weights": "weight", "output_bias": "bias"},
    **{f"{table}_embeddings": f"{table}_embeddings.weight" for table in ("word", "position", "token_type")},
}
# Variables outside of "bert" and "cls": the head that run_classifier.py of the published code trains.
_CLASSIFIER = ("output_weights", "output_bias")

# Heads, by how the names of their tensors begin -> the class that has them.
_CLASSES = {
    ("cls.predictions.", "cls.seq_relationship."): "BertForPreTraining",
    ("cls.predictions.",): "BertForMaskedLM",
    ("cls.seq_relationship.",): "BertForNextSentencePrediction",
    ("qa_outputs.",): "BertForQuestionAnswering",
    ("classifier.",): "BertForSequenceClassification",
    (): "BertModel",
}
_FINE_TUNED = (
    "a classifier was fine-tuned on it: put the names of its classes into id2label of config.json, and if it "
    "tags words, BertForTokenClassification into architectures"
)


@dataclass(frozen=True)
class Converted:
    """What was written; `str()` is the text for people.

    Attributes:
        folder: the new folder.
        report: what became of every tensor, by its official name.
        left_out: what is needed for training on only: variable, or last part of a name -> how many.
        lowercase: whether the tokenizer lower-cases, and why.
        note: what is left to do.
    """

    folder: Path
    report: LoadReport
    left_out: Mapping[str, int]
    lowercase: str
    note: str

    def __str__(self) -> str:
        lines = self.report.lines()
        if self.left_out:
            counts = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in self.left_out.items())
            lines.append(f"  left out, the state of the optimizer: {counts}")
        return "\n".join([*lines, self.lowercase, *filter(None, [self.note]), f"written: {self.folder}"])


def convert(
    source: str | Path, folder: str | Path, *, lowercase: bool | None = None, progress: bool = False
) -> Converted:
    """Reads a checkpoint of the published code, without TensorFlow, and writes a model folder.

    Args:
        source: what `tensorflow.find` takes: a zip archive, a folder, or the prefix of the files.
        folder: where to write; it must not exist, or be empty.
        lowercase: whether text is lower-cased; by default what the config says, else the name, else
            the vocabulary, which has capitals or not.
        progress: show a bar.

    Raises:
        CheckpointError: the checkpoint is damaged, or is not that of a BERT.
        ConfigError, TokenizerError: its config or vocabulary cannot be used; the folder is not empty.
        DiskError: the folder cannot be written to.
    """
    folder = Path(folder)
    require_new_folder(folder)
    package, prefix = tensorflow.find(source)
    bundle = TensorBundle(package, prefix)
    slots = _training_state(bundle)
    names = _official_names(bundle, slots)
    stored = {official: _stored(name, bundle.variables[name]) for official, name in names.items()}
    kind = next(kind for heads, kind in _CLASSES.items() if all(_any_starts(stored, head) for head in heads))
    classes = stored.get("classifier.weight", ((), ""))[0][:1]
    config_path, values = _read_config(package, prefix)
    config = _config(config_path, {"num_labels": classes[0], **values} if classes else values)
    tokenizer, case = _tokenizer(package, prefix, config, lowercase)

    checkpoint.check_layers(stored, config, values, config_path, bundle.path)
    config = config.replace(pad_token_id=tokenizer.pad_id)
    model = checkpoint.build(MODELS[kind], config, _any_starts(stored, "bert.pooler."))
    entries = checkpoint.match(model, stored, bundle.path)
    wanted = {entry.official: names[entry.official] for entry in entries if entry.status in ("loaded", "tied")}
    read = bundle.read(wanted.values(), progress)
    tensors = {official: read[name].T if _is_kernel(name) else read[name] for official, name in wanted.items()}
    model.load_state_dict(shards.assemble(entries, tensors, where=bundle.path), assign=True)
    with atomic_folder(folder, manifest=False) as temporary:
        tokenizer.save_pretrained(temporary)
        model.save_pretrained(temporary)
    return Converted(
        folder,
        LoadReport(str(bundle.path), None, kind, entries),
        Counter(name.rpartition("/")[2] for name in slots),
        case,
        _FINE_TUNED if classes else "",
    )


def official_name(variable: str) -> str:
    """The official name of a variable.

    >>> official_name("bert/encoder/layer_0/attention/self/query/kernel")
    'bert.encoder.layer.0.attention.self.query.weight'
    """
    parts = re.sub(r"/layer_(\d+)/", r"/layer/\1/", variable).split("/")
    parts[-1] = _LAST.get(parts[-1], parts[-1])
    if variable in _CLASSIFIER:
        parts.insert(0, "classifier")
    return ".".join(parts).replace("cls.squad.", "qa_outputs.")


def _training_state(bundle: TensorBundle) -> list[str]:
    """Variables that belong to another, such as the moments of Adam, and single numbers: steps, rates."""
    known = bundle.variables
    return [name for name in known if name.rpartition("/")[0] in known or known[name].shape == ()]


def _official_names(bundle: TensorBundle, left_out: Collection[str]) -> dict[str, str]:
    """Official name -> variable."""
    kept = [name for name in bundle.variables if name not in left_out]
    names = {official_name(name): name for name in kept}
    twice = [name for name in kept if names[official_name(name)] != name]
    if twice or not _any_starts(names, "bert."):
        fault = f"the variable {kept[0]}, and none in bert/" if kept else "no variables"
        if twice:
            fault = f"{twice[0]} and {names[official_name(twice[0])]}, which would be one tensor"
        raise CheckpointError(
            f"{bundle.path} has {fault}.",
            path=bundle.path,
            key=[*twice, *kept, ""][0] or None,
            hint="Only checkpoints of google-research/bert can be converted; those of ALBERT, of ELECTRA and of "
            "tf.train.Checkpoint in TensorFlow 2 have other names.",
        )
    return names


def _any_starts(names: Iterable[str], start: str) -> bool:
    return any(name.startswith(start) for name in names)


def _is_kernel(variable: str) -> bool:
    return variable.endswith("/kernel")


def _stored(name: str, variable: Variable) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of the tensor that a variable becomes."""
    return variable.shape[::-1] if _is_kernel(name) else variable.shape, variable.dtype


def _beside(package: Package, prefix: str, *names: str) -> str:
    """The first of these files that is there, in the folder of the checkpoint."""
    folder = PurePosixPath(prefix).parent
    found = [place for name in names if (place := str(folder / name)) in package.sizes]
    if not found:
        raise CheckpointError(
            f"{package.path / folder} holds the checkpoint {prefix} without {names[0]}.",
            path=package.path,
            key=names[0],
            hint="Copy it there from the model that the checkpoint was trained from.",
        )
    return found[0]


def _read_config(package: Package, prefix: str) -> tuple[Path, dict[str, Any]]:
    name = _beside(package, prefix, *_CONFIGS)
    values = parse_json(package.path / name, package.read(name))
    if not isinstance(values, dict):
        raise CheckpointError(f"{package.path / name} is not a JSON object.", path=package.path / name)
    return package.path / name, values


def _config(path: Path, values: Mapping[str, Any]) -> BertConfig:
    try:
        return BertConfig.from_official(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}", path=path, key=error.key) from error


def _tokenizer(package: Package, prefix: str, config: BertConfig, lowercase: bool | None) -> tuple[BertTokenizer, str]:
    """The tokenizer, and a line on whether it lower-cases and why."""
    name = _beside(package, prefix, _VOCABULARY)
    path = package.path / name
    vocabulary = parse_vocab(path, package.read(name, LARGEST_VOCAB))
    pieces = [piece for piece in vocabulary if not piece.startswith(("[", "<"))]  # [UNK], <S>
    capitals = sum(piece != piece.lower() for piece in pieces)
    has_capitals = capitals > len(pieces) / 100
    in_name = re.findall(r"(un)?cased", "/".join((package.path.resolve().name, prefix)).lower())
    if lowercase is not None:
        why = "as asked for"
    elif isinstance(config.extra.get("do_lower_case"), bool):
        lowercase, why = bool(config.extra["do_lower_case"]), "as the config says"
    elif in_name:
        lowercase, why = in_name[-1] == "un", "as the name says"
    else:
        lowercase, why = not has_capitals, f"since {capitals:,} of {len(pieces):,} pieces have capitals"
    if lowercase == has_capitals:
        fault = "which lower-casing makes useless" if lowercase else "so words with capitals may be read as [UNK]"
        warnings.warn(f"{path} has {capitals:,} of {len(pieces):,} pieces with capitals, {fault}.", stacklevel=3)
    tokenizer = BertTokenizer(vocabulary, lowercase=lowercase, max_length=config.max_position_embeddings, source=path)
    if tokenizer.vocab_size != config.vocab_size:
        fault = f"{path} has {tokenizer.vocab_size} pieces, and the model has embeddings for {config.vocab_size}."
        if tokenizer.vocab_size > config.vocab_size:
            raise TokenizerError(fault, path=path, key="vocab_size", hint="It is another model's.")
        warnings.warn(fault, stacklevel=3)
    option = "cased" if lowercase else "uncased"
    return tokenizer, f"lower-casing: {'yes' if lowercase else 'no'}, {why} (--{option} changes it)"
