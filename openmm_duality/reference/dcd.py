"""Positions in a DCD file, and what its header says of steps and times."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray

_AKMA = 0.04888821  # ps: the unit of time of CHARMM, in which the header holds the time step
_PLAUSIBLE = 1e-5, 0.02  # ps: a time step outside was not meant as one


@dataclass(frozen=True)
class DcdHeader:
    """Header of a DCD file.

    Parameters
    ----------
    first_step, stride : int
        Step of the first frame and steps between frames.
    timestep : float or None
        Of the dynamics in ps; None where what is written there is no time step of dynamics.
    n_frames : int
        Complete frames in the file.
    """

    first_step: int
    stride: int
    timestep: float | None
    n_frames: int


@contextmanager
def quiet() -> Iterator[None]:
    """Keep away the lines that the C code of the DCD reader prints to the terminal."""
    sys.stdout.flush()
    terminal = os.dup(1)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(terminal, 1)
        os.close(terminal)


def read_dcd(path: Path) -> tuple[int, int, FloatArray]:
    """Step numbers and positions of a DCD file.

    Parameters
    ----------
    path : Path
        A little-endian DCD file with 32-bit records, as CP2K, OpenMM and mdtraj write it.

    Returns
    -------
    tuple
        Step of the first frame, steps between frames, and positions of shape (T, N, 3) in Å.

    Raises
    ------
    DualityError
        If it is no such file, is cut short, or holds a value that is not finite.
    """
    import mdtraj  # here, because it is slow to import and few need it

    header = read_header(path)
    with quiet(), mdtraj.formats.DCDTrajectoryFile(str(path)) as file:
        positions = np.asarray(file.read()[0], dtype=np.float64)
    if len(positions) < header.n_frames:
        raise DualityError(f"{path}: damaged in frame {len(positions)} (counted from 0); copy the file again")
    if not np.isfinite(positions).all():
        frame = int(np.argwhere(~np.isfinite(positions))[0, 0])
        raise DualityError(f"{path}: frame {frame} (counted from 0) holds a position that is not a finite number")
    return header.first_step, header.stride, positions


def read_header(path: Path) -> DcdHeader:
    """Read the header of a DCD file that is found to be complete.

    Raises
    ------
    DualityError
        If it is no little-endian DCD file with 32-bit records, or is cut short.
    """
    with open(path, "rb") as file:
        head = file.read(96)
        if len(head) < 96 or head[:8] != b"T\0\0\0CORD":
            raise DualityError(f"{path}: expected a DCD file (little-endian, 32-bit records); this is something else")
        control = struct.unpack("<9if10i", head[8:88])
        title = struct.unpack("<i", head[92:96])[0]
        file.seek(96 + title + 8)
        atoms = file.read(4)
    if len(atoms) < 4:
        raise DualityError(f"{path}: the DCD file is cut short in its header; copy it again")
    n_atoms = int(struct.unpack("<i", atoms)[0])
    # A record has a length before and behind it; the cell, where there is one, is a record of six doubles.
    frame = 3 * (4 * n_atoms + 8) + (56 if control[10] else 0)
    complete, rest = divmod(path.stat().st_size - (96 + title + 4 + 12), frame)
    if rest or complete < 1:
        raise DualityError(
            f"{path}: the DCD file is cut short: {complete} complete frames of {n_atoms} atoms and {rest} bytes of the "
            "next; copy the file again"
        )
    step = float(control[9]) * _AKMA
    known = _PLAUSIBLE[0] <= step <= _PLAUSIBLE[1] and control[2] > 0
    return DcdHeader(int(control[1]), int(control[2]), step if known else None, complete)
