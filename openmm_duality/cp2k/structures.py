"""Start structures: a file, one frame of data, a crystal, or molecules placed in a box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.files import provenance
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import minimum_image, supercell
from openmm_duality.reference.formats import frames_of_atoms, read
from openmm_duality.reference.frames import Frames
from openmm_duality.schema import build, integer, key, mapping_of, one_of, quantity, text, tuple_of
from openmm_duality.units import ANGSTROM

_ORIENTATIONS = 100  # orientations tried of every molecule
_CRYSTALS = ("sc", "fcc", "bcc", "diamond", "rocksalt", "cesiumchloride", "zincblende", "fluorite")


def _density(value: Any, name: str) -> float:
    """A density in g/cm³, converted to dalton/nm³."""
    grams: float = quantity()(value, name)
    return grams * 602.214076  # dalton/nm³


_MOLECULES = mapping_of(integer(1), "molecules and how many of each")


@dataclass(frozen=True)
class Structure:
    """A structure to start from: `path`, `crystal` or `molecules`, each with the keys that follow it.

    Parameters
    ----------
    path : str
        PDB, (extended) XYZ, POSCAR, CIF …, or reference data.
    frame : int
        Which frame; negative numbers count from the end.
    cell : three floats
        Edges in nm, for a file without a cell, or instead of a density.
    crystal, formula, constant : str, str, float
        A lattice, its species (as ``LiF``) and the edge of its cubic cell in nm.
    molecules, density : dict, float
        From molecules to how many of each, and g/cm³ (or the key `cell`): mixed at random on a lattice, rotated so that
        they keep apart. A molecule is a name that ASE knows (as ``CH3OH``, or an element) or a structure file.
    copies : three ints
        Along a, b and c.
    """

    path: str | None = field(metadata=key(text), default=None)
    frame: int = field(metadata=key(integer()), default=-1)
    cell: tuple[float, ...] | None = field(metadata=key(tuple_of(quantity(unit.nanometer), 3)), default=None)
    crystal: str | None = field(metadata=key(one_of(*_CRYSTALS)), default=None)
    formula: str | None = field(metadata=key(text), default=None)
    constant: float | None = field(metadata=key(quantity(unit.nanometer)), default=None)
    molecules: dict[str, int] | None = field(metadata=key(_MOLECULES), default=None)
    density: float | None = field(metadata=key(_density), default=None)
    copies: tuple[int, ...] = field(metadata=key(tuple_of(integer(1), 3)), default=(1, 1, 1))

    def __post_init__(self) -> None:
        needs = {"path": (), "crystal": ("formula", "constant"), "molecules": ()}
        given = [name for name in needs if getattr(self, name) is not None]
        if len(given) != 1:
            raise DualityError(f"start: give one of {', '.join(needs)}, got {' and '.join(given) or 'none'}")
        missing = [name for name in needs[given[0]] if getattr(self, name) is None]
        if missing:
            raise DualityError(f"start: {given[0]} needs {' and '.join(missing)}")
        if self.molecules is not None and (self.density is None) == (self.cell is None):
            raise DualityError("start: molecules needs density or cell, one of them")

    def frames(self, folder: Path, seed: int) -> Frames:
        """The structure as one frame.

        Parameters
        ----------
        folder : Path
            What a relative path is relative to.
        seed : int
            Of the orientations of molecules.

        Raises
        ------
        DualityError
            If it cannot be read or made, or has no cell.
        """
        if self.path is not None:
            found = self._from_file(folder / self.path)
        else:
            try:
                found = frames_of_atoms([self._built(folder, seed)])
            except (ValueError, KeyError, RuntimeError, NotImplementedError) as error:
                raise DualityError(
                    f"start: {self.formula or ', '.join(self.molecules or ())} cannot be built ({error})"
                ) from None
        if self.cell is not None and self.molecules is None:
            if found.cells is not None:
                raise DualityError(f"start: {self.path} has a cell of its own; leave out the key cell")
            found = replace(found, cells=np.diag(self.cell)[None])
        if found.cells is None:
            raise DualityError("start: the structure has no cell, and CP2K is run with one; give the key cell")
        return _repeated(found, self.copies)

    def _from_file(self, path: Path) -> Frames:
        if path.suffix.lower() != ".pdb":
            found = read(path, forces=False)
            if not -len(found) <= self.frame < len(found):
                raise DualityError(f"start: {path} has {len(found)} frames, so there is no frame {self.frame}")
            return found[[self.frame]].parts[0]
        return frames_of_atoms([_read_atoms(path, self.frame)], provenance(path))

    def _built(self, folder: Path, seed: int) -> Any:
        import ase.build

        if self.crystal is not None:
            edge = (self.constant or 0.0) / ANGSTROM
            return ase.build.bulk(self.formula, self.crystal, a=edge, cubic=True)
        counts = [(_molecule(name, folder), number) for name, number in (self.molecules or {}).items()]
        every = [one for one, number in counts for _ in range(number)]
        mass = sum(float(one.get_masses().sum()) for one in every)
        edges = self.cell or 3 * ((mass / (self.density or 1.0)) ** (1 / 3),)
        return _in_a_box(every, np.array(edges) / ANGSTROM, seed)


def read_structure(content: Any) -> Structure:
    """A structure from a configuration: a path, or the keys of `Structure`."""
    return build(Structure, {"path": content} if isinstance(content, str) else content, "start")


def _molecule(name: str, folder: Path) -> Any:
    """The ASE atoms of a molecule: from a structure file in a folder, or by its name; a single atom by its element."""
    import ase.build
    from ase.data import atomic_numbers

    if (folder / name).is_file():
        return _read_atoms(folder / name, -1)
    return ase.Atoms(name) if atomic_numbers.get(name) else ase.build.molecule(name)


def _read_atoms(path: Path, frame: int) -> Any:
    import ase.io

    try:
        return ase.io.read(path, index=frame)
    except Exception as error:  # whatever the library raises means that the file is not of the format of its name
        raise DualityError(f"start: {path} cannot be read ({error})") from None


def _in_a_box(molecules: Sequence[Any], edges: FloatArray, seed: int) -> Any:
    """Molecules at sites of a lattice along the edges, each rotated to be furthest from those before; Å."""
    from ase import Atoms
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(seed)
    along = int(np.ceil(len(molecules) ** (1 / 3) - 1e-9))
    grid = np.stack(np.meshgrid(*[np.arange(along)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    chosen = rng.permutation(len(grid))[: len(molecules)]
    placed, symbols = np.empty((0, 3)), list[str]()
    for one, site in zip(molecules, (grid[chosen] + 0.5) * edges / along, strict=True):
        rotations = Rotation.from_quat(rng.normal(size=(_ORIENTATIONS, 4))).as_matrix()
        rotated = np.einsum("kxy,iy->kix", rotations, one.positions - one.get_center_of_mass()) + site
        apart = minimum_image(rotated[:, :, None] - placed, np.diag(edges))
        nearest = np.linalg.norm(apart, axis=-1).min(axis=(1, 2), initial=np.inf)
        placed = np.concatenate([placed, rotated[int(np.argmax(nearest))]])
        symbols += one.symbols
    return Atoms(symbols, placed, cell=edges, pbc=True)


def _repeated(frame: Frames, copies: tuple[int, ...]) -> Frames:
    total = int(np.prod(copies))
    if total == 1:
        return frame
    positions, species, cell = supercell(frame.positions[0], frame.species, frame.cell(0), copies)
    return Frames(
        species=species,
        masses=np.tile(frame.masses, total),
        positions=positions[None],
        times=np.zeros(1),
        steps=np.zeros(1, dtype=np.int64),
        cells=cell[None],
        source=frame.source,
    )
