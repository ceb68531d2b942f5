"""The domain of losses: their training distribution, and the distance of a configuration from it.

The members of a committee may agree far from all training data. The training distribution itself is therefore
described by the observed distances, the local environments φ^i and the losses.

Index suffixes: i agent, A species of the agent, B of the neighbour, p invariant, c principal component.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray

REFERENCE_SHARE = 1e-8  # of the agents of a check, which exceed a limit as it is stored
_LEAST_LIMIT = 0.1  # times the limit as it is stored
_NO_TAIL = 1e-9  # in place of zero, where a share falls at once


@dataclass(frozen=True)
class KnownEnvironments:
    """Training distribution of the local environments of one species.

    Principal components of small variance count as much as those of large variance: what hardly varies in the training
    data (two hydrogens near every oxygen) is what differs in unknown environments.

    Parameters
    ----------
    centre : array, shape (P,)
        Mean of the descriptors (`losses.evaluator.describe_environments`) in the training data.
    whitening : array, shape (P, C)
        Matrix that transforms descriptors to principal components in units of their widths.
    limit : float
        The largest component, in units of its width, that `REFERENCE_SHARE` of the agents exceed.
    tail : float
        Growth of the limit where the share is smaller by a factor of e.
    """

    centre: FloatArray
    whitening: FloatArray
    limit: float
    tail: float = 0.0

    def limit_of(self, share: float) -> float:
        """Limit that a share of the agents exceeds, by an exponential tail; for large shares, bounded from below."""
        return max(self.limit + self.tail * float(np.log(REFERENCE_SHARE / share)), _LEAST_LIMIT * self.limit)

    def share_of(self, distances: FloatArray) -> FloatArray:
        """Share of the agents that exceeds each of some distances, the inverse of `limit_of`."""
        return np.asarray(REFERENCE_SHARE * np.exp((self.limit - distances) / max(self.tail, _NO_TAIL)))

    def distances(self, descriptors: FloatArray) -> FloatArray:
        """Magnitude of the largest principal component, shape (…,), of descriptors, shape (…, P)."""
        return np.asarray(np.abs((descriptors - self.centre) @ self.whitening).max(axis=-1))


@dataclass(frozen=True)
class DomainDistances:
    """Distances of one configuration from the training distribution.

    Parameters
    ----------
    unseen : array of bool, shape (S, S, K)
        Distances absent from the training data, by species of the agent and of the neighbour and grid interval.
    environments : array, shape (N,)
        Distance of each agent's descriptors from those in the training data, in units of the limit.
    losses : array, shape (S + 1,)
        Distance of the mean loss of each species, then of all agents, from the training data, in units of the limit.
    """

    unseen: BoolArray
    environments: FloatArray
    losses: FloatArray


@dataclass(frozen=True)
class Domain:
    """Training distribution of the losses.

    Parameters
    ----------
    seen : array, shape (S, S, K)
        How many neighbours an agent has on average in an interval of the grid, by species of the agent, which is the
        rarer one, and of the neighbour; extrapolated beyond the observed distances.
    environments : tuple of KnownEnvironments, length S
    losses : array, shape (S + 1, 2)
        Mean and standard deviation over the frames of the mean loss (kJ/mol) of every species, then of all agents.
    limit : float
        Limit of the mean losses, in standard deviations.
    agents : float
        Average number of agents in a training frame. The limit of the mean losses of fewer agents is wider, by the
        inverse square root of their number; that of more agents is not narrower, because the equilibrium of a model
        differs slightly from that of its training data.
    """

    seen: FloatArray
    environments: tuple[KnownEnvironments, ...]
    losses: FloatArray
    limit: float
    agents: float

    def unlikely(self, share: float) -> BoolArray:
        """Intervals of the grid, shape (S, S, K), in one of which a share of the agents has a neighbour at most."""
        by_interval = np.sort(self.seen, axis=None)
        below = np.searchsorted(np.cumsum(by_interval), share, side="right")
        return np.asarray(self.seen < by_interval[below] if below < len(by_interval) else np.ones_like(self.seen, bool))

    def share_of_distances(self, present: BoolArray) -> float:
        """The least share for which one of the intervals of the grid that are present is `unlikely`."""
        by_interval = np.sort(self.seen, axis=None)
        rarest = self.seen[present].min(initial=np.inf)
        return float(by_interval[: np.searchsorted(by_interval, rarest, side="right")].sum())

    def to_arrays(self) -> dict[str, FloatArray]:
        """Convert the domain to arrays by their names in a model file."""
        arrays = {"seen": self.seen, "losses": self.losses, "limit": np.array([self.limit])}
        arrays["agents"] = np.array([self.agents])
        for a, known in enumerate(self.environments):
            arrays |= {f"{a}/centre": known.centre, f"{a}/whitening": known.whitening}
            arrays |= {f"{a}/limit": np.array([known.limit]), f"{a}/tail": np.array([known.tail])}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, FloatArray], n_species: int, intervals: int) -> Domain:
        """Read the domain back from `to_arrays`.

        Parameters
        ----------
        arrays : mapping of str to array
        n_species : int
        intervals : int
            Number of grid intervals.

        Raises
        ------
        KeyError
            If an array is missing.
        ValueError
            If the shapes of the arrays are inconsistent with each other or with the model.
        """
        environments = []
        for a in range(n_species):
            centre, whitening = arrays[f"{a}/centre"], arrays[f"{a}/whitening"]
            if centre.shape != arrays["0/centre"].shape or whitening.shape[:-1] != centre.shape or not whitening.size:
                raise ValueError("the arrays of the domain do not fit each other")
            limit, tail = _positive_scalar(arrays[f"{a}/limit"]), arrays.get(f"{a}/tail", np.zeros(1))
            if tail.shape != (1,) or not tail[0] >= 0.0:
                raise ValueError("the tail of a limit of the domain is not a number from zero on")
            environments.append(KnownEnvironments(centre, whitening, limit, float(tail[0])))
        seen, losses = arrays["seen"], arrays["losses"]
        if seen.shape != (n_species, n_species, intervals) or (seen < 0.0).any() or losses.shape != (n_species + 1, 2):
            raise ValueError("the arrays of the domain do not fit the species and the grid of the model")
        return cls(
            seen, tuple(environments), losses, _positive_scalar(arrays["limit"]), _positive_scalar(arrays["agents"])
        )

    def distances(
        self,
        descriptors: Iterable[FloatArray],
        present: BoolArray,
        losses: FloatArray,
        species_index: IntArray,
        share: float = REFERENCE_SHARE,
    ) -> DomainDistances:
        """Distances of one configuration from the training distribution.

        Parameters
        ----------
        descriptors : iterable of arrays, shape (…, P)
            Descriptors of the agents (`losses.evaluator.describe_environments`), some after the others.
        present : array of bool, shape (S, S, K)
            Intervals of the grid in which a distance occurs.
        losses : array, shape (N,)
            Losses of the agents in kJ/mol.
        species_index : array of int, shape (N,)
        share : float
            Expected share of agents with an unseen distance, and of those with an unknown environment, in
            configurations from the training distribution; below it they are called so.
        """
        limits = np.array([known.limit_of(share) for known in self.environments])
        around = self.distances_of_environments(descriptors, species_index) / limits[species_index]
        away = np.abs(mean_losses(losses, species_index, len(self.environments)) - self.losses[:, 0])
        absent = np.append(np.bincount(species_index, minlength=len(self.environments)) == 0, False)
        reach = self.limit * self.losses[:, 1] * max(1.0, (self.agents / len(species_index)) ** 0.5)
        away = np.where(absent, 0.0, away / reach)
        return DomainDistances(present & self.unlikely(share), around, away)

    def distances_of_environments(self, descriptors: Iterable[FloatArray], species_index: IntArray) -> FloatArray:
        """Distances of agents' descriptors, some after the others, from those in the training data, shape (N,)."""
        found, first = np.zeros(len(species_index)), 0
        for some in descriptors:
            last = first + len(some)
            for a, known in enumerate(self.environments):
                mine = species_index[first:last] == a
                if mine.any():
                    found[first:last][mine] = known.distances(some[mine])
            first = last
        return found


def mean_losses(losses: FloatArray, species_index: IntArray, n_species: int) -> FloatArray:
    """Mean loss of each species (NaN for one without agents), then of all agents, shape (S + 1,)."""
    counts = np.bincount(species_index, minlength=n_species)
    sums = np.bincount(species_index, losses, minlength=n_species)
    by_species = np.divide(sums, counts, out=np.full(n_species, np.nan), where=counts > 0)
    return np.append(by_species, losses.mean())


def _positive_scalar(array: FloatArray) -> float:
    if array.shape != (1,) or array[0] <= 0.0:
        raise ValueError("a limit or a size of the domain is not a positive number")
    return float(array[0])
