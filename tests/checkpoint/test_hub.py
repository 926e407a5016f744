"""The Hub: the real client against a server on loopback, one process a case.

The client reads its endpoint, cache and offline switch when it is imported, hence the processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minibert.checkpoint.hub import resolve
from minibert.errors import CheckpointError
from minibert.model import BertForSequenceClassification
from tests.checkpoint.conftest import random_model
from tests.checkpoint.hub_server import COMMIT, OLD_COMMIT, HubServer, files_of

TOKEN = "hf_thisisasecrettoken"
HANG = 60  # seconds; a case takes about one

SCRIPT = """
import json, sys, warnings
from minibert.checkpoint import hub
from minibert.errors import MinibertError
warnings.simplefilter("always")
found = []
for source, patterns, revision, kind in json.loads(sys.argv[1]):
    try:
        local = hub.resolve(source, patterns, revision=revision, repo_type=kind)
    except MinibertError as error:
        kind, code = type(error).__name__, error.exit_code
        found.append({"error": kind, "text": str(error), "code": code})
    else:
        folder = local.folder
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        found.append({"folder": str(folder), "revision": local.revision, "files": files})
print(json.dumps({"found": found}))
"""

LOAD = """
import json, sys
from minibert.errors import MinibertError
from minibert.model import BertForSequenceClassification
try:
    model = BertForSequenceClassification.from_pretrained(sys.argv[1])
except MinibertError as error:
    print(json.dumps({"error": type(error).__name__, "text": str(error)}))
else:
    total = sum(tensor.double().sum().item() for tensor in model.state_dict().values())
    print(json.dumps({"sum": total, "revision": model.load_report.revision}))
"""

FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights" * 1000,
    "vocab.txt": b"[PAD]\n",
    "data/train-00000-of-00001.parquet": b"rows",
    "pytorch_model.bin": b"pickle",
    "training_args.pkl": b"pickle",
    "modeling.py": b"code",
    "model.onnx": b"graph",
}
WEIGHTS = ("config.json", "model.safetensors", "model.safetensors.index.json")


@pytest.fixture
def server():
    server = HubServer(dict(FILES))
    yield server
    server.close()


@pytest.fixture
def run(server, tmp_path):
    """Runs a script in a process with a cache and a token of its own; gives what it printed."""

    def run(script: str, argument: str, **environment: str) -> dict:
        settings = {
            "HF_HOME": str(tmp_path / "hub_home"),
            "HF_ENDPOINT": server.endpoint,
            "HF_TOKEN": TOKEN,
            "HF_HUB_OFFLINE": "0",
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", script, argument],
            env={**os.environ, **settings, **environment},
            capture_output=True,
            text=True,
            timeout=HANG,
        )
        assert done.returncode == 0, done.stderr
        assert TOKEN not in done.stdout + done.stderr
        return {**json.loads(done.stdout.splitlines()[-1]), "stderr": done.stderr}

    return run


@pytest.fixture
def fetch(run):
    def fetch(source, patterns=WEIGHTS, revision=None, kind="model", **environment) -> dict:
        printed = run(SCRIPT, json.dumps([[source, patterns, revision, kind]]), **environment)
        return {**printed["found"][0], "stderr": printed["stderr"]}

    return fetch


def test_only_the_files_that_match_are_fetched_and_pinned(server, fetch):
    found = fetch("owner/tiny")
    assert found["revision"] == COMMIT
    assert found["files"] == ["config.json", "model.safetensors"]
    assert server.fetched() == {"config.json", "model.safetensors"}
    content = [path for _, path in server.requests if "/resolve/" in path]
    assert content and all(COMMIT in path for path in content)


def test_a_pickle_is_not_fetched_even_if_it_matches(server, fetch):
    found = fetch("owner/tiny", ["*"])
    assert not {"pytorch_model.bin", "training_args.pkl"} & (server.fetched() | {*found["files"]})


def test_a_tag_is_resolved_to_its_commit(run):
    cases = [["owner/tiny", WEIGHTS, revision, "model"] for revision in ("v1", OLD_COMMIT)]
    found = run(SCRIPT, json.dumps(cases))["found"]
    assert [one["revision"] for one in found] == [OLD_COMMIT, OLD_COMMIT]


def test_a_data_set_with_files_in_a_folder(server, fetch):
    found = fetch("owner/tiny", ["data/*.parquet"], kind="dataset")
    assert found["files"] == ["data", "data/train-00000-of-00001.parquet"]
    assert server.fetched() == {"data/train-00000-of-00001.parquet"}
    assert all(path.startswith(("/datasets/", "/api/")) for _, path in server.requests)


def test_offline_uses_the_cache_and_asks_nobody(server, fetch):
    fetch("owner/tiny")
    server.requests.clear()
    found = fetch("owner/tiny", HF_HUB_OFFLINE="1")
    assert found["revision"] == COMMIT and found["files"] == ["config.json", "model.safetensors"]
    assert not server.requests


def test_offline_without_a_copy_names_the_cache(server, fetch, tmp_path):
    found = fetch("owner/tiny", HF_HUB_OFFLINE="1")
    assert found["error"] == "HubError" and found["code"] == 1
    assert found["text"].startswith("There is no folder 'owner/tiny' here, and owner/tiny is not")
    assert str(tmp_path / "hub_home") in found["text"]
    assert not server.requests


def test_the_cache_stands_in_for_a_hub_that_cannot_be_reached_and_says_so(server, fetch):
    fetch("owner/tiny")
    found = fetch("owner/tiny", HF_ENDPOINT="http://127.0.0.1:9")
    assert found["revision"] == COMMIT
    assert "refused the connection" in found["stderr"] and "cache" in found["stderr"]


REFUSALS = [
    ("owner/gated", None, ["is gated", "Ask for access", "HF_TOKEN"]),
    ("owner/private", None, ["has no model owner/private", "private"]),
    (
        "owner/missing",
        None,
        ["no folder 'owner/missing' here, and http", "has no model owner/missing"],
    ),
    ("owner/refused", None, ["refused access", "403", "HF_TOKEN"]),
    ("owner/busy", None, ["too many requests", "7 seconds"]),
    ("owner/broken", None, ["status 500", "Try again later"]),
    ("owner/down", None, ["status 503", "Try again later"]),
    ("owner/tiny", "nope", ["owner/tiny", "no revision 'nope'"]),
]


def test_each_refusal_has_its_own_sentence(server, run):
    cases = [[source, WEIGHTS, revision, "model"] for source, revision, _ in REFUSALS]
    found = run(SCRIPT, json.dumps(cases))["found"]
    assert len({one["text"] for one in found}) == len(REFUSALS)
    for one, (_, _, words) in zip(found, REFUSALS, strict=True):
        assert one["error"] == "HubError" and one["code"] == 1
        for word in [*words, server.endpoint]:
            assert word in one["text"], one["text"]


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("http://127.0.0.1:9", "refused the connection"),
        ("http://no-such-host.invalid", "(DNS)"),
        ("https", "(TLS)"),
    ],
)
def test_each_network_failure_has_its_own_sentence(endpoint, words, server, fetch):
    endpoint = server.endpoint.replace("http", "https") if endpoint == "https" else endpoint
    found = fetch("owner/tiny", HF_ENDPOINT=endpoint)
    assert found["error"] == "HubError"
    assert found["text"].startswith("There is no folder 'owner/tiny' here, and owner/tiny could")
    assert words in found["text"] and endpoint in found["text"]


def test_a_repository_without_the_files_says_which(fetch):
    found = fetch("owner/tiny", ["tokenizer.json"])
    assert found["error"] == "CheckpointError" and "tokenizer.json" in found["text"]


def test_a_download_that_is_cut_is_no_download(server, fetch):
    server.cut_body = True
    found = fetch("owner/tiny", ["model.safetensors"])
    assert found.get("error") == "HubError", found
    offline = fetch("owner/tiny", ["model.safetensors"], HF_HUB_OFFLINE="1")
    assert offline.get("error") == "HubError", offline
    server.cut_body = False
    found = fetch("owner/tiny", ["model.safetensors"])
    content = Path(found["folder"], "model.safetensors").read_bytes()
    assert content == FILES["model.safetensors"]


# Whole models


def test_a_model_loads_from_the_hub(server, run, saved):
    server.files = {**files_of(saved), "pytorch_model.bin": b"pickle"}
    found = run(LOAD, "owner/tiny")
    model = random_model("bert", "BertForSequenceClassification")
    expected = sum(tensor.double().sum().item() for tensor in model.state_dict().values())
    assert found["sum"] == expected and found["revision"] == COMMIT
    assert server.fetched() == {"config.json", "model.safetensors"}


def test_a_model_in_shards_loads_from_the_hub(server, run, tmp_path):
    from tests.checkpoint.conftest import reference_of

    model = random_model("bert", "BertForSequenceClassification")
    reference_of(model).save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    files = files_of(tmp_path / "sharded")
    server.files = {**files, "model-of-another-kind.safetensors": b"not named by the index"}
    assert "sum" in run(LOAD, "owner/tiny")
    assert server.fetched() == set(files)
    assert "sum" in run(LOAD, "owner/tiny", HF_HUB_OFFLINE="1")


def test_a_repository_of_pickles_says_what_to_do(server, run, saved):
    config = files_of(saved)["config.json"]
    server.files = {"config.json": config, "pytorch_model.bin": b"pickle"}
    found = run(LOAD, "owner/tiny")
    assert found["error"] == "CheckpointError"
    assert "pytorch_model.bin" in found["text"] and "refs/pr/1" in found["text"]
    assert server.fetched() == {"config.json"}


# Folders


def test_a_folder_is_taken_as_it_is(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    local = resolve(tmp_path, WEIGHTS)
    assert (local.folder, local.revision, local.listing) == (tmp_path, None, ("config.json",))
    with pytest.raises(CheckpointError, match="no revision 'v1'"):
        resolve(tmp_path, WEIGHTS, revision="v1")


@pytest.mark.parametrize(
    "source", ["./nothing", "/no/such/folder", "a/b/c", "../up", "C:\\models", "~/no-model"]
)
def test_a_path_that_does_not_exist_is_not_looked_for_on_the_hub(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no folder"):
        resolve(source, WEIGHTS)


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is a file"):
        resolve(tmp_path / "model.safetensors", WEIGHTS)


def test_a_run_folder_stands_for_the_model_in_it(saved, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    with pytest.raises(CheckpointError, match="has not finished: there is no model in it"):
        resolve(run, WEIGHTS)
    saved.rename(run / "model")
    assert resolve(run, WEIGHTS).folder == run / "model"
    assert resolve(str(run), WEIGHTS).listing == ("config.json", "model.safetensors")
    BertForSequenceClassification.from_pretrained(run)
    assert resolve(run, ("*.csv",), repo_type="dataset").folder == run


def test_a_folder_with_a_config_of_its_own_is_not_a_run(saved):
    (saved / "model").mkdir()
    (saved / "model" / "config.json").write_text("{}")
    assert resolve(saved, WEIGHTS).folder == saved


@pytest.mark.parametrize(("kind", "words"), [("model", "the model"), ("dataset", "the data set")])
def test_an_empty_name_is_not_the_current_folder(kind, words):
    with pytest.raises(CheckpointError, match=f"name of {words} is empty") as caught:
        resolve("", WEIGHTS, repo_type=kind)
    assert caught.value.hint is not None
