"""The benchmarks run, compare what they measure, and count as they say. Never how fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from minibert import BertForSequenceClassification
from minibert.fast import accelerate as fast
from minibert.fast import attend
from minibert.workbench.data.corpora import Example
from tests.programs.benchmarks import agreement, report
from tests.programs.benchmarks import material as materials
from tests.programs.benchmarks.agreement import Disagreement
from tests.programs.benchmarks.cases import all_cases, chosen
from tests.programs.benchmarks.clock import Stopwatch
from tests.programs.benchmarks.material import _from_here_and_there, prepare
from tests.programs.benchmarks.measure import Case, Job, Result, Variant, measure

TRIAL = ("inference/short/tiny/written", "training/short/tiny/same/fp32")


def _run(folder, *arguments):
    """The command, as a user runs it: name -> its results, and what it printed."""
    command = [sys.executable, "-m", "tests.programs.benchmarks", "--quick", "--output", folder / "out"]
    environment = {key: os.environ[key] for key in os.environ if key != "MINIBERT_DATA"}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr
    record = json.loads((folder / "out.json").read_text())
    return {result["case"]: result for result in record["results"]}, done.stdout


def _check(results):
    for result in results.values():
        first, second, *others = result["values"]
        assert second == f"{first} again" and "minibert" in others
        rounds = 2 if result["unit"] == "s" else 1
        assert all(len(values) == rounds for values in result["values"].values())
        assert all(value > 0 for values in result["values"].values() for value in values)


def test_the_command_runs_without_data_or_weights(tmp_path):
    results, printed = _run(tmp_path, "--only", *TRIAL)
    assert len(results) == len(TRIAL)
    _check(results)
    assert "| inference, short, tiny | " in printed
    details = (tmp_path / "out.md").read_text()
    assert "its numbers mean nothing" in details
    assert all(f"### {name}" in details for name in results)


@pytest.mark.full
def test_every_case_runs(tmp_path):
    results, _ = _run(tmp_path)
    assert results.keys() == {case.name for case in all_cases(quick=True)}
    _check(results)


def test_cases_are_chosen_by_a_part_of_their_name():
    names = [case.name for case in chosen(all_cases(), ["inference/long", "short/*/same/bf16"])]
    assert "inference/long/BERT-base/written" in names
    assert "training/short/MiniLM/same/bf16" in names
    assert "training/short/MiniLM/same/fp32" not in names
    assert len(chosen(all_cases(), [])) == len(all_cases())


def test_what_the_chosen_cases_lack_is_named_before_the_first(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIBERT_DATA", str(tmp_path))
    (tmp_path / "emotion").mkdir()
    (tmp_path / "emotion" / "test.txt").touch()
    monkeypatch.setattr(materials, "official_minilm", lambda: tmp_path)
    with pytest.raises(SystemExit) as ended:
        materials.require(["inference/short/BERT-base/written", "inference/short/MiniLM/written"])
    *_, last = str(ended.value).splitlines()
    assert last == str(tmp_path / materials.VOCABULARY) and "test.txt" not in str(ended.value)
    materials.require(["inference/short/MiniLM/written", "training/long/tiny/written"])


def _job(*runs):
    names = ["reference", "reference again", "minibert"]
    variants = [Variant(name, "", run) for name, run in zip(names, runs, strict=True)]
    return Case("a/case", lambda: Job("", variants, lambda outputs: str(sorted(outputs))))


def test_each_variant_runs_once_in_each_round_and_the_order_changes():
    log = []
    runs = [lambda timed, name=name: log.append(name) for name in "abc"]
    peaks = {"fp32": 1.0}
    result = measure(_job(*runs), rounds=9, clock="wall", peaks=peaks, say=lambda line: None)
    rounds = ["".join(log[start : start + 3]) for start in range(0, len(log), 3)]
    assert len(rounds) == 10 and {"".join(sorted(one)) for one in rounds} == {"abc"}
    assert len(set(rounds)) > 2
    assert all(len(values) == 9 for values in result.values.values())


def test_the_stopwatch_adds_up_what_is_inside():
    timed = Stopwatch("cpu")
    sum(range(1_000_000))
    assert timed.seconds == 0.0
    with timed:
        sum(range(1_000_000))
    once = timed.seconds
    with timed:
        sum(range(1_000_000))
    assert 0 < once < timed.seconds


def _result(**values):
    return Result("x/same/fp32", "", 10, 8.0, "fp32", "s", "", values, {}, 4.0, 0.0)


def test_ratios_noise_and_share_of_the_peak():
    result = _result(transformers=[2.0, 4.0, 9.0], again=[3.0, 5.0, 9.0], minibert=[1.0, 2.0, 3.0])
    assert result.median("transformers") == 4.5  # of 2, 3, 4, 5, 9, 9
    assert result.ratio("minibert") == 2.25
    assert result.range_of_ratios("minibert") == (2.0, 3.0)
    assert result.noise == 4.0 / 5.0
    assert result.share_of_peak("minibert") == 8.0 / 2.0 / 4.0
    assert "| x | " in report.summary([result]) and "2.25 [0.80]" in report.summary([result])


@pytest.fixture(scope="module")
def material():
    return prepare("training", "short", "tiny")


def test_the_arithmetic_is_what_torch_counts(material):
    """One text at a time, so that there is no padding; the pooler and the classes are left out."""
    model = transformers.BertForSequenceClassification.from_pretrained(material.folder, attn_implementation="eager")
    batches = [material.tokenizer(text) for text in material.texts]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for batch in batches:
            model(**batch)
    width = material.config["hidden_size"]
    heads = len(batches) * 2 * (width * width + width * 2)
    assert counter.get_total_flops() - heads == material.flops()


def test_real_tokens_are_counted_without_padding(material):
    batches = material.batches(range(len(material.texts)))
    assert material.tokens == sum(batch["attention_mask"].sum().item() for batch in batches)
    assert material.tokens < sum(batch["input_ids"].numel() for batch in batches)


def test_batches_from_here_and_there_are_of_one_length():
    texts = [Example("da " * count, label=0) for count in range(1, 101)] * 4
    folder = prepare("training", "short", "tiny").folder
    drawn = _from_here_and_there(texts, folder, count=12, batch_size=4)
    lengths = [example.text.count("da") for example in drawn]
    assert all(max(four) - min(four) <= 1 for four in (lengths[:4], lengths[4:8], lengths[8:]))
    assert 70 < lengths[0] < 100 and 35 < lengths[4] < 65 and 0 < lengths[8] < 30


def test_disagreement_on_logits_ends_the_run():
    logits = torch.randn(4, 3)
    rounded = logits.bfloat16()
    near = {"a": logits, "a again": logits, "b": logits + 1e-5}
    assert "1.0e-05" in agreement.same_logits(near)
    with pytest.raises(Disagreement):
        agreement.same_logits({**near, "c": logits + 1e-4})
    with pytest.raises(Disagreement):
        agreement.same_logits({**near, "c": logits * torch.nan})
    assert agreement.same_logits({"a": rounded, "b": rounded}, truth=logits)
    with pytest.raises(Disagreement):
        agreement.same_logits({"a": rounded, "b": rounded * 1.01}, truth=logits)


def test_disagreement_on_answers_ends_the_run():
    answers = [("yes", 0.75), ("no", 0.5)]
    assert agreement.same_answers({"a": answers, "b": answers}, in_bf16=[])
    near = [("yes", 0.751), ("no", 0.5)]
    assert agreement.same_answers({"a": answers, "b": near}, in_bf16=["b"])
    for other in (near, [("no", 0.75), ("no", 0.5)], [("yes", 0.75), ("no", float("nan"))]):
        with pytest.raises(Disagreement):
            agreement.same_answers({"a": answers, "b": other}, in_bf16=[])


# A fault has to be larger than the rounding of the dtype, or nothing could find it.
FAULTY_EPS = {"fp32": 1e-3, "bf16": 1e-1}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("fault", [None, "eps", "no dropout", "weight", "kernel"])
def test_disagreement_on_the_first_step_ends_the_run(material, monkeypatch, dtype, fault):
    batches = material.batches(range(12), labels=True)
    theirs = transformers.BertForSequenceClassification.from_pretrained
    real_kernel = attend.attention_in_chunks

    def ours(folder):
        model = BertForSequenceClassification.from_pretrained(folder)
        if fault == "eps":
            for layer in model.body.encoder.layers:
                layer.attention_norm.eps = FAULTY_EPS[dtype]
        elif fault == "no dropout":
            model.train = lambda mode=True: model
            model.eval()
        elif fault == "weight":
            model.body.encoder.layers[0].attention.query.weight.data *= 1.5
        return fast.accelerate(model)

    if fault == "kernel":  # the one of training on a CPU, which eval mode does not run
        monkeypatch.setattr(attend, "attention_in_chunks", lambda *inputs: 1.1 * real_kernel(*inputs))
    if fault is None:
        assert agreement.same_first_step(theirs, ours, material.folder, batches, dtype)
    else:
        with pytest.raises(Disagreement):
            agreement.same_first_step(theirs, ours, material.folder, batches, dtype)
