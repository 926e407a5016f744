"""Solutions of chapter 03: three ways to write attention, a repaired one, and the whole layer."""

import math

import torch
from torch.nn import functional as F


# Exercise 1, as in the chapter's own steps.
def my_attention(query, key, value, mask):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (B, N, S, S)
    scores = scores.masked_fill(~mask[:, None, None, :], torch.finfo(scores.dtype).min)  # (B, N, S, S)
    pattern = scores.softmax(dim=-1)  # (B, N, S, S)
    return pattern @ value  # (B, N, S, H)


# The same with the axes named: q counts queries, k counts keys.
def my_attention_with_einsum(query, key, value, mask):
    scores = torch.einsum("bnqh,bnkh->bnqk", query, key) * query.shape[-1] ** -0.5  # (B, N, S, S)
    scores = scores + torch.where(mask, 0.0, -math.inf)[:, None, None, :]  # (B, N, S, S)
    pattern = scores.softmax(dim=-1)  # (B, N, S, S)
    return torch.einsum("bnqk,bnkh->bnqh", pattern, value), pattern


# The same in loops, one query at a time, over the real tokens of its row only.
def my_attention_with_loops(query, key, value, mask):
    context = torch.zeros_like(value)  # (B, N, S, H)
    for b in range(query.shape[0]):
        for n in range(query.shape[1]):
            for s in range(query.shape[2]):
                scores = key[b, n, mask[b]] @ query[b, n, s] / math.sqrt(query.shape[-1])  # (real tokens,)
                weights = scores.exp() / scores.exp().sum()  # (real tokens,)
                context[b, n, s] = weights @ value[b, n, mask[b]]  # (H,)
    return context


# Exercise 2: the root of H in the scale, and the mask on the keys, which are the last axis.
def nearly(query, key, value, mask):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (B, N, S, S)
    scores = scores.masked_fill(~mask[:, None, None, :], -math.inf)  # (B, N, S, S)
    return scores.softmax(dim=-1) @ value  # (B, N, S, H)


# Exercise 3.
def my_self_attention(hidden, mask, weights, heads):
    def project(kind):
        flat = F.linear(hidden, weights[f"{kind}.weight"], weights[f"{kind}.bias"])  # (B, S, D)
        return flat.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, N, S, H)

    context = my_attention(project("query"), project("key"), project("value"), mask)  # (B, N, S, H)
    merged = context.transpose(1, 2).flatten(2)  # (B, S, D)
    return F.linear(merged, weights["output.weight"], weights["output.bias"])  # (B, S, D)
