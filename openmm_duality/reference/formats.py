"""Data in any supported format: saved frames, extended XYZ, arrays, DeePMD, CP2K, other programs, trajectories."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.reference.ase_atoms import cell_of
from openmm_duality.reference.ase_files import ase_format, read_ase_file
from openmm_duality.reference.cp2k_files import is_position_file
from openmm_duality.reference.cp2k_project import read_cp2k
from openmm_duality.reference.deepmd import is_deepmd, read_deepmd
from openmm_duality.reference.extended_xyz import read_extxyz
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.mixed_frames import (
    AnyFrames,
    load_frames,
    of_one_composition,
    without_constant_energies,
    without_forces,
)
from openmm_duality.reference.npz_files import read_npz
from openmm_duality.reference.plausibility import unbalanced_forces
from openmm_duality.reference.quantities import DataKeys
from openmm_duality.reference.trajectories import (
    SELF_CONTAINED,
    TOPOLOGIES,
    is_trajectory,
    read_structure_of,
    read_trajectory,
    structure_beside,
    structure_of_frames,
)
from openmm_duality.units import ANGSTROM, bare

_EXTENDED = (".xyz", ".extxyz")
_CONFIGURATIONS = (".yaml", ".yml")
_SAVED, _ARRAYS = ".safetensors", ".npz"
_PACKED = (".xz", ".gz", ".bz2")
_OF_A_RUN = "trajectory.dcd"  # in the folder of a run, beside its topology
_AGREES = 1e-3  # relative difference of two times between frames


def read(
    path: str | Path,
    *,
    forces: bool = True,
    keys: DataKeys | None = None,
    topology: str | Path | None = None,
    timestep: Any = None,
    progress: bool = False,
) -> AnyFrames:
    """Read data in any supported format.

    Parameters
    ----------
    path : path
        A CP2K project (folder, prefix or file of positions), an extended XYZ file (``.xyz``, ``.extxyz``, plain or
        compressed), arrays as MD17 and sGDML have them (``.npz``), a DeePMD folder (or a folder of them), a result of
        another program that ASE reads (`ase_files.FORMATS`: vasprun.xml and OUTCAR of VASP, outputs of Quantum
        ESPRESSO, FHI-aims …, dumps of LAMMPS, ``.traj``, ``.db``, POSCAR, CIF …), a saved frames file
        (``.safetensors``), the folder of a run, or a trajectory of any engine (DCD, XTC, TRR, NetCDF, PDB, GRO).
    forces : bool
        Whether to read forces; without them every frame that has positions is read.
    keys : DataKeys, optional
        Names of forces and energies in an extended XYZ file, an ``.npz`` file or one of ASE, and their units; by
        default found among the common names.
    topology : path, optional
        A topology or structure that names the atoms of a trajectory; by default the one of its name beside it, or the
        only one in its folder.
    timestep : quantity or float, optional
        The time between frames in ps, where the file does not say it, or says it wrongly.
    progress : bool
        Whether to show the progress.

    Returns
    -------
    Frames or MixedFrames
        Of several compositions, sizes, orders of atoms or periodicities: `MixedFrames`.

    Raises
    ------
    DualityError
        If there is nothing at the path that can be read, or what is given does not suit its format.
    """
    path = Path(path)
    if (path / _OF_A_RUN).is_file():
        path = path / _OF_A_RUN
    found = _read(path, forces, keys, None if topology is None else Path(topology), progress)
    found = without_constant_energies(found, path.name)
    for sentence in unbalanced_forces(found):
        warnings.warn(f"{path.name}: {sentence}", stacklevel=2)
    return found if timestep is None else _timed(found, path, timestep)


def ase_kind(path: Path) -> str | None:
    """ASE's name of the format of a file (`ase_files.FORMATS`), unless the package has a reader of its own for it."""
    own = (_SAVED, _ARRAYS, *_CONFIGURATIONS, *_EXTENDED)
    return None if path.suffix in own or is_trajectory(path) else ase_format(path)


def frames_of(data: AnyFrames | str | Path) -> AnyFrames:
    """Frames as they are, or read from a path.

    Raises
    ------
    DualityError
        If it is neither, or as for `read`.
    """
    if isinstance(data, str | Path):
        return read(data)
    if not isinstance(data, AnyFrames):
        raise DualityError(f"data: expected frames, as `read` gives them, or their path, got {type(data).__name__}")
    return data


def _read(path: Path, forces: bool, keys: DataKeys | None, topology: Path | None, progress: bool) -> AnyFrames:
    suffixes = [s for s in path.suffixes if s not in _PACKED]
    if path.suffix in _CONFIGURATIONS and path.is_file():
        raise DualityError(f"{path}: a configuration, not data; give one of the paths of data that it lists")
    if path.suffix == _ARRAYS and not path.is_dir():
        arrays = read_npz(_existing(path), keys)
        return arrays if forces else without_forces(arrays)
    extended = suffixes and suffixes[-1] in _EXTENDED and not is_position_file(path) and not path.is_dir()
    trajectory = is_trajectory(path) and not path.is_dir() and (topology is not None or not is_position_file(path))
    if extended or trajectory:
        _existing(path)
    kind = None if extended else ase_kind(path)
    if extended or kind is not None:
        if kind is None:
            return read_extxyz(path, keys, forces=forces, progress=progress)
        return read_ase_file(path, kind, keys, forces=forces, progress=progress)
    if keys not in (None, DataKeys()):
        raise DualityError(
            f"{path}: names of forces and energies, and their units, are for extended XYZ files, those of NumPy and "
            "those of ASE alone"
        )
    if trajectory:
        return _read_trajectory(path, forces, topology)
    if path.suffix == _SAVED:
        found = load_frames(path)
    elif is_deepmd(path):
        found = read_deepmd(path)
    else:
        return read_cp2k(path, forces=forces)
    return found if forces else without_forces(found)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise DualityError(f"{path}: there is no such file; give the name of one that is there")
    return path


def _read_trajectory(path: Path, forces: bool, topology: Path | None) -> AnyFrames:
    """Read a trajectory with the topology that is given, is in it, belongs to its CP2K project, or lies beside it."""
    if topology is None and path.suffix.lower() in SELF_CONTAINED:
        topology = path
    if topology is None and any(map(is_position_file, path.parent.iterdir())):
        return read_cp2k(path.parent, positions=path.name, forces=forces)
    beside = structure_beside(path) if topology is None else None
    chosen = topology or beside
    if chosen is None:
        raise DualityError(
            f"{path}: a trajectory does not name its atoms; give a topology or a structure (--topology; PDB, GRO, PSF, "
            f"prmtop, extended XYZ …), or put one of the same name beside it"
        )
    if beside is not None:
        warnings.warn(f"{path.name}: its atoms are those of {beside.name} beside it", stacklevel=4)
    if not chosen.exists():
        raise DualityError(f"{chosen}: there is no such file; it is to name the atoms of {path.name}")
    if chosen.suffix.lower() in TOPOLOGIES:
        return read_trajectory(path, *read_structure_of(chosen))
    with warnings.catch_warnings():  # about forces and energies of the structure
        warnings.simplefilter("ignore")
        structure = _read(chosen, False, None, None, False).parts[0]
    return read_trajectory(path, *structure_of_frames(chosen, structure))


def _timed(frames: AnyFrames, path: Path, timestep: Any) -> Frames:
    """Frames with the time between them that the user gives."""
    spacing = bare(timestep, unit.picosecond, "timestep")
    if not spacing > 0:
        raise DualityError(f"timestep: expected a time above zero between frames, got {timestep}")
    one = of_one_composition(frames, "a time between frames")
    own = np.diff(one.times)
    if own.any() and abs(np.median(own) / spacing - 1) > _AGREES:
        warnings.warn(
            f"{path.name}: its frames are {np.median(own):g} ps apart by its own numbers; the {spacing:g} ps that were "
            "given are used",
            stacklevel=4,
        )
    return replace(one, times=np.asarray(spacing * np.arange(len(one)), dtype=np.float64))


def read_one(path: str | Path, purpose: str, *, forces: bool = True, **given: Any) -> Frames:
    """Read data of one composition and order of atoms, as `read` does.

    Parameters
    ----------
    path : path
    purpose : str
        What needs one composition, for messages.
    forces : bool
    **given
        `topology` and `timestep`, as for `read`.

    Raises
    ------
    DualityError
        As `read`, or if there are several compositions.
    """
    return of_one_composition(read(path, forces=forces, **given), purpose)


def frames_of_atoms(images: Sequence[Atoms], *source: str) -> Frames:
    """The structures of ASE objects as single points, periodic where the first is."""
    first = images[0]
    return Frames(
        species=tuple(first.get_chemical_symbols()),
        masses=np.array(first.get_masses(), dtype=np.float64),
        positions=np.array([atoms.positions for atoms in images], dtype=np.float64) * ANGSTROM,
        times=np.zeros(len(images)),
        steps=np.arange(len(images), dtype=np.int64),
        cells=np.array([cell_of(atoms) for atoms in images]) if first.pbc.any() else None,
        source=source,
    )
