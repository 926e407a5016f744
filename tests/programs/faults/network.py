"""Mistakes of the network: layers, attention, embeddings, encoder, heads, names."""

from tests.programs.faults.fault import Fault, faults, swap

PARITY = "lesson/test_parity"
DROPOUT = "lesson/test_dropout"

LAYERS = [
    *faults(
        "layers.py",
        PARITY,
        ("tanh GELU", '"gelu": F.gelu,', '"gelu": partial(F.gelu, approximate="tanh"),'),
        ("no activation in the feed-forward", "self.activation(inner)", "inner"),
    ),
    *faults(
        "base.py",
        "lesson/test_bert",
        ("the pad row is not zero", "nn.init.zeros_(part.weight.data[part.padding_idx])", "pass"),
    ),
]

ATTENTION = [
    *faults(
        "attention.py",
        PARITY,
        ("no division by sqrt(H)", " / math.sqrt(query.shape[-1])", ""),
        ("softmax over the wrong axis", "softmax(dim=-1)", "softmax(dim=-2)"),
        (
            "heads interleaved",
            "self.query(hidden).unflatten(1, self.heads)",
            "self.query(hidden).unflatten(1, self.heads[::-1]).transpose(1, 2)",
        ),
        (
            "heads reshaped instead of transposed back",
            "context.transpose(1, 2).flatten(0, 1)",
            "context.reshape(-1, *query.shape[1:])",
        ),
        ("key and value swapped", "form(q, k, v,", "form(q, v, k,"),
    ),
    *faults(
        "attention.py",
        "lesson/test_attention",
        (
            "mask on the query axis, by hand",
            "mask[:, None, :, None] & mask[:, None, None, :]",
            "mask[:, None, :, None]",
        ),
        ("mask on the query axis", "else mask[:, None, None, :]", "else mask[:, None, :, None]"),
        (
            "padding keeps its share of the pattern",
            "pattern = pattern.masked_fill(~both_real, 0.0)",
            "pattern = pattern",
        ),
        (
            "a changed attention shows another one's pattern",
            "if function not in REFERENCES:",
            "if function not in REFERENCES and (function := attend_by_length) is None:",
        ),
    ),
    *faults(
        "attention.py",
        DROPOUT,
        (
            "attention dropout on the values",
            "pattern = F.dropout(pattern, dropout_p)",
            "value = F.dropout(value, dropout_p)",
        ),
        ("no attention dropout", "self.dropout_p if self.training else 0.0", "0.0"),
        ("attention dropout at the hidden rate", "config.attention_probs_dropout_prob", "config.hidden_dropout_prob"),
    ),
]

EMBEDDINGS = [
    *faults(
        "embeddings.py",
        PARITY,
        ("eps 1e-5 in the norm", "nn.LayerNorm(size, config.layer_norm_eps)", "nn.LayerNorm(size)"),
        (
            "segment ids ignored",
            "torch.zeros_like(positions) if segments is None else segments",
            "torch.zeros_like(positions)",
        ),
        ("no embedding norm", "self.norm(total)", "total"),
    ),
    *faults("embeddings.py", DROPOUT, ("no embedding dropout", "self.dropout(normed)", "normed")),
    Fault(
        "embedding dropout before the norm",
        "embeddings.py",
        (("self.norm(total)", "self.norm(self.dropout(total))"), ("self.dropout(normed)", "normed")),
        f"tests/{DROPOUT}.py",
    ),
]

ENCODER = [
    Fault(
        "pre-norm",
        "encoder.py",
        (
            ("self.attention(hidden, inside)", "self.attention(self.attention_norm(hidden), inside)"),
            ("hidden = self.attention_norm(total)", "hidden = total"),
        ),
        f"tests/{PARITY}.py",
    ),
    *faults(
        "encoder.py",
        PARITY,
        ("eps 1e-5 in a layer's norms", "nn.LayerNorm(size, eps)", "nn.LayerNorm(size)"),
        (
            "no residual around attention",
            "hidden + self.attention_dropout(attended)",
            "self.attention_dropout(attended)",
        ),
        (
            "residual from the wrong tensor",
            "hidden + self.feed_forward_dropout(fed)",
            "attended + self.feed_forward_dropout(fed)",
        ),
        ("the other norm", "self.attention_norm(total)", "self.feed_forward_norm(total)"),
    ),
    *faults(
        "encoder.py",
        DROPOUT,
        (
            "DistilBERT with BERT's dropout after attention",
            "config.attention_output_dropout",
            "config.hidden_dropout_prob",
        ),
        (
            "dropout on the sum, not the branch",
            "hidden + self.attention_dropout(attended)",
            "self.attention_dropout(hidden + attended)",
        ),
        ("no feed-forward dropout", "self.feed_forward_dropout(fed)", "fed"),
    ),
    *faults(
        "encoder.py",
        "lesson/test_trace",
        ("recomputation sees no replacement", "repeat(scope.replaying())", "repeat(Scope(scope.layout))"),
        ("recomputation records", "repeat(scope.replaying())", "repeat(scope)"),
    ),
    *faults(
        "encoder.py",
        "lesson/test_encoder",
        ("reentrant recomputation", "use_reentrant=False", "use_reentrant=True"),
        ("recomputation never happens", "recompute = self.gradient", "recompute = 0 and self.gradient"),
    ),
]

MODEL = [
    *faults(
        "inputs.py",
        PARITY,
        (
            "positions in packed order",
            "positions = layout.cells % layout.columns",
            "positions = torch.arange(layout.tokens) % most",
        ),
        (
            "positions count real tokens only",
            "positions = layout.cells % layout.columns",
            "positions = (layout.mask.cumsum(1) - 1).flatten()[layout.cells]",
        ),
    ),
    *faults(
        "bert.py",
        PARITY,
        ("pooler without tanh", "torch.tanh(dense)", "dense"),
        ("pooler on the last column", "layout.first_tokens(hidden)", "layout.pad(hidden)[:, -1]"),
    ),
    *faults(
        "bert.py",
        "lesson/test_heads",
        ("pooler on column 0, padding on the left", "layout.first_tokens(hidden)", "layout.pad(hidden)[:, 0]"),
    ),
    *faults(
        "bert.py",
        "lesson/test_layout",
        (
            "the pooler's bias fills empty rows",
            'layout.zero_empty_rows(self.pooler(first, scope.inside("pooler")))',
            'self.pooler(first, scope.inside("pooler"))',
        ),
    ),
    *faults("base.py", "lesson/test_bert", ("frozen parts have dropout", "part.training = False", "pass")),
    *faults("outputs.py", "lesson/test_trace", ("misspelt names pass", "trace.finish()", "pass")),
    *faults(
        "layout.py",
        "lesson/test_layout",
        (
            "groups in the order of the batch",
            "sorted_lengths.unique_consecutive(",
            "lengths[lengths > 0].unique_consecutive(",
        ),
    ),
    *faults("layout.py", PARITY, ("first tokens in packed order", "long()[order.argsort()]", "long()")),
]

HEADS = [
    *faults(
        "heads.py",
        PARITY,
        ("DistilBERT's head without ReLU", "F.relu(dense)", "dense"),
        (
            "ReLU in the masked-LM head",
            'scope.tap("activation", self.activation(hidden))',
            'scope.tap("activation", F.relu(hidden))',
        ),
        ("no norm in the masked-LM head", 'scope.tap("norm", self.norm(hidden))', 'scope.tap("norm", hidden)'),
        ("no bias in the decoder", "F.linear(hidden, table, self.bias)", "F.linear(hidden, table)"),
        (
            "an untied decoder is not used",
            "table = word_table if self.decoder is None else self.decoder.weight",
            "table = word_table",
        ),
        ("a tied decoder does not train the word table", "table = word_table if", "table = word_table.detach() if"),
        ("start and end swapped", "start, end = logits.unbind", "end, start = logits.unbind"),
        (
            "loss averaged over padding",
            '{"token": losses.cross_entropy(logits, layout.unpad(labels))}',
            '{"token": (losses.cross_entropy(logits, layout.unpad(labels))[0], labels.numel())}',
        ),
    ),
    *faults(
        "losses.py",
        PARITY,
        ("-100 is counted", "return int((on_host(labels) != IGNORED).sum())", "return labels.numel()"),
    ),
    *faults(
        "losses.py",
        "lesson/test_heads",
        ("nothing counts: 0 / 0", "total / (count or 1)", "total / count if count else total * torch.nan"),
    ),
    *faults("heads.py", "lesson/test_heads", ("spans may fall on padding", "value=-torch.inf", "value=0.0")),
    *faults(
        "heads.py",
        DROPOUT,
        (
            "DistilBERT's classifier at the hidden rate",
            "config.seq_classif_dropout if distil else config.head_dropout",
            "config.head_dropout",
        ),
        ("DistilBERT's span head without dropout", "config.qa_dropout if config.is_distilbert else 0.0", "0.0"),
        ("BERT's span head with dropout", "config.qa_dropout if config.is_distilbert else 0.0", "config.qa_dropout"),
    ),
    *faults(
        "config.py",
        DROPOUT,
        ("classifier_dropout ignored", "rate = None if self.is_distilbert else self.classifier_dropout", "rate = None"),
    ),
]

NAMES = [
    swap(
        "names.py",
        PARITY,
        "query and key swapped in the table",
        '"encoder.layer.{}.attention.self.query"',
        '"encoder.layer.{}.attention.self.key"',
    ),
    swap(
        "names.py",
        PARITY,
        "DistilBERT's two norms swapped in the table",
        '"transformer.layer.{}.sa_layer_norm"',
        '"transformer.layer.{}.output_layer_norm"',
    ),
    swap("names.py", "lesson/test_official", "gamma and beta swapped", '"LayerNorm.gamma"', '"LayerNorm.beta"'),
]

FAULTS = [*LAYERS, *ATTENTION, *EMBEDDINGS, *ENCODER, *MODEL, *HEADS, *NAMES]
