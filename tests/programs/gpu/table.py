"""What a section yields, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch


@dataclass(frozen=True)
class Setting:
    """Where the checks run, and where they may write."""

    device: torch.device
    folder: Path

    @property
    def tiny(self) -> bool:
        """Whether only the code is to be run through: the numbers of a CPU mean nothing."""
        return self.device.type == "cpu"

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


@dataclass(frozen=True)
class Row:
    """One number of the table.

    Attributes:
        bound: what the number is held to, and what else there is to say.
        holds: whether the number is within its bound or reaches its goal; without either it is None.
        numbers: more numbers, for the file.
    """

    name: str
    value: float | str
    bound: str = ""
    holds: bool | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    section: str = ""
    seconds: float = 0.0
    traceback: str = ""


Check = tuple[str, Callable[[], Sequence[Row]]]
Checks = Callable[[Setting], Iterator[Check]]


def at_most(name: str, value: float, bound: float) -> Row:
    return Row(name, value, f"<= {bound:g}", value <= bound)


def line(row: Row) -> str:
    verdict = {None: "", True: "ok", False: "NO"}[row.holds]
    value = row.value if isinstance(row.value, str) else f"{row.value:.4g}"
    return f"{verdict:<3}{row.section:<10}{row.name:<56}{value:>9}  {row.bound}".rstrip()
