"""Checks of chapter 14: DistilBERT's names, a student made of a teacher's layers, and pieces per word."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minibert.io.seeds import mixed_seed
from minibert.study.exercises.values import Case, Task, judge
from minibert.study.exercises.verdict import Verdict

Mistakes = frozenset[str]

BODY = (
    ("attention.self.query", "attention.q_lin"),
    ("attention.self.key", "attention.k_lin"),
    ("attention.self.value", "attention.v_lin"),
    ("attention.output.dense", "attention.out_lin"),
    ("attention.output.LayerNorm", "sa_layer_norm"),
    ("intermediate.dense", "ffn.lin1"),
    ("output.dense", "ffn.lin2"),
    ("output.LayerNorm", "output_layer_norm"),
)
HEAD = (
    ("cls.predictions.transform.dense", "vocab_transform"),
    ("cls.predictions.transform.LayerNorm", "vocab_layer_norm"),
    ("cls.predictions.decoder", "vocab_projector"),
    ("cls.predictions", "vocab_projector"),
)
NAME_MISTAKES = {
    "prefix kept": "the prefix stays 'bert.'",
    "encoder kept": "layers stay under 'encoder.' instead of 'transformer.'",
    "norms swapped": "the two norms of a layer are swapped",
    "norm under attention": "the norm after attention stays under 'attention.'",
    "feed-forward first": "'output.dense' is replaced first, which is also the end of 'attention.output.dense'",
    "lin1 and lin2 swapped": "lin1 and lin2 are swapped: lin1 is the map from D to F",
    "query and key swapped": "query and key are swapped",
    "output kept": "the attention's output keeps its old name",
    "pooler kept": "the pooler gets a name, although DistilBERT has none",
    "segments kept": "the segment table gets a name, although DistilBERT has none",
    "next sentence kept": "the next-sentence head gets a name, although DistilBERT was trained without one",
    "head under the prefix": "the masked-LM head is put under 'distilbert.'",
    "no head": "the masked-LM head gets no name, although DistilBERT has one",
    "no bias": "the decoder's bias, cls.predictions.bias, gets no name",
}
STUDENT_MISTAKES = {
    "odd layers": "the layers 1, 3, 5, ... are taken instead of 0, 2, 4, ...",
    "first half": "the first half of the layers is taken instead of every second one",
    "last half": "the last half of the layers is taken instead of every second one",
    "all layers": "all layers are taken",
    "not renumbered": "the layers keep the teacher's numbers",
    "one digit": "numbers of layers are read as one digit, so that layer 10 is lost",
    "as text": "numbers of layers are sorted as text, in which 10 comes before 2",
    "pooler kept": "the pooler is kept",
    "segments kept": "the segment table is kept",
    "segments lost": "the segment table is dropped without being added to the positions",
    "segment 1": "row 1 of the segment table is added to the positions instead of row 0",
    "both segments": "both rows of the segment table are added to the positions",
    "into the words": "the segment row is added to the word table, which the decoder shares, instead of the positions",
    "into the norm": "the segment row is added to the bias of the norm instead of the positions, which come before it",
}
PIECES_MISTAKES = {
    "special counted": "[CLS] and [SEP] are counted",
    "mean of texts": "the ratio is computed for each text, and then averaged",
    "unknown left out": "[UNK] is not counted, although it stands for a piece",
    "different words": "each word is counted once, however often it occurs",
    "different pieces": "each piece is counted once, however often it occurs",
    "beginnings": "only pieces that begin a word are counted, those without ##",
    "continuations": "only pieces with ## are counted",
    "single spaces": "words are split at each single space, so that two spaces make an empty word",
    "by character": "pieces are divided by characters instead of words",
    "inverted": "words are divided by pieces",
}


def distil_name(mine: Callable[..., Any]) -> Verdict:
    """Checks a function name -> name: of a tensor of BertForMaskedLM, in DistilBertForMaskedLM.

    Both are official names. What DistilBERT does not have (segments, pooler, next sentence) gives None.
    """
    return judge(mine, distil_name_task())


def distil_name_task() -> Task:
    """What `distil_name` tries, and the mistakes that it knows."""
    names = [
        f"bert.embeddings.{part}" for part in ("word_embeddings.weight", "position_embeddings.weight", "LayerNorm.bias")
    ]
    names += [f"bert.encoder.layer.{n}.{part}.{end}" for n, end in ((0, "weight"), (11, "bias")) for part, _ in BODY]
    names += [f"{part}.weight" for part, _ in HEAD[:3]] + ["cls.predictions.bias"]
    names += ["bert.embeddings.token_type_embeddings.weight", "bert.pooler.dense.bias", "cls.seq_relationship.weight"]
    cases = [Case(f"the name {name}", (name,), "Compare it with the table of names.") for name in names]
    return Task(_distil_name, cases, NAME_MISTAKES)


def _distil_name(name: str, mistakes: Mistakes) -> str | None:
    for part, mistake in (
        ("token_type", "segments kept"),
        ("pooler", "pooler kept"),
        ("seq_relationship", "next sentence kept"),
    ):
        if part in name:
            return name.replace("bert.", "distilbert.", 1) if mistake in mistakes else None
    if name.startswith("cls."):
        if "no head" in mistakes or (name == "cls.predictions.bias" and "no bias" in mistakes):
            return None
        old, new = next((old, new) for old, new in HEAD if name.startswith(old))
        return ("distilbert." if "head under the prefix" in mistakes else "") + name.replace(old, new)
    start, number, rest = re.fullmatch(r"(bert\.\w+\.)(?:layer\.(\d+)\.)?(.+)", name).groups()  # type: ignore[union-attr]
    prefix = "bert." if "prefix kept" in mistakes else "distilbert."
    if number is None:
        return prefix + name.removeprefix("bert.")
    table = dict(BODY)
    for mistake, (one, other) in {
        "norms swapped": ("attention.output.LayerNorm", "output.LayerNorm"),
        "lin1 and lin2 swapped": ("intermediate.dense", "output.dense"),
        "query and key swapped": ("attention.self.query", "attention.self.key"),
    }.items():
        if mistake in mistakes:
            table[one], table[other] = table[other], table[one]
    if "norm under attention" in mistakes:
        table["attention.output.LayerNorm"] = "attention.sa_layer_norm"
    if "feed-forward first" in mistakes:
        table["attention.output.dense"] = f"attention.{table['output.dense']}"
    if "output kept" in mistakes:
        table["attention.output.dense"] = "attention.output.dense"
    part, _, end = rest.rpartition(".")
    stack = "encoder" if "encoder kept" in mistakes else "transformer"
    return f"{prefix}{stack}.layer.{number}.{table[part]}.{end}"


def student_from_teacher(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (tensors of a BERT) -> tensors of a student with half of its layers.

    Names are those of a bare BERT, "embeddings.*", "encoder.layer.N.*" and "pooler.*", before and after. The student
    has the layers 0, 2, 4, ..., numbered from 0, no pooler and no segment table, whose row 0 is added to the positions.
    """
    return judge(mine, student_from_teacher_task())


def student_from_teacher_task() -> Task:
    """What `student_from_teacher` tries, and the mistakes that it knows."""
    generator = torch.Generator().manual_seed(mixed_seed("student"))
    cases = []
    for layers in (4, 12):
        sizes = {"word": (7, 3), "position": (5, 3), "token_type": (2, 3)}
        tensors = {f"embeddings.{n}_embeddings.weight": torch.randn(s, generator=generator) for n, s in sizes.items()}
        tensors["embeddings.LayerNorm.bias"] = torch.randn(3, generator=generator)  # (D,)
        for number in range(layers):
            tensors[f"encoder.layer.{number}.output.dense.weight"] = torch.randn(3, 2, generator=generator)  # (D, F)
        tensors["pooler.dense.bias"] = torch.randn(3, generator=generator)  # (D,)
        cases.append(
            Case(f"a teacher of {layers} layers", (tensors,), "Look at the layers that are kept, and at the rest.")
        )
    return Task(_student, cases, STUDENT_MISTAKES)


def _student(tensors: dict[str, Tensor], mistakes: Mistakes) -> dict[str, Tensor]:
    pattern = re.compile(r"encoder\.layer\.(\d)\." if "one digit" in mistakes else r"encoder\.layer\.(\d+)\.")
    every = {found[1] for name in tensors if (found := pattern.match(name))}
    numbers = sorted(every, key=str if "as text" in mistakes else int)
    half = len(numbers) // 2
    kept = numbers[1::2] if "odd layers" in mistakes else numbers[::2]
    kept = numbers[:half] if "first half" in mistakes else numbers[half:] if "last half" in mistakes else kept
    kept = numbers if "all layers" in mistakes else kept
    student = {}
    for name, tensor in tensors.items():
        found = pattern.match(name)
        if name.startswith("encoder."):
            if found and found[1] in kept:
                place = found[1] if "not renumbered" in mistakes else kept.index(found[1])
                student[f"encoder.layer.{place}.{name[found.end() :]}"] = tensor
        elif name.startswith("embeddings.token_type"):
            if "segments kept" in mistakes:
                student[name] = tensor
        elif not name.startswith("pooler.") or "pooler kept" in mistakes:
            student[name] = tensor
    segments = tensors["embeddings.token_type_embeddings.weight"]  # (2, D)
    row = (
        segments[1] if "segment 1" in mistakes else segments.sum(dim=0) if "both segments" in mistakes else segments[0]
    )
    target = "position_embeddings.weight"
    target = "word_embeddings.weight" if "into the words" in mistakes else target
    target = "LayerNorm.bias" if "into the norm" in mistakes else target
    if "segments lost" not in mistakes:
        student[f"embeddings.{target}"] = student[f"embeddings.{target}"] + row  # (rows, D)
    return student


def pieces_per_word(mine: Callable[..., Any]) -> Verdict:
    """Checks a function (texts, pieces_of) -> how many pieces a word takes on average.

    `pieces_of` gives the pieces of a text, with [CLS] and [SEP]. Words are what white space separates.
    """
    return judge(mine, pieces_per_word_task())


def pieces_per_word_task() -> Task:
    """What `pieces_per_word` tries, and the mistakes that it knows."""
    cases = [
        Case("one short text", (["the cat, the unhappy unhappy cat"], _toy_pieces), "Look at what is counted."),
        Case(
            "texts of different length",
            (["unhappily", "the cat, and the xylophone sat"], _toy_pieces),
            "Look at the mean.",
        ),
        Case(
            "white space of other kinds", (["the  cat\nsat \t unhappily"], _toy_pieces), "Look at how words are split."
        ),
    ]
    return Task(_pieces_per_word, cases, PIECES_MISTAKES)


def _toy_pieces(text: str) -> list[str]:
    cut = {
        "unhappy": ["un", "##happy"],
        "unhappily": ["un", "##happi", "##ly"],
        "xylophone": ["[UNK]"],
        "cat,": ["cat", ","],
    }
    return ["[CLS]", *(piece for word in text.split() for piece in cut.get(word, [word])), "[SEP]"]


def _pieces_per_word(texts: list[str], pieces_of: Callable[[str], list[str]], mistakes: Mistakes) -> float:
    ratios, all_pieces, all_words = [], [], []
    for text in texts:
        pieces = pieces_of(text)
        pieces = pieces if "special counted" in mistakes else pieces[1:-1]
        pieces = [piece for piece in pieces if piece != "[UNK]" or "unknown left out" not in mistakes]
        if mistakes & {"beginnings", "continuations"}:
            pieces = [piece for piece in pieces if piece.startswith("##") == ("continuations" in mistakes)]
        words = text.split(" ") if "single spaces" in mistakes else text.split()
        words = list("".join(words)) if "by character" in mistakes else words
        ratios.append(len(pieces) / len(words))
        all_pieces += pieces
        all_words += words
    pieces_count = len({*all_pieces}) if "different pieces" in mistakes else len(all_pieces)
    words_count = len({*all_words}) if "different words" in mistakes else len(all_words)
    ratio = sum(ratios) / len(ratios) if "mean of texts" in mistakes else pieces_count / words_count
    return 1 / ratio if "inverted" in mistakes else ratio
