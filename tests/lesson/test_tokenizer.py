"""The tokenizer against transformers, golden ids of published examples, and every way to misuse it.

Full form (every text, four vocabularies): pytest -m full tests/lesson
"""

from __future__ import annotations

import json
import random
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from minibert.io.errors import ConfigError, DataError, InputError, TokenizerError
from minibert.io.tokenizer_files import read_vocab
from minibert.tokenizer import BertTokenizer, _kept
from tests.conftest import refused
from tests.texts import VOCABULARIES, all_texts

LONG = 10**6  # more tokens than any text of the sets has


def reference(path, lowercase: bool) -> transformers.BertTokenizer:
    result = transformers.BertTokenizer(vocab=str(path), do_lower_case=lowercase)
    # With another argument name it would silently have five tokens.
    assert len(result) == len(read_vocab(path)) > 20_000
    return result


def assert_same_tokens(ours: BertTokenizer, theirs, texts: list[str]) -> int:
    """Ids, offsets and type ids of every text; returns the number of tokens."""
    rows = ours.encode(texts, max_length=ours.max_length)
    expected = theirs(texts, return_offsets_mapping=True)
    for number, row in enumerate(rows):
        assert row.input_ids == expected["input_ids"][number], texts[number][:200]
        assert row.offsets == expected["offset_mapping"][number], texts[number][:200]
        assert row.token_type_ids == expected["token_type_ids"][number], texts[number][:200]
        assert row.cut == 0
    return sum(len(row.input_ids) for row in rows)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_tokens_equal_transformers(data, sample, name):
    lowercase, size = VOCABULARIES[name]
    path = data / "bert_vocabs" / name / "vocab.txt"
    ours = BertTokenizer.from_vocab(path, lowercase=lowercase, max_length=LONG)
    theirs = reference(path, lowercase)
    assert ours.vocab_size == len(theirs) == size
    assert assert_same_tokens(ours, theirs, sample) > 200_000


@pytest.mark.full
@pytest.mark.parametrize("name", VOCABULARIES)
def test_tokens_equal_transformers_on_every_text(data, name):
    lowercase, size = VOCABULARIES[name]
    path = data / "bert_vocabs" / name / "vocab.txt"
    ours = BertTokenizer.from_vocab(path, lowercase=lowercase, max_length=LONG)
    theirs = reference(path, lowercase)
    assert ours.vocab_size == len(theirs) == size
    for part, texts in all_texts(data):
        tokens = 0
        for start in range(0, len(texts), 2000):
            tokens += assert_same_tokens(ours, theirs, texts[start : start + 2000])
        print(f"{name}: {part}: {len(texts)} texts, {tokens} tokens equal")


@pytest.mark.parametrize("name", ["bert-base-uncased", "bert-base-multilingual-cased"])
def test_random_unicode_equals_transformers(data, name):
    """400 strings: half of any characters at all, half of a few blocks, with blanks among them."""
    draw = random.Random(name)
    halves = range(0xD800, 0xE000)  # of surrogate pairs, which are not text
    texts = []
    for number in range(400):
        starts = draw.choices(range(0, 0x30000, 0x100), k=3)
        blocks = [0x20, *(start + low for start in starts for low in range(0x100))]
        pool = blocks if number % 2 else range(0x110000)
        points = [draw.choice(pool) for _ in range(draw.randrange(1, 120))]
        texts.append("".join(chr(point) for point in points if point not in halves))
    path = data / "bert_vocabs" / name / "vocab.txt"
    lowercase = VOCABULARIES[name][0]
    ours = BertTokenizer.from_vocab(path, lowercase=lowercase, max_length=LONG)
    assert assert_same_tokens(ours, reference(path, lowercase), texts) > 4_000


@pytest.mark.parametrize("flags", [(True, False, True), (False, True, True), (True, None, False)])
def test_flags_equal_transformers(data, sample, flags):
    lowercase, accents, chinese = flags
    path = data / "bert_vocabs/bert-base-multilingual-cased/vocab.txt"
    ours = BertTokenizer(
        read_vocab(path), lowercase=lowercase, strip_accents=accents, chinese_characters=chinese, max_length=LONG
    )
    theirs = transformers.BertTokenizer(
        vocab=str(path), do_lower_case=lowercase, strip_accents=accents, tokenize_chinese_chars=chinese
    )
    assert_same_tokens(ours, theirs, sample[::5])


def test_golden_english(uncased):
    batch = uncased("Tokenizing text is a core task of NLP.")
    ids = [101, 19204, 6026, 3793, 2003, 1037, 4563, 4708, 1997, 17953, 2361, 1012, 102]
    assert batch["input_ids"].tolist() == [ids]
    assert uncased.tokens(ids)[1:3] == ["token", "##izing"]
    assert uncased.tokens(ids)[9:11] == ["nl", "##p"]
    assert uncased.ids(uncased.tokens(ids)) == ids
    assert uncased.decode(ids) == "[CLS] tokenizing text is a core task of nlp. [SEP]"
    assert uncased.decode(ids, skip_special_tokens=True) == "tokenizing text is a core task of nlp."


def test_golden_special_tokens(uncased):
    assert uncased.special_tokens == {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
    assert (uncased.vocab_size, len(uncased), uncased.max_length) == (30522, 30522, 512)
    assert uncased.unk_id == 100 and uncased.mask_id == 103


def test_golden_chinese(data):
    tokenizer = BertTokenizer.from_pretrained(data / "bert_vocabs/bert-base-chinese")
    assert not tokenizer.lowercase  # its tokenizer_config.json says so
    ids = tokenizer("房间太小。")["input_ids"][0].tolist()
    assert tokenizer.tokens(ids) == ["[CLS]", "房", "间", "太", "小", "。", "[SEP]"]
    assert tokenizer.decode(ids) == "[CLS] 房 间 太 小 。 [SEP]"


def test_decode_equals_transformers(data, sample, uncased):
    theirs = reference(data / "bert_vocabs/bert-base-uncased/vocab.txt", True)
    rows = uncased.encode(sample[::7])
    for row in rows:
        for skip in (True, False):
            assert uncased.decode(row.input_ids, skip_special_tokens=skip) == theirs.decode(
                row.input_ids, skip_special_tokens=skip
            )


@pytest.mark.parametrize("max_length", [3, 4, 9, 16, 33, 128])
@pytest.mark.parametrize("side", ["left", "right"])
def test_pairs_truncation_and_padding_equal_transformers(data, max_length, side):
    path = data / "bert_vocabs/bert-base-uncased/vocab.txt"
    ours, theirs = BertTokenizer.from_vocab(path), reference(path, True)
    theirs.padding_side = side
    lines = (data / "rte/dev.tsv").read_text(encoding="utf-8").splitlines()[1:120]
    first = [line.split("\t")[1] for line in lines]
    second = [line.split("\t")[2] for line in lines]
    # A text with itself: where both are of one length, the second keeps the odd token.
    for texts, pairs in ((first, None), (first, second), (second, first), (second, second)):
        for padding in ("longest", "max_length"):
            with warnings.catch_warnings(action="ignore"):
                batch = ours(texts, pairs, max_length=max_length, padding=padding, padding_side=side)
            expected = theirs(
                texts, pairs, max_length=max_length, truncation=True, padding=padding, return_tensors="pt"
            )
            assert set(batch) == set(expected)
            for key in batch:
                assert torch.equal(batch[key], expected[key]), (key, padding)


def test_pieces_know_their_words_and_places(data, uncased):
    theirs = reference(data / "bert_vocabs/bert-base-uncased/vocab.txt", True)
    first, second = "Héllo wörld, tokenizing!", "A second  text"
    row = uncased.encode(first, second)[0]
    expected = theirs(first, second, return_offsets_mapping=True, return_special_tokens_mask=True)
    assert row.word_ids == expected.word_ids()
    assert row.sequence_ids == expected.sequence_ids()
    assert row.special_tokens_mask == expected["special_tokens_mask"]
    assert row.tokens == expected.tokens()
    assert [first[start:end] for start, end in row.offsets[1:3]] == ["Héllo", "wörld"]


def test_words_stay_words(data, uncased):
    theirs = reference(data / "bert_vocabs/bert-base-uncased/vocab.txt", True)
    words = [["@paulwalk", "It", "'s"], ["tokenizing"]]
    rows = uncased.encode(words, words=True)
    for row, sentence in zip(rows, words, strict=True):
        expected = theirs(sentence, is_split_into_words=True)
        assert row.input_ids == expected["input_ids"]
        assert row.word_ids == expected.word_ids()
    assert uncased.encode(words[0], words=True)[0].input_ids == rows[0].input_ids


@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=2), room=st.integers(0, 50))
def test_truncation_fills_the_room(lengths, room):
    kept = _kept(lengths, room)
    assert sum(kept) == min(sum(lengths), room)
    assert all(0 <= keep <= length for keep, length in zip(kept, lengths, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_offsets_are_in_order_and_inside(text):
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 5, "##b": 6}
    row = BertTokenizer(vocabulary).encode(text.encode("utf-8", "replace").decode())[0]
    ends = [0]
    for start, end in row.offsets[1:-1]:
        assert ends[-1] <= start < end <= len(text)
        ends.append(end)


# What is cut, and what is refused


def test_a_long_text_is_cut_and_warned_about_once(uncased):
    texts = ["good " * 10_000, "short", "bad " * 600]
    with pytest.warns(UserWarning, match="2 of 3 texts had more than 512 tokens") as caught:
        batch = uncased(texts)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert batch["input_ids"].shape == (3, 512)
    assert [row.cut for row in uncased.encode(texts)] == [10_000 - 510, 0, 600 - 510]
    with refused(DataError, "0") as error:
        uncased(texts, truncation=False)
    assert "512" in str(error.value) and "10002" in str(error.value)


def test_never_more_than_the_model_takes(uncased):
    for arguments, limit in ((("text",), 513), (("text", "pair"), 2), (("text",), 1)):
        with refused(InputError, "max_length"):
            uncased(*arguments, max_length=limit)


@pytest.mark.parametrize(
    "options", [{"padding": True}, {"padding_side": "middle"}, {"pad_to_multiple_of": 0}, {"pad_to_multiple_of": -8}]
)
def test_padding_of_an_unknown_kind(uncased, options):
    with refused(ConfigError, *options):
        uncased("text", **options)


def test_padding_to_a_multiple(uncased):
    texts = ["one two three", "one"]
    assert uncased(texts, pad_to_multiple_of=8)["input_ids"].shape == (2, 8)
    # Never past the last position of the model.
    assert uncased(texts, pad_to_multiple_of=500)["input_ids"].shape == (2, 500)
    assert uncased(["one " * 505], pad_to_multiple_of=500)["input_ids"].shape == (1, 512)


@pytest.mark.parametrize("bad", [None, 3, b"bytes", float("nan"), ["a", "list"]])
def test_what_is_not_text_names_its_row(uncased, bad):
    with refused(DataError, "1") as error:
        uncased(["fine", bad])
    assert type(bad).__name__ in str(error.value)
    with refused(DataError, "1" if bad != ["a", "list"] else "0"):
        uncased.encode([["fine"], bad] if bad != ["a", "list"] else [["a", 3]], words=True)


def test_half_a_surrogate_pair_names_its_row(uncased):
    with refused(DataError, "1"):
        uncased(["fine", "bad \ud83d text"])


@pytest.mark.parametrize("text", ["", "   ", "\x00", "\u200b\ufeff", "\n\t"])
def test_nothing_to_read_is_cls_and_sep(uncased, text):
    assert uncased(text)["input_ids"].tolist() == [[101, 102]]


def test_texts_and_pairs_have_to_match(uncased):
    with refused(DataError, "pairs"):
        uncased(["a", "b"], ["c"])


def test_special_tokens_in_a_text_are_a_choice(data, uncased):
    theirs = reference(data / "bert_vocabs/bert-base-uncased/vocab.txt", True)
    text = "an [MASK] and [SEP]here [sep]"
    assert uncased(text)["input_ids"].tolist() == [theirs(text)["input_ids"]]
    plain = uncased(text, split_special_tokens=True)["input_ids"].tolist()[0]
    assert plain == theirs(text, split_special_tokens=True)["input_ids"]
    assert uncased.mask_id not in plain and plain.count(uncased.sep_id) == 1
    # The choice holds for one call only.
    assert uncased(text)["input_ids"].tolist() == [theirs(text)["input_ids"]]


def test_threads_do_not_see_each_others_choice(uncased):
    texts = ["an [MASK] and [SEP]here"] * 20

    def masks(split: bool) -> list[int]:
        rows = uncased.encode(texts, split_special_tokens=split)
        return [row.input_ids.count(uncased.mask_id) for row in rows]

    choices = [False, True] * 200
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(masks, choices))
    assert found == [[0 if split else 1] * len(texts) for split in choices]


# Files in and out


@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
@pytest.mark.parametrize("lowercase", [True, False])
def test_saved_files_open_in_transformers(tmp_path, data, sample, model_type, lowercase):
    source = tmp_path / "source"
    source.mkdir()
    name = "bert-base-uncased" if lowercase else "bert-base-cased"
    shutil.copy(data / "bert_vocabs" / name / "vocab.txt", source)
    config = {"model_type": model_type, "max_position_embeddings": 512, "vocab_size": 30522}
    (source / "config.json").write_text(json.dumps(config))
    (source / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}))
    ours = BertTokenizer.from_pretrained(source)
    assert ("token_type_ids" in ours.model_inputs) == (model_type == "bert")
    target = tmp_path / "saved"
    ours.save_pretrained(target)
    shutil.copy(source / "config.json", target)
    theirs = transformers.AutoTokenizer.from_pretrained(target)
    assert len(theirs) == ours.vocab_size and theirs.model_max_length == 512
    texts = [text[:300] for text in sample[::9]]
    expected = theirs(texts, padding=True, return_tensors="pt")
    batch = ours(texts)
    assert set(expected) == set(batch) == set(ours.model_inputs)
    for key in batch:
        assert torch.equal(batch[key], expected[key])
    # And back: from tokenizer.json, from vocab.txt alone, and from what transformers saves.
    theirs.save_pretrained(tmp_path / "theirs")
    shutil.copy(source / "config.json", tmp_path / "theirs")
    (tmp_path / "vocab only").mkdir()
    for file in ("vocab.txt", "tokenizer_config.json", "config.json"):
        shutil.copy(target / file, tmp_path / "vocab only")
    for folder in (target, tmp_path / "theirs", tmp_path / "vocab only"):
        again = BertTokenizer.from_pretrained(folder)
        assert torch.equal(again(texts)["input_ids"], batch["input_ids"])
        assert again.model_inputs == ours.model_inputs and again.max_length == 512


def test_the_official_folder(minilm, sample):
    ours = BertTokenizer.from_pretrained(minilm)
    theirs = transformers.AutoTokenizer.from_pretrained(minilm)
    # Its tokenizer.json stores padding to 128 and truncation at 128: neither comes along.
    assert ours("short")["input_ids"].shape == (1, 3)
    assert (ours.vocab_size, ours.max_length) == (30522, 512)
    texts = [text[:1000] for text in sample[::10]]
    for row, ids in zip(ours.encode(texts), theirs(texts, truncation=True)["input_ids"], strict=True):
        assert row.input_ids == ids


def test_added_tokens_come_along(tmp_path, minilm):
    theirs = transformers.AutoTokenizer.from_pretrained(minilm)
    theirs.add_tokens(["<entity>", transformers.AddedToken("covid", single_word=True)])
    theirs.save_pretrained(tmp_path)
    ours = BertTokenizer.from_pretrained(tmp_path)
    assert ours.vocab_size == len(theirs) == 30524
    text = "An <entity> of covid, and covidwords."
    assert ours(text)["input_ids"].tolist() == [theirs(text)["input_ids"]]
    ours.save_pretrained(tmp_path / "again")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    assert again(text)["input_ids"] == theirs(text)["input_ids"]


def test_ids_with_a_gap_stay_what_they_are(tmp_path):
    pieces = PIECES.decode().split()
    vocabulary = {piece: 10 * number for number, piece in enumerate(pieces)}
    ours = BertTokenizer(vocabulary)
    ours.save_pretrained(tmp_path)
    # A vocab.txt would number the pieces by its lines.
    assert not (tmp_path / "vocab.txt").exists()
    again = BertTokenizer.from_pretrained(tmp_path)
    assert again.vocabulary == vocabulary and again.vocab_size == 61
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert again("a ab")["input_ids"].tolist() == [[20, 50, 50, 60, 30]] == [theirs("a ab").input_ids]


def test_the_settings_file_overrides_with_a_warning(tmp_path, minilm):
    shutil.copy(minilm / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.warns(UserWarning, match="says do_lower_case False, tokenizer.json beside it"):
        ours = BertTokenizer.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert ours("Hello you")["input_ids"].tolist() == [theirs("Hello you")["input_ids"]]
    assert ours.unk_id in ours("Hello you")["input_ids"]


@pytest.mark.parametrize(
    ("settings_says", "config_says", "expected"),
    [(128, 512, 128), (10**30, 512, 512), (1e30, 40, 40), (None, None, 512), (256, None, 256)],
)
def test_the_smaller_limit_holds(tmp_path, uncased, settings_says, config_says, expected):
    uncased.save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": settings_says}))
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": config_says}))
    assert BertTokenizer.from_pretrained(tmp_path).max_length == expected


def folder_of(tmp_path, vocabulary: bytes | None = None, **files) -> object:
    if vocabulary is not None:
        (tmp_path / "vocab.txt").write_bytes(vocabulary)
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


PIECES = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n"


def test_a_vocabulary_with_windows_line_ends(tmp_path):
    folder = folder_of(tmp_path, PIECES.replace(b"\n", b"\r\n"))
    assert BertTokenizer.from_pretrained(folder)("a")["input_ids"].tolist() == [[2, 5, 3]]


@pytest.mark.parametrize(
    ("files", "key"),
    [
        ({}, None),
        ({"vocabulary": b"a\n"}, "[PAD]"),
        ({"vocabulary": b""}, "line 1"),
        ({"vocabulary": PIECES + b"\nb\n"}, "line 8"),
        ({"vocabulary": PIECES.replace(b"[SEP]\n", b"")}, "[SEP]"),
        ({"vocabulary": PIECES + b"a\n"}, "a"),
        ({"vocabulary": PIECES + b"\xff\n"}, None),
        ({"vocabulary": PIECES, "config": {"vocab_size": 6}}, "vocab_size"),
        ({"tokenizer": {"model": {"type": "BPE"}}}, "model"),
        ({"tokenizer": {"model": {"type": "Unigram"}}}, "model"),
        ({"tokenizer": {"model": {"type": "WordPiece"}, "normalizer": None}}, "normalizer"),
        ({"tokenizer": []}, None),
        (
            {
                "tokenizer": {
                    "model": {"type": "WordPiece"},
                    "normalizer": {"type": "BertNormalizer"},
                    "pre_tokenizer": {"type": "BertPreTokenizer"},
                }
            },
            "vocab",
        ),
    ],
)
def test_a_wrong_vocabulary_is_named(tmp_path, files, key):
    with refused(TokenizerError, key) as error:
        BertTokenizer.from_pretrained(folder_of(tmp_path, **files))
    assert error.value.path is not None


def stored(**changes) -> dict:
    """A whole `tokenizer.json` with some of its parts changed."""
    pieces = PIECES.decode().split()
    return {
        "model": {"type": "WordPiece", "vocab": {piece: n for n, piece in enumerate(pieces)}},
        "normalizer": {"type": "BertNormalizer"},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        **changes,
    }


def test_what_may_be_null(tmp_path):
    files = {
        "tokenizer": stored(post_processor=None),
        "config": {"type_vocab_size": None, "vocab_size": None, "max_position_embeddings": None},
        "tokenizer_config": {"model_max_length": None, "strip_accents": None},
    }
    tokenizer = BertTokenizer.from_pretrained(folder_of(tmp_path, **files))
    assert tokenizer.max_length == 512 and "token_type_ids" in tokenizer.model_inputs


@pytest.mark.parametrize(
    ("file", "content", "key"),
    [
        ("config", [], None),
        ("config", {"type_vocab_size": "2"}, "type_vocab_size"),
        ("config", {"vocab_size": [7]}, "vocab_size"),
        ("config", {"max_position_embeddings": 0.5}, "max_position_embeddings"),
        ("tokenizer_config", "x", None),
        ("tokenizer_config", {"model_max_length": "512"}, "model_max_length"),
        ("tokenizer_config", {"model_max_length": -1}, "model_max_length"),
        ("tokenizer_config", {"model_max_length": True}, "model_max_length"),
        ("tokenizer_config", {"do_lower_case": "yes"}, "do_lower_case"),
        ("tokenizer_config", {"do_lower_case": None}, "do_lower_case"),
        ("tokenizer_config", {"strip_accents": 1}, "strip_accents"),
        ("tokenizer", stored(model="x"), "model"),
        ("tokenizer", stored(model=[1]), "model"),
        ("tokenizer", stored(normalizer=3), "normalizer"),
        ("tokenizer", stored(normalizer={"type": "BertNormalizer", "lowercase": 0}), "lowercase"),
        ("tokenizer", stored(model={"type": "WordPiece", "vocab": {"a": "0"}}), "a"),
        ("tokenizer", stored(model={"type": "WordPiece", "vocab": {"a": -1}}), "a"),
        ("tokenizer", stored(added_tokens=None), "added_tokens"),
        ("tokenizer", stored(added_tokens=["a"]), "the added token"),
        ("tokenizer", stored(added_tokens=[{"id": 7}]), "the added token"),
        ("tokenizer", stored(added_tokens=[{"content": "b"}]), "the added token"),
        ("tokenizer", stored(added_tokens=[{"content": "b", "id": 7, "lstrip": "no"}]), "the added token"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(tmp_path, file, content, key):
    files = {"tokenizer": stored(), file: content}
    with refused(TokenizerError, key) as error:
        BertTokenizer.from_pretrained(folder_of(tmp_path, **files))
    assert error.value.path == tmp_path / f"{file}.json"
    assert str(error.value.path) in str(error.value)


def test_unknown_ids_and_pieces(uncased):
    with refused(InputError, "input_ids"):
        uncased.tokens([101, 30522])
    assert uncased.ids(["token", "no such piece"]) == [19204, 100]
