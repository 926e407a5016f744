"""Which number format is chosen for a device."""

from __future__ import annotations

import pytest
import torch

from minibert.fast import precision as module
from minibert.fast.precision import choose_precision
from minibert.io.errors import TrainingError


@pytest.mark.parametrize("has_bf16, name", [(True, "bf16"), (False, "fp32")])
def test_auto_on_a_cpu_goes_by_its_instructions(has_bf16, name, monkeypatch):
    monkeypatch.setattr(module, "_cpu_is_faster_in_bf16", lambda: has_bf16)
    chosen = choose_precision("auto", "cpu")
    assert chosen.name == name
    assert "in bf16" in chosen.reason


@pytest.mark.parametrize("has_bf16, name", [(True, "bf16"), (False, "fp16")])
def test_auto_on_cuda_goes_by_the_gpu(has_bf16, name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    chosen = choose_precision("auto", "cuda")
    assert chosen.name == name
    assert "this GPU" in chosen.reason


def test_auto_on_mps_is_fp32():
    assert choose_precision("auto", "mps").name == "fp32"


@pytest.mark.parametrize(
    "capabilities, expected",
    [
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"architecture": "x86_64", "amx_bf16": True}, True),
        ({"architecture": "x86_64", "avx512_bf16": True, "cpu_name": "AMD EPYC"}, True),
        ({"architecture": "x86_64", "avx512_bf16": False, "cpu_name": "AMD EPYC"}, False),
        ({"architecture": "arm64", "bf16": True}, True),
        ({"architecture": "x86_64", "avx512_bf16": False, "avx2": True}, False),
    ],
)
def test_the_cpus_instructions_are_asked_for(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert module._cpu_is_faster_in_bf16() is expected


@pytest.mark.parametrize("name, dtype", [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", None)])
def test_what_is_told_is_used(name, dtype):
    chosen = choose_precision(name, "cpu")
    assert (chosen.name, chosen.dtype, chosen.reason) == (name, dtype, "as told")


@pytest.mark.parametrize("name, device", [("fp8", "cpu"), ("fp16", "mps")])
def test_what_cannot_be_used_is_refused(name, device):
    with pytest.raises(TrainingError) as caught:
        choose_precision(name, device)
    assert caught.value.key == "precision"
