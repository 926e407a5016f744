"""minibert convert: a TensorFlow checkpoint becomes a folder with the same numbers, or nothing."""

from __future__ import annotations

import json
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from minibert import BertConfig, BertForPreTraining, BertForSequenceClassification, BertModel, heads
from minibert.io.errors import CheckpointError, ConfigError, MinibertError, TokenizerError
from minibert.io.tensorflow import TensorBundle, find
from minibert.tokenizer import BertTokenizer
from minibert.workbench.cli import main
from minibert.workbench.tasks.convert import convert
from tests import tensorflow_files as files
from tests.conftest import BOUNDS, refused

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklm", "##a", "##b"]
SIZES = {
    "vocab_size": len(PIECES),
    "hidden_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
}


def variable(official: str) -> str:
    """What TensorFlow calls a tensor with an official name."""
    name = official.replace("qa_outputs.", "cls.squad.").replace(".", "/")
    name = re.sub(r"layer/(\d+)", r"layer_\1", name)
    for old, new in [
        *(("LayerNorm/weight", "LayerNorm/gamma"), ("LayerNorm/bias", "LayerNorm/beta")),
        *(("predictions/bias", "predictions/output_bias"), ("classifier/weight", "output_weights")),
        *(("classifier/bias", "output_bias"), ("_embeddings/weight", "_embeddings")),
    ]:
        name = re.sub(f"{old}$", new, name)
    for head in ("seq_relationship", "squad"):
        name = name.replace(f"{head}/weight", f"{head}/output_weights").replace(f"{head}/bias", f"{head}/output_bias")
    return re.sub("/weight$", "/kernel", name)


def variables(model: Any) -> dict[str, torch.Tensor]:
    """The variables of a model; kernels are stored the other way round."""
    result = {}
    for official, tensor in model.official_state_dict().items():
        official = official if official.startswith(("cls", "bert", "classifier", "qa_")) else f"bert.{official}"
        name = variable(official)
        result[name] = tensor.T if name.endswith("kernel") else tensor
    return result


def checkpoint(
    folder: Path,
    kind: type[Any] = BertForPreTraining,
    change: Callable[[dict[str, torch.Tensor]], Any] = lambda variables: None,
    pieces: list[str] = PIECES,
    config: dict[str, Any] | None = None,
    labels: int = 2,
    **layout: Any,
) -> Path:
    """A folder with a random checkpoint, as Google published them."""
    names = {number: f"LABEL_{number}" for number in range(labels)}
    model = kind(BertConfig(**SIZES, id2label=names), generator=torch.Generator().manual_seed(1))
    written = variables(model)
    change(written)
    files.write(folder / "bert_model.ckpt", written, **layout)
    (folder / "bert_config.json").write_text(json.dumps({**SIZES, **(config or {})}))
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return folder


def same(folder: Path, kind: type[Any], place: Path) -> bool:
    """Whether a converted folder has the values of the variables."""
    bundle = TensorBundle(*find(place))
    found = variables(kind.from_pretrained(folder))
    read = bundle.read([name for name in bundle.variables if name in found])
    return read.keys() == found.keys() and all(torch.equal(read[name], found[name]) for name in read)


# The fixture.


def test_the_fixture_has_the_bytes_of_its_file_here_and_in_transformers(data, tmp_path, transformers, capsys):
    source, folder = data / "tiny_tf_bert", tmp_path / "new"
    assert main(["convert", str(source), str(folder)]) == 0
    printed = capsys.readouterr().out
    for words in ("BertForPreTraining", "46 tensors", "adam_m (46), adam_v (46), global_step", "lower-casing: yes"):
        assert words in printed
    assert same(folder, BertForPreTraining, source)

    theirs = transformers.BertForPreTraining.from_pretrained(folder, output_loading_info=True)
    assert not any(theirs[1][key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    bundle = TensorBundle(*find(source))
    state = theirs[0].state_dict()
    for name in ("bert/encoder/layer_1/output/dense/kernel", "cls/predictions/transform/dense/kernel"):
        official = name.replace("layer_", "layer/").replace("kernel", "weight").replace("/", ".")
        assert torch.equal(state[official], bundle.read([name])[name].T)

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(
        ["All work and no play", "makes Jack a dull boy"], ["makes", "all"], return_tensors="pt", padding=True
    )
    ours = BertTokenizer.from_pretrained(folder)(["All work and no play", "makes Jack a dull boy"], ["makes", "all"])
    assert all(torch.equal(ours[name], batch[name]) for name in ours)
    with torch.no_grad():
        expected = theirs[0].eval()(**batch)
        found = BertForPreTraining.from_pretrained(folder)(**ours)
    real = ours["attention_mask"].bool()
    torch.testing.assert_close(
        found.prediction_logits[real], expected.prediction_logits[real], atol=BOUNDS["module fp32"], rtol=0
    )
    torch.testing.assert_close(
        found.seq_relationship_logits, expected.seq_relationship_logits, atol=BOUNDS["module fp32"], rtol=0
    )


def test_what_opens_it_says_how_to_convert_it(data, capsys):
    assert main(["fill-mask", str(data / "tiny_tf_bert"), "a [MASK]"]) == 2
    assert "minibert convert" in capsys.readouterr().err


# Kinds of checkpoints.


@pytest.mark.parametrize("layout", [{}, {"shards": 3, "per_block": 5}], ids=str)
@pytest.mark.parametrize(
    "kind",
    [
        *(BertForPreTraining, heads.BertForMaskedLM, heads.BertForNextSentencePrediction, BertModel),
        *(BertForSequenceClassification, heads.BertForQuestionAnswering),
    ],
)
def test_every_head_becomes_its_class(tmp_path, kind, layout):
    labels = 3 if kind is BertForSequenceClassification else 2
    source = checkpoint(tmp_path / "old", kind, labels=labels, **layout)
    converted = convert(source, tmp_path / "new")
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert config["architectures"] == [kind.__name__] and config["model_type"] == "bert"
    assert same(tmp_path / "new", kind, source)
    assert ("id2label" in str(converted)) == (labels == 3)


def test_a_checkpoint_without_pooler(tmp_path):
    source = checkpoint(tmp_path / "old", heads.BertForMaskedLM)
    convert(source, tmp_path / "new")
    assert not any("pooler" in name for name in BertModel.from_pretrained(tmp_path / "new").state_dict())


def test_a_decoder_that_repeats_the_word_table(tmp_path):
    def change(written: dict[str, torch.Tensor]) -> None:
        written["cls/predictions/decoder/kernel"] = written["bert/embeddings/word_embeddings"].T

    converted = convert(checkpoint(tmp_path / "old", change=change), tmp_path / "new")
    assert [entry.official for entry in converted.report.of("tied")] == ["cls.predictions.decoder.weight"]
    with refused(CheckpointError, "cls.predictions.decoder.weight"):
        other = {"change": lambda v: v.update({"cls/predictions/decoder/kernel": torch.ones(12, len(PIECES))})}
        convert(checkpoint(tmp_path / "apart", **other), tmp_path / "newer")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_type_of_the_weights_is_kept(tmp_path, dtype):
    def change(written: dict[str, torch.Tensor]) -> None:
        written.update({name: tensor.to(dtype) for name, tensor in written.items()})

    source = checkpoint(tmp_path / "old", change=change)
    convert(source, tmp_path / "new")
    assert json.loads((tmp_path / "new" / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    name = "bert.pooler.dense.weight"
    bundle = TensorBundle(*find(source))
    found = BertForPreTraining.from_pretrained(tmp_path / "new", dtype=dtype).official_state_dict()[name]
    assert torch.equal(found, bundle.read(["bert/pooler/dense/kernel"])["bert/pooler/dense/kernel"].T)


def test_the_state_of_any_optimizer_is_left_out(tmp_path):
    def change(written: dict[str, torch.Tensor]) -> None:
        slots = {f"{name}/{slot}": torch.zeros(1) for name in written for slot in ("Adam", "LAMB_1")}
        written.update(slots, beta1_power=torch.tensor(0.9), global_step=torch.tensor(3, dtype=torch.int64))

    left_out = convert(checkpoint(tmp_path / "old", change=change), tmp_path / "new").left_out
    assert left_out.keys() == {"Adam", "LAMB_1", "beta1_power", "global_step"}
    assert left_out["Adam"] == left_out["LAMB_1"] > 40


def test_an_archive_and_every_name_of_a_checkpoint(tmp_path):
    source = checkpoint(tmp_path / "multilingual_L-3")
    shutil.make_archive(str(tmp_path / "multilingual_L-3"), "zip", tmp_path, "multilingual_L-3")
    prefix = source / "bert_model.ckpt"
    names = (source, prefix, f"{prefix}.index", f"{prefix}.data-00000-of-00001", tmp_path, f"{source}.zip")
    for number, name in enumerate(names):
        convert(name, tmp_path.parent / f"{tmp_path.name}-new" / str(number))
        assert same(tmp_path.parent / f"{tmp_path.name}-new" / str(number), BertForPreTraining, source)


# The tokenizer.


@pytest.mark.parametrize(
    ("name", "config", "capitals", "given", "expected"),
    [
        ("cased_L-12", {}, True, None, False),
        ("multi_cased_L-12_H-768_A-12", {}, True, None, False),
        ("wwm_uncased_L-24", {}, False, None, True),
        ("CASED", {}, False, None, False),
        ("chinese_L-12", {}, False, None, True),
        ("biobert", {}, True, None, False),
        ("uncased", {"do_lower_case": False}, True, None, False),
        ("cased", {"do_lower_case": True}, False, None, True),
        ("uncased", {"do_lower_case": True}, True, False, False),
        ("cased", {}, False, True, True),
    ],
)
def test_lower_casing_is_worked_out_and_printed(tmp_path, name, config, capitals, given, expected, recwarn):
    pieces = [*PIECES[:-3], *("Al", "##B", "C")] if capitals else PIECES
    source = checkpoint(tmp_path / name, config=config, pieces=pieces)
    printed = str(convert(source, tmp_path / "new", lowercase=given))
    assert BertTokenizer.from_pretrained(tmp_path / "new").lowercase == expected
    assert f"lower-casing: {'yes' if expected else 'no'}" in printed
    assert f"--{'cased' if expected else 'uncased'}" in printed
    assert len(recwarn) == (capitals == expected)  # against the vocabulary


def test_the_options_and_the_command(tmp_path):
    source = checkpoint(tmp_path / "x")
    for option, lowercase in (("--cased", False), ("--uncased", True)):
        with warnings.catch_warnings(record=True) as caught:
            assert main(["convert", str(source), str(tmp_path / option), option]) == 0
        assert len(caught) == (not lowercase)  # the vocabulary has no capitals
        assert BertTokenizer.from_pretrained(tmp_path / option).lowercase == lowercase
    with pytest.raises(SystemExit) as refusal:
        main(["convert", str(source), str(tmp_path / "y"), "--cased", "--uncased"])
    assert refusal.value.code == 2


def test_a_vocabulary_in_another_order(tmp_path, transformers):
    pieces = [*PIECES[5:], *PIECES[:5]]
    convert(checkpoint(tmp_path / "old", pieces=pieces), tmp_path / "new")
    assert BertModel.from_pretrained(tmp_path / "new").config.pad_token_id == pieces.index("[PAD]")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    assert theirs("a b")["input_ids"] == BertTokenizer.from_pretrained(tmp_path / "new").encode("a b")[0].input_ids


def test_a_vocabulary_of_another_model(tmp_path):
    with refused(TokenizerError, "vocab_size"):
        convert(checkpoint(tmp_path / "old", pieces=[*PIECES, "more"]), tmp_path / "new")
    with pytest.warns(UserWarning, match="19 pieces"):
        convert(checkpoint(tmp_path / "fewer", pieces=PIECES[:-1]), tmp_path / "new")


# What cannot be converted: one error, and nothing is written.

LAYER_4 = "bert/encoder/layer_3/output/dense/kernel"
KERNEL = "bert/encoder/layer_0/output/dense/kernel"
FAULTS: dict[str, tuple[dict[str, Any], type[MinibertError], str | None]] = {
    "a missing variable": ({"change": lambda v: v.pop(KERNEL)}, CheckpointError, f"{KERNEL[:4]}.{'x'}"),
    "a stranger": ({"change": lambda v: v.update({"bert/x": torch.ones(2)})}, CheckpointError, "bert.x"),
    "a missing layer": ({"config": {"num_hidden_layers": 4}}, CheckpointError, "num_hidden_layers"),
    "layers without end": ({"config": {"num_hidden_layers": 10**9}}, ConfigError, "num_hidden_layers"),
    "another width": ({"config": {"intermediate_size": 24}}, CheckpointError, None),
    "a giant": ({"config": {"hidden_size": 2**30, "intermediate_size": 2**30}}, CheckpointError, None),
    "a number as text": ({"config": {"hidden_size": "12"}}, ConfigError, "hidden_size"),
    "a model of another kind": ({"config": {"model_type": "albert"}}, ConfigError, "model_type"),
    "not a number": ({"change": lambda v: v[KERNEL].fill_(float("nan"))}, CheckpointError, None),
    "whole numbers": ({"change": lambda v: v.update({KERNEL: v[KERNEL].int()})}, CheckpointError, None),
    "a shape bomb": ({"changes": {KERNEL: {"shape": (2**31, 2**31)}}}, CheckpointError, None),
    "one place for two": ({"changes": {LAYER_4.replace("3", "2"): {"offset": 0}}}, CheckpointError, None),
    "a vocabulary without [CLS]": ({"pieces": ["x", *PIECES[3:]]}, TokenizerError, "[PAD]"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_leaves_nothing_behind(tmp_path, what, capsys):
    how, kind, key = FAULTS[what]
    source = checkpoint(tmp_path / "old", **how)
    with pytest.raises(kind) as caught:
        convert(source, tmp_path / "new")
    official = "bert.encoder.layer.0.output.dense.weight"
    assert caught.value.key == (official if what == "a missing variable" else key or caught.value.key)
    assert caught.value.path is not None and caught.value.path.exists()
    assert main(["convert", str(source), str(tmp_path / "new")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert [*tmp_path.iterdir()] == [source]


@pytest.mark.parametrize(("name", "key"), [("bert_config.json", "bert_config.json"), ("vocab.txt", "vocab.txt")])
def test_a_missing_file(tmp_path, name, key):
    source = checkpoint(tmp_path / "old")
    (source / name).unlink()
    with refused(CheckpointError, key):
        convert(source, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", ["[1]", "{", '{"hidden_size": 12, "hidden_size": 13}'])
def test_a_config_that_is_not_one(tmp_path, content):
    source = checkpoint(tmp_path / "old")
    (source / "bert_config.json").write_text(content)
    with pytest.raises(CheckpointError) as caught:
        convert(source, tmp_path / "new")
    assert caught.value.path == source / "bert_config.json"


def test_other_models_are_called_that(tmp_path):
    def rename(written: dict[str, torch.Tensor]) -> None:
        for name in [*written]:
            written[f"model/{name}/.ATTRIBUTES/VARIABLE_VALUE"] = written.pop(name)

    with pytest.raises(CheckpointError, match="TensorFlow 2"):
        convert(checkpoint(tmp_path / "old", change=rename), tmp_path / "new")


def test_two_variables_for_one_tensor(tmp_path):
    name = "bert/pooler/dense/gamma"
    source = checkpoint(tmp_path / "old", change=lambda v: v.update({name: torch.ones(12, 12)}))
    with refused(CheckpointError, name):
        convert(source, tmp_path / "new")


def test_a_folder_that_holds_something_is_left_alone(data, tmp_path):
    (tmp_path / "model.safetensors").write_text("mine")
    with refused(ConfigError, "output"):
        convert(data / "tiny_tf_bert", tmp_path)
    assert (tmp_path / "model.safetensors").read_text() == "mine"


def test_a_bomb_in_an_archive(tmp_path):
    source = checkpoint(tmp_path / "old")
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in source.iterdir():
            zipped.write(file, file.name) if file.name != "vocab.txt" else zipped.writestr(file.name, "a" * 10**7)
    with refused(CheckpointError, "vocab.txt"):
        convert(archive, tmp_path / "new")
