"""Comparing runs, on run folders made by hand and on tiny runs."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from minibert.io.errors import ConfigError, DataError
from minibert.workbench.cli import main
from minibert.workbench.kinds import KINDS
from minibert.workbench.runs.settings import Settings, as_record
from minibert.workbench.tasks.compare import compare
from tests.workbench.conftest import MOODS

SINGLE = "single_label_classification"


def example_rows(labels, predictions, losses=None, **more):
    """Rows of errors.csv, the order turned round, as another run's losses would."""
    losses = losses if losses is not None else np.linspace(2, 0.1, len(labels))
    rows = [
        {
            "loss": loss,
            "label": label,
            "prediction": prediction,
            "probability": 0.5,
            "tokens": 7,  # a column that comparing does not know
            "guid": f"/data/test.csv:{number + 2}",
            "text": f"text {number}",
            **more,
        }
        for number, (loss, label, prediction) in enumerate(zip(losses, labels, predictions, strict=True))
    ]
    return sorted(rows, key=lambda row: -row["loss"])


def write_run(folder: Path, rows, *, kind=SINGLE, labels=MOODS, changes=None, **settings) -> Path:
    """A run folder with everything that comparing reads, and no model."""
    folder.mkdir(parents=True)
    texts = [{key: str(value) for key, value in row.items()} for row in rows]
    metrics = {name: {"value": 0.5} for name in KINDS[kind].metrics}
    for name, score in KINDS[kind].outcomes(labels or (), texts).items():
        value = float(score.of_sums(score.added.sum(axis=0)))
        metrics[name] = {"value": value, "low": value - 0.01, "high": value + 0.01}
    chosen = {"validation": "validation.csv", **settings}
    data = {"source": "test.csv", "examples": len(rows), "files": {"/data/test.csv": "ab12"}}
    record = {
        "status": "finished",
        "settings": as_record(Settings("model", "train.csv", output=folder, **chosen)),
        "model": {"commit": None},
        "problem_type": kind,
        "labels": labels,
        "precision": {"name": "fp32"},
        "device": "cpu",
        "threads": 1,
        "data": {"train": data, "validation": data, "test": data},
        "versions": {"torch": "2.6", "minibert": "0.1.0"},
        "seconds": 12.3,
        "best_epoch": 2,
        "errors_and_confusion_are_of": "test",
        **(changes or {}),
    }
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "metrics.json").write_text(json.dumps({"test": metrics, "validation": metrics}))
    (folder / "log.csv").write_text("step\n1\n")
    with open(folder / "errors.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return folder


def guesses(labels, share, seed):
    """Predictions that are right for about such a share of the labels."""
    draw = np.random.default_rng(seed)
    wrong = {name: MOODS[(place + 1) % 3] for place, name in enumerate(MOODS)}
    return [label if draw.random() < share else wrong[label] for label in labels]


@pytest.fixture
def labels():
    return [MOODS[number] for number in np.random.default_rng(0).integers(0, 3, 400)]


@pytest.fixture
def two(tmp_path, labels):
    """Two runs, the second better by about 15 points."""
    return [
        write_run(tmp_path / "a", example_rows(labels, guesses(labels, 0.70, 1)), epochs=2),
        write_run(tmp_path / "b", example_rows(labels, guesses(labels, 0.85, 2)), epochs=3),
    ]


def test_a_run_against_itself_does_not_differ(two):
    [pair] = compare([two[0], two[0]]).pairs
    assert pair.p == pair.corrected == 1
    for found in pair.differences.values():
        assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert pair.counts[0][1] == pair.counts[1][0] == 0
    assert pair.only_first == pair.only_second == ()
    assert pair.sentence().startswith("No significant difference")


def test_a_planted_difference_is_found_whatever_the_order_of_the_rows(two, labels):
    [pair] = compare(two).pairs
    a, b = guesses(labels, 0.70, 1), guesses(labels, 0.85, 2)
    right = np.array([[x == t, y == t] for t, x, y in zip(labels, a, b, strict=True)])
    table = [[int(((right[:, 0] == x) & (right[:, 1] == y)).sum()) for y in (1, 0)] for x in (1, 0)]
    assert [list(row) for row in pair.counts] == table
    alone = table[0][1], table[1][0]
    assert pair.p == pytest.approx(scipy.stats.binomtest(min(alone), sum(alone)).pvalue, abs=1e-9)
    gain = float(right[:, 1].mean() - right[:, 0].mean())
    assert pair.differences["accuracy"].value == pytest.approx(gain, abs=1e-9)
    assert pair.differences["accuracy"].low > 0.05
    assert pair.sentence().startswith(f"B has the better accuracy: B - A is {gain:+.4f} (")
    [back] = compare(two[::-1]).pairs
    assert back.p == pair.p and back.sentence().startswith(f"A has the better accuracy: B - A is {-gain:+.4f} (")


def test_a_headline_names_its_metric_and_the_metrics_that_say_otherwise(tmp_path):
    """The second run gives up a rare class: as accurate as the first, and far worse in macro F1."""
    truth = ["calm"] * 380 + ["angry"] * 20
    first = ["calm"] * 360 + ["angry"] * 40
    runs = [
        write_run(tmp_path / name, example_rows(truth, predicted), labels=["angry", "calm"])
        for name, predicted in (("a", first), ("b", ["calm"] * 400))
    ]
    [pair] = compare(runs).pairs
    assert pair.p == 1 and pair.differences["macro_f1"].high < 0
    assert pair.sentence().startswith("No significant difference in accuracy: B - A is +0.0000 (")
    assert "But A has the better macro_f1." in pair.sentence()


def test_a_headline_and_its_table_give_the_same_p(tmp_path, labels):
    """McNemar's exact test and the bootstrap do not agree to the digit; near 0.05 they may disagree."""
    wrong = [MOODS[(MOODS.index(label) + 1) % 3] for label in labels]
    first = [wrong[place] if place < 6 else label for place, label in enumerate(labels)]
    runs = [
        write_run(tmp_path / "a", example_rows(labels, first)),
        write_run(tmp_path / "b", example_rows(labels, labels)),
    ]
    found = compare([*runs, runs[1]])
    pair = found.pairs[0]
    assert pair.p == pytest.approx(0.03125) and pair.corrected > 0.05
    lines = list(pair.lines())
    assert "p = 0.094, corrected. The interval alone would say otherwise." in lines[1]
    [row] = [line for line in lines if line.strip().startswith("accuracy")]
    assert row.endswith("p = 0.031") and "McNemar's test, exact: p = 0.031" in "\n".join(lines)


def test_the_summary_shows_only_the_settings_that_differ(two):
    text = compare(two).summary()
    assert "epochs  " in text and "batch_size" not in text and "output" not in text
    assert "B right  B wrong" in text and "McNemar's test" in text
    assert "A right, B wrong" in text and "B right, A wrong" in text
    assert "another seed may give another result" in text
    assert "corrected" not in text  # one pair needs no correction


def test_the_examples_shown_are_those_whose_losses_differ_most(tmp_path):
    truth = ["calm"] * 4
    first = example_rows(truth, ["calm", "calm", "calm", "happy"], [0.1, 0.2, 0.3, 0.9])
    second = example_rows(truth, ["happy", "happy", "happy", "calm"], [1.0, 3.0, 2.0, 0.1])
    runs = [write_run(tmp_path / "a", first), write_run(tmp_path / "b", second)]
    [pair] = compare(runs, examples=2).pairs
    assert [row["text"] for row in pair.only_first] == ["text 1", "text 2"]
    assert pair.only_first[0]["A"] == "calm" and pair.only_first[0]["B"] == "happy"
    assert [row["text"] for row in pair.only_second] == ["text 3"]
    [pair] = compare(runs, examples=0).pairs
    assert pair.only_first == () and "text 1" not in "\n".join(pair.lines())


def test_many_runs_are_held_against_the_first_and_their_p_values_corrected(tmp_path, labels):
    runs = [
        write_run(tmp_path / str(seed), example_rows(labels, guesses(labels, 0.8, seed)), seed=seed)
        for seed in range(5)
    ]
    three, five = compare(runs[:3]), compare(runs)
    assert [(pair.first, pair.second) for pair in three.pairs] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert [(pair.first, pair.second) for pair in five.pairs] == [("A", name) for name in "BCDE"]
    plain = sorted(pair.p for pair in three.pairs)
    assert min(pair.corrected for pair in three.pairs) == min(1, plain[0] * 3)
    assert "corrected for 3 pairs (Holm 1979)" in three.summary()


def test_numbers_are_compared_by_their_correlation(tmp_path):
    draw = np.random.default_rng(0)
    truth = draw.normal(size=200)
    noise = draw.normal(size=(2, 200))
    runs = []
    for name, size, one in (("a", 1.0, noise[0]), ("b", 0.3, noise[1])):
        guess = truth + size * one
        rows = example_rows(truth, guess, (truth - guess) ** 2)
        runs.append(write_run(tmp_path / name, rows, kind="regression", labels=None))
    [pair] = compare(runs).pairs
    assert pair.counts is None and list(pair.differences) == ["pearson", "mse"]
    assert pair.differences["pearson"].low > 0 > pair.differences["mse"].high
    assert pair.sentence().startswith("B has the better pearson: ") and "bootstrap" in pair.test
    assert "B nearer than A" in "\n".join(pair.lines())


def test_several_labels_and_tags_are_compared_by_their_main_metric(tmp_path):
    kinds = {
        "multi_label_classification": (["calm, happy", "", "angry"], ["calm", "", "angry"]),
        "token_classification": (["B-X O", "O O", "B-X B-X"], ["O O", "O O", "B-X B-X"]),
    }
    for kind, (truth, guess) in kinds.items():
        names = MOODS if kind.startswith("multi") else ["O", "B-X"]
        rows = [example_rows(truth, each) for each in (guess, truth)]
        runs = [write_run(tmp_path / f"{kind}{n}", each, kind=kind, labels=names) for n, each in enumerate(rows)]
        [pair] = compare(runs).pairs
        assert list(pair.differences) == [KINDS[kind].metrics[0]]
        assert next(iter(pair.differences.values())).value > 0
        assert pair.counts == ((2, 0), (1, 0)) and "bootstrap" in pair.test


def test_rows_that_cannot_be_read_back_leave_the_test_out(tmp_path):
    kind, names = "multi_label_classification", ["a, b", "a", "b"]
    runs = [write_run(tmp_path / name, example_rows(["a, b"], ["a"]), kind=kind, labels=names) for name in "ab"]
    [pair] = compare(runs).pairs
    assert pair.p is None and "were not tested" in pair.sentence()


def test_a_file_that_lay_elsewhere_is_the_same_file(two, tmp_path, labels):
    rows = example_rows(labels, guesses(labels, 0.8, 3))
    rows = [{**row, "guid": row["guid"].replace("/data/", "C:\\other\\")} for row in rows]
    data = {"examples": 400, "files": {"C:\\other\\test.csv": "ab12"}}
    moved = write_run(tmp_path / "c", rows, changes={"data": {"test": data, "train": data}})
    assert compare([two[0], moved]).examples == 400


REFUSED = {
    "problem type": {"problem_type": "regression", "labels": None},
    "labels": {"labels": [*MOODS, "sad"]},
    "split": {"errors_and_confusion_are_of": "validation"},
    "data files (sha256)": {
        "data": {
            "test": {"examples": 400, "files": {"/data/test.csv": "cd34"}},
            "train": {"examples": 400, "files": {}},
        }
    },
    "status": {"status": "unfinished"},
    "'seed'": {"seconds": None, "settings": {}},
    "'train'": {"data": {}},
}


@pytest.mark.parametrize("key", REFUSED)
def test_runs_that_cannot_be_compared(two, tmp_path, labels, key):
    rows = example_rows(labels, guesses(labels, 0.8, 3))
    other = write_run(tmp_path / "c", rows, changes=REFUSED[key])
    with pytest.raises(DataError) as caught:
        compare([two[0], other])
    assert caught.value.key == key and str(other) in str(caught.value)


def test_other_examples_are_refused_with_both_counts(two, tmp_path, labels):
    fewer = write_run(tmp_path / "c", example_rows(labels[:399], guesses(labels[:399], 0.8, 3)))
    with pytest.raises(DataError) as caught:
        compare([two[0], fewer])
    assert caught.value.key == "number of examples"
    assert "400" in str(caught.value) and "399" in str(caught.value)
    rows = example_rows(labels, guesses(labels, 0.8, 3))
    rows[0]["text"] = "another text"
    other = write_run(tmp_path / "d", rows)
    with pytest.raises(DataError) as caught:
        compare([two[0], other])
    assert caught.value.key == "examples" and "399" in str(caught.value)


DAMAGES = {
    "guid": lambda text: text.replace("guid", "id", 1),
    "furious": lambda text: text.replace(",calm,0.5,", ",furious,0.5,", 1),
    "much": lambda text: text.replace("\n2.0,", "\nmuch,", 1),
    "no examples": lambda text: text.splitlines()[0] + "\n",
}


@pytest.mark.parametrize("word", DAMAGES)
def test_damaged_tables_are_refused_by_name(two, word):
    path = two[1] / "errors.csv"
    path.write_text(DAMAGES[word](path.read_text()))
    with pytest.raises(DataError) as caught:
        compare(two)
    assert caught.value.path == path and word in str(caught.value)


def test_too_few_runs_and_examples(two):
    with pytest.raises(ConfigError) as caught:
        compare(two[:1])
    assert caught.value.key == "run"
    with pytest.raises(ConfigError) as caught:
        compare(two, examples=-1)
    assert caught.value.key == "examples"


def write_group(folder: Path, labels, shares, first=0) -> Path:
    names = []
    for seed, share in enumerate(shares, start=first):
        rows = example_rows(labels, guesses(labels, share, seed))
        names.append(write_run(folder / f"seed-{seed}", rows, seed=seed, data_seed=0).name)
    (folder / "seeds.json").write_text(json.dumps({"runs": names}))
    return folder


def test_groups_are_compared_by_seed(tmp_path, labels):
    a = write_group(tmp_path / "a", labels, [0.6, 0.61, 0.62])
    b = write_group(tmp_path / "b", labels, [0.8, 0.81, 0.82])
    found = compare([a, b])
    [pair] = found.pairs
    values = [column.values("accuracy") for column in found.columns]
    expected = scipy.stats.ttest_rel(values[1], values[0])
    assert pair.p == pytest.approx(expected.pvalue, abs=1e-9)
    assert pair.differences["accuracy"].value == pytest.approx(np.mean(values[1]) - np.mean(values[0]), abs=1e-9)
    text = found.summary()
    assert f"{np.mean(values[0]):.4f} +- {np.std(values[0], ddof=1):.4f}" in text
    assert "3 seeds show a difference only where its mean is above 2.5 times" in text  # 4.303 over the root of 3
    assert "seed" not in found.settings and "another seed" not in text


def test_groups_that_cannot_be_paired_are_shown_and_not_tested(tmp_path, labels, two):
    a = write_group(tmp_path / "ga", labels, [0.6, 0.7])
    b = write_group(tmp_path / "gb", labels, [0.6, 0.7], first=1)
    found = compare([a, b, two[0]])
    assert [pair.p for pair in found.pairs] == [None] * 3
    assert "their seeds are 0, 1 and 1, 2" in found.summary()
    assert "a single run" in found.summary()
    [same] = compare([a, a]).pairs
    assert same.p == 1


def test_seeds_that_differ_by_the_same_are_no_proof(tmp_path):
    truth = ["calm"] * 4
    for name, right in (("a", 2), ("b", 3)):
        for seed in range(2):
            rows = example_rows(truth, ["calm"] * right + ["happy"] * (4 - right))
            write_run(tmp_path / name / f"seed-{seed}", rows, seed=seed)
        (tmp_path / name / "seeds.json").write_text('{"runs": ["seed-0", "seed-1"]}')
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert found.pairs[0].p is None and "no spread" in found.summary()
    assert found.as_dict()["pairs"][0]["differences"]["accuracy"]["p"] is None


def test_a_group_reads_no_folder_but_its_own(tmp_path, labels, two):
    group = write_group(tmp_path / "g", labels, [0.6, 0.7])
    (group / "seeds.json").write_text(json.dumps({"runs": ["seed-0", "../a"]}))
    with pytest.raises(DataError) as caught:
        compare([group, two[0]])
    assert "../a" in str(caught.value)


def test_the_command_prints_for_people_and_for_programs(two, capsys):
    assert main(["compare", str(two[0]), str(two[1]), "--examples", "1"]) == 0
    assert capsys.readouterr().out.strip() == compare(two, examples=1).summary()
    assert main(["compare", *map(str, two), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["folder"] for run in found["runs"]] == list(map(str, two))
    assert found["pairs"][0]["differences"]["accuracy"]["low"] > 0
    assert found["settings"] == {"epochs": ["2", "3"]}
    assert main(["compare", str(two[0]), "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_large_test_split_is_no_long_wait(tmp_path):
    names = [MOODS[number] for number in np.random.default_rng(0).integers(0, 3, 25_000)]
    runs = [
        write_run(tmp_path / name, example_rows(names, guesses(names, 0.9, seed))) for seed, name in enumerate("ab")
    ]
    started = time.perf_counter()
    compare(runs)
    assert time.perf_counter() - started < 120  # a hang guard: it takes about a second
