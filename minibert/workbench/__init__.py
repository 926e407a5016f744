"""The workbench: the command line, and everything behind it that can be called from Python.

    from minibert.workbench import Predictor, Settings, finetune

A name is imported when it is first asked for, so `minibert --help` need not wait for torch.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Embedder": "minibert.workbench.tasks.embed",
    "MaskFiller": "minibert.workbench.tasks.fill_mask",
    "Predictor": "minibert.workbench.tasks.predict",
    "PretrainSettings": "minibert.workbench.runs.pretrain_settings",
    "Settings": "minibert.workbench.tasks.finetune",
    "extract_features": "minibert.workbench.tasks.features",
    "finetune": "minibert.workbench.tasks.finetune",
    "pretrain": "minibert.workbench.tasks.pretrain",
    "resume": "minibert.workbench.tasks.finetune",
    "resume_pretraining": "minibert.workbench.tasks.pretrain",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"minibert.workbench has no {name!r}")
    return getattr(import_module(_HOME[name]), name)
