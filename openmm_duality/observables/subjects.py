"""What is held against what: runs and reference data, each with the part of it that is analysed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import volume, widths
from openmm_duality.geometry.molecules import BondLengths
from openmm_duality.observables.bonds import Bonds
from openmm_duality.observables.runs import Run, read_run
from openmm_duality.observables.structure import SPACING
from openmm_duality.observables.trajectory import Trajectory, counts, even_steps, frames_before
from openmm_duality.reference.formats import read
from openmm_duality.reference.frames import Frames
from openmm_duality.units import bare

DISCARD = 1.0  # ps
DISCARDED_SHARE = 0.1  # of a run; no more is left out unasked


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
        All of it, and what is left behind the discarded beginning.
    bonds : Bonds
        Of its first frame.
    notes : tuple of str
        What was noticed.
    """

    name: str
    run: Run | None
    source: tuple[str, ...]
    whole: Trajectory
    used: Trajectory
    bonds: Bonds
    notes: tuple[str, ...]

    @property
    def discarded(self) -> float:
        """The beginning left out, in ps."""
        return float(self.used.times[0] - self.whole.times[0])

    @property
    def thinned(self) -> Trajectory:
        """The frames that are looked at for structure, no closer than they need be."""
        spacing = self.used.spacing
        return self.used.every(max(1, int(SPACING / spacing + 1e-6)) if spacing > 0 else 1)

    @staticmethod
    def of_run(directory: str | Path, lengths: BondLengths, discard: Any) -> Subject:
        """A run directory, less its beginning: by default 1 ps, but at most a tenth of the run."""
        run = read_run(directory)
        ensemble = str(run.settings["ensemble"])
        if ensemble not in ("NVE", "NVT") or run.settings["temperature"] is None:
            raise DualityError(
                f"{run.directory}: its ensemble is {ensemble!r}, and only NVE and NVT at a temperature have averages "
                "to compare; give a run of dynamics, not of descent"
            )
        whole = replace(run.trajectory, name=Path(directory).resolve().name)
        used = whole.after(_dropped(whole, discard))
        return Subject(whole.name, run, (str(directory),), whole, used, Bonds.found(whole, lengths), run.notes)

    @staticmethod
    def of_frames(frames: Frames, name: str, lengths: BondLengths) -> Subject:
        """Reference data, all of them."""
        whole = Trajectory.from_frames(frames, name)
        return Subject(name, None, frames.source, whole, whole, Bonds.found(whole, lengths), ())

    @staticmethod
    def of_any(what: str | Path | Frames, lengths: BondLengths, discard: Any) -> Subject:
        """A run directory, which has a run.json, or reference data: frames or whatever `read` reads."""
        if isinstance(what, Frames):
            return Subject.of_frames(what, "other data", lengths)
        path = Path(what)
        if (path / "run.json").exists():
            return Subject.of_run(path, lengths, discard)
        return Subject.of_frames(read(path, forces=False), path.resolve().name, lengths)


def same_composition(subjects: Sequence[Subject], reference: Trajectory) -> None:
    """Refuse anything of another substance than the reference.

    Raises
    ------
    DualityError
        Naming both.
    """
    for subject in subjects:
        if _shares(subject.whole) != _shares(reference):
            written = [
                " ".join(f"{kind}{n}" for kind, n in counts(t.species).items()) for t in (subject.whole, reference)
            ]
            raise DualityError(
                f"{subject.name} holds {written[0]} and the reference {written[1]}, which is another composition; "
                "compare with a reference of the same substance"
            )


def distinct(subjects: Sequence[Subject]) -> list[Subject]:
    """The same with names of their own: those that share one are numbered."""
    named: list[Subject] = []
    for subject in subjects:
        earlier = sum(other.name == subject.name for other in subjects[: len(named)])
        name = f"{subject.name} ({earlier + 1})" if earlier else subject.name
        trajectories = {part: replace(getattr(subject, part), name=name) for part in ("whole", "used")}
        named.append(replace(subject, name=name, **trajectories))
    return named


def reach(trajectories: Sequence[Trajectory], r_max: float) -> float | None:
    """Up to where all cells allow g(r), in nm, or None where one has no cell."""
    cells: list[FloatArray] = []
    for trajectory in trajectories:
        found = trajectory.first().cells
        if found is None:
            return None
        cells.extend(found)
    return min(r_max, min(float(widths(cell).min()) for cell in cells) / 2)


def differences_in_kind(subject: Subject, reference: Subject) -> list[str]:
    """What makes two systems differ before any dynamics, one sentence each."""
    notes = []
    if not even_steps(subject.used.times):
        notes.append(f"The frames of {subject.name} are not evenly spaced; blocks hold equal numbers of them.")
    per_atom = [len(s.bonds.pairs) / len(s.whole.species) for s in (subject, reference)]
    if abs(per_atom[0] - per_atom[1]) > 1e-9:
        notes.append(
            f"The first frame of {subject.name} has {per_atom[0]:.4g} bonds per atom, that of the reference "
            f"{per_atom[1]:.4g}: some molecules were broken from the start."
        )
    cells = [cell for s in (subject, reference) if (cell := known_cell(s.whole)) is not None]
    if len(cells) < 2:
        return [*notes, f"Without a periodic cell in both {subject.name} and reference there is no g(r) to compare."]
    densities = [len(s.whole.species) / volume(cell) for s, cell in zip((subject, reference), cells, strict=True)]
    if abs(densities[0] / densities[1] - 1) > 1e-3:
        notes.append(
            f"{subject.name} starts at {densities[0]:.2f} atoms per nm³ and the reference at {densities[1]:.2f}: a "
            "difference in structure is to be expected from the density alone."
        )
    return notes


def _shares(trajectory: Trajectory) -> dict[str, int]:
    number = counts(trajectory.species)
    share = reduce(gcd, number.values())
    return {kind: n // share for kind, n in number.items()}


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


def known_cell(trajectory: Trajectory) -> FloatArray | None:
    """The cell of the first frame, rows in nm, or None."""
    cell = trajectory.first().cell(0)
    return None if cell is None else np.asarray(cell)
