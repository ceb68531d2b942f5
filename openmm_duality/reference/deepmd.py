"""DeePMD data: a folder with ``type.raw`` and ``set.*``, or a folder of such folders (two levels).

Lengths are in Å, energies in eV, forces in eV/Å, and the virial is −Vσ in eV.

Format: https://docs.deepmodeling.com/projects/deepmd/en/stable/data/system.html
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.files import UNREADABLE, provenance
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.mixed_frames import AnyFrames, joined
from openmm_duality.units import ANGSTROM, ELECTRONVOLT

_USED = ("coord", "box", "force", "energy", "real_atom_types", "virial")


def is_deepmd(path: str | Path) -> bool:
    """Whether a folder holds DeePMD data, itself or in folders below it."""
    return Path(path).is_dir() and bool(_systems(Path(path)))


def read_deepmd(path: str | Path) -> AnyFrames:
    """Read a DeePMD folder, or a folder of such folders.

    Systems of different composition or order of atoms become parts of `MixedFrames`, and so do the frames of a system
    in the mixed format (``real_atom_types.npy``). Without ``nopbc`` every frame is periodic. The frames count as single
    points: the format holds no time.

    Raises
    ------
    DualityError
        If a file is missing or damaged, the arrays disagree, or some frames have forces and others none.
    """
    path = Path(path)
    systems = _systems(path)
    if not systems:
        raise DualityError(f"{path}: there is no type.raw in this folder or below it, so it is no DeePMD data")
    groups: dict[tuple[tuple[str, ...], bool], list[Frames]] = {}
    unused: set[str] = set()
    first = 0
    for system in systems:
        sets = sorted(folder for folder in system.glob("set.*") if folder.is_dir())
        if not sets:
            raise DualityError(f"{system}: there is no folder set.000; expected coord.npy, box.npy and force.npy in it")
        types = _types(system)
        names = _type_map(system, int(types.max()))
        for folder in sets:
            unused |= {file.stem for file in folder.glob("*.npy")} - set(_USED)
            for frames in _read_set(folder, types, names, (system / "nopbc").exists(), first):
                groups.setdefault((frames.species, frames.cells is not None), []).append(frames)
                first += len(frames)
    if unused:
        warnings.warn(f"{path.name}: not used: {', '.join(sorted(unused))}", stacklevel=2)
    return joined([_concatenated(members) for members in groups.values()])


def _systems(path: Path) -> list[Path]:
    return sorted(file.parent for depth in ("", "*/", "*/*/") for file in path.glob(f"{depth}type.raw"))


def _types(system: Path) -> IntArray:
    try:
        types = np.loadtxt(system / "type.raw", dtype=np.int64, ndmin=1).ravel()
        if not len(types) or types.min() < 0:
            raise ValueError("numbers from 0 on")
        return types
    except (*UNREADABLE, ValueError) as error:
        raise DualityError(f"{system / 'type.raw'}: expected one whole number per atom ({error})") from None


def _type_map(system: Path, largest: int) -> list[str]:
    file = system / "type_map.raw"
    if not file.exists():
        raise DualityError(f"{system}: type_map.raw is missing; it names the element of every type, one a line")
    names = file.read_text().split()
    if largest >= len(names):
        raise DualityError(f"{file}: names {len(names)} types, and type.raw has the type {largest}")
    return names


def _read_set(folder: Path, types: IntArray, names: list[str], open_boundaries: bool, first: int) -> list[Frames]:
    """Frames of a set by list of types; more than one list occurs in the mixed format only."""
    n = len(types)
    coordinates = _load(folder, "coord", 3 * n)
    if coordinates is None:
        raise DualityError(f"{folder}: coord.npy is missing")
    box = None if open_boundaries else _load(folder, "box", 9)
    if box is None and not open_boundaries:
        raise DualityError(f"{folder}: box.npy is missing, and there is no file nopbc that says it is not needed")
    forces, energies = _load(folder, "force", 3 * n), _load(folder, "energy", 1)
    mixed, virials = _load(folder, "real_atom_types", n), _load(folder, "virial", 9)
    stresses = None
    if virials is not None and box is not None and len(virials) == len(box):
        volumes = np.abs(np.linalg.det(box.reshape(-1, 3, 3))) * ANGSTROM**3
        stresses = -virials.reshape(-1, 3, 3) * ELECTRONVOLT / volumes[:, None, None]
    count = len(coordinates)
    rows = np.tile(types, (count, 1)) if mixed is None else mixed.astype(np.int64)
    for name, array in (
        ("box", box),
        ("force", forces),
        ("energy", energies),
        ("real_atom_types", rows),
        ("virial", virials),
    ):
        if array is not None and len(array) != count:
            raise DualityError(f"{folder}: {name}.npy has {len(array)} frames and coord.npy {count}")
    lists, which = np.unique(rows, axis=0, return_inverse=True)
    source = provenance(folder / "coord.npy")
    result = []
    for k, numbers in enumerate(lists):
        if numbers.max() >= len(names):
            raise DualityError(f"{folder}: the type {numbers.max()} has no name in type_map.raw")
        real = numbers >= 0  # the mixed format fills systems of fewer atoms with −1
        here = np.flatnonzero(which.ravel() == k)
        species = tuple(names[t] for t in numbers[real])
        result.append(
            Frames(
                species=species,
                masses=_masses(species, folder),
                positions=coordinates[here].reshape(-1, n, 3)[:, real] * ANGSTROM,
                times=np.zeros(len(here)),
                steps=first + here,
                cells=None if box is None else box[here].reshape(-1, 3, 3) * ANGSTROM,
                forces=None if forces is None else forces[here].reshape(-1, n, 3)[:, real] * ELECTRONVOLT / ANGSTROM,
                stresses=None if stresses is None else stresses[here],
                energies=None if energies is None else energies[here].ravel() * ELECTRONVOLT,
                source=(source,),
            )
        )
    return result


def _load(folder: Path, name: str, columns: int) -> FloatArray | None:
    """An array of a set, shape (T, columns); None if it is absent."""
    file = folder / f"{name}.npy"
    if not file.exists():
        return None
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)  # a header may claim more than the file holds
        if array.dtype.kind not in "fiu":
            raise ValueError(f"numbers of the kind {array.dtype}")
        return np.array(array.reshape(-1, columns), dtype=np.float64)
    except Exception as error:  # NumPy raises whatever its parser of the header runs into
        raise DualityError(f"{file}: expected an array of {columns} numbers per frame ({error})") from None


def _masses(species: tuple[str, ...], folder: Path) -> FloatArray:
    from ase.data import atomic_masses, atomic_numbers

    unknown = sorted(set(species) - set(atomic_numbers))
    if unknown:
        raise DualityError(f"{folder.parent / 'type_map.raw'}: {', '.join(unknown)} is no element")
    return np.array([atomic_masses[atomic_numbers[name]] for name in species], dtype=np.float64)


def _concatenated(members: list[Frames]) -> Frames:
    """One set of frames from several of the same list of species."""
    first = members[0]
    arrays: dict[str, Any] = {}
    for name in ("positions", "times", "steps", "cells", "forces", "energies", "stresses"):
        values = [getattr(frames, name) for frames in members]
        present = [value for value in values if value is not None]
        if present and len(present) < len(values):
            raise DualityError(f"some frames of {', '.join(first.source)} and others have {name}, some not")
        arrays[name] = np.concatenate(present) if present else None
    source = tuple(dict.fromkeys(name for frames in members for name in frames.source))
    return Frames(species=first.species, masses=first.masses, source=source, **arrays)
