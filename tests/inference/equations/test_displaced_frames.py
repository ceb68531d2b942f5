"""Changes of the curvature of the losses in displaced frames, the penalty that holds the losses outside the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.inference import DataSet, add_frames, evaluate, infer
from openmm_duality.inference.equations.continuation import standard_penalties
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.displaced_frames import (
    ROWS_PER_COLUMN,
    curvature_changes,
    displaced_configurations,
    second_differences,
)
from openmm_duality.inference.equations.energies import EnergyReference
from openmm_duality.inference.equations.solution import NormalEquations, solve
from openmm_duality.inference.equations.stored import StoredEquations
from openmm_duality.losses.evaluator import evaluate_agents
from openmm_duality.reference.mixed_frames import MixedFrames
from tests.inference.test_below_the_data import molecule
from tests.systems import CELL, SPECIES, labelled, narrow_frames, random_frames, random_losses

FRAMES = {"periodic": random_frames(3, n_atoms=12), "narrow": narrow_frames(2, 0.5 * CELL)}


@pytest.mark.parametrize("gradient", ["collective", "agent"])
@pytest.mark.parametrize("frames", FRAMES.values(), ids=FRAMES)
def test_the_penalty_is_the_mean_square_of_second_differences_of_the_forces(frames, gradient):
    losses = random_losses("channels", gradient)
    none = np.zeros_like(losses.core_strength)
    losses = replace(losses, core_strength=none, wall_strength=none)  # which are not fitted
    design = Design.of(losses)
    coefficients = design.layout.pack(losses)
    sets, n_columns = [DataSet(frames)], max(map(len, coefficients))
    configurations = displaced_configurations(sets, SPECIES, ROWS_PER_COLUMN * n_columns, losses.cutoff)
    squares: list[list[float]] = [[] for _ in coefficients]
    for configuration in configurations:
        positions, cell, index, displacements = configuration
        for d, by_group in zip(displacements, second_differences(design, configuration), strict=True):
            ahead, behind, here = (
                evaluate_agents(losses, x, frames.species, cell).forces
                for x in (positions + d, positions - d, positions)
            )
            for group, rows, c, mine in zip(design.layout.groups, by_group, coefficients, squares, strict=True):
                expected = (ahead + behind - 2.0 * here)[np.isin(index, group)].ravel()
                np.testing.assert_allclose(rows @ c, expected, atol=1e-9 * np.abs(expected).max(initial=0.0))
                mine += list(expected**2)
    for a, c, mine in zip(curvature_changes(sets, SPECIES, design, False), coefficients, squares, strict=True):
        if mine:  # all species of the group are in the frames
            np.testing.assert_allclose(c @ a @ c, np.mean(mine), rtol=1e-9)


def test_frames_of_all_compositions_are_displaced_in_proportion_to_the_distances_of_their_atoms():
    small, large = (random_frames(6, n_atoms=n, seed=n) for n in (8, 12))
    large = replace(large, steps=large.steps + 6)
    found = displaced_configurations([DataSet(MixedFrames((small, large)))], SPECIES, 300, 0.5)
    assert {len(index) for _, _, index, _ in found} == {8, 12}
    wider = replace(small, positions=2.0 * small.positions, cells=2.0 * small.cells)
    one, other = (displaced_configurations([DataSet(f)], SPECIES, 300, cut) for f, cut in ((small, 0.5), (wider, 1.0)))
    for (*_, narrow), (*_, wide) in zip(one, other, strict=True):
        np.testing.assert_allclose(wide, 2.0 * np.array(narrow))


def test_a_molecule_keeps_its_forces_much_hotter_than_its_data():
    train, hot = molecule(100, 300.0, 1), molecule(60, 900.0, 2)
    choices = {
        "form": "channels",
        "size": "small",
        "cutoff": 0.5,
        "channel_cutoff": 0.45,
        "invariants": [60, 200, 60],
        "members": 0,
        "mixing_steps": 0,
        "ridge": 1e-7,
    }
    both = infer(train, **choices)
    choices["rotamers"] = 0.0
    held, free = infer(train, **choices), infer(train, curvature=0.0, **choices)
    errors = [evaluate(losses, hot).force_rmse["all"] for losses in (held, free)]
    assert errors[0] < 0.3 * errors[1]
    assert errors[0] < 0.3 * evaluate(held, hot).force_rms["all"]
    assert evaluate(both, hot).force_rmse["all"] < errors[0]


def test_frames_are_added_to_a_model_with_the_penalty_it_was_inferred_with():
    frames = labelled(random_frames(8, n_atoms=12), random_losses())
    choices = {"form": "channels", "size": "small", "cutoff": 0.6, "curvature": 1e-4, "keep_equations": True}
    losses = infer(frames, members=0, invariants=[20, 60, 20], **choices)
    stored = StoredEquations.from_arrays(losses.equations, "0/")
    design = Design.of(losses, EnergyReference.from_metadata(losses.species, losses.metadata).n_constants)
    grown = add_frames(losses, frames)
    total = NormalEquations.sum_of([stored.total, stored.total])
    assert stored.curvature_changes is not None
    (group,) = design.layout.groups
    penalties = standard_penalties(design, group, losses.shortest, stored.curvature_changes, total)
    expected = solve(total, penalties, losses.metadata["regularisation"][0], stored.scale, design.layout.n_constants)
    (found,) = design.layout.pack(grown)
    n = len(found) - design.layout.n_constants
    np.testing.assert_allclose(found[:n], expected[:n], rtol=1e-3, atol=1e-4 * np.abs(expected[:n]).max())
