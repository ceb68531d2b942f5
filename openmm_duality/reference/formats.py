"""Reference data in any supported format: saved frames, extended XYZ, CP2K projects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms, units

from openmm_duality.errors import DualityError
from openmm_duality.files import provenance
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.reference.cp2k_files import is_position_file
from openmm_duality.reference.cp2k_project import read_cp2k
from openmm_duality.reference.frames import Frames
from openmm_duality.units import ANGSTROM, ELECTRONVOLT, FEMTOSECOND

_EXTENDED = (".xyz", ".extxyz")
_PACKED = (".xz", ".gz", ".bz2")


def read(path: str | Path, *, forces: bool = True) -> Frames:
    """Read reference data in any supported format.

    Parameters
    ----------
    path : path
        A CP2K project (folder, prefix or file of positions), an extended XYZ file (``.xyz``, ``.extxyz``, plain or
        compressed) or a saved frames file (``.safetensors``).
    forces : bool
        Whether to read forces; without them every frame that has positions is read.

    Raises
    ------
    DualityError
        If there is nothing at the path that can be read.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        frames = Frames.load(path)
        return frames if forces else replace(frames, forces=None)
    suffixes = [s for s in path.suffixes if s not in _PACKED]
    if suffixes and suffixes[-1] in _EXTENDED and not is_position_file(path) and not path.is_dir():
        if not path.exists():
            raise DualityError(f"{path}: there is no such file; give the name of an extended XYZ file that is there")
        frames = read_extxyz(path)
        return frames if forces else replace(frames, forces=None)
    return read_cp2k(path, forces=forces)


def read_extxyz(path: str | Path) -> Frames:
    """Read an extended XYZ file (or a plain XYZ file, which has no cell and no forces).

    Energies are taken in eV and forces in eV/Å, as ASE has them. Only frames with a ``Lattice`` are periodic. The
    frames count as single points: the format holds no time step.

    Parameters
    ----------
    path : path
        Of the file, plain or compressed.

    Raises
    ------
    DualityError
        If the file cannot be read, or its frames differ in atoms or in what they hold.
    """
    import ase.io  # here, because it is slow to import and few need it

    path = Path(path)
    try:
        images = list(ase.io.iread(path, index=":", format="extxyz"))
    except Exception as error:
        # ASE raises whatever its parser runs into: KeyError, ValueError, XYZError, EOFError, AssertionError …
        raise DualityError(f"{path}: cannot be read as extended XYZ ({type(error).__name__}: {error})") from None
    if not images:
        raise DualityError(f"{path}: the file holds no frames")
    first = images[0]
    symbols = tuple(first.get_chemical_symbols())
    for t, atoms in enumerate(images):
        if tuple(atoms.get_chemical_symbols()) != symbols:
            raise DualityError(
                f"{path}: frame {t} (counted from 0) has other atoms, or another order of atoms, than the first; one "
                "set of frames has one composition: split the file"
            )
        if tuple(atoms.pbc) != tuple(first.pbc):
            raise DualityError(f"{path}: some frames have a Lattice and others none; split the file")
    if bool(first.pbc.any()) != bool(first.pbc.all()):
        raise DualityError(f"{path}: pbc {first.pbc} is not supported; all three directions are periodic, or none")
    forces = _results(path, images, "forces")
    energies = _results(path, images, "energy")
    velocities = None
    if all(atoms.has("momenta") for atoms in images):
        velocities = np.array([atoms.get_velocities() for atoms in images]) * units.fs * ANGSTROM / FEMTOSECOND
    return replace(
        frames_of_atoms(images, provenance(path)),
        forces=None if forces is None else forces * ELECTRONVOLT / ANGSTROM,
        velocities=velocities,
        energies=None if energies is None else energies * ELECTRONVOLT,
    )


def frames_of_atoms(images: Sequence[Atoms], *source: str) -> Frames:
    """The structures of ASE objects as single points, periodic where the first is in all directions."""
    first = images[0]
    return Frames(
        species=tuple(first.get_chemical_symbols()),
        masses=np.array(first.get_masses(), dtype=np.float64),
        positions=np.array([atoms.positions for atoms in images], dtype=np.float64) * ANGSTROM,
        times=np.zeros(len(images)),
        steps=np.arange(len(images), dtype=np.int64),
        cells=np.array([atoms.cell.array for atoms in images]) * ANGSTROM if first.pbc.all() else None,
        source=source,
    )


def _results(path: Path, images: list[Atoms], name: str) -> FloatArray | None:
    values = [None if atoms.calc is None else atoms.calc.results.get(name) for atoms in images]
    missing = [t for t, value in enumerate(values) if value is None]
    if len(missing) == len(values):
        return None
    if missing:
        raise DualityError(
            f"{path}: {len(missing)} of {len(values)} frames have no {name} (the first is frame {missing[0]}, counted "
            "from 0); all frames of one file must have it or none"
        )
    return np.array(values, dtype=np.float64)
