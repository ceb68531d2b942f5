"""The machine and the versions that times belong to, and the memory of this process."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from openmm_duality.lowering.dependencies import installed_platforms
from openmm_duality.parallel import usable_cores

_STATUS, _INFORMATION = Path("/proc/self/status"), Path("/proc/meminfo")
_SHARE = 0.9  # of the memory that is free
_PACKAGES = ("openmm_duality", "openmm", "openmmtorch", "torch", "llvmlite", "numpy")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system, versions and OpenMM's platforms; nothing that names the machine.

    ``load`` is the mean number of processes that ran in the last minute: near zero on an idle machine.
    """
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_gib": _memory(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {package: found for package in _PACKAGES if (found := _version(package))},
        "platforms": installed_platforms(),
    }


def peak_memory() -> float:
    """Largest resident memory of this process so far, in MiB."""
    if _STATUS.exists():  # of this program alone; getrusage starts from the value of its parent
        return _kib(_STATUS, "VmHWM") / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


def limit_memory(mebibytes: float | None = None) -> None:
    """Limit the memory that this process may allocate, where the system has such a limit (Linux).

    So a system too large for the memory ends in an error, and the machine does not swap.

    Parameters
    ----------
    mebibytes : float, optional
        In addition to what it has; nine tenths of the memory that is free by default.
    """
    if not _INFORMATION.exists():
        return
    import resource

    more = _SHARE * _kib(_INFORMATION, "MemAvailable") if mebibytes is None else 1024 * mebibytes
    limit = round(1024 * (_kib(_STATUS, "VmData") + more))
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _kib(path: Path, name: str) -> int:
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])
