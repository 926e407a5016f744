"""Do the tests see? Plants one classic mistake at a time and runs the tests that must go red.

    python -m tests.programs.planted_faults             all of them, about five minutes on one core
    python -m tests.programs.planted_faults dropout     those with "dropout" in their name

The checkout is copied to a temporary folder; nothing outside it is changed. The exit code is 1 if
a fault stays green, if its text is no longer in the file, or if the tests are red without a fault.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import hypothesis  # noqa: F401 (imported once here, not once a fault)
import pytest
import torch
import transformers.models.bert.modeling_bert
import transformers.models.distilbert.modeling_distilbert  # noqa: F401

ROOT = Path(__file__).parents[2]
TEST_FAILED = 1  # pytest's exit code; another one means that no test ran


@dataclass(frozen=True)
class Fault:
    """One mistake: in `file`, each old text becomes the new one; then `tests` must fail."""

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: str


def fault(name: str, file: str, old: str, new: str, tests: str = "parity") -> Fault:
    return Fault(name, f"minibert/{file}.py", ((old, new),), f"tests/model/test_{tests}.py")


def swap(name: str, file: str, one: str, other: str, tests: str = "parity") -> Fault:
    edits = ((one, "\0"), (other, one), ("\0", other))
    return Fault(name, f"minibert/{file}.py", edits, f"tests/model/test_{tests}.py")


def among_ranks(name: str, old: str, new: str, file: str = "loop") -> Fault:
    return Fault(
        f"ranks: {name}",
        f"minibert/training/{file}.py",
        ((old, new),),
        "tests/workbench/runs/test_ranks.py",
    )


def in_resume(
    name: str, file: str, old: str, new: str, tests: str = "training/test_state"
) -> Fault:
    return Fault(f"resume: {name}", f"minibert/{file}.py", ((old, new),), f"tests/{tests}.py")


def in_kinds(name: str, file: str, old: str, new: str, tests: str) -> Fault:
    return Fault(f"kinds: {name}", f"minibert/{file}.py", ((old, new),), f"tests/{tests}.py")


def in_pretraining(name: str, file: str, old: str, new: str, tests: str) -> Fault:
    return Fault(f"pre-training: {name}", f"minibert/{file}.py", ((old, new),), f"tests/{tests}.py")


def in_corpora(name: str, file: str, old: str, new: str, tests: str) -> Fault:
    return Fault(f"corpora: {name}", f"minibert/{file}.py", ((old, new),), f"tests/{tests}.py")


TOKENIZER, DOCUMENTS = "text/tokenizer", "text/documents"
LAYERS, ATTENTION, EMBEDDINGS = "model/layers", "model/attention", "model/embeddings"
ENCODER, BERT, HEADS, LAYOUT = "model/encoder", "model/bert", "model/heads", "model/layout"
NAMES, CHUNKED, PREPARED = "checkpoint/names", "model/chunked", "model/prepared"

FAULTS = [
    # Layers
    fault("tanh GELU", LAYERS, '"gelu": F.gelu,', '"gelu": partial(F.gelu, approximate="tanh"),'),
    fault("eps 1e-5 in every norm", LAYERS, "self.bias, self.eps)", "self.bias, 1e-5)"),
    fault(
        "norm: weight and bias swapped",
        LAYERS,
        "self.weight.shape, self.weight, self.bias, self.eps",
        "self.weight.shape, self.bias, self.weight, self.eps",
    ),
    fault("no activation in the feed-forward", LAYERS, "self.activation(inner)", "inner"),
    fault(
        "dropout does not scale",
        LAYERS,
        "65536 / (65536 - _dropped_of_65536(p))",
        "1.0",
        "dropout",
    ),
    fault(
        "dropout: the top bit is left out",
        LAYERS,
        "draws.random_(-(2**63), None)",
        "draws.random_()",
        "dropout",
    ),
    fault("dropout acts in eval mode", LAYERS, "if self.training else hidden", "", "dropout"),
    fault(
        "the pad row is not zero",
        LAYERS,
        "part.weight[part.padding_idx].zero_()",
        "pass",
        "bert",
    ),
    # Attention
    fault("no division by sqrt(H)", ATTENTION, " / math.sqrt(query.shape[-1])", ""),
    fault("softmax over the wrong axis", ATTENTION, "softmax(dim=-1)", "softmax(dim=-2)"),
    fault(
        "mask on the asking axis, by hand",
        ATTENTION,
        "mask[:, None, :, None] & mask[:, None, None, :]",
        "mask[:, None, :, None]",
    ),
    fault(
        "mask on the asking axis, SDPA",
        ATTENTION,
        "else mask[:, None, None, :]",
        "else mask[:, None, :, None]",
        "attention",
    ),
    fault(
        "padding keeps its part of the pattern",
        ATTENTION,
        "pattern = pattern.masked_fill(~both_real, 0.0)",
        "pattern = pattern",
        "attention",
    ),
    fault(
        "heads interleaved",
        ATTENTION,
        "self.query(hidden).unflatten(1, self.heads)",
        "self.query(hidden).unflatten(1, self.heads[::-1]).transpose(1, 2)",
    ),
    fault(
        "heads reshaped instead of transposed back",
        ATTENTION,
        "context.transpose(1, 2).flatten(0, 1)",
        "context.reshape(-1, *self.heads)",
    ),
    fault("key and value swapped", ATTENTION, "attend(q, k, v,", "attend(q, v, k,"),
    fault(
        "attention dropout on the values",
        ATTENTION,
        "pattern = dropout(pattern, dropout_p)",
        "value = dropout(value, dropout_p)",
        "dropout",
    ),
    fault(
        "no attention dropout",
        ATTENTION,
        "return self.dropout_p if self.training else 0.0",
        "return 0.0",
        "dropout",
    ),
    fault(
        "attention dropout at the hidden rate",
        ATTENTION,
        "config.attention_probs_dropout_prob",
        "config.hidden_dropout_prob",
        "dropout",
    ),
    # Embeddings
    fault(
        "segment ids ignored",
        EMBEDDINGS,
        "torch.zeros_like(positions) if segments is None else segments",
        "torch.zeros_like(positions)",
    ),
    fault("no embedding norm", EMBEDDINGS, 'self.norm(scope("sum", total))', 'scope("sum", total)'),
    fault(
        "in chunks: the softmax's gradient without its sum",
        CHUNKED,
        "torch._softmax_backward_data(dp, pattern, -1, pattern.dtype)",
        "dp * pattern",
        "chunked",
    ),
    fault("in chunks: no mask on the way back", CHUNKED, "dp.mul_(mask)", "pass", "chunked"),
    fault(
        "in chunks: dV of all, not of the kept",
        CHUNKED,
        "kept = mask.mul_(pattern)",
        "kept = pattern",
        "chunked",
    ),
    fault("in chunks: queries not scaled", CHUNKED, " / math.sqrt(query.shape[-1])", "", "chunked"),
    fault(
        "in chunks: scores rounded to 16 bits",
        CHUNKED,
        "torch.promote_types(query.dtype, torch.float32)",
        "query.dtype",
        "chunked",
    ),
    fault("in chunks: values not scaled", CHUNKED, " * dropout_scale(dropout_p)", "", "chunked"),
    fault(
        "in chunks: a chunk starts at the wrong token",
        CHUNKED,
        "token, number = chunk.tokens.stop",
        "token, number = chunk.tokens.start",
        "chunked",
    ),
    fault("spare rows: whatever was there", CHUNKED, "packed[tokens:] = 0", "pass", "encoder"),
    fault(
        "spare rows: kept at the end",
        ENCODER,
        "[state[:tokens] for state in states]",
        "states",
        "encoder",
    ),
    fault("spare rows: none", ENCODER, "-len(hidden) % _ROWS", "0", "encoder"),
    fault(
        "spare rows: in 32 bits as well",
        ENCODER,
        "if dtype != torch.bfloat16",
        "if False",
        "encoder",
    ),
    fault("spare rows: without AMX as well", ENCODER, " or not _has_amx()", "", "encoder"),
    fault("prepared: no GELU", PREPARED, '"gelu", "none")', '"none", "")', "prepared"),
    fault("prepared: GELU whatever the config says", PREPARED, "is F.gelu", "", "prepared"),
    fault(
        "varlen: rows in the order of the batch",
        LAYOUT,
        "boundaries[1:] = sorted_lengths.cumsum(dim=0)",
        "boundaries[1:] = lengths[lengths > 0].cumsum(dim=0)",
        "attention",
    ),
    fault("no embedding dropout", EMBEDDINGS, "self.dropout(normed)", "normed", "dropout"),
    Fault(
        "embedding dropout before the norm",
        "minibert/embeddings.py",
        (
            ('self.norm(scope("sum", total))', 'self.norm(self.dropout(scope("sum", total)))'),
            ("self.dropout(normed)", "normed"),
        ),
        "tests/fast/test_dropout.py",
    ),
    # Encoder
    Fault(
        "pre-norm",
        "minibert/encoder.py",
        (
            ("self.attention(hidden, layout", "self.attention(self.attention_norm(hidden), layout"),
            ('in_attention("norm", self.attention_norm(total))', 'in_attention("norm", total)'),
        ),
        "tests/lesson/test_parity.py",
    ),
    fault(
        "no residual around attention",
        ENCODER,
        "hidden + self.attention_dropout(attended)",
        "self.attention_dropout(attended)",
    ),
    fault(
        "residual from the wrong tensor",
        ENCODER,
        "hidden + self.feed_forward_dropout(fed)",
        "attended + self.feed_forward_dropout(fed)",
    ),
    fault("the other norm", ENCODER, "self.attention_norm(total)", "self.feed_forward_norm(total)"),
    fault(
        "DistilBERT with BERT's attention output dropout",
        ENCODER,
        "0.0 if config.is_distilbert else config.hidden_dropout_prob",
        "config.hidden_dropout_prob",
        "dropout",
    ),
    fault(
        "dropout on the sum, not the branch",
        ENCODER,
        "hidden + self.attention_dropout(attended)",
        "self.attention_dropout(hidden + attended)",
        "dropout",
    ),
    fault(
        "no feed-forward dropout",
        ENCODER,
        "self.feed_forward_dropout(fed)",
        "fed",
        "dropout",
    ),
    fault(
        "recomputation sees no replacement",
        ENCODER,
        "else scope.replaying()",
        "else NO_TRACE",
        "trace",
    ),
    fault("recomputation records", ENCODER, "else scope.replaying()", "else scope", "trace"),
    fault(
        "reentrant recomputation", ENCODER, "use_reentrant=False", "use_reentrant=True", "encoder"
    ),
    fault(
        "recomputation never happens",
        ENCODER,
        "return self.gradient_checkpointing and",
        "return False and",
        "encoder",
    ),
    # BertModel
    fault(
        "positions in packed order",
        BERT,
        "positions = layout.cells % layout.columns",
        "positions = torch.arange(layout.tokens) % self.config.max_position_embeddings",
    ),
    fault(
        "positions count real tokens only",
        BERT,
        "positions = layout.cells % layout.columns",
        "positions = (layout.mask.cumsum(1) - 1).flatten()[layout.cells]",
    ),
    fault("pooler without tanh", BERT, "torch.tanh(dense)", "dense"),
    fault(
        "pooler on the last column",
        BERT,
        "layout.first_tokens(states[-1])",
        "layout.pad(states[-1])[:, -1]",
    ),
    fault(
        "pooler on column 0, a pad on the left",
        BERT,
        "layout.first_tokens(states[-1])",
        "layout.pad(states[-1])[:, 0]",
        "heads",
    ),
    fault(
        "the pooler's bias fills empty rows",
        BERT,
        'layout.zero_empty_rows(self.pooler(first, scope.inside("pooler")))',
        'self.pooler(first, scope.inside("pooler"))',
        "layout",
    ),
    fault("frozen parts are shaken", BERT, "part.training = False", "pass", "bert"),
    fault("misspelt names pass", BERT, "self.scope.trace.finish()", "pass", "trace"),
    # Layout
    fault(
        "groups in the order of the batch",
        LAYOUT,
        "sorted_lengths.unique_consecutive(",
        "lengths[lengths > 0].unique_consecutive(",
        "layout",
    ),
    fault("first tokens in packed order", LAYOUT, "first=starts[order.argsort()]", "first=starts"),
    # Heads
    fault("DistilBERT's head without ReLU", HEADS, "F.relu(dense)", "dense"),
    fault(
        "ReLU in the masked-LM head",
        HEADS,
        'scope("activation", self.activation(hidden))',
        'scope("activation", F.relu(hidden))',
    ),
    fault(
        "no norm in the masked-LM head",
        HEADS,
        'scope("norm", self.norm(hidden))',
        'scope("norm", hidden)',
    ),
    fault(
        "no bias in the decoder",
        HEADS,
        "F.linear(hidden, table, self.bias)",
        "F.linear(hidden, table)",
    ),
    fault(
        "an untied decoder is not used",
        HEADS,
        "table = word_table if self.decoder is None else self.decoder.weight",
        "table = word_table",
    ),
    fault(
        "a tied decoder does not train the word table",
        HEADS,
        "table = word_table if",
        "table = word_table.detach() if",
    ),
    fault(
        "loss averaged over padding",
        HEADS,
        "return _class_loss(logits, _packed_labels(labels, layout))",
        "return _class_loss(logits, _packed_labels(labels, layout))[0], labels.numel()",
    ),
    fault(
        "-100 is counted", HEADS, "return int((labels != IGNORED).sum())", "return labels.numel()"
    ),
    fault(
        "nothing counts: 0 / 0",
        HEADS,
        "total / (count or 1)",
        "total / count if count else total * torch.nan",
        "heads",
    ),
    fault("span loss not halved", HEADS, 'reduction="sum") / 2,', 'reduction="sum"),'),
    fault(
        "start and end swapped",
        HEADS,
        "start_logits, end_logits = logits.unbind",
        "end_logits, start_logits = logits.unbind",
    ),
    fault("spans may fall on padding", HEADS, "value=-torch.inf", "value=0.0", "heads"),
    fault(
        "DistilBERT's classifier at the hidden rate",
        HEADS,
        "config.seq_classif_dropout if config.is_distilbert else config.head_dropout",
        "config.head_dropout",
        "dropout",
    ),
    fault(
        "DistilBERT's span head without dropout",
        HEADS,
        "config.qa_dropout if config.is_distilbert else 0.0",
        "0.0",
        "dropout",
    ),
    fault(
        "BERT's span head with dropout",
        HEADS,
        "config.qa_dropout if config.is_distilbert else 0.0",
        "config.qa_dropout",
        "dropout",
    ),
    fault(
        "classifier_dropout ignored",
        "model/config",
        "return self.classifier_dropout\n",
        "return self.hidden_dropout_prob\n",
        "dropout",
    ),
    # Names
    swap(
        "query and key swapped in the table",
        NAMES,
        '"encoder.layer.{}.attention.self.query.weight"',
        '"encoder.layer.{}.attention.self.key.weight"',
    ),
    swap(
        "DistilBERT's two norms swapped in the table",
        NAMES,
        '"transformer.layer.{}.sa_layer_norm.weight"',
        '"transformer.layer.{}.output_layer_norm.weight"',
    ),
    swap(
        "gamma and beta swapped",
        NAMES,
        '"LayerNorm.gamma"',
        '"LayerNorm.beta"',
        "official",
    ),
    # Several processes
    among_ranks("a mean where the sum is meant", "ranks.size * loss", "loss"),
    among_ranks(
        "labels of this rank alone",
        "model.count_labels(inputs) for inputs in loaded",
        "model.count_labels(ranks.share(inputs)[0]) for inputs in loaded",
    ),
    among_ranks("a stand-in row counts", "counted * total for", "total for"),
    among_ranks("the loss of this rank alone", "ranks.add({term: ", "dict({term: "),
    among_ranks("all evaluate everything", "batches[ranks.rank :: ranks.size]", "batches"),
    among_ranks("one dropout for all", "if self.is_first:", "if self.size:", "ranks"),
    among_ranks("all tell the same", 'add("told", 1) > 1', 'add("told", 1) > 9', "ranks"),
    # Going on with a run
    in_resume("random state not restored", "training/state", "set_state(state)", "pass"),
    in_resume(
        "schedule not restored", "training/state", "training.schedule.go_to(updates)", "pass"
    ),
    in_resume(
        "scaler not restored",
        "training/state",
        "training.scaler.load_state_dict(scaler)",
        "pass",
    ),
    in_resume(
        "optimizer by position",
        "training/state",
        'if key.rpartition("/")[0] == name]',
        'if key.rpartition("/")[0] == sorted(name for name, _ in parameters)[position]]',
    ),
    in_resume("best weights forgotten", "training/state", "training.best_weights = best", "pass"),
    in_resume(
        "groups not compared",
        "training/state",
        '_compare(path / STATE, numbers["groups"], _groups(training, names))',
        "pass",
    ),
    in_resume(
        "sums not compared",
        "files",
        'found["sha256"] = sha256(path)',
        'found["sha256"] = facts["sha256"]',
    ),
    in_resume(
        "the newest checkpoint deleted with the old ones",
        "training/state",
        "_step_of(path) < _step_of(newest)",
        "_step_of(path) <= _step_of(newest)",
    ),
    in_resume(
        "the epoch begun anew",
        "training/loop",
        "range(state.batches, len(batches), accumulate)",
        "range(0, len(batches), accumulate)",
        "tasks/test_resume",
    ),
    in_resume(
        "the epoch's loss begun anew",
        "training/state",
        '"terms": LossSums(**state["terms"])',
        '"terms": LossSums()',
        "tasks/test_resume",
    ),
    in_resume(
        "the log not brought back",
        "tasks/sittings",
        "if ranks.is_first:  # a kill may have come",
        "if False:  # a kill may have come",
        "tasks/test_resume",
    ),
    # Pre-training
    in_pretraining(
        "going on says nothing of what it was trained on",
        "tasks/pretrain",
        "same and before",
        "False and before",
        "tasks/test_pretrain",
    ),
    *(
        in_pretraining(name, file, old, new, "tasks/test_pretrain")
        for name, file, old, new in (
            ("always 15%", "tasks/pretrain", "share=settings.mask_share", "share=0.15"),
            (
                "never whole words",
                "tasks/pretrain",
                "whole_words=settings.whole_words",
                "whole_words=False",
            ),
            ("never cased", "tasks/pretrain", "lowercase=not settings.cased", "lowercase=True"),
            (
                "a vocabulary of what is held out too",
                "tasks/pretrain",
                'document.text for document in documents["train"]',
                "document.text for part in documents.values() for document in part",
            ),
            (
                "always the usual dropout",
                "tasks/pretrain_model",
                "0.1 if settings.dropout is None else settings.dropout",
                "0.1",
            ),
            (
                "no checkpointing of gradients",
                "tasks/pretrain_model",
                "model.use_gradient_checkpointing(settings.gradient_checkpointing)",
                "pass",
            ),
            (
                "always 32 rows",
                "tasks/pretrain",
                "tokens = settings.batch_size *",
                "tokens = 32 *",
            ),
            ("one epoch's pairs", "tasks/pretrain", '"pairs", epoch', '"pairs"'),
            ("one epoch's masks", "tasks/pretrain", '"masks", epoch', '"masks"'),
            (
                "duplicates with other spacing",
                "tasks/pretrain",
                '" ".join(document.text.split())',
                "document.text",
            ),
        )
    ),
    in_pretraining(
        "special tokens are hidden too",
        "training/masking",
        "self.ordinary[list(special.values())] = False",
        "pass",
        "training/test_masking",
    ),
    in_pretraining(
        "a row may have no label",
        "training/masking",
        "((draws < self.share) | (draws == lowest))",
        "(draws < self.share)",
        "training/test_masking",
    ),
    in_pretraining(
        "words in pieces",
        "training/masking",
        "if self.whole_words:",
        "if False:",
        "training/test_masking",
    ),
    in_pretraining(
        "all that is chosen becomes [MASK]",
        "training/masking",
        "MASKED, REPLACED = 0.8, 0.1",
        "MASKED, REPLACED = 1.0, 0.0",
        "training/test_masking",
    ),
    in_pretraining(
        "10% too many replaced",
        "training/masking",
        "MASKED, REPLACED = 0.8, 0.1",
        "MASKED, REPLACED = 0.8, 0.2",
        "training/test_masking",
    ),
    in_pretraining(
        "special tokens as replacements",
        "training/masking",
        "drawn = self._replacements[others]",
        "drawn = generator.integers(len(self.ordinary), size=ids.shape)",
        "training/test_masking",
    ),
    in_pretraining(
        "labels everywhere",
        "training/masking",
        "np.where(chosen, ids, IGNORED)",
        "ids",
        "training/test_masking",
    ),
    in_pretraining(
        "the global generator",
        "training/masking",
        "fate = generator.random(ids.shape)",
        "fate = np.random.random(ids.shape)",
        "training/test_masking",
    ),
    in_pretraining(
        "strangers of the same document",
        "text/passages",
        "other.document != row.document and ",
        "",
        "text/test_passages",
    ),
    in_pretraining(
        "the labels of pairs exchanged",
        "text/passages",
        "FOLLOWS, STRANGER = 0, 1",
        "FOLLOWS, STRANGER = 1, 0",
        "text/test_passages",
    ),
    in_pretraining(
        "what a stranger displaced is lost",
        "text/passages",
        "ours[2:4], theirs[2:4] = theirs[2:4], ours[2:4]",
        "ours[2:4] = theirs[2:4]",
        "text/test_passages",
    ),
    in_pretraining(
        "strangers of any length",
        "text/passages",
        "sorted(rows, key=lambda row: row.second)",
        "rows",
        "text/test_passages",
    ),
    in_pretraining(
        "strangers end their documents as it comes",
        "text/passages",
        "parted[last == end].append",
        "parted[True].append",
        "text/test_passages",
    ),
    in_pretraining(
        "what stands alone is a stranger",
        "text/passages",
        "rows.append([begin, stop, stop, stop, IGNORED_LABEL])",
        "rows.append([begin, stop, stop, stop, STRANGER])",
        "text/test_passages",
    ),
    in_pretraining(
        "the rest of a long sentence is lost",
        "text/passages",
        "return [*ends, len(ids)] if len(ids) else []",
        "return ends or [len(ids)]",
        "text/test_passages",
    ),
    # Kinds of task
    in_kinds(
        "an answer may end where the window has ended",
        "text/windows",
        "pieces[1] >= self.start + len(self.offsets)",
        "pieces[1] > self.start + len(self.offsets)",
        "text/test_windows",
    ),
    in_kinds(
        "windows do not know what they share",
        "text/windows",
        "start += len(offsets) - row.shared",
        "start += len(offsets)",
        "text/test_windows",
    ),
    in_kinds(
        "positions stay when padding goes to the left",
        "text/batches",
        'if padding_side == "left" else 0',
        "if False else 0",
        "text/test_windows",
    ),
    in_kinds(
        "an answer may end before it starts",
        "tasks/kinds/spans",
        "window.first + first + more)",
        "window.first + first - more)",
        "tasks/kinds/test_spans",
    ),
    in_kinds(
        "the question answers itself",
        "tasks/kinds/spans",
        "logits[window.first : window.first + pieces]",
        "logits[:pieces]",
        "tasks/kinds/test_spans",
    ),
    in_kinds(
        "no answer in one window is no answer at all",
        "tasks/kinds/spans",
        "min(float(numbers[NOT_HERE[0]].sum())",
        "max(float(numbers[NOT_HERE[0]].sum())",
        "tasks/kinds/test_spans",
    ),
    in_kinds(
        "articles count",
        "training/metrics",
        'r"\\b(a|an|the)\\b"',
        'r"\\b\\B"',
        "tasks/kinds/test_spans",
    ),
    in_kinds(
        "what is no choice is chosen",
        HEADS,
        "logits = logits.masked_fill(none, -torch.inf)",
        "logits = logits.masked_fill(none, 0.0)",
        "text/test_batches",
    ),
    in_kinds(
        "the last piece of a word speaks for it",
        "tasks/kinds/tags",
        "places.setdefault(word, place)",
        "places[word] = place",
        "tasks/test_predict",
    ),
    in_kinds(
        "I after nothing is no entity",
        "training/metrics",
        'if tag[:2] in ("B-", "I-") and not kind:',
        'if tag[:2] == "B-" and not kind:',
        "tasks/kinds/test_tags",
    ),
    in_kinds(
        "IOB1 is taken for IOB2",
        "text/tag_schemes",
        'tag = f"B-{tag[2:]}"',
        "pass",
        "text/test_corpora",
    ),
    in_kinds(
        "questions on one context are parted",
        "text/corpora",
        "draw = _draw_groups if grouped else _draw",
        "draw = _draw",
        "text/test_corpora",
    ),
    in_kinds(
        "Matthews without the labels' shares",
        "training/metrics",
        "right * total - (truth * predicted).sum(axis=-1)",
        "right * total",
        "tasks/kinds/test_classes",
    ),
    # Plain text and vocabularies of one's own
    in_corpora(
        "the order of a set",
        TOKENIZER,
        "special_tokens=list(first),",
        "special_tokens=list(SPECIAL_TOKENS),",
        "text/test_vocabulary",
    ),
    in_corpora(
        "characters that occur once",
        TOKENIZER,
        "if count >= LEAST_COUNT)",
        "if count >= 1)",
        "text/test_vocabulary",
    ),
    in_corpora(
        "no ## forms of characters",
        TOKENIZER,
        "return [*SPECIAL_TOKENS, *often, *going_on]",
        "return [*SPECIAL_TOKENS, *often]",
        "text/test_vocabulary",
    ),
    in_corpora(
        "every word counts once",
        TOKENIZER,
        'f"{word} " * words[word]',
        'f"{word} "',
        "text/test_vocabulary",
    ),
    in_corpora(
        "capitals are lost",
        TOKENIZER,
        "return cls(vocabulary, lowercase=lowercase, max_length=max_length)",
        "return cls(vocabulary, max_length=max_length)",
        "text/test_vocabulary",
    ),
    in_corpora(
        "a title ends a sentence",
        DOCUMENTS,
        "if short or (following",
        "if (following",
        "text/test_documents",
    ),
    in_corpora(
        "an initial ends a sentence",
        DOCUMENTS,
        'if "." in word or (len',
        "if (len",
        "text/test_documents",
    ),
    in_corpora(
        "a wrapped line ends a sentence",
        DOCUMENTS,
        r'r"\n\s*\n|\n(?=',
        r'r"\n\s*\n|\n(?=|',
        "text/test_documents",
    ),
    in_corpora(
        "a folder as the disk has it",
        DOCUMENTS,
        "found = sorted(path for path in below",
        "found = list(path for path in below",
        "text/test_documents",
    ),
    in_corpora(
        "code is prose",
        DOCUMENTS,
        "if code_from is not None and indent >= code_from:",
        "if False:",
        "text/test_documents",
    ),
    in_corpora("docstrings twice", DOCUMENTS, "if text not in seen]", "]", "text/test_documents"),
    in_corpora(
        "a fingerprint without ends of texts",
        DOCUMENTS,
        "sums.update(hashlib.sha256(document.text.encode()).digest())",
        "sums.update(document.text.encode())",
        "text/test_documents",
    ),
    in_corpora(
        "measured on what it was trained on",
        "tasks/vocabulary",
        "    del every[_HELD_OUT - 1 :: _HELD_OUT]\n",
        "",
        "test_cli",
    ),
]


def main(wanted: str = "") -> int:
    torch.set_num_threads(1)  # a fork must not inherit a pool of threads
    sys.dont_write_bytecode = True
    chosen = [one for one in FAULTS if wanted in one.name]
    if not chosen:
        print(f"No fault has {wanted!r} in its name.\n\n{__doc__}")
        return 2
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        copy = Path(folder) / "checkout"
        hidden = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "notebooks")
        shutil.copytree(ROOT, copy, ignore=hidden)
        tests = sorted({one.tests for one in chosen})
        code, said = _pytest(copy, *tests)
        if code != 0:
            print(f"red without a fault, so nothing is proven:\n{said}")
            return 1
        width = max(len(one.name) for one in chosen)
        unseen = 0
        for one in chosen:
            verdict = _plant(copy, one)
            unseen += not verdict.startswith("red")
            print(f"{one.name:{width}}  {verdict}", flush=True)
    print(f"{len(chosen) - unseen} of {len(chosen)} faults were seen")
    return 1 if unseen else 0


def _plant(copy: Path, one: Fault) -> str:
    """What became of a fault: "red: the first test that failed", or why not."""
    path = copy / one.file
    whole = text = path.read_text(encoding="utf-8")
    for old, new in one.edits:
        if old not in text:
            return f"NOT PLANTED: {one.file} has no {old!r}"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    try:
        code, said = _pytest(copy, "-x", one.tests)
    finally:
        path.write_text(whole, encoding="utf-8")
    failed = re.search(r"^(?:FAILED|ERROR) \S*?(test_\w+\.py.*?)(?: - |$)", said, re.MULTILINE)
    if code == TEST_FAILED and failed:
        return f"red: {failed[1]}"
    return f"GREEN: {one.tests}" if code == 0 else f"BROKEN (exit code {code}): {said[-300:]}"


def _pytest(copy: Path, *arguments: str) -> tuple[int, str]:
    """pytest's exit code and output, in a fork of this process, which has done the slow imports."""
    with tempfile.TemporaryFile("w+") as said:
        process = os.fork()
        if process == 0:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            os.chdir(copy)
            sys.path.insert(0, str(copy))
            for name in [
                name for name in sys.modules if name.split(".")[0] in ("tests", "minibert")
            ]:
                del sys.modules[name]
            # Processes that a test starts run the main module again: not this one's slow imports.
            sys.modules["__main__"] = ModuleType("__main__")
            code = pytest.main(["-p", "no:cacheprovider", "--tb=no", *arguments])
            sys.stdout.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        said.seek(0)
        return code, said.read()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
