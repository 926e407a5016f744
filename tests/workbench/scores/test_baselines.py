"""Baselines against scikit-learn on the same counts."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import f1_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.preprocessing import MultiLabelBinarizer

from minibert.data import Dataset
from minibert.workbench.data.corpora import Corpus, read
from minibert.workbench.data.examples import Answer, QuestionExample
from minibert.workbench.kinds import KINDS, kind_for
from minibert.workbench.kinds.kind import Kind
from minibert.workbench.scores.baselines import NaiveBayes, bags_of, describe, verdicts


def counts_of(bags, vocab_size):
    return np.stack([np.bincount(bag, minlength=vocab_size) for bag in bags])


def test_naive_bayes_is_that_of_scikit_learn():
    draw = np.random.default_rng(0)
    bags = [draw.integers(0, 40, draw.integers(0, 12)) for _ in range(200)]  # some are empty
    labels = draw.integers(0, 4, 200)
    ours = NaiveBayes(bags, labels, 4, 50)  # ten pieces are never seen
    other = MultinomialNB().fit(counts_of(bags, 50), labels)
    np.testing.assert_allclose(ours.log_likelihood, other.feature_log_prob_, rtol=1e-12)
    np.testing.assert_allclose(ours.prior, other.class_log_prior_, rtol=1e-12)
    test = [draw.integers(0, 50, 9) for _ in range(50)]
    expected = other.predict_joint_log_proba(counts_of(test, 50))
    np.testing.assert_allclose(ours.scores(test), expected, rtol=1e-12)


def test_a_class_without_a_text_is_never_predicted():
    model = NaiveBayes([np.array([1]), np.array([2])], np.array([0, 2]), 3, 4)
    assert model.predict([np.array([1]), np.array([2]), np.array([3])]).tolist() == [0, 2, 0]


def of_kind(corpora, tokenizer):
    """The baselines of the kind of two corpora."""
    kind = kind_for(corpora["train"])
    rows = {name: kind.rows(corpus, tokenizer) for name, corpus in corpora.items()}

    def bags():
        return *(bags_of(rows[name], tokenizer) for name in ("train", "test")), tokenizer.vocab_size

    return kind, kind.baselines(corpora["train"], corpora["test"], bags)


def test_both_baselines_of_classes(moods, tokenizer):
    corpora = {name: read(moods / f"{name}.csv") for name in ("train", "test")}
    kind, found = of_kind(corpora, tokenizer)
    labels = {name: [example.label for example in corpus] for name, corpus in corpora.items()}
    counts = {
        name: counts_of([row["input_ids"][1:-1] for row in Dataset(corpus, tokenizer)], tokenizer.vocab_size)
        for name, corpus in corpora.items()
    }
    for name, model in {"majority": DummyClassifier(strategy="most_frequent"), "naive_bayes": MultinomialNB()}.items():
        guesses = model.fit(counts["train"], labels["train"]).predict(counts["test"])
        assert found[name]["accuracy"] == np.mean(guesses == labels["test"])
        assert found[name]["macro_f1"] == pytest.approx(f1_score(labels["test"], guesses, average="macro"))
    assert kind.compared(found) == "accuracy"
    assert describe(found, "loss", "test") == ""
    line = describe(found, "accuracy", "test")
    assert line.startswith("without BERT, accuracy on test: majority 0.5000, naive bayes ")


def corpora_of(folder, name, *contents):
    files = {"train": folder / f"train.{name}", "test": folder / f"test.{name}"}
    for path, content in zip(files.values(), contents, strict=True):
        path.write_text(content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content))
    how = {"choices": ["choices"]} if "choices" in contents[0][0] else {}
    train = read(files["train"], **how)
    return {"train": train, "test": read(files["test"], **train.reading(), **how)}


def test_several_labels(tmp_path, tokenizer):
    train = [("happy day", ["a"]), ("happy sky", ["a"]), ("angry day", ["b", "a"]), ("calm", [])]
    test = [("happy", ["a"]), ("angry", ["b"]), ("angry", ["a", "b"])]
    corpora = corpora_of(tmp_path, "jsonl", *([{"text": t, "label": ls} for t, ls in rows] for rows in (train, test)))
    kind, found = of_kind(corpora, tokenizer)
    assert kind.compared(found) == "micro_f1"
    assert found["frequent_labels"]["micro_f1"] == 2 * 2 / (3 + 4)  # "a" for each: two of three, of four labels
    holds = MultiLabelBinarizer(classes=["a", "b"])
    truth = holds.fit_transform([labels for _, labels in test])
    counts = {
        name: counts_of([row["input_ids"][1:-1] for row in Dataset(corpus, tokenizer)], tokenizer.vocab_size)
        for name, corpus in corpora.items()
    }
    of_train = holds.transform([labels for _, labels in train])
    guesses = [MultinomialNB().fit(counts["train"], column).predict(counts["test"]) for column in of_train.T]
    assert found["naive_bayes"]["micro_f1"] == pytest.approx(f1_score(truth, np.stack(guesses, 1), average="micro"))


def test_numbers(tmp_path, tokenizer):
    rows = [[{"text": "day", "label": n} for n in numbers] for numbers in ((0.5, 1.5, 4), (2.5, 0.5))]
    kind, found = of_kind(corpora_of(tmp_path, "jsonl", *rows), tokenizer)
    assert kind.compared(found) == "mse"
    assert found == {"mean": {"mse": pytest.approx((0.5**2 + 1.5**2) / 2)}}


def test_tags(tmp_path, tokenizer):
    train = "anna\tB-PER\nis\tO\nberlin\tB-LOC\n\nanna\tB-PER\nberlin\tB-PER\nwas\tO\n\nberlin\tB-LOC\nis\tO\nis\tO\n\n"
    test = "berlin\tB-LOC\nwas\tO\n\ncairo\tB-LOC\nberlin\tB-PER\nanna\tB-PER\n\n"
    kind, found = of_kind(corpora_of(tmp_path, "conll", train, test), tokenizer)
    assert kind.compared(found) == "entity_f1"
    assert found["tag_of_word"]["entity_f1"] == 2 * 2 / (3 + 4)  # of berlin, berlin, anna; cairo is not found


def test_parts_of_speech(tmp_path, tokenizer):
    train, test = "anna\tN\nis\tV\nthe\tN\n\n", "anna\tN\nwas\tV\n\n"
    kind, found = of_kind(corpora_of(tmp_path, "conll", train, test), tokenizer)
    assert kind.compared(found) == "word_accuracy"
    assert found == {"tag_of_word": {"word_accuracy": 0.5}}  # a word that training lacks is N


def test_choices(tmp_path, tokenizer):
    train = [{"text": "a b", "choices": ["x", "a"], "label": place} for place in (0, 1, 1)]
    test = [{"text": "is the day", "choices": choices, "label": 0} for choices in (["the day", "tree"], ["sky", "day"])]
    kind, found = of_kind(corpora_of(tmp_path, "jsonl", train, test), tokenizer)
    assert kind.compared(found) == "accuracy"
    assert found == {"frequent_place": {"accuracy": 0.0}, "similar_choice": {"accuracy": 0.5}}


def test_questions(tokenizer):
    context = "The sky was green. Anna is in Berlin. So is David."
    answers = [(Answer("Berlin", context.index("Berlin")),), ()]
    questions = ["Where is Anna?", "Who was over the tree"]
    examples = tuple(QuestionExample(q, context, a) for q, a in zip(questions, answers, strict=True))
    corpus = Corpus(examples)
    found = kind_for(corpus).baselines(corpus, corpus, lambda: ((), (), 0))
    assert kind_for(corpus).compared(found) == "f1"
    assert found["no_answer"] == {"f1": 0.5, "exact_match": 0.5}
    assert found["similar_sentence"] == {"f1": pytest.approx((2 / 5) / 2), "exact_match": 0}  # of 4 words one is right
    answered = Corpus(examples[:1])
    assert kind_for(answered).baselines(answered, answered, lambda: ((), (), 0)).keys() == {"similar_sentence"}


def test_every_kind_has_a_baseline():
    assert {name for name, kind in KINDS.items() if type(kind).guesses is Kind.guesses} == set()


# What is said of a model.

FLOORS = {"majority": {"accuracy": 0.5}, "naive_bayes": {"accuracy": 0.8}}


def test_a_score_that_does_not_beat_a_baseline_is_called_that():
    assert verdicts(FLOORS, "accuracy", 0.81, [0.5, 0.4, 0.5]) == []
    [one] = verdicts(FLOORS, "accuracy", 0.8, [])
    assert "not above that of naive Bayes:" in one
    [both] = verdicts(FLOORS, "accuracy", 0.5, [])
    assert "the majority class or naive Bayes" in both
    assert verdicts({"majority": {"accuracy": 1.0}}, "accuracy", 1.0, []) == []
    assert len(verdicts(FLOORS, "accuracy", math.nan, [])) == 1


def test_less_is_better_where_it_is():
    floors = {"mean": {"mse": 2.0}}
    assert verdicts(floors, "mse", 1.9, []) == []
    [said] = verdicts(floors, "mse", 2.0, [])
    assert "not below that of the mean" in said
    assert verdicts({"mean": {"mse": 0.0}}, "mse", 0.0, []) == []


def test_nothing_right_is_called_that_once():
    [said] = verdicts({"tag_of_word": {"entity_f1": 0.3}}, "entity_f1", 0.0, [])
    assert "entity f1 is 0.0000" in said


@pytest.mark.parametrize(
    ("losses", "rises"),
    [([0.3, 0.4, 0.5], True), ([0.3, 0.4], False), ([0.5, 0.4, 0.6, 0.7], False), ([0.3, 0.3, 0.4], False)],
)
def test_a_validation_loss_that_only_rises(losses, rises):
    assert len(verdicts({}, "accuracy", 0.9, losses)) == rises
    assert len(verdicts({}, "accuracy", 0.9, [*losses, math.nan])) == 0
