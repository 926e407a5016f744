"""Solutions of chapter 11: masked tokens and pairs of sentences."""

import random

import torch


# Exercise 1, as in the chapter's own steps.
def my_mask_tokens(ids, special, mask_id, size, share, generator):
    ordinary = ~torch.isin(ids, special)  # (B, S)
    chosen = ordinary & (torch.rand(ids.shape, generator=generator) < share)  # (B, S)
    labels = ids.masked_fill(~chosen, -100)  # (B, S)
    pieces = torch.tensor(sorted(set(range(size)) - set(special.tolist())))  # (ordinary pieces,)
    drawn = pieces[torch.randint(len(pieces), ids.shape, generator=generator)]  # (B, S)
    fate = torch.rand(ids.shape, generator=generator)  # (B, S)
    masked = torch.where(chosen & (fate < 0.8), mask_id, ids)  # (B, S)
    masked = torch.where(chosen & (fate >= 0.8) & (fate < 0.9), drawn, masked)  # (B, S)
    return masked, labels


# Only the chosen tokens are drawn for, and only as many random pieces as are needed.
def my_mask_tokens_by_index(ids, special, mask_id, size, share, generator):
    masked, labels = ids.clone(), torch.full_like(ids, -100)  # (B, S) each
    candidates = (~torch.isin(ids, special)).nonzero()  # (candidates, 2)
    chosen = candidates[torch.rand(len(candidates), generator=generator) < share]  # (chosen, 2)
    row, column = chosen.unbind(dim=1)  # (chosen,) each
    labels[row, column] = ids[row, column]
    allowed = torch.ones(size)  # (V,)
    allowed[special] = 0
    drawn = torch.multinomial(allowed, len(chosen), replacement=True, generator=generator)  # (chosen,)
    fate = torch.multinomial(torch.tensor([0.8, 0.1, 0.1]), len(chosen), replacement=True, generator=generator)
    answers = torch.stack([torch.full_like(drawn, mask_id), drawn, ids[row, column]])  # (3, chosen)
    masked[row, column] = answers[fate, torch.arange(len(chosen))]
    return masked, labels


# In loops, with an exact number of chosen tokens in each row, as in the code of the paper.
def my_mask_tokens_with_loops(ids, special, mask_id, size, share, generator):
    draw = random.Random(int(torch.randint(2**40, (), generator=generator)))
    special = set(special.tolist())
    masked, labels = ids.tolist(), [[-100] * ids.shape[1] for _ in ids]
    for row, answers in zip(masked, labels, strict=True):
        candidates = [place for place, piece in enumerate(row) if piece not in special]
        for place in draw.sample(candidates, round(share * len(candidates))):
            answers[place] = row[place]
            fate = draw.random()
            if fate < 0.8:
                row[place] = mask_id
            elif fate < 0.9:
                while (piece := draw.randrange(size)) in special:
                    pass
                row[place] = piece
    return torch.tensor(masked), torch.tensor(labels)


# Exercise 2.
def my_pairs(documents, draw):
    pairs = []
    for number, sentences in enumerate(documents):
        for first, following in zip(sentences, sentences[1:], strict=False):
            if draw.random() < 0.5:
                pairs.append((first, following, 0))
            else:
                other = draw.choice(documents[:number] + documents[number + 1 :])
                pairs.append((first, draw.choice(other), 1))
    return pairs


# A sentence from elsewhere is drawn among all, and drawn again if it is of the same document.
def my_pairs_drawn_again(documents, draw):
    every = [(number, text) for number, sentences in enumerate(documents) for text in sentences]
    pairs = []
    for place in range(len(every) - 1):
        (number, first), (next_number, second) = every[place], every[place + 1]
        if number != next_number:
            continue
        label = draw.randint(0, 1)
        while label and next_number == number:
            next_number, second = draw.choice(every)
        pairs.append([first, second, label])
    return pairs


# As a generator's list, with exactly half of the labels of each kind.
def my_pairs_with_exact_halves(documents, draw):
    places = [(d, s) for d, sentences in enumerate(documents) for s in range(len(sentences) - 1)]
    labels = [number % 2 for number in range(len(places))]
    draw.shuffle(labels)

    def second(d, s, label):
        others = [other for other in range(len(documents)) if other != d]
        return draw.choice(documents[draw.choice(others)]) if label else documents[d][s + 1]

    return [(documents[d][s], second(d, s, label), label) for (d, s), label in zip(places, labels, strict=True)]
