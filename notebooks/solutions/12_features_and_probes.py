"""Solutions of chapter 12: a mean over real tokens, standardised features, a confusion matrix, macro F1."""

import numpy as np
import torch


# Exercise 1: padding is multiplied by 0 in the sum, and is not counted below it.
def my_mean_pool(hidden, mask):
    weights = mask[:, :, None].to(hidden.dtype)  # (B, S, 1)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)  # (B, D)


# The mean as a product: each row of weights sums to 1.
def my_mean_pool_with_a_product(hidden, mask):
    weights = mask / mask.sum(dim=1, keepdim=True)  # (B, S)
    return (weights[:, None] @ hidden).squeeze(1)  # (B, D)


# One row at a time, with its real tokens alone.
def my_mean_pool_with_a_loop(hidden, mask):
    return torch.stack([row[real].mean(dim=0) for row, real in zip(hidden, mask, strict=True)])  # (B, D)


# Exercise 2: everything that is learned from data is learned from the training set.
def my_standardise(train, test):
    centre = train.mean(dim=0)  # (D,)
    spread = train.std(dim=0, correction=0)  # (D,)
    spread = torch.where(spread == 0, 1.0, spread)  # (D,)
    return (train - centre) / spread, (test - centre) / spread  # (n, D), (m, D)


# With numpy, whose deviation divides by n unless told otherwise.
def my_standardise_with_numpy(train, test):
    train, test = np.asarray(train), np.asarray(test)
    centre, spread = train.mean(axis=0), train.std(axis=0)  # (D,) each
    spread[spread == 0] = 1
    return (train - centre) / spread, (test - centre) / spread  # (n, D), (m, D)


# Feature by feature, from the definition.
def my_standardise_with_loops(train, test):
    columns = []
    for old, new in zip(train.T, test.T, strict=True):
        centre = sum(old) / len(old)
        spread = (sum((old - centre) ** 2) / len(old)) ** 0.5
        columns.append([(part - centre) / (spread if spread > 0 else 1) for part in (old, new)])
    return tuple(torch.stack(parts, dim=1) for parts in zip(*columns, strict=True))  # (n, D), (m, D)


# Exercise 3: counts by label (row) and prediction (column), then shares of each row.
def my_confusion_matrix(labels, predictions, classes):
    counts = torch.zeros(classes, classes)  # (C, C)
    for label, prediction in zip(labels, predictions, strict=True):
        counts[label, prediction] += 1
    return counts / counts.sum(dim=1, keepdim=True).clamp(min=1)  # (C, C)


# Each pair of classes is one number from 0 to C * C - 1, and bincount counts them.
def my_confusion_matrix_with_bincount(labels, predictions, classes):
    counts = torch.bincount(labels * classes + predictions, minlength=classes**2).view(classes, classes)  # (C, C)
    return counts / counts.sum(dim=1, keepdim=True).clamp(min=1)  # (C, C)


# A product of one-hot matrices: cell (i, j) sums over the examples that are i and j.
def my_confusion_matrix_with_one_hot(labels, predictions, classes):
    one_hot = torch.eye(classes, dtype=torch.double)  # (C, C)
    counts = one_hot[labels].T @ one_hot[predictions]  # (C, C)
    return (counts / counts.sum(dim=1, keepdim=True)).nan_to_num()  # (C, C)


# Exercise 4: F1 = 2 right / (labels + predictions), the same as from precision and recall.
def my_macro_f1(labels, predictions, classes):
    scores = []
    for number in range(classes):
        right = ((labels == number) & (predictions == number)).sum()
        total = (labels == number).sum() + (predictions == number).sum()
        if total > 0:
            scores.append(2 * right / total)
    return sum(scores) / len(scores)


# From precision and recall.
def my_macro_f1_from_precision_and_recall(labels, predictions, classes):
    scores = []
    for number in sorted({*labels.tolist(), *predictions.tolist()}):
        right = ((labels == number) & (predictions == number)).sum().item()
        precision = right / max(1, (predictions == number).sum().item())
        recall = right / max(1, (labels == number).sum().item())
        scores.append(2 * precision * recall / (precision + recall) if right else 0.0)
    return sum(scores) / len(scores)


# From the matrix of counts.
def my_macro_f1_from_counts(labels, predictions, classes):
    counts = torch.bincount(labels * classes + predictions, minlength=classes**2).view(classes, classes)  # (C, C)
    total = counts.sum(dim=0) + counts.sum(dim=1)  # (C,)
    return (2 * counts.diag() / total)[total > 0].mean().item()
