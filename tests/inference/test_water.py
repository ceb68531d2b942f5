"""Losses of the bundled CP2K water: accuracy on frames held out by time, and the repulsive core."""

from __future__ import annotations

import numpy as np
import pytest

from openmm_duality.geometry.cells import minimum_image
from openmm_duality.inference import evaluate
from openmm_duality.losses import GRADIENTS, evaluate_agents
from openmm_duality.losses.cores import core_onsets
from tests.water import liquid, water_losses

LIMIT = {"agent": 205.0, "collective": 125.0, "mutual": 125.0}  # meV/Å


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_accuracy_on_frames_held_out_by_time(gradient):
    train, test = liquid()
    assert test.times[0] > train.times[-1] + 0.5
    table = evaluate(water_losses(gradient), test)
    assert table.frames >= 20
    assert table.force_rmse["all"] <= LIMIT[gradient]


def approach(losses, frames, i, j, nearest):
    """Forces on j away from i, sums of losses and whether the pair is the closest contact, down to 0.3 Å.

    The nearest pair of the frame is moved from the shortest distance in the data, others, whose bonds are far from
    those in the data then, from where the core is strong.
    """
    start, cell = frames.positions[0], frames.cell(0)
    species_index = losses.index_of(frames.species)
    step = minimum_image(start[j] - start[i], cell)
    direction = step / np.linalg.norm(step)
    seen = core_onsets(losses.shortest, losses.grid)[species_index[j], species_index]
    first = losses.shortest[species_index[i], species_index[j]] if nearest else 0.9 * seen[i]
    distances = np.arange(first, 0.03 - 1e-9, -0.002)
    others = np.delete(np.arange(len(species_index)), [i, j])
    forces, energies, closest = [], [], []
    for r in distances:
        positions = start.copy()
        positions[j] = start[i] + r * direction
        result = evaluate_agents(losses, positions, frames.species, cell)
        contacts = np.linalg.norm(minimum_image(positions[others] - positions[j], cell), axis=1) / seen[others]
        forces.append(result.forces[j] @ direction)
        energies.append(result.energy)
        closest.append(r / seen[i] < 0.8 * min(contacts.min(), 1.25))
    return np.array(forces), np.array(energies), np.array(closest)


def pairs_to_bring_together(losses, frames):
    """Near and far pairs of every pair of species, in frames that were not used in the inference."""
    rng = np.random.default_rng(0)
    species_index = losses.index_of(frames.species)
    for a in range(2):
        for b in range(a, 2):
            r = np.linalg.norm(
                minimum_image(frames.positions[0][:, None] - frames.positions[0], frames.cell(0)), axis=-1
            )
            i, j = np.nonzero((species_index[:, None] == a) & (species_index == b) & (r > 0) & (r < 0.35))
            nearest = np.argmin(r[i, j])
            for k in (nearest, *rng.integers(0, len(i), 3)):
                yield int(i[k]), int(j[k]), k == nearest


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_pairs_brought_together_are_repelled_and_the_sum_rises(gradient):
    losses = water_losses(gradient)
    frames = liquid()[1][7:8]
    reached = set()
    for i, j, nearest in pairs_to_bring_together(losses, frames):
        forces, energies, closest = approach(losses, frames, i, j, nearest)
        if closest[-1]:
            reached.add(tuple(sorted((frames.species[i], frames.species[j]))))
        assert (forces[closest] > 0.0).all()
        assert np.isfinite(energies).all()
        # after the last point with another closest contact, the sum of losses increases monotonically
        begin = np.flatnonzero(~closest).max(initial=-1) + 1
        assert (np.diff(energies[begin:]) > 0.0).all()
    assert reached == {("H", "H"), ("H", "O"), ("O", "O")}


def test_metadata_of_the_model():
    losses = water_losses("collective")
    metadata = losses.metadata
    assert metadata["data"][0]["frames"] == len(liquid()[0][::2])
    assert any("sha256:" in source for source in metadata["data"][0]["source"])
    assert metadata["coefficients"] == 3 * 28 + 2 * 16 * 17 // 2
    assert set(losses.bond_lengths) == {("H", "O")}
    assert losses.coordinations == {("H", (("O", 1),)), ("O", (("H", 2),))}
    assert 0.08 < losses.shortest[0, 1] < 0.1
