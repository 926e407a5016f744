"""Cases: the files that say how a model makes sentence vectors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from minibert.workbench.tasks.embed import Embedder
from tests.programs.hostile.case import LOADED, Case, Group, Outcome, Words, grow, refused

MODULES, LIMITS, POOLING = "modules.json", "sentence_bert_config.json", "1_Pooling/config.json"
GOOD = {
    MODULES: [
        {"type": "sentence_transformers.models.Transformer", "path": ""},
        {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
    ],
    LIMITS: {"max_seq_length": 8},
    POOLING: {"pooling_mode_cls_token": True},
}


NO_LIST, LEADS_OUT = Words("is not a list of modules"), Words("leads out of its folder")
TOO_DEEP = Words("while decoding a JSON array")


def case(name: str, file: str, content: Any, outcome: Outcome) -> Case:
    """A good sentence-transformers folder with other content of one file."""

    def spoil(folder: Path) -> None:
        (folder / "1_Pooling").mkdir()
        for path, value in {**GOOD, file: content}.items():
            text = value if isinstance(value, str) else json.dumps(value)
            (folder / path).write_text(text)

    return Case(name, spoil, outcome)


def pooling_in(path: Any, key: str, file: str = "config.json") -> Case:
    """A module whose folder is said to be elsewhere, where there is a good one."""
    modules = [GOOD[MODULES][0], {**GOOD[MODULES][1], "path": path}]
    good = case("", MODULES, modules, LOADED)

    def spoil(folder: Path) -> None:
        good.spoil(folder)
        shutil.copytree(folder / "1_Pooling", folder.parent / "1_Pooling")

    return Case(f"a module in {path!r:.40}", spoil, refused(file, key))


def limit(value: Any) -> Case:
    name = f"max_seq_length {value!r:.40}"
    return case(name, LIMITS, {"max_seq_length": value}, refused(LIMITS, "max_seq_length"))


def pooling(name: str, settings: Any, key: str = "pooling_mode") -> Case:
    return case(name, POOLING, settings, refused(POOLING, key))


def outside(folder: Path) -> None:
    """The pooling's config is a link to a good one beside the folder."""
    case("", LIMITS, {}, LOADED).spoil(folder)
    (folder / POOLING).rename(folder.parent / "config.json")
    (folder / POOLING).symlink_to("../../config.json")


GROUPS = (
    Group(
        "sentence",
        Embedder.from_pretrained,
        [
            case("all of it right", LIMITS, {"max_seq_length": 10**300}, LOADED),
            case("modules that are an object", MODULES, {}, refused(MODULES, NO_LIST)),
            case("modules that are numbers", MODULES, [1, 2], refused(MODULES, NO_LIST)),
            case("modules that are no JSON", MODULES, "[", refused(MODULES, Words("Expecting value"))),
            case("modules nested 100,000 deep", MODULES, "[" * 100_000, refused(MODULES, TOO_DEEP)),
            case("a module of code", MODULES, [{"type": "os.system"}], refused(MODULES, Words("a module system"))),
            case("a module without a type", MODULES, [{}], refused(MODULES, "type")),
            Case("modules of 100 MB", grow(MODULES, 100 * 2**20), refused(MODULES, Words("has 104857600 bytes"))),
            pooling_in("../1_Pooling", LEADS_OUT),
            pooling_in("/etc", LEADS_OUT),
            pooling_in("1_Pooling\0", LEADS_OUT),
            pooling_in("..\\1_Pooling", Words("No such file")),
            pooling_in("x" * 300, Words("File name too long")),
            pooling_in(7, "path", MODULES),
            pooling_in(["1_Pooling"], "path", MODULES),
            Case("a pooling that is a link out", outside, refused(POOLING, LEADS_OUT)),
            pooling("no pooling", {}),
            pooling("two poolings", {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}),
            pooling("a pooling that nobody knows", {"pooling_mode": "lasttoken"}),
            pooling("two poolings in a list", {"pooling_mode": ["mean", "max"]}),
            pooling("a pooling config that is a list", [], Words("is not a JSON object")),
            *map(limit, (0, -1, "8", 8.5, True, [8], -8.0)),
        ],
    ),
)
