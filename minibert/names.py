"""Names: what official files call each tensor and each setting, both ways. Data only.

Two families are known: BERT (Devlin et al. 2019) and DistilBERT (Sanh et al. 2019), as published in
the Hub's format. Left stands the name used here, right the official one; `{}` is the layer number.
Everything that a file may hold and a model does not take is listed too, with the reason.
"""

from __future__ import annotations

# The body: embeddings, encoder and pooler. A pooler is part of BERT only.
BODY = {
    "bert": {
        "embeddings.word.weight": "embeddings.word_embeddings.weight",
        "embeddings.position.weight": "embeddings.position_embeddings.weight",
        "embeddings.segment.weight": "embeddings.token_type_embeddings.weight",
        "embeddings.norm.weight": "embeddings.LayerNorm.weight",
        "embeddings.norm.bias": "embeddings.LayerNorm.bias",
        "encoder.layers.{}.attention.query.weight": "encoder.layer.{}.attention.self.query.weight",
        "encoder.layers.{}.attention.query.bias": "encoder.layer.{}.attention.self.query.bias",
        "encoder.layers.{}.attention.key.weight": "encoder.layer.{}.attention.self.key.weight",
        "encoder.layers.{}.attention.key.bias": "encoder.layer.{}.attention.self.key.bias",
        "encoder.layers.{}.attention.value.weight": "encoder.layer.{}.attention.self.value.weight",
        "encoder.layers.{}.attention.value.bias": "encoder.layer.{}.attention.self.value.bias",
        "encoder.layers.{}.attention.output.weight": (
            "encoder.layer.{}.attention.output.dense.weight"
        ),
        "encoder.layers.{}.attention.output.bias": "encoder.layer.{}.attention.output.dense.bias",
        "encoder.layers.{}.attention_norm.weight": (
            "encoder.layer.{}.attention.output.LayerNorm.weight"
        ),
        "encoder.layers.{}.attention_norm.bias": "encoder.layer.{}.attention.output.LayerNorm.bias",
        "encoder.layers.{}.feed_forward.inner.weight": (
            "encoder.layer.{}.intermediate.dense.weight"
        ),
        "encoder.layers.{}.feed_forward.inner.bias": "encoder.layer.{}.intermediate.dense.bias",
        "encoder.layers.{}.feed_forward.outer.weight": "encoder.layer.{}.output.dense.weight",
        "encoder.layers.{}.feed_forward.outer.bias": "encoder.layer.{}.output.dense.bias",
        "encoder.layers.{}.feed_forward_norm.weight": "encoder.layer.{}.output.LayerNorm.weight",
        "encoder.layers.{}.feed_forward_norm.bias": "encoder.layer.{}.output.LayerNorm.bias",
        "pooler.dense.weight": "pooler.dense.weight",
        "pooler.dense.bias": "pooler.dense.bias",
    },
    "distilbert": {
        "embeddings.word.weight": "embeddings.word_embeddings.weight",
        "embeddings.position.weight": "embeddings.position_embeddings.weight",
        "embeddings.norm.weight": "embeddings.LayerNorm.weight",
        "embeddings.norm.bias": "embeddings.LayerNorm.bias",
        "encoder.layers.{}.attention.query.weight": "transformer.layer.{}.attention.q_lin.weight",
        "encoder.layers.{}.attention.query.bias": "transformer.layer.{}.attention.q_lin.bias",
        "encoder.layers.{}.attention.key.weight": "transformer.layer.{}.attention.k_lin.weight",
        "encoder.layers.{}.attention.key.bias": "transformer.layer.{}.attention.k_lin.bias",
        "encoder.layers.{}.attention.value.weight": "transformer.layer.{}.attention.v_lin.weight",
        "encoder.layers.{}.attention.value.bias": "transformer.layer.{}.attention.v_lin.bias",
        "encoder.layers.{}.attention.output.weight": (
            "transformer.layer.{}.attention.out_lin.weight"
        ),
        "encoder.layers.{}.attention.output.bias": "transformer.layer.{}.attention.out_lin.bias",
        "encoder.layers.{}.attention_norm.weight": "transformer.layer.{}.sa_layer_norm.weight",
        "encoder.layers.{}.attention_norm.bias": "transformer.layer.{}.sa_layer_norm.bias",
        "encoder.layers.{}.feed_forward.inner.weight": "transformer.layer.{}.ffn.lin1.weight",
        "encoder.layers.{}.feed_forward.inner.bias": "transformer.layer.{}.ffn.lin1.bias",
        "encoder.layers.{}.feed_forward.outer.weight": "transformer.layer.{}.ffn.lin2.weight",
        "encoder.layers.{}.feed_forward.outer.bias": "transformer.layer.{}.ffn.lin2.bias",
        "encoder.layers.{}.feed_forward_norm.weight": (
            "transformer.layer.{}.output_layer_norm.weight"
        ),
        "encoder.layers.{}.feed_forward_norm.bias": "transformer.layer.{}.output_layer_norm.bias",
    },
}

# A model with a head keeps the body under this prefix; the bare model keeps it under none.
# Files are read with and without.
OUR_PREFIX = "bert."
PREFIX = {"bert": "bert.", "distilbert": "distilbert."}

# The names of layer norms in files that were converted from TensorFlow in 2018 and 2019.
OLD_NORM_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}

_BERT_MASKED_LM = {
    "dense.weight": "cls.predictions.transform.dense.weight",
    "dense.bias": "cls.predictions.transform.dense.bias",
    "norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "norm.bias": "cls.predictions.transform.LayerNorm.bias",
    "bias": "cls.predictions.bias",
    "decoder.weight": "cls.predictions.decoder.weight",
}
_BERT_NEXT_SENTENCE = {
    "classifier.weight": "cls.seq_relationship.weight",
    "classifier.bias": "cls.seq_relationship.bias",
}
_DISTILBERT_MASKED_LM = {
    "dense.weight": "vocab_transform.weight",
    "dense.bias": "vocab_transform.bias",
    "norm.weight": "vocab_layer_norm.weight",
    "norm.bias": "vocab_layer_norm.bias",
    "bias": "vocab_projector.bias",
    "decoder.weight": "vocab_projector.weight",
}
_CLASSIFIER = {"classifier.weight": "classifier.weight", "classifier.bias": "classifier.bias"}
_DEEP_CLASSIFIER = {
    "dense.weight": "pre_classifier.weight",
    "dense.bias": "pre_classifier.bias",
    **_CLASSIFIER,
}
_SPANS = {"classifier.weight": "qa_outputs.weight", "classifier.bias": "qa_outputs.bias"}

# class -> attribute that holds a head -> names under it. DistilBERT was trained without next
# sentences and has no form of those two classes.
HEADS: dict[str, dict[str, dict[str, dict[str, str]]]] = {
    "bert": {
        "BertModel": {},
        "BertForMaskedLM": {"head": _BERT_MASKED_LM},
        "BertForNextSentencePrediction": {"head": _BERT_NEXT_SENTENCE},
        "BertForPreTraining": {
            "masked_lm": _BERT_MASKED_LM,
            "next_sentence": _BERT_NEXT_SENTENCE,
        },
        "BertForSequenceClassification": {"head": _CLASSIFIER},
        "BertForTokenClassification": {"head": _CLASSIFIER},
        "BertForQuestionAnswering": {"head": _SPANS},
        "BertForMultipleChoice": {"head": _CLASSIFIER},
    },
    "distilbert": {
        "BertModel": {},
        "BertForMaskedLM": {"head": _DISTILBERT_MASKED_LM},
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
# Several classes store their head under these names; `architectures` says whose it is.
SHARED_HEAD_NAMES = ("classifier.", "pre_classifier.")

# A tensor stored twice: the copy -> the tensor that it repeats, by whether the decoder is tied to
# the word table. Untied, transformers adds decoder.bias to the logits and never reads the other.
COPIES = {
    ("bert", True): {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ("bert", False): {"cls.predictions.bias": "cls.predictions.decoder.bias"},
    ("distilbert", True): {
        "vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight",
    },
    ("distilbert", False): {},
}

# Start of a tensor's official name (without the prefix) -> what it is. Left out, with one line in
# the report, by a model that has nothing under that name.
LEFT_OUT = {
    "embeddings.position_ids": "the numbers 0, 1, 2, ... of the columns, which need no storing",
    "pooler.": "the pooler",
    "cls.predictions.": "the masked-LM head",
    "cls.seq_relationship.": "the next-sentence head",
    "vocab_transform.": "the masked-LM head",
    "vocab_layer_norm.": "the masked-LM head",
    "vocab_projector.": "the masked-LM head",
    "pre_classifier.": "a classification head",
    "classifier.": "a classification head",
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
# Facts that DistilBERT's code has and its config.json does not say.
CONFIG_FACTS: dict[str, dict[str, object]] = {
    "bert": {},
    "distilbert": {"type_vocab_size": 0, "layer_norm_eps": 1e-12},
}
# Settings that the other family alone has.
CONFIG_OF_OTHERS: dict[str, tuple[str, ...]] = {
    "bert": ("qa_dropout", "seq_classif_dropout"),
    "distilbert": ("type_vocab_size", "layer_norm_eps", "classifier_dropout"),
}
# Keys of a config.json that say how that file came about; they are not true of a file saved here.
CONFIG_NOT_CARRIED_OVER = (
    "_name_or_path",
    "auto_map",
    "torch_dtype",
    "transformers_version",
)
