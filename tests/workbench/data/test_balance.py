"""Class weights against torch's weighted loss, and draws that give every class its due."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from minibert import BertConfig, BertForSequenceClassification
from minibert.heads import ClassLoss
from minibert.io.errors import ConfigError
from minibert.optim import Schedule
from minibert.training import Batch, Training, optimizer_step
from minibert.workbench.data.balance import balanced_rows, balanced_weights
from minibert.workbench.tasks.finetune import finetune
from tests.conftest import BOUNDS, refused
from tests.workbench.conftest import write_table
from tests.workbench.tasks.test_finetune import settings_for


def test_weights_and_draws_together_are_refused(tiny, moods, tmp_path):
    settings = settings_for(tiny, moods, tmp_path / "run", class_weights=True, balanced=True)
    with refused(ConfigError, "balanced"):
        finetune(settings, progress=False)
    assert not (tmp_path / "run").exists()


def test_weights_by_hand():
    assert balanced_weights([2, 3, 1]).tolist() == [6 / 6, 6 / 9, 6 / 3]
    assert balanced_weights([5, 5]).tolist() == [1, 1]
    assert balanced_weights([4, 0, 2]).tolist() == [6 / 8, 0, 6 / 4]  # C counts two


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loss_and_its_count_are_those_of_torch(dtype):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 3, dtype=dtype, generator=generator)
    labels = torch.tensor([0, 2, 1, 2, -100, 0])
    weights = torch.tensor([0.25, 3.0, 1.5], dtype=torch.float64)
    loss = ClassLoss(weights)
    total, count = loss(logits, labels)
    assert count == loss.count(labels) == 0.25 + 1.5 + 3 + 1.5 + 0.25
    expected = nn.CrossEntropyLoss(weights.to(dtype))(logits, labels)
    torch.testing.assert_close(total / count, expected, rtol=0, atol=BOUNDS["module fp32"])


def test_accumulated_gradients_equal_those_of_the_whole_batch():
    """Sums of weights below 1 among them, in double precision, against torch's own loss."""
    config = BertConfig(
        vocab_size=40,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=9,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        id2label={0: "a", 1: "b", 2: "c"},
        initializer_range=0.5,
    )
    weights = torch.tensor([0.125, 0.5, 2.0], dtype=torch.float64)
    ids = torch.randint(1, 40, (6, 9), generator=torch.Generator().manual_seed(3))
    labels = torch.tensor([0, 1, 0, 2, 0, 0])
    lengths = torch.tensor([9, 4, 6, 2, 5, 7])
    mask = (torch.arange(9) < lengths[:, None]).long()

    def batch(rows):
        columns = int(lengths[rows].max())
        inputs = {"input_ids": ids[rows, :columns], "attention_mask": mask[rows, :columns], "labels": labels[rows]}
        return Batch(rows, lambda: inputs, 1)

    def gradients(windows):
        model = BertForSequenceClassification(config).double()
        model.class_loss = ClassLoss(weights)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        schedule = Schedule(optimizer, "constant", warmup=0, total=1)
        training = Training(model, optimizer, schedule, clip_norm=None)
        step = optimizer_step(training, [batch(rows) for rows in windows])
        return {name: before[name] - now for name, now in model.state_dict().items()}, step

    splits = (
        [[0, 1, 2, 3, 4, 5]],
        [[0, 2], [1, 3], [4, 5]],
        [[3, 1, 2], [0], [4, 5]],
        [[0]],  # the weights sum to an eighth
    )
    for windows in splits:
        rows = sum(windows, [])
        reference = BertForSequenceClassification(config).double()
        loss = nn.CrossEntropyLoss(weights)(reference(ids[rows], mask[rows]).logits, labels[rows])
        loss.backward()
        found, step = gradients(windows)
        assert step.terms.mean() == pytest.approx(loss.item(), abs=BOUNDS["fp64"])
        for name, parameter in reference.named_parameters():
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            torch.testing.assert_close(found[name], expected, rtol=0, atol=BOUNDS["fp64"])


def test_every_class_is_drawn_equally_often():
    labels = [0] * 20 + [1] * 3 + [2] * 8  # 31 rows
    rows = balanced_rows(labels, seed=0, epoch=0)
    counts = Counter(labels[row] for row in rows)
    assert len(rows) == 31 and sorted(counts.values()) == [10, 10, 11]
    times = Counter(rows)
    assert {times[row] for row in range(20)} <= {0, 1}  # more than are needed: some wait
    assert {times[row] for row in range(20, 23)} <= {3, 4}  # each as often as the others, but one
    assert {times[row] for row in range(23, 31)} <= {1, 2}


def test_the_draw_is_a_function_of_seed_and_epoch():
    labels = [0, 1, 1, 1, 1, 1, 0, 1, 1]
    draws = {(seed, epoch): balanced_rows(labels, seed=seed, epoch=epoch) for seed in range(3) for epoch in range(3)}
    torch.manual_seed(5)
    assert draws[1, 2] == balanced_rows(labels, seed=1, epoch=2)
    assert len({tuple(rows) for rows in draws.values()}) == 9
    one_more = Counter(
        Counter(labels[row] for row in balanced_rows(labels, seed=0, epoch=epoch)).most_common()[0]
        for epoch in range(40)
    )
    assert set(one_more) == {(0, 5), (1, 5)}  # the row that is left goes to either


def test_only_training_rows_are_balanced(tiny, moods, tmp_path):
    from minibert.workbench.tasks import finetune as module

    seen: list[int] = []
    planned = module.planned

    def spy(dataset, tokenizer, rows=None, **plan):
        batches = planned(dataset, tokenizer, rows, **plan)
        seen.extend(dataset[row]["labels"] for batch in batches for row in batch.indices)
        return batches

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "planned", spy)
        run = finetune(settings_for(tiny, moods, tmp_path / "run", epochs=1, balanced=True), progress=False)
    counts = Counter(seen)
    assert set(counts.values()) == {counts[0]} and counts[0] % 40 == 0  # 120 rows, three classes
    supports = [row["support"] for row in run.reports["test"].metrics["classes"].values()]
    assert supports == [6, 12, 18]


def test_weights_change_training_and_not_the_scores(tiny, moods, tmp_path):
    weighted, plain = (
        finetune(settings_for(tiny, moods, tmp_path / str(on), epochs=1, class_weights=on), progress=False)
        for on in (True, False)
    )
    assert weighted.history.steps[0].loss != plain.history.steps[0].loss
    rows = weighted.reports["test"].rows
    assert weighted.reports["test"].values()["loss"] == pytest.approx(sum(row["loss"] for row in rows) / len(rows))


@pytest.mark.parametrize("key", ["class_weights", "balanced"])
def test_labels_that_are_not_classes_are_refused(tiny, tmp_path, key):
    path = write_table(tmp_path / "n.csv", ["text", "label"], [("so", 0.5), ("a day", 1.5)] * 9)
    settings = settings_for(tiny, tmp_path, tmp_path / "run", **{key: True})
    settings = type(settings)(str(tiny), str(path), **{key: True})
    with refused(ConfigError, key):
        finetune(settings, progress=False)
