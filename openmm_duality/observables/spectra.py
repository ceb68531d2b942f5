"""Velocity autocorrelation and vibrational density of states, per species, and the bands of a density of states.

The density of states is the power spectrum of the velocities, weighted by the masses (Welch's method: segments that
overlap by half, Hann window). Velocities may be those of the run, or differences of its positions; a difference over h
weakens a vibration of angular frequency ω by sin(ωh/2)/(ωh/2), which is undone exactly.

Index suffixes: t frame, i atom, x Cartesian, s species, b block, k wavenumber or lag.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import fft, signal
from scipy.ndimage import gaussian_filter1d

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.observables.bonds import Bonds
from openmm_duality.observables.curves import Curve, merged
from openmm_duality.observables.findings import Note, Remark
from openmm_duality.observables.statistics import FEWEST_BLOCKS, MOST_BLOCKS, block_of
from openmm_duality.observables.trajectory import Trajectory, even_steps, species_codes
from openmm_duality.progress import progress_bar

SingleArray = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
Band = tuple[float, float]  # first and last wavenumber in cm⁻¹

PER_CM = 33.35640952  # cm⁻¹ of 1/ps
POSITIONS_SPACING = 0.002  # ps: coarser positions lose the fast vibrations
VELOCITIES_SPACING = 0.004  # ps: Nyquist's wavenumber is 4,170 cm⁻¹, behind every vibration of a molecule
SEGMENT = 2.0  # ps: resolves 17 cm⁻¹
_TOLERANCE = 1 + 1e-6
_NUMBERS = 60_000_000  # velocities in a segment, in single precision: 240 MB
_COLUMNS = 3000  # transformed at a time
_SHORTEST = 8  # frames of a segment
_REACH = 1.0  # ps, of the autocorrelation

_FLOOR = 0.01  # of the highest density: below lies no band
_SMALLEST = 0.02  # of the area: a band holds more
_VALLEY = 0.4  # of the lower of two peaks: a deeper valley parts two bands
_SMOOTHING = 20.0  # cm⁻¹
_GRID = 50.0  # cm⁻¹, to which limits are rounded


@dataclass(frozen=True)
class Spectra:
    """The vibrations of a trajectory.

    Parameters
    ----------
    density : dict of str to Curve
        By species: density of states of unit area, against wavenumbers in cm⁻¹.
    total : Curve
        Of all species together, of unit area.
    segments : Curve
        The same of every segment, which overlap by half: how a band changes with time.
    autocorrelation : dict of str to Curve
        By species: ⟨v(0)·v(t)⟩ divided by its value at 0, against ps.
    source : str
        ``"velocities"`` or ``"positions"``.
    spacing, segment : float
        Between frames, and of a segment, in ps.
    atoms : int
        How many atoms were followed.
    drift : float
        The largest speed of the centre of mass, in nm/ps: the momentum by the mass.
    """

    density: dict[str, Curve]
    total: Curve
    segments: Curve
    autocorrelation: dict[str, Curve]
    source: str
    spacing: float
    segment: float
    atoms: int
    drift: float

    @property
    def resolution(self) -> float:
        """The width of the narrowest feature, in cm⁻¹."""
        return PER_CM / self.segment


def obstacle(trajectory: Trajectory) -> Note | None:
    """Why a trajectory has no spectrum; None if it has."""
    spacing = trajectory.spacing
    if len(trajectory) < 2 * FEWEST_BLOCKS or not even_steps(trajectory.times):
        return Note(Remark.SPECTRUM_UNEVEN, trajectory.name)
    if trajectory.velocity_reader is not None and spacing <= VELOCITIES_SPACING * _TOLERANCE:
        return None
    if spacing <= POSITIONS_SPACING * _TOLERANCE:
        return None
    spacings = 1e3 * spacing, 1e3 * POSITIONS_SPACING, 1e3 * VELOCITIES_SPACING
    return Note(Remark.SPECTRUM_COARSE, trajectory.name, spacings)


def measure_spectra(trajectory: Trajectory, bonds: Bonds, segment: float, *, progress: bool) -> Spectra:
    """Vibrations of a trajectory without an `obstacle`, streamed one segment at a time.

    Parameters
    ----------
    trajectory : Trajectory
        Wrapped or unwrapped.
    bonds : Bonds
        Its molecules: of very large systems, evenly spread whole ones are followed.
    segment : float
        In ps.
    progress : bool
        Whether to show a progress bar.
    """
    moving = trajectory.velocity_reader is not None and trajectory.spacing <= VELOCITIES_SPACING * _TOLERANCE
    n_all = len(trajectory) if moving else len(trajectory) - 1
    n = min(n_all, max(_SHORTEST, round(segment / trajectory.spacing)))
    hop = n // 2
    n_segments = 1 + (n_all - n) // hop
    block = block_of(n_segments, min(n_segments, int(np.clip(n_all / n, FEWEST_BLOCKS, MOST_BLOCKS))))
    chosen = _followed(bonds, n)
    code, masses = species_codes(trajectory.species)[chosen], trajectory.masses[chosen]
    names = trajectory.distinct_species
    lags = min(hop, round(_REACH / trajectory.spacing)) + 1
    power = np.zeros((n_segments, len(names), n // 2 + 1))
    correlation = np.zeros((block[-1] + 1, len(names), lags))
    source = _differences(trajectory)
    if moving and trajectory.velocity_reader is not None:
        source = (chunk.positions for chunk in trajectory.velocity_reader(0))
    centre = _Centre(trajectory.masses)
    with progress_bar(n_segments, f"spectrum of {trajectory.name}", show=progress, unit="segment") as bar:
        for k, part in enumerate(_segments(source, centre, chosen, n, hop)):
            for s in range(len(names)):
                columns: SingleArray = part[:, code == s].reshape(n, -1)
                power[k, s] = masses[code == s][0] * _power(columns, trajectory.spacing)
                correlation[block[k], s] += _autocorrelation(columns, lags)
            bar.update()
    wavenumbers = np.asarray(fft.rfftfreq(n, trajectory.spacing) * PER_CM, dtype=np.float64)
    if not moving:
        power /= np.sinc(wavenumbers / PER_CM * trajectory.spacing) ** 2  # numpy's sinc has the π inside
    width = wavenumbers[1] - wavenumbers[0]
    delays = np.asarray(np.arange(lags) * trajectory.spacing, dtype=np.float64)
    blocks = merged(power, block)
    return Spectra(
        density={name: Curve(wavenumbers, _unit_area(blocks[:, s], width)) for s, name in enumerate(names)},
        total=Curve(wavenumbers, _unit_area(blocks.sum(axis=1), width)),
        segments=Curve(wavenumbers, _unit_area(power.sum(axis=1), width)),
        autocorrelation={
            name: Curve(delays, correlation[:, s] / correlation[:, s, :1]) for s, name in enumerate(names)
        },
        source="velocities" if moving else "positions",
        spacing=trajectory.spacing,
        segment=n * trajectory.spacing,
        atoms=len(chosen),
        drift=centre.fastest,
    )


class _Centre:
    """Removes the motion of the centre of mass, and records its largest speed in nm/ps."""

    def __init__(self, masses: FloatArray) -> None:
        self._shares = masses / masses.sum()
        self.fastest = 0.0

    def __call__(self, v: FloatArray) -> FloatArray:
        moved = np.einsum("i,tix->tx", self._shares, v)
        self.fastest = max(self.fastest, float(np.linalg.norm(moved, axis=1).max(initial=0.0)))
        return np.asarray(v - moved[:, None])


def _segments(
    source: Iterator[FloatArray], centre: _Centre, chosen: IntArray, n: int, hop: int
) -> Iterator[SingleArray]:
    """Segments of n frames, `hop` frames apart, of the chosen atoms less the motion of the centre of mass.

    The same array is given every time.
    """
    buffer, filled = np.empty((n, len(chosen), 3), dtype=np.float32), 0
    for v in source:
        inner = centre(v)[:, chosen]
        at = 0
        while at < len(inner):
            take = min(n - filled, len(inner) - at)
            buffer[filled : filled + take] = inner[at : at + take]
            filled, at = filled + take, at + take
            if filled == n:
                yield buffer
                buffer[: n - hop] = buffer[hop:].copy()
                filled = n - hop


def _differences(trajectory: Trajectory) -> Iterator[FloatArray]:
    last = None
    for chunk in trajectory:
        cells = chunk.cells
        before = chunk.positions[:1] if last is None else last[None]
        steps = np.diff(chunk.positions, axis=0, prepend=before)
        moved = steps if cells is None else minimum_image(steps, cells)
        yield (moved[1:] if last is None else moved) / trajectory.spacing
        last = chunk.positions[-1]


def _followed(bonds: Bonds, n_frames: int) -> IntArray:
    """The atoms of evenly spread molecules, all of them unless a segment would not fit into memory."""
    share = 3 * n_frames * len(bonds.molecule) / _NUMBERS
    return np.flatnonzero(bonds.molecule % max(1, int(np.ceil(share))) == 0)


def _power(columns: SingleArray, spacing: float) -> FloatArray:
    """Power spectra of many series, shape (n, C), added up."""
    total = 0.0
    for start in range(0, columns.shape[1], _COLUMNS):
        part = columns[:, start : start + _COLUMNS]
        total = total + signal.periodogram(part, 1 / spacing, "hann", detrend=False, axis=0)[1].sum(axis=1)
    return np.asarray(total, dtype=np.float64)


def _autocorrelation(columns: SingleArray, lags: int) -> FloatArray:
    """Unbiased autocorrelation of many series, shape (n, C), added up over them."""
    n, total = len(columns), np.zeros(lags)
    length = fft.next_fast_len(n + lags, real=True)
    for start in range(0, columns.shape[1], _COLUMNS):
        spectrum = fft.rfft(columns[:, start : start + _COLUMNS], length, axis=0)
        total += fft.irfft((np.abs(spectrum) ** 2).sum(axis=1), length)[:lags]
    return total / (n - np.arange(lags))


def _unit_area(power: FloatArray, width: float) -> FloatArray:
    return np.asarray(power / (power.sum(axis=1, keepdims=True) * width))


def find_bands(spectrum: Curve) -> tuple[Band, ...]:
    """The main bands of a density of states: separated by deep valleys, and each with 2 % of the area or more.

    Parameters
    ----------
    spectrum : Curve
        Against evenly spaced wavenumbers in cm⁻¹.
    """
    nu, width = spectrum.centres, spectrum.centres[1] - spectrum.centres[0]
    density = gaussian_filter1d(spectrum.mean, _SMOOTHING / width)
    floor = _FLOOR * density.max()
    # a peak at the border counts too, as the diffusive end of a liquid's spectrum
    peaks = signal.find_peaks(np.concatenate([[0.0], density, [0.0]]), prominence=floor, height=2 * floor)[0] - 1
    cuts = [0]
    for left, right in pairwise(peaks):
        valley = left + int(np.argmin(density[left : right + 1]))
        if density[valley] < _VALLEY * min(density[left], density[right]):
            cuts.append(valley)
    bands: list[Band] = []
    for start, end in pairwise([*cuts, len(nu)]):
        if spectrum.mean[start:end].sum() < _SMALLEST * spectrum.mean.sum():
            continue
        inside = start + np.flatnonzero(density[start:end] > floor)
        low, high = _GRID * np.floor(nu[inside[0]] / _GRID), _GRID * np.ceil(nu[inside[-1]] / _GRID)
        bands.append((float(max(low, bands[-1][1] if bands else 0.0)), float(high)))
    return tuple(bands)


def band_shares(spectrum: Curve, band: Band) -> FloatArray:
    """Share of the whole density that lies in a band, in every block, shape (n_blocks,)."""
    inside = (spectrum.centres >= band[0]) & (spectrum.centres <= band[1])
    return np.asarray(spectrum.blocks[:, inside].sum(axis=1) / spectrum.blocks.sum(axis=1))


def band_centroids(spectrum: Curve, band: Band) -> FloatArray:
    """Mean wavenumber of a band in every block, weighted by the density, shape (n_blocks,) in cm⁻¹."""
    nu = spectrum.centres
    inside = (nu >= band[0]) & (nu <= band[1])
    weights = spectrum.blocks[:, inside]
    with np.errstate(invalid="ignore"):
        return np.asarray((weights @ nu[inside]) / weights.sum(axis=1))
