"""The agent losses of a set of species: what inference finds and every back end runs.

Index suffixes: A species of the agent, B of the neighbour, n radial function, a = (B, n) moment, l rank.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from openmm_duality.container import read_container, write_container
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.invariants.contractions import count
from openmm_duality.invariants.radial import Grid, RadialBasis, level_off
from openmm_duality.losses.committee import Committee
from openmm_duality.losses.domain import Domain
from openmm_duality.losses.forms import Form, check_gradient, form_of

_KIND = "openmm_duality losses 2"
_OUTDATED = {
    "openmm_duality losses 1": "this model file is of version 0.1, which is no longer read; infer it anew from the "
    "configuration that lies beside it: openmm-duality infer MODEL.yaml -o MODEL.safetensors"
}
_CORE_FLOOR = 0.01  # nm below which the core is held constant, so that it stays finite


@dataclass(frozen=True)
class AgentLosses:
    """H_A(φ) for every species A, with the gradient by which agents descend them.

    H_A = Σ_B Σ_n u_ABn ρ_Bn + ½ Σ_l Σ_ab W^l_Aab M^l_a·M^l_b + ½ Σ_pq C_Apq φ_p φ_q, and below the shortest distance
    seen a repulsive core. The invariants φ are those of the coarse functions (`invariants.contractions`).

    Parameters
    ----------
    species : tuple of str, length S
        In alphabetical order; their index is A and B.
    masses : array, shape (S,)
        In dalton.
    form : Form
    gradient : str
        ``agent`` (own loss, the others held still) or ``collective`` (the sum of all losses).
    pair_basis : RadialBasis
        n_p functions of the pair part.
    basis : RadialBasis
        n functions of the contracted moments.
    coarse : RadialBasis
        n_c functions of the coupled invariants; none for a form without coupling.
    pair_coefficients : array, shape (S, S, n_p)
        u_ABn in kJ/mol.
    weights : mapping of int to array, shape (S, S·n, S·n)
        W^l_A in kJ/mol, symmetric in its last two axes, by rank l.
    couplings : array, shape (S, Q, Q)
        C_A in kJ/mol, symmetric, of the Q invariants φ.
    shortest : array, shape (S, S)
        Shortest distance seen in the data, in nm; NaN for a pair of species never seen within the cutoff.
    core_strength : array, shape (S, S)
        ε_AB in kJ/mol.
    committee : Committee or None
        Refits to other stretches of the data, whose spread says how far to trust a force.
    domain : Domain or None
        What the data held; it tells local environments outside the training distribution.
    bond_lengths : mapping of (species, species) to float
        Longest bonded distance in nm of each bonded pair of species in the data.
    equations : mapping of str to array
        Normal equations kept for updates, if any.
    metadata : mapping
        Provenance, gauge, regularisation and the errors measured at inference.
    """

    species: tuple[str, ...]
    masses: FloatArray
    form: Form
    gradient: str
    pair_basis: RadialBasis
    basis: RadialBasis
    coarse: RadialBasis
    pair_coefficients: FloatArray
    weights: Mapping[int, FloatArray]
    couplings: FloatArray
    shortest: FloatArray
    core_strength: FloatArray
    committee: Committee | None = None
    domain: Domain | None = None
    bond_lengths: Mapping[tuple[str, str], float] = field(default_factory=dict)
    equations: Mapping[str, FloatArray] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cutoff(self) -> float:
        """In nm."""
        return self.pair_basis.grid.cutoff

    @property
    def grid(self) -> Grid:
        """The grid of every radial function."""
        return self.pair_basis.grid

    def members(self) -> list[AgentLosses]:
        """The losses with the coefficients of every member of the committee in turn; none without a committee."""
        committee = self.committee
        if committee is None:
            return []
        return [
            replace(
                self,
                pair_coefficients=committee.pair_coefficients[k],
                weights={rank: w[k] for rank, w in committee.weights.items()},
                couplings=committee.couplings[k],
                committee=None,
                equations={},
            )
            for k in range(committee.size)
        ]

    @cached_property
    def moment_basis(self) -> RadialBasis:
        """The functions of `basis`, then those of `coarse`."""
        return RadialBasis(self.grid, np.concatenate([self.basis.coefficients, self.coarse.coefficients], axis=2))

    @cached_property
    def pair_potentials(self) -> RadialBasis:
        """V_AB(r) = Σ_n u_ABn f_n(r) + core, one function in kJ/mol for every *ordered* pair of species."""
        inferred = np.einsum("abn,abnk->abk", self.pair_coefficients, self.pair_basis.coefficients)
        return RadialBasis(self.grid, (inferred + self._cores)[:, :, None, :])

    @property
    def _cores(self) -> FloatArray:
        # ε (r_c/r − 1)³ below an onset r_c; its splines reach one interval further out, so it begins one earlier
        grid = self.grid
        onsets = core_onsets(self.shortest, grid)
        onset = np.array([[grid.below(d) - 1 for d in row] for row in onsets])[..., None] * grid.spacing
        r = np.maximum(grid.centres, _CORE_FLOOR)
        x = np.clip(onset / r - 1.0, 0.0, None)
        curvature = np.where(grid.centres > _CORE_FLOOR, 6.0 * x * (onset / r**2) ** 2 + 6.0 * x**2 * onset / r**3, 0.0)
        return np.asarray(self.core_strength[..., None] * grid.coefficients(x**3, curvature))

    def index_of(self, species: Sequence[str]) -> IntArray:
        """Species index of every atom, shape (N,).

        Raises
        ------
        DualityError
            If a species is not among those of the model.
        """
        known = {name: a for a, name in enumerate(self.species)}
        unknown = sorted(set(species) - set(known))
        if unknown:
            raise DualityError(
                f"the model knows the species {', '.join(self.species)}, and the data hold {', '.join(unknown)} too; "
                "infer a model from data that have every species, or choose other data"
            )
        return np.array([known[name] for name in species], dtype=np.int64)

    def sha256(self) -> str:
        """SHA-256 of what the model computes, its one identity.

        That is its species, masses, form, gradient, cutoff, bases, coefficients and core; not committee, domain, stored
        equations and metadata.
        """
        words = (self.species, self.form, self.gradient, self.cutoff, sorted(self.weights))
        digest = hashlib.sha256(repr(words).encode())
        bases = [basis.coefficients for basis in (self.pair_basis, self.basis, self.coarse)]
        coefficients = [self.pair_coefficients, *(self.weights[rank] for rank in sorted(self.weights)), self.couplings]
        for array in (self.masses, *bases, *coefficients, self.shortest, self.core_strength):
            digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the model file: one safetensors file of arrays and a JSON header.

        Raises
        ------
        DualityError
            If the file exists and `overwrite` is not set.
        """
        arrays = {
            "masses": self.masses,
            "pair_basis": self.pair_basis.coefficients,
            "basis": self.basis.coefficients,
            "coarse": self.coarse.coefficients,
            "couplings": self.couplings,
            "pair_coefficients": self.pair_coefficients,
            "shortest": self.shortest,
            "core_strength": self.core_strength,
        }
        arrays |= {f"weights_{rank}": w for rank, w in self.weights.items()}
        parts = {"equations": self.equations}
        parts["committee"] = {} if self.committee is None else self.committee.to_arrays()
        parts["domain"] = {} if self.domain is None else self.domain.to_arrays()
        arrays |= {f"{part}/{name}": array for part, of_part in parts.items() for name, array in of_part.items()}
        header = {
            "species": self.species,
            "form": self.form.name,
            "ranks": self.form.ranks,
            "coupled_ranks": self.form.coupled,
            "gradient": self.gradient,
            "cutoff": self.cutoff,
            "bond_lengths": [[a, b, length] for (a, b), length in self.bond_lengths.items()],
            "metadata": self.metadata,
        }
        write_container(path, _KIND, arrays, header, overwrite)

    @classmethod
    def load(cls, path: str | Path) -> AgentLosses:
        """Read a model file; nothing in it is run.

        Raises
        ------
        DualityError
            If it is not a model file, is cut short, or its arrays do not fit each other.
        """
        arrays, header = read_container(path, _KIND, _OUTDATED)
        try:
            form = form_of(header["form"], header.get("ranks"), header.get("coupled_ranks"))
            _check_arrays(arrays, len(tuple(header["species"])), form)
            grid = Grid(float(header["cutoff"]), arrays["pair_basis"].shape[-1] - 3)
            equations, committee, domain = (_part(arrays, name) for name in ("equations", "committee", "domain"))
            return cls(
                species=tuple(header["species"]),
                masses=arrays["masses"],
                form=form,
                gradient=check_gradient(header["gradient"]),
                pair_basis=RadialBasis(grid, arrays["pair_basis"]),
                basis=RadialBasis(grid, arrays["basis"]),
                coarse=RadialBasis(grid, arrays["coarse"]),
                couplings=arrays["couplings"],
                pair_coefficients=arrays["pair_coefficients"],
                weights={rank: arrays[f"weights_{rank}"] for rank in form.ranks},
                shortest=arrays["shortest"],
                core_strength=arrays["core_strength"],
                committee=Committee.from_arrays(committee, _shapes(arrays, form)) if committee else None,
                domain=Domain.from_arrays(domain, len(header["species"]), grid.intervals) if domain else None,
                equations=equations,
                bond_lengths={(a, b): length for a, b, length in header["bond_lengths"]},
                metadata=header["metadata"],
            )
        except KeyError as missing:
            raise DualityError(f"{path}: the model file lacks {missing}; infer the model again") from None
        except (TypeError, ValueError) as error:
            raise DualityError(f"{path}: the model file is damaged ({error}); infer the model again") from None


def _part(arrays: Mapping[str, FloatArray], name: str) -> dict[str, FloatArray]:
    """The arrays of a part of the file, by their names in it."""
    prefix = name + "/"
    return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}


def _shapes(arrays: Mapping[str, FloatArray], form: Form) -> dict[str, tuple[int, ...]]:
    """Of the coefficients, by name."""
    names = ("pair_coefficients", "couplings", *(f"weights_{rank}" for rank in form.ranks))
    return {name: arrays[name].shape for name in names}


def _check_arrays(arrays: Mapping[str, npt.NDArray[Any]], s: int, form: Form) -> None:
    """Raise ValueError unless the arrays of a model of `s` species have one set of shapes and hold finite numbers."""
    sizes = {}
    for name in ("pair_basis", "basis", "coarse"):
        shape = arrays[name].shape
        if len(shape) != 4 or shape[:2] != (s, s) or shape[3] != arrays["pair_basis"].shape[-1] or shape[3] < 4:
            raise ValueError(f"{name} has the shape {shape}")
        sizes[name] = shape[2]
    q = count(s * sizes["coarse"], form.coupled)
    width = s * sizes["basis"]
    shapes = {
        "masses": (s,),
        "pair_coefficients": (s, s, sizes["pair_basis"]),
        "couplings": (s, q, q),
        "shortest": (s, s),
        "core_strength": (s, s),
    } | {f"weights_{rank}": (s, width, width) for rank in form.ranks}
    for name, expected in shapes.items():
        if arrays[name].shape != expected:
            raise ValueError(f"{name} has the shape {arrays[name].shape}, expected {expected}")
    for name, array in arrays.items():
        if array.dtype != np.float64 or not (np.isfinite(array) | ((name == "shortest") & np.isnan(array))).all():
            raise ValueError(f"{name} holds values that are not finite numbers in double precision")


def core_onsets(shortest: FloatArray, grid: Grid) -> FloatArray:
    """Where the core of each pair of species begins (nm): the shortest distance seen, half the cutoff if none was."""
    return np.where(np.isnan(shortest), 0.5 * grid.cutoff, np.minimum(shortest, grid.cutoff))


def levelled(basis: RadialBasis, shortest: FloatArray) -> RadialBasis:
    """The basis with every function constant below the shortest distance seen of its pair of species."""
    onsets = core_onsets(shortest, basis.grid)
    coefficients = np.array(
        [
            [level_off(basis.grid, c, float(d)) for c, d in zip(row, distances, strict=True)]
            for row, distances in zip(basis.coefficients, onsets, strict=True)
        ]
    )
    return RadialBasis(basis.grid, coefficients)
