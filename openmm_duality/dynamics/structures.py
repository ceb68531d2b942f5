"""Start structures of runs, from files and from reference data, and initial velocities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, takewhile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from openmm import app, unit

from openmm_duality.bounds import require_bounds
from openmm_duality.errors import DualityError
from openmm_duality.files import open_text
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import check_cell, openmm_form, supercell
from openmm_duality.reference.ase_atoms import cell_of, lacks_lattice_vector
from openmm_duality.reference.ase_files import FORMATS, images_of_file
from openmm_duality.reference.formats import ase_kind
from openmm_duality.reference.frames import formula
from openmm_duality.reference.mixed_frames import AnyFrames
from openmm_duality.schema import species_name
from openmm_duality.units import ANGSTROM, BOLTZMANN

_PDB = "proteindatabank"  # as ASE calls it
_BY_SUFFIX = {".pdb": _PDB, ".xyz": "extxyz", ".extxyz": "extxyz"}


@dataclass(frozen=True)
class Start:
    """A start structure.

    Parameters
    ----------
    positions : array, shape (N, 3)
        In nm.
    species : tuple of str, length N
        The species of every atom.
    cell : array, shape (3, 3), or None
        Rows are the cell vectors in nm; None without periodic boundaries.
    held : tuple of int
        Atoms that the file holds fixed (constraints of ASE, selective dynamics of VASP).
    """

    positions: FloatArray
    species: tuple[str, ...]
    cell: FloatArray | None
    held: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in set(self.species):
            species_name(name, "start: species")
        if self.positions.shape != (len(self.species), 3) or not len(self.species):
            raise DualityError(
                f"start: positions of shape {self.positions.shape} for {len(self.species)} atoms; expected one "
                "position of three coordinates for every atom, and at least one atom"
            )
        if not np.isfinite(self.positions).all() or (self.cell is not None and not np.isfinite(self.cell).all()):
            raise DualityError("start: a coordinate is not a finite number; repair what wrote the structure")
        require_bounds(self.positions, "positions", "start")
        check_cell(self.cell, len(self.species))

    def __repr__(self) -> str:
        cell = (
            "none" if self.cell is None else " x ".join(f"{a:.4f}" for a in np.linalg.norm(self.cell, axis=1)) + " nm"
        )
        return f"start of {len(self.species)} atoms: {formula(self.species)}\ncell: {cell}"

    def repeated(self, n: Sequence[int]) -> Start:
        """The supercell of n[0] × n[1] × n[2] copies, along the vectors of the present cell."""
        positions, species, cell = supercell(self.positions, self.species, self.cell, n)
        firsts = range(0, len(species), len(self.species))
        return Start(positions, species, cell, tuple(k + atom for k in firsts for atom in self.held)).for_openmm()

    def for_openmm(self) -> Start:
        """Rotate the structure so that its cell vectors have OpenMM's form (`geometry.openmm_form`)."""
        if self.cell is None:
            return self
        cell, rotation = openmm_form(self.cell)
        return self if cell is self.cell else replace(self, positions=self.positions @ rotation, cell=cell)


def read_start(source: str | Path | AnyFrames, frame: int = -1) -> Start:
    """A structure from a PDB, (extended) XYZ or other file that ASE reads, or one frame of reference data.

    Cell and positions come rotated, and the cell reduced, if OpenMM would not take the cell as it is.

    Parameters
    ----------
    source : path, Frames or MixedFrames
        The species of a file are its chemical elements. An XYZ file is periodic if it gives a ``Lattice``, a PDB file
        if it has a ``CRYST1`` record. Other formats are those of `reference.ase_files` (POSCAR, CIF …).
    frame : int
        Which frame, counted from 0; negative numbers count from the end.

    Raises
    ------
    DualityError
        If the file cannot be read or the frame does not exist.
    """
    if isinstance(source, AnyFrames):
        part, t = source.locate(_frame(frame, len(source), "the reference data"))
        return Start(part.positions[t], part.species, part.cell(t)).for_openmm()
    path = Path(source)
    if path.is_dir():
        raise DualityError(f"start: {path} is a folder; read its frames (openmm_duality.read) and give these")
    if not path.is_file():
        raise DualityError(f"start: there is no file {path}")
    kind = _BY_SUFFIX.get(path.suffix.lower()) or ase_kind(path)
    if kind is None:
        raise DualityError(
            f"start: {path.name} is none of the known files: PDB, extended XYZ, {', '.join(FORMATS.values())}"
        )
    try:
        if kind == _PDB and not _has_namesakes(path):
            return _read_pdb(path, frame).for_openmm()
        return _of_images(list(images_of_file(path, kind)), frame, path.name).for_openmm()
    except DualityError as error:
        raise DualityError(f"start: {str(error).removeprefix('start: ')}") from None
    except Exception as error:  # whatever the library raises means that the file is not what its name says
        raise DualityError(f"start: cannot read {path}: {error}; is it a whole {path.suffix} file?") from error


def thermal_velocities(masses: FloatArray, temperature: float, seed: int) -> FloatArray:
    """Velocities of the Maxwell–Boltzmann distribution, the centre of mass at rest.

    Parameters
    ----------
    masses : array, shape (N,)
        In dalton; massless particles get no velocity.
    temperature : float
        In K.
    seed : int
        Of the random numbers.

    Returns
    -------
    array, shape (N, 3)
        In nm/ps, the same on every platform.
    """
    noise = np.random.default_rng(seed).normal(size=(len(masses), 3))
    massive = masses > 0
    spread = np.sqrt(np.divide(BOLTZMANN * temperature, masses, out=np.zeros_like(masses), where=massive))
    velocities = noise * spread[:, None]
    velocities[massive] -= masses @ velocities / masses.sum()
    return np.asarray(velocities, dtype=np.float64)


def _frame(frame: int, n: int, where: str) -> int:
    if not -n <= frame < n:
        raise DualityError(f"start: {where} has {n} frames, so there is no frame {frame}")
    return frame % n


def _has_namesakes(path: Path) -> bool:
    """Whether atoms of a PDB file share name and residue, as ASE writes them; OpenMM takes them for one.

    Raises
    ------
    DualityError
        If some do, and ASE would not read the elements, or would read alternatives beside each other.
    """
    with open_text(path) as lines:
        first = takewhile(lambda line: not line.startswith("ENDMDL"), lines)
        atoms = [line for line in first if line.startswith(("ATOM", "HETATM"))]
    residues = ([line[12:17] for line in residue] for _, residue in groupby(atoms, key=lambda line: line[17:27]))
    if not any(len(set(names)) < len(names) for names in residues):
        return False
    if any(line[16] != " " or not line[76:78].strip() for line in atoms):
        raise DualityError(
            f"{path.name} gives atoms of one residue the same name; then columns 77-78 must name their elements, and "
            "there must be no alternate locations (column 17)"
        )
    return True


def _read_pdb(path: Path, frame: int) -> Start:
    pdb = app.PDBFile(str(path))
    atoms = list(pdb.topology.atoms())
    unknown = [f"{atom.name} ({atom.index + 1})" for atom in atoms if atom.element is None]
    if unknown:
        raise DualityError(f"start: {path.name} names no element for atom {unknown[0]}; fill in columns 77-78")
    t = _frame(frame, pdb.getNumFrames(), path.name)
    positions = pdb.getPositions(asNumpy=True, frame=t).value_in_unit(unit.nanometer)
    box = pdb.topology.getPeriodicBoxVectors()
    edges = next((line[6:33].split() for line in path.read_text().splitlines() if line.startswith("CRYST1")), [])
    if box is None and any(float(edge) for edge in edges):
        raise DualityError(f"start: {path.name} has a CRYST1 with the edges {' '.join(edges)}; expected three lengths")
    cell = None if box is None else np.array(box.value_in_unit(unit.nanometer), dtype=np.float64)
    return Start(np.array(positions, dtype=np.float64), tuple(atom.element.symbol for atom in atoms), cell)


def _of_images(images: Sequence[Atoms], frame: int, name: str) -> Start:
    atoms = images[_frame(frame, len(images), name)]
    if lacks_lattice_vector(atoms):
        raise DualityError(
            f"{name} is periodic along an axis for which it gives no lattice vector; give it, or set pbc to F"
        )
    positions = np.array(atoms.positions, dtype=np.float64) * ANGSTROM
    held = {int(k) for one in atoms.constraints if isinstance(one, FixAtoms) for k in one.index}
    return Start(positions, tuple(atoms.get_chemical_symbols()), cell_of(atoms), tuple(sorted(held)))
