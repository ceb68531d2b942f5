"""The guard of a run: whether its configurations are still ones that the model knows.

Four questions are asked of every configuration. Does a distance occur that the data never held? Are the invariants of
an agent far from those in the data? Is the mean loss of a species, or of all agents, one that the data do not reach?
Does the committee disagree more than it should? The first three are there because a committee can agree where none of
its members knows anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from openmm_duality.dynamics.monitoring import ACTIONS, Sighting
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.invariants.contractions import environment_descriptors
from openmm_duality.losses.domain import Domain
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.fused.study import FusedStudy, Study
from openmm_duality.units import ANGSTROM, MEV_PER_ANGSTROM


class Guard:
    """Looks at a run every so many steps, beside whatever platform it runs on.

    Parameters
    ----------
    losses : AgentLosses
        With a domain, a committee or both, as `infer` makes them.
    species : sequence of str, length N
        Of the atoms of the run.
    action : str
        What an alarm does: ``warn`` (a row in ``alarms.csv``), ``stop`` (the run too, with the frame saved), or
        ``collect`` (the frame goes to ``collected.xyz``, at most one every 50 fs).
    interval : int
        Steps between looks.
    per_atom : bool
        Whether the run writes the uncertainty of every atom at every look, to ``uncertainty.csv``.
    threads : int, optional
        As for `FusedLosses`.

    Raises
    ------
    DualityError
        If the model has neither, a species is unknown to it, or a choice is out of range.
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
                "the model knows neither its domain nor its uncertainty, so nothing can be guarded: it was inferred "
                "from too few frames, or is older than both; infer it from at least ten, or run without a guard"
            )
        if action not in ACTIONS:
            raise DualityError(f"guard: expected {', '.join(ACTIONS)}, got {action!r}")
        if interval < 1:
            raise DualityError(f"guard: expected at least one step between looks, got {interval}")
        if per_atom and losses.committee is None:
            raise DualityError("the model has no committee, so there is no uncertainty to write for every atom")
        self.losses, self.action, self.interval, self.per_atom = losses, action, interval, per_atom
        self._species, self._species_index = tuple(species), losses.index_of(species)
        self._study = FusedStudy(losses, species, threads=threads)

    def to_dict(self) -> dict[str, Any]:
        """Everything that was chosen, for the record of the run."""
        return {"action": self.action, "interval": self.interval, "per_atom": self.per_atom}

    def look(self, positions: FloatArray, cell: FloatArray | None) -> Sighting:
        """At positions (N, 3) and cell (3, 3) in nm.

        Raises
        ------
        DualityError
            If a position is not a finite number, or the cell is too small for the cutoff.
        """
        study = self._study(positions, cell)
        alarms = self._unfamiliar(self.losses.domain, study) if self.losses.domain is not None else []
        committee, sigma = self.losses.committee, None
        if committee is not None:
            sigma = committee.uncertainty(study.forces, self._species_index)
            share = sigma / committee.limit[self._species_index]
            i = int(share.argmax())
            if not np.isfinite(share[i]):
                alarms.append(f"the force on {self._named(i)} is no finite number")
            elif share[i] > 1.0:
                alarms.append(
                    f"the force on {self._named(i)} is uncertain by {sigma[i] / MEV_PER_ANGSTROM:.0f} meV/Å, "
                    f"{share[i]:.2f} times what the data let expect"
                )
        return Sighting(sigma, tuple(alarms))

    def _unfamiliar(self, domain: Domain, study: Study) -> list[str]:
        """What the data did not hold."""
        phi = environment_descriptors(study.moments, self.losses.basis.size)
        found = domain.distances(phi, study.visited >= 0, study.losses, self._species_index)
        names, alarms = self.losses.species, []
        for a, b in np.argwhere(found.unseen.any(axis=-1)):
            if a <= b:  # every pair of atoms is there from both sides
                k = int(np.flatnonzero(found.unseen[a, b])[0])
                length = (k + 0.5) * self.losses.grid.spacing / ANGSTROM
                who = self._named(int(study.visited[a, b, k]))
                alarms.append(f"{names[a]}–{names[b]} at {length:.2f} Å ({who}), which the data never held")
        i = int(found.environments.argmax())
        if not found.environments[i] <= 1.0:
            alarms.append(
                f"{self._named(i)}: local environment outside the training distribution "
                f"({found.environments[i]:.2f} × limit)"
            )
        for whose, away in zip((*names, "all agents"), found.losses, strict=True):
            if not away <= 1.0:
                alarms.append(f"the mean loss of {whose} is {away:.2f} times the known distance from the data's")
        return alarms

    def _named(self, i: int) -> str:
        return f"{self._species[i]} {i + 1}"
