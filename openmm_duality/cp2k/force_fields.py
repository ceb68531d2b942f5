"""Classical force fields for CP2K (FIST): pair potentials, point charges, bonds and angles, from a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from math import ceil

import numpy as np
from openmm import unit

from openmm_duality.cp2k.inputs import Method, section
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.schema import key, mapping_of, nested, quantity, text, tuple_of
from openmm_duality.units import ANGSTROM, BOHR, ELECTRONVOLT, HARTREE

_ENERGY = unit.kilojoule_per_mole
_EWALD_ALPHA = 3.5  # 1/nm at a cutoff of 1 nm; in proportion to 1/cutoff, so that both sums are equally short
_EWALD_SPACING = 0.08  # nm, at most, of the mesh


@dataclass(frozen=True)
class LennardJones:
    """4ε((σ/r)¹² − (σ/r)⁶); kJ/mol and nm. An ε of zero means no interaction."""

    epsilon: float = field(metadata=key(quantity(_ENERGY, positive=False)))
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


_CHARGES = mapping_of(quantity(positive=False), "the charge of every species")
_PAIRS = {"lennard_jones": "LENNARD-JONES", "buckingham": "WILLIAMS"}


@dataclass(frozen=True)
class Pair:
    """The potential between two species, one of `lennard_jones` and `buckingham`."""

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
    """½ k (r − r₀)²; k in kJ/mol/nm², r₀ in nm. Bonds are found by CP2K from the distances of the start."""

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
    """½ k (θ − θ₀)²; the middle species in the middle, k in kJ/mol/rad², θ₀ in degrees."""

    species: tuple[str, str, str] = field(metadata=key(tuple_of(text, 3)))
    k: float = field(metadata=key(quantity(_ENERGY)))
    angle: float = field(metadata=key(quantity()))

    def lines(self) -> list[str]:
        """A section of ``&FORCEFIELD``, in atomic units."""
        numbers = (f"K {self.k / HARTREE:.12g}", f"THETA0 [deg] {self.angle:.12g}")
        return section("BEND", f"ATOMS {' '.join(self.species)}", "KIND HARMONIC", *numbers)


@dataclass(frozen=True)
class Classical(Method):
    """Pair potentials, with Ewald sums where there are charges (FIST).

    Parameters
    ----------
    pairs : tuple of Pair
        For every two species of the system.
    charges : dict
        From species to elementary charges; all species, or none.
    bonds, angles : tuples of Bond and Angle
        Inside molecules; pair potentials leave out their atoms (up to the second neighbour along bonds).
    cutoff : float
        Of the pair potentials and of the real part of the Ewald sum, in nm.
    """

    pairs: tuple[Pair, ...] = field(metadata=key(tuple_of(nested(Pair))))
    charges: dict[str, float] = field(metadata=key(_CHARGES), default_factory=dict)
    bonds: tuple[Bond, ...] = field(metadata=key(tuple_of(nested(Bond))), default=())
    angles: tuple[Angle, ...] = field(metadata=key(tuple_of(nested(Angle))), default=())
    cutoff: float = field(metadata=key(quantity(unit.nanometer)), default=0.9)

    @property
    def bonded(self) -> bool:
        """Whether CP2K has to know which atoms are bonded."""
        return bool(self.bonds)

    def force_eval(self, species: Sequence[str], cell: FloatArray, dynamics: bool) -> list[str]:
        """The lines of the ``&FORCE_EVAL``, as `Method` defines them."""
        distinct = sorted(set(species))
        given = {tuple(sorted(pair.species)) for pair in self.pairs}
        missing = ["-".join(p) for p in combinations_with_replacement(distinct, 2) if p not in given]
        if missing:
            raise DualityError(
                f"method classical: there is no pair potential for {', '.join(missing)}; give one (an epsilon of 0 "
                "means that they do not interact)"
            )
        unknown = [name for name in distinct if self.charges and name not in self.charges]
        if unknown:
            raise DualityError(f"method classical: charges are given, but not of {', '.join(unknown)}")
        charges = {name: self.charges.get(name, 0.0) for name in distinct}
        total = sum(charges[name] for name in species)
        if abs(total) > 1e-6:
            raise DualityError(f"method classical: the charges of the cell sum to {total:.6g}, not to zero")
        lines = [
            *(line for name in distinct for line in section("CHARGE", f"ATOM {name}", f"CHARGE {charges[name]}")),
            *(line for bond in self.bonds for line in bond.lines()),
            *(line for angle in self.angles for line in angle.lines()),
            *section("NONBONDED", *(line for pair in self.pairs for line in pair.lines(self.cutoff))),
            # Hartree: the tables of the potentials reach up to it, and CP2K gives up on pairs above it. A Buckingham
            # potential falls again at short distances, so that a higher one may not exist.
            *section("SPLINE", "EMAX_SPLINE 0.5", "EPS_SPLINE 1.0E-8"),
        ]
        return [
            "METHOD FIST",
            *section("MM", *section("FORCEFIELD", *lines), *section("POISSON", *section("EWALD", *self._ewald(cell)))),
        ]

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
