"""Using a model: classes, tags, answers, choices, pieces for a [MASK], vectors of sentences.

predictor = Predictor.from_pretrained("runs/001")
for prediction in predictor(["what a lovely day", "go away"]):
    print(prediction.label, prediction.probability)
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from minibert.bert import BertModel
from minibert.data import Dataset
from minibert.examples import Example
from minibert.fast.precision import Precision, choose_precision
from minibert.heads import BertForMaskedLM, BertForPreTraining
from minibert.io import hub
from minibert.io.errors import CheckpointError, ConfigError, DataError
from minibert.io.files import atomic_path, inside, read_json, read_object
from minibert.tokenizer import BertTokenizer
from minibert.training import evaluate
from minibert.workbench.data.checks import UNKNOWN_IS_A_FAULT
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.kinds import kind_of
from minibert.workbench.kinds.kind import Asked
from minibert.io.tables import shorten
from minibert.workbench.tasks.common import (
    commit_of,
    pick_device,
    planned,
    prepare_on,
    ready_for_inference,
    require_class,
)
from minibert.workbench.tasks.evaluate import Classifier, open_classifier
from minibert.workbench.tasks.pooling import SentenceEncoder


class Predictor:
    """A fine-tuned model of any kind of task (or a frozen one with a probe)."""

    def __init__(
        self,
        model: Classifier,
        tokenizer: BertTokenizer,
        precision: Precision,
    ):
        self.model = model.to(precision.device).eval()
        self.kind = kind_of(model)
        self.tokenizer = tokenizer
        self.precision = precision

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        allow_untrained: bool = False,
    ) -> Self:
        """Opens a run folder, a model folder or a Hub id.

        Raises:
            CheckpointError: it holds another kind of model, or (unless `allow_untrained`) a head
                that was never trained, whose predictions would be noise.
        """
        revision = commit_of(source, revision)
        model = open_classifier(source, revision, allow_untrained=allow_untrained)
        tokenizer = BertTokenizer.from_pretrained(source, revision=revision)
        chosen = choose_precision(precision, pick_device(device))
        return cls(model, tokenizer, ready_for_inference(model, chosen))

    def __call__(
        self,
        texts: str | Sequence[str] | Sequence[Sequence[str]],
        pairs: str | Sequence[str] | None = None,
        *,
        choices: Sequence[str] | Sequence[Sequence[str]] | None = None,
        top: int = 1,
        allow_no_answer: bool = False,
        batch_size: int = 32,
        max_length: int | None = None,
        overlap: int | None = None,
        progress: bool = False,
    ) -> list[Any]:
        """Predicts each text, in the order given; batches are planned by length.

        Args:
            texts: the texts; for a model that tags words also sequences of words (a text is split
                at white space and from the punctuation around its words), for one that answers
                questions the questions.
            pairs: a second text for each; for questions the contexts.
            choices: for a model that chooses, the choices for each text.
            overlap: tokens that two windows of a long context share.
            top: how many answers to give to a question; of each window 20 are looked at.
            allow_no_answer: let a context hold no answer, where the model finds that likelier.

        Returns:
            For each text what its kind of task gives: `Prediction`, `TaggedText`, `Answered`,
            `Chosen`.

        Raises:
            ConfigError: `top` is below 1.
            DataError: something among the texts is not what the task takes; second texts or choices
                of another number than texts, or for a model that takes none.
        """
        if top < 1:
            raise ConfigError(
                f"top is {top}, but it must be 1 or more.",
                key="top",
            )
        one = isinstance(texts, str)
        rows: list[Any] = [texts] if one else list(texts)
        pairs = [pairs] if isinstance(pairs, str) else pairs
        if choices is not None and not isinstance(choices, Sequence):
            raise DataError(
                "The choices are no sequence.",
                key="choices",
            )
        if one and choices is not None and all(isinstance(choice, str) for choice in choices):
            choices = [choices]  # type: ignore[list-item]
        if not rows:
            return []
        corpus = self.kind.unlabelled(rows, self._second(rows, pairs, choices))
        dataset = self.kind.rows(corpus, self.tokenizer, max_length=max_length, overlap=overlap)
        result = evaluate(
            self.model,
            planned(dataset, self.tokenizer, batch_size=batch_size, shuffle=False),
            precision=self.precision,
            prepare=prepare_on(self.precision.device),
            progress="predicting" if progress and len(dataset) > batch_size else None,
        )
        names = self.kind.names_of(self.model)
        return self.kind.predictions(
            Asked(corpus, dataset, names, result.logits, top, allow_no_answer)
        )

    def _second(
        self, rows: Sequence[Any], pairs: Sequence[Any] | None, choices: Sequence[Any] | None
    ) -> Sequence[Any] | None:
        """What goes with each text, if it is what this kind of task takes."""
        chooses = self.kind.more_texts == "choices"
        for key, given in (("choices", choices), ("pairs", pairs)):
            fits = self.kind.more_texts and (key == "choices") == chooses
            if given is not None and not (fits and len(given) == len(rows)):
                raise DataError(
                    f"There are {len(rows)} texts and {len(given)} {_NAMES[key]}."
                    if fits
                    else f"A model for {self.kind.problem_type} takes no {_NAMES[key]}.",
                    key=key,
                )
        return choices if chooses else pairs


_NAMES = {"choices": "lists of choices", "pairs": "second texts"}


@dataclass(frozen=True)
class FilledMask:
    """The likeliest pieces for one [MASK] of a text: (piece, probability), the likeliest first.

    Attributes:
        number, of: which [MASK] of the text it is, counted from 1, and how many there are.
    """

    text: str
    pieces: list[tuple[str, float]]
    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        which = f" ([MASK] {self.number} of {self.of})" if self.of > 1 else ""
        lines = [shorten(self.text, 90) + which]
        return "\n".join(lines + [f"  {chance:.3f}  {piece}" for piece, chance in self.pieces])


class MaskFiller:
    """A masked language model with its tokenizer."""

    def __init__(
        self,
        model: BertForMaskedLM | BertForPreTraining,
        tokenizer: BertTokenizer,
        device: torch.device,
    ):
        self.model = model.to(device).eval()
        self.tokenizer = tokenizer
        self.device = device

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, revision: str | None = None, device: str = "auto"
    ) -> Self:
        """Opens a checkpoint with a masked-LM head.

        Raises:
            CheckpointError: it has none.
        """
        revision = commit_of(source, revision)
        kind = require_class(source, revision, BertForMaskedLM, BertForPreTraining)
        model = kind.from_pretrained(source, revision=revision)
        tokenizer = BertTokenizer.from_pretrained(source, revision=revision)
        return cls(model, tokenizer, pick_device(device))

    def __call__(self, text: str, *, top: int = 5) -> list[FilledMask]:
        """For each [MASK] of the text, in order, the `top` likeliest pieces.

        Several masks are filled each for itself, as in training: not with one another in mind.

        Raises:
            ConfigError: `top` is below 1.
            DataError: the text has no [MASK], or one of them is beyond what the model reads.
        """
        if top < 1:
            raise ConfigError(
                f"top is {top}, but it must be 1 or more.",
                key="top",
            )
        # Also where texts of strangers are read: without its own mask there is nothing to fill.
        inputs = self.tokenizer(text, split_special_tokens=False)  # (1, S)
        masks = (inputs["input_ids"][0] == self.tokenizer.mask_id).nonzero().flatten()  # (masks,)
        asked = text.count("[MASK]")
        if len(masks) < asked:
            raise DataError(
                f"{asked - len(masks)} of {asked} [MASK] in {shorten(text)!r} are cut off: the "
                f"model reads {self.tokenizer.max_length} tokens.",
                key="[MASK]",
                hint="Shorten the text before them.",
            )
        if len(masks) == 0:
            raise DataError(
                f"There is no [MASK] in {shorten(text)!r}.",
                key="[MASK]",
                hint="Write [MASK] where a word is to be found: Paris is the [MASK] of France.",
            )
        unknown = int((inputs["input_ids"] == self.tokenizer.unk_id).sum())
        if unknown > UNKNOWN_IS_A_FAULT * (inputs["input_ids"].shape[1] - 2):
            warnings.warn(
                f"{unknown} pieces of {shorten(text)!r} are [UNK], not in the model's vocabulary: "
                "what it fills in means nothing.",
                stacklevel=2,
            )
        with torch.inference_mode():
            output = self.model(**prepare_on(self.device)(inputs))
        both_heads = isinstance(self.model, BertForPreTraining)
        logits = output.prediction_logits if both_heads else output.logits  # (1, S, V)
        chances = logits[0, masks].float().softmax(dim=-1).cpu()  # (masks, V)
        best, ids = chances.topk(min(top, chances.shape[-1]))  # (masks, top), (masks, top)
        return [
            FilledMask(
                text,
                list(zip(self.tokenizer.tokens(row), values.tolist(), strict=True)),
                number,
                len(masks),
            )
            for number, (row, values) in enumerate(zip(ids, best, strict=True), start=1)
        ]


class Embedder:
    """A BertModel as an encoder of sentences, with its tokenizer."""

    def __init__(
        self,
        encoder: SentenceEncoder,
        tokenizer: BertTokenizer,
        precision: Precision,
        max_length: int | None = None,
    ):
        self.encoder = encoder.to(precision.device).eval()
        self.tokenizer = tokenizer
        self.precision = precision
        self.max_length = max_length

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
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
            pooling, normalize: in place of what the folder says; without `modules.json` the
                defaults are "mean" and no scaling.
            layer: which hidden state is pooled: 0 the embeddings, -1 the last layer.

        Raises:
            CheckpointError: `modules.json` names a module that is not known here, or texts are to
                be in lower case and the tokenizer keeps capitals.
        """
        revision = commit_of(source, revision)
        tokenizer = BertTokenizer.from_pretrained(source, revision=revision)
        model = BertModel.from_pretrained(source, revision=revision)
        recipe = sentence_recipe(source, revision=revision)
        if recipe.lowercase and not tokenizer.lowercase:
            raise CheckpointError(
                f"{source} asks for texts in lower case (sentence_bert_config.json), but its "
                "tokenizer keeps capitals.",
                path=source,
                key="do_lower_case",
                hint="Make texts lower-case yourself and set do_lower_case to false there.",
            )
        encoder = SentenceEncoder(
            model,
            recipe.pooling if pooling is None else pooling,
            recipe.normalize if normalize is None else normalize,
            layer,
        )
        chosen = choose_precision(precision, pick_device(device))
        chosen = ready_for_inference(encoder.model, chosen)
        longest = min(recipe.max_length or tokenizer.max_length, tokenizer.max_length)
        return cls(encoder, tokenizer, chosen, longest)

    def __call__(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = 32,
        max_length: int | None = None,
        progress: bool = False,
    ) -> np.ndarray:
        """One vector for each text, in the order given: float32 (texts, D)."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            return np.zeros((0, self.encoder.model.config.hidden_size), np.float32)
        length = self.max_length if max_length is None else max_length
        dataset = Dataset(Corpus(tuple(map(Example, texts))), self.tokenizer, max_length=length)
        result = evaluate(
            self.encoder,
            planned(dataset, self.tokenizer, batch_size=batch_size, shuffle=False),
            precision=self.precision,
            prepare=prepare_on(self.precision.device),
            progress="embedding" if progress and len(texts) > batch_size else None,
        )
        return torch.stack(result.logits).numpy()

    @staticmethod
    def write(path: str | Path, vectors: np.ndarray) -> None:
        """Writes vectors as a .npy file."""
        buffer = io.BytesIO()
        np.save(buffer, vectors, allow_pickle=False)
        with atomic_path(path) as temporary:
            temporary.write_bytes(buffer.getvalue())


@dataclass(frozen=True)
class SentenceRecipe:
    """How a checkpoint's hidden states become sentence vectors.

    `lowercase` asks for texts in lower case, whatever the tokenizer does.
    """

    pooling: str = "mean"
    normalize: bool = False
    max_length: int | None = None
    lowercase: bool = False


# config.json is there in every model, so that one without the others is found as well.
_RECIPE_FILES = (
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "*_Pooling/config.json",
)


def sentence_recipe(source: str | Path, *, revision: str | None = None) -> SentenceRecipe:
    """Reads the pooling and scaling that a sentence-transformers folder asks for.

    Raises:
        CheckpointError: a module or a pooling that is not known here.
    """
    folder = hub.resolve(source, _RECIPE_FILES, revision=revision).folder
    path = inside(folder, "modules.json")
    if not path.exists():
        return SentenceRecipe()
    modules = read_json(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CheckpointError(f"{path} is not a list of modules.", path=path)
    pooling, normalize = "mean", False
    for module in modules:
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        if kind == "Pooling":
            pooling = _pooling(inside(folder, f"{module.get('path', '1_Pooling')}/config.json"))
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise CheckpointError(
                f"{path} asks for a module {kind}, which is not known here.",
                path=path,
                key="type",
            )
    limits = inside(folder, "sentence_bert_config.json")
    stored = read_object(limits) if limits.exists() else {}
    longest = stored.get("max_seq_length")
    if isinstance(longest, float) and longest.is_integer():  # some files hold 128.0
        longest = int(longest)
    if longest is not None and (type(longest) is not int or longest < 1):
        raise CheckpointError(
            f"{limits} has max_seq_length {longest!r:.50}, which is not a number of tokens.",
            path=limits,
            key="max_seq_length",
        )
    return SentenceRecipe(pooling, normalize, longest, stored.get("do_lower_case") is True)


def _pooling(path: Path) -> str:
    """The one pooling that a file switches on, in either of the two forms such files have."""
    settings = read_object(path)
    known = {"mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls"}
    known |= {"max": "max", "max_tokens": "max"}
    prefix = "pooling_mode_"
    chosen = [
        key.removeprefix(prefix) for key, on in settings.items() if on is True and prefix in key
    ]
    if "pooling_mode" in settings:
        chosen = [str(settings["pooling_mode"])]
    if len(chosen) != 1 or chosen[0] not in known:
        raise CheckpointError(
            f"{path} asks for the pooling {chosen}, but one of mean, cls and max is needed.",
            path=path,
            key="pooling_mode",
        )
    return known[chosen[0]]


@dataclass(frozen=True)
class TokenizedText:
    """A text as its pieces: (piece, id, start, end) with the place of each in the text."""

    text: str
    pieces: list[tuple[str, int, int, int]]
    cut: int

    def __str__(self) -> str:
        cut = f", {self.cut} more cut" if self.cut else ""
        lines = [f"{shorten(self.text)} ({len(self.pieces)} pieces{cut})"]
        for piece, number, start, end in self.pieces:
            place = f"{start}-{end}" if end else ""  # special tokens have none
            lines.append(f"  {number:>6}  {piece:<18}  {place}".rstrip())
        return "\n".join(lines)


def tokenize(
    source: str | Path,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    revision: str | None = None,
) -> list[TokenizedText]:
    """The pieces of each text, or of each pair of texts."""
    tokenizer = BertTokenizer.from_pretrained(source, revision=revision)
    rows = []
    for text, encoded in zip(texts, tokenizer.encode(list(texts), pairs), strict=True):
        places = zip(encoded.tokens, encoded.input_ids, encoded.offsets, strict=True)
        pieces = [(token, number, start, end) for token, number, (start, end) in places]
        rows.append(TokenizedText(text, pieces, encoded.cut))
    return rows
