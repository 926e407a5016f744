"""The table of official checkpoints, and its comparison with a Hub on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from math import prod

import pytest

from minibert.study.official import official_checkpoints
from minibert.workbench.cli import main
from tests.io.hub_server import COMMIT, HubServer, files_of
from tests.workbench.conftest import VOCABULARY, save_model

VERIFY = """
import sys
from pathlib import Path
from minibert.io import bundled
from minibert.workbench.cli import main
bundled.official_table = lambda: Path(sys.argv[1])
sys.exit(main(["weights", "--verify", *sys.argv[2:]]))
"""


@pytest.mark.parametrize("entry", official_checkpoints(), ids=lambda entry: entry.id)
def test_the_sizes_of_the_table_add_up(entry):
    assert sum(map(prod, entry.shapes().values())) == entry.parameters
    assert entry.revision is None or (len(entry.revision) == 40 and int(entry.revision, 16))
    assert entry.sha256 is None or (len(entry.sha256) == 64 and int(entry.sha256, 16))


def test_what_is_not_in_the_table_is_refused(capsys):
    assert main(["weights", "--verify", "owner/none"]) == 2
    assert "owner/none is not in the table" in capsys.readouterr().err
    assert main(["weights"]) == 2 and main(["weights", "m", "--verify"]) == 2
    assert main(["weights", "--verify", "--revision", "v1"]) == 2
    assert "--revision" in capsys.readouterr().err


@pytest.mark.parametrize("case", ["ok", "sum", "shape", "parameters", "damaged", "not reachable"])
def test_a_hub_is_compared_with_the_table(case, tmp_path):
    from minibert import BertModel

    server = HubServer(files_of(save_model(tmp_path / "model", BertModel)))
    if case == "damaged":
        server.files["model.safetensors"] = b"\xff" * 200
    content = server.files["model.safetensors"]
    total = sum(prod(shape) for shape in _shapes(tmp_path / "model"))
    table = tmp_path / "official.toml"
    table.write_text(
        f"""[[checkpoint]]
id = "owner/{"missing" if case == "not reachable" else "tiny"}"
revision = "{COMMIT}"
family = "bert"
licence = "MIT"
parameters = {total + (case == "parameters")}
checked = true
sha256 = "{"0" * 64 if case == "sum" else hashlib.sha256(content).hexdigest()}"
config = {{ vocab_size = {len(VOCABULARY)}, hidden_size = 32, num_hidden_layers = 2,\
 num_attention_heads = 4, intermediate_size = {38 if case == "shape" else 37},\
 max_position_embeddings = 30 }}
"""
    )
    settings = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": server.endpoint}
    done = subprocess.run(
        [sys.executable, "-c", VERIFY, table, "--json"],
        env={**os.environ, **settings, "HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    server.close()
    assert done.returncode == (0 if case == "ok" else 1), done.stderr
    found = json.loads(done.stdout)
    expected = case if case in ("ok", "not reachable") else "differs"
    counts = {"ok": None, "differs": "1 differ from the table and 0", "not reachable": "0 differ"}
    if counts[expected] is None:
        assert not done.stderr
    else:
        assert f"Of 1 checkpoints {counts[expected]}" in done.stderr
    assert found["status"] == expected, found
    words = {"sum": "sha256 is", "shape": "38", "parameters": "parameters, not"}
    if case in words:
        assert words[case] in " ".join(found["what"])


def _shapes(folder):
    from minibert.io.files import read_header

    return [shape for shape, _ in read_header(folder / "model.safetensors").tensors.values()]
