"""Runs and reference data to be compared, each with the part of it that is analysed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.bonding import BondLengths
from openmm_duality.geometry.cells import widths
from openmm_duality.observables.bonds import Bonds
from openmm_duality.observables.conditions import Conditions, conditions_of_frames, conditions_of_run
from openmm_duality.observables.findings import Note, Remark
from openmm_duality.observables.runs import Run, read_run
from openmm_duality.observables.structure import SPACING
from openmm_duality.observables.trajectory import Trajectory, counts, even_steps, frames_before
from openmm_duality.reference.formats import read_one
from openmm_duality.reference.frames import Frames, evenly_spaced
from openmm_duality.reference.state_points import ENSEMBLES
from openmm_duality.units import bare

DISCARD = 1.0  # ps
DISCARDED_SHARE = 0.1  # of a run; no more is left out unasked
_OTHER = "other data"  # name of frames that come without a file


@dataclass(frozen=True)
class Subject:
    """A run, or other data, with the frames that are analysed.

    Parameters
    ----------
    name : str
        The name of its folder or file.
    run : Run or None
        None for data that are no run.
    source : tuple of str
        The files it came from.
    whole, used : Trajectory
        All of it, and what remains after the discarded beginning.
    bonds : Bonds
        Of its first frame.
    conditions : Conditions
        Of what is analysed.
    notes : tuple of Note
        What was noticed.
    rows : slice
        Of the log of a run, those of the frames that are analysed.
    """

    name: str
    run: Run | None
    source: tuple[str, ...]
    whole: Trajectory
    used: Trajectory
    bonds: Bonds
    conditions: Conditions
    notes: tuple[Note, ...]
    rows: slice = field(default_factory=lambda: slice(0))

    @property
    def discarded(self) -> float:
        """The beginning left out, in ps."""
        return float(self.used.times[0] - self.whole.times[0])

    @property
    def thinned(self) -> Trajectory:
        """The frames that are analysed for structure, no closer in time than they need be."""
        spacing = self.used.spacing
        return self.used.every(max(1, int(SPACING / spacing + 1e-6)) if spacing > 0 else 1)

    @staticmethod
    def of_run(directory: str | Path, lengths: BondLengths, discard: Any) -> Subject:
        """A run directory, less its beginning: by default 1 ps, but at most a tenth of the run."""
        run, whole, used = _read_used(directory, discard)
        start, stop = np.searchsorted(run.log["time_ps"], (used.times[0], used.times[-1]))
        rows = slice(int(start), int(stop) + 1)
        conditions = conditions_of_run(run, used.first().cell(0), rows)
        bonds = Bonds.found(whole, lengths)
        return Subject(whole.name, run, (str(directory),), whole, used, bonds, conditions, run.notes, rows)

    @staticmethod
    def of_frames(frames: Frames, name: str, lengths: BondLengths, discard: Any = None) -> Subject:
        """Data that are no run: all of them, less the beginning that is to be left out."""
        whole = Trajectory.from_frames(frames, name)
        dropped = 0 if discard is None else _dropped(whole, discard)
        conditions = conditions_of_frames(frames[dropped:])
        bonds = Bonds.found(whole, lengths)
        return Subject(name, None, frames.source, whole, whole.after(dropped), bonds, conditions, ())

    @staticmethod
    def of_any(what: str | Path | Frames, lengths: BondLengths, discard: Any, **given: Any) -> Subject:
        """The folder of a run, or other data: frames or whatever `read` reads as `given`."""
        if isinstance(what, Frames):
            return Subject.of_frames(what, _OTHER, lengths, discard)
        path = Path(what)
        if is_run(path):
            return Subject.of_run(path, lengths, discard)
        return Subject.of_frames(read_one(path, "a comparison", forces=False, **given), _name(path), lengths, discard)


def same_composition(trajectories: Sequence[Trajectory], reference: Trajectory) -> None:
    """Refuse anything of another substance than the reference.

    Raises
    ------
    DualityError
        Naming both.
    """
    for trajectory in trajectories:
        if _shares(trajectory) != _shares(reference):
            written = [" ".join(f"{name}{n}" for name, n in counts(t.species).items()) for t in (trajectory, reference)]
            raise DualityError(
                f"{trajectory.name} holds {written[0]} and the reference {written[1]}, which is another composition; "
                "compare with a reference of the same substance"
            )


@dataclass(frozen=True)
class RunSample:
    """Frames of a run for which forces are to be computed.

    Parameters
    ----------
    name : str
        Of the run in a comparison.
    directory : Path
        Of the run.
    frames : Frames
        Without forces, times in ps.
    """

    name: str
    directory: Path
    frames: Frames


def sample_runs(
    run: str | Path | Frames,
    reference: Frames,
    *,
    more: Sequence[str | Path | Frames] = (),
    dynamics: Frames | None = None,
    count: int = 20,
    discard: Any = None,
) -> list[RunSample]:
    """Evenly spread frames of the runs to be compared, for `recompute_forces`.

    Parameters
    ----------
    run, reference, more, dynamics, discard
        As for `compare`; frames are of the part of every run that it analyses. Data that are no runs have no sample.
    count : int
        How many frames of each run.

    Raises
    ------
    DualityError
        If a run cannot be read, its frames have no cell or another composition, or the count is not above zero.
    """
    if count < 1:
        raise DualityError(f"frames to recompute: expected one or more, got {count}")
    every = [run, *more]
    names = distinct_names([_name(what) for what in every])
    runs = [
        (Path(what), replace(_read_used(what, discard)[2], name=name))
        for what, name in zip(every, names, strict=True)
        if not isinstance(what, Frames) and is_run(Path(what))
    ]
    moved = [] if dynamics is None else [Trajectory.from_frames(dynamics)]
    same_composition([*(used for _, used in runs), *moved], Trajectory.from_frames(reference))
    return [RunSample(used.name, directory, _sampled(used, count)) for directory, used in runs]


def _sampled(used: Trajectory, count: int) -> Frames:
    chosen = evenly_spaced(len(used), count)
    positions, cells, done = [], [], 0
    for chunk in used:
        inside = chosen[(chosen >= done) & (chosen < done + len(chunk))] - done
        if chunk.cells is None:
            raise DualityError(f"{used.name}: its frames have no cell, and CP2K is run with one")
        positions.append(chunk.positions[inside])
        cells.append(chunk.cells[inside])
        done += len(chunk)
    return Frames(
        species=used.species,
        masses=used.masses,
        positions=np.concatenate(positions),
        times=used.times[chosen],
        steps=chosen,
        cells=np.concatenate(cells),
        source=(used.name,),
    )


def distinct(subjects: Sequence[Subject]) -> list[Subject]:
    """Give the subjects distinct names."""
    return [
        replace(s, name=name, whole=replace(s.whole, name=name), used=replace(s.used, name=name))
        for s, name in zip(subjects, distinct_names([subject.name for subject in subjects]), strict=True)
    ]


def distinct_names(names: Sequence[str]) -> list[str]:
    """Number the names that occur before: "run", "run (2)"."""
    earlier = [names[:place].count(name) for place, name in enumerate(names)]
    return [f"{name} ({before + 1})" if before else name for name, before in zip(names, earlier, strict=True)]


def reach(trajectories: Sequence[Trajectory], r_max: float) -> float | None:
    """Up to where all cells allow g(r), in nm, or None where one has no cell."""
    cells: list[FloatArray] = []
    for trajectory in trajectories:
        found = trajectory.first().cells
        if found is None:
            return None
        cells.extend(found)
    return min(r_max, min(float(widths(cell).min()) for cell in cells) / 2)


def differences_in_kind(subject: Subject, reference: Subject) -> list[Note]:
    """Differences of two systems before any dynamics."""
    notes = []
    if not even_steps(subject.used.times):
        notes.append(Note(Remark.UNEVEN_FRAMES, subject.name))
    per_atom = [len(s.bonds.pairs) / len(s.whole.species) for s in (subject, reference)]
    if abs(per_atom[0] - per_atom[1]) > 1e-9:
        notes.append(Note(Remark.BROKEN_AT_START, subject.name, tuple(per_atom)))
    cells = [cell for s in (subject, reference) if (cell := s.whole.first().cell(0)) is not None]
    if len(cells) < 2:
        return [*notes, Note(Remark.NO_CELL, subject.name)]
    return notes


def _name(what: str | Path | Frames) -> str:
    return _OTHER if isinstance(what, Frames) else Path(what).resolve().name


def is_run(path: Path) -> bool:
    """Whether a path is the folder of a run, complete or not."""
    return any((path / name).exists() for name in ("run.json", "log.csv"))


def _read_used(directory: str | Path, discard: Any) -> tuple[Run, Trajectory, Trajectory]:
    """A run with its whole trajectory and the part of it that is analysed."""
    run = read_run(directory)
    ensemble = run.ensemble
    if ensemble not in ENSEMBLES or run.settings["temperature"] is None:
        raise DualityError(
            f"{run.directory}: its ensemble is {ensemble!r}, and only dynamics at a temperature has "
            "averages to compare; give a run of dynamics, not of descent"
        )
    whole = replace(run.trajectory, name=_name(directory))
    return run, whole, whole.after(_dropped(whole, discard))


def _shares(trajectory: Trajectory) -> dict[str, int]:
    number = counts(trajectory.species)
    share = reduce(gcd, number.values())
    return {name: n // share for name, n in number.items()}


def _dropped(trajectory: Trajectory, discard: Any) -> int:
    if discard is None:
        return frames_before(trajectory.times, min(DISCARD, DISCARDED_SHARE * trajectory.duration))
    time = bare(discard, unit.picosecond, "discard")
    dropped = frames_before(trajectory.times, time)
    if time < 0 or dropped >= len(trajectory):
        raise DualityError(
            f"discard: {time:g} ps is not within {trajectory.name}, which has frames over {trajectory.duration:g} ps; "
            "discard less"
        )
    return dropped


def read_dynamics(path: str | Path, every: Any = None, topology: str | Path | None = None) -> Frames:
    """Read frames for spectra, diffusion and reorientation, without forces.

    Parameters
    ----------
    path : str or Path
        Whatever `read` reads, as a DCD file in the folder of a CP2K project.
    every : quantity or float, optional
        The time between frames in ps, where the files do not say it or say it wrongly, as the header of a DCD file
        that was thinned.
    topology : str or Path, optional
        What names the atoms of a trajectory, as for `read`.

    Raises
    ------
    DualityError
        If nothing can be read, or the time between frames is not above zero.
    """
    with warnings.catch_warnings():
        # wrong step numbers in the header find no energies in the .ener file, and none are needed here
        warnings.filterwarnings("ignore", "the .ener file lacks")
        return read_one(path, "an analysis of motion", forces=False, timestep=every, topology=topology)
