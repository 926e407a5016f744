"""Weights: files found and refused, shards, the report. Fitting a class: test_pretrained.py."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from minibert import BertForSequenceClassification, BertModel
from minibert.io.errors import CheckpointError
from minibert.io.files import read_json, write_json
from minibert.io.shards import INDEX, SINGLE, Entry, LoadReport, assemble, find, read
from minibert.io.source import open_source
from tests.conftest import refused
from tests.io.conftest import random_model


@pytest.fixture
def sharded(saved):
    """The saved model in three files with an index, as transformers writes large ones."""
    tensors = load_file(saved / SINGLE)
    (saved / SINGLE).unlink()
    weight_map = {}
    for number in range(3):
        name = f"model-{number + 1:05}-of-00003.safetensors"
        part = dict(sorted(tensors.items())[number::3])
        save_file(part, saved / name, {"format": "pt"})
        weight_map.update(dict.fromkeys(part, name))
    size = sum(tensor.nbytes for tensor in tensors.values())
    write_json(saved / INDEX, {"metadata": {"total_size": size}, "weight_map": weight_map})
    return saved


def test_shards_are_read_as_one(sharded):
    expected = random_model("bert", "BertForSequenceClassification").state_dict()
    found = BertForSequenceClassification.from_pretrained(sharded).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_shards_of_transformers_are_read(tmp_path):
    from tests.io.conftest import reference_of

    reference = reference_of(random_model("bert", "BertModel"))
    reference.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    model = BertModel.from_pretrained(tmp_path)
    state = reference.state_dict()
    for name, tensor in model.official_state_dict().items():
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize(
    "file",
    [
        "../secret.safetensors",
        "/tmp/secret.safetensors",
        "..\\secret.safetensors",
        "C:secret.safetensors",
        "\\\\host\\share\\secret.safetensors",
        "folder/part.safetensors",
        "part\0.safetensors",
        "x" * 300 + ".safetensors",
        ".safetensors",
        "part.bin",
        7,
        None,
    ],
)
def test_an_index_names_plain_files_only(file, sharded):
    index = read_json(sharded / INDEX)
    index["weight_map"]["classifier.bias"] = file
    (sharded / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError) as caught:
        BertForSequenceClassification.from_pretrained(sharded)
    assert caught.value.key == "classifier.bias"


def test_a_tensor_in_two_shards_is_refused(sharded):
    first, second = sorted(sharded.glob("model-*"))[:2]
    tensors = load_file(second)
    key = next(iter(load_file(first)))
    save_file({**tensors, key: torch.zeros(3)}, second, {"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        BertForSequenceClassification.from_pretrained(sharded)
    assert caught.value.key == key


def test_what_is_left_out_is_not_read(saved):
    tensors = load_file(saved / SINGLE)
    save_file({**tensors, "qa_outputs.bias": torch.zeros(2)}, saved / SINGLE, {"format": "pt"})
    report = BertForSequenceClassification.from_pretrained(saved).load_report
    assert [entry.official for entry in report.of("left out")] == ["qa_outputs.bias"]
    assert read(find(open_source(saved)), report.entries).keys() == tensors.keys()


def test_an_index_with_another_total_is_a_warning(sharded):
    index = read_json(sharded / INDEX)
    index["metadata"]["total_size"] += 4
    write_json(sharded / INDEX, index)
    with pytest.warns(UserWarning, match="total_size 748.*have 748.* bytes"):
        BertForSequenceClassification.from_pretrained(sharded)


def test_a_missing_shard_is_named(sharded):
    lost = sorted(sharded.glob("model-*"))[1]
    lost.unlink()
    with refused(CheckpointError, "model-00002-of-00003.safetensors"):
        BertForSequenceClassification.from_pretrained(sharded)


@pytest.mark.parametrize("text", ["{}", '{"weight_map": {}}', '{"weight_map": [1]}'])
def test_an_index_without_a_map(text, sharded):
    (sharded / INDEX).write_text(text)
    with refused(CheckpointError, "weight_map"):
        BertForSequenceClassification.from_pretrained(sharded)


def test_an_index_with_a_key_twice(sharded):
    (sharded / INDEX).write_text('{"weight_map": {"a": "b.safetensors", "a": "c.safetensors"}}')
    with refused(CheckpointError, "a"):
        BertForSequenceClassification.from_pretrained(sharded)


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "model.pt", "tf_model.h5"])
def test_a_pickle_is_not_opened_and_the_way_out_is_said(pickle, saved):
    (saved / SINGLE).unlink()
    (saved / pickle).write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    with pytest.raises(CheckpointError, match="save_pretrained") as caught:
        BertForSequenceClassification.from_pretrained(saved)
    assert caught.value.key == pickle


def test_a_tensorflow_checkpoint_is_called_by_its_name(data):
    with refused(CheckpointError, "model.safetensors"):
        find(open_source(data / "tiny_tf_bert"))


def test_a_pickle_beside_good_weights_is_not_looked_at(saved):
    (saved / "pytorch_model.bin").write_bytes(b"not to be read")
    BertForSequenceClassification.from_pretrained(saved)


def test_a_pickle_that_was_renamed_is_not_opened(saved):
    torch.save({"classifier.bias": torch.zeros(3)}, saved / SINGLE)
    with refused(CheckpointError, "header"):
        BertForSequenceClassification.from_pretrained(saved)


def test_a_folder_without_weights(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with refused(CheckpointError, "model.safetensors"):
        BertModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_file_that_was_cut(kept, saved):
    whole = (saved / SINGLE).read_bytes()
    (saved / SINGLE).write_bytes(whole[:kept])
    with pytest.raises(CheckpointError, match="safetensors"):
        BertForSequenceClassification.from_pretrained(saved)


@pytest.mark.parametrize("name", ["classifier.bias", "dtype"])
def test_a_header_with_a_key_twice(name, saved):
    whole = (saved / SINGLE).read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header = whole[8 : 8 + size].decode().rstrip()
    bias = json.dumps(json.loads(header)["classifier.bias"], separators=(",", ":"))
    twice = {
        "classifier.bias": (header[:-1] + f',"classifier.bias":{bias}' + "}"),
        "dtype": header.replace('"dtype":"F32"', '"dtype":"F16","dtype":"F32"', 1),
    }[name]
    assert twice != header
    body = whole[8 + size :]
    (saved / SINGLE).write_bytes(len(twice).to_bytes(8, "little") + twice.encode() + body)
    with pytest.raises(CheckpointError, match=name):
        BertForSequenceClassification.from_pretrained(saved)


@pytest.mark.parametrize(
    ("problem", "error"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), CheckpointError),
        (MemoryError(), CheckpointError),
        (RuntimeError("another device"), RuntimeError),
    ],
)
def test_only_a_full_memory_is_called_one(problem, error, monkeypatch):
    def fail(*_, **__):
        raise problem

    monkeypatch.setattr(torch.Tensor, "to", fail)
    entries = [Entry("a", "a", (3,), "float32", "loaded")]
    words = "has 3 values, which do not fit into memory" if error is CheckpointError else "dev"
    with pytest.raises(error, match=words):
        assemble(entries, {"a": torch.zeros(3)})


def test_the_report_is_one_line_a_group():
    entries = (
        Entry("bert.a.weight", "bert.a.weight", (2, 3), "float32", "loaded"),
        Entry("classifier.weight", "head.weight", (4, 3), "", "fresh", "not in the file"),
        Entry("classifier.bias", "head.bias", (4,), "", "fresh", "not in the file"),
        Entry("cls.predictions.bias", None, (9,), "float32", "left out", "another head"),
    )
    report = LoadReport("folder", "0123456789abcdef", "BertForX", entries)
    assert str(report).splitlines() == [
        "BertForX from folder at 0123456789ab: 1 tensor, 6 values loaded",
        "  fresh: classifier.* (2 tensors, 16 values): not in the file",
        "  left out: cls.predictions.bias (1 tensor, 9 values): another head",
    ]
