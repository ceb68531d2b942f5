"""What a run tells whoever watches it, and what it writes of what they say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.units import ANGSTROM

ACTIONS = ("warn", "stop", "collect")
ALARMS, COLLECTED, UNCERTAINTIES = "alarms.csv", "collected.xyz", "uncertainty.csv"
WATCHED = (ALARMS, COLLECTED, UNCERTAINTIES)  # what grows while a run is watched; also of an earlier call's watcher
_APART = 0.05  # ps between frames that are collected: closer ones are nearly the same frame


@dataclass(frozen=True)
class Sighting:
    """What a guard says of one configuration.

    Parameters
    ----------
    uncertainty : array, shape (N,), or None
        Predicted standard deviation of a component of the force on every agent, in kJ/mol/nm; None without a committee.
    alarms : tuple of str
        Why the configuration is not one that the model knows, one phrase each; empty if it is.
    """

    uncertainty: FloatArray | None
    alarms: tuple[str, ...]


class Watcher(Protocol):
    """Looks at a run every so many steps."""

    @property
    def interval(self) -> int:
        """Steps between looks."""

    @property
    def action(self) -> str:
        """``warn``, ``stop`` or ``collect``."""

    @property
    def per_atom(self) -> bool:
        """Whether the uncertainty of every atom is written, beside their mean and largest."""

    def look(self, positions: FloatArray, cell: FloatArray | None) -> Sighting:
        """At positions (N, 3) and cell (3, 3) in nm."""

    def to_dict(self) -> dict[str, Any]:
        """Everything that was chosen, for the record of the run."""


class WatchLog:
    """What a run writes of its watcher: alarms, the frames they are about, uncertainties of every atom.

    Parameters
    ----------
    directory : path
        Of the run.
    species : sequence of str, length N
    watcher : Watcher
    """

    def __init__(self, directory: Path, species: tuple[str, ...], watcher: Watcher) -> None:
        self._directory, self._species, self._watcher = directory, species, watcher
        self._last = self._last_collected() if watcher.action == "collect" else -np.inf

    def write(self, step: int, time: float, sighting: Sighting, positions: FloatArray, cell: FloatArray | None) -> None:
        """Add what was seen at one step; time in ps."""
        if self._watcher.per_atom and sighting.uncertainty is not None:
            head = ",".join(["step", "time_ps", *(f"{name}{i + 1}" for i, name in enumerate(self._species))])
            row = ",".join([f"{step},{time:.10g}", *(f"{sigma:.5g}" for sigma in sighting.uncertainty)])
            self._add(UNCERTAINTIES, head, row)
        if not sighting.alarms:
            return
        words = "; ".join(sighting.alarms).replace('"', "'")
        self._add(ALARMS, "step,time_ps,alarm", f'{step},{time:.10g},"{words}"')
        if self._watcher.action == "collect" and time - self._last >= _APART * (1.0 - 1e-6):
            self._last = time
            with open(self._directory / COLLECTED, "a") as handle:
                handle.write(_extended_xyz(step, time, self._species, positions, cell, words))

    def _add(self, name: str, head: str, row: str) -> None:
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


def alarms(directory: Path) -> int:
    """Number of looks with an alarm so far in the folder of a run."""
    path = directory / ALARMS
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def _extended_xyz(
    step: int, time: float, species: tuple[str, ...], positions: FloatArray, cell: FloatArray | None, why: str
) -> str:
    """A frame in Å and fs, for ASE and `read_extxyz`; step, time and alarm stand in its comment."""
    words = [] if cell is None else ['Lattice="' + " ".join(f"{x:.8f}" for x in (cell / ANGSTROM).ravel()) + '"']
    periodic = "F F F" if cell is None else "T T T"
    words += [
        "Properties=species:S:1:pos:R:3",
        f'pbc="{periodic}"',
        f"step={step}",
        f"time={1e3 * time:.6f}",
        f'alarm="{why}"',
    ]
    rows = [f"{name} {x:.8f} {y:.8f} {z:.8f}" for name, (x, y, z) in zip(species, positions / ANGSTROM, strict=True)]
    return "\n".join([str(len(species)), " ".join(words), *rows]) + "\n"
