"""The monitor of a run: whether its configurations are inside the training distribution of the model.

Five tests are made of every configuration. Does a distance occur that the training data do not hold? Are the invariants
of an agent far from those in the data? Is the mean loss of a species, or of all agents, outside the range of the data?
Does the committee disagree more than it should? Is its disagreement no small part of the forces? The first three are
needed because a committee can agree where none of its members has data, the last one where data are so diverse that
hardly anything lies outside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from openmm_duality.dynamics.monitoring import ACTIONS, Reading
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import volume
from openmm_duality.inference.uncertainty.calibration import PressureCalibration
from openmm_duality.losses.domain import Domain
from openmm_duality.losses.evaluator import describe_environments
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.fused.committee import CommitteeEvaluation, FusedCommittee
from openmm_duality.lowering.fused.losses import FusedLosses
from openmm_duality.reference.summary import component_rms
from openmm_duality.units import ANGSTROM, MEGAPASCAL, MEV_PER_ANGSTROM

FALSE_ALARMS = 5e-6  # per check of a run: 0.1 per ns at a check every 50 fs
PER_ATOM_TESTS = 3  # tests whose limits hold for every atom; the others are of means
_SHARE_OF_FORCES = 0.5  # predicted errors above it, and above so many times those of held-out frames, are too large
_TIMES_HELD_OUT = 5.0
_AT_ONCE = 2048  # agents whose descriptors are in memory together


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
    false_alarms : float
        Expected number of false alarms per check of the whole system, by the tails of the distributions of what the
        agents of the training data have, for each of the tests of atoms in equal parts. Limits are wider for more
        atoms, so that it does not depend on their number.

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
        false_alarms: float = FALSE_ALARMS,
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
        if not 0.0 < false_alarms <= 1.0:
            raise DualityError(
                f"monitor: expected more than 0 false alarms per check, and at most 1, got {false_alarms}"
            )
        if per_atom and losses.committee is None:
            raise DualityError("the model has no committee, so there is no uncertainty to write for every atom")
        self.losses, self.action, self.interval, self.per_atom = losses, action, interval, per_atom
        self.false_alarms = false_alarms
        self._share = false_alarms / (PER_ATOM_TESTS * max(1, len(species)))
        self._species, self._species_index = tuple(species), losses.index_of(species)
        self._committee = FusedCommittee(losses, species, threads=threads)
        self._pressure, self._threads = _pressure_calibration(losses), threads
        self._known_errors = _known_errors(losses)

    def to_dict(self) -> dict[str, Any]:
        """All settings, for the record of the run."""
        return {
            "action": self.action,
            "interval": self.interval,
            "per_atom": self.per_atom,
            "false_alarms": self.false_alarms,
        }

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
            ratio = sigma / committee.limit_of(self._share)[self._species_index]
            i = int(ratio.argmax())
            if not np.isfinite(ratio[i]):
                alarms.append(f"{self._named(i)}: predicted force error is not a finite number")
            elif ratio[i] > 1.0:
                alarms.append(
                    f"{self._named(i)}: predicted force error of {sigma[i] / MEV_PER_ANGSTROM:.0f} meV/Å exceeds the "
                    f"limit ({ratio[i]:.2f} × limit)"
                )
            alarms += self._too_large(sigma, evaluation.forces)
        return Reading(sigma, tuple(alarms))

    def pressure_uncertainty(self, positions: FloatArray, cell: FloatArray) -> float | None:
        """Predicted standard deviation of the pressure in MPa, from the spread of the virials of the committee.

        It is calibrated on the frames with stresses that inference held out; None of a model without any.

        Parameters
        ----------
        positions : array, shape (N, 3)
            In nm.
        cell : array, shape (3, 3)
            In nm.
        """
        if self._pressure is None:
            return None
        traces = [np.trace(member.virial(positions, cell)) for member in self._members]
        spread = float(np.std(traces, ddof=1)) / (3.0 * volume(cell)) / MEGAPASCAL
        return self._pressure.uncertainty(spread)

    @cached_property
    def _members(self) -> list[FusedLosses]:
        return [FusedLosses(member, self._species, threads=self._threads) for member in self.losses.members()]

    def shares(self, positions: FloatArray, cell: FloatArray | None) -> tuple[float, float, float]:
        """How rare a configuration is: the least share of agents for which each of the tests of atoms would alarm.

        They are those of distances, of local environments and of predicted force errors, infinite for a test that is
        not made. An alarm is raised below `false_alarms` / (3 N).
        """
        evaluation, index = self._committee(positions, cell), self._species_index
        shares, domain, committee = [np.inf] * PER_ATOM_TESTS, self.losses.domain, self.losses.committee
        if domain is not None:
            around = domain.distances_of_environments(self._described(evaluation.moments), index)
            of_species = [known.share_of(around[index == a]) for a, known in enumerate(domain.environments)]
            shares[:2] = domain.share_of_distances(evaluation.visited >= 0), min(np.concatenate(of_species).tolist())
        if committee is not None:
            shares[2] = float(committee.share_of(committee.uncertainty(evaluation.forces, index), index).min())
        return shares[0], shares[1], shares[2]

    def _outside(self, domain: Domain, evaluation: CommitteeEvaluation) -> list[str]:
        """Distances, local environments and mean losses outside the training distribution."""
        described, visited = self._described(evaluation.moments), evaluation.visited >= 0
        found = domain.distances(described, visited, evaluation.losses, self._species_index, self._share)
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

    def _too_large(self, sigma: FloatArray, members: FloatArray) -> list[str]:
        """Species whose predicted errors (N,) are half as large as the forces, and not so in held-out frames.

        Forces are of the members, shape (K, N, 3). Where the predicted errors are so large, those count that do without
        the members that differ from all others.
        """
        committee, alarms = self.losses.committee, list[str]()
        assert committee is not None
        forces = members.mean(axis=0)
        for a, name in enumerate(self.losses.species):
            mine = self._species_index == a
            if mine.any():
                error, force = component_rms(sigma[mine]), component_rms(forces[mine])
                limit = max(_SHARE_OF_FORCES * force, _TIMES_HELD_OUT * self._known_errors[a])
                if error > limit:
                    robust = committee.uncertainty(members[:, mine], self._species_index[mine], robust=True)
                    error = component_rms(robust)
                if error > limit:
                    alarms.append(
                        f"predicted force error of {name}: {error:.0f} meV/Å, beside forces of {force:.0f} meV/Å"
                    )
        return alarms

    def _described(self, moments: Mapping[int, FloatArray]) -> Iterator[FloatArray]:
        """The descriptors of the agents, some at a time."""
        for first in range(0, len(self._species_index), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            of_some = {rank: m[some] for rank, m in moments.items()}
            yield describe_environments(self.losses, of_some, self._species_index[some])

    def _named(self, i: int) -> str:
        return f"{self._species[i]} {i + 1}"


def _known_errors(losses: AgentLosses) -> list[float]:
    """The largest error of each species in meV/Å in a set of held-out frames, or of training frames; or infinity."""
    errors = losses.metadata.get("errors", {})
    tables = list((errors.get("test") or errors.get("train") or {}).values())
    found = [[table["force_rmse"][name] for table in tables if name in table["force_rmse"]] for name in losses.species]
    return [float(max(of_species, default=np.inf)) for of_species in found]


def _pressure_calibration(losses: AgentLosses) -> PressureCalibration | None:
    """That of the held-out frames of the inference; None without committee, potential, or stresses."""
    content = losses.metadata.get("calibration")
    if not isinstance(content, dict) or losses.committee is None or not losses.has_potential:
        return None
    return PressureCalibration.from_dict(content.get("pressure"))
