"""Filled masks against transformers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers

from minibert import BertForPreTraining, BertModel
from minibert.io.errors import CheckpointError, ConfigError, DataError
from minibert.workbench.tasks.fill_mask import MaskFiller
from tests.conftest import BOUNDS, refused
from tests.workbench.conftest import save_model

FP32 = BOUNDS["official model fp32"]


def test_masks_are_filled_as_transformers_fills_them(old_names):
    filler = MaskFiller.from_pretrained(old_names)
    model, report = transformers.BertForMaskedLM.from_pretrained(old_names, output_loading_info=True)
    assert not report["missing_keys"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(old_names)
    for text in ("Paris is the [MASK] of France.", "[MASK] is [MASK]"):
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            logits = model.eval()(**inputs).logits[0]
        places = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero().flatten()
        best, ids = logits[places].softmax(dim=-1).topk(7)
        filled = filler(text, top=7)
        assert len(filled) == len(places)
        for mask, chances, row in zip(filled, best, ids, strict=True):
            assert [piece for piece, _ in mask.pieces] == tokenizer.convert_ids_to_tokens(row)
            np.testing.assert_allclose([chance for _, chance in mask.pieces], chances.numpy(), rtol=0, atol=FP32)
    pipe = transformers.pipeline("fill-mask", model=model, tokenizer=tokenizer, top_k=5)
    expected = [row["token_str"] for row in pipe("Paris is the [MASK] of France.")]
    [mask] = filler("Paris is the [MASK] of France.")
    assert [piece.removeprefix("##") for piece, _ in mask.pieces] == [piece.removeprefix("##") for piece in expected]
    assert str(mask).splitlines()[1] == f"  {mask.pieces[0][1]:.3f}  {mask.pieces[0][0]}"


def test_the_pre_training_head_fills_masks_too(tmp_path):
    folder = save_model(tmp_path, BertForPreTraining)
    [mask] = MaskFiller.from_pretrained(folder)("one [MASK] day", top=3)
    model = transformers.BertForPreTraining.from_pretrained(folder).eval()
    inputs = transformers.BertTokenizer.from_pretrained(folder)("one [MASK] day", return_tensors="pt")
    with torch.no_grad():
        chances = model(**inputs).prediction_logits[0, 2].softmax(dim=-1).topk(3).values
    np.testing.assert_allclose([chance for _, chance in mask.pieces], chances.numpy(), rtol=0, atol=FP32)


def test_more_pieces_than_there_are_gives_them_all(tiny):
    [mask] = MaskFiller.from_pretrained(tiny)("one [MASK]", top=10**6)
    assert len(mask.pieces) == BertModel.from_pretrained(tiny).config.vocab_size
    assert sum(chance for _, chance in mask.pieces) == pytest.approx(1, abs=BOUNDS["module fp32"])


def test_a_mask_is_a_mask_where_special_tokens_in_texts_are_characters(tmp_path):
    folder = save_model(tmp_path)
    config = folder / "tokenizer_config.json"
    before = json.loads(config.read_text()) if config.exists() else {}
    config.write_text(json.dumps({**before, "split_special_tokens": True}))
    [mask] = MaskFiller.from_pretrained(folder)("one [MASK] day")
    assert len(mask.pieces) == 5


def test_each_of_several_masks_has_its_number(tiny):
    filled = MaskFiller.from_pretrained(tiny)("one [MASK] [MASK] day", top=1)
    assert [(mask.number, mask.of) for mask in filled] == [(1, 2), (2, 2)]
    assert str(filled[1]).startswith("one [MASK] [MASK] day ([MASK] 2 of 2)\n")
    [alone] = MaskFiller.from_pretrained(tiny)("one [MASK]", top=1)
    assert str(alone).startswith("one [MASK]\n")


def test_a_text_in_another_alphabet_is_a_warning(tiny):
    with pytest.warns(UserWarning, match=r"3 pieces of '.*' are \[UNK\]"):
        MaskFiller.from_pretrained(tiny)("這部電 [MASK]", top=1)


def test_texts_and_models_that_cannot_be_used_are_refused(tiny, minilm):
    filler = MaskFiller.from_pretrained(tiny)
    with refused(DataError, "[MASK]"):
        filler("one day")
    with pytest.warns(UserWarning, match="cut"), refused(DataError, "[MASK]"):
        filler("one [MASK]" + " day" * 40 + " [MASK]")
    with refused(ConfigError, "top"):
        filler("[MASK]", top=0)
    with refused(CheckpointError, "architectures"):
        MaskFiller.from_pretrained(minilm)
