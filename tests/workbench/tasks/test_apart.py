"""`minibert explain` and `minibert weights diff` as they are typed."""

from __future__ import annotations

import json

import pytest
import torch

from minibert import BertForMaskedLM, BertTokenizer
from minibert.study.diff import cka_of_layers
from minibert.workbench.cli import main


@pytest.fixture
def moved(tmp_path):
    """minibert-small with one head moved."""
    model = BertForMaskedLM.from_pretrained("minibert-small")
    with torch.no_grad():
        model.bert.encoder.layers[2].attention.value.weight[64:128] += 0.1
    model.save_pretrained(tmp_path / "moved")
    tokenizer = BertTokenizer.from_pretrained("minibert-small")
    tokenizer.save_pretrained(tmp_path / "moved")
    return tmp_path / "moved"


def test_explain_writes_a_page_and_prints_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["explain", "minibert-small", "A great [MASK].", "--compare", "A bad [MASK]."]) == 0
    assert capsys.readouterr().out == "page.html\n"
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<b>minibert-small</b>" in html and "A bad [MASK]." in html
    assert main(["explain", str(tmp_path), "A [MASK].", "--output", "none.html"]) == 2
    assert not (tmp_path / "none.html").exists()


def test_weights_diff_finds_what_moved(moved, tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("A good film.\nI was bored.\n", encoding="utf-8")
    assert main(["weights", "diff", "minibert-small", str(moved), "--file", str(texts), "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    changed = [row["name"] for row in found["tensors"] if row["change"]]
    assert changed == ["encoder.layers.2.attention.value.weight"]
    assert [row["name"] for row in found["heads"] if row["change"]] == ["layers.2.head 1"]
    models = [BertForMaskedLM.from_pretrained(source) for source in ("minibert-small", moved)]
    tokenizer = BertTokenizer.from_pretrained(moved)
    expected = cka_of_layers(*models, tokenizer, ["A good film.", "I was bored."], progress=False)
    assert found["cka"] == pytest.approx(expected.tolist())
    assert main(["weights", "diff", "minibert-small", str(moved)]) == 0
    captured = capsys.readouterr()
    assert "pooler.dense.weight" in captured.out  # minibert-small has one, the masked LM that was saved has none
