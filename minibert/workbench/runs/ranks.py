"""Several processes that train one model: which one this is, and what the others say.

`torchrun --nproc-per-node N -m minibert train ...` starts N processes, called ranks, that all run
the same program. Each holds the whole model and the whole plan of batches, and takes its share of
the rows of every batch; DistributedDataParallel adds the gradients up (Li et al. 2020, section 3).
One process alone is rank 0 of 1: there every method does nothing, and no process group exists.

What ranks tell each other travels as tensors and JSON, over gloo; gradients on GPUs over NCCL.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from minibert.io.errors import ConfigError, LostRankError

# A rank that says nothing for so long counts as lost. One that ends is noticed at once.
TIMEOUT = timedelta(minutes=10)
ROLL_CALL = 3.0  # seconds that ranks have to answer when one of them is missed


@dataclass(frozen=True)
class Ranks:
    """Which of the processes this is, and how it speaks with the others.

    Every method but `share` and `seed` has to be called by all ranks, in the same order.

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
        """A seed of this rank's own, for its dropout. That of the first is `seed` itself."""
        if self.is_first:
            return seed
        digest = hashlib.sha256(f"{seed} rank {self.rank}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def replicate(self, model: Any) -> Any:
        """The model to train: called as before, its last backward pass averages the gradients.

        Alone it is the model itself.
        """
        if self.size == 1:
            return model
        # After its first backward pass DistributedDataParallel puts gradients into another order,
        # unless it looks for unused parameters. A sum of three numbers or more has other last bits
        # in another order, so that a run that was stopped would not be that of one in one go.
        keeps_order = self.size > 2
        if keeps_order:
            warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
        return _Replica(model, find_unused_parameters=keeps_order)

    def share(self, inputs: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
        """This rank's rows of a batch, every `size`-th one, and what they count: 1.

        Batches are sorted by length, so the shares have about equally many tokens. A batch of fewer
        rows than ranks leaves some without any: they run its first row and count it 0, since a
        backward pass waits for all ranks.
        """
        if self.size == 1:
            return inputs, 1
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        rows = len(next(iter(tensors.values())))
        mine = slice(self.rank, None, self.size) if self.rank < rows else slice(0, 1)
        return {**inputs, **{name: value[mine] for name, value in tensors.items()}}, int(
            self.rank < rows
        )

    def keep_gradients(self, model: Any, until_last: bool) -> contextlib.AbstractContextManager:
        """Around a forward and backward pass whose gradients are not yet those of all batches."""
        if self.size == 1 or until_last:
            return contextlib.nullcontext()
        return model.no_sync()

    def add(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The sums of all ranks; each hands in the same names."""
        if self.size == 1:
            return dict(sums)
        names = sorted(sums)
        total = torch.tensor([sums[name] for name in names], dtype=torch.float64)
        dist.all_reduce(total)
        return dict(zip(names, total.tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether any rank says yes."""
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
        """A value that JSON can write, from every rank."""
        if self.size == 1:
            return [value]
        text = json.dumps(value).encode()
        written = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        return [json.loads(bytes(part.tolist())) for part in self.gather(written)]

    def gather_rows(self, rows: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """The numbered fp32 tensors of all ranks, which may have any shapes."""
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
        """Goes on when all ranks are here."""
        self.add({"here": 1.0})


ALONE = Ranks()


class _Replica(DistributedDataParallel):
    """A model whose copies on all ranks get the same gradients, with the loop's own contract."""

    def count_labels(self, inputs: Mapping[str, Any]) -> Any:
        return self.module.count_labels(inputs)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        return self.module.named_parameters(*args, **kwargs)


def launched() -> Ranks:
    """Which process this is of those that torchrun started, from the environment alone."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return ALONE
    return Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


@contextlib.contextmanager
def joined(device: str = "auto") -> Iterator[Ranks]:
    """Joins the processes that torchrun started; a process without others is alone.

    No rank leaves before all are done. If one fails, all end: the first to fail raises its error,
    the others, who learn of it when they next need it, end without a word.

    Args:
        device: "cpu" keeps ranks off the GPUs; else each takes the GPU of its number, if there are
            GPUs at all.

    Raises:
        ConfigError: there are fewer GPUs than ranks, or the device cannot be shared.
        LostRankError: a rank was lost.
        SystemExit: another rank failed and has told why; with its exit code, or 1.
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
        told = meeting.is_told()
        _leave()  # closes the connections: whoever waits for this rank stops waiting
        missing = meeting.roll_call()
        if told:
            raise SystemExit(getattr(error, "exit_code", 1)) from error
        if _is_of_a_connection(error):
            raise _lost(missing) from error
        raise
    finally:
        _leave()


class _Meeting:
    """The board on which failing ranks leave a note, also when they can no longer talk."""

    numbers = itertools.count()  # a process may train several times: each has a board of its own

    def __init__(self, ranks: Ranks):
        self.ranks = ranks
        self.store = dist.PrefixStore(f"training {next(self.numbers)}", _board())

    def is_told(self) -> bool:
        """Whether another rank has spoken. If not, this one has to."""
        try:
            return self.store.add("told", 1) > 1
        except RuntimeError:  # the board is gone, and with it the first rank, which held it
            return False

    def roll_call(self) -> list[int]:
        """The ranks that do not answer; each has a moment to, since all notice a loss at once."""
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
def _board() -> dist.Store:
    """The store that torchrun, or else the first rank, holds for all."""
    return next(dist.rendezvous("env://", timeout=TIMEOUT))[0]


def _take_device(device: str) -> None:
    if device == "mps" or device.startswith("cuda:"):
        raise ConfigError(
            f"Several processes cannot share the device {device}.",
            key="device",
        )
    if device == "cpu" or not torch.cuda.is_available():
        return
    number, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= there:
        raise ConfigError(
            f"There are more processes than GPUs: process {number + 1} of this machine has none.",
            key="device",
            hint=f"Start torchrun with --nproc-per-node {there}, or say --device cpu.",
        )
    torch.cuda.set_device(number)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _is_of_a_connection(error: Exception) -> bool:
    """Whether an error comes from the talk between ranks and not from this one's own work."""
    words = ("gloo", "nccl", "connection", "timed out")
    return isinstance(error, dist.DistError) or (
        type(error) is RuntimeError and any(word in str(error).lower() for word in words)
    )


def _lost(missing: Sequence[int]) -> LostRankError:
    who = f"rank {', '.join(map(str, missing))}" if missing else "one rank"
    return LostRankError(
        f"The processes lost {who}, which ended or no longer answers, so all of them end.",
        key="rank",
        hint="Look at its own messages, and whether the machine ran out of memory.",
    )
