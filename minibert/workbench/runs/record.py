"""What run.json says of every run, whatever its task."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import asdict
from typing import Any

import torch

from minibert.fast.precision import Precision
from minibert.io.version import __version__
from minibert.tokenizer import BertTokenizer
from minibert.workbench.runs.history import History
from minibert.workbench.runs.ranks import launched
from minibert.workbench.runs.settings import TrainingSettings, as_record

_PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "huggingface-hub")


def facts(
    settings: TrainingSettings, model: Any, tokenizer: BertTokenizer, precision: Precision, files: Any
) -> dict[str, Any]:
    """What a reader needs to know of a run, or to repeat it; known before it starts.

    Args:
        files: sha256 sums of what the model was made from; None for a freshly initialised one.
    """
    return {
        "settings": as_record(settings),
        "model": {
            "class": type(model).__name__,
            "commit": model.load_report.revision if model.load_report else None,
            "parameters": count_parameters(model),
            "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "vocabulary": len(tokenizer),
            "files": files,
            "config": model.config.to_official(),
        },
        "precision": {"name": precision.name, "reason": precision.reason},
        "device": str(precision.device),
        "threads": torch.get_num_threads(),
        "processes": launched().size,
        "versions": {
            "minibert": __version__,
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in _PACKAGES},
        },
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }


def outcome(history: History, seconds: float, measured_epoch: int | None) -> dict[str, Any]:
    """What is known once a run is finished.

    Args:
        measured_epoch: the epoch whose weights were measured and saved.
    """
    return {
        "seconds": round(seconds, 1),
        "steps": len(history.steps),
        "skipped_steps": history.skipped_steps,
        "best_epoch": history.best_epoch,
        "measured_epoch": measured_epoch,
        "stopped_early": history.stopped_early,
        "epochs": [asdict(epoch) for epoch in history.epochs],
    }


def count_parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
