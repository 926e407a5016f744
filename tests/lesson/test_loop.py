"""The loop: its order, exact accumulation, skipped and forbidden steps, evaluation."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from minibert import training as loop
from minibert.io.device import move
from minibert.io.errors import TrainingError
from minibert.optim import Schedule, build_optimizer, parameter_groups
from minibert.training import Batch, Epoch, Position, Step, Training, count_steps, evaluate, optimizer_step, train
from tests.conftest import BOUNDS, refused

CPU = torch.device("cpu")
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
WORDS, CLASSES = 11, 3


class Tagger(nn.Module):
    """The smallest `Trainable`: a label for every word, or -100."""

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.table = nn.Embedding(WORDS, 5)
        self.norm = nn.LayerNorm(5)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(5, CLASSES)

    def count_labels(self, batch):
        return {"tags": int((batch["labels"] != -100).sum())}

    def forward(self, words, labels):
        logits = self.classifier(self.dropout(self.norm(self.table(words))))  # (B, S, C)
        total = nn.functional.cross_entropy(
            logits.flatten(0, 1).float() if logits.dtype != torch.float64 else logits.flatten(0, 1),
            labels.flatten(),
            reduction="sum",
            ignore_index=-100,
        )
        return SimpleNamespace(loss_terms={"tags": (total, int((labels != -100).sum()))}, logits=logits)


def make_examples(count=8, seed=3):
    """Sentences of unequal lengths, some words without a label."""
    generator = torch.Generator().manual_seed(seed)
    examples = []
    for _ in range(count):
        length = int(torch.randint(1, 8, (), generator=generator))
        words = torch.randint(WORDS, (length,), generator=generator)
        labels = torch.where(torch.rand(length, generator=generator) < 0.3, torch.tensor(-100), words % CLASSES)
        examples.append((words, labels))
    return examples


def batch_of(examples, indices):
    def load():
        pad = nn.utils.rnn.pad_sequence
        return {
            "words": pad([examples[i][0] for i in indices], batch_first=True),  # (B, S)
            "labels": pad([examples[i][1] for i in indices], batch_first=True, padding_value=-100),  # (B, S)
        }

    return Batch(indices, load, tokens=sum(len(examples[i][0]) for i in indices))


def split(examples, sizes):
    indices = iter(range(len(examples)))
    return [batch_of(examples, [next(indices) for _ in range(size)]) for size in sizes]


def training_of(model, *, learning_rate=1e-2, total=100, warmup=0, schedule="linear", **options) -> Training:
    groups = parameter_groups(model.named_parameters(), weight_decay=0.01)
    optimizer = build_optimizer(groups, learning_rate=learning_rate)
    made = Schedule(optimizer, schedule, warmup=warmup, total=total)
    return Training(model, optimizer, made, **options)


def go(training, batches, *, epochs=1, accumulate=1) -> tuple[list[Step], list[Epoch]]:
    """All records of a training."""
    records = list(train(training, lambda _: batches, epochs, accumulate))
    steps = [record for record in records if isinstance(record, Step)]
    return steps, [record for record in records if isinstance(record, Epoch)]


def run(model, batches, *, epochs=1, accumulate=1, **options):
    """A whole training: its steps, its epochs, and what it left."""
    training = training_of(model, **options)
    return *go(training, batches, epochs=epochs, accumulate=accumulate), training


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


# -- the order ------------------------------------------------------------------------------------


class Recorder:
    """A scaler, optimizer or schedule that notes each call by name, then passes it on."""

    def __init__(self, inner, calls, label, watched):
        self.inner, self.calls, self.label, self.watched = inner, calls, label, watched

    def __getattr__(self, name):
        value = getattr(self.inner, name)
        if name not in self.watched:
            return value

        def noted(*args, **kwargs):
            self.calls.append(f"{self.label}.{name}")
            arguments = [a.inner if isinstance(a, Recorder) else a for a in args]
            return value(*arguments, **kwargs)

        return noted


def test_one_step_runs_in_the_order_of_mixed_precision(monkeypatch):
    calls: list[str] = []
    torch.manual_seed(1)
    model = Tagger()
    training = training_of(model, dtype=torch.float16, clip_norm=1e-6, place=lambda i, _: i)
    real_norm, real_clip = nn.utils.get_total_norm, nn.utils.clip_grads_with_norm_
    real_step = torch.optim.AdamW.step
    real_backward = torch.Tensor.backward

    def noting(name, function):
        def noted(*args, **kwargs):
            calls.append(name)
            return function(*args, **kwargs)

        return noted

    monkeypatch.setattr(nn.utils, "get_total_norm", noting("norm", real_norm))
    monkeypatch.setattr(nn.utils, "clip_grads_with_norm_", noting("clip", real_clip))

    def backward(tensor):
        assert not torch.is_autocast_enabled("cpu")  # the forward pass alone runs under it
        calls.append("backward")
        return real_backward(tensor)

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    training.optimizer.register_step_pre_hook(lambda *_: calls.append("optimizer.step"))
    assert type(training.optimizer).step is real_step
    monkeypatch.setattr(Tagger, "forward", noting("forward", Tagger.forward))
    monkeypatch.setattr(Tagger, "count_labels", noting("count", Tagger.count_labels))
    training.scaler = Recorder(
        torch.amp.GradScaler("cpu", init_scale=8.0), calls, "scaler", {"scale", "unscale_", "step", "update"}
    )
    training.schedule = Recorder(training.schedule, calls, "schedule", {"step"})
    training.optimizer = Recorder(training.optimizer, calls, "optimizer", {"zero_grad"})
    optimizer_step(training, split(make_examples(), [4, 4]))
    assert calls == [
        *["count"] * 2,
        *["forward", "scaler.scale", "backward"] * 2,
        "scaler.unscale_",
        "norm",
        "clip",
        "scaler.step",
        "optimizer.step",
        "scaler.update",
        "schedule.step",
        "optimizer.zero_grad",
    ]


def test_clipping_sees_the_gradient_and_not_its_scale():
    examples = make_examples()
    norms = []
    for dtype in (None, torch.float16):
        torch.manual_seed(1)
        training = training_of(Tagger(), dtype=dtype, clip_norm=1e-3)
        training.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, enabled=bool(dtype))
        norms.append(optimizer_step(training, split(examples, [8])).gradient_norm)
    assert norms[1] == pytest.approx(norms[0], rel=BOUNDS["module bf16"])


# -- what a step comes to -------------------------------------------------------------------------


def test_five_steps_equal_adamw_written_by_hand():
    """AdamW transcribed from the paper's algorithm 2, clipping and schedule included, in fp64."""
    examples = make_examples(10)
    batches = split(examples, [2] * 5)
    torch.manual_seed(1)
    model, by_hand = Tagger().double(), Tagger().double()
    by_hand.load_state_dict(model.state_dict())
    run(model, batches, total=5, warmup=2, clip_norm=0.1)

    means = {name: torch.zeros_like(p) for name, p in by_hand.named_parameters()}
    squares = {name: torch.zeros_like(p) for name, p in by_hand.named_parameters()}
    for update, batch in enumerate(batches):
        total, count = by_hand(**batch.load()).loss_terms["tags"]
        by_hand.zero_grad()
        (total / count).backward()
        norm = math.sqrt(sum(float((p.grad**2).sum()) for p in by_hand.parameters()))
        rate = 1e-2 * (update / 2 if update < 2 else (5 - update) / 3)
        with torch.no_grad():
            for name, p in by_hand.named_parameters():
                gradient = p.grad * min(1.0, 0.1 / (norm + 1e-6))
                means[name] = 0.9 * means[name] + 0.1 * gradient
                squares[name] = 0.999 * squares[name] + 0.001 * gradient**2
                mean = means[name] / (1 - 0.9 ** (update + 1))
                square = squares[name] / (1 - 0.999 ** (update + 1))
                decay = 0.01 if name.endswith("weight") and "norm" not in name else 0.0
                p -= rate * (mean / (square.sqrt() + 1e-8) + decay * p)
    for name, expected in by_hand.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], expected, rtol=0, atol=BOUNDS["fp64"], msg=name)


@pytest.mark.parametrize("sizes", [[4, 4], [2, 2, 2, 2], [1] * 8, [3, 3, 2]], ids=str)
def test_accumulation_equals_the_big_batch(sizes, monkeypatch):
    """Padding and unequal numbers of labels included; the mean of means would be 5e-2 away."""
    examples = make_examples()
    gradients = []
    real_norm = nn.utils.get_total_norm

    def catch(tensors):
        gradients.append([tensor.clone() for tensor in tensors])
        return real_norm(tensors)

    monkeypatch.setattr(nn.utils, "get_total_norm", catch)
    losses = []
    for window in ([8], sizes):
        torch.manual_seed(1)
        model = Tagger().double()
        steps, _, _ = run(model, split(examples, window), accumulate=8)
        losses.append(steps[0].terms.mean())
    assert len(gradients) == 2
    assert losses[1] == pytest.approx(losses[0], abs=1e-12)
    for whole, added in zip(*gradients, strict=True):
        assert (whole - added).abs().max() <= 1e-12


@pytest.mark.parametrize("limit", [1e-3, 0.5, 1e3, None])
def test_clipping_is_torch_s_own(limit, monkeypatch):
    """A norm below the limit costs no pass over the gradients; the update is the same."""
    found = []
    for own in (True, False):
        torch.manual_seed(1)
        model = Tagger().double()
        if not own:
            monkeypatch.setattr(
                nn.utils,
                "get_total_norm",
                lambda tensors, model=model: nn.utils.clip_grad_norm_(
                    model.parameters(), math.inf if limit is None else limit
                ),
            )
        run(model, split(make_examples(), [8]), clip_norm=limit if own else None)
        found.append(model.state_dict())
    for name, expected in found[1].items():
        torch.testing.assert_close(found[0][name], expected, rtol=0, atol=BOUNDS["fp64"], msg=name)


def test_the_last_window_of_an_epoch_may_be_shorter():
    examples = make_examples(7)
    torch.manual_seed(1)
    model, single = Tagger().double(), Tagger().double()
    single.load_state_dict(model.state_dict())
    steps, _, training = run(model, split(examples, [2, 2, 2, 1]), accumulate=3)
    run(single, split(examples, [6, 1]))
    assert len(steps) == training.schedule.updates == 2
    for name, expected in single.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], expected, rtol=0, atol=BOUNDS["fp64"], msg=name)


def test_the_steps_of_a_run_are_counted_with_the_shorter_windows():
    batches = split(make_examples(7), [2, 2, 2, 1])
    for accumulate in range(1, 6):
        training = training_of(Tagger(), total=loop.count_steps(lambda _: batches, 3, accumulate))
        steps, _ = go(training, batches, epochs=3, accumulate=accumulate)
        assert len(steps) == training.schedule.total
        assert training.schedule.learning_rate == 0.0 < steps[-1].learning_rate  # just at its end


def test_several_terms_are_each_divided_by_their_own_count():
    class TwoTerms(Tagger):
        def count_labels(self, batch):
            return {**super().count_labels(batch), "first": len(batch["words"])}

        def forward(self, words, labels):
            output = super().forward(words, labels)
            first = output.logits[:, 0].square().sum()
            output.loss_terms["first"] = (first, len(words))
            return output

    examples = make_examples()
    torch.manual_seed(1)
    model = TwoTerms().double()
    terms = model(**split(examples, [8])[0].load()).loss_terms
    expected = sum(total.item() / count for total, count in terms.values())
    steps, _, _ = run(model, split(examples, [5, 3]), accumulate=2)
    assert steps[0].terms.mean() == pytest.approx(expected, abs=1e-12)


class MaskingTagger(Tagger):
    """Leaves words without a label out by multiplying with 0, which does not survive infinity."""

    def forward(self, words, labels):
        output = super().forward(words, labels)
        losses = nn.functional.cross_entropy(
            output.logits.flatten(0, 1), labels.flatten().clamp(min=0), reduction="none"
        )  # (B * S,)
        real = labels.flatten() != -100  # (B * S,)
        output.loss_terms = {"tags": ((losses * real).sum(), int(real.sum()))}
        return output


@pytest.mark.parametrize("kind", [Tagger, MaskingTagger])
def test_a_window_without_labels_has_loss_zero_and_no_nan(kind):
    words = torch.arange(4)
    examples = [(words, torch.full((4,), -100))] * 2
    model = kind()
    [step], _, _ = run(model, split(examples, [1, 1]), accumulate=2)
    assert step.terms.mean() == 0 and step.gradient_norm == 0
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_there_is_a_record_for_every_step_and_every_epoch():
    examples = make_examples(6)
    training = training_of(Tagger(), total=6)
    batches = split(examples, [2, 2, 2])
    records, positions = [], []
    for record in train(training, lambda _: batches, 2, 2):
        records.append(record)
        positions.append((training.position.epoch, training.position.left))
    assert [type(record) for record in records] == [Step, Step, Epoch] * 2
    assert positions == [(0, 1), (0, 0), (1, 0), (1, 1), (1, 0), (2, 0)]
    steps = [record for record in records if isinstance(record, Step)]
    assert [(row.step, row.epoch) for row in steps] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    assert [row.learning_rate for row in steps] == pytest.approx([0.01 * (6 - k) / 6 for k in range(4)])
    tokens = sum(len(words) for words, _ in examples)
    assert [record.tokens for record in records if isinstance(record, Epoch)] == [tokens] * 2
    assert sum(row.tokens for row in steps[:2]) == tokens
    assert not any(row.skipped for row in steps)
    assert count_steps(lambda _: batches, 2, 2) == len(steps)


def test_the_epochs_loss_is_weighted_by_labels_and_not_by_batches():
    examples = make_examples()
    model = Tagger()
    steps, [epoch], _ = run(model, split(examples, [1, 7]), total=10**9)
    counts = [model.count_labels(batch.load())["tags"] for batch in split(examples, [1, 7])]
    losses = [row.terms.mean() for row in steps]
    weighted = sum(loss * n for loss, n in zip(losses, counts, strict=True)) / sum(counts)
    assert epoch.terms.mean() == pytest.approx(weighted, rel=1e-6)


# -- steps that must not be taken -----------------------------------------------------------------


def poison_weight(model, examples):
    with torch.no_grad():
        model.classifier.weight[1, 2] = math.nan


def poison_embedding(model, examples):
    with torch.no_grad():
        model.table.weight[examples[0][0][0]] = math.nan


def poison_norm(model, examples):
    with torch.no_grad():
        model.norm.bias[0] = math.inf


def poison_loss(model, examples):
    real = model.forward

    def forward(**inputs):
        output = real(**inputs)
        total, count = output.loss_terms["tags"]
        output.loss_terms["tags"] = (total * math.inf, count)
        return output

    model.forward = forward


def poison_gradient(model, examples):
    model.table.weight.register_hook(lambda gradient: gradient * math.nan)


@pytest.mark.parametrize(
    "poison, key",
    [
        (poison_weight, "classifier.weight"),
        (poison_embedding, "table.weight"),
        (poison_norm, "norm.bias"),
        (poison_loss, "loss"),
        (poison_gradient, "table.weight"),
    ],
)
def test_what_is_not_finite_stops_before_the_update(poison, key):
    examples = make_examples()
    torch.manual_seed(1)
    model = Tagger()
    training = training_of(model)
    batches = split(examples, [4, 4])
    go(training, batches)
    poison(model, examples)
    before = weights_of(model)
    with pytest.raises(TrainingError, match=r"Step 3.*examples 0, 1, 2, 3") as caught:
        go(training, batches, epochs=2)
    assert caught.value.key == key
    after = weights_of(model)
    for name in before:
        assert torch.equal(before[name].nan_to_num(7.0), after[name].nan_to_num(7.0)), name
    assert training.schedule.updates == 2


def test_an_fp16_overflow_skips_the_step_and_holds_the_schedule():
    """A real scaler, real fp16 on the CPU, from a scale that overflows for sure."""
    torch.manual_seed(1)
    model = Tagger()
    training = training_of(model, dtype=torch.float16, warmup=5)
    training.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = weights_of(model)
    steps, epochs = [], []
    for record in train(training, lambda _: split(make_examples(), [8]), 40):
        (steps if isinstance(record, Step) else epochs).append(record)
        if isinstance(record, Step) and record.skipped:
            assert_same(before, weights_of(model))
    skipped = [row.skipped for row in steps]
    count = sum(skipped)
    assert 3 < count < loop.MAX_SKIPS_IN_A_ROW
    assert skipped == [True] * count + [False] * (40 - count)
    assert training.position.skipped_in_a_row == 0
    assert training.schedule.updates == 40 - count
    assert {row.learning_rate for row in steps[:count]} == {0.0}
    assert training.scaler.get_scale() == 2.0 ** (40 - count)
    assert epochs[-1].terms.mean() < epochs[count].terms.mean()


class OnceInfinite(Tagger):
    """Its second loss is infinite."""

    calls = 0

    def forward(self, words, labels):
        output = super().forward(words, labels)
        total, count = output.loss_terms["tags"]
        self.calls += 1
        output.loss_terms["tags"] = (total * (math.inf if self.calls == 2 else 1), count)
        return output


@pytest.mark.parametrize("options", [{"dtype": torch.float16}, {"skip_nonfinite": True}], ids=str)
def test_one_bad_batch_that_is_skipped_does_not_spoil_the_loss_of_its_epoch(options):
    steps, [epoch], training = run(OnceInfinite(), split(make_examples(), [3, 3, 2]), **options)
    assert [row.skipped for row in steps] == [False, True, False]
    assert training.schedule.updates == 2
    assert all(parameter.grad is None for parameter in training.model.parameters())
    good = [row.terms.mean() for row in steps if not row.skipped]
    assert min(good) <= epoch.terms.mean() <= max(good)


def test_a_model_that_overflows_at_every_scale_stops_the_run():
    model = Tagger()
    poison_gradient(model, None)
    before = weights_of(model)
    with refused(TrainingError, "loss"):
        run(model, split(make_examples(), [8]), epochs=100, dtype=torch.float16)
    assert_same(before, weights_of(model))


@pytest.mark.parametrize("resumed", [False, True])
def test_skips_in_a_row_are_counted_across_epochs_and_a_resume(resumed):
    model = Tagger()
    poison_gradient(model, None)
    training, seen = training_of(model, dtype=torch.float16), 0
    with refused(TrainingError, "loss"):
        for _ in range(2):  # every window is an epoch of its own
            for _ in train(training, lambda _: split(make_examples(), [8]), 100):
                seen = training.position.step
                if resumed and seen == 10:
                    resumed = False  # once: the epoch's own record comes at the same step
                    stored = dataclasses.asdict(training.position)
                    training = training_of(model, dtype=torch.float16)
                    training.position = loop.Position(**{**stored, "terms": loop.LossSums()})
                    break
    assert seen == loop.MAX_SKIPS_IN_A_ROW - 1


# -- whole runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DTYPES)
def test_a_training_learns_and_its_bits_are_the_same_twice(name):
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        model = Tagger(dropout=0.1)
        batches = split(make_examples(16), [4] * 4)
        steps, epochs, _ = run(model, batches, epochs=40, total=160, dtype=DTYPES[name])
        results.append((weights_of(model), [row.terms for row in steps]))
    assert_same(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert epochs[-1].terms.mean() < 0.5 * epochs[0].terms.mean()
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("name", DTYPES)
def test_autocast_multiplies_in_the_dtype_that_was_given(name):
    with training_of(Tagger(), dtype=DTYPES[name]).autocast():
        product = torch.ones(2, 3) @ torch.ones(3, 2)
        double = torch.ones(2, 3).double() @ torch.ones(3, 2).double()
    assert product.dtype == (DTYPES[name] or torch.float32)
    assert name != "fp32" or double.dtype == torch.float64
    assert training_of(Tagger(), dtype=DTYPES[name]).scaler.is_enabled() is (name == "fp16")


@pytest.mark.parametrize("stop", range(1, 9))
def test_a_training_continues_from_its_position(stop):
    """The same records from any step on, whether or not the generator is the same."""

    def batches(epoch):
        return split(make_examples(9, seed=epoch), [2, 2, 2, 2, 1])

    torch.manual_seed(1)
    model, twin = Tagger().double(), Tagger().double()
    twin.load_state_dict(model.state_dict())
    whole = list(train(training_of(model), batches, 2, 2))
    training = training_of(twin)
    first = train(training, batches, 2, 2)
    begun = [next(first) for _ in range(min(stop, len(whole)))]
    first.close()
    assert begun + list(train(training, batches, 2, 2)) == whole
    assert_same(weights_of(model), weights_of(twin))
    assert training.position == Position(epoch=2, step=6)


def test_nothing_leaks_into_the_caller_between_two_records():
    """Neither autocast nor inference mode is on while the caller has the turn."""
    training = training_of(Tagger(), dtype=torch.bfloat16)
    for _ in train(training, lambda _: split(make_examples(), [4, 4]), 1):
        assert not torch.is_autocast_enabled("cpu") and not torch.is_inference_mode_enabled()


def test_a_frozen_part_neither_moves_nor_drops_out():
    class PartlyFrozen(Tagger):
        def train(self, mode=True):
            super().train(mode)
            self.dropout.eval()
            return self

    model = PartlyFrozen(dropout=0.9)
    model.table.requires_grad_(False)
    before = weights_of(model)
    modes = []
    for record in train(training_of(model), lambda _: split(make_examples(), [4, 4]), 1):
        if isinstance(record, Step):
            modes.append((model.training, model.dropout.training))
            model.eval()  # as a caller may who evaluates between two steps
    assert modes == [(True, False)] * 2
    assert torch.equal(before["table.weight"], model.table.weight)
    assert not torch.equal(before["classifier.weight"], model.classifier.weight)


@pytest.mark.parametrize("key", ["epochs", "accumulate"])
def test_arguments_below_one_are_refused_at_once(key):
    with pytest.raises(TrainingError) as caught:
        train(training_of(Tagger()), lambda _: [], **{"epochs": 1, key: 0})
    assert caught.value.key == key


def test_no_batches_is_an_error():
    with pytest.raises(TrainingError) as caught:
        run(Tagger(), [])
    assert caught.value.key == "batches"


# -- evaluation -----------------------------------------------------------------------------------


def test_evaluation_is_the_mean_over_labels_in_the_order_of_the_examples():
    examples = make_examples()
    model = Tagger(dropout=0.5).double()
    model.train()
    model.norm.eval()
    shuffled = [batch_of(examples, [5, 0, 7]), batch_of(examples, [2]), batch_of(examples, [6, 1, 4, 3])]
    result = evaluate(model, shuffled, CPU)
    assert model.training and model.dropout.training and not model.norm.training
    model.eval()
    whole = split(examples, [8])[0].load()
    output = model(**whole)
    total, count = output.loss_terms["tags"]
    assert result.loss == pytest.approx(total.item() / count, abs=1e-12)
    assert result.sums.counts == {"tags": count}
    for i, (words, _) in enumerate(examples):
        torch.testing.assert_close(
            result.logits[i][: len(words)], output.logits[i, : len(words)].float(), rtol=0, atol=BOUNDS["module fp32"]
        )
        assert not result.logits[i].requires_grad


def test_modes_come_back_even_if_an_evaluation_fails():
    model = Tagger()
    model.train()

    def fail():
        raise KeyError("no such column")

    with pytest.raises(KeyError):
        evaluate(model, [Batch([0], fail)], CPU)
    assert model.training


def test_evaluating_in_between_changes_nothing_about_training():
    results = []
    for evaluation in (False, True):
        torch.manual_seed(5)
        model = Tagger(dropout=0.3)
        batches = split(make_examples(), [4, 4])
        for _ in train(training_of(model), lambda _, batches=batches: batches, 3):
            if evaluation:
                evaluate(model, batches, CPU)
        results.append(weights_of(model))
    assert_same(*results)


def test_moving_to_a_gpu_pins_what_is_on_the_cpu_and_leaves_the_rest(monkeypatch):
    """No GPU is needed: the copies themselves are stood in for."""
    steps = []

    def pin(tensor):
        steps.append(("pin", tensor.device.type))
        return tensor

    def to(tensor, device, non_blocking=False):
        steps.append(("to", str(device), non_blocking))
        return tensor

    class Movable:
        def to(self, device):
            steps.append(("moved", str(device)))
            return self

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "to", to)
    device = torch.device("cuda")
    move({"ids": torch.ones(2), "there": torch.ones(2, device="meta"), "n": 3}, device)
    assert steps == [("pin", "cpu"), ("to", "cuda", True), ("to", "cuda", False)]
    steps.clear()
    move({"layout": Movable()}, device)
    assert steps == [("moved", "cuda")]
    steps.clear()
    move({"ids": torch.ones(2)}, torch.device("cpu"))
    assert steps == [("to", "cpu", False)]


def test_gradients_of_a_failed_step_do_not_reach_the_next():
    examples, found = make_examples(), []
    for left in (None, math.nan):
        torch.manual_seed(0)
        training = training_of(Tagger())
        for parameter in training.model.parameters():
            parameter.grad = None if left is None else torch.full_like(parameter, left)
        go(training, split(examples, [4, 4]))
        found.append(weights_of(training.model))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
