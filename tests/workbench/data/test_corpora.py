"""Readers: the real data sets, every format, and every fault named by file, line and column."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import sys
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest

from minibert.io.errors import ConfigError, DataError
from minibert.io.files import sha256
from minibert.workbench.data.corpora import Corpus, Example, TaggedExample, read
from minibert.workbench.data.drawing import split, subset
from minibert.workbench.data.examples import Answer, QuestionExample
from tests.conftest import missing, refused


def write(tmp_path, name: str, content: str | bytes):
    path = tmp_path / name
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    return path


# The real sets, with the counts of their papers and examples


def test_emotion(data):
    corpora = {
        part: read(data / f"emotion/{part}.txt", sep=";", names=["text", "label"]) for part in ("train", "val", "test")
    }
    assert [len(corpus) for corpus in corpora.values()] == [16_000, 2_000, 2_000]
    train = corpora["train"]
    assert train.label_names == ("anger", "fear", "joy", "love", "sadness", "surprise")
    assert train[0] == Example("i didnt feel humiliated", None, 4, f"{data / 'emotion/train.txt'}:1")
    assert train.problem_type == "single_label_classification"
    assert train.label_counts["joy"] == 5362 and sum(train.label_counts.values()) == 16_000
    assert train.head(2).splitlines()[0] == "sadness | i didnt feel humiliated"
    assert train.fingerprint() == {
        "source": str(data / "emotion/train.txt"),
        "examples": 16_000,
        "labels": train.label_counts,
        "files": {str(data / "emotion/train.txt"): sha256(data / "emotion/train.txt")},
    }


def test_chnsenticorp_with_its_plain_quotes(data):
    corpus = read(data / "chnsenticorp/train.tsv", text="text_a")
    assert corpus.label_counts == {"0": 4801, "1": 4799}
    lines = (data / "chnsenticorp/train.tsv").read_text(encoding="utf-8").split("\n")
    assert any('"' in example.text for example in corpus)
    assert [f"{example.label}\t{example.text}" for example in corpus] == lines[1:-1]


def test_imdb(data):
    corpus = read(data / "imdb/test.jsonl.gz")
    assert corpus.label_counts == {"neg": 12_500, "pos": 12_500}
    assert corpus.label_names == ("neg", "pos")


def test_wnut(data):
    corpus = read(data / "wnut17", split="train")
    assert len(corpus) == 3394 and sum(corpus.label_counts.values()) == 62_730
    assert corpus.problem_type == "token_classification"
    assert isinstance(corpus[0], TaggedExample) and corpus[0].words[0] == "@paulwalk"
    assert len(read(data / "wnut17", split="dev", label_names=corpus.label_names)) == 1009
    assert corpus.head(1).startswith("@paulwalk/O It/O 's/O")


def test_glue(data):
    cola = read(data / "cola/dev.tsv", names=["source", "label", "mark", "text"])
    assert cola.label_counts == {"0": 322, "1": 721}
    rte = read(data / "rte/dev.tsv", text="sentence1", text_pair="sentence2")
    assert rte.label_counts == {"entailment": 146, "not_entailment": 131}
    assert rte[0].text_pair == "Christopher Reeve had an accident."


def test_acl_imdb_folder(tmp_path):
    for part in ("train", "test"):
        for name in ("pos", "neg", "unsup"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for number in range(3):
                (folder / f"{number}_7.txt").write_text(f"{part} {name} {number}\nmore")
    corpus = read(tmp_path, split="train")
    assert corpus.label_counts == {"neg": 3, "pos": 3}
    assert corpus[3].text == "train pos 0\nmore"
    assert read(tmp_path / "test").examples[0].text == "test neg 0\nmore"
    with refused(DataError, "split"):
        read(tmp_path)
    with refused(DataError, "dev"):
        read(tmp_path, split="dev")


def test_many_files_have_one_sum(tmp_path):
    def folder_of(name: str, count: int, last: str = "good") -> dict:
        for label in ("neg", "pos"):
            (tmp_path / name / label).mkdir(parents=True)
            for number in range(count):
                (tmp_path / name / label / f"{number}.txt").write_text("good")
        (tmp_path / name / "pos/0.txt").write_text(last)
        return read(tmp_path / name).fingerprint()["files"]

    few = folder_of("few", 10)
    assert len(few) == 20 and few[f"{tmp_path}/few/pos/0.txt"] == sha256(tmp_path / "few/pos/0.txt")
    many = folder_of("many", 11)
    lines = [
        f"{label}/{name}.txt {hashlib.sha256(b'good').hexdigest()}\n"
        for label in ("neg", "pos")
        for name in sorted(map(str, range(11)))
    ]
    expected = hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    assert many == {"count": 22, "sha256": expected}
    # The folder's own name does not count, one changed text does.
    assert folder_of("elsewhere", 11) == many != folder_of("changed", 11, last="bad")


# Formats


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("a.csv", 'text,label\n"one, ""two""\nthree",b\nx,a\n', {}),
        ("a.csv", '\ufefflabel,text\r\nb,"one, ""two""\nthree"\r\na,x\r\n', {}),
        ("a.csv", 'b;"one, ""two""\nthree"\na;x', {"sep": ";", "names": ["label", "text"]}),
        ("a.jsonl", '{"text": "one, \\"two\\"\\nthree", "label": "b"}\n{"text":"x","label":"a"}', {}),
    ],
)
def test_one_corpus_in_many_forms(tmp_path, packed, name, content, options):
    corpus = read(write(tmp_path, name + packed, content), **options)
    texts = [(example.text, example.label) for example in corpus]
    assert texts == [('one, "two"\nthree', 1), ("x", 0)]
    assert corpus.label_names == ("a", "b")


def test_a_very_long_field(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\n"' + "good\n" * 100_000 + '",a\nx,b\n')
    assert len(read(path)[0].text) == 500_000


def test_lines_are_texts_without_labels(tmp_path):
    corpus = read(write(tmp_path, "a.txt", "one\n\nthree; four\n"))
    assert [example.text for example in corpus] == ["one", "", "three; four"]
    assert corpus.label_names is None and corpus.problem_type is None
    assert corpus.label_counts == {}


def test_texts_without_labels(tmp_path):
    corpus = read(write(tmp_path, "a.tsv", "id\ttext\n7\tone\n"), label=None)
    assert corpus[0].label is None and corpus.head() == "one"


def test_numbers_keep_their_order(tmp_path):
    rows = "".join(f"text {label}\t{label}\n" for label in (10, 9, 2, 10, 0))
    corpus = read(write(tmp_path, "a.tsv", "text\tlabel\n" + rows))
    assert corpus.label_names == ("0", "2", "9", "10")
    assert [example.label for example in corpus] == [3, 2, 1, 3, 0]


def test_names_for_numbers(tmp_path):
    path = write(tmp_path, "a.tsv", "text\tlabel\nbad\t0\ngood\t1\n")
    with pytest.warns(UserWarning) as told:
        corpus = read(path, label_names=["negative", "positive"])
    (warning,) = told
    assert str(warning.message) == (f"labels of {path} are numbers: read as 0 = negative, 1 = positive")
    with pytest.warns(UserWarning, match=r"4 = e, 5 = f, \.\.\.$"):
        read(path, label_names=list("abcdefg"))
    assert [example.label for example in corpus] == [0, 1]
    assert corpus.label_counts == {"negative": 1, "positive": 1}
    # Names that are numbers are names: 1 is the first of ("1", "0").
    assert [example.label for example in read(path, label_names=["1", "0"])] == [1, 0]


@pytest.mark.filterwarnings("error")
def test_names_and_numbers_that_are_names_need_no_warning(tmp_path):
    numbers = write(tmp_path, "a.tsv", "text\tlabel\nbad\t0\ngood\t1\n")
    assert len(read(numbers)) == len(read(numbers, label_names=["1", "0"])) == 2
    names = write(tmp_path, "b.tsv", "text\tlabel\nbad\tno\ngood\tyes\n")
    assert len(read(names, label_names=["yes", "no"])) == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", '{"text": "a", "label": 2.5}\n{"text": "b", "label": 3}\n'), ("a.tsv", "text\tlabel\na\t2.5\nb\t3\n")],
)
def test_regression(tmp_path, name, content):
    corpus = read(write(tmp_path, name, content))
    assert [example.label for example in corpus] == [2.5, 3.0]
    assert corpus.problem_type == "regression" and corpus.label_names is None
    assert corpus.label_counts == {}


def test_integers_are_for_regression_on_request(tmp_path):
    path = write(tmp_path, "a.tsv", "text\tlabel\na\t3\nb\t1\n")
    assert read(path).problem_type == "single_label_classification"
    for names in (None, ["LABEL_0"]):
        corpus = read(path, problem_type="regression", label_names=names)
        assert [example.label for example in corpus] == [3.0, 1.0]
        assert all(isinstance(example.label, float) for example in corpus)
        assert corpus.problem_type == "regression" and corpus.label_names is None
    named = tmp_path / "named.parquet"
    parquet(named, [{"text": "a", "label": 0}], ["worse"])
    with refused(DataError, f"{named}:1"):
        read(named, problem_type="regression")


def test_numbers_are_names_on_request(tmp_path):
    path = write(tmp_path, "a.tsv", "text\tlabel\na\t4.5\nb\t4\n")
    corpus = read(path, problem_type="single_label_classification")
    assert corpus.label_names == ("4", "4.5") and [example.label for example in corpus] == [1, 0]
    with refused(ConfigError, "problem_type"):
        read(path, problem_type="regress")


def test_several_labels(tmp_path):
    content = '{"text": "a", "label": ["y", "x"]}\n{"text": "b", "label": []}\n'
    corpus = read(write(tmp_path, "a.jsonl", content), label_names=["x", "z", "y"])
    assert [example.label for example in corpus] == [(1.0, 0.0, 1.0), (0.0, 0.0, 0.0)]
    assert corpus.problem_type == "multi_label_classification"
    assert corpus.label_counts == {"x": 1, "z": 0, "y": 1}
    assert corpus.head(1) == "x, y | a"


def test_conll_with_documents_and_four_columns(tmp_path):
    content = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n \nPeter NNP B-NP B-PER\n"
    corpus = read(write(tmp_path, "a.conll", content), sep=" ")
    assert [example.words for example in corpus] == [("EU", "rejects"), ("Peter",)]
    assert corpus.label_names == ("B-ORG", "B-PER", "I-ORG", "I-PER", "O")
    assert [example.tags for example in corpus] == [(0, 4), (1,)]
    assert corpus[1].guid.endswith(":7")
    plain = read(write(tmp_path, "b.conll", "EU\nrejects\n"), label=None)
    assert plain[0].words == ("EU", "rejects") and plain[0].tags is None


def tagged(tmp_path, tags: str, **options) -> Corpus:
    """A sentence with these tags, read from a file."""
    lines = "".join(f"w{place}\t{tag}\n" for place, tag in enumerate(tags.split()))
    return read(write(tmp_path, "a.conll", lines), **options)


def tags_of(corpus: Corpus) -> list[str]:
    return [" ".join(corpus.label_names[tag] for tag in example.tags) for example in corpus]


@pytest.mark.parametrize(
    ("iob1", "iob2"),
    [
        ("I-X", "B-X"),
        ("I-X I-X O I-X", "B-X I-X O B-X"),
        ("I-X B-X I-X", "B-X B-X I-X"),
        ("I-X I-Y I-Y", "B-X B-Y I-Y"),
        ("B-X I-Y B-Y I-X", "B-X B-Y B-Y B-X"),
        ("O B-X I-X O", "O B-X I-X O"),
        ("O O", "O O"),
    ],
)
def test_iob1_becomes_iob2(tmp_path, iob1, iob2):
    assert tags_of(tagged(tmp_path, iob1, tag_scheme="iob1")) == [iob2]
    assert tags_of(tagged(tmp_path, iob2, tag_scheme="iob1")) == [iob2]
    for scheme in (None, "iob2"):
        assert tags_of(tagged(tmp_path, iob2, tag_scheme=scheme)) == [iob2]


@pytest.mark.parametrize("scheme", [None, "iob2"])
@pytest.mark.parametrize(
    ("tags", "fault"),
    [
        ("I-X", r"word 1 \('w0'\) has the tag I-X, but O comes before it"),
        ("B-X O I-X", r"word 3 \('w2'\) has the tag I-X, but O comes before it"),
        ("B-X I-Y", r"word 2 \('w1'\) has the tag I-Y, but B-X comes before it"),
        ("B-X I-X I-Y", r"word 3 \('w2'\) has the tag I-Y, but I-X comes before it"),
    ],
)
def test_an_entity_without_a_beginning(tmp_path, scheme, tags, fault):
    with pytest.raises(DataError, match=fault) as error:
        tagged(tmp_path, tags, tag_scheme=scheme)
    assert str(error.value).startswith(f"{tmp_path / 'a.conll'}:1, word ")
    assert "say tag_scheme='iob1' (on the command line --tag-scheme iob1)" in str(error.value)
    assert tags.split()[-1] in str(error.value) and f"B{tags[-2:]}" in str(error.value)


def test_an_entity_does_not_continue_in_the_next_sentence(tmp_path):
    path = write(tmp_path, "a.conll", "a\tB-X\n\nb\tI-X\n")
    with refused(DataError, f"{path}:3"):
        read(path)
    assert tags_of(read(path, tag_scheme="iob1")) == ["B-X", "B-X"]


@pytest.mark.parametrize("tags", ["NN VB", "NN I-X", "I", "OUT I-X", "B N E", "X-Y N-Z"])
def test_tags_of_another_kind_are_left_alone(tmp_path, tags):
    assert tags_of(tagged(tmp_path, tags)) == [tags]


@pytest.mark.parametrize("tags", ["P L O", "NN VB", "I-X NN VB JJ"])
@pytest.mark.parametrize("scheme", ["iob1", "iob2"])
@pytest.mark.filterwarnings("ignore:.*scored by itself")
def test_a_scheme_that_is_asked_for_applies_to_every_tag(tmp_path, tags, scheme):
    assert tags_of(tagged(tmp_path, tags)) == [tags]
    with pytest.raises(DataError, match="has the tag"):
        tagged(tmp_path, tags, tag_scheme=scheme)


def test_no_such_tag_scheme(tmp_path):
    with refused(ConfigError, "tag_scheme"):
        tagged(tmp_path, "O", tag_scheme="bilou")


def test_lists_of_words_with_lists_of_tags(tmp_path):
    rows = [{"text": ["EU", "rejects"], "label": ["B-ORG", "O"]}, {"text": ["a"], "label": ["O"]}]
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    corpus = read(path)
    assert corpus.examples == (
        TaggedExample(("EU", "rejects"), (0, 2), f"{path}:1"),
        TaggedExample(("a",), (2,), f"{path}:2"),
    )  # both tags of a type have a name: others may have the second
    assert corpus.label_names == ("B-ORG", "I-ORG", "O") and corpus.problem_type == "token_classification"
    assert read(path, label=None)[0] == TaggedExample(("EU", "rejects"), None, f"{path}:1")
    numbered = write(tmp_path, "b.jsonl", '{"tokens": ["EU", "rejects"], "ner_tags": [1, 0]}')
    with pytest.warns(UserWarning, match="read as 0 = O, 1 = B-ORG"):
        named = read(numbered, text="tokens", label="ner_tags", label_names=["O", "B-ORG"])
    assert named.head() == "EU/B-ORG rejects/O"


@pytest.mark.filterwarnings("error")
def test_lists_of_tags_with_names_in_a_parquet_file(tmp_path):
    """CoNLL-2003 on the Hub: tags are numbers, their names are in the metadata."""
    names = ["O", "B-X", "I-X"]
    rows = [{"text": ["EU", "is", "it"], "label": [1, 2, 0]}]
    parquet(tmp_path / "a.parquet", rows, names, several=True)
    corpus = read(tmp_path / "a.parquet")
    assert corpus.examples == (TaggedExample(("EU", "is", "it"), (1, 2, 0), f"{tmp_path / 'a.parquet'}:1"),)
    assert corpus.label_names == tuple(names) and corpus.head() == "EU/B-X is/I-X it/O"
    other = read(tmp_path / "a.parquet", label_names=["I-X", "O", "B-X"])
    assert other[0].tags == (2, 0, 1)
    rows[0]["label"] = [0, 2, 2]  # as CoNLL-2003 has them, by IOB1
    parquet(tmp_path / "a.parquet", rows, names, several=True)
    with refused(DataError, f"{tmp_path / 'a.parquet'}:1"):
        read(tmp_path / "a.parquet")
    assert tags_of(read(tmp_path / "a.parquet", tag_scheme="iob1")) == ["O B-X I-X"]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ('{"text": ["a", "b"], "label": ["O"]}', "line 2 has 2 words and 1 tags"),
        ('{"text": [], "label": []}', "line 2 has 0 words and 0 tags"),
        ('{"text": ["a"], "label": "O"}', r"line 2 has \['a'\] as 'text', which is not text"),
        ('{"text": ["a", 1], "label": ["O", "O"]}', "which is not text"),
        ('{"text": ["a"], "label": [null]}', ":2 has .*None is neither a name"),
        ('{"text": ["a"], "label": [0.5]}', ":2 has .*0.5 is neither a name"),
        ('{"text": ["\\ud800"], "label": ["O"]}', r"half of .* in the column 'text'"),
        ('{"text": ["a"], "label": ["\\ud800"]}', r"half of .* in the column 'label'"),
        ('{"text": "a", "label": "O"}', ":2 has a text, but .*:1 has words: either all are"),
    ],
)
def test_invalid_lists_of_words_are_refused(tmp_path, row, fault):
    path = write(tmp_path, "a.jsonl", '{"text": ["a"], "label": ["O"]}\n' + row)
    with pytest.raises(DataError, match=fault) as error:
        read(path)
    assert str(path) in str(error.value)


def test_a_text_before_lists_of_words(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "a", "label": "O"}\n{"text": ["a"], "label": ["O"]}')
    with refused(DataError, f"{path}:2"):
        read(path)


def parquet(path, rows: list[dict], names: list[str] | None = None, several=False) -> None:
    """Rows as a data set of the Hub has them, with names for the label or for a list of them."""
    if importlib.util.find_spec("pyarrow") is None:
        missing("pyarrow is not installed (pip install 'minibert[test]')")
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist(rows)
    if names:
        feature = {"names": names, "_type": "ClassLabel"}
        features = {"label": {"feature": feature, "_type": "Sequence"} if several else feature}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path)


def test_parquet_in_pieces_with_stored_names(tmp_path):
    rows = [{"text": f"text {number}", "label": number % 2} for number in range(5)]
    names = ["worse", "better"]
    parquet(tmp_path / "data/train-00000-of-00002.parquet", rows[:3], names)
    parquet(tmp_path / "data/train-00001-of-00002.parquet", rows[3:], names)
    parquet(tmp_path / "data/test-00000-of-00001.parquet", rows[:1], names)
    parquet(tmp_path / "data/training_notes.parquet", rows[:1], names)
    corpus = read(tmp_path, split="train")
    assert corpus.label_names == ("worse", "better")
    assert [(example.text, example.label) for example in corpus] == [(row["text"], row["label"]) for row in rows]
    assert len(corpus.files) == 2
    # Another order of names: the label follows its name, not its number.
    assert read(tmp_path, split="test", label_names=["better", "worse"])[0].label == 1


def test_a_label_of_minus_one_is_a_missing_one_where_classes_have_names(tmp_path):
    path = tmp_path / "a.parquet"
    parquet(path, [{"text": f"text {label}", "label": label} for label in (0, -1, 1)], ["worse", "better"])
    with refused(DataError, f"{path}:2"):
        read(path)
    assert read(path, drop_bad_rows=True).label_counts == {"worse": 1, "better": 1}


def test_a_part_in_several_folders(tmp_path):
    rows = [{"text": "a", "label": 0}]
    parquet(tmp_path / "split/train-0.parquet", rows)
    parquet(tmp_path / "unsplit/train-0.parquet", rows * 2)
    with refused(DataError, "train"):
        read(tmp_path, split="train")
    assert len(read(tmp_path, split="unsplit/train")) == 2


def test_a_source_names_its_part_after_a_colon(tmp_path, monkeypatch):
    rows = [{"text": "a", "label": 0}]
    parquet(tmp_path / "split/train-0.parquet", rows)
    parquet(tmp_path / "unsplit/train-0.parquet", rows * 2)
    parquet(tmp_path / "unsplit/test-0.parquet", rows * 3)
    asked = set()

    def resolve(source, *_):
        asked.add(source)
        return SimpleNamespace(folder=tmp_path)

    monkeypatch.setattr("minibert.workbench.data.sources.open_source", resolve)
    assert len(read("owner/name:split/train")) == 1
    assert len(read("owner/name:unsplit/train")) == 2
    # What the source says counts over the part that a caller takes by itself.
    assert len(read("owner/name:test", split="train")) == 3
    assert asked == {"owner/name"}
    with refused(DataError, "split"):
        read("owner/name:")


def test_a_colon_in_a_file_name_is_a_colon(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets").mkdir()
    write(tmp_path, "sets/a:b.csv", "text,label\na,b\n")
    assert len(read("sets/a:b.csv")) == 1
    with pytest.raises(DataError, match="There is no file or folder https://host/train.csv"):
        read("https://host/train.csv")


def test_a_data_set_of_the_hub(tmp_path, monkeypatch):
    asked = {}

    def resolve(source, revision, patterns, kind):
        asked.update(source=source, patterns=patterns, revision=revision, repo_type=kind)
        return SimpleNamespace(folder=tmp_path)

    parquet(tmp_path / "data/train-00000-of-00001.parquet", [{"text": "a", "label": 0}], ["no"])
    monkeypatch.setattr("minibert.workbench.data.sources.open_source", resolve)
    corpus = read("owner/some.set-1.0", split="train", revision="v2")
    assert corpus.label_counts == {"no": 1}
    assert (asked["source"], asked["revision"]) == ("owner/some.set-1.0", "v2")
    assert asked["repo_type"] == "dataset"
    for wanted in ("train.csv", "data/train-00000-of-00001.parquet", "train/0000.jsonl.gz"):
        assert any(fnmatch(wanted, pattern) for pattern in asked["patterns"]), wanted
    for other in ("data/test-00000-of-00001.parquet", "train.py", "train.bin", "README.md"):
        assert not any(fnmatch(other, pattern) for pattern in asked["patterns"]), other
    with refused(DataError, "split"):
        read("owner/name")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    path = write(tmp_path, "a.parquet", b"")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"pip install 'minibert\[parquet\]'"):
        read(path)


# Faults


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.tsv", "", {}, r"a\.tsv is empty"),
        ("a.jsonl", "\n\n", {}, r"a\.jsonl, line 1 is empty"),
        ("a.tsv", "text\tlabel\n", {}, "has a header line and no rows"),
        ("a.csv", "text,label\n", {}, "has a header line and no rows"),
        ("a.tsv", "text\ttext\n", {}, "has the column 'text' twice"),
        ("a.tsv", "text\tlabel\na\tx\nb\n", {}, "line 3 has 1 columns, not 2"),
        ("a.tsv", "text\tlabel\na\tx\tmore\n", {}, "line 2 has 3 columns, not 2"),
        ("a.tsv", "text\tlabel\na\tx\n\nb\ty\n", {}, r"line 3 is empty\."),
        ("a.csv", "text,label\na,x\n\nb,y\n", {}, r"line 3 is empty\."),
        ("a.csv", "text,label\na,x\n  \nb,y\n", {}, r"line 3 is empty\."),
        ("a.csv", "text,label\na,x\n,,\nb,y\n", {}, "line 3 has 3 columns, not 2"),
        ("a.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b", "label": 2}', {}, "2 is empty"),
        ("a.csv", 'text,label\n"a\nb",x\nc\n', {}, "line 4 has 1 columns, not 2"),
        ("a.csv", 'text,label\n"a,x\nb,y\n', {}, "line 2 cannot be parsed"),
        ("a.csv", 'text,label\n"a"b,x\n', {}, "line 2 cannot be parsed"),
        ("a.tsv", b"text\tlabel\na\tx\nb\xff\ty\n", {}, "line 3, column 2 is not UTF-8: byte 0xff"),
        ("a.tsv", "words\tlabel\na\tx\n", {}, "no column 'text'; there are words, label"),
        ("a.tsv", "text\tlabel\na\tx\n", {"label": "class"}, "no column 'class'; there are text"),
        ("a.tsv", "text\tlabel\na\tx\n", {"text_pair": "b"}, "no column 'b'"),
        ("a.tsv", "text\tlabel\na\t\n", {}, ":2 has no label"),
        ("a.tsv", "a\tx\n", {"names": ["text"]}, "line 1 has 2 columns, not 1"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text"', {}, "line 2, column 8 is not JSON: Expec"),
        ("a.jsonl", "[]\n", {}, "a.jsonl holds no rows"),
        ("a.jsonl", "3\n", {}, "line 1 is int, not a JSON object"),
        ("a.jsonl", '{"text": 3, "label": 1}\n', {}, "line 1 has 3 as 'text', which is not text"),
        ("a.jsonl", '{"text": "a", "label": null}\n', {}, ":1 has no label"),
        ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": "a", "label": ["x"]}', {}, "either all are lists"),
        ("a.jsonl", '{"text": "a", "label": {}}\n', {}, ":1 has the label {}, which is neither"),
        ("a.jsonl", '{"text": "a", "label": 0.5}\n{"text": "a", "label": NaN}', {}, ":2 has no label"),
        ("a.tsv", "text\tlabel\na\tz\n", {"label_names": ["x", "y"]}, ":2 has the label 'z', which"),
        ("a.tsv", "text\tlabel\na\t2\n", {"label_names": ["x", "y"]}, "not one of x, y"),
        ("a.conll", "word\tO\nword\n\n", {}, "line 2 has a word without a tag"),
        ("a.conll", "-DOCSTART-\tO\n", {}, "holds no examples"),
        ("a.xlsx", "x", {}, r"has the ending '\.xlsx', not one of \.csv"),
        ("a.csv.gz", "", {}, r"a\.csv\.gz is empty"),
        ("a.parquet", "no parquet", {}, "could not be read"),
    ],
)
def test_a_fault_is_one_clear_sentence(tmp_path, name, content, options, message):
    path = write(tmp_path, name, content)
    with pytest.raises(DataError, match=message) as error:
        read(path, **options)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "line"), [("a.csv", "i feel fine,joy"), ("a.tsv", "i feel fine\tjoy")])
def test_a_table_without_a_header_line(tmp_path, name, line):
    path = write(tmp_path, name, f"{line}\n{line}\n")
    with refused(DataError, "text") as error:
        read(path)
    assert str(error.value).endswith(
        "Has the file no header line? Then name its columns: names (on the command line --names text label)."
    )
    assert len(read(path, names=["text", "label"])) == 2
    long = write(tmp_path, f"long_{name}", "word " * 1000 + line)
    with pytest.raises(DataError) as error:
        read(long)
    assert len(str(error.value)) < 1000


def test_a_cut_gz_file(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"text,label\n" * 500, mtime=0)[:-10])
    with pytest.raises(DataError, match="could not be read"):
        read(path)


def test_no_such_file(tmp_path):
    for path in (tmp_path / "none.csv", "none.csv", "data/none.jsonl.gz", tmp_path / "folder"):
        with pytest.raises(DataError, match="There is no file or folder"):
            read(path)


@pytest.mark.parametrize("source", ["sets/trian", "./sset", "none/train.json", "none/train.xlsx"])
def test_a_mistyped_path_is_not_asked_of_the_hub(tmp_path, monkeypatch, source):
    def resolve(*_, **__):
        raise AssertionError("the Hub was asked")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets").mkdir()
    monkeypatch.setattr("minibert.workbench.data.sources.open_source", resolve)
    for name in (source, f"{source}:train"):
        with pytest.raises(DataError, match=f"There is no file or folder {source}"):
            read(name, split="train")


def test_no_such_format(tmp_path):
    with refused(ConfigError, "format"):
        read(write(tmp_path, "a.csv", "text,label\na,b\n"), format="xml")


# Drawing


def corpus_of(*counts: int) -> Corpus:
    examples = [
        Example(f"{label} {number}", label=label) for label, count in enumerate(counts) for number in range(count)
    ]
    return Corpus(tuple(examples), tuple(str(label) for label in range(len(counts))))


def test_split_shuffles_and_keeps_shares():
    # Sorted by class, as IMDB is.
    corpus = replace(corpus_of(700, 200, 100), source="here", files=(Path("file"),))
    train, validation = split(corpus, 0.1, seed=3)
    assert train.label_counts == {"0": 630, "1": 180, "2": 90}
    assert validation.label_counts == {"0": 70, "1": 20, "2": 10}
    assert {*train} | {*validation} == {*corpus} and not {*train} & {*validation}
    for part in (train, validation):
        labels = [example.label for example in part]
        assert labels != sorted(labels)
        assert replace(part, examples=corpus.examples) == corpus  # names, source and files stay
    assert split(corpus, 0.1, seed=3) == (train, validation)
    assert split(corpus, 0.1, seed=4)[1] != validation


def test_split_of_few():
    train, validation = split(corpus_of(5, 3, 3), 0.3, seed=0)
    assert (len(train), len(validation)) == (8, 3)
    assert validation.label_counts == {"0": 1, "1": 1, "2": 1}
    for fraction in (0, 0.01, 1, 1.5):
        with refused(ConfigError, "fraction"):
            split(corpus_of(5, 5), fraction, seed=0)


def test_split_without_classes():
    corpus = Corpus(tuple(Example(str(number)) for number in range(10)))
    train, validation = split(corpus, 0.2, seed=0)
    assert len(train) == 8 and {*train} | {*validation} == {*corpus}


def test_split_keeps_the_questions_of_one_context_together():
    questions = [QuestionExample(f"{row}?", f"context {row % 40}", (Answer("con", 0),)) for row in range(200)]
    corpus = Corpus(tuple(questions))
    train, validation = split(corpus, 0.25, seed=3)
    contexts = [{example.context for example in part} for part in (train, validation)]
    assert [len(found) for found in contexts] == [30, 10] and not contexts[0] & contexts[1]
    assert (len(train), len(validation)) == (150, 50)
    assert {*train} | {*validation} == {*corpus}
    assert [*train] != sorted(train, key=lambda example: int(example.question[:-1]))
    assert split(corpus, 0.25, seed=3) == (train, validation)
    assert {example.context for example in split(corpus, 0.25, seed=4)[1]} != contexts[1]
    for fraction in (0.01, 0.99, 1.5):
        with refused(ConfigError, "fraction"):
            split(corpus, fraction, seed=0)
    with refused(ConfigError, "fraction"):
        split(Corpus(()), 0.5, seed=0)


def test_split_of_xquad_parts_contexts(data):
    train, test = split(read(data / "xquad/xquad.en.json"), 0.1, seed=0)
    contexts = [{example.context for example in part} for part in (train, test)]
    assert [len(found) for found in contexts] == [216, 24] and not contexts[0] & contexts[1]
    assert len(train) + len(test) == 1190


def test_subset():
    corpus = corpus_of(60, 40)
    part = subset(corpus, 10, seed=1)
    assert part.label_counts == {"0": 6, "1": 4} and len({*part}) == 10
    assert subset(corpus, 10, seed=1) == part != subset(corpus, 10, seed=2)
    assert {*subset(corpus, 100, seed=0)} == {*corpus}
    loose = [subset(corpus, 10, seed=seed, stratify=False).label_counts["0"] for seed in range(20)]
    assert len({*loose}) > 1
    with refused(ConfigError, "count"):
        subset(corpus, 101, seed=0)


def test_an_invalid_tag_is_found_in_any_sentence(tmp_path):
    lines = "a\tB-X\nb\tI-X\nc\tB-Y\n\nd\tNN\ne\tI-Y\n"
    with refused(DataError, f"{tmp_path / 'a.conll'}:5"):
        read(write(tmp_path, "a.conll", lines))


@pytest.mark.parametrize(
    "name, options, said",
    [
        ("a.json", {"text": "passage"}, "Questions have no text, but 'passage' was named"),
        ("a.json", {"tag_scheme": "iob1"}, "Only tagged words have a tag_scheme"),
        ("a.json", {"choices": ["a"]}, "Questions have no choices"),
        ("a.conll", {"text_pair": "b"}, "Tagged words have no text_pair"),
        ("a.csv", {"tag_scheme": "iob2"}, "Only tagged words have a tag_scheme"),
        ("a.csv", {"choices": ["a", "a"]}, "named twice"),
    ],
)
def test_options_that_do_not_apply_are_refused(tmp_path, name, options, said):
    contents = {
        "a.json": json.dumps({"data": [{"paragraphs": [{"context": "x", "qas": [{"question": "y", "answers": []}]}]}]}),
        "a.conll": "a\tO\n",
        "a.csv": "text,label,a\nx,y,z\n",
    }
    with pytest.raises(ConfigError, match=said):
        read(write(tmp_path, name, contents[name]), **options)


def test_a_second_text_begins_each_choice(tmp_path):
    line = {"first": "She sat.", "second": "He", "a": "stood.", "b": "ran.", "label": 1}
    path = write(tmp_path, "a.jsonl", json.dumps(line))
    [example] = read(path, text="first", text_pair="second", choices=["a", "b"])
    assert (example.text, example.choices) == ("She sat.", ("He stood.", "He ran."))


def test_a_list_that_looks_like_choices_is_a_warning(tmp_path):
    line = {"text": "so", "choices": ["a", "b"], "label": 0}
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, [line, {**line, "label": 1}])))
    with pytest.warns(UserWarning, match="list of texts in the column 'choices', which is not read"):
        read(path)
