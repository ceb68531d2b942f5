"""The files of a CP2K project."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from openmm_duality.errors import DualityError

_POSITIONS = re.compile(r"^(?P<prefix>.+)-pos-(?P<number>\d+)\.(?:xyz(?:\.xz|\.gz)?|dcd)$")
_PACKED = ("", ".xz", ".gz")


@dataclass(frozen=True)
class Project:
    """The files of one project; None where there is none.

    Parameters
    ----------
    prefix : str
        The names of the files begin with it.
    number : int
        The number CP2K put behind the prefix, usually 1.
    input, positions : Path
        Always there.
    forces, velocities, energies, cells, stresses : Path or None
        Companions of the positions.
    output : Path or None
        What CP2K printed, all of it or its stress tensors (``.stress_tensor``).
    labels : Path or None
        The project's own XYZ file of positions, which names the atoms where the positions are read from elsewhere.
    """

    prefix: str
    number: int
    input: Path
    positions: Path
    forces: Path | None
    velocities: Path | None
    energies: Path | None
    cells: Path | None
    stresses: Path | None
    output: Path | None
    labels: Path | None


def is_position_file(path: str | Path) -> bool:
    """Whether a file is named like the positions of a CP2K project."""
    return _POSITIONS.match(Path(path).name) is not None


def find_project(
    path: str | Path, input_file: str | Path | None = None, positions: str | Path | None = None
) -> Project:
    """The files of the project at a path: a folder, a prefix, or a file of positions.

    Parameters
    ----------
    path : path
        What the user named.
    input_file, positions : path, optional
        Files named by the user instead of the ones with the usual names.

    Raises
    ------
    DualityError
        If there is no project, more than one, no input, or a file both plain and compressed.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    prefix, number, found = _choose(path, folder, positions is not None)
    inputs = _input(folder, prefix, input_file)
    outputs = [f"{prefix}-{number}.stress_tensor", f"{prefix}.out", f"{inputs.name.split('.inp')[0]}.out"]
    return Project(
        prefix=prefix,
        number=number,
        input=inputs,
        positions=found if positions is None else _named(folder, positions),
        forces=_one(folder, f"{prefix}-frc-{number}.xyz"),
        velocities=_one(folder, f"{prefix}-vel-{number}.xyz"),
        energies=_one(folder, f"{prefix}-{number}.ener"),
        cells=_one(folder, f"{prefix}-{number}.cell"),
        stresses=_one(folder, f"{prefix}-{number}.stress"),
        output=next(filter(None, (_one(folder, name) for name in outputs)), None),
        labels=_one(folder, f"{prefix}-pos-{number}.xyz"),
    )


def _choose(path: Path, folder: Path, positions_given: bool) -> tuple[str, int, Path]:
    if not folder.is_dir():
        raise DualityError(f"{path}: no such CP2K project; the folder {folder} does not exist")
    matches = [(m["prefix"], int(m["number"]), f) for f in sorted(folder.iterdir()) if (m := _POSITIONS.match(f.name))]
    if path.is_file():
        matches = [m for m in matches if m[2].name == path.name]
        if not matches:
            raise DualityError(
                f"{path}: not the file of positions of a CP2K project (<prefix>-pos-1.xyz or .dcd, plain or "
                "compressed), nor of another format that is read; write it as extended XYZ, as ase.io.write does, or "
                "as a DeePMD folder (deepmd/npy), as dpdata does of n2p2's, ABACUS's and other files"
            )
        return matches[0]
    prefixes = sorted({m[0] for m in matches})
    if not path.is_dir():
        matches = [m for m in matches if m[0] == path.name]
    if not matches and positions_given and not path.is_dir():
        return path.name, 1, path
    if not matches:
        have = f"; there is {', '.join(prefixes)}" if prefixes else ""
        file, prefix = "no such file, and " if path.suffix else "", "<prefix>" if path.is_dir() else path.name
        raise DualityError(
            f"{path}: {file}no such CP2K project; expected the file {prefix}-pos-1.xyz (or .dcd, plain or compressed "
            f"by xz or gzip) in {folder}{have}"
        )
    if len({m[0] for m in matches}) > 1:
        raise DualityError(
            f"{path}: several CP2K projects in one folder ({', '.join(prefixes)}); name one of them, as in "
            f"{folder / prefixes[0]}"
        )
    if len(matches) > 1:
        raise DualityError(
            f"{path}: several files of positions ({', '.join(m[2].name for m in matches)}); name the one to read"
        )
    return matches[0]


def _input(folder: Path, prefix: str, given: str | Path | None) -> Path:
    if given is not None:
        return _named(folder, given)
    usual = _one(folder, f"{prefix}.inp")
    if usual is not None:
        return usual
    inputs = sorted(path for suffix in _PACKED for path in folder.glob(f"*.inp{suffix}"))
    if len(inputs) == 1:
        return inputs[0]
    have = f"several ({', '.join(p.name for p in inputs)})" if inputs else "none"
    raise DualityError(
        f"{folder / prefix}: the CP2K input is needed for cell, time step and masses; expected {prefix}.inp or a "
        f"single .inp file in {folder}, found {have}; copy the input there, or in Python pass input_file to read_cp2k"
    )


def _named(folder: Path, given: str | Path) -> Path:
    for candidate in (Path(given), folder / given):
        if candidate.is_file():
            return candidate
    raise DualityError(f"{given}: no such file, neither as it stands nor in {folder}")


def _one(folder: Path, name: str) -> Path | None:
    found = [p for p in (folder / f"{name}{suffix}" for suffix in _PACKED) if p.exists()]
    if len(found) > 1:
        raise DualityError(f"{folder}: {' and '.join(p.name for p in found)} are both there; remove one of them")
    return found[0] if found else None
