"""Number formats for training, and which one suits a device.

Mixed precision: Micikevicius et al. 2018, section 3. bf16 has 8 bits of mantissa and the range of
fp32, so nothing overflows. fp16 has 11 bits, but values above 65504 are infinite and gradients
below 6e-8 vanish, so it needs a scaler.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from minibert.io.errors import TrainingError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}


@dataclass(frozen=True)
class Precision:
    """The number format in which a forward pass multiplies matrices, the device, and the reason.

    Attributes:
        name: "bf16", "fp16" or "fp32".
        device: where the model runs.
        dtype: of matrix products under autocast; None for no autocast.
        reason: why it was chosen, for people.
    """

    name: str
    device: torch.device
    dtype: torch.dtype | None
    reason: str


def choose_precision(name: str, device: str | torch.device) -> Precision:
    """The given format, or for "auto" the fastest that is safe to train in.

    "auto" is bf16 where the hardware multiplies matrices fast in it, else fp16 on a GPU, else fp32.

    Args:
        name: "auto", "bf16", "fp16" or "fp32".
        device: where the model will run.

    Raises:
        TrainingError: an unknown name, or fp16 on a device that has no gradient scaler.
    """
    device = torch.device(device)
    reason = "as told"
    if name == "auto":
        name, reason = _best_precision(device)
    if name not in DTYPES or (name == "fp16" and device.type not in ("cuda", "cpu")):
        raise TrainingError(
            f"The precision {name!r} cannot be used on {device.type}.",
            key="precision",
            hint="Choose auto, bf16, fp32, or (on cuda and cpu) fp16.",
        )
    return Precision(name, device, DTYPES[name], reason)


def _best_precision(device: torch.device) -> tuple[str, str]:
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "this GPU has bf16"
        return "fp16", "this GPU has no bf16"
    if device.type == "cpu":
        if _cpu_is_faster_in_bf16():
            return "bf16", "this CPU is faster in bf16"
        return "fp32", "this CPU is not faster in bf16"
    return "fp32", f"bf16 on {device.type} is not known to be faster"


def _cpu_is_faster_in_bf16() -> bool:
    """Whether the CPU multiplies matrices faster in bf16: AMX on x86, BFMMLA ("bf16") on ARM.

    Of x86's vector instructions for bf16 (avx512_bf16), AMD's are fast enough and Intel's are not:
    without AMX, matrix products on an Intel server CPU reached 86 GFLOP/s per core in bf16 and 160
    in fp32; on an AMD EPYC, 190 to 200 in bf16 and 84 in fp32.
    """
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        names = ["amx_bf16", "bf16"]
        if str(found.get("cpu_name", "")).startswith("AMD"):
            names.append("avx512_bf16")
        return any(found.get(name) for name in names)
    return torch.cpu._is_amx_tile_supported()  # older releases have no public function for this
