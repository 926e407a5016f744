"""Mistakes of the fast parts: dropout bits, attention in chunks, spare rows, prepared layers."""

from tests.programs.faults.fault import faults

FAULTS = [
    *faults(
        "fast/dropout.py",
        "fast/test_dropout",
        ("dropout does not scale", "65536 / (65536 - _dropped_of_65536(p))", "1.0"),
        ("the top bit is left out", "draws.random_(-(2**63), None)", "draws.random_()"),
        ("dropout acts in eval mode", "if self.training else input", ""),
    ),
    *faults(
        "fast/chunked.py",
        "fast/test_chunked",
        (
            "in chunks: the softmax's gradient without its sum",
            "torch._softmax_backward_data(dp, pattern, -1, pattern.dtype)",
            "dp * pattern",
        ),
        ("in chunks: no mask on the way back", "dp.mul_(mask)", "pass"),
        ("in chunks: dV of all, not of the kept", "kept = mask.mul_(pattern)", "kept = pattern"),
        ("in chunks: queries not scaled", " / math.sqrt(query.shape[-1])", ""),
        ("in chunks: scores rounded to 16 bits", "torch.promote_types(query.dtype, torch.float32)", "query.dtype"),
        ("in chunks: values not scaled", " * dropout_scale(dropout_p)", ""),
        (
            "in chunks: a chunk starts at the wrong token",
            "token, number = chunk.tokens.stop",
            "token, number = chunk.tokens.start",
        ),
    ),
    *faults(
        "fast/chunked.py", "fast/test_accelerate", ("spare rows: whatever was there", "packed[tokens:] = 0", "pass")
    ),
    *faults(
        "fast/rows.py",
        "fast/test_accelerate",
        ("spare rows: kept at the end", "[: len(hidden)]", ""),
        ("spare rows: none", "-len(hidden) % _ROWS", "0"),
        ("spare rows: in 32 bits as well", "return dtype == torch.bfloat16", "return True"),
        ("spare rows: without AMX as well", " or not _has_amx()", ""),
    ),
    *faults(
        "fast/prepare.py",
        "fast/test_prepare",
        ("prepared: no GELU", '"gelu", "none")', '"none", "")'),
        ("prepared: GELU whatever the config says", " is F.gelu", ""),
    ),
    *faults(
        "layout.py",
        "fast/test_accelerate",
        (
            "varlen: rows in the order of the batch",
            "boundaries[1:] = sorted_lengths.cumsum(dim=0)",
            "boundaries[1:] = lengths[lengths > 0].cumsum(dim=0)",
        ),
    ),
]
