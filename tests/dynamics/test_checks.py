"""The short runs that say whether a model is stable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from openmm_duality.dynamics.checks import SHAKEN, check_stability, displaced, squeezed
from openmm_duality.dynamics.starting import read_start
from openmm_duality.reference.cells import minimum_image
from openmm_duality.reference.molecules import bonded_pairs
from tests.water import liquid, water_losses


def bond_vectors(start, lengths):
    i, j = bonded_pairs(start.positions, start.species, start.cell, lengths).T
    return minimum_image(start.positions[j] - start.positions[i], start.cell)


def test_squeezing_moves_molecules_and_keeps_their_shape():
    losses, start = water_losses("collective"), read_start(liquid()[0])
    tight = squeezed(losses, start, 0.97)
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
    assert names == ["Langevin, 300 K", "Langevin, 360 K", SHAKEN, "cell edges 3 % shorter", "NVE"]
    assert all(check.passed for check in check_stability(losses, start, time=0.01) if check.name != SHAKEN)
    repelling = replace(losses, pair_coefficients=-losses.pair_coefficients)
    failed = check_stability(repelling, start, time=0.05)
    assert not any(check.passed for check in failed)
    assert all(check.reason and "last_good" not in check.reason for check in failed)
    assert failed[0].to_dict()["passed"] is False


def test_a_check_that_cannot_be_run_says_so():
    losses = water_losses("collective")
    start = read_start(liquid()[0])
    small = replace(start, cell=start.cell * 0.98)
    checks = check_stability(losses, small, time=0.001)
    (tight,) = [check for check in checks if check.name == "cell edges 3 % shorter"]
    assert tight.passed is None
    assert "cutoff" in tight.reason
