"""One command on damaged input, in a process of its own: its exit code, its message, and what it left behind."""

from __future__ import annotations

import fcntl
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

Kind = Callable[[Path, random.Random], list[str]]

LONGEST = 10.0  # s, of the processor
PATIENCE = 60.0  # s on the clock, after which a process that did not go on is taken to hang
_PROGRESS = 0.05  # s of the processor in that time, which a machine with other work may leave it
LARGEST_MESSAGE = 1000  # bytes
MEMORY = 4 << 30  # bytes that a command may take beside what this process has


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Parameters
    ----------
    arguments : list of str
        The command.
    code : int
        Exit code; negative for a signal.
    seconds : float
    message : str
        On the standard error.
    changed : list of str
        Files that were made, changed or removed.
    """

    arguments: list[str]
    code: int
    seconds: float
    message: str
    changed: list[str]

    def faults(self, refused: bool) -> list[str]:
        """What is wrong with it; `refused` says whether the input must be refused."""
        found = []
        if self.seconds > LONGEST:
            found.append(f"took more than {LONGEST:.0f} s")
        elif self.code < 0:
            found.append(f"died of signal {-self.code}")
        if self.code == 3 or "Traceback" in self.message:
            found.append("traceback")
        if refused and self.code in (0, 1):
            found.append(f"accepted, with exit code {self.code}")
        if self.code == 2 and len(self.message.encode()) > LARGEST_MESSAGE:
            found.append(f"message of {len(self.message.encode())} bytes")
        if self.code == 2 and self.changed:
            found.append(f"left {', '.join(self.changed)}")
        return found


def run_case(kind: Kind, material: Path, seed: int, largest_file: int | None = None) -> Outcome:
    """Damage a copy of the material and run the command that a kind gives; no file may become larger, in bytes."""
    with TemporaryDirectory() as name:
        folder = Path(name) / "case"
        shutil.copytree(material, folder)
        rng = random.Random(seed)
        arguments = kind(folder, rng)
        before = contents(folder)
        code, seconds, message = _run(arguments, folder, largest_file)
        after = contents(folder)
        changed = sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p))
        lines = [line for line in message.splitlines() if not line.startswith("openmm-duality: note: ")]
        return Outcome(arguments, code, seconds, "\n".join(lines), changed)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; empty folders are files without content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
        if path.is_file() or (path.is_dir() and not any(path.iterdir()))
    }


def _run(arguments: list[str], folder: Path, largest_file: int | None) -> tuple[int, float, str]:
    """Run a command in a copy of this process, which has imported everything already; exit code, seconds, message."""
    source, sink = os.pipe()  # which no limit of files holds for
    fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, 1 << 20)
    process = os.fork()
    if process == 0:
        _child(arguments, folder, sink, largest_file)
    os.close(sink)
    try:
        code, seconds = _ended(process)
        with open(source, "rb", closefd=False) as output:
            return code, seconds, output.read().decode(errors="replace")
    finally:
        os.close(source)


def _ended(process: int) -> tuple[int, float]:
    """Exit code and seconds of a process; killed if it hangs, while its own limit ends one that computes too long."""
    since, before = time.monotonic(), 0.0
    while True:
        done, status, used = os.wait4(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        if time.monotonic() > since + PATIENCE:
            now = _processor_time(process)
            if now < before + _PROGRESS:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                return -signal.SIGKILL, PATIENCE
            since, before = time.monotonic(), now
        time.sleep(0.002)


def _processor_time(process: int) -> float:
    """Seconds of the processor that a running process has used."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _child(arguments: list[str], folder: Path, sink: int, largest_file: int | None) -> None:
    code = 3
    try:
        os.chdir(folder)
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0)
        os.dup2(nowhere, 1)
        os.dup2(sink, 2)
        if largest_file is not None:  # as on a full disk, writing fails
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (int(LONGEST) + 1, int(LONGEST) + 1))
        from openmm_duality.cli import main

        try:
            main(arguments, prog_name="openmm-duality")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stderr.flush()
        os._exit(code)
