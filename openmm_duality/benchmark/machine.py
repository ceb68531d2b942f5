"""The machine and the versions that times belong to."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import openmm as mm

from openmm_duality.parallel import usable_cores

_PACKAGES = ("openmm_duality", "openmm", "openmmtorch", "torch", "llvmlite", "numpy")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system, versions and OpenMM's platforms; nothing that names the machine.

    ``load`` is the mean number of processes that ran in the last minute: near zero on an idle machine.
    """
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_gib": _memory(),
        "load": _load(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {package: found for package in _PACKAGES if (found := _version(package))},
        "platforms": installed_platforms(),
    }


def installed_platforms() -> list[str]:
    """OpenMM's platforms here, by name."""
    return [mm.Platform.getPlatform(k).getName() for k in range(mm.Platform.getNumPlatforms())]


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


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
