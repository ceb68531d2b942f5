"""Diffusion and reorientation against random walks whose coefficients are known."""

import numpy as np
import pytest
from openmm import unit

from openmm_duality.observables.bonds import Bonds
from openmm_duality.observables.motion import Motion, Scales, measure_motion
from openmm_duality.observables.paths import follow_molecules
from openmm_duality.observables.time_correlations import (
    PASCAL_SECOND,
    diffusion_coefficients,
    finite_size,
    reorientation_times,
)
from openmm_duality.observables.trajectory import Trajectory
from openmm_duality.reference.frames import Frames
from openmm_duality.report.notes import note_sentence
from tests.observables import made

EDGE, SPACING, D = 2.0, 0.05, 2.3e-3  # nm, ps, nm²/ps


def walkers(n: int, steps: int, seed: int, drift: float = 0.0) -> Frames:
    """Brownian argon in a periodic box."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(scale=np.sqrt(2 * D * SPACING), size=(steps, n, 3)) + drift
    return made.frames(("Ar",) * n, EDGE * rng.random((n, 3)) + np.cumsum(moves, axis=0), np.eye(3) * EDGE, SPACING)


def rods(n: int, steps: int, seed: int, d_rot: float) -> Frames:
    """Molecules H–O whose direction diffuses on the sphere around their centre of mass."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(n, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    along = np.empty((steps, n, 3))
    for t in range(steps):
        along[t] = u
        kick = rng.normal(scale=np.sqrt(2 * d_rot * SPACING), size=(n, 3))
        u = u + kick - (kick * u).sum(axis=1, keepdims=True) * u
        u /= np.linalg.norm(u, axis=1, keepdims=True)
    centre = 0.4 * np.indices((4, 4, 4)).reshape(3, -1).T[:n]
    share = made.MASSES["H"] / (made.MASSES["H"] + made.MASSES["O"])
    arms = np.stack([-share * along, (1 - share) * along], axis=2)
    positions = (centre[:, None] + 0.1 * arms).reshape(steps, -1, 3)
    return made.frames(("O", "H") * n, positions, np.eye(3) * EDGE, SPACING)


def paths(frames: Frames, lengths=None):
    trajectory = Trajectory.from_frames(frames)
    return follow_molecules(trajectory, Bonds.found(trajectory, lengths or {}), progress=False)


def test_brownian_diffusion_is_known_and_covered_by_its_error():
    found = [diffusion_coefficients(paths(walkers(30, 400, seed)), 4.0)["Ar"].value for seed in range(40)]
    exact = D * (1 - 1 / 30)  # the drift of the centre of mass is taken out of thirty equal atoms
    means = np.array([e.mean for e in found])
    assert means.mean() == pytest.approx(exact, rel=3 * means.std() / np.sqrt(40) / exact + 1e-9)
    covered = np.mean([abs(e.mean - exact) < e.interval for e in found])
    assert covered > 0.9
    assert np.mean([e.error for e in found]) < 3 * means.std()


def test_drift_and_images_do_not_matter():
    still, drifting = walkers(20, 300, 1), walkers(20, 300, 1, drift=0.02)
    a, b, c = (diffusion_coefficients(paths(f), 3.0)["Ar"].value.mean for f in (still, drifting, made.imaged(still)))
    assert b == pytest.approx(a, rel=1e-9)
    assert c == pytest.approx(a, rel=1e-9)


def test_a_molecule_that_turns_on_the_spot_does_not_diffuse():
    source = rods(40, 300, 2, 0.3)
    turning = paths(source, {("H", "O"): 0.12})
    assert diffusion_coefficients(turning, 3.0)["HO"].curve.mean.max() < 1e-20
    bond = (source.positions[:, 1::2] - source.positions[:, ::2]) / 0.1
    assert np.abs(np.einsum("tmx,tmx->tm", turning.directions["H-O"], bond)).min() == pytest.approx(1)


def test_rotational_diffusion_is_known_and_covered_by_its_error():
    d_rot = 0.05
    found = [
        reorientation_times(paths(rods(40, 400, seed, d_rot), {("H", "O"): 0.12}), 4.0)["H-O"].value
        for seed in range(20)
    ]
    means = np.array([e.mean for e in found])
    exact = 1 / (6 * d_rot)
    assert means.mean() == pytest.approx(exact, rel=0.02 + 3 * means.std() / np.sqrt(20) / exact)
    assert np.mean([abs(e.mean - exact) < e.interval for e in found]) >= 0.85


def test_fast_rotors_have_no_slow_time():
    found = reorientation_times(paths(rods(40, 300, 4, 2.0), {("H", "O"): 0.12}), 3.0)["H-O"]
    assert found.value is None
    assert found.curve.mean[0] == pytest.approx(1)


def test_the_finite_size_of_the_cell_is_yeh_and_hummers():
    """In SI units, by hand: 2.837297 kT / (6 π η L)."""
    eta, temperature, edge = 0.85e-3, 300.0, 1.24e-9
    boltzmann = unit.BOLTZMANN_CONSTANT_kB.value_in_unit(unit.joule / unit.kelvin)
    expected = 2.837297 * boltzmann * temperature / (6 * np.pi * eta * edge)  # m²/s
    cell = 1.24 * np.eye(3)
    assert finite_size(temperature, eta / PASCAL_SECOND, cell) * 1e-6 == pytest.approx(expected, rel=1e-6)
    assert finite_size(temperature, 1.0, cell @ np.diag([1, 1, 1.1])) is None
    assert finite_size(temperature, 1.0, None) is None


def analysed(frames: Frames, scales: Scales = Scales(2.0, 0.5)):  # noqa: B008
    trajectory = Trajectory.from_frames(frames)
    return measure_motion(trajectory, Bonds.found(trajectory, {}), scales, correction=None, progress=False)


def said(motion: Motion) -> str:
    return " ".join(note_sentence(note) for note in motion.notes)


def test_what_cannot_be_measured_is_said_in_words():
    jumping = made.frames(("Ar",) * 5, EDGE * np.random.default_rng(5).random((300, 5, 3)), np.eye(3) * EDGE, SPACING)
    assert "path through the periodic cell is lost" in said(analysed(jumping))
    assert "too short" in said(analysed(walkers(5, 100, 6)))
    coarse = walkers(5, 100, 7)[::15]
    assert "too coarse" in said(analysed(coarse, Scales(0.5, 0.5)))
    assert "every 50 fs" in said(analysed(walkers(5, 300, 8)))
    uneven = walkers(5, 300, 9)[[*range(200), 230, 250]]
    assert "evenly" in said(analysed(uneven))


def test_large_systems_are_thinned_in_time_not_in_memory():
    long = walkers(2, 5000, 10)
    found = paths(long)
    assert len(found.centres["Ar"]) <= 2000
    assert found.spacing == pytest.approx(3 * SPACING)
