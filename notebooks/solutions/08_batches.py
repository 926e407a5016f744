"""Solutions of chapter 08: packing, unpacking, batches by length and a split, the main ones in three ways."""

import itertools
import random

import numpy as np
import torch


# Exercise 1.
def my_pack(ids, mask):
    columns = torch.arange(ids.shape[1]).expand(ids.shape)  # (B, S)
    return ids[mask], columns[mask], mask.sum(dim=1)  # (T,), (T,), (B,)


# The same with the cells' numbers, which are computed once and serve every tensor of the batch.
def my_pack_with_cells(ids, mask):
    cells = mask.flatten().nonzero().squeeze(1)  # (T,)
    lengths = torch.bincount(cells // ids.shape[1], minlength=ids.shape[0])  # (B,)
    return ids.flatten().index_select(0, cells), cells % ids.shape[1], lengths  # (T,), (T,), (B,)


# The same in loops.
def my_pack_with_loops(ids, mask):
    packed, positions, lengths = [], [], []
    for row, real in zip(ids.tolist(), mask.tolist(), strict=True):
        places = [place for place, is_real in enumerate(real) if is_real]
        packed += [row[place] for place in places]
        positions += places
        lengths.append(len(places))
    return torch.tensor(packed), torch.tensor(positions), torch.tensor(lengths)


# Exercise 2.
def my_unpack(packed, mask):
    table = packed.new_zeros(*mask.shape, *packed.shape[1:])  # (B, S, ...)
    table[mask] = packed
    return table


# The same with the number of each token in the line, and -1 for padding, which reads an extra row of zeros.
def my_unpack_by_lookup(packed, mask):
    places = (mask.flatten().cumsum(dim=0) - 1).view(mask.shape).masked_fill(~mask, -1)  # (B, S)
    return torch.cat([packed, torch.zeros_like(packed[:1])])[places]  # (B, S, ...)


# The same row by row.
def my_unpack_with_loops(packed, mask):
    rows, start = [], 0
    for real in mask:
        row = packed.new_zeros(mask.shape[1], *packed.shape[1:])  # (S, ...)
        count = int(real.sum())
        row[real] = packed[start : start + count]
        rows.append(row)
        start += count
    return torch.stack(rows)  # (B, S, ...)


# Exercise 3. The first row of a batch is its longest.
def my_batches(lengths, budget):
    batches, longest = [[]], 0
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row], reverse=True):
        longest = longest or lengths[row]
        if (len(batches[-1]) + 1) * longest > budget:
            batches.append([])
            longest = lengths[row]
        batches[-1].append(row)
    return batches


# The same, asking for each batch how many rows it has room for.
def my_batches_by_slices(lengths, budget):
    order = np.argsort(lengths)[::-1]
    batches = []
    while len(order):
        count = budget // lengths[order[0]]
        batches.append(order[:count].tolist())
        order = order[count:]
    return batches


# The same as a recursion.
def my_batches_recursively(lengths, budget, rows=None):
    rows = set(range(len(lengths))) if rows is None else rows
    if not rows:
        return []
    ordered = sorted(rows, key=lambda row: -lengths[row])
    batch = list(itertools.islice(ordered, budget // lengths[ordered[0]]))
    return [batch, *my_batches_recursively(lengths, budget, rows - set(batch))]


# Exercise 4. Texts are drawn, not rows, so that copies stay together.
def my_split(texts, labels, fraction, seed):
    generator = torch.Generator().manual_seed(seed)
    in_test = set()
    for label in sorted(set(labels)):
        members = sorted({text for text, of_text in zip(texts, labels, strict=True) if of_text == label})
        order = torch.randperm(len(members), generator=generator).tolist()
        in_test.update(members[place] for place in order[: round(fraction * len(members))])
    train = [row for row, text in enumerate(texts) if text not in in_test]
    test = [row for row, text in enumerate(texts) if text in in_test]
    return train, test


# The same with a generator of numpy's.
def my_split_with_numpy(texts, labels, fraction, seed):
    generator = np.random.default_rng(seed)
    texts, labels = np.array(texts), np.array(labels)
    drawn = [generator.permutation(np.unique(texts[labels == label])) for label in np.unique(labels)]
    in_test = np.isin(texts, np.concatenate([group[: round(fraction * len(group))] for group in drawn]))
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)


# The same with the standard library: rows by class, then by text.
def my_split_with_random(texts, labels, fraction, seed):
    rows = {}
    for row, (text, label) in enumerate(zip(texts, labels, strict=True)):
        rows.setdefault(label, {}).setdefault(text, []).append(row)
    train, test = [], []
    draw = random.Random(seed)
    for groups in rows.values():
        groups = list(groups.values())
        draw.shuffle(groups)
        count = int(fraction * len(groups))
        test += itertools.chain.from_iterable(groups[:count])
        train += itertools.chain.from_iterable(groups[count:])
    return train, test
