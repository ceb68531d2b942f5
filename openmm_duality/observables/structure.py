"""Radial distribution functions, bond lengths and angles, per contiguous block of time, in one pass over the frames.

Nothing here knows a molecule by name: bonds are the ones that the reference's own bond lengths find in the first
frame. Index suffixes: t frame, i j atoms, b block, k bin, s pair of species.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement

import numpy as np
from tqdm import tqdm

from openmm_duality.observables.statistics import Estimate, block_of, estimate
from openmm_duality.observables.trajectory import Chunk, Trajectory, counts, species_codes
from openmm_duality.reference.cells import minimum_image, volume
from openmm_duality.reference.frames import FloatArray, IntArray

RDF_BIN = 0.002  # nm
LENGTH_BINS = np.linspace(0.0, 0.4, 801)  # nm
ANGLE_BINS = np.linspace(0.0, 180.0, 181)  # degrees


@dataclass(frozen=True)
class Curve:
    """A curve measured in every block.

    Parameters
    ----------
    centres : array, shape (K,)
        Middles of the bins, in nm or degrees.
    blocks : array, shape (n_blocks, K)
        The curve of every block.
    """

    centres: FloatArray
    blocks: FloatArray

    @property
    def mean(self) -> FloatArray:
        """Mean over the blocks, shape (K,)."""
        return np.asarray(self.blocks.mean(axis=0))


@dataclass(frozen=True)
class Distribution(Curve):
    """A normalised distribution, with its mean and standard deviation in every block, shapes (n_blocks,)."""

    block_means: FloatArray
    block_spreads: FloatArray

    @property
    def average(self) -> Estimate:
        """The mean of the distribution with its error."""
        return estimate(self.block_means)

    @property
    def spread(self) -> Estimate:
        """The standard deviation of the distribution with its error."""
        return estimate(self.block_spreads)


@dataclass(frozen=True)
class Bonds:
    """Bonds, bonded triples and molecules of one composition, as found in one frame.

    Parameters
    ----------
    pairs : array of int, shape (P, 2)
        Bonded atoms.
    triples : array of int, shape (A, 3)
        Two neighbours of a central atom, which stands in the middle.
    molecule : array of int, shape (N,)
        The molecule of every atom; atoms without bonds are molecules of their own.
    """

    pairs: IntArray
    triples: IntArray
    molecule: IntArray

    @staticmethod
    def of(n_atoms: int, pairs: IntArray, molecules: list[IntArray]) -> Bonds:
        """The triples and molecule numbers that follow from bonded pairs and the atoms of every molecule."""
        neighbours: dict[int, list[int]] = {}
        for i, j in pairs.tolist():
            neighbours.setdefault(i, []).append(j)
            neighbours.setdefault(j, []).append(i)
        triples = [(a, centre, b) for centre, around in neighbours.items() for a, b in combinations(sorted(around), 2)]
        molecule = np.full(n_atoms, -1, dtype=np.int64)
        for number, atoms in enumerate(molecules):
            molecule[atoms] = number
        return Bonds(pairs, np.array(triples, dtype=np.int64).reshape(-1, 3), molecule)


@dataclass(frozen=True)
class Structure:
    """What one pass over a trajectory gives. Keys name species, as "H-O" and "H-O-H".

    Parameters
    ----------
    rdf : dict of str to Curve
        g(r) of every pair of species between different molecules; empty without a cell.
    rdf_whole : dict of str to Curve
        The same with the pairs inside a molecule.
    shortest : dict of str to float
        The shortest distance of every pair of species in nm, where one is below `r_max`.
    lengths, angles : dict of str to Distribution
        Of the bonds and bonded triples, in nm and degrees.
    """

    rdf: dict[str, Curve]
    rdf_whole: dict[str, Curve]
    shortest: dict[str, float]
    lengths: dict[str, Distribution]
    angles: dict[str, Distribution]


def measure(trajectory: Trajectory, bonds: Bonds, n_blocks: int, r_max: float | None, *, progress: bool) -> Structure:
    """Structure of a trajectory in contiguous blocks, streamed: memory does not grow with the number of frames.

    Parameters
    ----------
    trajectory : Trajectory
        Wrapped or unwrapped.
    bonds : Bonds
        Whose lengths and angles to follow.
    n_blocks : int
        Number of blocks of equal length.
    r_max : float or None
        Up to where g(r) is counted in nm, at most half the shortest width of the cell; None for no g(r).
    progress : bool
        Whether to show a progress bar.
    """
    species = trajectory.species
    rdf = None if r_max is None else _PairCounts(species, bonds.molecule, n_blocks, r_max)
    lengths = _Histogram(_labels(species, bonds.pairs), LENGTH_BINS, n_blocks)
    angles = _Histogram(_labels(species, bonds.triples), ANGLE_BINS, n_blocks)
    block = block_of(len(trajectory), n_blocks)
    done = 0
    hidden = None if progress else True
    with tqdm(total=len(trajectory), desc=trajectory.name, unit="frame", disable=hidden, delay=1) as bar:
        for chunk in trajectory:
            for t in range(len(chunk)):
                b, positions, cell = int(block[done + t]), chunk.positions[t], chunk.cell(t)
                lengths.add(b, _distances(positions, cell, bonds.pairs))
                angles.add(b, _angles(positions, cell, bonds.triples))
                if rdf is not None:
                    rdf.add(b, positions, _needed_cell(chunk, t))
            done += len(chunk)
            bar.update(len(chunk))
    if rdf is None:
        return Structure({}, {}, {}, lengths.distributions(), angles.distributions())
    whole, between = rdf.curves(np.bincount(block, minlength=n_blocks))
    return Structure(between, whole, rdf.shortest(), lengths.distributions(), angles.distributions())


class _PairCounts:
    """Histogram of the distances of all pairs of atoms, by block and pair of species."""

    def __init__(self, species: tuple[str, ...], molecule: IntArray, n_blocks: int, r_max: float) -> None:
        import vesin  # imports torch where it is installed, which importing this package must not

        number = counts(species)
        kinds = list(number)
        self.names = [f"{a}-{b}" for a, b in combinations_with_replacement(kinds, 2)]
        self.code = species_codes(species)
        self.molecule = molecule
        self.pair = np.zeros((len(kinds), len(kinds)), dtype=np.int64)
        self.pairs_of = np.zeros(len(self.names))
        for s, (a, b) in enumerate(combinations_with_replacement(range(len(kinds)), 2)):
            self.pair[a, b] = self.pair[b, a] = s
            n_a, n_b = number[kinds[a]], number[kinds[b]]
            self.pairs_of[s] = n_a * n_b if a != b else n_a * (n_a - 1) / 2
        self.n_bins = max(1, int(r_max / RDF_BIN + 1e-9))
        self.edges = np.arange(self.n_bins + 1) * RDF_BIN
        self.neighbours = vesin.NeighborList(cutoff=float(self.edges[-1]), full_list=False)
        shape = (n_blocks, len(self.names), self.n_bins)
        self.counts = {"whole": np.zeros(shape), "between": np.zeros(shape)}
        self.closest = np.full(len(self.names), np.inf)

    def add(self, b: int, positions: FloatArray, cell: FloatArray) -> None:
        i, j, r = self.neighbours.compute(points=positions, box=cell, periodic=True, quantities="ijd")
        s = self.pair[self.code[i], self.code[j]]
        np.minimum.at(self.closest, s, r)
        at = s * self.n_bins + np.minimum((r / RDF_BIN).astype(int), self.n_bins - 1)
        between = self.molecule[i] != self.molecule[j]
        size, shape = len(self.names) * self.n_bins, (len(self.names), self.n_bins)
        v = volume(cell)
        self.counts["whole"][b] += v * np.bincount(at, minlength=size).reshape(shape)
        self.counts["between"][b] += v * np.bincount(at[between], minlength=size).reshape(shape)

    def shortest(self) -> dict[str, float]:
        return {name: float(r) for name, r in zip(self.names, self.closest, strict=True) if np.isfinite(r)}

    def curves(self, frames_in: IntArray) -> tuple[dict[str, Curve], dict[str, Curve]]:
        shells = 4 / 3 * np.pi * np.diff(self.edges**3)
        centres = 0.5 * (self.edges[1:] + self.edges[:-1])
        present = [(s, name) for s, name in enumerate(self.names) if self.pairs_of[s] > 0]
        whole, between = (
            {
                name: Curve(centres, self.counts[part][:, s] / (frames_in[:, None] * self.pairs_of[s] * shells))
                for s, name in present
            }
            for part in ("whole", "between")
        )
        return whole, between


class _Histogram:
    """Histogram and moments of one number per item and frame, by block and label of the item."""

    def __init__(self, labels: list[str], edges: FloatArray, n_blocks: int) -> None:
        names, self.label = np.unique(np.array(labels, dtype=str), return_inverse=True)
        self.names = [str(name) for name in names]
        self.edges = edges
        self.counts = np.zeros((n_blocks, len(names), len(edges) - 1))
        self.sums = np.zeros((n_blocks, len(names), 3))  # number, sum, sum of squares

    def add(self, b: int, values: FloatArray) -> None:
        if not self.names:
            return
        n_bins = len(self.edges) - 1
        width = self.edges[1] - self.edges[0]
        k = np.floor((values - self.edges[0]) / width).astype(int)
        inside = (k >= 0) & (k < n_bins)  # the moments hold the rest too, so a broken bond is not lost
        at = self.label[inside] * n_bins + k[inside]
        self.counts[b] += np.bincount(at, minlength=len(self.names) * n_bins).reshape(-1, n_bins)
        for power in range(3):
            self.sums[b, :, power] += np.bincount(self.label, weights=values**power, minlength=len(self.names))

    def distributions(self) -> dict[str, Distribution]:
        centres = 0.5 * (self.edges[1:] + self.edges[:-1])
        number = self.sums[:, :, 0]
        means = self.sums[:, :, 1] / number
        spreads = np.sqrt(np.maximum(self.sums[:, :, 2] / number - means**2, 0))
        density = self.counts / number[:, :, None] / np.diff(self.edges)
        return {
            name: Distribution(centres, density[:, s], means[:, s], spreads[:, s]) for s, name in enumerate(self.names)
        }


def _labels(species: tuple[str, ...], items: IntArray) -> list[str]:
    """Species of bonded items, read from the end that comes first in the alphabet."""
    named = np.array(species, dtype=object)[items]
    return ["-".join(min(tuple(row), tuple(row[::-1]))) for row in named]


def _needed_cell(chunk: Chunk, t: int) -> FloatArray:
    cell = chunk.cell(t)
    if cell is None:
        raise ValueError("g(r) asked of frames without a cell")
    return cell


def _distances(positions: FloatArray, cell: FloatArray | None, pairs: IntArray) -> FloatArray:
    apart = minimum_image(positions[pairs[:, 1]] - positions[pairs[:, 0]], cell)
    return np.asarray(np.linalg.norm(apart, axis=1))


def _angles(positions: FloatArray, cell: FloatArray | None, triples: IntArray) -> FloatArray:
    """Angles at the middle atom in degrees, by atan2, which is exact for straight ones too."""
    u, v = (minimum_image(positions[triples[:, end]] - positions[triples[:, 1]], cell) for end in (0, 2))
    across = np.linalg.norm(np.cross(u, v), axis=1)
    return np.asarray(np.degrees(np.arctan2(across, np.einsum("ax,ax->a", u, v))))
