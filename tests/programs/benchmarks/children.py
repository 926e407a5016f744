"""What is measured in a process of its own: how soon it predicts, how much memory it trains in.

`processes.py` starts one of these at a time and reads the line that it prints. Nothing is imported
before it is needed: importing is a part of what is measured.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def predict_with_minibert(folder: str, text: str) -> dict[str, Any]:
    """As the README does."""
    from minibert.workbench import Predictor

    answer = Predictor.from_pretrained(folder)(text)[0]
    return _first_prediction(answer.label, answer.probability)


def predict_with_pipeline(folder: str, text: str) -> dict[str, Any]:
    """As most people do."""
    from transformers import pipeline

    answer = pipeline("text-classification", folder, device="cpu")(text)[0]
    return _first_prediction(answer["label"], answer["score"])


def predict_with_classes(folder: str, text: str) -> dict[str, Any]:
    """transformers without its pipeline, which imports more."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    batch = tokenizer([text], truncation=True, return_tensors="pt")
    with torch.no_grad():
        chance, best = model(**batch).logits.softmax(dim=-1)[0].max(dim=-1)
    return _first_prediction(model.config.id2label[best.item()], chance.item())


def train(side: str, folder: str, batch: str, dtype: str) -> dict[str, Any]:
    """Two steps, since AdamW keeps nothing before the first has ended."""
    import torch
    from safetensors.torch import load_file

    from tests.programs.benchmarks import training
    from tests.programs.benchmarks.clock import Stopwatch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    batches = [load_file(batch)]
    before = _memory("VmRSS")
    variant = training.STEPS[side](Path(folder), batches, dtype)
    for _ in range(2):
        variant.run(Stopwatch("wall"))
    return {"megabytes": _memory("VmHWM") - before}


def _first_prediction(label: str, probability: float) -> dict[str, Any]:
    """Its processor time is that of the whole process, from its very start."""
    return {"answer": (label, probability), "cpu": time.process_time()}


def _memory(key: str) -> float:
    """Megabytes that are (VmRSS) or at most have been (VmHWM) in use.

    ru_maxrss will not do: a process inherits it from the one that started it.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    [value] = [line.split()[1] for line in lines if line.startswith(key)]
    return int(value) * 1024 / 1e6


TASKS = {task.__name__: task for task in (predict_with_minibert, predict_with_pipeline, predict_with_classes, train)}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](*sys.argv[2:])), flush=True)
