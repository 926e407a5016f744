"""Names of parameters: from ours to the official ones, and from old official names to today's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

Mistakes = frozenset[str]

OFFICIAL_NAME = {
    "no prefix": "the prefix `bert.` is left out",
    "layers": "`layers` is kept, and the official word is `layer`",
    "one layer": "every layer is called layer 0",
    "no self": "query, key and value are not put under `self`",
    "output under self": "the attention's output is put under `self`, with query, key and value",
    "no dense": "the attention's output has no `dense` before weight and bias",
    "norms swapped": "the two norms of a layer have each other's names",
    "feed-forward swapped": "the two maps of the feed-forward block have each other's names",
    "segment": "the table of segments is called segment_embeddings instead of token_type_embeddings",
    "embedding norm kept": "the norm of the embeddings is not renamed",
    "always weight": "a bias gets the name of a weight",
}
MODERN_NAME = {
    "prefix kept": "the prefix `bert.` stays",
    "prefix of DistilBERT kept": "the prefix `distilbert.` stays",
    "prefix anywhere": "`bert.` is removed wherever it occurs, so that `distilbert.` loses its second half",
    "letters stripped": "lstrip('bert.') is used, which removes any of these letters and not a prefix",
    "first part removed": "the first part of every name is removed, the heads' names included",
    "gamma and beta kept": "gamma and beta keep their names",
    "beta kept": "beta keeps its name",
    "gamma and beta swapped": "gamma becomes the bias and beta the weight",
    "position ids kept": "position_ids gets a name, although it does not belong to the model",
}
_NAMES = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.segment": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.inner": "intermediate.dense",
    "feed_forward.outer": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
    "pooler.dense": "pooler.dense",
}


def official_name(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (name) -> official name, with the prefix `bert.`, for the parameters of BertModel."""
    looks = {"embeddings": "Look at the embeddings.", "encoder": "Look at this part of a layer.", "pooler": ""}
    places = [("", 0), ("encoder.layers.0.", 4), ("encoder.layers.11.", 4)]
    ours = [f"{start}{name}" for start, first in places for name in [*_NAMES][first:12] if start or name[0] == "e"]
    names = [f"{name}.weight" for name in [*ours, "pooler.dense"]] + ["embeddings.norm.bias", "pooler.dense.bias"]
    names += [f"encoder.layers.3.{name}.bias" for name in [*_NAMES][4:12]]
    cases = [Case(f"the name {name}", (name,), looks[name.partition(".")[0]]) for name in names]

    def truth(name: str, mistakes: Mistakes) -> str:
        module, _, last = name.rpartition(".")
        start, module = re.fullmatch(r"(encoder\.layers\.\d+\.)?(.+)", module).groups("")  # type: ignore[union-attr]
        if "norms swapped" in mistakes and module.endswith("_norm"):
            module = "feed_forward_norm" if module == "attention_norm" else "attention_norm"
        if "feed-forward swapped" in mistakes and module.startswith("feed_forward."):
            module = "feed_forward.inner" if module == "feed_forward.outer" else "feed_forward.outer"
        official = _NAMES[module]
        if "no self" in mistakes:
            official = official.replace(".self.", ".")
        if module == "attention.output":
            official = official.replace(".output", ".self.output") if "output under self" in mistakes else official
            official = official.removesuffix(".dense") if "no dense" in mistakes else official
        if "segment" in mistakes:
            official = official.replace("token_type", "segment")
        if "embedding norm kept" in mistakes and module == "embeddings.norm":
            official = module
        if "layers" not in mistakes:
            start = start.replace("layers", "layer")
        if "one layer" in mistakes:
            start = re.sub(r"\d+", "0", start)
        prefix = "" if "no prefix" in mistakes else "bert."
        return f"{prefix}{start}{official}.{'weight' if 'always weight' in mistakes else last}"

    return judge(mine, Task(truth, cases, OFFICIAL_NAME))


def modern_name(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (name) -> the name today and without the body's prefix; None for a stored position_ids."""
    layer = "encoder.layer.0.attention"
    names = {
        f"{layer}.self.query.weight": "Such a name stays as it is.",
        f"bert.{layer}.self.query.weight": "Look at the prefix.",
        "distilbert.transformer.layer.0.attention.q_lin.weight": "Look at the prefixes.",
        "bert.embeddings.LayerNorm.gamma": "Look at gamma.",
        f"bert.{layer}.output.LayerNorm.beta": "Look at beta.",
        f"bert.{layer}.output.LayerNorm.weight": "This norm has its new name already.",
        "cls.predictions.transform.LayerNorm.gamma": "Heads have norms, too.",
        "cls.seq_relationship.bias": "Only the body has a prefix.",
        "classifier.weight": "Only the body has a prefix.",
        "bert.embeddings.position_ids": "Look at position_ids.",
    }

    def truth(name: str, mistakes: Mistakes) -> str | None:
        if name.endswith("position_ids") and "position ids kept" not in mistakes:
            return None
        new = {"gamma": "weight", "beta": "bias"}
        if "gamma and beta swapped" in mistakes:
            new = {"gamma": "bias", "beta": "weight"}
        if "beta kept" in mistakes:
            del new["beta"]
        for old, word in () if "gamma and beta kept" in mistakes else new.items():
            name = re.sub(rf"(?<=\.){old}$", word, name)
        if "prefix anywhere" in mistakes:
            return name.replace("bert.", "")
        if "letters stripped" in mistakes:
            name = name.lstrip("bert.")  # noqa: B005
        if "first part removed" in mistakes:
            return name.partition(".")[2]
        kept = {"bert.": "prefix kept", "distilbert.": "prefix of DistilBERT kept"}
        return name.removeprefix(next((p for p, how in kept.items() if name.startswith(p) and how not in mistakes), ""))

    return judge(
        mine, Task(truth, [Case(f"the name {name}", (name,), look) for name, look in names.items()], MODERN_NAME)
    )
