"""Extended XYZ files, by ASE: frames of any composition, one after the other."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from ase.data import chemical_symbols

from openmm_duality.errors import DualityError
from openmm_duality.files import UNREADABLE, open_text, provenance
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.progress import progress_bar
from openmm_duality.reference.ase_atoms import VACUUM, cell_of, lacks_lattice_vector, velocity_unit
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.mixed_frames import AnyFrames, joined
from openmm_duality.reference.plausibility import implausible_units
from openmm_duality.reference.quantities import DataKeys, NameChoice, stress_of
from openmm_duality.units import ANGSTROM

if TYPE_CHECKING:
    from ase import Atoms

_STRUCTURE = {"numbers", "positions", "momenta", "masses"}  # arrays of ASE that are always used
_STATES = {"charge", "total_charge", "spin", "total_spin", "multiplicity", "spin_multiplicity"}  # of electrons
_SHOWN = 12  # names in a message
_RARELY = 0.1  # of the frames, which are left out if they have no energy
_MOST_ATOMS, _MOST_COLUMNS = 10**8, 1000  # of a frame
_Key: TypeAlias = tuple[bytes, bool]  # atomic numbers, and whether it is periodic
_COLUMNS = re.compile(r":[RISL]:(\d+)")


def read_extxyz(
    path: str | Path, keys: DataKeys | None = None, *, forces: bool = True, progress: bool = False
) -> AnyFrames:
    """Read an extended XYZ file (or a plain XYZ file, which has no cell and no forces).

    The frames may differ in composition, size, order of atoms, cell and periodicity; they are then `MixedFrames`. Only
    frames with a ``Lattice``, and no ``pbc`` that says otherwise, are periodic; those that are in some directions only
    get a cell with vacuum in the others (`ase_atoms.cell_of`). A single atom marked
    ``config_type=IsolatedAtom`` is not, and needs no forces. Where some frames have forces, those without are left out,
    and where nearly all have energies, those without.
    The frames count as single points: the format holds no time step. What the file holds and is not used is said in a
    warning, and so is what is left out.

    Parameters
    ----------
    path : path
        Of the file, plain or compressed.
    keys : DataKeys, optional
        Names of forces and energies and their units; by default found among the common names, in eV and eV/Å.
    forces : bool
        Whether to read forces; without them no frame is left out.
    progress : bool
        Whether to show the progress.

    Raises
    ------
    DualityError
        If the file cannot be read, no frame has what a key names, or it is unclear which are the forces.
    """
    path = Path(path)
    return frames_of_images(path, _images(path), keys, forces=forces, progress=progress)


def frames_of_images(
    path: Path, images: Iterable[Atoms], keys: DataKeys | None = None, *, forces: bool = True, progress: bool = False
) -> AnyFrames:
    """Convert the structures of a file of any format, with what is in their arrays, keys and results, to frames.

    Parameters
    ----------
    path : path
        Of the file, for messages.
    images : iterable of ase.Atoms
    keys, forces, progress
        As for `read_extxyz`.

    Raises
    ------
    DualityError
        As `read_extxyz`.
    """
    keys = keys or DataKeys()
    force, energy = (NameChoice(name, getattr(keys, name), str(path)) for name in ("forces", "energy"))
    groups: dict[_Key, _Group] = {}
    seen: set[str] = set()
    tensors: set[str] = set()
    states: dict[tuple[bytes, str], set[Any]] = {}
    number, slabs = -1, 0
    for number, atoms in enumerate(progress_bar(None, f"reading {path.name}", show=progress, items=images)):
        columns, values = _contents(atoms)
        seen |= {*columns, *values}
        if ((atoms.numbers < 0) | (atoms.numbers >= len(chemical_symbols))).any():
            raise DualityError(f"{path}: frame {number}, counted from 0, has an atomic number that no element has")
        isolated = _is_isolated_atom(atoms)
        if not isolated and lacks_lattice_vector(atoms):
            raise DualityError(
                f"{path}: frame {number}, counted from 0, is periodic (pbc) along an axis for which it gives no "
                "lattice vector; add the Lattice, or set pbc to F"
            )
        cell = None if isolated else cell_of(atoms)
        periodic, whole = cell is not None, bool(atoms.pbc.all())
        slabs += periodic and not whole
        found = force.value({n: a for n, a in columns.items() if a.shape == (len(atoms), 3) and a.dtype.kind == "f"})
        potential = energy.value({n: v for n, v in values.items() if _is_number(v)})
        if found is None and len(atoms) == 1 and not periodic:
            found = np.zeros((1, 3))  # by symmetry
        group = groups.setdefault((atoms.numbers.tobytes(), periodic), _Group(atoms, periodic))
        for name in _STATES & values.keys():
            state = round(float(values[name]), 3) if _is_number(values[name]) else str(values[name])
            states.setdefault((np.sort(atoms.numbers).tobytes(), name), set()).add(state)
        volume = atoms.cell.volume * ANGSTROM**3
        tensor, stress = stress_of(values, volume, keys) if periodic and whole else (None, None)
        if tensor is not None:
            tensors.add(tensor)
        group.add(number, atoms, cell, found, potential, stress)
    count = number + 1
    if not count:
        raise DualityError(f"{path}: the file holds no frames")
    single = sum(len(g.steps) for (_, periodic), g in groups.items() if len(g.first) == 1 and not periodic)
    _check_given(force, _lacking(groups, "forces"), count, single, seen)
    _check_given(energy, _lacking(groups, "energies"), count, 0, seen)
    if keys.stress is not None and not tensors:
        raise DualityError(
            f"{path}: no periodic frame has six or nine numbers under the name {keys.stress!r}; the file holds "
            f"{_listed(seen)}"
        )
    _say_what_was_used(path, force, energy, tensors, seen)
    if forces and force.name is not None:
        _drop_without(path, groups, "forces")
    if forces and energy.name is not None and len(_lacking(groups, "energies")) <= _RARELY * count:
        _drop_without(path, groups, "energies")
    if differing := sorted({name for (_, name), found in states.items() if len(found) > 1}):
        warnings.warn(
            f"{path.name}: frames of the same atoms differ in {' and '.join(differing)}, which no loss knows of; infer "
            "losses from one state of the electrons",
            stacklevel=3,
        )
    if slabs:
        warnings.warn(
            f"{path.name}: {slabs} frames are periodic in some directions only; in the others they get a cell with a "
            f"vacuum of {VACUUM:g} nm, and no stress",
            stacklevel=3,
        )
    for quantity in ("energies", "stresses") if forces else ():
        if left_out := sum(group.lonely(quantity) for group in groups.values()):
            warnings.warn(
                f"{path.name}: the {quantity} of {left_out} frames are left out, because others of the same atoms have "
                f"none; put frames with and without {quantity} into files of their own",
                stacklevel=3,
            )
    source = provenance(path)
    parts = [g.frames(keys, forces and force.name is not None, source) for g in groups.values()]
    frames = joined(parts)
    for sentence in implausible_units(frames):
        warnings.warn(f"{path.name}: {sentence}", stacklevel=3)
    return frames


def read_labels(path: str | Path, key: str) -> dict[int, str]:
    """What a key of the comment lines of an extended XYZ file says of every frame, by its number in the file.

    Parameters
    ----------
    path : path
    key : str
        Such as ``config_type``.

    Raises
    ------
    DualityError
        If the file cannot be read, or no frame has the key.
    """
    path = Path(path)
    found = {number: str(atoms.info[key]) for number, atoms in enumerate(_images(path)) if key in atoms.info}
    if not found:
        raise DualityError(f"{path}: no frame has the key {key!r}; name one of those of the comment lines")
    return found


@dataclass
class _Group:
    """Frames of one list of species and periodicity, in the units of the file but for their cells in nm."""

    first: Atoms
    periodic: bool
    steps: list[int] = field(default_factory=list)
    positions: list[FloatArray] = field(default_factory=list)
    cells: list[FloatArray | None] = field(default_factory=list)
    velocities: list[FloatArray | None] = field(default_factory=list)
    forces: list[Any] = field(default_factory=list)
    energies: list[Any] = field(default_factory=list)
    stresses: list[FloatArray | None] = field(default_factory=list)

    def add(
        self,
        number: int,
        atoms: Atoms,
        cell: FloatArray | None,
        forces: Any,
        energy: Any,
        stress: FloatArray | None,
    ) -> None:
        self.steps.append(number)
        self.positions.append(atoms.positions)
        self.cells.append(cell)
        self.velocities.append(atoms.get_velocities() if atoms.has("momenta") else None)
        self.forces.append(forces)
        self.energies.append(energy)
        self.stresses.append(stress)

    def drop_without(self, quantity: str) -> None:
        kept = [k for k, value in enumerate(getattr(self, quantity)) if value is not None]
        for name in ("steps", "positions", "cells", "velocities", "forces", "energies", "stresses"):
            setattr(self, name, [getattr(self, name)[k] for k in kept])

    def lonely(self, quantity: str) -> int:
        """Number of energies or stresses that are left out, because not all frames have one."""
        return 0 if self._all_have(quantity) else sum(value is not None for value in getattr(self, quantity))

    def _all_have(self, quantity: str) -> bool:
        return all(value is not None for value in getattr(self, quantity))

    def frames(self, keys: DataKeys, forces: bool, source: str) -> Frames:
        def array(quantity: str, factor: float) -> FloatArray | None:
            values = getattr(self, quantity)
            return np.array(values, dtype=np.float64) * factor if self._all_have(quantity) else None

        return Frames(
            species=tuple(self.first.get_chemical_symbols()),
            masses=np.array(self.first.get_masses(), dtype=np.float64),
            positions=np.array(self.positions) * ANGSTROM,
            times=np.zeros(len(self.steps)),
            steps=np.array(self.steps, dtype=np.int64),
            cells=np.array(self.cells) if self.periodic else None,
            forces=np.array(self.forces, dtype=np.float64) * keys.force_unit if forces else None,
            velocities=array("velocities", velocity_unit()),
            stresses=array("stresses", 1.0),
            energies=array("energies", keys.energy_unit),
            source=(source,),
        )


def _images(path: Path) -> Iterator[Atoms]:
    """The frames of the file, one after the other."""
    _check_counts(path)
    return images_by_ase(path, "extxyz", "cannot be read as extended XYZ")


def images_by_ase(path: Path, kind: str, failure: str, remedy: str = "", **options: Any) -> Iterator[Atoms]:
    """The structures of a file, one after the other, by ASE's reader of a format, with options of that.

    Raises
    ------
    DualityError
        With the words for a failure and a remedy, if ASE cannot read the file.
    """
    import ase.io  # here, because it is slow to import and few need it

    count = 0
    try:
        for atoms in ase.io.iread(path, index=":", format=kind, **options):
            yield atoms
            count += 1
    except Exception as error:
        # ASE raises whatever its parser runs into: KeyError, ValueError, XYZError, EOFError, AssertionError …
        what = f"{type(error).__name__}: {error}"
        name = str(error.args[0]) if isinstance(error, KeyError) and error.args else ""
        if name and (len(name) < 4 or name.istitle()):  # a symbol, and no name of a column
            what = f"{name!r} is no chemical element"
        raise DualityError(f"{path}: {failure}, after {count} frames ({what}){remedy}") from None


def _check_counts(path: Path) -> None:
    """Refuse a file with fewer lines than its numbers of atoms say, or far too many columns."""
    try:
        with open_text(path) as handle:
            while (line := handle.readline()).strip():
                n_atoms = int(line) if len(line) < 20 else _MOST_ATOMS + 1
                columns = sum(int(n[:9]) for n in _COLUMNS.findall(handle.readline()))
                rows = sum(1 for _ in islice(handle, n_atoms)) if 0 < n_atoms <= _MOST_ATOMS else -1
                if rows != n_atoms or columns > _MOST_COLUMNS:
                    raise DualityError(
                        f"{path}: a frame of {line.strip()[:20]} atoms and {columns} columns is followed by "
                        f"{max(rows, 0)} lines; copy the file again, or repair what wrote it"
                    )
    except (*UNREADABLE, ValueError) as error:
        raise DualityError(f"{path}: cannot be read as extended XYZ ({type(error).__name__}: {error})") from None


def _contents(atoms: Atoms) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns other than those of the structure, and keys of the comment line, by name."""
    results = {} if atoms.calc is None else dict(atoms.calc.results)
    columns = {name: array for name, array in atoms.arrays.items() if name not in _STRUCTURE}
    # ASE makes every bare word of a comment a key that is true
    values = {name: value for name, value in atoms.info.items() if not isinstance(value, bool | np.bool_)}
    for name, value in results.items():
        by_atom = np.shape(value)[:1] == (len(atoms),) and name != "stress"
        (columns if by_atom else values)[name] = value
    return columns, values


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)


def _is_isolated_atom(atoms: Atoms) -> bool:
    kind = str(atoms.info.get("config_type", "")).lower().replace("_", "").replace("-", "")
    return len(atoms) == 1 and kind == "isolatedatom"


def _lacking(groups: Mapping[Any, _Group], values: str) -> list[int]:
    """Numbers of the frames that have no ``forces`` or ``energies``, in ascending order."""
    pairs = [pair for g in groups.values() for pair in zip(g.steps, getattr(g, values), strict=True)]
    return sorted(step for step, value in pairs if value is None)


def _drop_without(path: Path, groups: dict[_Key, _Group], quantity: str) -> None:
    """Drop the frames that have no ``forces`` or ``energies``; a warning says how many these are."""
    lacking, count = _lacking(groups, quantity), sum(len(g.steps) for g in groups.values())
    if not lacking:
        return
    warnings.warn(
        f"{path.name}: {len(lacking)} of {count} frames have no {quantity} and are left out (the first is frame "
        f"{lacking[0]}, counted from 0)",
        stacklevel=4,
    )
    for key, group in list(groups.items()):
        group.drop_without(quantity)
        if not group.steps:
            del groups[key]


def _check_given(choice: NameChoice, lacking: list[int], count: int, single: int, seen: set[str]) -> None:
    """Refuse a name that no frame has; `single` frames have forces by symmetry."""
    if choice.given and len(lacking) in (count, count - single):
        kind = "three numbers per atom" if choice.quantity == "forces" else "a number"
        raise DualityError(
            f"{choice.where}: no frame has {kind} under the name {choice.name!r}; the file holds {_listed(seen)}"
        )


def _say_what_was_used(path: Path, forces: NameChoice, energy: NameChoice, tensors: set[str], seen: set[str]) -> None:
    unused = seen - {forces.name, energy.name} - tensors
    if unused or (forces.name not in (None, "forces")) or (energy.name not in (None, "energy")):
        found = [(c.quantity, c.name) for c in (forces, energy) if c.name is not None]
        used = ", ".join(f"{quantity} from {name!r}" for quantity, name in [*found, *(("stress", t) for t in tensors)])
        warnings.warn(
            f"{path.name}: {used or 'no forces or energies found'}"
            + (f"; not used: {_listed(unused)}" if unused else ""),
            stacklevel=4,
        )


def _listed(names: set[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return (", ".join(ordered[:_SHOWN]) + more) or "nothing beside the structure"
