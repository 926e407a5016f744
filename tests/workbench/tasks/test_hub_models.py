"""Every task on a bare model of the Hub: the real client against a server on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from minibert import BertForSequenceClassification
from tests.io import hub_server
from tests.io.hub_server import COMMIT, OLD_COMMIT, HubServer, files_of
from tests.workbench.conftest import MOODS, save_model


class MovingHub(HubServer):
    """A Hub on which `main` moves on as soon as a config.json has been fetched."""

    def answer(self, request):
        super().answer(request)
        if request.command == "GET" and request.path.endswith("/config.json"):
            hub_server.REVISIONS["main"] = OLD_COMMIT


@pytest.fixture
def served(monkeypatch):
    """Starts a Hub with the files of a folder as owner/tiny."""
    servers = []
    monkeypatch.setitem(hub_server.REVISIONS, "main", COMMIT)

    def serve(folder, kind=HubServer):
        servers.append(kind(files_of(folder)))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


def run(server, tmp_path, *arguments) -> str:
    """A command in a process, since the client reads its settings when it is imported."""
    settings = {
        "HF_HOME": str(tmp_path / "hub_home"),
        "HF_ENDPOINT": server.endpoint,
        "HF_HUB_OFFLINE": "0",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "minibert", *map(str, arguments)],
        env={**os.environ, **settings},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return save_model(
        tmp_path_factory.mktemp("classifier") / "model", BertForSequenceClassification, id2label=dict(enumerate(MOODS))
    )


@pytest.mark.parametrize("name", ["embed", "predict", "fill-mask", "tokenize", "weights"])
def test_a_bare_model_of_the_hub_can_be_fine_tuned(served, tiny, classifier, tmp_path, name):
    """config.json, weights and vocabulary alone, as most models of the Hub are."""
    server = served(classifier if name == "predict" else tiny)
    texts = [] if name == "weights" else ["one [MASK] day"]
    output = run(server, tmp_path, name, "owner/tiny", *texts, "--json")
    assert json.loads(output)


@pytest.mark.parametrize("name", ["embed", "predict", "evaluate", "train"])
def test_all_files_are_of_one_commit(served, tiny, classifier, moods, tmp_path, name):
    server = served(classifier if name in ("predict", "evaluate") else tiny, MovingHub)
    arguments = {
        "evaluate": ["owner/tiny", moods / "test.csv"],
        "train": ["--model", "owner/tiny", "--train", moods / "test.csv", "--epochs", "1"],
    }
    run(server, tmp_path, name, *arguments.get(name, ["owner/tiny", "one [MASK] day"]))
    assert hub_server.REVISIONS["main"] == OLD_COMMIT  # it has moved on meanwhile
    snapshots = (tmp_path / "hub_home").glob("hub/models--owner--tiny/snapshots/*")
    assert [path.name for path in snapshots] == [COMMIT]
