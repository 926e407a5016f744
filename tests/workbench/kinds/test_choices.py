"""Multiple choice: scores and rows by hand, predictions, and what is refused."""

from __future__ import annotations

import pytest
import torch

from minibert import BertForMultipleChoice
from minibert.io.errors import DataError
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.data.examples import ChoiceExample
from minibert.workbench.kinds.choices import MultipleChoice
from minibert.workbench.kinds.evaluation import Measured
from minibert.workbench.kinds.kind import Asked
from minibert.workbench.tasks.predict import Predictor
from tests.conftest import BOUNDS, refused
from tests.workbench.conftest import save_model

# Two choices beside three: the third of them is a row of padding, which no model can choose.
LOGITS = [torch.tensor([1.0, 3.0, 2.0]), torch.tensor([2.0, 1.0, -torch.inf])]


def examples(*labels: int | None) -> Corpus:
    return Corpus(
        (
            ChoiceExample("the sky", ("is green", "was calm", "so"), labels[0], "a"),
            ChoiceExample("one day", ("anna", "david"), labels[1], "b"),
        )
    )


def test_a_report_has_each_row_with_its_choices(tokenizer):
    corpus = examples(1, 1)
    kind = MultipleChoice()
    rows = kind.rows(corpus, tokenizer)
    report = kind.report(Measured("test", corpus, (), 9.0, LOGITS, rows.tokens_read(), rows))
    losses = [
        -torch.tensor([1.0, 3.0, 2.0]).double().log_softmax(0)[1].item(),
        -torch.tensor([2.0, 1.0]).double().log_softmax(0)[1].item(),
    ]
    bound = BOUNDS["module fp32"]
    assert report.metrics["examples"] == 2
    assert report.values() == {"loss": pytest.approx(sum(losses) / 2, abs=bound), "accuracy": 0.5}
    assert 0 < report.metrics["accuracy"]["low"] < 0.5 < report.metrics["accuracy"]["high"] < 1
    assert [row["loss"] for row in report.rows] == pytest.approx(losses[::-1], abs=bound)
    told = [[row[key] for key in ("label", "prediction", "right", "guid")] for row in report.rows]
    assert told == [["david", "anna", 0, "b"], ["was calm", "was calm", 1, "a"]]
    assert report.rows[1]["text_pair"] == "is green | was calm | so"
    scores = kind.outcomes((), report.rows)
    assert scores["accuracy"].of_sums(scores["accuracy"].added.sum(axis=0)) == 0.5


def test_a_prediction_ranks_the_choices_of_its_text(tokenizer):
    corpus = examples(None, None)
    kind = MultipleChoice()
    first, second = kind.predictions(Asked(corpus, kind.rows(corpus, tokenizer), (), LOGITS))
    chances = torch.tensor([1.0, 3.0, 2.0]).softmax(0).tolist()
    assert (first.choice, first.place, first.probability) == ("was calm", 1, chances[1])
    assert first.probabilities == [("was calm", chances[1]), ("so", chances[2]), ("is green", chances[0])]
    assert (second.choice, second.place) == ("anna", 0)
    assert len(second.probabilities) == 2
    assert sum(chance for _, chance in second.probabilities) == pytest.approx(1)
    assert str(second).splitlines() == ["one day", "  0.731  anna", "  0.269  david"]


def test_predictions_do_not_depend_on_texts_with_more_choices(tmp_path):
    folder = save_model(tmp_path, BertForMultipleChoice, initializer_range=0.5)
    predictor = Predictor.from_pretrained(folder, precision="fp32", device="cpu")
    texts = [example.text for example in examples(None, None)]
    choices = [example.choices for example in examples(None, None)]
    together = predictor(texts, choices=choices)
    alone = [predictor(text, choices=several)[0] for text, several in zip(texts, choices, strict=True)]
    for one, other in zip(together, alone, strict=True):
        assert one.choice == other.choice
        assert one.probability == pytest.approx(other.probability, abs=BOUNDS["module fp32"])
    assert len(together[1].probabilities) == 2


@pytest.mark.parametrize(
    "texts, choices, key",
    [
        (["a"], None, "choices"),
        (["a", "b"], [["x", "y"], ["z"]], "1"),
        (["a"], ["xy"], "0"),
        (["a"], [["x", 3]], "1"),
        ([None], [["x", "y"]], "0"),
    ],
)
def test_texts_and_choices_that_cannot_be_used_are_refused(texts, choices, key):
    with refused(DataError, key):
        MultipleChoice().unlabelled(texts, choices=choices)
