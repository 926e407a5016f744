"""What the tests of commands share."""

from __future__ import annotations

import pytest

from minibert.workbench.cli import main


@pytest.fixture
def command(capsys):
    """Runs a command; gives (exit code, standard output, standard error)."""

    def run(*arguments) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run
