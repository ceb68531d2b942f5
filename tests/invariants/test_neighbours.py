"""Neighbour tables compared with a search over all images."""

from __future__ import annotations

import numpy as np
import pytest

from openmm_duality.invariants import find_neighbours
from tests.systems import CELL, NARROW, TRICLINIC, narrow_positions

CELLS = {"orthorhombic": CELL, "triclinic": TRICLINIC, "left-handed": TRICLINIC[[1, 0, 2]], "open": None}
N, CUTOFF = 40, 0.5
SPECIES_INDEX = np.arange(N) % 3


def positions(cell, spread=1.0):
    fractional = np.random.default_rng(5).uniform(-spread, spread, size=(N, 3))
    return fractional @ (CELL if cell is None else cell)


def brute_force(x, cell, b):
    """Displacements by (i, j), from a search over images up to four cells away."""
    box = np.zeros((3, 3)) if cell is None else cell
    reach = np.arange(-4, 5)
    images = np.stack(np.meshgrid(reach, reach, reach), axis=-1).reshape(-1, 3) @ box
    if cell is None:
        images = images[:1]
    found = {}
    for i in range(N):
        for j in np.flatnonzero(b == SPECIES_INDEX):
            if i == j:
                continue
            d = x[j] - x[i] + images
            r = np.linalg.norm(d, axis=1)
            if r.min() < CUTOFF:
                found[i, int(j)] = d[r.argmin()]
    return found


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_tables_hold_every_neighbour_once(cell):
    x = positions(cell)
    for b, table in enumerate(find_neighbours(x, cell, SPECIES_INDEX, 4, CUTOFF)):
        filled = table.distances < CUTOFF
        i, slot = np.nonzero(filled)
        found = dict(zip(zip(i, table.indices[filled], strict=True), table.displacements[i, slot], strict=True))
        expected = brute_force(x, cell, b)
        assert found.keys() == expected.keys()
        assert len(found) == len(i)
        for pair, d in expected.items():
            np.testing.assert_allclose(found[pair], d, atol=1e-12)
        np.testing.assert_allclose(np.linalg.norm(table.displacements, axis=-1), table.distances, atol=1e-14)
        assert (table.indices[~filled] == np.nonzero(~filled)[0]).all()
        np.testing.assert_allclose(np.linalg.norm(table.directions, axis=-1), 1.0)


@pytest.mark.parametrize("cell", NARROW.values(), ids=NARROW)
def test_narrow_cells_have_every_image_once(cell):
    x, species_index = narrow_positions(cell), np.array([0, 1])
    reach = np.arange(-6, 7)
    images = np.stack(np.meshgrid(reach, reach, reach), axis=-1).reshape(-1, 3) @ cell
    for b, table in enumerate(find_neighbours(x, cell, species_index, 2, CUTOFF)):
        for i in range(2):
            d = x[b] - x[i] + images
            r = np.linalg.norm(d, axis=1)
            expected = d[(r > 0.0) & (r < CUTOFF)]
            filled = table.distances[i] < CUTOFF
            assert (table.indices[i, filled] == b).all()
            found = table.displacements[i, filled]
            assert len(found) == len(expected) > 1
            np.testing.assert_allclose(sorted(map(tuple, found.round(9))), sorted(map(tuple, expected.round(9))))


def test_a_table_within_a_distance_has_the_nearer_neighbours_and_no_empty_slots_for_all():
    x, distance = positions(CELL), 0.6 * CUTOFF
    for table in find_neighbours(x, CELL, SPECIES_INDEX, 3, CUTOFF):
        near = table.within(distance)
        here, there = table.distances < distance, near.distances < distance
        assert near.distances.shape[1] == here.sum(axis=1).max() < table.distances.shape[1]
        np.testing.assert_array_equal(near.indices[there], table.indices[here])
        np.testing.assert_array_equal(near.displacements[there], table.displacements[here])
        assert near.within(CUTOFF) is near
