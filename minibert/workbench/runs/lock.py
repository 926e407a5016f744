"""The lock of a run folder: one process writes to it at a time.

The lock is the operating system's, so it ends with its process, however that ends. A file beside it
says who holds it, for people.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from minibert.io.errors import DiskError, TrainingError

LOCK, HOLDER = "run.lock", "run.lock.json"
_PATIENCE = 0.2  # seconds; a process that is just releasing the lock needs a moment


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a run folder. Both files are removed afterwards.

    A lock that a dead process left behind is taken over with a warning.

    Raises:
        TrainingError: a living process holds it; names its pid and host.
        DiskError: the folder cannot be written to.
    """
    lock = FileLock(folder / LOCK, timeout=_PATIENCE)
    holder = folder / HOLDER
    try:
        lock.acquire()
        if holder.exists():
            warnings.warn(
                f"{folder} was in use by a process that has died ({_who(holder)}); its lock is taken over.",
                stacklevel=4,
            )
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "started": time.strftime("%Y-%m-%d %H:%M:%S")}
        holder.write_text(json.dumps(facts), encoding="utf-8")
    except Timeout:
        raise _in_use(folder) from None
    except OSError as error:
        lock.release()
        raise DiskError(
            f"{folder} could not be locked: {error.strerror}.", path=folder, hint="Check the permissions of the folder."
        ) from error
    try:
        yield
    finally:
        for path in (holder, folder / LOCK):  # while it is held, so that nobody else has it
            with contextlib.suppress(OSError):
                path.unlink()
        lock.release()


def require_unlocked(folder: Path) -> None:
    """Raises TrainingError if a living process holds the lock of a folder."""
    if (folder / LOCK).exists():
        try:
            with FileLock(folder / LOCK, timeout=_PATIENCE):
                pass
        except Timeout:
            raise _in_use(folder) from None


def _in_use(folder: Path) -> TrainingError:
    for _ in range(100):  # it may be about to write its name
        if (folder / HOLDER).exists():
            break
        time.sleep(0.01)
    return TrainingError(
        f"{folder} is in use by another process ({_who(folder / HOLDER)}).",
        path=folder,
        key="output",
        hint="Wait for it to end, or choose another --output.",
    )


def _who(holder: Path) -> str:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        facts = json.loads(holder.read_text(encoding="utf-8"))
        return f"pid {facts['pid']} on {facts['host']}, since {facts['started']}"
    return "unknown"
