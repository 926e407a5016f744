"""The Hub and folders: what is fetched, what is refused, what is used as it is."""

from __future__ import annotations

import pytest

from minibert import BertForSequenceClassification, BertTokenizer
from minibert.io.errors import CheckpointError
from minibert.io.source import open_source
from tests.io.conftest import random_model, reference_of
from tests.io.hub.conftest import WEIGHTS
from tests.io.hub_server import COMMIT, OLD_COMMIT, files_of

# Files of real repositories; the first row alone is what a model of this kind is made of.
MODEL = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
OTHERS = (
    *(".gitattributes", "README.md", "LICENSE", "setup.py", "run.sh", "tf_model.h5"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json", "training_args.bin", "model.ckpt"),
    *("model.pickle", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.pkl"),
    *("flax_model.msgpack", "rust_model.ot", "coreml/model.mlmodel", "model.safetensors.py"),
    *("model.onnx", "onnx/model.onnx", "onnx/model_quantized.onnx"),
    *("modeling_bert.py", "configuration_bert.py", "tokenization_bert.py"),
)

# What a repository, a revision or a listed file may be called to lead elsewhere.
ELSEWHERE = {
    "parent": "../x",
    "grandparent": "a/../../x",
    "absolute": "/no/such/x",
    "NUL": "a\0b",
    "line": "a\nb",
    "backslash": "..\\x",
    "drive": "C:\\x",
    "drive with a slash": "C:/x",
    "UNC": "\\\\server\\share",
    "two slashes": "//server/share",
    "long": "x" * 300,
}


def test_only_the_files_that_match_are_fetched_and_pinned(server, fetch):
    found = fetch()
    assert found["revision"] == COMMIT
    assert list(found["files"]) == ["config.json", "model.safetensors"]
    assert server.fetched() == {"config.json", "model.safetensors"}
    content = [path for _, path in server.requests if "/resolve/" in path]
    assert content and all(COMMIT in path for path in content)


def test_of_thirty_files_a_model_is_five(server, hub, saved):
    pieces = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    BertTokenizer({piece: number for number, piece in enumerate(pieces)}).save_pretrained(saved)
    files = files_of(saved)
    server.files = {name: files.get(name, b"never opened") for name in (*MODEL, *OTHERS)}
    assert len(server.files) == 30
    assert "sum" in hub(["load_everything", "owner/tiny"])[0]
    assert server.fetched() == set(MODEL)
    named = {path.split("?")[0].split(f"/{COMMIT}/")[-1] for _, path in server.requests}
    assert not {*OTHERS} & named  # not even their size was asked for


def test_a_pickle_is_not_fetched_even_if_it_matches(server, fetch):
    found = fetch(patterns=["*"])
    assert not {"pytorch_model.bin", "training_args.pkl"} & (server.fetched() | {*found["files"]})


def test_a_tag_is_resolved_to_its_commit(hub):
    cases = [["resolve", "owner/tiny", WEIGHTS, revision] for revision in ("v1", OLD_COMMIT)]
    assert [found["revision"] for found in hub(*cases)] == [OLD_COMMIT, OLD_COMMIT]


def test_a_data_set_with_files_in_a_folder(server, fetch):
    found = fetch(patterns=["data/*.parquet"], kind="dataset")
    assert found["files"] == {"data/train-00000-of-00001.parquet": b"rows".hex()}
    assert server.fetched() == {"data/train-00000-of-00001.parquet"}
    asked = [path for method, path in server.requests if not path.startswith("/large/")]
    assert all(path.startswith(("/datasets/", "/api/")) for path in asked)


def test_a_repository_without_the_files_says_which(fetch):
    found = fetch(patterns=["tokenizer.json"])
    assert found["error"] == "CheckpointError" and "tokenizer.json" in found["text"]


# Names that lead elsewhere


@pytest.mark.parametrize("source", ["./x", "~nobody-of-that-name/x", "a/b/c", "a--b", "x.git", *ELSEWHERE.values()])
def test_what_is_no_id_is_not_looked_for_on_the_hub(server, hub, source, tmp_path):
    opened, found = hub(["opened_beside", str(tmp_path)], ["resolve", source, WEIGHTS])
    assert found["error"] == "CheckpointError" and "no folder" in found["text"]
    assert "owner/name" in found["hint"] and found["text"].isprintable()
    assert not server.requests and not opened["opened"]


@pytest.mark.parametrize("revision", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_revision_that_leads_elsewhere_is_refused(server, hub, revision, tmp_path):
    opened, found = hub(["opened_beside", str(tmp_path)], ["resolve", "owner/tiny", WEIGHTS, revision])
    assert found["error"] == "CheckpointError" and found["text"].isprintable()
    assert f"{revision!r} is not a revision of owner/tiny" in found["text"]
    assert not server.requests and not opened["opened"]


@pytest.mark.parametrize("revision", ["v1.0+cpu", "refs/pr/1", "feature/a_b-c", "é"])
def test_an_odd_revision_is_asked_for(server, fetch, revision):
    assert "there is no revision" in fetch(revision=revision)["text"]
    assert server.requests


@pytest.mark.parametrize("name", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_listed_name_that_leads_elsewhere_is_refused(server, hub, name, tmp_path):
    server.listed = [name]
    opened, found = hub(["opened_beside", str(tmp_path)], ["resolve", "owner/tiny", ["*"]])
    assert found["error"] == "CheckpointError" and found["text"].isprintable()
    assert repr(name) in found["text"]
    assert not server.fetched() and not opened["opened"]


def test_a_name_that_leads_elsewhere_harms_nobody_who_does_not_ask_for_it(server, fetch):
    server.listed = list(ELSEWHERE.values())
    assert list(fetch()["files"]) == ["config.json", "model.safetensors"]


# Whole models


def test_a_model_loads_from_the_hub(server, hub, saved):
    server.files = {**files_of(saved), "pytorch_model.bin": b"pickle"}
    found = hub(["load", "owner/tiny"])[0]
    model = random_model("bert", "BertForSequenceClassification")
    expected = sum(tensor.double().sum().item() for tensor in model.state_dict().values())
    assert found["sum"] == expected and found["revision"] == COMMIT
    assert server.fetched() == {"config.json", "model.safetensors"}


def test_a_model_in_shards_loads_from_the_hub(server, hub, tmp_path):
    model = random_model("bert", "BertForSequenceClassification")
    reference_of(model).save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    files = files_of(tmp_path / "sharded")
    server.files = {**files, "model-of-another-kind.safetensors": b"not named by the index"}
    assert "sum" in hub(["load", "owner/tiny"])[0]
    assert server.fetched() == set(files)
    assert "sum" in hub(["load", "owner/tiny"], HF_HUB_OFFLINE="1")[0]


def test_a_repository_of_pickles_says_what_to_do_each_time(server, hub, saved):
    config = files_of(saved)["config.json"]
    server.files = {"config.json": config, "pytorch_model.bin": b"pickle"}
    for found in hub(*[["load", "owner/tiny", COMMIT]] * 2):
        assert found["error"] == "CheckpointError"
        assert "pytorch_model.bin" in found["text"] and "refs/pr/1" in found["text"]
    assert server.fetched() == {"config.json"}


# Folders


def test_a_folder_is_taken_as_it_is(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    local = open_source(tmp_path)
    assert (local.folder, local.revision, local.listing) == (tmp_path, None, ("config.json",))
    with pytest.raises(CheckpointError, match="no revision 'v1'"):
        open_source(tmp_path, "v1")


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is a file"):
        open_source(tmp_path / "model.safetensors")


def test_a_run_folder_stands_for_the_model_in_it(saved, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    with pytest.raises(CheckpointError, match="has not finished: there is no model in it"):
        open_source(run)
    saved.rename(run / "model")
    assert open_source(run).folder == run / "model"
    assert open_source(str(run)).listing == ("config.json", "model.safetensors")
    BertForSequenceClassification.from_pretrained(run)
    assert open_source(run, kind="dataset").folder == run


def test_a_folder_with_a_config_of_its_own_is_not_a_run(saved):
    (saved / "model").mkdir()
    (saved / "model" / "config.json").write_text("{}")
    assert open_source(saved).folder == saved


@pytest.mark.parametrize(("kind", "words"), [("model", "the model"), ("dataset", "the data set")])
def test_an_empty_name_is_not_the_current_folder(kind, words):
    with pytest.raises(CheckpointError, match=f"name of {words} is empty") as caught:
        open_source("", kind=kind)
    assert caught.value.hint is not None
