"""Solutions of chapter 13: examples by loss, calibration error, bootstrap interval, McNemar's test."""

import math

import numpy as np
import torch
from torch.nn import functional as F


# Exercise 1: one loss for each example, and an order from high to low.
def my_rank_by_loss(logits, labels):
    losses = F.cross_entropy(logits, labels, reduction="none")  # (n,)
    return losses.argsort(descending=True)  # (n,)


# From the definition: the log of the sum of exponentials, less the label's own logit.
def my_rank_by_loss_by_hand(logits, labels):
    own = logits[torch.arange(len(labels)), labels]  # (n,)
    losses = logits.exp().sum(dim=1).log() - own  # (n,)
    return torch.sort(losses, descending=True).indices  # (n,)


# The smaller the probability of the label, the higher the loss: no logarithm is needed for the order.
def my_rank_by_loss_with_sorted(logits, labels):
    shares = logits.softmax(dim=1)  # (n, C)
    return sorted(range(len(labels)), key=lambda number: shares[number, labels[number]].item())


# Exercise 2: bins of confidence, and in each the distance between mean confidence and accuracy.
def my_calibration_error(probabilities, labels, bins):
    confidence, predicted = probabilities.max(dim=1)  # (n,) each
    right = (predicted == labels).double()  # (n,)
    number = (confidence * bins).long().clamp(max=bins - 1)  # (n,)
    error = 0.0
    for each in range(bins):
        inside = number == each  # (n,)
        if inside.any():
            gap = (right[inside].mean() - confidence[inside].mean()).abs()
            error += inside.double().mean() * gap
    return error


# The counts cancel: a bin contributes the distance between its two sums, divided by n.
def my_calibration_error_with_sums(probabilities, labels, bins):
    confidence, predicted = probabilities.double().max(dim=1)  # (n,) each
    number = (confidence * bins).long().clamp(max=bins - 1)  # (n,)
    gains = (predicted == labels).double() - confidence  # (n,)
    return torch.zeros(bins).double().index_add(0, number, gains).abs().sum() / len(labels)


# With numpy and the edges written down.
def my_calibration_error_with_edges(probabilities, labels, bins):
    confidence, right = probabilities.max(1).values.numpy(), (probabilities.argmax(1) == labels).numpy()
    edges = np.linspace(0, 1, bins + 1)
    error = 0.0
    for low, high in zip(edges, edges[1:], strict=False):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


# Exercise 3: the accuracy of each resample, and the two percentiles that leave 2.5% on either side.
def my_bootstrap_interval(right, drawn):
    means = right[drawn].mean(dim=1)  # (R,)
    return means.quantile(0.025).item(), means.quantile(0.975).item()


# With numpy.
def my_bootstrap_interval_with_numpy(right, drawn):
    return np.percentile(right.numpy()[drawn.numpy()].mean(axis=1), [2.5, 97.5])


# By sorting: of 401 means, ten are below the first and ten above the second.
def my_bootstrap_interval_by_sorting(right, drawn):
    means = sorted(sum(right[row].tolist()) / len(row) for row in drawn)
    return means[int(0.025 * len(means))], means[int(0.975 * len(means))]


# Exercise 4: twice the smaller tail of the binomial distribution of n coins.
def my_mcnemar(first, second):
    alone, other = (first & ~second).sum().item(), (~first & second).sum().item()
    n = alone + other
    tail = sum(math.comb(n, k) for k in range(min(alone, other) + 1)) / 2**n
    return min(1.0, 2 * tail)


# All outcomes that are at least as uneven as the observed one.
def my_mcnemar_by_unevenness(first, second):
    n, gain = int((first != second).sum()), abs(int(first.sum()) - int(second.sum()))
    return sum(math.comb(n, k) / 2**n for k in range(n + 1) if abs(n - 2 * k) >= gain)


# The distribution of the number of heads, one coin after the other.
def my_mcnemar_coin_by_coin(first, second):
    n = int((first != second).sum())
    heads = np.ones(1)
    for _ in range(n):
        heads = np.convolve(heads, [0.5, 0.5])
    fewer = min(int((first & ~second).sum()), int((~first & second).sum()))
    return min(1.0, 2 * heads[: fewer + 1].sum())
