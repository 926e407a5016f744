"""The forms that tables take in the wild: what programs write, and what downloads leave behind."""

from __future__ import annotations

import csv
import gzip
import io
import json
import warnings
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minibert.io.errors import CheckpointError, ConfigError, DataError
from minibert.io.files import read_header, read_object
from minibert.workbench.data.corpora import Corpus, read
from minibert.workbench.data.documents import read_documents
from tests.conftest import refused

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 90868376\n"


@pytest.fixture
def write(tmp_path):
    def written(name: str, content: str | bytes):
        path = tmp_path / name
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data, mtime=0) if name.lower().endswith(".gz") else data)
        return path

    return written


def rows(corpus: Corpus) -> list[tuple[str, str]]:
    return [(example.text, corpus.label_names[example.label]) for example in corpus]


# Quotes

QUOTED = 'text,label\n"it was good, really","pos"\n"a ""bad""\nday","neg"\n"so so","neg"\n'
READ = [("it was good, really", "pos"), ('a "bad"\nday', "neg"), ("so so", "neg")]


@pytest.mark.parametrize("packed", ["", ".gz", ".GZ"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.csv", {}),
        ("a.CSV", {}),
        ("a.txt", {"sep": ","}),
        ("a.TXT", {"sep": ","}),
        ("a.data", {"format": "csv"}),
        ("a.tsv", {}),
        ("a.Tsv", {}),
        ("a.data", {"format": "tsv"}),
    ],
)
@pytest.mark.filterwarnings("error")
def test_quotes_around_cells_are_not_text_whatever_the_name(write, name, options, packed):
    tabs = "tsv" in (name.lower()[-3:], options.get("format"))
    content = QUOTED.replace('","', '"\t"').replace("text,", "text\t") if tabs else QUOTED
    assert rows(read(write(name + packed, content), **options)) == READ


@pytest.mark.parametrize("name", ["a.tsv", "a.txt"])
@pytest.mark.parametrize(
    "texts",
    [['say "hi" to her', "no"], ['"An odd one, she said', "no"], ['6" nails', '"quoted" and not'], ['""', 'x"']],
)
@pytest.mark.filterwarnings("error")
def test_a_quote_within_a_text_is_a_plain_character(write, name, texts):
    """As in GLUE: one such text, and all quotes are plain, also those around a whole text."""
    content = "".join(f"{text}\tx\n" for text in [*texts, '"all of it"'])
    corpus = read(write(name, content), sep="\t", names=["text", "label"])
    assert [example.text for example in corpus] == [*texts, '"all of it"']


def test_a_text_that_opens_a_quote_and_one_that_closes_it_are_two(write):
    """A reader of csv takes them, and all rows between them, for one text."""
    texts = ['"It begins here', "in between", 'and ends there"', '"all of it"']
    for name, sep in (("a.tsv", "\t"), ("a.txt", ";")):
        path = write(name, f"text{sep}label\n" + "".join(f"{text}{sep}x\n" for text in texts))
        with pytest.warns(UserWarning, match="--quoting removes"):
            assert [example.text for example in read(path, sep=sep)] == texts


def test_quotes_that_may_be_either_are_read_by_format_and_reported(write):
    """Some texts stand in quotes, and none had to be quoted."""
    content = 'text\tlabel\n"I love it"\tpos\nbad\tneg\nworse\tneg\n'
    path = write("a.tsv", content)
    with pytest.warns(UserWarning, match="--quoting"):
        assert read(path)[0].text == '"I love it"'
    for quoting, text in ((True, "I love it"), (False, '"I love it"')):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read(path, quoting=quoting)[0].text == text
    with pytest.warns(UserWarning, match="--no-quoting"):
        assert read(write("a.data", content.replace("\t", ",")), format="csv")[0].text == "I love it"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text(alphabet='a ",;', min_size=1, max_size=8), min_size=1, max_size=6),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@pytest.mark.filterwarnings("error")
def test_what_the_csv_module_writes_comes_back_under_any_name(write, texts, quoting):
    out = io.StringIO()
    csv.writer(out, quoting=quoting, lineterminator="\n").writerows([("text", "label"), *((one, "x") for one in texts)])
    for path in (write("a.csv", out.getvalue()), write("a.txt", out.getvalue())):
        assert [example.text for example in read(path, sep=",")] == texts


def test_quotes_that_are_escaped_otherwise_are_reported(write):
    """As R's write.table has them."""
    content = '"text"\t"label"\n"one"\t"x"\n"two \\"b\\""\t"x"\n'
    with pytest.warns(UserWarning, match="line 3"):
        assert read(write("a.tsv", content), text='"text"', label='"label"')[0].text == '"one"'
    with refused(DataError, "line 3"):
        read(write("a.tsv", content), quoting=True)


def test_a_row_is_named_by_the_line_it_begins_on(write):
    with refused(DataError, "line 4"):
        read(write("a.txt", 'text,label\n"two\nlines","x"\n"y"\n'), sep=",")
    with refused(DataError, "line 5"):
        read(write("b.csv", 'sep=,\ntext,label\n"two\nlines",x\ny\n'))


# Columns


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "v1,v2,,,\nham,see you,,,\nspam,win,,,\n"),
        ("a.csv", ",v1,v2,x,x\n0,ham,see you,1,2\n1,spam,win,3,4\n"),
        ("a.tsv", "x\tv1\tx\tv2\t\na\tham\tb\tsee you\t\na\tspam\tb\twin\t\n"),
        ("a.csv", "v1, v2 ,v3\nham,see you,\nspam,win,\n"),
        ("a.jsonl", '{"v1": "ham", "v2": "see you", "x": 1, "x": 2}\n{"v1": "spam", "v2": "win"}\n'),
        ("a.json", '[{"v1": "ham", "v2": "see you", "x": 1, "x": 2},\n {"v1": "spam", "v2": "win"}]'),
    ],
)
def test_columns_that_nobody_asked_for_do_no_harm(write, name, content):
    assert rows(read(write(name, content), text="v2", label="v1")) == [("see you", "ham"), ("win", "spam")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "v1,v2,v2\nham,see you,a\n"),
        ("a.jsonl", '{"v1": "ham", "v2": "see you", "v2": 2}\n'),
        ("a.json", '[{"v1": "ham",\n "v2": "see you", "v2": 2}]'),
    ],
)
def test_a_column_that_is_asked_for_and_is_there_twice(write, name, content):
    with refused(DataError, "v2"):
        read(write(name, content), text="v2", label="v1")


@pytest.mark.parametrize(
    ("name", "sep", "option"),
    [("a.csv", ";", "--sep ';'"), ("a.csv", "\t", r"--sep '\t'"), ("a.tsv", ",", "--sep ','")],
)
def test_another_separator_in_the_header_is_suggested(write, name, sep, option):
    path = write(name, "".join(sep.join(row) + "\n" for row in [("", "Comment", "Mood"), ("0", "we waited", "happy")]))
    with refused(DataError, "Comment") as caught:
        read(path, text="Comment", label="Mood")
    assert option in caught.value.hint
    given = option.split("'")[1]
    assert rows(read(path, text="Comment", label="Mood", sep=given)) == [("we waited", "happy")]


def test_a_right_separator_is_left_alone(write):
    with refused(DataError, "text") as caught:
        read(write("a.csv", "a;b,label\nx,y\n"))
    assert "--sep" not in caught.value.hint


# Excel


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_what_excel_writes(write, encoding, packed):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    text = f"{mark}sep=;\r\ntext;label\r\nschön; wirklich;pos\r\n\r\n".replace("schön; wirklich", '"schön; wirklich"')
    assert rows(read(write(f"a.csv{packed}", text.encode(encoding)))) == [("schön; wirklich", "pos")]
    tabs = f"{mark}text\tlabel\r\n\u2028東京\tpos\r\n"
    assert rows(read(write("a.txt", tabs.encode(encoding)), sep="\t")) == [("\u2028東京", "pos")]


ENCODED = [
    ("a.csv", "text,label\ncafé,x\n"),
    ("a.txt", "café\n"),
    ("a.conll", "café\tx\n"),
    ("a.json", '[{"text": "café", "label": "x"}]'),
]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_named_and_read_on_request(write, encoding):
    path = write("a.csv", "text,label\na good film,x\na bad one,y\n".encode(encoding))
    with refused(DataError, None) as caught:
        read(path)
    assert f"--encoding {encoding}" in caught.value.hint
    assert read(path, encoding=encoding).label_names == ("x", "y")


@pytest.mark.parametrize("encoding", ["windows-1252", "mac_roman", "gbk", "utf-16-le"])
@pytest.mark.parametrize(("name", "content"), ENCODED)
def test_text_in_another_encoding(write, name, content, encoding):
    content = content.replace("é", "东" if encoding == "gbk" else "é")
    path = write(name, content.encode(encoding))
    found = read(path, encoding=encoding)[0].texts
    assert "caf" in found[0] and found[0][3:] in ("é", "东")
    if encoding != "utf-16-le":
        with pytest.raises(DataError, match="not UTF-8.*--encoding"):
            read(path)


def test_an_encoding_that_a_file_does_not_have(write):
    for encoding in ("latin-99", "base64", "a\0"):
        with refused(ConfigError, "encoding"):
            read(write("a.csv", "text,label\na,x\n"), encoding=encoding)
    with refused(DataError, None):
        read(write("a.csv", "text,label\né,x\n"), encoding="ascii")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
def test_lines_that_end_in_a_carriage_return_alone(write, name):
    """As Excel writes them for a Macintosh."""
    sep = "\t" if "tsv" in name else ","
    path = write(name, f"text{sep}label\ra{sep}x\rb{sep}x\r")
    assert [example.guid for example in read(path)] == [f"{path}:2", f"{path}:3"]


def test_a_workbook_is_told_what_to_do(write):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("xl/workbook.xml", "")
    for name in ("a.xlsx", "a.csv", "a.zip", "a.json"):
        with refused(DataError, None) as caught:
            read(write(name, packed.getvalue()))
        assert "CSV" in caught.value.hint
    for content in (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"BZh91AY&SY", b"%PDF-1.4", b"PAR1"):
        with refused(DataError, None) as caught:
            read(write("a.csv", content))
        assert caught.value.hint


def test_a_packed_file_needs_no_ending_of_its_own(write, tmp_path):
    packed = gzip.compress(b"text,label\na,x\n", mtime=0)
    (tmp_path / "a.csv").write_bytes(packed)
    assert rows(read(tmp_path / "a.csv")) == [("a", "x")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label\na,x\n\n \n"),
        ("a.tsv", "text\tlabel\r\na\tx\r\n\r\n"),
        ("a.jsonl", '{"text": "a", "label": "x"}\n\n\n'),
        ("a.json", '\n[{"text": "a", "label": "x"}]\n\n'),
    ],
)
def test_blank_lines_at_the_end_do_no_harm(write, name, content):
    assert rows(read(write(name, content))) == [("a", "x")]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "text,label\na,x\n\nb,x\n"), ("a.jsonl", '{"text": "a", "label": "x"}\n\n{"text": "b", "label": "x"}')],
)
def test_a_blank_line_within_a_table_is_named(write, name, content):
    with refused(DataError, "line 3" if name == "a.csv" else "line 2"):
        read(write(name, content))


# JSON

TABLE = [{"text": "it was good", "label": "pos"}, {"text": "it was bad", "label": "neg"}]
COLUMNS = {name: {str(row): values[name] for row, values in enumerate(TABLE)} for name in ("text", "label")}
FORMS = {
    "lines": "\n".join(map(json.dumps, TABLE)),
    "list": json.dumps(TABLE),
    "list over lines": json.dumps(TABLE, indent=2),
    "columns": json.dumps(COLUMNS),
    "columns over lines": json.dumps(COLUMNS, indent=1),
    "lists": json.dumps({name: [row[name] for row in TABLE] for name in ("text", "label")}),
    "index": json.dumps({str(row): values for row, values in enumerate(TABLE)}),
    "split": json.dumps({"columns": ["text", "label"], "index": [0, 1], "data": [[*row.values()] for row in TABLE]}),
    "table": json.dumps({"schema": {"fields": [{"name": "text"}], "pandas_version": "1.4.0"}, "data": TABLE}),
    "data": json.dumps({"version": "1.0", "data": TABLE}, indent=2),
}


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.JSON", "a.ndjson", "a.json.gz"])
@pytest.mark.parametrize("form", FORMS)
def test_a_table_as_json_in_every_form(write, form, name, mark):
    path = write(name, mark + FORMS[form])
    corpus = read(path)
    assert rows(corpus) == [("it was good", "pos"), ("it was bad", "neg")]
    assert [example.guid for example in corpus] == [f"{path}:1", f"{path}:2"]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_row_alone_is_a_row(write, name):
    assert rows(read(write(name, '{"text": "a", "label": "x"}'))) == [("a", "x")]
    with pytest.raises(DataError, match="2"):  # its label is missing
        read(write(name, '{"text": ["a b", "c"], "label": ["x"]}'))
    words = read(write(name, '{"text": ["a", "b"], "label": ["NN", "VB"]}'))
    assert words.problem_type == "token_classification"
    row = {"question": "who?", "context": "it was Ann", "answers": {"text": ["Ann"], "answer_start": [7]}}
    assert len(read(write(name, json.dumps(row)), problem_type="question_answering")) == 1


def test_json_that_is_not_a_table(write):
    for content in ('{"text":\n {"a": 1}, "label": 3}', '{\n"a": 1}', "[[1, 2]]", "[]", '["a"]'):
        with refused(DataError, None if content[0] == "{" or content == "[]" else "row 1"):
            read(write("a.json", content))
    with refused(DataError, "row 2"):
        read(write("a.json", '[{"text": "a", "label": "x"},\n\n {"text": 3, "label": "y"}]'))
    with refused(DataError, "line 3"):
        read(write("a.json", '[{"text": "a", "label": "x"},\n\n {"text": 3 "label": "y"}]'))


def test_squad_under_any_name(write):
    item = {"id": "1", "question": "who?", "answers": [{"text": "Ann", "answer_start": 7}]}
    whole = {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": "it was Ann", "qas": [item]}]}]}
    for name in ("a.json", "a.JSON.gz", "a.jsonl"):
        for indent in (None, 2):
            assert read(write(name, json.dumps(whole, indent=indent))).problem_type == "question_answering"
    text = {"text": 'he wrote "paragraphs": [', "label": "x"}
    assert read(write("b.json", json.dumps(text))).problem_type == "single_label_classification"


def test_documents_as_json(write):
    for form in ("lines", "list over lines", "data"):
        found = read_documents([write("a.jsonl", FORMS[form])])
        assert [document.text for document in found] == ["it was good", "it was bad"]


# Git LFS


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a.jsonl", "a.json", "a.conll", "a.parquet", "a.csv.GZ"])
def test_a_pointer_of_git_lfs_is_not_data(tmp_path, name):
    pytest.importorskip("pyarrow")
    path = tmp_path / name
    path.write_text(POINTER)
    with refused(DataError, None) as caught:
        read(path)
    assert caught.value.path == path and "git lfs pull" in (caught.value.hint or ""), caught.value


def test_a_pointer_of_git_lfs_is_not_a_model(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text(POINTER)
    for open_it in (read_header, read_object):
        with refused(CheckpointError, None) as caught:
            open_it(path)
        assert "git lfs pull" in caught.value.hint


# Tables of several files, and of other programs


def test_a_header_line_among_the_rows_is_not_a_row(write):
    path = write("a.csv", "text,label\na day,pos\ntext,label\na sky,neg\n")
    with refused(DataError, "line 3"):
        read(path)
    assert rows(read(path, drop_bad_rows=True)) == [("a day", "pos"), ("a sky", "neg")]
    one_column = write("b.csv", "text\ntext\n")
    assert [example.text for example in read(one_column, label=None)] == ["text"]


@pytest.mark.parametrize(
    ("header", "key", "option"),
    [
        ("text,LABEL", "label", "--label 'LABEL'"),
        ("id,text,class", "label", "--label 'class'"),
        ("Review Text,Rating", "text", "--text 'Review Text'"),
        ("text,v2", "label", None),
        ("a,b", "text", None),
    ],
)
def test_a_column_of_a_usual_name_is_suggested(write, header, key, option):
    path = write("a.csv", f"{header}\n{','.join('x' for _ in header.split(','))}\n")
    with refused(DataError, key) as error:
        read(path)
    assert ("Is it" in error.value.hint) == (option is not None) and (option or "") in error.value.hint


@pytest.mark.parametrize(
    "spans", [[[0, 4, "PER"]], [{"start": 0, "end": 4, "label": "PER"}]], ids=["doccano", "Label Studio"]
)
def test_spans_are_not_labels(write, spans):
    line = json.dumps({"text": "Anna went", "label": spans}) + "\n"
    path = write("a.jsonl", line * 3)
    with refused(DataError, f"{path}:1") as error:
        read(path)
    assert ".conll" in error.value.hint


@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
def test_a_text_that_no_tokenizer_takes_is_a_bad_row(write, name):
    path = write(name, f"text,label\n{'word ' * 200_001},pos\na day,neg\n")
    with refused(DataError, f"{path}:2"):
        read(path)
    assert read(path, drop_bad_rows=True)[-1].texts[0].startswith("a day")


def test_a_word_with_its_tag_on_each_row_is_reported(write):
    content = "Sentence #,Word,Tag\nSentence: 1,Anna,B-per\n,went,O\n"
    with pytest.warns(UserWarning, match=r"\.conll"):
        read(write("a.csv", content), text="Word", label="Tag")
