"""Work on several frames at a time, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from openmm_duality.cores import usable_cores

MOST = 8  # items in flight at once, which bounds the memory

Item = TypeVar("Item")
Result = TypeVar("Result")


def on_all_cores(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results of a function in the order of the items, which are taken up as they are needed.

    NumPy lets go of the interpreter in its loops, so threads are enough.
    """
    width = min(usable_cores(), MOST)
    with ThreadPoolExecutor(width) as pool:
        remaining = iter(items)
        running = [pool.submit(function, item) for item in islice(remaining, width)]
        while running:
            result = running.pop(0).result()
            running += [pool.submit(function, item) for item in islice(remaining, 1)]
            yield result
