"""Distorted frames, made from those of dynamics, to be labelled where a trajectory at one temperature does not reach.

Molecules are those found in the data; where there are none, as in argon, every atom is one. Index suffixes: i atom,
m molecule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from openmm import unit
from scipy.sparse import coo_matrix, csgraph
from scipy.spatial.transform import Rotation

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.bonding import BondLengths
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.geometry.molecules import bonded_pairs, component_labels, make_whole
from openmm_duality.geometry.pairs import pairs_within
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.molecules import bond_lengths
from openmm_duality.schema import integer, interval, key, nested, quantity, text, tuple_of

_ATTEMPTS = 100
_PER_FRAME = 10  # attempts with a frame before another is drawn


@dataclass
class _Body:
    """A configuration to be distorted, molecules unwrapped; `molecule` is the index of every atom's molecule."""

    positions: FloatArray
    cell: FloatArray
    species: tuple[str, ...]
    masses: FloatArray
    bonds: IntArray
    molecule: IntArray

    def centres(self) -> FloatArray:
        """The centre of mass of every molecule, shape (M, 3) in nm."""
        weights = np.bincount(self.molecule, self.masses)
        sums = [np.bincount(self.molecule, self.masses * x) for x in self.positions.T]
        return np.asarray(np.stack(sums, axis=1) / weights[:, None])

    def side(self, fixed: int, moved: int) -> IntArray:
        """The atoms on the `moved` side of a bond, none if the bond is in a ring."""
        a, b = self.bonds.T
        rest = self.bonds[~(((a == fixed) & (b == moved)) | ((a == moved) & (b == fixed)))]
        n = len(self.positions)
        graph = coo_matrix((np.ones(len(rest)), rest.T.reshape(2, -1)), shape=(n, n))
        atoms = csgraph.breadth_first_order(graph.tocsr(), moved, directed=False, return_predecessors=False)
        return np.empty(0, dtype=np.int64) if fixed in atoms else np.asarray(atoms, dtype=np.int64)


@dataclass(frozen=True)
class Displaced:
    """Every atom displaced at random; `size` is the standard deviation per component in nm."""

    size: float = field(metadata=key(quantity(unit.nanometer)))

    def move(self, body: _Body, rng: np.random.Generator) -> None:
        """Distort the configuration in place."""
        body.positions += rng.normal(scale=self.size, size=body.positions.shape)


@dataclass(frozen=True)
class Stretched:
    """Bonds stretched or compressed, the smaller side of each moved along it.

    Parameters
    ----------
    factor : two floats
        Range of the factor on the length, drawn uniformly.
    molecules : int
        Number of molecules of a frame in which one bond is changed.
    bond : two species
        Which bonds; all by default.
    """

    factor: tuple[float, float] = field(metadata=key(interval()))
    molecules: int = field(metadata=key(integer(1)))
    bond: tuple[str, str] | None = field(metadata=key(tuple_of(text, 2)), default=None)

    def move(self, body: _Body, rng: np.random.Generator) -> None:
        """Distort the configuration in place."""
        chosen = body.bonds
        if self.bond is not None:
            names = np.sort(np.array(body.species)[chosen], axis=1)
            chosen = chosen[(names == sorted(self.bond)).all(axis=1)]
        for a, b in _one_per_molecule(chosen, body, self.molecules, rng, "stretched", "bonds"):
            sides = [(fixed, moved, body.side(fixed, moved)) for fixed, moved in ((a, b), (b, a))]
            fixed, moved, atoms = min(sides, key=lambda side: len(side[2]))
            vector = body.positions[moved] - body.positions[fixed]
            body.positions[atoms] += (rng.uniform(*self.factor) - 1.0) * vector


@dataclass(frozen=True)
class Bent:
    """Angles between two bonds of an atom changed by up to `angle` degrees, one in each of `molecules` molecules."""

    angle: float = field(metadata=key(quantity()))
    molecules: int = field(metadata=key(integer(1)))

    def move(self, body: _Body, rng: np.random.Generator) -> None:
        """Distort the configuration in place."""
        ways = np.concatenate([body.bonds, body.bonds[:, ::-1]])
        ends = {b: ways[ways[:, 0] == b, 1] for b in np.flatnonzero(np.bincount(ways[:, 0]) > 1).tolist()}
        corners = np.array([(b, *rng.permutation(others)[:2]) for b, others in ends.items()]).reshape(-1, 3)
        for b, a, c in _one_per_molecule(corners, body, self.molecules, rng, "bent", "angles"):
            arm, other = body.positions[a] - body.positions[b], body.positions[c] - body.positions[b]
            normal = np.cross(arm, other)
            if np.linalg.norm(normal) < 1e-3 * np.linalg.norm(arm) * np.linalg.norm(other):
                normal = np.cross(arm, rng.normal(size=3))  # a straight angle bends in any plane
            turn = np.radians(rng.uniform(-self.angle, self.angle)) * normal / np.linalg.norm(normal)
            _rotate(body, body.side(b, a), body.positions[b].copy(), turn)


@dataclass(frozen=True)
class Rotated:
    """Molecules rotated about their centres of mass, by up to `angle` degrees about random axes."""

    molecules: int = field(metadata=key(integer(1)))
    angle: float = field(metadata=key(quantity()), default=180.0)

    def move(self, body: _Body, rng: np.random.Generator) -> None:
        """Distort the configuration in place."""
        larger = np.flatnonzero(np.bincount(body.molecule) > 1)
        _check("rotated", "molecules of several atoms", len(larger), self.molecules)
        centres = body.centres()
        for m in rng.permutation(larger)[: self.molecules]:
            axis = rng.normal(size=3)
            turn = np.radians(rng.uniform(0.0, self.angle)) * axis / np.linalg.norm(axis)
            _rotate(body, np.flatnonzero(body.molecule == m), centres[m], turn)


@dataclass(frozen=True)
class Pushed:
    """Pairs of neighbouring molecules moved towards each other, each by half the distance.

    Parameters
    ----------
    between : two species
        The pair of atoms whose distance is set.
    distance : two floats
        Range of that distance in nm, drawn uniformly; molecules that are closer already stay.
    pairs : int
        Number of pairs of a frame.
    """

    between: tuple[str, str] = field(metadata=key(tuple_of(text, 2)))
    distance: tuple[float, float] = field(metadata=key(interval(unit.nanometer)))
    pairs: int = field(metadata=key(integer(1)))

    def move(self, body: _Body, rng: np.random.Generator) -> None:
        """Distort the configuration in place."""
        species = np.array(body.species)
        first, second = (np.flatnonzero(species == name) for name in self.between)
        _check("pushed", f"atoms of {self.between[0]}", len(first), 1)
        done: set[int] = set()
        for i in rng.permutation(first):
            others = second[(body.molecule[second] != body.molecule[i]) & ~np.isin(body.molecule[second], list(done))]
            if body.molecule[i] in done or not len(others):
                continue
            vectors = minimum_image(body.positions[others] - body.positions[i], body.cell)
            j = int(np.argmin(np.linalg.norm(vectors, axis=1)))
            length = float(np.linalg.norm(vectors[j]))
            way = 0.5 * max(length - rng.uniform(*self.distance), 0.0) * vectors[j] / length
            body.positions[body.molecule == body.molecule[i]] += way
            body.positions[body.molecule == body.molecule[others[j]]] -= way
            done |= {int(body.molecule[i]), int(body.molecule[others[j]])}
            if len(done) == 2 * self.pairs:
                return
        _check("pushed", "pairs of molecules", len(done) // 2, self.pairs)


@dataclass(frozen=True)
class Scaled:
    """The cell scaled by a factor, molecules moved but not stretched."""

    factor: float = field(metadata=key(quantity()))

    def move(self, body: _Body, rng: np.random.Generator) -> None:
        """Distort the configuration in place."""
        body.positions += (self.factor - 1.0) * body.centres()[body.molecule]
        body.cell = self.factor * body.cell


_MOVES = ("stretched", "bent", "rotated", "pushed", "displaced", "scaled")


@dataclass(frozen=True)
class Distortion:
    """A number of frames, each distorted by the moves that are given, in the order of this list.

    Parameters
    ----------
    frames : int
        Number of frames.
    stretched, bent, rotated, pushed, displaced, scaled
        The moves.
    closest : float
        Least distance in nm between atoms of different molecules; a frame with a shorter one is drawn again.
    """

    frames: int = field(metadata=key(integer(1)))
    stretched: Stretched | None = field(metadata=key(nested(Stretched)), default=None)
    bent: Bent | None = field(metadata=key(nested(Bent)), default=None)
    rotated: Rotated | None = field(metadata=key(nested(Rotated)), default=None)
    pushed: Pushed | None = field(metadata=key(nested(Pushed)), default=None)
    displaced: Displaced | None = field(metadata=key(nested(Displaced)), default=None)
    scaled: Scaled | None = field(metadata=key(nested(Scaled)), default=None)
    closest: float = field(metadata=key(quantity(unit.nanometer)), default=0.08)

    def __post_init__(self) -> None:
        if not self.moves:
            raise DualityError(f"distort: every entry needs a move: {', '.join(_MOVES)}")

    @property
    def moves(self) -> list[tuple[str, Stretched | Bent | Rotated | Pushed | Displaced | Scaled]]:
        """The moves that are given, by name."""
        return [(name, getattr(self, name)) for name in _MOVES if getattr(self, name) is not None]


def distort(frames: Frames, recipe: Sequence[Distortion], seed: int) -> tuple[Frames, list[str]]:
    """Distorted frames in random order, so that any part of them shows every move.

    Parameters
    ----------
    frames : Frames
        Undistorted ones, with cells; each distorted frame is made from one of them, chosen at random, its number in
        `steps`.
    recipe : sequence of Distortion
    seed : int

    Returns
    -------
    tuple
        The frames, and the names of the moves of each.

    Raises
    ------
    DualityError
        If a move finds nothing to move, or atoms always come too close.
    """
    if frames.cells is None:
        raise DualityError("distort: the frames have no cell, and molecules are to be moved in one")
    rng = np.random.default_rng(seed)
    lengths = bond_lengths(frames)
    wanted = [entry for entry in recipe for _ in range(entry.frames)]
    pool = np.concatenate([rng.permutation(len(frames)) for _ in range(len(wanted) // len(frames) + 1)])
    order = rng.permutation(len(wanted))
    made, steps = zip(*(_distorted(frames, int(pool[n]), wanted[n], lengths, rng) for n in order), strict=True)
    return Frames(
        species=frames.species,
        masses=frames.masses,
        positions=np.array([body.positions for body in made]),
        times=np.zeros(len(made)),
        steps=np.array(steps),
        cells=np.array([body.cell for body in made]),
        source=frames.source,
    ), ["+".join(name for name, _ in wanted[n].moves) for n in order]


def _distorted(
    frames: Frames, t: int, entry: Distortion, lengths: BondLengths, rng: np.random.Generator
) -> tuple[_Body, int]:
    """A distorted frame and the number of the frame it is made from: t, or another where that leaves no room."""
    for _ in range(_ATTEMPTS // _PER_FRAME):
        undistorted = _body(frames, t, lengths)
        for _ in range(_PER_FRAME):
            body = replace(undistorted, positions=undistorted.positions.copy())
            for _, move in entry.moves:
                move.move(body, rng)
            i, j, _d = pairs_within(body.positions, body.cell, entry.closest)
            if not (body.molecule[i] != body.molecule[j]).any():
                return body, t
        t = int(rng.integers(len(frames)))
    raise DualityError(
        f"distort: in {_ATTEMPTS} attempts with {', '.join(name for name, _ in entry.moves)}, atoms of different "
        f"molecules always came closer than {entry.closest:g} nm; make the moves smaller, or 'closest'"
    )


def _body(frames: Frames, t: int, lengths: BondLengths) -> _Body:
    """Frame t, not yet distorted."""
    assert frames.cells is not None
    cell = frames.cells[t]
    bonds = bonded_pairs(frames.positions[t], frames.species, cell, lengths)
    unwrapped = make_whole(frames.positions[t], bonds, cell)
    return _Body(unwrapped, cell, frames.species, frames.masses, bonds, component_labels(bonds, frames.n_atoms))


def _rotate(body: _Body, atoms: IntArray, centre: FloatArray, turn: FloatArray) -> None:
    body.positions[atoms] = centre + Rotation.from_rotvec(turn).apply(body.positions[atoms] - centre)


def _one_per_molecule(
    rows: IntArray, body: _Body, number: int, rng: np.random.Generator, move: str, what: str
) -> list[list[int]]:
    """Rows of atoms (a bond, an angle) drawn at most once per molecule; those in a ring are left out."""
    drawn: list[list[int]] = []
    used: set[int] = set()
    for row in rng.permutation(rows).tolist():
        m = int(body.molecule[row[0]])
        if m not in used and len(body.side(row[0], row[1])):
            drawn.append(row)
            used.add(m)
            if len(drawn) == number:
                return drawn
    _check(move, f"molecules with {what} that can be changed", len(drawn), number)
    return drawn


def _check(move: str, what: str, found: int, wanted: int) -> None:
    if found < wanted:
        raise DualityError(f"distort: {move} needs {wanted} {what}, and the frames have {found}")
