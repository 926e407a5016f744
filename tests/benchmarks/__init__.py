"""Side-by-side speed: minibert and transformers on the same texts and weights, in one process.

    python -m tests.benchmarks                        the whole table
    python -m tests.benchmarks --only inference/short a part of it
    python -m tests.benchmarks profile CASE           where the time of one case goes
    python -m tests.benchmarks engines                against other engines, in a venv of their own

How it is made fair:

- every variant of a case runs once in each round, the order is drawn anew for each round, and the
  reference runs twice: the ratio of its two copies says how much of any ratio is noise;
- both sides open the same model folder and read the same texts; their outputs are compared in the
  same run, and a run in which they disagree has no result;
- tokens are real tokens: padding is work that a variant may do, never work that counts;
- what a variant does is said beside it, in its `what`; each times itself, so that what is inside
  and what is outside the clock can be read in its code.

`measure.py` has the rounds, `material.py` texts, weights and sizes, `agreement.py` the comparison;
`inference.py`, `training.py`, `processes.py` have the variants.
"""
