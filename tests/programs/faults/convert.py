"""Mistakes of the reader of TensorFlow's checkpoints and of what is made of them, and of verdicts on runs."""

from tests.programs.faults.fault import faults

FAULTS = [
    *faults(
        "io/tensorflow.py",
        "io/test_tensorflow",
        ("a block is not held against its sum", "if _masked(crc32c(raw[offset : end + 1])) != stored:", "if False:"),
        ("values are not held against their sum", " or _masked(crc32c(raw)) != variable.crc:", ":"),
        ("the remainder of the first row alone", "for row in rows[1:]:", "for row in rows[2:]:"),
        ("a size that is not that of the shape", "if variable.size != prod(", "if False and variable.size != prod("),
        ("two variables on the same bytes", "if variable.offset < (end if", "if variable.offset < (0 if"),
        ("big-endian values", "    if _number(header, 2):\n", "    if False:\n"),
        ("keys in any order", "if last is not None and key <= last:", "if False:"),
        ("an archive's bomb", "if info.file_size > _LARGEST_RATIO", "if info.file_size > 10**9 * _LARGEST_RATIO"),
        ("a link out of the folder", "size_of_file(inside(self.path, name))", "size_of_file(path)"),
    ),
    *faults(
        "workbench/tasks/convert.py",
        "workbench/tasks/test_convert",
        ("kernels the wrong way round", "read[name].T if _is_kernel(name) else read[name]", "read[name]"),
        ("the pad id is always 0", "    config = config.replace(pad_token_id=tokenizer.pad_id)\n", ""),
        ("uncased means cased", 'in_name[-1] == "un"', 'in_name[-1] != "un"'),
        ("moments as weights", 'if name.rpartition("/")[0] in known or', "if"),
        ("another model's vocabulary", "if tokenizer.vocab_size > config.vocab_size:", "if False:"),
    ),
    *faults(
        "workbench/scores/baselines.py",
        "workbench/scores/test_baselines",
        ("as good as a baseline is enough", "(value > floor if higher", "(value >= floor if higher"),
        ("one epoch of two that rises", "if len(losses) > 2 and", "if len(losses) > 1 and"),
    ),
    *faults(
        "workbench/kinds",
        "workbench/tasks/test_outcomes_of_runs",
        ("parts mixed up", 'self.corpus.parts.get(example.guid, "")', "[*self.corpus.parts.values()][number]"),
    ),
]
