"""A process that makes one subject and times it when told to.

Every subject has a process of its own, so that one that dies (out of memory, a driver's fault) takes no other with it,
and so that its memory is its own. It reads one JSON command per line and answers with one line: a dictionary, which
holds ``error`` when the command failed. It ends with its standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from openmm_duality.benchmark.memory import peak_memory, stay_within
from openmm_duality.benchmark.stopwatch import Stopwatch
from openmm_duality.benchmark.subjects import Subject, make
from openmm_duality.dynamics import Start
from openmm_duality.errors import DualityError

_IN_MEMORY = ("Reference", "CPU")  # drivers of other platforms reserve addresses that they never use


class Commands:
    """What the process can be told, one method per command."""

    stopwatch: Stopwatch

    def make(self, subject: dict[str, Any], start: str) -> dict[str, Any]:
        """Make the context of a subject from a start, as `save_start` wrote it; gives the facts of its row."""
        chosen = Subject(**subject)
        if chosen.platform in _IN_MEMORY:
            stay_within()
        made = make(chosen, load_start(start))
        self.stopwatch = Stopwatch(made)
        return made.facts

    def warm_up(self, steps: int, seconds: float) -> dict[str, Any]:
        """Gives seconds per step."""
        return {"seconds": self.stopwatch.warm_up(steps, seconds)}

    def block(self, steps: int) -> dict[str, Any]:
        """Gives the seconds of the steps."""
        return {"seconds": self.stopwatch.block(steps)}

    def finish(self) -> dict[str, Any]:
        """Checks the run; gives the memory in MiB."""
        self.stopwatch.check()
        return {"memory": peak_memory()}


def save_start(path: str | Path, start: Start) -> None:
    """Write a start for the processes."""
    cell = np.empty((0, 3)) if start.cell is None else start.cell
    np.savez(path, positions=start.positions, species=np.array(start.species), cell=cell)


def load_start(path: str | Path) -> Start:
    """Read what `save_start` wrote."""
    with np.load(path) as arrays:
        cell = arrays["cell"]
        return Start(arrays["positions"], tuple(map(str, arrays["species"])), cell if len(cell) else None)


def answer(command: Callable[..., dict[str, Any]], arguments: dict[str, Any]) -> dict[str, Any]:
    """What a command gives, or why it failed."""
    try:
        return command(**arguments)
    except DualityError as error:
        return {"error": str(error)}
    except Exception as error:  # whatever a platform or a library raises belongs into the row
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}


def main() -> None:
    """Answer commands until the input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not be taken for an answer
    with contextlib.suppress(OSError):  # where memory runs out, Linux shall end this process and no other
        Path("/proc/self/oom_score_adj").write_text("1000")
    commands = Commands()
    for line in sys.stdin:
        request = json.loads(line)
        found = answer(getattr(commands, request["command"]), request["arguments"])
        print(json.dumps(found), file=replies, flush=True)
