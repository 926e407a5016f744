"""The coverage-guided fuzzer: atheris on what reads headers, configs and vocabularies.

    pip install atheris
    python -m tests.programs.hostile.atheris_targets header -max_total_time=600

Targets: header, config, vocabulary, tokenizer. What stands after the target goes to libFuzzer. It
starts from the good file and from those of all the cases; it stops at the first error that is not
minibert's own and leaves the input that raised it in the folder it was started in.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris
import torch  # noqa: F401 (not to be watched)

with atheris.instrument_imports(include=["minibert"]):
    from minibert import checkpoint
    from minibert.io import files
    from minibert.io.errors import MinibertError
    from minibert.io.source import open_source
    from minibert.tokenizer import BertTokenizer

from tests.programs.hostile.case import (
    CONFIG,
    TOKENIZER,
    VOCAB,
    WEIGHTS,
    split_weights,
    write_good_folder,
    write_weights,
)
from tests.programs.hostile.fuzz import TOKENS
from tests.programs.hostile.groups import GROUPS

LARGEST_SEED = 20_000  # bytes


def read_header(folder: Path) -> None:
    """What the check takes, the library must take too, and give the same shapes."""
    shapes = files.read_header(folder / WEIGHTS).tensors
    tensors = files.read_tensors(folder / WEIGHTS)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        name: shape for name, (shape, _) in shapes.items()
    }


def read_config(folder: Path) -> None:
    """What is read can be written."""
    config = checkpoint.read_config(open_source(folder), ())
    json.dumps(config.to_official(), allow_nan=False, ensure_ascii=False).encode("utf-8")


def read_vocabulary(folder: Path) -> None:
    """What is read can be used."""
    BertTokenizer.from_vocab(folder / VOCAB)("the good film!")


def read_tokenizer(folder: Path) -> None:
    """What is read can be used."""
    BertTokenizer.from_pretrained(folder)("the good film!")


TARGETS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "header": (WEIGHTS, read_header),
    "config": (CONFIG, read_config),
    "vocabulary": (VOCAB, read_vocabulary),
    "tokenizer": (TOKENIZER, read_tokenizer),
}


def main(name: str, *options: str) -> None:
    file, read = TARGETS[name]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as temporary:
        seeds, words, folder = (Path(temporary, part) for part in ("seeds", "words", "model"))
        write_seeds(file, seeds)
        words.write_text("".join(f'"{_quoted(token)}"\n' for token in TOKENS))
        write_good_folder(folder)

        _, body = split_weights(folder)

        def try_one(content: bytes) -> None:
            if file == WEIGHTS and content.startswith(b"{"):  # a header alone, its size unsaid
                write_weights(folder / file, content, body)
            else:
                (folder / file).write_bytes(content)
            with contextlib.suppress(MinibertError), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(folder)

        found = f"-artifact_prefix=crash-{name}-"
        atheris.Setup(["", str(seeds), f"-dict={words}", found, *options], try_one)
        atheris.Fuzz()


def write_seeds(file: str, seeds: Path) -> None:
    """The file as it is in the good folder and in every case that changes it."""
    seeds.mkdir()
    cases = [case for group in GROUPS for case in group.cases]
    for number, spoil in enumerate([lambda folder: None, *(case.spoil for case in cases)]):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary, "model")
            write_good_folder(folder)
            path = (spoil(folder) or folder) / file
            if path.is_file() and path.stat().st_size < LARGEST_SEED:
                content = path.read_bytes()
                (seeds / str(number)).write_bytes(content)
                if file == WEIGHTS:
                    size = int.from_bytes(content[:8], "little")
                    (seeds / f"{number}-header").write_bytes(content[8 : 8 + size])


def _quoted(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


if __name__ == "__main__":
    main(*sys.argv[1:])
