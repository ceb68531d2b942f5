"""Forces below the shortest distances and in gaps of the training data: the prior, the core and the warnings."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from openmm_duality.cli import main
from openmm_duality.geometry.contacts import contacts, distance_at, screened_repulsion
from openmm_duality.geometry.pairs import pairs_within
from openmm_duality.inference import DataSet, Settings, evaluate, infer
from openmm_duality.inference.equations.inference import Inference
from openmm_duality.inference.equations.targets import pair_frames
from openmm_duality.inference.errors import ErrorTable
from openmm_duality.inference.fitting import repulsive_losses
from openmm_duality.inference.judgement import (
    doubtful_fits,
    format_overfitted,
    overfitted,
    short_dynamics,
    too_simple,
    unknown_systems,
)
from openmm_duality.inference.repulsive_core import approach, attraction, with_core
from openmm_duality.inference.walls import DEPTHS, forces_of_closest, missing_wall, with_walls
from openmm_duality.invariants.neighbours import find_neighbours
from openmm_duality.losses import AgentLosses
from openmm_duality.losses.cores import core_onsets, levelled
from openmm_duality.losses.evaluator import evaluate_agents
from openmm_duality.reference import Frames, read
from tests.systems import CELL, labelled, random_frames, random_losses, rms
from tests.water import EXAMPLES, liquid

PAIRS = {"H-O": 0.0855, "O-O": 0.204, "H-H": 0.115}  # nm; distances below these are left out of training


def shortest(frames, pair):
    """Shortest distance of a pair of species in each frame."""
    species = np.array(frames.species)
    one, other = (species == name for name in pair.split("-"))
    found = []
    for t in range(len(frames)):
        i, j, r = pairs_within(frames.positions[t], frames.cell(t), 0.3)
        found.append(r[(one[i] & other[j]) | (other[i] & one[j])].min())
    return np.array(found)


@pytest.fixture(scope="module")
def distorted():
    return read(EXAMPLES / "water64-distorted/distorted")


@pytest.mark.parametrize(("form", "steps"), [("moment", 0), ("channels", 0), ("channels", 2)])
@pytest.mark.parametrize(("pair", "least"), PAIRS.items())
def test_the_force_0_1_angstrom_below_the_training_distances_is_not_much_worse_than_usual(
    form, steps, pair, least, distorted
):
    r = shortest(distorted, pair)
    inside = np.flatnonzero(r >= least)
    train, usual = distorted[inside[::4]], distorted[inside[2::4]]
    below = distorted[np.flatnonzero(np.abs(r - r[inside[::4]].min() + 0.01) < 0.004)]
    assert len(below)
    sets = [DataSet(liquid()[0][::48], name="liquid"), DataSet(train, 0.2, "distorted")]
    channels = {"invariants": (40, 100, 20), "mixing_steps": steps}  # few, for time
    few = channels if form == "channels" else {"functions": 5}
    losses = infer(sets, form=form, cutoff=0.59, members=0, stress_weight=0.0, pair_functions=20, **few)
    limit = 3.5 if steps and pair == "O-O" else 3.0  # with learned mixing the usual error is half as large
    assert evaluate(losses, below).force_rmse["all"] < limit * evaluate(losses, usual).force_rmse["all"]


def wall(r):
    """Energy (kJ/mol) and its slope for a purely repulsive pair."""
    energy = 40.0 * np.exp(-(r - 0.2) / 0.025)
    return energy, -energy / 0.025


def with_forces(frames, potential, noise=0.0):
    """Frames with the forces of one pair potential between all atoms, and noise."""
    forces = np.random.default_rng(0).normal(size=frames.positions.shape) * noise
    for t in range(len(frames)):
        d = frames.positions[t][:, None] - frames.positions[t]
        d -= np.round(d / np.diag(CELL)) * np.diag(CELL)
        r = np.linalg.norm(d, axis=-1) + 10.0 * np.eye(len(d))
        forces[t] -= np.sum((potential(r)[1] / r)[..., None] * d * (r < 0.5)[..., None], axis=1)
    return replace(frames, forces=forces)


@pytest.mark.parametrize("form", ["pair", "quadratic"])
def test_a_hardly_sampled_tail_of_the_functions_does_not_blow_up(form):
    """One pair of one frame reaches 0.15 nm, all others stay above 0.19 nm."""
    frames = random_frames(20, n_atoms=20, least=0.19)
    positions = frames.positions.copy()
    step = positions[0, 1] - positions[0, 0]
    step -= np.round(step / np.diag(CELL)) * np.diag(CELL)
    positions[0, 1] = positions[0, 0] + 0.15 * step / np.linalg.norm(step)
    data = with_forces(replace(frames, positions=positions), wall, noise=20.0)
    losses = infer(data, form=form, cutoff=0.5, members=0)
    test = with_forces(random_frames(10, n_atoms=20, seed=5, least=0.165), wall)
    table = evaluate(losses, test)
    assert table.force_rmse["all"] < 0.25 * table.force_rms["all"]
    sizes = [np.abs(losses.pair_coefficients), *map(np.abs, losses.weights.values())]
    assert max(size.max() for size in sizes) < 1e4 * wall(0.15)[0]


@pytest.mark.parametrize("form", ["pair", "moment"])
def test_a_repulsive_wall_is_continued_below_the_data(form):
    losses = infer(with_forces(random_frames(20, least=0.17), wall), form=form, cutoff=0.5, members=0)
    onset, seen = core_onsets(losses.shortest, losses.grid)[0, 1], losses.shortest[0, 1]
    dimer = random_frames(1, n_atoms=2)
    r = np.arange(0.03, seen, 2e-4)
    dimers = [np.array([[0.1, 0.1, 0.1], [0.1 + x, 0.1, 0.1]]) for x in r]
    frames = Frames(dimer.species, dimer.masses, np.array(dimers), np.zeros(len(r)), np.arange(len(r)), None)
    forces = labelled(frames, losses).forces[:, 1, 0]
    assert (forces > 0.0).all()
    # close to the wall of the data as far as the onset, and without jumps below
    inside = r > onset
    np.testing.assert_allclose(forces[inside], -wall(r[inside])[1], rtol=0.3)
    assert np.abs(np.diff(forces, n=2)).max() < 0.1 * forces.max()
    assert np.abs(np.diff(forces[r > 0.9 * onset], n=2)).max() < 0.02 * forces[inside].max()


def test_a_wall_grows_as_the_data_show_and_only_where_the_losses_fall_short_of_that():
    onset, rate = 0.09, 60.0
    r = onset * (1.0 - 0.075 * DEPTHS)
    exponential = 3e4 * (np.exp(rate * (onset - r)) - 0.5)
    assert missing_wall(exponential, onset) == pytest.approx(0.0, abs=1e-6)
    assert missing_wall(exponential + 1e4 * np.maximum(onset - r, 0.0), onset) == 0.0  # harder already
    slope, curvature = 3e4 * rate, 3e4 * rate**2
    harmonic = np.where(r < onset, 1.5e4 + slope * (onset - r) + 0.5 * curvature * (onset - r) ** 2, exponential)
    strength = missing_wall(harmonic, onset)
    added = 4.0 * strength / onset * (1.0 - r / onset).clip(0.0) ** 3
    np.testing.assert_allclose((harmonic + added)[2:], exponential[2:], rtol=0.02)
    assert missing_wall(exponential[::-1], onset) == 0.0  # no wall
    hole = np.where(r < onset, -8e5 * (1.0 - r / onset) ** 3, 0.0)  # the force does not grow inwards, then attracts
    assert missing_wall(hole, onset) == pytest.approx(2e5 * onset)
    outside = np.maximum(r, onset) - onset
    steep = [np.expm1(-rate * outside) / -np.expm1(-rate * 0.075 * onset) for rate in (300.0, 3000.0)]
    first, second = (missing_wall(forces, onset) for forces in steep)
    assert 0.0 < first == pytest.approx(second)  # both grow as a wall r^-12


@pytest.mark.parametrize("gradient", ["agent", "collective", "mutual"])
@pytest.mark.parametrize("form", ["quadratic", "moment", "channels"])
def test_the_forces_that_walls_continue_are_those_of_two_atoms(form, gradient):
    losses, onset = random_losses(form, gradient), 0.2
    index = losses.index_of(("Ar", "Kr"))
    r = onset * (1.0 - 0.075 * DEPTHS)
    pairs = [np.array([[0.0, 0.0, 0.0], [0.6 * x, 0.8 * x, 0.0]]) for x in (0.21, *r)]
    tables = find_neighbours(pairs[0], None, index, 3, losses.cutoff)
    ways = [forces_of_closest(losses, index, tables, *way, onset)[0] for way in ((0, 1), (1, 0))]
    expected = np.array([evaluate_agents(losses, q, ("Ar", "Kr"), None).forces @ [0.6, 0.8, 0.0] for q in pairs[1:]])
    found = [ways[0], ways[1]] if gradient == "agent" else [ways[0] + ways[1]] * 2
    if gradient == "mutual":
        own = [forces_of_closest(losses.descended, index, tables, *way, onset)[0] for way in ((0, 1), (1, 0))]
        found = [own[0] + ways[1], ways[0] + own[1]]
    np.testing.assert_allclose(np.stack(found, axis=1) * [-1.0, 1.0], expected, rtol=1e-9, atol=1e-9 * rms(expected))
    assert len(forces_of_closest(losses, index, tables, 0, 0, onset)) == 0


def test_a_pair_of_species_has_the_wall_of_the_first_frames_that_show_two_such_atoms():
    frames = with_forces(random_frames(20, least=0.17), wall)
    losses = infer(frames, form="pair", cutoff=0.5, members=0)
    one_of_each = replace(
        frames[:2], species=("Ar", "Kr"), masses=frames.masses[:2], positions=frames.positions[:2, :2], cells=None,
        forces=frames.forces[:2, :2], energies=None,
    )  # fmt: skip
    found = with_walls(losses, pair_frames([DataSet(one_of_each), DataSet(frames)]))
    assert (found.wall_strength[[0, 1], [0, 1]] == losses.wall_strength[[0, 1], [0, 1]]).all()


def test_walls_mend_pair_potentials_that_are_too_soft_below_the_data():
    frames = with_forces(random_frames(30, least=0.17), wall)
    losses = infer(frames, form="pair", cutoff=0.5, members=0)
    pairs = {("Ar", "Ar"), ("Ar", "Kr"), ("Kr", "Kr")}
    none = np.zeros_like(losses.core_strength)
    soft = replace(losses, core_strength=none, wall_strength=none)
    found = with_walls(soft, [(frames, pairs)])
    again = with_walls(found, [(frames, pairs)])
    np.testing.assert_array_equal(found.wall_strength, again.wall_strength)  # walls do not add up
    np.testing.assert_array_equal(with_walls(found, []).wall_strength, found.wall_strength)  # what no data show stays
    closer = with_forces(random_frames(10, seed=3, least=0.15), wall)
    before, after = (evaluate(model, closer).force_rmse["all"] for model in (soft, found))
    assert after < 0.8 * before


def molecule(n_frames, temperature, seed):
    """A flexible chain of three species: stiff bonds, angles, and soft repulsion, from Langevin dynamics in NumPy."""
    species = ("C", "O", "C", "C", "H", "H", "H", "H")
    bonds = np.array([(0, 1), (1, 2), (2, 3), (0, 4), (0, 5), (3, 6), (3, 7)])
    angles = np.array([(0, 2), (1, 3), (1, 4), (1, 5), (4, 5), (2, 6), (2, 7), (6, 7)])
    masses = np.array([{"C": 12.0, "O": 16.0, "H": 1.0}[name] for name in species])
    i, j = np.triu_indices(8, 1)
    of_bond = np.array([(a, b) in map(tuple, bonds) for a, b in zip(i, j, strict=True)])
    of_angle = np.array([(a, b) in map(tuple, angles) for a, b in zip(i, j, strict=True)])
    light = np.array([masses[a] == 1.0 or masses[b] == 1.0 for a, b in zip(i, j, strict=True)])
    length = np.where(of_bond, np.where(light, 0.109, 0.145), np.where(light, 0.205, 0.245))
    stiffness = np.where(of_bond, 2.5e5, np.where(of_angle, 2.0e4, 0.0))

    def forces(x):
        d = x[j] - x[i]
        r = np.linalg.norm(d, axis=1)
        slope = stiffness * (r - length) * (1.0 - np.where(of_bond, 9.0, 0.0) * (r - length))
        slope -= np.where(stiffness > 0.0, 0.0, 30.0 * (0.2 / r) ** 6 / r)
        pull = (slope / r)[:, None] * d
        total = np.zeros_like(x)
        np.add.at(total, i, pull)
        np.subtract.at(total, j, pull)
        return total

    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.normal(size=(8, 3)), axis=0) * 0.05
    x[:4] = [[0.0, 0.0, 0.0], [0.13, 0.06, 0.0], [0.24, 0.0, 0.05], [0.36, 0.06, 0.0]]
    x[4:] = [[-0.06, 0.05, 0.08], [-0.06, 0.03, -0.09], [0.42, 0.0, 0.08], [0.43, 0.03, -0.09]]
    v, dt, positions = np.zeros_like(x), 5e-4, []
    noise = np.sqrt(2.0 * 20.0 * 0.0083145 * temperature * dt / masses)[:, None]
    for step in range(400 + 20 * n_frames):
        v += dt * forces(x) / masses[:, None] - dt * 20.0 * v + noise * rng.normal(size=x.shape)
        x = x + dt * v
        if step >= 400 and step % 20 == 0:
            positions.append(x)
    all_forces = np.array([forces(x) for x in positions])
    return Frames(
        species, masses, np.array(positions), np.zeros(n_frames), np.arange(n_frames), None, forces=all_forces
    )


@pytest.mark.parametrize("form", ["quadratic", "moment"])
def test_a_core_is_found_for_a_molecule_with_gaps_in_its_distances(form):
    train, hot = molecule(120, 300.0, 1), molecule(60, 600.0, 2)
    assert np.isfinite(train.forces).all()
    losses = infer(train, form=form, cutoff=0.5, members=0, functions=5)
    assert not losses.metadata["core"]["attracting"]
    assert not attraction(losses)
    table = evaluate(losses, hot)
    assert table.force_rmse["all"] < 0.5 * table.force_rms["all"]


def test_a_core_that_cannot_hold_is_reported_and_not_hard():
    losses, frames = random_losses("pair"), random_frames(3)
    tested = [(frames, {("Ar", "Kr")})]
    slope = losses.pair_potentials.evaluate(np.full((1, 1), 0.09), np.zeros(1, dtype=int), 1)[1].item()
    strong = [replace(losses, pair_coefficients=f * np.sign(slope) * losses.pair_coefficients) for f in (-1.0, 1e12)]
    held, attracted = (with_core(one, tested, 1e3) for one in strong)
    assert held.metadata["core"]["attracting"] == []
    assert attraction(held) == ""
    assert attracted.metadata["core"]["attracting"] == ["Ar-Kr"]
    assert "Ar-Kr" in attraction(attracted)
    # the weakest core, as without a test
    np.testing.assert_array_equal(attracted.core_strength, with_core(losses, [], 1e3).core_strength)


def test_the_force_of_the_core_in_an_approach_is_linear_in_its_strength():
    losses, frames = random_losses("moment"), random_frames(1)
    bare = replace(losses, core_strength=np.zeros((3, 3)))
    i, j, _ = pairs_within(frames.positions[0], frames.cell(0), 0.3)
    for a, b in zip(i[:5], j[:5], strict=True):
        with_it, without = (approach(model, frames, int(a), int(b)) for model in (losses, bare))
        added = np.einsum("kab,ab->k", without.per_strength, losses.core_strength)
        np.testing.assert_allclose(without.forces + added, with_it.forces, rtol=1e-9)
        moved = frames.positions.copy()
        step = moved[0, b] - moved[0, a]
        step -= np.round(step / np.diag(CELL)) * np.diag(CELL)
        moved[0, b] += (with_it.distances[3] / np.linalg.norm(step) - 1.0) * step
        whole = labelled(replace(frames, positions=moved), losses).forces[0, b] @ step / np.linalg.norm(step)
        assert with_it.forces[3] == pytest.approx(whole, rel=1e-9)


def test_stronger_ridges_are_tried_where_no_core_holds(monkeypatch):
    """The search itself is tested above; here the ridge from which on it succeeds is known."""
    from openmm_duality.inference import fitting

    inference = Inference.of(
        [DataSet(with_forces(random_frames(10, n_atoms=12), wall))], Settings(form="pair", cutoff=0.5, members=0)
    )
    preferred = inference.preferences[0][0]["ridge"]
    enough = 1e-3

    def known(losses, *_):
        ridge = losses.metadata["regularisation"][0]["ridge"]
        core = {"attracting": [] if ridge >= enough else ["Ar-Kr"]}
        return replace(losses, metadata={**losses.metadata, "core": core})

    monkeypatch.setattr(fitting, "with_core", known)
    losses = repulsive_losses(inference)
    ridges = [c["regularisation"][0]["ridge"] for c in losses.metadata["core"]["rejected"]]
    assert ridges[0] == preferred
    assert ridges == sorted(set(ridges))
    assert losses.metadata["regularisation"][0]["ridge"] == enough
    enough = np.inf  # none is
    losses = repulsive_losses(inference)
    assert losses.metadata["regularisation"][0]["ridge"] == preferred
    assert losses.metadata["core"]["attracting"] == ["Ar-Kr"]


def test_a_pair_that_is_only_seen_far_apart_has_the_core_of_its_nuclei():
    """Argon and krypton, never closer than 4.5 Å in the data: real atoms meet at 3.5 Å."""
    losses = random_losses("pair", species=("Ar", "Kr"), cutoff=0.6, shortest=0.45)
    met = replace(losses, contacts=contacts(losses.shortest, losses.species))
    soft = with_core(met, [], 1e4)
    onset = soft.metadata["core"]["onset_nm"]["Ar-Kr"]
    assert onset == pytest.approx(0.85 * distance_at(("Ar", "Kr")))

    def core(one, r):
        alone = replace(one, pair_coefficients=0.0 * one.pair_coefficients, wall_strength=0.0 * one.wall_strength)
        return float(alone.pair_potentials.evaluate(np.array([[r]]), np.array([0]), 1)[0].item())

    assert core(soft, 0.34) == 0.0 < core(with_core(losses, [], 1e4), 0.34)
    nuclei = float(screened_repulsion(("Ar", "Kr"), 0.7 * onset))
    assert core(soft, 0.7 * onset) == pytest.approx(nuclei, rel=0.4)  # the grid is coarse
    positions = np.array([[[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]])
    frames = Frames(("Ar", "Kr", "Kr"), np.array([40.0, 84.0, 84.0]), positions, np.zeros(1), np.arange(1))
    assert with_walls(met, [(frames, [("Ar", "Kr")])]).metadata["walls"] == with_walls(met, []).metadata["walls"]


def test_functions_of_a_pair_that_is_only_seen_far_apart_level_off_below_its_shortest_distance():
    losses = random_losses("moment", species=("Ar", "Kr"), cutoff=0.6, shortest=0.3)
    shortest = np.array([[0.33, 0.45], [0.45, 0.36]])
    held = levelled(losses.basis, shortest, losses.species)

    def at(basis, r, a, b):
        return basis.evaluate(np.array([[r]]), np.array([a]), b)

    for derivative in (0, 1):
        assert (at(held, 0.46, 0, 1)[derivative] == at(losses.basis, 0.46, 0, 1)[derivative]).all()
        assert (at(held, 0.32, 0, 0)[derivative] == at(losses.basis, 0.32, 0, 0)[derivative]).all()  # they have met
    slope, edge = (np.abs(at(held, r, 0, 1)[1]) for r in (0.3, 0.45))
    assert (slope <= 0.4 * edge).all()
    assert (np.abs(at(losses.basis, 0.3, 0, 1)[1]) > edge).any()


def tables(train, test, rms_force):
    def of(value):
        return {"data": {"force_rmse": {"all": value}, "force_rms": {"all": rms_force}}}

    return {"train": of(train), "test": of(test)}


def test_only_held_out_errors_far_above_the_training_errors_are_reported():
    assert not overfitted(tables(30.0, 60.0, 1000.0))
    assert not overfitted(tables(5.0, 50.0, 1000.0))  # ten times, but a twentieth of the RMS force
    assert overfitted(tables(31.0, 2993.0, 1500.0))
    assert overfitted(tables(900.0, 1200.0, 1000.0))  # worse than no model
    assert overfitted(tables(30.0, np.nan, 1000.0))
    assert "2,993 held out, 31 in training" in format_overfitted(overfitted(tables(31.0, 2993.0, 1500.0)))


def test_fits_that_explain_little_and_energies_and_stresses_fitted_alone_are_said():
    def of(value, energy=None, stress=None):
        sizes = {"force_rmse": {"all": value}, "force_mae": {}, "force_rms": {"all": 1000.0}}
        return {"alloy": ErrorTable(1, **sizes, energy_rmse_per_atom=energy, stress_rmse=stress, stress_rms=900.0)}

    (sentence,) = too_simple("quadratic", "CHO", of(132.0))
    assert "leaves an error of 13 % of the RMS force" in sentence
    assert "for 3 elements the default form, 'channels'" in sentence
    simple_enough = [("channels", "CHO", 132.0), ("quadratic", "HO", 132.0), ("moment", "CHO", 99.0)]
    assert not any(too_simple(form, species, of(error)) for form, species, error in simple_enough)
    assert not doubtful_fits(of(300.0, 1.0, 50.0), of(500.0, 4.0, 140.0))
    (sentence,) = doubtful_fits(of(450.0), of(450.0))
    assert "alloy: the fit leaves an error of 45 % of the RMS force" in sentence
    assert "the error is 231 % of the RMS force" in unknown_systems(of(2310.0)["alloy"])
    at_rest = ErrorTable(1, force_rmse={"all": 2.0}, force_mae={}, force_rms={"all": 0.0})
    assert not unknown_systems(of(300.0)["alloy"]) + unknown_systems(at_rest)

    def of_molecules(error):
        sizes = {"force_rmse": {"all": 50.0, "molecular": error}, "force_rms": {"all": 1000.0, "molecular": 100.0}}
        return {"clusters": ErrorTable(1, **sizes, force_mae={})}

    (sentence,) = doubtful_fits(of_molecules(12.0), of_molecules(40.0))
    assert "net forces on molecules is 40 % of their RMS in held-out frames, 3.3 times" in sentence
    assert not doubtful_fits(of_molecules(12.0), of_molecules(30.0))
    assert not doubtful_fits(of_molecules(5.0), of_molecules(19.0))
    energies, stresses = doubtful_fits(of(160.0, 1.01, 68.0), of(177.0, 39.5, 1893.0))
    assert "energies is 39.5 meV per atom in held-out frames and 1.0 in training" in energies
    assert "stresses is 1,893.0 MPa in held-out frames and 68.0 in training" in stresses
    (by_heart,) = doubtful_fits(of(3.7), of(30.8))
    assert "forces is 30.8 meV/Å in held-out frames and 3.7 in training" in by_heart
    assert not doubtful_fits(of(2.2), of(11.0))  # a hundredth of the RMS force
    assert not doubtful_fits(of(10.0), of(160.0))  # for which there is a warning of its own


def test_a_separate_set_is_compared_with_the_training_set_of_similar_forces():
    def of(value, rms_force):
        return {"force_rmse": {"all": value}, "force_rms": {"all": rms_force}}

    errors = {"train": {"300 K": of(11.0, 860.0), "distorted": of(69.0, 2000.0)}, "test": {"600 K": of(110.0, 1000.0)}}
    assert overfitted(errors)["600 K"] == {"train": 11.0, "test": 110.0, "rms": 1000.0}
    errors["test"] = {"pushed": of(110.0, 2100.0)}
    assert not overfitted(errors)


def test_a_species_is_compared_with_a_training_set_that_has_it():
    def of(rms_force, **errors):
        return {"force_rmse": errors, "force_rms": dict.fromkeys(errors, rms_force)}

    train = {"bare": of(600.0, all=1.0, Cu=1.0), "covered": of(900.0, all=2.0, Cu=1.0, H=2.0)}
    found = overfitted({"train": train, "test": {"hot": of(600.0, all=50.0, Cu=20.0, H=400.0)}})
    assert found == {"H in hot": {"train": 2.0, "test": 400.0, "rms": 600.0}}


def test_single_species_that_fail_are_reported():
    def of(copper, hydrogen, rms_of_hydrogen=900.0):
        errors = {"all": copper, "Cu": copper, "H": hydrogen, "molecular": 900.0}
        return {"slab": {"force_rmse": errors, "force_rms": {"all": 600.0, "Cu": 600.0, "H": rms_of_hydrogen}}}

    found = overfitted({"train": of(1.0, 2.0), "test": of(40.0, 850.0)})
    assert found == {"H in slab": {"train": 2.0, "test": 850.0, "rms": 900.0}}
    assert "H in slab 850 held out, 2 in training" in format_overfitted(found)
    assert not overfitted({"train": of(1.0, 0.1), "test": of(40.0, 3.0, 4.0)})  # forces that hardly matter


def test_infer_ends_with_code_1_if_the_model_is_overfitted(tmp_path):
    data, config, figures = tmp_path / "few.safetensors", tmp_path / "few.yaml", tmp_path / "few.json"
    train, test = liquid()
    picked = [train[:2], test[:2]]
    merged = replace(
        train[:4],
        positions=np.concatenate([f.positions for f in picked]),
        forces=np.concatenate([f.forces for f in picked]),
    )
    merged.save(data)
    config.write_text(
        "form: moment\nridge: 1.0e-13\ncurvature: 0\ncutoff: 0.59\nmembers: 0\n"
        "data:\n  - {path: few.safetensors, test_fraction: 0.5, gap: 0}\n"
    )
    arguments = ("infer", config, "-o", tmp_path / "model.safetensors", "--json", figures)
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    content, name = json.loads(figures.read_text()), "few.safetensors"
    assert result.exit_code == 1, result.output
    assert "Warning: the error on held-out frames is far above the training error" in result.output
    assert content["overfitted"][name]["test"] > 3.0 * content["overfitted"][name]["train"]
    model = AgentLosses.load(tmp_path / "model.safetensors")
    assert model.metadata["overfitted"] == content["overfitted"]
    assert rms(model.core_strength) > 0.0


def test_dynamics_of_less_than_a_picosecond_are_said_to_be_short():
    def dynamics(picoseconds):
        return replace(random_frames(11), times=np.linspace(0.0, picoseconds, 11), timestep=0.0005)

    (sentence,) = short_dynamics([dynamics(0.4), dynamics(0.2)])
    assert "dynamics of 0.6 ps in all" in sentence
    assert not short_dynamics([dynamics(0.4), dynamics(0.7)])
    assert not short_dynamics([dynamics(0.4), random_frames(3)])  # single points beside them
    assert not short_dynamics([])
