"""Cases: vocabularies and tokenizer files that lie."""

from __future__ import annotations

from tests.hostile.case import (
    TOKENIZER,
    VOCAB,
    Case,
    Group,
    both,
    open_tokenizer,
    refused,
    remove,
    replace,
    write,
)


def vocab(*steps):
    """A folder whose only vocabulary is vocab.txt, then the steps."""
    return both(remove(TOKENIZER), *steps)


GROUPS = (
    Group(
        "tokenizer",
        open_tokenizer,
        [
            Case("no [UNK]", vocab(replace(VOCAB, "[UNK]", "unk")), refused(VOCAB, "[UNK]")),
            Case("a piece twice", vocab(replace(VOCAB, "film", "the")), refused(VOCAB, "the")),
            Case("not UTF-8", vocab(write(VOCAB, b"\xff\xfe\n")), refused(VOCAB, "UTF-8")),
        ],
    ),
)
