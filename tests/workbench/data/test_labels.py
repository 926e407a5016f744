"""How the labels of a file are read: each form they come in, and those that can be read two ways."""

from __future__ import annotations

import json

import pytest

from minibert.io.errors import ConfigError, DataError
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


def test_lists_of_one_name_are_classes_on_request(labelled):
    path = labelled([["a"], ["b"], ["a"]])
    assert "--problem-type" in read(path).reason
    corpus = read(path, problem_type=SINGLE)
    assert corpus.problem_type == SINGLE and targets(corpus) == [0, 1, 0]
    path = labelled([["a"], ["b", "a"], ["a"]])
    with refused(DataError, f"{path}:2"):
        read(path, problem_type=SINGLE)


@pytest.mark.parametrize("label", [["a", "a"], ["b", "a", " a"], [2, 2], [0.5, 0.5], [" "], [{}], [None], [["a"]]])
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


@pytest.mark.parametrize("form", [".jsonl", ".csv"])
def test_true_and_false_beside_1_and_0_are_two_classes(labelled, form):
    corpus = read(labelled([True, False, 1, 0, "true", "FALSE", 1.0, "0"], form))
    assert corpus.problem_type == SINGLE and corpus.label_names == ("0", "1")
    assert targets(corpus) == [1, 0, 1, 0, 1, 0, 1, 0]
    assert "true and false" in corpus.reason


def test_true_and_false_alone_or_beside_other_names_stay_names(labelled):
    assert read(labelled([True, False])).label_names == ("False", "True")
    assert read(labelled([True, 1, "maybe"])).label_names == ("1", "True", "maybe")


def test_whole_numbers_are_one_class_in_every_split(labelled):
    """pandas writes 1.0 in the split where a label is missing, and 1 in the other."""
    names = read(labelled(["10", "2", "1"])).label_names
    assert targets(read(labelled([1.0, 10.0]), label_names=names, problem_type=SINGLE)) == [0, 2]
    assert targets(read(labelled(["4.0", "4"]), label_names=["4.0", "4.5"], problem_type=SINGLE)) == [0, 0]
    assert read(labelled(["01", "02"], ".csv")).label_names == ("01", "02")
    with pytest.warns(UserWarning, match="numbers"):
        assert targets(read(labelled([1.0, 0.0]), label_names=["neg", "pos"])) == [1, 0]


@pytest.mark.parametrize("label", ["1.0", "1", 1, 1.0, "two"])
def test_the_place_of_a_choice_with_decimals(tmp_path, label):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "a", "choices": ["one", "two"], "label": label}))
    assert read(path, choices=["choices"])[0].label == 1


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


# Spellings


@pytest.mark.parametrize("form", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_white_space_around_labels_is_reported_once(labelled, form):
    with pytest.warns(UserWarning, match="white space") as told:
        corpus = read(labelled(["pos ", "neg", " pos", "neg", "pos "], form))
    [warning] = told
    assert corpus.label_counts == {"neg": 2, "pos": 3}
    assert "'pos ' (2)" in str(warning.message) and "' pos' (1)" in str(warning.message)
    with pytest.warns(UserWarning, match="white space"):
        assert read(labelled([[" a", "b"], ["b "]])).label_names == ("a", "b")


def test_a_label_that_is_unknown_for_its_case(labelled):
    path = labelled(["pos", "Pos", "Pos"])
    with refused(DataError, f"{path}:2") as caught:
        read(path, label_names=["neg", "pos"])
    assert "'pos'" in caught.value.hint and "2 rows" in str(caught.value)


@pytest.mark.parametrize("form", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("spelt", ["", " ", "NaN", "nan", "None", "null", "NULL", "NA", "N/A", "<NA>"])
def test_missing_labels_are_not_classes(labelled, spelt, form):
    path = labelled(["a", spelt, "b"], form)
    with refused(DataError, f"{path}:{2 if form in ('.jsonl', '.parquet') else 3}"):
        read(path)
    assert read(path, drop_bad_rows=True).label_names == ("a", "b")


def test_missing_labels_among_numbers_and_lists(labelled):
    for labels in ([1.0, None, 0.0], [1.0, float("nan"), 0.0]):
        for form in (".jsonl", ".parquet"):
            path = labelled(labels, form)
            with refused(DataError, f"{path}:2"):
                read(path)
            corpus = read(path, drop_bad_rows=True)
            assert corpus.label_names == ("0", "1") and targets(corpus) == [1, 0]
    corpus = read(labelled([[0, 1], None, [1, 0]], ".parquet"), drop_bad_rows=True)
    assert targets(corpus) == [(0, 1), (1, 0)] and len(corpus.dropped) == 1
    assert targets(read(labelled(["1.5", "NaN", "2"], ".csv"), drop_bad_rows=True)) == [1.5, 2.0]


def test_a_class_of_a_model_may_be_called_none(labelled):
    assert read(labelled(["none", "some"])).label_names == ("none", "some")
    assert targets(read(labelled(["None", "some"]), label_names=["None", "some"])) == [0, 1]


def test_labels_that_are_all_missing(labelled):
    path = labelled(["", ""])
    for drop in (False, True):
        with refused(DataError, f"{path}:1"):
            read(path, drop_bad_rows=drop)


# Rows that cannot be used

BAD = {
    "a.csv": ("text,label\na,x\nb\nc,\nd,y\n\ne,y\n", [3, 4, 6]),
    "a.tsv": ("text\tlabel\na\tx\nb\tx\ty\nc\tNaN\nd\ty\n", [3, 4]),
    "a.jsonl": ('{"text": "a", "label": "x"}\n{"text": 3, "label": "x"}\n{"text": "b"\n\n{"text": "c"}\n'
                '{"text": "d", "label": {}}\n[]\n{"text": "e", "label": "y"}\n', [2, 3, 4, 5, 6, 7]),
    "a.json": ('[{"text": "a", "label": "x"}, 3, {"text": "b", "label": null}, {"text": "d", "label": "y"}]', [2, 3]),
    "a.conll": ("a\tO\nb\n\nc\tO\n\td\n\ne\tO\nf\tB-x\n", [2, 5]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_every_bad_row_is_listed_and_can_be_left_out(tmp_path, name):
    content, lines = BAD[name]
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert f"{len(lines)} of " in message and "--drop-bad-rows" in caught.value.hint and "\n" not in message
    corpus = read(path, drop_bad_rows=True)
    assert len(corpus.dropped) == len(lines)
    for line, problem in zip(lines, corpus.dropped, strict=True):
        assert problem in message or problem.rstrip(".") in message
        assert any(f"{place}{line}" in problem for place in (":", "line ", "row "))
    assert corpus.fingerprint()["dropped_rows"] == len(lines)
    assert corpus.fingerprint()["dropped"] == list(corpus.dropped)


def test_questions_with_answers_that_are_elsewhere(tmp_path):
    def question(number, start):
        answer = {"text": "Ann", "answer_start": start}
        return {"id": str(number), "question": "who?", "answers": [answer], "is_impossible": False}

    qas = [question(1, 7), question(2, 3), question(3, 7), question(3, 7), {**question(5, 7), "is_impossible": True}]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "it was Ann", "qas": qas}]}]}))
    with pytest.raises(DataError, match="3 of 5 rows"):
        read(path)
    assert [example.guid for example in read(path, drop_bad_rows=True)] == ["1", "3"]


def test_ten_bad_rows_are_listed_and_all_are_counted(labelled):
    path = labelled([*"ab" * 5, *[""] * 30])
    with refused(DataError, f"{path}:11") as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith("30 of 40 rows") and message.count("has no label") == 10 and "20 more" in message
    assert message.count(str(path)) == 1  # the others have its name alone


def test_labels_that_the_model_does_not_know_are_never_left_out(labelled):
    path = labelled(["a", "c", "b", "c"])
    with refused(DataError, f"{path}:2"):
        read(path, label_names=["a", "b"], drop_bad_rows=True)


# Several labels in a table


@pytest.mark.parametrize("form", [".csv", ".tsv", ".jsonl"])
@pytest.mark.parametrize("sep", [",", "|", "; "])
def test_several_labels_in_one_cell(labelled, form, sep):
    corpus = read(labelled([f"joy{sep}sadness", "joy", f"fear{sep} joy{sep}"], form), label_sep=sep)
    assert corpus.problem_type == MULTI and corpus.label_names == ("fear", "joy", "sadness")
    assert targets(corpus) == [(0, 1, 1), (0, 1, 0), (1, 1, 0)]
    assert "separates" in corpus.reason
    again = read(labelled(["joy", "fear"], form), label_sep=sep, **corpus.reading())
    assert targets(again) == [(0, 1, 0), (1, 0, 0)]
    path = labelled([f"joy{sep}sadness", f"joy{sep}joy", "x"], ".jsonl")
    with refused(DataError, f"{path}:2"):
        read(path, label_sep=sep)
    with refused(DataError, f"{labelled(['joy,fear', '', 'joy'])}:2"):
        read(labelled(["joy,fear", "", "joy"]), label_sep=",")


def test_a_separator_that_separates_nothing(labelled, tmp_path):
    for labels in (["joy", "fear"], [["joy"], ["fear"]], [1, 2]):
        with refused(ConfigError, "label_sep"):
            read(labelled(labels), label_sep=",")
    with refused(ConfigError, "label_sep"):
        read(labelled(["joy", "fear"]), label=None, label_sep=",")
    (tmp_path / "a.conll").write_text("a\tO,x\n")
    with refused(ConfigError, "label_sep"):
        read(tmp_path / "a.conll", label_sep=",")
    # A split that is read like another one, or for a model, need not have several labels in a cell.
    assert targets(read(labelled([["joy"], []]), label_sep=",", label_names=["fear", "joy"])) == [(0, 1), (0, 0)]


@pytest.mark.filterwarnings("error")
def test_names_that_look_like_several_names_are_reported(labelled):
    for sep in ",;|":
        with pytest.warns(UserWarning, match="--label-sep"):
            corpus = read(labelled([f"joy{sep} sadness", "joy", "fear"]))
        assert corpus.problem_type == SINGLE and len(corpus.label_names) == 3
    for labels in (["Paris, France", "Lyon, France", "Rome, Italy"], ["other, please say", "none"], ["a/b", "a"]):
        assert len(read(labelled(labels)).label_names) == len(labels)


@pytest.mark.parametrize("values", [("0", "1"), ("0.0", "1.0"), ("False", "True"), ("false", "true"), (" 0", "1 ")])
@pytest.mark.parametrize("form", [".csv", ".jsonl", ".parquet"])
def test_a_column_for_each_class(tmp_path, form, values):
    rows = [{"text": "a", "joy": 1, "fear": 0, "rest": "x"}, {"text": "b", "joy": 1, "fear": 1, "rest": "y"}]
    rows = [{key: values[value] if value in (0, 1) else value for key, value in row.items()} for row in rows]
    path = tmp_path / f"a{form}"
    if form == ".csv":
        path.write_text("\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]))
    elif form == ".jsonl":
        typed = [
            {key: {"0": 0, "1.0": 1.0, "true": True}.get(value, value) for key, value in row.items()} for row in rows
        ]
        path.write_text("\n".join(map(json.dumps, typed)))
    else:
        pytest.importorskip("pyarrow")
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    corpus = read(path, label=["joy", "fear"])
    assert corpus.problem_type == MULTI and corpus.label_names == ("joy", "fear")
    assert "column" in corpus.reason
    assert targets(corpus) == [(1, 0), (1, 1)]
    assert targets(read(path, label=["joy", "fear"], label_names=["fear", "joy"], problem_type=MULTI))[0] == (0, 1)
    assert read(path, label=["rest"]).label_names == ("x", "y")
    with refused(DataError, "sad"):
        read(path, label=["joy", "sad"])
    with pytest.raises(DataError, match="'x' in the column 'rest'"):
        read(path, label=["joy", "rest"])


def test_columns_of_classes_are_for_tables(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("a\tO\n")
    with refused(ConfigError, "classes"):
        read(path, label=["a", "b"])
    with refused(ConfigError, "label"):
        read(path, label=["a", "b", "a"])
