"""Side-by-side speed: minibert and transformers on the same texts and weights, in one process.

    python -m tests.programs.benchmarks                           the whole table, half an hour
    python -m tests.programs.benchmarks --only inference/short    a part of it (--list: the names)
    python -m tests.programs.benchmarks profile --only training   where the time of a case goes
    python -m tests.programs.benchmarks engines                   other engines, in an environment
                                                                  made for them

Run from the root of the repository, with the `bench` extra installed and MINIBERT_DATA set.

How it is made fair:

- every variant of a case runs once in each round, in a new random order each time, and the
  reference runs twice: the ratio of its two copies says how much of any ratio is noise;
- both sides open the same model folder and read the same texts; their outputs are compared in the
  same run, and a case in which they disagree has no result and fails the run;
- tokens are real tokens: padding is work that a variant may do, never work that counts;
- what a variant does is said beside it, in its `what`; each times itself, so that what is inside
  and what is outside the clock can be read in its code.

`cases.py` has the list of cases, `material.py` texts, weights and sizes, `measure.py` the rounds,
`agreement.py` the comparison; the variants are in `inference.py`, `training.py`, `tokenising.py`,
`processes.py` (start-up, memory) and `engines.py`.
"""
