"""Checkpoints from which a killed run resumes without losing or doubling a frame.

A checkpoint is one file: what OpenMM writes, followed by a trailer with the step and the sizes that the growing files
of the run had at that step. OpenMM reads no further than its own part, so a plain `Simulation.loadCheckpoint` reads
the file too. To resume, the growing files are cut back to those sizes.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write

_MAGIC = b"omm-duality-chk1"
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run at one step.

    Parameters
    ----------
    state : bytes
        What `openmm.Context.createCheckpoint` gave.
    step : int
        Number of steps done.
    sizes : dict
        Size in bytes of every growing file, by name; 0 where it was not there yet.
    seconds : float
        Wall time the run had taken.
    """

    state: bytes
    step: int
    sizes: dict[str, int]
    seconds: float


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint under a temporary name, and move it in place of the one before.

    Parameters
    ----------
    path : path
        Of the checkpoint; the growing files it names lie in the same folder and are synchronised with the disk first.
    checkpoint : Checkpoint
        What to write.
    """
    for name in checkpoint.sizes:
        if (path.parent / name).exists():
            _fsync(path.parent / name)
    trailer = {"step": checkpoint.step, "sizes": checkpoint.sizes, "seconds": checkpoint.seconds}
    text = json.dumps(trailer).encode()
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_bytes(checkpoint.state + text + _LENGTH.pack(len(text)) + _MAGIC)
        _fsync(temporary)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint back.

    Parameters
    ----------
    path : path
        Of a file that `write_checkpoint` wrote.

    Raises
    ------
    DualityError
        If the file is something else or was cut.
    """
    data = path.read_bytes()
    end = len(data) - len(_MAGIC) - _LENGTH.size
    if end < 0 or not data.endswith(_MAGIC):
        raise DualityError(f"{path} is not a checkpoint of this package, or was cut; start the run in a new folder")
    start = end - _LENGTH.unpack_from(data, end)[0]
    trailer = json.loads(data[start:end])
    return Checkpoint(data[:start], trailer["step"], trailer["sizes"], trailer["seconds"])


def rewind(directory: Path, sizes: Mapping[str, int]) -> None:
    """Cut the growing files of a run back to the sizes of a checkpoint.

    Parameters
    ----------
    directory : path
        Of the run.
    sizes : mapping
        Bytes by file name. The number of frames in the header of a DCD file is corrected.

    Raises
    ------
    DualityError
        If a file is shorter than it was, so that frames are lost; no file is changed then.
    """
    for name, size in sizes.items():
        path = directory / name
        found = path.stat().st_size if path.exists() else 0
        if found < size:
            raise DualityError(
                f"{path} has {found} bytes, but had {size} when the checkpoint was written: frames are lost, so the "
                "run cannot be resumed; start it in a new folder"
            )
    for name, size in sizes.items():
        path = directory / name
        if size == 0:
            path.unlink(missing_ok=True)
            continue
        os.truncate(path, size)
        if path.suffix == ".dcd":
            repair_dcd(path)


def repair_dcd(path: Path) -> int:
    """Make the header of a DCD file of OpenMM agree with the frames that follow it.

    Parameters
    ----------
    path : path
        Of the file.

    Returns
    -------
    int
        Number of frames.

    Raises
    ------
    DualityError
        If the file is no such DCD file, or ends within a frame.
    """
    with open(path, "r+b") as handle:
        head = handle.read(96)
        if len(head) < 96 or head[:8] != struct.pack("<i", 84) + b"CORD":
            raise DualityError(f"{path} is not a DCD file that OpenMM wrote; start the run in a new folder")
        first, interval = struct.unpack_from("<2i", head, 12)
        boxed = struct.unpack_from("<i", head, 48)[0]
        atoms_at = 104 + struct.unpack_from("<i", head, 92)[0]
        handle.seek(atoms_at)
        n = struct.unpack("<i", handle.read(4))[0]
        frames, rest = divmod(path.stat().st_size - atoms_at - 8, 56 * boxed + 3 * (4 * n + 8))
        if rest:
            raise DualityError(f"{path} ends within a frame, after {frames} whole ones; start the run in a new folder")
        handle.seek(8)
        handle.write(struct.pack("<i", frames))
        handle.seek(20)
        handle.write(struct.pack("<i", first + (frames - 1) * interval))
    return int(frames)


def _fsync(path: Path) -> None:
    with open(path, "r+b") as handle:
        os.fsync(handle.fileno())
