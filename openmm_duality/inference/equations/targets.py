"""What the rows of the design are fitted to: reference forces, or accelerations where there are none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.reference.frames import Frames

COARSEST = 2e-3  # ps; the second difference of a bond vibration says nothing at longer steps
_SPACING = 1e-2  # ps between the centres of acceleration targets: closer ones repeat each other


@dataclass(frozen=True)
class DataSet:
    """Frames that take part in an inference.

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


def described(data: DataSet) -> dict[str, Any]:
    """What a model's metadata say of a data set."""
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


def samples(frames: Frames) -> Iterator[Sample]:
    """The targets of a set of frames: one sample per frame with forces, else one per 10 fs of trajectory.

    Without forces the target is M (q₊ − 2 q₀ + q₋)/Δt². On a velocity Verlet trajectory of the time step δ that is the
    mean of the forces of all steps between q₋ and q₊ with triangular weights, F₀ + (Δt² − δ²)/12 F̈ to fourth order; the
    rows are weighted in the same way, w F₋ + (1 − 2w) F₀ + w F₊ with w = (1 − δ²/Δt²)/12. Where every step was written,
    w = 0 is exact; for small δ it is Numerov's formula, w = 1/12.

    Raises
    ------
    DualityError
        If there are no forces and the trajectory is coarser than 2 fs or not equally spaced.
    """
    if frames.forces is not None:
        for t in range(len(frames)):
            energy = None if frames.energies is None else float(frames.energies[t])
            yield Sample(((1.0, frames.positions[t], frames.cell(t)),), frames.forces[t], energy)
        return
    dt = _spacing(frames)
    shares = _shares(frames, dt)
    for t in _centres(frames):
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
