"""Solutions of chapter 05: the pooler, the number of parameters and the whole network, each in three styles."""

import math

import torch
from torch import nn
from torch.nn import functional as F


# Exercise 1: [CLS] is the first column, and the weight is stored as (out, in).
def nearly(hidden, weight, bias):
    first = hidden[:, 0]  # (B, D)
    return torch.tanh(first @ weight.T + bias)  # (B, D)


# The same with torch's linear map.
def my_pooler(hidden, weight, bias):
    return F.linear(hidden.select(dim=1, index=0), weight, bias).tanh()  # (B, D)


# The same number by number, and tanh from its definition.
def my_pooler_by_number(hidden, weight, bias):
    rows = [[(row[0] * line).sum() + b for line, b in zip(weight, bias, strict=True)] for row in hidden]
    dense = torch.stack([torch.stack(row) for row in rows])  # (B, D)
    return 1 - 2 / (torch.exp(2 * dense) + 1)  # (B, D)


# Exercise 2.
def my_count(config):
    def linear(inputs, outputs):
        return inputs * outputs + outputs

    D, F = config["hidden_size"], config["intermediate_size"]
    rows = config["vocab_size"] + config["max_position_embeddings"] + config["type_vocab_size"]
    layer = 4 * linear(D, D) + linear(D, F) + linear(F, D) + 2 * 2 * D
    pooler = 0 if config["model_type"] == "distilbert" else linear(D, D)
    return rows * D + 2 * D + config["num_hidden_layers"] * layer + pooler


# The same as one polynomial.
def my_count_as_a_polynomial(config):
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size", "max_position_embeddings")
    D, inner, L, V, S = (config[key] for key in keys)
    total = D * (V + S + config["type_vocab_size"] + 2) + L * (4 * D * D + 2 * D * inner + 9 * D + inner)
    return total + (D * D + D if config["model_type"] == "bert" else 0)


# The same from a list of all tensors' shapes.
def my_count_by_shapes(config):
    D, inner = config["hidden_size"], config["intermediate_size"]
    maps = {"query": (D, D), "key": (D, D), "value": (D, D), "output": (D, D), "inner": (inner, D), "outer": (D, inner)}
    shapes = [(config[key], D) for key in ("vocab_size", "max_position_embeddings", "type_vocab_size")]
    shapes += [(D,), (D,)]  # the norm of the embeddings
    for _ in range(config["num_hidden_layers"]):
        shapes += [*maps.values(), *((out,) for out, _ in maps.values()), *[(D,)] * 4]
    if config["model_type"] != "distilbert":
        shapes += [(D, D), (D,)]
    return sum(math.prod(shape) for shape in shapes)


# Exercise 3.
def my_bert(config, tensors, ids, mask, segments):
    def linear(name, x):
        return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])  # (..., out)

    def norm(name, x):
        parts = tensors[f"{name}.weight"], tensors[f"{name}.bias"]  # (D,) each
        return F.layer_norm(x, x.shape[-1:], *parts, config["layer_norm_eps"])  # (..., D)

    def heads(name):
        return linear(name, hidden).unflatten(-1, (config["num_attention_heads"], -1)).transpose(1, 2)  # (B, N, S, H)

    hidden = tensors["embeddings.word_embeddings.weight"][ids]  # (B, S, D)
    hidden = hidden + tensors["embeddings.position_embeddings.weight"][: ids.shape[1]]  # (B, S, D)
    hidden = hidden + tensors["embeddings.token_type_embeddings.weight"][segments]  # (B, S, D)
    hidden = norm("embeddings.LayerNorm", hidden)  # (B, S, D)
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        query, key, value = (heads(f"{layer}.attention.self.{kind}") for kind in ("query", "key", "value"))
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (B, N, S, S)
        scores = scores.masked_fill(~mask.bool()[:, None, None, :], -math.inf)  # (B, N, S, S)
        context = (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)  # (B, S, D)
        attended = linear(f"{layer}.attention.output.dense", context)  # (B, S, D)
        hidden = norm(f"{layer}.attention.output.LayerNorm", hidden + attended)  # (B, S, D)
        inner = F.gelu(linear(f"{layer}.intermediate.dense", hidden))  # (B, S, F)
        hidden = norm(f"{layer}.output.LayerNorm", hidden + linear(f"{layer}.output.dense", inner))  # (B, S, D)
    return hidden, torch.tanh(linear("pooler.dense", hidden[:, 0]))  # (B, S, D), (B, D)


# The same with torch's own encoder layer, which is BERT's (post-norm, GELU) if its options say so.
def my_bert_with_torch_layers(config, tensors, ids, mask, segments):
    D, eps = config["hidden_size"], config["layer_norm_eps"]

    def pair(name):
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    total = tensors["embeddings.word_embeddings.weight"][ids]  # (B, S, D)
    total = total + tensors["embeddings.position_embeddings.weight"][torch.arange(ids.shape[1])]  # (B, S, D)
    total = total + tensors["embeddings.token_type_embeddings.weight"][segments]  # (B, S, D)
    hidden = F.layer_norm(total, (D,), *pair("embeddings.LayerNorm"), eps)  # (B, S, D)
    for number in range(config["num_hidden_layers"]):
        name, F_ = f"encoder.layer.{number}", config["intermediate_size"]
        layer = nn.TransformerEncoderLayer(
            D, config["num_attention_heads"], F_, 0.0, F.gelu, layer_norm_eps=eps, batch_first=True, norm_first=False
        )
        kinds = [pair(f"{name}.attention.self.{kind}") for kind in ("query", "key", "value")]
        stacked = [torch.cat(parts) for parts in zip(*kinds, strict=True)]  # (3 * D, D), (3 * D,)
        attention, norms = layer.self_attn, ("attention.output.LayerNorm", "output.LayerNorm")
        slots = [(attention.in_proj_weight, stacked[0]), (attention.in_proj_bias, stacked[1])]
        modules = [attention.out_proj, layer.linear1, layer.linear2, layer.norm1, layer.norm2]
        names = ["attention.output.dense", "intermediate.dense", "output.dense", *norms]
        for module, end in zip(modules, names, strict=True):
            slots += zip((module.weight, module.bias), pair(f"{name}.{end}"), strict=True)
        with torch.no_grad():
            for slot, tensor in slots:
                slot.copy_(tensor)
            hidden = layer.train()(hidden, src_key_padding_mask=mask == 0)  # (B, S, D)
    return hidden, F.linear(hidden[:, 0], *pair("pooler.dense")).tanh()  # (B, S, D), (B, D)


# The same one row at a time, over its real tokens only, so that no mask is needed; einsum names the axes.
def my_bert_row_by_row(config, tensors, ids, mask, segments):
    N, eps = config["num_attention_heads"], config["layer_norm_eps"]
    hidden = torch.zeros(*ids.shape, config["hidden_size"])  # (B, S, D)
    for number, (row, real, types) in enumerate(zip(ids, mask.bool(), segments, strict=True)):
        x = _embed_row(tensors, row[real], types[real], eps)
        for layer in range(config["num_hidden_layers"]):
            own = {k.removeprefix(f"encoder.layer.{layer}."): v for k, v in tensors.items()}
            q, k, v = (_map(own, f"attention.self.{kind}", x) for kind in ("query", "key", "value"))
            q, k, v = (each.unflatten(1, (N, -1)) for each in (q, k, v))  # (S, N, H) each
            scores = torch.einsum("qnh,knh->nqk", q, k) / q.shape[-1] ** 0.5  # (N, S, S)
            context = torch.einsum("nqk,knh->qnh", scores.softmax(dim=-1), v).flatten(1)  # (S, D)
            x = _norm(own, "attention.output.LayerNorm", x + _map(own, "attention.output.dense", context), eps)
            inner = _map(own, "intermediate.dense", x)  # (S, F)
            active = inner * (1 + torch.erf(inner / 2**0.5)) / 2  # (S, F)
            x = _norm(own, "output.LayerNorm", x + _map(own, "output.dense", active), eps)
        hidden[number, real] = x  # (S, D)
    return hidden, torch.tanh(_map(tensors, "pooler.dense", hidden[:, 0]))  # (B, S, D), (B, D)


def _embed_row(tensors, ids, segments, eps):
    parts = {"word": ids, "position": torch.arange(len(ids)), "token_type": segments}
    rows = [tensors[f"embeddings.{name}_embeddings.weight"][numbers] for name, numbers in parts.items()]
    return _norm(tensors, "embeddings.LayerNorm", sum(rows), eps)  # (S, D)


def _map(tensors, name, x):
    return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]  # (..., out)


def _norm(tensors, name, x, eps):
    away = x - x.mean(dim=-1, keepdim=True)  # (..., D)
    spread = (away.square().mean(dim=-1, keepdim=True) + eps).sqrt()  # (..., 1)
    return away / spread * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]  # (..., D)
