"""Results of other programs and files of ASE: VASP, Quantum ESPRESSO, FHI-aims and others, as ASE reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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
    "traj": "trajectory of ASE",
    "db": "database of ASE",
}


def ase_format(path: Path) -> str | None:
    """The name in `PROGRAMS` of the format of a file, by its name and its beginning; None for others."""
    from ase.io.formats import UnknownFileTypeError, filetype

    if not path.is_file():
        return None
    try:
        found = filetype(str(path))
    except (UnknownFileTypeError, OSError, ValueError):
        return None
    return found if found in PROGRAMS else None


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
        As for `read_extxyz`; ASE has converted energies to eV.
    forces, progress
        As for `read_extxyz`.

    Raises
    ------
    DualityError
        If the file cannot be read, or as `read_extxyz`.
    """
    return frames_of_images(path, _images(path, kind), keys, forces=forces, progress=progress)


def _images(path: Path, kind: str) -> Iterator[Atoms]:
    for atoms in images_by_ase(path, kind, f"ASE cannot read it as {PROGRAMS[kind]}", "; is it complete?"):
        if atoms.calc is not None and "free_energy" in atoms.calc.results:
            atoms.calc.results["energy"] = atoms.calc.results.pop("free_energy")
        yield atoms
