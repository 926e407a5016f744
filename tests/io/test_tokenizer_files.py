"""Tokenizer files that add, disagree or lie; tests/programs/hostile/tokenizers.py has them all."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
import transformers

from minibert.io.errors import TokenizerError
from minibert.io.tokenizer_files import check_vocabulary, read_folder, read_vocab
from minibert.tokenizer import BertTokenizer
from minibert.workbench.cli import main
from tests.conftest import refused
from tests.programs.hostile.case import write_good_folder

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##b"]
VOCABULARY = {piece: number for number, piece in enumerate(PIECES)}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A vocab.txt and the settings, as older programs leave them."""
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    (tmp_path / "config.json").write_text('{"model_type": "bert", "vocab_size": 12}')
    return tmp_path


def set_json(path: Path, **values: object) -> None:
    stored = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**stored, **values}))


def test_added_tokens_of_the_older_files(folder):
    set_json(folder / "added_tokens.json", **{"<one>": 8, "Two": 9})
    set_json(
        folder / "tokenizer_config.json",
        added_tokens_decoder={
            "0": {"content": "[PAD]", "special": True, "__type": "AddedToken"},
            "8": {"content": "<one>", "lstrip": True},
            "9": {"content": "Two"},
            "10": {"content": "three", "single_word": True},
        },
        additional_special_tokens=["<one>", {"content": "Two"}],
    )
    ours = BertTokenizer.from_pretrained(folder)
    assert ours.vocab_size == 11
    text = "a<one>b Two three threes"
    assert ours(text)["input_ids"].tolist() == [[2, 5, 8, 6, 9, 10, 1, 3]]
    # What is saved opens in transformers with the same ids.
    ours.save_pretrained(folder / "saved")
    shutil.copy(folder / "config.json", folder / "saved")
    theirs = transformers.AutoTokenizer.from_pretrained(folder / "saved")
    assert theirs(text)["input_ids"] == ours(text)["input_ids"][0].tolist()


def test_older_added_tokens_equal_transformers(folder):
    set_json(folder / "added_tokens.json", **{"<one>": 8, "two": 9})
    theirs = transformers.BertTokenizer.from_pretrained(folder)
    ours = BertTokenizer.from_pretrained(folder)
    text = "a <one> b two, twos a<one>b TWO"
    assert len(theirs) == ours.vocab_size == 10
    assert ours(text)["input_ids"][0].tolist() == theirs(text)["input_ids"]


LISTED = {"additional_special_tokens": ["[E1]"]}
NUMBERED = {"8": {"content": "[E1]", "special": True, "normalized": False}, "9": {"content": "<two>"}}


@pytest.mark.parametrize(
    "files",
    [
        {"added_tokens": {"[E1]": 8}, "tokenizer_config": LISTED},
        {"added_tokens": {"<two>": 8, "[E1]": 9}, "special_tokens_map": LISTED},
        {"tokenizer_config": LISTED},  # without an id it gets the next one
        {"tokenizer_config": {"extra_special_tokens": ["[E1]", "<two>"], **LISTED}},
        {"tokenizer_config": {"extra_special_tokens": {"entity_token": "[E1]"}}},
        {"tokenizer_config": {"entity_token": "[E1]", "add_bos_token": True, "bos_token": None}},
        {"special_tokens_map": {"entity_token": {"content": "[E1]", "lstrip": True, "normalized": False}}},
        {"tokenizer_config": {"added_tokens_decoder": NUMBERED}},
        {"tokenizer_config": {"added_tokens_decoder": NUMBERED, "additional_special_tokens": ["<two>"]}},
        {"tokenizer_config": {"added_tokens_decoder": NUMBERED}, "added_tokens": {"<three>": 10}},  # an older file
        {"tokenizer_config": {"added_tokens_decoder": NUMBERED}, "special_tokens_map": {"x_token": "<two>"}},
        {"tokenizer_config": {"additional_special_tokens": ["b", "[MASK]"]}},  # a piece of the vocabulary
        {"tokenizer_config": LISTED, "special_tokens_map": {"additional_special_tokens": ["<two>"]}},
        {"tokenizer_config": {"do_lower_case": False, **LISTED}, "added_tokens": {"[E1]": 8}},
        {"tokenizer_config": {"split_special_tokens": True, **LISTED}, "added_tokens": {"[E1]": 8}},
    ],
)
@pytest.mark.parametrize("saved", ["by hand", "by transformers", "without tokenizer.json"])
def test_special_tokens_are_those_of_transformers(folder, tmp_path_factory, files, saved):
    for name, content in files.items():
        set_json(folder / f"{name}.json", **content)
    if saved != "by hand":
        again = tmp_path_factory.mktemp("saved")
        transformers.BertTokenizer.from_pretrained(folder).save_pretrained(again)
        for name in ("vocab.txt", "config.json"):
            shutil.copy(folder / name, again)
        if saved == "without tokenizer.json":
            (again / "tokenizer.json").unlink()
        folder = again
    theirs = transformers.BertTokenizer.from_pretrained(folder)
    ours = BertTokenizer.from_pretrained(folder)
    assert ours.vocab_size == len(theirs)
    for text in ("a [E1] b", "a [e1] b", "a[E1]b", "[E1][E1]", "a <two> b <TWO> <three>", "b a bb"):
        for split in (None, True, False):
            options = {} if split is None else {"split_special_tokens": split}
            expected = theirs(text, return_offsets_mapping=True, **options)
            [row] = ours.encode(text, **options)
            assert row.input_ids == expected["input_ids"], (text, split)
            assert row.offsets == expected["offset_mapping"], (text, split)
        ids = theirs(text, split_special_tokens=False)["input_ids"]
        for skip in (True, False):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)


def test_a_token_with_two_ids(folder):
    set_json(folder / "added_tokens.json", **{"<one>": 8})
    set_json(folder / "tokenizer_config.json", added_tokens_decoder={"9": {"content": "<one>"}})
    with refused(TokenizerError, "<one>") as error:
        BertTokenizer.from_pretrained(folder)
    assert error.value.path == folder / "added_tokens.json"
    assert "9" in str(error.value) and "8" in str(error.value)


def test_both_numbers_are_in_the_message(folder):
    set_json(folder / "config.json", vocab_size=7)
    with refused(TokenizerError, "vocab_size") as error:
        BertTokenizer.from_pretrained(folder)
    assert "7" in str(error.value) and "8" in str(error.value)
    set_json(folder / "config.json", vocab_size=8)
    set_json(folder / "added_tokens.json", **{"<one>": 8})
    with refused(TokenizerError, "vocab_size") as error:
        BertTokenizer.from_pretrained(folder)
    assert "9" in str(error.value) and "<one>" in str(error.value)


def test_a_default_number_of_embeddings_is_called_one(folder):
    set_json(folder / "added_tokens.json", **{"<one>": 40_000})
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with refused(TokenizerError, "vocab_size") as error:
        BertTokenizer.from_pretrained(folder)
    assert "30522" in str(error.value) and "default" in str(error.value)


@pytest.mark.parametrize(
    "config", [{"model_type": "distilbert"}, {"architectures": ["DistilBertModel"]}, {"n_layers": 1}]
)
def test_a_distilbert_takes_no_token_types(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    assert "token_type_ids" not in BertTokenizer.from_pretrained(folder).model_inputs


def test_two_files_that_disagree(folder):
    BertTokenizer(VOCABULARY).save_pretrained(folder)
    assert read_folder(folder)["vocabulary"] == VOCABULARY
    (folder / "vocab.txt").write_text("".join(f"{p}\n" for p in [*PIECES[:5], "b", "a", "##b"]))
    with refused(TokenizerError, "a") as error:
        BertTokenizer.from_pretrained(folder)
    assert "5" in str(error.value) and "6" in str(error.value)
    (folder / "vocab.txt").unlink()
    assert read_folder(folder)["vocabulary"] == VOCABULARY


def test_byte_order_marks_and_line_ends(folder):
    for start, end in (("\ufeff", "\n"), ("", "\r\n"), ("\ufeff", "\r\n")):
        raw = (start + "".join(piece + end for piece in PIECES)).encode()
        (folder / "vocab.txt").write_bytes(raw)
        assert read_vocab(folder / "vocab.txt") == VOCABULARY
        (folder / "vocab.txt").write_bytes(raw.removesuffix(end.encode()))
        assert read_vocab(folder / "vocab.txt") == VOCABULARY


def test_empty_lines_at_the_end_have_no_id(folder):
    for end in ("\n", "\n\n\n", "\r\n\r\n"):
        raw = "".join(f"{piece}\n" for piece in PIECES) + end
        (folder / "vocab.txt").write_bytes(raw.encode())
        assert BertTokenizer.from_pretrained(folder).vocabulary == VOCABULARY
    BertTokenizer(VOCABULARY).save_pretrained(folder)
    with open(folder / "vocab.txt", "a") as file:
        file.write("\n")
    with warnings.catch_warnings(action="error"):
        assert read_folder(folder)["vocabulary"] == VOCABULARY


@pytest.mark.parametrize("raw", [b"[PAD]\n\n[UNK]\n", b"a\na\n", b"\xff", b""])
def test_a_second_vocabulary_that_is_damaged_is_not_used(raw, folder):
    BertTokenizer(VOCABULARY).save_pretrained(folder)
    (folder / "vocab.txt").write_bytes(raw)
    with pytest.warns(UserWarning, match=r"vocab\.txt.* It is not used: tokenizer\.json"):
        assert read_folder(folder)["vocabulary"] == VOCABULARY
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError) as error:
        read_folder(folder)
    assert error.value.path == folder / "vocab.txt"


ALIKE = ["ElectraTokenizer", "ElectraTokenizerFast", "MobileBertTokenizer", "ConvBertTokenizer"]
ALIKE += ["MobileBertTokenizerFast", "SqueezeBertTokenizerFast", "DPRQuestionEncoderTokenizer"]
ALIKE += ["DPRContextEncoderTokenizerFast", "LayoutLMTokenizer", "LxmertTokenizerFast"]


@pytest.mark.parametrize("name", [*ALIKE, "PreTrainedTokenizerFast", "TokenizersBackend"])
def test_classes_that_tokenize_as_bert_does_and_generic_ones(name, folder):
    set_json(folder / "tokenizer_config.json", tokenizer_class=name)
    ours = BertTokenizer.from_pretrained(folder)
    text = "A bb \u00e9 [SEP] \u4e00b,B"
    if name in ALIKE:
        theirs = getattr(transformers, name, transformers.BertTokenizer).from_pretrained(folder)
        assert ours(text)["input_ids"][0].tolist() == theirs(text)["input_ids"]
    assert ours.vocab_size == len(PIECES)


@pytest.mark.parametrize("name", ["BertJapaneseTokenizer", "RoFormerTokenizer", "MyTokenizer", 3])
def test_classes_that_may_tokenize_differently(name, folder):
    set_json(folder / "tokenizer_config.json", tokenizer_class=name)
    with refused(TokenizerError, "tokenizer_class") as caught:
        BertTokenizer.from_pretrained(folder)
    assert str(name) in str(caught.value) and caught.value.hint


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"a": 6}, "b"),  # its id, too
        ({"a": -1}, "a"),
        ({"a": 2**31}, "a"),
        ({"a": "5"}, "a"),
        ({"a": True}, "a"),
        ({"": 9}, ""),
        ({"\udc00": 9}, "\udc00"),
        ({3: 9}, "3"),
    ],
)
def test_a_vocabulary_made_in_python_is_checked_too(changes, key):
    for make in (BertTokenizer, lambda vocabulary: check_vocabulary("the vocabulary", vocabulary)):
        with refused(TokenizerError, key) as error:
            make({**VOCABULARY, **changes})
        assert str(error.value.path) == "the vocabulary"


def test_official_files_are_as_they_say(minilm, data):
    files = read_folder(minilm)
    assert files["source"].name == "tokenizer.json" and len(files["vocabulary"]) == 30522
    assert (files["added_tokens"], files["max_length"], files["token_types"]) == ([], 512, True)
    assert read_folder(data / "bert_vocabs/bert-base-chinese")["lowercase"] is False


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "MODEL", "good"],
        ["evaluate", "MODEL", "DATA"],
        ["train", "--model", "MODEL", "--train", "DATA"],
        ["embed", "MODEL", "good"],
        ["tokenize", "MODEL", "good"],
    ],
)
def test_every_command_refuses_a_wrong_vocabulary_before_it_begins(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    write_good_folder(tmp_path / "model")
    (tmp_path / "model/tokenizer.json").unlink()
    with open(tmp_path / "model/vocab.txt", "a") as file:
        file.write("more\n")
    rows = "".join(f"good {label},{label}\n" for label in ("cold", "mild", "hot") * 4)
    (tmp_path / "data.csv").write_text("text,label\n" + rows)
    places = {"MODEL": "model", "DATA": "data.csv"}
    assert main([places.get(word, word) for word in command]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err
    assert "vocab.txt has 22 pieces (the last is 'more'), but the model has embeddings for 21" in (said.err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.csv", "model"]
