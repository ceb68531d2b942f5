"""A shuffled trajectory is told from one in order and from independent frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.reference.frames import Frames
from openmm_duality.reference.near_copies import training_distance
from tests.systems import SPECIES, random_frames, random_losses, verlet


def without_times(frames: Frames) -> Frames:
    return replace(frames, times=np.zeros(len(frames)), timestep=None)


# of a dense one that vibrates even the twentieth nearest frame is hardly farther than the nearest
@pytest.mark.parametrize(("every", "noise"), [(5, 0.0), (1, 0.003)])
def test_a_shuffled_trajectory_is_recognised(every: int, noise: float) -> None:
    losses = random_losses("pair", species=SPECIES[:2])
    made = verlet(losses, random_frames(1, least=0.2), 1500)[::every]
    made = replace(made, positions=made.positions + np.random.default_rng(1).normal(0.0, noise, made.positions.shape))
    ordered = without_times(made)
    shuffled = ordered[np.random.default_rng(0).permutation(len(ordered))]
    found = training_distance(*shuffled.split())
    assert found is not None
    assert found.shuffled
    assert found.to_dict()["shuffled"] is True
    in_order = training_distance(*ordered.split())
    assert in_order is not None
    assert not in_order.shuffled
    assert training_distance(*made.split(gap=0.0)) is None  # times say that they are apart


def test_independent_frames_are_not() -> None:
    for n_atoms in (4, 20):
        found = training_distance(*random_frames(90, n_atoms=n_atoms).split())
        assert found is not None
        assert not found.shuffled


def test_copies_of_training_frames_are_found() -> None:
    made = random_frames(120)
    twice = made[[*range(80), *range(0, 80, 4)]]
    found = training_distance(*twice.split())
    assert found is not None
    assert found.copies == 1.0
    assert found.repeated
    assert "100 % of the held-out frames are copies" in str(found)
    few = training_distance(made[:100], made[[*range(99, 120)]])
    assert few is not None
    assert few.copies == 1 / 21
    assert not few.repeated


def test_few_frames_or_other_compositions_say_nothing() -> None:
    assert training_distance(*random_frames(20).split()) is None
    assert training_distance(random_frames(60), random_frames(20, n_atoms=12)) is None
