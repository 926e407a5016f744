"""The picture at the top of the README: what attention and the hidden states of a BERT look like.

    python -m tests.programs.picture .github/inside.png

Left, four attention patterns. Right, the logit lens (nostalgebraist 2020): the word
that the masked-LM head reads from the hidden states after each layer, coloured by its probability.
"""

from __future__ import annotations

import sys

import matplotlib
import torch
from torch import Tensor

from minibert import BertForMaskedLM, BertTokenizer, Trace

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

TEXT = "Do not waste your [MASK] on this one."
HEADS = ((0, 3), (0, 0), (1, 2), (2, 3))  # the first two read the previous and the next piece


def main(path: str) -> None:
    tokenizer = BertTokenizer.from_pretrained("minibert-small")
    model = BertForMaskedLM.from_pretrained("minibert-small").eval()
    batch = tokenizer([TEXT])
    pieces = tokenizer.tokens(batch["input_ids"][0])
    trace = Trace("layers.*.attention.pattern", "layers.*.feed_forward.norm", "embeddings.output")
    with torch.no_grad():
        model(**batch, trace=trace)
        last = f"layers.{model.config.num_hidden_layers - 1}.feed_forward.norm"
        states = ["embeddings.output"]
        states += [f"layers.{n}.feed_forward.norm" for n in range(model.config.num_hidden_layers)]
        probabilities = [
            model(**batch, trace=Trace(replace={last: lambda _, name=name: trace[name]}))
            .logits[0]
            .softmax(-1)  # (S, V)
            for name in states
        ]
    figure = pyplot.figure(figsize=(13, 4.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.25])
    draw_patterns(left, trace, pieces)
    draw_lens(right, [row.max(-1) for row in probabilities], tokenizer, pieces)
    figure.savefig(path, dpi=100, pil_kwargs={"optimize": True})


def draw_patterns(figure, trace: Trace, pieces: list[str]) -> None:
    figure.suptitle("Attention: who reads whom", fontsize=12)
    panels = figure.subplots(2, 2, sharex=True, sharey=True).flat
    for panel, (layer, head) in zip(panels, HEADS, strict=True):
        panel.imshow(trace[f"layers.{layer}.attention.pattern"][0, head], cmap="Blues", vmin=0)
        panel.set_title(f"layer {layer}, head {head}", fontsize=9)
        panel.set_xticks(range(len(pieces)), pieces, rotation=90, fontsize=7)
        panel.set_yticks(range(len(pieces)), pieces, fontsize=7)


def draw_lens(figure, best: list[tuple[Tensor, Tensor]], tokenizer: BertTokenizer, pieces: list[str]) -> None:
    figure.suptitle("Hidden states: the word that each layer would predict", fontsize=12)
    panel = figure.subplots()
    panel.imshow(torch.stack([values for values, _ in best]), cmap="Greens", vmin=0, aspect="auto")
    for row, (values, ids) in enumerate(best):
        for column, piece in enumerate(tokenizer.tokens(ids)):
            colour = "white" if values[column] > 0.6 else "black"
            panel.text(column, row, piece, ha="center", va="center", fontsize=8, color=colour)
    panel.set_xticks(range(len(pieces)), pieces, fontsize=9)
    rows = ["embeddings", *(f"after layer {number}" for number in range(len(best) - 1))]
    panel.set_yticks(range(len(best)), rows, fontsize=9)


if __name__ == "__main__":
    main(sys.argv[1])
