"""The page and the pictures of runs: numbers as they were written, and nothing that gets out."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from minibert.io.errors import ConfigError, DataError
from minibert.io.tables import write_csv
from minibert.workbench.cli import main
from minibert.workbench.reports import charts
from minibert.workbench.reports.page import document
from minibert.workbench.reports.pictures import pictures
from minibert.workbench.runs.folders import SavedRun, read_run
from minibert.workbench.tasks import report as report_module
from minibert.workbench.tasks.features import extract_features
from minibert.workbench.tasks.finetune import finetune
from minibert.workbench.tasks.report import write_report
from tests.workbench.conftest import FILLERS, MOODS, write_table
from tests.workbench.tasks.test_finetune import settings_for

HOSTILE = "</script><script>alert(1)</script> <!-- ]]> \" ' & \u2028 <img src=http://x.y/z>"


class Page(HTMLParser):
    """The tags, attributes, texts of an HTML page, and the content of its scripts."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._inside = tag
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        (self.scripts if self._inside == "script" else self.texts).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def payload(self) -> dict:
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module")
def run(tiny, moods, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "run"
    finetune(settings_for(tiny, moods, folder, epochs=2), progress=False)
    return folder


@pytest.fixture(scope="module")
def page(run) -> Page:
    return Page(document(read_run(run)))


def test_the_numbers_on_the_page_are_those_of_the_run(run, page):
    saved = read_run(run)
    for name in ("accuracy", "macro_f1", "weighted_f1", "loss"):
        assert f"{saved.metrics['test'][name]['value']:.4f}" in page.text
    accuracy = saved.metrics["test"]["accuracy"]
    assert f"{accuracy['low']:.4f} to {accuracy['high']:.4f} (95%)" in page.text
    for name in ("majority", "naive_bayes"):
        assert f"{saved.metrics['baselines'][name]['accuracy']:.4f}" in page.text
    for sentence in (finding["sentence"] for finding in saved.record["data_findings"]):
        assert sentence in page.text


def test_the_page_says_that_a_baseline_was_not_beaten(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    metrics = json.loads((copy / "metrics.json").read_text())
    metrics["test"]["accuracy"]["value"] = 0.8
    for score, said in ((0.7, False), (0.9, True)):
        metrics["baselines"]["naive_bayes"]["accuracy"] = score
        (copy / "metrics.json").write_text(json.dumps(metrics))
        assert ("is not above that of naive Bayes" in document(read_run(copy))) == said


def test_the_matrix_counts_as_confusion_csv_does(run, page):
    with open(run / "confusion.csv", newline="") as file:
        written = {row["label \\ prediction"]: row for row in csv.DictReader(file)}
    shown = {
        (attributes["data-label"], attributes["data-prediction"]): attributes["aria-label"]
        for tag, attributes in page.tags
        if tag == "button" and "data-label" in attributes
    }
    assert shown.keys() == {(label, guess) for label in MOODS for guess in MOODS}
    for (label, guess), words in shown.items():
        assert words == f"{label} predicted {guess}: {written[label][guess]}"


def test_every_example_is_there_for_the_script_and_the_first_without_one(run, page):
    saved = read_run(run)
    payload = page.payload()
    assert payload["columns"][:2] == ["loss", "label"]
    assert [row[0] for row in payload["rows"]] == [float(row["loss"]) for row in saved.rows]
    assert [text_of(row) for row in payload["rows"]] == [row["text"] for row in saved.rows]
    assert all(row["text"] in page.text for row in saved.rows)
    identifiers = {attributes.get("id") for _, attributes in page.tags}
    script = page.scripts[-1]
    asked = set(re.findall(r'getElementById\("([\w-]+)"\)', script))
    asked |= set(json.loads(re.search(r"fields = (\[.*?\])", script).group(1)))
    assert asked and asked <= identifiers


def text_of(row: list) -> str:
    """The text of an example of the payload, from its marked and unmarked parts."""
    return "".join(part for part, _ in row[5])


def addresses(page: Page, text: str) -> list[str]:
    """Everything by which a page could load or call something."""
    found = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "action", "data", "srcset", "poster", "formaction") and value
    ]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL).group(1)
    found += re.findall(r"url\(|@import|expression", style)
    for _, attributes in page.tags:  # charts refer to their own parts, as in url(#clip)
        found += re.findall(r"url\([^#].*?\)", " ".join(filter(None, attributes.values())))
        found += re.findall(r"^[^#].*", attributes.get("xlink:href") or "")
    found += re.findall(r"fetch\(|XMLHttpRequest|import\(|WebSocket|sendBeacon", page.scripts[-1])
    return found


def test_the_page_needs_and_calls_nothing_outside(run, page):
    text = document(read_run(run))
    assert addresses(page, text) == []
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'") and "script-src 'unsafe" not in policy
    digest = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    leak = text.replace("</style>", "a{background:url(http://x.y)}</style><img src='//x.y/z'>")
    assert len(addresses(Page(leak), leak)) == 2  # the check would see it


def test_hostile_texts_and_labels_stay_text(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    with open(copy / "errors.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0]["text"] = rows[1]["guid"] = HOSTILE
    rows[0]["label"] = "<b>bold</b>"
    write_table(copy / "errors.csv", list(rows[0]), [list(row.values()) for row in rows])
    record = json.loads((copy / "run.json").read_text())
    record["labels"][0] = "<b>bold</b>"
    record["summary"] = record["settings"]["model"] = HOSTILE
    record["threads"] = record["best_epoch"] = record["measured_epoch"] = HOSTILE
    record["data"]["test"]["lengths"]["limit"] = HOSTILE
    for part in record["data"].values():
        part["lengths"]["limit"] = HOSTILE
    record["data_findings"] = [{"severity": "fault", "sentence": HOSTILE}]
    (copy / "run.json").write_text(json.dumps(record))
    text = document(read_run(copy))
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 2  # the data and the code, as ever
    assert "img" not in {tag for tag, _ in page.tags}
    assert "<b>bold" not in text and "<!--" not in text and "\u2028" not in page.scripts[0]
    assert text_of(page.payload()["rows"][0]) == HOSTILE  # whole, and harmless
    assert addresses(page, text) == []


def test_the_page_tells_the_epoch_that_was_measured(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "best_epoch": 1, "measured_epoch": 2}))
    text = Page(document(read_run(copy))).text
    assert "the scores of epoch 2 of 2, although epoch 1 was the best by accuracy" in text
    assert "not on the same scale" not in text
    record["settings"]["class_weights"] = True
    (copy / "run.json").write_text(json.dumps(record))
    assert "not on the same scale" in Page(document(read_run(copy))).text


KINDS_OF_RUNS = ("regression", "several", "tags", "choices", "questions")


@pytest.fixture(scope="module", params=KINDS_OF_RUNS)
def of_kind(request, tiny, tmp_path_factory):
    """(kind, folder, page, pictures) of a run of each kind beside one class per text."""
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    path, options = folder / "train.jsonl", {}
    words = [f"{FILLERS[n % 16]} {FILLERS[n % 7]}" for n in range(30)]
    if kind == "tags":
        path = folder / "train.conll"
        path.write_text("anna\tB-PER\nwalk\tO\n\nberlin\tB-LOC\nis\tO\nsmall\tO\n\n" * 12)
    elif kind == "questions":
        path = folder / "train.json"
        asked = [
            {"id": str(n), "question": "what", "answers": [{"text": text.split()[0], "answer_start": 0}]}
            for n, text in enumerate(words)
        ]
        paragraphs = [{"context": text, "qas": [one]} for text, one in zip(words, asked, strict=True)]
        path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    else:
        labels = {"regression": [0.5, 1.5, 2.25], "several": [["calm"], [], ["calm", "happy"]], "choices": [0, 1, 1]}
        rows = [{"text": text, "label": labels[kind][n % 3], "part": "ab"[n % 2]} for n, text in enumerate(words)]
        if kind == "choices":
            rows, options = [{**row, "choices": ["calm", "happy"]} for row in rows], {"choices": ["choices"]}
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {"validation": None, "test": None, "epochs": 2, "allow_data_faults": True, **options}
    settings = settings_for(tiny, folder, folder / "run", **values)
    finetune(type(settings)(**{**settings.__dict__, "train": str(path)}), progress=False)
    written = write_report(folder / "run", progress=False)
    return kind, folder / "run", Page(written.page.read_text()), {path.stem for path in written.pictures}


def test_runs_of_every_kind_have_a_page(of_kind):
    kind, folder, page, pictures = of_kind
    main_score = next(iter(read_run(folder).metrics["validation"].values()))
    assert str(main_score) in page.text
    sections = {"Training", "Data", "Scores by length", "Settings"}
    own = {
        "regression": {"Predictions and labels", "Scores by part"},
        "several": {"Scores by class", "Scores by part"},
        "tags": {"Confusion", "Scores by class", "Entities"},
        "choices": {"Calibration", "Labels to check", "Scores by part"},
        "questions": {"Calibration", "Labels to check"},
    }
    known = sections.union(*own.values())
    assert {text for text in page.texts if text in known} == sections | own[kind]
    ids = {attributes["id"] for tag, attributes in page.tags if tag == "select"}
    filters = {"regression": set(), "several": {"kind", "label", "prediction"}}
    assert ids == filters.get(kind, {"kind"}) | {"order"}
    heads = [text for text in page.texts if text in ("loss", "probability", "tokens")]
    assert ("probability" in heads) == (kind != "regression") and "tokens" in heads
    assert any(text.startswith("baseline: ") for text in page.texts)


def test_runs_of_every_kind_have_the_charts_that_make_sense(of_kind):
    kind, _, page, pictures = of_kind
    drawn = {
        "regression": {"scatter"},
        "several": {"classes"},
        "tags": {"classes", "confusion"},
        "choices": {"reliability"},
        "questions": {"reliability"},
    }
    assert pictures == {"curves", "lengths"} | drawn[kind]
    titles = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    more = {"regression": 2, "choices": 1, "questions": 1}
    assert len(titles) == 4 + more.get(kind, 0)  # loss, scores, rate and lengths


def test_pages_of_every_kind_call_nothing_outside(of_kind):
    text = (of_kind[1] / "report.html").read_text()
    assert addresses(of_kind[2], text) == []


def test_every_picture_is_drawn_and_none_is_blank(run):
    import matplotlib.image

    written = write_report(run, progress=False)
    names = {"curves", "confusion", "reliability", "classes", "lengths", "features"}
    assert {path.name for path in written.pictures} == {f"{name}.png" for name in names}
    for path in written.pictures:
        assert matplotlib.image.imread(path)[..., :3].std() > 0.02, path


def test_the_picture_of_features_is_of_whole_pairs(run, tmp_path, monkeypatch):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    with open(copy / "errors.csv", newline="") as file:
        rows = [{**row, "text_pair": f"second {row['guid']}"} for row in csv.DictReader(file)]
    write_table(copy / "errors.csv", list(rows[0]), [list(row.values()) for row in rows])
    seen = []

    def watched(source, texts, **options):
        seen.extend(texts)
        return extract_features(source, texts, **options)

    monkeypatch.setattr(report_module, "extract_features", watched)
    write_report(copy, progress=False)
    assert {text.text_pair for text in seen} == {row["text_pair"] for row in rows}


def test_a_picture_that_cannot_be_drawn_is_a_warning(run, monkeypatch):
    def fail(*_):
        raise ValueError("no such font")

    monkeypatch.setattr(charts, "reliability", fail)
    with pytest.warns(UserWarning, match="reliability.png .*no such font"):
        drawn = pictures(run)
    assert len(drawn) == 4


def test_without_matplotlib_the_report_says_how_to_install_it(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError) as caught:
        write_report(run, tmp_path / "page.html", progress=False)
    assert caught.value.key == "plots" and not (tmp_path / "page.html").exists()
    assert main(["report", str(run), "--quiet"]) == 2
    assert "pip install 'minibert[plots]'" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="pip install") as warned:
        assert pictures(run) == []
    assert len(warned) == 1


def test_from_the_command_line(run, tmp_path, capsys):
    assert main(["report", str(run), "--no-features", "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(run / "report.html")
    assert main(["report", str(run), "--output", str(tmp_path), "--no-features"]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 2
    assert "run.json" in capsys.readouterr().err


def test_only_a_finished_run_has_a_report(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("report.html"))
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "status": "unfinished"}))
    with pytest.raises(DataError) as caught:
        write_report(copy)
    assert caught.value.key == "status"
    with pytest.raises(ConfigError) as refused:
        write_report(run, tmp_path)
    assert refused.value.key == "output"
    assert not Path(copy / "report.html").exists()


def test_words_are_counted_one_by_one_in_the_matrix_of_tags(tmp_path):
    rows = [{**ROW, "label": "B-X O O", "prediction": "B-X O B-X"}, {**ROW, "label": "O", "prediction": "O"}]
    cells = Page(document(saved(tmp_path, rows, "token_classification", ["B-X", "O"]))).text
    assert "1.00 1 0.00 0" in cells and "0.33 1 0.67 2" in cells
    assert "O predicted as B-X: 1" in cells


def test_wide_matrices_keep_their_labels_whole_and_words_outside_of_entities_apart(tmp_path):
    tags = ["O", *(f"{edge}-{name}" for name in ("creative-work", "person", "place", "x") for edge in "BI")]
    rows = [{**ROW, "label": " ".join(tags), "prediction": " ".join(reversed(tags))}]
    text = document(saved(tmp_path, rows, "token_classification", tags))
    matrix = text[text.index('<table class="matrix') : text.index("</table>", text.index('<table class="matrix'))]
    assert 'class="matrix many"' in matrix
    heads = re.findall(r'<th scope="(col|row)"[^>]*>(?:<span>)?([^<]*)', matrix)
    assert [name for kind, name in heads if kind == "row"] == [*tags[1:], "O"]
    assert [name for kind, name in heads if kind == "col"] == [*tags[1:], "O"]
    assert matrix.count('class="apart"') == 2 + len(tags)  # its column, its head, and its row
    style = (Path(charts.__file__).parent / "page/page.css").read_text()
    assert "anywhere" not in re.findall(r"\.matrix th \{[^}]*\}", style)[0]
    assert "markWide();" in text and ".wide.scrolls::before" in style


def test_numbers_are_shown_as_numbers_that_are_neither_right_nor_wrong(tmp_path):
    rows = [{**ROW, "label": "1.5", "prediction": "1.23456789", "probability": ""}]
    text = document(saved(tmp_path, rows, "regression", None))
    body = text.partition("<body>")[2]
    assert "1.235" in body and "1.23456789" not in body and 'class="answer is-' not in text
    assert "Predictions and labels" in Page(text).texts
    assert Page(text).payload()["rows"][0][2] == "1.235"


def test_runs_that_were_made_before_there_were_baselines_are_judged_too(tmp_path):
    run = saved(tmp_path, [{**ROW, "label": "B-X", "prediction": "O"}], "token_classification", ["B-X", "O"])
    run.metrics["test"]["entity_f1"] = {"value": 0.0}
    assert "entity f1 is 0.0000" in document(run)
    run.metrics["test"]["entity_f1"] = {"value": 0.5}
    assert 'class="fault"' not in document(run)
    run.record["epochs"] = [{"epoch": n, "metrics": {"loss": n / 10}} for n in (1, 2, 3)]
    assert "rose after every epoch" in document(run)


def test_an_infinite_loss_is_null_for_the_script(tmp_path):
    rows = [{**ROW, "loss": "inf"}, ROW]
    text = document(saved(tmp_path, rows, "single_label_classification", ["a", "b"]))
    assert [row[0] for row in Page(text).payload()["rows"]] == [None, 0.5]


def test_a_column_that_a_run_does_not_have_is_left_out(tmp_path):
    rows = [{key: value for key, value in ROW.items() if key != "tokens"}]
    text = document(saved(tmp_path, rows, "single_label_classification", ["a", "b"]))
    assert "tokens</th>" not in text and "longest" not in text.partition("<script")[0]
    assert Page(text).payload()["rows"][0][4] is None


def test_hard_texts_come_back_from_the_table_as_they_were(tmp_path):
    texts = ["a\rb", "a\r\nb\nc", 'a "quoted", one', "a\x85b\u2028c", "x" * 200_000, ""]
    write_csv(tmp_path / "errors.csv", ["loss", "text"], [[0.5, text] for text in texts])
    (tmp_path / "log.csv").write_text("step\n")
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "run.json").write_text('{"status": "finished"}')
    before = csv.field_size_limit()
    assert [row["text"] for row in read_run(tmp_path).rows] == texts
    assert csv.field_size_limit() == before
    assert b"\r\n0.5" not in (tmp_path / "errors.csv").read_bytes()  # line ends are LF


ROW = {
    "loss": "0.5",
    "label": "a",
    "prediction": "b",
    "probability": "0.75",
    "tokens": "7",
    "guid": "test.csv:1",
    "text": "one day",
}


def saved(folder: Path, rows: list[dict[str, str]], kind: str, labels: list[str] | None):
    """A run of one epoch and no steps, made by hand."""
    record = {
        "summary": "a model",
        "data_findings": [],
        "problem_type": kind,
        "labels": labels,
        "errors_and_confusion_are_of": "test",
        "settings": {"model": "m"},
        "data": {"train": {"source": "train.csv", "labels": {}, "examples": 1}},
        "epochs": [{"epoch": 1, "metrics": {"loss": 0.5}}],
        "best_epoch": 1,
        "chosen_by": "loss on validation",
        "seconds": 1.0,
        "machine": "a machine",
        "threads": 1,
        "versions": {},
    }
    return SavedRun(folder, record, {"test": {"loss": {"value": 0.5}}}, [], rows)


def test_charts_leave_out_what_is_not_finite(tmp_path):
    run = saved(tmp_path, [], "regression", None)
    losses = ["2.0", "nan", "1.0", "inf"]
    run.steps.extend({"step": str(number), "epoch": "1", "loss": loss} for number, loss in enumerate(losses))
    [axes] = charts.curves(run, "loss").axes
    training, validation = axes.lines
    assert (list(training.get_xdata()), list(training.get_ydata())) == ([0, 2], [2, 1])
    assert list(validation.get_xdata()) == [3]  # where the epoch ended
    [axes] = charts.scatter([(1, 1), (2, float("inf")), (float("nan"), 2)]).axes
    assert len(axes.lines[-1].get_xdata()) == 1
    many = charts.scatter([(n, n) for n in range(5000)]).axes[0].lines[-1].get_xdata()
    assert 500 <= len(many) <= 1000


def boxes(figure):
    """The places of the legend and of the plot in a figure, in pixels."""
    figure.canvas.draw()
    [axes] = figure.axes
    return axes.get_legend().get_window_extent(), axes.get_window_extent(), figure.bbox


@pytest.mark.parametrize("steps", [4, 90])
@pytest.mark.parametrize("panel", ["loss", "scores"])
def test_legends_cover_no_lines_and_are_not_cut_off(tmp_path, panel, steps):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    run = saved(tmp_path, [], "regression", None)
    run.steps.extend({"step": str(n), "epoch": "1", "loss": str(9 - n / 90)} for n in range(steps))
    names = ("entity_f1", "entity_precision", "entity_recall", "word_accuracy")
    run.record["epochs"] = [{"epoch": n, "metrics": dict.fromkeys(names, 0.99) | {"loss": 8.5}} for n in (1, 2)]
    figure = charts.curves(run, panel)
    FigureCanvasAgg(figure)
    legend, plot, whole = boxes(figure)
    assert legend.y0 >= plot.y1 - 1 and legend.x0 >= 0 and legend.x1 <= whole.x1


def test_axes_fit_the_curves(tmp_path):
    run = saved(tmp_path, [], "regression", None)
    for losses, from_zero in (((7.5, 6.5, 6.25), False), ((0.7, 0.3, 0.1), True)):
        run.steps[:] = [{"step": str(n), "epoch": "1", "loss": str(loss)} for n, loss in enumerate(losses)]
        run.record["epochs"] = [{"epoch": 1, "metrics": {"loss": losses[-1]}}]
        low, high = charts.curves(run, "loss").axes[0].get_ylim()
        assert (low == 0) == from_zero and high - low < 1.3 * (max(losses) - (0 if from_zero else min(losses)))


def test_a_chart_of_the_page_is_the_same_every_time_and_has_the_colours_of_the_page(run):
    saved_run = read_run(run)
    assert document(saved_run) == document(saved_run)
    drawn = charts.svg(charts.curves(saved_run, "loss", "scores", "rate"), 'a "title"')
    assert 'aria-label="a &#34;title&#34;"' in drawn or "a &quot;title&quot;" in drawn
    assert not re.findall(r"#[0-9a-f]{6}\b|#[0-9a-f]{3}\b", drawn)
    assert all("fill: var(--quiet)" in text for text in re.findall(r"<text[^>]*>", drawn))
    style = (Path(charts.__file__).parent / "page/page.css").read_text()
    for name, colour in charts.COLOURS.items():
        assert f"--{name}: {colour};" in style and style.count(f"--{name}: #") == 2


def test_a_label_is_text_whatever_is_in_it(recwarn):
    labels = ["$x^2$", "5$", "高兴", "<b>"]
    drawn = charts.svg(charts.frequencies(dict.fromkeys(labels, 3)), "classes")
    for text in ("$x^2$", "5$", "高兴", "&lt;b&gt;"):
        assert f">{text}</text>" in drawn
    assert not recwarn.list
    charts.png(charts.confusion(np.eye(2, dtype=int), labels[:2], "test"))
