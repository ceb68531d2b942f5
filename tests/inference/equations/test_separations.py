"""Frames of clusters with a molecule moved away, and what they decide that the data leave open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.inference import add_frames, infer
from openmm_duality.inference.equations.penalties import SEPARATIONS
from openmm_duality.inference.equations.separations import separated_frames
from openmm_duality.losses import evaluate_agents
from openmm_duality.reference.frames import Frames
from openmm_duality.report.inference_notes import inference_notes

LENGTHS = {("H", "O"): 0.13}
WATER = np.array([[0.0, 0.0, 0.0], [0.08, 0.06, 0.0], [-0.08, 0.06, 0.0]])
CUTOFF = 0.8


def frames_of(species, positions, forces):
    count = len(positions)
    masses = np.array([{"H": 1.0, "O": 16.0, "He": 4.0, "Ne": 20.0}[name] for name in species])
    return Frames(species, masses, positions, np.zeros(count), np.arange(count), None, forces, source=("test",))


@pytest.fixture
def dimers():
    """Two water molecules 3 Å apart, turned at random, with forces at random that add up to zero."""
    rng = np.random.default_rng(0)
    turned = [WATER @ np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(40)]
    apart = np.array([0.0, 0.0, 0.3])
    positions = np.array([np.concatenate([a, b + apart]) for a, b in zip(turned[::2], turned[1::2], strict=True)])
    forces = rng.normal(scale=500.0, size=positions.shape)
    return frames_of(tuple("OHHOHH"), positions, forces - forces.mean(axis=1, keepdims=True))


def test_a_molecule_is_moved_away_as_it_is_and_the_net_force_on_it_fades(dimers):
    made = separated_frames(dimers, LENGTHS, CUTOFF, repeats=4)
    assert 10 < len(made) <= 20
    ways = [p[:, 3:].mean(axis=1) - p[:, :3].mean(axis=1) for p in (made.positions, dimers.positions[made.steps])]
    gone = np.linalg.norm(ways[0] - ways[1], axis=1)
    assert gone.max() > 0.4
    for t, step in enumerate(made.steps.tolist()):
        for part in (slice(0, 3), slice(3, 6)):
            inside = made.positions[t, part] - made.positions[t, part].mean(axis=0)
            before = dimers.positions[step, part] - dimers.positions[step, part].mean(axis=0)
            np.testing.assert_allclose(inside, before, atol=1e-12)
            forces, given = made.forces[t, part], dimers.forces[step, part]
            np.testing.assert_allclose(forces - forces.mean(axis=0), given - given.mean(axis=0), atol=1e-9)
    net, given = (forces[:, :3].sum(axis=1) for forces in (made.forces, dimers.forces[made.steps]))
    np.testing.assert_allclose(net, given * np.exp(-gone / 0.1)[:, None], atol=1e-9)
    np.testing.assert_allclose(made.forces.sum(axis=1), 0.0, atol=1e-9)


def test_what_is_no_cluster_is_left_alone(dimers):
    near = dimers.positions.copy()
    near[:, 3:, 2] -= 0.14  # about to be bonded
    assert separated_frames(replace(dimers, positions=near), LENGTHS, CUTOFF) is None
    single = frames_of(tuple("OHH"), dimers.positions[:, :3], dimers.forces[:, :3])
    assert separated_frames(single, LENGTHS, CUTOFF) is None
    assert separated_frames(dimers, LENGTHS, cutoff=0.1) is None  # farther away than that already
    unknown = replace(dimers, species=tuple("OXXOXX"))
    assert separated_frames(unknown, {("O", "X"): 0.13}, CUTOFF) is None


def test_the_reaction_is_on_the_nearest_molecule(dimers):
    far = dimers.positions[:, :3] + [0.0, 0.0, 0.9]
    three = np.concatenate([dimers.positions, far], axis=1)
    forces = np.random.default_rng(1).normal(scale=500.0, size=three.shape)
    made = separated_frames(frames_of(tuple("OHHOHHOHH"), three, forces), LENGTHS, cutoff=2.0, repeats=6)
    changes = (made.forces - forces[made.steps]).reshape(-1, 3, 3, 3).sum(axis=2)  # of every molecule
    np.testing.assert_allclose(changes.sum(axis=1), 0.0, atol=1e-9)
    leaving = np.linalg.norm(made.positions - three[made.steps], axis=2).reshape(-1, 3, 3).max(axis=2).argmax(axis=1)
    assert set(leaving.tolist()) == {2}  # the farthest
    np.testing.assert_allclose(changes[:, 0], 0.0, atol=1e-9)  # the nearest is the second


@pytest.fixture(scope="module")
def attracting():
    """An atom of helium and one of neon in a harmonic well, seen from 2.9 to 4.1 Å."""
    r = np.linspace(0.29, 0.41, 60)
    positions, forces = np.zeros((2, 60, 2, 3))
    positions[:, 1, 0], forces[:, 0, 0] = r, 2000.0 * (r - 0.35)
    return frames_of(("He", "Ne"), positions, np.stack([forces[:, 0], -forces[:, 0]], axis=1))


def test_the_force_on_an_atom_that_leaves_fades(attracting):
    settings = {"form": "pair", "cutoff": CUTOFF, "members": 0, "ridge": 1e-9, "curvature": 1e-7}
    without, model = (infer(attracting, **settings, **more) for more in ({"separations": 0.0}, {}))
    assert without.metadata["synthetic_frames"][SEPARATIONS] == 0 < model.metadata["synthetic_frames"][SEPARATIONS]
    assert SEPARATIONS not in without.metadata["regularisation"][0]
    assert model.metadata["regularisation"][0][SEPARATIONS] == 1e-4
    assert "Separations: " in " ".join(inference_notes(model, 0))

    def energies(losses):
        at = (0.35, 0.41, CUTOFF + 0.1)
        pairs = [np.array([[0.0, 0.0, 0.0], [r, 0.0, 0.0]]) for r in at]
        return np.array([evaluate_agents(losses, q, ("He", "Ne"), None).losses.sum() for q in pairs])

    before, after = energies(without), energies(model)
    assert after[1] - after[0] == pytest.approx(before[1] - before[0], rel=0.02)  # as in the data
    leaving = 90.0 * 0.1  # the force in kJ/mol/nm of those farthest away, which fades within 1 Å
    assert after[-1] - after[1] == pytest.approx(leaving, rel=0.4)
    assert abs(before[-1] - before[1] - leaving) > leaving  # without, what the data leave open is anything


def test_frames_are_added_to_a_model_with_its_separations(attracting):
    settings = {"form": "pair", "cutoff": CUTOFF, "members": 0, "ridge": 1e-7, "curvature": 1e-4}
    model = infer(attracting, **settings, keep_equations=True)
    again = add_frames(model, attracting)
    assert again.metadata["regularisation"] == model.metadata["regularisation"]
    assert again.pair_coefficients == pytest.approx(model.pair_coefficients, rel=1e-5, abs=1e-5)
