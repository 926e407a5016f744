"""Predictions against transformers."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
import transformers

from minibert import BertForSequenceClassification, BertForTokenClassification
from minibert.io.errors import CheckpointError, ConfigError, DataError
from minibert.workbench.kinds.evaluation import Report
from minibert.workbench.kinds.tagged_text import FoundEntity, TaggedText, TaggedWord
from minibert.workbench.tasks.evaluate import evaluate_file
from minibert.workbench.tasks.predict import Predictor
from tests.conftest import BOUNDS, refused
from tests.workbench.conftest import MOODS, mixed_texts, save_model

FP32 = BOUNDS["official model fp32"]
LABELS = {"id2label": dict(enumerate(MOODS)), "initializer_range": 0.5}


def save_classifier(folder, kind=BertForSequenceClassification, **changes):
    return save_model(folder, kind, **{**LABELS, **changes})


def their_logits(folder, kind, texts, pairs=None) -> list[torch.Tensor]:
    """transformers' logits of each text alone."""
    model = kind.from_pretrained(folder).eval()
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return [
            model(**tokenizer(*one, truncation=True, max_length=30, return_tensors="pt")).logits[0]
            for one in (zip(texts, pairs, strict=True) if pairs else ((text,) for text in texts))
        ]


# Classes


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("classifier") / "model")


def test_predictions_are_softmax_of_transformers_logits_in_the_order_given(classifier):
    texts = mixed_texts()
    predictions = Predictor.from_pretrained(classifier, precision="fp32")(texts, batch_size=7)
    theirs = their_logits(classifier, transformers.BertForSequenceClassification, texts)
    assert [prediction.text for prediction in predictions] == texts
    assert len({prediction.label for prediction in predictions}) > 1
    for prediction, logits in zip(predictions, theirs, strict=True):
        expected = logits.softmax(dim=-1)
        found = [prediction.probabilities[name] for name in MOODS]
        np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=FP32)
        assert prediction.label == MOODS[int(expected.argmax())]
        assert prediction.probability == max(found)
        assert list(prediction.probabilities)[0] == prediction.label


def test_one_text_and_no_texts(classifier):
    predictor = Predictor.from_pretrained(classifier, precision="fp32")
    [prediction] = predictor("one happy day")
    assert str(prediction) == (f"{prediction.label:<12}  {prediction.probability:.3f}  one happy day")
    assert predictor([]) == []


def test_pairs_are_read_as_pairs(classifier):
    firsts, seconds = mixed_texts()[:6], mixed_texts()[6:12]
    predictor = Predictor.from_pretrained(classifier, precision="fp32")
    with pytest.warns(UserWarning, match="were cut"):
        predictions = predictor(firsts, seconds)
    theirs = their_logits(classifier, transformers.BertForSequenceClassification, firsts, seconds)
    for prediction, logits in zip(predictions, theirs, strict=True):
        found = [prediction.probabilities[name] for name in MOODS]
        np.testing.assert_allclose(found, logits.softmax(dim=-1).numpy(), rtol=0, atol=FP32)
    with refused(DataError, "pairs"):
        predictor(firsts, seconds[:2])
    assert predictor("good", "bad") == predictor(["good"], ["bad"])


def test_a_long_text_is_cut_with_one_warning(classifier):
    long = "happy day " * 5000
    with pytest.warns(UserWarning) as caught:
        [prediction, _] = Predictor.from_pretrained(classifier)([long, "one"])
    assert [str(warning.message) for warning in caught] == [
        "1 of 2 texts had more than 30 tokens and were cut (9972 tokens lost)."
    ]
    [cut] = Predictor.from_pretrained(classifier)(["happy day " * 14])
    assert prediction.probability == pytest.approx(cut.probability, abs=FP32)


def test_a_row_that_is_not_a_text_is_named(classifier):
    with refused(DataError, "1"):
        Predictor.from_pretrained(classifier)(["one", None])


def test_several_labels(tmp_path):
    folder = save_classifier(tmp_path, problem_type="multi_label_classification")
    texts = mixed_texts()
    predictions = Predictor.from_pretrained(folder, precision="fp32")(texts)
    theirs = their_logits(folder, transformers.BertForSequenceClassification, texts)
    assert len({len(prediction.label) for prediction in predictions}) > 1
    for prediction, logits in zip(predictions, theirs, strict=True):
        chances = logits.sigmoid()
        assert set(prediction.label) == {MOODS[i] for i in range(3) if chances[i] > 0.5}
        sure = torch.maximum(chances, 1 - chances).min().item()
        assert prediction.probability == pytest.approx(sure, abs=FP32)
        assert ", ".join(prediction.label) in str(prediction)


def test_a_number(tmp_path):
    folder = save_classifier(tmp_path, problem_type="regression", id2label={0: "LABEL_0"})
    texts = mixed_texts()
    predictions = Predictor.from_pretrained(folder, precision="fp32")(texts)
    theirs = their_logits(folder, transformers.BertForSequenceClassification, texts)
    for prediction, logits in zip(predictions, theirs, strict=True):
        assert prediction.label == pytest.approx(logits.item(), abs=FP32)
        assert prediction.probability is None and prediction.probabilities == {}
        assert str(prediction).startswith(f"{prediction.label:.4f}")


def test_distilbert(tmp_path):
    folder = save_classifier(tmp_path, model_type="distilbert", type_vocab_size=0)
    texts = mixed_texts()
    predictions = Predictor.from_pretrained(folder, precision="fp32")(texts)
    model = transformers.DistilBertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    for prediction, text in zip(predictions, texts, strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            logits = model(inputs["input_ids"], inputs["attention_mask"]).logits[0]
        expected = logits.softmax(dim=-1).max().item()
        assert prediction.probability == pytest.approx(expected, abs=FP32)


# Tags


def test_tags_are_those_of_the_first_piece_of_each_word(tmp_path):
    names = ("B-person", "I-person", "O")
    folder = save_classifier(tmp_path, BertForTokenClassification, id2label=dict(enumerate(names)))
    texts = ["Anna is  in the zoo.", *mixed_texts()[:9]]
    predictor = Predictor.from_pretrained(folder, precision="fp32")
    predictions = predictor(texts, batch_size=3)
    assert [word.word for word in predictions[0].words] == ["Anna", "is", "in", "the", "zoo", "."]
    theirs = their_logits(folder, transformers.BertForTokenClassification, texts)
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    seen = set()
    for prediction, logits, text in zip(predictions, theirs, texts, strict=True):
        words = [word.word for word in prediction.words]
        word_ids = tokenizer(words, is_split_into_words=True).word_ids()
        for entity in prediction.entities:
            assert f"[{text[entity.start : entity.end]} {entity.type}]" in str(prediction)
        for number, word in enumerate(prediction.words):
            chances = logits[word_ids.index(number)].softmax(dim=-1)
            assert word.tag == names[int(chances.argmax())]
            assert word.probability == pytest.approx(chances.max().item(), abs=FP32)
            assert text[word.start : word.end] == word.word
            seen.add(word.tag)
    assert len(seen) > 1
    unfound = [TaggedWord("so", 0, 2, "O", 0.9), TaggedWord("far", 3, 6, "O", 0.9)]
    assert str(TaggedText("so far", unfound, [])) == "so far  (no entities)"
    parts = [TaggedWord("so", 0, 2, "ADV", 0.9), TaggedWord("far", 3, 6, "ADV", 0.9)]
    assert str(TaggedText("so far", parts, [])) == "so/ADV far/ADV"
    entity = FoundEntity("a", 0, 1, "person", 0.9)
    assert str(TaggedText("a b", [TaggedWord("a", 0, 1, "B-person", 0.9)], [entity])).startswith("[a person] b\n")
    with refused(DataError, "pairs"):
        predictor(["one"], ["two"])
    with refused(DataError, "1"):
        predictor(["one", None])


def test_words_are_split_into_pieces_as_in_training(tmp_path):
    """Predictions are those of an evaluation, whose corpus says what a word is."""
    names = ("B-person", "I-person", "O")
    folder = save_classifier(tmp_path / "model", BertForTokenClassification, id2label=dict(enumerate(names)))
    words = ["@anna", "can't", "walk", "so.very", "far", "e-g", "#rain"]
    (tmp_path / "x.conll").write_text("".join(f"{word}\tO\n" for word in words))
    report = evaluate_file(folder, tmp_path / "x.conll", progress=False)
    predictor = Predictor.from_pretrained(folder, precision="fp32")
    for given in (" ".join(words), words):
        [prediction] = predictor([given])
        assert [word.word for word in prediction.words] == words
        assert " ".join(word.tag for word in prediction.words) == report.rows[0]["prediction"]
        for word in prediction.words:
            assert prediction.text[word.start : word.end] == word.word
    assert len(set(report.rows[0]["prediction"].split())) > 1
    assert predictor([" "])[0].words == predictor([[]])[0].words == []


def test_a_report_keeps_its_columns_narrow_and_its_numbers_aligned():
    tags = "O " * 40
    row = {"loss": 1.5, "label": tags, "prediction": tags, "text": "so far"}
    line = Report("test", "token_classification", (), {}, None, [row]).worst().splitlines()[1]
    assert line.endswith("...  so far") and len(line) == 5 + 2 * (2 + 24) + 2 + len("so far")
    row = {**row, "label": 4.0, "prediction": 3.141592653589793}
    line = Report("test", "regression", (), {}, None, [row]).worst().splitlines()[1]
    assert line.split() == ["1.500", "4.0000", "3.1416", "so", "far"]
    scores = {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    metrics = {"examples": 1207, "classes": {"a": {**scores, "support": 7}, "b": {**scores, "support": 1200}}}
    summary = Report("test", "single_label_classification", ("a", "b"), metrics, None, []).summary()
    assert [line[-7:] for line in summary.splitlines()[-3:]] == ["support", "      7", "  1,200"]


# What is refused


def test_an_untrained_head_is_refused(tiny, minilm):
    for source in (tiny, minilm):
        with refused(CheckpointError, "architectures"):
            Predictor.from_pretrained(source)
    [prediction] = Predictor.from_pretrained(tiny, allow_untrained=True)(["one day"])
    assert prediction.label in ("LABEL_0", "LABEL_1")


def test_a_classifier_whose_head_is_not_in_the_file(tiny, tmp_path):
    """config.json says that it is one, and the weights are those of another model."""
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(config))
    with refused(CheckpointError, "bert.pooler.dense.weight"):
        Predictor.from_pretrained(folder)
    assert Predictor.from_pretrained(folder, allow_untrained=True)("one day")


def test_a_device_and_a_batch_size_that_do_not_exist(classifier):
    with refused(ConfigError, "device"):
        Predictor.from_pretrained(classifier, device="abacus")
    with refused(ConfigError, "batch_size"):
        Predictor.from_pretrained(classifier)(["one"], batch_size=0)
