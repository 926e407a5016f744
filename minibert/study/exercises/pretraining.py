"""The parts of pre-training: masking tokens, and pairs of sentences.

Their answers are random, so they are judged by what has to hold of them, on input so large that shares are known to
within a few percent. A right function is never off by as much as is allowed here, seven standard deviations or more.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minibert.io.seeds import mixed_seed
from minibert.study.exercises.verdict import Verdict, traceback_of

PAD, MASK, SPECIAL, SIZE = 0, 4, 5, 200  # ids below 5 are special tokens; V
SHARE = 0.3  # of the tokens; not the usual 15%, to see whether the function reads it
NEAR, NEAR_FATE = 0.012, 0.03  # how far a share may be off
IGNORED = -100

MASKING = {
    "no -100": "tokens that were not chosen keep their id as a label, instead of -100",
    "other ignored label": "tokens that were not chosen have another label than -100",
    "labels after masking": "the labels are taken from the ids after they were masked",
    "special tokens chosen": "special tokens are chosen, too: [CLS], [SEP] and [PAD] say nothing to learn from",
    "share ignored": "15% of the tokens are chosen, whatever `share` says",
    "inverted": "the tokens that should not be chosen are, and the others are not",
    "kept ones unlabelled": "chosen tokens that stay as they are have no label",
    "all masked": "every chosen token becomes [MASK]",
    "none kept": "of the chosen tokens 80% become [MASK] and 20% a random piece; none stays as it is",
    "none replaced": "of the chosen tokens 80% become [MASK] and 20% stay as they are; none becomes a random piece",
    "shares of the rest": "the 10% of random pieces are taken of what the 80% leave, so that they are 2%",
    "two draws": "[MASK] and the random piece are drawn apart from each other, so that one overwrites the other",
    "random special tokens": "special tokens are among the random pieces",
    "one random piece": "all random pieces are the same one",
    "same columns": "the same columns are chosen in every row",
    "generator unused": "the draws do not depend on `generator`",
    "ids changed": "the ids that were given are changed in place",
}
# What becomes of chosen tokens: [MASK], random, as it was.
FATES = {
    "all masked": (1.0, 0.0, 0.0), "none kept": (0.8, 0.2, 0.0), "none replaced": (0.8, 0.0, 0.2),
    "shares of the rest": (0.8, 0.02, 0.18), "two draws": (0.72, 0.1, 0.18),
}  # fmt: skip
PAIRS = {
    "labels reversed": "the labels are reversed: 0 means that the second follows",
    "across documents": "the last sentence of a document is paired with the first of the next one",
    "own document": "the second sentence with label 1 may come from the same document",
    "all follow": "every second sentence follows",
    "none follows": "no second sentence follows",
    "always a document's first": "the sentence from elsewhere is always the first one of its document",
    "always the next document": "the sentence from elsewhere always comes from the next document",
    "every second pair": "a sentence is used in one pair only, so that every second pair is missing",
    "first replaced": "the first sentence of a pair is replaced instead of the second",
    "generator unused": "the draws do not depend on `draw`",
}


def mask_tokens(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (ids, special, mask_id, size, share, generator) -> (masked ids, labels), (B, S) each.

    ids are (B, S); `special` holds the ids of special tokens, `mask_id` among them; `size` is V; `share` is the chance
    of a token to be chosen, and `generator` a torch.Generator for all draws.
    """
    ids = _rows_of_ids()  # (B, S)
    before = ids.clone()  # (B, S)
    special = torch.arange(SPECIAL)  # (special tokens,)

    def call(seed: int, given: Tensor) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(mixed_seed("mask tokens", seed))
        masked, labels = (torch.as_tensor(x) for x in mine(given, special, MASK, SIZE, SHARE, generator))
        return masked, labels

    try:
        if mine(ids.clone(), special, MASK, SIZE, SHARE, torch.Generator()) is None:
            return Verdict(False, "Not written yet: the function returns None.")
        masked, labels = call(0, ids)
        again, _ = call(0, before.clone())
        other, _ = call(1, before.clone())
    except Exception as error:  # the code is the reader's
        return Verdict(False, f"The function stopped with an error.\n{traceback_of(error)}")
    for name, found in (("masked ids", masked), ("labels", labels)):
        if found.shape != before.shape or found.is_floating_point() or found.dtype == torch.bool:
            given = f"{tuple(found.shape)} {str(found.dtype).removeprefix('torch.')}"
            return Verdict(False, f"The {name} have to be {tuple(before.shape)} int64; they are {given}.")
    known, unknown = _masking_problems(before, masked, labels)
    if not torch.equal(ids, before):
        known.append("ids changed")
    if torch.equal(masked, other) and bool((masked != before).any()):
        known.append("generator unused")
    elif not torch.equal(masked, again):
        unknown.append("two calls with equal generators differ, so some draws do not come from `generator`")
    return _verdict(known, unknown, MASKING, "ids, labels and shares")


def _rows_of_ids() -> Tensor:
    """(300, 200): [CLS] pieces [SEP], and padding behind two rows of three."""
    generator = torch.Generator().manual_seed(mixed_seed("rows to mask"))
    ids = torch.randint(SPECIAL, SIZE, (300, 200), generator=generator)  # (B, S)
    lengths = torch.tensor([200, 180, 160]).repeat(100)  # (B,)
    ids[:, 0] = 2
    ids[torch.arange(len(ids)), lengths - 1] = 3
    return torch.where(torch.arange(200) < lengths[:, None], ids, PAD)  # (B, S)


def _masking_problems(ids: Tensor, masked: Tensor, labels: Tensor) -> tuple[list[str], list[str]]:
    """The known mistakes, and what else is wrong."""
    known: list[str] = []
    unknown: list[str] = []
    ordinary, ignored = ids >= SPECIAL, IGNORED
    if torch.equal(labels, ids):  # nothing tells which were chosen, except that they changed
        known.append("no -100")
        chosen = masked != ids  # (B, S)
    else:
        if not bool((labels == IGNORED).any()):
            ignored = int(labels[~ordinary].mode().values)
            known.append("other ignored label")
        chosen = labels != ignored  # (B, S)
    counted = chosen & ordinary  # (B, S)
    hidden = counted & (masked == MASK)  # (B, S)
    if bool(hidden.any()) and bool((labels[hidden] == MASK).all()):
        known.append("labels after masking")
    elif bool((labels[chosen] != ids[chosen]).any()):
        return known, ["labels of chosen tokens are not their ids"]
    if bool((chosen & ~ordinary).any()):
        known.append("special tokens chosen")
    if bool(((masked != ids) & ~chosen).any()):
        unknown.append("tokens without a label are changed")
    if not bool(counted.any()):
        return known, [*unknown, "no token is chosen"]
    replaced = counted & (masked != ids) & ~hidden  # (B, S)
    fates = [float(one.sum() / counted.sum()) for one in (hidden, replaced)]
    fates.append(1 - sum(fates))
    share = float(counted.sum() / ordinary.sum())
    if "no -100" in known:  # those that were kept cannot be told from those that were not chosen
        return known + _random_pieces(masked[replaced], unknown), unknown
    fates_known = True
    if abs(share - SHARE) > NEAR:
        if abs(share - 0.15) <= NEAR:
            known.append("share ignored")
        elif abs(share - (1 - SHARE)) <= NEAR:
            known.append("inverted")
        elif abs(share - 0.9 * SHARE) <= NEAR and fates[2] < NEAR:
            known.append("kept ones unlabelled")
            fates_known = False
        else:
            unknown.append(f"{share:.1%} of the ordinary tokens are chosen instead of {SHARE:.0%}")
    if fates_known and max(map(abs, np.subtract(fates, (0.8, 0.1, 0.1)))) > NEAR_FATE:
        away = {name: max(map(abs, np.subtract(fates, shares))) for name, shares in FATES.items()}
        if min(away.values()) <= NEAR_FATE:
            known.append(min(away, key=away.__getitem__))
        else:
            found = "{:.0%} become [MASK], {:.0%} another piece, and {:.0%} stay".format(*fates)
            unknown.append(f"of the chosen tokens {found}, instead of 80%, 10% and 10%")
    whole = chosen[::3]  # (rows without padding, S)
    if bool((whole == whole[:1]).all()):
        known.append("same columns")
    return known + _random_pieces(masked[replaced], unknown), unknown


def _random_pieces(drawn: Tensor, unknown: list[str]) -> list[str]:
    """The known mistakes in the random pieces (drawn,)."""
    different = len(drawn.unique())
    if bool(((drawn < 0) | (drawn >= SIZE)).any()):
        unknown.append(f"random pieces have ids outside of 0 to {SIZE - 1}")
    elif bool((drawn < SPECIAL).any()):
        return ["random special tokens"]
    elif different == 1:
        return ["one random piece"]
    elif 1 < different < (SIZE - SPECIAL) / 2 and len(drawn) > SIZE:
        unknown.append(f"the random pieces are only {different} of the {SIZE - SPECIAL} ordinary ones")
    return []


def next_sentence_pairs(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (documents, draw) -> a list of (first, second, label).

    A document is a list of sentences. Every sentence with another behind it is the first of one pair, in order. In half
    of the pairs, by chance, the second is the sentence behind it, label 0; in the others a sentence of another
    document, label 1. `draw` is a random.Random for all draws.
    """
    sizes = [120, 1, 90, 150, 1, 100, 140, 110, 130]
    documents = [[f"Sentence {s} of text {d}." for s in range(size)] for d, size in enumerate(sizes)]
    places = {text: (d, s) for d, texts in enumerate(documents) for s, text in enumerate(texts)}

    def call(seed: int) -> Any:
        return mine([list(texts) for texts in documents], random.Random(seed))

    try:
        found, again, other = call(0), call(0), call(1)
        if found is None:
            return Verdict(False, "Not written yet: the function returns None.")
        pairs = [(places[first], places[second], int(label)) for first, second, label in found]
    except KeyError as error:
        return Verdict(False, f"A pair holds something that is not a sentence of the documents: {error}.")
    except Exception as error:  # the code is the reader's
        return Verdict(False, f"The function stopped with an error.\n{traceback_of(error)}")
    known, unknown = _pair_problems(pairs, sizes)
    if list(found) == list(other) and "all follow" not in known:
        known.append("generator unused")
    elif list(found) != list(again):
        unknown.append("two calls with equal `draw` differ, so some draws do not come from it")
    return _verdict(known, unknown, PAIRS, "pairs, labels and shares")


def _pair_problems(
    pairs: list[tuple[tuple[int, int], tuple[int, int], int]], sizes: Sequence[int]
) -> tuple[list[str], list[str]]:
    known: list[str] = []
    unknown: list[str] = []
    due = [(d, s) for d, size in enumerate(sizes) for s in range(size - 1)]
    firsts = [first for first, _, _ in pairs]
    if {label for *_, label in pairs} - {0, 1}:
        return known, ["there are labels other than 0 and 1"]
    everywhere = [(d, s) for d, size in enumerate(sizes) for s in range(size)]
    if firsts in (everywhere, everywhere[:-1]):
        known.append("across documents")
        pairs = [pair for pair in pairs if pair[0] in set(due)]
    elif firsts == [(d, s) for d, size in enumerate(sizes) for s in range(0, size - 1, 2)]:
        known.append("every second pair")
    elif firsts != due:
        if [second for _, second, _ in pairs] == [(d, s + 1) for d, s in due]:
            return [*known, "first replaced"], unknown
        unknown.append(f"the first sentences of the {len(pairs)} pairs are not those of the {len(due)} that are due")
    if not pairs:
        return known, unknown
    follows = [second == (first[0], first[1] + 1) for first, second, _ in pairs]
    truth, labels = [0 if follow else 1 for follow in follows], [label for *_, label in pairs]
    share = sum(follows) / len(follows)
    reversed_labels = labels == [1 - label for label in truth]
    if reversed_labels and 0 < share < 1:
        known.append("labels reversed")
    strangers = [(first, second) for (first, second, _), follow in zip(pairs, follows, strict=True) if not follow]
    if share == 1:
        known.append("all follow")
    elif share == 0:
        known.append("none follows")
    elif abs(share - 0.5) > 0.12:
        unknown.append(f"in {share:.0%} of the pairs the second sentence follows, instead of a half")
    own = sum(first[0] == second[0] for first, second in strangers)
    wrong = sum(one != other for one, other in zip(truth, labels, strict=True))
    if own:
        known.append("own document")
    elif strangers and all(second[1] == 0 for _, second in strangers):
        known.append("always a document's first")
    if strangers and all(second[0] == (first[0] + 1) % len(sizes) for first, second in strangers):
        known.append("always the next document")
    # From its own document, a sentence drawn with label 1 may happen to be the one that follows.
    if wrong and not reversed_labels and not (own and wrong < 0.1 * len(pairs)):
        unknown.append(f"{wrong} labels do not say whether the second sentence follows")
    return known, unknown


def _verdict(known: list[str], unknown: list[str], mistakes: dict[str, str], what: str) -> Verdict:
    if not known and not unknown:
        return Verdict(True, f"Right: {what}.")
    lines = ["Not right."]
    if known:
        lines.append(f"That is what you get if {', and '.join(mistakes[name] for name in known)}.")
    if unknown:
        lines.append(f"{'Besides, ' if known else ''}{'; '.join(unknown)}.")
        lines[-1] = lines[-1][0].upper() + lines[-1][1:]
    return Verdict(False, "\n".join(lines), (tuple(known),) if known else ())
