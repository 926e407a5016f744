"""Cases: safetensors headers that lie."""

from __future__ import annotations

from tests.hostile.case import WEIGHTS, Case, Group, cut, open_model, refused

GROUPS = (
    Group(
        "header",
        open_model,
        [
            Case("empty file", cut(WEIGHTS, 0), refused(WEIGHTS, "8")),
        ],
    ),
)
