"""Other engines on the same work: OpenVINO, ONNX Runtime, sentence-transformers.

They are given what they are at their best with: transformers' own model, exported with its weights,
length-sorted batches, as many threads as torch has. They live in a virtual environment of their own
on top of the one that runs the benchmarks, which stays as it is.
"""

from __future__ import annotations

import importlib.util
import site
import subprocess
import tempfile
import venv
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from minibert.workbench import Embedder
from tests.programs.benchmarks import agreement, inference
from tests.programs.benchmarks.clock import Stopwatch
from tests.programs.benchmarks.material import Material, official_minilm, prepare, scratch
from tests.programs.benchmarks.measure import Case, Job, Variant

PACKAGES = ("onnx", "onnxruntime", "openvino")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def installed() -> bool:
    """Whether this Python has the engines."""
    return all(importlib.util.find_spec(package) for package in PACKAGES)


def run_in_venv(arguments: Sequence[str]) -> int:
    """Makes a virtual environment with the engines in a temporary folder, and starts over in it."""
    with tempfile.TemporaryDirectory(prefix="minibert-engines-") as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        [packages] = (Path(folder) / "lib").glob("python*/site-packages")
        (packages / "parent.pth").write_text("\n".join(site.getsitepackages()) + "\n")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        return subprocess.run([python, "-m", "tests.programs.benchmarks", *arguments]).returncode


def all_cases() -> list[Case]:
    """Forward passes over sorted batches, and texts to sentence vectors."""
    cases = []
    for model in ("MiniLM", "BERT-base"):
        for texts in ("short", "long"):
            material = partial(prepare, "inference", texts, model, of_one_length=True)
            for dtype in ("fp32", "bf16"):
                build = partial(_built, partial(same_work, dtype=dtype), material)
                cases.append(Case(f"engines/{texts}/{model}/same/{dtype}", build))
    for texts in ("short", "long"):
        build = partial(_built, sentence_vectors, partial(prepare, "inference", texts, "MiniLM"))
        cases.append(Case(f"sentence vectors/{texts}/MiniLM/same/fp32", build))
    return cases


def _built(way: Callable[[Material], Job], material: Callable[[], Material]) -> Job:
    return way(material())


def same_work(material: Material, dtype: str) -> Job:
    """The forward passes of inference.same_work, by each engine too; ONNX Runtime has no bf16.

    Engines prepare their weights once, so minibert's are prepared as well.
    """
    warnings.filterwarnings("ignore")  # exporting warns of each shape that it traces
    job = inference.same_work(material, dtype)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(material.folder)
    batches = [{name: batch[name].numpy() for name in INPUTS} for batch in material.batches(material.by_length)]
    variants = [_variant("OpenVINO", f"openvino, {dtype}", _openvino(model, dtype), batches)]
    if dtype == "fp32":
        variants.append(_variant("ONNX Runtime", "onnxruntime, fp32", _onnx(model), batches))
    reference, control, _, prepared = job.variants
    ours = replace(prepared, name="minibert")
    return replace(job, variants=[reference, control, ours, *variants])


def _variant(name: str, what: str, forward: Callable[[Any], np.ndarray], batches: Any) -> Variant:
    def run(timed: Stopwatch) -> torch.Tensor:
        with timed:
            logits = [forward(batch).copy() for batch in batches]
        return torch.from_numpy(np.concatenate(logits))  # (texts, C)

    return Variant(name, what, run)


class _Logits(nn.Module):
    """transformers' model with its inputs in order and logits alone, which exporters ask for."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model.eval()

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(INPUTS, inputs, strict=True))).logits  # (B, C)


def _example() -> tuple[torch.Tensor, ...]:
    """Two rows, one of them padded, so that the mask is traced."""
    ids = torch.full((2, 5), 5)  # (B, S)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])  # (B, S)
    return ids, mask, torch.zeros_like(ids)


def _openvino(model: nn.Module, dtype: str) -> Callable[[Any], np.ndarray]:
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[dtype],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    converted = openvino.convert_model(_Logits(model), example_input=_example())
    compiled = openvino.compile_model(converted, "CPU", settings)
    return lambda batch: compiled([batch[name] for name in INPUTS])[0]


def _onnx(model: nn.Module) -> Callable[[Any], np.ndarray]:
    import onnxruntime

    path = scratch() / "model.onnx"
    axes = {name: {0: "B", 1: "S"} for name in INPUTS}
    torch.onnx.export(_Logits(model), _example(), path, input_names=list(INPUTS), dynamic_axes=axes, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, batch)[0]


def sentence_vectors(material: Material) -> Job:
    """Texts in, one vector each out, tokenising inside the clock; both sort by length."""
    from sentence_transformers import SentenceTransformer

    folder, texts, size = official_minilm(), material.texts, material.batch_size

    def reference(name: str, what: str) -> Variant:
        model = SentenceTransformer(str(folder), device="cpu")

        def run(timed: Stopwatch) -> torch.Tensor:
            with timed:
                vectors = model.encode(texts, batch_size=size, show_progress_bar=False)
            return torch.from_numpy(vectors)  # (texts, D)

        return Variant(name, what, run)

    embedder = Embedder.from_pretrained(folder, precision="fp32")

    def ours(timed: Stopwatch) -> torch.Tensor:
        with timed:
            vectors = embedder(texts, batch_size=size)
        return torch.from_numpy(vectors)  # (texts, D)

    return Job(
        sizes=material.sizes,
        variants=[
            reference("sentence-transformers", "SentenceTransformer.encode, fp32"),
            reference("sentence-transformers again", "the same again"),
            Variant("minibert", "Embedder, fp32", ours),
        ],
        compare=agreement.same_logits,
        tokens=material.tokens,
        flops=material.flops(),
    )
