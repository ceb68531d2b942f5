"""Whether the molecules of a run are still those of its start, and no two atoms have collapsed.

A broken model can keep its temperature and its g(r) for picoseconds after an atom has left its molecule or two atoms
have collapsed onto each other. So the distances themselves are checked.

A bond of the start may be exchanged for others, as by a proton that is passed on, if every atom that takes part then
has a coordination that the data of the model show. Anything else is a break, and so is a bond that forms without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain, combinations_with_replacement

import numpy as np
from scipy.special import chdtri

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.geometry.bond_tracking import certain_lengths
from openmm_duality.geometry.bonding import NONMETALS, Coordination, coordinations_of, longest_bonds
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.geometry.contacts import COLLAPSE_FRACTION, collapse_distance
from openmm_duality.geometry.molecules import bonded_pairs, component_labels, length_matrix
from openmm_duality.geometry.pairs import pairs_within
from openmm_duality.losses.model import AgentLosses

Pair = tuple[str, str]
_SHORT = 0.88  # of the length at which a bond is certain: 1.1 times the sum of the covalent radii
_RUNAWAY_PROBABILITY = 1e-12  # of a higher kinetic temperature, at a check


@dataclass(frozen=True)
class IntegrityReport:
    """Result of one check.

    Parameters
    ----------
    finite : bool
        Whether every position is a finite number; if not, nothing else could be measured.
    shortest : dict
        The shortest distance of every pair of species in nm; NaN where none is within the search radius.
    atoms_left_molecule : int
        Number of atoms cut off from the largest fragment of the molecule they started in; not by known exchanges.
    collapsed : tuple of str
        One phrase per pair of species that is too close.
    exchanged_bonds : int
        Number of bonds of the start that are exchanged for others as the data of the model show, by a hop of a proton
        or several.
    unknown_bonds : int
        Number of bonds between nonmetals that have broken or formed, alone or with others that share atoms, so that an
        atom has a coordination that these data do not show. Those to metals come and go.
    """

    finite: bool
    shortest: dict[Pair, float]
    atoms_left_molecule: int
    collapsed: tuple[str, ...] = ()
    exchanged_bonds: int = 0
    unknown_bonds: int = 0

    def failures(self, allow_broken: bool = False) -> tuple[str, ...]:
        """Every failure in a phrase; empty if there is none.

        Parameters
        ----------
        allow_broken : bool
            Whether molecules may break.
        """
        if not self.finite:
            return ("positions are not finite numbers",)
        if allow_broken or not (self.atoms_left_molecule or self.unknown_bonds):
            return self.collapsed
        if (n := self.atoms_left_molecule) > 0:
            what = f"{n} {'atom has' if n == 1 else 'atoms have'} left the molecule of the start"
        else:
            what = changed_bonds(self.unknown_bonds)
        return (*self.collapsed, f"{what} (--allow-broken permits it)")


def changed_bonds(count: int) -> str:
    """What the bonds of a molecule have done, in a phrase."""
    return f"{count} {'bond has' if count == 1 else 'bonds have'} formed or broken as the data of the model do not show"


def runaway_temperature(temperature: float, degrees_of_freedom: int) -> float:
    """The kinetic temperature in K that no system in a heat bath reaches: three times that of the bath, or more.

    Of few atoms it fluctuates widely: 2K/kT follows a χ² distribution, of which a quantile is the least limit (at 18
    degrees of freedom 5.4 times the temperature of the bath; beyond 60 it is below three times).
    """
    quantile = float(chdtri(degrees_of_freedom, _RUNAWAY_PROBABILITY))
    return max(3.0, quantile / degrees_of_freedom) * temperature


@dataclass(frozen=True)
class Limits:
    """Limits at which a run stops itself.

    Parameters
    ----------
    bond_lengths : mapping
        From pairs of bonded species to the distance in nm below which they are bonded, as
        `reference.molecules.bond_lengths` finds them.
    coordinations : set of Coordination
        What atoms are bonded to in the data of the model; without them no exchange of bonds is known.
    collapse_distances : mapping
        From pairs of species to the distance in nm below which they count as collapsed, as
        `geometry.contacts.collapse_distance` gives it. Pairs that are missing never do.
    max_temperature : float or None
        In K; None is what `runaway_temperature` says.
    allow_broken : bool
        Whether molecules may break.
    """

    bond_lengths: Mapping[Pair, float] = field(default_factory=dict)
    coordinations: Set[Coordination] = frozenset()
    collapse_distances: Mapping[Pair, float] = field(default_factory=dict)
    max_temperature: float | None = None
    allow_broken: bool = False

    @classmethod
    def of(cls, losses: AgentLosses, allow_broken: bool = False) -> Limits:
        """The bonds and shortest distances of the data that the losses were inferred from."""
        pairs = combinations_with_replacement(range(len(losses.species)), 2)
        seen = {(losses.species[a], losses.species[b]): float(losses.shortest[a, b]) for a, b in pairs}
        return cls(
            bond_lengths=dict(losses.bond_lengths),
            coordinations=losses.coordinations,
            collapse_distances={
                pair: collapse_distance(pair, distance) for pair, distance in seen.items() if not np.isnan(distance)
            },
            allow_broken=allow_broken,
        )


class Integrity:
    """Checks configurations of a run against the molecules of its start and the shortest distances allowed.

    Parameters
    ----------
    species : sequence of str, length N
        The species of every atom.
    positions : array, shape (N, 3)
        The start in nm: the molecules are those found here.
    cell : array, shape (3, 3), or None
        In nm.
    bond_lengths, collapse_distances, coordinations
        As for `Limits`; `bond_lengths` are empty where nothing is bonded.
    reach : float
        Radius of the neighbour search, in nm.

    Raises
    ------
    DualityError
        If the start is not finite, has no bond where there should be some, or a pair names an unknown species.
    """

    def __init__(
        self,
        species: Sequence[str],
        positions: FloatArray,
        cell: FloatArray | None,
        bond_lengths: Mapping[Pair, float],
        collapse_distances: Mapping[Pair, float] | None = None,
        reach: float = 0.35,
        coordinations: Set[Coordination] = frozenset(),
    ) -> None:
        if not np.isfinite(positions).all():
            raise DualityError("the start holds positions that are not finite numbers; choose another structure")
        self.species = tuple(species)
        self._distinct = tuple(sorted(set(species)))
        self._species_index = np.searchsorted(self._distinct, np.asarray(species))
        self.pairs: tuple[Pair, ...] = tuple(combinations_with_replacement(self._distinct, 2))
        present = {_ordered(pair): r for pair, r in bond_lengths.items() if set(pair) <= set(self._distinct)}
        self.bond_lengths: dict[Pair, float] = present
        self._certain = certain_lengths(present)
        _, self._below = length_matrix(self._distinct, self._certain)
        self.coordinations = coordinations
        self._covalent = np.isin(np.asarray(species), sorted(NONMETALS))
        several = {name for name, neighbours in coordinations if sum(number for _, number in neighbours) > 1}
        self._terminal = ~np.isin(np.asarray(species), sorted(several))
        self.shortest_allowed = {_ordered(pair): r for pair, r in (collapse_distances or {}).items()}
        self._reach = max(reach, *self.shortest_allowed.values(), 0.0)
        self._bonds: IntArray = bonded_pairs(positions, species, cell, present)
        self._keys = self._bonds @ [len(species), 1]
        longest = longest_bonds(present)
        known_alone = all((name, ()) in coordinations for name in chain.from_iterable(present))
        if not (len(self._bonds) or known_alone):
            raise DualityError(
                f"no two atoms of the start are bonded, by the bond lengths {_format_lengths(present)}; is it in the "
                "right unit (PDB and XYZ files are in angstrom), and the right substance?"
            )
        self._longest = np.array([longest[self._pair(i, j)] for i, j in self._bonds])
        self._molecule = component_labels(self._bonds, len(self._species_index))

    @property
    def molecules(self) -> int:
        """Number of molecules in the start; an atom without bonds is one."""
        return int(self._molecule.max()) + 1

    def check(self, positions: FloatArray, cell: FloatArray | None) -> IntegrityReport:
        """Check one configuration; the cost grows in proportion to the number of atoms.

        Parameters
        ----------
        positions : array, shape (N, 3)
            In nm, wrapped or not.
        cell : array, shape (3, 3), or None
            In nm.
        """
        if not np.isfinite(positions).all():
            return IntegrityReport(False, dict.fromkeys(self.pairs, float("nan")), 0)
        near = pairs_within(positions, cell, self._reach)
        shortest = self._shortest(*near)
        collapsed = tuple(
            f"{'–'.join(pair)} distance of {shortest[pair]:.4f} nm is below {limit:.4f} nm ({COLLAPSE_FRACTION:g} of "
            "the shortest distance in the data of the model, or where the nuclei repel with 1 eV)"
            for pair, limit in self.shortest_allowed.items()
            if shortest.get(pair, np.nan) < limit
        )
        left, exchanged, unknown = self._changes(positions, cell, near)
        return IntegrityReport(True, shortest, left, collapsed, exchanged, unknown)

    def _shortest(self, i: IntArray, j: IntArray, d: FloatArray) -> dict[Pair, float]:
        n = len(self._distinct)
        first, second = self._species_index[i], self._species_index[j]
        a, b = np.minimum(first, second), np.maximum(first, second)
        shortest = np.full((n, n), np.inf)
        np.minimum.at(shortest, (a, b), d)
        found = shortest[np.triu_indices(n)]  # in the order of the pairs
        return dict(zip(self.pairs, np.where(np.isfinite(found), found, np.nan).tolist(), strict=True))

    def _changes(
        self, positions: FloatArray, cell: FloatArray | None, near: tuple[IntArray, IntArray, FloatArray]
    ) -> tuple[int, int, int]:
        """Number of atoms that have left their molecule, and of exchanged and of unknown bonds."""
        bond = minimum_image(positions[self._bonds[:, 1]] - positions[self._bonds[:, 0]], cell)
        whole = np.linalg.norm(bond, axis=1) <= self._longest
        if whole.all() and not self._formed(*near):
            return 0, 0, 0
        n = len(self.species)
        now = bonded_pairs(positions, self.species, cell, self._certain)
        made = now[~np.isin(now @ [n, 1], self._keys)]
        made = made[~self._shared(positions, cell, whole, made)]
        known = self._known(whole, made)
        exchanged = ~whole & known[self._bonds[:, 0]]
        changed = np.concatenate([self._bonds[~whole & ~exchanged], made[~known[made[:, 0]]]])
        fragment = component_labels(self._bonds[whole | exchanged], n)
        size = np.bincount(fragment)
        largest = np.zeros(self.molecules, dtype=np.int64)
        np.maximum.at(largest, self._molecule, size[fragment])
        unknown = self._covalent[changed].all(axis=1).sum() if self.coordinations else 0
        return int(len(fragment) - largest.sum()), int(exchanged.sum()), int(unknown)

    def _shared(self, positions: FloatArray, cell: FloatArray | None, whole: BoolArray, made: IntArray) -> BoolArray:
        """Which of the bonds made are half of a shared terminal atom, as of a proton between two oxygens.

        It stays with its partner of the start as long as that bond is whole, unless both bonds are short.
        """
        pairs = np.concatenate([self._bonds[whole], made])
        lengths = np.linalg.norm(minimum_image(positions[pairs[:, 1]] - positions[pairs[:, 0]], cell), axis=1)
        a, b = self._species_index[pairs].T
        stretched, held = np.zeros((2, len(self.species)), dtype=bool)
        stretched[pairs[lengths > _SHORT * self._below[a, b]]] = True
        held[self._bonds[whole]] = True
        return np.asarray((held & stretched & self._terminal)[made].any(axis=1))

    def _formed(self, i: IntArray, j: IntArray, d: FloatArray) -> bool:
        """Whether two nonmetal atoms are certainly bonded that were not in the start."""
        close = d < self._below[self._species_index[i], self._species_index[j]]
        close &= self._covalent[i] & self._covalent[j]
        keys = np.minimum(i, j)[close] * len(self.species) + np.maximum(i, j)[close]
        return not np.isin(keys, self._keys).all()

    def _known(self, whole: BoolArray, made: IntArray) -> BoolArray:
        """The atoms, shape (N,), whose bonds change in a way that the data of the model show.

        Bonds broken and made that share atoms change together: then all of these have a coordination of the data.
        """
        n = len(self.species)
        bonds = np.concatenate([self._bonds[whole], made])
        changed = np.concatenate([self._bonds[~whole], made])
        part = component_labels(changed, n)
        known = np.zeros(n, dtype=bool)
        for label in np.unique(part[changed[:, 0]]):
            atoms = np.flatnonzero(part == label)
            known[atoms] = coordinations_of(bonds, self.species, atoms) <= self.coordinations
        return known

    def _pair(self, i: int, j: int) -> Pair:
        return _ordered((self._distinct[self._species_index[i]], self._distinct[self._species_index[j]]))


def _ordered(pair: Pair) -> Pair:
    return (min(pair), max(pair))


def _format_lengths(lengths: Mapping[Pair, float]) -> str:
    return ", ".join(f"{a}–{b} {r:.4g} nm" for (a, b), r in lengths.items())
