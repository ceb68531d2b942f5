"""Classical force fields for CP2K (FIST), from a configuration: atom types, charges, pair and bonded potentials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from math import ceil, sqrt

import numpy as np
from openmm import unit

from openmm_duality.cp2k.connectivity import neighbours_of, psf_text
from openmm_duality.cp2k.inputs import Method, section
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.bonding import BondLengths
from openmm_duality.geometry.molecules import bonded_pairs
from openmm_duality.reference.frames import Frames
from openmm_duality.schema import integer, key, mapping_of, nested, one_of, quantity, text, tuple_of
from openmm_duality.units import ANGSTROM, BOHR, ELECTRONVOLT, HARTREE

_ENERGY = unit.kilojoule_per_mole
_EWALD_ALPHA = 3.5  # 1/nm at a cutoff of 1 nm; in proportion to 1/cutoff, so that both sums are equally short
_EWALD_SPACING = 0.08  # nm, at most, of the mesh
_BONDED = 1.25  # times the length of a bond in the force field; atoms within it are bonded


@dataclass(frozen=True)
class LennardJones:
    """4ε((σ/r)¹² − (σ/r)⁶); kJ/mol and nm. An ε of zero means no interaction."""

    epsilon: float = field(metadata=key(quantity(_ENERGY, zero=True)))
    sigma: float = field(metadata=key(quantity(unit.nanometer)))

    def lines(self) -> list[str]:
        """Lines of the potential's section, in Hartree and Å."""
        return [f"EPSILON [hartree] {self.epsilon / HARTREE:.12g}", f"SIGMA [angstrom] {self.sigma / ANGSTROM:.12g}"]


@dataclass(frozen=True)
class Buckingham:
    """A exp(−B r) − C/r⁶, the form of Born–Mayer potentials; kJ/mol and nm."""

    A: float = field(metadata=key(quantity(_ENERGY)))
    B: float = field(metadata=key(quantity(unit.nanometer**-1)))
    C: float = field(metadata=key(quantity(_ENERGY * unit.nanometer**6, positive=False)), default=0.0)

    def lines(self) -> list[str]:
        """Lines of the potential's section, in eV and Å."""
        return [
            f"A [eV] {self.A / ELECTRONVOLT:.12g}",
            f"B [angstrom^-1] {self.B * ANGSTROM:.12g}",
            f"C [eV*angstrom^6] {self.C / ELECTRONVOLT / ANGSTROM**6:.12g}",
        ]


_CHARGES = mapping_of(quantity(positive=False), "the charge of every type")
_PAIRS = {"lennard_jones": "LENNARD-JONES", "buckingham": "WILLIAMS"}


@dataclass(frozen=True)
class AtomType:
    """A name for the atoms of a species that are bonded to certain others, as hydrogen to oxygen.

    Parameters
    ----------
    name : str
        Stands in the force field for these atoms. Those that no type describes are of a type with the name of their
        species.
    species : str
    bonded : tuple of str
        Species that an atom has among its neighbours; one that stands here twice must be there twice.
    """

    name: str = field(metadata=key(text))
    species: str = field(metadata=key(text))
    bonded: tuple[str, ...] = field(metadata=key(tuple_of(text, single=True)))

    def describes(self, species: str, neighbours: Sequence[str]) -> bool:
        """Whether an atom is of this type."""
        return species == self.species and not Counter(self.bonded) - Counter(neighbours)


@dataclass(frozen=True)
class Pair:
    """The potential between two types, one of `lennard_jones` and `buckingham`."""

    species: tuple[str, str] = field(metadata=key(tuple_of(text, 2)))
    lennard_jones: LennardJones | None = field(metadata=key(nested(LennardJones)), default=None)
    buckingham: Buckingham | None = field(metadata=key(nested(Buckingham)), default=None)

    def __post_init__(self) -> None:
        if (self.lennard_jones is None) == (self.buckingham is None):
            raise DualityError(f"pair {'-'.join(self.species)}: give one of {' and '.join(_PAIRS)}")

    def lines(self, cutoff: float) -> list[str]:
        """A section of ``&NONBONDED``."""
        name = "buckingham" if self.lennard_jones is None else "lennard_jones"
        range_ = f"RCUT [angstrom] {cutoff / ANGSTROM:.12g}"
        return section(_PAIRS[name], f"ATOMS {' '.join(self.species)}", *getattr(self, name).lines(), range_)


@dataclass(frozen=True)
class Bond:
    """½ k (r − r₀)²; k in kJ/mol/nm², r₀ in nm. Atoms are bonded that are closer than 1.25 r₀ in the start."""

    species: tuple[str, str] = field(metadata=key(tuple_of(text, 2)))
    k: float = field(metadata=key(quantity(_ENERGY / unit.nanometer**2)))
    length: float = field(metadata=key(quantity(unit.nanometer)))

    def lines(self) -> list[str]:
        """A section of ``&FORCEFIELD``, in atomic units."""
        constant = self.k / HARTREE * BOHR**2
        numbers = (f"K {constant:.12g}", f"R0 [angstrom] {self.length / ANGSTROM:.12g}")
        return section("BOND", f"ATOMS {' '.join(self.species)}", "KIND HARMONIC", *numbers)


@dataclass(frozen=True)
class Angle:
    """½ k (θ − θ₀)²; the middle type in the middle, k in kJ/mol/rad², θ₀ in degrees."""

    species: tuple[str, str, str] = field(metadata=key(tuple_of(text, 3)))
    k: float = field(metadata=key(quantity(_ENERGY)))
    angle: float = field(metadata=key(quantity()))

    def lines(self) -> list[str]:
        """A section of ``&FORCEFIELD``, in atomic units."""
        numbers = (f"K {self.k / HARTREE:.12g}", f"THETA0 [deg] {self.angle:.12g}")
        return section("BEND", f"ATOMS {' '.join(self.species)}", "KIND HARMONIC", *numbers)


@dataclass(frozen=True)
class Torsion:
    """k (1 + cos(mφ − φ₀)) about the bond between the middle types; k in kJ/mol, φ₀ in degrees, φ = 180° is trans."""

    species: tuple[str, str, str, str] = field(metadata=key(tuple_of(text, 4)))
    k: float = field(metadata=key(quantity(_ENERGY, positive=False)))
    multiplicity: int = field(metadata=key(integer(1)))
    phase: float = field(metadata=key(quantity(positive=False)), default=0.0)

    def lines(self) -> list[str]:
        """A section of ``&FORCEFIELD``, in atomic units."""
        numbers = (f"K {self.k / HARTREE:.12g}", f"M {self.multiplicity}", f"PHI0 [deg] {self.phase:.12g}")
        return section("TORSION", f"ATOMS {' '.join(self.species)}", "KIND CHARMM", *numbers)


@dataclass(frozen=True)
class Scale14:
    """Factors on the interactions of third neighbours along bonds: of charges, and of pair potentials."""

    charges: float = field(metadata=key(quantity(zero=True)), default=1.0)
    pairs: float = field(metadata=key(quantity(zero=True)), default=1.0)


@dataclass(frozen=True)
class Classical(Method):
    """Pair potentials, with Ewald sums where there are charges (FIST).

    The names of the force field are those of atom types, which are species unless `types` says otherwise.

    Parameters
    ----------
    pairs : tuple of Pair
        For every two types of the system, unless `lennard_jones` gives their potential.
    lennard_jones : dict
        From types to ε and σ, which `combination` combines to those of two types that are not among the pairs.
    combination : str
        ``lorentz-berthelot`` (the arithmetic mean of σ) or ``geometric``; of ε always the geometric mean.
    types : tuple of AtomType
        The first one that describes an atom counts.
    charges : dict
        From types to elementary charges; all types, or none.
    bonds, angles, torsions : tuples of Bond, Angle and Torsion
        Inside molecules; pair potentials leave out their atoms (up to the second neighbour along bonds).
    scale_14 : Scale14
    cutoff : float
        Of the pair potentials and of the real part of the Ewald sum, in nm.
    """

    pairs: tuple[Pair, ...] = field(metadata=key(tuple_of(nested(Pair))), default=())
    lennard_jones: dict[str, LennardJones] = field(
        metadata=key(mapping_of(nested(LennardJones), "epsilon and sigma of types")), default_factory=dict
    )
    combination: str = field(metadata=key(one_of("lorentz-berthelot", "geometric")), default="lorentz-berthelot")
    types: tuple[AtomType, ...] = field(metadata=key(tuple_of(nested(AtomType))), default=())
    charges: dict[str, float] = field(metadata=key(_CHARGES), default_factory=dict)
    bonds: tuple[Bond, ...] = field(metadata=key(tuple_of(nested(Bond))), default=())
    angles: tuple[Angle, ...] = field(metadata=key(tuple_of(nested(Angle))), default=())
    torsions: tuple[Torsion, ...] = field(metadata=key(tuple_of(nested(Torsion))), default=())
    scale_14: Scale14 = field(metadata=key(nested(Scale14)), default_factory=Scale14)
    cutoff: float = field(metadata=key(quantity(unit.nanometer)), default=0.9)

    def __post_init__(self) -> None:
        if not self.pairs and not self.lennard_jones:
            raise DualityError("method classical: give pairs or lennard_jones")

    def labels(self, frame: Frames) -> tuple[str, ...]:
        """The type of every atom, as `Method` defines them."""
        near = neighbours_of(self._bonds(frame), frame.n_atoms)
        around = [[frame.species[j] for j in atoms] for atoms in near]
        return tuple(
            next((one.name for one in self.types if one.describes(name, others)), name)
            for name, others in zip(frame.species, around, strict=True)
        )

    def kind(self, label: str) -> list[str]:
        """The lines of the ``&KIND`` of a type."""
        return [f"ELEMENT {self._species(label)}"]

    def connectivity(self, frame: Frames) -> str | None:
        """The bonds of the frame, as `Method` defines them."""
        return psf_text(self.labels(frame), frame.masses, self._bonds(frame)) if self.bonds else None

    def force_eval(self, labels: Sequence[str], cell: FloatArray, dynamics: bool) -> list[str]:
        """The lines of the ``&FORCE_EVAL``, as `Method` defines them."""
        distinct = sorted(set(labels))
        pairs = self._pairs(distinct)
        unknown = [name for name in distinct if self.charges and name not in self.charges]
        if unknown:
            raise DualityError(f"method classical: charges are given, but not of {', '.join(unknown)}")
        charges = {name: self.charges.get(name, 0.0) for name in distinct}
        total = sum(charges[name] for name in labels)
        if abs(total) > 1e-6:
            raise DualityError(f"method classical: the charges of the cell sum to {total:.6g}, not to zero")
        lines = [
            f"EI_SCALE14 {self.scale_14.charges}",
            f"VDW_SCALE14 {self.scale_14.pairs}",
            *(line for name in distinct for line in section("CHARGE", f"ATOM {name}", f"CHARGE {charges[name]}")),
            *(line for bond in self.bonds for line in bond.lines()),
            *(line for angle in self.angles for line in angle.lines()),
            *(line for torsion in self.torsions for line in torsion.lines()),
            *section("NONBONDED", *(line for pair in pairs for line in pair.lines(self.cutoff))),
            # Hartree: the tables of the potentials reach up to it, and CP2K gives up on pairs above it. A Buckingham
            # potential falls again at short distances, so that a higher one may not exist.
            *section("SPLINE", "EMAX_SPLINE 0.5", "EPS_SPLINE 1.0E-8"),
        ]
        return [
            "METHOD FIST",
            *section("MM", *section("FORCEFIELD", *lines), *section("POISSON", *section("EWALD", *self._ewald(cell)))),
        ]

    def _species(self, label: str) -> str:
        return next((one.species for one in self.types if one.name == label), label)

    def _bonds(self, frame: Frames) -> IntArray:
        """The bonds of a frame, shape (n_bonds, 2), of the species that have any in the force field."""
        lengths: BondLengths = {}
        for bond in self.bonds:
            first, second = sorted(map(self._species, bond.species))
            lengths[first, second] = max(lengths.get((first, second), 0.0), _BONDED * bond.length)
        return bonded_pairs(frame.positions[0], frame.species, frame.cell(0), lengths)

    def _pairs(self, distinct: Sequence[str]) -> list[Pair]:
        """The pair potentials of all types, given or combined."""
        given = {tuple(sorted(pair.species)) for pair in self.pairs}
        combined, missing = [], []
        for a, b in combinations_with_replacement(distinct, 2):
            if (a, b) in given:
                continue
            if a not in self.lennard_jones or b not in self.lennard_jones:
                missing.append(f"{a}-{b}")
                continue
            one, other = self.lennard_jones[a], self.lennard_jones[b]
            arithmetic = self.combination == "lorentz-berthelot"
            sigma = 0.5 * (one.sigma + other.sigma) if arithmetic else sqrt(one.sigma * other.sigma)
            combined.append(Pair((a, b), LennardJones(sqrt(one.epsilon * other.epsilon), sigma)))
        if missing:
            raise DualityError(
                f"method classical: there is no pair potential for {', '.join(missing)}; give one (an epsilon of 0 "
                "means that they do not interact)"
            )
        return [*self.pairs, *combined]

    def _ewald(self, cell: FloatArray) -> list[str]:
        if not any(self.charges.values()):
            return ["EWALD_TYPE NONE"]
        mesh = [ceil(length / _EWALD_SPACING) for length in np.linalg.norm(cell, axis=1)]
        return [
            "EWALD_TYPE SPME",
            f"ALPHA [angstrom^-1] {_EWALD_ALPHA / self.cutoff * ANGSTROM:.12g}",
            f"RCUT [angstrom] {self.cutoff / ANGSTROM:.12g}",
            f"GMAX {' '.join(map(str, mesh))}",
        ]
