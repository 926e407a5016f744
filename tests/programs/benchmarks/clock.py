"""Time: how long the work took, and how busy other processes kept the machine meanwhile."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Self

IDLE = 0.05  # processors in use by others: what a machine that does nothing else still does

_STAT = Path("/proc/stat")


class Stopwatch:
    """Adds up the time between start and stop.

    Args:
        clock: "wall", or "cpu": the time that all threads of this process spent on a processor,
            which other processes cannot lengthen much.
    """

    def __init__(self, clock: str):
        self.clock = clock
        self.seconds = 0.0
        self._read = {"wall": time.perf_counter, "cpu": time.process_time}[clock]

    def start(self) -> None:
        self._started = self._read()

    def stop(self) -> None:
        self.seconds += self._read() - self._started

    def add(self, seconds: float) -> None:
        """Adds what was measured elsewhere, in a process of its own."""
        self.seconds += seconds

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


class Neighbours:
    """How many processors the other processes keep busy, from now on."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._all = _busy_seconds()
        self._own = _own_seconds()

    def busy(self) -> float | None:
        """Processors in use by others on average; None where the system does not tell."""
        if self._all is None:
            return None
        others = (_busy_seconds() - self._all) - (_own_seconds() - self._own)
        return max(0.0, others / (time.perf_counter() - self._started))


def is_idle(seconds: float = 2.0) -> bool:
    """Whether, over so long a look, the other processes leave this machine alone."""
    neighbours = Neighbours()
    time.sleep(seconds)
    busy = neighbours.busy()
    return busy is not None and busy < IDLE


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _busy_seconds() -> float | None:
    """What all processors have spent on anything but idling and waiting for disks."""
    if not _STAT.exists():
        return None
    user, nice, system, _idle, _wait, *interrupts_and_stolen = _STAT.read_text().split("\n")[0].split()[1:9]
    ticks = sum(map(int, (user, nice, system, *interrupts_and_stolen)))
    return ticks / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system
