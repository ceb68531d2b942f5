"""The monitor of a run: whether its configurations are inside the training distribution of the model.

Four tests are made of every configuration. Does a distance occur that the training data do not hold? Are the invariants
of an agent far from those in the data? Is the mean loss of a species, or of all agents, outside the range of the data?
Does the committee disagree more than it should? The first three are needed because a committee can agree where none of
its members has data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from openmm_duality.dynamics.monitoring import ACTIONS, Reading
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.losses.domain import Domain
from openmm_duality.losses.evaluator import describe_environments
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.fused.committee import CommitteeEvaluation, FusedCommittee
from openmm_duality.units import ANGSTROM, MEV_PER_ANGSTROM


class Monitor:
    """Checks a run at regular intervals, on the CPU, whatever platform the run is on.

    Parameters
    ----------
    losses : AgentLosses
        With a domain, a committee or both, as `infer` makes them.
    species : sequence of str, length N
        Of the atoms of the run.
    action : str
        Effect of an alarm: ``warn`` (a row in ``alarms.csv``), ``stop`` (the run too, with the frame saved), or
        ``collect`` (the frame goes to ``collected.xyz``, at most one every 50 fs).
    interval : int
        Steps between checks.
    per_atom : bool
        Whether the run writes the uncertainty of every atom at every check, to ``uncertainty.csv``.
    threads : int, optional
        As for `FusedLosses`.

    Raises
    ------
    DualityError
        If the model has neither, a species is unknown to it, or an argument is out of range.
    """

    def __init__(
        self,
        losses: AgentLosses,
        species: Sequence[str],
        action: str = "warn",
        interval: int = 100,
        per_atom: bool = False,
        threads: int | None = None,
    ) -> None:
        if losses.domain is None and losses.committee is None:
            raise DualityError(
                "the model has neither a training domain nor a committee, so there is nothing to monitor by: it was "
                "inferred from too few frames; infer it from at least ten, or run without a monitor"
            )
        if action not in ACTIONS:
            raise DualityError(f"monitor: expected {', '.join(ACTIONS)}, got {action!r}")
        if interval < 1:
            raise DualityError(f"monitor: expected at least one step between checks, got {interval}")
        if per_atom and losses.committee is None:
            raise DualityError("the model has no committee, so there is no uncertainty to write for every atom")
        self.losses, self.action, self.interval, self.per_atom = losses, action, interval, per_atom
        self._species, self._species_index = tuple(species), losses.index_of(species)
        self._committee = FusedCommittee(losses, species, threads=threads)

    def to_dict(self) -> dict[str, Any]:
        """All settings, for the record of the run."""
        return {"action": self.action, "interval": self.interval, "per_atom": self.per_atom}

    def check(self, positions: FloatArray, cell: FloatArray | None) -> Reading:
        """Check positions (N, 3) and cell (3, 3) in nm.

        Raises
        ------
        DualityError
            If a position is not a finite number.
        """
        evaluation = self._committee(positions, cell)
        alarms = self._outside(self.losses.domain, evaluation) if self.losses.domain is not None else []
        committee, sigma = self.losses.committee, None
        if committee is not None:
            sigma = committee.uncertainty(evaluation.forces, self._species_index)
            ratio = sigma / committee.limit[self._species_index]
            i = int(ratio.argmax())
            if not np.isfinite(ratio[i]):
                alarms.append(f"{self._named(i)}: predicted force error is not a finite number")
            elif ratio[i] > 1.0:
                alarms.append(
                    f"{self._named(i)}: predicted force error of {sigma[i] / MEV_PER_ANGSTROM:.0f} meV/Å exceeds the "
                    f"limit ({ratio[i]:.2f} × limit)"
                )
        return Reading(sigma, tuple(alarms))

    def _outside(self, domain: Domain, evaluation: CommitteeEvaluation) -> list[str]:
        """Distances, local environments and mean losses outside the training distribution."""
        phi = describe_environments(self.losses, evaluation.moments, self._species_index)
        found = domain.distances(phi, evaluation.visited >= 0, evaluation.losses, self._species_index)
        names, alarms = self.losses.species, []
        for a, b in np.argwhere(found.unseen.any(axis=-1)):
            if a <= b:  # every pair of atoms occurs twice
                k = int(np.flatnonzero(found.unseen[a, b])[0])
                length = (k + 0.5) * self.losses.grid.spacing / ANGSTROM
                atom = self._named(int(evaluation.visited[a, b, k]))
                alarms.append(
                    f"{names[a]}–{names[b]} at {length:.2f} Å ({atom}): no such distance in the training data"
                )
        i = int(found.environments.argmax())
        if not found.environments[i] <= 1.0:
            alarms.append(
                f"{self._named(i)}: local environment outside the training distribution "
                f"({found.environments[i]:.2f} × limit)"
            )
        for which, ratio in zip((*names, "all agents"), found.losses, strict=True):
            if not ratio <= 1.0:
                alarms.append(f"mean loss of {which} outside the training distribution ({ratio:.2f} × limit)")
        return alarms

    def _named(self, i: int) -> str:
        return f"{self._species[i]} {i + 1}"
