"""What is measured of a slab of water, against charges whose potential and fluctuations are known."""

from __future__ import annotations

import runpy

import numpy as np
import pytest

import openmm_duality as duality
from tests.water import EXAMPLES

EDGE, HEIGHT, CHARGE = 1.5, 6.0, 0.4
PERMITTIVITY = 1.0 / (4.0 * np.pi * 138.935458)  # e²/(kJ/mol)/nm
KT = 0.00831446 * 300.0


@pytest.fixture(scope="module")
def observables():
    return runpy.run_path(str(EXAMPLES.parent / "scripts" / "water_slab.py"))["observables"]


def frames(z):
    """Frames of equal masses at heights (T, N) in nm."""
    positions = np.zeros((*z.shape, 3))
    positions[..., 2] = z
    cells = np.repeat(np.diag([EDGE, EDGE, HEIGHT])[None], len(z), axis=0)
    n = z.shape[1]
    return duality.Frames(("H",) * n, np.ones(n), positions, np.arange(len(z)), np.arange(len(z)), cells=cells)


def test_the_potential_of_three_charged_planes_is_a_triangle(observables):
    found = observables(frames(np.tile([-0.5, 0.0, 0.5], (10, 1))), CHARGE * np.array([1.0, -2.0, 1.0]))
    z, potential = np.array(found["z_nm"]), np.array(found["potential_V"]["mean"]) * 96.48533
    expected = -CHARGE / (PERMITTIVITY * EDGE**2) * np.clip(0.5 - np.abs(z), 0.0, None)
    smooth = np.abs(np.abs(z) - 0.25) < 0.15  # away from the planes
    assert potential[smooth] == pytest.approx(expected[smooth], rel=0.02)


def test_fluctuations_of_a_thin_slab_are_those_of_its_dipole(observables):
    rng = np.random.default_rng(0)
    half = 0.01 * rng.normal(size=(500, 20))
    z = np.concatenate([half, -half], axis=1) + 0.001 * rng.normal(size=(500, 40))
    found = observables(frames(z), np.repeat([CHARGE, -CHARGE], 20))
    variance = 4 * 20 * (CHARGE * 0.01) ** 2 / (PERMITTIVITY * EDGE**3 * KT)
    assert found["dipole_variance_xyz"]["mean"][2] == pytest.approx(variance, rel=0.2)
    assert found["charge_fluctuations"]["mean"][0] == pytest.approx(found["dipole_variance_xyz"]["mean"][2], rel=0.01)
