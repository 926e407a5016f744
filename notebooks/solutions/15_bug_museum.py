"""Solutions of chapter 15: a guess, a repaired loss and a guard."""

import torch
from torch.nn import functional as F


# Exercise 1.
def my_order():
    return ["pooler transposed", "causal", "padding attended", "no positions", "eps 1e-5"]


# Exercise 2: logits instead of probabilities; sums and counts instead of a mean of means.
def my_window_loss(batches):
    total, count = 0.0, 0
    for logits, labels in batches:
        total = total + F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
        count += (labels != -100).sum()
    return total / count


# The same as one long batch.
def my_window_loss_as_one_batch(batches):
    logits = torch.cat([logits.flatten(0, 1) for logits, _ in batches])  # (all, C)
    labels = torch.cat([labels.flatten() for _, labels in batches])  # (all,)
    return F.cross_entropy(logits, labels)


# The same from the definition: minus the logarithm of the probability of each label.
def my_window_loss_by_hand(batches):
    losses = []
    for logits, labels in batches:
        for row, label in zip(logits.flatten(0, 1), labels.flatten().tolist(), strict=True):
            if label != -100:
                losses.append(row.logsumexp(dim=0) - row[label])
    return torch.stack(losses).mean()


# Exercise 3.
def my_guard(ids, mask, logits, labels, cls_id, pad_id):
    starts = ids == cls_id  # (B, S)
    first = mask.argmax(dim=1)  # (B,), the first real token
    begins = starts[torch.arange(len(ids)), first]  # (B,)
    classes = (labels >= 0) & (labels < logits.shape[-1])  # (B,)
    return {
        "padding read": bool(((ids == pad_id) & (mask == 1)).any()),
        "special tokens": not bool((begins & (starts.sum(dim=1) == 1)).all()),
        "probabilities": bool((logits >= 0).all() and torch.allclose(logits.sum(dim=-1), torch.ones(len(ids)))),
        "labels": not bool((classes | (labels == -100)).all()),
    }


# The same row by row, in plain Python.
def my_guard_row_by_row(ids, mask, logits, labels, cls_id, pad_id):
    found = {"padding read": False, "special tokens": False, "probabilities": True, "labels": False}
    for row, real, scores, label in zip(ids.tolist(), mask.tolist(), logits.tolist(), labels.tolist(), strict=True):
        read = [token for token, seen in zip(row, real, strict=True) if seen]
        found["padding read"] |= pad_id in read
        found["special tokens"] |= row.count(cls_id) != 1 or read[0] != cls_id
        found["probabilities"] &= min(scores) >= 0 and abs(sum(scores) - 1) < 1e-5
        found["labels"] |= label != -100 and label not in range(len(scores))
    return found


# The same with sets and logarithms of sums: probabilities are what the softmax of their logarithm gives back.
def my_guard_with_sets(ids, mask, logits, labels, cls_id, pad_id):
    tokens = [row[seen.bool()].tolist() for row, seen in zip(ids, mask, strict=True)]
    shares = logits.log().softmax(dim=-1)  # (B, C), NaN where a logit is negative
    allowed = {-100, *range(logits.shape[1])}
    return {
        "padding read": any(pad_id in row for row in tokens),
        "special tokens": any(row[:1] != [cls_id] or cls_id in row[1:] for row in tokens),
        "probabilities": torch.allclose(shares, logits),
        "labels": not {*labels.tolist()} <= allowed,
    }
