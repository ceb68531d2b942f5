"""Targets of the fit: reference forces, or accelerations if there are none, and energies.

The zero of energy is arbitrary, and the losses have no constant terms (the gauge), so that every composition has an
energy constant, a column that is not penalised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.reference.frames import Frames
from openmm_duality.schema import quantity
from openmm_duality.units import MEV, MEV_PER_ANGSTROM

# at weight one, an energy error of 1 meV per atom counts as a force error of 100 meV/Å
_ENERGY_SCALE = 100.0 * MEV_PER_ANGSTROM / MEV

COARSEST = 2e-3  # ps; longer steps do not resolve bond vibrations
_SPACING = 1e-2  # ps between the centres of acceleration targets; closer ones are nearly redundant


@dataclass(frozen=True)
class DataSet:
    """A set of training frames.

    Parameters
    ----------
    frames : Frames
        Frames with forces, or successive steps of a trajectory from which accelerations are computed.
    weight : float
        Factor on the squared errors of this set.
    name : str
        Name in error tables.
    """

    frames: Frames
    weight: float = 1.0
    name: str = "data"

    def __post_init__(self) -> None:
        quantity()(self.weight, f"data {self.name}: weight")


@dataclass(frozen=True)
class Sample:
    """One fitting target, for the weighted sum of rows Σ_k share_k · (rows of configuration k).

    Parameters
    ----------
    configurations : tuple of (share, positions (N, 3) in nm, cell (3, 3) in nm or None)
    target : array, shape (N, 3)
        In kJ/mol/nm.
    energy : float or None
        Energy in kJ/mol, if the sample has a single configuration with an energy.
    """

    configurations: tuple[tuple[float, FloatArray, FloatArray | None], ...]
    target: FloatArray
    energy: float | None = None

    @property
    def central(self) -> int:
        """Index of the configuration at the time of the target."""
        return len(self.configurations) // 2


def as_sets(data: Frames | DataSet | Sequence[DataSet]) -> list[DataSet]:
    """Convert the data argument of `infer` to a list of data sets.

    Raises
    ------
    DualityError
        If there is no data set, or one without frames.
    """
    sets = [data] if isinstance(data, DataSet) else [DataSet(data)] if isinstance(data, Frames) else list(data)
    empty = [s.name for s in sets if not len(s.frames)]
    if not sets or empty:
        raise DualityError(f"there are no frames to infer from{' in ' + ', '.join(empty) if empty else ''}")
    return sets


def data_set_metadata(data: DataSet) -> dict[str, Any]:
    """Entry of a data set in the metadata of a model."""
    return {
        "name": data.name,
        "weight": data.weight,
        "frames": len(data.frames),
        "targets": "forces" if data.frames.forces is not None else "accelerations",
        "source": list(data.frames.source),
    }


def species_and_masses(sets: Sequence[DataSet]) -> tuple[tuple[str, ...], FloatArray]:
    """Collect the names of the species, in alphabetical order, and their masses in dalton.

    Raises
    ------
    DualityError
        If a species has different masses in different data sets.
    """
    masses: dict[str, float] = {}
    for s in sets:
        for name, mass in zip(s.frames.species, s.frames.masses, strict=True):
            if not np.isclose(masses.setdefault(name, float(mass)), mass):
                raise DualityError(
                    f"{name} has a mass of {masses[name]:.4f} in one data set and of {mass:.4f} dalton in {s.name!r}; "
                    "give isotopes different names"
                )
    species = tuple(sorted(masses))
    return species, np.array([masses[name] for name in species])


def pair_frames(sets: Sequence[DataSet]) -> list[tuple[Frames, set[tuple[str, str]]]]:
    """Frames in which each pair of species is analysed: those of the first data set that contains both."""
    found: set[tuple[str, str]] = set()
    result = []
    for frames in (s.frames for s in sets):
        pairs = set(combinations_with_replacement(frames.distinct_species, 2)) - found
        if pairs:
            result.append((frames, pairs))
            found |= pairs
    return result


def count_samples(frames: Frames) -> int:
    """Number of samples that `samples` yields."""
    return len(frames) if frames.forces is not None else len(_centres(frames))


def samples(frames: Frames, numbers: Iterable[int] | None = None) -> Iterator[Sample]:
    """Yield the targets of a set of frames: one sample per frame with forces, else one per 10 fs of trajectory.

    Without forces the target is M (q₊ − 2 q₀ + q₋)/Δt². On a velocity Verlet trajectory with time step δ this is the
    mean of the forces at all steps between q₋ and q₊ with triangular weights, F₀ + (Δt² − δ²)/12 F̈ to fourth order; the
    rows are weighted accordingly, w F₋ + (1 − 2w) F₀ + w F₊ with w = (1 − δ²/Δt²)/12. If every step was written, w = 0
    is exact; for small δ the formula is that of Numerov, w = 1/12.

    Parameters
    ----------
    frames : Frames
    numbers : iterable of int, optional
        Numbers of the samples to yield, counted from 0; all by default.

    Raises
    ------
    DualityError
        If there are no forces and the frames are more than 2 fs apart or not equally spaced.
    """
    if frames.forces is not None:
        for t in range(len(frames)) if numbers is None else numbers:
            energy = None if frames.energies is None else float(frames.energies[t])
            yield Sample(((1.0, frames.positions[t], frames.cell(t)),), frames.forces[t], energy)
        return
    dt = _spacing(frames)
    shares = _shares(frames, dt)
    centres = _centres(frames)
    for t in centres if numbers is None else (centres[number] for number in numbers):
        before, after = (
            minimum_image(frames.positions[k] - frames.positions[t], frames.cell(t)) for k in (t - 1, t + 1)
        )
        acceleration = (before + after) / dt**2
        yield Sample(
            tuple((share, frames.positions[t + k], frames.cell(t + k)) for k, share in shares),
            frames.masses[:, None] * acceleration,
        )


def _shares(frames: Frames, dt: float) -> list[tuple[int, float]]:
    """Offsets and weights of the frames whose rows are summed for a target."""
    assert frames.timestep is not None
    w = (1.0 - min(1.0, frames.timestep / dt) ** 2) / 12.0
    return [(-1, w), (0, 1.0 - 2.0 * w), (1, w)] if w > 1e-4 else [(0, 1.0)]


def _centres(frames: Frames) -> range:
    stride = max(1, round(_SPACING / _spacing(frames)))
    return range(1, len(frames) - 1, stride)


def _spacing(frames: Frames) -> float:
    """Time between frames in ps, after checks that accelerations can be computed from them."""
    if len(frames) < 3:
        raise DualityError(
            "without forces the targets are accelerations, which need at least three successive frames of a trajectory"
        )
    steps = np.diff(frames.times)
    dt = float(np.median(steps))
    if frames.timestep is None:
        raise DualityError("these frames have no forces and are not dynamics, so they contain no targets for inference")
    if not np.allclose(steps, dt, rtol=1e-3, atol=0.0):
        raise DualityError(
            f"accelerations need equally spaced frames, but the spacing varies from {steps.min() * 1e3:.3f} to "
            f"{steps.max() * 1e3:.3f} fs; choose a part of the trajectory without gaps"
        )
    if dt > COARSEST * (1.0 + 1e-6):
        raise DualityError(
            f"without forces, inference takes accelerations from second differences, and frames every {dt * 1e3:.2f} "
            f"fs are too coarse for them (at most {COARSEST * 1e3:.0f} fs); let CP2K write positions every step, or "
            "forces"
        )
    return dt


def composition(species: Sequence[str]) -> str:
    """Chemical formula of a list of atoms, such as ``H128 O64``."""
    return " ".join(f"{name}{number}" for name, number in sorted(Counter(species).items()))


def energy_zeros(sets: Sequence[DataSet]) -> dict[str, float]:
    """First energy (kJ/mol) of each composition with energies, to be subtracted from the targets.

    Raises
    ------
    DualityError
        If no set has both energies and forces.
    """
    zeros: dict[str, float] = {}
    for s in sets:
        if s.frames.energies is not None and s.frames.forces is not None:
            zeros.setdefault(composition(s.frames.species), float(s.frames.energies[0]))
    if not zeros:
        raise DualityError(
            "energy_weight includes energies in the fit, but no data set has energies and forces; leave it at 0, or "
            "add the energies (CP2K's .ener file)"
        )
    return zeros


def energy_constants(zeros: Mapping[str, float], solutions: Sequence[FloatArray]) -> dict[str, float]:
    """Energy constants in kJ/mol by composition, from the last columns of the solution."""
    constants = solutions[0][len(solutions[0]) - len(zeros) :]
    return {name: zero + float(c) for (name, zero), c in zip(zeros.items(), constants, strict=True)}


def energy_weight(relative: float, force_weights: FloatArray) -> float:
    """Weight of the squared energy error of a frame relative to squared force errors, in 1/nm².

    Parameters
    ----------
    relative : float
        `Settings.energy_weight`.
    force_weights : array, shape (N,)
        Weights of the squared force errors of the agents; they reduce the weight of the energy accordingly.
    """
    return float(relative * 3.0 * force_weights.sum() * (_ENERGY_SCALE / len(force_weights)) ** 2)
