"""Fine-tuning from end to end, on models and data that take a second each."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from minibert import BertModel, encoder
from minibert.data import Example
from minibert.io.errors import ConfigError, DataError, MinibertError
from minibert.io.files import finite, read_json, sha256
from minibert.io.version import __version__
from minibert.workbench import Predictor
from minibert.workbench.data.corpora import Corpus, read
from minibert.workbench.kinds import KINDS
from minibert.workbench.kinds.evaluation import Measured
from minibert.workbench.reports import charts
from minibert.workbench.runs import session as sessions
from minibert.workbench.runs.folders import make_folder
from minibert.workbench.tasks import finetune as finetune_module
from minibert.workbench.tasks.evaluate import evaluate_file
from minibert.workbench.tasks.finetune import Settings, finetune
from tests.conftest import BOUNDS, refused
from tests.workbench.conftest import FILLERS, MOODS, NAMES, save_model, sentence, write_moods, write_table

STEP_COLUMNS = ["step", "epoch", "loss", "learning_rate", "gradient_norm", "tokens", "tokens_per_second", "skipped"]


def settings_for(tiny: Path, folder: Path, output: Path, **changes) -> Settings:
    """A run of a second: three epochs in fp32."""
    values = {
        "validation": str(folder / "validation.csv"),
        "test": str(folder / "test.csv"),
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "precision": "fp32",
    }
    return Settings(str(tiny), str(folder / "train.csv"), output=str(output), **{**values, **changes})


def run(settings: Settings):
    return finetune(settings, progress=False)


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def weights_of(folder: Path) -> str:
    return sha256(folder / "model" / "model.safetensors")


def log_without_speed(folder: Path) -> list[dict[str, str]]:
    return [
        {key: value for key, value in row.items() if key != "tokens_per_second"} for row in rows_of(folder / "log.csv")
    ]


@pytest.fixture(scope="module")
def learned(tiny, moods, tmp_path_factory):
    """A run that has learned its task."""
    output = tmp_path_factory.mktemp("learned") / "run"
    return run(settings_for(tiny, moods, output, epochs=8))


# The run folder


def test_a_tiny_model_learns_which_word_is_the_label(learned):
    assert learned.reports["test"].values()["accuracy"] > 0.8  # the largest class has 0.5
    assert learned.history.epochs[-1].loss < 0.5 * learned.history.epochs[0].loss


def test_the_run_folder_holds_every_file_and_nothing_else(learned):
    expected = {"run.json", "log.csv", "metrics.json", "confusion.csv", "errors.csv", "model"}
    if importlib.util.find_spec("matplotlib"):
        drawn = ("curves", "confusion", "reliability", "classes", "lengths")
        expected |= {f"{name}.png" for name in drawn}
    assert {path.name for path in learned.folder.iterdir()} == expected
    assert {path.name for path in (learned.folder / "model").iterdir()} == {
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    }


def test_run_json_says_what_is_needed_to_repeat_the_run(learned, tiny, moods):
    record = read_json(learned.folder / "run.json")
    assert record["status"] == "finished"
    assert record["settings"] == json.loads(json.dumps(settings_for(tiny, moods, learned.folder, epochs=8).__dict__))
    assert record["folder"] == str(learned.folder)
    assert record["threads"] == torch.get_num_threads()
    assert record["versions"]["minibert"] == __version__
    assert record["versions"]["torch"] == torch.__version__
    assert record["chosen_by"] == "accuracy on validation"
    assert record["labels"] == MOODS
    assert record["problem_type"] == "single_label_classification"
    assert record["precision"] == {"name": "fp32", "reason": "as told"}
    assert record["model"]["class"] == "BertForSequenceClassification"
    assert record["model"]["commit"] is None  # a folder has none
    assert record["model"]["parameters"] == record["model"]["trained_parameters"]
    assert record["model"]["parameters"] == sum(p.numel() for p in learned.model.parameters())
    for split, count in {"train": 120, "validation": 30, "test": 36}.items():
        path = moods / f"{split}.csv"
        assert record["data"][split]["files"] == {str(path): sha256(path)}
        assert record["data"][split]["examples"] == count
        assert record["data"][split]["labels"] == read(path).label_counts
    assert record["steps"] == 8 * 15 and record["skipped_steps"] == 0
    assert record["errors_and_confusion_are_of"] == "test"
    assert len(record["epochs"]) == 8 and not record["stopped_early"]
    best = max(record["epochs"], key=lambda epoch: (epoch["metrics"]["accuracy"], -epoch["metrics"]["loss"]))
    assert record["best_epoch"] == best["epoch"]


def test_paths_are_settings_too(tiny, moods, tmp_path):
    places = {name: moods / f"{name}.csv" for name in ("train", "validation", "test")}
    settings = Settings(tiny, **places, output=tmp_path / "run", epochs=1, precision="fp32")
    record = read_json(run(settings).folder / "run.json")
    assert record["settings"]["model"] == str(tiny)
    assert record["settings"]["test"] == str(places["test"])
    assert record["folder"] == record["settings"]["output"] == str(tmp_path / "run")


def test_log_csv_has_a_row_for_every_step(learned):
    rows = rows_of(learned.folder / "log.csv")
    assert list(rows[0]) == STEP_COLUMNS
    assert [int(row["step"]) for row in rows] == list(range(1, 121))
    assert [int(row["epoch"]) for row in rows] == [1 + step // 15 for step in range(120)]
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates[0] == 0.0 and max(rates) == rates[12] == 3e-3  # a tenth of the updates warms up
    assert rates[-1] == pytest.approx(3e-3 / 108)
    assert all(float(row["gradient_norm"]) > 0 for row in rows)
    dataset_tokens = sum(int(row["tokens"]) for row in rows[:15])
    assert dataset_tokens == learned.history.epochs[0].tokens


def test_without_a_learning_rate_it_takes_one_for_the_width_of_the_model(tiny, moods, tmp_path, capsys):
    settings = replace(settings_for(tiny, moods, tmp_path / "run"), learning_rate=None)
    peak = max(record.learning_rate for record in finetune(settings, progress=True).history.steps)
    width = read_json(tiny / "config.json")["hidden_size"]
    assert peak == pytest.approx(5e-5 * 768 / width)
    assert f"5e-05 * 768 / {width}" in capsys.readouterr().err


def test_metrics_json_has_each_split_with_intervals(learned):
    metrics = read_json(learned.folder / "metrics.json")
    assert list(metrics) == ["validation", "test", "baselines"]
    assert metrics["baselines"]["split"] == "test"
    for split, count in (("validation", 30), ("test", 36)):
        assert metrics[split]["examples"] == count
        for name in ("accuracy", "macro_f1", "weighted_f1"):
            metric = metrics[split][name]
            assert 0 <= metric["low"] <= metric["value"] <= metric["high"] <= 1
        assert metrics[split]["accuracy"]["low"] < metrics[split]["accuracy"]["high"]
        assert sum(row["support"] for row in metrics[split]["classes"].values()) == count
    assert metrics["validation"]["accuracy"]["value"] == max(
        epoch.metrics["accuracy"] for epoch in learned.history.epochs
    )


def test_confusion_csv_counts_the_test_split(learned, moods):
    rows = rows_of(learned.folder / "confusion.csv")
    assert [row.pop("label \\ prediction") for row in rows] == MOODS
    assert list(rows[0]) == MOODS
    by_label = {label: sum(map(int, row.values())) for label, row in zip(MOODS, rows, strict=True)}
    assert by_label == read(moods / "test.csv").label_counts
    right = sum(int(row[label]) for label, row in zip(MOODS, rows, strict=True))
    assert right / 36 == learned.reports["test"].values()["accuracy"]


def test_errors_csv_has_every_example_the_highest_loss_first(learned, moods):
    rows = rows_of(learned.folder / "errors.csv")
    assert list(rows[0]) == ["loss", "label", "prediction", "probability", "tokens", "guid", "text"]
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert sum(losses) / 36 == pytest.approx(learned.reports["test"].values()["loss"], rel=1e-5)
    examples = {example.guid: example for example in read(moods / "test.csv")}
    assert {row["guid"] for row in rows} == set(examples)
    for row in rows:
        assert row["text"] == examples[row["guid"]].text
        assert row["label"] == MOODS[examples[row["guid"]].label]
        assert row["label"] in row["text"]
        assert (row["label"] == row["prediction"]) or float(row["loss"]) > 0.69


def test_a_label_that_looks_like_a_formula_can_be_drawn(tiny, moods, tmp_path, recwarn):
    for name in ("train", "validation", "test"):
        text = (moods / f"{name}.csv").read_text().replace(",calm\n", r",$\foo$" + "\n")
        (tmp_path / f"{name}.csv").write_text(text)
    folder = run(settings_for(tiny, tmp_path, tmp_path / "run", epochs=1)).folder
    assert read_json(folder / "run.json")["status"] == "finished"
    if importlib.util.find_spec("matplotlib"):
        assert (folder / "confusion.png").exists()
        assert not [warning for warning in recwarn if "picture" in str(warning.message)]


def test_the_model_is_saved_whatever_becomes_of_scores_and_pictures(tiny, moods, tmp_path, monkeypatch):
    real = finetune_module.evaluate

    def measure(*arguments, split, **options):
        report = real(*arguments, split=split, **options)
        if split == "test":
            report.metrics["accuracy"] = {"value": float("nan")}
        return report

    def fail(*_):
        raise ValueError("no such font")

    monkeypatch.setattr(finetune_module, "evaluate", measure)
    monkeypatch.setattr(charts, "curves", fail)
    with pytest.warns(UserWarning, match="could not be drawn: ValueError: no such font"):
        folder = run(settings_for(tiny, moods, tmp_path / "run", epochs=1)).folder
    assert read_json(folder / "run.json")["status"] == "finished"
    assert read_json(folder / "metrics.json")["test"]["accuracy"] == {"value": None}
    assert Predictor.from_pretrained(folder)("one happy day")


def test_pictures_are_drawn(learned):
    for name in ("curves.png", "confusion.png"):
        assert (learned.folder / name).read_bytes().startswith(b"\x89PNG")


def test_the_model_opens_in_transformers_with_equal_logits_and_labels(learned, tokenizer):
    folder = learned.folder / "model"
    theirs, info = transformers.AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert list(theirs.config.id2label.values()) == MOODS
    texts = ["one happy day", "the rain was so angry and green"]
    their_batch = transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    ours = tokenizer(texts)
    assert torch.equal(their_batch["input_ids"], ours["input_ids"])
    with torch.no_grad():
        expected = theirs.eval()(**their_batch).logits
        logits = learned.model(**ours).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=BOUNDS["official model fp32"])


def test_the_summary_says_the_scores_the_errors_and_what_to_do_next(learned):
    summary = learned.summary()
    accuracy = learned.reports["test"].values()["accuracy"]
    assert f"accuracy       {accuracy:.4f}  (95% interval" in summary
    assert f'minibert predict {learned.folder} "your text"' in summary
    assert learned.reports["test"].rows[0]["text"][:40] in summary


def test_runs_are_numbered_where_no_folder_is_named(tiny, moods, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in ("001", "002"):
        settings = replace(settings_for(tiny, moods, tmp_path, epochs=1), output=None)
        folder = run(settings).folder
        assert folder == Path("runs") / number
        assert read_json(folder / "run.json")["folder"] == str(tmp_path / "runs" / number)


def test_a_number_that_another_run_takes_at_the_same_moment_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    real = Path.mkdir

    def mkdir(self, *arguments, **options):
        if self.name == "001":
            real(self)  # the other run was faster
        real(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert make_folder(None) == Path("runs/002")


# The same bits


def test_the_same_command_gives_the_same_bits(tiny, moods, tmp_path):
    first = run(settings_for(tiny, moods, tmp_path / "a", epochs=2))
    torch.rand(7)  # what was drawn before a run has no part in it
    second = run(settings_for(tiny, moods, tmp_path / "b", epochs=2))
    assert weights_of(first.folder) == weights_of(second.folder)
    assert log_without_speed(first.folder) == log_without_speed(second.folder)
    for name in ("metrics.json", "confusion.csv", "errors.csv"):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()
    other = run(settings_for(tiny, moods, tmp_path / "c", epochs=1, seed=1))
    assert weights_of(first.folder) != weights_of(other.folder)


def test_gradient_checkpointing_gives_the_same_bits(tiny, moods, tmp_path, monkeypatch):
    again, recompute = [], encoder._recomputed
    monkeypatch.setattr(encoder, "_recomputed", lambda *given: again.append(1) or recompute(*given))
    plain = run(settings_for(tiny, moods, tmp_path / "a", epochs=1))
    saving = run(settings_for(tiny, moods, tmp_path / "b", epochs=1, gradient_checkpointing=True))
    assert again
    assert weights_of(plain.folder) == weights_of(saving.folder)


def test_accumulation_is_exact(moods, tmp_path):
    """2 batches of 8 are 1 of 16: the same weights but for rounding. Without dropout, whose masks
    depend on the batch's shape; with batches of random order, so that the windows are the same."""
    source = save_model(tmp_path / "m", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    # 16 texts: one window, whatever the order of its halves. AdamW's first steps divide a gradient
    # by its own size, so rounding is compared in the loss and in the gradient's norm.
    write_moods(tmp_path / "train.csv", 16, seed=5)
    write_moods(tmp_path / "validation.csv", 6, seed=6)
    changes = {"test": None, "epochs": 1, "warmup": 0.0}
    whole = run(settings_for(source, tmp_path, tmp_path / "a", batch_size=16, **changes))
    parts = run(settings_for(source, tmp_path, tmp_path / "b", batch_size=4, accumulate=4, **changes))
    [one], [four] = whole.history.steps, parts.history.steps
    assert one.tokens == four.tokens
    assert four.loss == pytest.approx(one.loss, abs=BOUNDS["module fp32"])
    assert four.gradient_norm == pytest.approx(one.gradient_norm, rel=BOUNDS["gradient fp32"])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_trains_and_is_recorded(tiny, moods, tmp_path, precision):
    result = run(settings_for(tiny, moods, tmp_path / "run", precision=precision))
    assert result.history.epochs[-1].loss < result.history.epochs[0].loss
    record = read_json(result.folder / "run.json")
    assert record["precision"]["name"] == precision
    assert read_json(result.folder / "model/config.json")["dtype"] == "float32"
    assert record["steps"] == len(rows_of(result.folder / "log.csv")) == 45


# Which weights are kept


def _measured_as(monkeypatch, accuracies, seen):
    """Replaces the validation accuracy by a list, and notes the order of the evaluations."""
    real = finetune_module.evaluate

    def measure(model, *args, split, **options):
        report = real(model, *args, split=split, **options)
        seen.append((split, model.head.classifier.weight.detach().clone()))
        during_training = split == "validation" and len(seen) <= len(accuracies)
        if during_training:
            report.metrics["accuracy"] = {"value": accuracies[len(seen) - 1]}
        return report

    monkeypatch.setattr(finetune_module, "evaluate", measure)


def test_the_best_epochs_weights_are_tested_and_saved(tiny, moods, tmp_path, monkeypatch):
    seen = []
    _measured_as(monkeypatch, [0.5, 0.9, 0.7], seen)
    result = run(settings_for(tiny, moods, tmp_path / "run"))
    assert [split for split, _ in seen] == ["validation"] * 4 + ["test"]
    best, final = seen[1][1], seen[-1][1]
    assert torch.equal(best, final) and not torch.equal(seen[2][1], final)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(result.folder / "model")
    assert torch.equal(theirs.classifier.weight, best)
    assert read_json(result.folder / "run.json")["best_epoch"] == 2


def test_early_stopping(tiny, moods, tmp_path, monkeypatch):
    _measured_as(monkeypatch, [0.5, 0.9, 0.7, 0.8], [])
    result = run(settings_for(tiny, moods, tmp_path / "run", epochs=9, patience=2))
    record = read_json(result.folder / "run.json")
    assert len(record["epochs"]) == 4 and record["stopped_early"] and record["best_epoch"] == 2


def test_another_metric_can_choose(tiny, moods, tmp_path):
    result = run(settings_for(tiny, moods, tmp_path / "run", watch="loss"))
    losses = [epoch.metrics["loss"] for epoch in result.history.epochs]
    record = read_json(result.folder / "run.json")
    assert record["chosen_by"] == "loss on validation"
    assert record["best_epoch"] == 1 + losses.index(min(losses))


# What is trained


def test_freezing_trains_the_head_alone(moods, tmp_path):
    source = save_model(tmp_path / "m", BertModel)
    body = BertModel.from_pretrained(source)
    result = run(settings_for(source, moods, tmp_path / "run", freeze=True, epochs=1))
    for name, parameter in result.model.bert.named_parameters():
        assert torch.equal(parameter, body.get_parameter(name)), name
    record = read_json(result.folder / "run.json")
    assert record["model"]["trained_parameters"] == 32 * 3 + 3


def test_a_pooler_that_was_not_pre_trained_is_no_part_of_what_is_frozen(tiny, moods, tmp_path):
    result = run(settings_for(tiny, moods, tmp_path / "run", freeze=True, epochs=1))
    record = read_json(result.folder / "run.json")
    assert record["model"]["trained_parameters"] == (32 * 32 + 32) + (32 * 3 + 3)
    assert not result.model.untrained()


# Data


def test_validation_is_a_stratified_share_where_none_is_given(tiny, moods, tmp_path):
    settings = settings_for(tiny, moods, tmp_path / "run", validation=None, validation_fraction=0.2, epochs=1)
    data = read_json(run(settings).folder / "run.json")["data"]
    assert data["train"]["labels"] == {"angry": 16, "calm": 32, "happy": 48}
    assert data["validation"]["labels"] == {"angry": 4, "calm": 8, "happy": 12}


def test_subsets_keep_the_shares_of_the_classes(tiny, moods, tmp_path):
    settings = settings_for(tiny, moods, tmp_path / "run", train_subset=60, test_subset=12, epochs=1)
    data = read_json(run(settings).folder / "run.json")["data"]
    assert data["train"]["labels"] == {"angry": 10, "calm": 20, "happy": 30}
    assert data["test"]["labels"] == {"angry": 2, "calm": 4, "happy": 6}
    assert data["validation"]["examples"] == 30


def test_without_a_test_split_the_errors_are_those_of_validation(tiny, moods, tmp_path):
    result = run(settings_for(tiny, moods, tmp_path / "run", test=None, epochs=1))
    assert list(result.reports) == ["validation"]
    assert read_json(result.folder / "run.json")["errors_and_confusion_are_of"] == "validation"
    assert len(rows_of(result.folder / "errors.csv")) == 30


def test_pairs(tiny, tmp_path):
    """The two texts name the same person, or not."""
    draw = random.Random(0)
    rows = []
    for number in range(24):
        first, second = (NAMES[0],) * 2 if number % 2 else NAMES[:2]
        rows.append((sentence(draw, first), sentence(draw, second), "same" if number % 2 else "other"))
    write_table(tmp_path / "train.csv", ["one", "two", "label"], rows)
    settings = settings_for(
        tiny, tmp_path, tmp_path / "run", validation=None, test=None, text="one", text_pair="two",
        validation_fraction=0.25, epochs=1,
    )  # fmt: skip
    result = run(settings)
    assert list(rows_of(result.folder / "errors.csv")[0])[-2:] == ["text", "text_pair"]
    assert {row[:2] for row in rows} >= {(row["text"], row["text_pair"]) for row in result.reports["validation"].rows}


def test_regression(tiny, tmp_path):
    """How many of the words are 'happy', as a number."""
    draw = random.Random(0)
    rows = []
    for number in range(96):
        count = number % 4
        rows.append((sentence(draw, *["happy"] * count), f"{count / 2:.1f}"))
    write_table(tmp_path / "train.csv", ["text", "label"], rows)
    settings = settings_for(tiny, tmp_path, tmp_path / "run", validation=None, test=None, epochs=6)
    result = run(settings)
    values = result.reports["validation"].values()
    assert set(values) == set(KINDS["regression"].metrics)
    assert values["pearson"] > 0.5 and values["mse"] == pytest.approx(values["loss"], rel=1e-4)
    assert not (result.folder / "confusion.csv").exists()
    config = read_json(result.folder / "model/config.json")
    assert config["problem_type"] == "regression" and len(config["id2label"]) == 1
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(result.folder / "model")
    assert theirs.config.num_labels == 1


def test_whole_numbers_are_numbers_where_the_task_is_regression(tiny, tmp_path):
    draw = random.Random(0)
    for name, labels in {"train": "1.5 2.0", "validation": "3 1", "test": "3 1"}.items():
        rows = [(sentence(draw, "happy"), label) for label in labels.split() * 4]
        write_table(tmp_path / f"{name}.csv", ["text", "label"], rows)
    result = run(settings_for(tiny, tmp_path, tmp_path / "a", epochs=1))
    assert {row["label"] for row in result.reports["test"].rows} == {1.0, 3.0}
    report = evaluate_file(result.folder, tmp_path / "test.csv", progress=False)
    assert set(report.values()) == set(KINDS["regression"].metrics)
    ratings = settings_for(tiny, tmp_path, tmp_path / "b", epochs=1, problem_type="regression")
    result = run(replace(ratings, train=tmp_path / "test.csv"))
    assert result.model.config.problem_type == "regression"
    with refused(DataError, "label"):
        other = settings_for(tiny, tmp_path, tmp_path / "c", problem_type="token_classification")
        run(other)


def test_logits_that_are_no_numbers_end_no_measurement():
    corpus = Corpus((Example("one", label=0), Example("two", label=1)), ("a", "b"))
    logits = [torch.tensor([1.0, 0.0]), torch.tensor([math.nan, 0.0])]
    measured = Measured("test", corpus, ("a", "b"), 0.0, logits, [1, 1], intervals=False)
    metrics = KINDS["single_label_classification"].report(measured).metrics
    assert math.isnan(metrics["expected_calibration_error"])
    assert finite(metrics)["expected_calibration_error"] is None


def test_large_numbers_are_measured_as_they_are(tiny, tmp_path):
    """Six numbers that float32 cannot tell apart."""
    corpus = Corpus(tuple(Example(f"t{n}", label=float(2**24 + n)) for n in range(6)), None)
    logits = [torch.tensor([float(n)]) for n in range(6)]
    measured = Measured("test", corpus, (), 0.0, logits, [1] * 6, intervals=False)
    report = KINDS["regression"].report(measured)
    assert report.values()["pearson"] == pytest.approx(1)
    assert report.values()["spearman"] == pytest.approx(1)


def test_lists_of_labels_that_are_all_empty_are_nothing_to_learn(tiny, tmp_path):
    path = tmp_path / "none.jsonl"
    path.write_text('{"text": "one day", "label": []}\n' * 9)
    with refused(DataError, "label"):
        settings = settings_for(tiny, tmp_path, tmp_path / "run", validation=None, test=None)
        run(replace(settings, train=path))


def test_several_labels_at_once(tiny, tmp_path):
    """Which of the names are in the text: none, one, or several."""
    draw = random.Random(0)
    lines = []
    for _ in range(240):
        names = sorted(draw.sample(NAMES, draw.randint(0, 2)))
        lines.append(json.dumps({"text": sentence(draw, *names), "label": names}))
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    settings = replace(
        settings_for(tiny, tmp_path, tmp_path / "run", validation=None, test=None, epochs=10),
        train=str(tmp_path / "train.jsonl"),
    )
    result = run(settings)
    values = result.reports["validation"].values()
    assert set(values) == set(KINDS["multi_label_classification"].metrics)
    assert values["micro_f1"] > 0.6
    config = read_json(result.folder / "model/config.json")
    assert config["problem_type"] == "multi_label_classification"
    assert list(config["id2label"].values()) == NAMES
    rows = rows_of(result.folder / "errors.csv")
    assert any("," in row["label"] for row in rows) and any(row["label"] == "" for row in rows)
    assert not (result.folder / "confusion.csv").exists()


def write_conll(path: Path, count: int, seed: int) -> Path:
    """Sentences in which every name is a person, and 'green tree' is a place of two words."""
    draw = random.Random(seed)
    tags = dict.fromkeys(NAMES, "B-person")
    blocks = []
    for _ in range(count):
        words = draw.choices([*FILLERS, *NAMES], k=draw.randint(3, 8)) + ["zoo", "park"]
        kinds = [tags.get(word, "O") for word in words[:-2]] + ["B-place", "I-place"]
        blocks.append("\n".join(f"{w}\t{t}" for w, t in zip(words, kinds, strict=True)))
    path.write_text("\n\n".join(blocks) + "\n")
    return path


def test_tagged_words_go_through_the_same_loop(tiny, tmp_path):
    train, test = write_conll(tmp_path / "a.conll", 96, 0), write_conll(tmp_path / "b.conll", 20, 1)
    settings = replace(
        settings_for(tiny, tmp_path, tmp_path / "run", validation=None, epochs=8), train=str(train), test=str(test)
    )
    result = run(settings)
    values = result.reports["test"].values()
    assert set(values) == set(KINDS["token_classification"].metrics)
    assert values["entity_f1"] > 0.8 and values["word_accuracy"] > 0.9
    metrics = read_json(result.folder / "metrics.json")["test"]
    assert set(metrics["classes"]) == {"person", "place"}
    assert metrics["words"] == sum(len(example.words) for example in read(test))
    confusion = rows_of(result.folder / "confusion.csv")
    counted = sum(int(value) for row in confusion for value in list(row.values())[1:])
    assert counted == metrics["words"]
    config = read_json(result.folder / "model/config.json")
    assert config["architectures"] == ["BertForTokenClassification"]
    assert list(config["id2label"].values()) == ["B-person", "B-place", "I-person", "I-place", "O"]


def test_cut_texts_are_counted(tiny, moods, tmp_path):
    with pytest.warns(UserWarning, match="had more than 6 tokens and were cut"):
        exact = {"max_length": 6, "epochs": 1, "precision": "fp32"}
        result = run(settings_for(tiny, moods, tmp_path / "run", **exact))
    data = read_json(result.folder / "run.json")["data"]
    long = [len(text.split()) > 4 for text in (example.text for example in read(moods / "test.csv"))]
    assert data["test"]["cut_texts"] == sum(long) > 0
    with pytest.warns(UserWarning, match="more than 6 tokens"):  # the model keeps the run's limit
        report = evaluate_file(result.folder, moods / "test.csv", precision="fp32", progress=False)
    assert report.values()["loss"] == pytest.approx(
        result.reports["test"].values()["loss"], rel=BOUNDS["official model fp32"]
    )


# What is refused, before anything is written


@pytest.mark.parametrize(
    "key, value",
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("accumulate", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -0.1),
        ("warmup", 1.5),
        ("clip_norm", 0.0),
        ("schedule", "square"),
        ("patience", 0),
        ("max_length", 2),
        ("threads", 0),
        ("seed", -1),
        ("validation_fraction", 1.0),
        ("watch", "accurracy"),
        ("precision", "fp8"),
        ("device", "abacus"),
        ("train_subset", 1000),
        ("max_length", 31),
    ],
)
def test_a_setting_that_no_run_can_have(tiny, moods, tmp_path, key, value):
    with pytest.raises(MinibertError) as caught:
        run(settings_for(tiny, moods, tmp_path / "run", **{key: value}))
    assert key in (caught.value.key, "train_subset")
    assert str(value) in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_taken_folder_is_refused(tiny, moods, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError):
        run(settings_for(tiny, moods, tmp_path / "run"))
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_a_label_of_the_test_split_that_training_does_not_know(tiny, moods, tmp_path):
    write_table(tmp_path / "test.csv", ["text", "label"], [("one day", "bored")])
    settings = settings_for(tiny, moods, tmp_path / "run", test=str(tmp_path / "test.csv"))
    with refused(DataError, f"{tmp_path / 'test.csv'}:2"):
        run(settings)
    assert not (tmp_path / "run").exists()


def test_a_single_label_is_nothing_to_learn(tiny, tmp_path):
    write_table(tmp_path / "train.csv", ["text", "label"], [("one day", "calm")] * 9)
    settings = settings_for(tiny, tmp_path, tmp_path / "run", validation=None, test=None)
    with refused(DataError, "label"):
        run(settings)


def test_splits_of_different_kinds(tiny, moods, tmp_path):
    (tmp_path / "test.jsonl").write_text('{"text": "one day", "label": ["calm", "happy"]}\n')
    settings = settings_for(tiny, moods, tmp_path / "run", test=str(tmp_path / "test.jsonl"))
    with refused(DataError, f"{tmp_path / 'test.jsonl'}:1"):
        run(settings)
    (tmp_path / "test.txt").write_text("a text without a label\n")
    settings = settings_for(tiny, moods, tmp_path / "run")
    with refused(DataError, "label"):
        run(replace(settings, train=str(tmp_path / "test.txt")))
    assert not (tmp_path / "run").exists()


def test_a_run_that_dies_is_known_by_its_record(tiny, moods, tmp_path, monkeypatch):
    def die(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sessions, "train", die)
    with pytest.raises(KeyboardInterrupt):
        run(settings_for(tiny, moods, tmp_path / "run"))
    assert read_json(tmp_path / "run/run.json")["status"] == "unfinished"
    with pytest.raises(MinibertError, match="has not finished: there is no model in it"):
        Predictor.from_pretrained(tmp_path / "run")


def test_a_run_folder_can_be_trained_further(learned, moods, tmp_path):
    """Its labels are the same, so its head is kept."""
    result = run(settings_for(learned.folder, moods, tmp_path / "run", learning_rate=1e-9, epochs=1))
    before = learned.reports["test"].values()
    assert result.reports["test"].values()["accuracy"] == before["accuracy"]


def test_distilbert(moods, tmp_path):
    """No segments and no pooler, and a head of two layers."""
    source = save_model(tmp_path / "m", BertModel, model_type="distilbert", type_vocab_size=0)
    result = run(settings_for(source, moods, tmp_path / "run"))
    assert result.history.epochs[-1].loss < result.history.epochs[0].loss
    config = read_json(result.folder / "model/config.json")
    assert config["architectures"] == ["DistilBertForSequenceClassification"]
