"""Checkpoints from which a killed run resumes without losing or doubling a frame, and damage is found.

A checkpoint is one file: what OpenMM writes, followed by what the neighbour lists of fused losses were made for, a
trailer with the step, the sizes and checksums that the growing files of the run had at that step, and a hash of all
this. OpenMM reads no further than its own part, so a plain `Simulation.loadCheckpoint` reads the file too. To resume,
the growing files are compared with their checksums and cut back to those sizes.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import openmm as mm

from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write, checksum
from openmm_duality.lowering.list_origins import restore_lists
from openmm_duality.schema import build, integer, key, mapping_of, quantity, read_json, to_plain

_MAGIC = b"omm-duality-chk2"
_LENGTH = struct.Struct("<Q")
_HEAD_OF_DCD = 24  # bytes with the number of frames and the last step, which change with every frame


@dataclass(frozen=True)
class GrowingFile:
    """Size in bytes of a growing file, 0 where it was not there yet, and the CRC-32 of its content."""

    size: int = field(metadata=key(integer(0, 2**63)))
    checksum: int = field(metadata=key(integer(0, 2**63)))


NOTHING = GrowingFile(0, 0)


def _read_files(value: Any, name: str) -> dict[str, GrowingFile]:
    read = mapping_of(lambda item, what: build(GrowingFile, item, what), "the growing files by name")
    return dict(read(value, name))


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run at one step.

    Parameters
    ----------
    step : int
        Number of steps done.
    files : dict
        The growing files, by name.
    seconds : float
        Wall time the run had taken.
    list_bytes : int
        Length of `lists`; found when it is written.
    lists : bytes
        What `save_lists` gave.
    state : bytes
        What `openmm.Context.createCheckpoint` gave.
    """

    step: int = field(metadata=key(integer(0, 2**63)))
    files: dict[str, GrowingFile] = field(metadata=key(_read_files))
    seconds: float = field(metadata=key(quantity(zero=True)))
    list_bytes: int = field(metadata=key(integer(0, 2**63)), default=0)
    lists: bytes = b""
    state: bytes = b""


def measured(path: Path, before: GrowingFile = NOTHING) -> GrowingFile:
    """Size and checksum of a growing file, of which those at an earlier step are known."""
    size = path.stat().st_size if path.exists() else 0
    return GrowingFile(size, _checksum(path, before, size)) if size else NOTHING


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint under a temporary name, and move it in place of the one before.

    Parameters
    ----------
    path : path
        Of the checkpoint; the growing files it names lie in the same folder and are synchronised with the disk first.
    checkpoint : Checkpoint
        What to write.
    """
    for name in checkpoint.files:
        if (path.parent / name).exists():
            _fsync(path.parent / name)
    text = json.dumps(to_plain(replace(checkpoint, list_bytes=len(checkpoint.lists)))).encode()
    content = checkpoint.state + checkpoint.lists + text + _LENGTH.pack(len(text))
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_bytes(content + hashlib.sha256(content).digest() + _MAGIC)
        _fsync(temporary)


def read_checkpoint(path: Path, known: Collection[str] | None = None) -> Checkpoint:
    """Read a checkpoint back.

    Parameters
    ----------
    path : path
        Of a file that `write_checkpoint` wrote.
    known : collection of str, optional
        Names that growing files may have.

    Raises
    ------
    DualityError
        If the file is something else, was cut or is damaged, or names other files.
    """
    data = path.read_bytes()
    begin = len(data) - len(_MAGIC) - hashlib.sha256().digest_size
    if begin < _LENGTH.size or not data.endswith(_MAGIC):
        raise DualityError(
            f"{path} is not a checkpoint of this version of the package, or was cut; start the run in a new folder"
        )
    content, digest = data[:begin], data[begin : -len(_MAGIC)]
    if hashlib.sha256(content).digest() != digest:
        raise DualityError(
            f"{path} is damaged: its content does not have the hash that was written with it; restore it from a copy, "
            "or start the run in a new folder"
        )
    end = begin - _LENGTH.size
    start = end - _LENGTH.unpack_from(content, end)[0]
    trailer = read_json(content[max(start, 0) : end], f"{path} is not a checkpoint of this package")
    checkpoint = build(Checkpoint, trailer, str(path))
    middle = max(start - checkpoint.list_bytes, 0)
    checkpoint = replace(checkpoint, state=content[:middle], lists=content[middle : max(start, 0)])
    foreign = sorted(set(checkpoint.files) - set(checkpoint.files if known is None else known))
    if foreign:
        raise DualityError(f"{path} names {foreign[0]!r}, which no run writes; start the run in a new folder")
    return checkpoint


def load_checkpoint(context: mm.Context, checkpoint: Checkpoint, where: str) -> None:
    """Load the state of a checkpoint into a context, with the neighbour lists that belong to it.

    Raises
    ------
    openmm.OpenMMException
        If the state is of another System, platform or version of OpenMM.
    DualityError
        Beginning with `where`, if the lists are of other atoms.
    """
    context.loadCheckpoint(checkpoint.state)
    if checkpoint.lists:
        context.getState(forces=True)  # after which there are lists to replace
        restore_lists(context.getSystem(), checkpoint.lists, where)
        context.loadCheckpoint(checkpoint.state)


def rewind(directory: Path, files: Mapping[str, GrowingFile]) -> None:
    """Cut the growing files of a run back to the sizes of a checkpoint.

    Parameters
    ----------
    directory : path
        Of the run.
    files : mapping
        By name. The number of frames in the header of a DCD file is corrected.

    Raises
    ------
    DualityError
        If a file is shorter than it was, so that frames are lost, or its content has changed; no file is changed then.
    """
    for name, expected in files.items():
        path = directory / name
        found = path.stat().st_size if path.exists() else 0
        if found < expected.size:
            raise DualityError(
                f"{path} has {found} bytes, but had {expected.size} when the checkpoint was written: frames are lost, "
                "so the run cannot be resumed; start it in a new folder"
            )
        if expected.size and _checksum(path, NOTHING, expected.size) != expected.checksum:
            raise DualityError(
                f"{path} is damaged: what was in it when the checkpoint was written has changed (CRC-32); restore it "
                "from a copy, or start the run in a new folder"
            )
    for name, expected in files.items():
        path = directory / name
        if expected.size == 0:
            path.unlink(missing_ok=True)
            continue
        os.truncate(path, expected.size)
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


def _checksum(path: Path, before: GrowingFile, size: int) -> int:
    """CRC-32 of the content up to a size, of a DCD file without the numbers that its header counts with."""
    if before.size or path.suffix != ".dcd":
        return checksum(path, before.size, size, before.checksum)
    with open(path, "rb") as handle:
        head = handle.read(_HEAD_OF_DCD)
    return checksum(path, _HEAD_OF_DCD, size, zlib.crc32(head[:8] + head[12:20]))
