"""Cached features against transformers' hidden states."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
import transformers

from minibert import BertModel
from minibert.data import Example
from minibert.io.errors import ConfigError, DataError
from minibert.workbench.data.corpora import read
from minibert.workbench.tasks import features as module
from minibert.workbench.tasks.embed import Embedder
from minibert.workbench.tasks.features import cache_folder, extract_features
from tests.conftest import BOUNDS
from tests.workbench.conftest import save_model

TEXTS = ["the sky was happy", "so", "a very green tree is under the rain and the day", "", "calm"]


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Three layers with a pooler, which no hidden state goes through."""
    folder = tmp_path_factory.mktemp("bare") / "model"
    return save_model(folder, BertModel, num_hidden_layers=3)


def embed_as(monkeypatch, vectors):
    """Puts a function of the texts in the place of running the model."""
    monkeypatch.setattr(Embedder, "__call__", lambda _, texts, **__: vectors(texts))


def never(texts):
    raise AssertionError("the model was run")


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_every_layer_and_pooling_equals_transformers(bare, tokenizer, pooling):
    reference = transformers.AutoModel.from_pretrained(bare).eval()
    inputs = tokenizer(TEXTS)
    with torch.no_grad():
        states = reference(**inputs, output_hidden_states=True).hidden_states
    mask = inputs["attention_mask"].bool().unsqueeze(-1)
    for layer in range(-4, 4):
        hidden = states[layer]
        expected = {
            "cls": hidden[:, 0],
            "mean": (hidden * mask).sum(1) / mask.sum(1),
            "max": hidden.masked_fill(~mask, -torch.inf).amax(1),
        }[pooling]
        found = extract_features(bare, TEXTS, layer=layer, pooling=pooling, batch_size=2)
        assert found.dtype == np.float32 and found.shape == (5, 32)
        assert np.abs(found - expected.numpy()).max() < BOUNDS["official model fp32"]


def test_a_second_call_reads_the_file_and_runs_no_model(bare, cache, monkeypatch):
    first = extract_features(bare, TEXTS)
    [path] = cache.iterdir()
    before = path.read_bytes()
    embed_as(monkeypatch, never)
    assert np.array_equal(extract_features(bare, TEXTS, cache=cache), first)
    assert path.read_bytes() == before
    examples = [Example(text, label=row) for row, text in enumerate(TEXTS)]
    assert np.array_equal(extract_features(bare, examples), first)  # labels are ignored


def test_without_a_cache_nothing_is_written_or_read(bare, cache, monkeypatch):
    first = extract_features(bare, TEXTS, cache=False)
    assert not cache.exists()
    assert np.array_equal(extract_features(bare, TEXTS), first)
    embed_as(monkeypatch, lambda texts: np.zeros((1, 1), np.float32))
    assert extract_features(bare, TEXTS, cache=False).shape == (1, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"layer": 1},
        {"pooling": "mean"},
        {"max_length": 5},
        {"precision": "bf16"},
        {"texts": TEXTS[::-1]},
        {"texts": TEXTS[:4]},
        {"texts": [*TEXTS[:-1], "calm."]},
        {"texts": [Example(text, "so") for text in TEXTS]},
        {"file": "vocab.txt"},
        {"file": "model.safetensors"},
        {"version": 2},
    ],
    ids=str,
)
def test_all_that_determines_the_features_is_in_the_file_name(bare, cache, tmp_path, monkeypatch, changes):
    """The numbers themselves are left out, so that only the name can differ."""
    embed_as(monkeypatch, lambda texts: np.zeros((len(texts), 2), np.float32))
    folder = shutil.copytree(bare, tmp_path / "copy")
    extract_features(folder, TEXTS)
    extract_features(bare, TEXTS)  # the place of the model does not matter
    assert len(list(cache.iterdir())) == 1
    changes = dict(changes)
    if "file" in changes:
        path = folder / changes.pop("file")
        content = path.read_bytes()
        text = path.suffix == ".txt"
        other = content.replace(b"berlin", b"boston") if text else content[:-1] + b"\0"
        path.write_bytes(other)
    if "version" in changes:
        monkeypatch.setattr(module, "VERSION", changes.pop("version"))
    extract_features(folder, **{"texts": TEXTS, **changes})
    assert len(list(cache.iterdir())) == 2


def test_a_pair_and_the_joined_text_have_different_features(bare, cache, monkeypatch):
    embed_as(monkeypatch, lambda texts: np.zeros((len(texts), 2), np.float32))
    for pair in (("so", "calm"), ("so calm", ""), ("so", "calm day")):
        extract_features(bare, [Example(*pair)])
    assert len(list(cache.iterdir())) == 3


def cut(content: bytes) -> bytes:
    return content[:-5]


def flipped(content: bytes) -> bytes:
    return content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]


@pytest.mark.parametrize("damage", [cut, flipped, lambda _: b"", lambda content: content[40:]])
def test_a_damaged_file_is_computed_again_with_a_warning(bare, cache, damage):
    first = extract_features(bare, TEXTS)
    [path] = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with pytest.warns(UserWarning, match=path.name):
        again = extract_features(bare, TEXTS)
    assert np.array_equal(again, first) and path.read_bytes() == whole


def test_a_file_with_the_content_of_another_is_computed_again(bare, cache):
    extract_features(bare, TEXTS)
    [path] = cache.iterdir()
    extract_features(bare, TEXTS[::-1])
    [other] = set(cache.iterdir()) - {path}
    shutil.copy(other, path)
    with pytest.warns(UserWarning, match="not what was written"):
        extract_features(bare, TEXTS)


def test_a_cache_that_cannot_be_written_is_a_warning(bare, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="not cached"):
        assert extract_features(bare, TEXTS, cache=tmp_path / "file").shape == (5, 32)


def test_the_cache_folder(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache" / "features"
    monkeypatch.delenv("MINIBERT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "minibert" / "features"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "minibert" / "features"


@pytest.mark.parametrize("layer", [4, -5])
def test_a_layer_that_does_not_exist_is_refused(bare, layer):
    with pytest.raises(ConfigError) as caught:
        extract_features(bare, TEXTS, layer=layer)
    assert caught.value.key == "layer"


def test_an_unknown_pooling_words_and_no_texts_are_refused(bare, tmp_path):
    with pytest.raises(ConfigError) as caught:
        extract_features(bare, TEXTS, pooling="sum")
    assert caught.value.key == "pooling"
    path = tmp_path / "words.conll"
    path.write_text("so\tO\n\n")
    for texts, key in ((read(path), "0"), ([], "texts")):
        with pytest.raises(DataError) as caught:
            extract_features(bare, texts)
        assert caught.value.key == key
