"""The lock of a run folder: one process writes to it at a time.

The lock is the kernel's (flock), so it goes with its process however that ends. The file says who
holds it, for people. On network disks flock may not reach other machines.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from minibert.io.errors import DiskError, TrainingError

NAME = "run.lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a run folder; the file is gone afterwards.

    A file that a dead process left is taken over, with a warning.

    Raises:
        TrainingError: a living process holds it, named by pid and host.
        DiskError: the folder cannot be written to.
    """
    path = folder / NAME
    handle = _take(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while it is held: nobody else can have it
        os.close(handle)


def require_unlocked(folder: Path) -> None:
    """Raises TrainingError if a living process holds the lock of a folder."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        handle = os.open(folder / NAME, os.O_RDWR)
        try:
            if not _flock(handle):
                raise _in_use(folder / NAME)
        finally:
            os.close(handle)


def _take(path: Path) -> int:
    try:
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            if not _flock(handle):
                os.close(handle)
                raise _in_use(path)
            # Whoever held the lock may have removed the file between the two lines above; this
            # lock would then be one of a file that nobody else can see.
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(handle).st_ino == path.stat().st_ino:
                    break
            os.close(handle)
        before = os.pread(handle, 1000, 0)
        if before:
            warnings.warn(
                f"{path} was left by a process that is no more ({_who(before)}); it is taken over.",
                stacklevel=4,
            )
        facts = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(facts).encode(), 0)
        return handle
    except OSError as error:
        raise DiskError(
            f"{path} could not be locked: {error.strerror}.",
            path=path,
            hint="Check the permissions of the folder.",
        ) from error


def _flock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _in_use(path: Path) -> TrainingError:
    holder = ""
    for _ in range(100):  # it may be about to write its name
        with contextlib.suppress(OSError):
            holder = path.read_text(encoding="utf-8", errors="replace")
        if holder:
            break
        time.sleep(0.01)
    return TrainingError(
        f"{path.parent} is in use by another process ({_who(holder.encode())}).",
        path=path.parent,
        key="output",
        hint="Wait for it to end, or choose another --output.",
    )


def _who(content: bytes) -> str:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        facts = json.loads(content)
        return f"pid {facts['pid']} on {facts['host']}, since {facts['started']}"
    return "which did not say who it is"
