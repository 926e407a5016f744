"""Where random numbers come from: generators, and seeds made of others."""

from __future__ import annotations

import hashlib

import torch


def default_generator(generator: torch.Generator | None) -> torch.Generator:
    """The generator given, or one with seed 0: models built without one are equal."""
    return torch.Generator().manual_seed(0) if generator is None else generator


def mixed_seed(*parts: object) -> int:
    """One 63-bit seed from several parts, so that (0, 1) and (1, 0) have nothing in common."""
    digest = hashlib.sha256(" ".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
