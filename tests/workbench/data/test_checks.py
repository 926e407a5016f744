"""Each finding: data that have it, data just below its threshold, and real sets that are known."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minibert.data import Dataset
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data import checks
from minibert.workbench.data.checks import Split, check, in_pieces, in_words, quantiles, quantiles_by_class
from minibert.workbench.data.choices import Choices
from minibert.workbench.data.corpora import Corpus, Example, TaggedExample, read
from minibert.workbench.data.examples import Answer, ChoiceExample, QuestionExample
from minibert.workbench.data.windows import Windows

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [chr(97 + number) for number in range(26)]


def corpus(labels: str | list, start: int = 0, names: tuple[str, ...] | None = None) -> Corpus:
    """Different texts with these labels, by their letters: "abba"."""
    names = names or tuple(sorted(set(labels)))
    examples = [
        Example(f"text {start + row}", label=names.index(label), guid=f"data.csv:{row + 1}")
        for row, label in enumerate(labels)
    ]
    return Corpus(tuple(examples), names)


def split(name: str, labels: str | list, start: int = 0, **options) -> Split:
    return in_words(name, corpus(labels, start, **options))


def with_texts(name: str, texts: list[str], labels: list | None = None) -> Split:
    """Two classes in turn, unless labels (indices into "ab", numbers or None) are given."""
    labels = [row % 2 for row in range(len(texts))] if labels is None else labels
    rows = [Example(text, label=label) for text, label in zip(texts, labels, strict=True)]
    return in_words(name, Corpus(tuple(rows), ("a", "b") if isinstance(labels[0], int) else None))


def tokenised(name: str, texts: list[str], limit: int = 6) -> Split:
    """Counted by a vocabulary of single letters."""
    tokenizer = BertTokenizer({piece: number for number, piece in enumerate([*SPECIAL, *LETTERS])}, max_length=limit)
    examples = Corpus(tuple(Example(text) for text in texts))
    return in_pieces(name, examples, Dataset(examples, tokenizer), tokenizer)


def kinds(*splits: Split) -> list[tuple[str, str, str]]:
    return [(one.kind, one.severity, one.split) for one in check(splits)]


def the_one(kind: str, *splits: Split):
    [finding] = [one for one in check(splits) if one.kind == kind]
    assert finding.sentence.startswith(f"{finding.split}: ")
    return finding


def mixed(count: int, letters: str = "ab", seed: int = 0) -> str:
    """So many of each letter, in random order."""
    order = list(letters * count)
    random.Random(seed).shuffle(order)
    return "".join(order)


TRAIN = split("train", mixed(20))


def test_clean_data_have_no_findings():
    assert kinds(TRAIN, split("validation", mixed(6), 100), split("test", mixed(6), 200)) == []


# Labels


def test_a_split_of_one_class_is_a_fault_where_training_has_several():
    names = ("a", "b")
    one = split("validation", "a" * 10, 100, names=names)
    assert kinds(TRAIN, one) == [("one_class", "fault", "validation")]
    finding = the_one("one_class", TRAIN, one)
    assert finding.numbers == {"examples": 10, "label": "a", "labels_in_training": 2}
    assert "all 10 examples have the label a" in finding.sentence
    assert kinds(TRAIN, split("validation", "a" * 9 + "b", 100)) == []
    assert kinds(TRAIN, split("validation", "a" * 9, 100, names=names)) == []  # too few to say
    assert kinds(split("train", "a" * 20), one) == [("one_class", "fault", "train")]  # nothing to learn


def test_a_constant_number_and_a_single_tag_are_one_class():
    texts = [f"text {row}" for row in range(20)]
    numbers = with_texts("train", texts, [row / 2 for row in range(20)])
    others = [text + "!" for text in texts]
    assert kinds(numbers, with_texts("test", others, [2.5] * 20)) == [("one_class", "fault", "test")]
    assert kinds(numbers, with_texts("test", others, [2.5] * 19 + [3.5])) == []

    def tagged(name: str, tags: list[int], word: str) -> Split:
        rows = [TaggedExample((f"{word}{row}", "b"), (0, tag)) for row, tag in enumerate(tags)]
        return in_words(name, Corpus(tuple(rows), ("O", "B-x")))

    train = tagged("train", [0, 1] * 10, "a")
    assert kinds(train, tagged("test", [0] * 10, "c")) == [("one_class", "fault", "test")]
    assert kinds(train, tagged("test", [0] * 9 + [1], "c")) == []


def test_labels_that_a_split_lacks():
    train = split("train", mixed(10, "abc"))
    lacking = split("test", mixed(5, "ab"), 100, names=("a", "b", "c"))
    assert kinds(train, lacking) == [("missing_labels", "warning", "test")]
    assert the_one("missing_labels", train, lacking).numbers == {"labels": ["c"]}
    assert kinds(train, split("test", mixed(5, "ab") + "c", 100)) == []
    assert kinds(train, split("test", "abababab", 100, names=("a", "b", "c"))) == []


def test_sorted_labels():
    rows = split("train", "a" * 10 + "b" * 10)
    assert kinds(rows) == [("sorted_labels", "warning", "train")]
    assert the_one("sorted_labels", rows).numbers == {"changes": 1, "changes_at_random": 10}
    assert kinds(split("train", "b" * 8 + "a" * 7 + "c" * 7)) == [("sorted_labels", "warning", "train")]
    assert kinds(split("train", "a" * 10 + "b" * 9)) == []  # too few to say
    assert kinds(split("train", "a" * 9 + "ba" + "b" * 9)) == []
    assert kinds(split("train", "a" * 6 + "b" * 12 + "a" * 6)) == []  # one block too many
    # That the rarest class is one block is no wonder where it has few examples.
    assert kinds(split("train", "a" * 25 + "b" * 5)) == []


def test_rare_classes_of_training():
    rows = split("train", mixed(8) + "cccc")
    assert kinds(rows) == [("rare_class", "warning", "train")]
    assert the_one("rare_class", rows).numbers == {"labels": {"c": 4}}
    assert kinds(split("train", mixed(8) + "ccccc")) == []
    assert kinds(TRAIN, split("test", mixed(6) + "a" * 4, 100)) == []  # of training alone
    drawn_away = split("train", mixed(8), names=("a", "b", "c"))
    assert the_one("rare_class", drawn_away).numbers == {"labels": {"c": 0}}


def test_imbalance():
    rows = split("train", "a" * 13 + "bb" + "a" * 13 + "bbb")
    finding = the_one("imbalance", rows)
    assert finding.numbers == {"ratio": 5.2, "most": "a", "least": "b"}
    assert "--class-weights or --balanced" in finding.sentence and "macro F1" in finding.sentence
    assert kinds(split("train", "a" * 13 + "bb" + "a" * 12 + "bbb")) == []


# Texts


def test_duplicates_differ_in_white_space_alone():
    finding = the_one("duplicates", with_texts("train", ["a b", "c", " a \t b\n", "a b", "A b"]))
    assert finding.numbers["texts"] == 2 and finding.numbers["different"] == 3
    assert kinds(with_texts("train", ["a b", "c", "ab", "A b"], [None] * 4)) == []


def test_the_same_text_with_different_labels_is_a_conflict():
    texts = ["x", "y", "x", "x", "y"]
    rows = with_texts("train", texts, [0, 1, 1, 0, 1])
    assert the_one("conflicting_labels", rows).numbers["texts"] == 1
    found = [kind for kind, *_ in kinds(rows)]
    assert found.index("conflicting_labels") < found.index("duplicates")
    assert "conflicting_labels" not in str(kinds(with_texts("train", texts, [0, 1, 0, 0, 1])))
    # Two people may well give a text two numbers.
    rated = with_texts("train", texts, [0.5, 1.0, 1.5, 0.5, 1.0])
    assert "conflicting_labels" not in str(kinds(rated))


def test_pairs_are_the_same_if_both_texts_are():
    def pairs(name: str, *rows: tuple[str, str]) -> Split:
        return in_words(name, Corpus(tuple(Example(*row) for row in rows)))

    assert kinds(pairs("train", ("a", "b"), ("a", "c"), ("c", "b"), ("a b", ""))) == [
        ("empty_texts", "warning", "train")
    ]
    assert kinds(pairs("train", ("a", "b"), ("b", "a"), ("a ", "b"))) == [("duplicates", "warning", "train")]
    assert pairs("train", ("a b", "c")).lengths.tolist() == [3]


@pytest.mark.parametrize(
    ("shared", "total", "severity"),
    [(0, 20, None), (1, 20, "warning"), (9, 20, "warning"), (10, 20, "fault"), (9, 9, "warning")],
)
def test_leakage_from_training(shared, total, severity):
    train = with_texts("train", [f"text {row}" for row in range(30)])
    seen = with_texts("test", [f" text  {30 - shared + row}" for row in range(total)])
    expected = [] if severity is None else [("seen_in_training", severity, "test")]
    assert kinds(train, seen) == expected
    if severity:
        numbers = the_one("seen_in_training", train, seen).numbers
        assert numbers["texts"] == numbers["different"] == shared and numbers["in"] == "train"
        assert numbers["share"] == pytest.approx(shared / total, abs=1e-4)


def test_a_test_split_that_is_the_validation_split_is_a_warning():
    same = [f"other {row}" for row in range(20)]
    found = kinds(TRAIN, with_texts("validation", same), with_texts("test", same))
    assert found == [("shared_texts", "warning", "test")]


def test_leakage_counts_rows_and_different_texts():
    train = with_texts("train", [f"text {row}" for row in range(30)])
    rows = with_texts("test", ["text 1", "text 3", "text 1", "text 1", *map(str, range(8))])
    finding = the_one("seen_in_training", train, rows)
    assert (finding.numbers["texts"], finding.numbers["different"]) == (4, 2)
    assert "4 of 12 texts (33.3%) are in train too, 2 of them different" in finding.sentence


def test_empty_texts_are_not_duplicates():
    finding = the_one("empty_texts", with_texts("train", ["", "a", "\t ", "b"]))
    assert finding.numbers["texts"] == 2
    one = with_texts("train", ["", "a", " ", "b"], [0, 1, 1, 0])
    found = {kind for kind, *_ in kinds(one, with_texts("test", ["", "c", "d"]))}
    assert not found & {"duplicates", "conflicting_labels", "seen_in_training"}


# Tokens


def test_texts_that_are_cut():
    texts = [f"a b c {LETTERS[row % 26]} " for row in range(100)]  # 6 tokens each
    assert tokenised("train", texts).cut == 0
    with pytest.warns(UserWarning, match="were cut"):
        one = tokenised("train", ["a a b b c", *texts[1:]])
    assert one.cut == 1 and "cut_texts" not in str(kinds(one))
    with pytest.warns(UserWarning, match="were cut"):
        two = tokenised("train", ["a a b b c", "a b c d e f g", *texts[2:]])
    assert the_one("cut_texts", two).numbers == {"texts": 2, "share": 0.02, "limit": 6}
    assert sorted(two.lengths)[-2:] == [7, 9]


@pytest.mark.parametrize(("unknown", "severity"), [(2, None), (3, "warning"), (100, "warning"), (101, "fault")])
def test_unknown_pieces(unknown, severity):
    words = ["\u4e00"] * unknown + ["a"] * (200 - unknown)
    part = tokenised("train", [" ".join(words)], limit=300)
    assert (part.unknown, part.pieces) == (unknown, 200)
    assert kinds(part) == ([] if severity is None else [("unknown_tokens", severity, "train")])


# All of them


def test_faults_come_first_then_the_worst_warnings():
    train = split("train", "a" * 30 + "b" * 4)
    test = split("test", "a" * 12, names=("a", "b"))
    found = kinds(train, test)
    assert [severity for _, severity, _ in found] == ["fault", "fault", "warning", "warning"]
    assert [kind for kind, *_ in found] == ["one_class", "seen_in_training", "rare_class", "imbalance"]


def test_a_fault_comes_before_a_warning_of_a_worse_kind():
    same = " ".join("abc")
    unknown = tokenised("test", [same, "\u4e00 \u4e01 \u4e02 \u4e03"])
    assert kinds(tokenised("train", [same, "d"]), unknown) == [
        ("unknown_tokens", "fault", "test"),
        ("seen_in_training", "warning", "test"),
    ]


def test_several_labels_at_once():
    rows = [Example(f"text {row}", label=(1.0, float(row % 2), 0.0)) for row in range(20)]
    train = in_words("train", Corpus(tuple(rows), ("a", "b", "c")))
    assert kinds(train) == [("rare_class", "warning", "train")]
    only = [Example(f"other {row}", label=(1.0, 0.0, 0.0)) for row in range(20)]
    found = kinds(train, in_words("test", Corpus(tuple(only), ("a", "b", "c"))))
    assert ("missing_labels", "warning", "test") in found
    assert "fault" not in str(found)


@pytest.mark.parametrize("applies", [0.0, 1.0])
def test_several_labels_that_are_the_same_for_every_text(applies):
    rows = [Example(f"text {row}", label=(applies, applies)) for row in range(20)]
    train = in_words("train", Corpus(tuple(rows), ("a", "b")))
    assert ("same_labels", "fault", "train") in kinds(train)
    assert the_one("same_labels", train).numbers == {"share": applies}
    rows[3] = Example("one more", label=(1.0, 0.0))
    assert "same_labels" not in str(kinds(in_words("train", Corpus(tuple(rows), ("a", "b")))))
    few = in_words("train", Corpus(tuple(rows[:3]), ("a", "b")))
    assert "same_labels" not in str(kinds(few))


def test_labels_that_are_almost_all_different_are_not_classes():
    numbers = the_one("many_labels", split("train", [str(row) for row in range(20)] + ["3"] * 4))
    assert numbers.severity == "fault" and numbers.numbers == {"labels": 20, "examples": 24}
    assert "--problem-type regression" in numbers.sentence
    texts = the_one("many_labels", split("train", [f"id-{row}" for row in range(20)]))
    assert "--problem-type" not in texts.sentence and "--label" in texts.sentence
    for labels in ([str(row) for row in range(19)], [str(row % 10) for row in range(20)]):
        assert "many_labels" not in str(kinds(split("train", labels)))
    regression = [row / 7 for row in range(30)]
    assert "many_labels" not in str(kinds(with_texts("train", [f"text {row}" for row in range(30)], regression)))


def test_classes_that_differ_in_case_or_white_space():
    train = split("train", ["pos"] * 8 + ["Pos"] * 5 + ["very good"] * 6 + ["very  Good"] * 7 + ["neg"] * 9)
    finding = the_one("similar_labels", train)
    assert finding.severity == "warning"
    assert finding.numbers == {"labels": [{"Pos": 5, "pos": 8}, {"very  Good": 7, "very good": 6}]}
    assert "'pos' 8" in finding.sentence and "'Pos' 5" in finding.sentence
    names = ("neg", "pos", "Pos")  # of a split in which one of them never occurs
    assert "similar" not in str(kinds(split("train", ["pos", "neg"] * 9, names=names)))


def test_rows_that_were_left_out_are_reported_once_for_each_file():
    train = split("train", "ab" * 6)
    dropped = replace(train.corpus, source="data.csv", dropped=("row 3 has no label.", "row 9 has no label."))
    finding = the_one("bad_rows", in_words("train", dropped), in_words("validation", dropped))
    assert (finding.split, finding.severity, finding.numbers["rows"]) == ("train", "warning", 2)
    assert "2 of them" in finding.sentence and "row 9 has no label" in finding.sentence


def test_quantiles_by_class():
    lengths = [1, 2, 3, 4, 5, 10, 20]
    examples = [Example("w " * length, label=int(length > 5)) for length in lengths]
    part = in_words("train", Corpus(tuple(examples), ("short", "long", "none")))
    found = quantiles_by_class(part)
    assert found.keys() == {"short", "long"}
    assert found["short"] == quantiles(np.array([1, 2, 3, 4, 5]))
    expected = {"min": 1, "q1": 2, "median": 3, "q3": 4, "p95": 4.8, "max": 5, "mean": 3}
    assert found["short"] == expected
    assert found["long"]["mean"] == 15
    assert quantiles_by_class(with_texts("train", ["a", "b"], [0.5, 1.5])) == {}


# Questions and choices


def questions(name: str, contexts: str, start: int = 0, answers=None) -> Split:
    """A question on each context, by its letter, all different; each answered by its context."""
    examples = [
        QuestionExample(
            f"{start + row}?",
            f"it is {letter}",
            (Answer(letter, 6),) if answers is None else answers[row],
            f"q{start + row}",
        )
        for row, letter in enumerate(contexts)
    ]
    return in_words(name, Corpus(tuple(examples)))


def test_clean_questions_have_no_findings():
    test = questions("test", "uvwxyzuvwxyz", 100)
    assert kinds(questions("train", "abcdefgabcdefg"), test) == []
    unanswerable = questions("test", "u" * 12, 100, answers=[()] * 12)
    assert kinds(questions("train", "abcdefgabcdefg"), unanswerable) == []
    assert questions("train", "a").lengths.tolist() == [4]


def test_a_question_with_different_answers():
    a, b, c = Answer("a", 0), Answer("b", 6), Answer("c", 12)
    twice = [("duplicates", "warning", "train")]
    conflict = ("conflicting_labels", "warning", "train")
    for first, second, found in (
        ((a,), (b,), [conflict, *twice]),
        ((a,), (), [conflict, *twice]),
        ((a, b), (b, c), twice),  # b is right for both
        ((), (), twice),
    ):
        rows = [QuestionExample("who?", "a and b and c", one) for one in (first, second)]
        assert kinds(in_words("train", Corpus(tuple(rows)))) == found
    rows = [QuestionExample("who?", "a and b", one) for one in ((a,), (b,))]
    finding = the_one("conflicting_labels", in_words("train", Corpus(tuple(rows))))
    assert "1 of 1 different texts (100.0%) occur with different answers: no" in finding.sentence


def test_leakage_of_contexts():
    train = questions("train", "aabbccdd")
    finding = the_one("shared_contexts", train, questions("test", "abbxyz", 100))
    assert (finding.severity, finding.split) == ("warning", "test")
    assert finding.numbers == {"questions": 3, "contexts": 2, "in": "train"}
    assert "3 of 6 questions (50.0%) are about contexts that train has other" in finding.sentence
    assert "(first: q100)" in finding.sentence
    assert kinds(train, questions("test", "wxyz", 100)) == []
    # Where the question was trained on too, the graver finding says so alone.
    again = kinds(train, questions("test", "aab"))
    assert again == [("seen_in_training", "warning", "test")]
    # Of validation and test no model has read the one before the other.
    parts = questions("validation", "xy", 50), questions("test", "xy", 100)
    assert kinds(train, *parts) == []


def test_a_long_context_is_read_in_windows_and_not_cut():
    tokenizer = BertTokenizer({piece: number for number, piece in enumerate([*SPECIAL, *LETTERS])}, max_length=16)

    def windowed(question: str) -> Split:
        rows = [QuestionExample(question, "a b c d e f g h " * 4 + letter, ()) for letter in LETTERS]
        examples = Corpus(tuple(rows))
        return in_pieces("train", examples, Windows(examples, tokenizer), tokenizer)

    part = windowed("a b")
    assert part.cut == 0 and part.lengths.tolist() == [2 + 33 + 3] * 26 and kinds(part) == []
    with pytest.warns(UserWarning, match="26 of 26 questions had more than"):
        cut = windowed("a b c d e f g h")
    finding = the_one("cut_texts", cut)
    assert finding.numbers == {"texts": 26, "share": 1.0}
    assert "26 of 26 questions (100.0%) are longer than a window has room" in finding.sentence


def test_choices_are_counted_and_compared_as_a_whole():
    tokenizer = BertTokenizer({piece: number for number, piece in enumerate([*SPECIAL, *LETTERS])}, max_length=16)

    def chosen(name: str, first: str, labels: list[int], texts=LETTERS) -> Split:
        rows = [
            ChoiceExample(f"{first} {letter}", ("a b", "c"), label)
            for letter, label in zip(texts, labels, strict=False)
        ]
        examples = Corpus(tuple(rows))
        return in_pieces(name, examples, Choices(examples, tokenizer), tokenizer)

    train = chosen("train", "a", [0, 1] * 13)
    assert train.lengths.tolist() == [7 + 6] * 26
    assert (train.pieces, train.unknown) == (26 * (4 + 3), 0)
    # Places are no classes: neither an order nor a share of them is a fault of the data.
    assert kinds(train, chosen("test", "b", [0] * 26)) == []
    assert kinds(chosen("train", "a", [0] * 13 + [1] * 13), chosen("test", "b", [1] * 26)) == []
    same = chosen("train", "a", [0, 1, 1], texts="xxy")
    assert kinds(same) == [("conflicting_labels", "warning", "train"), ("duplicates", "warning", "train")]
    assert kinds(train, chosen("test", "a", [0, 1] * 13))[0] == ("seen_in_training", "fault", "test")


# Real data


def test_emotion(data):
    options = {"sep": ";", "names": ["text", "label"]}
    parts = [in_words(name, read(data / f"emotion/{name}.txt", **options)) for name in ("train", "val", "test")]
    assert the_one("duplicates", parts[0]).numbers["different"] == 15969
    seen = [one for one in check(parts) if one.kind == "seen_in_training"]
    assert [(one.split, one.numbers["texts"]) for one in seen] == [("val", 5), ("test", 11)]
    assert the_one("imbalance", *parts).numbers["ratio"] == 9.4
    assert all(one.severity == "warning" for one in check(parts))


def test_chnsenticorp(data):
    train, dev = (in_words(name, read(data / f"chnsenticorp/{name}.tsv", text="text_a")) for name in ("train", "dev"))
    assert the_one("duplicates", train).numbers["different"] == 8249
    seen = the_one("seen_in_training", train, dev)
    assert (seen.numbers["different"], seen.severity) == (335, "warning")


def test_imdb_is_sorted_and_a_part_by_position_has_one_class(data):
    parts = {name: read(data / f"imdb/{name}.jsonl.gz") for name in ("train", "test")}
    for name, copies in {"train": 96, "test": 199}.items():
        part = in_words(name, parts[name])
        assert the_one("duplicates", part).numbers["texts"] == copies
        assert the_one("sorted_labels", part).numbers["changes"] == 1
    rows, names = parts["train"].examples, parts["train"].label_names
    by_position = [Corpus(rows[:23750], names), Corpus(rows[23750:], names)]  # train[:95%]
    train, validation = map(in_words, ("train", "validation"), by_position)
    finding = the_one("one_class", train, validation)
    assert finding.severity == "fault" and finding.numbers["examples"] == 1250


def test_xquad(data, uncased):
    corpus = read(data / "xquad/xquad.en.json")
    whole = in_pieces("train", corpus, Windows(corpus, uncased, max_length=384), uncased)
    assert (whole.cut, int(whole.lengths.max())) == (0, 637)
    # Five questions are asked twice, and two of these have got another answer.
    assert the_one("conflicting_labels", whole).numbers["texts"] == 2
    assert the_one("duplicates", whole).numbers["texts"] == 5
    assert len(kinds(whole)) == 2
    for halves, shared in (
        ((corpus.examples[:600], corpus.examples[600:]), 1),  # in the middle of a context
        ((corpus.examples[::2], corpus.examples[1::2]), 237),  # three have one question
    ):
        parts = [in_words(name, Corpus(half)) for name, half in zip("ab", halves, strict=True)]
        assert the_one("shared_contexts", *parts).numbers["contexts"] == shared


def test_chinese_with_an_english_vocabulary(data):
    corpus = read(data / "chnsenticorp/dev.tsv", text="text_a")
    some = Corpus(corpus.examples[:100], corpus.label_names)
    for folder, faults in (("bert-base-uncased", 1), ("bert-base-chinese", 0)):
        tokenizer = BertTokenizer.from_pretrained(data / "bert_vocabs" / folder)
        part = in_pieces("train", some, Dataset(some, tokenizer), tokenizer)
        assert sum(one.kind == "unknown_tokens" for one in check([part])) == faults


def test_every_kind_has_its_place():
    source = Path(checks.__file__).read_text(encoding="utf-8")
    assert [kind for kind in checks.KINDS if source.count(f'"{kind}"') < 2] == []
