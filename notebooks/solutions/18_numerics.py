"""Solutions of chapter 18: the spacing of numbers, a softmax that does not overflow, a layer norm in fp16."""

import math

import numpy as np
import torch
from torch.nn import functional as F


# Exercise 1.
def my_spacing(x, bits, smallest):
    exponent = math.floor(math.log2(abs(x))) if x else smallest
    return 2.0 ** (max(exponent, smallest) - bits)


# The same with frexp, which gives a fraction from 1/2 to 1.
def my_spacing_by_frexp(x, bits, smallest):
    _, exponent = math.frexp(x)
    return math.ldexp(1.0, (smallest if x == 0 else max(exponent - 1, smallest)) - bits)


# The same by doubling and halving until x fits.
def my_spacing_by_doubling(x, bits, smallest):
    power = smallest
    while 2.0 ** (power + 1) <= abs(x):
        power += 1
    return 2.0**power / 2**bits


# Exercise 2.
def my_softmax(scores):
    largest = scores.amax(dim=-1, keepdim=True)  # (rows, 1)
    positive = (scores - largest).exp()  # (rows, S)
    return positive / positive.sum(dim=-1, keepdim=True)  # (rows, S)


# The same through logarithms, which torch takes after subtracting the maximum.
def my_softmax_by_logarithms(scores):
    return F.log_softmax(scores, dim=-1).exp()


# The same in one pass over the row, as attention kernels do: a running maximum and a running sum.
def my_softmax_in_one_pass(scores):
    largest = torch.full_like(scores[..., :1], torch.finfo(scores.dtype).min)  # (rows, 1)
    total = torch.zeros_like(largest)  # (rows, 1)
    for column in scores.split(1, dim=-1):
        before, largest = largest, torch.maximum(largest, column)
        total = total * (before - largest).exp() + (column - largest).exp()
    return (scores - largest).exp() / total


# Exercise 3.
def my_norm(x, weight, bias, eps):
    wide = x.float()  # (rows, D)
    mean = wide.mean(dim=-1, keepdim=True)  # (rows, 1)
    variance = (wide - mean).square().mean(dim=-1, keepdim=True)  # (rows, 1)
    normed = (wide - mean) / torch.sqrt(variance + eps)  # (rows, D)
    return (normed * weight + bias).to(x.dtype)  # (rows, D)


# The same by torch's function, in float32.
def my_norm_by_torch(x, weight, bias, eps):
    return F.layer_norm(x.float(), x.shape[-1:], weight, bias, eps).half()


# The same in numpy.
def my_norm_in_numpy(x, weight, bias, eps):
    wide = x.numpy().astype(np.float32)  # (rows, D)
    centred = wide - wide.mean(axis=-1, keepdims=True)  # (rows, D)
    normed = centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + np.float32(eps))  # (rows, D)
    return torch.from_numpy(normed * weight.numpy() + bias.numpy()).half()
