"""Spectra against oscillators of known frequency, and where they must be refused."""

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.observables.bonds import Bonds
from openmm_duality.observables.spectra import (
    PER_CM,
    Spectra,
    band_centroids,
    band_shares,
    find_bands,
    measure_spectra,
    obstacle,
)
from openmm_duality.observables.trajectory import Trajectory
from openmm_duality.reference.frames import Frames
from openmm_duality.report.notes import note_sentence
from tests.observables import made

SPACING = 0.002
LINES = {"H": 3500.0, "O": 800.0}  # cm⁻¹
AMPLITUDES = {"H": 0.01, "O": 0.02}  # nm


def oscillators(steps: int = 3000, n: int = 6, seed: int = 1, spacing: float = SPACING) -> Frames:
    """H and O that swing at one wavenumber each, in random phases, with exact velocities."""
    rng = np.random.default_rng(seed)
    species = ("H", "O") * n
    omega = np.array([2 * np.pi * LINES[symbol] / PER_CM for symbol in species])[:, None]
    amplitude = np.array([AMPLITUDES[symbol] for symbol in species])[:, None]
    phase, home = rng.uniform(0, 2 * np.pi, (2 * n, 3)), rng.uniform(0, 1, (2 * n, 3))
    t = spacing * np.arange(1, steps + 1)[:, None, None]
    frames = made.frames(species, home + amplitude * np.sin(omega * t + phase), np.eye(3), spacing)
    return replace(frames, velocities=amplitude * omega * np.cos(omega * t + phase))


def of(frames: Frames, segment: float = 1.0) -> Spectra:
    trajectory = Trajectory.from_frames(frames)
    return measure_spectra(trajectory, Bonds.found(trajectory, {}), segment, progress=False)


@pytest.mark.parametrize("source", ["velocities", "positions"])
def test_oscillators_have_their_frequency(source):
    frames = oscillators()
    found = of(frames if source == "velocities" else replace(frames, velocities=None))
    assert found.source == source
    for symbol, line in LINES.items():
        density = found.density[symbol]
        assert density.centres[np.argmax(density.mean)] == pytest.approx(line, abs=found.resolution)
        assert band_centroids(density, (line - 200, line + 200)) == pytest.approx(line, abs=2)
        assert np.trapezoid(density.mean, density.centres) == pytest.approx(1, abs=0.01)


def test_positions_weigh_lines_as_velocities_do():
    """A difference of positions weakens fast lines; undone, the shares are those of the kinetic energy."""
    frames = oscillators(n=40)
    kinetic = {k: made.MASSES[k] * (AMPLITUDES[k] * LINES[k]) ** 2 for k in LINES}
    expected = kinetic["H"] / sum(kinetic.values())
    for source in (frames, replace(frames, velocities=None)):
        assert band_shares(of(source).total, (3000.0, 4000.0)).mean() == pytest.approx(expected, rel=0.05)


def test_the_velocities_of_an_oscillator_are_a_cosine_apart():
    found = of(oscillators()).autocorrelation["O"]
    expected = np.cos(2 * np.pi * LINES["O"] / PER_CM * found.centres)
    assert found.mean == pytest.approx(expected, abs=0.02)


def test_images_and_drift_do_not_matter():
    frames = replace(oscillators(800), velocities=None)
    moved = replace(frames, positions=frames.positions + np.linspace(0, 3, 800)[:, None, None])
    a, b, c = (of(f, 0.3).density["H"].mean for f in (frames, made.imaged(frames), moved))
    assert b == pytest.approx(a, abs=1e-9)
    assert c == pytest.approx(a, abs=1e-9)


def test_the_main_bands_are_found():
    found = of(oscillators())
    bands = find_bands(found.total)
    assert len(bands) == 2
    for (low, high), line in zip(bands, sorted(LINES.values()), strict=True):
        assert low < line < high
        assert high - low <= 400


@pytest.mark.parametrize("source", ["velocities", "positions"])
def test_chunks_do_not_matter(monkeypatch, source):
    frames = oscillators(700) if source == "velocities" else replace(oscillators(700), velocities=None)
    whole = of(frames, 0.2)
    monkeypatch.setattr("openmm_duality.observables.trajectory._COORDINATES_PER_CHUNK", 3 * 12 * 37)
    parts = of(frames, 0.2)
    assert parts.total.blocks == pytest.approx(whole.total.blocks, abs=1e-12)
    assert parts.autocorrelation["H"].blocks == pytest.approx(whole.autocorrelation["H"].blocks, abs=1e-9)


@pytest.mark.parametrize(
    ("spacing", "velocities", "allowed"),
    [(0.002, False, True), (0.0025, False, False), (0.004, True, True), (0.005, True, False)],
)
def test_coarse_frames_are_refused(spacing, velocities, allowed):
    frames = oscillators(50, spacing=spacing)
    why = obstacle(Trajectory.from_frames(frames if velocities else replace(frames, velocities=None)))
    assert (why is None) == allowed
    if why is not None:
        sentence = note_sentence(why)
        assert f"every {1e3 * spacing:.3g} fs" in sentence


def test_of_large_systems_whole_molecules_are_followed(monkeypatch):
    frames = oscillators(400, n=30)
    monkeypatch.setattr("openmm_duality.observables.spectra._NUMBERS", 3 * 100 * 20)
    found = of(frames, 0.2)
    assert found.atoms == 20
    assert band_centroids(found.density["H"], (3300.0, 3700.0)) == pytest.approx(LINES["H"], abs=5)


def test_the_speed_of_the_centre_of_mass_is_told():
    """Velocities without momentum, and the same with a constant drift, which the spectrum does not see."""
    frames = oscillators()
    share = frames.masses / frames.masses.sum()
    still = frames.velocities - np.einsum("i,tix->tx", share, frames.velocities)[:, None]
    drift = np.array([0.03, 0.0, -0.04])
    at_rest, adrift = (of(replace(frames, velocities=still + v)) for v in (np.zeros(3), drift))
    assert at_rest.drift < 1e-12
    assert adrift.drift == pytest.approx(0.05)
    assert adrift.total.mean == pytest.approx(at_rest.total.mean, abs=1e-6)
