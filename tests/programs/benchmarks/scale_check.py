"""The model of scale.py beside two processes on this machine, which sum their gradients over gloo.

Three things are measured: a step without communication while both processes compute, the all-reduce of a small and of a
large tensor, and a step with DistributedDataParallel. From the first two the model predicts the third.
"""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing
from torch.nn.parallel import DistributedDataParallel

from minibert import BertConfig, BertForPreTraining
from minibert.io.tables import table
from tests.programs.benchmarks.scale import BYTES, Cards, buckets, parts_of, simulate

CONFIG = BertConfig(
    vocab_size=8_000, hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024,
    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
PROCESSES, ROWS, COLUMNS, ROUNDS = 2, 8, 128, 9
SMALL, LARGE = 2**8, 2**22  # numbers in an all-reduce


def check() -> str:
    """A table of prediction and measurement."""
    with torch.multiprocessing.get_context("spawn").Manager() as manager:
        found = manager.dict()
        torch.multiprocessing.spawn(_measure, (_free_port(), found), nprocs=PROCESSES)
        return report(dict(found))


def report(found: dict[str, float]) -> str:
    """found: seconds of "alone", "small", "large" and "together", and how far "gradients" are apart."""
    hops = 2 * (PROCESSES - 1)
    latency = found["small"] / hops
    bandwidth = hops / PROCESSES * BYTES * LARGE / max(found["large"] - found["small"], 1e-9)
    parts = parts_of(CONFIG, ROWS, COLUMNS)
    work = 3 * sum(part.flops for part in parts)
    cards = Cards("core", work / found["alone"], 1.0, bandwidth, bandwidth, latency, 0.0)
    step = simulate(parts, cards, PROCESSES)
    rows = [
        ("a step without communication", f"{1e3 * found['alone']:.1f}"),
        (f"all-reduce of {len(buckets(parts))} buckets", f"{1e3 * step.communication:.1f}"),
        ("predicted step, the network beside the cores", f"{1e3 * step.seconds:.1f}"),
        ("predicted step, nothing hidden", f"{1e3 * (step.computation + step.communication):.1f}"),
        ("measured step", f"{1e3 * found['together']:.1f}"),
    ]
    speed = f"a ring of {bandwidth / 1e9:.2f} GB/s and {1e6 * latency:.0f} us a hop"
    difference = f"gradients differ from those of one process by {found['gradients']:.1e} of the largest"
    return f"{table(rows, (f'{PROCESSES} processes, {speed}', 'ms'))}\n{difference}"


def _measure(rank: int, port: int, found: dict[str, float]) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=PROCESSES)
    batches = [_batch(seed) for seed in range(PROCESSES)]
    alone = BertForPreTraining(CONFIG)
    shared = DistributedDataParallel(BertForPreTraining(CONFIG))
    seconds = {
        "alone": _median(lambda: _step(alone, batches[rank])),
        "small": _median(lambda: torch.distributed.all_reduce(torch.zeros(SMALL))),
        "large": _median(lambda: torch.distributed.all_reduce(torch.zeros(LARGE))),
        "together": _median(lambda: _step(shared, batches[rank])),
    }
    if rank == 0:
        found.update(seconds)
        found["gradients"] = _apart(shared.module, alone, batches)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def _batch(seed: int) -> dict[str, Any]:
    """Every token has a label in seven, as the model assumes 0.15."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, CONFIG.vocab_size, (ROWS, COLUMNS), generator=generator)  # (B, S)
    labels = ids.where(torch.arange(COLUMNS) % 7 == 0, -100)  # (B, S)
    follows = torch.randint(2, (ROWS,), generator=generator)  # (B,)
    return {"input_ids": ids, "labels": labels, "next_sentence_label": follows, "labelled_only": True}


def _step(model: torch.nn.Module, batch: dict[str, Any]) -> None:
    model.zero_grad()
    model(**batch).loss.backward()


def _median(run: Callable[[], object]) -> float:
    """Seconds; both processes begin each round together."""
    spent = []
    for number in range(ROUNDS + 2):
        torch.distributed.barrier()
        begin = time.perf_counter()
        run()
        if number > 1:
            spent.append(time.perf_counter() - begin)
    return statistics.median(spent)


def _apart(shared: torch.nn.Module, alone: torch.nn.Module, batches: list[dict[str, Any]]) -> float:
    """How far the summed gradients of the last step are from the mean of each process's own."""
    alone.load_state_dict(shared.state_dict())
    alone.zero_grad()
    for batch in batches:
        (alone(**batch).loss / len(batches)).backward()
    pairs = [(a.grad, b.grad) for a, b in zip(shared.parameters(), alone.parameters(), strict=True)]
    most = max(float(a.abs().max()) for _, a in pairs if a is not None)
    return max(float((a - b).abs().max()) for a, b in pairs if a is not None and b is not None) / most


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
