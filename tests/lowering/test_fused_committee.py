"""The committee inside the fused kernel, moments, distances and losses of agents against NumPy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import fields, replace

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import supercell
from openmm_duality.invariants.moments import moments_by_rank
from openmm_duality.invariants.neighbours import find_neighbours
from openmm_duality.invariants.radial import RadialBasis, b_splines
from openmm_duality.losses import FORMS, evaluate_agents
from openmm_duality.losses.coefficients import combine
from openmm_duality.losses.committee import Committee, variance_of
from openmm_duality.lowering.fused.committee import FusedCommittee
from openmm_duality.lowering.fused.losses import FusedLosses, pack
from openmm_duality.lowering.fused.tables import committee_shape
from tests.systems import (
    CELL,
    NARROW,
    RANKED,
    TRICLINIC,
    alternated,
    covering,
    narrow_positions,
    random_losses,
    random_positions,
    random_species,
    rms,
    with_small_own_part,
)
from tests.water import liquid

N = 30
SPECIES = random_species(N)
MANY = SPECIES * 8  # atoms enough for several parts
CELLS = {"orthorhombic": CELL, "triclinic": TRICLINIC, "open": None}
TOLERANCE = {"double": 1e-12, "single": 1e-6}
# every form with every gradient, each in one precision and one box, which have kernels of their own
CASES = covering(FORMS, list(TOLERANCE), list(CELLS))
OPEN = [case[:3] for case in CASES if case[3] == "open"]


def with_committee(losses, members=5, seed=7):
    """The losses with members whose coefficients are 1 % off."""
    rng = np.random.default_rng(seed)

    def perturbed(arrays):
        return arrays[0] * (1.0 + 0.01 * rng.normal(size=(members, *arrays[0].shape)))

    coefficients = combine(perturbed, [losses]).coefficient_fields()
    # what a spread is worth is not asked here
    others = {field.name for field in fields(Committee)} - set(coefficients)
    committee = Committee(**coefficients, **dict.fromkeys(others, np.ones(len(losses.species))))
    return replace(losses, committee=committee)


def committee_losses(form, gradient="collective", members=5):
    """Random losses with a committee, without the core, whose forces would drown the others."""
    losses = random_losses(form, gradient)
    return with_committee(replace(losses, core_strength=np.zeros((3, 3))), members)


def of_many_functions(local):
    """Losses of nine functions, a few of them or all other than zero at a distance."""
    losses, n, s = random_losses("coupled"), 9, 3
    knots = losses.grid.spacing * np.round(np.linspace(0.12, losses.cutoff, n + 1) / losses.grid.spacing)
    functions = b_splines(losses.grid, knots)
    if not local:
        functions = np.random.default_rng(1).normal(size=(n, n)) @ functions
    rng = np.random.default_rng(2)
    weights = {rank: rng.normal(size=(s, s * n, s * n)) for rank in losses.form.ranks}
    return replace(
        losses,
        basis=RadialBasis(losses.grid, np.broadcast_to(functions, (s, s, *functions.shape))),
        weights={rank: w + w.transpose(0, 2, 1) for rank, w in weights.items()},
        core_strength=np.zeros((s, s)),
    )


def members_agree(losses, evaluation, positions, species, cell, tolerance):
    """Whether the forces of the members, and the losses themselves, are those of the evaluator."""
    own = evaluate_agents(losses, positions, species, cell).losses
    assert np.abs(evaluation.losses - own).max() < 20 * tolerance * rms(own)
    expected = np.array([evaluate_agents(member, positions, species, cell).forces for member in losses.members()])
    assert evaluation.forces.shape == expected.shape
    assert np.abs(evaluation.forces - expected).max() < 20 * tolerance * rms(expected)
    return True


def moments_agree(losses, evaluation, positions, species, cell, tolerance):
    """Whether the moments are those of NumPy."""
    species_index = losses.index_of(species)
    tables = find_neighbours(positions, cell, species_index, len(losses.species), losses.cutoff)
    radial = [losses.moment_basis.evaluate(table.distances, species_index, b)[0] for b, table in enumerate(tables)]
    expected = moments_by_rank(losses.form.descriptor_ranks, tables, radial)
    assert list(evaluation.moments) == list(expected)
    scale = max(map(rms, expected.values()))  # of all ranks: those of a crystal may cancel
    for rank, moments in expected.items():
        assert evaluation.moments[rank].shape == moments.shape
        assert np.abs(evaluation.moments[rank] - moments).max() < 20 * tolerance * scale
    return True


def visits_agree(losses, evaluation, positions, species, cell):
    """Whether an atom is named for every distance between two species, and no other."""
    species_index, grid = losses.index_of(species), losses.grid
    expected = np.zeros((len(species_index), len(losses.species), grid.intervals), dtype=bool)
    for b, table in enumerate(find_neighbours(positions, cell, species_index, len(losses.species), losses.cutoff)):
        interval = np.floor(table.distances / grid.spacing).astype(int)
        agents = np.broadcast_to(np.arange(len(species_index))[:, None], interval.shape)
        there = table.distances < losses.cutoff
        expected[agents[there], b, interval[there]] = True
    assert evaluation.visited.shape == (len(losses.species), *expected.shape[1:])
    for a, of_a in enumerate(evaluation.visited):
        np.testing.assert_array_equal(of_a >= 0, expected[species_index == a].any(axis=0))
        for b, interval in zip(*np.nonzero(of_a >= 0), strict=True):
            atom = of_a[b, interval]
            assert species_index[atom] == a
            assert expected[atom, b, interval]
    assert evaluation.visited.min() == -1
    return True


@pytest.mark.parametrize(("form", "gradient", "precision", "box"), CASES)
def test_forces_of_members_moments_and_distances(form, gradient, precision, box):
    losses, tolerance, cell = committee_losses(form, gradient), TOLERANCE[precision], CELLS[box]
    positions = random_positions(N, CELL if cell is None else cell)
    evaluation = FusedCommittee(losses, SPECIES, precision)(positions, cell)
    assert members_agree(losses, evaluation, positions, SPECIES, cell, tolerance)
    assert moments_agree(losses, evaluation, positions, SPECIES, cell, tolerance)
    assert visits_agree(losses, evaluation, positions, SPECIES, cell)


@pytest.mark.parametrize(("form", "gradient", "precision"), OPEN)
def test_narrow_boxes(form, gradient, precision):
    losses, tolerance = committee_losses(form, gradient), TOLERANCE[precision]
    for cell in NARROW.values():
        cell = 1.003 * cell  # so that no distance of a lattice is on the grid
        positions, species, box = supercell(narrow_positions(cell), SPECIES[:2], cell, (2, 1, 1))
        evaluation = FusedCommittee(losses, species, precision)(positions, box)
        assert members_agree(losses, evaluation, positions, species, box, tolerance)
        assert moments_agree(losses, evaluation, positions, species, box, tolerance)
        assert visits_agree(losses, evaluation, positions, species, box)


def test_several_parts_in_a_narrow_box():
    cell = np.array([[0.9, 0.0, 0.0], [0.3, 1.0, 0.0], [-0.4, 0.2, 3.0]])
    positions, species, losses = random_positions(120, cell, least=0.12), random_species(120), committee_losses("pair")
    evaluation = FusedCommittee(losses, species, "double", threads=3)(positions, cell)
    assert members_agree(losses, evaluation, positions, species, cell, TOLERANCE["double"])


@pytest.mark.parametrize(("form", "gradient"), alternated(RANKED))
def test_any_choice_of_ranks(form, gradient):
    positions = random_positions(N, CELL)
    losses = committee_losses(form, gradient)
    evaluation = FusedCommittee(losses, SPECIES, "double")(positions, CELL)
    assert members_agree(losses, evaluation, positions, SPECIES, CELL, TOLERANCE["double"])
    assert moments_agree(losses, evaluation, positions, SPECIES, CELL, TOLERANCE["double"])


@pytest.mark.parametrize("members", [1, 9, 35])
def test_any_number_of_members(members):
    positions = random_positions(N, CELL)
    losses = committee_losses("quadratic", members=members)
    for precision, tolerance in TOLERANCE.items():
        evaluation = FusedCommittee(losses, SPECIES, precision)(positions, CELL)
        assert members_agree(losses, evaluation, positions, SPECIES, CELL, tolerance)


@pytest.mark.parametrize("local", [True, False])
def test_many_functions_of_which_few_or_all_are_there_at_a_distance(local):
    positions = random_positions(N, CELL)
    losses = with_committee(of_many_functions(local))
    assert (committee_shape(losses, "open", "single").window == 0) == (not local)
    evaluation = FusedCommittee(losses, SPECIES, "double")(positions, CELL)
    assert members_agree(losses, evaluation, positions, SPECIES, CELL, TOLERANCE["double"])
    assert moments_agree(losses, evaluation, positions, SPECIES, CELL, TOLERANCE["double"])


@pytest.mark.parametrize("form", FORMS)
def test_without_a_committee_there_are_moments_and_distances(form):
    losses = random_losses(form)
    positions = random_positions(N, CELL)
    evaluation = FusedCommittee(losses, SPECIES, "double")(positions, CELL)
    assert evaluation.forces.shape == (0, N, 3)
    np.testing.assert_allclose(evaluation.losses, evaluate_agents(losses, positions, SPECIES, CELL).losses)
    assert moments_agree(losses, evaluation, positions, SPECIES, CELL, TOLERANCE["double"])
    assert visits_agree(losses, evaluation, positions, SPECIES, CELL)


def test_pairs_alone_have_no_moments():
    losses = committee_losses("pair")
    nothing = RadialBasis(losses.grid, losses.basis.coefficients[:, :, :0])
    positions = random_positions(N, CELL)
    evaluation = FusedCommittee(replace(losses, basis=nothing), SPECIES, "double")(positions, CELL)
    assert evaluation.moments == {}
    assert members_agree(losses, evaluation, positions, SPECIES, CELL, TOLERANCE["double"])
    assert visits_agree(losses, evaluation, positions, SPECIES, CELL)


@pytest.mark.parametrize("form", ["pair", "coupled"])
def test_spread_in_single_precision_on_water_is_within_a_hundredth(form):
    frames = liquid()[1][:1]
    losses = with_committee(random_losses(form, species=("H", "O"), cutoff=0.6, shortest=0.08), 16)
    single, double = (FusedCommittee(losses, frames.species, precision) for precision in ("single", "double"))
    for t in range(len(frames)):
        s, expected = (
            np.sqrt(variance_of(evaluation(frames.positions[t], frames.cell(t)).forces))
            for evaluation in (single, double)
        )
        np.testing.assert_allclose(s, expected, rtol=0.01)


def test_a_list_that_is_kept_says_what_a_new_one_says():
    losses = committee_losses("quadratic")
    kept = FusedCommittee(losses, SPECIES, "double")
    rng = np.random.default_rng(5)
    positions = random_positions(N, CELL)
    earlier, lists = [], set()
    for _ in range(40):
        positions = positions + rng.normal(size=positions.shape) * 0.004
        evaluation, new = kept(positions, CELL), FusedCommittee(losses, SPECIES, "double")(positions, CELL)
        np.testing.assert_allclose(evaluation.forces, new.forces, atol=1e-10 * rms(new.forces))
        np.testing.assert_allclose(evaluation.moments[0], new.moments[0], atol=1e-10)
        np.testing.assert_array_equal(evaluation.visited >= 0, new.visited >= 0)
        lists.add(id(kept._lists[0]._calls))
        earlier.append((evaluation, deepcopy(evaluation)))
    assert 1 <= len(lists) < 20
    for pair in earlier:  # an evaluation stays what it was when the next one is made
        for one, other in zip(*((e.forces, e.moments[0], e.visited, e.losses) for e in pair), strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_box_is_followed_and_atoms_outside_it_are_at_home():
    losses = committee_losses("moment")
    evaluation = FusedCommittee(losses, SPECIES, "double")
    positions = random_positions(N, CELL)
    for factor in (1.0, 1.1, 1.0):
        for box in (factor * CELL, factor * TRICLINIC):
            outside = factor * positions + np.random.default_rng(0).integers(-40, 40, size=(N, 3)) @ box
            assert members_agree(losses, evaluation(outside, box), factor * positions, SPECIES, box, 1e-10)


def test_the_number_of_threads_changes_nothing_but_rounding_and_results_repeat():
    losses = committee_losses("coupled")
    shifts = np.stack(np.meshgrid(*3 * [np.arange(2)], indexing="ij"), axis=-1).reshape(-1, 3) @ CELL
    positions = (random_positions(N, CELL) + shifts[:, None]).reshape(-1, 3)
    results = {}
    for threads in (1, 2, 3):
        first, second = (FusedCommittee(losses, MANY, threads=threads)(positions, 2 * CELL) for _ in range(2))
        np.testing.assert_array_equal(first.forces, second.forces)
        np.testing.assert_array_equal(first.visited, second.visited)
        results[threads] = first
        assert members_agree(losses, first, positions, MANY, 2 * CELL, TOLERANCE["single"])
        assert moments_agree(losses, first, positions, MANY, 2 * CELL, TOLERANCE["single"])
        assert visits_agree(losses, first, positions, MANY, 2 * CELL)
    shared = FusedCommittee(losses, MANY, threads=2)
    with ThreadPoolExecutor(3) as pool:
        for evaluation in pool.map(lambda _: shared(positions, 2 * CELL), range(12)):
            np.testing.assert_array_equal(evaluation.forces, results[2].forces)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "pair"])
def test_an_own_part_of_few_columns(form):
    losses = with_committee(with_small_own_part(replace(random_losses(form, "mutual"), core_strength=np.zeros((3, 3)))))
    evaluation = FusedCommittee(losses, SPECIES, "double")(random_positions(N, CELL), CELL)
    assert members_agree(losses, evaluation, random_positions(N, CELL), SPECIES, CELL, TOLERANCE["double"])


@pytest.mark.parametrize(("form", "gradient", "precision"), OPEN)
def test_atoms_without_neighbours_of_a_species_or_of_any(form, gradient, precision):
    losses = committee_losses(form, gradient)
    for species in (("Xe",), ("Ar", "Kr", "Ar")):
        positions = np.arange(len(species))[:, None] * np.array([0.31, 0.0, 0.0])
        evaluation = FusedCommittee(losses, species, precision)(positions)
        expected = np.array([evaluate_agents(member, positions, species).forces for member in losses.members()])
        scale = max(1.0, rms(expected))
        np.testing.assert_allclose(evaluation.forces, expected, atol=100 * TOLERANCE[precision] * scale)
        assert (evaluation.visited >= 0).sum() == 2 * (len(species) > 1)
    nobody = FusedCommittee(losses, (), precision)(np.zeros((0, 3)))
    assert nobody.forces.shape == (5, 0, 3)
    assert all(len(moments) == 0 for moments in nobody.moments.values())
    assert (nobody.visited == -1).all()


def test_the_losses_themselves_know_nothing_of_their_committee():
    losses = random_losses("coupled")
    positions = random_positions(N, CELL)
    alone, together = (FusedLosses(each, SPECIES)(positions, CELL) for each in (losses, with_committee(losses)))
    assert alone[0] == together[0]
    np.testing.assert_array_equal(alone[1], together[1])
    assert len(pack(losses, SPECIES, "single")) == len(pack(with_committee(losses), SPECIES, "single"))


def test_mistakes_are_named():
    losses = committee_losses("pair")
    evaluation = FusedCommittee(losses, SPECIES)
    positions = random_positions(N, CELL)
    evaluation(positions, CELL)
    with pytest.raises(DualityError, match="30 atoms"):
        evaluation(positions[:4], CELL)
    positions[7, 1] = np.nan
    with pytest.raises(DualityError, match="atom 7"):
        evaluation(positions, CELL)
    with pytest.raises(DualityError, match="Ne"):
        FusedCommittee(losses, ("Ne",))
    with pytest.raises(DualityError, match="half"):
        FusedCommittee(losses, SPECIES, "half")
