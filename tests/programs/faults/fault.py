"""What a planted fault is, and a short way to write several for one part of the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Fault:
    """One mistake: each old text becomes the new one, then the tests must fail.

    Attributes:
        name: what is wrong.
        where: a file or folder of the package; one file in it holds the first old text.
        edits: pairs of an old text and the new one, applied in order.
        tests: the test file that must fail.
    """

    name: str
    where: str
    edits: tuple[tuple[str, str], ...]
    tests: str

    def file(self, root: Path = ROOT) -> Path:
        """The file that the fault changes.

        Raises:
            LookupError: no file holds all old texts, or several do.
        """
        place = root / "minibert" / self.where
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        found = [path for path in files if self.planted(path.read_text(encoding="utf-8"))]
        if len(found) != 1:
            raise LookupError(f"{self.name}: {len(found)} files in {self.where} hold its text")
        return found[0]

    def planted(self, text: str) -> str | None:
        """The text with the mistake; None where an old text is missing."""
        for old, new in self.edits:
            if old not in text:
                return None
            text = text.replace(old, new)
        return text


def faults(where: str, tests: str, *rows: tuple[str, str, str]) -> list[Fault]:
    """Faults of one part that one test file must see; each row is (name, old text, new text)."""
    file = f"tests/{tests}.py"
    return [Fault(name, where, ((old, new),), file) for name, old, new in rows]


def swap(where: str, tests: str, name: str, one: str, other: str) -> Fault:
    """Two texts that take each other's place."""
    edits = ((one, "\0"), (other, one), ("\0", other))
    return Fault(name, where, edits, f"tests/{tests}.py")
