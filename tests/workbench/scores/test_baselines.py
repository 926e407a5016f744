"""Baselines against scikit-learn on the same counts."""

from __future__ import annotations

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.metrics import f1_score
from sklearn.naive_bayes import MultinomialNB

from minibert.data import Dataset
from minibert.workbench.data.corpora import read
from minibert.workbench.scores.baselines import NaiveBayes, baselines, describe, not_above


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


def test_both_baselines_on_data(moods, tokenizer):
    parts = {
        name: (corpus, Dataset(corpus, tokenizer))
        for name in ("train", "test")
        for corpus in [read(moods / f"{name}.csv")]
    }
    found = baselines(parts["train"], parts["test"], tokenizer)
    labels = {name: [example.label for example in part[0]] for name, part in parts.items()}
    counts = {
        name: counts_of([row["input_ids"][1:-1] for row in part[1]], tokenizer.vocab_size)
        for name, part in parts.items()
    }
    for name, model in {"majority": DummyClassifier(strategy="most_frequent"), "naive_bayes": MultinomialNB()}.items():
        guesses = model.fit(counts["train"], labels["train"]).predict(counts["test"])
        assert found[name]["accuracy"] == np.mean(guesses == labels["test"])
        assert found[name]["macro_f1"] == f1_score(labels["test"], guesses, average="macro")
    line = describe(found, "test")
    assert line.startswith("without BERT, accuracy on test: majority 0.5000 (macro F1 0.2222), naive bayes ")
    assert describe(found, "test", accuracy=1.0) == line


def test_an_accuracy_that_does_not_beat_a_baseline_is_called_that():
    scores = {"majority": {"accuracy": 0.5}, "naive_bayes": {"accuracy": 0.8}}
    assert not_above(scores, 0.81) == ""
    assert "not above that of naive Bayes:" in not_above(scores, 0.8)
    assert "the majority class or naive Bayes" in not_above(scores, 0.5)
    assert not_above({"majority": {"accuracy": 1.0}}, 1.0) == ""
