"""Start-up and memory: what only a fresh process can show, one for each variant and round."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from typing import Any

from safetensors.torch import save_file

from minibert.workbench import Predictor
from tests.programs.benchmarks import agreement
from tests.programs.benchmarks.clock import Stopwatch
from tests.programs.benchmarks.material import Material, scratch
from tests.programs.benchmarks.measure import Job, Variant


def start_up(material: Material) -> Job:
    """From the start of Python to the first prediction: import, load, predict one text.

    The files are in the system's cache, since the warm-up round has read them.
    """
    folder, text = str(material.folder), material.texts[0]
    in_bf16 = Predictor.from_pretrained(folder).precision.name == "bf16"

    def variant(name: str, what: str, task: str) -> Variant:
        def run(timed: Stopwatch) -> agreement.Answers:
            wall, said = _fresh(task, folder, text)
            timed.add(wall if timed.clock == "wall" else said["cpu"])
            return [tuple(said["answer"])]

        return Variant(name, what, run)

    by_hand = "AutoTokenizer, AutoModelForSequenceClassification"
    variants = [
        variant("classes", f"transformers: {by_hand}", "predict_with_classes"),
        variant("classes again", "the same again", "predict_with_classes"),
        variant("pipeline", "transformers.pipeline", "predict_with_pipeline"),
        variant("minibert", "Predictor.from_pretrained", "predict_with_minibert"),
    ]
    return Job(
        sizes="a new process, one text",
        variants=variants,
        compare=partial(agreement.same_answers, in_bf16=["minibert"] if in_bf16 else []),
    )


def memory(material: Material, dtype: str) -> Job:
    """The most memory that training takes over what the process had before it made the model.

    Weights, gradients, AdamW's two moments, and what the forward pass keeps for the backward pass;
    the same batch, dropout and dtype on both sides.
    """
    [batch] = material.batches(range(len(material.texts)), labels=True)
    path = scratch() / "memory.safetensors"
    save_file(batch, path)

    def variant(name: str, what: str, side: str) -> Variant:
        def run(timed: Stopwatch) -> float:
            _, said = _fresh("train", side, str(material.folder), str(path), dtype)
            timed.add(said["megabytes"])
            return said["megabytes"]

        return Variant(name, what, run)

    return Job(
        sizes=f"{material.sizes}; two steps",
        variants=[
            variant("transformers", "the usual loop", "transformers"),
            variant("transformers again", "the same again", "transformers"),
            variant("minibert", "minibert's optimizer_step", "minibert"),
        ],
        compare=lambda outputs: "nothing to compare: the steps are those of training/long",
        unit="MB",
        dtype=dtype,
    )


def _fresh(task: str, *arguments: str) -> tuple[float, dict[str, Any]]:
    """Runs a task of children.py: wall seconds until it has printed its line, and the line."""
    command = [sys.executable, "-m", "tests.programs.benchmarks.children", task, *arguments]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        wall = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{task} ended with {process.returncode}")
    return wall, json.loads(line)
