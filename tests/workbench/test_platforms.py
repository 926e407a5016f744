"""Windows and macOS: what they lack, other terminals, other names of files, and Ctrl-C.

There is no Windows machine in CI, so what it lacks is taken away here.
"""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import minibert
from minibert.workbench.cli import main
from tests.workbench.conftest import write_table

PACKAGE = Path(minibert.__file__).parent
MODULES = {
    path.relative_to(PACKAGE.parent).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}
POSIX_MODULES = {"crypt", "curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource"}
POSIX_MODULES |= {"syslog", "termios", "tty"}
POSIX_NAMES = {
    "os": {"O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "fork", "getuid", "geteuid", "getpgid"}
    | {"killpg", "mkfifo", "setsid", "sysconf", "uname", "statvfs", "sched_getaffinity", "chown"},
    "signal": {"SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1"}
    | {"SIGUSR2", "SIGXFSZ", "alarm", "pthread_kill", "pthread_sigmask", "setitimer", "sigwait"},
}


@pytest.mark.parametrize("name", MODULES)
def test_no_module_needs_posix(name):
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            assert not {alias.name for alias in node.names} & POSIX_MODULES
        if isinstance(node, ast.ImportFrom):
            assert node.module not in POSIX_MODULES
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.attr not in POSIX_NAMES.get(node.value.id, ()), f"line {node.lineno}"


# Windows cannot open a folder, nor flush a file that is open for reading only, and text files are
# in cp1252 there unless the program names another encoding.
OF_FILELOCK = {"O_NONBLOCK", "O_NOFOLLOW"}  # used by its lock on POSIX
ON_WINDOWS = f"""
import fcntl, os, shutil, signal, sys, warnings
import filelock, huggingface_hub, matplotlib.pyplot, numpy
import safetensors.torch, tokenizers, torch, tqdm
for name in {sorted(POSIX_MODULES)}:
    sys.modules[name] = None
for name in {POSIX_NAMES["os"] - OF_FILELOCK}:
    vars(os).pop(name, None)
for name in {POSIX_NAMES["signal"]}:
    vars(signal).pop(name, None)
shutil._use_fd_functions = False
open_file = os.open
def open_no_folder(path, *how, **named):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return open_file(path, *how, **named)
os.open = open_no_folder
flags_of, flush = fcntl.fcntl, os.fsync
def flush_what_is_written(handle):
    if flags_of(handle, 3) & 3 == os.O_RDONLY:  # 3: F_GETFL, O_ACCMODE
        raise OSError(9, "Bad file descriptor")
    flush(handle)
os.fsync = flush_what_is_written
warnings.filterwarnings("error", category=EncodingWarning, module="minibert")
from minibert.workbench.cli import main
"""


def test_a_run_without_posix(tiny, moods, tmp_path):
    train = ["--model", tiny, "--train", moods / "train.csv", "--epochs", "1", "--output", "run"]
    commands = [
        ["recipes"],
        ["data", moods / "train.csv"],
        ["train", *train, "--precision", "fp32"],
        ["predict", "run", "one happy day"],
        ["report", "run"],
    ]
    lines = [f"assert main({[str(part) for part in command]}) == 0" for command in commands]
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-c", "\n".join([ON_WINDOWS, *lines])],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/report.html").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", r"C:\models\bert", "a text"],
        ["predict", "C:/models/bert", "a text"],
        ["data", r"C:\data\train.csv"],
        ["data", r"data\train.csv"],
        ["train", "--recipe", r"C:\recipes\mine.toml"],
        ["train", "--resume", r"C:\runs\001"],
    ],
)
def test_a_path_of_windows_is_not_taken_for_a_hub_id(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert arguments[-2 if arguments[-1] == "a text" else -1] in capsys.readouterr().err


# Terminals that cannot show every letter

TEXTS = ["我很高兴 😀", "我很生气 😡", "naïve café"]


@pytest.fixture(params=["cp1252", "ascii", "utf-8"])
def terminal(request, monkeypatch):
    """Runs a command in-process on a terminal of this encoding; returns what it shows."""

    def run(*arguments: object) -> str:
        shown = io.BytesIO()
        stream = io.TextIOWrapper(shown, encoding=request.param)
        monkeypatch.setattr(sys, "stdout", stream)
        code = main([*map(str, arguments), "--quiet"])
        stream.flush()
        assert code == 0
        return shown.getvalue().decode(request.param)

    return run


def test_a_finished_run_is_shown_on_any_terminal(terminal, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        (f"{text} {number}", label)
        for number in range(30)
        for text, label in zip(TEXTS[:2], ("高兴", "生气"), strict=True)
    ]
    write_table(tmp_path / "train.csv", ["text", "label"], rows)
    model = ["--model", tiny, "--train", "train.csv", "--test", "train.csv", "--output", "run"]
    more = ["--allow-data-faults", "--epochs", "1", "--precision", "fp32"]
    assert "the run is in run" in terminal("train", *model, *more)
    for command in (
        ["predict", "run", *TEXTS],
        ["evaluate", "run", "train.csv"],
        ["embed", tiny, *TEXTS],
        ["tokenize", tiny, *TEXTS],
        ["fill-mask", tiny, "我很 [MASK] 😀"],
        ["compare", "run", "run"],
    ):
        assert terminal(*command)


def test_json_on_any_terminal_has_every_letter(terminal, tiny):
    text = "我 😀 naïve"
    [line] = terminal("tokenize", tiny, text, "--json").splitlines()
    assert json.loads(line)["text"] == text


def test_the_encoding_of_the_environment(tiny):
    done = subprocess.run(
        [sys.executable, "-m", "minibert", "tokenize", str(tiny), TEXTS[0]],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
    )
    assert done.returncode == 0 and rb"\u6211" in done.stdout, done.stderr


# Ctrl-C before anything has begun


def test_ctrl_c_while_torch_is_imported(tmp_path):
    (tmp_path / "torch.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    done = subprocess.run(
        [sys.executable, "-m", "minibert", "predict", "minibert-small", "a text"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "minibert: Interrupted.\n")
