"""Fine-tuning with objects: a model of one's class, a tokenizer, examples, and callbacks."""

from __future__ import annotations

import pytest
import torch

from minibert import BertForSequenceClassification, BertTokenizer, Trace
from minibert.data import Example
from minibert.io.errors import ConfigError
from minibert.io.files import read_json
from minibert.training import optimizer_step
from minibert.workbench.data.corpora import read
from minibert.workbench.runs.folders import read_run
from minibert.workbench.tasks.finetune import Settings, finetune, resume
from tests.workbench.conftest import MOODS
from tests.workbench.tasks.test_finetune import log_without_speed, settings_for, weights_of


class MeanPooled(BertForSequenceClassification):
    pooler = False

    def answer(self, encoded, labels=None):
        total = encoded.layout.pad(encoded.hidden).sum(dim=1)  # (B, D)
        lengths = encoded.layout.mask.sum(dim=1, keepdim=True).clamp(min=1)  # (B, 1)
        logits = self.head(encoded, total / lengths)  # (B, C)
        return logits, self.loss_terms(logits, labels)


@pytest.fixture
def objects(tiny, moods):
    """Made anew in the same way for every call."""

    def make(kind=MeanPooled):
        generator = torch.Generator().manual_seed(7)
        splits = {
            name: [Example(row.texts[0], label=row.target) for row in read(moods / f"{name}.csv")]
            for name in ("train", "validation", "test")
        }
        return {
            "model": kind.from_pretrained(tiny, labels=MOODS, generator=generator),
            "tokenizer": BertTokenizer.from_pretrained(tiny),
            **splits,
        }

    return make


VALUES = {"epochs": 3, "batch_size": 8, "learning_rate": 3e-3, "precision": "fp32"}


def test_a_subclass_is_trained_and_reported_like_any_other_model(objects, tmp_path):
    given = objects()
    run = finetune(**given, output=tmp_path / "run", progress=False, **VALUES)
    assert run.model is given["model"] and isinstance(run.model, MeanPooled)
    assert run.history.epochs[-1].loss < run.history.epochs[0].loss
    saved = read_run(run.folder)
    assert saved.split == "test" and len(saved.rows) == 36
    assert {row["guid"] for row in saved.rows} == {f"test:{row}" for row in range(36)}
    record = saved.record
    assert record["model"]["class"] == "MeanPooled"
    assert record["objects"] == ["model", "tokenizer", "train", "validation", "test"]
    assert record["settings"]["model"] == "(MeanPooled object)"
    assert record["settings"]["train"] == "(120 examples)" and record["labels"] == MOODS
    sums = [record["data"][name]["files"]["examples"] for name in ("train", "validation", "test")]
    assert len({*sums}) == 3 and all(len(one) == 64 for one in sums)
    assert run.summary()
    again = MeanPooled.from_pretrained(run.folder / "model")
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, run.model.state_dict()[name]), name


def test_objects_give_the_bits_of_what_they_stand_for(objects, tiny, moods, tmp_path):
    """The model's class and the examples are the same: so are the losses and the weights."""
    named = finetune(settings_for(tiny, moods, tmp_path / "named"), progress=False)
    generator = torch.Generator().manual_seed(0)  # the run's own seed
    model = BertForSequenceClassification.from_pretrained(tiny, labels=MOODS, generator=generator)
    given = objects() | {"model": model}
    run = finetune(**given, output=tmp_path / "given", progress=False, **VALUES)
    assert log_without_speed(named.folder) == log_without_speed(run.folder)
    assert weights_of(named.folder) == weights_of(run.folder)


def test_a_model_object_takes_its_data_and_its_tokenizer_from_the_settings(objects, tiny, moods, tmp_path):
    settings = settings_for(tiny, moods, tmp_path / "run", epochs=1)
    run = finetune(settings, model=objects()["model"], progress=False)
    assert run.reports["test"].label_names == tuple(MOODS)
    record = read_json(run.folder / "run.json")
    assert record["objects"] == ["model"] and record["settings"]["model"] == str(tiny)


def test_a_validation_split_is_taken_from_the_examples(objects, tmp_path):
    given = objects()
    del given["validation"], given["test"]
    run = finetune(**given, output=tmp_path / "run", progress=False, **(VALUES | {"epochs": 1}))
    data = read_json(run.folder / "run.json")["data"]
    assert {name: part["examples"] for name, part in data.items()} == {"train": 108, "validation": 12}


def test_callbacks_read_a_trace_and_change_nothing(objects, tmp_path):
    plain = finetune(**objects(), output=tmp_path / "plain", progress=False, **VALUES)
    norms, epochs = [], []
    given = objects()
    batch = given["tokenizer"](["one happy day", "the rain was angry"])

    def on_step(step, model):
        assert model is given["model"]
        if step.step % 10 == 1:
            trace = Trace("layers.1.feed_forward.output")
            with torch.no_grad():
                model.eval()(**batch, trace=trace)
            norms.append(trace["layers.1.feed_forward.output"].norm().item())

    watched = finetune(
        **given,
        output=tmp_path / "watched",
        progress=False,
        on_step=on_step,
        on_epoch=lambda epoch, model: epochs.append((epoch.epoch, model.training)),
        **VALUES,
    )
    assert len(norms) == 5 and len({*norms}) == 5
    assert [number for number, _ in epochs] == [1, 2, 3]
    assert weights_of(plain.folder) == weights_of(watched.folder)


class Interruption(Exception):
    """Stands in for the end of the process."""


def test_a_run_of_objects_is_resumed_with_the_same_objects(objects, tmp_path, monkeypatch):
    whole = finetune(**objects(), output=tmp_path / "whole", progress=False, **VALUES)
    calls = iter(range(100))

    def broken(*arguments):
        if next(calls) == 20:
            raise Interruption
        return optimizer_step(*arguments)

    folder = tmp_path / "run"
    with monkeypatch.context() as patches:
        patches.setattr("minibert.training.optimizer_step", broken)
        with pytest.raises(Interruption):
            finetune(**objects(), output=folder, progress=False, **VALUES)
    with pytest.raises(ConfigError) as caught:
        resume(folder, progress=False)
    assert caught.value.key == "objects"
    other = objects()
    other["train"][3] = Example("the rain was happy", label=0)
    with pytest.raises(ConfigError) as caught:
        resume(folder, **other, progress=False)
    assert caught.value.key.startswith("data.train")
    with pytest.raises(ConfigError) as caught:
        resume(folder, **objects(BertForSequenceClassification), progress=False)
    assert caught.value.key == "model.class"
    resume(folder, **objects(), progress=False)
    assert log_without_speed(whole.folder) == log_without_speed(folder)
    assert weights_of(whole.folder) == weights_of(folder)


@pytest.mark.parametrize(
    "change, key",
    [
        ({"model": None}, "model"),
        ({"tokenizer": None}, "tokenizer"),
        ({"probe": "linear"}, "probe"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_what_does_not_go_together_is_refused(objects, tiny, tmp_path, change, key):
    given = objects() | {"output": tmp_path / "run"} | change
    if given["model"] is None:
        given["model"] = str(tiny)
    with pytest.raises(ConfigError) as caught:
        finetune(**given, progress=False)
    assert caught.value.key == key and not (tmp_path / "run").exists()


def test_settings_may_be_given_one_by_one(tiny, moods, tmp_path):
    names = {name: moods / f"{name}.csv" for name in ("train", "validation")}
    run = finetune(model=tiny, **names, output=tmp_path / "run", epochs=1, progress=False)
    assert read_json(run.folder / "run.json")["settings"]["epochs"] == 1
    assert Settings(tiny, **names, epochs=1).epochs == 1
