"""Pairs against a search over all images, whatever the cutoff, and as vesin itself orders them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import vesin

from openmm_duality.geometry.pairs import pair_vectors_within, pairs_within
from tests.systems import CELL, TRICLINIC

CELLS = {"orthorhombic": CELL, "triclinic": TRICLINIC, "left-handed": TRICLINIC[[1, 0, 2]], "open": None}
N, CUTOFF = 12, 0.9  # beyond half the width of the cells


def positions(cell):
    return np.random.default_rng(3).uniform(-1.0, 1.0, size=(N, 3)) @ (CELL if cell is None else cell)


def brute_force(x, cell):
    """(i, j, vector from i to j) of every pair of atoms and images within the cutoff, both ways."""
    shifts = [np.zeros(3)] if cell is None else np.array(list(itertools.product(range(-4, 5), repeat=3))) @ cell
    found = [(i, j, x[j] - x[i] + shift) for i, j in itertools.product(range(N), repeat=2) for shift in shifts]
    return [(i, j, v) for i, j, v in found if 0.0 < np.linalg.norm(v) < CUTOFF]


def as_rows(i, j, vectors):
    return sorted((int(a), int(b), *np.round(v, 9)) for a, b, v in zip(i, j, vectors, strict=True))


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_a_full_list_holds_every_pair_and_image_both_ways(cell):
    x = positions(cell)
    i, j, d, vectors = pair_vectors_within(x, cell, CUTOFF, full_list=True)
    expected = brute_force(x, cell)
    np.testing.assert_allclose(as_rows(i, j, vectors), as_rows(*zip(*expected, strict=True)), atol=1e-8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), d)
    assert (np.diff(i) >= 0).all()


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_a_half_list_holds_every_pair_once(cell):
    x = positions(cell)
    i, j, d, vectors = pair_vectors_within(x, cell, CUTOFF)
    both = as_rows(np.append(i, j), np.append(j, i), np.concatenate([vectors, -vectors]))
    np.testing.assert_allclose(both, as_rows(*zip(*brute_force(x, cell), strict=True)), atol=1e-8)
    for found, same in zip(pairs_within(x, cell, CUTOFF), (i, j, d), strict=True):
        np.testing.assert_array_equal(found, same)


@pytest.mark.parametrize("full_list", [False, True])
def test_the_order_is_that_of_vesin(full_list):
    x = positions(TRICLINIC)
    search = vesin.NeighborList(cutoff=CUTOFF, full_list=full_list, sorted=full_list)
    expected = search.compute(points=x, box=TRICLINIC, periodic=True, quantities="ijDd")
    i, j, d, vectors = pair_vectors_within(x, TRICLINIC, CUTOFF, full_list=full_list)
    for found, other in zip((i, j, vectors, d), expected, strict=True):
        np.testing.assert_array_equal(found, other)
