"""Inference: the same batches through both models, and texts to labels as people write it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import transformers

from minibert import BertForSequenceClassification
from minibert.fast.accelerate import accelerate
from minibert.fast.prepare import prepare
from minibert.workbench import Predictor
from tests.programs.benchmarks import agreement
from tests.programs.benchmarks.clock import Stopwatch
from tests.programs.benchmarks.material import Material, padding
from tests.programs.benchmarks.measure import Job, Variant

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def same_work(material: Material, dtype: str) -> Job:
    """The same forward passes on both sides.

    Batches are made before: sorted by length, so that there is hardly any padding that one side
    could save. The clock runs over the forward passes alone; minibert's packing is in it.
    """
    batches = material.batches(material.by_length)

    def variant(name: str, what: str, model: Any) -> Variant:
        def run(timed: Stopwatch) -> torch.Tensor:
            with torch.inference_mode(), timed:
                return torch.cat([model(**batch).logits for batch in batches])  # (texts, C)

        return Variant(name, what, run)

    theirs = transformers.AutoModelForSequenceClassification.from_pretrained
    ours = BertForSequenceClassification.from_pretrained
    how = {"dtype": DTYPES[dtype]}
    variants = [
        variant("transformers", f"transformers, {dtype} weights", theirs(material.folder, **how)),
        variant("transformers again", "the same again", theirs(material.folder, **how)),
        variant("minibert", f"the lesson, {dtype} weights", ours(material.folder, **how)),
        variant("minibert accelerated", "the same after accelerate(model)", accelerate(ours(material.folder, **how))),
        variant("minibert prepared", "prepare(model), as Predictor has it", prepare(ours(material.folder, **how))),
    ]
    truth = None
    if dtype == "bf16":
        with torch.inference_mode():
            exact = theirs(material.folder)
            truth = torch.cat([exact(**batch).logits for batch in batches])  # (texts, C)
    return Job(
        sizes=f"{material.sizes}, sorted by length, {padding(batches)}",
        variants=variants,
        compare=partial(agreement.same_logits, truth=truth),
        tokens=material.tokens,
        flops=material.flops(),
        dtype=dtype,
    )


def as_written(material: Material) -> Job:
    """Texts in, labels out; tokenising is inside the clock on both sides.

    transformers as its documentation and examples write it, in fp32, the dtype of the file;
    minibert as `Predictor` does it when told nothing.
    """
    folder, texts, size = material.folder, material.texts, material.batch_size
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def by_hand(name: str, what: str, **padding: Any) -> Variant:
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)

        def run(timed: Stopwatch) -> agreement.Answers:
            answers = []
            with timed:
                for start in range(0, len(texts), size):
                    some = texts[start : start + size]
                    batch = tokenizer(some, truncation=True, return_tensors="pt", **padding)
                    with torch.no_grad():
                        chances = model(**batch).logits.softmax(dim=-1)  # (B, C)
                    best = chances.max(dim=-1)
                    answers += zip(best.indices.tolist(), best.values.tolist(), strict=True)
            return [(model.config.id2label[number], chance) for number, chance in answers]

        return Variant(name, what, run)

    def pipeline(name: str, what: str, batch_size: int) -> Variant:
        classify = transformers.pipeline("text-classification", str(folder), device="cpu")

        def run(timed: Stopwatch) -> agreement.Answers:
            with timed:
                found = classify(texts, truncation=True, batch_size=batch_size)
            return [(answer["label"], answer["score"]) for answer in found]

        return Variant(name, what, run)

    def predictor(name: str, what: str, made: Predictor) -> Variant:
        def run(timed: Stopwatch) -> agreement.Answers:
            with timed:
                found = made(texts, batch_size=size)
            return [(answer.label, answer.probability) for answer in found]

        return Variant(name, what, run)

    default = Predictor.from_pretrained(folder)
    in_bf16 = default.precision.name == "bf16"
    order = f"transformers, texts in file order, batches of {size}"
    variants = [
        by_hand("dynamic padding", f"{order} padded to the batch's longest text", padding=True),
        by_hand("dynamic padding again", "the same again", padding=True),
        by_hand(
            "max_length padding",
            f"{order} padded to {material.pad_to} tokens",
            padding="max_length",
            max_length=material.pad_to,
        ),
        pipeline("pipeline", "transformers.pipeline(texts)", 1),
        pipeline("pipeline in batches", f"transformers.pipeline(texts, batch_size={size})", size),
        predictor("minibert", f"Predictor(texts), {default.precision.name} by default", default),
    ]
    if in_bf16:
        in_fp32 = Predictor.from_pretrained(folder, precision="fp32")
        variants.append(predictor("minibert in fp32", 'the same with precision="fp32"', in_fp32))
    return Job(
        sizes=material.sizes,
        variants=variants,
        compare=partial(agreement.same_answers, in_bf16=["minibert"] if in_bf16 else []),
        tokens=material.tokens,
        flops=material.flops(),
    )
