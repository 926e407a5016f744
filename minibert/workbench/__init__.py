"""The workbench: the command line, and everything behind it that can be called from Python.

    from minibert.workbench import Predictor, Settings, finetune

Each name is imported when it is first used, as in `minibert` itself.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers: the names of the table below
    from minibert.workbench.runs.pretrain_settings import PretrainSettings as PretrainSettings
    from minibert.workbench.runs.settings import Settings as Settings
    from minibert.workbench.tasks.embed import Embedder as Embedder
    from minibert.workbench.tasks.features import extract_features as extract_features
    from minibert.workbench.tasks.fill_mask import MaskFiller as MaskFiller
    from minibert.workbench.tasks.finetune import finetune as finetune
    from minibert.workbench.tasks.finetune import resume as resume
    from minibert.workbench.tasks.predict import Predictor as Predictor
    from minibert.workbench.tasks.pretrain import pretrain as pretrain
    from minibert.workbench.tasks.pretrain import resume_pretraining as resume_pretraining

_HOME = {
    "Embedder": "minibert.workbench.tasks.embed",
    "MaskFiller": "minibert.workbench.tasks.fill_mask",
    "Predictor": "minibert.workbench.tasks.predict",
    "PretrainSettings": "minibert.workbench.runs.pretrain_settings",
    "Settings": "minibert.workbench.runs.settings",
    "extract_features": "minibert.workbench.tasks.features",
    "finetune": "minibert.workbench.tasks.finetune",
    "pretrain": "minibert.workbench.tasks.pretrain",
    "resume": "minibert.workbench.tasks.finetune",
    "resume_pretraining": "minibert.workbench.tasks.pretrain",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'minibert.workbench' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
