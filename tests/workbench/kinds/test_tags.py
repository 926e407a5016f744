"""Tags: entity scores against seqeval, the table of entities, and how they are printed."""

from __future__ import annotations

import random
import re
import warnings
from types import SimpleNamespace

import pytest
import torch
from seqeval.metrics import classification_report

from minibert import BertConfig, BertForTokenClassification
from minibert.data import Dataset, TaggedExample
from minibert.io.errors import DataError
from minibert.workbench import cli
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.data.records import Columns
from minibert.workbench.kinds.entities import matched
from minibert.workbench.kinds.evaluation import Measured
from minibert.workbench.kinds.kind import Asked
from minibert.workbench.kinds.tagged_text import FoundEntity, TaggedText, TaggedWord
from minibert.workbench.kinds.tags import Tags
from minibert.workbench.scores.metrics import entity_scores
from minibert.workbench.tasks.predict import Predictor
from tests.conftest import BOUNDS, refused
from tests.workbench.conftest import VOCABULARY, save_vocabulary

IOB = ("B-loc", "B-per", "I-loc", "I-per", "O")
SURE = 5.0


# Scores


def random_tags(draw: random.Random, sound: bool, types: str = "xyz") -> list[str]:
    tags: list[str] = []
    for _ in range(draw.randint(1, 9)):
        choices = ["O", *(f"{part}-{kind}" for part in "BI" for kind in types)]
        if sound:
            before = tags[-1] if tags else "O"
            choices = [tag for tag in choices if tag[0] != "I" or (before[0] in "BI" and before[2:] == tag[2:])]
        tags.append(draw.choice(choices))
    return tags


@pytest.mark.parametrize("sound", [True, False])
def test_entity_scores_are_those_of_seqeval(sound):
    """Its default mode is that of conlleval; 300 small corpora, guesses half of them the truth."""
    draw = random.Random(int(sound))
    for _ in range(300):
        labels = [random_tags(draw, sound) for _ in range(draw.randint(1, 4))]
        guesses = []
        for tags in labels:
            other = random_tags(draw, sound) * 9
            guesses.append([a if draw.random() < 0.6 else b for a, b in zip(tags, other, strict=False)])
        found = entity_scores(labels, guesses)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scores that have no denominator
            try:
                theirs = classification_report(labels, guesses, output_dict=True, zero_division=0)
            except ValueError:  # it wants an entity somewhere
                assert list(found) == ["micro"]
                continue
        expected = {
            name.replace("micro avg", "micro"): scores
            for name, scores in theirs.items()
            if name not in ("macro avg", "weighted avg")
        }
        assert found.keys() == expected.keys()
        for name, scores in found.items():
            for key, name_there in (
                ("precision", "precision"),
                ("recall", "recall"),
                ("f1", "f1-score"),
                ("support", "support"),
            ):
                assert scores[key] == pytest.approx(expected[name][name_there], abs=BOUNDS["fp64"]), (
                    name,
                    key,
                    labels,
                    guesses,
                )


# The report


def report_of(tokenizer, sentences, names=IOB, sure=None, **reading):
    """The report of (words, tags, guesses), texts each; `sure` has the logits of the guesses."""
    examples = [
        TaggedExample(tuple(words.split()), tuple(map(names.index, tags.split())), f"s{number}")
        for number, (words, tags, _) in enumerate(sentences)
    ]
    corpus = Corpus(tuple(examples), names)
    rows = Dataset(corpus, tokenizer, **reading)
    logits = []
    for number, (_, _, guesses) in enumerate(sentences):
        ids = rows.word_ids[number]
        numbers = torch.zeros(len(ids) + 3, len(names))  # (S, C), padded
        for column, word in enumerate(ids):
            first = word is not None and word not in ids[:column]
            tag = names.index(guesses.split()[word]) if first else -1  # other pieces mislead
            numbers[column, tag] = SURE if sure is None else sure[number]
        logits.append(numbers)
    return Tags().report(Measured("test", corpus, names, 0.5, logits, rows.lengths, rows))


@pytest.mark.parametrize(
    "tags, guesses, expected",
    [
        ("B-per I-per O O", "B-per I-per O O", [("right", "per", "per", "a b", "a b")]),
        ("B-per I-per O O", "B-loc I-loc O O", [("type", "per", "loc", "a b", "a b")]),
        ("B-per I-per O O", "B-per O O O", [("ends", "per", "per", "a b", "a")]),
        ("B-per I-per O O", "O B-loc I-loc O", [("ends and type", "per", "loc", "a b", "b c")]),
        ("B-per O O O", "O O O O", [("missed", "per", "", "a", "")]),
        ("O O O O", "O O B-loc I-loc", [("invented", "", "loc", "", "c d")]),
        (
            "B-per O O B-loc",
            "O B-per O B-loc",
            [("invented", "", "per", "", "b"), ("missed", "per", "", "a", ""), ("right", "loc", "loc", "d", "d")],
        ),
        (  # one prediction over two: it means the longer one, the other was missed
            "B-per B-loc I-loc O",
            "B-loc I-loc I-loc O",
            [("ends", "loc", "loc", "b c", "a b c"), ("missed", "per", "", "a", "")],
        ),
        (  # an I- that goes on with nothing opens one, in guesses
            "B-per I-per O O",
            "I-per I-per O I-loc",
            [("invented", "", "loc", "", "d"), ("right", "per", "per", "a b", "a b")],
        ),
    ],
)
def test_every_entity_has_one_row_with_its_outcome(tokenizer, tags, guesses, expected):
    rows = report_of(tokenizer, [("a b c d", tags, guesses)]).tables["entities.csv"]
    columns = ("outcome", "label", "prediction", "entity", "predicted_entity")
    assert sorted(tuple(row[column] for column in columns) for row in rows) == sorted(expected)
    assert {(row["guid"], row["text"]) for row in rows} == {("s0", "a b c d")}


def test_every_entity_of_random_tags_is_matched_once():
    draw = random.Random(0)
    for _ in range(300):
        there, predicted = (
            {
                (first, draw.randint(first + 1, first + 4), draw.choice("xy"))
                for first in draw.sample(range(12), draw.randint(0, 4))
            }
            for _ in range(2)
        )
        pairs = matched(there, predicted)
        assert sorted(a for a, _ in pairs if a) == sorted(there)
        assert sorted(b for _, b in pairs if b) == sorted(predicted)
        assert {a for a, b in pairs if a == b} == there & predicted
        for a, b in pairs:
            assert a is None or b is None or (a[0] < b[1] and b[0] < a[1])
        alone = [a for a, b in pairs if b is None], [b for a, b in pairs if a is None]
        assert not any(a[0] < b[1] and b[0] < a[1] for a in alone[0] for b in alone[1])


def test_an_entity_is_matched_with_the_same_then_the_same_ends_then_the_most_shared():
    assert matched({(0, 2, "x")}, {(0, 2, "x"), (0, 5, "x")}) == [((0, 2, "x"), (0, 2, "x")), (None, (0, 5, "x"))]
    assert matched({(0, 2, "x"), (1, 6, "y")}, {(0, 2, "y")}) == [((0, 2, "x"), (0, 2, "y")), ((1, 6, "y"), None)]
    assert matched({(0, 4, "x")}, {(0, 1, "x"), (2, 4, "y")}) == [((0, 4, "x"), (2, 4, "y")), (None, (0, 1, "x"))]
    assert matched({(0, 2, "x")}, {(2, 4, "x")}) == [((0, 2, "x"), None), (None, (2, 4, "x"))]


def test_rows_and_entities_are_sorted_by_loss_and_words_count_once(tokenizer):
    """`zebra` has 5 pieces; the first alone speaks for it."""
    report = report_of(
        tokenizer,
        [
            ("zebra is so", "B-per O O", "B-per O O"),
            ("zebra is so", "B-per O O", "B-loc O O"),
            ("the sky is", "O O O", "B-per O O"),
        ],
        sure=[SURE, SURE, 2 * SURE],
    )
    assert len(tokenizer.encode(["zebra"])[0].input_ids) == 7
    assert report.metrics["words"] == 9
    assert report.values()["word_accuracy"] == 7 / 9
    assert [row["guid"] for row in report.rows] == ["s2", "s1", "s0"]
    assert [row["guid"] for row in report.tables["entities.csv"]] == ["s2", "s1", "s0"]
    assert report.rows[2]["label"] == report.rows[2]["prediction"] == "B-per O O"
    assert report.values()["entity_precision"] == 1 / 3
    assert report.values()["entity_recall"] == 1 / 2
    assert report.values()["entity_f1"] == 2 / 5
    assert list(report.metrics["classes"]) == ["loc", "per"]
    assert report.confusion.sum() == 9
    loss = torch.nn.functional.cross_entropy(torch.tensor([[0, 0, 0, 0, SURE]]), torch.tensor([4])).item()
    assert report.rows[2]["loss"] == pytest.approx(loss, abs=BOUNDS["module fp32"])


def test_entities_that_truncation_cut_off_are_missed(tokenizer):
    with pytest.warns(UserWarning, match="2 of 5 word tags have no piece"):
        report = report_of(
            tokenizer, [("the sky is anna berlin", "O O O B-per B-loc", "O O O B-per B-loc")], max_length=5
        )
    assert report.values()["entity_recall"] == 0
    assert report.metrics["words"] == 5
    assert report.rows[0]["prediction"] == "O O O O O"
    outcomes = [(row["outcome"], row["entity"]) for row in report.tables["entities.csv"]]
    assert sorted(outcomes) == [("missed", "anna"), ("missed", "berlin")]


def test_comparing_reads_entities_back_from_the_rows(tokenizer):
    sentences = [
        ("a b c d", "B-per I-per O O", "B-per I-per O O"),
        ("a b c d", "B-per I-per O B-loc", "B-per O O B-loc"),
    ]
    report = report_of(tokenizer, sentences)
    scores = Tags().outcomes(IOB, report.rows)
    found = scores["entity_f1"].of_sums(scores["entity_f1"].added.sum(axis=0))
    assert found == report.values()["entity_f1"] == 2 * 2 / (3 + 3)
    assert Tags().outcomes(("with space", "O"), report.rows) == {}


# Predictions


def predicted(tokenizer, text, tags: str, names=IOB) -> TaggedText:
    """What the kind makes of logits that mean these tags."""
    kind = Tags()
    corpus = kind.unlabelled([text])
    rows = kind.rows(corpus, tokenizer)
    [ids] = rows.word_ids
    numbers = torch.zeros(len(ids), len(names))  # (S, C)
    for column, word in enumerate(ids):
        first = word is not None and word not in ids[:column]
        numbers[column, names.index(tags.split()[word]) if first else -1] = SURE - column / 4
    [found] = kind.predictions(Asked(corpus, rows, names, [numbers]))
    return found


def test_entities_have_their_places_in_the_text(tokenizer):
    text = "  Anna\tBerlin,  is \n in \u00e9t\u00e9  zoo"
    found = predicted(tokenizer, text, "B-per I-per O O O B-loc B-loc")
    assert [(one.type, one.text) for one in found.entities] == [
        ("per", "Anna\tBerlin"),
        ("loc", "\u00e9t\u00e9"),
        ("loc", "zoo"),
    ]
    for one in (*found.entities, *found.words):
        assert text[one.start : one.end] == (one.text if hasattr(one, "text") else one.word)
    chances = [word.probability for word in found.words[:2]]
    assert found.entities[0].probability == min(chances)


def test_a_word_that_is_not_read_ends_an_entity(tokenizer):
    found = predicted(tokenizer, ["anna", "\u00ad", "lee"], "B-per O I-per")
    assert [word.word for word in found.words] == ["anna", "lee"]
    assert [one.text for one in found.entities] == ["anna", "lee"]


def test_entities_of_given_words_have_places_in_the_joined_words(tokenizer):
    found = predicted(tokenizer, ["new york", "is", "calm"], "B-loc O B-per")
    assert found.text == "new york is calm"
    assert [(one.text, one.start) for one in found.entities] == [("new york", 0), ("calm", 12)]


def test_entities_are_marked_in_the_text_and_listed_below(tokenizer):
    found = predicted(tokenizer, "so Anna  Berlin is\nin Cairo.", "O B-per I-per O O B-loc O")
    plain = str(found).splitlines()
    assert plain[0] == "so [Anna Berlin per] is in [Cairo loc]."
    assert [line.split()[:2] for line in plain[1:]] == [["3-15", "per"], ["22-27", "loc"]]
    assert "\x1b" not in str(found)
    coloured = found.in_colour()
    assert "\x1b" in coloured
    starts = {coloured.split("[Anna")[0][-5:], coloured.split("[Cairo")[0][-5:]}
    assert len(starts) == 2  # a colour for each type
    assert _bare(coloured).splitlines() == plain


def _bare(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_tags_that_are_not_iob_are_shown_at_each_word(tokenizer):
    names = ("NOUN", "VERB", "X")
    found = predicted(tokenizer, "rain is  over", "NOUN VERB X", names)
    assert str(found) == found.in_colour() == "rain/NOUN is/VERB over/X"
    assert found.entities == []


def test_a_text_without_entities_says_so(tokenizer):
    found = predicted(tokenizer, "so \n is it", "O O O")
    assert str(found) == found.in_colour() == "so is it  (no entities)"
    assert str(TaggedText("", [], [])).endswith("(no entities)")


def test_only_texts_and_sequences_of_words_can_be_tagged():
    for wrong in (None, 3, ["a", 3]):
        with refused(DataError, "1"):
            Tags().unlabelled(["a", wrong])


# On the command line


class Terminal:
    """Standard output that says it is a terminal, or not."""

    encoding = "utf-8"

    def __init__(self, terminal: bool):
        self.text, self._terminal = "", terminal

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    "terminal, no_color, arguments, coloured",
    [
        (True, None, [], True),
        (True, "", [], True),  # no-color.org: set and not empty
        (True, "1", [], False),
        (False, None, [], False),
        (True, None, ["--json"], False),
    ],
)
def test_colours_are_used_on_a_terminal_unless_NO_COLOR_is_set(
    tmp_path, monkeypatch, terminal, no_color, arguments, coloured
):
    screen = Terminal(terminal)
    monkeypatch.setattr(cli.sys, "stdout", screen)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    tagged = TaggedText("anna", [TaggedWord("anna", 0, 4, "B-per", 0.9)], [FoundEntity("anna", 0, 4, "per", 0.9)])
    predictor = SimpleNamespace(columns=Columns, of_records=lambda *_, **__: [tagged])
    monkeypatch.setattr(Predictor, "from_pretrained", lambda *_, **__: predictor)
    assert cli.main(["predict", "RUN", "anna", *arguments]) == 0
    assert "anna" in screen.text
    assert ("\x1b" in screen.text) == coloured


def test_a_text_of_no_words_has_no_entities(tmp_path):
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=37,
        max_position_embeddings=30,
        id2label=dict(enumerate(IOB)),
    )
    BertForTokenClassification(config).save_pretrained(tmp_path)
    save_vocabulary(tmp_path, VOCABULARY)
    first, empty, blank = Predictor.from_pretrained(tmp_path, device="cpu")(["anna is", "", " "])
    assert [word.word for word in first.words] == ["anna", "is"]
    assert empty.words == blank.words == []
    assert str(empty).strip() == str(blank).strip() == "(no entities)"


@pytest.mark.parametrize(
    "text, words",
    [
        ("in Berlin.", "in|Berlin|."),
        ('(so) "it" is!?', '(|so|)|"|it|"|is|!|?'),
        ("the U.S. and J. Smith :-) wait...", "the|U.S.|and|J.|Smith|:-)|wait|..."),
        ("e-g can't @anna #rain a.b", "e-g|can't|@anna|#rain|a.b"),
        ("5.5, yes", "5.5|,|yes"),
        ("\u00abzoo\u00bb\u2026", "\u00ab|zoo|\u00bb|\u2026"),
    ],
)
def test_opening_and_closing_punctuation_are_words(text, words):
    [sentence] = Tags().unlabelled([text])
    assert "|".join(sentence.words) == words
    for word, start in zip(sentence.words, sentence.starts, strict=True):
        assert text[start : start + len(word)] == word


def test_control_characters_do_not_reach_the_terminal(tokenizer):
    found = predicted(tokenizer, "so \x1b[31mAnna", "O B-per")
    assert "\x1b" not in str(found) and found.text == "so \x1b[31mAnna"


def test_tags_that_are_not_iob_are_measured_by_word(tokenizer):
    names = ("NOUN", "VERB")
    words = tuple("abcdefghijklmnopqrstuvwxyz" * 2)
    corpus = Corpus((TaggedExample(words, (0,) * len(words)),), names)
    with pytest.warns(UserWarning):
        rows = Dataset(corpus, tokenizer, max_length=12)
    said = torch.tensor([[9.0, 0.0]] * 12)
    report = Tags().report(Measured("test", corpus, names, 0.0, [said], rows.lengths, rows))
    assert report.values() == {"loss": 0.0, "word_accuracy": 1.0}
    assert (report.metrics["words"], report.metrics["words_cut_off"]) == (10, 42)
    assert Tags().watched(corpus) == "word_accuracy"
    assert Tags().watched(Corpus((), ("B-X", "O"))) == "entity_f1"
