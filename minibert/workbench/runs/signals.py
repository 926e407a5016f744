"""Signals during training: Ctrl-C and SIGTERM wait until the state of the run is saved."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

# Windows has both, but nothing there sends SIGTERM to another process.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):
    """The run was asked to stop, and did so between two steps, after its state was saved."""


class HeldSignals:
    """Holds signals back from the step or the save in progress.

    A context manager. The first signal is remembered, and the session asks for it with `received`.
    Once it has saved and raised `Stopped`, the signal is sent again, to its previous handler. A
    second signal is not held back. Outside the main thread, which alone can handle signals, this
    does nothing; nor does it touch a signal that the process ignores.
    """

    def __init__(self) -> None:
        self.number = 0  # of the signal that waits; 0 if there is none
        self._at_once = False
        self._before: dict[int, Any] = {}

    def receive(self, number: int) -> None:
        """Adopts a signal that another process received, unless one waits already."""
        self.number = self.number or number

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """For code before which everything was saved: signals are not held back in it."""
        self._at_once = True
        try:
            if self.number:
                self._send_on(self.number)
            yield
        finally:
            self._at_once = False

    def __enter__(self) -> HeldSignals:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._hold)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore_handlers()
        if self.number and (kind is None or issubclass(kind, Stopped)):
            self._send_on(self.number)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self._at_once or self.number:
            self._send_on(number)
        self.number = number

    def _send_on(self, number: int) -> None:
        self._restore_handlers()
        signal.raise_signal(number)
        raise KeyboardInterrupt  # the previous handler ignored it, but the run has ended

    def _restore_handlers(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
