"""Cells: widths and minimum image against brute force over images."""

import itertools

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import check_cell, minimum_image, shows_one_image, volume, widths
from openmm_duality.geometry.images import images_within
from openmm_duality.geometry.pairs import pair_vectors_within

CELLS = [
    np.diag([1.0, 1.3, 0.9]),
    np.array([[1.0, 0.0, 0.0], [0.4, 1.1, 0.0], [-0.3, 0.5, 1.2]]),
    np.array([[0.1, 0.9, 0.2], [1.0, -0.2, 0.3], [0.2, 0.1, -1.1]]),
]


@pytest.mark.parametrize("cell", CELLS)
def test_minimum_image_is_the_shortest_of_all_images(cell: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    displacements = rng.normal(scale=3.0, size=(500, 3))
    shifts = np.array(list(itertools.product(range(-2, 3), repeat=3))) @ cell
    nearest = minimum_image(displacements, cell)
    images = np.linalg.norm(nearest[:, None] + shifts, axis=-1).min(axis=1)
    exact = images < widths(cell).min() / 2
    assert exact.sum() > 50
    np.testing.assert_allclose(np.linalg.norm(nearest, axis=-1)[exact], images[exact])
    whole = (nearest - displacements) @ np.linalg.inv(cell)
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-9)


@pytest.mark.parametrize("cell", CELLS)
def test_widths_are_volume_over_face(cell: np.ndarray) -> None:
    faces = [np.linalg.norm(np.cross(cell[(k + 1) % 3], cell[(k + 2) % 3])) for k in range(3)]
    np.testing.assert_allclose(widths(cell), volume(cell) / np.array(faces))


def test_no_cell_changes_nothing() -> None:
    displacements = np.array([[5.0, -7.0, 9.0]])
    np.testing.assert_array_equal(minimum_image(displacements, None), displacements)
    check_cell(None)
    assert shows_one_image(100.0, None)


@pytest.mark.parametrize("cell", CELLS)
def test_one_image_up_to_half_the_width_and_no_further(cell: np.ndarray) -> None:
    limit = widths(cell).min() / 2
    assert shows_one_image(limit, cell)
    assert not shows_one_image(1.001 * limit, cell)


@pytest.mark.parametrize("cell", [np.ones((3, 3)), np.full((3, 3), np.nan), np.eye(2)])
def test_cells_without_volume_are_refused(cell: np.ndarray) -> None:
    with pytest.raises(DualityError, match="span a volume"):
        check_cell(cell)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reach", [0.3, 1.7])
def test_images_within_a_reach_are_all_there_and_once(cell: np.ndarray, reach: float) -> None:
    rng = np.random.default_rng(3)
    positions = rng.uniform(-3.0, 3.0, size=(6, 3)) @ cell
    sources, shifts = images_within(positions, cell, reach)
    np.testing.assert_array_equal(sources[:6], np.arange(6))
    lattice = shifts @ np.linalg.inv(cell)
    np.testing.assert_allclose(lattice, np.round(lattice), atol=1e-9)
    every = positions[sources] + shifts
    wrapped = every[:6] @ np.linalg.inv(cell)
    assert (wrapped > -1e-9).all()
    assert (wrapped < 1.0 + 1e-9).all()
    distances = np.linalg.norm(every[:6, None] - every, axis=-1)
    i, m = np.nonzero((distances > 0.0) & (distances < reach))
    found = sorted(zip(i, sources[m], distances[i, m].round(9), strict=True))
    first, second, expected, _ = pair_vectors_within(positions, cell, reach, full_list=True)
    assert found == sorted(zip(first, second, expected.round(9), strict=True))


def test_a_cell_that_has_collapsed_is_refused() -> None:
    with pytest.raises(DualityError, match="collapsed"):
        images_within(np.zeros((100, 3)), 0.01 * np.eye(3), 1.0)
