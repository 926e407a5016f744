"""The page of `explain`: its numbers, read back as the page does, and what it holds for every kind of model."""

from __future__ import annotations

import json
import re
import zlib
from html import unescape
from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from minibert import BertConfig, BertForMaskedLM, BertTokenizer
from minibert.io.errors import DataError
from minibert.study.explain import MOST_PIECES, explain
from minibert.study.explain.arrays import ALPHABET, pack, png
from minibert.study.sentence import in_float64, run, sentence
from tests.lesson.reference import CASES, pair
from tests.study import planted
from tests.study.test_account import TEXT, TOKENIZERS


def part(html: str, name: str) -> str:
    return re.search(rf'<script [^>]*id="{name}">(.*?)</script>', html, re.DOTALL)[1]


def read_back(html: str) -> tuple[dict, dict[str, np.ndarray]]:
    """The facts and the arrays of a page."""
    facts = json.loads(part(html, "facts"))
    digits = np.array([ALPHABET.index(sign) for sign in part(html, "numbers")]).reshape(-1, 5)
    words = digits @ 85 ** np.arange(4, -1, -1)
    planes = zlib.decompress(words.astype(">u4").tobytes()[: facts["bytes"]], -15)
    numbers = np.frombuffer(planes, np.uint8).reshape(2, -1)[::-1].T.copy().view("<f2").ravel().astype(float)
    arrays = {}
    for name, place in facts["index"].items():
        size = int(np.prod(place["shape"]))
        arrays[name] = numbers[place["at"] : place["at"] + size].reshape(place["shape"]) * place["scale"]
    assert sum(array.size for array in arrays.values()) == len(numbers)
    return facts, arrays


@pytest.fixture(scope="module")
def small():
    return BertForMaskedLM.from_pretrained("minibert-small"), BertTokenizer.from_pretrained("minibert-small")


def test_stored_numbers_have_three_significant_digits(small):
    model, tokenizer = small
    text = "Do not waste your [MASK] on this unwatchable film."
    facts, arrays = read_back(explain(model, tokenizer, text).html())
    exact = in_float64(model)
    given = sentence(tokenizer, text, None, exact)
    _, trace = run(exact, given.inputs, "*")
    names = {"query": "attention.query", "key": "attention.key", "value": "attention.value"}
    names |= {"pattern": "attention.pattern", "attended": "attention.output", "fed": "feed_forward.output"}
    for layer in range(4):
        for ours, traced in names.items():
            found, value = arrays[f"0.{layer}.{ours}"], trace[f"layers.{layer}.{traced}"]
            wanted = (value[0] if ours == "pattern" else value).numpy()
            close = np.abs(found - wanted) <= np.maximum(np.abs(wanted) / 2048, np.abs(wanted).max() * 2.0**-38)
            assert close.all(), (layer, ours)
    assert facts["sentences"][0]["tokens"] == given.tokens
    assert facts["sentences"][0]["ids"] == given.inputs["input_ids"][0].tolist()


def test_the_equations_of_the_page_give_the_models_numbers(small):
    """What page.js computes, computed here from the stored numbers: scores, contexts, and every hidden state."""
    model, tokenizer = small
    text = "A [MASK] film."
    facts, arrays = read_back(explain(model, tokenizer, text).html())
    exact = in_float64(model)
    _, trace = run(exact, sentence(tokenizer, text, None, exact).inputs, "*")

    def norm(total, name):
        centred = total - total.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + facts["eps"])
        return scaled * arrays[f"norm.{name}.gain"] + arrays[f"norm.{name}.bias"]

    hidden = norm(arrays["0.word"] + arrays["segment"][[0]] + arrays["0.position"], "embeddings")
    for layer in range(4):
        q, k, v = (arrays[f"0.{layer}.{name}"].transpose(1, 0, 2) for name in ("query", "key", "value"))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(facts["headSize"])
        context = (arrays[f"0.{layer}.pattern"] @ v).transpose(1, 0, 2)
        names = f"layers.{layer}.attention"
        np.testing.assert_allclose(scores, trace[f"{names}.scores"][0], atol=5e-3)
        np.testing.assert_allclose(context, trace[f"{names}.context"], atol=1e-3, rtol=1e-3)
        hidden = norm(hidden + arrays[f"0.{layer}.attended"], f"{layer}.attention")
        hidden = norm(hidden + arrays[f"0.{layer}.fed"], f"{layer}.feed")
        np.testing.assert_allclose(hidden, trace[f"layers.{layer}.feed_forward.norm"], atol=2e-3)


@pytest.mark.parametrize(("family", "name"), [case for case in CASES if case[1] != "BertForMultipleChoice"])
def test_every_kind_of_model_has_a_page(family, name):
    _, model = pair(family, name)
    html = explain(model, TOKENIZERS[family], TEXT, "9 2" if family == "bert" else None, name="a <b> model").html()
    facts, arrays = read_back(html)
    assert "a &lt;b&gt; model" in html and "<b> model" not in html
    assert ("segment" in arrays) == (family == "bert")
    has_head = name != "BertModel"
    assert ('data-part="lens"' in html) == has_head
    rows = html.count('<details class="account"')
    expected = {"BertForMaskedLM": 1, "BertForPreTraining": 1, "BertForQuestionAnswering": 2}
    if name == "BertForSequenceClassification":
        assert rows == 5
    assert not has_head or rows == expected.get(name, rows) > 0


def test_what_stands_there_without_scripts(small):
    model, tokenizer = small
    html = explain(model, tokenizer, "An unwatchable [MASK].").html()
    shown = unescape(re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL))
    text = " ".join(re.sub(r"<[^>]*>", " ", shown).split())
    for words in (
        "##able",
        "part of a split word",
        "Account of the logit of",
        "layer 3",
        "layers.2.feed_forward",
        "sum",
    ):
        assert words in text, words
    assert 'alt="The attention patterns of 4 layers of 4 heads over' in html


def test_nothing_outside_the_page_is_asked_for_and_texts_stay_texts(tmp_path, small):
    model, tokenizer = small
    text = '</script><img src="https://example.com/x.png"> & "quotes"'
    page = explain(model, tokenizer, text, name="minibert-small")
    page.save(tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert html.count("<script") == html.count("</script>") == 3 and '<img src="https' not in html
    assert "default-src 'none'" in html and "unsafe-eval" not in html and "script-src 'sha256-" in html
    linked = set(re.findall(r'(?:src|href)="([^"#]*)"', re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)))
    assert all(link.startswith("data:image/png") for link in linked)
    links = [link for _, _, link in json.loads(part(html, "facts"))["sources"].values()]
    assert all((tmp_path / link).resolve().is_file() for link in links)
    assert json.loads(part(page.html(), "facts"))["sources"]["pattern"] == ["attention.py", "03", None]


def test_two_sentences_to_compare(small):
    model, tokenizer = small
    html = explain(model, tokenizer, "A good [MASK].", compare="A very bad [MASK].").html()
    facts, arrays = read_back(html)
    assert [each["text"] for each in facts["sentences"]] == ["A good [MASK].", "A very bad [MASK]."]
    assert arrays["1.0.pattern"].shape[1] == arrays["0.0.pattern"].shape[1] + 1
    assert html.count('class="of-sentence"') == 2


def test_a_notebook_shows_the_page(small):
    shown = explain(*small, "A [MASK].")._repr_html_()
    assert shown.startswith("<iframe title=") and 'sandbox="allow-scripts"' in shown


def test_long_texts_are_refused():
    _, model = pair("bert", "BertModel", torch.float32, max_position_embeddings=512)
    tokenizer = BertTokenizer(TOKENIZERS["bert"].vocabulary, max_length=512)
    explain(model, tokenizer, "1 " * (MOST_PIECES - 2))
    with pytest.raises(DataError) as caught:
        explain(model, tokenizer, "1 " * (MOST_PIECES - 1))
    assert caught.value.key == "text"


def test_the_size_of_a_page_of_bert_base():
    """64 pieces of 12 layers of 12 heads, D = 768: under 8 MB, with a vocabulary and feed-forward blocks cut short."""
    settings = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 64, "num_hidden_layers": 12}
    model = BertForMaskedLM(BertConfig(vocab_size=99, max_position_embeddings=64, initializer_range=0.2, **settings))
    tokenizer = BertTokenizer(TOKENIZERS["bert"].vocabulary, max_length=64)
    html = explain(model, tokenizer, "1 2 3 4 [MASK] 5 " * 10 + "6 7").html()
    assert len(json.loads(part(html, "facts"))["sentences"][0]["tokens"]) == 64
    assert len(html) < 8_000_000, len(html)


def test_packing_keeps_any_numbers():
    values = {"mixed": torch.tensor([0.0, -1e-6, 3e5, -2.5]), "none": torch.zeros(0), "zeros": torch.zeros(3)}
    index, length, text = pack(values)
    assert len(text) == 5 * -(-length // 4) and set(text) <= set(ALPHABET)
    facts = json.dumps({"index": index, "bytes": length})
    _, arrays = read_back(f'<script id="facts">{facts}</script><script id="numbers">{text}</script>')
    np.testing.assert_allclose(arrays["mixed"], values["mixed"].numpy(), rtol=1 / 2048, atol=3e5 * 2.0**-38)
    assert arrays["none"].shape == (0,) and not arrays["zeros"].any()


def test_the_picture_of_the_model_view_is_a_png():
    levels = np.linspace(0, 1, 15).reshape(3, 5)
    pixels = imread(BytesIO(png(levels, (255, 0, 128))), format="png")
    assert pixels.shape == (3, 5, 4)
    np.testing.assert_allclose(pixels[..., 3], levels, atol=1 / 30)


def test_a_planted_circuit_leads_the_account_of_the_page():
    html = explain(planted.finds_word(), planted.tokenizer(), "word1 word7").html()
    first = re.search(r'<table class="causes">.*?<tbody>\s*<tr data-layer="(\d)" data-head="(\d)">', html, re.DOTALL)
    assert (int(first[1]), int(first[2])) == (planted.LAYER, planted.HEAD)
