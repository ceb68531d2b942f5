"""The memory of this process: what it used, and how much it may."""

from __future__ import annotations

import sys
from pathlib import Path

_STATUS, _INFORMATION = Path("/proc/self/status"), Path("/proc/meminfo")
_SHARE = 0.9  # of the memory that is free


def peak_memory() -> float:
    """Largest resident memory of this process so far, in MiB."""
    if _STATUS.exists():  # of this program alone; what getrusage says begins with its parent's
        return _kib(_STATUS, "VmHWM") / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


def stay_within(mebibytes: float | None = None) -> None:
    """Let this process fail to allocate more than this, where the system knows such a limit (Linux).

    So a system too large for the memory ends in an error, and not in a machine that stands still.

    Parameters
    ----------
    mebibytes : float, optional
        Beyond what it has; nine tenths of the memory that is free by default.
    """
    if not _INFORMATION.exists():
        return
    import resource

    more = _SHARE * _kib(_INFORMATION, "MemAvailable") if mebibytes is None else 1024 * mebibytes
    limit = round(1024 * (_kib(_STATUS, "VmData") + more))
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _kib(path: Path, name: str) -> int:
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])
