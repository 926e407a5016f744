"""The report of a run as one HTML page that needs no network and no other file.

`document` hands what a run holds to a template: page.html.j2, or pretraining.html.j2. Texts, labels
and file names come from anywhere: jinja2 escapes everything but the charts, the style and the
scripts, and the content security policy of the page lets it run no other script and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from minibert.io.files import finite
from minibert.workbench.kinds import KINDS
from minibert.workbench.kinds.kind import Kind
from minibert.workbench.reports import charts, error_analysis
from minibert.workbench.reports.error_analysis import Row
from minibert.workbench.reports.pictures import known_lengths
from minibert.workbench.runs.folders import SavedRun
from minibert.workbench.runs.pretrain_settings import PretrainSettings
from minibert.workbench.runs.settings import Settings, TrainingSettings
from minibert.workbench.scores.baselines import pretraining_verdicts, verdicts
from minibert.workbench.scores.calibration import expected_calibration_error
from minibert.workbench.scores.metrics import HIGHER_IS_BETTER

_FOLDER = Path(__file__).parent
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


def document(run: SavedRun) -> str:
    """The whole page.

    Raises:
        ConfigError: matplotlib is not installed.
        DataError: errors.csv is damaged.
    """
    charts.require_matplotlib()
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["last_two"] = _last_two
    pretraining = run.record.get("command") == PretrainSettings.command
    scripts = ["wide.js"] if pretraining else ["wide.js", "page.js"]
    script = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in scripts) + "markWide();\n"
    content = _pretraining(run) if pretraining else _scores(run) | _predictions(run) | _data(run)
    return environment.get_template("pretraining.html.j2" if pretraining else "page.html.j2").render(
        run=run,
        record=run.record,
        style=(_FOLDER / "page.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        settings=_settings(run.record["settings"], PretrainSettings if pretraining else Settings),
        data_record=json.dumps(run.record["data"], indent=2, ensure_ascii=False),
        **{"payload": None, **content},
    )


def _pretraining(run: SavedRun) -> dict[str, Any]:
    """The scores of pre-training beside guesses, how it went, and what it read."""
    scores, baselines, epochs = run.metrics["validation"], run.metrics["baselines"], run.record["epochs"]
    panels = {name: f"{name.replace('_', ' ').capitalize()} loss of each step" for name in charts.objectives(run)}
    drawn = [charts.svg(charts.pretraining(run, name), title) for name, title in panels.items()]
    losses = [epoch["metrics"].get("loss") or math.nan for epoch in epochs]
    parts = {name: found for name, found in run.record["data"].items() if isinstance(found, Mapping)}
    names = [name for name, value in next(iter(parts.values())).items() if isinstance(value, int)]
    return {
        "scores": scores,
        "baselines": baselines,
        "verdicts": pretraining_verdicts(baselines, scores, losses),
        "curves": drawn + _curves(run, "scores", "rate"),
        "epochs": epochs,
        "parts": parts,
        "counts": {name.replace("_", " "): [f"{part.get(name, 0):,}" for part in parts.values()] for name in names},
    }


def _scores(run: SavedRun) -> dict[str, Any]:
    """The scores of the last split, those of the baselines, and how training went."""
    scores, settings = run.metrics[run.split], run.record["settings"]
    kind = KINDS[run.record["problem_type"]]
    known = [name for name in kind.metrics if name in scores]
    baselines = {name: found for name, found in run.metrics.get("baselines", {}).items() if name != "split"}
    compared = kind.compared(baselines, scores)
    value = scores.get(compared, {}).get("value")
    losses = [epoch["metrics"].get("loss") or math.nan for epoch in run.record["epochs"]]
    weighted, faults = settings.get("class_weights"), settings.get("faults") or ()
    return {
        "scores": scores,
        "metrics": [name for name in known if scores[name].get("value") is not None],
        "compared": compared,
        "baselines": baselines,
        "verdicts": [] if value is None or compared is None else verdicts(baselines, compared, value, losses),
        "curves": _curves(run, "loss", "scores", "rate"),
        "own_loss": bool(weighted) or "double-softmax" in faults,
    }


def _curves(run: SavedRun, *panels: str) -> list[str]:
    """Charts of training, as far as there are points; the scores of a single epoch are not a curve."""
    epochs = run.record["epochs"]
    drawn = {
        "loss": ("Training loss of each step and validation loss", run.steps),
        "scores": (
            "Validation scores after each epoch",
            len(epochs) > 1 and any(map(HIGHER_IS_BETTER.get, epochs[0]["metrics"])),
        ),
        "rate": ("Learning rate of each step", run.steps),
    }
    return [charts.svg(charts.curves(run, panel), drawn[panel][0]) for panel in panels if drawn[panel][1]]


def _predictions(run: SavedRun) -> dict[str, Any]:
    """What each section about the examples shows; None or empty where a kind of task has none."""
    rows = error_analysis.rows_of(run)
    kind, labels = KINDS[run.record["problem_type"]], list(run.record.get("labels") or ())
    found: dict[str, Any] = dict.fromkeys(("scatter", "matrix", "by_label", "bins", "suspects"))
    pairs, filters = [(row.label, row.prediction) for row in rows], labels
    if kind.numeric:
        numbers = error_analysis.numbers(rows)
        found["scatter"] = [
            charts.svg(charts.scatter(numbers), "Predictions by label"),
            charts.svg(charts.histogram(numbers), "How often each label and prediction occurs"),
        ]
    if kind.of_words:
        pairs, filters = error_analysis.tags_of(rows), []
    if (kind.one_class or kind.of_words) and len(labels) <= _MOST_CLASSES:
        ordered = error_analysis.outside_last(labels)
        counts = error_analysis.confusion_counts(pairs, ordered)  # (C, C)
        found["matrix"] = dict(zip(ordered, counts.tolist(), strict=True))
    if kind.one_class:
        found["by_label"] = error_analysis.by_label(rows)
    if kind.calibrated:
        suspects = error_analysis.suspects(rows, most=len(rows))
        found["suspects"] = _examples(suspects[:_SHOWN], kind)
        found["suspected"], found["sure"] = len(suspects), error_analysis.SURE
        found["easiest"] = _examples(error_analysis.easiest(rows), kind)
        if bins := error_analysis.calibration(rows):
            chart = charts.svg(charts.reliability(bins, run.split), "Accuracy by confidence")
            found |= {"bins": [each for each in bins if each.count], "reliability": chart}
            found["calibration_error"] = expected_calibration_error(bins)
    counted = not (kind.numeric or kind.of_words)  # texts that are right or wrong
    lengths = error_analysis.ranges_of_length(rows)
    groups = {} if counted else error_analysis.grouped(run.rows, lengths)
    scores = {name: {"examples": len(group), **kind.scores_of(labels, group)} for name, group in groups.items()}
    examples = _examples(rows, kind, filters)
    return found | {
        "one_class": kind.one_class,
        "confusions": error_analysis.confusions(pairs)[:8],
        "entities": _entities(run.entities) if run.entities else None,
        "by_length": error_analysis.by_length(rows) if counted else [],
        "scores_by_length": scores,
        "examples": examples,
        "payload": {
            "kind": kind.problem_type,
            "columns": list(examples["rows"][0]) if rows else [],
            "rows": [list(row.values()) for row in finite(examples["rows"])],
        },
    }


def _entities(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """What became of the entities of each type, and the errors that cost most."""
    counts = Counter((row["label"] or row["prediction"], row["outcome"]) for row in rows)
    types = sorted({name for name, _ in counts})
    outcomes = [name for name in _OUTCOMES if any(counts[each, name] for each in types)]
    return {
        "outcomes": {name: _OUTCOMES[name] for name in outcomes},
        "counts": {each: [counts[each, name] for name in outcomes] for each in types},
        "errors": [row for row in rows if row["outcome"] != "right"][:_SHOWN],
    }


def _data(run: SavedRun) -> dict[str, Any]:
    """The classes that occur in the splits, and the lengths of the training texts."""
    data, labels = run.record["data"], run.record.get("labels") or ()
    chart = None
    if (boxes := known_lengths(run)) and len(boxes) <= _MOST_CLASSES:
        chart = charts.svg(charts.lengths(boxes), "Lengths of texts")
    return {
        "data": data,
        "classes": [name for name in labels if any(name in part["labels"] for part in data.values())],
        "lengths": {name: part["lengths"] for name, part in data.items() if "lengths" in part},
        "lengths_chart": chart,
    }


def _settings(chosen: Mapping[str, Any], kind: type[TrainingSettings]) -> dict[str, dict[str, str]]:
    """The settings of the run that differ from their defaults, and those that do not."""
    defaults = {item.name: item.default for item in fields(kind)}
    found: dict[str, dict[str, str]] = {"changed": {}, "default": {}}
    for key, value in chosen.items():
        usual = defaults.get(key)
        same = value == (list(usual) if isinstance(usual, tuple) else usual)
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        found["default" if same else "changed"][key] = shown
    return found


def _examples(rows: Sequence[Row], kind: Kind, labels: Sequence[str] = ()) -> dict[str, Any]:
    """Examples for a table of the page.

    Args:
        labels: what to filter by; empty where labels are not classes.
    """
    has = {name: any(getattr(row, name) is not None for row in rows[:1]) for name in ("probability", "tokens")}
    orders = ["highest loss", "lowest loss"]
    orders += ["most confident", "least confident"] if has["probability"] else []
    orders += ["longest", "shortest"] if has["tokens"] else []
    filters = {
        "label": ["", *labels] if labels else [],
        "prediction": ["", *labels] if labels else [],
        "kind": [] if kind.numeric else ["", "wrong", "right"],
        "order": orders,
    }
    found = [
        {
            "loss": row.loss,
            "label": f"{float(row.label):.4g}" if kind.numeric else row.label,
            "prediction": f"{float(row.prediction):.4g}" if kind.numeric else row.prediction,
            "probability": row.probability,
            "tokens": row.tokens,
            "parts": _parts(row),
            "place": row.guid.replace("\\", "/").rpartition("/")[2],
            "right": row.right,
        }
        for row in rows
    ]
    return {
        "has": has,
        "filters": {name: values for name, values in filters.items() if values},
        "marked": any(row.marks for row in rows),
        "numbers": kind.numeric,
        "rows": found,
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


def _last_two(path: object) -> list[str]:
    """The end of a path, or a Hub id as it is: "emotion", "train.txt"."""
    return str(path).replace("\\", "/").rstrip("/").split("/")[-2:]
