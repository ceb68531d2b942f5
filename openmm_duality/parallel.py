"""The processor's cores, and work on several frames at a time on all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

MOST = 8  # items in flight at once, which bounds the memory

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Number of cores that this process may use, or of all cores where the system does not report it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_all_cores(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results of a function in the order of the items, computed in threads as they are needed.

    NumPy releases the interpreter lock in its loops, so threads are enough.
    """
    width = min(usable_cores(), MOST)
    with ThreadPoolExecutor(width) as pool:
        remaining = iter(items)
        running = [pool.submit(function, item) for item in islice(remaining, width)]
        while running:
            result = running.pop(0).result()
            running += [pool.submit(function, item) for item in islice(remaining, 1)]
            yield result
