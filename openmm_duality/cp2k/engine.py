"""CP2K as a program: found, run in a folder, stopped with the process that started it, its output read."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from openmm_duality.errors import DualityError

_BINARIES = ("cp2k.psmp", "cp2k.ssmp")
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_ART = slice(10, 79)  # the columns beside the figure that CP2K draws next to its message
_LAST_LINES = 6
_OUTER = re.compile(r"outer SCF loop (converged|FAILED to converge)")
_INNER = re.compile(r"SCF run (converged|NOT converged)")
_POLL = 0.25  # s

# Open MPI refuses to start for root, as whom containers run, unless both are set.
_AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def find_cp2k() -> str:
    """The path of the CP2K program.

    Raises
    ------
    DualityError
        If there is none on the PATH.
    """
    for name in _BINARIES:
        found = shutil.which(name)
        if found is not None:
            return found
    raise DualityError(
        f"CP2K is not installed: neither {' nor '.join(_BINARIES)} is on the PATH; on Debian and Ubuntu: "
        "apt-get install cp2k cp2k-data"
    )


def run_cp2k(
    folder: Path,
    input_name: str,
    *,
    processes: int = 1,
    threads: int | None = None,
    watch: Callable[[], None] | None = None,
) -> Path:
    """Run CP2K on an input and wait for it.

    Parameters
    ----------
    folder : Path
        Where the input lies, and where CP2K runs and writes.
    input_name : str
        Of the input in the folder; ``water.inp`` gives the output ``water.out``, which replaces an older one.
    processes : int
        MPI processes; above one, ``mpirun`` starts them.
    threads : int, optional
        OpenMP threads of every process; by default ``OMP_NUM_THREADS``, or all cores.
    watch : callable, optional
        Called a few times per second while CP2K runs.

    Returns
    -------
    Path
        Of the output. CP2K does not survive this process, nor an exception (such as KeyboardInterrupt) in it.

    Raises
    ------
    DualityError
        If CP2K (or ``mpirun``) is missing, or CP2K did not come to its end; the message holds its last output.
    """
    output = folder / Path(input_name).with_suffix(".out").name
    errors = output.with_suffix(".err")
    command = [*_launcher(processes), find_cp2k(), "-i", input_name]
    environment = {**os.environ, **_AS_ROOT}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    if not (folder / input_name).is_file():
        raise DualityError(f"{folder / input_name}: there is no such CP2K input; write it before CP2K is run")
    with (
        open(output, "wb") as out,
        open(errors, "wb") as err,
        _child(command, cwd=folder, env=environment, stdout=out, stderr=err) as process,
    ):
        code = _wait(process, watch)
    if code != 0 or not _ended(output):
        raise DualityError(_failure(folder / input_name, output, errors, code))
    errors.unlink()
    return output


def complaint(output: Path) -> str:
    """CP2K's message when it aborted, in one line, or else the last lines of its output."""
    lines = output.read_text(errors="replace").splitlines() if output.is_file() else []
    aborted = [n for n, line in enumerate(lines) if "[ABORT]" in line]
    if not aborted:
        return " | ".join([line.strip() for line in lines if line.strip(" *-")][-_LAST_LINES:])
    message = takewhile(lambda line: not line.startswith(" ***"), lines[aborted[-1] :])
    return " ".join(filter(None, (line[_ART].strip() for line in message)))


def converged(output: Path) -> list[bool]:
    """Whether each self-consistent iteration in an output converged, in order: its outer loop where there is one."""
    if not output.is_file():
        return []
    said = output.read_text(errors="replace")
    return [found == "converged" for found in _OUTER.findall(said) or _INNER.findall(said)]


def aborted(output: Path) -> bool:
    """Whether CP2K ended itself with a message, rather than being killed."""
    return output.is_file() and "[ABORT]" in output.read_text(errors="replace")


def _launcher(processes: int) -> list[str]:
    if processes < 1:
        raise DualityError(f"processes: CP2K needs at least one, got {processes}")
    if processes == 1:
        return []
    mpirun = shutil.which("mpirun")
    if mpirun is None:
        raise DualityError(
            f"CP2K is to run in {processes} processes, and mpirun is not on the PATH; on Debian and Ubuntu: apt-get "
            "install openmpi-bin, or run one process"
        )
    # Without this Open MPI binds every process, all threads of it, to one core.
    return [mpirun, "--bind-to", "none", "-n", str(processes)]


def _wait(process: subprocess.Popen[bytes], watch: Callable[[], None] | None) -> int:
    while True:
        try:
            return process.wait(_POLL)
        except subprocess.TimeoutExpired:
            if watch is not None:
                watch()


@contextmanager
def _child(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with this block, and with this process even if it is killed."""
    # mpirun ends its processes when it is terminated, and leaves them running when it is killed
    ending = signal.SIGKILL if len(command) == 3 else signal.SIGTERM
    process: subprocess.Popen[bytes] = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # an interrupt at the keyboard is for this process, which then ends CP2K
        preexec_fn=_ends_with_its_parent(ending),
        **options,  # type: ignore[call-overload]
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(ending)
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _ends_with_its_parent(ending: signal.Signals) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)  # loaded here: between fork and exec little is safe
    parent = os.getpid()

    def set_signal() -> None:
        library.prctl(_PARENT_DEATH_SIGNAL, int(ending))
        if os.getppid() != parent:  # it died before the signal was set
            os._exit(1)

    return set_signal


def _ended(output: Path) -> bool:
    """Whether the output has CP2K's last line."""
    return b"PROGRAM ENDED AT" in output.read_bytes()[-20_000:]


def _failure(input_file: Path, output: Path, errors: Path, code: int) -> str:
    said = complaint(output)
    if not said:
        lines = [line.strip() for line in errors.read_text(errors="replace").splitlines()]
        said = " | ".join([line for line in lines if line.strip("-")][:_LAST_LINES]) or "nothing"
    how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return (
        f"CP2K {how} on {input_file} before it was done. It reported: {said}. The full output is in {output}; correct "
        "the configuration, or free memory and disk space, and run it again"
    )
