"""Several processes: the gradients of one, each example evaluated once, and nobody left hanging."""

from __future__ import annotations

import json
import math
import os
import signal
import time

import pytest
import torch
from torch import nn

from minibert.fast.precision import choose_precision
from minibert.io.errors import ConfigError, LostRankError, TrainingError
from minibert.training import optimizer_step
from minibert.workbench.runs import ranks as ranks_module
from minibert.workbench.runs.history import Watched
from minibert.workbench.runs.ranks import ALONE, Ranks, joined
from minibert.workbench.runs.session import Session
from minibert.workbench.runs.settings import TrainingSettings
from minibert.workbench.runs.together import evaluate, share
from tests.lesson.test_loop import MaskingTagger, Tagger, go, make_examples, run, split, training_of, weights_of
from tests.workbench.runs import processes

FP32 = choose_precision("fp32", "cpu")
SHARED = 1e-10  # the bound of PROMISES T12: gradients of two processes against those of one


def step_of(examples, sizes, ranks, kind=Tagger):
    """One step in float64, and the gradient that it clips."""
    torch.manual_seed(1)
    model = kind().double()
    found = []
    real = nn.utils.get_total_norm

    def catch(tensors):
        found.extend(tensor.clone() for tensor in tensors)
        return real(tensors)

    nn.utils.get_total_norm = catch
    try:
        shared, batches_of_epoch = share(model, lambda _: split(examples, sizes), len(sizes), ranks)
        training = training_of(shared, clip_norm=0.1)
        step = optimizer_step(training, batches_of_epoch(0))
    finally:
        nn.utils.get_total_norm = real
    return step, found, weights_of(model)


def windows():
    """Data sets of 1 to 9 examples, whole and accumulated, the last batch shorter."""
    for count in range(1, 10):
        for size in (1, 2, 3, count):
            yield count, [min(size, count - first) for first in range(0, count, size)]


# A child asserts and leaves what it found; a red assertion is an exit code other than 0.


def compare_gradients(rank, folder):
    largest = 0.0
    with joined("cpu") as ranks:
        for kind in (Tagger, MaskingTagger):
            for count, sizes in windows():
                examples = make_examples(count, seed=count)
                alone, expected, weights = step_of(examples, sizes, ALONE, kind)
                step, found, shared = step_of(examples, sizes, ranks, kind)
                assert step.terms.counts == alone.terms.counts and step.tokens == alone.tokens
                for one, two in zip(expected, found, strict=True):
                    largest = max(largest, float((one - two).abs().max()))
                for name, tensor in weights.items():
                    assert (tensor - shared[name]).abs().max() <= 1e-9, (name, sizes)
                assert abs(step.terms.mean() - alone.terms.mean()) <= SHARED
                seen = ranks.gather_json([step.terms.mean(), step.gradient_norm])
                assert seen[0] == seen[1]
    (folder / f"{rank}.json").write_text(json.dumps(largest))


def test_gradients_of_two_processes_equal_those_of_one(tmp_path):
    assert processes.run(compare_gradients, tmp_path) == [0, 0]
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) <= SHARED


def compare_evaluations(rank):
    with joined("cpu") as ranks:
        for count in range(1, 10):
            examples = make_examples(count, seed=count)
            batches = split(examples, [min(2, count - first) for first in range(0, count, 2)])[::-1]
            model = Tagger().double()
            torch.manual_seed(count)
            nn.init.normal_(model.classifier.weight)
            for part in model.parameters():  # the same on all ranks
                part.data.copy_(torch.randn(part.shape, generator=torch.Generator().manual_seed(3)))
            alone = evaluate(model, batches, FP32)
            shared = evaluate(model, batches, FP32, ranks=ranks)
            assert shared.sums.counts == alone.sums.counts
            assert abs(shared.loss - alone.loss) <= 1e-12
            assert len(shared.logits) == count
            for one, two in zip(alone.logits, shared.logits, strict=True):
                assert torch.equal(one, two)


def test_evaluation_counts_every_example_once_and_in_order():
    assert processes.run(compare_evaluations) == [0, 0]


def train_and_compare(rank):
    """Dropout of its own on every rank, the same weights on all; fp16 skips on all or none."""
    with joined("cpu") as ranks:
        for dtype in (None, torch.float16):
            torch.manual_seed(rank)  # the first rank's weights are those that count
            model = Tagger(dropout=0.3)
            torch.manual_seed(ranks.seed(5))
            batches = split(make_examples(9), [4, 4, 1])
            shared, batches_of_epoch = share(model, lambda _, batches=batches: batches, 2, ranks)
            training = training_of(shared, dtype=dtype)
            training.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, enabled=bool(dtype))
            steps, _ = go(training, batches_of_epoch(0), epochs=20, accumulate=2)
            mine = [
                [row.terms.mean(), row.gradient_norm, row.tokens, row.skipped]
                if math.isfinite(row.terms.mean() + row.gradient_norm)
                else [row.tokens, row.skipped]
                for row in steps
            ] + [tensor.tolist() for tensor in model.state_dict().values()]
            assert (sum(row.skipped for row in steps) > 3) == bool(dtype)
            first, second = ranks.gather_json([mine, training.schedule.updates])
            assert first == second
            state = ranks.gather(torch.get_rng_state())
            assert not torch.equal(*state), "every rank draws its own dropout"


def test_two_processes_stay_equal_with_dropout_and_skipped_steps():
    assert processes.run(train_and_compare) == [0, 0]


def one_rank_is_poisoned(rank):
    with joined("cpu") as ranks:
        torch.manual_seed(1)
        model = Tagger()
        real = model.forward

        def forward(**inputs):
            output = real(**inputs)
            total, count = output.loss_terms["tags"]
            output.loss_terms["tags"] = (total * (math.nan if rank == 1 else 1.0), count)
            return output

        model.forward = forward
        before = weights_of(model)
        shared, batches_of_epoch = share(model, lambda _: split(make_examples(), [4, 4]), 1, ranks)
        with pytest.raises(TrainingError) as caught:
            run(shared, batches_of_epoch(0))
        assert caught.value.key == "loss"
        assert all(torch.equal(before[name], value) for name, value in weights_of(model).items())


def test_a_loss_that_is_not_finite_on_one_rank_stops_all():
    assert processes.run(one_rank_is_poisoned) == [0, 0]


# -- what ranks say -------------------------------------------------------------------------------


def say_things(rank):
    with joined("cpu") as ranks:
        assert (ranks.rank, ranks.size, ranks.is_first) == (rank, 2, rank == 0)
        assert ranks.add({"b": rank, "a": 0.5}) == {"a": 1.0, "b": 1.0}
        assert ranks.any(rank == 1) and not ranks.any(False)
        gathered = ranks.gather(torch.arange(3 * rank))
        assert [part.tolist() for part in gathered] == [[], [0, 1, 2]]
        assert ranks.gather_json({"me": rank, "text": "é" * rank}) == [{"me": 0, "text": ""}, {"me": 1, "text": "é"}]
        rows = {2: torch.ones(2, 3), 0: torch.zeros(0, 3)} if rank else {}
        assert {key: row.shape for key, row in ranks.gather_rows(rows).items()} == {2: (2, 3), 0: (0, 3)}
        ranks.wait()
    with joined("cpu") as ranks:  # a process may train twice
        assert ranks.add({"a": 1.0}) == {"a": 2.0}


def test_what_ranks_tell_each_other():
    assert processes.run(say_things) == [0, 0]


def test_alone_nothing_is_started_and_nothing_changed():
    with joined("cpu") as ranks:
        assert ranks is ALONE and not torch.distributed.is_initialized()
    model, batches_of_epoch = Tagger(), list
    assert share(model, batches_of_epoch, 1, ALONE) == (model, batches_of_epoch)
    assert ranks.seed(7) == 7 and Ranks(1, 2).seed(7) not in (7, Ranks(2, 3).seed(7))


@pytest.mark.parametrize("device", ["cuda:0", "mps"])
def test_a_device_that_cannot_be_shared(device):
    with pytest.raises(ConfigError) as caught:
        ranks_module._take_device(device)
    assert caught.value.key == "device"


# -- ends -----------------------------------------------------------------------------------------


def fail_alike(rank, folder, who):
    try:
        with joined("cpu"):
            if rank in who:
                raise ConfigError("This is wrong.", key="it")
    except ConfigError:
        (folder / f"told {rank}").touch()
        os._exit(2)
    except SystemExit as end:
        os._exit(end.code)


@pytest.mark.parametrize("who", [(0, 1), (0,), (1,)], ids=str)
def test_an_error_is_told_once_and_ends_all(who, tmp_path):
    found = processes.run(fail_alike, tmp_path, who)
    assert [found[rank] for rank in who] == [2] * len(who)
    assert all(code in (1, 2) for code in found)
    assert len(list(tmp_path.iterdir())) == 1


def train_for_ever(rank, folder, where, victim, reached):
    """Trains, evaluates and saves until the victim stands at a place, to be killed there."""

    def arrive(place):
        if (place, rank) == (where, victim):
            reached.set()
            signal.pause()

    model = Tagger()
    batches = split(make_examples(9), [4, 4, 1])

    def measure():
        arrive("evaluation")
        return {"loss": evaluate(model, batches, FP32, ranks=ranks).loss}

    settings = TrainingSettings(epochs=10**6, warmup=0.0, save_every=None)
    try:
        with joined("cpu") as ranks:
            Session(settings, folder / "run", None, False, ranks).train(
                model,
                lambda _: batches,
                measure,
                watched=Watched("loss", higher_is_better=False),
                precision=FP32,
                on_step=lambda *_: arrive("step"),
                on_epoch=lambda _: arrive("save"),
            )
    except LostRankError as error:
        (folder / "error").write_text(str(error))
        os._exit(error.exit_code)


KILLS = [("step", 1), ("evaluation", 1), ("save", 0)]


def kill_one(folder, where, victim):
    """Kills a rank; the exit code of the other, its error, and the seconds until it ended."""
    reached = processes.CONTEXT.Event()
    started = processes.start(train_for_ever, folder, where, victim, reached)
    assert reached.wait(processes.PATIENCE)
    os.kill(started[victim].pid, signal.SIGKILL)
    killed = time.perf_counter()
    started[1 - victim].join(processes.PATIENCE)
    seconds = time.perf_counter() - killed
    found = processes.codes(started)
    return found[1 - victim], (folder / "error").read_text(), seconds


@pytest.mark.parametrize(("where", "victim"), KILLS)
def test_a_dead_rank_ends_the_other(where, victim, tmp_path):
    code, error, _ = kill_one(tmp_path, where, victim)
    assert code == 1 and f"lost rank {victim}," in error


@pytest.mark.full
@pytest.mark.parametrize("trial", range(10))
@pytest.mark.parametrize(("where", "victim"), KILLS)
def test_a_dead_rank_is_noticed_within_half_a_minute(where, victim, trial, tmp_path):
    code, error, seconds = kill_one(tmp_path, where, victim)
    assert code == 1 and f"lost rank {victim}," in error
    print(f"{where}: {seconds:.2f} s")
    assert seconds < 30
