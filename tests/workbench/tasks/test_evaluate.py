"""The numbers of a report against scikit-learn, and against the model's own loss."""

from __future__ import annotations

import csv
import random

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from minibert import BertConfig, BertForSequenceClassification, BertForTokenClassification
from minibert.data import Dataset
from minibert.fast.precision import choose_precision
from minibert.io.errors import CheckpointError, DataError
from minibert.io.files import read_json
from minibert.training import Evaluation, LossSums
from minibert.workbench.data.corpora import Corpus, Example, TaggedExample
from minibert.workbench.kinds import KINDS
from minibert.workbench.tasks import inference
from minibert.workbench.tasks.common import pick_device
from minibert.workbench.tasks.evaluate import evaluate, evaluate_file
from tests.conftest import BOUNDS, refused
from tests.workbench.conftest import FILLERS, MOODS, NAMES, VOCABULARY, save_model, sentence, write_table

FP32 = choose_precision("fp32", "cpu")
TAGS = ("B-person", "I-person", "O")


def model_of(kind, problem_type=None, labels=MOODS, **changes):
    """A model with large random weights, so that its classes differ."""
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=37,
        max_position_embeddings=30,
        initializer_range=0.5,
        id2label=dict(enumerate(labels)),
        problem_type=problem_type,
        **changes,
    )
    return kind(config).eval()


def report_of(model, tokenizer, examples, names, **options):
    corpus = Corpus(tuple(examples), names, "memory")
    dataset = Dataset(corpus, tokenizer, max_length=options.get("max_length"))
    options.pop("max_length", None)
    return evaluate(model, tokenizer, corpus, dataset, split="test", precision=FP32, progress=False, **options)


def texts(count: int) -> list[str]:
    draw = random.Random(0)
    return [sentence(draw, draw.choice(MOODS)) for _ in range(count)]


def logits_of(model, tokenizer, text, **options) -> torch.Tensor:
    with torch.no_grad():
        return model(**tokenizer(text, **options)).logits[0]


@pytest.fixture(scope="module")
def classes(tokenizer):
    """(model, examples, report) of 40 texts with random labels, one class never among them."""
    model = model_of(BertForSequenceClassification, labels=[*MOODS, "never"])
    draw = random.Random(1)
    examples = [Example(text, None, draw.randrange(3), f"row {n}") for n, text in enumerate(texts(40))]
    return model, examples, report_of(model, tokenizer, examples, (*MOODS, "never"), batch_size=7)


def test_class_scores_are_those_of_scikit_learn(classes, tokenizer):
    model, examples, report = classes
    truth = [example.label for example in examples]
    guesses = [int(logits_of(model, tokenizer, example.text).argmax()) for example in examples]
    assert len(set(guesses)) > 1
    values = report.values()
    assert set(values) == set(KINDS["single_label_classification"].metrics)
    assert values["accuracy"] == sklearn_metrics.accuracy_score(truth, guesses)
    for average in ("macro", "weighted"):
        expected = sklearn_metrics.f1_score(truth, guesses, labels=range(4), average=average, zero_division=0)
        assert values[f"{average}_f1"] == pytest.approx(expected, abs=BOUNDS["fp64"])
    np.testing.assert_array_equal(report.confusion, sklearn_metrics.confusion_matrix(truth, guesses, labels=range(4)))
    rows = sklearn_metrics.precision_recall_fscore_support(truth, guesses, labels=range(4), zero_division=0)
    for number, scores in enumerate(report.metrics["classes"].values()):
        for name, expected in zip(("precision", "recall", "f1", "support"), rows, strict=True):
            assert scores[name] == pytest.approx(expected[number], abs=BOUNDS["fp64"])


def test_each_example_has_the_loss_that_the_model_gives_it_alone(classes, tokenizer):
    model, examples, report = classes
    by_guid = {example.guid: example for example in examples}
    assert [row["loss"] for row in report.rows] == sorted((row["loss"] for row in report.rows), reverse=True)
    for row in report.rows:
        example = by_guid[row["guid"]]
        with torch.no_grad():
            output = model(**tokenizer(example.text), labels=torch.tensor([example.label]))
        chances = output.logits[0].softmax(dim=-1)
        assert row["loss"] == pytest.approx(output.loss.item(), abs=BOUNDS["official model fp32"])
        assert row["probability"] == pytest.approx(chances.max().item(), abs=BOUNDS["official model fp32"])
        assert row["prediction"] == model.config.id2label[int(chances.argmax())]
    mean = np.mean([row["loss"] for row in report.rows])
    assert report.values()["loss"] == pytest.approx(mean, abs=BOUNDS["official model fp32"])


def test_intervals_are_drawn_the_same_way_each_time_and_can_be_left_out(classes, tokenizer):
    model, examples, report = classes
    names = (*MOODS, "never")
    again = report_of(model, tokenizer, examples, names, batch_size=7)
    assert again.metrics == report.metrics
    plain = report_of(model, tokenizer, examples, names, batch_size=7, intervals=False)
    assert "low" not in plain.metrics["macro_f1"] and plain.values() == report.values()


def test_several_labels(tokenizer):
    model = model_of(BertForSequenceClassification, "multi_label_classification")
    draw = random.Random(1)
    examples = [
        Example(text, None, tuple(float(draw.random() < 0.5) for _ in MOODS), str(number))
        for number, text in enumerate(texts(30))
    ]
    report = report_of(model, tokenizer, examples, tuple(MOODS))
    truth = np.array([example.label for example in examples], bool)
    chances = np.array([logits_of(model, tokenizer, example.text).sigmoid().numpy() for example in examples])
    guesses = chances > 0.5
    values = report.values()
    assert set(values) == set(KINDS["multi_label_classification"].metrics)
    for average in ("micro", "macro"):
        expected = sklearn_metrics.f1_score(truth, guesses, average=average, zero_division=0)
        assert values[f"{average}_f1"] == pytest.approx(expected, abs=BOUNDS["fp64"])
    assert values["subset_accuracy"] == sklearn_metrics.accuracy_score(truth, guesses)
    for row in report.rows:
        number = int(row["guid"])
        names = [name for name, on in zip(MOODS, guesses[number], strict=True) if on]
        assert row["prediction"] == ", ".join(names)
        labels = torch.tensor([examples[number].label])
        with torch.no_grad():
            loss = model(**tokenizer(examples[number].text), labels=labels).loss.item()
        assert row["loss"] == pytest.approx(loss, abs=BOUNDS["official model fp32"])
        sure = np.maximum(chances[number], 1 - chances[number]).min()
        assert row["probability"] == pytest.approx(sure, abs=BOUNDS["official model fp32"])


def test_numbers(tokenizer):
    model = model_of(BertForSequenceClassification, "regression", labels=["LABEL_0"])
    draw = random.Random(1)
    examples = [Example(text, None, draw.gauss(0, 2), str(number)) for number, text in enumerate(texts(30))]
    report = report_of(model, tokenizer, examples, None)
    truth = np.array([example.label for example in examples])
    guesses = np.array([logits_of(model, tokenizer, e.text).item() for e in examples])
    values = report.values()
    assert set(values) == set(KINDS["regression"].metrics)
    mse = sklearn_metrics.mean_squared_error(truth, guesses)
    assert values["mse"] == pytest.approx(mse, rel=BOUNDS["official model fp32"])
    assert values["loss"] == pytest.approx(mse, rel=BOUNDS["official model fp32"])
    assert values["pearson"] == pytest.approx(np.corrcoef(truth, guesses)[0, 1], abs=BOUNDS["official model fp32"])
    worst = report.rows[0]
    assert int(worst["guid"]) == np.argmax((truth - guesses) ** 2)
    assert report.confusion is None and report.label_names == ()


def tagged(count: int) -> list[TaggedExample]:
    draw = random.Random(2)
    examples = []
    for number in range(count):
        words = draw.choices([*FILLERS, *NAMES, "zoo"], k=draw.randint(4, 8))
        tags = [0 if word in NAMES else 2 for word in words]
        examples.append(TaggedExample(tuple(words), tuple(tags), str(number)))
    return examples


def test_tags_are_read_at_the_first_piece_of_each_word(tokenizer):
    model = model_of(BertForTokenClassification, labels=TAGS)
    examples = tagged(20)
    report = report_of(model, tokenizer, examples, TAGS, batch_size=3)
    assert any(len(tokenizer.encode(w)[0].tokens) > 3 for e in examples for w in e.words)
    truth, guesses, losses = [], [], []
    rows = {row["guid"]: row for row in report.rows}
    for example in examples:
        [encoded] = tokenizer.encode([example.words], words=True)
        with torch.no_grad():
            logits = model(torch.tensor([encoded.input_ids])).logits[0]
        first = [encoded.word_ids.index(word) for word in range(len(example.words))]
        chosen = logits[first].log_softmax(dim=-1)
        losses.append(-chosen[range(len(first)), list(example.tags)])
        truth += example.tags
        guesses += chosen.argmax(dim=-1).tolist()
        row = rows[example.guid]
        assert row["prediction"].split() == [TAGS[tag] for tag in guesses[-len(first) :]]
        assert row["label"].split() == [TAGS[tag] for tag in example.tags]
        assert row["loss"] == pytest.approx(losses[-1].mean().item(), abs=BOUNDS["official model fp32"])
    values = report.values()
    assert set(values) == set(KINDS["token_classification"].metrics)
    assert values["loss"] == pytest.approx(torch.cat(losses).mean().item(), abs=BOUNDS["official model fp32"])
    assert values["word_accuracy"] == sklearn_metrics.accuracy_score(truth, guesses)
    np.testing.assert_array_equal(report.confusion, sklearn_metrics.confusion_matrix(truth, guesses, labels=range(3)))


def perfect(monkeypatch, examples, tokenizer, max_length):
    """Makes the loop give back logits that are right about every word that is left."""

    def evaluate_batches(*_, **__):
        rows = []
        for example, encoded in zip(
            examples, tokenizer.encode([e.words for e in examples], max_length=max_length, words=True), strict=True
        ):
            tags = [2 if word is None else example.tags[word] for word in encoded.word_ids]
            rows.append(torch.eye(3)[tags] * 20)
        return Evaluation(LossSums(), rows)

    monkeypatch.setattr(inference.together, "evaluate", evaluate_batches)


def test_words_that_truncation_cut_off_count_as_misses(tokenizer, monkeypatch):
    model = model_of(BertForTokenClassification, labels=TAGS)
    examples = [
        TaggedExample(("anna", "is", "so", "small"), (0, 2, 2, 2), "whole"),
        TaggedExample(("the", "day", "is", "david", "berlin"), (2, 2, 2, 0, 0), "cut"),
    ]
    perfect(monkeypatch, examples, tokenizer, None)
    assert report_of(model, tokenizer, examples, TAGS).values()["entity_f1"] == 1.0
    perfect(monkeypatch, examples, tokenizer, 6)
    with pytest.warns(UserWarning, match="cut"):
        report = report_of(model, tokenizer, examples, TAGS, max_length=6)
    values = report.values()
    assert values["entity_recall"] == pytest.approx(2 / 3)  # anna and david, and no berlin
    assert values["entity_precision"] == 1.0
    assert values["word_accuracy"] == pytest.approx(8 / 9)
    assert report.metrics["words"] == 9
    cut = next(row for row in report.rows if row["guid"] == "cut")
    assert cut["prediction"].split() == ["O", "O", "O", "B-person", "O"]


# A file


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A folder with a random classifier of three moods."""
    return save_model(
        tmp_path_factory.mktemp("classifier") / "model", BertForSequenceClassification, id2label=dict(enumerate(MOODS))
    )


def test_a_file_is_read_with_the_labels_of_the_model(classifier, tmp_path):
    """The file knows two of the three classes, in another order: numbers must not move."""
    rows = [("one happy day", "happy"), ("so very calm", "calm"), ("happy rain", "happy")]
    path = write_table(tmp_path / "other.csv", ["said", "mood"], rows)
    report = evaluate_file(classifier, path, reading={"text": "said", "label": "mood"}, progress=False)
    assert report.split == "other.csv" and report.label_names == tuple(MOODS)
    assert sorted((row["text"], row["label"]) for row in report.rows) == sorted(rows)
    assert report.confusion.sum(axis=1).tolist() == [0, 1, 2]
    report.write(tmp_path / "out")
    assert read_json(tmp_path / "out/metrics.json")["other.csv"]["examples"] == 3
    with open(tmp_path / "out/errors.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3


def test_an_unknown_label_is_named(classifier, tmp_path):
    path = write_table(tmp_path / "x.csv", ["text", "label"], [("a", "happy"), ("b", "bored")])
    with refused(DataError, f"{path}:3"):
        evaluate_file(classifier, path, progress=False)


def test_texts_without_labels_cannot_be_evaluated(classifier, tmp_path):
    (tmp_path / "x.txt").write_text("one day\n")
    with refused(DataError, "label"):
        evaluate_file(classifier, tmp_path / "x.txt", progress=False)


def test_labels_of_another_kind_are_refused(classifier, tmp_path):
    (tmp_path / "x.conll").write_text("one\tcalm\nday\thappy\n")
    with refused(DataError, "label"):
        evaluate_file(classifier, tmp_path / "x.conll", progress=False)


def test_a_model_without_a_classifier_is_refused(tiny, moods):
    with refused(CheckpointError, "architectures"):
        evaluate_file(tiny, moods / "test.csv", progress=False)


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device().type in ("cpu", "cuda", "mps")
