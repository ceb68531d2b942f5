"""Files of other programs and of ASE, as ASE reads them: results of VASP and others, dumps of LAMMPS, structures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from openmm_duality.errors import DualityError
from openmm_duality.files import UNREADABLE, open_text
from openmm_duality.reference.extended_xyz import frames_of_images, images_by_ase
from openmm_duality.reference.mixed_frames import AnyFrames
from openmm_duality.reference.quantities import DataKeys

if TYPE_CHECKING:
    from ase import Atoms

# by ASE's name; those of its formats that hold forces, and are read without running anything that they contain
PROGRAMS = {
    "vasp-xml": "vasprun.xml of VASP",
    "vasp-out": "OUTCAR of VASP",
    "espresso-out": "output of Quantum ESPRESSO",
    "aims-output": "output of FHI-aims",
    "castep-castep": "output of CASTEP",
    "gpaw-out": "output of GPAW",
    "lammps-dump-text": "dump of LAMMPS",
    "traj": "trajectory of ASE",
    "db": "database of ASE",
}
# and those that hold structures alone, of which ASE reads all and runs nothing (it starts CASTEP to read a cell file)
STRUCTURES = {
    "vasp": "POSCAR or CONTCAR of VASP",
    "cif": "CIF",
    "aims": "geometry of FHI-aims",
    "espresso-in": "input of Quantum ESPRESSO",
    "gen": "gen file of DFTB+",
    "mol": "MDL molfile",
    "xsf": "XSF",
}
FORMATS = {**PROGRAMS, **STRUCTURES}
_NAMES = {**FORMATS, "extxyz": "extended XYZ", "proteindatabank": "PDB"}
_DUMP, _UNITS, _COLUMNS = "lammps-dump-text", "ITEM: UNITS", "ITEM: ATOMS"
_METAL = "metal"  # units of LAMMPS, in which ASE's are
_KNOWN_UNITS = (_METAL, "real", "electron", "si", "cgs")
_WHOLE = 0.999  # occupancy of a site


def ase_format(path: Path) -> str | None:
    """The name in `FORMATS` of the format of a file, by its name and its beginning; None for others."""
    from ase.io.formats import UnknownFileTypeError, filetype

    if not path.is_file():
        return None
    try:
        found = filetype(str(path))
    except (UnknownFileTypeError, *UNREADABLE, ValueError):
        return None
    return found if found in FORMATS else None


def read_ase_file(
    path: Path, kind: str, keys: DataKeys | None = None, *, forces: bool = True, progress: bool = False
) -> AnyFrames:
    """Read all structures of a file with the forces, energies and stresses that its program computed.

    The energy is that whose derivative the forces are: of a metal the free energy of its electrons, where there is one.
    The frames count as single points.

    Parameters
    ----------
    path : path
    kind : str
        Format, as `ase_format` gives it.
    keys : DataKeys, optional
        As for `read_extxyz`; ASE has converted energies to eV, but of a dump of LAMMPS nothing, if it names no units.
    forces, progress
        As for `read_extxyz`.

    Raises
    ------
    DualityError
        If the file cannot be read, or as `read_extxyz`.
    """
    units = _units_of_dump(path) if kind == _DUMP and keys is not None and keys.units else _METAL
    if units != _METAL:
        raise DualityError(f"{path}: the dump says that its units are {units!r}; leave out those that are given")
    return frames_of_images(path, images_of_file(path, kind), keys, forces=forces, progress=progress)


def images_of_file(path: Path, kind: str) -> Iterator[Atoms]:
    """The structures of a file of a format that ASE knows, as one of the `FORMATS`, one after the other.

    Raises
    ------
    DualityError
        If the file cannot be read, a dump of LAMMPS does not say which elements its atoms are, or sites of a crystal
        are occupied in part.
    """
    options = {"units": _units_of_dump(path)} if kind == _DUMP else {}
    failure = f"ASE cannot read it as {_NAMES.get(kind, kind)}"
    for atoms in images_by_ase(path, kind, failure, "; is it complete?", **options):
        results = {} if atoms.calc is None else atoms.calc.results
        if kind == _DUMP:
            results.pop("energy", None)  # a dump has none, for which ASE puts zero
            atoms.arrays.pop("momenta", None)  # in units that it may not name
            atoms.info.clear()
        if kind in STRUCTURES:  # of which one says how far its sites are occupied
            if any(share < _WHOLE for site in atoms.info.get("occupancy", {}).values() for share in site.values()):
                raise DualityError(f"{path}: sites are occupied in part; write a structure whose sites are whole")
            atoms.info.clear()
            atoms.arrays.pop("spacegroup_kinds", None)
        if "free_energy" in results:
            results["energy"] = results.pop("free_energy")
        yield atoms


def _units_of_dump(path: Path) -> str:
    """The units that a dump of LAMMPS names, or metal; one without elements is refused."""
    units, columns = _METAL, list[str]()
    try:
        with open_text(path) as lines:
            for line in lines:
                if line.startswith(_UNITS):
                    units = next(lines, "").strip()
                if line.startswith(_COLUMNS):
                    columns = line.split()[2:]
                    break
    except (*UNREADABLE, ValueError) as error:
        raise DualityError(f"{path}: cannot be read as a dump of LAMMPS ({type(error).__name__}: {error})") from None
    if "element" not in columns:
        raise DualityError(
            f"{path}: the dump has types of atoms and no elements; write them with 'dump … custom … id element x y z "
            "fx fy fz' and 'dump_modify … element …' of LAMMPS"
        )
    if units not in _KNOWN_UNITS:
        raise DualityError(f"{path}: the dump has units {units!r}; those that are read are {', '.join(_KNOWN_UNITS)}")
    return units
