"""The fused kernel by itself against the NumPy evaluator."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import sleep

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import supercell
from openmm_duality.invariants import contractions
from openmm_duality.losses import FORMS, GRADIENTS, evaluate_agents
from openmm_duality.losses.domain import Domain, KnownEnvironments
from openmm_duality.losses.evaluator import LocalEnvironments, describe_environments
from openmm_duality.losses.forms import Form
from openmm_duality.losses.means import mean_invariants_of
from openmm_duality.lowering.fused import neighbour_lists
from openmm_duality.lowering.fused.losses import FusedLosses, pack, unpacked
from openmm_duality.lowering.fused.own_extent import OwnExtent
from openmm_duality.lowering.fused.threads import VARIABLE, run
from tests.systems import (
    CELL,
    NARROW,
    TRICLINIC,
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
CELLS = {"orthorhombic": CELL, "triclinic": TRICLINIC, "left-handed": TRICLINIC[[1, 0, 2]], "open": None}
BOXES = ["orthorhombic", "triclinic", "open"]  # each has a kernel of its own
TOLERANCE = {"double": 1e-12, "single": 1e-6}
# every form with every gradient in both precisions, each in one box
CASES = [
    case
    for shift, precision in enumerate(TOLERANCE)
    for case in covering(FORMS, [precision], BOXES[shift:] + BOXES[:shift])
]
OPEN = [case[:3] for case in CASES if case[3] == "open"]


def agrees(losses, positions, species, cell, precision, **options):
    """Whether forces and sum of losses are those of the evaluator."""
    expected = evaluate_agents(losses, positions, species, cell)
    energy, forces = FusedLosses(losses, species, precision, **options)(positions, cell)
    tolerance = TOLERANCE[precision]
    # the terms of a loss, whose rounding counts, are larger than the loss
    assert np.abs(energy - expected.energy) < 5 * tolerance * np.abs(expected.losses).sum()
    assert np.abs(forces - expected.forces).max() < 20 * tolerance * rms(expected.forces)
    return True


def of_form(form, gradient="collective", species=SPECIES[:3]):
    """Random losses of any form, without the core, whose forces would drown the others."""
    losses = random_losses("coupled" if form.coupled else "moment", gradient, species=species)
    rng = np.random.default_rng(3)
    s, width = len(species), len(species) * losses.basis.size
    q = contractions.count_invariants(s * losses.coarse.size, form.coupled)

    def of_ranks(coefficients):
        weights = {rank: rng.normal(size=(s, width, width)) for rank in form.ranks}
        c = rng.normal(size=(s, q, q))
        return replace(
            coefficients,
            weights={rank: w + w.transpose(0, 2, 1) for rank, w in weights.items()},
            couplings=c + c.transpose(0, 2, 1),
        )

    own = None if losses.own is None else of_ranks(losses.own)
    return replace(of_ranks(losses), form=form, own=own, core_strength=np.zeros((s, s)))


def in_box(box):
    """Positions and cell of a sort of box."""
    for name in {"triclinic": ["triclinic", "left-handed"]}.get(box, [box]):
        cell = CELLS[name]
        yield random_positions(N, CELL if cell is None else cell), cell


@pytest.mark.parametrize(("form", "gradient", "precision", "box"), CASES)
def test_forces_and_sum_of_losses_are_those_of_the_evaluator(form, gradient, precision, box):
    losses = replace(random_losses(form, gradient), core_strength=np.zeros((3, 3)))
    for positions, cell in in_box(box):
        assert agrees(losses, positions, SPECIES, cell, precision)


RANKS = [
    Form("to rank 3", (0, 1, 2, 3)),
    Form("even", (0, 2)),
    Form("without sums", (1, 3)),
    Form("coupled sums and vectors", (0, 1), coupled=(0, 1)),
    Form("coupled beyond what is contracted", (0,), coupled=(3,)),
    Form("coupled alone", (), coupled=(1, 2)),
]


@pytest.mark.parametrize(
    ("form", "gradient", "precision"),
    [
        *((form, list(GRADIENTS)[k % 3], "double") for k, form in enumerate(RANKS)),
        *((form, "mutual", "single") for form in RANKS),
    ],
    ids=lambda value: value.name if isinstance(value, Form) else value,
)
def test_any_choice_of_ranks(form, gradient, precision):
    assert agrees(of_form(form, gradient), random_positions(N, CELL), SPECIES, CELL, precision)


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("form", [*FORMS, "coupled, ranks 0 to 3"])
def test_an_own_part_of_few_columns(form, precision):
    losses = with_small_own_part(replace(random_losses(form, "mutual"), core_strength=np.zeros((3, 3))))
    if not losses.channels and losses.form.ranks:  # beyond what the own part reaches there are neighbours
        assert OwnExtent.of(losses).reach < losses.cutoff
    for box in BOXES:
        for positions, cell in in_box(box):
            assert agrees(losses, positions, SPECIES, cell, precision)
            without = replace(losses, own=replace(losses.own, **_nothing(losses.own)))
            assert agrees(without, positions, SPECIES, cell, precision)


def _nothing(coefficients):
    """Many-body coefficients that are all zero."""
    return {
        "weights": {rank: 0.0 * w for rank, w in coefficients.weights.items()},
        "couplings": 0.0 * coefficients.couplings,
        "channel_weights": tuple(0.0 * c for c in coefficients.channel_weights),
    }


@pytest.mark.parametrize("species", [("Ar",), ("Ar", "Kr"), ("Ar", "He", "Kr", "Ne", "Xe")])
def test_any_number_of_species(species):
    species_index = random_species(N, species=species)
    assert agrees(of_form(FORMS["coupled"], species=species), random_positions(N, CELL), species_index, CELL, "double")


@pytest.mark.parametrize(("form", "gradient"), [case[:2] for case in OPEN if case[2] == "double"])
def test_atoms_without_neighbours_of_a_species_or_of_any(form, gradient):
    losses = random_losses(form, gradient)
    for species in (("Xe",), ("Ar", "Ar"), ("Ar", "Kr", "Ar")):
        positions = np.arange(len(species))[:, None] * np.array([0.31, 0.0, 0.0])
        expected = evaluate_agents(losses, positions, species)
        energy, forces = FusedLosses(losses, species, "double")(positions)
        np.testing.assert_allclose(forces, expected.forces, atol=1e-9)
        assert energy == pytest.approx(expected.energy, abs=1e-9)
    assert FusedLosses(losses, (), "double")(np.zeros((0, 3))) == (0.0, pytest.approx(np.zeros((0, 3))))


@pytest.mark.parametrize("form", FORMS)
def test_single_precision_on_water_is_within_a_hundred_thousandth(form):
    frames = liquid()[1][::11]
    losses = random_losses(form, species=("H", "O"), cutoff=0.6, shortest=0.08)
    fused = FusedLosses(losses, frames.species)
    for t in range(len(frames)):
        expected = evaluate_agents(losses, frames.positions[t], frames.species, frames.cell(t)).forces
        assert rms(fused(frames.positions[t], frames.cell(t))[1] - expected) < 1e-5 * rms(expected)


@pytest.mark.parametrize("form", ["quadratic", "coupled"])
def test_collective_forces_are_the_negative_gradient_of_the_sum(form):
    losses = random_losses(form)
    fused = FusedLosses(losses, SPECIES, "double")
    positions, h = random_positions(N, TRICLINIC), 1e-5
    forces = fused(positions, TRICLINIC)[1]
    for atom, axis in ((0, 0), (11, 1), (29, 2)):
        ends = []
        for sign in (1, -1):
            moved = positions.copy()
            moved[atom, axis] += sign * h
            ends.append(fused(moved, TRICLINIC)[0])
        assert (ends[1] - ends[0]) / (2 * h) == pytest.approx(forces[atom, axis], abs=1e-6 * rms(forces))
    assert np.abs(forces.sum(0)).max() < 1e-10 * rms(forces)


@pytest.mark.parametrize("name", CELLS)
def test_a_list_that_is_kept_says_what_a_new_one_says(name):
    cell = CELLS[name]
    losses = random_losses("quadratic")
    kept = FusedLosses(losses, SPECIES, "double")
    rng = np.random.default_rng(5)
    positions = random_positions(N, CELL if cell is None else cell)
    lists = set()
    for _ in range(60):
        positions = positions + rng.normal(size=positions.shape) * 0.004
        energy, forces = kept(positions, cell)
        new_energy, new_forces = FusedLosses(losses, SPECIES, "double")(positions, cell)
        np.testing.assert_allclose(forces, new_forces, atol=1e-10 * rms(new_forces))
        assert energy == pytest.approx(new_energy, rel=1e-10)
        assert len(kept._lists) == 1
        lists.add(id(kept._lists[0]._calls))
    assert 1 <= len(lists) < 30


def test_the_box_is_followed_and_atoms_outside_it_are_at_home():
    losses = random_losses("moment")
    fused = FusedLosses(losses, SPECIES, "double")
    positions = random_positions(N, CELL)
    for factor in (1.0, 1.1, 1.0, 1.2):
        for box in (factor * CELL, factor * TRICLINIC):
            outside = factor * positions + np.random.default_rng(0).integers(-40, 40, size=(N, 3)) @ box
            expected = evaluate_agents(losses, factor * positions, SPECIES, box).forces
            np.testing.assert_allclose(fused(outside, box)[1], expected, atol=1e-9 * rms(expected))
    expected = evaluate_agents(losses, positions, SPECIES).forces
    np.testing.assert_allclose(fused(positions)[1], expected, atol=1e-9 * rms(expected))


@pytest.mark.parametrize(("form", "gradient", "precision"), OPEN)
@pytest.mark.parametrize("name", NARROW)
def test_narrow_boxes(name, form, gradient, precision):
    """Boxes narrower than the cutoff, also repeated along one axis, and with one atom alone."""
    losses, cell, species = random_losses(form, gradient), NARROW[name], SPECIES[:2]
    positions = narrow_positions(cell)
    assert agrees(losses, positions, species, cell, precision)
    assert agrees(losses, positions + np.array([[5, -3, 0], [0, 1, -7]]) @ cell, species, cell, precision)
    assert agrees(losses, *(one := supercell(positions, species, cell, (2, 1, 1)))[:2], one[2], precision)
    energy, forces = FusedLosses(losses, species[:1], precision)(positions[:1], cell)
    lone = evaluate_agents(losses, positions[:1], species[:1], cell)
    assert energy == pytest.approx(lone.energy, rel=10 * TOLERANCE[precision])
    assert np.abs(forces - lone.forces).max() < 100 * TOLERANCE[precision] * np.abs(lone.energy)


@pytest.mark.parametrize("name", NARROW)
def test_a_narrow_box_is_followed_and_its_list_is_kept(name):
    """Over steps of a run in which the box changes now and then, and atoms leave it."""
    losses, cell, rng = random_losses("moment"), NARROW[name], np.random.default_rng(2)
    kept, lists = FusedLosses(losses, SPECIES[:2], "double"), set()
    positions = narrow_positions(cell)
    for step in range(60):
        if step % 20 == 19:
            positions, cell = 1.02 * positions, 1.02 * cell
        positions = positions + rng.normal(size=positions.shape) * 0.004
        energy, forces = kept(positions, cell)
        expected = evaluate_agents(losses, positions, SPECIES[:2], cell)
        np.testing.assert_allclose(forces, expected.forces, atol=1e-10 * rms(expected.forces))
        assert energy == pytest.approx(expected.energy, abs=1e-11 * np.abs(expected.losses).sum())
        lists.add(id(kept._lists[0]._calls))
    assert 3 <= len(lists) < 30


def test_many_atoms_in_a_narrow_box():
    """Several parts, whose agents meet images of each other; the same numbers for any number of threads."""
    losses = random_losses("coupled")
    cell = np.array([[0.9, 0.0, 0.0], [0.3, 1.0, 0.0], [-0.4, 0.2, 3.0]])
    positions = random_positions(120, cell, least=0.12)
    species = random_species(120)
    for threads in (1, 3):
        assert agrees(losses, positions, species, cell, "double", threads=threads)


@pytest.mark.parametrize("copies", [(4, 4, 4), (1, 6, 7), (2, 1, 21)])
@pytest.mark.parametrize("name", ["orthorhombic", "triclinic"])
def test_large_and_thin_boxes(name, copies):
    """More than a thousand atoms, cells along some axes and one or two of them along others."""
    cell = CELLS[name]
    losses = random_losses("moment", cutoff=0.6)
    shifts = np.stack(np.meshgrid(*(np.arange(k) for k in copies), indexing="ij"), axis=-1).reshape(-1, 3) @ cell
    one = random_positions(N, cell)
    positions = (one + shifts[:, None]).reshape(-1, 3)
    expected = evaluate_agents(losses, one, SPECIES, cell)
    box = np.array(copies)[:, None] * cell
    energy, forces = FusedLosses(losses, SPECIES * len(shifts), "double")(positions, box)
    np.testing.assert_allclose(forces, np.tile(expected.forces, (len(shifts), 1)), atol=1e-9 * rms(expected.forces))
    assert energy == pytest.approx(len(shifts) * expected.energy, rel=1e-10)


def test_few_atoms_in_much_space():
    losses = random_losses("moment")
    positions = np.vstack([random_positions(N - 2, CELL), [[4e3, 0.0, 0.0], [0.0, 5e3, 6e3]]])
    assert agrees(losses, positions, SPECIES, None, "double")
    assert agrees(losses, positions, SPECIES, 1e4 * np.eye(3), "double")


def many_positions(seed=0):
    """Eight copies of a few atoms, in a box twice as wide."""
    shifts = np.stack(np.meshgrid(*3 * [np.arange(2)], indexing="ij"), axis=-1).reshape(-1, 3) @ CELL
    return (random_positions(N, CELL, seed) + shifts[:, None]).reshape(-1, 3)


@pytest.mark.parametrize("form", ["pair", "coupled"])
def test_the_number_of_threads_changes_nothing_but_rounding_and_results_repeat(form):
    losses = random_losses(form)
    positions = many_positions()
    results = {}
    for threads in (1, 2, 3, 50):
        first, second = (FusedLosses(losses, MANY, threads=threads)(positions, 2 * CELL) for _ in range(2))
        assert first[0] == second[0]
        np.testing.assert_array_equal(first[1], second[1])
        results[threads] = first
    for energy, forces in results.values():
        np.testing.assert_allclose(forces, results[1][1], atol=1e-5 * rms(forces))
        assert energy == pytest.approx(results[1][0], rel=1e-5)


def test_parts_have_the_atoms_near_their_agents_and_more_threads_than_cores_agree(monkeypatch):
    """Memory in proportion to the atoms, in boxes wide enough that no part is near all of them."""
    losses, one, per_atom = random_losses("moment", cutoff=0.35), random_positions(N, CELL), []
    expected = evaluate_agents(losses, one, SPECIES, CELL)
    monkeypatch.setenv(VARIABLE, "16")
    for copies in ((4, 4, 4), (4, 4, 16)):
        shifts = np.stack(np.meshgrid(*(np.arange(k) for k in copies), indexing="ij"), axis=-1).reshape(-1, 3) @ CELL
        positions, box = (one + shifts[:, None]).reshape(-1, 3), np.array(copies)[:, None] * CELL
        fused = FusedLosses(losses, SPECIES * len(shifts), skin=0.05)
        assert fused.threads == 16
        energy, forces = fused(positions, box)
        tiled = np.tile(expected.forces, (len(shifts), 1))
        assert np.abs(forces - tiled).max() < 20 * TOLERANCE["single"] * rms(tiled)
        again = FusedLosses(losses, SPECIES * len(shifts), skin=0.05)(positions, box)
        assert again[0] == energy
        np.testing.assert_array_equal(again[1], forces)
        memory, sizes = fused._lists[0].memory(), fused._lists[0].part_sizes
        assert len(sizes) == 32
        assert sum(agents for agents, _ in sizes) == len(positions)
        assert max(atoms for _, atoms in sizes) < 0.75 * len(positions)
        per_atom.append((memory["forces"] + memory["positions"]) / len(positions))
    assert per_atom[1] < per_atom[0] < 20 * (16 + 32)


@pytest.mark.parametrize(
    ("form", "gradient", "precision", "box"), [case for case in CASES if 0 in FORMS[case[0]].ranks]
)
def test_contractions_about_any_sums_are_the_same_losses(form, gradient, precision, box):
    losses = replace(random_losses(form, gradient), core_strength=np.zeros((3, 3)))
    centres = np.random.default_rng(4).normal(size=(3, 3, losses.basis.size))
    for positions, cell in in_box(box):
        assert agrees(losses, positions, SPECIES, cell, precision, mean_sums=centres)


def test_the_energy_in_single_precision_is_less_noisy_about_the_mean_sums_of_the_data():
    """Differences of energies, as of the moves of a Monte Carlo barostat, where sums vary little, as in a liquid."""
    losses = random_losses("quadratic")
    losses = replace(losses, pair_coefficients=0.0 * losses.pair_coefficients)
    grid = np.stack(np.meshgrid(*3 * [np.arange(3)], indexing="ij"), axis=-1).reshape(-1, 3) / 3.0
    positions, species = (grid + 0.01 * np.random.default_rng(1).normal(size=grid.shape)) @ CELL, ("Kr",) * 27
    environments = LocalEnvironments.of(losses, positions, species, CELL)
    centres = np.broadcast_to(environments.moments[0][..., 0].mean(axis=0), (3, 3, losses.basis.size))
    exact = FusedLosses(losses, species, "double")
    noise = {}
    for name, given in (("centred", centres), ("not", np.zeros_like(centres))):
        fused, rng = FusedLosses(losses, species, mean_sums=given), np.random.default_rng(0)
        scales = 1.0 + 1e-3 * rng.normal(size=60)
        noise[name] = np.std([fused(k * positions, k * CELL)[0] - exact(k * positions, k * CELL)[0] for k in scales])
    assert 0.0 < noise["centred"] < 0.5 * noise["not"]
    travelled = unpacked(pack(with_mean_sums(losses, centres), species, "single"))
    assert travelled(positions, CELL)[0] == FusedLosses(losses, species, mean_sums=centres)(positions, CELL)[0]


COUPLED = ["coupled", "coupled, ranks 0 to 3"]


@pytest.mark.parametrize(
    ("form", "gradient", "precision", "box"),
    [
        *(case for case in CASES if FORMS[case[0]].coupled),
        *(
            (COUPLED[1], gradient, precision, "triclinic")
            for gradient in ("agent", "mutual")
            for precision in TOLERANCE
        ),
    ],
)
def test_quadratic_forms_about_any_invariants_are_the_same_losses(form, gradient, precision, box):
    losses = replace(random_losses(form, gradient), core_strength=np.zeros((3, 3)))
    means = np.random.default_rng(4).normal(size=losses.couplings.shape[:2])
    for positions, cell in in_box(box):
        assert agrees(losses, positions, SPECIES, cell, precision, mean_invariants=means)


@pytest.mark.parametrize("form", COUPLED)
def test_mean_invariants_come_from_the_mean_descriptors_of_the_domain(form):
    losses, species = random_losses(form), SPECIES[:3] * 8
    moments = LocalEnvironments.of(losses, random_positions(24, CELL), species, CELL).moments
    index, n = losses.index_of(species), losses.basis.size
    coarse = {r: m[:, :, n:].reshape(len(m), -1, 2 * r + 1) for r, m in moments.items()}
    phi, described = contractions.invariants(coarse, losses.form.coupled), describe_environments(losses, moments, index)
    centres = [described[index == a].mean(axis=0) for a in range(3)]
    known = tuple(KnownEnvironments(c, np.ones((len(c), 1)), 1.0) for c in centres)
    domain = Domain(np.ones((3, 3, losses.grid.intervals)), known, np.ones((4, 2)), 1.0, 1.0)
    expected = np.array([phi[index == a].mean(axis=0) for a in range(3)])
    if 0 in losses.form.coupled:  # of its contractions, products of the means
        width = coarse[0].shape[1]
        rows, columns = np.triu_indices(width)
        expected[:, width : width + len(rows)] = expected[:, rows] * expected[:, columns]
    np.testing.assert_allclose(mean_invariants_of(replace(losses, domain=domain)), expected, rtol=0, atol=1e-3)


def test_the_energy_in_single_precision_is_less_noisy_about_the_mean_invariants_of_the_data():
    losses = random_losses("coupled", cutoff=0.8)
    weights = {rank: 0.0 * w for rank, w in losses.weights.items()}
    losses = replace(losses, pair_coefficients=0.0 * losses.pair_coefficients, weights=weights)
    grid = np.stack(np.meshgrid(*3 * [np.arange(3)], indexing="ij"), axis=-1).reshape(-1, 3) / 3.0
    positions, species = (grid + 0.01 * np.random.default_rng(1).normal(size=grid.shape)) @ CELL, ("Kr",) * 27
    found = LocalEnvironments.of(losses, positions, species, CELL).moments
    coarse = {r: m[:, :, losses.basis.size :].reshape(27, -1, 2 * r + 1) for r, m in found.items()}
    phi = contractions.invariants(coarse, losses.form.coupled)
    means = np.broadcast_to(phi.mean(axis=0), losses.couplings.shape[:2])
    exact, noise = FusedLosses(losses, species, "double"), {}
    for name, given in (("mean", means), ("zero", np.zeros_like(means))):
        fused, rng = FusedLosses(losses, species, mean_invariants=given), np.random.default_rng(0)
        scales = 1.0 + 1e-3 * rng.normal(size=60)
        noise[name] = np.std([fused(k * positions, k * CELL)[0] - exact(k * positions, k * CELL)[0] for k in scales])
    assert 0.0 < noise["mean"] < 0.5 * noise["zero"]
    packed = unpacked(pack(losses, species, "single"))
    assert packed(positions, CELL)[0] == FusedLosses(losses, species)(positions, CELL)[0]


def test_pair_losses_of_channels_are_added_up_in_double_precision():
    """Many neighbours whose losses have one sign: the error is that of single terms, not of their growing sum."""
    losses = random_losses("channels", cutoff=0.8)
    losses = replace(losses, pair_coefficients=1e3 * np.abs(losses.pair_coefficients))
    exact, fused = (FusedLosses(losses, SPECIES, precision) for precision in ("double", "single"))
    positions, scales = random_positions(N, CELL), 1.0 + 1e-3 * np.random.default_rng(0).normal(size=60)
    energies = np.array([[f(k * positions, k * CELL)[0] for k in scales] for f in (exact, fused)])
    assert np.std(energies[1] - energies[0]) < 4e-9 * np.abs(energies[0]).mean()


def with_mean_sums(losses, centres):
    """The losses with a domain whose descriptors have these mean sums."""
    known = tuple(
        KnownEnvironments(np.append(of_species.ravel(), np.zeros(5)), np.ones((of_species.size + 5, 1)), 1.0)
        for of_species in centres
    )
    s = len(centres)
    domain = Domain(np.ones((s, s, losses.grid.intervals)), known, np.ones((s + 1, 2)), 1.0, 1.0)
    return replace(losses, domain=domain)


def test_several_threads_may_call_at_once():
    losses = random_losses("moment")
    starts = [many_positions(seed) for seed in range(4)]
    shared = FusedLosses(losses, MANY, "double", threads=2)

    def run(start):
        own = FusedLosses(losses, MANY, "double", threads=3)
        return [fused(start + k * 0.01, 2 * CELL)[1] for k in range(20) for fused in (own, shared)]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, starts))
    for start, forces in zip(starts, results, strict=True):
        expected = evaluate_agents(losses, start, MANY, 2 * CELL).forces
        for force in forces:
            np.testing.assert_allclose(force, expected, atol=1e-8 * rms(expected))


def test_an_interruption_waits_for_the_parts_under_way():
    begun, done = [], []

    def part(k):
        begun.append(k)
        sleep(0.1)
        done.append(k)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            run(part, range(6), 3)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(done) == len(begun) - 1  # all but the one that was interrupted
    finished = len(begun)
    sleep(0.15)
    assert len(begun) == finished < 6


INTERRUPTED = """
import signal, time
from openmm_duality.losses.means import mean_invariants_of
from openmm_duality.lowering.fused.threads import run

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
end, caught = time.perf_counter() + 1.5, 0
while time.perf_counter() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, 2e-5)
        for _ in range(20):
            run(lambda k: None, [0, 1, 2, 3], 2)
    except KeyboardInterrupt:
        caught += 1
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        caught += 1
assert caught > 100, caught
run(print, ["alive"], 2)
"""


def test_interruptions_at_any_moment_leave_nobody_waiting():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], timeout=60, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "alive"


def test_trajectories_in_turn_keep_their_lists():
    losses = random_losses("pair")
    fused = FusedLosses(losses, SPECIES, "double")
    starts = [random_positions(N, CELL, seed=k) for k in range(3)]
    for start in starts:
        fused(start, CELL)
    lists = {id(one) for one in fused._lists}
    for k in range(5):
        for start in starts:
            fused(start + 0.002 * k, CELL)
    assert {id(one) for one in fused._lists} == lists
    # two that differ by one atom do not take each other's list either
    fused, other = FusedLosses(losses, SPECIES, "double"), starts[0].copy()
    other[3] += 0.06
    for start in (starts[0], other):
        fused(start, CELL)
    lists = {id(one) for one in fused._lists}
    assert len(lists) == 2
    for start in (starts[0], other, starts[0] + 0.01, other + 0.01):
        fused(start, CELL)
    assert {id(one) for one in fused._lists} == lists
    for seed in range(3, 20):
        fused(random_positions(N, CELL, seed=seed), CELL)
    assert len(fused._lists) == neighbour_lists.LISTS


def test_mistakes_are_named(monkeypatch):
    losses = random_losses("pair")
    fused = FusedLosses(losses, SPECIES)
    positions = random_positions(N, CELL)
    fused(positions, CELL)
    with pytest.raises(DualityError, match="30 atoms"):
        fused(positions[:4], CELL)
    for cell in (CELL, TRICLINIC):
        for number in (np.nan, np.inf):
            fused(positions, cell)
            broken = positions.copy()
            broken[7, 1] = number
            with pytest.raises(DualityError, match="atom 7"):
                fused(broken, cell)
    for box in (np.full((3, 3), np.nan), np.zeros((3, 3)), CELL[:2]):
        with pytest.raises(DualityError, match="span a volume"):
            fused(positions, box)
    with pytest.raises(DualityError, match="Ne"):
        FusedLosses(losses, ("Ne",))
    with pytest.raises(DualityError, match="half"):
        FusedLosses(losses, SPECIES, "half")
    monkeypatch.setenv(VARIABLE, "some")
    with pytest.raises(DualityError, match=VARIABLE):
        FusedLosses(losses, SPECIES)
    monkeypatch.setenv(VARIABLE, "1")
    assert FusedLosses(losses, SPECIES).threads == 1
    fused(positions, CELL)


def test_packed_losses_say_the_same():
    losses = random_losses("coupled")
    positions = random_positions(N, CELL)
    packed = pack(losses, SPECIES, "double")
    _, forces = unpacked(packed)(positions, CELL)
    expected = evaluate_agents(losses, positions, SPECIES, CELL)
    np.testing.assert_allclose(forces, expected.forces, atol=1e-10 * rms(expected.forces))
    assert unpacked(bytes(bytearray(packed))) is unpacked(packed)


def test_no_torch_is_needed_and_a_child_process_has_threads_of_its_own():
    script = """
import os, sys
import numpy as np
from tests.systems import CELL, random_losses, random_species
from openmm_duality.lowering.fused.losses import FusedLosses
assert "torch" not in sys.modules
species, positions = random_species(100), np.random.default_rng(0).uniform(size=(100, 3)) @ CELL
fused = FusedLosses(random_losses("pair"), species, threads=2)
before = fused(positions, CELL)[1]
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(fused(positions, CELL)[1], before) else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", script], check=True)
