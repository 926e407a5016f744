"""The errors of minibert: one family, with fields for programs and one sentence for people."""

from __future__ import annotations

from pathlib import Path

_LONGEST = 20_000  # characters of a message


class MinibertError(Exception):
    """Something is wrong with what was handed in: a file, a setting, a batch.

    Args:
        message: one sentence that names the file, the key and the numbers that disagree.
        path: the file or folder at fault.
        key: the tensor, column, setting or line at fault.
        hint: what to do about it, one sentence.

    `str(error)` is the message followed by the hint, with control characters escaped, since keys
    come from files, and cut if it is very long.
    """

    exit_code = 2

    def __init__(
        self, message: str, *, path: str | Path | None = None, key: str | None = None, hint: str | None = None
    ):
        self.path = Path(path) if path is not None else None
        self.key = key
        self.hint = hint
        text = _for_a_terminal(message)
        super().__init__(text if hint is None else f"{text} {_for_a_terminal(hint)}")


class ConfigError(MinibertError):
    """A setting or a `config.json` that no model can be built from."""


class CheckpointError(MinibertError):
    """Model files that are missing, damaged, of the wrong kind, or that do not fit the model."""


class HubError(MinibertError):
    """A download from the Hub that failed; the input was right, so the exit code is 1."""

    exit_code = 1


class DataError(MinibertError):
    """A data file, a column, a label or a text that cannot be used."""


class TokenizerError(MinibertError):
    """A vocabulary or tokenizer file that is missing, damaged, or does not fit the model."""


class InputError(MinibertError, ValueError):
    """Tensors handed to a model that do not fit it: shapes, ids out of range, labels at padding."""


class TrainingError(MinibertError):
    """A run that cannot start or continue, such as one whose loss is no longer finite."""


class LostRankError(TrainingError):
    """One of several processes that train together has ended; the exit code is 1."""

    exit_code = 1


class DiskError(MinibertError):
    """A write that failed: a full disk, a folder without permission. The exit code is 1."""

    exit_code = 1


def _for_a_terminal(text: str) -> str:
    """The text on one line, which can be printed anywhere and steers no terminal."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} ... (and {len(text) - _LONGEST} more characters)"
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )
