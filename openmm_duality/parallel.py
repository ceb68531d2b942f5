"""Number of usable processor cores, and a parallel map over frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

MAX_THREADS = 8  # also the largest number of items in memory at once

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Number of cores this process may use, or of all cores if the system does not report it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_threads() -> int:
    """Number of items that `on_all_cores` computes at the same time, unless told otherwise."""
    return min(usable_cores(), MAX_THREADS)


def on_all_cores(
    function: Callable[[Item], Result], items: Iterable[Item], at_once: int | None = None
) -> Iterator[Result]:
    """Yield the results of a function for all items, in their order, computed in parallel threads.

    NumPy releases the interpreter lock in its loops, so threads are enough.

    Parameters
    ----------
    function : callable
    items : iterable
    at_once : int, optional
        Largest number of items computed at the same time; `usable_threads` by default.
    """
    width = at_once or usable_threads()
    with ThreadPoolExecutor(width) as pool:
        remaining = iter(items)
        running = [pool.submit(function, item) for item in islice(remaining, width)]
        while running:
            result = running.pop(0).result()
            running += [pool.submit(function, item) for item in islice(remaining, 1)]
            yield result
