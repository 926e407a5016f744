"""What a check found, in sentences."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, repr=False)
class Verdict:
    """What a check found; in a notebook it shows its text.

    Attributes:
        right: whether everything holds.
        text: what is wrong, in sentences.
        mistakes: the known mistakes that together give the numbers; several entries mean that each of them does.
    """

    right: bool
    text: str
    mistakes: tuple[tuple[str, ...], ...] = ()

    def __repr__(self) -> str:
        return self.text


def traceback_of(error: Exception) -> str:
    """Where in the reader's own code an error arose, and what it says."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent != HERE]
    while len(frames) > 1 and {"site-packages", "dist-packages"} & {*Path(frames[-1].filename).parts}:
        frames.pop()  # the reader's line that called a library says more than the library's
    return "".join([*traceback.format_list(frames), *traceback.format_exception_only(error)]).rstrip()
