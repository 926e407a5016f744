"""Two ranks for a test: processes started by hand, with the variables that torchrun sets."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch

PATIENCE = 120  # seconds after which two ranks count as hanging

# Forked from a process that has imported all and run nothing: no threads of the tests are in them.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.lesson.test_loop", "minibert.workbench.cli"])


def start(work: Callable[..., Any], *arguments: Any, size: int = 2) -> list[Any]:
    """Processes that call `work(rank, *arguments)`; an error ends one with code 1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        CONTEXT.Process(target=_be_a_rank, args=(rank, size, port, work, arguments), daemon=True)
        for rank in range(size)
    ]
    for process in started:
        process.start()
    return started


def run(work: Callable[..., Any], *arguments: Any, size: int = 2) -> list[int]:
    """The exit codes of ranks that ended by themselves."""
    return codes(start(work, *arguments, size=size))


def codes(started: list[Any]) -> list[int]:
    """Waits for ranks and kills those that hang, which have no exit code then."""
    for process in started:
        process.join(PATIENCE)
    found = [process.exitcode for process in started]
    for process in started:
        process.kill()
        process.join()
    return found


def _be_a_rank(rank: int, size: int, port: int, work: Callable[..., Any], arguments: Any) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    work(rank, *arguments)
