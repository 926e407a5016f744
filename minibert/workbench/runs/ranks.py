"""Several processes that train one model: which one this is, and how it talks to the others.

`torchrun --nproc-per-node N -m minibert train ...` starts N processes, called ranks, which all run
the same program (see `together.py`). A process alone is rank 0 of 1: every method then returns at
once, and there is no process group.

Ranks exchange tensors and JSON over gloo, and gradients on GPUs over NCCL.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from minibert.io.errors import ConfigError, LostRankError
from minibert.io.seeds import mixed_seed

# A rank that is silent for so long counts as lost. One that ends is noticed at once.
TIMEOUT = timedelta(minutes=10)
ROLL_CALL = 3.0  # seconds that ranks have to answer when one of them is missing


@dataclass(frozen=True)
class Ranks:
    """Which of the processes this is, and how it talks to the others.

    Every method but `seed` has to be called by all ranks, in the same order.

    Attributes:
        rank: its number, from 0. The first one writes and prints.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """A different seed for the dropout of each rank; the first one keeps `seed` itself."""
        return seed if self.is_first else mixed_seed(seed, "rank", self.rank)

    def add(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The sums over all ranks; each passes the same names."""
        if self.size == 1:
            return dict(sums)
        names = sorted(sums)
        total = torch.tensor([sums[name] for name in names], dtype=torch.float64)
        dist.all_reduce(total)
        return dict(zip(names, total.tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""
        return self.add({"flag": float(flag)})["flag"] > 0

    def gather(self, values: Tensor) -> list[Tensor]:
        """A vector on the CPU, of any length, from every rank."""
        if self.size == 1:
            return [values]
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(values)]))
        longest = max(int(length) for length in lengths)
        padded = torch.zeros(longest, dtype=values.dtype)
        padded[: len(values)] = values
        found = [torch.zeros_like(padded) for _ in range(self.size)]
        dist.all_gather(found, padded)
        return [part[: int(length)] for part, length in zip(found, lengths, strict=True)]

    def gather_json(self, value: Any) -> list[Any]:
        """A JSON value from every rank."""
        if self.size == 1:
            return [value]
        text = json.dumps(value).encode()
        written = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        return [json.loads(bytes(part.tolist())) for part in self.gather(written)]

    def gather_rows(self, rows: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """The numbered fp32 tensors of all ranks, of any shape."""
        if self.size == 1:
            return dict(rows)
        shapes = self.gather_json([[number, *row.shape] for number, row in rows.items()])
        values = self.gather(torch.cat([torch.zeros(0), *(row.flatten() for row in rows.values())]))
        found: dict[int, Tensor] = {}
        for shapes_there, values_there in zip(shapes, values, strict=True):
            sizes = [torch.Size(shape).numel() for _, *shape in shapes_there]
            parts = values_there.split(sizes)
            for (number, *shape), part in zip(shapes_there, parts, strict=True):
                found[number] = part.view(shape)
        return found

    def wait(self) -> None:
        """Returns once all ranks have called it."""
        self.add({"here": 1.0})


ALONE = Ranks()


def launched() -> Ranks:
    """Which of torchrun's processes this is, from the environment alone."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return ALONE
    return Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


@contextlib.contextmanager
def joined(device: str = "auto") -> Iterator[Ranks]:
    """Joins the processes that torchrun started; a process without others is alone.

    No rank leaves before all are done. If one fails, all end: the first to fail raises its error,
    and the others, which notice when they next need it, end silently.

    Args:
        device: "cpu" keeps ranks off the GPUs; otherwise each takes the GPU of its number, if
            there are GPUs at all.

    Raises:
        ConfigError: there are fewer GPUs than ranks, or the device cannot be shared.
        LostRankError: a rank was lost.
        SystemExit: another rank failed and has reported why; with its exit code, or 1.
    """
    ranks = launched()
    if ranks.size == 1:
        yield ALONE
        return
    meeting = _Meeting(ranks)
    try:
        _take_device(device)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            store=meeting.store,
            rank=ranks.rank,
            world_size=ranks.size,
            timeout=TIMEOUT,
        )
        yield ranks
        ranks.wait()
    except Exception as error:
        reported = meeting.is_reported()
        _leave()  # closes the connections, so that others stop waiting for this rank
        missing = meeting.roll_call()
        if reported:
            raise SystemExit(getattr(error, "exit_code", 1)) from error
        if not _is_of_a_connection(error):
            raise
        who = f"rank {', '.join(map(str, missing))}" if missing else "one rank"
        raise LostRankError(
            f"The run lost {who}, which ended or no longer answers, so all its processes end.",
            key="rank",
            hint="Look at its own messages, and whether the machine ran out of memory.",
        ) from error
    finally:
        _leave()


class _Meeting:
    """The store in which failing ranks leave a note even if they can no longer talk."""

    numbers = itertools.count()  # a process may train several times, each time with its own notes

    def __init__(self, ranks: Ranks):
        self.ranks = ranks
        self.store = dist.PrefixStore(f"training {next(self.numbers)}", _store())

    def is_reported(self) -> bool:
        """Whether another rank reports the failure. If not, this one has to."""
        try:
            return self.store.add("reported", 1) > 1
        except RuntimeError:  # the store is gone, and with it the first rank, which held it
            return False

    def roll_call(self) -> list[int]:
        """The ranks that do not answer within a moment; all notice a loss at the same time."""
        missing = [rank for rank in range(self.ranks.size) if rank != self.ranks.rank]
        deadline = time.monotonic() + ROLL_CALL
        with contextlib.suppress(RuntimeError):
            self.store.set(f"here {self.ranks.rank}", "")
            while missing and time.monotonic() < deadline:
                time.sleep(0.05)
                missing = [rank for rank in missing if not self.store.check([f"here {rank}"])]
            return missing
        return [0]


@functools.cache
def _store() -> dist.Store:
    """The store that torchrun, or otherwise the first rank, holds for all."""
    return next(dist.rendezvous("env://", timeout=TIMEOUT))[0]


def _take_device(device: str) -> None:
    if device == "mps" or device.startswith("cuda:"):
        raise ConfigError(f"Several processes cannot share the device {device}.", key="device")
    if device == "cpu" or not torch.cuda.is_available():
        return
    number, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= gpus:
        raise ConfigError(
            f"There are more processes than GPUs: process {number + 1} of this machine has none.",
            key="device",
            hint=f"Start torchrun with --nproc-per-node {gpus}, or say --device cpu.",
        )
    torch.cuda.set_device(number)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _is_of_a_connection(error: Exception) -> bool:
    """Whether an error comes from the communication between ranks, not from this rank's work."""
    told = str(error).lower() if type(error) is RuntimeError else ""
    words = ("gloo", "nccl", "connection", "timed out")
    return isinstance(error, dist.DistError) or any(word in told for word in words)
