"""The motion in a trajectory: diffusion, reorientation and vibrations, each where the trajectory allows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from openmm_duality.geometry.arrays import BoolArray
from openmm_duality.observables.bonds import Bonds
from openmm_duality.observables.conditions import conditions_of_frames
from openmm_duality.observables.findings import Note, Remark
from openmm_duality.observables.paths import follow_molecules
from openmm_duality.observables.spectra import SEGMENT, Spectra, measure_spectra, obstacle
from openmm_duality.observables.statistics import FEWEST_BLOCKS
from openmm_duality.observables.time_correlations import (
    ONSET,
    SHARE,
    LaggedFit,
    diffusion_coefficients,
    longest_lag,
    reorientation_times,
)
from openmm_duality.observables.trajectory import Trajectory, even_steps
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.mixed_frames import AnyFrames

_SHORTEST_SEGMENT = 0.25  # ps: resolves 133 cm⁻¹
_LEAST_LAG = 2 * ONSET  # ps


@dataclass(frozen=True)
class Scales:
    """The lengths of time that all trajectories of a comparison are analysed with, in ps.

    Parameters
    ----------
    longest_lag, segment : float
        Of displacements and reorientation, and of spectra.
    """

    longest_lag: float
    segment: float

    @staticmethod
    def common(slow: Sequence[Trajectory], fast: Sequence[Trajectory]) -> Scales:
        """Choose scales that suit all trajectories long enough for any: `slow` for the lag, `fast` for the segment."""
        lags = [longest_lag(t.duration) for t in slow if longest_lag(t.duration) >= _LEAST_LAG * (1 - 1e-3)]
        segments = [t.duration / FEWEST_BLOCKS for t in fast if obstacle(t) is None]
        return Scales(
            min(lags, default=_LEAST_LAG),
            min([SEGMENT, *(segment for segment in segments if segment >= _SHORTEST_SEGMENT)]),
        )


@dataclass(frozen=True)
class Motion:
    """The motion in a trajectory.

    Parameters
    ----------
    diffusion : dict of str to LaggedFit
        By the formula of the molecules.
    reorientation : dict of str to LaggedFit
        By the species of the bonds.
    spectra : Spectra or None
        None where the frames do not allow any.
    slow_notes, fast_notes : tuple of Note
        Why diffusion and reorientation, or the spectra, are missing, or what is to be known of them.
    """

    diffusion: dict[str, LaggedFit]
    reorientation: dict[str, LaggedFit]
    spectra: Spectra | None
    slow_notes: tuple[Note, ...]
    fast_notes: tuple[Note, ...]

    @property
    def notes(self) -> tuple[Note, ...]:
        """Why anything is missing, or what is to be known, each once."""
        return tuple(dict.fromkeys((*self.slow_notes, *self.fast_notes)))

    def noted(self, note: Note) -> Motion:
        """The same with a note on what there is of it."""
        slow, fast = bool(self.diffusion or self.reorientation), self.spectra is not None
        slow_notes, fast_notes = (*self.slow_notes, *[note] * slow), (*self.fast_notes, *[note] * fast)
        return replace(self, slow_notes=slow_notes, fast_notes=fast_notes)

    def joined(self, other: Motion) -> Motion:
        """The motion of one system from two trajectories of it: this one's where there is any, else the other's."""
        slow = self if self.diffusion or self.reorientation else other
        fast = self if self.spectra is not None else other
        return Motion(slow.diffusion, slow.reorientation, fast.spectra, slow.slow_notes, fast.fast_notes)


def measure_motion(
    trajectory: Trajectory,
    bonds: Bonds,
    scales: Scales,
    *,
    correction: float | None,
    lasting: BoolArray | None = None,
    progress: bool,
) -> Motion:
    """Analyse the motion of a trajectory.

    Parameters
    ----------
    trajectory : Trajectory
        Wrapped or unwrapped.
    bonds : Bonds
        Of its first frame.
    scales : Scales
        The lengths of time to use.
    correction : float or None
        Of diffusion in the finite cell, in nm²/ps.
    lasting : array of bool, shape (N,), optional
        The atoms of molecules that never change, whose diffusion and reorientation are measured; by default all.
    progress : bool
        Whether to show progress bars.
    """
    moved: dict[str, LaggedFit] = {}
    turned: dict[str, LaggedFit] = {}
    slow = _slow_obstacles(trajectory, scales.longest_lag)
    if not slow:
        paths = follow_molecules(trajectory, bonds, lasting=lasting, progress=progress)
        if lasting is not None and not lasting.all():
            slow.append(Note(Remark.MOTION_OF_LASTING, trajectory.name, (int(lasting.sum()), len(lasting))))
        turned = reorientation_times(paths, scales.longest_lag)
        if paths.lost:
            slow.append(Note(Remark.PATHS_LOST, trajectory.name))
        else:
            moved = diffusion_coefficients(paths, scales.longest_lag, correction)
    fast, found = _fast_obstacles(trajectory), None
    if not fast:
        found = measure_spectra(trajectory, bonds, scales.segment, progress=progress)
        if found.atoms < len(trajectory.species):
            fast.append(Note(Remark.SPECTRUM_OF_SOME, trajectory.name, (found.atoms, len(trajectory.species))))
    return Motion(moved, turned, found, tuple(slow), tuple(fast))


def _slow_obstacles(trajectory: Trajectory, lag: float) -> list[Note]:
    """Why a trajectory shows no diffusion and reorientation up to a lag in ps."""
    name, duration, spacing = trajectory.name, trajectory.duration, trajectory.spacing
    if not even_steps(trajectory.times):
        return [Note(Remark.DIFFUSION_UNEVEN, name)]
    if longest_lag(duration) < lag * (1 - 1e-3):
        return [Note(Remark.MOTION_SHORT, name, (duration, _LEAST_LAG / SHARE))]
    if spacing > ONSET / 2:
        return [Note(Remark.MOTION_COARSE, name, (spacing, ONSET / 2))]
    return []


def _fast_obstacles(trajectory: Trajectory) -> list[Note]:
    """Why a trajectory has no spectrum."""
    duration = trajectory.duration
    why = obstacle(trajectory)
    if why is None and duration / FEWEST_BLOCKS < _SHORTEST_SEGMENT:
        why = Note(Remark.SPECTRUM_SHORT, trajectory.name, (duration, FEWEST_BLOCKS * _SHORTEST_SEGMENT))
    return [] if why is None else [why]


def obstacles_of(frames: AnyFrames, name: str) -> list[Note]:
    """What a comparison with these frames lacks, and why.

    Parameters
    ----------
    frames : Frames or MixedFrames
    name : str
        Of them, for the notes.
    """
    if not isinstance(frames, Frames):
        return [Note(Remark.MIXED, name)]
    if not (np.diff(frames.times) > 0).all() or len(frames) < 2:
        return [Note(Remark.NO_TIMES, name)]
    trajectory = Trajectory.from_frames(frames, name)
    notes = [*_slow_obstacles(trajectory, _LEAST_LAG), *_fast_obstacles(trajectory)]
    conditions = conditions_of_frames(frames)
    if conditions.temperature is None and conditions.set_temperature is None:
        notes.append(Note(Remark.NO_TEMPERATURE, name))
    return notes if frames.cells is not None else [*notes, Note(Remark.NO_RDF, name)]
