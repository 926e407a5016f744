"""Sentence vectors against transformers and sentence-transformers."""

from __future__ import annotations

import json
import random
import shutil

import numpy as np
import pytest
import torch
import transformers

from minibert import BertModel
from minibert.io.errors import CheckpointError, ConfigError
from minibert.io.source import open_source
from minibert.workbench.tasks.embed import Embedder
from minibert.workbench.tasks.sentence_recipe import sentence_recipe
from tests.conftest import BOUNDS, refused
from tests.workbench.conftest import mixed_texts, save_model

FP32 = BOUNDS["official model fp32"]


@pytest.fixture(scope="module")
def fifty_texts() -> list[str]:
    """Of 1 to 400 words, one of them past the 256 tokens that the folder allows."""
    draw = random.Random(4)
    words = [
        "naïve",
        "Tokyo",
        "東京",
        "rain",
        "the",
        "of",
        "unbelievable",
        "3.14",
        "don't",
        "e-mail",
        "@home",
        "tree",
        "...",
        "so",
    ]
    lengths = [1, 400, *(draw.randint(1, 60) for _ in range(47))]
    return [*(" ".join(draw.choices(words, k=length)) for length in lengths), " "]


def variant(minilm, folder, pooling=None, normalize=True, **limits):
    """The MiniLM folder with another pooling."""
    folder.mkdir()
    for path in minilm.iterdir():
        if path.suffix in (".json", ".txt", ".safetensors"):
            shutil.copy(path, folder)
    (folder / "1_Pooling").mkdir()
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    settings = {f"pooling_mode_{mode}": mode == pooling for mode in modes}
    settings["word_embedding_dimension"] = 384
    (folder / "1_Pooling/config.json").write_text(json.dumps(settings))
    modules = json.loads((minilm / "modules.json").read_text())
    (folder / "modules.json").unlink()
    (folder / "modules.json").write_text(json.dumps(modules[: 3 if normalize else 2]))
    if limits:
        (folder / "sentence_bert_config.json").unlink()
        (folder / "sentence_bert_config.json").write_text(json.dumps(limits))
    return folder


def their_vectors(folder, texts) -> np.ndarray:
    import sentence_transformers  # seconds to import, for this alone

    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    return model.encode(texts, show_progress_bar=False, batch_size=16)


def test_vectors_are_those_of_sentence_transformers(minilm, fifty_texts):
    with pytest.warns(UserWarning, match="1 of 50 texts had more than 256 tokens"):
        ours = Embedder.from_pretrained(minilm)(fifty_texts, batch_size=16)
    assert ours.shape == (50, 384) and ours.dtype == np.float32
    np.testing.assert_allclose(ours, their_vectors(minilm, fifty_texts), rtol=0, atol=FP32)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, rtol=0, atol=FP32)


@pytest.mark.parametrize("pooling, normalize", [("cls_token", True), ("max_tokens", True), ("mean_tokens", False)])
def test_other_poolings_are_those_of_sentence_transformers(minilm, fifty_texts, tmp_path, pooling, normalize):
    texts = fifty_texts[2:14]
    folder = variant(minilm, tmp_path / "model", pooling, normalize, max_seq_length=20)
    with pytest.warns(UserWarning, match="more than 20 tokens"):
        ours = Embedder.from_pretrained(folder)(texts)
    np.testing.assert_allclose(ours, their_vectors(folder, texts), rtol=0, atol=FP32)


def test_arguments_override_the_folder(minilm, tmp_path):
    texts = ["one", "a second text"]
    said = Embedder.from_pretrained(minilm, pooling="cls", normalize=False)(texts)
    folder = variant(minilm, tmp_path / "model", "cls_token", normalize=False)
    np.testing.assert_array_equal(said, Embedder.from_pretrained(folder)(texts))
    with refused(ConfigError, "pooling"):
        Embedder.from_pretrained(minilm, pooling="median")


def test_without_modules_json_vectors_are_plain_means(tiny):
    texts = mixed_texts()
    vectors = Embedder.from_pretrained(tiny)(texts, batch_size=3)
    model = transformers.BertModel.from_pretrained(tiny).eval()
    tokenizer = transformers.BertTokenizer.from_pretrained(tiny)
    for text, vector in zip(texts, vectors, strict=True):
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        np.testing.assert_allclose(vector, hidden.mean(dim=0).numpy(), rtol=0, atol=FP32)
    assert Embedder.from_pretrained(tiny)([]).shape == (0, 32)


def test_vectors_do_not_depend_on_the_batch(minilm, fifty_texts):
    embedder = Embedder.from_pretrained(minilm)
    texts = fifty_texts[2:10]
    alone = np.concatenate([embedder(text) for text in texts])
    np.testing.assert_allclose(embedder(texts), alone, rtol=0, atol=FP32)


def test_vectors_are_written_whole(tmp_path):
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    Embedder.write(tmp_path / "deep" / "vectors.npy", vectors)
    np.testing.assert_array_equal(np.load(tmp_path / "deep" / "vectors.npy"), vectors)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["vectors.npy"]


def modules(*kinds: str) -> str:
    return json.dumps([{"type": f"sentence_transformers.models.{kind}"} for kind in kinds])


@pytest.mark.parametrize(
    "written, pooling, key",
    [
        (modules("Transformer", "Pooling", "Dense"), {"pooling_mode": "mean"}, "type"),
        (modules("WordEmbeddings"), None, "type"),
        ('{"type": "Transformer"}', None, None),
        ("[", None, None),
        (modules("Transformer", "Pooling"), None, None),
        (modules("Pooling"), {"pooling_mode_mean_sqrt_len_tokens": True}, "pooling_mode"),
        (modules("Pooling"), {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "pooling_mode"),
        (modules("Pooling"), {"pooling_mode": "lasttoken"}, "pooling_mode"),
    ],
)
def test_unsupported_sentence_recipes_are_refused(tmp_path, written, pooling, key):
    (tmp_path / "modules.json").write_text(written)
    if pooling is not None:
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    with refused(CheckpointError, key):
        sentence_recipe(open_source(tmp_path))


def test_lowercasing_that_the_tokenizer_does_not_do_is_refused(tmp_path):
    folder = save_model(tmp_path / "model", BertModel)
    (folder / "modules.json").write_text(modules("Transformer"))
    (folder / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    upper, lower = Embedder.from_pretrained(folder)(["One Day", "one day"])
    np.testing.assert_array_equal(upper, lower)  # this tokenizer makes it
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with refused(CheckpointError, "do_lower_case"):
        Embedder.from_pretrained(folder)


def test_both_spellings_of_a_pooling(tmp_path):
    (tmp_path / "modules.json").write_text(modules("Transformer", "Pooling", "Normalize"))
    (tmp_path / "1_Pooling").mkdir()
    for settings in ({"pooling_mode": "cls"}, {"pooling_mode_cls_token": True}):
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(settings))
        recipe = sentence_recipe(open_source(tmp_path))
        assert (recipe.pooling, recipe.normalize, recipe.max_length) == ("cls", True, None)


@pytest.mark.parametrize(("stored", "longest"), [("128", 128), ("128.0", 128), ("null", None)])
def test_a_whole_number_of_tokens_in_any_spelling(stored, longest, tmp_path):
    (tmp_path / "modules.json").write_text(modules("Transformer"))
    limits = tmp_path / "sentence_bert_config.json"
    limits.write_text(f'{{"max_seq_length": {stored}}}')
    found = sentence_recipe(open_source(tmp_path)).max_length
    assert found == longest and type(found) is type(longest)
    for wrong in ("0", "0.0", "12.5", "-3", "true", '"128"', "[]"):
        limits.write_text(f'{{"max_seq_length": {wrong}}}')
        with refused(CheckpointError, "max_seq_length"):
            sentence_recipe(open_source(tmp_path))
