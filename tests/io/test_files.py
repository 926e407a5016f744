"""Files: what is read is checked first; what is written is whole or absent."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from minibert.io import files
from minibert.io.errors import ConfigError, DiskError, MinibertError
from minibert.io.files import atomic_path, inside, read_header, read_json, read_tensors, write_json, write_tensors
from tests.conftest import refused

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32]
DTYPES += [torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32]
DTYPES += [torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 5), (2, 3)])
def test_every_tensor_that_the_library_writes_is_read(dtype, shape, tmp_path):
    tensors = {"b": torch.ones(shape).to(dtype), "a": torch.ones(7)}
    save_file(tensors, tmp_path / "x")
    header = read_header(tmp_path / "x")
    assert {name: found for name, (found, _) in header.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in tensors.items()
    }
    assert header.size == sum(tensor.nbytes for tensor in tensors.values())
    found = read_tensors(tmp_path / "x")
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].float(), tensor.float())


def test_a_file_without_tensors_is_a_file(tmp_path):
    write_tensors(tmp_path / "x", {})
    assert read_tensors(tmp_path / "x") == {}


def test_only_the_tensors_that_are_asked_for_are_read(tmp_path):
    write_tensors(tmp_path / "x", {"a": torch.zeros(2), "b": torch.ones(3)})
    assert read_tensors(tmp_path / "x", {"b", "c"}).keys() == {"b"}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"a": NaN}', "a"),
        ('{"a": {"b": -Infinity}}', "b"),
        ('{"a": [1, [1e999]]}', "a"),
        ('{"a": "\\ud800"}', "a"),
        ('{"\\udfff": 1}', "\udfff"),
        ('{"a": 1, "b": {}, "a": 1}', "a"),
    ],
)
def test_what_could_not_be_written_back_is_not_read(text, key, tmp_path):
    (tmp_path / "x").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_json(tmp_path / "x", ConfigError)
    assert caught.value.key == key and caught.value.path == tmp_path / "x"


@pytest.mark.parametrize("text", ["NaN", "[1, [Infinity]]", '["\\ud800"]', '"\\udc00"', "1e999"])
def test_neither_is_it_outside_an_object(text, tmp_path):
    (tmp_path / "x").write_text(text)
    with pytest.raises(ConfigError, match="which is not JSON") as caught:
        read_json(tmp_path / "x", ConfigError)
    assert caught.value.path == tmp_path / "x"


def test_json_of_every_kind_comes_back(tmp_path):
    value = {"a": [1, -2.5, True, None, "\u00e9\U0001f600\n"], "": {"b": []}}
    write_json(tmp_path / "x", value)
    assert read_json(tmp_path / "x") == value
    (tmp_path / "x").write_text(json.dumps(value))  # with pairs of surrogates, which are whole
    assert read_json(tmp_path / "x") == value


def test_json_is_read_up_to_its_limit_and_no_further(tmp_path):
    (tmp_path / "x").write_text("[" + " " * 98 + "]")
    assert read_json(tmp_path / "x", largest=100) == []
    with pytest.raises(MinibertError, match="100 bytes, and at most 99") as caught:
        read_json(tmp_path / "x", largest=99)
    assert "99" in str(caught.value) and "100" in str(caught.value)


def test_links_within_a_folder_are_followed_and_others_are_not(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "file").touch()
    (folder / "link").symlink_to("file")
    (folder / "out").symlink_to(tmp_path / "a-other")
    (tmp_path / "way").symlink_to("a")
    for home in (folder, tmp_path / "way"):  # the folder itself may be reached by a link
        assert inside(home, "link") == home / "link"
        with refused(MinibertError, "out") as caught:
            inside(home, "out")
        assert caught.value.path == home / "out" and caught.value.hint


@pytest.mark.parametrize("part", ["", "0_Transformer", "a/checkpoint-500"])
@pytest.mark.parametrize("moved", [False, True])
def test_a_snapshot_and_its_parts_may_link_to_the_blobs_of_the_cache(part, moved, tmp_path):
    folder = tmp_path / "cache" / "snapshots" / ("a" * 40) / part
    folder.mkdir(parents=True)
    blobs = tmp_path / ("big-disk/blobs-of-cache" if moved else "cache/blobs")
    (blobs / "deep").mkdir(parents=True)
    if moved:
        (tmp_path / "cache/blobs").symlink_to(blobs)
    (folder / "config.json").symlink_to(tmp_path / "cache/blobs/b1")
    assert inside(folder, "config.json") == folder / "config.json"
    for place in ("cache/refs", "other/blobs/b1", "cache/blobs/deep/b1", "cache/blobs"):
        (folder / "config.json").unlink()
        (folder / "config.json").symlink_to(tmp_path / place)
        with refused(MinibertError, "config.json"):
            inside(folder, "config.json")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_json(tmp_path / "x", 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_flush_to_disk", full)
    with pytest.raises(DiskError, match="No space left"):
        write_json(tmp_path / "x", 2)
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "x"):
        raise RuntimeError
    assert read_json(tmp_path / "x") == 1 and os.listdir(tmp_path) == ["x"]
