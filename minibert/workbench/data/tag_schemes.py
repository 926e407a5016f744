"""Tag schemes: how the tags of words spell entities, checked and brought into one form, IOB2.

IOB2: B-X begins an entity of type X, I-X goes on with it, O is none. IOB1 (CoNLL-2003's own files):
I-X begins one too, and B-X stands only right after another entity of its type. A file whose tags
are none of these, such as parts of speech, is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from minibert.io.errors import DataError
from minibert.workbench.data.readers import Record

TAG_SCHEMES = ("iob1", "iob2")

_IOB = re.compile(r"O$|[BI]-.")
_OTHER_SCHEMES = re.compile(r"[ESLU]-.|[BIESLU]$")  # BIOES and BILOU; types left out


def is_iob_tag(tag: str) -> bool:
    return bool(_IOB.match(tag))


def is_iob(tags: Sequence[str]) -> bool:
    """Whether tags, such as the label names of a corpus, spell entities."""
    return all(map(_IOB.match, tags)) and any(tag[:2] in ("B-", "I-") for tag in tags)


def in_iob2(records: Sequence[Record], scheme: str | None) -> list[Record]:
    """Tagged sentences with their tags in IOB2; other records, and other tags, as they are.

    Args:
        scheme: one of TAG_SCHEMES, which every tag has to be of; None: IOB2, if most tags look like
            it, or all look like tags of some such scheme.

    Raises:
        DataError: a tag is of another scheme, or an I-X goes on with nothing.
    """
    tagged = [record for record in records if isinstance(record.text, tuple) and record.label]
    spelt = {str(tag) for record in tagged for tag in record.label}
    tags = spelt - {"O"}
    iob = {tag for tag in tags if _IOB.match(tag)}
    others = {tag for tag in tags if _OTHER_SCHEMES.match(tag)}
    # Parts of speech, say, of which one happens to look like a tag of an entity, are none.
    another_scheme = iob | others == tags and (iob or "O" in spelt)
    looks_like_it = 2 * len(iob) > len(tags) or another_scheme
    if not tags or (scheme is None and not looks_like_it):
        return list(records)
    return [
        _in_iob2(record, scheme) if isinstance(record.text, tuple) and record.label else record
        for record in records
    ]


def both_tags_of_each_type(names: Sequence[str]) -> list[str]:
    """Names with B-X and I-X for every type X in them: one of both may be rare in training."""
    types = {name[2:] for name in names if name[:2] in ("B-", "I-")}
    return sorted({*names, *(f"{begin}-{kind}" for kind in types for begin in "BI")})


def _in_iob2(record: Record, scheme: str | None) -> Record:
    tags: list[str] = []
    for place, tag in enumerate(map(str, record.label)):
        if not _IOB.match(tag):
            raise _foreign(record, place, tag)
        before = tags[-1] if tags else "O"
        dangles = tag[:2] == "I-" and before not in (f"B-{tag[2:]}", f"I-{tag[2:]}")
        if dangles and scheme == "iob1":
            tag = f"B-{tag[2:]}"
        elif dangles:
            raise _dangling(record, place, tag, before)
        tags.append(tag)
    return record._replace(label=tuple(tags))


def _foreign(record: Record, place: int, tag: str) -> DataError:
    other = _OTHER_SCHEMES.match(tag)
    return DataError(
        f"{_place(record, place)} has the tag {tag!r:.50}, which is none of O, B-X and I-X.",
        key=record.where,
        hint="Are the tags BIOES or BILOU, or without types? Turn them into IOB2: S-X and U-X into "
        "B-X, E-X and L-X into I-X."
        if other
        else None,
    )


def _dangling(record: Record, place: int, tag: str, before: str) -> DataError:
    return DataError(
        f"{_place(record, place)} has the tag {tag}, but {before} comes before it: it goes on with "
        "an entity that nothing began.",
        key=record.where,
        hint="Are the tags IOB1, as in CoNLL-2003? Then say tag_scheme='iob1' (on the command line "
        "--tag-scheme iob1).",
    )


def _place(record: Record, place: int) -> str:
    words: Any = record.text
    return f"{record.where}, word {place + 1} ({words[place]!r:.30})"
