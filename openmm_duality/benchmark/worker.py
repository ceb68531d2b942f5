"""Worker processes, each of which prepares and times one case.

Every case has a process of its own, so that one that dies (out of memory, a driver's fault) ends no other, and so that
its memory can be measured. The process reads one JSON command per line and answers with one line: a dictionary, which
holds ``error`` when the command failed. It ends with its standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openmm as mm

from openmm_duality.benchmark.cases import Case, TimedContext, prepare
from openmm_duality.benchmark.machine import limit_memory, peak_memory
from openmm_duality.dynamics import Start
from openmm_duality.errors import DualityError
from openmm_duality.lowering.dependencies import platform_error

_IN_MEMORY = ("Reference", "CPU")  # drivers of other platforms reserve address space that they never use


class Worker(contextlib.AbstractContextManager["Worker"]):
    """A worker process, as a context manager that ends it."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open for as long as the process is)
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {main.__module__} import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._errors.close()

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a command of `Commands`, and wait for the answer.

        Raises
        ------
        DualityError
            If the command failed, or the process died.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise DualityError(self._cause_of_death())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise DualityError(answer["error"])
        return answer

    def _cause_of_death(self) -> str:
        code = self._process.wait()
        how = f"exit code {code}"
        if code < 0:
            how = signal.Signals(-code).name + (", most likely out of memory" if -code == signal.SIGKILL else "")
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        return f"its process died ({how})" + (f": {lines[-1][:300]}" if lines else "")


class Commands:
    """The commands of a worker process, one method each."""

    timed: TimedContext

    def prepare(self, case: dict[str, Any], start: str) -> dict[str, Any]:
        """Prepare the context of a case from a start, as `save_start` wrote it; gives the facts of its row."""
        chosen = Case(**case)
        if chosen.platform in _IN_MEMORY:
            limit_memory()
        try:
            self.timed = prepare(chosen, load_start(start))
        except mm.OpenMMException as error:
            raise platform_error(chosen.platform, error) from error
        return self.timed.facts

    def warm_up(self, steps: int, seconds: float) -> dict[str, Any]:
        """Warm up; gives the seconds per step."""
        return {"seconds": self.timed.warm_up(steps, seconds)}

    def block(self, steps: int) -> dict[str, Any]:
        """Run a block of steps; gives its seconds."""
        return {"seconds": self.timed.time_steps(steps)}

    def finish(self) -> dict[str, Any]:
        """Check the run; gives the memory in MiB."""
        self.timed.check()
        return {"memory": peak_memory()}


def save_start(path: str | Path, start: Start) -> None:
    """Write a start for the worker processes."""
    cell = np.empty((0, 3)) if start.cell is None else start.cell
    np.savez(path, positions=start.positions, species=np.array(start.species), cell=cell)


def load_start(path: str | Path) -> Start:
    """Read what `save_start` wrote."""
    with np.load(path) as arrays:
        cell = arrays["cell"]
        return Start(arrays["positions"], tuple(map(str, arrays["species"])), cell if len(cell) else None)


def _answer(command: Callable[..., dict[str, Any]], arguments: dict[str, Any]) -> dict[str, Any]:
    """The result of a command, or the error."""
    try:
        return command(**arguments)
    except DualityError as error:
        return {"error": str(error)}
    except Exception as error:  # whatever a platform or a library raises belongs in the row
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}


def main() -> None:
    """Answer commands until the input ends, as the program of a worker process."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not be taken for an answer
    with contextlib.suppress(OSError):  # where memory runs out, Linux should end this process and no other
        Path("/proc/self/oom_score_adj").write_text("1000")
    commands = Commands()
    for line in sys.stdin:
        request = json.loads(line)
        result = _answer(getattr(commands, request["command"]), request["arguments"])
        print(json.dumps(result), file=replies, flush=True)
