"""Arrays in one file of NumPy (``.npz``), by the names that MD17, revised MD17 and sGDML give them.

sGDML format: https://www.sgdml.org/doc/#dataset-format
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.files import check_expansion, provenance
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.plausibility import implausible_units
from openmm_duality.reference.quantities import UNITS, DataKeys
from openmm_duality.units import ANGSTROM

# by quantity, the names of its array; the cell has the lattice vectors as columns
_NAMES = {
    "positions": ("R", "coords", "positions"),
    "numbers": ("z", "nuclear_charges", "numbers"),
    "forces": ("F", "forces"),
    "energy": ("E", "energies", "energy"),
    "cell": ("lattice",),
}
_UNITS = {name.lower(): name for name in UNITS}
_FACTS = {"name", "type", "theory", "md5", "code_version", "r_unit", "e_unit"}  # about the data
_LENGTHS = ("ang", "angstrom", "å")


def read_npz(path: str | Path, keys: DataKeys | None = None) -> Frames:
    """Read frames of one molecule from a file of arrays, named as MD17, revised MD17 and sGDML name them.

    Positions ``R`` or ``coords`` (T, N, 3) in Å, atomic numbers ``z`` or ``nuclear_charges`` (N,), forces ``F`` or
    ``forces`` (T, N, 3), energies ``E`` or ``energies`` (T,), and perhaps ``lattice`` (3, 3), whose columns are the
    lattice vectors. The frames count as single points: the format holds no time.

    Parameters
    ----------
    path : path
    keys : DataKeys, optional
        Names of other arrays of forces and energies, and the units, where the file does not name them (``e_unit``);
        without either forces and energies are left out, and a warning says so.

    Raises
    ------
    DualityError
        If the file cannot be read, lacks positions or atomic numbers, or its arrays disagree.
    """
    path, keys = Path(path), keys or DataKeys()
    if keys.stress is not None:
        raise DualityError(f"{path}: a file of NumPy holds no stresses; leave out stress_key")
    try:
        with ZipFile(path) as packed:
            check_expansion(path, sum(member.file_size for member in packed.infolist()))
        with np.load(path, allow_pickle=False) as arrays:
            names = {quantity: _name(arrays, quantity, given) for quantity, given in _given(keys).items()}
            found = {quantity: arrays[name] for quantity, name in names.items() if name is not None}
            unit = str(arrays["e_unit"]) if "e_unit" in arrays else None
            length = str(arrays["r_unit"]) if "r_unit" in arrays else _LENGTHS[0]
            unused = sorted(set(arrays.files) - set(names.values()) - _FACTS)
    except DualityError:
        raise
    except Exception as error:  # NumPy and zipfile raise whatever their parsers run into
        raise DualityError(f"{path}: cannot be read as a file of NumPy ({type(error).__name__}: {error})") from None
    for quantity, given in _given(keys).items():
        if quantity not in found and (given is not None or quantity in ("positions", "numbers")):
            raise DualityError(
                f"{path}: there is no array {given or ' or '.join(_NAMES[quantity])} of the {quantity}; write extended "
                "XYZ, or name the arrays as sGDML does"
            )
    if length.lower() not in _LENGTHS:
        raise DualityError(f"{path}: lengths are in {length[:20]!r} (r_unit); expected 'Ang'")
    if unit is not None:
        if unit.lower() not in _UNITS:
            raise DualityError(f"{path}: energies are in {unit[:20]!r} (e_unit); expected one of {', '.join(UNITS)}")
        keys = DataKeys(units=_UNITS[unit.lower()])
    quantities = [quantity for quantity in ("forces", "energy") if quantity in found]
    used = ", ".join(f"{quantity} from {names[quantity]!r}" for quantity in quantities)
    told = f"{used}, in {keys.units}" if used else "no forces or energies found"
    if quantities and keys.units is None:
        told = (
            f"{' and '.join(quantities)} are left out, since nothing names their units; name them (--units, or units "
            "in the entry of the data set): those of MD17 and revised MD17 are kcal/mol"
        )
        for quantity in quantities:
            del found[quantity]
    frames = _frames(path, found, keys)
    more = f"; not used: {', '.join(unused)}" if unused else ""
    warnings.warn(f"{path.name}: {told}{more}", stacklevel=2)
    for sentence in implausible_units(frames):
        warnings.warn(f"{path.name}: {sentence}", stacklevel=2)
    return frames


def _given(keys: DataKeys) -> dict[str, str | None]:
    return dict.fromkeys(_NAMES) | {"forces": keys.forces, "energy": keys.energy}


def _name(arrays: Any, quantity: str, given: str | None) -> str | None:
    """The name of the array of a quantity; None if there is none."""
    return next((name for name in ([given] if given is not None else _NAMES[quantity]) if name in arrays), None)


def _frames(path: Path, found: dict[str, Any], keys: DataKeys) -> Frames:
    from ase.data import atomic_masses, chemical_symbols

    numbers, count = found["numbers"].ravel(), len(found["positions"]) if found["positions"].ndim else 0
    if (
        numbers.dtype.kind not in "iu"
        or not len(numbers)
        or not 0 < numbers.min() <= numbers.max() < len(atomic_masses)
    ):
        raise DualityError(f"{path}: expected the atomic numbers of one molecule, one for each of its atoms")
    shapes = {
        "positions": (count, len(numbers), 3),
        "forces": (count, len(numbers), 3),
        "energy": (count,),
        "cell": (3, 3),
    }
    arrays: dict[str, Any] = dict.fromkeys(shapes)
    for quantity, shape in shapes.items():
        if quantity in found:
            array = found[quantity].reshape(-1) if quantity == "energy" else found[quantity]
            if array.dtype.kind not in "fiu" or array.shape != shape:
                raise DualityError(
                    f"{path}: expected numbers of the shape {shape} as {quantity}, got {array.shape} of {array.dtype}; "
                    "frames of several molecules belong into files of their own"
                )
            arrays[quantity] = array.astype(np.float64)
    cell = arrays["cell"]
    return Frames(
        species=tuple(chemical_symbols[k] for k in numbers),
        masses=atomic_masses[numbers],
        positions=arrays["positions"] * ANGSTROM,
        times=np.zeros(count),
        steps=np.arange(count, dtype=np.int64),
        cells=None if cell is None else np.tile(cell.T * ANGSTROM, (count, 1, 1)),
        forces=None if arrays["forces"] is None else arrays["forces"] * keys.force_unit,
        energies=None if arrays["energy"] is None else arrays["energy"] * keys.energy_unit,
        source=(provenance(path),),
    )
