"""Positions in a DCD file, and the step numbers in its header."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray


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

    first_step, stride, n_frames = _steps(path)
    with mdtraj.formats.DCDTrajectoryFile(str(path)) as file:
        positions = np.asarray(file.read()[0], dtype=np.float64)
    if len(positions) < n_frames:
        raise DualityError(f"{path}: damaged in frame {len(positions)} (counted from 0); copy the file again")
    if not np.isfinite(positions).all():
        frame = int(np.argwhere(~np.isfinite(positions))[0, 0])
        raise DualityError(f"{path}: frame {frame} (counted from 0) holds a position that is not a finite number")
    return first_step, stride, positions


def _steps(path: Path) -> tuple[int, int, int]:
    """Step of the first frame, steps between frames and number of frames, of a file that is found to be complete."""
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
    return int(control[1]), int(control[2]), complete
