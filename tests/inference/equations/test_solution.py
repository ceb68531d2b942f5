"""Design rows, layout, normal equations, bases and penalties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import supercell
from openmm_duality.inference.equations import strength_choice
from openmm_duality.inference.equations.bases import make_basis, place_knots
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.pair_statistics import pair_statistics
from openmm_duality.inference.equations.penalties import CHANNEL_GRIDS, TOLERANCE, Penalty, ridge_penalty
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.solution import NormalEquations, column_scale, solve
from openmm_duality.inference.equations.strength_choice import by_preference, held_out_errors, preferred_strengths
from openmm_duality.invariants import Grid, find_neighbours
from openmm_duality.losses import FORMS, evaluate_agents
from openmm_duality.losses.cores import core_onsets, levelled
from tests.systems import (
    CELL,
    NARROW,
    RANKED,
    SPECIES,
    TRICLINIC,
    laws,
    narrow_positions,
    random_frames,
    random_losses,
    random_positions,
    random_species,
    rms,
    with_small_own_part,
)


@pytest.mark.parametrize(("form", "gradient"), laws([*FORMS, *RANKED]))
def test_pack_is_the_inverse_of_unpack(form, gradient):
    losses = random_losses(form, gradient)
    layout = Design.of(losses).layout
    vectors = layout.pack(losses)
    assert [len(v) for v in vectors] == [layout.size(p) for p in layout.groups]
    unpacked = layout.unpack(vectors)
    assert replace(losses, **unpacked).sha256() == losses.sha256()
    assert unpacked["weights"].keys() == losses.weights.keys()


@pytest.mark.parametrize("cell", [CELL, TRICLINIC, None], ids=["orthorhombic", "triclinic", "open"])
@pytest.mark.parametrize(("form", "gradient"), laws([*FORMS, *RANKED]))
def test_design_rows_times_coefficients_are_the_forces_of_the_evaluator(form, gradient, cell):
    losses = replace(random_losses(form, gradient), core_strength=np.zeros((3, 3)))
    n = 20
    species, positions = random_species(n), random_positions(n, CELL if cell is None else cell)
    species_index = losses.index_of(species)
    design = Design.of(losses)
    tables = find_neighbours(positions, cell, species_index, len(losses.species), losses.cutoff)
    rows = design.force_rows(tables, species_index)
    forces = np.zeros((n, 3))
    for group, x, c in zip(design.layout.groups, rows, design.layout.pack(losses), strict=True):
        forces[np.isin(species_index, group)] = x @ c
    expected = evaluate_agents(losses, positions, species, cell).forces
    assert rms(forces - expected) < 1e-12 * rms(expected)


@pytest.mark.parametrize("form", [*FORMS, *RANKED])
def test_a_small_own_part_has_fewer_columns_and_their_rows(form):
    whole = replace(random_losses(form, "mutual"), core_strength=np.zeros((3, 3)))
    losses, species, positions = with_small_own_part(whole), random_species(20), random_positions(20, TRICLINIC)
    design, index = Design.of(losses), losses.index_of(species)
    (c,), (rows,) = (
        design.layout.pack(losses),
        design.force_rows(find_neighbours(positions, TRICLINIC, index, 3, losses.cutoff), index),
    )
    expected = evaluate_agents(losses, positions, species, TRICLINIC).forces
    assert rms(rows @ c - expected) < 1e-12 * rms(expected)
    (group,) = design.layout.groups
    assert len(c) == design.layout.size(group) == np.count_nonzero(c)
    assert sum(design.layout.scale_blocks(group)) == len(c)
    assert (len(c) < len(Design.of(whole).layout.pack(whole)[0])) == (form != "pair")
    for mine, kept in zip(losses.channels, losses.own.channel_weights if losses.channels else (), strict=True):
        np.testing.assert_array_equal(kept != 0.0, (mine.highest_ranks <= 2) & (mine.orders <= 3))


@pytest.mark.parametrize("cell", [TRICLINIC, None], ids=["triclinic", "open"])
@pytest.mark.parametrize("form", [*FORMS, *RANKED])
def test_the_energy_row_times_coefficients_is_the_sum_of_losses(form, cell):
    losses = replace(random_losses(form), core_strength=np.zeros((3, 3)))
    species, positions = random_species(20), random_positions(20, TRICLINIC)
    design = Design.of(losses, n_constants=3)
    tables = find_neighbours(positions, cell, losses.index_of(species), len(losses.species), losses.cutoff)
    row = design.energy_row(tables, losses.index_of(species))
    (coefficients,) = design.layout.pack(losses)
    assert row[-3:].tolist() == [species.count(name) for name in losses.species]
    result = evaluate_agents(losses, positions, species, cell)
    assert row @ coefficients == pytest.approx(result.energy, abs=1e-10 * np.abs(result.losses).sum())


@pytest.mark.parametrize("cell", NARROW.values(), ids=NARROW)
@pytest.mark.parametrize(("form", "gradient"), laws([*FORMS, *RANKED]))
def test_rows_of_a_narrow_cell_are_those_of_its_supercell(form, gradient, cell):
    losses = random_losses(form, gradient)
    design, found = Design.of(losses, n_constants=3), []
    positions = narrow_positions(cell)
    for x, species, box in ((positions, SPECIES[:2], cell), supercell(positions, SPECIES[:2], cell, (3, 3, 3))):
        species_index = losses.index_of(species)
        tables = find_neighbours(x, box, species_index, len(losses.species), losses.cutoff)
        energy = design.energy_row(tables, species_index) / len(x) if gradient == "collective" else np.zeros(3)
        found.append([*design.force_rows(tables, species_index), energy[:-3]])
    for small, large in zip(*found, strict=True):
        copies = 1 if small.ndim == 1 else 27
        np.testing.assert_allclose(
            large, np.concatenate([small] * copies), rtol=0, atol=1e-11 * np.abs(small).max(initial=0.0)
        )


def penalties(size, n_constants=0, form=None):
    """A curvature penalty with a given matrix, and the ridge."""
    curvature = Penalty("curvature", np.zeros((size, size)) if form is None else form, normalised=True)
    return curvature, ridge_penalty(size, n_constants)


def strengths(ridge, curvature=0.0):
    return {"ridge": ridge, "curvature": curvature}


def ranked(total, folds, penalties, candidates, n_constants=0):
    """Candidate strengths in order of preference."""
    return by_preference(candidates, held_out_errors(total, folds, penalties, candidates, n_constants), TOLERANCE)


def random_equations(coefficients, n_rows, noise, seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_rows, len(coefficients)))
    targets = rows @ coefficients + noise * rng.normal(size=n_rows)
    equations = NormalEquations.empty(len(coefficients))
    equations.add_rows(rows, targets, np.ones(n_rows))
    return equations, rows, targets


def test_solution_is_that_of_least_squares_for_any_scale_of_the_columns():
    rng = np.random.default_rng(0)
    scale = 10.0 ** rng.uniform(-6, 6, size=8)
    rows, targets, weights = rng.normal(size=(60, 8)) * scale, rng.normal(size=60), rng.uniform(0.1, 2.0, size=60)
    equations = NormalEquations.empty(8)
    for part in np.array_split(np.arange(60), 4):
        equations.add_rows(rows[part], targets[part], weights[part])
    found = solve(equations, penalties(8), strengths(0.0))
    root = np.sqrt(weights)
    expected = np.linalg.lstsq(rows / scale * root[:, None], targets * root, rcond=None)[0] / scale
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    residual = np.sum(weights * (targets - rows @ found) ** 2)
    assert equations.squared_error(found) == pytest.approx(residual, rel=1e-8)


@pytest.mark.parametrize("size", [1, 7, 3000])
def test_gram_matrices_are_mirrored_once_in_their_own_memory(size):
    rng, equations = np.random.default_rng(0), NormalEquations.empty(size)
    memory, rows, weights = equations.gram, rng.normal(size=(12, size)), rng.uniform(size=12)
    for part in (slice(0, 5), slice(5, 5), slice(5, 12)):
        equations.add_rows(rows[part], np.zeros(len(rows[part])), weights[part], mirrored=False)
    equations.mirror()
    assert np.shares_memory(memory, equations.gram)
    np.testing.assert_allclose(equations.gram, (rows.T * weights) @ rows, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(equations.gram, equations.gram.T)


def test_equations_of_parts_add_up_and_do_not_grow():
    wanted = np.arange(1.0, 6.0)
    parts = [random_equations(wanted, n, 0.1, seed)[0] for seed, n in enumerate((10, 500))]
    assert parts[0].gram.shape == parts[1].gram.shape == (5, 5)
    total = NormalEquations.sum_of(parts)
    rest = total - parts[0]
    np.testing.assert_allclose(rest.gram, parts[1].gram)
    np.testing.assert_allclose(rest.rhs, parts[1].rhs)
    assert rest.weight == pytest.approx(parts[1].weight)


def test_energies_are_fitted_without_changing_the_scales():
    rng = np.random.default_rng(3)
    wanted, constant = np.array([1.0, -2.0, 0.5]), 1e3
    forces = np.hstack([rng.normal(size=(30, 3)), np.zeros((30, 1))])
    energies = np.hstack([rng.normal(size=(5, 3)) * 50.0, np.ones((5, 1))])
    equations = NormalEquations.empty(4)
    equations.add_rows(forces, forces[:, :3] @ wanted, np.ones(30))
    scale = column_scale(equations)
    equations.add_rows(energies, energies[:, :3] @ wanted + constant, np.ones(5), set_scale=False)
    np.testing.assert_array_equal(column_scale(equations)[:3], scale[:3])
    assert equations.weight == 30.0
    found = solve(equations, penalties(4, 1), strengths(1e-13), n_constants=1)
    np.testing.assert_allclose(found, [*wanted, constant], rtol=1e-9)
    # the constant has no ridge, so it follows the energies
    stiff = solve(equations, penalties(4, 1), strengths(1e12), n_constants=1)
    np.testing.assert_allclose(stiff[:3], 0.0, atol=1e-6)
    assert stiff[3] == pytest.approx(np.mean(energies[:, :3] @ wanted + constant), rel=1e-6)


def test_an_energy_constant_of_a_single_fold_does_not_prevent_the_choice():
    rng = np.random.default_rng(4)
    wanted = np.array([1.0, -2.0, 0.5])
    folds = []
    for k in range(4):
        rows = np.hstack([rng.normal(size=(30, 3)), np.zeros((30, 2))])
        equations = NormalEquations.empty(5)
        equations.add_rows(rows, rows[:, :3] @ wanted + 0.1 * rng.normal(size=30), np.ones(30))
        composition = int(k == 2)  # the second composition occurs in one fold only
        energies = np.hstack([rng.normal(size=(3, 3)), np.tile(np.eye(2)[composition], (3, 1))])
        equations.add_rows(energies, energies[:, :3] @ wanted + 1e4 * (1 + composition), np.ones(3), set_scale=False)
        folds.append(equations)
    candidates = [strengths(ridge) for ridge in (1e-9, 1.0, 1e3)]
    preferred = ranked(NormalEquations.sum_of(folds), [[f] for f in folds], penalties(5, 2), candidates, 2)
    assert [c["ridge"] for c in preferred] == [1e-9, 1.0, 1e3]
    found = solve(NormalEquations.sum_of(folds), penalties(5, 2), candidates[0], n_constants=2)
    np.testing.assert_allclose(found[3:], [1e4, 2e4], rtol=1e-4)


def test_compositions_of_a_single_fold_do_not_prevent_the_choice():
    """The constants of both species occur in every fold, but only one fold has their second combination."""
    rng = np.random.default_rng(5)
    wanted = np.array([1.0, -2.0, 0.5])
    folds = []
    for k in range(4):
        rows = np.hstack([rng.normal(size=(30, 3)), np.zeros((30, 2))])
        equations = NormalEquations.empty(5)
        equations.add_rows(rows, rows[:, :3] @ wanted + 0.1 * rng.normal(size=30), np.ones(30))
        counts = np.array([2.0, 1.0] if k == 2 else [1.0, 2.0])
        energies = np.hstack([rng.normal(size=(3, 3)), np.tile(counts, (3, 1))])
        equations.add_rows(energies, energies[:, :3] @ wanted + counts @ [3e3, -7e3], np.ones(3), set_scale=False)
        folds.append(equations)
    candidates = [strengths(ridge) for ridge in (1e-9, 1.0, 1e3)]
    preferred = ranked(NormalEquations.sum_of(folds), [[f] for f in folds], penalties(5, 2), candidates, 2)
    assert [c["ridge"] for c in preferred] == [1e-9, 1.0, 1e3]
    found = solve(NormalEquations.sum_of(folds), penalties(5, 2), candidates[0], n_constants=2)
    np.testing.assert_allclose(found[3:], [3e3, -7e3], rtol=1e-4)
    # without that fold only n·c is known, and the smallest constants are taken
    known = solve(NormalEquations.sum_of([folds[k] for k in (0, 1, 3)]), penalties(5, 2), candidates[0], n_constants=2)
    np.testing.assert_allclose(known[3:], (3e3 - 14e3) / 5.0 * np.array([1.0, 2.0]), rtol=1e-3)


def test_a_combination_of_constants_that_no_fold_shows_does_not_enter_the_held_out_error():
    """All frames have one composition: of two constants only their sum is known, up to rounding."""
    rng = np.random.default_rng(6)
    wanted = np.array([1.0, -2.0, 0.5])
    with_constants, without = [], []
    for _ in range(4):
        rows, noise = rng.normal(size=(30, 3)), rng.normal(size=30)
        energies = np.hstack([0.1 * rng.normal(size=(7, 3)), np.tile(np.array([128.0, 64.0]) / 192.0 / 7.0, (7, 1))])
        equations, alone = NormalEquations.empty(5), NormalEquations.empty(3)
        equations.add_rows(np.hstack([rows, np.zeros((30, 2))]), rows @ wanted + noise, np.ones(30))
        weights = np.full(7, 0.003)
        equations.add_rows(energies, energies[:, :3] @ wanted - 3e4, weights, set_scale=False)
        alone.add_rows(rows, rows @ wanted + noise, np.ones(30))
        with_constants.append([equations])
        without.append([alone])
    candidates = [strengths(ridge) for ridge in (1.0, 1e3, 1e-1, 1e-9)]
    chosen = []
    for folds, n in ((with_constants, 2), (without, 0)):
        total = NormalEquations.sum_of([fold for (fold,) in folds])
        chosen.append(ranked(total, folds, penalties(3 + n, n), candidates, n))
    assert chosen[0] == chosen[1]


def test_a_column_of_zeros_gets_no_coefficient():
    rows = np.random.default_rng(1).normal(size=(20, 3)) * [1.0, 0.0, 1.0]
    equations = NormalEquations.empty(3)
    equations.add_rows(rows, rows @ [1.0, 5.0, 2.0], np.ones(20))
    np.testing.assert_allclose(solve(equations, penalties(3), strengths(1e-12)), [1.0, 0.0, 2.0], atol=1e-9)


@pytest.mark.parametrize(
    ("errors", "ridge"),
    [
        ((10.0, 9.0, 9.05, 8.0, 12.0), 1e-4),  # of squares: it goes on within half a per cent of the smallest root
        ((10.0, 11.0, 5.0, 5.0, 5.0), 1e-7),
        ((10.0, 9.0, 8.0, 7.0, 6.0), 1e-3),
        ((10.0, 9.9, 9.8, 9.5, 9.4), 1e-7),  # 3 % of the root
        ((20.0, 10.0, 9.8, 9.5, 9.4), 1e-6),
    ],
)
def test_the_ridge_of_channels_is_the_weakest_with_nearly_the_smallest_held_out_error(monkeypatch, errors, ridge):
    grid = CHANNEL_GRIDS["ridge"]

    def known(total, folds, penalties, candidates, *_):
        return [errors[grid.index(one["ridge"])] + 3.0 * (one["curvature"] != 1e-5) for one in candidates]

    monkeypatch.setattr(strength_choice, "held_out_errors", known)
    folds = [random_equations(np.ones(4), 40, 0.0, seed)[0] for seed in range(4)]
    given = (NormalEquations.sum_of(folds), [[f] for f in folds], penalties(4))

    def found(**more):
        settings = Settings(form="channels", **more)
        return preferred_strengths(*given, settings, 0, None, np.ones(4), of_channels=True, corrects=False)

    assert {one["ridge"] for one in found()} == {ridge}
    assert (found()[0]["curvature"], len(found())) == (1e-5, len(CHANNEL_GRIDS["curvature"]))
    assert found(ridge=1e-5, curvature=1.0) == [{"ridge": 1e-5, "curvature": 1.0}]


def test_the_strongest_regularisation_that_does_no_harm_is_chosen():
    wanted = np.array([1.0, -2.0, 0.5, 3.0])
    candidates = [strengths(ridge) for ridge in (1e-12, 1e-6, 1e-4, 1.0, 100.0)]
    clean = [random_equations(wanted, 40, 1e-1, seed)[0] for seed in range(4)]

    def best(folds):
        return ranked(NormalEquations.sum_of(folds), [[f] for f in folds], penalties(4), candidates)[0]["ridge"]

    assert best(clean) in (1e-4, 1e-6)
    # for targets unrelated to the rows the strongest is best
    nothing = [random_equations(0.0 * wanted, 12, 1.0, seed)[0] for seed in range(4)]
    assert best(nothing) >= 1.0


def test_curvature_smooths_what_the_data_do_not_determine():
    bend = np.diff(np.eye(6), n=2, axis=0)
    rows = np.eye(6)[[0, 1, 4, 5]]
    equations = NormalEquations.empty(6)
    equations.add_rows(rows, np.array([0.0, 1.0, 4.0, 5.0]), np.ones(4))
    found = solve(equations, penalties(6, form=bend.T @ bend), strengths(1e-12, 1e-6))
    np.testing.assert_allclose(found, np.arange(6.0), atol=1e-3)


def test_pair_statistics_find_the_shortest_distances_of_every_pair_of_species():
    frames = random_frames(4)
    grid = Grid(0.5, 100)
    statistics = pair_statistics([frames[:2], frames[2:]], SPECIES, grid)
    assert np.isnan(statistics.shortest[2]).all()  # no xenon in these frames
    shortest = {}
    for t in range(4):
        x, species_index = frames.positions[t], np.array([SPECIES.index(s) for s in frames.species])
        d = x[:, None] - x
        d -= np.round(d / np.diag(CELL)) * np.diag(CELL)
        r = np.linalg.norm(d, axis=-1) + np.eye(len(x))
        for a in range(2):
            for b in range(2):
                least = r[np.ix_(species_index == a, species_index == b)].min()
                shortest[a, b] = min(least, shortest.get((a, b), np.inf))
    for (a, b), r in shortest.items():
        assert statistics.shortest[a, b] == pytest.approx(r)


@pytest.mark.parametrize("size", [4, 30, 69])
def test_knots_are_distinct_grid_points_from_the_onset_to_the_cutoff(size):
    grid = Grid(0.5, 100)
    density = np.exp(-0.5 * ((np.arange(100) - 40) / 0.5) ** 2)  # one sharp peak
    knots = place_knots(grid, size, 0.128, 0.151, density)
    points = np.round(knots / grid.spacing).astype(int)
    np.testing.assert_allclose(knots, points * grid.spacing)
    assert (np.diff(points) > 0).all()
    assert (points[0], points[-1], len(points)) == (25, 100, size + 1)
    assert points[1] > 30


def test_bases_level_off_below_the_onset_and_impossible_ones_are_refused():
    grid = Grid(0.5, 100)
    statistics = pair_statistics([random_frames(3)], SPECIES[:2], grid)
    for family in ("b-splines", "inverse-powers"):
        basis = levelled(make_basis(family, grid, 5, statistics), statistics.shortest, SPECIES[:2])
        onset = core_onsets(statistics.shortest, grid)[0, 1]
        r = np.linspace(0.3 * onset, onset - 2 * grid.spacing, 50)
        slopes = np.abs(basis.evaluate(r[None], np.zeros(1, dtype=int), 1)[1][0])
        assert (np.diff(slopes, axis=0) >= -1e-9 * slopes.max()).all()
        assert (slopes[0] <= 0.1 * slopes[-1] + 1e-9).all()
    with pytest.raises(DualityError, match="finer grid"):
        make_basis("b-splines", grid, 90, statistics)
    with pytest.raises(DualityError, match="families"):
        make_basis("gaussians", grid, 5, statistics)


@pytest.mark.parametrize("form", [*FORMS])
def test_the_grouping_of_columns_does_not_change_the_solution(form):
    """Species that share no coefficient may be solved separately or together."""
    losses = random_losses(form, "agent")
    n_species = len(losses.species)
    design = Design.of(losses)
    positions, species = random_positions(30, CELL), random_species(30)
    species_index = losses.index_of(species)
    tables = find_neighbours(positions, CELL, species_index, n_species, losses.cutoff)
    targets = np.random.default_rng(0).normal(size=(30, 3))
    found = []
    for groups in ((), (tuple(range(n_species)),), ((2, 0), (1,))):
        layout = replace(design.layout, groups=groups)
        rows = replace(design, layout=layout).force_rows(tables, species_index)
        solutions = []
        for group, x in zip(layout.groups, rows, strict=True):
            equations = NormalEquations.empty(layout.size(group))
            agents = np.isin(species_index, group)
            y = targets[agents].ravel()
            equations.add_rows(x.reshape(len(y), -1), y, np.ones(len(y)))
            # the ridge is relative to the total weight, and so to the number of rows of the group
            scale = np.full(layout.size(group), np.sqrt(1.0 / equations.weight))
            solutions.append(solve(equations, penalties(layout.size(group)), strengths(1e-3), scale))
        found.append(layout.unpack(solutions))
    for other in found[1:]:
        for one, first in zip(*(design.layout.pack(replace(losses, **x)) for x in (other, found[0])), strict=True):
            np.testing.assert_allclose(one, first, atol=1e-9 * np.abs(first).max())


def test_a_penalty_of_rows_pulls_the_solution_to_its_targets():
    """The solution is that of least squares with the rows of the penalty added to those of the data."""
    rng = np.random.default_rng(5)
    equations, rows, targets = random_equations(np.array([1.0, -2.0, 0.5]), 30, 0.1, 1)
    more, wanted, weights = rng.normal(size=(4, 3)), rng.normal(size=4), rng.uniform(0.5, 2.0, size=4)
    heavy = np.sqrt(weights)
    parts = [(heavy[k, None] * more[k], heavy[k] * wanted[k]) for k in (slice(0, 1), slice(1, 4))]
    penalty = Penalty.of_rows("symmetry", 3, parts)
    found = solve(equations, [penalty, ridge_penalty(3)], {"symmetry": 0.3, "ridge": 0.0})
    root = np.sqrt(0.3 * weights / len(parts))
    stacked = (
        np.vstack([rows / np.sqrt(30.0), more * root[:, None]]),
        np.concatenate([targets / np.sqrt(30.0), wanted * root]),
    )
    np.testing.assert_allclose(found, np.linalg.lstsq(*stacked, rcond=None)[0], rtol=1e-9)
