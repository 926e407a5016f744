"""`minibert explain`, `minibert probe` and `minibert weights diff` as they are typed."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from minibert import BertForMaskedLM, BertTokenizer
from minibert.study.diff import cka_of_layers
from minibert.study.probing import probe
from minibert.workbench.cli import main
from tests.study import planted
from tests.study.test_probing import previous, sentences, texts
from tests.workbench.conftest import write_table


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


def test_a_page_does_not_tell_where_a_model_lies(moved, tmp_path, capsys):
    assert main(["explain", str(moved), "A [MASK].", "--output", str(tmp_path / "page.html")]) == 0
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<b>moved</b>" in html and str(tmp_path) not in html


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


@pytest.fixture
def circuit(tmp_path):
    """The folders of both planted models."""
    for name, model in (("finds", planted.finds_word()), ("copies", planted.copies_previous())):
        model.save_pretrained(tmp_path / name)
        planted.tokenizer().save_pretrained(tmp_path / name)
    return tmp_path


def test_probe_reads_tables_and_writes_scores_and_a_picture(circuit, capsys):
    data = texts(40, 0), texts(20, 1)
    files = [
        f"--{name}={write_table(circuit / f'{name}.csv', ['review', 'label'], rows)}"
        for name, rows in zip(("train", "test"), data, strict=True)
    ]
    command = ["probe", str(circuit / "finds"), *files, "--text", "review", "--seed", "3", "--quiet"]
    assert main([*command, "--output", str(circuit / "out")]) == 0
    expected = probe(planted.finds_word(), planted.tokenizer(), *data, seed=3, progress=False)
    assert capsys.readouterr().out == f"{expected}\n"
    with open(circuit / "out" / "probes.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == ["majority class", *(score.layer for score in expected.scores)]
    assert float(rows[-1]["selectivity_low"]) == expected.scores[-1].selectivity[1]
    assert float(rows[-1]["compression"]) == expected.scores[-1].compression
    assert (circuit / "out" / "probes.png").read_bytes().startswith(b"\x89PNG")
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["majority"][0] == expected.majority[0]
    assert main([*command, "--output", str(circuit / "out")]) == 2  # it exists


def test_probe_reads_tagged_words(circuit, capsys):
    data = sentences(20, 0, previous), sentences(9, 1, previous)
    files = []
    for name, rows in zip(("train", "test"), data, strict=True):
        lines = ["".join(f"{word}\t{tag}\n" for word, tag in zip(*row, strict=True)) for row in rows]
        (circuit / f"{name}.conll").write_text("\n".join(lines), encoding="utf-8")
        files.append(f"--{name}={circuit / f'{name}.conll'}")
    assert main(["probe", str(circuit / "copies"), *files, "--quiet"]) == 0
    expected = probe(planted.copies_previous(), planted.tokenizer(), *data, progress=False)
    assert capsys.readouterr().out == f"{expected}\n"


def test_probe_refuses_labels_that_are_not_classes(circuit, capsys):
    table = write_table(circuit / "numbers.csv", ["text", "label"], [(f"word{n}", n / 2) for n in range(12)])
    assert (
        main(["probe", str(circuit / "finds"), f"--train={table}", f"--test={table}", "--output", str(circuit / "o")])
        == 2
    )
    assert "one class for each text" in capsys.readouterr().err and not (circuit / "o").exists()
