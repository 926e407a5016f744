"""What a person sees of a hostile folder: exit code 2, plain lines, no traceback unless asked."""

from __future__ import annotations

from itertools import islice

import pytest

from minibert.workbench.cli import main
from tests.programs.hostile.case import write_good_folder
from tests.programs.hostile.groups import GROUPS
from tests.programs.hostile.weights import NO_ROOM

# Every tenth case that is refused. What is too large for the cage may fit into this machine.
CASES = [
    pytest.param("embed" if group.name == "sentence" else "predict", case, id=f"{group.name}: {case.name}")
    for group in GROUPS
    for case in islice(group.cases, 0, None, 10)
    if case.outcome.kind == "error" and case.outcome.key != NO_ROOM
]


@pytest.mark.parametrize(("command", "case"), CASES)
def test_a_refused_folder_is_said_in_plain_lines(command, case, tmp_path, capfd):
    folder = tmp_path / "model"
    write_good_folder(folder)
    folder = case.spoil(folder) or folder
    assert main([command, str(folder), "the film"]) == 2
    output, messages = capfd.readouterr()
    assert output == ""
    assert "Traceback" not in messages
    last = messages.splitlines()[-1]  # warnings may stand before it
    assert last.startswith("minibert: ") and case.outcome.file in last


def test_the_traceback_is_shown_for_debugging(tmp_path, capfd):
    folder = tmp_path / "model"
    write_good_folder(folder)
    (folder / "model.safetensors").write_bytes(b"")
    assert main(["predict", str(folder), "the film", "--debug"]) == 2
    assert "Traceback" in capfd.readouterr().err


def test_the_good_folder_is_good(tmp_path, capfd):
    write_good_folder(tmp_path / "model")
    assert main(["predict", str(tmp_path / "model"), "the film"]) == 0
    assert "Traceback" not in capfd.readouterr().err
