"""Probing: planted knowledge is found where it is and not before, and random labels are not found."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from minibert import BertModel, BertTokenizer
from minibert.io.errors import ConfigError, DataError
from minibert.study.probing import Probing, Score, probe
from tests.lesson.reference import pair
from tests.study import planted
from tests.study.test_account import TOKENIZERS


def texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Texts of six words, half of them with word7 at a random place."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        words = [draw.choice([word for word in planted.WORDS if word != "word7"]) for _ in range(6)]
        if number % 2:
            words[draw.randrange(6)] = "word7"
        rows.append((" ".join(words), "yes" if number % 2 else "no"))
    return rows


def sentences(count: int, seed: int, tags) -> list[tuple[list[str], list[str]]]:
    """Sentences of seven words with tags that a function makes of them."""
    draw = random.Random(seed)
    drawn = [[draw.choice(planted.WORDS) for _ in range(7)] for _ in range(count)]
    return [(words, tags(words)) for words in drawn]


def previous(words):
    return ["none", *words[:-1]]


def differs(words):
    """Whether this word and the one before are in different halves of the vocabulary: an exclusive or."""
    high = [int(word.removeprefix("word")) >= 10 for word in words]
    return ["none", *(str(high[n] != high[n - 1]) for n in range(1, len(words)))]


def at(found: Probing, layer: str, pooling: str) -> Score:
    [score] = [score for score in found.scores if (score.layer, score.pooling) == (layer, pooling)]
    return score


@pytest.fixture(scope="module")
def word7() -> Probing:
    return probe(planted.finds_word(), planted.tokenizer(), texts(120, 0), texts(60, 1), progress=False)


def test_cls_knows_of_the_planted_word_from_its_layer_on_and_not_before(word7):
    for layer in ("embeddings", "layer 0"):
        score = at(word7, layer, "cls")
        assert score.accuracy[1] <= 0.5 <= score.accuracy[2]
        assert score.selectivity[1] < 0 < score.selectivity[2]
        assert score.compression < 1.05
    for layer in (f"layer {number}" for number in range(planted.LAYER, planted.L)):
        score = at(word7, layer, "cls")
        assert score.accuracy[0] == 1 and score.selectivity[1] > 0.3 and score.compression > 4
    (best, compression), *_ = word7.top()
    assert best.endswith(", cls") and best >= f"layer {planted.LAYER}" and compression > 4
    assert word7.majority[0] == 0.5 and word7.classes == ["no", "yes"] and word7.unknown == 0


def test_a_word_that_the_mean_of_word_embeddings_shows_is_found_there(word7):
    assert at(word7, "words", "mean").accuracy[0] > 0.9
    assert not [score for score in word7.scores if (score.layer, score.pooling) == ("words", "cls")]


def test_table_and_picture(word7):
    assert "layer 2  " in str(word7) and "majority class" in str(word7) and "1.000 to 1.000" in str(word7)
    picture = word7.picture()
    assert word7.top(1)[0][0] in picture.alt
    cls, mean = picture.figure.axes
    assert [tick.get_text() for tick in cls.get_xticklabels()] == ["embeddings", "0", "1", "2"]
    lines = {line.get_label(): [*line.get_ydata()] for line in cls.lines}
    assert lines["accuracy"][-2:] == [1, 1] and lines["control"][0] == at(word7, "embeddings", "cls").control[0]
    assert {"selectivity", "majority class"} <= lines.keys()
    assert "accuracy, word embeddings" in {line.get_label() for line in mean.lines} - lines.keys()


def test_the_previous_word_is_known_only_after_the_layer_that_copies_it():
    model, tokenizer = planted.copies_previous(), planted.tokenizer()
    found = probe(model, tokenizer, *(sentences(n, n, previous) for n in (60, 30)), progress=False)
    assert [score.pooling for score in found.scores] == ["first piece"] * (planted.L + 2)
    for score in found.scores:
        known = score.layer in [f"layer {number}" for number in range(planted.LAYER, planted.L)]
        assert (score.accuracy[0] > 0.9) == known and (score.accuracy[0] < 0.4) == (not known)
        assert (score.compression > 3) == known


def test_only_a_hidden_layer_reads_an_exclusive_or():
    model, tokenizer = planted.copies_previous(), planted.tokenizer()
    data = [sentences(n, n, differs) for n in (60, 30)]
    linear, hidden = (probe(model, tokenizer, *data, hidden=units, progress=False) for units in (0, 32))
    for layer, known in (("layer 0", False), ("layer 2", True)):
        assert at(linear, layer, "first piece").accuracy[0] < 0.8
        assert (at(hidden, layer, "first piece").accuracy[0] > 0.9) == known


def test_random_labels_are_not_found():
    draw = random.Random(5)
    data = [[(text, draw.choice("ab")) for text, _ in texts(n, n)] for n in (120, 100)]
    found = probe(planted.finds_word(), planted.tokenizer(), *data, progress=False)
    assert all(score.selectivity[1] <= 0.05 and score.compression < 1.1 for score in found.scores)


def test_a_label_for_each_word_is_memorised_and_not_selective():
    """A task of Hewitt and Liang's control kind: as accurate as it is, the control is as well."""
    draw = random.Random(3)
    tag = {word: draw.choice("abc") for word in planted.WORDS}
    data = [sentences(n, n, lambda words: [tag[word] for word in words]) for n in (60, 30)]
    found = probe(planted.copies_previous(), planted.tokenizer(), *data, progress=False)
    for score in found.scores[:3]:
        assert score.accuracy[0] == 1 and score.control[0] == 1 and score.selectivity == (0, 0, 0)


def test_the_linear_probe_is_scikit_learns_logistic_regression():
    data = texts(120, 0), texts(60, 1)
    model = BertModel.from_pretrained("minibert-small").eval()
    tokenizer = BertTokenizer.from_pretrained("minibert-small")
    found = probe(model, tokenizer, *data, progress=False)
    assert len(found.scores) == 2 * (model.config.num_hidden_layers + 1) + 1
    with torch.no_grad():
        train, test = (
            [
                state.numpy().astype(np.float64)
                for state in model(**tokenizer([t for t, _ in rows]), output_hidden_states=True).hidden_states
            ]
            for rows in data
        )
        masks = [tokenizer([t for t, _ in rows])["attention_mask"].numpy()[:, :, None] for rows in data]
    truth = [np.array([label for _, label in rows]) for rows in data]
    for number in range(len(train)):
        layer = f"layer {number - 1}" if number else "embeddings"
        for pooling in ("cls", "mean"):
            x, y = (
                each[number][:, 0] if pooling == "cls" else (each[number] * mask).sum(1) / mask.sum(1)
                for each, mask in zip((train, test), masks, strict=True)
            )
            other = LogisticRegression(C=1.0, solver="newton-cg", tol=1e-8, max_iter=10_000).fit(x, truth[0])
            assert at(found, layer, pooling).accuracy[0] == pytest.approx(other.score(y, truth[1]), abs=1e-9)


@pytest.mark.parametrize(("hidden", "seeds"), [(0, (1, 1, 2)), (8, (1, 1))])
def test_the_same_seed_gives_the_same_numbers_and_the_model_is_left_alone(hidden, seeds):
    model, tokenizer = planted.copies_previous().train(), planted.tokenizer()
    data = [sentences(n, n, previous) for n in (9, 8)]
    before, drawn = {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.get_rng_state()
    first, again, *others = (probe(model, tokenizer, *data, hidden=hidden, seed=n, progress=False) for n in seeds)
    assert first == again and all(first.as_dict() != other.as_dict() for other in others)
    assert torch.equal(torch.get_rng_state(), drawn) and model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_distilbert_and_a_model_with_any_head():
    _, model = pair("distilbert", "BertForSequenceClassification")
    data = [[(f"{word} 1 4", word) for word in ("3", "5")] * 4] * 2
    found = probe(model, TOKENIZERS["distilbert"], *data, hidden=4, progress=False)
    assert {score.layer for score in found.scores} == {
        "words",
        "embeddings",
        *(f"layer {number}" for number in range(model.config.num_hidden_layers)),
    }
    assert at(found, "layer 0", "cls").accuracy[0] == 1  # the same texts


def test_pairs_unknown_labels_and_words_that_are_cut_off():
    model, tokenizer = planted.finds_word(), planted.tokenizer()
    train = [(("word1", text), label) for text, label in texts(40, 0)]
    test = [*((("word1", text), label) for text, label in texts(20, 1)), (("word1", "word2"), "perhaps")]
    found = probe(model, tokenizer, train, test, progress=False)
    assert at(found, "layer 2", "cls").accuracy[0] == pytest.approx(20 / 21)
    assert found.unknown == 1 and "count as errors: 1" in str(found)
    long = [(words * 3, tags * 3) for words, tags in sentences(9, 0, previous)]  # 21 words, and 14 fit
    with pytest.warns(UserWarning, match="were cut"):
        found = probe(planted.copies_previous(), tokenizer, long, long[:5], progress=False)
    uniform = at(found, "layer 2", "first piece").bits * at(found, "layer 2", "first piece").compression
    assert uniform == pytest.approx(9 * 14 * np.log2(len(found.classes)))


def test_a_word_without_a_tag_is_left_out_and_one_word_of_each_sentence_has_a_control_for_each_sentence():
    """word3 stands last in every sentence: a label for each word type would be one label for all."""
    model, tokenizer = planted.copies_previous(), planted.tokenizer()
    data = []
    for count in (60, 40):
        rows = [
            (words, "high" if int(words[-1].removeprefix("word")) >= 10 else "low")
            for words, _ in sentences(count, count, previous)
        ]
        data.append([([*words, "word3"], [None] * len(words) + [label]) for words, label in rows])
    found = probe(model, tokenizer, *data, progress=False)
    assert at(found, "layer 0", "first piece").accuracy[0] == at(found, "words", "first piece").accuracy[0] < 0.7
    after = at(found, "layer 2", "first piece")
    assert after.accuracy[0] > 0.9 and after.control[0] < 0.7 and after.selectivity[1] > 0.2
    assert after.bits * after.compression == pytest.approx(60)  # one bit for each sentence


@pytest.mark.parametrize(
    ("train", "test", "key"),
    [
        ([], texts(4, 0), "train"),
        (texts(4, 0), [], "test"),
        ([("word1", "yes"), (["word1"], ["yes"])], texts(4, 0), "train[1]"),
        (texts(4, 0), [(["word1", "word2"], ["yes"])], "test[0]"),
        ([("word1", 0.5)], texts(4, 0), "train[0]"),
        (texts(4, 0), [(["word1"], ["yes"])], "test"),
        ([("word1", "yes"), ("word2", "yes")], texts(4, 0), "train"),
        (texts(4, 0), [("word1", "maybe")], "test"),
        ([(["word1"], "yes"), (["word2"], "no")], texts(4, 0), "0"),
        ([(["word1"], [None])], [(["word1"], ["yes"])], "train"),
    ],
)
def test_what_cannot_be_probed_is_named(train, test, key):
    with pytest.raises(DataError) as caught:
        probe(planted.finds_word(), planted.tokenizer(), train, test, progress=False)
    assert caught.value.key == key
    with pytest.raises(ConfigError) as caught:
        probe(planted.finds_word(), planted.tokenizer(), texts(4, 0), texts(4, 1), hidden=-1, progress=False)
    assert caught.value.key == "hidden"
