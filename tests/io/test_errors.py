"""Errors: one line for people, fields for programs."""

from __future__ import annotations

from pathlib import Path

from minibert.io.errors import MinibertError


def test_the_message_is_followed_by_the_hint():
    error = MinibertError("x is 3.", path="a/b", key="x", hint="Make it 2.")
    assert str(error) == "x is 3. Make it 2."
    assert (error.path, error.key) == (Path("a/b"), "x")


def test_what_a_file_holds_steers_no_terminal():
    text = str(MinibertError("a\x1b[2Jb\nc\ud800\u202e\u9f8d\u00e9", hint="\x07"))
    assert text == "a\\x1b[2Jb\\nc\\ud800\\u202e\u9f8d\u00e9 \\x07"
    assert text.isprintable() and text.encode("utf-8")


def test_a_long_message_is_cut_and_keeps_its_hint():
    text = str(MinibertError("x" * 30_000, hint="Look at it."))
    assert len(text) < 20_200 and text.endswith("(and 10000 more characters) Look at it.")
