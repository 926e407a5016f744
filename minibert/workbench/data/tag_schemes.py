"""Tag schemes: how the tags of words spell entities, checked and converted to one form, IOB2.

IOB2: B-X begins an entity of type X, I-X continues it, O is outside any. IOB1 (CoNLL-2003's own
files): I-X begins one too, and B-X occurs only right after another entity of its type. IO: the type
alone, X, and O. BIOES and BILOU also mark the last word (E, L) and the only one (S, U), BMES one in
the middle (M). All are read in other spellings too: B_X, X-B, b-X, and B without a type. Tags of
other kinds, such as parts of speech, are left as they are.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from minibert.io.errors import ConfigError, DataError
from minibert.workbench.data.records import Record

TAG_SCHEMES = ("iob1", "iob2", "io", "none")

_IOB = re.compile(r"O$|[BI]-.")
_OUTSIDE = ("O", "o")
_SPELLINGS = (
    re.compile(r"(?P<part>[BIESLUM])[-_:/.](?P<type>.+)", re.IGNORECASE),
    re.compile(r"(?P<type>.+)[-_:/.](?P<part>[BIESLUM])", re.IGNORECASE),
    re.compile(r"(?P<part>[BIESLUM])(?P<type>)", re.IGNORECASE),
)
_PARTS = dict(zip("BSUIELM", "BBBIIII", strict=True))
_WITHOUT_TYPE = "ENTITY"


class _Spelling(NamedTuple):
    """How tags are spelt.

    Attributes:
        iob: each tag as O, B-X or I-X; a tag that is not here is of another kind.
        bare: whether types stand alone, so that an I-X that continues nothing begins an entity.
    """

    iob: dict[str, str]
    bare: bool = False


def is_iob_tag(tag: str) -> bool:
    return bool(_IOB.match(tag))


def is_iob(tags: Collection[str]) -> bool:
    """Whether tags, such as the label names of a corpus, spell entities."""
    return all(map(is_iob_tag, tags)) and any(tag[:2] in ("B-", "I-") for tag in tags)


def in_iob2(records: Sequence[Record], scheme: str | None, known: Sequence[str] | None = None) -> list[Record]:
    """Tagged sentences with their tags in IOB2; other records, and other tags, as they are.

    Args:
        scheme: one of TAG_SCHEMES, which every tag has to follow; with "none" tags stay as they
            are. By default it is told by the tags, with a warning where they are not IOB2.
        known: the tags of a model; where it knows every tag, they stay as they are.

    Raises:
        DataError: a tag is of another scheme, or an I-X continues nothing.
        ConfigError: the scheme is "none", and the tags are IOB2.
    """
    tags = {tag for record in records if _is_tagged(record) for tag in record.label if isinstance(tag, str)}
    if scheme == "none" and is_iob(tags):
        raise ConfigError(
            f"The tags of {_file(records)} spell entities, and tag_scheme is 'none'.",
            key="tag_scheme",
            hint="Leave it out.",
        )
    if scheme == "none" or not tags - {"O"} or (not is_iob(tags) and tags <= {*(known or ())}):
        return list(records)
    spelling = _spelling_of(tags, scheme)
    if spelling is None and "O" in tags:
        warnings.warn(
            f"{_file(records)}: each word is scored by itself, as for parts of speech; entities are tagged B-PER, "
            "I-PER, O (IOB2), or PER, O (--tag-scheme io)",
            stacklevel=3,
        )
    if spelling is None:
        return list(records)
    _report(_file(records), spelling, scheme)
    return [_in_iob2(record, scheme, spelling) if _is_tagged(record) else record for record in records]


def both_tags_of_each_type(names: Sequence[str]) -> list[str]:
    """Names with B-X and I-X for every type X in them: training data may lack one of the two."""
    types = {name[2:] for name in names if name[:2] in ("B-", "I-")}
    return sorted({*names, *(f"{begin}-{kind}" for kind in types for begin in "BI")})


def _is_tagged(record: Record) -> bool:
    return isinstance(record.text, tuple) and bool(record.label)


def _spelling_of(tags: set[str], scheme: str | None) -> _Spelling | None:
    """How tags spell entities; None if they do not, though one may happen to look like it."""
    outside = {tag: "O" for tag in tags if tag in _OUTSIDE}
    spelt = sorted(tags - outside.keys())
    for pattern in _SPELLINGS:
        found = {tag: match for tag in spelt if (match := pattern.fullmatch(tag))}
        of_entities = any(match["part"].upper() in "BI" for match in found.values())
        typed = any(match["type"] for match in found.values())
        if len(found) == len(spelt) and (outside or of_entities if typed else outside and of_entities):
            parts = {
                tag: f"{_PARTS[match['part'].upper()]}-{match['type'] or _WITHOUT_TYPE}" for tag, match in found.items()
            }
            return _Spelling({**outside, **parts})
    iob = {tag: tag for tag in spelt if is_iob_tag(tag)}
    if scheme in ("iob1", "iob2") or 2 * len(iob) > len(spelt):
        return _Spelling({**outside, **iob})
    if scheme == "io" or (outside and not iob and all(len(tag) > 1 for tag in spelt)):
        return _Spelling({**outside, **{tag: f"I-{tag}" for tag in spelt}}, bare=True)
    return None


def _report(file: str, spelling: _Spelling, scheme: str | None) -> None:
    """One line where tags that are not IOB2 are read as if they were."""
    other = [tag for tag, iob in spelling.iob.items() if tag != iob and tag not in _OUTSIDE]
    if other and scheme != "io":
        kind = spelling.iob[other[0]][2:]
        escape = "; --tag-scheme none scores each word by itself" if spelling.bare else ""
        warnings.warn(
            f"{file}: tags such as {other[0]} are read as entities (B-{kind} and I-{kind} in IOB2){escape}",
            stacklevel=4,
        )


def _in_iob2(record: Record, scheme: str | None, spelling: _Spelling) -> Record:
    begins = spelling.bare or scheme in ("iob1", "io")
    tags: list[str] = []
    for place, spelt in enumerate(record.label):
        tag = spelling.iob.get(spelt)
        if tag is None:
            raise _foreign_tag(record, place, spelt)
        before = tags[-1] if tags else "O"
        continues = (f"B-{tag[2:]}", f"I-{tag[2:]}")
        if tag[:2] == "I-" and before not in continues:
            if not begins:
                raise DataError(
                    f"{_place(record, place)} has the tag {spelt}, but {before} comes before it: "
                    f"{tag} can only follow {' or '.join(continues)}.",
                    key=record.where,
                    hint="Are the tags IOB1, as in CoNLL-2003? Then say tag_scheme='iob1' (on the "
                    "command line --tag-scheme iob1).",
                )
            tag = f"B-{tag[2:]}"
        tags.append(tag)
    changed = any(spelt != iob for spelt, iob in spelling.iob.items())  # then stored names are, too
    return record._replace(label=tuple(tags), names=None if changed else record.names)


def _foreign_tag(record: Record, place: int, tag: str) -> DataError:
    return DataError(
        f"{_place(record, place)} has the tag {tag!r:.50}, which is not O, B-X or I-X.",
        key=record.where,
        hint="Are the tags types alone, such as PER and O? Then say tag_scheme='io' (on the command line "
        "--tag-scheme io).",
    )


def _place(record: Record, place: int) -> str:
    words: Any = record.text
    return f"{record.where}, word {place + 1} ({words[place]!r:.30})"


def _file(records: Sequence[Record]) -> str:
    return next(record.where.rpartition(":")[0] for record in records if _is_tagged(record))
