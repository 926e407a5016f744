"""Downloads that break: never a file that looks whole and is not, and the next call completes.

Long form, every fault twenty times and twenty races: pytest -m full tests/checkpoint/hub
"""

from __future__ import annotations

import random

import pytest

from tests.io import hub_server
from tests.io.conftest import random_model
from tests.io.hub.conftest import WEIGHTS
from tests.io.hub_server import COMMIT, OLD_COMMIT, files_of

PLAIN, LARGE = "vocab.txt", "model.safetensors"
CUT, LIES = "the connection was cut", "what came is not what the Hub lists, and was deleted"


def _stops_at(part):
    def set_on(server, name, body):
        server.stops_at = int(part * len(body))

    return set_on


def _sends(change):
    def set_on(server, name, body):
        server.changed = change

    return set_on


def _flipped(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1])


def _of_another_length(server, name, body):
    """All that the server says of it agrees, but for the list."""
    server.changed = lambda body: body + b"x"
    server.lengths[name] = len(body) + 1


def _says_another_length(server, name, body):
    server.lengths[name] = len(body) + 1


def _says_another_etag(server, name, body):
    server.etags[name] = "0" * 40


# What goes wrong, and what is said then; None: nothing, the file is whole after all.
FAULTS = {
    "cut at 0 %": (_stops_at(0), CUT),
    "cut at 1 %": (_stops_at(0.01), CUT),
    "cut at 50 %": (_stops_at(0.5), CUT),
    "cut at 99 %": (_stops_at(0.99), CUT),
    "cut at 100 %": (_stops_at(1), None),
    "too short": (_sends(lambda body: body[:-1]), LIES),
    "too long": (_sends(lambda body: body + b"x"), LIES),
    "too long, and said so": (_of_another_length, LIES),
    "empty": (_sends(lambda body: b""), LIES),
    "another length said": (_says_another_length, LIES),
    "another content": (_sends(_flipped), LIES),
    "another etag": (_says_another_etag, None),
}


@pytest.mark.parametrize("name", [PLAIN, LARGE])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_download_that_breaks_is_no_download(server, hub, tmp_path, fault, name):
    _break_and_mend(server, hub, tmp_path, fault, name, seed=0)


@pytest.mark.full
@pytest.mark.parametrize("name", [PLAIN, LARGE])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("seed", range(20))
def test_a_download_that_breaks_is_no_download_twenty_times(server, hub, tmp_path, fault, name, seed):
    _break_and_mend(server, hub, tmp_path, fault, name, seed)


def _break_and_mend(server, hub, tmp_path, fault, name, seed):
    body = random.Random(seed).randbytes(100 + 7919 * seed)
    server.files[name] = body
    set_on, words = FAULTS[fault]
    set_on(server, name, body)
    ask = ["resolve", "owner/tiny", [name]]
    pinned = [*ask, COMMIT]
    broken, *offline, mended = hub(ask, ["offline", True], ask, pinned, ["offline", False], ["heal"], ask)
    if words is None:
        assert all(found["files"] == {name: body.hex()} for found in (broken, *offline))
    else:
        assert broken["error"] == "HubError" and words in broken["text"], broken
        assert f"{name} of owner/tiny at revision 'main'" in broken["text"]
        assert [found["error"] for found in offline] == ["HubError"] * 2
    assert mended["files"] == {name: body.hex()}
    blobs = [path for path in (tmp_path / "home").rglob("*") if path.parent.name == "blobs"]
    assert [path.read_bytes() for path in blobs] == [body]  # and nothing that was left over


@pytest.mark.parametrize("name", [PLAIN, LARGE])
def test_a_process_that_is_killed_leaves_nothing_that_looks_whole(server, hub, name):
    body = random.Random(0).randbytes(100_000)
    server.files[name] = body
    ask = ["resolve", "owner/tiny", [name]]
    hub(["die_while_writing"], ask, code=-9)
    assert server.fetched() == {name}
    offline, mended = hub(["offline", True], ask, ["offline", False], ask)
    assert offline["error"] == "HubError"
    assert mended["files"] == {name: body.hex()}


def test_two_files_of_one_etag_are_not_one_file(server, hub):
    """The client keeps files by their etags, so that the second would be the first."""
    server.etags = dict.fromkeys(WEIGHTS, "0" * 40)
    ask = ["resolve", "owner/tiny", WEIGHTS]
    broken, mended = hub(ask, ["heal"], ask)
    assert LIES in broken["text"] and "model.safetensors" in broken["text"]
    expected = {name: server.files[name].hex() for name in WEIGHTS[:2]}
    assert mended["files"] == expected


def test_a_file_of_another_commit_is_not_used(server, fetch, monkeypatch):
    headers = {"X-Repo-Commit": OLD_COMMIT, "ETag": '"1"'}
    monkeypatch.setitem(hub_server.ANSWERS, "moved", (200, headers))
    server.answers = {"/config.json": "moved"}
    found = fetch(patterns=["config.json"])
    assert found["error"] == "HubError" and "not one of a Hub" in found["text"]


def test_eight_processes_share_a_cold_cache(server, hub, saved):
    _race(server, hub, saved)


@pytest.mark.full
@pytest.mark.parametrize("round", range(20))
def test_eight_processes_share_a_cold_cache_twenty_times(server, hub, saved, round):
    _race(server, hub, saved)


def _race(server, hub, saved):
    server.files = files_of(saved)
    model = random_model("bert", "BertForSequenceClassification")
    expected = sum(tensor.double().sum().item() for tensor in model.state_dict().values())
    ask = ["resolve", "owner/tiny", WEIGHTS]
    found = hub(["load", "owner/tiny"], ask, processes=8)
    assert [loaded["sum"] for loaded, _ in found] == [expected] * 8
    contents = {name: server.files[name].hex() for name in WEIGHTS[:2]}
    assert [resolved["files"] for _, resolved in found] == [contents] * 8
