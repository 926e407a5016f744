"""`minibert explain`, `minibert probe` and `minibert weights diff`: the study tools on checkpoints that are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minibert import checkpoint
from minibert.bert import BertModel
from minibert.heads import MODELS
from minibert.io.errors import DataError
from minibert.io.files import atomic_folder
from minibert.io.source import Source, open_source
from minibert.io.tables import write_csv
from minibert.study.diff import Diff, diff
from minibert.study.explain import Page, explain
from minibert.study.pictures import new_figure
from minibert.study.probing import Item, Probing, probe
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.corpora import Corpus, read
from minibert.workbench.tasks.common import pick_device, require_new_folder, shorten_to

CSV, PICTURE = "probes.csv", "probes.png"


def explain_sentence(
    source: str | Path, text: str, *, pair: str | None = None, compare: str | None = None, revision: str | None = None
) -> Page:
    """The page of a sentence; arguments as for `minibert.study.explain.explain`.

    Args:
        source: a run, a folder, a Hub id or a bundled name; opened as the class that its config.json names.
    """
    opened = open_source(source, revision)
    tokenizer = BertTokenizer.from_pretrained(opened)
    folder = Path(source)
    name = folder.resolve().name if folder.is_dir() else opened.name  # a page is passed on; a path is not for others
    return explain(_model(opened), tokenizer, text, pair, compare=compare, name=name)


def compare_checkpoints(
    first: str | Path, second: str | Path, texts: Sequence[str] = (), *, progress: bool = False
) -> Diff:
    """What differs between two checkpoints; with texts, also how alike their hidden states are."""
    before, after = open_source(first), open_source(second)
    tokenizer = BertTokenizer.from_pretrained(before) if texts else None
    return diff(_model(before), _model(after), tokenizer, texts, progress=progress)


def probe_layers(
    source: str | Path,
    train: str | Path,
    test: str | Path,
    *,
    output: str | Path | None = None,
    reading: Mapping[str, Any] | None = None,
    hidden: int = 0,
    seed: int = 0,
    max_length: int | None = None,
    revision: str | None = None,
    device: str = "auto",
    progress: bool = False,
) -> Probing:
    """Probes every layer of a checkpoint for the labels of a file; see `minibert.study.probing.probe`.

    Args:
        output: a new folder for the scores as a table and as a picture.
        reading: how to read the files: the keyword arguments of `corpora.read`.

    Raises:
        DataError: a file cannot be read, or its labels are not one class for each text or each word.
        ConfigError: the folder is not empty, or matplotlib is missing.
    """
    if output is not None:
        require_new_folder(Path(output))
        new_figure(1, 1)  # without matplotlib it fails here, before the work
    how = dict(reading or {})
    corpora = [read(train, split="train", **how)]
    corpora.append(read(test, split="test", **{**how, **corpora[0].reading()}))
    items = [_items(corpus) for corpus in corpora]
    opened = open_source(source, revision)
    tokenizer = BertTokenizer.from_pretrained(opened)
    shorten_to(tokenizer, max_length)
    model = BertModel.from_pretrained(opened).to(pick_device(device))
    found = probe(model, tokenizer, *items, hidden=hidden, seed=seed, progress=progress)
    if output is not None:
        with atomic_folder(output, manifest=False) as folder:
            write_csv(folder / CSV, *_scores(found))
            found.picture().save(folder / PICTURE)
    return found


def _items(corpus: Corpus) -> list[Item]:
    """The examples of a corpus as `probe` takes them."""
    names = corpus.label_names or ()
    if corpus.problem_type == "token_classification":
        return [(example.words, [names[tag] for tag in example.tags]) for example in corpus]
    if corpus.problem_type != "single_label_classification":
        found = "no labels" if corpus.problem_type is None else f"labels for {corpus.problem_type}"
        message = f"{corpus.source} has {found}, and a probe needs one class for each text or each word."
        raise DataError(message, path=corpus.source, key="label")
    return [(example.texts, names[example.label]) for example in corpus]


def _scores(found: Probing) -> tuple[list[str], list[list[Any]]]:
    """The header and the rows of the table."""
    shares = ("accuracy", "control", "selectivity")
    header = [f"{share}{end}" for share in shares for end in ("", "_low", "_high")]
    rows = [
        [
            score.layer,
            score.pooling,
            *(x for share in shares for x in getattr(score, share)),
            score.bits,
            score.compression,
        ]
        for score in found.scores
    ]
    return ["layer", "pooling", *header, "bits", "compression"], [["majority class", "", *found.majority], *rows]


def _model(source: Source) -> Any:
    return MODELS[checkpoint.class_name(source)].from_pretrained(source)
