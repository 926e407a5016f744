"""The cage: opens a folder in a forked child with a memory limit, and reports what came of it.

The parent has imported everything and opened the good folder once, so a case costs milliseconds
and what is measured is the case alone.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from minibert.io.errors import MinibertError
from tests.programs.hostile.case import Case, Group, Outcome, Words, open_model, open_tokenizer, write_good_folder

SECONDS = 2.0  # the most that a case may take
MEGABYTES = 200.0  # the most memory that it may take above the base line; also enforced
LONGEST_MESSAGE = 20_200  # characters: an error may list every tensor of BERT-base
HANG = 60  # seconds after which the child is killed

# Audit events that opening a folder must never raise, whatever is in it.
_FORBIDDEN = ("socket.", "subprocess.", "shutil.", "pickle.", "ctypes.dlopen", "os.system")
_FORBIDDEN += ("os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename", "os.mkdir")
_FORBIDDEN += ("os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Where Python's own files are, which an import may open.
_LIBRARIES = {Path(place).resolve() for place in (sys.prefix, sys.base_prefix, *sys.path)}


@dataclass
class Result:
    """What came of one case.

    Attributes:
        kind: "error" (one of minibert's own), "warning", "loaded", "crash" (another error, named
            in `text`) or "killed".
        text: the message of the error or of the warnings.
        path, key, hint: the fields of the error.
        seconds, megabytes: what opening took, of the processor and, at the peak, of memory.
        misdeeds: what it was seen to do that it must not, by `_watch` and on the disk afterwards.
    """

    kind: str
    text: str = ""
    path: str = ""
    key: str = ""
    hint: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0
    misdeeds: list[str] = field(default_factory=list)

    def complaint(self, outcome: Outcome) -> str:
        """How this differs from what had to come out; empty if it does not."""
        if self.misdeeds:
            return "; ".join(self.misdeeds)
        if self.kind != outcome.kind:
            return f"{self.kind} in place of {outcome.kind}: {self.text}"
        if outcome.file not in self.text:
            return f"{outcome.file!r} is not named in: {self.text}"
        if self.kind == "error" and not f"/{self.path}".endswith(f"/{outcome.file}"):
            return f"the path is {self.path!r}, not {outcome.file!r}: {self.text}"
        if self.kind == "warning" or isinstance(outcome.key, Words):
            if not self._says(outcome.key):
                return f"{outcome.key!r} is not said in: {self.text}"
        elif self.key != outcome.key:
            return f"the key is {self.key!r}, not {outcome.key!r}: {self.text}"
        if len(self.text) > LONGEST_MESSAGE:
            return f"a message of {len(self.text)} characters"
        if not all(line.isprintable() for line in self.text.splitlines()):
            return f"a message with control characters: {self.text!r}"
        if self.seconds > SECONDS or self.megabytes > MEGABYTES:
            return f"{self.seconds:.1f} s, {self.megabytes:.0f} MB"
        return ""

    def _says(self, words: str) -> bool:
        """Whether these, as whole words, are in the message, beside the path and the hint."""
        said = self.text.removesuffix(self.hint)
        said = said.replace(self.path, "") if self.path else said
        return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", said) is not None


def warm_up(folder: Path) -> None:
    """Writes a good folder and opens it, so that no case pays for imports and first calls."""
    write_good_folder(folder)
    open_model(folder)
    open_tokenizer(folder)
    gc.freeze()


def run(groups: Sequence[Group]) -> Iterator[tuple[Group, Case, Result]]:
    """Tries every case of the groups, each in a child of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        good = Path(temporary, "good")
        warm_up(good)
        numbered = ((group, case) for group in groups for case in group.cases)
        for number, (group, case) in enumerate(numbered):
            place = Path(temporary, str(number))  # with room for what lies outside the folder
            folder = place / "model"
            shutil.copytree(good, folder)
            folder = case.spoil(folder) or folder
            before = _state(place)
            answer = in_child(lambda group=group, folder=folder: asdict(_open(group.open, folder)))
            result = Result(**answer) if answer else Result("killed")
            result.text = result.text.replace(f"{place}{os.sep}", "")
            result.path = result.path.removeprefix(f"{place}{os.sep}")
            if _state(place) != before:
                result.misdeeds.append("the disk is not as it was")
            yield group, case, result


def in_child(work: Callable[[], object]) -> Any:
    """Runs `work` in a forked child and brings back what it returns; None if the child died."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            answer = json.dumps(work()).encode()
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(answer)
        finally:
            os._exit(0)
    os.close(writer)
    answer = _read(reader, child)
    os.waitpid(child, 0)
    return json.loads(answer) if answer else None


def attempt(work: Callable[[], object]) -> Result:
    """What comes of `work`, by the kind of error; "crash" for one that is not minibert's own."""
    try:
        work()
    except MinibertError as error:
        path = "" if error.path is None else str(error.path)
        return Result("error", str(error), path, error.key or "", error.hint or "")
    except BaseException as problem:  # a panic in Rust is no Exception
        return Result("crash", f"{type(problem).__name__}: {problem}"[:LONGEST_MESSAGE])
    return Result("loaded")


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Standard output and error go nowhere: a panic in Rust prints to them."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 2)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def limit_memory() -> None:
    """No more than MEGABYTES beyond what this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + int(MEGABYTES * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _read(reader: int, child: int) -> bytes:
    """All that the child writes; it is killed if it is silent for too long."""
    answer = b""
    with os.fdopen(reader, "rb") as pipe:
        if not select.select([pipe], [], [], HANG)[0]:
            os.kill(child, signal.SIGKILL)
        answer = pipe.read()
    return answer


def _open(opens: Callable[[Path], object], folder: Path) -> Result:
    os.chdir(folder.parent)  # so that what code in the folder would leave is found
    base = _memory("VmRSS")
    limit_memory()
    with warnings.catch_warnings(record=True) as caught, silence():
        warnings.simplefilter("always")
        misdeeds = _watch(folder)
        start = time.process_time()  # what others do on the machine does not count
        result = attempt(lambda: opens(folder))
        result.seconds = time.process_time() - start
        result.misdeeds = list(misdeeds)
    result.megabytes = max(0.0, _memory("VmHWM") - base)
    if result.kind == "loaded" and caught:
        result.kind = "warning"
        result.text = "\n".join(str(warning.message) for warning in caught)
    return result


def _watch(folder: Path) -> list[str]:
    """Notes, from here on, the events of Python's audit that opening a folder must not raise.

    Python's own deeds are seen: files that it opens outside the folder or to write, connections,
    programs, pickles. What safetensors and tokenizers do in Rust raises no event; of that, only
    what is left on the disk is found (`run`).
    """
    misdeeds: list[str] = []
    home = folder.resolve()
    places = [*_LIBRARIES, home]
    if home.parent.name == "snapshots":  # of a Hub cache, which link to its blobs
        places.append(home.parents[1] / "blobs")
    allowed = tuple(f"{place}{os.sep}" for place in places)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int):
                return
            if isinstance(flags, int) and flags & _WRITES:
                misdeeds.append(f"{path} was opened to write")
            elif not str(Path(os.fsdecode(path)).resolve()).startswith(allowed):
                misdeeds.append(f"{path} was opened")
        elif event.startswith(_FORBIDDEN):
            misdeeds.append(f"{event} {arguments!r:.200}")

    sys.addaudithook(hook)
    return misdeeds


def _memory(what: str) -> float:
    """VmRSS, what this process has in memory now, or VmHWM, the most it had; in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    raise LookupError(what)


def _state(place: Path) -> list[tuple[str, int, int]]:
    """Every file with its size and time of change."""
    found = []
    for path in sorted(place.rglob("*")):
        status = path.lstat()
        found.append((str(path), status.st_size, status.st_mtime_ns))
    return found
