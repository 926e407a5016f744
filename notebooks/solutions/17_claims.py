"""Solutions of chapter 17: a bootstrap interval, entropy, importance and leave-one-out, each in three styles."""

import numpy as np
import torch


# Exercise 1.
def my_bootstrap_difference(first, second, drawn):
    gain = first - second  # (n,): the pairs stay together from here on
    means = gain[drawn].mean(dim=1)  # (R,)
    low, high = means.quantile(torch.tensor([0.025, 0.975]))
    return gain.mean(), low, high


# The same with numpy.
def my_bootstrap_difference_with_numpy(first, second, drawn):
    gain = first.numpy() - second.numpy()
    low, high = np.quantile(np.take(gain, drawn.numpy()).mean(axis=1), [0.025, 0.975])
    return float(gain.mean()), float(low), float(high)


# The same by counting: how often each item was drawn is its weight.
def my_bootstrap_difference_by_counts(first, second, drawn):
    counts = torch.stack([row.bincount(minlength=len(first)) for row in drawn]).to(first.dtype)  # (R, n)
    means = sorted(((counts @ first - counts @ second) / len(first)).tolist())

    def quantile(share):
        place = share * (len(means) - 1)
        below = int(place)
        above = min(below + 1, len(means) - 1)
        return means[below] + (place - below) * (means[above] - means[below])

    return (first.sum() - second.sum()).item() / len(first), quantile(0.025), quantile(0.975)


# Exercise 2.
def my_entropy(pattern, mask):
    terms = torch.where(pattern > 0, -pattern * pattern.clamp(min=1e-30).log(), 0.0)  # (B, N, S, S)
    entropies = terms.sum(dim=-1).transpose(0, 1)  # (N, B, S)
    return entropies[:, mask].mean(dim=1)  # (N,)


# The same with torch's own function.
def my_entropy_with_special(pattern, mask):
    weights = mask[:, None, :] / mask.sum()  # (B, 1, S)
    return (torch.special.entr(pattern).sum(-1) * weights).sum(dim=(0, 2))  # (N,)


# The same row by row, over the weights that are not zero.
def my_entropy_with_loops(pattern, mask):
    found = [[] for _ in range(pattern.shape[1])]
    for b, q in mask.nonzero().tolist():
        for number, row in enumerate(pattern[b, :, q]):
            weights = row[row > 0]  # (keys,)
            found[number].append(-(weights * weights.log()).sum().item())
    return torch.tensor(found).mean(dim=1)  # (N,)


# Exercise 3.
def my_importance(loss, examples, heads):
    total = torch.zeros(heads)  # (heads,)
    for example in examples:
        gates = torch.ones(heads, requires_grad=True)  # (heads,)
        [gradient] = torch.autograd.grad(loss(example, gates), gates)
        total += gradient.abs()
    return total / len(examples)  # (heads,)


# The same with `backward`, which adds to `grad`.
def my_importance_with_backward(loss, examples, heads):
    gates = torch.nn.Parameter(torch.ones(heads))  # (heads,)
    found = []
    for example in examples:
        gates.grad = None
        loss(example, gates).backward()
        found.append(gates.grad.abs())
    return sum(found) / len(found)  # (heads,)


# The same with a row of gates for each example, and one backward pass.
def my_importance_in_one_pass(loss, examples, heads):
    gates = torch.ones(len(examples), heads, requires_grad=True)  # (examples, heads)
    total = sum(loss(example, row) for example, row in zip(examples, gates, strict=True))
    return torch.autograd.grad(total, gates)[0].abs().mean(dim=0)  # (heads,)


# Exercise 4.
def my_leave_one_out(number, ids, cls, sep, mask):
    scores = torch.zeros(len(ids))  # (S,)
    for column, piece in enumerate(ids.tolist()):
        if piece not in (cls, sep):
            without = ids.clone()  # (S,)
            without[column] = mask
            scores[column] = number(ids) - number(without)
    return scores


# The same with a table of all edited texts.
def my_leave_one_out_as_table(number, ids, cls, sep, mask):
    table = ids.repeat(len(ids), 1)  # (S, S)
    edited = table.masked_fill(torch.eye(len(ids), dtype=torch.bool) & (ids != cls) & (ids != sep), mask)  # (S, S)
    return torch.stack([number(before) - number(after) for before, after in zip(table, edited, strict=True)])  # (S,)


# The same as a list.
def my_leave_one_out_as_list(number, ids, cls, sep, mask):
    whole = number(ids)

    def lost(column):
        return whole - number(torch.where(torch.arange(len(ids)) == column, mask, ids))

    return [0.0 if piece in {cls, sep} else float(lost(column)) for column, piece in enumerate(ids.tolist())]
