"""Trajectories as the analyses read them: species, times, and positions that arrive in chunks.

A reference in memory and a DCD file of any length are read in the same way. Index suffixes: t frame, i atom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
from mdtraj.formats import DCDTrajectoryFile

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.observables.findings import Note, Remark
from openmm_duality.reference.dcd import quiet
from openmm_duality.reference.frames import Frames

_COORDINATES_PER_CHUNK = 3_000_000  # 24 MB of doubles


@dataclass(frozen=True)
class Chunk:
    """Some consecutive frames.

    Parameters
    ----------
    positions : array, shape (T, N, 3)
        In nm; wrapped or not is all the same.
    cells : array, shape (T, 3, 3), or None
        Rows are the cell vectors in nm.
    """

    positions: FloatArray
    cells: FloatArray | None

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, part: slice) -> Chunk:
        return Chunk(self.positions[part], None if self.cells is None else self.cells[part])

    def cell(self, t: int) -> FloatArray | None:
        """The cell of frame t of this chunk, or None."""
        return None if self.cells is None else self.cells[t]


Reader = Callable[[int], Iterator[Chunk]]


@dataclass(frozen=True)
class Trajectory:
    """Frames of one composition, evenly spaced in time, read as often as an analysis asks.

    Parameters
    ----------
    name : str
        What messages call it.
    species : tuple of str, length N
        The species of every atom.
    masses : array, shape (N,)
        In dalton.
    times : array, shape (T,)
        In ps.
    reader : callable
        Given the number of frames to skip, yields the rest as `Chunk`.
    velocity_reader : callable or None
        The same for velocities in nm/ps, in the place of positions; None where there are none.
    notes : tuple of Note
        What was noticed when it was opened.

    Raises
    ------
    DualityError
        If there are no frames, or their times do not rise.
    """

    name: str
    species: tuple[str, ...]
    masses: FloatArray
    times: FloatArray
    reader: Reader
    velocity_reader: Reader | None = None
    notes: tuple[Note, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.times):
            raise DualityError(f"{self.name}: not one whole frame; let the run go on until it has written some")
        if not (np.diff(self.times) > 0).all():
            raise DualityError(
                f"{self.name}: the times of its frames do not rise, so this is not dynamics; give the time between "
                "frames (--timestep, for the reference --reference-timestep), or a trajectory with times"
            )

    def __len__(self) -> int:
        return len(self.times)

    def __iter__(self) -> Iterator[Chunk]:
        return self.reader(0)

    @property
    def distinct_species(self) -> tuple[str, ...]:
        """The distinct species in alphabetical order."""
        return tuple(sorted(set(self.species)))

    @property
    def duration(self) -> float:
        """The time these frames stand for in ps: their number times their spacing."""
        if len(self) == 1:
            return 0.0
        return float((self.times[-1] - self.times[0]) * len(self) / (len(self) - 1))

    @property
    def spacing(self) -> float:
        """The time between frames in ps, 0 for a single one."""
        return float(np.median(np.diff(self.times))) if len(self) > 1 else 0.0

    def first(self) -> Chunk:
        """The first frame."""
        return next(iter(self))[:1]

    def after(self, n_frames: int) -> Trajectory:
        """Omit the first `n_frames` frames."""
        if n_frames == 0:
            return self
        return replace(
            self,
            times=self.times[n_frames:],
            reader=_later(self.reader, n_frames),
            velocity_reader=None if self.velocity_reader is None else _later(self.velocity_reader, n_frames),
        )

    def every(self, stride: int) -> Trajectory:
        """The first frame and every `stride`-th one behind it, without velocities."""
        if stride == 1:
            return self

        def reader(skip: int) -> Iterator[Chunk]:
            ahead = 0  # frames of the next chunk that come before the next one wanted
            for chunk in self.reader(skip * stride):
                part = chunk[ahead::stride]
                ahead = (ahead - len(chunk)) % stride
                if len(part):
                    yield part

        return replace(self, times=self.times[::stride], reader=reader, velocity_reader=None)

    @staticmethod
    def from_frames(frames: Frames, name: str = "the reference") -> Trajectory:
        """Frames in memory."""

        def reader_of(values: FloatArray) -> Reader:
            def reader(skip: int) -> Iterator[Chunk]:
                step = _frames_per_chunk(frames.n_atoms)
                for start in range(skip, len(frames), step):
                    yield Chunk(values, frames.cells)[start : start + step]

            return reader

        velocities = None if frames.velocities is None else reader_of(frames.velocities)
        return Trajectory(name, frames.species, frames.masses, frames.times, reader_of(frames.positions), velocities)

    @staticmethod
    def from_dcd(path: Path, species: tuple[str, ...], masses: FloatArray, times: FloatArray) -> Trajectory:
        """A DCD file in Å, as OpenMM writes it.

        Parameters
        ----------
        path : Path
            The file.
        species : tuple of str, length N
            The species of every atom.
        masses : array, shape (N,)
            In dalton.
        times : array, shape (T,)
            Of the frames, in ps. Where there are more frames, or more times, those beyond are left out.

        Raises
        ------
        DualityError
            If the file cannot be read or holds another number of atoms.
        """
        n_frames, claimed = whole_frames(path, len(species))
        known = times[:n_frames]
        notes = (Note(Remark.FRAMES_CUT, path.name, (claimed, n_frames)),) if claimed > n_frames else ()

        def reader(skip: int) -> Iterator[Chunk]:
            step = _frames_per_chunk(len(species))
            with _open(path) as file:
                file.seek(skip)
                for start in range(skip, len(known), step):
                    wanted = min(step, len(known) - start)
                    frames = file.read(wanted)
                    if len(frames[0]) < wanted:
                        raise DualityError(
                            f"{path}: damaged in frame {start + len(frames[0])} (counted from 0); restore it from a "
                            "copy, or repeat the run"
                        )
                    yield _chunk(path, start, *frames)

        return Trajectory(path.name, species, masses, known, reader, notes=notes)


def _later(reader: Reader, n_frames: int) -> Reader:
    return lambda skip: reader(skip + n_frames)


def even_steps(times: FloatArray) -> bool:
    """Whether frames follow each other at equal intervals, to one part in a thousand."""
    steps = np.diff(times)
    return bool(len(steps) == 0 or np.ptp(steps) < 1e-3 * np.median(steps))


def frames_before(times: FloatArray, time: float) -> int:
    """Number of frames in the first `time` ps of a trajectory."""
    return int(np.searchsorted(times, times[0] + time - 1e-9))


def counts(species: tuple[str, ...]) -> dict[str, int]:
    """Number of atoms of each species, alphabetically."""
    distinct, numbers = np.unique(np.array(species), return_counts=True)
    return {str(name): int(number) for name, number in zip(distinct, numbers, strict=True)}


def species_codes(species: tuple[str, ...]) -> IntArray:
    """The place of every atom's species in the alphabet of `Trajectory.distinct_species`, shape (N,)."""
    return np.unique(np.array(species), return_inverse=True)[1].astype(np.int64)


def _open(path: Path) -> Any:
    with quiet():
        return DCDTrajectoryFile(str(path))


def _frames_per_chunk(n_atoms: int) -> int:
    return max(1, _COORDINATES_PER_CHUNK // (3 * n_atoms))


def whole_frames(path: Path, n_atoms: int) -> tuple[int, int]:
    """The number of whole frames in a DCD file, and the number its header announces."""
    try:
        with path.open("rb") as raw:
            head = np.frombuffer(raw.read(12), dtype="<i4")
        with _open(path) as file:
            n_frames = len(file)
            if n_frames and file.read(1)[0].shape[1:] != (n_atoms, 3):
                raise DualityError(
                    f"{path}: its frames do not hold {n_atoms} atoms as topology.pdb beside it does; the two files "
                    "are not of one run"
                )
    except (OSError, ValueError, IndexError) as error:
        raise DualityError(
            f"{path}: not a readable DCD file ({error}); if the run was killed before its first frame, resume it"
        ) from None
    return n_frames, int(head[2])


def _chunk(path: Path, start: int, xyz: FloatArray, lengths: FloatArray, angles: FloatArray) -> Chunk:
    positions = xyz.astype(np.float64) * 0.1
    if not np.isfinite(positions).all():
        where = start + int(np.argwhere(~np.isfinite(positions))[0][0])
        raise DualityError(
            f"{path}: frame {where} (counted from 0) holds a position that is not finite; the run had broken down "
            "by then, so compare a shorter or a stabler one"
        )
    if lengths is None or not np.any(lengths):
        return Chunk(positions, None)
    vectors = mdtraj.utils.lengths_and_angles_to_box_vectors(*(0.1 * lengths.T.astype(np.float64)), *angles.T)
    return Chunk(positions, np.stack(vectors, axis=1).astype(np.float64))
