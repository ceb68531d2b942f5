"""Memory of the machine: how much this process may still use, and sizes as text."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from openmm_duality.errors import DualityError

_UNITS = {"B": 1, **{f"{p}iB": 1024 ** (k + 1) for k, p in enumerate("KMGT")}}
_UNITS |= {f"{p}B": 1000 ** (k + 1) for k, p in enumerate(("k", "M", "G", "T"))}
_SIZE = re.compile(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([A-Za-z]*)\s*$")


def memory_size(value: Any, name: str) -> int:
    """Read a size in bytes, as a number or as text with a unit such as ``8 GiB``.

    Raises
    ------
    DualityError
        If it is not a positive size.
    """
    match = _SIZE.match(str(value))
    try:
        if match is None or isinstance(value, bool):
            raise ValueError
        size = int(float(match[1]) * _UNITS[match[2] or "B"])
    except (KeyError, ValueError):
        size = 0
    if size <= 0:
        raise DualityError(f"{name}: expected a size such as '8 GiB' or '500 MiB', or a number of bytes, got {value!r}")
    return size


def format_size(size: float) -> str:
    """Size in bytes as text in MiB or GiB."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"


def available_memory() -> int:
    """Memory in bytes that this process can still use: what the system has available, within the limits of its cgroups.

    Where the system does not say what is available, it is all memory of the machine.

    Raises
    ------
    DualityError
        If the memory of the machine is unknown.
    """
    found = [_limit_of_group(*group) for group in _groups()]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")))
    except (OSError, StopIteration):
        try:
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        except (AttributeError, OSError, ValueError):
            raise DualityError(
                "the system does not report its memory; give the memory that may be used, such as --memory '8 GiB'"
            ) from None
    return min(size for size in found if size is not None)


def temporary_space() -> int:
    """Space in bytes that the folder of temporary files has left on a disk; 0 if it lies in memory."""
    folder = Path(tempfile.gettempdir()).resolve()
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
        _, kind = max((len(point), kind) for point, kind in mounts if folder.is_relative_to(point))
        if kind in ("tmpfs", "ramfs"):
            return 0
    except (OSError, ValueError):
        pass  # no list of file systems: temporary files are on a disk
    return shutil.disk_usage(folder).free


def _groups() -> list[tuple[Path, str, str, str]]:
    """Folders of the control groups of this process, with the names of limit, use and reclaimable cache."""
    try:
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return []
    found = []
    for _, controllers, path in lines:
        if controllers == "":
            root, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = Path("/sys/fs/cgroup/memory")
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # within a container its own group is the root
        found += [(folder, *names) for folder in {root, root / path.lstrip("/")}]
    return found


def _limit_of_group(folder: Path, limit: str, use: str, cache: str) -> int | None:
    """Memory in bytes that a control group may still use; None without a limit."""
    try:
        most, used = ((folder / name).read_text().strip() for name in (limit, use))
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if most == "max" else max(0, int(most) - int(used) + int(statistics.get(cache, 0)))
