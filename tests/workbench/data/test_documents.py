"""Plain text for pre-training: files read whole or refused, sentences, and installed docstrings."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from minibert.io.errors import DataError
from minibert.io.text_input import MOST_CHARACTERS
from minibert.workbench.data import documents, installed
from minibert.workbench.data.documents import Document, fingerprint, read_documents, sentences
from tests.conftest import refused


def jsonl(*texts: object, column: str = "text") -> str:
    return "".join(json.dumps({column: text}) + "\n" for text in texts)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "b.txt").write_text("\ufeffOne.\n\nTwo\nthree.\n")
    (tmp_path / "below/c.jsonl").write_text(jsonl("Four.", "Five."))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(jsonl("Zero.").encode(), mtime=0))
    (tmp_path / "below/d.txt.gz").write_bytes(gzip.compress(b"Six.", mtime=0))
    (tmp_path / "README.md").write_text("no text of the corpus")
    (tmp_path / "._b.txt").write_bytes(b"\x00\x05\x16\x07 of a Mac")
    (tmp_path / "below/.cache").mkdir()
    (tmp_path / "below/.cache/e.txt").write_text("Of some program.")
    return tmp_path


# Files


def test_a_folder_is_its_files_in_order(folder):
    with pytest.warns(UserWarning, match="not texts: 3, such as"):
        found = read_documents([folder])
    assert found == [
        Document("Zero.", f"{folder}/a.jsonl.gz:1"),
        Document("One.\n\nTwo\nthree.\n", f"{folder}/b.txt"),
        Document("Four.", f"{folder}/below/c.jsonl:1"),
        Document("Five.", f"{folder}/below/c.jsonl:2"),
        Document("Six.", f"{folder}/below/d.txt.gz"),
    ]


def test_sources_keep_their_order_and_a_column_has_a_name(folder):
    (folder / "z.jsonl").write_text(jsonl("Other.", column="body"))
    found = read_documents([folder / "z.jsonl"], column="body")
    assert [document.text for document in found] == ["Other."]
    found = read_documents([folder / "below/d.txt.gz", str(folder / "b.txt")])
    assert [document.text[:3] for document in found] == ["Six", "One"]


@pytest.mark.parametrize(
    ("name", "raw", "key"),
    [
        ("a.txt", b"", "{path}"),
        ("a.txt", b" \n\n", "{path}"),
        ("a.txt", b"one\ntw\xffo", "line 2"),
        ("a.txt.gz", b"plain", None),
        ("a.txt.gz", gzip.compress(b"one" * 999, mtime=0)[:-9], None),
        ("a.jsonl", b"", None),
        ("a.jsonl", b'{"text": "a"}\n{"text": " "}\n', "{path}:2"),
        ("a.jsonl", b'{"text": ["a", "b"]}\n', "{path}:1"),
        ("a.jsonl", b'{"text": 3}\n', "line 1"),
        ("a.jsonl", b'{"body": "a"}\n', "text"),
        ("a.jsonl", b'{"text": "a"\n', "line 1"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "line 1"),
        ("a.conll", b"a\tO\n", None),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, name, raw, key):
    path = tmp_path / name
    path.write_bytes(raw)
    with refused(DataError, key and key.format(path=path)) as error:
        read_documents([path])
    assert str(path) in str(error.value) and error.value.path == path


def test_a_folder_without_text_a_missing_file_and_nothing_at_all(tmp_path):
    for source in (tmp_path, tmp_path / "nowhere", Path("long" * 2000)):
        with refused(DataError, None) as error:
            read_documents([source])
        assert error.value.path == source
    with refused(DataError, "sources"):
        read_documents([])


@pytest.mark.filterwarnings("ignore:.*files skipped")
def test_a_fingerprint_is_that_of_the_texts_in_their_order(folder):
    found = read_documents([folder])
    facts = fingerprint(found)
    assert facts["documents"] == 5 and facts["characters"] == sum(len(d.text) for d in found)
    moved = [Document(document.text, "elsewhere") for document in found]
    assert fingerprint(moved) == facts
    assert fingerprint(found[::-1])["sha256"] != facts["sha256"]
    parted = [Document("Zero", ""), Document(".One.\n\nTwo\nthree.\n", ""), *found[2:]]
    assert fingerprint(parted)["sha256"] != facts["sha256"]


# Sentences


@pytest.mark.parametrize(
    "parts",
    [
        ["It rained.", "We left!", "Did you?", "Yes."],
        ["Mr. Smith met Dr. J. R. Watson.", "They spoke."],
        ["It cost 3.50 dollars.", "That was on No. 5, p. 7."],
        ['"No!" she said.', '"Yes."', "Then (at last.)", "Silence."],
        ['"Is it?" he asked.', "It was... nothing.", "Oh! how she laughed."],
        ["He left in 1954.", "1966 was better."],
        ["It is the U.S. Army.", "He lives in the U.S.", "The end."],
        ["Cats, dogs, etc. are pets.", "So are mice etc.", "And so on."],
        ["It was so bad.", "don't see it.", "it stinks, cf. the first one."],
        ["1. Open the box.", "2. Close it.", "3. It is better than I.", "You know."],
        ["What?!", "Really??", "Well…", "Fine."],
        ["One thing -- another! -- and so on.", "“Quotes.”", "‘More.’"],
        ["我爱你。", "你好！", "是吗？", "对"],
        ["Good.<br /><br />", "Bad<br/>", "Next."],
        ["no stop at all"],
    ],
)
def test_sentences(parts):
    joint = "" if parts[0].startswith("我") else " "
    assert sentences(joint.join(parts)) == parts


def test_long_runs_of_blanks_and_stops_take_no_longer_than_others():
    """In quadratic time each of these would take minutes."""
    assert len(sentences("<br>" * 200_000 + "a")) < 20
    assert len(sentences("Mr. " * 200_000)) < 20
    for text in ("a" + " " * 200_000 + "b", "." * 200_000 + "x", "\u3002" * 200_000 + "x"):
        assert "".join(sentences(text)) == text.replace("a" + " " * 200_000, "a ")


def test_text_without_punctuation_is_cut_between_words_and_nothing_is_lost():
    """Of a size that the tokenizer would refuse as one text; the last word is as long itself."""
    words = ["w" * (1 + number % 9) for number in range(300_000)] + ["x" * 250_000]
    text = " ".join(words)
    parts = sentences(text)
    assert len(text) > MOST_CHARACTERS and max(map(len, parts)) <= documents.LONGEST
    whole = [part for part in parts if "x" not in part]
    assert " ".join(whole).split(" ") == words[:-1]
    assert "".join(part for part in parts if "x" in part) == words[-1]


def test_a_sentence_just_as_long_as_may_be_stays_whole(monkeypatch):
    monkeypatch.setattr(documents, "LONGEST", 9)
    assert sentences("one three") == ["one three"]
    assert sentences("one threes") == ["one", "threes"]
    assert sentences("one two to") == ["one two", "to"]
    assert sentences("oneandtwoandthree") == ["oneandtwo", "andthree"]


def test_wrapped_lines_are_joined_and_blank_lines_and_items_end_a_sentence():
    text = "CHAPTER I\n\n\nIt was a\nlong  day. The\nend\n \nof it:\n- one\n- two\r\n\r\nthree"
    expected = ["CHAPTER I", "It was a long day.", "The end", "of it:", "- one", "- two", "three"]
    assert sentences(text) == expected
    assert sentences("made me wonder if<br /><br />laws held.") == ["made me wonder if<br /><br />laws held."]
    assert sentences(" \n\n ") == [] == sentences("")


def test_sentences_of_real_text(data):
    """Nothing is lost, few begin in small letters, and no title stands at an end."""
    paths = [data / "imdb/unsup_first20000.jsonl.gz"]
    paths += [data / f"english_corpus/{name}.jsonl.gz" for name in ("gutenberg", "state_union")]
    for path in paths:
        texts = [document.text[:20_000] for document in read_documents([path])[:500]]
        found = [sentences(text) for text in texts]
        for text, parts in zip(texts, found, strict=True):
            assert "".join(" ".join(parts).split()) == "".join(text.split())
        every = [sentence for parts in found for sentence in parts]
        assert 70 < sum(map(len, every)) / len(every) < 150  # characters
        small = sum(first[:1].islower() for parts in found for first in parts[1:])
        assert small < 0.02 * len(every)
        assert not [one for one in every if re.search(r"\b(Mr|Mrs|Dr)\.$", one)][5:]


# What is installed


def test_the_installed_docs_are_english_and_the_same_each_time(capsys):
    found = read_documents([documents.INSTALLED], progress=True)
    said = capsys.readouterr().err.splitlines()[-1]
    facts = fingerprint(found)
    assert 3_000_000 < facts["characters"] < 20_000_000
    for package in ("numpy/", "torch/", "python"):
        assert any(document.guid.startswith(package) for document in found)
    assert f"{facts['characters']:,} characters" in said and " duplicates left out" in said
    text = "\n".join(document.text for document in found)
    assert ">>>" not in text and "Softmax" in text
    assert len(re.findall(r"\bthe\b", text)) > 0.03 * len(text.split())
    paragraphs = [part for document in found for part in document.text.split("\n\n")]
    assert len(set(paragraphs)) > 0.9 * len(paragraphs)


MODULE = '''
"""The first \\ud800 one is not text."""
raise SystemExit("this would run")
class Thing:
    """A thing that does something.

    Parameters
    ----------
    size : int
        How large the thing will be.

    Example::

        thing = Thing(size=3)

    .. note:: It is slower than :class:`~a.Other`.

    .. code-block:: python

        run the thing at once

    ====  ====
    one   two
    ====  ====

    Read the ``manual`` first.
    >>> Thing(3)
    """
    if True:
        def call(self):
            "Calls the thing and waits."
def same(self):
    "Calls the thing and waits."
add_docstr(other.name, r"""
name(input, *, out=None) -> Tensor

Returns the {name} of the input.
""".format(**args))
print("Not a word of documentation.")
'''


def test_docstrings_become_prose(tmp_path, monkeypatch, capsys):
    for package in ("a", "b"):
        (tmp_path / package / "tests").mkdir(parents=True)
        (tmp_path / package / "tests/t.py").write_text('"""These are no docs at all."""')
    (tmp_path / "a/one.py").write_text(MODULE)
    (tmp_path / "b/bad.py").write_text("no Python at all")
    (tmp_path / "b/two.py").write_text('"""Calls the thing and waits."""\nx = 1')
    monkeypatch.setattr(installed.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path / "a")})
    for package in (installed.numpy, installed.torch):
        monkeypatch.setattr(package, "__file__", str(tmp_path / "b/__init__.py"))
    assert read_documents(["installed-docs"], progress=True) == [
        Document(
            "A thing that does something.\n\nHow large the thing will be.\n\n"
            "It is slower than a.Other.\n\nRead the manual first.\n\nCalls the thing and waits.\n\n"
            "Returns the {name} of the input.",
            "a/one.py",
        )
    ]
    said = "3 docstrings of 1 files, 172 characters (3 duplicates left out, 2 files"
    assert said in capsys.readouterr().err
