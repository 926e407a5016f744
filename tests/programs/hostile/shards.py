"""Cases: an index of shards that lies, and paths that lead out of the folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.programs.hostile.case import (
    CONFIG,
    INDEX,
    LOADED,
    WEIGHTS,
    Case,
    Group,
    Words,
    both,
    cut,
    edit_json,
    open_model,
    refused,
    remove,
    split_weights,
    warned,
    write,
    write_weights,
)

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
BIAS = "classifier.bias"
IN_FIRST = "bert.embeddings.LayerNorm.bias"  # the first tensor of the first shard
LEADS_OUT = Words("leads out of its folder")
NO_FILE = Words("is not a file")


def shard(folder: Path) -> None:
    """Splits the weights over two files, with an index, as transformers writes large ones."""
    header, body = split_weights(folder)
    header.pop("__metadata__")
    names = sorted(header)
    weight_map = {}
    for file, part in ((FIRST, names[::2]), (SECOND, names[1::2])):
        entries, taken = {}, b""
        for name in part:
            start, end = header[name]["data_offsets"]
            place = [len(taken), len(taken) + end - start]
            entries[name] = {**header[name], "data_offsets": place}
            taken += body[start:end]
            weight_map[name] = file
        write_weights(folder / file, {"__metadata__": {"format": "pt"}, **entries}, taken)
    index = {"metadata": {"total_size": len(body)}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index))
    (folder / WEIGHTS).unlink()


def index(name: str, change: Callable[[dict[str, Any]], object], key: str = BIAS) -> Case:
    """An index of shards, changed."""
    return Case(name, both(shard, edit_json(INDEX, change)), refused(INDEX, key))


def text(name: str, content: str | bytes, key: str) -> Case:
    """Other content of the index."""
    return Case(name, both(shard, write(INDEX, content)), refused(INDEX, key))


def stored_in(file: Any) -> Case:
    """One tensor said to be in a file of that name. What the name leads to is there, and good."""

    def spoil(folder: Path) -> None:
        shard(folder)
        for outside in (folder.parent, folder / "inner"):
            outside.mkdir(exist_ok=True)
            shutil.copy(folder / FIRST, outside / FIRST)
        index = json.loads((folder / INDEX).read_text())
        path = file(folder) if callable(file) else file
        index["weight_map"] = {name: path if place == FIRST else place for name, place in index["weight_map"].items()}
        (folder / INDEX).write_text(json.dumps(index))

    name = "an absolute path" if callable(file) else f"{file!r:.60}"
    return Case(f"a shard {name}", spoil, refused(INDEX, IN_FIRST))


def outside(file: str) -> Callable[[Path], Path]:
    """Moves a file of the folder beside the folder, and leaves a link to it."""

    def spoil(folder: Path) -> None:
        (folder / file).rename(folder.parent / file)
        (folder / file).symlink_to(Path("..", file))

    return spoil


def link_inside(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "weights")
    (folder / WEIGHTS).symlink_to("weights")


def cached(folder: Path) -> Path:
    """The folder as the Hub's cache has it: a snapshot of links to blobs."""
    repository = folder.parent / "models--someone--model"
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(repository / "blobs" / f"{number:040}")
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", f"{number:040}"))
    return snapshot


def cached_shards(folder: Path) -> Path:
    shard(folder)
    return cached(folder)


def cached_and_out(file: str) -> Callable[[Path], Path]:
    """A snapshot with one link that leads out of its repository's folder in the cache."""

    def spoil(folder: Path) -> Path:
        shard(folder)
        shutil.copy(folder / file, folder.parent / file)
        snapshot = cached(folder)
        (snapshot / file).unlink()
        (snapshot / file).symlink_to(folder.parent / file)
        return snapshot

    return spoil


def loop(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(WEIGHTS)


def dangling(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("gone")


def pipe(file: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / file).unlink()
        os.mkfifo(folder / file)

    return spoil


def directory(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()


def in_two_shards(folder: Path) -> None:
    """The second shard holds a tensor of the first too, with other numbers."""
    shard(folder)
    raw = (folder / SECOND).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header, body = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    header[BIAS] = {"dtype": "F32", "shape": [3], "data_offsets": [len(body), len(body) + 12]}
    write_weights(folder / SECOND, header, body + bytes(12))


def swap(index: dict[str, Any]) -> None:
    """Says of every tensor that it is in the other file."""
    other = {FIRST: SECOND, SECOND: FIRST}
    index["weight_map"] = {name: other[file] for name, file in index["weight_map"].items()}


def set_size(value: object) -> Callable[[dict[str, Any]], object]:
    return lambda index: index["metadata"].update(total_size=value)


INDEXES = [
    Case("two shards, all of it right", shard, LOADED),
    text("a list", "[]", Words("is not a JSON object")),
    text("empty", "", Words("Expecting value")),
    text("not UTF-8", b"\xff{}", Words("byte 0xff")),
    text("no weight_map", "{}", "weight_map"),
    text("an empty weight_map", '{"weight_map": {}}', "weight_map"),
    text("a weight_map that is a list", '{"weight_map": [1]}', "weight_map"),
    text("nested 100,000 deep", '{"weight_map":' * 100_000, Words("while decoding a JSON object")),
    text("a tensor twice", '{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}', "a"),
    Case("100 MB", both(shard, lambda f: os.truncate(f / INDEX, 10**8)), refused(INDEX, Words(f"has {10**8} bytes"))),
    index("a tensor that its shard lacks", lambda i: i["weight_map"].update(ghost=FIRST), "ghost"),
    index("a tensor of a shard that it does not name", lambda i: i["weight_map"].pop(BIAS)),
    index("each tensor in the other shard", swap, IN_FIRST),
    index("a shard that is not there", lambda i: i["weight_map"].update(x="gone.safetensors"), "gone.safetensors"),
    Case("a tensor in two shards", in_two_shards, refused(SECOND, BIAS)),
    Case("a missing shard", both(shard, remove(SECOND)), refused(INDEX, SECOND)),
    Case(
        "a shard that was cut", both(shard, cut(SECOND, -5)), refused(SECOND, Words("is not a whole safetensors file"))
    ),
    Case("an empty shard", both(shard, cut(SECOND, 0)), refused(SECOND, Words("its header needs"))),
    *(
        Case(f"total_size {size!r}", both(shard, edit_json(INDEX, set_size(size))), warned(INDEX, "total_size"))
        for size in (0, -1, 10**30, "all", [1], True)
    ),
]
PATHS = [
    stored_in(f"../{FIRST}"),
    stored_in(f"inner/{FIRST}"),
    stored_in(f"./{FIRST}"),
    stored_in(f"inner/../{FIRST}"),
    stored_in(lambda folder: str(folder.parent / FIRST)),
    stored_in(f"..\\{FIRST}"),
    stored_in(f"C:{FIRST}"),
    stored_in(f"C:\\{FIRST}"),
    stored_in(f"\\\\host\\share\\{FIRST}"),
    stored_in(f"//host/share/{FIRST}"),
    stored_in(f"file://{FIRST}"),
    stored_in(f"https://example.org/{FIRST}"),
    stored_in(f"{FIRST}\0"),
    stored_in(f"{FIRST}\n"),
    stored_in(f"~/{FIRST}"),
    stored_in("$HOME.safetensors"),
    stored_in("x" * 300 + ".safetensors"),
    stored_in(".."),
    stored_in(""),
    stored_in(".safetensors"),
    stored_in("weights.bin"),
    stored_in(7),
    stored_in(None),
    stored_in([FIRST]),
    Case("weights that are a link out", outside(WEIGHTS), refused(WEIGHTS, LEADS_OUT)),
    Case("a config that is a link out", outside(CONFIG), refused(CONFIG, LEADS_OUT)),
    Case("a shard that is a link out", both(shard, outside(FIRST)), refused(FIRST, LEADS_OUT)),
    Case("an index that is a link out", both(shard, outside(INDEX)), refused(INDEX, LEADS_OUT)),
    Case("a link to a file of the folder", link_inside, LOADED),
    Case("weights that link to themselves", loop, refused(WEIGHTS, Words("symbolic links"))),
    Case("weights that link to nothing", dangling, refused(WEIGHTS, Words("No such file"))),
    Case("a snapshot of the Hub's cache", cached, LOADED),
    Case("shards in a snapshot of the cache", cached_shards, LOADED),
    Case("a shard that leads out of the cache", cached_and_out(FIRST), refused(FIRST, LEADS_OUT)),
    Case("a config that leads out of the cache", cached_and_out(CONFIG), refused(CONFIG, LEADS_OUT)),
    Case("a pipe for weights", pipe(WEIGHTS), refused(WEIGHTS, NO_FILE)),
    Case("a pipe for a config", pipe(CONFIG), refused(CONFIG, NO_FILE)),
    Case("a folder for weights", directory, refused(WEIGHTS, NO_FILE)),
]

GROUPS = (Group("index", open_model, INDEXES), Group("path", open_model, PATHS))
