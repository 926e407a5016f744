"""weights/minibert-small, the model that ships with minibert."""

from __future__ import annotations

import copy
import hashlib

import pytest
import torch
from safetensors import safe_open

from minibert import BertForPreTraining, BertTokenizer
from minibert.io.bundled import MODEL, bundled
from minibert.workbench import MaskFiller
from tests.conftest import BOUNDS
from tests.programs.small_model import masks

TEXTS = [
    "The acting was [MASK] and I was bored from start to finish.",
    "Réal 3 naïve cafés, 10/10!<br /><br />Don't miss it (really).",
    "",
    "word " * 400,
]


@pytest.fixture(scope="module")
def both(transformers):
    """The same file in transformers and here."""
    theirs = transformers.BertForPreTraining.from_pretrained(bundled()).eval()
    return theirs, BertForPreTraining.from_pretrained(MODEL).eval()


def test_it_is_small_and_in_half_precision():
    folder = bundled()
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= 12e6
    with safe_open(folder / "model.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert "cls.predictions.decoder.weight" not in tensors  # tied to the word embeddings
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_transformers_opens_it_and_gives_the_same_logits(both):
    """Equal in double precision; in fp32 no further from that than transformers itself."""
    theirs, ours = both
    assert theirs.dtype == next(ours.parameters()).dtype == torch.float32
    batch = BertTokenizer.from_pretrained(MODEL)(TEXTS, ["A second text."] * len(TEXTS))
    exact, same, expected, found = (
        _logits(model, batch) for model in (copy.deepcopy(theirs).double(), copy.deepcopy(ours).double(), theirs, ours)
    )
    for truth, one, reference, other in zip(exact, same, expected, found, strict=True):
        torch.testing.assert_close(one, truth, rtol=0, atol=BOUNDS["fp64"])
        bound = BOUNDS["model fp32 ratio"] * float((reference - truth).abs().max())
        assert (other - truth).abs().max() <= max(bound, BOUNDS["official model fp32"])


def _logits(model, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Of real tokens (T, V), and of the next sentence (B, 2)."""
    with torch.no_grad():
        output = model(**batch)
    real = batch["attention_mask"].bool()  # (B, S)
    return output.prediction_logits[real], output.seq_relationship_logits


def test_transformers_opens_its_tokenizer_and_gives_the_same_ids(transformers):
    theirs = transformers.AutoTokenizer.from_pretrained(bundled())
    ours = BertTokenizer.from_pretrained(MODEL)
    assert theirs.model_max_length == ours.max_length == 256
    expected = theirs(TEXTS, truncation=True, padding=True)
    found = ours(TEXTS)
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert found[name].tolist() == expected[name]


def test_it_has_learned_english():
    lines = masks(MODEL).splitlines()
    right = int(lines[-1].split()[0])
    assert right >= 12, "\n".join(lines)
    [filled] = MaskFiller.from_pretrained(MODEL)("It was a waste of [MASK].")
    assert filled.pieces[0][0] in ("time", "money")


def test_the_card_is_that_of_these_weights():
    folder = bundled()
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() in card
    for heading in ("Data", "Recipe", "Curves", "Scores", "Limits", "Licence", "Repeat"):
        assert f"\n## {heading}" in card
