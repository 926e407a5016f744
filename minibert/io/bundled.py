"""What ships with the project: two small models and the table of official checkpoints.

The folder `weights/` lies at the top of a clone, beside the package, and in a wheel inside it
(pyproject.toml puts it there), so it is looked for in both places, the package first.
"""

from __future__ import annotations

from pathlib import Path

from minibert.io.errors import CheckpointError

MODEL = "minibert-small"
MODELS = (MODEL, "minibert-sentiment")
TABLE = "official.toml"
_PACKAGE = Path(__file__).parents[1]
PLACES = (_PACKAGE / "weights", _PACKAGE.parent / "weights")


def bundled(name: str = MODEL) -> Path:
    """The folder of a model that ships with the project.

    Raises:
        CheckpointError: it is in neither of the places.
    """
    return _find(f"{name}/config.json", "--model names another model.").parent


def official_table() -> Path:
    """The file with the table of official checkpoints that minibert is tested for.

    Raises:
        CheckpointError: it is in neither of the places.
    """
    return _find(TABLE, "Install minibert whole, from a clone or a wheel.")


def _find(name: str, hint: str) -> Path:
    wanted = [place / name for place in PLACES]
    for path in wanted:
        if path.is_file():
            return path
    raise CheckpointError(
        f"A part of minibert is missing: neither {' nor '.join(map(str, wanted))} exists.",
        path=wanted[-1],
        key=name,
        hint=hint,
    )
