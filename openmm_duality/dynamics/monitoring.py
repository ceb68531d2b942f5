"""The interface between a run and its monitor, and the files in which the run records the readings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.units import ANGSTROM

ACTIONS = ("warn", "stop", "collect")
ALARMS, COLLECTED, UNCERTAINTIES = "alarms.csv", "collected.xyz", "uncertainty.csv"
MONITOR_FILES = (ALARMS, COLLECTED, UNCERTAINTIES)  # they grow, and stay where a later call has no monitor
_COLLECTION_INTERVAL = 0.05  # ps, at least, between collected frames: closer ones are nearly the same frame


@dataclass(frozen=True)
class Reading:
    """Result of the check of one configuration by a monitor.

    Parameters
    ----------
    uncertainty : array, shape (N,), or None
        Predicted standard deviation of a component of the force on every agent, in kJ/mol/nm; None without a committee.
    alarms : tuple of str
        Why the configuration is outside the training distribution, one phrase each; empty if it is inside.
    """

    uncertainty: FloatArray | None
    alarms: tuple[str, ...]


class RunMonitor(Protocol):
    """Checks the configurations of a run at regular intervals."""

    @property
    def interval(self) -> int:
        """Steps between checks."""

    @property
    def action(self) -> str:
        """``warn``, ``stop`` or ``collect``."""

    @property
    def per_atom(self) -> bool:
        """Whether the uncertainty of every atom is written, beside their mean and largest."""

    def check(self, positions: FloatArray, cell: FloatArray | None) -> Reading:
        """Check positions (N, 3) and cell (3, 3) in nm."""

    def pressure_uncertainty(self, positions: FloatArray, cell: FloatArray) -> float | None:
        """Predicted standard deviation of the pressure in MPa; None where the model predicts none."""

    def to_dict(self) -> dict[str, Any]:
        """All settings, for the record of the run."""


class MonitorLog:
    """Files of a monitored run: alarms, the frames that raised them, uncertainties of every atom.

    Parameters
    ----------
    directory : path
        Of the run.
    species : sequence of str, length N
    monitor : RunMonitor
    """

    def __init__(self, directory: Path, species: tuple[str, ...], monitor: RunMonitor) -> None:
        self._directory, self._species, self._monitor = directory, species, monitor
        self._last = self._last_collected() if monitor.action == "collect" else -np.inf

    def write(self, step: int, time: float, reading: Reading, positions: FloatArray, cell: FloatArray | None) -> None:
        """Add the reading of one step; time in ps."""
        if self._monitor.per_atom and reading.uncertainty is not None:
            head = ",".join(["step", "time_ps", *(f"{name}{i + 1}" for i, name in enumerate(self._species))])
            row = ",".join([f"{step},{time:.10g}", *(f"{sigma:.5g}" for sigma in reading.uncertainty)])
            self._append(UNCERTAINTIES, head, row)
        if not reading.alarms:
            return
        alarm = "; ".join(reading.alarms).replace('"', "'")
        self._append(ALARMS, "step,time_ps,alarm", f'{step},{time:.10g},"{alarm}"')
        if self._monitor.action == "collect" and time - self._last >= _COLLECTION_INTERVAL * (1.0 - 1e-6):
            self._last = time
            with open(self._directory / COLLECTED, "a") as handle:
                handle.write(_extended_xyz(step, time, self._species, positions, cell, alarm))

    def _append(self, name: str, head: str, row: str) -> None:
        path = self._directory / name
        fresh = not path.exists()
        with open(path, "a") as handle:
            handle.write(f"{head}\n{row}\n" if fresh else f"{row}\n")

    def _last_collected(self) -> float:
        path, last = self._directory / COLLECTED, -np.inf
        if path.exists():
            with open(path) as handle:
                for line in handle:
                    if " time=" in line:
                        last = 1e-3 * float(line.split(" time=")[1].split()[0])
        return last


def count_alarms(directory: Path) -> int:
    """Number of checks with an alarm so far in the folder of a run."""
    path = directory / ALARMS
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def count_checks(settings: Mapping[str, Any]) -> int:
    """Number of checks that the monitor in the record of a run made, if it was there all along; none without one."""
    interval: Any = settings.get("limits")
    for name in ("monitor", "interval"):
        interval = interval.get(name) if isinstance(interval, Mapping) else None
    return settings.get("steps_done", 0) // interval + 1 if isinstance(interval, int) and interval > 0 else 0


def mostly_unknown(alarms: int, checks: int) -> bool:
    """Whether the monitor raised an alarm in most of its checks, so that the model does not know what the run shows."""
    return 2 * alarms > checks > 0


def _extended_xyz(
    step: int, time: float, species: tuple[str, ...], positions: FloatArray, cell: FloatArray | None, alarm: str
) -> str:
    """A frame in Å and fs, for ASE and `read_extxyz`; step, time and alarm are in its comment line."""
    fields = [] if cell is None else ['Lattice="' + " ".join(f"{x:.8f}" for x in (cell / ANGSTROM).ravel()) + '"']
    periodic = "F F F" if cell is None else "T T T"
    fields += [
        "Properties=species:S:1:pos:R:3",
        f'pbc="{periodic}"',
        f"step={step}",
        f"time={1e3 * time:.6f}",
        f'alarm="{alarm}"',
    ]
    rows = [f"{name} {x:.8f} {y:.8f} {z:.8f}" for name, (x, y, z) in zip(species, positions / ANGSTROM, strict=True)]
    return "\n".join([str(len(species)), " ".join(fields), *rows]) + "\n"
