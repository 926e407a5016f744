"""The report of a run as one HTML page that needs no network and no other file.

`document` renders page.html.j2 with what the functions below take from a run. Texts, labels and
file names come from anywhere: jinja2 escapes everything but the charts, page.css and page.js, and
the page's content security policy lets it run no other script and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from minibert.io.files import finite
from minibert.workbench.kinds import KINDS
from minibert.workbench.reports import charts, error_analysis
from minibert.workbench.reports.error_analysis import Row, Slice
from minibert.workbench.reports.pictures import known_lengths
from minibert.workbench.runs.folders import SavedRun
from minibert.workbench.runs.settings import Settings
from minibert.workbench.scores.baselines import not_above
from minibert.workbench.scores.calibration import expected_calibration_error
from minibert.workbench.scores.metrics import HIGHER_IS_BETTER

_FOLDER = Path(__file__).parent
_STATIC_ROWS = 200  # of the examples, where scripts do not run
_SHOWN = 20  # suspected labels, errors of entities
_MOST_CLASSES = 40  # of the confusion matrix
_BETWEEN_TEXTS = " | "
_OUTCOMES = {  # of an entity
    "right": "type and both ends are right",
    "type": "the right words with another type",
    "ends": "the right type on other words that overlap",
    "ends and type": "another type on other words that overlap",
    "missed": "nothing was predicted there",
    "invented": "there is no entity there",
}


@dataclass(frozen=True)
class Table:
    """A table of the page; all columns but the first hold numbers, unless they are text."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    text: bool = False


def document(run: SavedRun) -> str:
    """The whole page.

    Raises:
        ConfigError: matplotlib is not installed.
        DataError: errors.csv is damaged.
    """
    charts.require_matplotlib()
    rows = error_analysis.rows_of(run)
    kind = run.record["problem_type"]
    numbers, tagged = kind == "regression", kind == "token_classification"
    one_class = KINDS[kind].one_class
    labels = list(run.record.get("labels") or ())
    pairs = (
        error_analysis.tags_of(rows) if tagged else [(row.label, row.prediction) for row in rows]
    )
    matrix = (one_class or tagged) and len(labels) <= _MOST_CLASSES
    script, style = (
        (_FOLDER / name).read_text(encoding="utf-8") for name in ("page.js", "page.css")
    )
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        run=run,
        record=run.record,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=style,
        model=_last_two(run.record["settings"]["model"]),
        data=_last_two(run.record["data"]["train"]["source"]),
        chosen=_chosen(run.record),
        tiles=list(_tiles(run, len(rows))),
        not_above=_not_above(run),
        curves=_curves(run),
        own_loss=_has_own_loss(run.record["settings"]),
        scatter=_scatter(rows) if numbers else None,
        opens_examples=one_class,
        matrix=list(_matrix(pairs, labels)) if matrix else None,
        confusions=error_analysis.confusions(pairs)[:8] if matrix else (),
        classes=_classes(run.metrics[run.split].get("classes") or {}),
        by_label=_slices("label", error_analysis.by_label(rows)) if one_class else None,
        entities=_entities(run.entities) if run.entities else None,
        answers=_answers(run.metrics[run.split]),
        calibration=_calibration(rows, run.split) if one_class else None,
        by_length=None if numbers or tagged else _slices("tokens", error_analysis.by_length(rows)),
        suspects=_suspects(rows, kind) if one_class else None,
        counts=_counts(run.record["data"], labels),
        lengths=_lengths(run, one_class),
        examples=_examples(rows, kind, labels if not (numbers or tagged) else ()),
        settings=_settings(run.record["settings"]),
        versions=Table(("package", "version"), list(run.record["versions"].items()), text=True),
        data_record=json.dumps(run.record["data"], indent=2, ensure_ascii=False),
    )


# --- scores --------------------------------------------------------------------------------------


def _tiles(run: SavedRun, examples: int) -> Iterator[dict[str, Any]]:
    """The scores of the last split, the main one first, and those of the baselines."""
    scores = run.metrics[run.split]
    names = [name for name in KINDS[run.record["problem_type"]].metrics if name in scores]
    for name in names:
        if scores[name].get("value") is not None:
            note = f"on {run.split}, {examples:,} examples" if name == names[0] else ""
            yield {"name": name, "low": None, "note": note, **scores[name]}
    for name, found in _baselines(run).items():
        note = f"{names[0]} without BERT"
        yield {"name": f"baseline: {name}", "value": found[names[0]], "low": None, "note": note}


def _baselines(run: SavedRun) -> dict[str, dict[str, float]]:
    found = run.metrics.get("baselines", {})
    return {name: scores for name, scores in found.items() if name != "split"}


def _not_above(run: SavedRun) -> str:
    """A sentence if a baseline has not been beaten; otherwise empty."""
    accuracy = run.metrics[run.split].get("accuracy", {}).get("value")
    return "" if accuracy is None else not_above(_baselines(run), accuracy)


def _chosen(record: Mapping[str, Any]) -> str:
    best, count, measured_by = record["best_epoch"], len(record["epochs"]), record["chosen_by"]
    measured = record.get("measured_epoch", best)
    if measured != best:
        return (
            f"These are the scores of epoch {measured} of {count}, although epoch {best} was the "
            f"best by {measured_by}."
        )
    return f"These are the scores of epoch {measured} of {count}, chosen by {measured_by}."


def _curves(run: SavedRun) -> list[str]:
    """Charts of training; the scores of a single epoch are not a curve."""
    epochs = run.record["epochs"]
    drawn = {}
    if run.steps:
        drawn["loss"] = "Training loss of each step and validation loss"
    if len(epochs) > 1 and any(map(HIGHER_IS_BETTER.get, epochs[0]["metrics"])):
        drawn["scores"] = "Validation scores after each epoch"
    if run.steps:
        drawn["rate"] = "Learning rate of each step"
    return [charts.svg(charts.curves(run, panel), title) for panel, title in drawn.items()]


def _has_own_loss(settings: Mapping[str, Any]) -> bool:
    """Whether training minimises another loss than validation measures."""
    return bool(settings.get("class_weights")) or "double-softmax" in (settings.get("faults") or ())


def _classes(classes: Mapping[str, Mapping[str, float]]) -> Table | None:
    keys = ("precision", "recall", "f1")
    rows = [
        [name, *(f"{scores[key]:.3f}" for key in keys), f"{scores['support']:,.0f}"]
        for name, scores in classes.items()
    ]
    return Table(("class", "precision", "recall", "F1", "examples"), rows) if rows else None


def _answers(scores: Mapping[str, Any]) -> Table | None:
    """Questions with and without an answer, where there are both."""
    rows = [
        [words, f"{part['examples']:,}", f"{part['exact_match']:.4f}", f"{part['f1']:.4f}"]
        for name, words in (("has_answer", "with an answer"), ("no_answer", "without an answer"))
        if isinstance(part := scores.get(name), Mapping)
    ]
    return Table(("questions", "count", "exact match", "F1"), rows) if rows else None


def _slices(what: str, slices: Sequence[Slice]) -> Table | None:
    rows = [
        [
            part.name,
            f"{part.count:,}",
            f"{part.accuracy:.3f}",
            f"{part.low:.3f} to {part.high:.3f}",
            f"{part.loss:.3f}",
            _optional(part.confidence),
        ]
        for part in slices
    ]
    header = (what, "examples", "accuracy", "95% interval", "mean loss", "confidence")
    return Table(header, rows) if rows else None


# --- errors --------------------------------------------------------------------------------------


def _matrix(
    pairs: Sequence[tuple[str, str]], labels: Sequence[str]
) -> Iterator[tuple[str, list[tuple[str, int, float]]]]:
    """For each label (prediction, count, share of the label's examples) of all predictions."""
    counts = error_analysis.confusion_counts(pairs, labels)  # (C, C)
    for label, row in zip(labels, counts.tolist(), strict=True):
        total = max(1, sum(row))
        yield label, [(guess, n, n / total) for guess, n in zip(labels, row, strict=True)]


def _entities(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """What became of the entities, and the errors that cost most."""
    counts = Counter((row["label"] or row["prediction"], row["outcome"]) for row in rows)
    kinds = sorted({kind for kind, _ in counts})
    outcomes = [name for name in _OUTCOMES if any(counts[kind, name] for kind in kinds)]
    wrong = [
        [
            f"{float(row['loss']):.3f}",
            row["outcome"],
            f"{row['label']}: {row['entity']}" if row["label"] else "",
            f"{row['prediction']}: {row['predicted_entity']}" if row["prediction"] else "",
            row["text"],
        ]
        for row in rows
        if row["outcome"] != "right"
    ]
    return {
        "meanings": "; ".join(f"{name}: {_OUTCOMES[name]}" for name in outcomes),
        "counts": Table(
            ("entity", *outcomes),
            [[kind, *(f"{counts[kind, name]:,}" for name in outcomes)] for kind in kinds],
        ),
        "wrong": Table(
            ("loss", "outcome", "label", "prediction", "sentence"), wrong[:_SHOWN], text=True
        ),
    }


def _calibration(rows: Sequence[Row], split: str) -> dict[str, Any] | None:
    bins = error_analysis.calibration(rows)
    if not bins:
        return None
    table = [
        [
            f"{each.low:.1f} to {each.high:.1f}",
            f"{each.count:,}",
            _optional(each.confidence),
            _optional(each.accuracy),
        ]
        for each in bins
        if each.count
    ]
    return {
        "error": expected_calibration_error(bins),
        "chart": charts.svg(charts.reliability(bins, split), "Accuracy by confidence"),
        "table": Table(("confidence", "predictions", "mean confidence", "accuracy"), table),
    }


def _scatter(rows: Sequence[Row]) -> str:
    chart = charts.scatter(
        [float(row.label) for row in rows], [float(row.prediction) for row in rows]
    )
    return charts.svg(chart, "Predictions by label")


def _suspects(rows: Sequence[Row], kind: str) -> dict[str, Any]:
    found = error_analysis.suspects(rows, most=len(rows))
    return {
        "sure": f"{error_analysis.SURE:.0%}",
        "count": len(found),
        "examples": _examples(found[:_SHOWN], kind),
        "easiest": _examples(error_analysis.easiest(rows), kind),
    }


# --- data and settings ---------------------------------------------------------------------------


def _counts(data: Mapping[str, Mapping[str, Any]], labels: Sequence[str]) -> Table:
    """Examples by class and split."""
    rows = [
        [label, *(f"{part['labels'].get(label, 0):,}" for part in data.values())]
        for label in labels
        if any(label in part["labels"] for part in data.values())
    ]
    header = ("class" if rows else "", *data)
    rows.append(["all examples", *(f"{part['examples']:,}" for part in data.values())])
    rows.append(["truncated", *(f"{part.get('cut_texts', 0):,}" for part in data.values())])
    return Table(header, rows)


def _lengths(run: SavedRun, one_class: bool) -> dict[str, Any] | None:
    """How long the texts of each split are, and of each class of the training split."""
    known = {
        name: part["lengths"] for name, part in run.record["data"].items() if "lengths" in part
    }
    if not known:
        return None
    keys = ("min", "median", "mean", "p95", "max")
    rows = [[name, *(f"{found['all'][key]:,.0f}" for key in keys)] for name, found in known.items()]
    chart = None
    if one_class and "train" in known and len(known_lengths(run)) <= _MOST_CLASSES:
        chart = charts.svg(charts.lengths(known_lengths(run)), "Lengths by class")
    return {
        "limit": next(iter(known.values()))["limit"],
        "table": Table(("tokens", "min", "median", "mean", "95%", "max"), rows),
        "chart": chart,
    }


def _settings(chosen: Mapping[str, Any]) -> dict[str, Table]:
    """The settings of the run that differ from their defaults, and those that do not."""
    defaults = {item.name: item.default for item in fields(Settings)}
    tables: dict[str, list[tuple[str, str]]] = {"changed": [], "default": []}
    for key, value in chosen.items():
        usual = defaults.get(key)
        same = value == (list(usual) if isinstance(usual, tuple) else usual)
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        tables["default" if same else "changed"].append((key, shown))
    return {name: Table(("setting", "value"), rows, text=True) for name, rows in tables.items()}


# --- examples ------------------------------------------------------------------------------------


def _examples(rows: Sequence[Row], kind: str, labels: Sequence[str] = ()) -> dict[str, Any]:
    """Examples as the template lists them and as the script reads them.

    Args:
        labels: what to filter by; empty where labels are not a few words.
    """
    numbers = kind == "regression"  # neither right nor wrong
    known = [
        name
        for name in ("probability", "tokens")
        if any(getattr(row, name) is not None for row in rows[:1])
    ]
    orders = ["highest loss", "lowest loss"]
    orders += ["most confident", "least confident"] if "probability" in known else []
    orders += ["longest", "shortest"] if "tokens" in known else []
    filters = {
        "label": ["", *labels] if labels else [],
        "prediction": ["", *labels] if labels else [],
        "kind": [] if numbers else ["", "wrong", "right"],
        "order": orders,
    }
    found = [
        {
            "loss": row.loss,
            "label": f"{float(row.label):.4g}" if numbers else row.label,
            "prediction": f"{float(row.prediction):.4g}" if numbers else row.prediction,
            "probability": row.probability,
            "tokens": row.tokens,
            "parts": _parts(row),
            "place": row.guid.replace("\\", "/").rpartition("/")[2],
            "right": row.right,
        }
        for row in rows
    ]
    return {
        "columns": known,
        "filters": {name: values for name, values in filters.items() if values},
        "marked": any(row.marks for row in rows),
        "numbers": numbers,
        "rows": found[:_STATIC_ROWS],
        "payload": {
            "columns": list(found[0]) if found else [],
            "kind": kind,
            "rows": [list(finite(each).values()) for each in found],
        },
    }


def _parts(row: Row) -> list[tuple[str, str]]:
    """The text in stretches, each marked as "", "answer", "guess" or "answer guess"."""
    text = f"{row.text}{_BETWEEN_TEXTS}{row.text_pair}" if row.text_pair else row.text
    offset = len(row.text) + len(_BETWEEN_TEXTS)  # marks are places in the second text
    marks = [(start + offset, end + offset, kind) for start, end, kind in row.marks]
    edges = sorted({0, len(text), *(edge for start, end, _ in marks for edge in (start, end))})
    return [
        (text[start:end], " ".join(kind for low, high, kind in marks if low <= start < high))
        for start, end in itertools.pairwise(edges)
    ]


def _optional(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _last_two(path: object) -> str:
    """The end of a path, or a Hub id as it is: "emotion/train.txt"."""
    return "/".join(str(path).replace("\\", "/").rstrip("/").split("/")[-2:])
