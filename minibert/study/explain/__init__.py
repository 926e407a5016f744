"""`minibert explain`: one sentence going through a model, as a page with the real numbers.

The page is one HTML file without any reference to the network. It holds pieces and ids, the three embeddings, q, k and
v of every head, every pattern, what each block writes, the strongest neurons, what the lens reads and the account of
the answer. The other numbers (scores, contexts, sums, norms) are computed in the page by the lesson's equations.

    >>> explain(model, tokenizer, "A great movie.").save("page.html")

In a notebook a `Page` shows itself. Without scripts the pieces, all patterns at a glance, the lens and the account are
still there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from torch import Tensor
from torch.nn import functional as F

from minibert import heads
from minibert.base import Model
from minibert.io.errors import DataError, InputError
from minibert.io.files import write_text
from minibert.study.account import Account, account
from minibert.study.explain.arrays import pack, png
from minibert.study.lens import Lens, lens
from minibert.study.readout import answers, asked
from minibert.study.sentence import Sentence, in_float64, labels_of, run, sentence
from minibert.tokenizer import BertTokenizer
from minibert.trace import Trace

MOST_PIECES = 256  # the size of a page grows with their square
BEST = 5  # answers of the head
LENS = 3  # answers of the lens at a piece
THUMBNAIL = 32  # pixels of a pattern at a glance
NEURONS = 6  # of a feed-forward block, at a piece
CAUSES = 24  # of an account, in its table
MOST_ACCOUNTS = 6

FOLDER = Path(__file__).parent
LESSON = FOLDER.parents[1]

# Step of the page -> the file of the lesson, and its chapter.
SOURCES = {
    "pieces": ("wordpiece.py", "01"),
    "embeddings": ("embeddings.py", "02"),
    "vectors": ("attention.py", "03"),
    "scores": ("attention.py", "03"),
    "pattern": ("attention.py", "03"),
    "context": ("attention.py", "03"),
    "add": ("encoder.py", "04"),
    "feed": ("layers.py", "04"),
    "lens": ("study/lens.py", "16"),
    "answer": ("heads.py", "07"),
}


@dataclass(frozen=True)
class Page:
    """A page of `explain`."""

    title: str
    _values: dict[str, Any]

    def html(self, folder: str | Path | None = None) -> str:
        """The whole page; links to the lesson's files start from a folder, and are left out without one."""
        environment = Environment(
            loader=FileSystemLoader(FOLDER),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        script = (FOLDER / "page.js").read_text(encoding="utf-8")
        facts = {**self._values["facts"], "sources": _sources(folder)}
        return environment.get_template("page.html.j2").render(
            **{**self._values, "facts": json.dumps(facts).replace("<", "\\u003c")},
            title=self.title,
            style=(FOLDER / "page.css").read_text(encoding="utf-8"),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )

    def save(self, path: str | Path) -> None:
        """Writes the page; DiskError if that fails."""
        write_text(Path(path), self.html(Path(path).parent))

    def _repr_html_(self) -> str:
        frame = 'sandbox="allow-scripts" width="100%" height="860" style="border: 0"'
        return f'<iframe title="{escape(self.title)}" {frame} srcdoc="{escape(self.html())}"></iframe>'


def explain(
    model: Model,
    tokenizer: BertTokenizer,
    text: str,
    pair: str | None = None,
    *,
    compare: str | None = None,
    name: str | None = None,
) -> Page:
    """Runs a sentence, or two to compare, through a model and makes the page.

    Args:
        pair: the second text, for a model of pairs.
        compare: another sentence; the page switches between the two at every step.
        name: what to call the model on the page; by default its class.

    Raises:
        DataError: the text has more than 256 pieces.
    """
    exact = in_float64(model)
    given = [sentence(tokenizer, each, pair, exact) for each in ([text] if compare is None else [text, compare])]
    for each in given:
        if len(each.tokens) > MOST_PIECES:
            message = f"The text has {len(each.tokens)} pieces, and a page holds up to {MOST_PIECES}."
            raise DataError(message, key="text", hint="Take a sentence or a paragraph of it.")
    arrays: dict[str, Tensor] = _norms(exact)
    if exact.body.embeddings.segment is not None:
        arrays["segment"] = exact.body.embeddings.segment.weight  # (segments, D)
    seen = [_sentence(exact, tokenizer, each, number, arrays) for number, each in enumerate(given)]
    config, name = exact.config, name or type(model).__name__
    index, length, numbers = pack(arrays)
    facts = {
        "layers": config.num_hidden_layers,
        "heads": [config.heads_of(layer) for layer in range(config.num_hidden_layers)],
        "size": config.hidden_size,
        "headSize": config.head_size,
        "inner": config.intermediate_size,
        "eps": config.layer_norm_eps,
        "sentences": [each["facts"] for each in seen],
        "index": index,
        "bytes": length,
    }
    sizes = f"{config.num_hidden_layers} layers of {config.num_attention_heads} heads, D = {config.hidden_size}"
    values = {"facts": facts, "numbers": numbers, "sentences": seen, "model": name, "sizes": sizes}
    return Page(f"{text} · {name}", values)


def _norms(model: Model) -> dict[str, Tensor]:
    """The gains and biases of the layer norms, which the page computes itself."""
    norms = {"embeddings": model.body.embeddings.norm}
    for number, layer in enumerate(model.body.encoder.layers):
        norms |= {f"{number}.attention": layer.attention_norm, f"{number}.feed": layer.feed_forward_norm}
    parts = {f"norm.{name}.gain": norm.weight for name, norm in norms.items()}  # (D,) each
    return parts | {f"norm.{name}.bias": norm.bias for name, norm in norms.items()}


def _sentence(
    model: Model, tokenizer: BertTokenizer, given: Sentence, number: int, arrays: dict[str, Tensor]
) -> dict[str, Any]:
    """What the page shows of one sentence; its numbers go into `arrays`."""
    output, trace = run(model, given.inputs, "*")
    for part in ("word", "position"):
        arrays[f"{number}.{part}"] = trace[f"embeddings.{part}"]  # (T, D)
    neurons = []
    for layer, block in enumerate(model.body.encoder.layers):
        name = f"layers.{layer}"
        for part in ("query", "key", "value"):
            arrays[f"{number}.{layer}.{part}"] = trace[f"{name}.attention.{part}"]  # (T, N, H)
        arrays[f"{number}.{layer}.pattern"] = trace[f"{name}.attention.pattern"][0]  # (N, S, S)
        arrays[f"{number}.{layer}.attended"] = trace[f"{name}.attention.output"]  # (T, D)
        arrays[f"{number}.{layer}.fed"] = trace[f"{name}.feed_forward.output"]  # (T, D)
        active = trace[f"{name}.feed_forward.activation"]  # (T, F)
        strength = active.abs() * block.feed_forward.outer.weight.norm(dim=0)  # (T, F): of what each neuron writes
        best = strength.topk(min(NEURONS, strength.shape[1]), dim=1)  # (T, neurons)
        rows = zip(best.indices.tolist(), active.gather(1, best.indices).tolist(), best.values.tolist(), strict=True)
        neurons.append([[[n, _short(a), _short(s)] for n, a, s in zip(*row, strict=True)] for row in rows])
    looked = _known(lambda: lens(model, tokenizer, given.text, given.pair))
    accounts = _known(lambda: _accounts(model, tokenizer, given, output)) if looked is not None else None
    ids = given.inputs["input_ids"][0].tolist()
    facts = {
        "text": given.text if given.pair is None else f"{given.text} [SEP] {given.pair}",
        "tokens": given.tokens,
        "ids": ids,
        "words": _words(given),
        "segments": given.inputs.get("token_type_ids", torch.zeros(1, len(ids)))[0].long().tolist(),
        "neurons": neurons,
    }
    return {
        "facts": facts,
        "pieces": [*zip(given.tokens, _words(given), ids, _marks(tokenizer, given), strict=True)],
        "model_view": _model_view(trace, model.config.num_hidden_layers),
        "lens": None if looked is None else _lens_table(looked),
        "answers": [] if looked is None else _answers(model, given, looked),
        "accounts": [_account_table(found) for found in accounts or []],
    }


def _known(read: Callable[[], Any]) -> Any:
    """What a tool says, or None for a model that it does not know: without a head, or with one of its own."""
    try:
        return read()
    except InputError as error:
        if error.key != "model":
            raise
        return None


def _words(given: Sentence) -> list[int]:
    """The number of the word of each piece over both texts; special pieces are words by themselves."""
    result: list[int] = []
    for column, word in enumerate(given.word_ids):
        continues = column > 0 and word is not None and word == given.word_ids[column - 1]
        result.append((result[-1] if result else -1) + (not continues))
    return result


def _marks(tokenizer: BertTokenizer, given: Sentence) -> list[str]:
    """What is special about each piece, in words."""
    words = _words(given)
    marks = []
    for token, word in zip(given.tokens, words, strict=True):
        if token in tokenizer.special_tokens:
            marks.append("not in the vocabulary" if token == "[UNK]" else "special")
        else:
            marks.append("part of a split word" if words.count(word) > 1 else "")
    return marks


def _model_view(trace: Trace, layers: int) -> dict[str, Any]:
    """All patterns in one picture: layers from top to bottom, heads from left to right."""
    patterns = [trace[f"layers.{layer}.attention.pattern"][0].float() for layer in range(layers)]
    if patterns[0].shape[-1] > THUMBNAIL:
        patterns = [F.adaptive_max_pool2d(pattern, THUMBNAIL) for pattern in patterns]
    most, size = max(len(pattern) for pattern in patterns), patterns[0].shape[-1]
    gap = max(1, size // 16)
    sheet = np.zeros((layers * (size + gap) - gap, most * (size + gap) - gap))
    for layer, pattern in enumerate(patterns):
        for head, weights in enumerate(pattern.sqrt().cpu().numpy()):  # the root: small weights show, too
            top, left = layer * (size + gap), head * (size + gap)
            sheet[top : top + size, left : left + size] = weights
    data = base64.b64encode(png(sheet, (46, 108, 214))).decode()
    return {"data": data, "layers": layers, "heads": most, "height": sheet.shape[0], "width": sheet.shape[1]}


def _lens_table(looked: Lens) -> list[dict[str, Any]]:
    """For each layer, the best answers at each piece, or at [CLS]."""
    rows = []
    for layer in range(len(looked)):
        best = looked.probabilities(layer).topk(min(LENS, len(looked.names)), dim=-1)  # (S, best) each
        cells = [
            [(looked.names[n], _short(chance)) for n, chance in zip(numbers, chances, strict=True)]
            for numbers, chances in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
        rows.append({"name": "embeddings" if layer == 0 else f"layer {layer - 1}", "cells": cells})
    return rows


def _answers(model: Model, given: Sentence, looked: Lens) -> list[dict[str, Any]]:
    """The answers of the head: for the sentence, or for each [MASK] or each piece."""
    chances = looked.probabilities(len(looked) - 1)  # (S, C), or (1, C)
    if isinstance(model, heads.BertForQuestionAnswering):
        return [
            {"what": f"{name} of the answer", "best": _best(column, _numbered(given))}
            for name, column in zip(labels_of(model), chances.t(), strict=True)  # (2, S)
        ]
    if not looked.over_tokens:
        return [{"what": "the sentence", "best": _best(chances[0], looked.names, most=20)}]
    return [
        {"what": f"{given.tokens[column]} ({column})", "best": _best(chances[column], looked.names)}
        for column in asked(model, given)
    ]


def _best(chances: Tensor, names: Sequence[str], most: int = BEST) -> list[tuple[str, float]]:
    best = chances.topk(min(most, len(chances)))
    return [(names[n], _short(chance)) for n, chance in zip(best.indices.tolist(), best.values.tolist(), strict=True)]


def _numbered(given: Sentence) -> list[str]:
    return [f"{token} ({column})" for column, token in enumerate(given.tokens)]


def _accounts(model: Model, tokenizer: BertTokenizer, given: Sentence, output: Any) -> list[Account]:
    """One for each class of a sentence, or for the best answer at each column of interest."""
    both = given.text, given.pair
    logits = answers(output)[0]  # (S, V), or (C,)
    if logits.dim() == 1:
        best = logits.argsort(descending=True)[:MOST_ACCOUNTS].tolist()
        return [account(model, tokenizer, *both, target=number) for number in best]
    if isinstance(model, heads.BertForQuestionAnswering):
        ends = logits.argmax(dim=0).tolist()
        return [account(model, tokenizer, *both, target=end, position=column) for end, column in enumerate(ends)]
    return [account(model, tokenizer, *both, position=column) for column in asked(model, given)[:MOST_ACCOUNTS]]


def _account_table(found: Account) -> dict[str, Any]:
    """The largest causes, with the layer and head that they belong to."""
    largest = found.top(CAUSES)
    most = max((abs(share) for _, share in largest), default=1.0)
    rows = []
    for name, share in largest:
        parts = name.split(".")
        layer = int(parts[1]) if parts[0] == "layers" else None
        head = int(parts[2].split()[1]) if layer is not None and parts[2].startswith("head ") else None
        width = round(50 * abs(share) / most, 1)
        rows.append({"name": name, "share": share, "width": width, "layer": layer, "head": head})
    others = found.total - sum(share for _, share in largest)
    by_token = [*zip(found.tokens, found.by_source().tolist(), strict=True)]
    return {
        "what": found.what, "value": found.value, "rows": rows, "others": others, "total": found.total,
        "count": len(found.causes()) - len(largest), "by_token": by_token,
    }  # fmt: skip


def _sources(folder: str | Path | None) -> dict[str, list[str | None]]:
    """Step -> the file of the lesson, its chapter, and a link from a folder to the file."""
    return {step: [name, chapter, _link(folder, LESSON / name)] for step, (name, chapter) in SOURCES.items()}


def _link(folder: str | Path | None, path: Path) -> str | None:
    try:
        return None if folder is None else Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return None


def _short(value: float) -> float:
    """Five significant digits."""
    return float(f"{value:.5g}")
