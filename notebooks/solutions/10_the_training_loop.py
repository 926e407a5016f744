"""Solutions of chapter 10: an AdamW step, a schedule, an accumulated gradient, a step with a scaler."""

import math

import torch
from torch.nn import functional as F

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


# Exercise 1, as in the chapter's own steps.
def my_adamw_step(weight, gradient, mean, square, step, rate, decay):
    mean = BETA1 * mean + (1 - BETA1) * gradient  # (...)
    square = BETA2 * square + (1 - BETA2) * gradient**2  # (...)
    direction = mean / (1 - BETA1**step) / ((square / (1 - BETA2**step)) ** 0.5 + EPS)  # (...)
    weight = weight - rate * decay * weight - rate * direction  # (...)
    return weight, mean, square


# In place, with the corrections moved to the rate and the root, as in torch's own loop.
def my_adamw_step_in_place(weight, gradient, mean, square, step, rate, decay):
    weight.mul_(1 - rate * decay)
    mean.lerp_(gradient, 1 - BETA1)
    square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    below = square.sqrt().div_(math.sqrt(1 - BETA2**step)).add_(EPS)  # (...)
    weight.addcdiv_(mean, below, value=-rate / (1 - BETA1**step))
    return weight, mean, square


# With torch's optimizer, given the state that it would have.
def my_adamw_step_of_torch(weight, gradient, mean, square, step, rate, decay):
    parameter = torch.nn.Parameter(weight)
    optimizer = torch.optim.AdamW([parameter], lr=rate, betas=(BETA1, BETA2), eps=EPS, weight_decay=decay)
    optimizer.state[parameter] = {"step": torch.tensor(step - 1.0), "exp_avg": mean, "exp_avg_sq": square}
    parameter.grad = gradient
    optimizer.step()
    return parameter, mean, square


# Exercise 2.
def my_schedule(update, warmup, total):
    if update < warmup:
        return update / warmup
    return max(0.0, (total - update) / (total - warmup))


# Both lines, and the lower one of the two.
def my_schedule_without_branches(update, warmup, total):
    up = update / warmup if warmup else 1.0
    down = (total - update) / (total - warmup)
    return max(0.0, min(up, down))


# The corners of the curve, and a straight line between them.
def my_schedule_by_corners(update, warmup, total):
    corners = [(0, 0.0), (warmup, 1.0), (total, 0.0)] if warmup else [(0, 1.0), (total, 0.0)]
    for (x1, y1), (x2, y2) in zip(corners[:-1], corners[1:], strict=True):
        if x1 <= update < x2:
            return y1 + (y2 - y1) * (update - x1) / (x2 - x1)
    return 0.0


# Exercise 3.
def my_gradient(weight, batches):
    weight = weight.clone().requires_grad_()  # (D, C)
    count = sum(int((labels != -100).sum()) for _, labels in batches)
    for features, labels in batches:
        loss = F.cross_entropy(features @ weight, labels, ignore_index=-100, reduction="sum") / count  # ()
        loss.backward()
    return weight.grad


# One large batch: what accumulation has to be equal to.
def my_gradient_of_one_batch(weight, batches):
    weight.requires_grad_()
    features, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))  # (B, D), (B,)
    [gradient] = torch.autograd.grad(F.cross_entropy(features @ weight, labels), weight)
    return gradient


# Without autograd: the gradient of a cross-entropy by the logits is probability minus target. Divided once, at the end.
def my_gradient_by_hand(weight, batches):
    total, count = torch.zeros_like(weight), 0  # (D, C)
    for features, labels in batches:
        features, labels = features[labels >= 0], labels[labels >= 0]  # (B, D), (B,)
        error = (features @ weight).softmax(dim=-1) - F.one_hot(labels, weight.shape[1])  # (B, C)
        total += features.T @ error  # (D, C)
        count += len(labels)
    return total / count


# Exercise 4.
def my_scaled_step(weights, scaled, scale, limit, rate, updates):
    gradients = [gradient / scale for gradient in scaled]
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()  # ()
    if not norm.isfinite():
        return weights, scale / 2, updates
    factor = min(1.0, limit / norm.item())
    weights = [weight - rate * factor * gradient for weight, gradient in zip(weights, gradients, strict=True)]
    return weights, scale, updates + 1


# All tensors laid in one line, and cut again at the end.
def my_scaled_step_in_one_vector(weights, scaled, scale, limit, rate, updates):
    flat = torch.cat([gradient.flatten() for gradient in scaled])  # (all,)
    if not flat.isfinite().all():
        return weights, scale / 2, updates
    flat = flat / scale
    flat = flat * torch.clamp(limit / (flat.norm() + 1e-6), max=1.0)
    cut = flat.split([weight.numel() for weight in weights])
    moved = [w - rate * part.view_as(w) for w, part in zip(weights, cut, strict=True)]  # (...) each
    return moved, scale, updates + 1


# With torch's functions and optimizer.
def my_scaled_step_of_torch(weights, scaled, scale, limit, rate, updates):
    parameters = [torch.nn.Parameter(weight) for weight in weights]
    for parameter, gradient in zip(parameters, scaled, strict=True):
        parameter.grad = gradient.div_(scale)
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
    if norm.isnan() or norm.isinf():
        return weights, scale * 0.5, updates
    torch.optim.SGD(parameters, lr=rate).step()
    return parameters, scale, updates + 1
