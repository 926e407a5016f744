"""Number formats for training: which one a device is good at, and what each needs.

Mixed precision: Micikevicius et al. 2018, section 3. bf16 has 8 bits of mantissa and the range of
fp32, so nothing overflows. fp16 has 11 bits, but values above 65504 are infinite and gradients
below 6e-8 vanish: it needs a scaler.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from minibert.io.errors import TrainingError


@dataclass(frozen=True)
class Precision:
    """In which number format the forward pass multiplies matrices, where, and why.

    Weights, gradients and optimizer state stay in the model's own dtype whatever is chosen.

    Attributes:
        name: "bf16", "fp16" or "fp32".
        device: where the model runs.
        dtype: of the products of matrices under autocast; None: no autocast.
        scaler: whether the loss has to be scaled, so that small gradients do not vanish.
        reason: why this was chosen, in words.
    """

    name: str
    device: torch.device
    dtype: torch.dtype | None
    scaler: bool
    reason: str

    def autocast(self) -> torch.autocast:
        """The context for a forward pass."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)

    def make_scaler(self) -> torch.amp.GradScaler:
        """A gradient scaler; where none is needed, one that does nothing."""
        return torch.amp.GradScaler(self.device.type, enabled=self.scaler)


def choose_precision(name: str, device: str | torch.device) -> Precision:
    """The fastest format that training is safe in: bf16 where the hardware multiplies matrices in
    it, else fp16 with a scaler on cuda, else fp32; or as told.

    Args:
        name: "auto", "bf16", "fp16" or "fp32".
        device: where the model will run.

    Raises:
        TrainingError: an unknown name, or fp16 on a device without a scaler.
    """
    device = torch.device(device)
    if name == "auto":
        name, reason = _best_precision(device)
    else:
        reason = "as told"
    if name == "bf16":
        return Precision(name, device, torch.bfloat16, scaler=False, reason=reason)
    if name == "fp16" and device.type in ("cuda", "cpu"):
        return Precision(name, device, torch.float16, scaler=True, reason=reason)
    if name == "fp32":
        return Precision(name, device, None, scaler=False, reason=reason)
    raise TrainingError(
        f"The precision {name!r} cannot be used on {device.type}.",
        key="precision",
        hint="Choose auto, bf16, fp32, or (on cuda and cpu) fp16.",
    )


def _best_precision(device: torch.device) -> tuple[str, str]:
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "this GPU has bf16"
        return "fp16", "this GPU has no bf16"
    if device.type == "cpu":
        if _cpu_is_faster_in_bf16():
            return "bf16", "this CPU is faster in bf16"
        return "fp32", "this CPU is no faster in bf16"
    return "fp32", f"no bf16 instructions are known of this {device.type}"


def _cpu_is_faster_in_bf16() -> bool:
    """Whether the CPU multiplies matrices faster in bf16: AMX on x86, BFMMLA ("bf16") on ARM.

    Of the vector instructions of x86 (avx512_bf16) only AMD's are enough: on an Intel server CPU
    with those and no AMX, products of matrices reached 86 GFLOP/s a core in bf16 and 160 in fp32;
    on an AMD EPYC, 190 to 200 in bf16 and 84 in fp32.
    """
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        names = ["amx_bf16", "bf16"]
        if str(found.get("cpu_name", "")).startswith("AMD"):
            names.append("avx512_bf16")
        return any(found.get(name) for name in names)
    return torch.cpu._is_amx_tile_supported()  # older releases have no public way to ask
