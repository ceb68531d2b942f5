"""Methods by which CP2K computes forces, and the ``&FORCE_EVAL`` of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from openmm_duality.cp2k.force_fields import Classical
from openmm_duality.cp2k.inputs import Method, section
from openmm_duality.cp2k.own_input import NAME, OwnInput
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.schema import build, integer, key, one_of, quantity, text

_FUNCTIONALS: dict[str, tuple[list[str], str, str]] = {
    # lines of &XC_FUNCTIONAL, name among the parameters of D3, family of the pseudopotentials
    "PBE": (section("PBE"), "PBE", "GTH-PBE"),
    "revPBE": (section("PBE", "PARAMETRIZATION REVPBE"), "revPBE", "GTH-PBE"),
    "BLYP": ([*section("BECKE88"), *section("LYP")], "BLYP", "GTH-BLYP"),
}
_EWALD_ALPHA, _EWALD_POINTS = 0.5, 25.0  # in 1/bohr; points of the grid per nm, which CP2K rounds up
_DISPERSION = {"D3": "DFTD3", "D3BJ": "DFTD3(BJ)"}


@dataclass(frozen=True)
class Network(Method):
    """A committee of neural networks in the format of n2p2 (``&NNP``).

    Parameters
    ----------
    model : str
        Folder that holds ``nnp-1``, ``nnp-2`` …, one per member: absolute, or among CP2K's data. The default is
        bulk water (C. Schran, K. Brezina and O. Marsalek, J. Chem. Phys. 153, 104105 (2020)).
    members : int
        How many of them.
    """

    model: str = field(metadata=key(text), default="NNP/bulkH2O-jcp2020-cnnp")
    members: int = field(metadata=key(integer(1)), default=8)

    def force_eval(self, labels: Sequence[str], cell: FloatArray, dynamics: bool) -> list[str]:
        """The lines of the ``&FORCE_EVAL``, as `Method` defines them."""
        members = [
            line for m in range(self.members) for line in section("MODEL", f"WEIGHTS {self.model}/nnp-{m + 1}/weights")
        ]
        files = [
            f"NNP_INPUT_FILE_NAME {self.model}/nnp-1/input.nn",
            f"SCALE_FILE_NAME {self.model}/nnp-1/scaling.data",
        ]
        return ["METHOD NNP", *section("NNP", *files, *members)]


@dataclass(frozen=True)
class Dft(Method):
    """Density functional theory with Gaussians and plane waves (Quickstep), orbital transformation.

    Parameters
    ----------
    functional : str
        ``PBE``, ``revPBE`` or ``BLYP``.
    dispersion : str
        ``D3``, ``D3BJ`` or ``none``.
    basis : str
        A basis of CP2K's file ``BASIS_MOLOPT``, the same for all species.
    cutoff, relative_cutoff : float
        Of the plane waves and of the Gaussians mapped on them, in Rydberg, as CP2K counts.
    eps_scf : float
        Convergence of the self-consistent field.
    max_scf : int
        Iterations of the inner loop; the outer one has 5.
    charge, multiplicity : int
        Of the cell.
    """

    functional: str = field(metadata=key(one_of(*_FUNCTIONALS)), default="PBE")
    dispersion: str = field(metadata=key(one_of(*_DISPERSION, "none")), default="D3")
    basis: str = field(metadata=key(text), default="DZVP-MOLOPT-SR-GTH")
    cutoff: float = field(metadata=key(quantity()), default=400.0)
    relative_cutoff: float = field(metadata=key(quantity()), default=50.0)
    eps_scf: float = field(metadata=key(quantity()), default=1e-6)
    max_scf: int = field(metadata=key(integer(1)), default=30)
    charge: int = field(metadata=key(integer()), default=0)
    multiplicity: int = field(metadata=key(integer(1)), default=1)
    iterates = True

    def force_eval(self, labels: Sequence[str], cell: FloatArray, dynamics: bool) -> list[str]:
        """The lines of the ``&FORCE_EVAL``, as `Method` defines them."""
        lines, reference, _ = _FUNCTIONALS[self.functional]
        functional = section("XC_FUNCTIONAL", *lines)
        if self.dispersion != "none":
            functional += section(
                "VDW_POTENTIAL",
                "POTENTIAL_TYPE PAIR_POTENTIAL",
                *section(
                    "PAIR_POTENTIAL",
                    f"TYPE {_DISPERSION[self.dispersion]}",
                    "PARAMETER_FILE_NAME dftd3.dat",
                    f"REFERENCE_FUNCTIONAL {reference}",
                    "R_CUTOFF 12",
                ),
            )
        return [
            "METHOD Quickstep",
            *section(
                "DFT",
                "BASIS_SET_FILE_NAME BASIS_MOLOPT",
                "POTENTIAL_FILE_NAME GTH_POTENTIALS",
                *_electrons(self.charge, self.multiplicity),
                *section("MGRID", f"CUTOFF {self.cutoff}", f"REL_CUTOFF {self.relative_cutoff}"),
                *section("QS", "EPS_DEFAULT 1.0E-10", *_extrapolation(dynamics)),
                *_scf(self.eps_scf, self.max_scf, "ATOMIC", "FULL_ALL"),
                *section("XC", *functional),
            ),
        ]

    def kind(self, label: str) -> list[str]:
        """The lines of the ``&KIND`` of a species."""
        return [f"ELEMENT {label}", f"BASIS_SET {self.basis}", f"POTENTIAL {_FUNCTIONALS[self.functional][2]}"]


@dataclass(frozen=True)
class Xtb(Method):
    """Extended tight binding, GFN1-xTB (S. Grimme, C. Bannwarth and P. Shushkov, JCTC 13, 1989 (2017)).

    Parameters
    ----------
    eps_scf, max_scf, charge, multiplicity
        As for `Dft`.
    """

    eps_scf: float = field(metadata=key(quantity()), default=1e-6)
    max_scf: int = field(metadata=key(integer(1)), default=50)
    charge: int = field(metadata=key(integer()), default=0)
    multiplicity: int = field(metadata=key(integer(1)), default=1)
    iterates = True

    def force_eval(self, labels: Sequence[str], cell: FloatArray, dynamics: bool) -> list[str]:
        """The lines of the ``&FORCE_EVAL``, as `Method` defines them."""
        xtb = section("XTB", "DO_EWALD T", "CHECK_ATOMIC_CHARGES F")
        # By default CP2K takes a grid so fine that it costs more than all else. This one gives the same forces to
        # 6e-8 atomic units (8 CH3OH; a grid of 45 points instead of 25 changes them by 3e-9).
        points = np.ceil(_EWALD_POINTS * np.linalg.norm(cell, axis=1)).astype(int)
        ewald = section("EWALD", "EWALD_TYPE SPME", f"ALPHA {_EWALD_ALPHA}", f"GMAX {' '.join(map(str, points))}")
        return [
            "METHOD Quickstep",
            *section(
                "DFT",
                *_electrons(self.charge, self.multiplicity),
                *section("POISSON", *ewald),
                *section("QS", "METHOD XTB", "EPS_DEFAULT 1.0E-10", *_extrapolation(dynamics), *xtb),
                *_scf(self.eps_scf, self.max_scf, "MOPAC", "FULL_SINGLE_INVERSE"),
            ),
        ]


METHODS: dict[str, type[Network] | type[Dft] | type[Xtb] | type[Classical] | type[OwnInput]] = {
    "nnp": Network,
    "dft": Dft,
    "xtb": Xtb,
    "classical": Classical,
    NAME: OwnInput,
}


def read_method(content: Any, what: str = "method") -> Method:
    """A method from a configuration: its name, or a mapping with its name behind ``name`` and its keys.

    Raises
    ------
    DualityError
        If there is no such method, or a key is unknown, missing or out of range.
    """
    entries = {"name": content} if isinstance(content, str) else content
    if not isinstance(entries, Mapping) or entries.get("name") not in METHODS:
        raise DualityError(f"{what}: expected one of {', '.join(METHODS)}, or keys with such a 'name', got {content!r}")
    rest = {k: value for k, value in entries.items() if k != "name"}
    return build(METHODS[entries["name"]], rest, f"{what} {entries['name']}")


def _electrons(charge: int, multiplicity: int) -> list[str]:
    return [f"CHARGE {charge}", f"MULTIPLICITY {multiplicity}", *(["UKS T"] if multiplicity > 1 else [])]


def _extrapolation(dynamics: bool) -> list[str]:
    # Single points are no trajectory, so nothing beyond the last wave function can be extrapolated.
    return ["EXTRAPOLATION ASPC", "EXTRAPOLATION_ORDER 3"] if dynamics else ["EXTRAPOLATION USE_PREV_WF"]


def _scf(eps: float, steps: int, guess: str, preconditioner: str) -> list[str]:
    return section(
        "SCF",
        f"EPS_SCF {eps}",
        f"MAX_SCF {steps}",
        f"SCF_GUESS {guess}",
        *section("OT", "MINIMIZER DIIS", f"PRECONDITIONER {preconditioner}", "ENERGY_GAP 0.05"),
        *section("OUTER_SCF", f"EPS_SCF {eps}", "MAX_SCF 5"),
        *section("PRINT", *section("RESTART OFF")),
    )
