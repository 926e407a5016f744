"""Folders of data: a folder for each class, parts under every usual name, files that are not data."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from minibert.io.errors import ConfigError, DataError
from minibert.workbench.data.corpora import Corpus, read
from minibert.workbench.data.documents import read_documents
from tests.conftest import refused

LEFT_BEHIND = ["._1.txt", ".DS_Store", "1.txt~", "#1.txt#", ".1.txt.swp", "Thumbs.db", "desktop.ini", "~$1.txt"]


def fill(folder: Path, *names: str, text: str = "see you", classes: tuple[str, ...] = ("ham", "spam")) -> None:
    for label in classes:
        (folder / label).mkdir(parents=True)
        for name in names or ("1.txt", "2.txt"):
            (folder / label / name).write_text(f"{text} {label}")


def counts(corpus: Corpus) -> dict[str, int]:
    for example in corpus:
        label = corpus.label_names[example.label]
        assert Path(example.guid).parent.name == label and example.text.endswith(f" {label}")
    return corpus.label_counts


@pytest.mark.filterwarnings("error")
def test_a_folder_for_each_class(tmp_path):
    fill(tmp_path / "flat")
    for split in (None, "train", "test"):
        assert counts(read(tmp_path / "flat", split=split)) == {"ham": 2, "spam": 2}
    with refused(ConfigError, "text"):
        read(tmp_path / "flat", text="other")
    fill(tmp_path / "three", "a.TXT", "#1.txt", classes=("a b", "café", "#z"))
    assert counts(read(tmp_path / "three")) == {"#z": 2, "a b": 2, "café": 2}


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_parts_go_by_their_usual_names(tmp_path, name):
    fill(tmp_path / "training", text="of train")
    fill(tmp_path / "test", "1.txt", text="of test")
    fill(tmp_path / name, "1.txt", "2.txt", "3.txt", text="of dev")
    for split, number in (("train", 2), ("test", 1), ("validation", 3), ("dev", 3)):
        corpus = read(tmp_path, split=split)
        assert counts(corpus) == {"ham": number, "spam": number}
        assert corpus[0].text == f"of {'dev' if number == 3 else split} ham"
    for split in (None, "unsup"):
        with refused(DataError, split or "split"):
            read(tmp_path, split=split)


def test_a_part_that_a_folder_does_not_have(tmp_path):
    fill(tmp_path / "train")
    with refused(DataError, "test") as caught:
        read(tmp_path, split="test")
    assert "train" in caught.value.hint


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_tables_of_parts_go_by_their_usual_names(tmp_path, name):
    for file, text in (
        (f"{name}.csv", "right"),
        ("train.csv", "wrong"),
        (f"._{name}.csv", "wrong"),
        (".x/dev.csv", ""),
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(f"text,label\n{text},x\n")
    for split in ("validation", "dev"):
        assert [example.text for example in read(tmp_path, split=split)] == ["right"]
    below = tmp_path / "below" / name
    below.mkdir(parents=True)
    (below / "1.CSV").write_text("text,label\nupper,x\n")
    (below / ".1.csv").write_text("text,label\nhidden,x\n")
    assert [example.text for example in read(tmp_path / "below", split="validation")] == ["upper"]


@pytest.mark.parametrize("left", LEFT_BEHIND)
def test_files_that_are_not_texts_are_skipped_and_counted(tmp_path, left):
    fill(tmp_path)
    (tmp_path / "ham" / left).write_bytes(b"\0\xff")
    (tmp_path / "spam" / "picture.png").write_bytes(b"\0\xff")
    with pytest.warns(UserWarning, match="not texts: 2,") as told:
        assert counts(read(tmp_path)) == {"ham": 2, "spam": 2}
    assert len(told) == 1 and left in str(told[0].message)


@pytest.mark.filterwarnings("error")
def test_texts_without_endings_as_in_the_20_newsgroups(tmp_path):
    fill(tmp_path, "49960", "51060", classes=("alt.atheism", "sci.space"))
    assert counts(read(tmp_path)) == {"alt.atheism": 2, "sci.space": 2}
    (tmp_path / "sci.space/run.py").write_text("")  # so is every folder of programs
    with refused(DataError, "split"):
        read(tmp_path)


@pytest.mark.filterwarnings("error")
def test_imdb_as_it_is_unpacked(tmp_path):
    for part in ("train", "test"):
        fill(tmp_path / part, classes=("neg", "pos", "unsup") if part == "train" else ("neg", "pos"))
        (tmp_path / part / "urls_pos.txt").write_text("http")
        (tmp_path / part / "labeledBow.feat").write_text("9 0:9")
    (tmp_path / "README").write_text("about")
    for split in ("train", "test"):
        assert counts(read(tmp_path, split=split)) == {"neg": 2, "pos": 2}
        assert counts(read(tmp_path / split)) == {"neg": 2, "pos": 2}


def test_folders_of_tables_are_not_classes(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.txt").write_text("one\ntwo\n")
        (tmp_path / folder / "test.txt").write_text("three\n")
    with refused(DataError, "train") as caught:
        read(tmp_path, split="train")
    assert "a/train" in caught.value.hint
    assert len(read(tmp_path, split="b/train")) == 2


def test_folders_of_documents(tmp_path):
    fill(tmp_path, "1.TXT", *LEFT_BEHIND)
    with pytest.warns(UserWarning, match=f"not texts: {2 * len(LEFT_BEHIND)},") as told:
        assert [document.text for document in read_documents([tmp_path])] == ["see you ham", "see you spam"]
    assert len(told) == 1


@pytest.mark.parametrize("name", ["a.csv", "a.TSV", "a.json", "a.JSONL"])
def test_a_table_of_documents(tmp_path, name):
    contents = {"csv": 'id,text\n1,"one, two"\n', "tsv": "id\ttext\n1\tone, two\n", "json": '[{"text": "one, two"}]'}
    (tmp_path / name).write_text(contents[name.lower()[2:6].removesuffix("l")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [document.text for document in read_documents([tmp_path / name])] == ["one, two"]


def test_tagged_words_are_not_documents(tmp_path):
    (tmp_path / "a.conll").write_text("a\tO\n")
    with refused(DataError, None):
        read_documents([tmp_path / "a.conll"])
