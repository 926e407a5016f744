"""Hostile model folders: what is wrong in each, what has to come out, and a cage to try it in.

python -m tests.programs.hostile                 every case, and a table of what came out
python -m tests.programs.hostile --fuzz 20000    mutants of configs, headers, indexes, ...
"""
