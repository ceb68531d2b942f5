"""Trajectories of any engine, by mdtraj: positions, cells and times, whose atoms a topology or a structure names."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.files import provenance
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.reference.dcd import DcdHeader, quiet, read_header
from openmm_duality.reference.frames import Frames
from openmm_duality.system_memory import available_memory, format_size

if TYPE_CHECKING:
    import mdtraj

COORDINATES = (".dcd", ".xtc", ".trr", ".nc", ".netcdf", ".ncdf")
SELF_CONTAINED = (".pdb", ".gro")
TOPOLOGIES = (".pdb", ".gro", ".psf", ".prmtop", ".parm7", ".mol2", ".pdbx")
STRUCTURES = (".xyz", ".extxyz")
_BYTES = 4 + 8 + 8  # of a coordinate: as mdtraj reads it, as it is kept, and while it is converted
_EVEN = 1e-3  # of the time between frames


@dataclass(frozen=True)
class Structure:
    """What names the atoms of a trajectory.

    Parameters
    ----------
    path : Path
    species : tuple of str, length N
    masses : array, shape (N,)
        In dalton.
    cell : array, shape (3, 3), or None
        In nm, for a trajectory without cells.
    real : array of int
        The atoms of the file that have a mass, by which virtual sites are left out.
    """

    path: Path
    species: tuple[str, ...]
    masses: FloatArray
    cell: FloatArray | None
    real: IntArray


def is_trajectory(path: Path) -> bool:
    """Whether a file has the name of a trajectory that mdtraj reads."""
    return path.suffix.lower() in (*COORDINATES, *SELF_CONTAINED)


def structure_beside(path: Path) -> Path | None:
    """The structure that belongs to a trajectory by its name, or as the only one in its folder; None without one."""
    known = (*TOPOLOGIES, *STRUCTURES)
    named = [path.with_suffix(suffix) for suffix in known if path.suffix.lower() != suffix]
    found = [candidate for candidate in named if candidate.is_file()]
    if not found and path.parent.is_dir():
        found = [other for other in sorted(path.parent.iterdir()) if other.suffix.lower() in known and other != path]
        found = found if len(found) == 1 else [other for other in found if other.stem == "topology"]
    return found[0] if len(found) == 1 else None


def read_structure_of(path: Path) -> tuple[Structure, mdtraj.Topology]:
    """Read a topology, or a structure that holds one.

    Raises
    ------
    DualityError
        If it cannot be read, or an atom has no element.
    """
    import mdtraj  # here, because it is slow to import and few need it

    cell = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.suffix.lower() in SELF_CONTAINED:
                # its reader of GRO files cannot choose a frame
                first = mdtraj.load(str(path))[0] if path.suffix == ".gro" else mdtraj.load_frame(str(path), 0)
                topology, vectors = first.topology, first.unitcell_vectors
                cell = None if vectors is None else vectors[0].astype(np.float64)
            else:
                topology = mdtraj.load_topology(str(path))
    except Exception as error:  # whatever the library raises
        raise DualityError(f"{path}: cannot be read as a topology ({type(error).__name__}: {error})") from None
    atoms = list(topology.atoms)
    nameless = [atom for atom in atoms if atom.element is None]
    if nameless or not atoms:
        what = f"atom {nameless[0].index + 1} ({nameless[0].name}) has no element" if nameless else "it holds no atoms"
        raise DualityError(f"{path}: {what}; give a structure that names the elements, such as PDB or extended XYZ")
    real = np.array([atom.index for atom in atoms if atom.element.mass > 0.0], dtype=np.int64)
    chosen = [atoms[i].element for i in real]
    masses = np.array([element.mass for element in chosen], dtype=np.float64)
    structure = Structure(path, tuple(element.symbol for element in chosen), masses, cell, real)
    if len(real) < len(atoms):
        warnings.warn(f"{path.name}: {len(atoms) - len(real)} virtual sites are left out", stacklevel=3)
    return structure, topology


def structure_of_frames(path: Path, frames: Frames) -> tuple[Structure, mdtraj.Topology]:
    """Structure and topology of the first of some frames."""
    import mdtraj

    topology = mdtraj.Topology()
    residue = topology.add_residue("ATM", topology.add_chain())
    for number, _ in enumerate(frames.species):
        topology.add_atom(f"A{number + 1}", mdtraj.element.virtual, residue)
    return Structure(path, frames.species, frames.masses, frames.cell(0), np.arange(frames.n_atoms)), topology


def read_trajectory(path: Path, structure: Structure, topology: mdtraj.Topology) -> Frames:
    """Read a trajectory into memory; where the file has no times, all are 0, and the frames count as single points.

    Parameters
    ----------
    path : Path
        Of a suffix in `COORDINATES` or `SELF_CONTAINED`.
    structure, topology
        What names its atoms.

    Raises
    ------
    DualityError
        If it cannot be read, holds another number of atoms than the structure, or does not fit into the memory.
    """
    header = read_header(path) if path.suffix.lower() == ".dcd" else None
    loaded = _load(path, structure, topology)
    positions = np.asarray(loaded.xyz[:, structure.real], dtype=np.float64)
    vectors = loaded.unitcell_vectors
    cells = None if vectors is None else np.asarray(vectors, dtype=np.float64)
    if cells is None and structure.cell is not None:
        cells = np.tile(structure.cell, (len(positions), 1, 1))
        warnings.warn(f"{path.name}: has no cell; that of {structure.path.name} is used in all frames", stacklevel=3)
    return Frames(
        species=structure.species,
        masses=structure.masses,
        positions=positions,
        times=_times(path, header, loaded.time),
        steps=np.arange(len(positions), dtype=np.int64),
        cells=cells,
        timestep=None if header is None else header.timestep,
        source=(provenance(path), provenance(structure.path)) if structure.path != path else (provenance(path),),
    )


def _load(path: Path, structure: Structure, topology: mdtraj.Topology) -> mdtraj.Trajectory:
    import mdtraj

    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with mdtraj.open(str(path)) as file:
                n_frames = len(file) if path.suffix.lower() not in SELF_CONTAINED else 1
            need, available = n_frames * 3 * topology.n_atoms * _BYTES, available_memory()
            if need > available:
                raise DualityError(
                    f"{path}: {n_frames} frames of {topology.n_atoms} atoms take {format_size(need)} of memory, and "
                    f"{format_size(available)} are available; thin it, as by `mdconvert -s 10`"
                )
            names = {} if path.suffix.lower() in SELF_CONTAINED else {"top": topology}
            loaded: mdtraj.Trajectory = mdtraj.load(str(path), **names)
    except DualityError:
        raise
    except Exception as error:  # whatever the library raises
        said = str(error).split("\n")[0]
        raise DualityError(
            f"{path}: cannot be read with the {topology.n_atoms} atoms of {structure.path} "
            f"({type(error).__name__}: {said}); copy the file again, or give the topology that belongs to it"
        ) from None
    if not len(loaded):
        raise DualityError(f"{path}: holds no frame")
    return loaded


def _times(path: Path, header: DcdHeader | None, times: Any) -> FloatArray:
    """Times in ps by the file itself; those that single precision made slightly uneven are made even again."""
    count = len(times)
    if header is not None and header.timestep is not None:
        return np.asarray(header.timestep * (header.first_step + header.stride * np.arange(count)))
    if header is not None or path.suffix.lower() in SELF_CONTAINED or not np.ptp(times):
        return np.zeros(count)  # what mdtraj gives are the numbers of the frames
    found = np.asarray(times, dtype=np.float64)
    spacing = float(np.median(np.diff(found)))
    even = found[0] + spacing * np.arange(count)
    rounding = 4 * float(np.finfo(np.float32).eps) * np.abs(found).max()
    return even if np.abs(found - even).max() <= max(_EVEN * abs(spacing), rounding) else found
