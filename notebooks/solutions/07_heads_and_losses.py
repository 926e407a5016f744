"""Solutions of chapter 07: the masked-LM head, its loss, adding losses, the loss of a span; each in three styles."""

import math

import torch
from torch.nn import functional as F


# Exercise 1.
def my_head(hidden, word_table, weights, eps):
    x = F.linear(hidden, weights["dense.weight"], weights["dense.bias"])  # (B, S, D)
    x = F.gelu(x)  # (B, S, D)
    x = F.layer_norm(x, x.shape[-1:], weights["norm.weight"], weights["norm.bias"], eps)  # (B, S, D)
    return F.linear(x, word_table, weights["bias"])  # (B, S, V)


# The same with products and the formulas of GELU and the norm.
def my_head_by_formulas(hidden, word_table, weights, eps):
    x = hidden @ weights["dense.weight"].T + weights["dense.bias"]  # (B, S, D)
    x = x * (1 + torch.erf(x / math.sqrt(2))) / 2  # (B, S, D)
    centred = x - x.mean(dim=-1, keepdim=True)  # (B, S, D)
    x = centred / (centred.square().mean(dim=-1, keepdim=True) + eps).sqrt()  # (B, S, D)
    x = x * weights["norm.weight"] + weights["norm.bias"]  # (B, S, D)
    return x @ word_table.T + weights["bias"]  # (B, S, V)


# The same with axes named: d and e count the D numbers of a vector, v counts pieces.
def my_head_with_einsum(hidden, word_table, weights, eps):
    x = F.gelu(torch.einsum("bsd,ed->bse", hidden, weights["dense.weight"]) + weights["dense.bias"])  # (B, S, D)
    x = torch.native_layer_norm(x, x.shape[-1:], weights["norm.weight"], weights["norm.bias"], eps)[0]  # (B, S, D)
    return torch.einsum("bsd,vd->bsv", x, word_table) + weights["bias"]  # (B, S, V)


# Exercise 2.
def my_loss(logits, labels):
    counts = labels != -100  # (B, S)
    if not counts.any():
        return logits.sum() * 0
    logarithms = logits[counts].log_softmax(dim=-1)  # (M, V), for the M labels that count
    chosen = logarithms.gather(1, labels[counts][:, None])  # (M, 1)
    return -chosen.mean()


# The same with torch's own function, which would give NaN where nothing is labelled.
def my_loss_by_torch(logits, labels):
    total = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100, reduction="sum")  # ()
    return total / (labels != -100).sum().clamp(min=1)


# The same one label at a time.
def my_loss_with_loops(logits, labels):
    losses = []
    for row, row_labels in zip(logits, labels.tolist(), strict=True):
        for scores, label in zip(row, row_labels, strict=True):
            if label != -100:
                losses.append(torch.logsumexp(scores, dim=0) - scores[label])
    return sum(losses) / len(losses) if losses else torch.tensor(0.0)


# Exercise 3.
def my_sum(batches):
    sums, counts = {}, {}
    for batch in batches:
        for name, (total, count) in batch.items():
            sums[name] = sums.get(name, 0.0) + total
            counts[name] = counts.get(name, 0) + count
    return sum(sums[name] / (counts[name] or 1) for name in sums)


# The same term by term.
def my_sum_by_terms(batches):
    loss = 0.0
    for name in batches[0]:
        totals, counts = zip(*(batch[name] for batch in batches), strict=True)
        if sum(counts) > 0:
            loss += sum(totals) / sum(counts)
    return loss


# The same with a tensor of sums and counts.
def my_sum_with_tensors(batches):
    pairs = torch.tensor([list(batch.values()) for batch in batches])  # (batches, terms, 2)
    totals, counts = pairs.sum(dim=0).unbind(dim=-1)  # (terms,), (terms,)
    return (totals / counts.clamp(min=1)).sum()


# Exercise 4.
def my_span_loss(logits, start, end, mask):
    logits = logits.masked_fill(~mask[:, :, None], -math.inf)  # (B, S, 2)
    losses = []
    for scores, positions in zip(logits.unbind(dim=-1), (start, end), strict=True):  # (B, S), (B,)
        counts = positions != -100  # (B,)
        losses.append(F.cross_entropy(scores[counts], positions[counts]))  # a mean over the rows that count
    return (losses[0] + losses[1]) / 2


# The same with both ends in one call, which is right because they count in the same rows.
def my_span_loss_in_one_call(logits, start, end, mask):
    logits = torch.where(mask[:, :, None], logits, torch.finfo(logits.dtype).min)  # (B, S, 2)
    return F.cross_entropy(logits, torch.stack([start, end], dim=1), ignore_index=-100)  # (B, 2) labels


# The same row by row, over the real columns only.
def my_span_loss_with_loops(logits, start, end, mask):
    losses = []
    for row in range(len(logits)):
        for which, position in enumerate((start[row].item(), end[row].item())):
            if position != -100:
                scores = logits[row, :, which]  # (S,)
                losses.append(torch.logsumexp(scores[mask[row]], dim=0) - scores[position])
    return torch.stack(losses).mean()  # ()
