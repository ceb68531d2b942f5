"""The worker processes as their user sees them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from typing import Any

from openmm_duality.benchmark.worker import main
from openmm_duality.errors import DualityError


class Worker:
    """A process of `openmm_duality.benchmark.worker`; a context manager that ends it.

    A call of a command returns its answer.

    Raises
    ------
    DualityError
        By a command: if it failed, or the process died of it.
    """

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open for as long as the process is)
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {main.__module__} import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> Worker:
        return self

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
        """Tell the process to do something, and wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise DualityError(self._last_words())
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise DualityError(found["error"])
        return found

    def _last_words(self) -> str:
        code = self._process.wait()
        how = f"exit code {code}"
        if code < 0:
            how = signal.Signals(-code).name + (", most likely for want of memory" if -code == signal.SIGKILL else "")
        self._errors.seek(0)
        said = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        return f"its process died ({how})" + (f": {said[-1][:300]}" if said else "")
