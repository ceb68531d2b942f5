"""Channels and their invariants chosen by the data: large variance first.

The channels of an agent species and a rank are the eigenvectors of the covariance of its moments in training frames,
scaled to unit variance. So their number does not grow with the number of species, and directions in which the moments
hardly vary are left out. The degree of a channel, −½ log₂ of its variance relative to that of the leading channel of
rank 0, adds up to the degree of an invariant; those of lowest degree are chosen. (A smooth function of the environment
has small coefficients at high degree, because the variance of moments falls with the roughness of the functions.)

Index suffixes: t channel of all ranks, a = (B, n) moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement
from math import comb

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.inference.equations.targets import DataSet, indices_of
from openmm_duality.invariants.channels import Channels, coupled
from openmm_duality.invariants.couplings import can_couple
from openmm_duality.invariants.harmonics import HIGHEST_RANK
from openmm_duality.invariants.moments import flat, moments_by_rank
from openmm_duality.invariants.neighbours import find_neighbours
from openmm_duality.invariants.radial import RadialBasis
from openmm_duality.reference.frames import evenly_spaced


@dataclass(frozen=True)
class Size:
    """Size of a form with channels.

    Parameters
    ----------
    channels : int
        Largest number of channels of a rank.
    invariants : tuple of int
        Least numbers of invariants of orders 2, 3 and 4 of an agent species.
    mixing_steps : int
        Largest number of steps in which the mixing of channels is learned.
    """

    channels: int
    invariants: tuple[int, int, int]
    mixing_steps: int


SIZES = {
    "small": Size(8, (150, 600, 100), 3),
    "medium": Size(12, (300, 900, 400), 3),
    "large": Size(16, (300, 1600, 800), 6),
}
_FRAMES = 150  # whose moments are analysed
_NEGLIGIBLE = 1e-12  # variance of a channel relative to the leading one
_ROUNDING = 1e-12  # of the square of the mean
_PAIRINGS = ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2))
_MOST_MULTISETS = 200_000


@dataclass(frozen=True)
class MomentStatistics:
    """Moments of the agents of one species in training frames.

    Parameters
    ----------
    covariances : mapping of int to array, shape (S·n, S·n)
        ⟨Σ_m M_am M_bm⟩ by rank; that of rank 0 about the mean.
    mean : array, shape (S·n,)
        Mean moments of rank 0.
    """

    covariances: Mapping[int, FloatArray]
    mean: FloatArray


def moment_statistics(
    sets: Sequence[DataSet], species: tuple[str, ...], basis: RadialBasis, ranks: Sequence[int]
) -> list[MomentStatistics]:
    """Statistics of the moments of every agent species in at most 150 training frames."""
    s, width = len(species), len(species) * basis.size
    sums = [{rank: np.zeros((width, width)) for rank in ranks} for _ in range(s)]
    firsts, number = np.zeros((s, width)), np.zeros(s)
    parts = [part for data in sets for part in data.frames.parts]
    total = sum(map(len, parts))
    for part in parts:
        index = indices_of(part.species, species)
        share = max(1, round(_FRAMES * len(part) / total))
        for t in evenly_spaced(len(part), share):
            tables = find_neighbours(part.positions[t], part.cell(t), index, s, basis.grid.cutoff)
            values = [basis.evaluate(table.distances, index, b)[0] for b, table in enumerate(tables)]
            found = moments_by_rank(ranks, tables, values)
            for a in range(s):
                for rank in ranks:
                    m = flat(found[rank][index == a])
                    sums[a][rank] += np.einsum("iam,ibm->ab", m, m, optimize=True)
                firsts[a] += flat(found[0][index == a])[..., 0].sum(axis=0)
                number[a] += int((index == a).sum())
    result = []
    for a in range(s):
        covariances = {rank: m / number[a] for rank, m in sums[a].items()}
        mean = firsts[a] / number[a]
        covariances[0] = covariances[0] - np.outer(mean, mean)
        result.append(MomentStatistics(covariances, mean))
    return result


def channels_of_data(
    sets: Sequence[DataSet],
    species: tuple[str, ...],
    basis: RadialBasis,
    ranks: Sequence[int],
    size: int,
    counts: Sequence[int],
) -> tuple[Channels, ...]:
    """Choose the channels of every agent species by the statistics of its moments in the training frames."""
    statistics = moment_statistics(sets, species, basis, ranks)
    return tuple(choose_channels(mine.covariances, mine.mean, size, counts) for mine in statistics)


def choose_channels(
    covariances: Mapping[int, FloatArray], means: FloatArray, size: int, counts: Sequence[int]
) -> Channels:
    """Choose the channels and invariants of one agent species.

    Parameters
    ----------
    covariances : mapping of int to array, shape (S·n, S·n)
        ⟨Σ_m M_am M_bm⟩ by rank; that of rank 0 about the mean.
    means : array, shape (S·n,)
        Mean moments of rank 0.
    size : int
        Largest number of channels of a rank.
    counts : sequence of int
        Least numbers of invariants of orders 2, 3 and 4, as far as there are so many.
    """
    spectra = {rank: np.linalg.eigh(covariance) for rank, covariance in covariances.items()}
    if spectra[0][0][-1] <= _ROUNDING * float(means @ means):  # there is one environment, from which nothing differs
        spectra[0] = np.linalg.eigh(covariances[0] + np.outer(means, means))
    leading = spectra[0][0][-1]
    mixing, degrees, ranks = {}, [], []
    for rank, (variances, axes) in spectra.items():
        kept = np.flatnonzero(variances > _NEGLIGIBLE * leading)[::-1][:size]
        mixing[rank] = np.ascontiguousarray((axes[:, kept] / np.sqrt(variances[kept])).T)
        degrees.append(-0.5 * np.log2(variances[kept] / leading))
        ranks.append(np.full(len(kept), rank))
    products, invariants = choose_invariants(np.concatenate(ranks), np.concatenate(degrees), counts)
    return used_channels(Channels(mixing, mixing[0] @ means, products, invariants))


def choose_invariants(ranks: IntArray, degrees: FloatArray, counts: Sequence[int]) -> tuple[IntArray, IntArray]:
    """Products and invariants of lowest degree of channels with given ranks and degrees."""
    products = _Products(len(ranks))
    invariants = []
    for order, count in zip((2, 3, 4), counts, strict=True):
        of_order: list[tuple[int, int]] = []
        for chosen in _multisets(degrees, order) if count else ():
            of_order += _invariants_of(chosen, [int(ranks[t]) for t in chosen], products)
            if len(of_order) >= count:
                break
        invariants += of_order
    return products.listed(), np.array([sorted(pair) for pair in invariants], dtype=np.int64).reshape(-1, 2)


class _Products:
    """Products in the order in which they are first needed; their indices follow those of the channels.

    Parameters
    ----------
    n_channels : int
    """

    def __init__(self, n_channels: int) -> None:
        self._n_channels = n_channels
        self._indices: dict[tuple[int, int, int], int] = {}

    def index(self, one: int, other: int, rank: int) -> int:
        """Index of the product of two channels of a rank among the tensors."""
        key = (min(one, other), max(one, other), rank)
        return self._indices.setdefault(key, self._n_channels + len(self._indices))

    def listed(self) -> IntArray:
        """All products, shape (X, 3)."""
        return np.array(list(self._indices), dtype=np.int64).reshape(-1, 3)


def used_channels(channels: Channels) -> Channels:
    """Leave out the channels that occur in no invariant, but for the first of a rank."""
    n = channels.n_channels
    used = np.zeros(n, dtype=bool)
    used[channels.products[:, :2].ravel()] = True
    used[channels.invariants[channels.invariants < n]] = True
    first = np.cumsum([0, *(len(w) for w in channels.mixing.values())])
    used[first[:-1][np.diff(first) > 0]] = True
    number = np.cumsum(used) - 1
    kept = {rank: used[b:e] for rank, b, e in zip(channels.mixing, first[:-1], first[1:], strict=True)}
    renumbered = np.append(number, used.sum() + np.arange(len(channels.products)))
    products = channels.products.copy()
    products[:, :2] = number[products[:, :2]]
    return Channels(
        {rank: w[kept[rank]] for rank, w in channels.mixing.items()},
        channels.means[kept[0]],
        products,
        renumbered[channels.invariants],
    )


def _multisets(degrees: FloatArray, order: int) -> Iterator[tuple[int, ...]]:
    """Multisets of channels by ascending degree."""
    by_degree = np.argsort(degrees, kind="stable")
    most = len(by_degree)
    while comb(most + order - 1, order) > _MOST_MULTISETS:
        most -= 1
    chosen = np.array(list(combinations_with_replacement(range(most), order)), dtype=np.int64).reshape(-1, order)
    members = by_degree[chosen]
    for row in members[np.argsort(degrees[members].sum(axis=1), kind="stable")]:
        yield tuple(map(int, row))


def _invariants_of(chosen: tuple[int, ...], ranks: list[int], products: _Products) -> list[tuple[int, int]]:
    """Independent invariants of a multiset of channels with given ranks, as pairs of tensors."""
    if len(chosen) == 2:
        return [(chosen[0], chosen[1])] if ranks[0] == ranks[1] else []
    if len(chosen) == 3:
        return [(products.index(*chosen[:2], ranks[2]), chosen[2])] if can_couple(*ranks) else []
    found = []
    for pairing, rank in _independent_quartics(tuple(ranks), tuple(map(chosen.index, chosen))):
        a, b, c, d = (chosen[k] for k in _PAIRINGS[pairing])
        found.append((products.index(a, b, rank), products.index(c, d, rank)))
    return found


@cache
def _independent_quartics(ranks: tuple[int, ...], pattern: tuple[int, ...]) -> list[tuple[int, int]]:
    """Independent scalar products of two products of four tensors: the pairings, and the ranks of the products.

    Tensors with equal numbers in the pattern are equal. Independence is that of the values for random tensors.
    """
    rng = np.random.default_rng(0)
    distinct = {k: rng.normal(size=(60, 2 * rank + 1)) for k, rank in zip(pattern, ranks, strict=True)}
    tensors = [distinct[k] for k in pattern]
    found: list[tuple[int, int]] = []
    basis: list[FloatArray] = []
    for rank in range(HIGHEST_RANK + 1):
        for number, (a, b, c, d) in enumerate(_PAIRINGS):
            if not (can_couple(ranks[a], ranks[b], rank) and can_couple(ranks[c], ranks[d], rank)):
                continue
            left = coupled(tensors[a], tensors[b], (ranks[a], ranks[b], rank))
            right = coupled(tensors[c], tensors[d], (ranks[c], ranks[d], rank))
            values = (left * right).sum(axis=1)
            values = values / np.linalg.norm(values)
            for one in basis + basis:
                values = values - one * (one @ values)
            if np.linalg.norm(values) > 1e-6:
                basis.append(values / np.linalg.norm(values))
                found.append((number, rank))
    return found
