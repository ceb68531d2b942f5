"""The domain of an inference: held-out frames are inside, and unphysical configurations outside."""

from __future__ import annotations

import json

import numpy as np
import pytest

from openmm_duality.geometry.cells import minimum_image
from openmm_duality.inference import DataSet, infer
from openmm_duality.inference.adding_frames import add_frames
from openmm_duality.inference.equations.pair_statistics import PairStatistics
from openmm_duality.inference.uncertainty.domain import DISTANCE_MARGIN, _frequencies
from openmm_duality.invariants.contractions import environment_descriptors
from openmm_duality.invariants.neighbours import find_neighbours
from openmm_duality.losses.evaluator import LocalEnvironments
from tests.systems import SPECIES, labelled, random_frames, random_losses
from tests.water import liquid, small_water

SMALL = {
    "form": "pair",
    "cutoff": 0.5,
    "pair_functions": 5,
    "functions": 2,
    "intervals": 100,
    "ridge": 1e-4,
    "curvature": 1e-6,
    "members": 0,
}


def visited(losses, positions, species, cell):
    """Intervals of the grid in which a distance occurs, by pair of species."""
    species_index, grid = losses.index_of(species), losses.grid
    result = np.zeros((len(losses.species), len(losses.species), grid.intervals), dtype=bool)
    for b, table in enumerate(find_neighbours(positions, cell, species_index, len(losses.species), losses.cutoff)):
        i, slot = np.nonzero(table.distances < losses.cutoff)
        result[species_index[i], b, (table.distances[i, slot] / grid.spacing).astype(int)] = True
    return result


def domain_distances(losses, positions, species, cell):
    environments = LocalEnvironments.of(losses, positions, species, cell)
    phi = environment_descriptors(environments.moments, losses.basis.size)
    present = visited(losses, positions, species, cell)
    return losses.domain.distances([phi], present, environments.evaluate(losses).losses, environments.species_index)


def known(found):
    return not found.unseen.any() and found.environments.max() <= 1.0 and found.losses.max() <= 1.0


@pytest.fixture(scope="module")
def water():
    """A model of liquid water and frames held out by time."""
    return small_water(), liquid()[1]


def test_held_out_frames_are_inside(water):
    losses, test = water
    found = [known(domain_distances(losses, test.positions[t], test.species, test.cell(t))) for t in range(len(test))]
    assert all(found), found


def compressed(frames, t, factor):
    """Rigid molecules moved closer to each other; atoms are in the order O, H, H."""
    cell = frames.cell(t)
    molecules = frames.positions[t].reshape(-1, 3, 3)
    arms = minimum_image((molecules - molecules[:, :1]).reshape(-1, 3), cell).reshape(-1, 3, 3)
    return (factor * molecules[:, :1] + arms).reshape(-1, 3), factor * cell


def test_a_compressed_box_is_outside(water):
    """Cells with edges 7 % shorter are outside in every frame, with edges 5 % shorter in many."""
    losses, test = water
    assert test.species[:3] == ("O", "H", "H")
    foreign = {factor: [] for factor in (1.0, 0.95, 0.93)}
    for factor, mine in foreign.items():
        for t in range(0, len(test), 2):
            positions, cell = compressed(test, t, factor)
            mine.append(not known(domain_distances(losses, positions, test.species, cell)))
    assert not any(foreign[1.0])
    assert np.mean(foreign[0.95]) > 0.3
    assert all(foreign[0.93])


def stretched(frames, t, h, length):
    """One hydrogen moved along its bond, in nm."""
    o = h - h % 3
    assert (frames.species[h], frames.species[o]) == ("H", "O")
    positions = frames.positions[t].copy()
    arm = minimum_image((positions[h] - positions[o])[None], frames.cell(t))[0]
    positions[h] = positions[o] + length * arm / np.linalg.norm(arm)
    return positions


@pytest.mark.parametrize("length", [0.07, 0.125, 0.16])
def test_a_compressed_or_stretched_bond_is_outside(water, length):
    losses, test = water
    for t in (0, 7, 14):
        for h in (1, 50, 100):
            found = domain_distances(losses, stretched(test, t, h, length), test.species, test.cell(t))
            assert not known(found)
            if length < 0.16:  # neither a covalent nor a hydrogen bond has this length
                assert found.unseen[0, 1].any()
                assert found.unseen[1, 0].any()
                assert not found.unseen[1, 1].any()
            else:  # the length of a hydrogen bond, but in an environment unknown in water
                assert found.environments.max() > 1.0


def test_observed_distances_and_a_margin_around_them_are_inside():
    frames = labelled(random_frames(12, n_atoms=14, least=0.2), random_losses("pair"))
    losses = infer(frames, **SMALL)
    spacing = losses.grid.spacing
    present = [visited(losses, frames.positions[t], frames.species, frames.cell(t))[:2, :2] for t in range(12)]
    occurred = np.any(present, axis=0)
    reach = round(DISTANCE_MARGIN / spacing)
    for share in (1e-4, 1e-8):
        seen = ~losses.domain.unlikely(share)
        np.testing.assert_array_equal(seen, seen.swapaxes(0, 1))
        for a, b, k in np.argwhere(occurred):
            assert seen[a, b, max(0, k - reach) : k + reach + 1].all()
    first = int(np.flatnonzero(occurred[0, 1])[0])
    wider = [int(np.flatnonzero(~losses.domain.unlikely(share)[0, 1])[0]) for share in (1e-2, 1e-6, 1e-12)]
    assert first - reach >= wider[0] >= wider[1] >= wider[2]


def test_distances_beyond_the_edges_are_as_frequent_as_their_tails_say():
    """Neighbours at exponentially distributed distances from an edge on: at most as frequent, and not by far less."""
    grid, rng = random_losses("pair").grid, np.random.default_rng(0)
    k, width, agents = grid.intervals, 6.0, 3000
    ratios = []
    for _ in range(40):
        distances = (k // 4 + rng.exponential(width, size=agents)).astype(int)
        counts = np.bincount(distances[distances < k], minlength=k)[None, None].astype(float)
        statistics = PairStatistics(np.ones((1, 1)), counts, counts, np.array([float(agents)]))
        beyond = distances.max() + 20 - k // 4  # behind the margin
        ratios.append(_frequencies(statistics, grid)[0, 0, k // 4 + beyond :].sum() / np.exp(-beyond / width))
    assert 0.01 < np.median(ratios) < 1.0


def test_domains_of_few_frames_are_left_out_and_those_of_rare_species_are_no_obstacle():
    truth = random_losses("pair")
    frames = labelled(random_frames(12, n_atoms=14), truth)
    assert infer(frames[:9], **SMALL).domain is None
    assert infer(frames[:10], **SMALL).domain is not None
    # a single atom of the third species in a single frame gives no width of its environments
    rare = labelled(random_frames(1, n_atoms=3, species=SPECIES, seed=3, least=0.2), truth)
    assert rare.species.count("Xe") == 1
    losses = infer([DataSet(frames), DataSet(rare, name="rare")], **SMALL)
    found = domain_distances(losses, rare.positions[0], rare.species, rare.cell(0))
    assert not found.unseen.any()
    assert found.environments[rare.species.index("Xe")] <= 1.0
    assert np.isfinite(found.losses).all()


def test_every_training_frame_is_inside_for_every_form():
    truth = random_losses("moment")
    frames = labelled(random_frames(16, n_atoms=14), truth)
    for form in ("pair", "quadratic", "moment", "coupled"):
        losses = infer(frames, **{**SMALL, "form": form, "coarse_functions": 1})
        for t in range(0, 16, 5):
            assert known(domain_distances(losses, frames.positions[t], frames.species, frames.cell(t)))
        assert json.dumps(losses.metadata)


def test_old_and_added_frames_are_inside():
    truth = random_losses("pair")
    old = labelled(random_frames(16, n_atoms=14, least=0.17), truth)
    new = labelled(random_frames(6, n_atoms=30, seed=7, least=0.2), truth)  # denser
    losses = infer(old, keep_equations=True, **SMALL)
    first, updated = losses, add_frames(losses, new)

    def unknown(model, frames):
        count = range(0, len(frames), 3)
        return sum(
            not known(domain_distances(model, frames.positions[t], frames.species, frames.cell(t))) for t in count
        )

    assert unknown(first, new) > 0
    assert unknown(updated, new) == unknown(updated, old) == 0
