"""Cases: tensors that do not fit or are no numbers, and code that must not run."""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.programs.hostile.case import (
    CONFIG,
    LOADED,
    WEIGHTS,
    Case,
    Group,
    Words,
    both,
    edit_header,
    open_model,
    refused,
    remove,
    set_json,
    split_weights,
    write,
    write_weights,
)

BIAS, POOLER = "classifier.bias", "bert.pooler.dense.bias"
WORD = "bert.embeddings.word_embeddings.weight"
NORM = "bert.encoder.layer.1.output.LayerNorm.weight"


def tensors(name: str, change: Callable[[dict[str, torch.Tensor]], object], key: str, file: str = WEIGHTS) -> Case:
    """The tensors of model.safetensors, changed."""
    return Case(name, change_tensors(change), refused(file, key))


def change_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        found = load_file(folder / WEIGHTS)
        change(found)
        save_file(found, folder / WEIGHTS, {"format": "pt"})

    return spoil


def put(key: str, value: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda found: found.update({key: value})


def fill_last(key: str, value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda found: found[key].view(-1)[-1:].fill_(value)


def without(*starts: str) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda found: [found.pop(key) for key in list(found) if key.startswith(starts)]


def renamed(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda found: found.update({new: found.pop(old)})


def many_layers(found: dict[str, torch.Tensor]) -> None:
    """One small tensor for each of 1,000 layers."""
    for number in range(1000):
        found[f"bert.encoder.layer.{number}.attention.self.query.bias"] = torch.zeros(8)


def huge(key: str) -> Callable[[Path], None]:
    """A tensor of 16 GB after the others, in a file with a hole; no disk is taken."""

    def spoil(folder: Path) -> None:
        header, body = split_weights(folder)
        end = len(body) + 2**34
        header[key] = {"dtype": "F32", "shape": [2**32], "data_offsets": [len(body), end]}
        write_weights(folder / WEIGHTS, header, body)
        os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size + 2**34)

    return spoil


def huge_table(folder: Path) -> None:
    """A word table of 2 GB, in the file and in the config: a model that the memory cannot hold."""
    rows = 2**26
    header, body = split_weights(folder)
    start, end = header.pop(WORD)["data_offsets"]
    for entry in header.values():
        if entry.get("data_offsets", [0])[0] >= end:
            entry["data_offsets"] = [at - (end - start) for at in entry["data_offsets"]]
    rest = body[:start] + body[end:]
    place = [len(rest), len(rest) + rows * 8 * 4]
    header[WORD] = {"dtype": "F32", "shape": [rows, 8], "data_offsets": place}
    write_weights(folder / WEIGHTS, header, rest)
    os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size + rows * 8 * 4)
    set_json(CONFIG, {"vocab_size": rows})(folder)


class _Code:
    """What a pickle makes when it is opened: a call of os.system."""

    def __reduce__(self):
        return os.system, ("touch canary",)


def zipped(content: bytes) -> bytes:
    """A pickle in the form that torch.save writes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return buffer.getvalue()


PICKLE = pickle.dumps(_Code())
NEEDS = Words("its header needs")
PYTHON = "open('canary', 'w')\nclass Model: pass\n"
NAN, INF = math.nan, math.inf
ADAPTER = "bert.adapter.weight"
DIGITS = f"bert.encoder.layer.{'9' * 5000}.x"
STEERS = "\x1b[2J\x07\r\n"
NO_ROOM = Words("do not fit into memory")
FIT = [
    tensors("a tensor missing", without(NORM), NORM),
    tensors("a tensor that nobody knows", put(ADAPTER, torch.zeros(2)), ADAPTER),
    tensors("a tensor under two names", put(WORD[5:], torch.zeros(22, 8)), WORD),
    tensors("a layer too many", put("bert.encoder.layer.2.x.weight", torch.zeros(1)), Words("3 layers"), CONFIG),
    tensors("1,000 layers in name alone", many_layers, Words("1000 layers"), CONFIG),
    tensors("no head", without("classifier"), "classifier.weight"),
    tensors("no body", without("bert"), Words("0 layers"), CONFIG),
    tensors("a transposed matrix", put("classifier.weight", torch.zeros(8, 3)), "classifier.weight"),
    tensors("a table of one axis", put(WORD, torch.zeros(176)), WORD),
    tensors("an empty tensor", put(BIAS, torch.zeros(0)), BIAS),
    tensors("a scalar", put(BIAS, torch.zeros(())), BIAS),
    tensors("a layer number of 5,000 digits", put(DIGITS, torch.zeros(1)), DIGITS),
    tensors("a name that steers a terminal", put(STEERS, torch.zeros(1)), STEERS),
    tensors("a name of 100,000 characters", put("x" * 100_000, torch.zeros(1)), "x" * 100_000),
    tensors(
        "10,000 tensors that nobody knows", lambda f: f.update({f"t{i}": torch.zeros(1) for i in range(10_000)}), "t0"
    ),
    *(
        tensors(f"a tensor of {dtype}", put(BIAS, torch.zeros(3, dtype=dtype)), BIAS)
        for dtype in (torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool)
    ),
    tensors("a tensor of float8", put(BIAS, torch.zeros(3).to(torch.float8_e4m3fn)), BIAS),
    Case("16 GB under an unknown name", huge("unknown"), refused(WEIGHTS, NO_ROOM)),
    Case("16 GB under another head's name", huge("qa_outputs.weight"), refused(WEIGHTS, NO_ROOM)),
    Case("a table larger than the memory", huge_table, refused(WEIGHTS, NO_ROOM)),
    Case(
        "a dtype swapped for one of equal size",
        edit_header(lambda h: h[BIAS].update(dtype="U32")),
        refused(WEIGHTS, BIAS),
    ),
]
VALUES = [
    tensors(f"{value} in {key}", fill_last(key, value), key) for key in (BIAS, WORD, NORM) for value in (NAN, INF, -INF)
]
VALUES += [tensors("too large for float32", put(BIAS, torch.full((3,), 1e300, dtype=torch.float64)), BIAS)]
CODE = [
    Case("a pickle for weights", write(WEIGHTS, PICKLE), refused(WEIGHTS, NEEDS)),
    Case("a zipped pickle for weights", write(WEIGHTS, zipped(PICKLE)), refused(WEIGHTS, NEEDS)),
    *(
        Case(f"{name} alone", both(remove(WEIGHTS), write(name, PICKLE)), refused("model", name))
        for name in (
            "pytorch_model.bin",
            "model.pt",
            "weights.pth",
            "model.pkl",
            "model.ckpt",
            "tf_model.h5",
            "flax_model.msgpack",
        )
    ),
    Case("no weights at all", remove(WEIGHTS), refused("model", WEIGHTS)),
    Case("a pickle beside good weights", write("pytorch_model.bin", PICKLE), LOADED),
    Case("training_args.bin beside good weights", write("training_args.bin", PICKLE), LOADED),
    Case(
        "auto_map and a module",
        both(
            write("evil.py", PYTHON),
            set_json(CONFIG, {"auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Model"}}),
        ),
        LOADED,
    ),
    Case("trust_remote_code", set_json(CONFIG, {"trust_remote_code": True}), LOADED),
    Case("a kernel of the Hub", set_json(CONFIG, {"_attn_implementation_internal": "evil/kernel"}), LOADED),
    Case("an attention of the Hub", set_json(CONFIG, {"_attn_implementation": "evil/kernel"}), LOADED),
    Case(
        "modules named as Python's own",
        both(*(write(f"{n}.py", PYTHON) for n in ("json", "torch", "safetensors", "minibert", "sitecustomize"))),
        LOADED,
    ),
    Case("an architecture of another module", set_json(CONFIG, {"architectures": ["os.system"]}), LOADED),
    Case("another folder in _name_or_path", set_json(CONFIG, {"_name_or_path": "/etc/passwd"}), LOADED),
    Case("an adapter's config", write("adapter_config.json", '{"base_model_name_or_path": "evil/x"}'), LOADED),
]

GROUPS = (Group("tensor", open_model, FIT), Group("value", open_model, VALUES), Group("code", open_model, CODE))
