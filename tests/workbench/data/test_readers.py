"""Readers: every fault by file, line and column; nothing dropped; no file that fills the memory.

Full form (20,000 mutants): pytest -m full tests/workbench/data/test_readers.py
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minibert.io.errors import ConfigError, DataError
from minibert.workbench.data import json_tables, lines
from minibert.workbench.data.corpora import TaggedExample, read
from minibert.workbench.data.examples import Answer
from tests.conftest import missing, refused

try:
    import pyarrow
    import pyarrow.parquet
except ImportError:
    pyarrow = None

DEEP = "[" * 100_000
DIGITS = "9" * 5_000


def write(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    data = content if isinstance(content, bytes) else content.encode("utf-8")
    path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    return path


# What is wrong with a file, and where it is said to be


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("a.csv", "text,label\na,x\nb\n", "line 3 has 1 columns, not 2"),
        ("a.tsv", "text\tlabel\na\tx\tmore\n", "line 2 has 3 columns, not 2"),
        ("a.csv", "words,label\na,x\n", "line 1 has no column 'text'"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n', "line 2 has no column 'label'"),
        ("a.csv", "text,label\na,x\ncaf\xe9,x\n".encode("latin-1"), "line 3, column 4 is not UTF-8"),
        ("a.csv", "text,label\na,x\n".encode("utf-16")[:-1], "a.csv could not be read"),
        ("a.csv", 'text,label\na,x\n"b,x\nc,x\n', "line 3 cannot be parsed"),
        ("a.csv", 'text,label\na,x\n"b" c,x\n', "line 3 cannot be parsed"),
        ("a.csv", "text,label\na\rb,x\n", "line 2 cannot be parsed"),
        ("a.csv", "", "a.csv is empty"),
        ("a.tsv", "text\tlabel\n", "has a header line and no rows"),
        ("a.csv", "text,label,text\na,x,b\n", "has the column 'text' twice"),
        ("a.csv", "\ntext,label\na,x\n", "line 1 is empty"),
        ("a.tsv", "text\tlabel\na\tx\nb\t\n", ":3 has no label"),
        ("a.jsonl", '{"text": "a", "label": "x", "text": "b"}\n', "line 1 has the column 'text' twice"),
        ("a.jsonl", '{"text": "a", "label": {"text": 1, "text": 2}}\n', "line 1 has the column 'text' twice"),
        ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": "b" "label"}\n', "line 2, column 14 is"),
        ("a.jsonl", '{"text": "a", "label": "x"},\n', "line 1, column 28 is not JSON: Extra data"),
        ("a.jsonl", '{"text": ["a"], "label": "x"}\n', "line 1 has ['a'] as 'text', which is not"),
        ("a.jsonl", '{"text": NaN, "label": "x"}\n', "line 1 has nan as 'text', which is not text"),
        ("a.jsonl", '{"text": "a", "label": NaN}\n', "a.jsonl:1 has no label"),
        ("a.jsonl", f'{{"text": {DEEP}', "line 1 is not JSON"),
        ("a.jsonl", f'{{"text": "a", "label": {DIGITS}}}\n', "line 1 is not JSON"),
        ("a.jsonl", f'{{"text": "a", "label": 0.5}}\n{{"text": "b", "label": {"9" * 400}}}\n', ":2 has"),
        ("a.jsonl", '{"text": "b\\ud83d", "label": "x"}\n', "(U+D83D) in the column 'text', at character 1"),
        ("a.jsonl", '{"text": "b", "label": "\\udc00"}\n', "(U+DC00) in the column 'label'"),
        ("a.jsonl", '{"text": "b", "label": ["x", "\\udc00"]}\n', "(U+DC00) in the column 'label'"),
        ("a.conll", "a\tO\n\nb\tO\nc\n", "line 4 has a word without a tag: 'c'"),
        ("a.conll", "a\tO\nb\t \n", "line 2 has a word without a tag"),
        ("a.conll", "a\tO\n\tO\n", "line 2 has a tag without a word"),
        ("a.conll", "a\tNN\tO\nb\tO\n", "line 2 has 2 columns, not 3"),
        ("a.conll", "a\tO\nb O\n", "line 2 has a word without a tag: 'b O'. Is '\\t' the separator?"),
        ("a.conll", "a X O\nb O\n", "line 2 has 2 columns, not 3"),
        ("a.csv.gz", b"", "a.csv.gz is empty"),
    ],
)
def test_a_fault_names_file_line_and_column(tmp_path, name, content, where):
    path = write(tmp_path, name, content)
    with pytest.raises(DataError) as error:
        read(path)
    assert str(path) in str(error.value) and where in str(error.value)
    assert error.value.path == path or error.value.key.startswith(str(path))
    assert len(str(error.value)) < 600 and str(error.value).isprintable()


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.csv", b"\xef\xbb\xbftext,label\r\na,x\r\n", "a"),
        ("a.jsonl", b'\xef\xbb\xbf{"text": "a", "label": "x"}\r\n', "a"),
        ("a.csv", b"text,label\na\0b,x\n", "a\0b"),
        ("a.csv", b'text,label\n"a\tb",x\n', "a\tb"),
        ("a.csv", b'text,label\n"a\r\nb",x\n', "a\nb"),
        ("a.tsv", b'text\tlabel\n"a\tx\n', '"a'),
        ("a.tsv", b"text\tlabel\na\rb\tx\n", "a\rb"),
        ("a.tsv", "text\tlabel\na\u2028b\x85c\x0cd\tx\n".encode(), "a\u2028b\x85c\x0cd"),
        ("a.jsonl", b'{"text": "\\ud83d\\ude00", "label": "x"}', "\U0001f600"),
        ("a.csv", b"text,label\na,x", "a"),
    ],
)
def test_unusual_but_valid_files_are_read(tmp_path, name, content, text):
    (example,) = read(write(tmp_path, name, content))
    assert example.text == text


def test_impossible_separators_are_refused(tmp_path):
    path = write(tmp_path, "a.csv", "text||label\na||x\n")
    for sep in ("||", '"', "\n"):
        with refused(ConfigError, "sep"):
            read(path, sep=sep)
    assert read(path, sep="||", quoting=False)[0].text == "a"


@pytest.mark.parametrize("content", ["text,label\na,x\n", 'text,label\n"a,x\n', "\n", "text\na\n"])
def test_the_limit_of_csv_fields_is_left_as_it_was(tmp_path, content):
    before = csv.field_size_limit(54_321)
    try:
        with contextlib.suppress(DataError):
            read(write(tmp_path, "a.csv", content))
        assert csv.field_size_limit() == 54_321
    finally:
        csv.field_size_limit(before)


def test_a_column_name_that_occurs_twice_is_refused(tmp_path):
    with refused(DataError, "text"):
        read(write(tmp_path, "a.tsv", "text\ttext\tlabel\na\tb\tx\n"))
    with refused(DataError, "label"):
        read(write(tmp_path, "b.tsv", "a\tx\n"), names=["text", "labels"])


def test_integers_too_long_to_parse_are_names(tmp_path):
    path = write(tmp_path, "a.tsv", f"text\tlabel\na\t{DIGITS}\nb\t7\n")
    with refused(DataError, f"{path}:2"):
        read(path)  # not whole numbers, so numbers for regression, and one is infinite
    assert read(path, problem_type="single_label_classification").label_names == ("7", DIGITS)


# Questions


def squad(*answers: dict, **changes) -> dict:
    """The JSON of SQuAD with one question, some of its keys changed; None takes one away."""
    item = {"id": "q1", "question": "who?", "answers": list(answers), **changes}
    context = item.pop("context", "it was \U0001f600 Ann")
    item = {key: value for key, value in item.items() if value is not None}
    return {"version": "1.1", "data": [{"paragraphs": [{"context": context, "qas": [item]}]}]}


ANN = {"text": "Ann", "answer_start": 9}


def with_level(key: str, value: object) -> dict:
    """The same with something else in place of one of its lists."""
    whole = squad(ANN)
    [article] = whole["data"]
    [paragraph] = article["paragraphs"]
    {"data": whole, "paragraphs": article, "qas": paragraph}[key][key] = value
    return whole


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_questions_of_squad(tmp_path, packed):
    again = {"text": "was", "answer_start": 3}
    corpus = read(write(tmp_path, f"a.json{packed}", json.dumps(squad(ANN, again, ANN), indent=1)))
    (example,) = corpus
    assert (example.question, example.context) == ("who?", "it was \U0001f600 Ann")
    assert example.answers == (Answer("Ann", 9), Answer("was", 3), Answer("Ann", 9))
    assert example.guid == "q1" and corpus.problem_type == "question_answering"
    assert corpus.label_names is None and corpus.label_counts == {}
    assert corpus.head() == "Ann; was | who? | it was \U0001f600 Ann"


def test_an_impossible_question_has_no_answer(tmp_path):
    likely = [ANN]
    whole = squad(**{"answers": [], "is_impossible": True, "plausible_answers": likely})
    assert read(write(tmp_path, "a.json", json.dumps(whole)))[0].answers == ()
    corpus = read(write(tmp_path, "b.json", json.dumps(squad(ANN, is_impossible=False))))
    assert corpus[0].answers == (Answer("Ann", 9),) and corpus.head().startswith("Ann | ")
    for said, answers in ((True, [ANN]), (False, [])):
        whole = squad(**{"answers": answers, "is_impossible": said})
        with refused(DataError, "is_impossible"):
            read(write(tmp_path, "c.json", json.dumps(whole)))


def test_two_questions_with_one_id_are_refused(tmp_path):
    whole = squad(ANN, id="q1")
    whole["data"] *= 2
    with refused(DataError, "id"):
        read(write(tmp_path, "a.json", json.dumps(whole)))


def test_a_question_without_an_id_is_named_by_its_place(tmp_path):
    path = write(tmp_path, "a.json", json.dumps(squad(ANN, id=None)))
    assert read(path)[0].guid == f"{path}, data[0], paragraphs[0], qas[0]"


def test_xquad(data):
    corpora = {name: read(data / f"xquad/xquad.{name}.json") for name in ("en", "es", "zh")}
    for corpus in corpora.values():
        assert len(corpus) == 1190 and len({example.context for example in corpus}) == 240
        for example in corpus:
            assert len(example.answers) == 1
            assert all(one.text == example.context[one.start : one.end] for one in example.answers)
    assert corpora["en"][0].answers == (Answer("308", 34),)
    assert {one.guid for one in corpora["en"]} == {one.guid for one in corpora["zh"]}


def test_a_json_file_may_be_one_long_line(tmp_path, monkeypatch):
    whole = {"comment": "a" * lines.LONGEST_LINE, **squad(ANN)}
    assert len(read(write(tmp_path, "a.json", json.dumps(whole)), format="squad")) == 1
    monkeypatch.setattr(json_tables, "LONGEST_JSON", lines.LONGEST_LINE)
    with refused(DataError, "line 1"):
        read(tmp_path / "a.json", format="squad")


PLACE = "data[0], paragraphs[0], qas[0]"


@pytest.mark.parametrize(
    ("whole", "where", "key"),
    [
        ("", "a.json is empty", None),
        ("{", "a.json is not JSON: Expecting property name", None),
        (f'{{"data": {DEEP}', "a.json is not JSON", None),
        (f'{{"data": {DIGITS}}}', "a.json is not JSON", None),
        ([], "a.json has no list 'data' of objects", "data"),
        ({}, "a.json has no list 'data' of objects", "data"),
        ({"data": {}}, "a.json has no list 'data' of objects", "data"),
        ({"data": [1]}, "a.json has no list 'data' of objects", "data"),
        ({"data": []}, "a.json holds no questions", None),
        ({"data": [{}]}, "data[0] has no list 'paragraphs' of objects", "paragraphs"),
        (with_level("paragraphs", ["a"]), "data[0] has no list 'paragraphs' of objects", None),
        (with_level("paragraphs", []), "a.json holds no questions", None),
        (with_level("qas", None), "data[0], paragraphs[0] has no list 'qas' of objects", "qas"),
        (with_level("qas", [[]]), "data[0], paragraphs[0] has no list 'qas' of objects", "qas"),
        (squad(ANN, question=None), f"{PLACE} has None as its question", "question"),
        (squad(ANN, question=" "), f"{PLACE} has ' ' as its question", "question"),
        (squad(ANN, question=["who?"]), f"{PLACE} has ['who?'] as its question", "question"),
        (squad(ANN, context=None), f"{PLACE} has None as its context", "context"),
        (squad(ANN, context=""), f"{PLACE} has '' as its context", "context"),
        (squad(ANN, context=7), f"{PLACE} has 7 as its context", "context"),
        (squad(ANN, context="a\ud83d"), "as its context, which is not a readable text", "context"),
        (squad(ANN, question="\udc00?"), "as its question, which is not a", "question"),
        (squad(ANN, id="q\udc00"), "as its id, which is not a readable text", "id"),
        (squad(answers=None), f"{PLACE} has None as its answers, which is not a", "answers"),
        (squad(answers="Ann"), f"{PLACE} has 'Ann' as its answers", "answers"),
        (squad(answers=["Ann"]), f"{PLACE} has ['Ann'] as its answers", "answers"),
        (squad({"text": "Ann"}), "the text 'Ann' and the start None", "answers"),
        (squad({"answer_start": 9}), "the text None and the start 9", "answers"),
        (squad({**ANN, "text": ""}), "the text '' and the start 9", "answers"),
        (squad({**ANN, "answer_start": "9"}), "the text 'Ann' and the start '9'", "answers"),
        (squad({**ANN, "answer_start": 9.0}), "the text 'Ann' and the start 9.0", "answers"),
        (squad({**ANN, "answer_start": True}), "the text 'Ann' and the start True", "answers"),
        (squad({**ANN, "answer_start": 8}), "but ' An' stands there. It stands at 9.", None),
        (squad(ANN, {"text": " An", "answer_start": -4}), "-4, but '' stands there. It stands", None),
        (squad({"text": "it", "answer_start": 1}), "but 't ' stands there. It stands at 0.", None),
        (squad({**ANN, "answer_start": 99}), "99, but '' stands there. It stands at 9", None),
        (
            squad({"text": "ann", "answer_start": 9}),
            "has the answer 'ann' at character 9, but 'Ann' stands there. It is nowhere in the",
            "answer_start",
        ),
    ],
)
def test_a_fault_in_a_file_of_questions_names_its_place(tmp_path, whole, where, key):
    path = write(tmp_path, "a.json", whole if isinstance(whole, str) else json.dumps(whole))
    with pytest.raises(DataError) as error:
        read(path, format="squad")
    assert str(path) in str(error.value) and where in str(error.value)
    assert error.value.path == path and (key is None or error.value.key == key)
    assert len(str(error.value)) < 600 and str(error.value).isprintable()


TABLED = {"id": "q1", "question": "who?", "context": "it was Ann", "answers": {"text": ["Ann"], "answer_start": [7]}}


def test_questions_as_a_table(tmp_path):
    rows = [
        TABLED,
        {**TABLED, "id": "", "answers": {"text": [], "answer_start": []}},
        {**TABLED, "answers": {"text": ["was", "Ann"], "answer_start": [3, 7]}, "title": "rest"},
    ]
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    corpus = read(path, problem_type="question_answering")
    assert [one.answers for one in corpus] == [(Answer("Ann", 7),), (), (Answer("was", 3), Answer("Ann", 7))]
    assert [one.guid for one in corpus] == ["q1", f"{path}:2", "q1"]
    if pyarrow:
        rows[2].pop("title")
        table = pyarrow.Table.from_pylist(rows)
        features = {"answers": {"feature": {"text": {"dtype": "string"}}, "_type": "Sequence"}}
        described = {"huggingface": json.dumps({"info": {"features": features}})}
        pyarrow.parquet.write_table(table.replace_schema_metadata(described), tmp_path / "a.parquet")
        again = read(tmp_path / "a.parquet", problem_type="question_answering")
        assert [one.answers for one in again] == [one.answers for one in corpus]
        assert again[1].guid == f"{tmp_path / 'a.parquet'}:2"


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"answers": None}, "line 1 has None as its answers"),
        ({"answers": {"text": ["Ann"]}}, "line 1 has {'text': ['Ann']} as its answers"),
        ({"answers": {"text": ["Ann"], "answer_start": []}}, "which is not a list of text and"),
        ({"answers": {"text": ["Ann"], "answer_start": [6]}}, "line 1 has the answer 'Ann' at char"),
        ({"question": 1}, "line 1 has 1 as its question"),
    ],
)
def test_a_fault_in_a_table_of_questions_names_its_line(tmp_path, changes, where):
    path = write(tmp_path, "a.jsonl", json.dumps({**TABLED, **changes}))
    with pytest.raises(DataError) as error:
        read(path, problem_type="question_answering")
    assert str(path) in str(error.value) and where in str(error.value)
    short = write(tmp_path, "b.jsonl", json.dumps({"question": "who?", "context": "it was Ann"}))
    with refused(DataError, "answers"):
        read(short, problem_type="question_answering")


# Choices


def choices_of(tmp_path, row: dict, **options):
    path = write(tmp_path, "a.jsonl", json.dumps({"text": "so", **row}))
    return read(path, **{"choices": ["choices"], **options})


@pytest.mark.parametrize(
    ("label", "choices", "place"),
    [
        (2, ["a", "b", "c"], 2),
        ("2", ["a", "b", "c"], 2),
        (2.0, ["a", "b", "c"], 2),  # as pandas writes it beside a missing one
        ("c", ["a", "b", "c"], 2),
        (0, ["a", "a"], 0),  # two that are the same, and the place is said
        (1, ["1", "2", "3"], 1),  # a whole number is a place
        ("3", ["1", "2", "3"], 2),  # there is no place 3
        ("1", ["0", "1"], 1),  # both say the same
    ],
)
def test_the_label_is_a_place_or_a_text(tmp_path, label, choices, place):
    corpus = choices_of(tmp_path, {"choices": choices, "label": label})
    assert corpus[0].label == place and isinstance(corpus[0].label, int)
    assert corpus[0].choices == tuple(choices)
    assert corpus.problem_type == "multiple_choice" and corpus.label_names is None
    assert corpus.head() == " | ".join([choices[place], "so", *choices])


@pytest.mark.parametrize(
    ("row", "where"),
    [
        ({"label": 2}, "has the label 2, which is not a choice of its 2"),
        ({"label": -1}, "has the label -1, which is not a choice"),
        ({"label": "2"}, "has the label '2', which is not a choice"),
        ({"label": "c"}, "has the label 'c', which is not a choice"),
        ({"label": True}, "has the label True, which is not a choice"),
        ({"label": 1.5}, "has the label 1.5, which is not a choice"),
        ({"label": None}, "has the label None, which is not a choice"),
        ({"label": ""}, "has the label '', which is not a choice"),
        ({"label": [0]}, "has the label [0], which is not a choice"),
        ({"label": DIGITS}, "which is not a choice"),
        ({"label": "\u00b2"}, "which is not a choice"),
        ({"label": "a", "choices": ["a", "a"]}, "is the text or the place of several of its 2"),
        ({"label": "1", "choices": ["1", "2"]}, "is the text or the place of several of its 2"),
        ({"choices": ["a"]}, "has ['a'] as choices, which is not a list of 2 texts or more"),
        ({"choices": []}, "has [] as choices, which is not a list of 2 texts or more"),
        ({"choices": "ab"}, "has 'ab' as choices, which is not a list of 2 texts or more"),
        ({"choices": ["a", None]}, "which is not a list of 2 texts or more"),
        ({"choices": None}, "has None as choices, which is not a list of 2 texts or more"),
        ({"choices": ["a", "\ud800"]}, "half of a surrogate pair (U+D800) in the column 'choices'"),
        ({"text": 1}, "has 1 as 'text', which is not text"),
        ({"text": "\ud800"}, "half of a surrogate pair (U+D800) in the column 'text'"),
    ],
)
def test_a_fault_of_choices_names_its_line(tmp_path, row, where):
    with pytest.raises(DataError) as error:
        choices_of(tmp_path, {"choices": ["a", "b"], "label": 0, **row})
    assert f"{tmp_path / 'a.jsonl'}, line 1 " in str(error.value) and where in str(error.value)
    assert len(str(error.value)) < 600 and str(error.value).isprintable()


def test_choices_in_one_column_or_in_several(tmp_path):
    row = {"text": "so", "label": 1, "ending0": "a", "ending1": "b", "choices": ["a", "b"]}
    for options in (
        {"choices": ["choices"]},
        {"choices": ["ending0", "ending1"]},
        {"problem_type": "multiple_choice", "choices": None},
    ):
        corpus = choices_of(tmp_path, row, **options)
        assert (corpus[0].choices, corpus[0].label) == (("a", "b"), 1)
    assert choices_of(tmp_path, row, label=None)[0].label is None
    with refused(DataError, "ending2"):
        choices_of(tmp_path, row, choices=["ending0", "ending2"])
    table = write(tmp_path, "a.csv", "text,label,ending0,ending1\nso,1,a,b\nso,a,a,b\n")
    assert [one.label for one in read(table, choices=["ending0", "ending1"])] == [1, 0]


@pytest.mark.parametrize("cell", ["a;b", '"[""a"", ""b""]"'])
def test_a_list_in_a_cell_of_a_csv_file_is_refused(tmp_path, cell):
    path = write(tmp_path, "a.csv", f"text,label,choices\nso,1,{cell}\n")
    with refused(DataError, "line 2"):
        read(path, choices=["choices"])


def test_class_names_in_a_parquet_file_do_not_apply_to_choices(tmp_path):
    """SWAG on the Hub has the class names "0" to "3"."""
    if not pyarrow:
        missing("pyarrow is not installed (pip install 'minibert[test]')")
    rows = [{"text": "so", "choices": ["a", "b"], "label": 1}]
    features = {"label": {"names": ["0", "1"], "_type": "ClassLabel"}}
    described = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pyarrow.Table.from_pylist(rows).replace_schema_metadata(described)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    corpus = read(tmp_path / "a.parquet", choices=["choices"])
    assert corpus[0].label == 1 and corpus[0].choices == ("a", "b")


# Nothing is dropped: what was read and what parts it are all the lines

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\ufeff"), max_size=30)
WORD = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=8)
ROWS = st.lists(st.tuples(TEXT, st.sampled_from(["x", "y"])), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", ".gz"]))
def test_every_row_of_a_csv_file_is_read(tmp_path_factory, rows, end, packed):
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator=end).writerows([("text", "label"), *rows])
    path = write(tmp_path_factory.mktemp("rows"), f"a.csv{packed}", buffer.getvalue())
    corpus = read(path)
    assert [(e.text, corpus.label_names[e.label]) for e in corpus] == rows
    starts = [int(example.guid.rpartition(":")[2]) for example in corpus]
    lengths = [1 + text.count("\n") for text, _ in rows]
    assert starts == [2 + sum(lengths[:row]) for row in range(len(rows))]


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_every_row_of_a_jsonl_file_is_read(tmp_path_factory, rows):
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    corpus = read(write(tmp_path_factory.mktemp("rows"), "a.jsonl", "\n".join(lines)))
    assert [(e.text, corpus.label_names[e.label]) for e in corpus] == rows


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(WORD, min_size=1, max_size=6), min_size=1, max_size=8), st.data())
def test_every_line_of_a_conll_file_is_a_word_or_a_separator(tmp_path_factory, sentences, draw):
    gaps = [draw.draw(st.sampled_from(["\n", "\n \n\n", "\n-DOCSTART-\tO\n\n"])) for _ in sentences]
    gaps[-1] = draw.draw(st.sampled_from(["", "\n"]))
    blocks = ["\n".join(f"{word}\tO" for word in words) for words in sentences]
    content = "".join(block + "\n" + gap for block, gap in zip(blocks, gaps, strict=True))
    corpus = read(write(tmp_path_factory.mktemp("rows"), "a.conll", content))
    assert [list(sentence.words) for sentence in corpus] == sentences
    parting = [
        line for line in content.removesuffix("\n").split("\n") if not line.strip() or line.startswith("-DOCSTART-")
    ]
    words = sum(len(sentence.words) for sentence in corpus if isinstance(sentence, TaggedExample))
    assert words + len(parting) == content.removesuffix("\n").count("\n") + 1


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"a", b"\t", b",", b'"', b"x", b"\n", b"\r\n", b"\0", b"\xff", b"\xc3\xa9"]), max_size=40
    ),
    st.sampled_from(["a.csv", "a.tsv", "a.txt", "a.conll"]),
)
def test_random_bytes_are_read_whole_or_refused(tmp_path_factory, pieces, name):
    raw = b"".join(pieces)
    path = write(tmp_path_factory.mktemp("random"), name, raw)
    options = {} if name in ("a.txt", "a.conll") else {"names": ["text", "label"]}
    try:
        corpus = read(path, **options)
    except DataError:
        return
    assert b"\xff" not in raw
    lines = raw.removesuffix(b"\n").split(b"\n")
    if name in ("a.tsv", "a.txt"):
        assert len(corpus) == len(lines)
    if name == "a.csv":
        found = sum(1 + e.text.count("\n") + _breaks_in_label(corpus, e) for e in corpus)
        assert found in (len(lines), len(raw.rstrip().split(b"\n")))  # blank lines at the end do no harm


def _breaks_in_label(corpus, example) -> int:
    return corpus.label_names[example.label].count("\n") if corpus.label_names else 0


SEEDS = {
    "a.csv": b'text,label\n"one, ""two""\nthree",b\nx,a\n',
    "a.tsv": b"text\tlabel\none\tb\nx\ta\nz\t2.5\n",
    "a.jsonl": b'{"text": "one \\u00e9", "label": ["b", "c"]}\n{"text": "x", "label": []}',
    "b.jsonl": b'{"text": "one", "label": 2.5}\n{"text": "x", "label": "3"}\n',
    "a.conll": b"-DOCSTART-\tO\n\nEU\tB-ORG\nrejects\tO\n\nPeter\tB-PER\n",
    "a.txt": b"one\ntwo\n",
    "a.json": b'{"data": [{"paragraphs": [{"context": "one two", "qas": [{"question": "a", '
    b'"answers": [{"text": "two", "answer_start": 4}]}]}]}]}',
    "a.csv.gz": gzip.compress(b"text,label\none,a\ntwo,b\n", mtime=0),
}
GRAFTS = [b'"', b",", b"\t", b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"{", b"}", b"[" * 3000]
GRAFTS += [b"\\ud800", b"NaN", b"1e999", b"-1", b"null", b"true", DIGITS.encode(), b'"label":']
OPTIONS = [
    {},
    {"label": None},
    {"label_names": ["a", "b"]},
    {"problem_type": "regression"},
    {"problem_type": "single_label_classification"},
]


@pytest.mark.parametrize("mutants", [1_000, pytest.param(20_000, marks=pytest.mark.full)])
@pytest.mark.filterwarnings("ignore:labels of")
def test_mutants_are_read_or_refused(tmp_path, mutants):
    draw = random.Random(mutants)
    refused = 0
    for _ in range(mutants):
        name = draw.choice([*SEEDS])
        path = tmp_path / name
        path.write_bytes(mutant(draw, SEEDS[name]))
        try:
            corpus = read(path, **draw.choice(OPTIONS))
            corpus.head()
            assert len(corpus) > 0
            assert set(corpus.label_counts) == set(corpus.label_names or ())
        except DataError as error:
            assert str(path) in str(error) and len(str(error)) < 1_000
            refused += 1
    assert 0.3 < refused / mutants < 0.9
    print(f"{mutants} mutants: {refused} refused, {mutants - refused} read")


def mutant(draw: random.Random, seed: bytes) -> bytes:
    """A file with one to four changes: grafts, flipped bits, cuts, pieces of another format."""
    raw = bytearray(seed)
    for _ in range(draw.choice([1, 1, 2, 4])):
        place, other = draw.randrange(len(raw) + 1), draw.choice([*SEEDS.values()])
        kind = draw.choice(["graft", "flip", "cut", "splice"])
        if kind == "graft":
            raw[place:place] = draw.choice(GRAFTS)
        elif kind == "flip" and place < len(raw):
            raw[place] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del raw[place : place + draw.randrange(1, 15)]
        else:
            start = draw.randrange(len(other))
            raw[place:place] = other[start : start + draw.randrange(20)]
    return bytes(raw)


# Files that are no files, and files too large


@pytest.fixture(scope="module")
def bounded(tmp_path_factory):
    """Opens hostile files in a child with a gigabyte of memory, and a minute for all of them."""
    folder = tmp_path_factory.mktemp("bounded")
    with open(folder / "line.jsonl", "wb") as file:
        file.truncate(2**30)  # no byte of it is on the disk
    with open(folder / "questions.json", "wb") as file:
        file.truncate(2**30)
    with open(folder / "quote.csv", "wb") as file:
        file.write(b'text,label\n"a\n')
        file.truncate(2**30)
    with open(folder / "open.csv", "wb") as file:
        file.write(b'text,label\na,x\n"' + (b"open " * 10_000 + b"\n") * 1_000)
    zeros, rows = gzip.compress(bytes(2**24), mtime=0), gzip.compress((b"a" * 2000 + b"\tx\n") * 2**13, mtime=0)
    (folder / "line.tsv.gz").write_bytes(zeros * 64)
    (folder / "rows.tsv.gz").write_bytes(gzip.compress(b"text\tlabel\n", mtime=0) + rows * 64)
    (folder / "bomb.csv.gz").write_bytes(gzip.compress(gzip.compress(zeros * 64), mtime=0))
    os.mkfifo(folder / "pipe.csv")
    (folder / "set/pos").mkdir(parents=True)
    (folder / "set/pos/1.txt").write_text("good")
    os.mkfifo(folder / "set/pos/2.txt")
    (folder / "folders/neg/1.txt").mkdir(parents=True)
    (folder / "links/neg").mkdir(parents=True)
    (folder / "links/neg/1.txt").symlink_to("nowhere")
    (folder / "zero.csv").symlink_to("/dev/zero")
    (folder / "loop.csv").symlink_to("loop.csv")
    if pyarrow:
        _write_parquet_bomb(folder / "bomb.parquet")
    paths = sorted(str(path) for path in folder.iterdir())
    paths += [f"{folder}/{'long' * 2000}", "/dev/zero", "/dev/null"]
    command = [sys.executable, "-c", BOUNDED, *paths]
    # Arrow's own allocator takes more addresses than memory, which the limit counts.
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    answers = dict(map(json.loads, done.stdout.splitlines()))
    return answers | {"stderr": done.stderr}


# Each path is read in a child of its own, which has a gigabyte more than it begins with.
BOUNDED = """
import json, os, resource, sys
from pathlib import Path
from minibert.io.errors import MinibertError
from minibert.workbench.data.corpora import read
try:
    import pyarrow.parquet
except ImportError:
    pass

for path in map(Path, sys.argv[1:]):
    if os.fork() == 0:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + 2**30
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        try:
            said = f"read {len(read(path))}"
        except (MinibertError, MemoryError) as error:
            said = f"{type(error).__name__}: {error}"
        print(json.dumps([path.name, said]), flush=True)
        os._exit(0)
    os.wait()
"""


def _write_parquet_bomb(path: Path) -> None:
    """One long text, and 30,000 rows of two bytes that say "the same"."""
    texts = pyarrow.array(["a" * 1_000_000]).dictionary_encode()
    many = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 30_000), texts.dictionary)
    table = pyarrow.table({"text": many, "label": [0] * 30_000})
    pyarrow.parquet.write_table(table, path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("line.jsonl", "line 1 has more than 33554432 bytes"),
        ("questions.json", "line 1 has more than 33554432 bytes"),
        ("line.tsv.gz", "line 1 has more than 33554432 bytes"),
        ("quote.csv", "line 3 has more than 33554432 bytes"),
        ("open.csv", "line 3 cannot be parsed: field larger than field limit"),
        ("rows.tsv.gz", "and unpacks to more than"),
        ("bomb.csv.gz", "line 1, column 2 is not UTF-8: byte 0x8b"),
        ("bomb.parquet", "and unpacks to more than 104857600"),
        ("pipe.csv", "pipe.csv is neither a file nor a folder"),
        ("set", "2.txt is not a file"),
        ("folders", "1.txt is not a file"),
        ("links", "1.txt could not be read"),
        ("zero.csv", "zero.csv is neither a file nor a folder"),
        ("loop.csv", "There is no file or folder"),
        ("zero", "/dev/zero is neither a file nor a folder"),
        ("null", "/dev/null is neither a file nor a folder"),
        ("long" * 2000, "could not be read: File name too long"),
    ],
)
def test_no_file_fills_memory_or_blocks(bounded, name, said):
    if name == "bomb.parquet" and not pyarrow:
        missing("pyarrow is not installed (pip install 'minibert[test]')")
    assert said in bounded.get(name, "(no answer)"), bounded


def test_many_short_lines_count_towards_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_NEVER_TOO_MUCH", 2**20)
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"a\n" * 9_000, mtime=0))
    assert len(list(lines.lines(path))) == 9_000
    path.write_bytes(gzip.compress(b"a\n" * 20_000, mtime=0))
    with refused(DataError, None) as caught:
        list(lines.lines(path))
    assert caught.value.path == path


def test_many_short_rows_of_parquet_count_towards_the_limit(tmp_path, monkeypatch):
    if not pyarrow:
        missing("pyarrow is not installed (pip install 'minibert[test]')")
    monkeypatch.setattr(lines, "_NEVER_TOO_MUCH", 2**20)
    path = tmp_path / "a.parquet"
    for rows in (9_000, 20_000):
        pyarrow.parquet.write_table(pyarrow.table({"text": ["a"] * rows, "label": [0] * rows}), path)
        if rows == 9_000:
            assert len(read(path)) == rows
    with refused(DataError, None) as caught:
        read(path)
    assert caught.value.path == path


def test_words_in_lists_of_parquet_count_towards_the_limit(tmp_path, monkeypatch):
    if not pyarrow:
        missing("pyarrow is not installed (pip install 'minibert[test]')")
    monkeypatch.setattr(lines, "_NEVER_TOO_MUCH", 2**20)
    path = tmp_path / "a.parquet"
    for rows in (9, 100):
        words = [["a" * 10_000] * 10] * rows
        pyarrow.parquet.write_table(pyarrow.table({"text": words}), path)
        if rows == 9:
            assert len(read(path, label=None)) == rows
    with refused(DataError, None) as caught:
        read(path, label=None)
    assert caught.value.path == path


def test_a_file_without_permission(tmp_path, monkeypatch):
    path = write(tmp_path, "a.csv", "text,label\na,x\n")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with refused(DataError, None) as caught:
        list(lines.lines(path))
    assert caught.value.path == path


def test_a_folder_without_permission(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with refused(DataError, None):
        read(tmp_path, split="train")


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw[:-10],
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:40] + b"\xff\xff" + raw[42:],
        lambda raw: raw[:-8] + b"\0\0\0\0" + raw[-4:],  # the checksum
        lambda raw: raw + b"more",
        lambda raw: b"text,label\na,x\n",
    ],
)
def test_a_damaged_gz_file(tmp_path, change):
    rows = "".join(f"text {number * 7919},x\n" for number in range(500))
    path = tmp_path / "a.csv.gz"
    path.write_bytes(change(gzip.compress(b"text,label\n" + rows.encode(), mtime=0)))
    with refused(DataError, None) as caught:
        read(path)
    assert caught.value.path == path


# Parquet


@pytest.fixture
def table():
    if not pyarrow:
        missing("pyarrow is not installed (pip install 'minibert[test]')")
    return pyarrow.table({"text": ["a", "b"], "label": [0, 1], "rest": [None, b"x"]})


FEW_NAMES = '{"info": {"features": {"label": {"names": ["no"]}}}}'  # the labels are 0 and 1


@pytest.mark.parametrize(
    "metadata",
    [
        "no json",
        "[" * 100_000,
        "[1]",
        '{"info": 3}',
        '{"info": {"features": {"label": {"names": "ab"}}}}',
        '{"info": {"features": {"label": {"names": [1, 2]}}}}',
        FEW_NAMES,
        "\xff",
    ],
)
def test_invalid_parquet_metadata(tmp_path, table, metadata):
    path = tmp_path / "a.parquet"
    raw = metadata.encode("latin-1")
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": raw}), path)
    with refused(DataError, f"{path}:2" if metadata == FEW_NAMES else "huggingface") as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_parquet_columns(tmp_path, table):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(table, path)
    assert [example.text for example in read(path)] == ["a", "b"]
    with refused(DataError, "words"):
        read(path, text="words")
    with refused(DataError, "line 1"):
        read(path, text="rest")
    with refused(DataError, "line 1"):
        read(path, text="label", label=None)
    pyarrow.parquet.write_table(table.slice(0, 0), path)
    with refused(DataError, None) as caught:
        read(path)
    assert caught.value.path == path
    twice = pyarrow.Table.from_arrays([table["text"], table["text"]], names=["text", "text"])
    pyarrow.parquet.write_table(twice, path)
    with refused(DataError, "text"):
        read(path, label=None)


def test_a_damaged_parquet_file(tmp_path, table):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(table, path)
    whole = path.read_bytes()
    for kept in (0, 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with refused(DataError, None) as caught:
            read(path)
        assert caught.value.path == path
    path.write_bytes(whole[:4] + whole[4:].replace(b"\x01\x00\x00\x00b", b"\x01\x00\x00\x00\xff"))
    with refused(DataError, None) as caught:
        read(path)
    assert caught.value.path == path
