"""Requests to end a run, Ctrl-C and SIGTERM, noted when they come and acted on between two steps.

An exception raised where the process happens to be would surface as an error of OpenMM if that is within a learned
force, and could leave files half-written.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Collect the numbers of the signals that ask this process to end, while the block lasts.

    Signals that are ignored stay so, and only the main thread of a process can receive any.
    """
    noted: list[int] = []
    before: dict[signal.Signals, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):  # None: of another language, which Python cannot restore
                    before[number] = signal.signal(number, lambda received, _: noted.append(received))
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_by(number: int) -> NoReturn:
    """Raise what a signal usually raises: `KeyboardInterrupt` for Ctrl-C, else the end of the process.

    Raises
    ------
    KeyboardInterrupt, SystemExit
        The latter with the exit code that shells give, 128 and the number of the signal.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
