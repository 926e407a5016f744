"""Probing with controls: where does the network know something, and does the probe find it there or learn it itself?

A probe is a small classifier on the hidden states of a frozen model (Alain and Bengio 2016). What its accuracy is
worth, only comparisons tell:

- the majority class, and the same probe on word embeddings alone, which have not seen any other word;
- a control task of random labels, one for each word, or for each text (Hewitt and Liang 2019, section 2): what a probe
  reaches there it memorised. Selectivity is accuracy less that. Texts of the test set are new, so the control of a
  task over texts, or over one word of each sentence, is a guess;
- description length (Voita and Titov 2020, section 3.2, "online code"): the bits that the training labels take if each
  portion is predicted by a probe on the portions before it. Compression is uniform bits divided by these: 1 says that
  nothing was found, and the more easily the labels are read, the higher it is.

    >>> found = probe(model, tokenizer, train=[("a fine day", "good"), ...], test=[("rain again", "bad"), ...])
    >>> print(found)
    >>> found.picture().save("layers.png")
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from minibert.base import Model
from minibert.data import Dataset, Example, TaggedExample, collate, plan_batches
from minibert.io.errors import ConfigError, DataError
from minibert.io.seeds import mixed_seed
from minibert.io.tables import table
from minibert.layout import Layout
from minibert.study.classifiers import Fit, linear, with_hidden_layer
from minibert.study.lens import STATES
from minibert.study.pictures import Picture, new_figure
from minibert.study.sentence import run
from minibert.tokenizer import BertTokenizer

Item = tuple[Any, Any]  # (text or pair of texts, label), or (words, a tag for each)
Interval = tuple[float, float, float]  # a share, and the ends of its 95% bootstrap interval over test items

PORTIONS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
FIRST = 8  # the smallest portion, in texts or sentences
RESAMPLES = 1000  # of the bootstrap
BATCH = 32  # texts in a forward pass


@dataclass(frozen=True)
class Score:
    """What a probe finds in one place.

    Attributes:
        layer: "words" for the word embeddings alone, "embeddings" for layer 0's input, or "layer 0" and so on.
        pooling: which vector stands for a text, "cls" or "mean"; "first piece" for each word of a sentence.
        accuracy, control: on the test set, of the task and of its control task.
        selectivity: accuracy less control.
        bits: the description length of the training labels.
        compression: how often these bits go into those of the labels without any model.
    """

    layer: str
    pooling: str
    accuracy: Interval
    control: Interval
    selectivity: Interval
    bits: float
    compression: float


@dataclass(frozen=True)
class Probing:
    """What probes find in each layer and pooling of a model.

    Attributes:
        scores: one for each place, those of the word embeddings first.
        majority: the accuracy of always answering with the most frequent class of the training set.
        classes: the labels of the training set.
        unknown: how many labels of the test set are none of these: no probe can be right there.
    """

    scores: Sequence[Score]
    majority: Interval
    classes: Sequence[str]
    unknown: int

    def top(self, count: int = 3) -> list[tuple[str, float]]:
        """The places where the labels are most easily read, and their compression."""
        best = sorted(self.scores, key=lambda score: -score.compression)[:count]
        return [(f"{score.layer}, {score.pooling}", score.compression) for score in best]

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return asdict(self)

    def __str__(self) -> str:
        header = ("place", "pooling", "accuracy", "95% interval", "control", "selectivity", "95% interval")
        rows: list[tuple[Any, ...]] = [("majority class", "", *_shown(self.majority), "", "", "", "", "")]
        for score in self.scores:
            shown = (*_shown(score.accuracy), _shown(score.control)[0], *_shown(score.selectivity))
            rows.append((score.layer, score.pooling, *shown, f"{score.bits:.0f}", f"{score.compression:.2f}"))
        lines = [table(rows, (*header, "bits", "compression"))]
        if self.unknown:
            lines.append(f"Labels of the test set that do not occur in training, and count as errors: {self.unknown}.")
        return "\n".join(lines)

    def picture(self) -> Picture:
        """Accuracy, control and selectivity by layer, one panel for each pooling, with the baselines as lines."""
        poolings = sorted({score.pooling for score in self.scores})
        figure = new_figure(1 + 4.2 * len(poolings), 3.6)
        for axes, pooling in zip(
            figure.subplots(1, len(poolings), sharey=True, squeeze=False)[0], poolings, strict=True
        ):
            scores = [score for score in self.scores if score.pooling == pooling and score.layer != "words"]
            names = [score.layer.replace("layer ", "") for score in scores]
            for label, colour in (("accuracy", "#2166ac"), ("control", "grey"), ("selectivity", "#b2182b")):
                means, lows, highs = zip(*(getattr(score, label) for score in scores), strict=True)
                axes.plot(
                    names, means, color=colour, label=label, marker=".", linestyle="--" if label == "control" else "-"
                )
                axes.fill_between(names, lows, highs, color=colour, alpha=0.15, linewidth=0)
            for score in self.scores:
                if score.layer == "words" and score.pooling == pooling:
                    axes.axhline(score.accuracy[0], color="#2166ac", linestyle=":", label="accuracy, word embeddings")
            axes.axhline(self.majority[0], color="black", linewidth=0.7, label="majority class")
            axes.set_title(pooling, fontsize="medium")
            axes.set_xlabel("after layer")
        labels = {
            name: line for axes in figure.axes for line, name in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=3, frameon=False)
        best = max(self.scores, key=lambda score: score.compression)
        found = f"{best.accuracy[0]:.2f} with selectivity {best.selectivity[0]:+.2f}"
        alt = f"Accuracy of probes by layer. The labels are most easily read at {best.layer}, {best.pooling}: {found}"
        return Picture(figure, f"{alt}; the majority class has {self.majority[0]:.2f}.")


def probe(
    model: Model,
    tokenizer: BertTokenizer,
    train: Sequence[Item],
    test: Sequence[Item],
    *,
    hidden: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> Probing:
    """Trains probes on every layer of a frozen model, and measures them on the test set.

    Args:
        model: any; its head plays no part.
        train, test: (text, label) with a string or a whole number for a label, where the text may be a pair of texts;
            or (words, tags), a list of words and a list of as many tags: then each word is one decision, from its
            first piece, but words with the tag None and words beyond the tokenizer's longest text are left out.
        hidden: units of the hidden layer of the probe; 0 for a linear one, logistic regression with the penalty of
            scikit-learn's C = 1. (A probe with a hidden layer finds more, and memorises more.)
        seed: of control labels, portions and hidden layers. The same seed gives the same numbers.
        progress: show bars on standard error, if that is a terminal.

    Raises:
        DataError: there are no items, they are of both kinds, words and tags are unequally many, or the labels have
            fewer than two classes.
    """
    if hidden < 0:
        raise ConfigError(f"hidden is {hidden}, but it must be 0 or more.", key="hidden")
    over_words = _over_words(train, "train")
    if _over_words(test, "test") != over_words:
        raise DataError("train and test must both hold texts, or both tagged words.", key="test")
    sets = [_Set.of(model, tokenizer, items, over_words, progress) for items in (train, test)]
    classes = sorted(set(sets[0].labels))
    if len(classes) < 2:
        found = f"the one label {classes[0]!r}" if classes else "no tags"
        raise DataError(f"train has {found}: there is nothing to tell apart.", key="train")
    truth = [torch.tensor([classes.index(x) if x in classes else -1 for x in each.labels]) for each in sets]  # (rows,)
    if bool((truth[1] < 0).all()):  # or there are none
        raise DataError("None of the labels of the test set occurs in training.", key="test")
    control = _control_labels([each.types for each in sets], truth[0], mixed_seed("control", seed))
    fit = with_hidden_layer(len(classes), hidden, mixed_seed("probe", seed)) if hidden else linear(len(classes))

    def hits(place: tuple[str, str], labels: Sequence[Tensor]) -> Tensor:
        """(rows,) where the probe is right on the test set."""
        answer = fit(sets[0].features[place], labels[0])
        return answer(sets[1].features[place]).argmax(dim=1) == labels[1]  # (rows,)

    items = sets[1].items
    scores = []
    for place in tqdm(sets[0].features, desc="probes", disable=None if progress else True):
        right, by_chance = hits(place, truth).double(), hits(place, control).double()  # (rows,) each
        bits = _description_length(fit, sets[0], place, truth[0], len(classes), mixed_seed("portions", seed))
        uniform = len(truth[0]) * torch.tensor(len(classes)).log2().item()
        accuracy, chance, gain = (_interval(values, items) for values in (right, by_chance, right - by_chance))
        scores.append(Score(place[0], place[1], accuracy, chance, gain, bits, uniform / bits))
    most_frequent = truth[0].bincount().argmax()
    majority = _interval((truth[1] == most_frequent).double(), items)
    return Probing(scores, majority, classes, int((truth[1] < 0).sum()))


@dataclass(frozen=True)
class _Set:
    """The rows of a training or test set: one for each text, or for each word.

    Attributes:
        items: (rows,) the number of the item that a row belongs to.
        labels: the label of each row.
        types: what a row shares its control label with: the text, or the word.
        features: (layer, pooling) -> (rows, D).
    """

    items: Tensor
    labels: list[str]
    types: list[Hashable]
    features: dict[tuple[str, str], Tensor]

    @classmethod
    def of(
        cls, model: Model, tokenizer: BertTokenizer, items: Sequence[Item], over_words: bool, progress: bool
    ) -> _Set:
        if not over_words:
            texts = [text if isinstance(text, tuple) else (text,) for text, _ in items]
            rows = Dataset([Example(*text[:2]) for text in texts], tokenizer)
            features = _features(model, tokenizer, rows, None, progress)
            return cls(torch.arange(len(items)), [str(label) for _, label in items], [*texts], features)
        rows = Dataset([TaggedExample(tuple(words)) for words, _ in items], tokenizer)
        columns = [_tagged(ids, tags) for ids, (_, tags) in zip(rows.word_ids or [], items, strict=True)]
        places = [(item, word) for item, of_words in enumerate(columns) for word in of_words]
        types: list[Hashable] = [items[item][0][word] for item, word in places]
        if tokenizer.lowercase:
            types = [str(word).lower() for word in types]
        if all(len(of_words) < 2 for of_words in columns):  # a decision for each sentence, perhaps always at one word
            types = [tuple(items[item][0]) for item, _ in places]
        return cls(
            torch.tensor([item for item, _ in places]),
            [str(items[item][1][word]) for item, word in places],
            types,
            _features(model, tokenizer, rows, [[*of_words.values()] for of_words in columns], progress),
        )


def _over_words(items: Sequence[Item], name: str) -> bool:
    """Whether items are tagged words; DataError where they are not all of one kind, or of neither."""
    if not items:
        raise DataError(f"{name} holds no items.", key=name)
    over_words = isinstance(items[0][1], list | tuple)
    for number, (given, labels) in enumerate(items):
        fault = None
        if over_words != isinstance(labels, list | tuple):
            fault = "is of another kind than the first: a text has one label, and words have a list of tags"
        elif over_words and len(given) != len(labels):
            fault = f"has {len(given)} words and {len(labels)} tags"
        elif not over_words and not isinstance(labels, str | int):
            fault = f"has the label {labels!r}, which is not a name or a whole number"
        if fault is not None:
            raise DataError(f"Item {number} of {name} {fault}.", key=f"{name}[{number}]")
    return over_words


def _tagged(word_ids: Sequence[int | None], tags: Sequence[Any]) -> dict[int, int]:
    """Each word that has a tag -> the column of its first piece."""
    columns: dict[int, int] = {}
    for column, word in enumerate(word_ids):
        if word is not None and tags[word] is not None:
            columns.setdefault(word, column)
    return columns


def _features(
    model: Model, tokenizer: BertTokenizer, rows: Dataset, columns: list[list[int]] | None, progress: bool
) -> dict[tuple[str, str], Tensor]:
    """(layer, pooling) -> (rows, D), from one pass over all texts; `columns` are those to read of each text."""
    device = next(model.parameters()).device
    found: dict[tuple[str, str], dict[int, Tensor]] = {}
    plan = plan_batches(rows.lengths, batch_size=BATCH, shuffle=False)
    for texts in tqdm(plan, desc="hidden states", disable=None if progress else True):
        batch = collate([rows[text] for text in texts], pad_id=tokenizer.pad_id)  # (B, S) each
        inputs = {name: tensor.to(device) for name, tensor in batch.items()}
        _, trace = run(model.body, inputs, "embeddings.word", *STATES)
        assert trace.layout is not None
        for number, value in enumerate(trace.values.values()):
            layer = ("words", "embeddings")[number] if number < 2 else f"layer {number - 2}"
            for pooling, pooled in _pooled(value, trace.layout, columns and [columns[text] for text in texts]).items():
                if (layer, pooling) != ("words", "cls"):  # the same vector for all texts
                    found.setdefault((layer, pooling), {}).update(zip(texts, pooled, strict=True))
    return {place: torch.cat([of_text[text] for text in range(len(rows))]) for place, of_text in found.items()}


def _pooled(value: Tensor, layout: Layout, columns: list[list[int]] | None) -> dict[str, list[Tensor]]:
    """Pooling -> for each text of a batch its rows (rows of the text, D) of a packed value (T, D)."""
    padded = layout.pad(value.float()).cpu()  # (B, S, D)
    if columns is not None:
        return {"first piece": [text[of_text] for text, of_text in zip(padded, columns, strict=True)]}
    lengths = layout.mask.cpu().sum(dim=1)  # (B,)
    return {"cls": [*padded[:, :1]], "mean": [*(padded.sum(dim=1) / lengths[:, None])[:, None]]}  # (1, D) each


def _control_labels(types: Sequence[Sequence[Hashable]], labels: Tensor, seed: int) -> list[Tensor]:
    """(rows,) each: one random class for each type, drawn by how frequent the classes are in (rows,) labels."""
    every = list(dict.fromkeys(kind for each in types for kind in each))
    generator = torch.Generator().manual_seed(seed)
    drawn = labels[torch.randint(len(labels), (len(every),), generator=generator)]  # (types,)
    label_of = dict(zip(every, drawn.tolist(), strict=True))
    return [torch.tensor([label_of[kind] for kind in each]) for each in types]


def _description_length(fit: Fit, rows: _Set, place: tuple[str, str], labels: Tensor, classes: int, seed: int) -> float:
    """The bits of the labels (rows,) in the online code: the first portion uniform, each other by a probe.

    A probe's probabilities are mixed with uniform ones as if each class had been seen once more: a class that is new in
    a portion would take infinitely many bits otherwise.
    """
    every, item = rows.items.unique(return_inverse=True)
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))[item]  # (rows,)
    ends = sorted({round(share * len(every)) for share in PORTIONS})
    ends = [end for end in ends if end >= min(FIRST, len(every))]
    bits = (order < ends[0]).sum() * torch.tensor(classes).log2()
    for known, end in pairwise(ends):
        seen, new = order < known, (order >= known) & (order < end)  # (rows,) each
        logits = fit(rows.features[place][seen], labels[seen])(rows.features[place][new])  # (rows, C)
        count = int(seen.sum())
        chances = (logits.double().softmax(dim=1) * count + 1) / (count + classes)  # (rows, C)
        bits = bits - chances.gather(1, labels[new][:, None]).log2().sum()
    return float(bits)


def _interval(values: Tensor, items: Tensor) -> Interval:
    """The mean of values (rows,) and its 95% percentile bootstrap interval over items, so by whole sentences."""
    _, item = items.unique(return_inverse=True)
    sums, counts = (item.bincount(weights, minlength=1) for weights in (values, torch.ones_like(values)))  # (items,)
    generator = torch.Generator().manual_seed(mixed_seed("bootstrap"))
    drawn = torch.randint(len(sums), (RESAMPLES, len(sums)), generator=generator)  # (resamples, items)
    means = sums[drawn].sum(dim=1) / counts[drawn].sum(dim=1)  # (resamples,)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=means.dtype)).tolist()
    return values.mean().item(), low, high


def _shown(interval: Interval) -> tuple[str, str]:
    mean, low, high = interval
    return f"{mean:.3f}", f"{low:.3f} to {high:.3f}"
