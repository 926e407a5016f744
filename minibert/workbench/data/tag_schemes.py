"""Tag schemes: how the tags of words spell entities, checked and converted to one form, IOB2.

IOB2: B-X begins an entity of type X, I-X continues it, O is outside any. IOB1 (CoNLL-2003's own
files): I-X begins one too, and B-X occurs only right after another entity of its type. Tags of
other kinds, such as parts of speech, are left as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from minibert.io.errors import DataError
from minibert.workbench.data.records import Record

TAG_SCHEMES = ("iob1", "iob2")

_IOB = re.compile(r"O$|[BI]-.")
_OTHER_SCHEMES = re.compile(r"[ESLU]-.|[BIESLU]$")  # BIOES and BILOU; types left out


def is_iob_tag(tag: str) -> bool:
    return bool(_IOB.match(tag))


def is_iob(tags: Sequence[str]) -> bool:
    """Whether tags, such as the label names of a corpus, spell entities."""
    return all(map(is_iob_tag, tags)) and any(tag[:2] in ("B-", "I-") for tag in tags)


def in_iob2(records: Sequence[Record], scheme: str | None) -> list[Record]:
    """Tagged sentences with their tags in IOB2; other records, and other tags, as they are.

    Args:
        scheme: one of TAG_SCHEMES, which every tag has to follow; by default IOB2, if most tags
            look like it, or all look like tags of some such scheme.

    Raises:
        DataError: a tag is of another scheme, or an I-X continues nothing.
    """
    tags = {str(tag) for record in records if _is_tagged(record) for tag in record.label}
    if not tags - {"O"} or (scheme is None and not _look_like_entities(tags)):
        return list(records)
    return [_in_iob2(record, scheme) if _is_tagged(record) else record for record in records]


def both_tags_of_each_type(names: Sequence[str]) -> list[str]:
    """Names with B-X and I-X for every type X in them: training data may lack one of the two."""
    types = {name[2:] for name in names if name[:2] in ("B-", "I-")}
    return sorted({*names, *(f"{begin}-{kind}" for kind in types for begin in "BI")})


def _is_tagged(record: Record) -> bool:
    return isinstance(record.text, tuple) and bool(record.label)


def _look_like_entities(tags: set[str]) -> bool:
    """Unlike parts of speech, say, of which one happens to look like the tag of an entity."""
    spelt = tags - {"O"}
    iob = {tag for tag in spelt if is_iob_tag(tag)}
    others = {tag for tag in spelt if _OTHER_SCHEMES.match(tag)}
    return 2 * len(iob) > len(spelt) or (iob | others == spelt and bool(iob or "O" in tags))


def _in_iob2(record: Record, scheme: str | None) -> Record:
    tags: list[str] = []
    for place, tag in enumerate(map(str, record.label)):
        if not is_iob_tag(tag):
            raise _foreign_tag(record, place, tag)
        before = tags[-1] if tags else "O"
        continues = (f"B-{tag[2:]}", f"I-{tag[2:]}")
        if tag[:2] == "I-" and before not in continues:
            if scheme != "iob1":
                raise DataError(
                    f"{_place(record, place)} has the tag {tag}, but {before} comes before it: "
                    f"{tag} can only follow {' or '.join(continues)}.",
                    key=record.where,
                    hint="Are the tags IOB1, as in CoNLL-2003? Then say tag_scheme='iob1' (on the "
                    "command line --tag-scheme iob1).",
                )
            tag = f"B-{tag[2:]}"
        tags.append(tag)
    return record._replace(label=tuple(tags))


def _foreign_tag(record: Record, place: int, tag: str) -> DataError:
    hint = (
        "Are the tags BIOES or BILOU, or without types? Turn them into IOB2: S-X and U-X into "
        "B-X, E-X and L-X into I-X."
    )
    return DataError(
        f"{_place(record, place)} has the tag {tag!r:.50}, which is not O, B-X or I-X.",
        key=record.where,
        hint=hint if _OTHER_SCHEMES.match(tag) else None,
    )


def _place(record: Record, place: int) -> str:
    words: Any = record.text
    return f"{record.where}, word {place + 1} ({words[place]!r:.30})"
