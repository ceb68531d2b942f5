"""Reference data in any supported format: saved frames, extended XYZ, DeePMD folders, CP2K projects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from openmm_duality.errors import DualityError
from openmm_duality.reference.cp2k_files import is_position_file
from openmm_duality.reference.cp2k_project import read_cp2k
from openmm_duality.reference.deepmd import is_deepmd, read_deepmd
from openmm_duality.reference.extended_xyz import read_extxyz
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.mixed_frames import AnyFrames, load_frames, of_one_composition, without_forces
from openmm_duality.reference.quantities import DataKeys
from openmm_duality.units import ANGSTROM

_EXTENDED = (".xyz", ".extxyz")
_PACKED = (".xz", ".gz", ".bz2")


def read(path: str | Path, *, forces: bool = True, keys: DataKeys | None = None, progress: bool = False) -> AnyFrames:
    """Read reference data in any supported format.

    Parameters
    ----------
    path : path
        A CP2K project (folder, prefix or file of positions), an extended XYZ file (``.xyz``, ``.extxyz``, plain or
        compressed), a DeePMD folder (or a folder of them) or a saved frames file (``.safetensors``).
    forces : bool
        Whether to read forces; without them every frame that has positions is read.
    keys : DataKeys, optional
        Names of forces and energies in an extended XYZ file, and their units; by default found among the common names.
    progress : bool
        Whether to show the progress.

    Returns
    -------
    Frames or MixedFrames
        Of several compositions, sizes, orders of atoms or periodicities: `MixedFrames`.

    Raises
    ------
    DualityError
        If there is nothing at the path that can be read, or names and units are given for a format that fixes them.
    """
    path = Path(path)
    suffixes = [s for s in path.suffixes if s not in _PACKED]
    if suffixes and suffixes[-1] in _EXTENDED and not is_position_file(path) and not path.is_dir():
        if not path.exists():
            raise DualityError(f"{path}: there is no such file; give the name of an extended XYZ file that is there")
        found = read_extxyz(path, keys, progress=progress)
        return found if forces else without_forces(found)
    if keys not in (None, DataKeys()):
        raise DualityError(f"{path}: names of forces and energies, and their units, are for extended XYZ files alone")
    if path.suffix == ".safetensors":
        found = load_frames(path)
    elif is_deepmd(path):
        found = read_deepmd(path)
    else:
        return read_cp2k(path, forces=forces)
    return found if forces else without_forces(found)


def read_one(path: str | Path, purpose: str, *, forces: bool = True) -> Frames:
    """Read reference data of one composition and order of atoms, as `read` does.

    Parameters
    ----------
    path : path
    purpose : str
        What needs one composition, for messages.
    forces : bool

    Raises
    ------
    DualityError
        As `read`, or if there are several compositions.
    """
    return of_one_composition(read(path, forces=forces), purpose)


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
