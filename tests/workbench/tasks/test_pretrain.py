"""Pre-training from end to end, on a generated language that a tiny model learns in a minute."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import random
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from minibert import BertConfig, BertForMaskedLM, BertForPreTraining, Layout
from minibert import training as loop
from minibert.data import IGNORED_LABEL, collate
from minibert.fast.precision import choose_precision
from minibert.io.errors import ConfigError, DataError, MinibertError, TrainingError
from minibert.io.files import read_json, sha256
from minibert.tokenizer import BertTokenizer
from minibert.training import optimizer_step
from minibert.workbench import cli
from minibert.workbench.data import passages
from minibert.workbench.data.documents import Document
from minibert.workbench.data.masking import Masking
from minibert.workbench.data.passages import Passages
from minibert.workbench.reports.page import document
from minibert.workbench.runs.folders import read_run
from minibert.workbench.runs.pretrain_settings import PretrainSettings
from minibert.workbench.tasks.finetune import resume
from minibert.workbench.tasks.pretrain import _prepare, pretrain, resume_pretraining
from minibert.workbench.tasks.pretrain_model import with_positions
from minibert.workbench.tasks.pretrain_scores import baselines, masked_batches, measure
from tests.conftest import BOUNDS, refused
from tests.workbench.conftest import save_model
from tests.workbench.reports.test_report import Page, addresses

# The grammar: "the dog near the old gates runs ." A noun's number decides the verb's form, with a
# noun of either number between them; a document keeps to one place, and each place has its nouns:
# what does not follow is of the other place, half of the time.
NOUNS = [("dog", "dogs"), ("cat", "cats"), ("king", "kings"), ("child", "children")]
VERBS = [("runs", "run"), ("sleeps", "sleep"), ("sings", "sing"), ("waits", "wait")]
AROUND = [("gate", "gates"), ("tree", "trees"), ("river", "rivers")]
BETWEEN = ["near", "behind", "below"]
LOOKS = ["old", "small", "green"]
PLACES = ["castle", "tower"]


def grammar_sentence(draw: random.Random, place: int) -> str:
    number, other = draw.randint(0, 1), draw.randint(0, 1)
    noun = draw.choice(NOUNS[2 * place : 2 * place + 2])[number]
    verb = draw.choice(VERBS)[number]
    between = f"{draw.choice(BETWEEN)} the {draw.choice(LOOKS)} {draw.choice(AROUND)[other]}"
    return f"The {noun} {between} {verb} by the {PLACES[place]}."


def write_grammar(path: Path, count: int, seed: int = 0) -> Path:
    """A document a line, of 2 to 6 sentences."""
    draw = random.Random(seed)
    with open(path, "w") as file:
        for number in range(count):
            text = " ".join(grammar_sentence(draw, number % 2) for _ in range(draw.randint(2, 6)))
            file.write(json.dumps({"text": text}) + "\n")
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_grammar(tmp_path_factory.mktemp("grammar") / "corpus.jsonl", 120)


def settings_for(corpus: Path, output: Path, **changes: Any) -> PretrainSettings:
    """A run of a few seconds: D 32, L 1, N 2."""
    values: dict[str, Any] = {
        "layers": 1,
        "hidden_size": 32,
        "heads": 2,
        "vocabulary_size": 120,
        "max_length": 40,
        "batch_size": 8,
        "epochs": 2,
        "precision": "fp32",
        "threads": 1,
    }
    if "validation" not in changes:
        values["validation_fraction"] = 0.1
    return PretrainSettings(corpus=[str(corpus)], output=str(output), **{**values, **changes})


def run(settings: PretrainSettings):
    return pretrain(settings, progress=False)


def weights_of(folder: Path) -> str:
    return sha256(folder / "model" / "model.safetensors")


def log_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "log.csv", newline="") as file:
        return [
            {key: value for key, value in row.items() if key != "tokens_per_second"} for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """A run without a break, with dropout, accumulation and a checkpoint every few steps."""
    output = tmp_path_factory.mktemp("whole") / "run"
    return run(settings_for(corpus, output, accumulate=2, save_every=3))


# The run folder


def test_the_run_folder_holds_every_file_and_nothing_else(whole):
    expected = {"run.json", "log.csv", "metrics.json", "model"}
    if importlib.util.find_spec("matplotlib"):
        expected.add("curves.png")
    assert {path.name for path in whole.folder.iterdir()} == expected
    record = read_json(whole.folder / "run.json")
    assert record["status"] == "finished" and record["command"] == "pretrain"
    assert record["model"]["class"] == "BertForPreTraining"
    assert record["data"]["train"]["documents"] == 108
    assert record["data"]["validation"]["documents"] == 12
    log = log_of(whole.folder)
    assert len(log) == record["steps"]
    for row in log:  # the losses are kept apart, and their sum is the loss
        both = float(row["masked_lm"]) + float(row["next_sentence"])
        assert both == pytest.approx(float(row["loss"]), rel=1e-12)


def test_the_curves_of_both_objectives_are_drawn(whole, corpus, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    alone = run(settings_for(corpus, tmp_path / "run", objective="mlm", epochs=1))
    for folder in (whole.folder, alone.folder):
        assert image.imread(folder / "curves.png")[..., :3].std() > 0.02


def test_metrics_stand_beside_those_of_guesses(whole):
    metrics = read_json(whole.folder / "metrics.json")
    assert set(metrics) == {"validation", "baselines"}
    found, floor = metrics["validation"], metrics["baselines"]
    assert set(found) == {
        "loss",
        "masked_lm_loss",
        "masked_lm_accuracy",
        "next_sentence_loss",
        "next_sentence_accuracy",
        "perplexity",
    }
    assert found["perplexity"] == pytest.approx(math.exp(found["masked_lm_loss"]))
    assert set(floor) == {"unigram", "majority"}
    summary = whole.summary()
    assert "unigram" in summary and f"{floor['unigram']['masked_lm_loss']:.4f}" in summary
    assert read_json(whole.folder / "run.json")["epochs"][-1]["metrics"] == found


def test_transformers_opens_what_is_saved(whole):
    folder = whole.folder / "model"
    theirs = transformers.BertForPreTraining.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(["The dogs near the old gate", "the king"], padding=True, return_tensors="pt")
    ours = whole.tokenizer(["The dogs near the old gate", "the king"])
    assert all(torch.equal(batch[name], ours[name]) for name in ours)
    with torch.no_grad():
        expected, found = theirs(**batch), whole.model(**ours)
    real = ours["attention_mask"].bool()
    difference = expected.prediction_logits[real] - found.prediction_logits[real]
    assert difference.abs().max() < BOUNDS["official model fp32"]
    difference = expected.seq_relationship_logits - found.seq_relationship_logits
    assert difference.abs().max() < BOUNDS["official model fp32"]


def test_the_same_command_gives_the_same_bits(whole, corpus, tmp_path):
    torch.manual_seed(5)
    again = run(settings_for(corpus, tmp_path / "run", accumulate=2, save_every=3))
    assert weights_of(again.folder) == weights_of(whole.folder)
    assert log_of(again.folder) == log_of(whole.folder)
    other = run(settings_for(corpus, tmp_path / "other", accumulate=2, seed=1))
    assert weights_of(other.folder) != weights_of(whole.folder)


# Resuming a run


class Interruption(Exception):
    """Stands in for the end of the process."""


def break_at(monkeypatch, step: int) -> None:
    calls = iter(range(1, step + 1))

    def broken(*arguments, **options):
        if next(calls) == step:
            raise Interruption
        return optimizer_step(*arguments, **options)

    monkeypatch.setattr(loop, "optimizer_step", broken)


@pytest.mark.parametrize("step", [1, 5, 11])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(whole, corpus, tmp_path, monkeypatch, step):
    settings = settings_for(corpus, tmp_path / "run", accumulate=2, save_every=3)
    with monkeypatch.context() as patch:
        break_at(patch, step)
        with pytest.raises(Interruption):
            run(settings)
    torch.manual_seed(999)
    with refused(ConfigError, "mask_share"):
        resume_pretraining(tmp_path / "run", progress=False, mask_share=0.2)
    with pytest.raises(DataError):
        resume(tmp_path / "run", progress=False)
    resume_pretraining(tmp_path / "run", progress=False)
    assert weights_of(tmp_path / "run") == weights_of(whole.folder)
    assert log_of(tmp_path / "run") == log_of(whole.folder)
    with pytest.raises(TrainingError):
        resume_pretraining(tmp_path / "run", progress=False)


def test_a_share_of_each_epoch_is_its_first_batches(corpus, tmp_path):
    logs = {}
    for share in (1.0, 0.4):
        run(settings_for(corpus, tmp_path / str(share), epochs=2, epoch_share=share))
        logs[share] = [
            [row["tokens"] for row in log_of(tmp_path / str(share)) if row["epoch"] == str(epoch)] for epoch in (1, 2)
        ]
    for whole, part in zip(logs[1.0], logs[0.4], strict=True):
        assert part == whole[: round(0.4 * len(whole))] and 1 < len(part) < len(whole)


def test_another_corpus_is_refused(corpus, tmp_path, monkeypatch):
    mine = write_grammar(tmp_path / "mine.jsonl", 40)
    with monkeypatch.context() as patch:
        break_at(patch, 2)
        with pytest.raises(Interruption):
            run(settings_for(mine, tmp_path / "run"))
    write_grammar(mine, 40, seed=1)
    with refused(ConfigError, "data.train.characters"):
        resume_pretraining(tmp_path / "run", progress=False)


def test_a_corpus_that_was_moved_is_named_again(whole, corpus, tmp_path, monkeypatch):
    mine = tmp_path / "mine.jsonl"
    mine.write_bytes(corpus.read_bytes())
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        break_at(patch, 5)
        with pytest.raises(Interruption):
            run(settings_for(Path("mine.jsonl"), Path("run"), accumulate=2, save_every=3))
    moved = mine.rename(tmp_path / "moved.jsonl")
    monkeypatch.chdir(corpus.parent)
    with refused(DataError, "corpus"):
        resume_pretraining(tmp_path / "run", progress=False)
    resume_pretraining(tmp_path / "run", progress=False, corpus=[moved])
    assert weights_of(tmp_path / "run") == weights_of(whole.folder)


# Batches


@pytest.fixture(scope="module")
def material(whole, corpus):
    """(tokenizer, masking, passages) of the corpus."""
    tokenizer = whole.tokenizer
    texts = [json.loads(line)["text"] for line in corpus.read_text().splitlines()]
    found = passages.tokenise([Document(text, "") for text in texts], tokenizer, most=18)
    masking = Masking(tokenizer.vocabulary, tokenizer.special_tokens, size=len(tokenizer))
    rows = Passages(found, passages.pairs(found, 37, seed=0), tokenizer, next_sentence=True)
    return tokenizer, masking, rows


def batches_of(material, *seed, **plan):
    tokenizer, masking, rows = material
    return masked_batches(rows, tokenizer, masking, seed=seed, **{"token_budget": 320, **plan})


def test_a_batch_is_the_same_whenever_it_is_loaded_and_other_in_each_epoch(material):
    first, again = batches_of(material, 0, "masks", 0), batches_of(material, 0, "masks", 0)
    later = batches_of(material, 0, "masks", 1)
    for one, other, third in zip(first[:5], again, later, strict=False):
        labels = [batch.load()["labels"] for batch in (one, one, other, third)]
        assert torch.equal(labels[0], labels[1]) and torch.equal(labels[0], labels[2])
        assert not torch.equal(labels[0], labels[3])
    one, other = (batch.load()["labels"] for batch in first[:2])
    columns = min(one.shape[1], other.shape[1])  # two batches of an epoch differ in their masks
    assert not torch.equal(one[:4, :columns] >= 0, other[:4, :columns] >= 0)


def test_another_seed_is_another_order(material):
    orders = [[batch.indices for batch in batches_of(material, seed, "masks", 0)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_hidden_ids_and_labels_together_are_the_rows(material):
    tokenizer, _, rows = material
    for batch in batches_of(material, 0)[:8]:
        inputs = batch.load()
        plain = collate([rows[row] for row in batch.indices])
        chosen = inputs["labels"] != IGNORED_LABEL
        whole = torch.where(chosen, inputs["labels"], inputs["input_ids"])
        assert torch.equal(whole, plain["input_ids"])
        assert not chosen[plain["attention_mask"] == 0].any()  # padding never counts
        assert chosen.any(dim=1).all()
        assert torch.equal(inputs["next_sentence_label"], plain["labels"])
        assert batch.tokens == int(plain["attention_mask"].sum()) <= 320


def test_every_row_is_in_one_batch(material):
    chosen = [row for batch in batches_of(material, 0) for row in batch.indices]
    assert sorted(chosen) == list(range(len(material[2])))


def random_model(tokenizer, dtype=torch.float64) -> BertForPreTraining:
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=40,
        initializer_range=0.3,
    )
    model = BertForPreTraining(config, generator=torch.Generator().manual_seed(3))
    return model.to(dtype).eval()


def test_losses_and_logits_are_those_of_transformers(material, tmp_path):
    """On the same masked batches, with a class 0 among the labels, in float64."""
    ours = random_model(material[0])
    ours.save_pretrained(tmp_path)
    theirs = transformers.BertForPreTraining.from_pretrained(tmp_path, dtype=torch.float64).eval()
    seen = set()
    for batch in batches_of(material, 0)[:12]:
        inputs = dict(batch.load())
        if (inputs["next_sentence_label"] == IGNORED_LABEL).all():
            continue  # of no labels transformers' mean is NaN; ours is 0
        seen |= set(inputs["next_sentence_label"].tolist())
        with torch.no_grad():
            found = ours(**inputs)
            del inputs["labelled_only"]
            expected = theirs(**inputs)
        assert float(found.loss) == pytest.approx(float(expected.loss), abs=BOUNDS["fp64"])
        layout = Layout.from_mask(inputs["attention_mask"])
        labels = layout.unpad(inputs["labels"])
        logits = layout.unpad(expected.prediction_logits)[labels != IGNORED_LABEL]
        assert (logits - found.prediction_logits).abs().max() < BOUNDS["fp64"]
    assert {0, 1} <= seen


def test_scores_are_those_counted_by_hand(material):
    model = random_model(material[0], torch.float32)
    batches = batches_of(material, 0, shuffle=False)
    scores = measure(model, batches, choose_precision("fp32", "cpu"))
    pieces, follows, losses = [], [], []
    for batch in batches:
        inputs = dict(batch.load())
        del inputs["labelled_only"]
        with torch.no_grad():
            output = model(**inputs)
        chosen = inputs["labels"] != IGNORED_LABEL
        logits = output.prediction_logits[chosen].double()
        labels = inputs["labels"][chosen]
        losses += torch.nn.functional.cross_entropy(logits, labels, reduction="none").tolist()
        pieces += (logits.argmax(-1) == labels).tolist()
        counting = inputs["next_sentence_label"] >= 0
        right = output.seq_relationship_logits.argmax(-1) == inputs["next_sentence_label"]
        follows += right[counting].tolist()
    assert scores["masked_lm_accuracy"] == pytest.approx(np.mean(pieces))
    assert scores["next_sentence_accuracy"] == pytest.approx(np.mean(follows))
    assert scores["masked_lm_loss"] == pytest.approx(np.mean(losses), rel=BOUNDS["module fp32"])
    assert scores["loss"] == scores["masked_lm_loss"] + scores["next_sentence_loss"]


def test_baselines_by_hand(material):
    tokenizer, masking, rows = material
    ids = np.concatenate([rows.ids(row) for row in range(40)])
    batches = batches_of(material, 0)
    found = baselines(ids, batches, masking)
    labels = torch.cat([batch.load()["labels"].flatten() for batch in batches])
    labels = labels[labels >= 0].tolist()
    ordinary = [number for number in range(len(tokenizer)) if number > 4]
    counts = {number: 1 + int((ids == number).sum()) for number in ordinary}
    loss = -np.mean([math.log(counts[label] / sum(counts.values())) for label in labels])
    assert found["unigram"]["masked_lm_loss"] == pytest.approx(loss)
    most_frequent = max(counts, key=counts.__getitem__)
    share = np.mean([label == most_frequent for label in labels])
    assert found["unigram"]["masked_lm_accuracy"] == pytest.approx(share)
    assert 0.5 <= found["majority"]["next_sentence_accuracy"] < 0.7


# From settings to batches


def prepare(corpus: Path, **changes: Any):
    return _prepare(settings_for(corpus, Path("nothing-is-written"), **changes), progress=False)


def test_every_setting_reaches_what_it_decides(corpus):
    prepared = prepare(
        corpus, mask_share=0.4, whole_words=True, cased=True, dropout=0.25, batch_size=3, gradient_checkpointing=True
    )
    assert (prepared.masking.share, prepared.masking.whole_words) == (0.4, True)
    assert not prepared.tokenizer.lowercase and "The" in prepared.tokenizer.vocabulary
    config = prepared.model.config
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.25, 0.25)
    assert prepared.model.body.encoder.gradient_checkpointing
    largest = max(batch.tokens for batch in prepared.batches_of_epoch(0))
    assert 2 * 40 < largest <= 3 * 40


def test_the_vocabulary_is_made_of_what_is_trained_on_alone(tmp_path, corpus):
    held = write_grammar(tmp_path / "held.jsonl", 100, seed=5)
    held.write_text(held.read_text().replace("castle", "landing"))  # letters that the corpus has
    vocabulary = prepare(corpus, validation=[held], vocabulary_size=400).tokenizer.vocabulary
    assert "castle" in vocabulary and "landing" not in vocabulary


def test_each_epoch_has_pairs_of_its_own(corpus):
    prepared = prepare(corpus)
    epochs = []
    for epoch in (0, 1):
        rows = set()
        for batch in prepared.batches_of_epoch(epoch):
            inputs = batch.load()
            chosen = inputs["labels"] != IGNORED_LABEL
            whole = torch.where(chosen, inputs["labels"], inputs["input_ids"])  # (B, S)
            rows |= {tuple(row) for row in whole.tolist()}
        epochs.append(rows)
    assert len(epochs[0] & epochs[1]) < 0.6 * len(epochs[0])  # short rows can be cut in few ways


def test_each_epoch_hides_other_places(corpus):
    """One generator state gives one pattern to all batches of a shape, whatever they hold."""
    prepared = prepare(corpus, objective="mlm", batch_size=4)
    epochs = (prepared.batches_of_epoch(epoch) for epoch in (0, 1))
    pairs = [[batch.load()["labels"] >= 0 for batch in both] for both in zip(*epochs, strict=False)]
    alike = [(one, other) for one, other in pairs if one.shape == other.shape]
    assert len(alike) > 3
    for one, other in alike:
        assert (one & other).sum() < 0.6 * one.sum()


# Learning


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned")
    settings = settings_for(
        write_grammar(folder / "corpus.jsonl", 2500),
        folder / "run",
        layers=2,
        hidden_size=48,
        heads=4,
        max_length=32,
        batch_size=16,
        vocabulary_size=220,
        epochs=12,
        learning_rate=1.5e-3,
        mask_share=0.3,  # more to learn from: with 15% one of five corpora does not get there
        dropout=0.0,
    )
    return run(settings)


def test_a_tiny_model_learns_the_grammar(learned):
    """What is left is chance: the words between which the grammar throws dice."""
    floor = learned.baselines["unigram"]["masked_lm_loss"]
    assert learned.scores["masked_lm_loss"] < 0.7 < 0.25 * floor
    assert learned.scores["next_sentence_loss"] < 0.6 < math.log(2)
    majority = learned.baselines["majority"]["next_sentence_accuracy"]
    assert majority + 0.12 < learned.scores["next_sentence_accuracy"] < 0.8  # it can be 0.75


def test_a_verb_agrees_with_a_noun_across_another(learned):
    """Of both forms of a verb the one that agrees with its noun, not with the noun beside it."""
    tokenizer, model = learned.tokenizer, learned.model
    right = total = 0
    for forms in NOUNS:
        for number in (0, 1):
            for between in AROUND:
                text = f"The {forms[number]} near the old {between[1 - number]} [MASK] by the hall."
                batch = tokenizer([text])
                with torch.no_grad():
                    logits = model(**batch).prediction_logits[0]
                [place] = (batch["input_ids"][0] == tokenizer.mask_id).nonzero().flatten().tolist()
                for verb in VERBS:
                    ids = tokenizer.ids(list(verb))
                    right += int(logits[place, ids].argmax()) == number
                    total += 1
    assert total == 96 and right > 90  # chance is 48; the nearer noun would give 0


# Continuing from a checkpoint, and other forms


def test_domain_adaptation_from_a_model_of_masked_lm(tmp_path, corpus):
    tiny = save_model(tmp_path / "tiny")
    drawn = ("layers", "hidden_size", "heads", "vocabulary_size")
    found = run(
        settings_for(
            corpus,
            tmp_path / "run",
            model=str(tiny),
            max_length=30,
            epochs=1,
            objective="mlm",
            learning_rate=1e-4,
            **dict.fromkeys(drawn),
        )
    )
    assert isinstance(found.model, BertForMaskedLM)
    before = BertForMaskedLM.from_pretrained(tiny)
    assert found.model.config.hidden_size == before.config.hidden_size
    moved = [
        float((one - other).detach().abs().max())
        for one, other in zip(found.model.parameters(), before.parameters(), strict=True)
    ]
    assert max(moved) > 0 and np.median(moved) < 0.02  # it began there
    assert list(log_of(found.folder)[0])[-1] == "skipped"  # one loss needs no column of its own


def test_a_body_without_heads_gets_fresh_ones_and_a_warning_for_a_high_rate(tmp_path, corpus):
    tiny = save_model(tmp_path / "tiny")
    drawn = dict.fromkeys(("layers", "hidden_size", "heads", "vocabulary_size"))
    settings = settings_for(corpus, tmp_path / "run", model=str(tiny), max_length=30, epochs=1, **drawn)
    with pytest.warns(UserWarning, match="high for weights that are already trained"):
        found = run(settings)
    assert isinstance(found.model, BertForPreTraining)
    BertForPreTraining.from_pretrained(found.folder)


def test_the_vocabulary_of_another_model(tmp_path, corpus):
    tiny = save_model(tmp_path / "tiny")
    found = run(
        settings_for(
            corpus,
            tmp_path / "run",
            vocabulary=str(tiny),
            vocabulary_size=None,
            epochs=1,
            objective="mlm",
            whole_words=True,
            max_positions=50,
        )
    )
    assert found.tokenizer.vocabulary == BertTokenizer.from_pretrained(tiny).vocabulary
    assert found.model.config.max_position_embeddings == 50
    assert BertTokenizer.from_pretrained(found.folder).max_length == 50


def test_a_model_gets_more_positions_which_begin_as_those_it_has(tmp_path, corpus):
    short = run(settings_for(corpus, tmp_path / "short", epochs=1))
    longer = with_positions(short.model, 100)
    assert longer.config.max_position_embeddings == 100
    batch = short.tokenizer(["The dog runs. " * 8])  # (1, S)
    columns = batch["input_ids"].shape[1]
    at = {"position_ids": torch.arange(40, 40 + columns)[None]}  # (1, S)
    with torch.no_grad():
        first, same = (one.eval()(**batch).prediction_logits for one in (short.model, longer))
        again = longer(**batch, **at).prediction_logits
    assert torch.equal(first, same)
    torch.testing.assert_close(again, first, rtol=0, atol=1e-6)
    with refused(ConfigError, "max_positions"):
        with_positions(short.model, 39)
    going_on = {"model": str(short.folder), "max_length": 60, "learning_rate": 1e-4, "epochs": 1}
    going_on |= dict.fromkeys(("layers", "hidden_size", "heads", "vocabulary_size"))
    with refused(ConfigError, "max_length"):
        run(settings_for(corpus, tmp_path / "refused", **going_on))
    found = run(settings_for(corpus, tmp_path / "long", **going_on, max_positions=60))
    opened = BertForPreTraining.from_pretrained(found.folder)
    assert opened.config.max_position_embeddings == 60
    assert BertTokenizer.from_pretrained(found.folder).max_length == 60


def test_a_run_that_goes_on_warns_where_it_would_measure_what_was_trained_on(tmp_path, corpus):
    first = run(settings_for(corpus, tmp_path / "first", epochs=1))
    going_on = {"model": str(first.folder), "learning_rate": 1e-4, "epochs": 1}
    going_on |= dict.fromkeys(("layers", "hidden_size", "heads", "vocabulary_size"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(settings_for(corpus, tmp_path / "same", **going_on))
        elsewhere = write_grammar(tmp_path / "elsewhere.jsonl", 50, seed=9)
        run(settings_for(elsewhere, tmp_path / "adapted", **going_on))
    others: list[dict[str, Any]] = [{"seed": 7}, {"validation_fraction": 0.3}]
    others += [{"seed": 7, "model": f"{first.folder}/model"}, {"validation": [elsewhere]}]
    for number, other in enumerate(others):
        with pytest.warns(UserWarning, match="held out other documents of the same corpus"):
            run(settings_for(corpus, tmp_path / f"other-{number}", **{**going_on, **other}))
    more = settings_for(corpus, tmp_path / "more", **going_on)
    with pytest.warns(UserWarning, match="held out other documents of the same corpus"):
        run(replace(more, corpus=[*more.corpus, str(elsewhere)]))
    for number, odd in enumerate(("[]", '{"data": null}', '{"data": {"train": 3}}', "{")):
        (first.folder / "run.json").write_text(odd)  # another program's, say
        run(settings_for(corpus, tmp_path / f"odd-{number}", **going_on, seed=7))


def test_no_document_is_trained_on_and_measured(tmp_path, corpus):
    lines = corpus.read_text().splitlines()
    twice = tmp_path / "twice.jsonl"
    twice.write_text("\n".join(lines + lines[:30]) + "\n")
    held = tmp_path / "held.jsonl"
    held.write_text("\n".join(lines[:10]) + "\n")
    settings = settings_for(twice, tmp_path / "run", epochs=1, validation=[str(held)])
    with pytest.warns(UserWarning, match="40 of 150 documents repeat others"):
        found = run(settings)
    data = read_json(found.folder / "run.json")["data"]
    assert (data["train"]["documents"], data["validation"]["documents"]) == (110, 10)
    held.write_text("".join(line.replace(" the ", "  the ") + "\n" for line in lines[:10]))
    with pytest.warns(UserWarning, match="10 of 120 documents repeat others"):
        run(settings_for(corpus, tmp_path / "spaced", epochs=1, validation=[str(held)]))
    settings = settings_for(held, tmp_path / "none", epochs=1, validation=[str(held)])
    with pytest.warns(UserWarning), pytest.raises(ConfigError, match="none is left to train on"):
        run(settings)


def test_too_little_to_measure_on_is_told_of_the_right_part(tmp_path, corpus):
    held = tmp_path / "held.txt"
    held.write_text("The dog sleeps. The cats run.")
    settings = settings_for(corpus, tmp_path / "run", epochs=1, validation=[str(held)])
    with pytest.raises(DataError) as caught:
        run(settings)
    assert caught.value.key == "validation" and not (tmp_path / "run").exists()


# The command line


def command(corpus: Path, output: Path, *more: str) -> list[str]:
    sizes = "--layers 1 --hidden-size 16 --heads 2 --vocabulary-size 120 --max-length 40"
    how = "--epochs 1 --precision fp32 --validation-fraction 0.1 --batch-size 8 --quiet"
    return [*f"pretrain --corpus {corpus} --output {output} {sizes} {how}".split(), *more]


def test_text_that_the_vocabulary_does_not_know(tmp_path, corpus):
    """Of it nothing can be hidden: the loss would be that of no label at all."""
    measured = write_grammar(tmp_path / "measured.jsonl", 10)
    text = measured.read_text()
    measured.write_text(text.replace("dog", "δ").replace("cat", "δ"))
    with pytest.warns(UserWarning, match=r"\d\.\d% of the pieces of the validation text are \[UNK\]"):
        run(settings_for(corpus, tmp_path / "some", epochs=1, validation=[measured]))
    measured.write_text("".join(json.dumps({"text": f"{'δ ' * n}."}) + "\n" for n in (5, 6, 7)))
    with refused(DataError, "vocabulary"):
        run(settings_for(corpus, tmp_path / "none", validation=[measured]))
    assert not (tmp_path / "none").exists()


def test_the_command_makes_a_model_that_fills_masks(corpus, tmp_path, capsys):
    assert cli.main(command(corpus, tmp_path / "run")) == 0
    assert "next_sentence_accuracy" in capsys.readouterr().out
    assert cli.main(["fill-mask", str(tmp_path / "run"), "The [MASK] runs."]) == 0
    capsys.readouterr()
    assert cli.main(["report", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "run" / name) for name in ("report.html", "curves.png")]


def test_the_page_of_a_run_has_its_scores_beside_guesses_and_needs_nothing_outside(whole):
    saved = read_run(whole.folder, "pretrain")
    text = document(saved)
    page = Page(text)
    for name, value in whole.scores.items():
        assert f"{value:.4f}" in page.text or f"{value:.1f}" in page.text, name
    for found in whole.baselines.values():
        assert all(f"{value:.4f}" in page.text for value in found.values())
    titles = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    assert len(titles) == 2 + (len(whole.history.epochs) > 1) + 1  # both losses, scores, the learning rate
    assert addresses(page, text) == []
    assert f"{saved.record['data']['train']['documents']:,}" in page.text
    assert "vocabulary_size" in page.texts


def test_pre_training_that_learned_nothing_is_called_that(whole):
    worse = {**whole.scores, "masked_lm_loss": 99.0, "next_sentence_accuracy": 0.1}
    said = replace(whole, scores=worse).summary()
    assert "masked lm loss, 99.0000, is not below" in said and "next sentence accuracy, 0.1000, is not above" in said
    better = {**whole.scores, "masked_lm_loss": 0.1, "next_sentence_accuracy": 1.0}
    assert " is not " not in replace(whole, scores=better).summary()


@pytest.mark.parametrize(
    "more, said",
    [
        (["--corpus", "none.txt"], "none.txt does not exist"),
        (["--vocabulary-size", "8"], "vocabulary of 8 pieces has no room"),
        (["--vocabulary-size", "5"], "--vocabulary-size: it must be 6 or more"),
        (["--max-length", "3"], "--max-length: it must be 8 or more"),
        (["--max-positions", "20"], "max_positions is 20, but it must be max_length"),
        (["--mask-share", "1"], "--mask-share: it must be above 0 and below 1"),
        (["--epoch-share", "0"], "--epoch-share: it must be above 0 and at most 1"),
        (["--heads", "3"], "hidden_size is 16, but it must be a multiple of heads, 3"),
        (["--model", "tiny"], "layers is 1, but model is tiny, which has its own"),
        (["--model", "tiny", "--vocabulary", "other"], "vocabulary is other, but model is tiny"),
        (["--vocabulary", "other"], "vocabulary_size is 120, but vocabulary is other"),
        (["--column", "words"], "to pretrain --column 'text'"),
        (["--validation-fraction", "0.999"], "There is no document to train on beside"),
        (["--learning-rate", "2"], "--learning-rate: it must be above 0 and below 1"),
        (["--dropout", "1"], "--dropout: it must be at least 0 and below 1"),
        (["--layers", "0"], "--layers: it must be 1 or more"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(corpus, tmp_path, capsys, monkeypatch, more, said):
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.main(command(corpus, tmp_path / "run", *more))
    except SystemExit as stop:  # the parser checks what needs no file
        code = stop.code
    printed = capsys.readouterr().err
    assert code == 2 and said in printed and printed.count("\n") == 1, printed
    assert not (tmp_path / "run").exists()


def test_one_document_is_refused_with_a_way_out(tmp_path, capsys):
    text = tmp_path / "book.txt"
    text.write_text("The dog runs. The cat sleeps. " * 20)
    assert cli.main(command(text, tmp_path / "run")) == 2
    assert "a .txt file is one document" in capsys.readouterr().err
    assert cli.main(["pretrain"]) == 2
    assert "needs --corpus" in capsys.readouterr().err


def test_every_error_is_one_of_ours(corpus, tmp_path):
    for odd in ([], "corpus.jsonl"):
        with refused(MinibertError, "corpus"):
            pretrain(PretrainSettings(corpus=odd), progress=False)
