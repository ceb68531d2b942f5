"""The agent losses of a set of species, inferred from data and run by every back end.

Index suffixes: A species of the agent, B of the neighbour, n radial function, a = (B, n) moment, l rank.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from openmm_duality.bounds import require_bounds
from openmm_duality.container import read_container, write_container
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.bonding import Coordination
from openmm_duality.invariants.channels import Channels
from openmm_duality.invariants.contractions import count_invariants
from openmm_duality.invariants.radial import Grid, RadialBasis
from openmm_duality.losses.baseline import Baseline
from openmm_duality.losses.coefficients import Coefficients, combine, read_coefficients
from openmm_duality.losses.committee import Committee
from openmm_duality.losses.cores import unit_cores, unit_walls
from openmm_duality.losses.domain import Domain
from openmm_duality.losses.forms import GRADIENTS, Form, check_gradient, form_of, has_potential
from openmm_duality.losses.header import Header
from openmm_duality.schema import build

_KIND, _EARLIER = "openmm_duality losses 4", ("openmm_duality losses 3",)  # which had no walls and no contacts
_OUTDATED = {
    "openmm_duality losses 1": "this model file is from version 0.1, which is no longer supported; infer it again from "
    "the configuration beside it, in which 'base' is now 'prior': openmm-duality infer MODEL.yaml -o NEW.safetensors",
    "openmm_duality losses 2": "this model file is from version 0.2, whose core began at the shortest distances in the "
    "data; infer it again from the configuration beside it: openmm-duality infer MODEL.yaml -o NEW.safetensors",
}
_MAY_LACK = ("shortest", "contacts")  # pairs that the data do not show


@dataclass(frozen=True)
class AgentLosses(Coefficients):
    """Agent losses H_A(φ) of all species A, with the gradient that gives the forces.

    Agents are nuclei; the loss of an agent is what it minimises, its energy if all descend the sum (`collective`).
    Under `mutual` there are two losses: all agents descend the sum of the shared part, and an agent alone descends its
    own part, whose coefficients are `own`. The coefficients are those of `Coefficients`.

    H_A = Σ_B Σ_n u_ABn ρ_Bn + ½ Σ_l Σ_ab W^l_Aab M^l_a·M^l_b + ½ Σ_pq C_Apq φ_p φ_q, with a repulsive core below
    the distances in the training data, where the radial functions level off (`losses.cores`). φ are the invariants of
    the coarse functions (see `contractions`).

    Parameters
    ----------
    species : tuple of str, length S
        Names in alphabetical order; A and B are indices into them.
    masses : array, shape (S,)
        In dalton.
    form : Form
    gradient : str
        ``agent``, ``collective`` or ``mutual`` (see `losses.forms.GRADIENTS`).
    pair_basis : RadialBasis
        n_p functions of the pair part.
    basis : RadialBasis
        n functions of the contracted moments.
    coarse : RadialBasis
        n_c functions of the coupled invariants; none for a form without coupling.
    shortest : array, shape (S, S)
        Shortest distance in the training data, in nm; NaN for species never within the cutoff of each other.
    contacts : array, shape (S, S)
        The same, but not beyond a contact of their elements (`geometry.contacts`), in nm: below it the core begins.
    core_strength : array, shape (S, S)
        ε_AB in kJ/mol.
    wall_strength : array, shape (S, S)
        Strength of the wall of each pair of species in kJ/mol.
    channels : tuple of Channels, length S
        Channels and invariants B of each agent species; empty for a form without channels.
    committee : Committee or None
        Refits to resampled blocks of the training data, which estimate the uncertainty of forces.
    domain : Domain or None
        Training distribution, which identifies local environments outside of it.
    bond_lengths : mapping of (species, species) to float
        Distance in nm below which each pair of species that is bonded in the data is bonded.
    coordinations : set of Coordination
        What atoms are usually bonded to in the data (see `geometry.bonding`).
    baseline : Baseline or None
        Forces of OpenMM that act beside the losses, which were inferred from what it leaves of the reference.
    equations : mapping of str to array
        Stored normal equations, to add frames; empty if none.
    metadata : mapping
        Provenance, gauge, regularisation and errors of the inference.
    """

    species: tuple[str, ...]
    masses: FloatArray
    form: Form
    gradient: str
    pair_basis: RadialBasis
    basis: RadialBasis
    coarse: RadialBasis
    shortest: FloatArray
    contacts: FloatArray
    core_strength: FloatArray
    wall_strength: FloatArray
    channels: tuple[Channels, ...] = ()
    committee: Committee | None = None
    domain: Domain | None = None
    bond_lengths: Mapping[tuple[str, str], float] = field(default_factory=dict)
    coordinations: Set[Coordination] = frozenset()
    baseline: Baseline | None = None
    equations: Mapping[str, FloatArray] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_gradient(self.gradient)
        if (self.own is None) is (len(GRADIENTS[self.gradient]) > 1):
            raise ValueError("losses have an own part beside a shared one under the gradient 'mutual', and only there")

    @property
    def cutoff(self) -> float:
        """Cutoff radius in nm."""
        return self.pair_basis.grid.cutoff

    @property
    def grid(self) -> Grid:
        """Grid of all radial functions."""
        return self.pair_basis.grid

    def __repr__(self) -> str:
        number = self.metadata.get("coefficients")
        lines = [
            f"agent losses of {', '.join(self.species)}",
            f"form: {self.form.name}" + ("" if number is None else f", {number} coefficients"),
            f"gradient: {self.gradient}",
            f"cutoff: {self.cutoff:g} nm",
            f"committee: {'none' if self.committee is None else f'{self.committee.size} members'}",
        ]
        return "\n".join([*lines, *([] if self.baseline is None else [f"baseline: {self.baseline!r}"])])

    def members(self) -> list[AgentLosses]:
        """Members of the committee as losses of their own; an empty list without a committee."""
        found = [] if self.committee is None else map(self.committee.member, range(self.committee.size))
        return [replace(self, **one.coefficient_fields(), committee=None, equations={}) for one in found]

    @property
    def has_potential(self) -> bool:
        """Whether the sum of the losses is the potential energy of the forces."""
        return has_potential(self.gradient)

    @property
    def knows_stresses(self) -> bool:
        """Whether stresses entered the fit, of these losses or of a prior model; True if they were not inferred."""
        fits = [self.metadata, self.metadata.get("prior", {})]
        weights = [fit["settings"].get("stress_weight") for fit in fits if "settings" in fit]
        return any(weights) or not weights

    @property
    def has_reactions(self) -> bool:
        """Whether the force on an agent contains what its neighbours lose through its position."""
        return "shared" in GRADIENTS[self.gradient]

    @cached_property
    def descended(self) -> AgentLosses:
        """Losses that an agent descends by its own position: those of the shared and the own part together.

        The reactions of its neighbours are those of the losses themselves.
        """
        if self.own is None:
            return self
        shared = replace(self, own=None, gradient="agent", committee=None, equations={})
        summed = combine(lambda arrays: arrays[0] + arrays[1], [shared, self.own])
        return replace(shared, **summed.coefficient_fields())

    @cached_property
    def own_part(self) -> AgentLosses:
        """The own part of losses that have one, without the walls and cores, which all agents descend."""
        assert self.own is not None
        bare = replace(self, wall_strength=0.0 * self.wall_strength, core_strength=0.0 * self.core_strength)
        return replace(bare, **self.own.coefficient_fields(), gradient="agent", committee=None, equations={})

    @cached_property
    def moment_basis(self) -> RadialBasis:
        """Radial functions of all moments: those of `basis`, then those of `coarse`."""
        return RadialBasis(self.grid, np.concatenate([self.basis.coefficients, self.coarse.coefficients], axis=2))

    @cached_property
    def channel_matrices(self) -> list[dict[int, FloatArray]]:
        """Symmetric matrices of the invariants of channels by agent species and rank (see `Channels.matrices`)."""
        return [mine.matrices(c) for mine, c in zip(self.channels, self.channel_weights, strict=True)]

    @cached_property
    def channels_alone(self) -> FloatArray:
        """What `channel_matrices` give for an agent without neighbours, in kJ/mol by species; its loss is zero."""
        return np.array([mine.alone @ c for mine, c in zip(self.channels, self.channel_weights, strict=True)])

    @cached_property
    def pair_potentials(self) -> RadialBasis:
        """Pair potentials V_AB(r) = Σ_n u_ABn f_n(r) + wall + core in kJ/mol, one per *ordered* pair of species."""
        inferred = np.einsum("abn,abnk->abk", self.pair_coefficients, self.pair_basis.coefficients)
        return RadialBasis(self.grid, (inferred + self._repulsion)[:, :, None, :])

    @property
    def _repulsion(self) -> FloatArray:
        """Spline coefficients of the walls s (1 − r/r_w)⁴ and the cores ε (r_0/r − 1)³, shape (S, S, K + 3)."""
        walls = self.wall_strength[..., None] * unit_walls(self.shortest, self.grid)
        return np.asarray(walls + self.core_strength[..., None] * unit_cores(self.contacts, self.grid))

    def index_of(self, species: Sequence[str]) -> IntArray:
        """Species index of each atom, shape (N,).

        Raises
        ------
        DualityError
            If a species is not among those of the model.
        """
        known = {name: a for a, name in enumerate(self.species)}
        unknown = sorted(set(species) - set(known))
        if unknown:
            raise DualityError(
                f"the model has the species {', '.join(self.species)}, but the data contain {', '.join(unknown)} too; "
                "infer a model from data with all species, or choose other data"
            )
        return np.array([known[name] for name in species], dtype=np.int64)

    @property
    def _channel_arrays(self) -> dict[str, FloatArray]:
        by_species = (mine.to_arrays(f"{a}/") for a, mine in enumerate(self.channels))
        return {name: array for arrays in by_species for name, array in arrays.items()}

    def sha256(self) -> str:
        """SHA-256 of everything that determines losses and forces, the identity of a model.

        It covers species, masses, form, gradient, cutoff, bases, coefficients, walls, cores and baseline; not
        committee, domain, stored equations and metadata.
        """
        form = [self.form.name, *map(list, (self.form.ranks, self.form.coupled))]
        words = [list(map(str, self.species)), form, self.gradient, float(self.cutoff), sorted(self.weights)]
        digest = hashlib.sha256(json.dumps(words).encode())
        bases = [basis.coefficients for basis in (self.pair_basis, self.basis, self.coarse)]
        coefficients = [self.pair_coefficients, *(self.weights[rank] for rank in sorted(self.weights)), self.couplings]
        channels = [*self._channel_arrays.values(), *self.channel_weights]
        # older models have no walls and no contacts of their own, nor has their identity
        newer = [self.wall_strength] if self.wall_strength.any() else []
        newer += [] if np.array_equal(self.contacts, self.shortest, equal_nan=True) else [self.contacts]
        own = [] if self.own is None else [array for _, array in sorted(self.own.coefficient_arrays().items())]
        if self.baseline is not None:
            digest.update(self.baseline.sha256().encode())
        for array in (self.masses, *bases, *coefficients, self.shortest, self.core_strength, *newer, *channels, *own):
            digest.update(str(array.shape).encode() + np.ascontiguousarray(array, dtype="<f8").tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the model file, a safetensors file of arrays with a JSON header.

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
            "shortest": self.shortest,
            "contacts": self.contacts,
            "core_strength": self.core_strength,
            "wall_strength": self.wall_strength,
            **self.coefficient_arrays(),
        }
        sections = {"equations": self.equations, "channels": self._channel_arrays}
        sections["committee"] = {} if self.committee is None else self.committee.to_arrays()
        sections["domain"] = {} if self.domain is None else self.domain.to_arrays()
        arrays |= {f"{section}/{name}": array for section, named in sections.items() for name, array in named.items()}
        header = {
            "species": self.species,
            "form": self.form.name,
            "ranks": self.form.channels or self.form.ranks,
            "coupled_ranks": self.form.coupled,
            "gradient": self.gradient,
            "cutoff": self.cutoff,
            "bond_lengths": [[a, b, length] for (a, b), length in self.bond_lengths.items()],
            "coordinations": [[name, dict(around)] for name, around in sorted(self.coordinations)],
            "baseline": None if self.baseline is None else self.baseline.text,
            "metadata": self.metadata,
        }
        write_container(path, _KIND, arrays, header, overwrite)

    @classmethod
    def load(cls, path: str | Path) -> AgentLosses:
        """Read a model file; no code in it is run.

        Raises
        ------
        DualityError
            If the file is not a model file, is truncated, or its arrays do not fit each other.
        """
        arrays, content = read_container(path, _KIND, _OUTDATED, _EARLIER)
        if {"core_strength", "shortest"} <= set(arrays):  # what earlier files have not
            arrays.setdefault("wall_strength", np.zeros_like(arrays["core_strength"]))
            arrays.setdefault("contacts", arrays["shortest"])
        try:
            header = build(Header, content, str(path))
            form, species = form_of(header.form, header.ranks, header.coupled_ranks), header.species
            gradient = check_gradient(header.gradient)
            with_own = len(GRADIENTS[gradient]) > 1
            _check_arrays(arrays, len(species), form, with_own, str(path))
            grid = Grid(header.cutoff, arrays["pair_basis"].shape[-1] - 3)
            equations, committee, domain = (_section(arrays, name) for name in ("equations", "committee", "domain"))
            channels = _channels(arrays, form, len(species), with_own)
            coefficients = read_coefficients(arrays, form.ranks, len(channels), with_own)
            return cls(
                species=species,
                masses=arrays["masses"],
                form=form,
                gradient=gradient,
                pair_basis=RadialBasis(grid, arrays["pair_basis"]),
                basis=RadialBasis(grid, arrays["basis"]),
                coarse=RadialBasis(grid, arrays["coarse"]),
                **coefficients.coefficient_fields(),
                channels=channels,
                shortest=arrays["shortest"],
                contacts=arrays["contacts"],
                core_strength=arrays["core_strength"],
                wall_strength=arrays["wall_strength"],
                committee=Committee.from_arrays(committee, coefficients) if committee else None,
                domain=Domain.from_arrays(domain, len(species), grid.intervals) if domain else None,
                equations=equations,
                bond_lengths=header.bond_lengths,
                coordinations=header.coordinations,
                baseline=_baseline(header.baseline, str(path)),
                metadata=header.metadata,
            )
        except KeyError as missing:
            raise DualityError(f"{path}: the model file lacks {missing}; infer the model again") from None
        except (TypeError, ValueError) as error:
            raise DualityError(f"{path}: the model file is damaged ({error}); infer the model again") from None


def _baseline(xml: str | None, where: str) -> Baseline | None:
    """The baseline of a model file; its errors begin with the file."""
    try:
        return None if xml is None else Baseline(xml)
    except DualityError as error:
        raise DualityError(f"{where}: {error}") from None


def _section(arrays: Mapping[str, FloatArray], name: str) -> dict[str, FloatArray]:
    """Arrays of one section of the file, by their names within it."""
    return {key.removeprefix(f"{name}/"): array for key, array in arrays.items() if key.startswith(f"{name}/")}


def _channels(arrays: Mapping[str, FloatArray], form: Form, s: int, with_own: bool) -> tuple[Channels, ...]:
    """Channels of a model of `s` species; none for a form without."""
    section, width = _section(arrays, "channels"), s * arrays["basis"].shape[2]
    found = []
    for a in range(s if form.channels else 0):
        found.append(Channels.from_arrays(section, f"{a}/", form.channels, width))
        for prefix in ("", "own/") if with_own else ("",):
            if arrays[f"{prefix}channel_weights_{a}"].shape != (len(found[a].invariants),):
                raise ValueError("the coefficients of the channels do not fit their invariants")
    return tuple(found)


def _check_arrays(arrays: Mapping[str, npt.NDArray[Any]], s: int, form: Form, with_own: bool, where: str) -> None:
    """Raise ValueError unless the arrays of a model of `s` species have consistent shapes and possible numbers."""
    sizes = {}
    for name in ("pair_basis", "basis", "coarse"):
        shape = arrays[name].shape
        if len(shape) != 4 or shape[:2] != (s, s) or shape[3] != arrays["pair_basis"].shape[-1] or shape[3] < 4:
            raise ValueError(f"{name} has the shape {shape}")
        sizes[name] = shape[2]
    q = count_invariants(s * sizes["coarse"], form.coupled)
    width = s * sizes["basis"]
    coefficients = {"pair_coefficients": (s, s, sizes["pair_basis"]), "couplings": (s, q, q)}
    coefficients |= {f"weights_{rank}": (s, width, width) for rank in form.ranks}
    shapes = {"masses": (s,), **coefficients}
    shapes |= dict.fromkeys(("shortest", "contacts", "core_strength", "wall_strength"), (s, s))
    shapes |= {f"own/{name}": shape for name, shape in coefficients.items() if with_own}
    for name, expected in shapes.items():
        if arrays[name].shape != expected:
            raise ValueError(f"{name} has the shape {arrays[name].shape}, expected {expected}")
    for name, array in arrays.items():
        if array.dtype != np.float64 or not (np.isfinite(array) | ((name in _MAY_LACK) & np.isnan(array))).all():
            raise ValueError(f"{name} holds values that are not finite numbers in double precision")
    require_bounds(arrays["masses"], "masses", where)
    for name in ("core_strength", "wall_strength"):
        require_bounds(arrays[name], name.replace("_", " "), where)
    for name in _MAY_LACK:
        require_bounds(arrays[name][~np.isnan(arrays[name])], "shortest distance", where)
    for name in ("pair_basis", "basis", "coarse", "pair_coefficients", "couplings"):
        require_bounds(arrays[name], "coefficients", f"{where}: {name}")
