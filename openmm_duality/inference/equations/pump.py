"""The pump of losses that agents descend alone: the power that forces without a potential feed into thermal motion.

The antisymmetric part A of the Jacobian does work around loops. With the modes of the symmetric part, mass-weighted,
of frequencies ω and vectors e, modes exchange power in resonance, for the time 1/Γ that their phases agree:

    p = ½ (k_B T/N) Σ_ab (e_aᵀ A e_b)²/(ω_a ω_b) · Γ/((ω_a − ω_b)² + Γ²)

is the power per atom. For a penalty, thermal displacements v = Σ_a ξ_a e_a/√ω_a, ξ normal, are drawn in bands of
frequencies of width Δω, in which the resonance is taken as π/Δω: ½ (k_B T/N) (π/Δω) ⟨(v′ᵀAv)²⟩. As A is linear in the
coefficients of an own part, this is a quadratic form of them, and the inference stays one linear problem (a soft
symmetry). Where A couples modes of like frequencies the band has less than the resonance, in water by up to 1.6.

Index suffixes: i agent, d, e directions, c displaced copy, p coefficient of the own part, x Cartesian.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.inference.equations.channel_rows import product_slopes
from openmm_duality.inference.equations.design import (
    Design,
    Moments,
    own_factors,
    pair_forces,
    quadratic_columns,
)
from openmm_duality.inference.equations.penalties import ROTAMERS, SEPARATIONS
from openmm_duality.inference.equations.targets import DataSet
from openmm_duality.inference.equations.unlabelled import Configuration, configurations
from openmm_duality.invariants.neighbours import NeighbourTable
from openmm_duality.invariants.radial import Cubics
from openmm_duality.losses.evaluator import LocalEnvironments
from openmm_duality.losses.jacobian import jacobian
from openmm_duality.losses.model import AgentLosses
from openmm_duality.parallel import on_all_cores
from openmm_duality.units import BOLTZMANN

TEMPERATURE = 300.0  # K, at which the pump is given
# of the fit whose modes are taken
FIRST_STRENGTHS = {"curvature": 1e-4, "ridge": 1e-7, ROTAMERS: 0.0, SEPARATIONS: 0.0}
STRENGTHS = tuple(10.0 ** (k / 2) for k in range(-12, 5))  # tried for a stated target
_WAVENUMBER = 2.0 * np.pi * 0.0299792458  # rad/ps per cm⁻¹
_FLOOR = 40.0  # cm⁻¹, of the frequencies
_DEPHASING = 60.0  # cm⁻¹, rate Γ at which modes lose their phases
_STEP = 1e-8  # nm, largest displacement of an atom in forward differences, whose rounding is as far below
_FRAMES = 3  # on which a stated pump is to be kept
_COPIES = 4  # displaced configurations at a time


@dataclass(frozen=True)
class Band:
    """A band of frequencies whose modes exchange power.

    Parameters
    ----------
    low, high : float
        Bounds in cm⁻¹.
    width : float
        Width Δω in cm⁻¹ of the frequencies that occur.
    directions : int
        Number of thermal directions drawn from it.
    """

    low: float
    high: float
    width: float
    directions: int

    def contains(self, frequencies: FloatArray) -> FloatArray:
        """Which frequencies in rad/ps are in the band."""
        found = frequencies / _WAVENUMBER
        return np.asarray((found >= self.low) & (found < self.high))

    def power(self, n_atoms: int) -> float:
        """Factor ½ (k_B T/N) (π/Δω) of the mean square of v′ᵀAv, in kJ/mol ps."""
        return float(0.5 * BOLTZMANN * TEMPERATURE / n_atoms * np.pi / (self.width * _WAVENUMBER))


BANDS = (Band(0.0, 1200.0, 1200.0, 32), Band(1200.0, 2500.0, 1300.0, 3), Band(2500.0, 5000.0, 600.0, 5))


def predicted_pump(losses: AgentLosses, environments: LocalEnvironments) -> float:
    """Power that the losses are predicted to feed into thermal motion at 300 K, in kJ/mol per atom and ps.

    It is zero if the forces have a potential.
    """
    if losses.has_potential:
        return 0.0
    slopes = jacobian(losses, environments)
    frequencies, modes = thermal_modes(losses, environments.species_index, slopes)
    coupled = 0.5 * modes.T @ (slopes - slopes.T) @ modes
    rate = _DEPHASING * _WAVENUMBER
    resonance = rate / ((frequencies[:, None] - frequencies) ** 2 + rate**2)
    return float(0.5 * BOLTZMANN * TEMPERATURE / len(environments.species_index) * np.sum(coupled**2 * resonance))


def thermal_modes(losses: AgentLosses, species_index: IntArray, slopes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Frequencies (rad/ps) of the symmetric part of a Jacobian (3 N, 3 N), and M^{-1/2} e/√ω as columns, (3 N, 3 N)."""
    inverse_root = 1.0 / np.sqrt(np.repeat(losses.masses[species_index], 3))
    squares, vectors = np.linalg.eigh(-0.5 * (slopes + slopes.T) * inverse_root * inverse_root[:, None])
    frequencies = np.sqrt(np.abs(squares))
    return frequencies, inverse_root[:, None] * vectors / np.sqrt(np.maximum(frequencies, _FLOOR * _WAVENUMBER))


def pump_rows(
    design: Design, losses: AgentLosses, environments: LocalEnvironments, rng: np.random.Generator
) -> FloatArray:
    """Rows a, shape (R, p), of the coefficients c of the own part of a design: the pump by bands is Σ (a·c)².

    Parameters
    ----------
    design : Design
        With one group of species.
    losses : AgentLosses
        Losses with the bases of the design, whose modes are taken.
    environments : LocalEnvironments
        Of the configuration.
    rng : Generator
        Source of the directions.
    """
    index = environments.species_index
    # an own part hardly changes the modes of a shared one
    conservative = replace(losses, gradient="collective", own=None) if losses.has_reactions else losses
    frequencies, modes = thermal_modes(losses, index, jacobian(conservative, environments))
    rows = []
    for band in BANDS:
        chosen = modes[:, band.contains(frequencies)]
        if not chosen.size:
            continue
        drawn = rng.normal(size=(band.directions, chosen.shape[1])) @ chosen.T
        slopes = _directional_slopes(design, environments, drawn.reshape(band.directions, len(index), 3))
        d, e = np.triu_indices(band.directions, 1)
        rows.append(np.sqrt(band.power(len(index)) / len(d)) * 0.5 * (slopes[d, e] - slopes[e, d]))
    return np.concatenate(rows)


def pump_of_sets(losses: AgentLosses, sets: Sequence[DataSet]) -> float:
    """Mean predicted pump of losses on a few frames of data sets, in kJ/mol per atom and ps."""

    def of_frame(frame: Configuration) -> float:
        return predicted_pump(losses, LocalEnvironments.of(losses, frame.positions, frame.species, frame.cell))

    return float(np.mean(list(on_all_cores(of_frame, configurations(sets, _FRAMES)))))


def weakest_strength(limit: float, losses_with: Callable[[float], AgentLosses], sets: Sequence[DataSet]) -> float:
    """Smallest strength of the penalty with which the pump, which falls with the strength, does not exceed a limit.

    Raises
    ------
    DualityError
        If there is none.
    """

    def value_of(strength: float) -> float:
        return pump_of_sets(losses_with(strength), sets)

    first = bisect_left(range(len(STRENGTHS)), True, key=lambda k: value_of(STRENGTHS[k]) <= limit)
    if first == len(STRENGTHS):
        raise DualityError(
            f"no strength of the penalty keeps the predicted pump below max_pump: with the strongest, "
            f"{STRENGTHS[-1]:g}, it is {value_of(STRENGTHS[-1]) / limit:.3g} times that; allow more"
        )
    return float(STRENGTHS[first])


def _directional_slopes(design: Design, environments: LocalEnvironments, directions: FloatArray) -> FloatArray:
    """Derivatives v_eᵀ ∂O/∂v_d of the rows O of the own part, shape (d, e, p), for directions (d, N, 3)."""
    index = environments.species_index
    bases = (design.pair_basis, design.basis, design.coarse)
    cubics = [[basis.cubics(t.distances, index, b) for b, t in enumerate(environments.tables)] for basis in bases]
    steps = _STEP / np.abs(directions).max(axis=(1, 2))
    shifts = steps[:, None, None] * directions
    here = _products(design, environments, cubics, np.zeros_like(shifts[:1]), directions)
    found = [
        _products(design, environments, cubics, shifts[k : k + _COPIES], directions)
        for k in range(0, len(directions), _COPIES)
    ]
    return np.asarray((np.concatenate(found) - here) / steps[:, None, None])


def _products(
    design: Design,
    environments: LocalEnvironments,
    cubics: Sequence[Sequence[Cubics]],
    shifts: FloatArray,
    directions: FloatArray,
) -> FloatArray:
    """Products v_eᵀ O of displaced copies, shape (c, e, p), for shifts (c, N, 3) of the atoms in nm.

    The radial functions are those cubics, by basis and table, that they are without the shifts.
    """
    layout, copies, n_atoms = design.layout, len(shifts), directions.shape[1]
    moved = [t.displaced(shifts[:, t.indices] - shifts[:, :, None]) for t in environments.tables]
    radial = [
        [(_joined(f), _joined(df)) for f, df in (c.evaluate(t.distances) for c, t in zip(mine, moved, strict=True))]
        for mine in cubics
    ]
    tables = [NeighbourTable(t.indices, _joined(t.displacements), _joined(t.distances)) for t in moved]
    by_species = [np.flatnonzero(environments.species_index == a) for a in range(layout.n_species)]
    pair = pair_forces(radial[0], tables).reshape(copies, n_atoms, layout.n_species, 3, -1)
    along = np.array([np.einsum("eix,cibxn->cebn", directions[:, i], pair[:, i], optimize=True) for i in by_species])
    part, (group,) = layout.parts[-1], layout.groups
    columns = []
    for a, b in layout.pairs(part, group):
        columns.append(along[a, :, :, b] + (part.symmetry * along[b, :, :, a] if part.symmetry else 0.0))
    fine = Moments.of(layout.form.ranks or layout.form.channels, radial[1], tables, only_own=True)
    coarse = Moments.of(layout.form.all_ranks if layout.form.coupled else (), radial[2], tables, only_own=True)
    factors = own_factors(layout, fine, coarse)
    for agents in (by_species[a] for a in group):
        for one in factors:
            q, m = one.slopes.shape[2:]
            slopes = one.slopes.reshape(copies, n_atoms, 3, q * m)[:, agents]
            values = one.values.reshape(copies, n_atoms, m, q)[:, agents].reshape(copies, -1, q)
            contracted = (directions[:, agents].swapaxes(0, 1) @ slopes).reshape(copies, len(agents), -1, q, m)
            left = contracted.transpose(0, 2, 3, 1, 4).reshape(copies, -1, len(agents) * m)
            columns.append(quadratic_columns((left @ values).reshape(copies, -1, q, q), one.triangles[-1]))
    for a in group if design.channels else ():
        columns += [_channel_products(design, a, by_species[a], fine, directions, copies)]
    return np.concatenate(columns, axis=-1)


def _channel_products(
    design: Design, a: int, agents: IntArray, found: Moments, directions: FloatArray, copies: int
) -> FloatArray:
    """Products v_eᵀ O of the invariants of channels of an agent species in displaced copies, shape (c, e, F)."""
    along = {
        rank: np.einsum("eix,cixam->cieam", directions, own.reshape(copies, -1, *own.shape[1:]))
        for rank, own in found.own.items()
    }
    values = {rank: m.reshape(copies, -1, *m.shape[1:]) for rank, m in found.values.items()}
    columns, rows = np.tile(np.arange(len(directions)), (len(agents), 1)), design.own_rows[a]
    by_copy = (({r: m[c] for r, m in values.items()}, {r: v[c] for r, v in along.items()}) for c in range(copies))
    return np.array([product_slopes(rows, agents, *one, columns, len(directions)) for one in by_copy])


def _joined(array: FloatArray) -> FloatArray:
    """Arrays (c, N, …) of displaced copies as (c·N, …), one copy after the other."""
    return array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])
