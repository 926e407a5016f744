"""Tokenising: texts in, padded batches of ids out."""

from __future__ import annotations

import torch
import transformers

from tests.programs.benchmarks.agreement import Disagreement
from tests.programs.benchmarks.clock import Stopwatch
from tests.programs.benchmarks.material import Material
from tests.programs.benchmarks.measure import Job, Variant

Batches = list[dict[str, torch.Tensor]]


def as_written(material: Material) -> Job:
    """Batches of texts as padded tensors; the same Rust library does the work on both sides."""
    theirs = transformers.AutoTokenizer.from_pretrained(material.folder)
    size = material.batch_size
    groups = [material.texts[row : row + size] for row in range(0, len(material.texts), size)]

    def reference(name: str, what: str) -> Variant:
        def run(timed: Stopwatch) -> Batches:
            with timed:
                return [theirs(group, padding=True, truncation=True, return_tensors="pt") for group in groups]

        return Variant(name, what, run)

    def ours(timed: Stopwatch) -> Batches:
        with timed:
            return [material.tokenizer(group) for group in groups]

    return Job(
        sizes=material.sizes,
        variants=[
            reference("AutoTokenizer", "transformers.AutoTokenizer"),
            reference("AutoTokenizer again", "the same again"),
            Variant("minibert", "BertTokenizer", ours),
        ],
        compare=_same_ids,
        tokens=material.tokens,
    )


def _same_ids(outputs: dict[str, Batches]) -> str:
    reference, *others = outputs.values()
    for found in others:
        for one, two in zip(reference, found, strict=True):
            if not all(torch.equal(one[key], two[key]) for key in one):
                raise Disagreement("the tokenizers give other ids")
    return "every id is the same"
