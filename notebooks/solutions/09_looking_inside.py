"""Solutions of chapter 09: a tap, a patch between two texts, the distance of attention, each in three ways."""

import re
from fnmatch import fnmatchcase

import numpy as np
import torch


# Exercise 1.
def my_tap(trace, prefix, name, value):
    full = prefix + name
    for pattern, function in trace["replace"].items():
        if fnmatchcase(full, pattern):
            value = function(value)
    if any(fnmatchcase(full, pattern) for pattern in trace["read"]):
        trace["values"][full] = value
    return value


# The same with regular expressions, and the record first made and then overwritten.
def my_tap_with_expressions(trace, prefix, name, value):
    def fits(pattern):
        return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), prefix + name)

    read = bool([pattern for pattern in trace["read"] if fits(pattern)])
    trace["values"] |= {prefix + name: value} if read else {}
    for function in [trace["replace"][pattern] for pattern in trace["replace"] if fits(pattern)]:
        value = function(value)
        if read:
            trace["values"][prefix + name] = value
    return value


# The same as an object that lives for one call.
class my_tap_as_a_class:  # noqa: N801
    def __new__(cls, trace, prefix, name, value):
        self = super().__new__(cls)
        self.name, self.value = "".join((prefix, name)), value
        self.used_by(trace["replace"])
        if self.asked_for(trace["read"]):
            trace["values"].update({self.name: self.value})
        return self.value

    def asked_for(self, patterns):
        return next((True for pattern in patterns if fnmatchcase(self.name, pattern)), False)

    def used_by(self, replacements):
        for pattern in filter(lambda pattern: self.asked_for([pattern]), replacements):
            self.value = replacements[pattern](self.value)


# Exercise 2. Without `clone` the network's own value would be changed in place.
def my_patch(run, source, target, name, position):
    _, values = run(source)

    def put(value):
        new = value.clone()  # (S, D)
        new[position] = values[name][position]
        return new

    answer, _ = run(target, {name: put})
    return answer


# The same by choosing between two tensors.
def my_patch_with_where(run, source, target, name, position):
    there = run(source)[1][name]  # (S, D)
    here = torch.arange(len(source))[:, None] == position  # (S, 1)
    return run(target, {name: lambda value: torch.where(here, there, value)})[0]


# The same by putting three parts together.
def my_patch_with_cat(run, source, target, name, position):
    rows = slice(position, position + 1)
    given = run(source)[1][name][rows]  # (1, D)
    replace = {name: lambda value: torch.cat([value[:position], given, value[position + 1 :]])}  # (S, D)
    return run(target, replace)[0]


# Exercise 3.
def my_distance(pattern, mask):
    columns = torch.arange(mask.shape[1])  # (S,)
    apart = (columns[:, None] - columns).abs()  # (S, S)
    of_query = (pattern * apart).sum(dim=-1)  # (B, N, S)
    return (of_query * mask[:, None, :]).sum(dim=(0, 2)) / mask.sum()  # (N,)


# The same over the real queries alone, packed.
def my_distance_packed(pattern, mask):
    rows = pattern.transpose(1, 2)[mask]  # (T, N, S)
    columns = torch.arange(mask.shape[1], dtype=rows.dtype)  # (S,)
    own = columns.expand(mask.shape)[mask]  # (T,)
    return torch.einsum("tns,ts->n", rows, (own[:, None] - columns).abs()) / len(rows)  # (N,)


# The same in numpy, query by query.
def my_distance_with_loops(pattern, mask):
    found = []
    for row, real in zip(pattern.numpy(), mask.numpy(), strict=True):
        for query in np.flatnonzero(real):
            apart = np.abs(np.arange(len(real)) - query)  # (S,)
            found.append(row[:, query] @ apart)  # (N,)
    return np.mean(found, axis=0)  # (N,)
