"""A warm process that forks one process a case.

The Hub's client reads its settings when it is imported, so every case needs a process of its own.
This one has imported what is slow and not the client; a fork of it imports the client, with the
settings of its case, in a quarter of a second.

Reads one case a line from standard input (JSON: environment, processes, steps, output) and writes
one line when its processes have ended. A process carries out the steps (see STEPS), and writes
what it found to `output.0`, `output.1`, ... and what it printed to `output.0.log`, ...
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
import urllib.request
from pathlib import Path

import httpx2  # noqa: F401 (imported to be there after the fork)
import safetensors.torch  # noqa: F401
import tokenizers  # noqa: F401
import torch  # noqa: F401
import tqdm  # noqa: F401

HANG = 100  # seconds; a case takes about one

# Where programs are, which an import may open: Python's and the clone's own.
_OF_PROGRAMS = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[3]), "/dev/", "/proc/")
_MAKES_NAMES = ("os.mkdir", "os.rename", "os.symlink", "os.remove")
_calls: list[str] = []


def resolve(source, patterns, revision=None, kind="model") -> dict:
    from minibert.io.source import open_source

    local = open_source(source, revision, patterns, kind)
    paths = sorted(path for path in local.folder.rglob("*") if not path.is_dir())
    return {
        "folder": str(local.folder),
        "revision": local.revision,
        "files": {path.relative_to(local.folder).as_posix(): _content(path) for path in paths if path.exists()},
    }


def _content(path: Path) -> str:
    return path.read_bytes().hex()


def load(source, revision=None) -> dict:
    """The sum of all weights of a classifier, by the names of a whole model."""
    from minibert import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(source, revision=revision)
    total = sum(tensor.double().sum().item() for tensor in model.state_dict().values())
    return {"sum": total, "revision": model.load_report.revision}


def load_everything(source, revision=None) -> dict:
    """All that the commands ask a model's repository for."""
    from minibert import BertTokenizer
    from minibert.io.source import open_source
    from minibert.workbench.tasks.sentence_recipe import sentence_recipe

    BertTokenizer.from_pretrained(source, revision=revision)
    sentence_recipe(open_source(source, revision))
    return load(source, revision)


def load_with_tokenizer(source, revision=None) -> dict:
    from minibert import BertTokenizer

    BertTokenizer.from_pretrained(source, revision=revision)
    return load(source, revision)


def download_all(source) -> None:
    """What a user's own tools do, who know nothing of minibert."""
    import huggingface_hub

    for name in ("config.json", "model.safetensors"):
        huggingface_hub.hf_hub_download(source, name)


def command(*arguments) -> dict:
    from minibert.workbench.cli import main

    return {"code": main(arguments)}


def offline(yes) -> None:
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = yes


def heal() -> None:
    """Takes all faults from the server."""
    urllib.request.urlopen(f"{os.environ['HF_ENDPOINT']}/heal").read()


def without_network() -> None:
    """From here on no name is looked up and no connection is made."""

    def refuse(event, arguments):
        if event in ("socket.connect", "socket.getaddrinfo"):
            _calls.append(event)
            raise OSError(errno.ENETUNREACH, "Network is unreachable")

    sys.addaudithook(refuse)


def calls() -> dict:
    return {"calls": list(_calls)}


def opened_beside(folder) -> dict:
    """Records what is opened from here on that is not in a folder or a part of Python."""
    opened: list[str] = []

    def note(event, arguments):
        if event == "open" and isinstance(arguments[0], str):
            path = os.path.abspath(arguments[0])
            if not path.startswith((folder, *_OF_PROGRAMS)):
                opened.append(path)

    sys.addaudithook(note)
    return {"opened": opened}


def read_only(folder) -> None:
    """From here on nothing in a folder can be written to."""

    def refuse(event, arguments):
        changes = event in _MAKES_NAMES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if changes and str(arguments[0]).startswith(folder):
            raise OSError(errno.EROFS, "Read-only file system", str(arguments[0]))

    sys.addaudithook(refuse)


def full_disk() -> None:
    """From here on downloads are written to a device that is full."""
    _replace_open(lambda path, mode: _open(Path("/dev/full"), mode))


def die_while_writing() -> None:
    """From here on half of a download is written, and then this process is killed."""

    class Half:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    _replace_open(lambda path, mode: Half(_open(path, mode)))


_open = Path.open


def _replace_open(opened) -> None:
    Path.open = lambda self, mode="r", *arguments, **settings: (
        opened(self, mode) if self.name.endswith(".incomplete") else _open(self, mode, *arguments, **settings)
    )


STEPS = {
    step.__name__: step
    for step in (
        resolve,
        load,
        load_everything,
        load_with_tokenizer,
        download_all,
        command,
        offline,
        heal,
        without_network,
        calls,
        opened_beside,
        read_only,
        full_disk,
        die_while_writing,
    )
}


def _carry_out(steps) -> list[dict]:
    from minibert.io.errors import MinibertError

    found = []
    for name, *arguments in steps:
        start = time.monotonic()
        try:
            result = STEPS[name](*arguments)
        except MinibertError as error:
            result = {"error": type(error).__name__, "text": str(error), "hint": error.hint, "code": error.exit_code}
        if result is not None:
            found.append({**result, "seconds": time.monotonic() - start})
    return found


def _fork(case: dict, number: int) -> int:
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        signal.alarm(HANG)
        output = f"{case['output']}.{number}"
        log = os.open(f"{output}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(case["environment"])
        wait = time.sleep
        time.sleep = lambda seconds: wait(seconds / 100)  # the client's pauses between attempts
        Path(output).write_text(json.dumps(_carry_out(case["steps"])))
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    for line in sys.stdin:
        request = json.loads(line)
        children = [_fork(request, number) for number in range(request["processes"])]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)
