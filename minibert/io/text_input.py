"""Texts as they come in: what is refused or warned of, by row, and how many go at a time."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from minibert.io.errors import ConfigError, DataError, InputError, TokenizerError
from minibert.io.files import half_a_pair

# Longer texts are refused. Truncation comes after the whole text is tokenised, and a million
# characters take seconds and, in Chinese, a gigabyte.
MOST_CHARACTERS = 1_000_000

# What is tokenised at a time: so many texts, or as many as have so many characters. All pieces of
# a chunk, those that truncation removes included, are in memory together.
_CHUNK = 1000
_CHUNK_CHARACTERS = 1_000_000


def as_lists(texts: Any, pairs: Any, words: bool) -> list[list[Any]]:
    """The texts, and the second texts if there are any; one text alone is a batch of one.

    Raises:
        DataError: there are not as many second texts as texts.
    """
    if pairs is None:
        return [_as_list(texts, words)]
    first, second = _as_list(texts, words), _as_list(pairs, words)
    if len(first) != len(second):
        raise DataError(f"There are {len(first)} texts and {len(second)} second texts.", key="pairs")
    return [first, second]


def _as_list(texts: Any, words: bool) -> list[Any]:
    if isinstance(texts, (str, bytes, Mapping)):
        return [texts]
    try:
        rows = list(texts)
    except TypeError:  # a number, None, an array without axes
        return [texts]
    return [rows] if words and rows and isinstance(rows[0], str) else rows


def check_text(row: int, text: Any, *, words: bool = False, most: int | None = MOST_CHARACTERS) -> None:
    """Refuses what cannot be tokenised, naming its row.

    Raises:
        DataError: it is not a string (with `words`: a sequence of strings), or it has more than
            `most` characters, or half of a surrogate pair, which JSON can spell and which is not a
            character.
    """
    if words:
        right = isinstance(text, (list, tuple)) and all(isinstance(word, str) for word in text)
    else:
        right = isinstance(text, str)
    hint = None
    whole = (" ".join(text) if words else text) if right else ""
    if not right:
        fault = f"is not a {'sequence of words' if words else 'string'} but {text!r:.50} ({type(text).__name__})"
    elif most is not None and len(whole) > most:
        fault = f"has {len(whole)} characters, and a text may have {most}"
        hint = "Split it into several texts, or keep only its beginning."
    elif (place := half_a_pair(whole)) is not None:
        fault = f"has half of a surrogate pair (U+{ord(whole[place]):04X}) at character {place}, which is not text"
        hint = "Decode the source with errors='replace'."
    else:
        return
    raise DataError(f"Row {row} {fault}.", key=str(row), hint=hint)


@contextlib.contextmanager
def library_errors(source: str | Path) -> Iterator[None]:
    """Makes a TokenizerError of what goes wrong inside `tokenizers`, a panic in Rust included."""
    try:
        yield
    except BaseException as problem:
        # A panic is a BaseException of a class that cannot be imported.
        panic = type(problem).__name__ == "PanicException"
        if isinstance(problem, TokenizerError) or not (panic or isinstance(problem, Exception)):
            raise
        raise TokenizerError(
            f"{source} is more than the library tokenizers can take: {str(problem)!r:.200}.", path=source
        ) from problem


def warn_of_cuts(cuts: Sequence[int], limit: int, *, stacklevel: int) -> None:
    """One warning for all texts that lost tokens; `cuts` says how many each of them lost."""
    number = sum(cut > 0 for cut in cuts)
    if number:
        warnings.warn(
            f"{number} of {len(cuts)} texts had more than {limit} tokens and were cut ({sum(cuts)} tokens lost).",
            stacklevel=stacklevel + 1,
        )


def warn_of_lost_tags(lost: int, tags: Sequence[Sequence[int] | None], *, stacklevel: int) -> None:
    """One warning for all word tags whose word has no piece in its row."""
    if lost:
        warnings.warn(
            f"{lost} of {sum(len(of_one or ()) for of_one in tags)} word tags have no piece to "
            "carry them and do not count: their words were cut off, or cleaning left nothing of "
            "them.",
            stacklevel=stacklevel + 1,
        )


def check_padding(padding: object, pad_to_multiple_of: int) -> None:
    """Refuses ways of padding that do not exist."""
    check_choice("padding", padding, ("longest", "max_length"))
    if pad_to_multiple_of < 1:
        raise ConfigError(
            f"pad_to_multiple_of is {pad_to_multiple_of}, but it must be 1 or more.", key="pad_to_multiple_of"
        )


def check_choice(name: str, value: object, choices: tuple[str, str]) -> None:
    """Refuses a value that is neither of two."""
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}, but must be {choices[0]!r} or {choices[1]!r}.", key=name)


def checked_ids(ids: Iterable[Any]) -> list[int]:
    """Ids, of a list or a tensor, as integers that the library can take."""
    numbers = [int(number) for number in ids]
    for number in numbers:
        if not 0 <= number < 2**32:
            raise InputError(f"{number} is not the id of a piece.", key="input_ids")
    return numbers


def texts_and_pairs(texts: Sequence[tuple[str, ...]], first_row: int) -> list[tuple[str, ...]]:
    """From one text or two for each row: all first texts, and all second texts if there are any.

    Raises:
        DataError: some rows have a second text and some have not.
    """
    for row, one_or_two in enumerate(texts, start=first_row):
        if len(one_or_two) != len(texts[0]):
            raise DataError(
                f"Row {row} has {'no' if len(one_or_two) == 1 else 'a'} second text, unlike the rows before it.",
                key=str(row),
            )
    return list(zip(*texts, strict=True))


def chunks(rows: Sequence[Any], *, unit: str = "text", progress: bool = False) -> Iterator[tuple[int, Sequence[Any]]]:
    """Parts of `rows` to tokenise at a time, each with the number of its first row.

    With `progress`, a bar on standard error, if that is a terminal, counts the rows done.
    """
    hidden = None if progress else True
    with tqdm(total=len(rows), desc="tokenising", unit=unit, disable=hidden) as bar:
        start = characters = 0
        for row, example in enumerate(rows):
            size = len(repr(example))  # roughly how much text it holds
            if row - start == _CHUNK or (row > start and characters + size > _CHUNK_CHARACTERS):
                yield start, rows[start:row]
                bar.update(row - start)
                start, characters = row, 0
            characters += size
        yield start, rows[start:]
        bar.update(len(rows) - start)
