"""The domain of losses: what their data held, and how far a configuration is outside of it.

A committee can agree where none of its members knows anything. So the data themselves are described: which distances
occurred, which local environments φ^i, and how large the losses were.

Index suffixes: i agent, A species of the agent, B of the neighbour, p invariant, c principal component.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openmm_duality.geometry.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class KnownEnvironments:
    """The distribution of the invariants φ around the agents of one species.

    Principal components with a small variance count as much as those with a large one: what hardly ever varies in the
    data (two hydrogens near every oxygen) is what foreign environments break.

    Parameters
    ----------
    centre : array, shape (P,)
        Mean of the invariants in the data.
    whitening : array, shape (P, C)
        Takes invariants to their principal components, in units of the width of each.
    limit : float
        Of the largest component.
    """

    centre: FloatArray
    whitening: FloatArray
    limit: float

    def distances(self, phi: FloatArray) -> FloatArray:
        """The largest component, shape (…,), of invariants, shape (…, P)."""
        return np.asarray(np.abs((phi - self.centre) @ self.whitening).max(axis=-1))


@dataclass(frozen=True)
class DomainDistances:
    """How well a domain knows one configuration.

    Parameters
    ----------
    unseen : array of bool, shape (S, S, K)
        Distances that occur here and did not in the data, by species of the agent and of the neighbour and interval.
    environments : array, shape (N,)
        Distance of every agent's invariants from those in the data; known up to 1.
    losses : array, shape (S + 1,)
        Distance of the mean loss of every species, and of all agents, from that in the data; known up to 1.
    """

    unseen: npt.NDArray[np.bool_]
    environments: FloatArray
    losses: FloatArray


@dataclass(frozen=True)
class Domain:
    """What the data of losses held.

    Parameters
    ----------
    seen : array, shape (S, S, K)
        1 for intervals of the grid where a distance occurred, or nearly, 0 for others.
    environments : tuple of KnownEnvironments, length S
    losses : array, shape (S + 1, 2)
        Mean and standard deviation over the frames of the mean loss (kJ/mol) of every species, then of all agents.
    limit : float
        Of the mean losses, in standard deviations.
    agents : float
        Number of agents of a frame of the data, on average. Mean losses of fewer agents may fluctuate more, as the
        inverse of the square root of their number; those of more agents may do so as in the data, for what a model
        makes of a liquid is never quite what its data say.
    """

    seen: FloatArray
    environments: tuple[KnownEnvironments, ...]
    losses: FloatArray
    limit: float
    agents: float

    def to_arrays(self) -> dict[str, FloatArray]:
        """Everything, by names for a model file."""
        arrays = {"seen": self.seen, "losses": self.losses, "limit": np.array([self.limit])}
        arrays["agents"] = np.array([self.agents])
        for a, known in enumerate(self.environments):
            arrays |= {f"{a}/centre": known.centre, f"{a}/whitening": known.whitening}
            arrays[f"{a}/limit"] = np.array([known.limit])
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, FloatArray], n_species: int, intervals: int) -> Domain:
        """From `to_arrays`.

        Parameters
        ----------
        arrays : mapping of str to array
        n_species : int
        intervals : int
            Of the grid.

        Raises
        ------
        KeyError
            If an array is missing.
        ValueError
            If they do not fit each other or the model.
        """
        environments = []
        for a in range(n_species):
            centre, whitening = arrays[f"{a}/centre"], arrays[f"{a}/whitening"]
            if centre.shape != arrays["0/centre"].shape or whitening.shape[:-1] != centre.shape or not whitening.size:
                raise ValueError("the arrays of the domain do not fit each other")
            environments.append(KnownEnvironments(centre, whitening, _limit(arrays[f"{a}/limit"])))
        seen, losses = arrays["seen"], arrays["losses"]
        if seen.shape != (n_species, n_species, intervals) or losses.shape != (n_species + 1, 2):
            raise ValueError("the arrays of the domain are not of this model's species and grid")
        return cls(seen, tuple(environments), losses, _limit(arrays["limit"]), _limit(arrays["agents"]))

    def distances(
        self, phi: FloatArray, present: npt.NDArray[np.bool_], losses: FloatArray, species_index: IntArray
    ) -> DomainDistances:
        """Of one configuration.

        Parameters
        ----------
        phi : array, shape (N, P)
            `invariants.contractions.environment_descriptors` of the agents.
        present : array of bool, shape (S, S, K)
            Intervals of the grid where a distance occurs.
        losses : array, shape (N,)
            Of the agents, in kJ/mol.
        species_index : array of int, shape (N,)
        """
        around = np.zeros(len(species_index))
        for a, known in enumerate(self.environments):
            mine = species_index == a
            if mine.any():
                around[mine] = known.distances(phi[mine]) / known.limit
        away = np.abs(mean_losses(losses, species_index, len(self.environments)) - self.losses[:, 0])
        absent = np.append(np.bincount(species_index, minlength=len(self.environments)) == 0, False)
        reach = self.limit * self.losses[:, 1] * max(1.0, (self.agents / len(species_index)) ** 0.5)
        away = np.where(absent, 0.0, away / reach)
        return DomainDistances(present & (self.seen == 0.0), around, away)


def mean_losses(losses: FloatArray, species_index: IntArray, n_species: int) -> FloatArray:
    """The mean loss of every species (NaN for one without agents), then of all agents, shape (S + 1,)."""
    counts = np.bincount(species_index, minlength=n_species)
    sums = np.bincount(species_index, losses, minlength=n_species)
    by_species = np.divide(sums, counts, out=np.full(n_species, np.nan), where=counts > 0)
    return np.append(by_species, losses.mean())


def _limit(array: FloatArray) -> float:
    if array.shape != (1,) or array[0] <= 0.0:
        raise ValueError("a limit or a size of the domain is not a number above zero")
    return float(array[0])
