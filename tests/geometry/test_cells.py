"""Cells: widths and minimum image against brute force over images."""

import itertools

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import check_cutoff, minimum_image, volume, widths

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
    check_cutoff(100.0, None)


def test_cutoff_up_to_half_the_width_and_no_further() -> None:
    cell = CELLS[1]
    limit = widths(cell).min() / 2
    check_cutoff(limit, cell)
    with pytest.raises(DualityError, match=f"at most {limit:.6g} nm"):
        check_cutoff(1.001 * limit, cell)
