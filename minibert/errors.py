"""The errors of minibert: one family, with fields for programs and one sentence for people."""

from __future__ import annotations

from pathlib import Path


class MinibertError(Exception):
    """Something is wrong with what was handed in: a file, a setting, a batch.

    Args:
        message: one sentence that names the file, the key and the numbers that disagree.
        path: the file or folder at fault.
        key: the tensor, column, setting or line at fault.
        expected: what should have been there.
        found: what was there.
        hint: what to do about it, one sentence.

    `str(error)` is the message followed by the hint.
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        path: str | Path | None = None,
        key: str | None = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ):
        self.path = Path(path) if path is not None else None
        self.key = key
        self.expected = expected
        self.found = found
        self.hint = hint
        super().__init__(message if hint is None else f"{message} {hint}")


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
    """A run that cannot start or go on, such as a loss that is no longer finite."""


class DiskError(MinibertError):
    """A write that failed: a full disk, a folder without permission. The exit code is 1."""

    exit_code = 1
