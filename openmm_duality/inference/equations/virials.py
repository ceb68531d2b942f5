"""Virials as targets: design rows, the derivatives of the sum of losses by a homogeneous strain, and their weight.

A strain moves every neighbour of an agent by ε (q_j − q_i), so that ∂E/∂ε_xy, the sum of ∂H_i/∂(q_j − q_i)_x times
(q_j − q_i)_y, is one over agents of what their own moments change: the rows need no reactions, and cost little beside
those of the forces. A stress is linear in the coefficients as a force is.

Index suffixes: i agent, s neighbour slot, n radial function, m component of a rank, c component of the strain.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.inference.equations.channel_rows import channel_strains
from openmm_duality.inference.equations.design import Design, Moments, Radial, own_factors, quadratic_columns
from openmm_duality.inference.equations.energies import SCALE
from openmm_duality.inference.equations.layout import Layout
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.targets import DataSet, indices_of, samples
from openmm_duality.invariants.moments import STRAINS, harmonics, moments, strain_derivatives, strain_of
from openmm_duality.invariants.neighbours import NeighbourTable, find_neighbours
from openmm_duality.losses.forms import form_of, has_potential
from openmm_duality.reference.frames import Frames, evenly_spaced

DEFAULT_WEIGHT = 0.003
_SHARE = 0.5  # of the root mean square of the forces, that of stresses in the fit with the default weight, at most
_CHECKED, _LEAST_CHECKED = 6, 3  # frames of a set, and in all, whose stresses are compared with their forces
_OPPOSITE = -0.7  # a correlation below which the sign is wrong, and the order is not
MULTIPLICITY = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])  # of the components of STRAINS in a symmetric tensor


def resolved_stress_weight(settings: Settings, sets: Sequence[DataSet]) -> float:
    """Weight of stresses in a fit to data sets: that of the settings, or the default where there are stresses.

    The default is reduced where stresses would count more than half as much as the forces (root mean squares), as in
    small cells at high pressure.

    Raises
    ------
    DualityError
        If the settings give a weight, and no data set has stresses and forces.
    """
    parts = [part for s in sets for part in s.frames.parts if len(part)]
    known = any(part.stresses is not None and part.stresses.any() and part.forces is not None for part in parts)
    if settings.stress_weight and not known:
        raise DualityError(
            "stress_weight includes stresses in the fit, but no data set has forces and stresses other than zeros, as "
            "they are written where none were computed; leave it at 0, or add the stresses (of CP2K: "
            "`stress: true` for the verb reference, or &FORCE_EVAL/&PRINT/&STRESS_TENSOR)"
        )
    if settings.stress_weight is not None:
        return settings.stress_weight
    if not known or not has_potential(settings.gradient):
        return 0.0
    return min(DEFAULT_WEIGHT, _SHARE**2 * _ratio_of_squares(parts) or DEFAULT_WEIGHT)


def _ratio_of_squares(parts: Sequence[Frames]) -> float:
    """Mean square of the forces over that of the virials per atom, in the units of the weight; of frames with both."""
    forces, virials, n_forces, n_virials = 0.0, 0.0, 0, 0
    for part in parts:
        if part.stresses is not None and part.forces is not None and part.cells is not None:
            per_atom = part.stresses * (np.abs(np.linalg.det(part.cells)) / part.n_atoms)[:, None, None]
            forces, n_forces = forces + float(np.sum(part.forces**2)), n_forces + part.forces.size
            virials, n_virials = virials + float(np.sum(per_atom**2)), n_virials + per_atom.size
    return (forces / n_forces) / (virials / n_virials) / SCALE**2 if virials else 0.0


def checked_stress_weight(
    weight: float, given: bool, sets: Sequence[DataSet], species: tuple[str, ...], design: Design
) -> float:
    """The weight of stresses, or 0 and a warning where they contradict the forces.

    Parameters
    ----------
    weight : float
    given : bool
        Whether the user chose it.
    sets, species, design
        As for `correlation_with_forces`.

    Raises
    ------
    DualityError
        If the stresses contradict the forces, and the user gave the weight.
    """
    correlation = correlation_with_forces(sets, species, design) if weight else None
    if correlation is None or correlation >= 0.0:
        return weight
    keys = "stress_key, stress_units and stress_order in the entry of the data set"
    if correlation < _OPPOSITE:
        remedy = (
            f"and with the opposite sign it is {-correlation:.2f}; name them by {keys}, with a minus before the unit "
            "(`stress_units: -eV/angstrom^3`) or without the minus where it had one, and change the sign of virials in "
            "the file"
        )
    else:
        remedy = f"so their sign or order is another than was read; name them by {keys}"
    sentence = (
        f"the stresses of the data contradict their forces (correlation {correlation:.2f} with the stresses of a pair "
        f"potential fitted to the forces), {remedy}"
    )
    if given:
        raise DualityError(sentence + ", or leave them out by stress_weight: 0")
    warnings.warn(sentence + "; they are left out", stacklevel=2)
    return 0.0


def correlation_with_forces(sets: Sequence[DataSet], species: tuple[str, ...], design: Design) -> float | None:
    """Correlation of the stresses of data sets with those of a pair potential fitted to their forces alone.

    It is negative where the stresses have another sign than was read. None with too few frames to tell.

    Parameters
    ----------
    sets : sequence of DataSet
    species : tuple of str
    design : Design
        Whose pair functions are used.
    """
    pairs = replace(
        design, layout=Layout(form_of("pair"), "collective", len(species), design.pair_basis.size, 0), channels=()
    )
    rows, targets, strains, virials = [], [], [], []
    for data in sets:
        if not data.frames.has_forces or all(part.stresses is None for part in data.frames.parts):
            continue
        count = len(data.frames)
        for sample in samples(data.frames, evenly_spaced(count, _CHECKED).tolist()):
            if sample.virial is None:
                continue
            ((_, positions, cell),) = sample.configurations
            index = indices_of(sample.species, species)
            tables = find_neighbours(positions, cell, index, len(species), design.pair_basis.grid.cutoff)
            (of_forces,) = pairs.force_rows(tables, index)
            rows.append(of_forces.reshape(-1, of_forces.shape[-1]))
            targets.append(sample.target.ravel())
            strains.append(virial_rows(pairs, tables, index) / len(index))
            virials.append(components(sample.virial) / len(index))
    if len(virials) < _LEAST_CHECKED:
        return None
    x = np.concatenate(rows)
    scale = np.sqrt(np.mean(x**2, axis=0))
    scale = np.where(scale > 0.0, scale, 1.0)
    coefficients = np.linalg.lstsq(x / scale, np.concatenate(targets), rcond=1e-4)[0] / scale
    found, expected = np.array(strains) @ coefficients, np.array(virials)
    a, b = (values - values.mean(axis=0) for values in (found, expected))
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / norm if norm > 0.0 else None


def components(tensor: FloatArray) -> FloatArray:
    """The six components of a symmetric tensor (3, 3) in the order of `STRAINS`."""
    return np.asarray(tensor[STRAINS])


def virial_rows(design: Design, tables: list[NeighbourTable], species_index: IntArray) -> FloatArray:
    """Rows of the virial W = −∂E/∂ε of losses with a potential, shape (6, P), in kJ/mol per kJ/mol of coefficient.

    Parameters
    ----------
    design : Design
    tables, species_index
        As for `Design.force_rows`.
    """
    layout = design.layout
    (group,) = layout.groups
    columns = []
    sums = np.stack(
        [
            strain_of(table).swapaxes(1, 2) @ slopes
            for table, (_, slopes) in zip(tables, design.radial(design.pair_basis, tables, species_index), strict=True)
        ],
        axis=1,
    )  # (N, S, 6, n_p)
    for a, b in layout.pairs(layout.parts[0], group):
        column = sums[species_index == a, b].sum(axis=0)
        columns.append(column if a == b else column + sums[species_index == b, a].sum(axis=0))
    form = layout.form
    fine = _strained(form.ranks or form.channels, design.radial(design.basis, tables, species_index), tables)
    coarse_ranks = form.all_ranks if form.coupled else ()
    coarse = _strained(coarse_ranks, design.radial(design.coarse, tables, species_index), tables)
    factors = own_factors(layout, fine, coarse)
    for a in group:
        of_a = species_index == a
        for one in factors:
            slopes, values = one.slopes[of_a], one.values[of_a]
            q, m = slopes.shape[2:]
            flat = slopes.transpose(1, 2, 0, 3).reshape(6 * q, len(slopes) * m)
            product = (flat @ values.reshape(len(values) * m, q)).reshape(6, q, q)
            columns.append(quadratic_columns(product, one.triangles[0]))
        if design.channels:
            agents = np.flatnonzero(of_a)
            columns.append(channel_strains(design.invariant_rows[a], agents, fine.values, fine.own))
    columns.append(np.zeros((6, layout.n_constants)))
    return -np.concatenate(columns, axis=1)


def _strained(ranks: tuple[int, ...], radial: list[Radial], tables: list[NeighbourTable]) -> Moments:
    """Moments, with their derivatives by the strain (N, 6, S·n, 2l + 1) in the place of those by the own position."""
    by_table = list(zip(radial, tables, strict=True))
    values, own = {}, {}
    for rank in ranks:
        blocks = [moments(f, harmonics(rank, table.directions)[0]) for (f, _), table in by_table]
        values[rank] = np.concatenate(blocks, axis=1)
        own[rank] = np.concatenate([strain_derivatives(rank, *f, table) for f, table in by_table], axis=2)
    return Moments(values, own, {})
