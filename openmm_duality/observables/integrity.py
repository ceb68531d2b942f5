"""The integrity of a run, from its log: shortest distances, whole molecules, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openmm_duality.observables.runs import Run


@dataclass(frozen=True)
class Closest:
    """The shortest distance of one pair of species in nm: in the run, when (ps), and in the reference (or None)."""

    run: float
    time: float
    reference: float | None


@dataclass(frozen=True)
class IntegrityRecord:
    """The integrity of a whole run, its discarded beginning included.

    Parameters
    ----------
    status, reason : str
        How it ended, in the run's own words.
    time : float
        How far it came, in ps.
    shortest : dict of str to Closest
        By pair of species.
    most_left : int
        The largest number of atoms away from their molecule at once.
    first_left : float or None
        When the first one was seen to have left, in ps.
    """

    status: str
    reason: str
    time: float
    shortest: dict[str, Closest]
    most_left: int
    first_left: float | None


def read_integrity(run: Run, reference_shortest: dict[str, float]) -> IntegrityRecord:
    """Read the integrity columns of the log.

    Parameters
    ----------
    run : Run
        The run.
    reference_shortest : dict of str to float
        The shortest distance per pair of species in the reference, in nm.
    """
    times, shortest = run.log["time_ps"], {}
    for name, column in run.log.items():
        if name.startswith("shortest_") and name.endswith("_nm") and np.isfinite(column).any():
            pair = name.removeprefix("shortest_").removesuffix("_nm")
            at = int(np.nanargmin(column))
            shortest[pair] = Closest(float(column[at]), float(times[at]), reference_shortest.get(pair))
    left = np.nan_to_num(run.log["atoms_left_molecule"])
    away = np.flatnonzero(left > 0)
    return IntegrityRecord(
        status=str(run.settings.get("status", "unknown")),
        reason=str(run.settings.get("reason") or ""),
        time=float(run.settings.get("time_ps") or times[-1]),
        shortest=dict(sorted(shortest.items())),
        most_left=int(left.max()),
        first_left=float(times[away[0]]) if len(away) else None,
    )
