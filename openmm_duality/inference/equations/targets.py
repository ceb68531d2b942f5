"""What the design rows are fitted to: reference forces, or accelerations where there are none, and energies.

The zero of an energy is arbitrary, and the losses have no constants (the gauge), so the energies of each composition
have a column of their own that no penalty acts on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.reference.frames import Frames
from openmm_duality.units import MEV, MEV_PER_ANGSTROM

# an error of 1 meV per atom counts as one of 100 meV/Å in the forces, at weight one
_ENERGY_SCALE = 100.0 * MEV_PER_ANGSTROM / MEV

COARSEST = 2e-3  # ps; the second difference of a bond vibration says nothing at longer steps
_SPACING = 1e-2  # ps between the centres of acceleration targets: closer ones repeat each other


@dataclass(frozen=True)
class DataSet:
    """Frames to infer from.

    Parameters
    ----------
    frames : Frames
        With forces; or every step of a trajectory, from which accelerations are taken.
    weight : float
        Factor on the squared errors of this set.
    name : str
        For error tables.
    """

    frames: Frames
    weight: float = 1.0
    name: str = "data"


@dataclass(frozen=True)
class Sample:
    """One set of rows: Σ_k share_k · (rows of configuration k) is to give the target.

    Parameters
    ----------
    configurations : tuple of (share, positions (N, 3) in nm, cell (3, 3) in nm or None)
    target : array, shape (N, 3)
        In kJ/mol/nm.
    energy : float or None
        Of the one configuration in kJ/mol, where there is one.
    """

    configurations: tuple[tuple[float, FloatArray, FloatArray | None], ...]
    target: FloatArray
    energy: float | None = None

    @property
    def central(self) -> int:
        """Number of the configuration whose forces the target is about."""
        return len(self.configurations) // 2


def as_sets(data: Frames | DataSet | Sequence[DataSet]) -> list[DataSet]:
    """Data sets, from what `infer` takes."""
    return [data] if isinstance(data, DataSet) else [DataSet(data)] if isinstance(data, Frames) else list(data)


def described(data: DataSet) -> dict[str, Any]:
    """Description of a data set for the metadata of a model."""
    return {
        "name": data.name,
        "weight": data.weight,
        "frames": len(data.frames),
        "targets": "forces" if data.frames.forces is not None else "accelerations",
        "source": list(data.frames.source),
    }


def count_samples(frames: Frames) -> int:
    """Number of samples that `samples` yields."""
    return len(frames) if frames.forces is not None else len(_centres(frames))


def samples(frames: Frames, numbers: Iterable[int] | None = None) -> Iterator[Sample]:
    """The targets of a set of frames: one sample per frame with forces, else one per 10 fs of trajectory.

    Without forces the target is M (q₊ − 2 q₀ + q₋)/Δt². On a velocity Verlet trajectory of the time step δ that is the
    mean of the forces of all steps between q₋ and q₊ with triangular weights, F₀ + (Δt² − δ²)/12 F̈ to fourth order; the
    rows are weighted in the same way, w F₋ + (1 − 2w) F₀ + w F₊ with w = (1 − δ²/Δt²)/12. Where every step was written,
    w = 0 is exact; for small δ it is Numerov's formula, w = 1/12.

    Parameters
    ----------
    frames : Frames
    numbers : iterable of int, optional
        Which of the samples, counted from 0; all by default.

    Raises
    ------
    DualityError
        If there are no forces and the trajectory is coarser than 2 fs or not equally spaced.
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
    """Offsets of the frames whose rows make up a target, and their weights."""
    assert frames.timestep is not None
    w = (1.0 - min(1.0, frames.timestep / dt) ** 2) / 12.0
    return [(-1, w), (0, 1.0 - 2.0 * w), (1, w)] if w > 1e-4 else [(0, 1.0)]


def _centres(frames: Frames) -> range:
    stride = max(1, round(_SPACING / _spacing(frames)))
    return range(1, len(frames) - 1, stride)


def _spacing(frames: Frames) -> float:
    if len(frames) < 3:
        raise DualityError(
            "without forces, accelerations are the targets, and they need at least three successive frames of a "
            "trajectory"
        )
    steps = np.diff(frames.times)
    dt = float(np.median(steps))
    if frames.timestep is None:
        raise DualityError("these frames have no forces and are not dynamics, so they hold nothing to learn from")
    if not np.allclose(steps, dt, rtol=1e-3, atol=0.0):
        raise DualityError(
            f"accelerations need equally spaced frames, and the spacing goes from {steps.min() * 1e3:.3f} to "
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
    """Formula of a list of atoms, such as ``H128 O64``."""
    return " ".join(f"{kind}{number}" for kind, number in sorted(Counter(species).items()))


def energy_zeros(sets: Sequence[DataSet]) -> dict[str, float]:
    """The first energy (kJ/mol) of every composition whose frames have energies, which the targets are taken from.

    Raises
    ------
    DualityError
        If no set has energies beside its forces.
    """
    zeros: dict[str, float] = {}
    for s in sets:
        if s.frames.energies is not None and s.frames.forces is not None:
            zeros.setdefault(composition(s.frames.species), float(s.frames.energies[0]))
    if not zeros:
        raise DualityError(
            "energy_weight asks for energies in the fit, and no data set has energies beside forces; leave it at 0, or "
            "add the energies (CP2K's .ener file)"
        )
    return zeros


def energy_constants(zeros: Mapping[str, float], solutions: Sequence[FloatArray]) -> dict[str, float]:
    """The constant of every composition in kJ/mol, from the last columns of the solution."""
    constants = solutions[0][len(solutions[0]) - len(zeros) :]
    return {name: zero + float(c) for (name, zero), c in zip(zeros.items(), constants, strict=True)}


def energy_weight(relative: float, force_weights: FloatArray) -> float:
    """Weight of the squared energy error of a frame, in (mol/kJ)² beside force errors in units of mol nm/kJ.

    Parameters
    ----------
    relative : float
        `Settings.energy_weight`.
    force_weights : array, shape (N,)
        Of the squared force errors of the agents; where large forces count less, so does the energy.
    """
    return float(relative * 3.0 * force_weights.sum() * (_ENERGY_SCALE / len(force_weights)) ** 2)
