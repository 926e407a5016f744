"""The cache: without a network, in part, or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from minibert import BertTokenizer
from tests.io import hub_server
from tests.io.hub.conftest import WEIGHTS
from tests.io.hub_server import COMMIT, OLD_COMMIT, files_of

ASK = ["resolve", "owner/tiny", WEIGHTS]
PINNED = [*ASK, COMMIT]
PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "home" / "hub"


@pytest.fixture
def whole(server, saved):
    """The server has a whole model."""
    BertTokenizer({piece: number for number, piece in enumerate(PIECES)}).save_pretrained(saved)
    server.files = files_of(saved)


# Without a network


def test_offline_a_cached_model_loads_without_a_socket(server, hub, whole):
    first = hub(["load_everything", "owner/tiny"])[0]
    server.requests.clear()
    loaded, calls = hub(["without_network"], ["load_everything", "owner/tiny"], ["calls"], HF_HUB_OFFLINE="1")
    assert loaded["sum"] == first["sum"] and loaded["revision"] == COMMIT
    assert not calls["calls"] and not server.requests


def test_a_pinned_commit_needs_no_network(server, hub, whole):
    load = ["load_with_tokenizer", "owner/tiny", COMMIT]
    first = hub(load)[0]
    server.requests.clear()
    loaded, calls = hub(["without_network"], load, ["calls"])
    assert loaded["sum"] == first["sum"]
    assert not calls["calls"] and not server.requests and not loaded["log"]


def test_a_branch_is_taken_from_the_cache_when_the_network_is_down(server, hub, whole):
    load = ["load_with_tokenizer", "owner/tiny"]
    first = hub(load)[0]
    loaded, calls = hub(["without_network"], load, ["calls"])
    assert loaded["sum"] == first["sum"] and loaded["revision"] == COMMIT
    assert calls["calls"] and "The copy in the cache is used" in loaded["log"]


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_offline_without_a_copy_names_the_cache(server, hub, cache, revision):
    found, calls = hub(["without_network"], [*ASK, revision], ["calls"], HF_HUB_OFFLINE="1")
    assert found["error"] == "HubError" and found["code"] == 1
    begin = f"There is no folder 'owner/tiny' here, and owner/tiny at revision '{revision}' is not"
    assert found["text"].startswith(begin)
    assert str(cache) in found["text"] and "HF_HUB_OFFLINE" in found["hint"]
    assert not calls["calls"] and not server.requests
    assert found["seconds"] < 10  # a hang guard: it takes a fraction of a second


def test_with_the_network_down_and_no_copy_that_is_what_is_said(hub):
    found = hub(["without_network"], ASK)[0]
    assert found["error"] == "HubError" and "no way to it on the network" in found["text"]


def test_offline_another_revision_is_not_good_enough(hub):
    found = hub(ASK, ["offline", True], [*ASK, OLD_COMMIT], [*ASK, "v1"])[1:]
    assert [one["error"] for one in found] == ["HubError"] * 2


def test_offline_none_of_the_files_is_no_copy(hub):
    found = hub(ASK, ["offline", True], ["resolve", "owner/tiny", ["tokenizer.json"]])[1]
    assert found["error"] == "HubError"


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_a_cache_that_another_tool_filled_will_do(hub, whole, revision):
    found = hub(["download_all", "owner/tiny"], ["offline", True], ["load", "owner/tiny", revision])
    assert found[0]["revision"] == COMMIT


def test_a_tag_and_a_branch_with_slashes_are_found_again(hub, monkeypatch):
    monkeypatch.setitem(hub_server.REVISIONS, "refs/pr/1", OLD_COMMIT)
    asks = [[*ASK, revision] for revision in ("v1", "refs/pr/1")]
    found = hub(*asks, ["offline", True], *asks)
    assert [one["revision"] for one in found] == [OLD_COMMIT] * 4


def test_main_moves_on(hub, monkeypatch):
    hub(ASK)
    monkeypatch.setitem(hub_server.REVISIONS, "main", OLD_COMMIT)
    found = hub(ASK, ["offline", True], ASK)
    assert [one["revision"] for one in found] == [OLD_COMMIT] * 2


# Damaged


def _blob(cache) -> Path:
    link = next(cache.rglob("model.safetensors"))
    return link.resolve()


def _ref(cache) -> Path:
    return next(path for path in cache.rglob("main") if path.parent.name == "refs")


# What is done to a whole cache -> what the error without a network says.
DAMAGES = {
    "a branch of a commit that is not there": (lambda c: _ref(c).write_text("c" * 40), "not whole"),
    "a branch of nothing": (lambda c: _ref(c).write_text(""), "not whole"),
    "a branch of another place": (lambda c: _ref(c).write_text("../../.."), "not whole"),
    "a branch of no text": (lambda c: _ref(c).write_bytes(b"\xff\xfe\0"), "not whole"),
    "a link to nothing": (lambda c: _blob(c).unlink(), "damaged in the cache"),
    "an empty file": (lambda c: _blob(c).write_bytes(b""), "damaged in the cache"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_says_so_offline_and_is_mended_online(server, hub, cache, damage):
    hub(ASK)
    do, words = DAMAGES[damage]
    do(cache)
    all_of_it = ["resolve", "owner/tiny", ["*"]]
    *broken, mended, after = hub(["offline", True], ASK, all_of_it, ["offline", False], ASK, ["offline", True], ASK)
    for found in broken:
        assert found["error"] == "HubError" and words in found["text"], found
        assert str(cache) in found["text"] and "with a network" in found["hint"]
    assert mended["files"] == after["files"]
    assert mended["files"]["model.safetensors"] == server.files["model.safetensors"].hex()


@pytest.mark.parametrize(
    ("ask", "content"),
    [(ASK, b""), (PINNED, b""), (ASK, b"half")],
    ids=["branch, empty", "commit, empty", "branch, half"],
)
def test_a_file_of_another_length_is_fetched_again(server, hub, cache, content, ask):
    hub(ASK)
    _blob(cache).write_bytes(content)
    found = hub(ask)[0]
    assert found["files"]["model.safetensors"] == server.files["model.safetensors"].hex()


def test_offline_half_a_file_is_found_when_it_is_read(hub, cache, whole):
    hub(["load", "owner/tiny"])
    blob = _blob(cache)
    blob.write_bytes(blob.read_bytes()[:-100])
    found = hub(["load", "owner/tiny"], HF_HUB_OFFLINE="1")[0]
    assert found["error"] == "CheckpointError" and "model.safetensors" in found["text"]


def test_a_cache_that_can_only_be_read_is_read(server, hub, cache):
    first = hub(ASK)[0]
    found = hub(["read_only", str(cache)], ASK, PINNED)
    assert [one["files"] for one in found] == [first["files"]] * 2


def test_a_cache_that_can_only_be_read_cannot_be_filled(hub, cache):
    cache.mkdir(parents=True)
    found = hub(["read_only", str(cache)], ASK)[0]
    assert found["error"] == "DiskError" and found["code"] == 1
    for words in (str(cache), "config.json of owner/tiny", "Read-only file system"):
        assert words in found["text"]
    assert "HF_HOME" in found["hint"]


def test_a_full_disk_is_called_that(server, hub, cache):
    found = hub(["full_disk"], ASK)[0]
    assert found["error"] == "DiskError"
    assert str(cache) in found["text"] and "No space left on device" in found["text"]
    assert not list(cache.rglob("*.incomplete"))
    offline, mended = hub(["offline", True], ASK, ["offline", False], ASK)
    assert offline["error"] == "HubError" and mended["revision"] == COMMIT


def test_a_file_in_the_place_of_the_cache(hub, cache):
    cache.parent.mkdir()
    cache.write_text("not a folder")
    found = hub(ASK, ["offline", True], ASK)
    assert [one["error"] for one in found] == ["DiskError", "HubError"]
    assert all(str(cache) in one["text"] for one in found)
