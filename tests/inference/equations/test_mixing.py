"""Mixing of channels: its design rows by central differences, and what learning it achieves."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from openmm_duality.inference import DataSet
from openmm_duality.inference.equations import targets
from openmm_duality.inference.equations.accumulation import Storage
from openmm_duality.inference.equations.channel_choice import ChannelChoice
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.inference import Inference
from openmm_duality.inference.equations.mixing import CHANGES, MixingProblem, joint_layout, learn_mixing
from openmm_duality.inference.equations.mixing_rows import MixingDesign
from openmm_duality.inference.equations.penalties import CHANNEL_GRIDS
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.invariants.neighbours import find_neighbours
from openmm_duality.losses import evaluate_agents
from openmm_duality.reference.mixed_frames import MixedFrames
from tests.systems import (
    CELL,
    NARROW,
    SPECIES,
    TRICLINIC,
    labelled,
    narrow_positions,
    random_frames,
    random_losses,
    random_positions,
    random_species,
    rms,
)

CONFIGURATIONS = {
    "triclinic": (random_positions(12, TRICLINIC, least=0.16), random_species(12), TRICLINIC),
    "open": (random_positions(12, CELL, least=0.16), random_species(12), None),
    "narrow": (narrow_positions(NARROW["skewed"]), SPECIES[1:], NARROW["skewed"]),
}


def mixing_design(losses):
    """Design of coefficients and mixing at the losses, with means that give those of their channels."""
    design = Design.of(losses)
    means = [np.linalg.lstsq(c.mixing[0], c.means, rcond=None)[0] for c in losses.channels]
    bases = (design.pair_basis, design.basis, design.coarse)
    return MixingDesign(joint_layout(design), *bases, losses.channels, weights=losses.channel_weights, means=means)


def rows_and_changes(design, losses, tables, index, changes):
    """Rows of the coefficients alone, and the forces of changes of the mixing of every species."""
    plain, change = [], np.zeros((len(index), 3))
    for group, rows in zip(design.layout.groups, design.force_rows(tables, index), strict=True):
        columns = design.layout.unpack([np.arange(design.layout.size(g), dtype=float) for g in design.layout.groups])
        mask = np.zeros(rows.shape[-1], dtype=bool)
        for a in group:
            of_mixing = columns["channel_weights"][a][len(losses.channels[a].invariants) :].astype(int)
            mask[of_mixing] = True
            change[np.isin(index, group)] += rows[..., of_mixing] @ changes[a]
        plain.append(rows[..., ~mask])
    return plain, change


@pytest.mark.parametrize("gradient", ["agent", "collective"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_rows_are_derivatives_of_the_forces_by_the_mixing(name, gradient):
    positions, species, cell = CONFIGURATIONS[name]
    losses = replace(random_losses("channels", gradient), core_strength=np.zeros((3, 3)))
    design, index = mixing_design(losses), losses.index_of(species)
    tables = find_neighbours(positions, cell, index, 3, losses.cutoff)
    rng = np.random.default_rng(0)
    changes = [rng.normal(size=rows.size) for rows in design.channel_rows]
    plain, found = rows_and_changes(design, losses, tables, index, changes)
    for mine, expected in zip(plain, Design.of(losses).force_rows(tables, index), strict=True):
        np.testing.assert_allclose(mine, expected, atol=1e-12 * np.abs(expected).max(initial=0.0))

    def forces(step):
        pairs = zip(design.channel_rows, changes, strict=True)
        moved = replace(losses, channels=tuple(rows.mixed(step * change) for rows, change in pairs))
        return evaluate_agents(moved, positions, species, cell).forces

    h = 1e-4
    expected = (8 * (forces(h) - forces(-h)) - (forces(2 * h) - forces(-2 * h))) / (12 * h)
    np.testing.assert_allclose(found, expected, atol=1e-7 * rms(expected))


@pytest.fixture(scope="module")
def problem():
    """Frames labelled by losses of other channels than those of the design."""
    losses = replace(random_losses("channels", species=SPECIES[:2]), core_strength=np.zeros((2, 2)))
    frames = labelled(random_frames(64, n_atoms=24, least=0.16), losses)
    rng, design = np.random.default_rng(1), Design.of(losses)
    wrong = tuple(
        replace(c, mixing={rank: w + 0.15 * np.abs(w).max() * rng.normal(size=w.shape) for rank, w in c.mixing.items()})
        for c in losses.channels
    )
    settings = Settings(form="channels", cutoff=0.5)
    return MixingProblem(
        [DataSet(frames)],
        losses.species,
        losses.shortest,
        replace(design, channels=wrong),
        settings,
        Storage(5, 1),
        False,
    )


def test_learning_goes_towards_the_mixing_that_made_the_data(problem):
    """The error of the best coefficients falls with every step, and by the last to a small part of the first."""
    found, errors = learn_mixing(problem, 4)
    assert len(errors) >= 3
    assert all(b < a for a, b in pairwise(errors))
    assert errors[-1] < 0.2 * errors[0]
    for old, new in zip(problem.design.channels, found.channels, strict=True):
        np.testing.assert_array_equal(new.invariants, old.invariants)
        assert not np.allclose(new.mixing[1], old.mixing[1])


def test_a_mixing_that_the_data_do_not_determine_is_kept(problem):
    """Forces at random can be fitted better with more parameters, but not those of held-out frames."""
    (data,) = problem.sets
    rng = np.random.default_rng(2)
    noise = replace(data.frames, forces=rng.normal(scale=100.0, size=data.frames.positions.shape), energies=None)
    found, errors = learn_mixing(replace(problem, sets=[DataSet(noise)]), 2)
    assert len(errors) == 1
    assert found.channels is problem.design.channels


def test_the_ridge_while_the_mixing_is_learned_is_that_of_held_out_frames_or_the_given_one(problem):
    """Noise in few frames asks for a strong one; where no frame is held out, it is the first of the grid."""
    (data,) = problem.sets
    rng = np.random.default_rng(2)
    noise = replace(data.frames, forces=rng.normal(scale=100.0, size=data.frames.positions.shape), energies=None)
    noisy = replace(problem, sets=[DataSet(noise[:8])])

    def ridge_of(problem):
        return problem.coefficients(problem.design.channels, "test")[2]["ridge"]

    assert ridge_of(noisy) >= 1e-4
    assert ridge_of(problem) == CHANNEL_GRIDS["ridge"][0]
    assert ridge_of(replace(noisy, settings=replace(problem.settings, ridge=1e-5))) == 1e-5
    assert ridge_of(replace(problem, sets=[DataSet(noise[:1])])) == CHANNEL_GRIDS["ridge"][0]


def test_a_collision_among_the_held_out_frames_does_not_decide_for_all_others(problem):
    (data,) = problem.sets
    positions, forces = data.frames.positions.copy(), data.frames.forces.copy()
    i, j = np.argsort(np.linalg.norm(positions[-1] - positions[-1, 0], axis=1))[:2]
    positions[-1, j] = 0.5 * (positions[-1, i] + positions[-1, j])
    forces[-1, [i, j]] += [[3e4, 0.0, 0.0], [-3e4, 0.0, 0.0]]
    collided = replace(data.frames, positions=positions, forces=forces, energies=None)
    _, errors = learn_mixing(replace(problem, sets=[DataSet(collided)]), 1)
    assert len(errors) == 2


def test_errors_before_and_after_the_steps_are_stored_and_said(problem):
    (data,) = problem.sets
    settings = replace(problem.settings, invariants=(40, 60, 20), members=0, curvature=1e-7, ridge=1e-7)
    found = []
    for steps in (0, 1):
        inference = Inference.of([DataSet(data.frames[::2])], replace(settings, mixing_steps=steps))
        found.append(inference.losses([mine[0] for mine in inference.preferences]).metadata["channels"])
    assert found[0]["mixing_errors"] == []
    assert "Mixing" not in str(ChannelChoice.from_dict(found[0]))
    before, after = found[1]["mixing_errors"]
    assert after < before
    assert "Mixing learned in 1 step:" in str(ChannelChoice.from_dict(found[1]))


def test_two_parts_have_the_channels_that_are_learned_for_the_shared_one(problem):
    few = replace(problem, sets=[DataSet(problem.sets[0].frames[::4])])
    layout = replace(problem.design.layout, gradient="mutual")
    mutual = replace(few, design=replace(problem.design, layout=layout))
    assert mutual.plain_layout == few.plain_layout
    assert mutual.layout == few.layout
    found, errors = learn_mixing(mutual, 1)
    assert found.layout.gradient == "mutual"
    assert errors[1] < errors[0]


def test_a_step_that_does_not_lower_the_error_is_made_again_with_a_stronger_ridge(problem, monkeypatch):
    """Where the first change goes far too far, a smaller one is tried."""
    mixed, solutions, steps, ridges = MixingProblem.mixed, MixingProblem.solutions, [], []

    def noted(self, equations, outside, strengths):
        ridges.append(strengths[CHANGES])
        return solutions(self, equations, outside, strengths)

    def thrown(self, joint, found):
        steps.append(found)
        factor = 1000.0 if len(steps) == 1 else 1.0
        pairs = zip(found, self.is_change, strict=True)
        return mixed(self, joint, [np.where(mask, factor, 1.0) * c for c, mask in pairs])

    monkeypatch.setattr(MixingProblem, "solutions", noted)
    monkeypatch.setattr(MixingProblem, "mixed", thrown)
    _, errors = learn_mixing(problem, 1)
    assert len(errors) == 2
    assert errors[1] < errors[0]
    assert ridges[-1] == pytest.approx(100.0 * ridges[-2])


def test_a_species_that_only_the_held_out_frames_have_leaves_the_mixing_as_it_is(monkeypatch):
    # else every block has a share of every composition
    monkeypatch.setattr(targets, "balanced", lambda frames, numbers: numbers)
    losses = random_losses("channels", "agent")
    compositions = ((20, SPECIES[:2]), (4, SPECIES))
    first, last = (labelled(random_frames(n, n_atoms=16, least=0.16, species=s), losses) for n, s in compositions)
    frames = MixedFrames((first, replace(last, steps=last.steps + len(first))))
    settings = {"invariants": (20, 20, 0), "mixing_steps": 1, "curvature": 1e-6, "ridge": 1e-7, "members": 0}
    inference = Inference.of([DataSet(frames)], Settings(form="channels", gradient="agent", cutoff=0.5, **settings))
    assert len(inference.mixing_errors) == 1


def test_of_few_of_many_frames_the_last_are_held_out(problem, monkeypatch):
    (data,) = problem.sets
    many = replace(problem, sets=[DataSet(data.frames[np.arange(100) % 64])])
    monkeypatch.setattr(MixingProblem, "stride", 34)
    assert len(many.held_out) == 1
    found = many.equations(many.design, "")
    assert all(block.weight > 0.0 for blocks in found.blocks for block in blocks)
