"""The processor's cores at work on one task, each in a thread of its own.

Compiled functions let go of the interpreter, so threads of Python are enough. Parts of a task are fixed beforehand:
whoever does them, the sums are the same. There are more parts than threads, so that a core that is busy with something
else does not hold up the others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock, Thread

from openmm_duality.errors import DualityError
from openmm_duality.parallel import usable_cores

PARTS = 2  # per thread
LEAST = 32  # agents of a part
VARIABLE = "OPENMM_DUALITY_THREADS"


def default_threads() -> int:
    """Number of threads: OPENMM_DUALITY_THREADS, or else as many as the cores that this process may use.

    Raises
    ------
    DualityError
        If the variable is set to something that is not a whole number above zero.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        return usable_cores()
    if not text.strip().isdigit() or int(text) < 1:
        raise DualityError(f"{VARIABLE} is {text!r}; it is the number of threads of the fused kernel, 1 or more")
    return int(text)


def parts_of(atoms: int, threads: int, least: int = LEAST) -> int:
    """Number of parts that atoms are divided into, with a least number of them in a part."""
    return 1 if threads == 1 else max(1, min(PARTS * threads, atoms // least))


class _Task:
    """Parts that free threads take, one after the other."""

    def __init__(self, function: Callable[[int], None], addresses: Sequence[int]) -> None:
        self._function, self._addresses = function, iter(addresses)

    def work(self) -> None:
        for address in self._addresses:
            self._function(address)

    def drop(self) -> None:
        """Let no thread begin another part."""
        for _ in self._addresses:
            pass


class _Worker:
    """A thread that joins a task when it is called, and is busy while it has a part of one."""

    def __init__(self, team: _Pool) -> None:
        self._pool = team
        self._call, self._busy = Lock(), Lock()
        self._call.acquire()
        Thread(target=self._serve, name="openmm_duality", daemon=True).start()

    def call(self) -> None:
        # one that is not locked has been called before, and will find this task when it wakes
        if self._call.locked():
            with suppress(RuntimeError):  # another thread called it just now
                self._call.release()

    def wait(self) -> BaseException | None:
        """Wait until it has no part under way; an interruption waits too, and is returned."""
        interruption = None
        while True:
            try:
                with self._busy:
                    return interruption
            except BaseException as error:  # whatever a handler of signals raises
                interruption = error

    def _serve(self) -> None:
        while True:
            self._call.acquire()
            with self._busy:
                if self._pool.task is not None:
                    self._pool.task.work()


class _Pool:
    """Workers that join whichever thread calls, if they wake in time; no call waits for one that does not."""

    def __init__(self) -> None:
        self.task: _Task | None = None
        self._workers: list[_Worker] = []

    def run(self, function: Callable[[int], None], addresses: Sequence[int], workers: int) -> None:
        task = _Task(function, addresses)
        self.task = task
        while len(self._workers) < workers:
            self._workers.append(_Worker(self))
        interruption = None
        try:
            for worker in self._workers[:workers]:
                worker.call()
            task.work()
        except BaseException as error:
            interruption = error
        # workers write into memory of whoever called, so nothing ends before them; a part that an interruption took
        # from this thread is lost, and so is the result
        while True:
            try:
                task.drop()
                break
            except BaseException as error:
                interruption = error
        for worker in self._workers:
            interruption = worker.wait() or interruption
        if interruption is not None:
            raise interruption


_pool = _Pool()


def _new_pool() -> None:
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_pool)  # the threads of a parent are not there in its child


def run(function: Callable[[int], None], addresses: Sequence[int], threads: int) -> None:
    """Call a compiled function once for every address of arguments, on as many cores as there are threads."""
    if min(threads, len(addresses)) == 1:
        for address in addresses:
            function(address)
    else:
        _pool.run(function, addresses, min(threads, len(addresses)) - 1)
