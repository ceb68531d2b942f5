"""The choice of channels and invariants by the data, and the derivatives of the invariants."""

from __future__ import annotations

from itertools import combinations_with_replacement, product

import numpy as np
import pytest

from openmm_duality.inference import DataSet, evaluate, infer
from openmm_duality.inference.equations import channel_rows
from openmm_duality.inference.equations.channel_kernel import LANES
from openmm_duality.inference.equations.channel_rows import InvariantRows
from openmm_duality.inference.equations.channel_selection import (
    _PAIRINGS,
    SIZES,
    _independent_quartics,
    channels_of_data,
    choose_channels,
    choose_invariants,
)
from openmm_duality.inference.equations.design import Design
from openmm_duality.invariants.channels import coupled
from openmm_duality.invariants.couplings import can_couple
from openmm_duality.invariants.harmonics import HIGHEST_RANK
from openmm_duality.invariants.moments import flat, moments_by_rank
from openmm_duality.invariants.neighbours import find_neighbours
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.mixed_frames import MixedFrames
from tests.systems import (
    CELL,
    SPECIES,
    labelled,
    random_channels,
    random_frames,
    random_losses,
    random_positions,
    random_species,
)

RANKS = (0, 1, 2, 3)


def random_covariances(width, rng, steepness=1e-4):
    found = {}
    for rank in RANKS:
        axes = np.linalg.qr(rng.normal(size=(width, width)))[0]
        found[rank] = (axes * np.geomspace(1.0, steepness, width)) @ axes.T
    return found


def quartics(tensors, ranks):
    """All scalar products of two products of four tensors, by pairing and rank of the products, one per column."""
    columns = {}
    for (number, (a, b, c, d)), rank in product(enumerate(_PAIRINGS), range(HIGHEST_RANK + 1)):
        if can_couple(ranks[a], ranks[b], rank) and can_couple(ranks[c], ranks[d], rank):
            one = coupled(tensors[a], tensors[b], (ranks[a], ranks[b], rank))
            other = coupled(tensors[c], tensors[d], (ranks[c], ranks[d], rank))
            columns[number, rank] = (one * other).sum(axis=1)
    return columns


@pytest.mark.parametrize("ranks", list(combinations_with_replacement(RANKS, 4)))
def test_chosen_quartic_invariants_are_independent_and_make_up_all_others(ranks):
    rng = np.random.default_rng(1)
    for pattern in ((0, 1, 2, 3), (0, 0, 2, 3), (0, 1, 2, 2), (0, 0, 0, 0), (0, 0, 2, 2)):
        if any(ranks[k] != ranks[one] for k, one in enumerate(pattern)):
            continue
        distinct = {k: rng.normal(size=(300, 2 * rank + 1)) for k, rank in zip(pattern, ranks, strict=True)}
        columns = quartics([distinct[k] for k in pattern], ranks)
        chosen = _independent_quartics(ranks, pattern)
        assert set(chosen) <= set(columns)
        if not columns:
            continue
        every = np.array([column / np.linalg.norm(column) for column in columns.values() if column.any()]).T
        mine = np.array([columns[key] / np.linalg.norm(columns[key]) for key in chosen]).T
        assert np.linalg.matrix_rank(mine.T @ mine, tol=1e-8) == len(chosen)
        assert np.linalg.matrix_rank(every, tol=1e-8) == len(chosen)


def test_channels_have_unit_variance_and_are_uncorrelated():
    rng = np.random.default_rng(2)
    covariances, means = random_covariances(8, rng), rng.normal(size=8)
    found = choose_channels(covariances, means, 5, (60, 100, 40))
    for rank, w in found.mixing.items():
        np.testing.assert_allclose(w @ covariances[rank] @ w.T, np.eye(len(w)), atol=1e-10)
    np.testing.assert_allclose(found.means, found.mixing[0] @ means, atol=1e-12)


def test_invariants_of_lowest_degree_are_chosen_and_none_twice():
    rng = np.random.default_rng(3)
    ranks, degrees = np.repeat(RANKS, 4), rng.uniform(0.0, 5.0, size=16)
    _, invariants = choose_invariants(ranks, degrees, (20, 0, 0))
    taken = {tuple(pair) for pair in invariants}
    every = {(p, q) for p, q in combinations_with_replacement(range(16), 2) if ranks[p] == ranks[q]}
    assert len(taken) == len(invariants) == 20
    assert taken <= every
    assert max(degrees[list(x)].sum() for x in taken) <= min(degrees[list(x)].sum() for x in every - taken)
    products, invariants = choose_invariants(ranks, degrees, (20, 100, 100))
    assert len({tuple(x) for x in invariants}) == len(invariants)
    assert len({tuple(x) for x in products}) == len(products)


def test_a_few_invariants_are_a_model():
    """They have no channels of some ranks, of which one is kept."""
    frames = labelled(random_frames(8, n_atoms=10), random_losses())
    losses = infer(frames, form="channels", invariants=(3, 0, 0), cutoff=0.5, members=0)
    assert all(len(w) for channels in losses.channels for w in channels.mixing.values())
    assert {len(channels.invariants) for channels in losses.channels} == {3}
    assert evaluate(losses, frames).force_rmse["all"] < evaluate(losses, frames).force_rms["all"]


def test_a_species_may_be_shown_in_one_environment_or_alone(recwarn):
    """Its moments do not vary then, and there are no channels along which environments differ most."""
    rng, water = np.random.default_rng(0), np.array([[0.0, 0.0, 0.0], [0.076, 0.059, 0.0], [-0.076, 0.059, 0.0]])

    def frames(species, positions, step):
        forces = rng.normal(scale=100.0, size=positions.shape)
        masses = np.array([{"O": 16.0, "H": 1.0, "He": 4.0}[name] for name in species])
        steps = step + np.arange(len(positions))
        return Frames(tuple(species), masses, positions, np.zeros(len(steps)), steps, None, forces, source=("test",))

    several = frames("OHH", water + rng.normal(scale=0.005, size=(20, 3, 3)), 0)
    beside = frames(["O", "H", "H", "He"], np.array([[*water, [0.3, 0.0, 0.0]]]), 20)
    alone = frames(["He"], np.zeros((1, 1, 3)), 21)
    settings = {"form": "channels", "size": "small", "members": 0, "ridge": 1e-7, "curvature": 1e-4}
    for data in (several[:1], MixedFrames((several, beside)), MixedFrames((several, beside, alone))):
        assert infer(data, **settings).metadata["coefficients"] > 0
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_the_invariants_of_data_are_independent():
    """No two of the invariants of atoms at random are the same, in any order."""
    rng = np.random.default_rng(4)
    channels = random_channels(RANKS, 6, rng)
    moments = {rank: rng.normal(size=(400, 6, 2 * rank + 1)) for rank in RANKS}
    found = channels.values(channels.tensors(channels.channels(moments)))
    found /= np.linalg.norm(found, axis=0)
    assert np.linalg.matrix_rank(found, tol=1e-8) == len(channels.invariants)


@pytest.mark.parametrize("size", SIZES)
def test_their_number_does_not_grow_with_the_number_of_species(size):
    chosen, coefficients = SIZES[size], []
    for n_species in (2, 4, 8):
        rng = np.random.default_rng(5)
        width = 5 * n_species
        found = choose_channels(random_covariances(width, rng), np.zeros(width), chosen.channels, chosen.invariants)
        assert all(len(w) <= chosen.channels for w in found.mixing.values())
        coefficients.append(len(found.invariants))
    # two species have fewer moments than there may be channels; the last multiset of an order may bring a few more
    assert coefficients[2] == pytest.approx(coefficients[1], rel=0.01)
    assert max(coefficients) <= 1.02 * sum(chosen.invariants)


def test_channels_of_frames_have_zero_mean_and_unit_variance_in_them():
    frames = random_frames(20)
    losses = random_losses("channels", species=SPECIES[:2])
    channels = channels_of_data([DataSet(frames)], losses.species, losses.basis, RANKS, 4, (30, 40, 20))
    index = losses.index_of(frames.species)
    sums = [[] for _ in channels]
    for t in range(len(frames)):
        tables = find_neighbours(frames.positions[t], frames.cell(t), index, 2, losses.cutoff)
        values = [losses.basis.evaluate(table.distances, index, b)[0] for b, table in enumerate(tables)]
        moments = {rank: flat(m) for rank, m in moments_by_rank(RANKS, tables, values).items()}
        for a, mine in enumerate(channels):
            sums[a].append(mine.channels({rank: m[index == a] for rank, m in moments.items()}))
    for mine, found in zip(channels, sums, strict=True):
        for rank, w in mine.mixing.items():
            a = np.concatenate([x[rank] for x in found])
            np.testing.assert_allclose(np.einsum("ikm,ilm->kl", a, a) / len(a), np.eye(len(w)), atol=1e-8)
            if rank == 0:
                np.testing.assert_allclose(a.mean(axis=0), 0.0, atol=1e-8)


def test_the_kernel_gives_the_derivatives_of_the_invariants():
    """Directional derivatives by central differences, agent by agent, added to any rows."""
    rng, n, width = np.random.default_rng(6), 3, 2 * LANES
    channels = random_channels(RANKS, 6, rng)
    rows = InvariantRows(channels)
    own = channels.channels({rank: rng.normal(size=(n, 6, 2 * rank + 1)) for rank in RANKS})
    derivatives = rng.normal(size=(n, rows.products.n_given, width))
    targets, out = rng.integers(0, 7, size=(n, width)), rows.products.derivatives_by(7)
    out += rng.normal(size=out.shape)
    expected = out[:, : len(channels.invariants)].copy()
    rows.products.subtract_derivatives(rows.of_tensors(channels.tensors(own)), derivatives, targets, out)

    def moved(w, step):
        shifted, first = {}, 0
        for rank, a in own.items():
            count = a.shape[1] * a.shape[2]
            shifted[rank] = a + step * derivatives[:, first : first + count, w].reshape(a.shape)
            first += count
        return channels.values(channels.tensors(shifted))

    h = 1e-5
    for w in range(width):
        slopes = (moved(w, h) - moved(w, -h)) / (2 * h)
        for i in range(n):
            expected[targets[i, w]] -= slopes[i]
    np.testing.assert_allclose(out[:, : expected.shape[1]], expected, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("gradient", ["agent", "collective"])
def test_agents_taken_a_few_at_a_time_have_the_same_rows(gradient, monkeypatch):
    losses = random_losses("channels", gradient)
    positions, index = random_positions(20, CELL), losses.index_of(random_species(20))
    tables = find_neighbours(positions, CELL, index, 3, losses.cutoff)
    together = Design.of(losses).force_rows(tables, index)
    monkeypatch.setattr(channel_rows, "_CHUNK", 1.0)
    for one, other in zip(together, Design.of(losses).force_rows(tables, index), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12 * np.abs(one).max())
