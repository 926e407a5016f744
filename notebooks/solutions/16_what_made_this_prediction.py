"""Solutions of chapter 16: the lens, shares of a normalised sum, and integrated gradients, each in three styles."""

import math

import torch
from torch import nn
from torch.nn import functional as F


# Exercise 1.
def my_lens(states, head):
    hidden = F.gelu(states @ head["dense.weight"].T + head["dense.bias"])  # (L + 1, D)
    hidden = F.layer_norm(hidden, hidden.shape[-1:], head["norm.weight"], head["norm.bias"], head["eps"])  # (L + 1, D)
    logits = hidden @ head["table"].T + head["bias"]  # (L + 1, V)
    return logits.softmax(dim=-1)  # (L + 1, V)


# The same with torch's modules.
def my_lens_with_modules(states, head):
    pieces, size = head["table"].shape
    parts = {"0": "dense", "2": "norm"}
    network = nn.Sequential(nn.Linear(size, size), nn.GELU(), nn.LayerNorm(size, head["eps"]), nn.Linear(size, pieces))
    tensors = {f"{n}.{end}": head[f"{name}.{end}"] for n, name in parts.items() for end in ("weight", "bias")}
    network.load_state_dict({**tensors, "3.weight": head["table"], "3.bias": head["bias"]})
    with torch.no_grad():
        return network(states).softmax(dim=-1)  # (L + 1, V)


# The same, one layer at a time and every formula written out.
def my_lens_by_formulas(states, head):
    rows = []
    for state in states:
        inner = head["dense.weight"] @ state + head["dense.bias"]  # (D,)
        active = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2  # (D,)
        centred = active - active.mean()  # (D,)
        normed = centred / (centred.square().mean() + head["eps"]).sqrt()  # (D,)
        logits = head["table"] @ (normed * head["norm.weight"] + head["norm.bias"]) + head["bias"]  # (V,)
        positive = (logits - logits.max()).exp()  # (V,)
        rows.append(positive / positive.sum())
    return torch.stack(rows)  # (L + 1, V)


# Exercise 2.
def my_contributions(parts, weight, bias, eps, direction):
    scale = (parts.sum(dim=0).var(unbiased=False) + eps).rsqrt()  # ()
    centred = parts - parts.mean(dim=1, keepdim=True)  # (K, D)
    shares = (centred * scale * weight) @ direction  # (K,)
    return shares, bias @ direction  # (K,), ()


# The same from the other end: the direction goes back through the norm, and each part is read along it.
def my_contributions_backwards(parts, weight, bias, eps, direction):
    turned = direction * weight  # (D,)
    turned = turned - turned.mean()  # (D,)
    total = parts.sum(dim=0)  # (D,)
    turned = turned / torch.sqrt(((total - total.mean()) ** 2).mean() + eps)  # (D,)
    return parts @ turned, torch.dot(bias, direction)  # (K,), ()


# The same by autograd: with the scale held, the norm is a linear map and a constant.
def my_contributions_by_autograd(parts, weight, bias, eps, direction):
    total = parts.sum(dim=0)  # (D,)
    spread = (total.var(unbiased=False) + eps).sqrt()  # ()

    def frozen(x):
        return (((x - x.mean()) / spread) * weight + bias) @ direction  # ()

    gradient = torch.func.grad(frozen)(total)  # (D,)
    return [float(part @ gradient) for part in parts], float(frozen(torch.zeros_like(total)))


# Exercise 3.
def my_integrated_gradients(function, actual, baseline, steps):
    total = torch.zeros_like(actual)  # (S, D)
    for step in range(steps):
        alpha = (step + 0.5) / steps
        place = (baseline + alpha * (actual - baseline)).requires_grad_()  # (S, D)
        [gradient] = torch.autograd.grad(function(place), place)  # (S, D)
        total += gradient
    return (total / steps * (actual - baseline)).sum(dim=1)  # (S,)


# The same with torch.func, which turns a function into its gradient.
def my_integrated_gradients_by_func(function, actual, baseline, steps):
    alphas = (torch.arange(steps) + 0.5) / steps  # (steps,)
    gradient = torch.func.grad(function)
    mean = sum(gradient(torch.lerp(baseline, actual, alpha)) for alpha in alphas) / steps  # (S, D)
    return torch.einsum("sd,sd->s", mean, actual - baseline)  # (S,)


# The same with one backward pass over all points.
def my_integrated_gradients_in_one_pass(function, actual, baseline, steps):
    places = [baseline + (k + 0.5) / steps * (actual - baseline) for k in range(steps)]  # (S, D) each
    leaves = torch.stack(places).requires_grad_()  # (steps, S, D)
    sum(function(leaf) for leaf in leaves).backward()
    return (leaves.grad.mean(dim=0) * (actual - baseline)).sum(dim=-1)  # (S,)
