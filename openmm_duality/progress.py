"""Progress of long work: a bar in a terminal, a line now and then in a log file, and the time that parts of it take."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from tqdm import tqdm

_FIRST = 10.0  # s before the first line in a log file
_EVERY = 30.0  # s between lines


class _Lines(tqdm):  # type: ignore[type-arg]
    """A bar that writes whole lines instead of drawing over itself."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        self.fp.write(f"{self if msg is None else msg}\n")
        self.fp.flush()

    def close(self) -> None:
        self.disable = True  # nothing is left on the line that would have to be wiped out


def progress_bar(
    total: int | None,
    title: str,
    *,
    show: bool = True,
    unit: str = "frame",
    items: Iterable[Any] | None = None,
    initial: int = 0,
) -> tqdm[Any]:
    """A progress bar to update by hand, or to loop over `items` with.

    Without a terminal, as in the log of a batch job, a line is printed after ten seconds and then every thirty.

    Parameters
    ----------
    total : int or None
        Number of items, None if it is unknown.
    title : str
    show : bool
        Whether to show anything.
    unit : str
        What is counted.
    items : iterable, optional
    initial : int
        Number of items that are done already.
    """
    common: dict[str, Any] = {
        "total": total,
        "desc": title,
        "unit": unit,
        "disable": not show,
        "leave": False,
        "initial": initial,
    }
    if sys.stderr.isatty():
        return tqdm(items, delay=1.0, **common)
    of, left = ("", "") if total is None else (" of {total_fmt}", ", about {remaining} left")
    line = f"{{desc}}: {{n_fmt}}{of} {unit}s in {{elapsed}}{left}{{postfix}}"
    return _Lines(items, delay=_FIRST, mininterval=_EVERY, miniters=1, bar_format=line, **common)


def note(text: str, *, show: bool = True) -> None:
    """Print a line beside the progress."""
    if show:
        tqdm.write(text, file=sys.stderr)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the wall time of the block of code to ``seconds[name]``."""
    begin = perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + perf_counter() - begin
