"""Answers: decoding against a search through all stretches, scores by hand, losses by reference."""

from __future__ import annotations

import math

import pytest
import torch
import transformers

from minibert import BertConfig, BertForQuestionAnswering
from minibert.data import collate
from minibert.fast.precision import choose_precision
from minibert.io.errors import DataError
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.corpora import Corpus
from minibert.workbench.data.examples import Answer, QuestionExample
from minibert.workbench.data.windows import Windows
from minibert.workbench.kinds import spans
from minibert.workbench.kinds.evaluation import Measured
from minibert.workbench.kinds.spans import Spans, decode
from minibert.workbench.scores.metrics import answer_scores
from minibert.workbench.tasks.evaluate import evaluate
from tests.conftest import BOUNDS, refused
from tests.workbench.conftest import FILLERS, MOODS, NAMES, VOCABULARY, save_model

WORDS = [*FILLERS, *MOODS, *NAMES]  # each is one piece
LOW = -20.0


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> BertTokenizer:
    """One that takes rows of 60 tokens."""
    folder = tmp_path_factory.mktemp("long")
    return BertTokenizer.from_pretrained(save_model(folder, max_position_embeddings=60))


def question(context: str, *answers: str, text: str = "so") -> QuestionExample:
    found = tuple(Answer(answer, context.index(answer)) for answer in answers)
    return QuestionExample(text, context, found, "id")


def low(rows: Windows) -> list[torch.Tensor]:
    """Logits that choose nothing, with "not here" the least likely of all."""
    logits = [torch.full((length, 2), LOW) for length in rows.lengths]
    for row in logits:
        row[0] = 2 * LOW
    return logits


def columns(rows: Windows, row: int, tokenizer: BertTokenizer) -> list[str]:
    return tokenizer.tokens(rows.ids(row))


def asked(tokenizer, context: str, logits=None, *, text: str = "so", reading=None, **options):
    """(the answer, the windows) for one question; `logits` changes those of `low` in place."""
    corpus = Corpus((QuestionExample(text, context),))
    rows = Windows(corpus, tokenizer, **(reading or {}))
    numbers = low(rows)
    if logits is not None:
        logits(numbers)
    [answered] = decode(corpus, rows, numbers, **options)
    return answered, rows


# Decoding


def test_an_answer_is_a_span_of_the_context_and_nothing_else(tokenizer):
    """[CLS] so day [SEP] anna was calm [SEP]: all columns but 4 to 6 have far higher numbers."""

    def outside(numbers):
        numbers[0][:] = 10.0
        numbers[0][4:7] = 0.0
        numbers[0][5, 0] = numbers[0][6, 1] = 1.0

    answered, rows = asked(tokenizer, "anna was calm", outside, text="so day", top=9)
    assert columns(rows, 0, tokenizer)[3:] == ["[SEP]", "anna", "was", "calm", "[SEP]"]
    assert (answered.answer.text, answered.answer.score) == ("was calm", 2.0)
    assert {one.text for one in (answered.answer, *answered.others)} == {
        *("anna", "anna was", "anna was calm", "was", "was calm", "calm")
    }


def test_padding_is_never_an_answer(tokenizer):
    """Rows of logits are as long as the batch was wide."""

    def padded(numbers):
        numbers[0] = torch.cat([numbers[0], torch.full((20, 2), 10.0)])  # (S + 20, 2)
        numbers[0][3] = 0.0

    assert asked(tokenizer, "anna was calm", padded)[0].answer.text == "anna"


def test_an_answer_does_not_end_before_it_starts(tokenizer):
    def backwards(numbers):
        numbers[0][5, 0] = 9.0  # starts at calm
        numbers[0][3, 1] = 9.0  # ends at anna
        numbers[0][4] = 0.0

    answered, _ = asked(tokenizer, "anna was calm", backwards, top=9)
    assert (answered.answer.text, answered.answer.score) == ("was", 0.0)
    assert len(answered.others) == 5
    assert answered.no_answer < 0.01  # nor is what runs backwards taken for "no answer"
    assert all(one.start < one.end for one in (answered.answer, *answered.others))


def test_an_answer_has_at_most_LONGEST_pieces(tokenizer):
    context = " ".join(WORDS[place % len(WORDS)] for place in range(40))

    def long(numbers):
        numbers[0][3, 0] = 9.0
        numbers[0][3 + 29, 1] = 8.0  # 30 pieces
        numbers[0][3 + 30, 1] = 9.0  # 31 pieces

    answered, rows = asked(tokenizer, context, long)
    assert len(rows) == 1
    assert spans.LONGEST == 30
    assert answered.answer.text.split() == context.split()[:30]


def test_a_span_in_two_windows_counts_once_with_its_best_score(tokenizer):
    context = " ".join(WORDS[:12])
    rows = Windows([QuestionExample("so", context)], tokenizer, max_length=12, overlap=4)
    there = [row for row in range(len(rows)) if WORDS[6] in columns(rows, row, tokenizer)[3:]]
    assert len(there) == 2
    for better in range(2):

        def seen_twice(numbers, better=better):
            for row, score in zip(there, (3.0, 4.0) if better else (4.0, 3.0), strict=True):
                numbers[row][columns(rows, row, tokenizer).index(WORDS[6], 3)] = score

        answered, _ = asked(tokenizer, context, seen_twice, reading={"max_length": 12, "overlap": 4}, top=5)
        assert (answered.answer.text, answered.answer.score) == (WORDS[6], 8.0)
        assert WORDS[6] not in [one.text for one in answered.others]


def brute_force(context: str, rows: Windows, logits, tokenizer, longest: int):
    """{(from, to): best score} over all windows; the words of the context are all different."""
    words = context.split()
    starts = [context.index(word) for word in words]
    best: dict[tuple[int, int], float] = {}
    for row in range(len(rows)):
        tokens = columns(rows, row, tokenizer)
        inside = range(tokens.index("[SEP]") + 1, len(tokens) - 1)
        for first in inside:
            for last in inside:
                if 0 <= last - first < longest:
                    ends = words.index(tokens[first]), words.index(tokens[last])
                    place = starts[ends[0]], starts[ends[1]] + len(words[ends[1]])
                    score = (logits[row][first, 0] + logits[row][last, 1]).item()
                    best[place] = max(score, best.get(place, -math.inf))
    return best


@pytest.mark.parametrize("max_length, overlap", [(None, None), (16, None), (12, 3), (10, 0)])
def test_decoding_equals_a_search_through_all_spans(tokenizer, monkeypatch, max_length, overlap):
    monkeypatch.setattr(spans, "LONGEST", 4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        order = torch.randperm(len(WORDS), generator=generator).tolist()
        context = "  ".join(WORDS[place] for place in order)
        corpus = Corpus((QuestionExample("so day", context),))
        rows = Windows(corpus, tokenizer, max_length=max_length, overlap=overlap)
        assert (len(rows) > 1) == (max_length is not None)
        logits = [3 * torch.randn(size, 2, generator=generator) for size in rows.lengths]
        expected = brute_force(context, rows, logits, tokenizer, longest=4)
        ranked = sorted(expected.items(), key=lambda item: -item[1])
        for top in (1, 5, 20):
            [found] = decode(corpus, rows, logits, top=top)
            answers = [found.answer, *found.others]
            assert [((one.start, one.end), one.score) for one in answers] == ranked[:top]
            assert all(one.text == context[one.start : one.end] for one in answers)
        none = min(numbers[0].sum().item() for numbers in logits)
        [found] = decode(corpus, rows, logits, allow_no_answer=True)
        assert (found.answer.text == "") == (none > ranked[0][1])
        assert found.answer.score == max(none, ranked[0][1])


def test_no_answer_takes_the_lowest_score_of_all_windows(tokenizer):
    def all_but(*silent):
        def change(numbers):
            for row in range(len(numbers)):
                numbers[row][0] = -9.0 if row in silent else 9.0
            numbers[0][3] = 5.0

        return change

    context = " ".join(WORDS[:12])
    for silent, answer in (((), ""), ((1,), WORDS[0])):
        answered, rows = asked(tokenizer, context, all_but(*silent), reading={"max_length": 12}, allow_no_answer=True)
        assert len(rows) > 1
        assert answered.answer.text == answer
        assert (answered.no_answer > 0.5) == (answer == "")
    assert "(no answer)" in str(asked(tokenizer, "anna", all_but(), allow_no_answer=True)[0])
    answered, _ = asked(tokenizer, context, all_but())
    assert answered.answer.text == WORDS[0]  # not allowed, but still said to be likely
    assert answered.no_answer > 0.5


def test_probabilities_are_a_softmax_over_the_spans_and_no_answer(tokenizer):
    def some(numbers):
        numbers[0][:] = torch.arange(14.0).view(7, 2).sin()  # (S, 2)

    answered, rows = asked(tokenizer, "anna was calm", some, top=99, allow_no_answer=True)
    numbers = torch.arange(14.0, dtype=torch.float64).view(7, 2).sin()  # (S, 2)
    scores = {"": numbers[0].sum()}
    words = ["anna", "was", "calm"]
    for first in range(3):
        for last in range(first, 3):
            text = " ".join(words[first : last + 1])
            scores[text] = numbers[3 + first, 0] + numbers[3 + last, 1]
    total = sum(score.exp() for score in scores.values())
    found = {one.text: one.probability for one in (answered.answer, *answered.others)}
    assert found == pytest.approx(
        {text: (score.exp() / total).item() for text, score in scores.items()}, abs=BOUNDS["module fp32"]
    )
    assert answered.no_answer == found[""]
    assert len(rows) == 1


@pytest.mark.parametrize("allow", [False, True])
def test_a_context_without_pieces_has_no_answer(tokenizer, allow):
    """Cleaning takes control characters away: [CLS] so [SEP] [SEP]."""
    answered, rows = asked(tokenizer, "\u0001 \u0002", allow_no_answer=allow, top=3)
    assert columns(rows, 0, tokenizer)[-1] == "[SEP]"
    assert (answered.answer.text, answered.others, answered.no_answer) == ("", [], 1.0)
    assert "(no answer)" in str(answered)


def test_an_answer_is_text_of_the_original_context(tokenizer):
    context = "  The\tANNA,\n was \u00e9 calm "
    answered, _ = asked(tokenizer, context, top=50)
    places = {(one.start, one.end) for one in (answered.answer, *answered.others)}
    assert (2, len(context) - 1) in places
    for one in (answered.answer, *answered.others):
        assert one.text == context[one.start : one.end] != ""


# Scores


@pytest.mark.parametrize(
    "prediction, answers, exact, f1",
    [
        ("The Eiffel Tower!", ["eiffel tower"], True, 1.0),  # articles, punctuation, case
        ("an apple, a pear", ["apple pear"], True, 1.0),
        ("theatre", ["atre"], False, 0.0),  # an article inside a word stays
        ("U.S.", ["us"], True, 1.0),
        ("well-known", ["well known"], False, 0.0),  # punctuation goes, no space comes
        ("in  1889", ["in 1889"], True, 1.0),
        ("Paris", ["London"], False, 0.0),
        ("the year 1889", ["1889"], False, 2 / 3),  # 1 of 2 said, 1 of 1 found
        ("a b c d", ["b c x"], False, 4 / 6),  # a is an article: b c d against b c x
        ("x x", ["x x z"], False, 4 / 5),  # a word counts as often as both have it
        ("1889", ["in the year 1889", "1889"], True, 1.0),  # the best of several
        ("in 1889", ["year 1889", "1889 in June", "none"], False, 4 / 5),
        ("", [""], True, 1.0),
        ("something", [""], False, 0.0),
        ("", ["something"], False, 0.0),
    ],
)
def test_exact_match_and_f1_are_those_of_squad(prediction, answers, exact, f1):
    assert answer_scores(prediction, answers) == (exact, pytest.approx(f1, abs=BOUNDS["fp64"]))


def report_of(tokenizer, examples, logits_of, **reading):
    """The report where `logits_of(question number, tokens)` gives (start, end, height) or None."""
    corpus = Corpus(tuple(examples))
    rows = Windows(corpus, tokenizer, **reading)
    logits = low(rows)
    for number, of_question in enumerate(rows.rows_of):
        for row in of_question:
            found = logits_of(number, columns(rows, row, tokenizer))
            if found is not None:
                first, last, height = found
                logits[row][first, 0] = logits[row][last, 1] = height
    measured = Measured("test", corpus, (), 1.5, logits, rows.tokens_read(), rows)
    return Spans().report(measured)


def test_a_report_has_its_parts_and_a_row_for_each_question(tokenizer):
    examples = [
        question("anna was calm", "anna"),
        question("anna was calm", "was calm", "calm"),
        question("david was calm"),
        question("berlin is green"),
    ]

    def said(number, tokens):
        return [(3, 3, 5.0), (4, 4, 6.0), (0, 0, 5.0), (3, 3, 5.0)][number]

    report = report_of(tokenizer, examples, said)
    values = report.values()
    assert values["exact_match"] == 2 / 4
    assert values["f1"] == pytest.approx((1 + 2 / 3 + 1 + 0) / 4)
    assert values["loss"] == 1.5
    assert report.metrics["has_answer"] == {"examples": 2, "exact_match": 0.5, "f1": pytest.approx((1 + 2 / 3) / 2)}
    assert report.metrics["no_answer"] == {"examples": 2, "exact_match": 0.5, "f1": 0.5}
    assert (report.metrics["windows"], report.metrics["answers_in_no_window"]) == (4, 0)
    for name in ("f1", "exact_match"):
        interval = report.metrics[name]
        assert interval["low"] <= interval["value"] <= interval["high"]
    assert list(report.rows[0]) == [
        *("loss", "label", "prediction", "probability", "tokens", "guid", "text", "text_pair"),
        *("right", "f1", "right_at", "predicted_at"),
    ]
    by_answer = {(row["label"], row["prediction"]): row for row in report.rows}
    marked = by_answer["was calm | calm", "was"]
    assert (marked["right_at"], marked["predicted_at"]) == ("5-13", "5-8")
    marked = by_answer["(no answer)", "(no answer)"]
    assert (marked["right_at"], marked["predicted_at"]) == ("", "")
    losses = [row["loss"] for row in report.rows]
    assert losses == sorted(losses, reverse=True)
    found = {(row["label"], row["prediction"], row["right"]) for row in report.rows}
    assert found == {
        ("anna", "anna", 1),
        ("was calm | calm", "was", 0),
        ("(no answer)", "(no answer)", 1),
        ("(no answer)", "berlin", 0),
    }


def test_no_answer_is_not_given_where_every_question_has_one(tokenizer):
    report = report_of(tokenizer, [question("anna was calm", "anna")], lambda *_: (0, 0, 50.0))
    assert report.rows[0]["prediction"] != "(no answer)"
    assert "no_answer" not in report.metrics


def test_an_answer_longer_than_a_window_is_counted_as_in_none(tokenizer):
    context = " ".join(WORDS[:20])
    with pytest.warns(UserWarning, match="1 of 2 questions have an answer that no window"):
        report = report_of(
            tokenizer, [question(context, context), question(context, WORDS[19])], lambda *_: None, max_length=12
        )
    assert report.metrics["answers_in_no_window"] == 1
    assert report.metrics["windows"] > 4


# The model


def model_of(**changes) -> BertForQuestionAnswering:
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=37,
        max_position_embeddings=60,
        initializer_range=0.5,
        **changes,
    )
    return BertForQuestionAnswering(config, torch.Generator().manual_seed(0)).eval()


def test_loss_and_logits_of_rows_without_padding_are_those_of_transformers(tokenizer, tmp_path):
    examples = [
        question(" ".join(WORDS[:9]), WORDS[2]),
        question(" ".join(WORDS[3:12]), f"{WORDS[5]} {WORDS[6]}"),
        question(" ".join(WORDS[6:15])),
    ]
    rows = Windows(examples, tokenizer)
    assert set(rows.lengths) == {13}
    batch = collate([rows[row] for row in range(len(rows))], pad_id=tokenizer.pad_id)
    assert batch["start_positions"].tolist() == [5, 5, 0]
    assert batch["end_positions"].tolist() == [5, 6, 0]
    model_of().save_pretrained(tmp_path)
    ours = BertForQuestionAnswering.from_pretrained(tmp_path).double().eval()
    theirs = transformers.BertForQuestionAnswering.from_pretrained(tmp_path).double().eval()
    with torch.no_grad():
        found, expected = ours(**batch), theirs(**batch)
    assert found.loss.item() == pytest.approx(expected.loss.item(), abs=BOUNDS["fp64"])
    logits = torch.stack([expected.start_logits, expected.end_logits], dim=-1)  # (B, S, 2)
    torch.testing.assert_close(found.logits, logits, atol=BOUNDS["fp64"], rtol=0)


def test_the_loss_is_the_mean_over_windows_whatever_the_batch(tokenizer):
    """By hand: each window alone, the words of the answer looked for in its tokens."""
    model = model_of().double()
    examples = [
        question(" ".join(WORDS[:20]), WORDS[7]),
        question(" ".join(WORDS[5:9]), f"{WORDS[6]} {WORDS[7]}"),
        question(" ".join(WORDS[2:18])),
    ]
    corpus = Corpus(tuple(examples))
    rows = Windows(corpus, tokenizer, max_length=12, overlap=3)
    expected: list[list[float]] = []
    for example, of_question in zip(examples, rows.rows_of, strict=True):
        words = example.answers[0].text.split() if example.answers else ["nowhere"]
        expected.append([])
        for row in of_question:
            tokens = columns(rows, row, tokenizer)
            inside = all(word in tokens[3:] for word in words)
            first = tokens.index(words[0], 3) if inside else 0
            last = tokens.index(words[-1], 3) if inside else 0
            item = collate([rows[row]])
            with torch.no_grad():
                inputs = {key: item[key] for key in ("input_ids", "token_type_ids")}
                chances = model(**inputs).logits[0].log_softmax(dim=0)  # (S, 2)
            expected[-1].append(-(chances[first, 0] + chances[last, 1]).item() / 2)
    windows = [loss for of_question in expected for loss in of_question]
    assert [len(of_question) for of_question in expected] != [1, 1, 1]
    model.float()
    for batch_size in (1, 4, 32):
        report = evaluate(
            model,
            tokenizer,
            corpus,
            rows,
            split="test",
            precision=choose_precision("fp32", "cpu"),
            batch_size=batch_size,
            progress=False,
        )
        bound = BOUNDS["official model fp32"]
        assert report.values()["loss"] == pytest.approx(sum(windows) / len(windows), abs=bound)
        by_context = {row["text_pair"]: row["loss"] for row in report.rows}
        for example, losses in zip(examples, expected, strict=True):
            mean = sum(losses) / len(losses)
            assert by_context[example.context] == pytest.approx(mean, abs=bound)


# What it accepts


def test_questions_and_contexts_have_to_be_texts():
    kind = Spans()
    with refused(DataError, "pairs"):
        kind.unlabelled(["who?"])
    with refused(DataError, "0"):
        kind.unlabelled([3], pairs=["here"])
    with refused(DataError, "1"):
        kind.unlabelled(["a", "b"], pairs=["here", None])


def test_right_answers_that_normalise_to_nothing_do_not_count():
    assert answer_scores("the", ["the", "1889"]) == (False, 0.0)
    assert answer_scores("", ["the"]) == (True, 1.0)
