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
    folders = {"Transformer": "", "Pooling": "1_Pooling"}
    listed = [(kind, folders.get(kind, f"{place}_{kind}")) for place, kind in enumerate(kinds)]
    return json.dumps([{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in listed])


def plain_recipe(folder, **files):
    """The files of a mean over tokens, and others by the names of their JSON files."""
    (folder / "modules.json").write_text(modules("Transformer", "Pooling"))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "written, pooling, key",
    [
        (modules("Transformer", "Pooling", "LSTM"), {"pooling_mode": "mean"}, "type"),
        (modules("Transformer", "Normalize", "Pooling"), {"pooling_mode": "mean"}, "type"),
        (modules("WordEmbeddings"), None, "type"),
        (modules("Transformer"), None, "type"),
        ('{"type": "Transformer"}', None, None),
        ("[", None, None),
        (modules("Transformer", "Pooling"), None, None),
        (modules("Transformer", "Pooling"), {"pooling_mode_mean_sqrt_len_tokens": True}, "pooling_mode"),
        (modules("Transformer", "Pooling"), {"pooling_mode": ["mean", "max"]}, "pooling_mode"),
        (modules("Transformer", "Pooling"), {"pooling_mode": "lasttoken"}, "pooling_mode"),
        (
            modules("Transformer", "Pooling"),
            {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
            "pooling_mode",
        ),
    ],
)
def test_unsupported_sentence_recipes_are_refused(tmp_path, written, pooling, key):
    (tmp_path / "modules.json").write_text(written)
    if pooling is not None:
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    with refused(CheckpointError, key):
        sentence_recipe(open_source(tmp_path))


@pytest.mark.parametrize(
    "file, content, key",
    [
        ("config_sentence_transformers", {"model_type": "SparseEncoder"}, "model_type"),
        ("config_sentence_transformers", {"prompts": {"query": 1}}, "prompts"),
        ("config_sentence_transformers", {"default_prompt_name": "query"}, "default_prompt_name"),
        ("config_sentence_transformers", {"truncate_dim": "8"}, "truncate_dim"),
        ("sentence_bert_config", {"transformer_task": "fill-mask"}, "transformer_task"),
        ("sentence_bert_config", {"module_output_name": "sentence_embedding"}, "module_output_name"),
        ("sentence_bert_config", {"modality_config": {"image": {}}}, "modality_config"),
        ("sentence_bert_config", {"model_args": {"attn_implementation": "eager"}}, "model_args"),
        ("sentence_bert_config", {"processing_kwargs": {"text": {"padding": True}}}, "processing_kwargs"),
    ],
)
def test_settings_that_would_change_vectors_are_refused_by_name(tmp_path, file, content, key):
    with refused(CheckpointError, key):
        sentence_recipe(open_source(plain_recipe(tmp_path, **{file: content})))


def test_the_prompts_of_a_folder(tmp_path):
    folder = plain_recipe(save_model(tmp_path / "model", BertModel))
    settings = {"prompts": {"query": "walk under ", "document": None}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    vectors = Embedder.from_pretrained(folder)(["one tree"])
    np.testing.assert_array_equal(vectors, Embedder.from_pretrained(folder, prompt="document")(["walk under one tree"]))
    with refused(ConfigError, "prompt"):
        Embedder.from_pretrained(folder, prompt="passage")
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean", "include_prompt": false}')
    with refused(CheckpointError, "include_prompt"):
        Embedder.from_pretrained(folder)
    Embedder.from_pretrained(folder, prompt="document")  # nothing to leave out
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": settings["prompts"]}))
    with pytest.warns(UserWarning, match="--prompt"):  # which of them is meant, the folder does not say
        without = Embedder.from_pretrained(folder)(["walk under one tree"])
    np.testing.assert_array_equal(vectors, without)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """Saves a tiny model with sentence-transformers: (folder, texts) -> the folder, and their vectors."""
    import sentence_transformers
    from sentence_transformers.sentence_transformer import modules as parts

    tiny = save_model(tmp_path_factory.mktemp("tiny") / "model", BertModel)

    def saved(folder, *after, pooling="mean", **settings):
        transformer = parts.Transformer(str(tiny))
        pooled = parts.Pooling(transformer.get_embedding_dimension(), pooling)
        model = sentence_transformers.SentenceTransformer(
            modules=[transformer, pooled, *(make(parts) for make in after)], device="cpu", **settings
        )
        model.save(str(folder))
        return folder

    return saved


def normalize(parts):
    return parts.Normalize()


def dense(parts):
    return parts.Dense(32, 12, activation_function=torch.nn.Tanh())


@pytest.mark.parametrize(
    "after, settings",
    [
        ((), {"prompts": {"query": "walk under "}, "default_prompt_name": "query"}),
        ((normalize,), {"truncate_dim": 9}),  # shorter than 1 then
        ((dense, normalize), {}),
        ((normalize, dense), {"truncate_dim": 5, "pooling": "max"}),
        ((dense,), {"similarity_fn_name": "dot", "pooling": "cls"}),
    ],
    ids=["prompt", "truncate_dim", "dense", "order", "similarity"],
)
def test_folders_that_sentence_transformers_saved(theirs, tmp_path, after, settings):
    folder = theirs(tmp_path / "model", *after, **settings)
    texts = mixed_texts()[:8]
    expected = their_vectors(folder, texts)
    ours = Embedder.from_pretrained(folder)
    np.testing.assert_allclose(ours(texts), expected, rtol=0, atol=FP32)
    assert ours([]).shape == (0, expected.shape[1])
    if "truncate_dim" in settings:  # an explicit request is for the vectors as they are written
        lengths = np.linalg.norm(Embedder.from_pretrained(folder, normalize=True)(texts), axis=1)
        np.testing.assert_allclose(lengths, 1, rtol=0, atol=FP32)


def test_a_damaged_dense_module_is_refused(theirs, tmp_path):
    folder = theirs(tmp_path / "model", dense)
    path = folder / "2_Dense" / "config.json"
    stored = json.loads(path.read_text())
    for key, value in {"in_features": 31, "activation_function": "os.system", "use_residual": True}.items():
        path.write_text(json.dumps({**stored, key: value}))
        with refused(CheckpointError, "2_Dense/" if key == "in_features" else key):
            Embedder.from_pretrained(folder)
    path.write_text(json.dumps(stored))
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")
    with refused(CheckpointError, "pytorch_model.bin"):
        Embedder.from_pretrained(folder)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "xlm-roberta"])
@pytest.mark.parametrize("path", ["", "0_Transformer"])
def test_where_the_longest_text_may_be_stated(theirs, tmp_path, kind, path):
    folder = theirs(tmp_path / "model")
    inner = folder / path
    inner.mkdir(exist_ok=True)
    for file in list(folder.glob("*.*")) if path else ():  # the form of 2019: the network in a folder of its own
        if file.name not in ("modules.json", "config_sentence_transformers.json"):
            file.rename(inner / file.name)
    stored = json.loads((folder / "modules.json").read_text())
    stored[0]["path"] = path
    (folder / "modules.json").write_text(json.dumps(stored))
    (inner / "sentence_bert_config.json").unlink()
    (inner / f"sentence_{kind}_config.json").write_text('{"max_seq_length": 7}')
    # The tokenizer's own limit is lower, and does not count.
    config = json.loads((inner / "tokenizer_config.json").read_text())
    (inner / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": 5}))
    texts = mixed_texts()[:8]
    with pytest.warns(UserWarning, match="more than 7 tokens"):
        ours = Embedder.from_pretrained(folder)(texts)
    np.testing.assert_allclose(ours, their_vectors(folder, texts), rtol=0, atol=FP32)


def test_lowercasing_that_the_tokenizer_does_not_do_is_refused(tmp_path):
    folder = plain_recipe(save_model(tmp_path / "model", BertModel), sentence_bert_config={"do_lower_case": True})
    upper, lower = Embedder.from_pretrained(folder)(["One Day", "one day"])
    np.testing.assert_array_equal(upper, lower)  # this tokenizer makes it
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with refused(CheckpointError, "do_lower_case"):
        Embedder.from_pretrained(folder)


def test_every_spelling_of_a_pooling(tmp_path):
    plain_recipe(tmp_path)
    for settings in ({"pooling_mode": "cls"}, {"pooling_mode_cls_token": True}, {"pooling_mode": ["cls"]}):
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(settings))
        assert sentence_recipe(open_source(tmp_path)).pooling == "cls"


@pytest.mark.parametrize(("stored", "longest"), [("128", 128), ("128.0", 128), ("null", None)])
def test_a_whole_number_of_tokens_in_any_spelling(stored, longest, tmp_path):
    limits = plain_recipe(tmp_path) / "sentence_bert_config.json"
    limits.write_text(f'{{"max_seq_length": {stored}}}')
    found = sentence_recipe(open_source(tmp_path)).max_length
    assert found == longest and type(found) is type(longest)
    for wrong in ("0", "0.0", "12.5", "-3", "true", '"128"', "[]"):
        limits.write_text(f'{{"max_seq_length": {wrong}}}')
        with refused(CheckpointError, "max_seq_length"):
            sentence_recipe(open_source(tmp_path))
