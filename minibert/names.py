"""Names: what the official files of BERT and DistilBERT call each tensor and setting, both ways.

BERT is Devlin et al. 2019, DistilBERT is Sanh et al. 2019, both as published on the Hub. Tables of
modules have our name on the left, the official one on the right, and `{}` for the layer; a
parameter is called `weight` or `bias` in both.
"""

from __future__ import annotations

import re
from collections.abc import Collection

# The body: embeddings, encoder and pooler. A pooler is part of BERT only.
BODY = {
    "bert": {
        "embeddings.word": "embeddings.word_embeddings",
        "embeddings.position": "embeddings.position_embeddings",
        "embeddings.segment": "embeddings.token_type_embeddings",
        "embeddings.norm": "embeddings.LayerNorm",
        "encoder.layers.{}.attention.query": "encoder.layer.{}.attention.self.query",
        "encoder.layers.{}.attention.key": "encoder.layer.{}.attention.self.key",
        "encoder.layers.{}.attention.value": "encoder.layer.{}.attention.self.value",
        "encoder.layers.{}.attention.output": "encoder.layer.{}.attention.output.dense",
        "encoder.layers.{}.attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
        "encoder.layers.{}.feed_forward.inner": "encoder.layer.{}.intermediate.dense",
        "encoder.layers.{}.feed_forward.outer": "encoder.layer.{}.output.dense",
        "encoder.layers.{}.feed_forward_norm": "encoder.layer.{}.output.LayerNorm",
        "pooler.dense": "pooler.dense",
    },
    "distilbert": {
        "embeddings.word": "embeddings.word_embeddings",
        "embeddings.position": "embeddings.position_embeddings",
        "embeddings.norm": "embeddings.LayerNorm",
        "encoder.layers.{}.attention.query": "transformer.layer.{}.attention.q_lin",
        "encoder.layers.{}.attention.key": "transformer.layer.{}.attention.k_lin",
        "encoder.layers.{}.attention.value": "transformer.layer.{}.attention.v_lin",
        "encoder.layers.{}.attention.output": "transformer.layer.{}.attention.out_lin",
        "encoder.layers.{}.attention_norm": "transformer.layer.{}.sa_layer_norm",
        "encoder.layers.{}.feed_forward.inner": "transformer.layer.{}.ffn.lin1",
        "encoder.layers.{}.feed_forward.outer": "transformer.layer.{}.ffn.lin2",
        "encoder.layers.{}.feed_forward_norm": "transformer.layer.{}.output_layer_norm",
    },
}

# A model with a head keeps the body under this prefix; the bare model keeps it under none.
# Files are read with and without.
OUR_PREFIX = "bert."
PREFIX = {"bert": "bert.", "distilbert": "distilbert."}

# Layer norms in files that were converted from TensorFlow in 2018 and 2019.
OLD_NORM_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}

# The modules of each head; "" is the head itself, which holds a bias.
_BERT_MASKED_LM = {
    "dense": "cls.predictions.transform.dense",
    "norm": "cls.predictions.transform.LayerNorm",
    "": "cls.predictions",
    "decoder": "cls.predictions.decoder",
}
_DISTIL_MASKED_LM = {
    "dense": "vocab_transform",
    "norm": "vocab_layer_norm",
    "": "vocab_projector",
    "decoder": "vocab_projector",
}
_NEXT_SENTENCE = {"classifier": "cls.seq_relationship"}
_CLASSIFIER = {"classifier": "classifier"}
_DEEP_CLASSIFIER = {"dense": "pre_classifier", "classifier": "classifier"}
_SPANS = {"classifier": "qa_outputs"}

# class -> attribute that holds a head -> names under it. DistilBERT was trained without next sentences.
HEADS: dict[str, dict[str, dict[str, dict[str, str]]]] = {
    "bert": {
        "BertModel": {},
        "BertForMaskedLM": {"head": _BERT_MASKED_LM},
        "BertForNextSentencePrediction": {"head": _NEXT_SENTENCE},
        "BertForPreTraining": {"masked_lm": _BERT_MASKED_LM, "next_sentence": _NEXT_SENTENCE},
        "BertForSequenceClassification": {"head": _CLASSIFIER},
        "BertForTokenClassification": {"head": _CLASSIFIER},
        "BertForQuestionAnswering": {"head": _SPANS},
        "BertForMultipleChoice": {"head": _CLASSIFIER},
    },
    "distilbert": {
        "BertModel": {},
        "BertForMaskedLM": {"head": _DISTIL_MASKED_LM},
        "BertForSequenceClassification": {"head": _DEEP_CLASSIFIER},
        "BertForTokenClassification": {"head": _CLASSIFIER},
        "BertForQuestionAnswering": {"head": _SPANS},
        "BertForMultipleChoice": {"head": _DEEP_CLASSIFIER},
    },
}

# Our class -> the class that the `architectures` key of config.json names.
ARCHITECTURES = {
    "bert": {name: name for name in HEADS["bert"]},
    "distilbert": {name: f"Distil{name}" for name in HEADS["distilbert"]},
}

BARE_MODEL = "BertModel"
# Classes whose number of classes C, and their names, are the user's.
LABELLED = ("BertForSequenceClassification", "BertForTokenClassification")
# Classes with a masked-LM head, whose decoder is the word table unless the config unties it.
MASKED_LM = ("BertForMaskedLM", "BertForPreTraining")
# Several classes store their heads under these names; `architectures` says whose one is.
SHARED_HEAD_NAMES = ("classifier.", "pre_classifier.")

# A tensor stored twice: the copy -> the tensor that it repeats, by whether the decoder is tied to
# the word table. Untied, transformers adds decoder.bias to the logits and never reads the other.
COPIES = {
    ("bert", True): {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ("bert", False): {"cls.predictions.bias": "cls.predictions.decoder.bias"},
    ("distilbert", True): {"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
    ("distilbert", False): {},
}

# Start of a tensor's official name (without the prefix) -> what it is. A model that has nothing
# under that name leaves it out, with one line in the report.
_MASKED_LM_NAMES = ("cls.predictions.", "vocab_transform.", "vocab_layer_norm.", "vocab_projector.")
LEFT_OUT = {
    "embeddings.position_ids": "the numbers 0, 1, 2, ... of the columns, which need no storing",
    "pooler.": "the pooler",
    **dict.fromkeys(_MASKED_LM_NAMES, "the masked-LM head"),
    "cls.seq_relationship.": "the next-sentence head",
    **dict.fromkeys(SHARED_HEAD_NAMES, "a classification head"),
    "qa_outputs.": "the question-answering head",
}

# BERT's official config keys are the names used here; DistilBERT's differ.
CONFIG_KEYS: dict[str, dict[str, str]] = {
    "bert": {},
    "distilbert": {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
    },
}
# The sizes of tables: a file without one of them gets the default.
SIZES = ("vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings", "type_vocab_size")
# Facts that DistilBERT's code has and its config.json does not say.
CONFIG_FACTS: dict[str, dict[str, object]] = {"bert": {}, "distilbert": {"type_vocab_size": 0, "layer_norm_eps": 1e-12}}
# Settings that the other family alone has.
CONFIG_OF_OTHERS: dict[str, tuple[str, ...]] = {
    "bert": ("qa_dropout", "seq_classif_dropout"),
    "distilbert": ("type_vocab_size", "layer_norm_eps", "classifier_dropout"),
}
# The key that names the subclass a model was saved from, "module:class"; nothing is imported because of it.
SUBCLASS = "minibert_class"
# Keys of a config.json that say how that file came about; they are not true of a file saved here.
CONFIG_NOT_CARRIED_OVER = ("_name_or_path", "auto_map", SUBCLASS, "torch_dtype", "transformers_version")

# Keys of config.json that a model without labels of its own does not look at.
ABOUT_LABELS = ("num_labels", "id2label", "label2id", "problem_type")

LAYER = re.compile(r"(?<=\blayer\.)\d{1,9}(?=\.)|(?<=\blayers\.)\d{1,9}(?=\.)")


def official_name(name: str, class_name: str, family: str, tied: bool) -> str | None:
    """The official name of a parameter; None where official files have no name for it."""
    module, _, last = name.rpartition(".")
    number = LAYER.search(name)
    template = LAYER.sub("{}", module, count=1)
    ours, theirs = (OUR_PREFIX, PREFIX[family]) if class_name != BARE_MODEL else ("", "")
    modules = {ours + module: theirs + official for module, official in BODY[family].items()}
    for attribute, head in HEADS[family][class_name].items():
        modules |= {f"{attribute}.{part}".rstrip("."): official for part, official in head.items()}
    if template not in modules or last not in ("weight", "bias"):
        return None
    official = f"{modules[template]}.{last}".format(number.group() if number else "")
    return copies(class_name, family, tied).get(official, official)


def copies(class_name: str, family: str, tied: bool) -> dict[str, str]:
    """Official names that repeat another tensor of a class -> the tensor that they repeat."""
    return COPIES[family, tied] if class_name in MASKED_LM else {}


def bare_name(official: str) -> str:
    """An official name without the body's prefix, and with the new names of layer norms."""
    for old, new in OLD_NORM_NAMES.items():
        if official.endswith(old):
            official = official.removesuffix(old) + new
    start = official.partition(".")[0] + "."
    return official.removeprefix(start) if start in PREFIX.values() else official


def in_body(official: str) -> bool:
    """Whether a tensor's name is one that the body could have: under its prefix, or that of one of its parts."""
    parts = {module.partition(".")[0] for body in BODY.values() for module in body.values()}
    return official.startswith(tuple(PREFIX.values())) or official.partition(".")[0] in parts


def layer_of(official: str) -> int | None:
    """The number of the encoder layer that a tensor belongs to; None if it belongs to none."""
    number = LAYER.search(official) if in_body(official) else None
    return None if number is None else int(number.group())


def reason_left_out(bare: str, expected: Collection[str]) -> str | None:
    """Why a model that expects these bare names leaves another out; None if nothing explains it."""
    for start, what in LEFT_OUT.items():
        if bare.startswith(start) and not any(name.startswith(start) for name in expected):
            return f"{what}; this model has no use for it"
    return None
