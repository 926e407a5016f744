"""How the labels of a file are read: each form they come in, and those that can be read two ways."""

from __future__ import annotations

import json

import pytest

from minibert.io.errors import DataError
from minibert.workbench.data.corpora import Corpus, read
from tests.conftest import refused

SINGLE, MULTI, NUMBER = "single_label_classification", "multi_label_classification", "regression"


@pytest.fixture
def labelled(tmp_path):
    """A file with these labels, in a table as text (.csv, .tsv), as JSON, or as parquet."""

    def written(labels, form=".jsonl"):
        rows = [{"text": f"text {row}", "label": label} for row, label in enumerate(labels)]
        path = tmp_path / f"labels{form}"
        if form == ".parquet":
            pytest.importorskip("pyarrow")
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        elif form in (".csv", ".tsv"):
            sep = "," if form == ".csv" else "\t"
            cells = [f'"{label}"' if sep in str(label) else label for label in labels]
            lines = ["text" + sep + "label", *(f"text {row}{sep}{label}" for row, label in enumerate(cells))]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return written


def targets(corpus: Corpus) -> list:
    return [example.target for example in corpus]


# Several labels


@pytest.mark.parametrize("form", [".jsonl", ".parquet"])
@pytest.mark.parametrize("kind", [int, float, bool, str])
def test_a_vector_says_which_classes_apply(labelled, form, kind):
    vectors = [[0, 1, 0], [1, 1, 0], [0, 0, 0]]
    corpus = read(labelled([[kind(one) for one in vector] for vector in vectors], form)) if kind is not str else None
    corpus = corpus or read(labelled([[str(one) for one in vector] for vector in vectors], form))
    assert corpus.problem_type == MULTI and corpus.label_names == ("0", "1", "2")
    assert targets(corpus) == [tuple(map(float, vector)) for vector in vectors]
    assert "vector" in corpus.reason and "--problem-type" in corpus.reason


def test_a_vector_takes_the_names_of_the_classes_by_place(labelled):
    path = labelled([[0, 1, 0], [1, 1, 0]])
    for names in (("joy", "fear", "1"), ("2", "1", "0")):
        corpus = read(path, label_names=names, problem_type=MULTI)
        assert corpus.label_names == names and targets(corpus) == [(0, 1, 0), (1, 1, 0)]
    with refused(DataError, "label"):
        read(path, label_names=["joy", "fear"])


def test_vectors_with_a_single_one_are_classes_on_request(labelled):
    corpus = read(labelled([[0, 1], [1, 0], [0, 1]]), problem_type=SINGLE)
    assert corpus.problem_type == SINGLE and targets(corpus) == [1, 0, 1]
    path = labelled([[0, 1], [1, 1], [0, 0]])
    with refused(DataError, f"{path}:2"):
        read(path, problem_type=SINGLE)


def test_one_row_among_vectors_that_is_none(labelled):
    for other in ([0, 1], [0, 1, 2], [], ["joy", "fear", "x"]):
        path = labelled([[0, 1, 0], [1, 1, 0], other, [0, 0, 1]])
        with refused(DataError, f"{path}:3"):
            read(path)


@pytest.mark.parametrize("form", [".jsonl", ".parquet"])
def test_lists_of_class_numbers_stay_lists(labelled, form):
    corpus = read(labelled([[0, 3, 7], [3], [], [10]], form))
    assert corpus.label_names == ("0", "3", "7", "10") and targets(corpus)[0] == (1, 1, 1, 0)
    assert "list" in corpus.reason
    for labels in ([[0], [1], [0, 1]], [[0], [1], [1]]):  # of two classes
        assert read(labelled(labels, form)).label_counts == {"0": 2 if len(labels[2]) == 2 else 1, "1": 2}
    corpus = read(labelled([[0, 1], [1, 0]], form), label_names=["a", "b", "c"])
    assert targets(corpus) == [(1, 1, 0), (1, 1, 0)]
    assert read(labelled([[0.0, 2.0], [2.0]], form)).label_names == ("0", "2")


@pytest.mark.parametrize("label", [["a", "a"], ["b", "a", " a"], [2, 2], [0.5, 0.5], [{}], [None], [["a"]]])
def test_a_list_that_holds_a_name_twice_or_no_names(labelled, label):
    path = labelled([["a", "b"], ["b"], label, []])
    with refused(DataError, f"{path}:3"):
        read(path)


@pytest.mark.parametrize("form", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    "labels",
    [
        ["[0, 1, 0]", "[1, 0, 0]"],
        ["['a', 'b']", "['a']", "[]"],
        ["[0 1]", "[1 0]"],
        ["(1, 0)", "(0, 1)"],
        ["{'a', 'b'}", "{'b'}", "set()"],
        [' ["a"]', '["a", "b"]'],
    ],
)
def test_lists_saved_as_text_are_not_names(labelled, labels, form):
    if form in (".csv", ".tsv"):
        labels = [label.replace('"', "'") for label in labels]
    path = labelled(labels, form)
    for asked in (None, SINGLE, MULTI):
        with refused(DataError, f"{path}:{1 if form in ('.jsonl', '.parquet') else 2}") as caught:
            read(path, problem_type=asked)
        assert "jsonl" in caught.value.hint and "--label" in caught.value.hint


def test_names_in_brackets_are_names(labelled):
    assert read(labelled(["(A)", "(B)", "[C]"], ".csv")).label_names == ("(A)", "(B)", "[C]")


# Numbers


@pytest.mark.parametrize("form", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("spelt", [[0.0, 1.0, 1.0], ["0.0", "1.0", "1.0"], ["0.", "1", "1e0"], ["0,0", "1,0", "1"]])
@pytest.mark.parametrize("asked", [None, SINGLE])
def test_whole_numbers_with_decimals_are_classes(labelled, spelt, form, asked):
    corpus = read(labelled(spelt, form), problem_type=asked)
    assert corpus.problem_type == SINGLE and corpus.label_names == ("0", "1")
    assert targets(corpus) == [0, 1, 1]
    assert ("--problem-type regression" in corpus.reason) == (asked is None)
    assert targets(read(labelled(spelt, form), problem_type=NUMBER)) == [0.0, 1.0, 1.0]


def test_whole_numbers_are_one_class_in_every_split(labelled):
    """pandas writes 1.0 in the split where a label is missing, and 1 in the other."""
    names = read(labelled(["10", "2", "1"])).label_names
    assert targets(read(labelled([1.0, 10.0]), label_names=names, problem_type=SINGLE)) == [0, 2]
    assert targets(read(labelled(["4.0", "4"]), label_names=["4.0", "4.5"], problem_type=SINGLE)) == [0, 0]
    assert read(labelled(["01", "02"], ".csv")).label_names == ("01", "02")
    with pytest.warns(UserWarning, match="numbers"):
        assert targets(read(labelled([1.0, 0.0]), label_names=["neg", "pos"])) == [1, 0]


def test_numbers_that_are_not_whole_are_names_on_request(labelled):
    for form in (".jsonl", ".csv", ".parquet"):
        corpus = read(labelled([0.5, 1.0, 0.5], form), problem_type=SINGLE)
        assert len(corpus.label_names) == 2 and targets(corpus) == [0, 1, 0]
        assert "--problem-type" in read(labelled([0.5, 1.0, 0.5], form)).reason


@pytest.mark.parametrize("form", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_numbers_with_a_decimal_comma(labelled, form):
    path = labelled(["1,16", "-0,5", "3", "0,125"], form)
    corpus = read(path)
    assert corpus.problem_type == NUMBER and targets(corpus) == [1.16, -0.5, 3.0, 0.125]
    assert "comma" in corpus.reason and "--problem-type" in corpus.reason
    assert len(read(path, problem_type=SINGLE).label_names) == 4


@pytest.mark.parametrize("labels", [["1,234", "12,500", "900"], ["1,234.5", "2,000.1"], ["1.5", "2,5", "3"]])
def test_a_comma_that_may_be_that_of_thousands(labelled, labels):
    path = labelled(labels)
    for asked in (None, NUMBER):
        with refused(DataError, f"{path}:1") as caught:
            read(path, problem_type=asked)
        assert "--problem-type" in caught.value.hint


def test_a_text_among_numbers(labelled):
    for labels in (["1,16", "2,5", "bad", "3"], ["1.16", "2.5", "bad", "3"], [1.16, 2.5, "bad", 3]):
        path = labelled(labels)
        with refused(DataError, f"{path}:3"):
            read(path)
    assert read(labelled(["1", "2", "other"])).problem_type == SINGLE
    assert read(labelled(["1.5", "v", "w", "x"])).problem_type == SINGLE


def test_without_labels_there_is_no_reason(labelled):
    assert read(labelled(["a"]), label=None).reason == ""
