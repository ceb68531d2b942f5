"""The short runs that say whether a model is stable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.dynamics.structures import read_start
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.geometry.molecules import bonded_pairs
from openmm_duality.inference import DataSet, Settings
from openmm_duality.inference.equations.inference import Inference
from openmm_duality.inference.fitting import STRONGER, STRONGER_CURVATURE, regularisation_candidates
from openmm_duality.learning import stable_inference
from openmm_duality.learning.stability import DISPLACED, Check, check_stability, compressed, displaced
from openmm_duality.reference import MixedFrames
from tests.systems import labelled, random_frames, random_losses
from tests.water import liquid, water_losses


def bond_vectors(start, lengths):
    i, j = bonded_pairs(start.positions, start.species, start.cell, lengths).T
    return minimum_image(start.positions[j] - start.positions[i], start.cell)


def test_compression_moves_molecules_and_keeps_their_shape():
    losses, start = water_losses("collective"), read_start(liquid()[0])
    tight = compressed(losses, start, 0.97)
    lengths = dict(losses.bond_lengths)
    before, after = bond_vectors(start, lengths), bond_vectors(tight, lengths)
    assert len(before) == len(after) == 128
    np.testing.assert_allclose(after, before, atol=1e-12)
    np.testing.assert_allclose(tight.cell, 0.97 * start.cell)


def test_displacing_moves_every_atom_as_far():
    start = read_start(liquid()[0])
    moved = displaced(start, 0.01, seed=3).positions - start.positions
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 0.01)
    assert np.abs(moved.mean(axis=0)).max() < 0.003


def test_a_model_passes_where_it_is_stable_and_fails_where_it_is_not():
    losses, start = water_losses("collective"), read_start(liquid()[0])
    names = [check.name for check in check_stability(losses, start, time=0.001)]
    assert names == ["Langevin, 300 K", "Langevin, 360 K", DISPLACED, "cell edges 3 % shorter", "NVE"]
    assert all(check.passed for check in check_stability(losses, start, time=0.01) if check.name != DISPLACED)
    repelling = replace(losses, pair_coefficients=-losses.pair_coefficients)
    failed = check_stability(repelling, start, time=0.05)
    assert not any(check.passed for check in failed)
    assert all(check.reason and "last_good" not in check.reason for check in failed)
    assert failed[0].to_dict()["passed"] is False


def test_a_check_that_cannot_be_run_says_so():
    losses = water_losses("collective")
    start = read_start(liquid()[0])
    angstrom = replace(start, positions=10.0 * start.positions, cell=10.0 * start.cell)
    for check in check_stability(losses, angstrom, time=0.001):
        assert check.passed is None
        assert "right unit" in check.reason


SMALL = {"form": "pair", "cutoff": 0.5, "pair_functions": 8, "intervals": 60, "curvature": 1e-4}


def test_the_first_stable_model_in_order_of_preference_is_chosen(monkeypatch):
    """The checks themselves are tested above; here the one that passes is known."""
    train = labelled(random_frames(10, n_atoms=12), random_losses())
    start = read_start(train)
    preferences = [s["ridge"] for s in Inference.of([DataSet(train)], Settings(**SMALL)).preferences[0]]
    stable = preferences[2]

    def known(losses, *_, **__):
        passed = losses.metadata["regularisation"][0]["ridge"] == stable
        return [Check("known", passed, 1.0, "" if passed else "it broke")]

    monkeypatch.setattr(stable_inference, "check_stability", known)
    losses = stable_inference.infer_stable(train, start, **SMALL)
    assert losses.metadata["regularisation"][0]["ridge"] == stable
    assert [c["regularisation"][0]["ridge"] for c in losses.metadata["failed_candidates"]] == preferences[:2]
    assert losses.metadata["stability"] == [{"name": "known", "passed": True, "time_ps": 1.0, "reason": ""}]
    stable = 0.0  # none is
    losses = stable_inference.infer_stable(train, start, **SMALL)
    assert losses.metadata["regularisation"][0]["ridge"] == preferences[0]
    assert len(losses.metadata["failed_candidates"]) == len(preferences) + len(STRONGER)
    only = stable_inference.infer_stable(train, start, ridge=1e-6, **SMALL)
    assert len(only.metadata["failed_candidates"]) == 1
    assert only.metadata["stability"][0]["passed"] is False


def test_of_channels_that_fail_stronger_penalties_outside_the_data_are_tried():
    train = labelled(random_frames(10, n_atoms=12), random_losses())
    settings = Settings(form="channels", size="small", cutoff=0.5, pair_functions=8, mixing_steps=0, members=0)
    inference = Inference.of([DataSet(train)], settings)
    tried = [mine[0] for mine in regularisation_candidates(inference)]
    curvatures = [one["curvature"] for one in tried]
    preferred = inference.preferences[0][0]
    assert tried[0] == preferred
    factors = [curvature / preferred["curvature"] for curvature in curvatures[: 1 + len(STRONGER_CURVATURE)]]
    assert factors == pytest.approx([1.0, *STRONGER_CURVATURE])
    stronger = [ridge for ridge in STRONGER if ridge > preferred["ridge"]]
    assert [one["ridge"] for one in tried[-len(stronger) :]] == stronger


def test_an_inference_with_real_checks_says_how_they_ended():
    train = liquid()[0][::10]
    losses = stable_inference.infer_stable(train, read_start(train), time=0.002, ridge=1e-5, **SMALL)
    assert [c["name"] for c in losses.metadata["stability"]] == [
        "Langevin, 300 K", "Langevin, 360 K", DISPLACED, "cell edges 3 % shorter", "NVE",
    ]  # fmt: skip


def test_the_short_runs_begin_from_a_frame_with_the_most_species_and_atoms():
    def frames(species, count):
        n = len(species)
        return replace(random_frames(count, n_atoms=n), species=species, masses=np.ones(n), forces=None, energies=None)

    small, large, pure = frames(("Ar", "Kr"), 3), frames(("Ar", "Kr", "Kr"), 2), frames(("Ar",) * 5, 2)
    mixed = MixedFrames(tuple(replace(f, steps=k + 10 * np.arange(len(f))) for k, f in enumerate((large, pure))))
    start = stable_inference.start_of_check([DataSet(small), DataSet(mixed)])
    assert start.species == large.species
    np.testing.assert_array_equal(start.positions, large.positions[-1])
    assert stable_inference.start_of_check([DataSet(pure)]).species == pure.species
