"""Signals during training: Ctrl-C and SIGTERM wait until the state of the run is saved."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from minibert.training import Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class HeldSignals:
    """Holds signals back from the step or the save that runs.

    A context: the first signal is remembered, for the loop to ask after with `received`; once it
    has saved and raised `Stopped`, the signal is sent again, to whoever handled it before. A second
    signal is not held back. In other threads than the main one, which cannot handle signals, this
    does nothing; nor is a signal touched that the process ignores.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._at_once = False
        self._before: dict[int, Any] = {}

    @property
    def number(self) -> int:
        """Of the signal that waits; 0 if there is none."""
        return self._number or 0

    def received(self) -> bool:
        """Whether a signal waits."""
        return self._number is not None

    def receive(self, number: int) -> None:
        """Takes over a signal that came to another process, unless one waits already."""
        self._number = self._number or number

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """For stretches before which everything was saved: signals are not held back in them."""
        self._at_once = True
        try:
            if self._number is not None:
                self._send_on(self._number)
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
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._give_back()
        if self._number is not None and (kind is None or issubclass(kind, Stopped)):
            self._send_on(self._number)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self._at_once or self._number is not None:
            self._send_on(number)
        self._number = number

    def _send_on(self, number: int) -> None:
        self._give_back()
        signal.raise_signal(number)
        raise KeyboardInterrupt  # the handler before us let it pass, but the run has ended

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
