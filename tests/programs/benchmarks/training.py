"""Training: the same random batches through both, and fine-tuning as people write it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from minibert import BertForMaskedLM, BertForSequenceClassification
from minibert.data import Dataset
from minibert.fast.accelerate import accelerate
from minibert.fast.precision import choose_precision
from minibert.optim import Schedule, build_optimizer, parameter_groups
from minibert.training import Batch, Training, optimizer_step, train
from minibert.workbench.data.corpora import Example
from minibert.workbench.runs.together import lay_out
from minibert.workbench.tasks.common import planned
from tests.programs.benchmarks import agreement
from tests.programs.benchmarks.clock import Stopwatch
from tests.programs.benchmarks.material import SEED, Material, padding, scratch
from tests.programs.benchmarks.measure import Job, Variant

LEARNING_RATE = 2e-5
WEIGHT_DECAY = 0.01
CLIP_NORM = 1.0
MANY = 10_000  # updates of a whole run, for the schedules

Inputs = dict[str, torch.Tensor]


def same_work(material: Material, dtype: str) -> Job:
    """The same optimizer steps on both sides: random batches, dropout 0.1, AdamW, clipping.

    Batches are made before. bf16 is autocast over fp32 weights, as both libraries train.
    """
    batches, others = (one.batches(range(len(one.texts)), labels=True) for one in (material, material.others()))
    theirs = transformers.BertForSequenceClassification.from_pretrained
    ours = BertForSequenceClassification.from_pretrained
    return _same_steps(material, batches, others, dtype, theirs, ours)


def masked_lm(material: Material, dtype: str) -> Job:
    """The same optimizer steps of masked-LM training; the masked batches are made before."""
    generator = torch.Generator().manual_seed(SEED)
    batches, others = (
        [_mask(batch, material.tokenizer.mask_id, generator) for batch in one.batches(range(len(one.texts)))]
        for one in (material, material.others())
    )
    theirs = transformers.BertForMaskedLM.from_pretrained
    ours = BertForMaskedLM.from_pretrained
    masked = sum(int((batch["labels"] >= 0).sum()) for batch in batches)
    return _same_steps(material, batches, others, dtype, theirs, ours, masked)


def _mask(batch: Inputs, mask_id: int, generator: torch.Generator) -> Inputs:
    """Replaces 15% of the real tokens by [MASK], whose labels are the only ones that count."""
    chosen = torch.rand(batch["input_ids"].shape, generator=generator) < 0.15  # (B, S)
    chosen &= batch["attention_mask"].bool()  # (B, S)
    labels = batch["input_ids"].masked_fill(~chosen, -100)  # (B, S)
    return {
        **batch,
        "input_ids": batch["input_ids"].masked_fill(chosen, mask_id),  # (B, S)
        "labels": labels,
    }


def _same_steps(
    material: Material, batches: list[Inputs], others: list[Inputs], dtype: str, theirs: Any, ours: Any, masked: int = 0
) -> Job:
    folder = material.folder
    compared = batches[:1] if dtype == "fp32" else [batches[0], *others]
    said = agreement.same_first_step(theirs, ours, folder, compared, dtype)
    fast = agreement.same_first_step(theirs, lambda folder: accelerate(ours(folder)), folder, compared, dtype)

    def reference(name: str, what: str, **optimizer: Any) -> Variant:
        return reference_loop(name, what, theirs(folder), batches, dtype, **optimizer)

    return Job(
        sizes=f"{material.sizes}, in random order, {padding(batches)}",
        variants=[
            reference("transformers", "the usual loop, AdamW as torch gives it"),
            reference("transformers again", "the same again"),
            reference("transformers with fused AdamW", "AdamW(fused=True), as minibert", fused=True),
            minibert_steps("the plain lesson", "minibert's optimizer_step", ours(folder), batches, dtype),
            minibert_steps("minibert", "the same after accelerate(model)", accelerate(ours(folder)), batches, dtype),
        ],
        compare=lambda outputs: f"{said}; accelerated: {fast}",
        tokens=material.tokens,
        flops=3 * material.flops(masked),
        dtype=dtype,
    )


def reference_loop(
    name: str,
    what: str,
    model: nn.Module,
    batches: Iterable[Any],
    dtype: str,
    *,
    fused: bool = False,
    clip: bool = True,
) -> Variant:
    """The loop that published examples write, with transformers' model and schedule.

    `batches` is gone through once a round; a DataLoader makes its batches inside the clock. The
    examples do not clip gradients; minibert and Trainer do.
    """
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=fused or None)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 0, MANY)

    def run(timed: Stopwatch) -> None:
        torch.manual_seed(SEED)
        with timed:
            for batch in batches:
                with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
                    loss = model(**batch).loss
                loss.backward()
                if clip:
                    nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                loss.item()  # for the log, which every loop keeps

    return Variant(name, what, run)


def minibert_steps(name: str, what: str, model: Any, batches: list[Inputs], dtype: str) -> Variant:
    """minibert's own step over batches that are ready; laying them out is inside the clock."""
    model.train()
    groups = parameter_groups(model.named_parameters(), weight_decay=WEIGHT_DECAY)
    optimizer = build_optimizer(groups, learning_rate=LEARNING_RATE)
    training = _training(model, optimizer, dtype)

    def run(timed: Stopwatch) -> None:
        torch.manual_seed(SEED)
        with timed:
            for batch in batches:
                window = [Batch(range(len(batch["input_ids"])), lambda batch=batch: batch)]
                optimizer_step(training, window)

    return Variant(name, what, run)


def _training(model: Any, optimizer: torch.optim.Optimizer, precision: str) -> Training:
    schedule = Schedule(optimizer, "linear", warmup=0, total=MANY)
    dtype = choose_precision(precision, "cpu").dtype
    return Training(model, optimizer, schedule, dtype, CLIP_NORM, place=lay_out)


def _alone_reference(folder: Path, batches: list[Inputs], dtype: str) -> Variant:
    model = transformers.BertForSequenceClassification.from_pretrained(folder)
    return reference_loop("transformers", "", model, batches, dtype)


def _alone_minibert(folder: Path, batches: list[Inputs], dtype: str) -> Variant:
    model = accelerate(BertForSequenceClassification.from_pretrained(folder))
    return minibert_steps("minibert", "", model, batches, dtype)


# For a process that trains one side alone.
STEPS = {"transformers": _alone_reference, "minibert": _alone_minibert}


def as_written(material: Material) -> Job:
    """Fine-tuning over some texts, tokenised before, in random order.

    transformers as its documentation and examples write it, in fp32, which is what they do on
    a CPU; minibert as `minibert train` does it when told nothing.
    """
    folder, size = material.folder, material.batch_size
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    made = transformers.BertForSequenceClassification.from_pretrained

    def loader(**padding: Any) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(
            _rows(tokenizer, material),
            batch_size=size,
            shuffle=True,
            generator=torch.Generator().manual_seed(SEED),
            collate_fn=transformers.DataCollatorWithPadding(tokenizer, **padding),
        )

    to_limit = {"padding": "max_length", "max_length": material.pad_to}
    said = agreement.same_first_step(
        made, BertForSequenceClassification.from_pretrained, folder, [dict(next(iter(loader())))], "fp32"
    )
    order = f"the usual loop with transformers, shuffled batches of {size}"

    def loop(name: str, what: str, **padding: Any) -> Variant:
        return reference_loop(name, what, made(folder), loader(**padding), "fp32", clip=False)

    default = choose_precision("auto", "cpu").name
    variants = [
        loop("dynamic padding", f"{order} padded to the batch's longest text"),
        loop("dynamic padding again", "the same again"),
        loop("max_length padding", f"{order} padded to {material.pad_to} tokens", **to_limit),
        _finetuning("minibert", f"`minibert train`, {default} by default", material, "auto"),
    ]
    if default != "fp32":
        variants.append(_finetuning("minibert in fp32", "the same with --precision fp32", material, "fp32"))
    if importlib.util.find_spec("accelerate"):
        variants.append(_trainer(made(folder), tokenizer, material))
    return Job(
        sizes=material.sizes,
        variants=variants,
        compare=lambda outputs: said,
        tokens=material.tokens,
        flops=3 * material.flops(),
    )


def _rows(tokenizer: Any, material: Material) -> list[dict[str, Any]]:
    """The texts, tokenised by transformers, as a data set of its kind holds them."""
    encoded = tokenizer(material.texts, truncation=True)
    return [
        {**{key: encoded[key][row] for key in encoded}, "labels": label} for row, label in enumerate(material.labels)
    ]


def _finetuning(name: str, what: str, material: Material, precision_name: str) -> Variant:
    """The loop of tasks/finetune.py: its data set, its plan of batches, its optimizer, its steps.

    What is left out is left out on all sides: reading, evaluating after the epoch, writing.
    """
    model = accelerate(BertForSequenceClassification.from_pretrained(material.folder))
    examples = [Example(text, label=label) for text, label in zip(material.texts, material.labels, strict=True)]
    dataset = Dataset(examples, material.tokenizer)
    groups = parameter_groups(model.named_parameters(), weight_decay=WEIGHT_DECAY)
    optimizer = build_optimizer(groups, learning_rate=LEARNING_RATE)

    def batches_of_epoch(epoch: int) -> list[Batch]:
        return planned(dataset, material.tokenizer, batch_size=material.batch_size, seed=SEED, epoch=epoch)

    def run(timed: Stopwatch) -> None:
        torch.manual_seed(SEED)
        with timed:
            for _ in train(_training(model, optimizer, precision_name), batches_of_epoch, epochs=1):
                pass

    return Variant(name, what, run)


def _trainer(model: nn.Module, tokenizer: Any, material: Material) -> Variant:
    """transformers' Trainer with its default arguments, batches padded to the batch's longest text.

    Timed from `on_train_begin` to `on_train_end`: what it sets up once a run is not counted.
    """
    arguments = transformers.TrainingArguments(
        output_dir=str(scratch() / "trainer"),
        per_device_train_batch_size=material.batch_size,
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=SEED,
    )
    laps = _Laps()
    trainer = transformers.Trainer(
        model,
        arguments,
        train_dataset=_rows(tokenizer, material),
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        callbacks=[laps],
    )

    def run(timed: Stopwatch) -> None:
        laps.timed = timed
        with redirect_stdout(StringIO()):  # it prints its log
            trainer.train()

    return Variant("Trainer", "transformers.Trainer with its defaults, fp32", run)


class _Laps(transformers.TrainerCallback):
    """Runs the round's stopwatch while the Trainer trains."""

    timed: Stopwatch

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.timed.start()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self.timed.stop()
