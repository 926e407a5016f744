"""The report of a run as one HTML page that needs nothing else: no network, no other file.

What a person asks, from top to bottom: how good is it, how did it learn, what does it mix up, how
far can its probabilities be trusted, which examples does it get wrong. `document` puts the sections
together; each section is a function of the run that gives HTML, or "" if the run has nothing for
it. Texts, labels and file names come from anywhere, so all of them are escaped, and the page's own
policy forbids it to load or send anything.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from html import escape
from pathlib import Path
from typing import Any

from minibert.workbench.kinds import KINDS
from minibert.workbench.reports import error_analysis
from minibert.workbench.reports.error_analysis import Row, Slice
from minibert.workbench.reports.page import svg
from minibert.workbench.runs.folders import SavedRun
from minibert.workbench.runs.settings import Settings
from minibert.workbench.scores.calibration import expected_calibration_error

FOLDER = Path(__file__).parent
_STATIC_ROWS = 200  # shown where no script runs
_MOST_CLASSES = 40  # of a confusion matrix
_BETWEEN_TEXTS = " | "
_SHOWN = 20  # of the labels to look at
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{}'"
_OWN_LOSS = (
    "The training loss is the one that was minimised, with its class weights or its fault; on "
    "validation it is the plain mean, so the two curves are not of one measure."
)
_COLUMNS = ("loss", "label", "prediction", "probability", "tokens", "text", "place", "right")


@dataclass(frozen=True)
class _Page:
    run: SavedRun
    rows: Sequence[Row]

    @property
    def kind(self) -> str:
        return str(self.run.record["problem_type"])

    @property
    def has_classes(self) -> bool:
        return self.kind == "single_label_classification"

    @property
    def has_tags(self) -> bool:
        return self.kind == "token_classification"

    @property
    def has_numbers(self) -> bool:
        return self.kind == "regression"

    @property
    def scores(self) -> Mapping[str, Any]:
        """The metrics of the final split."""
        return self.run.metrics[self.run.split]

    @property
    def labels(self) -> list[str]:
        return list(self.run.record.get("labels") or [])


def document(run: SavedRun) -> str:
    """The whole page.

    Raises:
        DataError: the run's tables do not hold what a run writes.
    """
    page = _Page(run, error_analysis.rows_of(run.rows, run.folder))
    sections = (
        _head,
        _curves,
        _numbers,
        _confusion,
        _classes,
        _entities,
        _answers,
        _calibration,
        _lengths,
        _suspects,
        _data,
        _examples,
        _settings,
    )
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    body = "\n".join(section(page) for section in sections)
    digest = hashlib.sha256(script.encode()).digest()  # no other script runs, should one get in
    policy = _POLICY.format(base64.b64encode(digest).decode())
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(run.folder.name)}: report</title><style>{style}</style></head>"
        f"<body>{body}\n{_payload(page)}<script>{script}</script></body></html>\n"
    )


# --- the sections, from top to bottom -------------------------------------------------------------


def _head(page: _Page) -> str:
    record, split = page.run.record, page.run.split
    main, *others = [name for name in KINDS[page.kind].metrics if name in page.scores]
    tiles = [_tile(main, page.scores.get(main), f"on {split}, {len(page.rows):,} examples")]
    tiles += [_tile(name, page.scores.get(name)) for name in others]
    for name, scores in (page.run.metrics.get("baselines") or {}).items():
        if isinstance(scores, Mapping) and main in scores:
            note = f"{main}, without BERT"
            tiles.append(_tile(f"baseline: {name}", {"value": scores[main]}, note))
    data = record["data"]["train"]["source"]
    return (
        f"<header><h1>{escape(_last_two(record['settings']['model']))} on "
        f"{escape(_last_two(data))}</h1>"
        f'<p class="quiet">{escape(str(record.get("summary", "")))}</p>'
        f'<p class="quiet">{escape(_chosen(record))} {record["seconds"]:,.0f} seconds on '
        f"{escape(str(record['machine']))}, {escape(str(record['threads']))} threads.</p>"
        f'</header><div class="tiles">{"".join(tiles)}</div>'
    )


def _chosen(record: Mapping[str, Any]) -> str:
    best, count = record["best_epoch"], len(record["epochs"])
    measured = record.get("measured_epoch", best)  # older runs measured the best
    if measured != best:
        return (
            f"Epoch {measured} of {count} is the one measured, though {best} was the best by "
            f"{record['chosen_by']}."
        )
    return f"Epoch {best} of {count} is the one measured, chosen by {record['chosen_by']}."


def _curves(page: _Page) -> str:
    steps, epochs = page.run.steps, page.run.record["epochs"]
    losses = [(float(step["step"]), float(step["loss"])) for step in steps]
    rates = [(float(step["step"]), float(step["learning_rate"])) for step in steps]
    ends = {int(step["epoch"]): float(step["step"]) for step in steps}
    measured = [
        (ends[epoch["epoch"]], _value(epoch["metrics"].get("loss")))
        for epoch in epochs
        if epoch["epoch"] in ends
    ]
    window = max(1, len(losses) // 30)
    trend = _smoothed(losses, window) if window > 1 else []  # a line without points is left out
    loss = svg.lines(
        "Loss of every training step and on validation",
        [
            svg.Line("training, each step", losses, "faint" if window > 1 else "first"),
            svg.Line(f"training, mean of {window}", trend, "first"),
            svg.Line("validation", measured, "second", dots=True),
        ],
        x="step",
        y="loss",
    )
    known = [name for name in KINDS[page.kind].metrics if name not in ("loss", "mse")]
    names = [name for name in known if any(name in epoch["metrics"] for epoch in epochs)][:3]
    styles = ("first", "second", "third")
    scores = svg.lines(
        "Scores on validation after each epoch",
        [
            svg.Line(
                name,
                [(epoch["epoch"], _value(epoch["metrics"].get(name))) for epoch in epochs],
                style,
                dots=True,
            )
            for name, style in zip(names, styles, strict=False)
            if len(epochs) > 1  # one point is no curve, and stands above
        ],
        x="epoch",
        y="validation score",
        from_zero=False,
    )
    rate = svg.lines(
        "Learning rate of every step", [svg.Line("rate", rates)], x="step", y="learning rate"
    )
    drawn = [f"<figure>{chart}</figure>" for chart in (loss, scores, rate) if chart]
    note = f'<p class="quiet">{_OWN_LOSS}</p>' if _has_own_loss(page.run.record) else ""
    return f'<h2>How it learned</h2>{note}<div class="pair">{"".join(drawn)}</div>' if drawn else ""


def _has_own_loss(record: Mapping[str, Any]) -> bool:
    """Whether the loss of training is another than that of validation."""
    settings = record["settings"]
    return bool(settings.get("class_weights")) or "double-softmax" in (settings.get("faults") or ())


def _numbers(page: _Page) -> str:
    if not page.has_numbers:
        return ""
    chart = svg.scatter(
        "Predicted numbers over labels",
        [(float(row.label), float(row.prediction)) for row in page.rows],
        x="label",
        y="prediction",
    )
    return (
        "<h2>How far off it is</h2><p>Each dot is an example; on the dashed line the prediction is "
        f'the label.</p><div class="pair"><figure>{chart}</figure></div>'
    )


def _confusion(page: _Page) -> str:
    if not (page.has_classes or page.has_tags) or len(page.labels) > _MOST_CLASSES:
        return ""
    pairs = (
        error_analysis.words_of(page.rows)
        if page.has_tags
        else [(row.label, row.prediction) for row in page.rows]
    )
    counts = Counter(pairs)
    lines = []
    for label in page.labels:
        total = sum(counts[label, guess] for guess in page.labels)
        cells = "".join(
            _matrix_cell(label, guess, counts[label, guess], total, opens=page.has_classes)
            for guess in page.labels
        )
        lines.append(f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>')
    heads = "".join(f'<th scope="col">{escape(label)}</th>' for label in page.labels)
    commonest = "".join(
        f"<li>{escape(label)} taken for {escape(guess)}: {count:,}</li>"
        for label, guess, count in error_analysis.confusions(pairs)[:8]
    )
    meaning = "; it opens its examples below" if page.has_classes else " of words"
    return (
        "<h2>What it mixes up</h2><p>Rows are labels, columns predictions. Each cell has its share "
        f"of the row, and the count{meaning}.</p>"
        '<div class="beside"><div class="wide"><table class="matrix">'
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        f"<div><h3>The commonest errors</h3><ol>{commonest}</ol></div></div>"
    )


def _matrix_cell(label: str, guess: str, count: int, total: int, opens: bool) -> str:
    share = count / max(1, total)
    strong = " strong" if share > 0.5 else ""
    look = f'class="cell{strong}" style="--share:{share:.3f}"'
    shown = f"{share:.2f}<small>{count:,}</small>"
    if not opens:
        return f"<td><div {look}>{shown}</div></td>"
    return (
        f'<td><button type="button" {look} '
        f'data-label="{escape(label)}" data-prediction="{escape(guess)}" '
        f'aria-label="{escape(label)} predicted {escape(guess)}: {count}">{shown}</button></td>'
    )


def _classes(page: _Page) -> str:
    classes = page.scores.get("classes") or {}
    rows = [
        [name, *(f"{scores[key]:.3f}" for key in ("precision", "recall", "f1"))]
        + [f"{scores['support']:,.0f}"]
        for name, scores in classes.items()
    ]
    if not rows:
        return ""
    by_label = _slices("label", error_analysis.by_label(page.rows)) if page.has_classes else ""
    scores = _table(("class", "precision", "recall", "F1", "examples"), rows)
    return f'<h2>Class by class</h2><div class="pair">{scores}{by_label}</div>'


def _entities(page: _Page) -> str:
    """What became of every entity, and those that cost most."""
    rows = page.run.entities
    if not rows:
        return ""
    counts = Counter((row["label"] or row["prediction"], row["outcome"]) for row in rows)
    kinds = sorted({kind for kind, _ in counts})
    outcomes = [name for name in _OUTCOMES if any(counts[kind, name] for kind in kinds)]
    table = _table(
        ("entity", *outcomes),
        [[kind, *(f"{counts[kind, name]:,}" for name in outcomes)] for kind in kinds],
    )
    worst = [
        [
            f"{float(row['loss']):.3f}",
            row["outcome"],
            _entity(row["label"], row["entity"]),
            _entity(row["prediction"], row["predicted_entity"]),
            row["text"],
        ]
        for row in rows
        if row["outcome"] != "right"
    ]
    meanings = "; ".join(f"{name}: {what}" for name, what in _OUTCOMES.items() if name in outcomes)
    section = f"<h2>Entity by entity</h2><p>{escape(meanings)}.</p>{table}"
    if not worst:
        return section
    header = ("loss", "outcome", "label", "prediction", "sentence")
    return (
        f"{section}<h3>The {min(_SHOWN, len(worst))} errors of the highest loss (all in "
        f"entities.csv)</h3>{_table(header, worst[:_SHOWN], texts=True)}"
    )


_OUTCOMES = {
    "right": "both ends and the type",
    "type": "the right words, another type",
    "ends": "the right type, other words that overlap",
    "ends and type": "other words that overlap, another type",
    "missed": "nothing was predicted there",
    "invented": "nothing is there",
}


def _entity(kind: str, text: str) -> str:
    return f"{kind}: {text}" if kind else ""


def _answers(page: _Page) -> str:
    """Questions with and without an answer, where there are both."""
    parts = [(name, page.scores.get(name)) for name in ("has_answer", "no_answer")]
    rows = [
        [
            name.replace("_", " "),
            f"{part['examples']:,}",
            f"{part['exact_match']:.4f}",
            f"{part['f1']:.4f}",
        ]
        for name, part in parts
        if isinstance(part, Mapping)
    ]
    header = ("the context", "questions", "exact match", "F1")
    return f"<h2>With and without an answer</h2>{_table(header, rows)}" if rows else ""


def _calibration(page: _Page) -> str:
    table = error_analysis.calibration(page.rows) if page.has_classes else ()
    if not table:
        return ""
    chart = svg.reliability("Accuracy of the predictions over their confidence", table)
    rows = [
        [
            f"{each.low:.1f} to {each.high:.1f}",
            f"{each.count:,}",
            f"{each.confidence:.3f}" if each.confidence is not None else "",
            f"{each.accuracy:.3f}" if each.accuracy is not None else "",
        ]
        for each in table
        if each.count
    ]
    error = expected_calibration_error(table)
    return (
        "<h2>How far its probabilities can be trusted</h2>"
        f"<p>Expected calibration error {error:.4f}: so far apart are confidence and accuracy on "
        "average (Guo et al. 2017). Bars below the dashed line are predictions made too surely; "
        "the dots are the mean confidence of each bin.</p>"
        f'<div class="pair"><figure>{chart}</figure>'
        f"{_table(('confidence', 'predictions', 'mean confidence', 'accuracy'), rows)}</div>"
    )


def _lengths(page: _Page) -> str:
    if page.has_tags or page.has_numbers:
        return ""
    slices = error_analysis.by_length(page.rows)
    return f"<h2>Short and long texts</h2>{_slices('tokens', slices)}" if slices else ""


def _suspects(page: _Page) -> str:
    if not page.has_classes:
        return ""
    found = error_analysis.suspects(page.rows, most=len(page.rows))
    easy = error_analysis.easiest(page.rows)
    doubted = (
        f"<p>The model is at least {error_analysis.SURE:.0%} sure of another class than the label of these "
        f"{len(found)}{f'; the surest {_SHOWN}' if len(found) > _SHOWN else ''}. Each is a wrong "
        "label, a hard example or a blind spot: only reading tells.</p>"
        f"{_rows_table(found[:_SHOWN], page)}"
        if found
        else "<p>None: the model is nowhere 90% sure of another class than the label.</p>"
    )
    return (
        f"<h2>Labels to look at</h2>{doubted}<details><summary>The lowest losses</summary>"
        "<p>A low loss says that model and label agree, not that they are right: a wrong label "
        "that the model has learned to repeat costs nothing.</p>"
        f"{_rows_table(easy, page)}</details>"
    )


def _data(page: _Page) -> str:
    data = page.run.record["data"]
    names = [label for label in page.labels if any(label in d["labels"] for d in data.values())]
    rows = [
        [label, *(f"{part['labels'].get(label, 0):,}" for part in data.values())] for label in names
    ]
    rows.append(["all examples", *(f"{part['examples']:,}" for part in data.values())])
    cut = [f"{part.get('cut_texts', 0):,}" for part in data.values()]
    rows.append(["cut to the limit", *cut])
    findings = page.run.record.get("data_findings") or []
    items = "".join(
        f'<li class="{"fault" if each["severity"] == "fault" else ""}">{escape(each["sentence"])}'
        "</li>"
        for each in findings
    )
    listed = f"<h3>What was noticed in it</h3><ul>{items}</ul>" if items else ""
    return (
        f'<h2>The data</h2><div class="pair">{_table(("class" if names else "", *data), rows)}'
        f"<div>{_lengths_of_splits(data)}{listed}</div></div>"
    )


def _lengths_of_splits(data: Mapping[str, Any]) -> str:
    """How long the texts of each split are; older runs did not count."""
    counted = {name: part["lengths"] for name, part in data.items() if "lengths" in part}
    if not counted:
        return ""
    rows = [
        [name, *(f"{found['all'][key]:,.0f}" for key in ("min", "median", "mean", "p95", "max"))]
        for name, found in counted.items()
    ]
    limit = next(iter(counted.values()))["limit"]
    header = ("tokens", "min", "median", "mean", "95%", "max")
    return f"<h3>Lengths; the limit is {escape(str(limit))} tokens</h3>{_table(header, rows)}"


def _examples(page: _Page) -> str:
    split = escape(page.run.split)
    orders = ["highest loss", "lowest loss"]
    orders += ["surest", "least sure"] if _known(page, "probability") else []
    orders += ["longest", "shortest"] if _known(page, "tokens") else []
    named = not (page.has_tags or page.has_numbers)
    choices = [
        ("label", ["", *page.labels] if named and page.labels else []),
        ("prediction", ["", *page.labels] if named and page.labels else []),
        ("kind", [] if page.has_numbers else ["", "wrong", "right"]),
        ("order", orders),
    ]
    return (
        f'<h2 id="examples">Every example of {split}</h2>'
        f"<noscript><p>The first {min(_STATIC_ROWS, len(page.rows))} by loss; with scripts allowed "
        "all can be searched and filtered.</p></noscript>"
        '<div class="controls" data-script hidden>'
        '<label>search <input id="search" type="search" placeholder="words in the text"></label>'
        f"{''.join(_choice(name, values) for name, values in choices if values)}</div>"
        '<div class="controls pages" data-script hidden><button id="before" type="button">'
        'previous</button><button id="after" type="button">next</button>'
        '<span id="count" class="quiet" role="status"></span></div>'
        f"{_legend(page)}{_rows_table(page.rows[:_STATIC_ROWS], page, ' id=examples-body')}"
    )


def _legend(page: _Page) -> str:
    if not any(row.marks for row in page.rows):
        return ""
    return (
        '<p class="quiet">In the contexts the <mark class="answer">right answer</mark> (of several '
        'the first) and the <mark class="guess">prediction</mark> are marked.</p>'
    )


def _settings(page: _Page) -> str:
    record = page.run.record
    usual = {item.name: item.default for item in fields(Settings) if item.default is not MISSING}
    chosen = record["settings"]
    changed = {key: value for key, value in chosen.items() if value != _plain(usual.get(key))}
    rows = [[key, _shown(value)] for key, value in changed.items()]
    same = [[key, _shown(value)] for key, value in chosen.items() if key not in changed]
    versions = [[name, version] for name, version in record["versions"].items()]
    return (
        "<h2>How it was made</h2>"
        f"{_table(('setting', 'value'), rows)}"
        f"<details><summary>Settings left as they are by default</summary>"
        f"{_table(('setting', 'value'), same)}</details>"
        f"<details><summary>Versions and files</summary>{_table(('package', 'version'), versions)}"
        f"<pre>{escape(json.dumps(record['data'], indent=2, ensure_ascii=False))}</pre></details>"
    )


# --- pieces of sections ---------------------------------------------------------------------------


def _tile(name: str, metric: Any, note: str = "") -> str:
    if not isinstance(metric, Mapping) or metric.get("value") is None:
        return ""
    interval = ""
    if metric.get("low") is not None:
        interval = f"<small>{metric['low']:.4f} to {metric['high']:.4f} (95%)</small>"
    extra = f"<small>{escape(note)}</small>" if note else ""
    title = escape(name.replace("_", " "))
    return f'<div class="tile">{title}<b>{metric["value"]:.4f}</b>{interval}{extra}</div>'


def _slices(what: str, slices: Sequence[Slice]) -> str:
    rows = [
        [
            part.name,
            f"{part.count:,}",
            f"{part.accuracy:.3f}",
            f"{part.low:.3f} to {part.high:.3f}",
            f"{part.loss:.3f}",
            f"{part.confidence:.3f}" if part.confidence is not None else "",
        ]
        for part in slices
    ]
    return _table((what, "examples", "right", "95% interval", "mean loss", "confidence"), rows)


def _rows_table(rows: Sequence[Row], page: _Page, attribute: str = "") -> str:
    """Examples as a table; page.js makes the same rows."""
    columns = [name for name in _COLUMNS[:5] if _known(page, name)]
    heads = "".join(
        f'<th scope="col"{"" if name in ("label", "prediction") else " class=number"}>{name}</th>'
        for name in columns
    )
    lines = "".join(_example_row(row, columns, page.has_numbers) for row in rows)
    return (
        f'<div class="wide"><table class="examples"><thead><tr>{heads}<th scope="col">text</th>'
        f"</tr></thead><tbody{attribute}>{lines}</tbody></table></div>"
    )


def _known(page: _Page, column: str) -> bool:
    """Whether the examples have that column: numbers have no probability, old tables no tokens."""
    return any(getattr(row, column) is not None for row in page.rows[:1])


def _example_row(row: Row, columns: Sequence[str], numbers: bool) -> str:
    style = "" if numbers else " is-right" if row.right else " is-wrong"
    shown = {
        "loss": f'<td class="number">{row.loss:.3f}</td>',
        "label": f'<td class="answer">{escape(_answer(row.label, numbers))}</td>',
        "prediction": f'<td class="answer{style}">{escape(_answer(row.prediction, numbers))}</td>',
        "probability": f'<td class="number">{row.probability or 0:.3f}</td>',
        "tokens": f'<td class="number">{row.tokens}</td>',
    }
    return (
        f"<tr>{''.join(shown[name] for name in columns)}<td>{_marked(row)}"
        f'<span class="place">{escape(_place(row))}</span></td></tr>'
    )


def _answer(value: str, number: bool) -> str:
    return f"{float(value):.4g}" if number else value


def _table(header: Sequence[str], rows: Sequence[Sequence[object]], *, texts: bool = False) -> str:
    """Rows as a table; `texts` says that all columns are texts, else all but the first numbers."""
    numeric = len(header) > 2 and not texts
    heads = "".join(
        f'<th scope="col"{" class=number" if place and numeric else ""}>{escape(name)}</th>'
        for place, name in enumerate(header)
    )
    lines = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=number' if place and numeric else ''}>{escape(str(value))}</td>"
            for place, value in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _choice(name: str, values: Sequence[str]) -> str:
    options = "".join(
        f'<option value="{escape(value)}">{escape(value) or "all"}</option>' for value in values
    )
    return f'<label>{name} <select id="{name}">{options}</select></label>'


def _payload(page: _Page) -> str:
    """Every example for the script, as JSON that no text can break out of."""
    rows = [
        [
            row.loss,
            _answer(row.label, page.has_numbers),
            _answer(row.prediction, page.has_numbers),
            row.probability,
            row.tokens,
            _parts(row) if row.marks else _text(row),
            _place(row),
            row.right,
        ]
        for row in page.rows
    ]
    payload = {"columns": _COLUMNS, "kind": page.kind, "rows": _without_infinity(rows)}
    text = json.dumps(payload, ensure_ascii=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return f'<script type="application/json" id="examples-data">{text}</script>'


def _without_infinity(rows: list[list[Any]]) -> list[list[Any]]:
    """Losses may be infinite, which JSON cannot say: the largest number stands for it."""
    return [[min(row[0], 1e300) if row[0] == row[0] else 1e300, *row[1:]] for row in rows]


def _text(row: Row) -> str:
    return _BETWEEN_TEXTS.join([row.text, *([row.text_pair] if row.text_pair else [])])


def _parts(row: Row) -> list[tuple[str, str]]:
    """The text in stretches, each with what it is: "", "answer", "guess", or "answer guess"."""
    text = _text(row)
    offset = len(row.text) + len(_BETWEEN_TEXTS)  # marks are of the second text
    marks = [(start + offset, end + offset, kind) for start, end, kind in row.marks]
    edges = sorted({0, len(text), *(edge for start, end, _ in marks for edge in (start, end))})
    return [
        (text[start:end], " ".join(kind for low, high, kind in marks if low <= start < high))
        for start, end in itertools.pairwise(edges)
    ]


def _marked(row: Row) -> str:
    return "".join(
        f'<mark class="{kind}">{escape(part)}</mark>' if kind else escape(part)
        for part, kind in (_parts(row) if row.marks else [(_text(row), "")])
    )


def _place(row: Row) -> str:
    """File and line, without the folder."""
    return row.guid.replace("\\", "/").rpartition("/")[2]


def _last_two(path: object) -> str:
    """The end of a path, or a Hub id as it is: "emotion/train.txt"."""
    return "/".join(str(path).replace("\\", "/").rstrip("/").split("/")[-2:])


def _smoothed(points: Sequence[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """Means of `window` values, each at the last of them."""
    good = [point for point in points if math.isfinite(point[1])]
    total, means = 0.0, []
    for place, (across, value) in enumerate(good):
        total += value - (good[place - window][1] if place >= window else 0.0)
        if place + 1 >= window:
            means.append((across, total / window))
    return means


def _value(metric: Any) -> float:
    return math.nan if metric is None else float(metric)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
