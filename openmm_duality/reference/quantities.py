"""Names and units of forces, energies and stresses in files of others.

Programs name their columns and keys differently: ``forces``, ``force``, ``REF_forces``, ``dft_force``, ``forces_xtb``.
A name is split into words at ``_``, ``-``, ``.`` and blanks, in any case. It names forces if one of the words is force,
forces or frc, and an energy if one is energy, unless another word says that it is something else (``free_energy``,
``energy_error``). If several names fit, the user has to choose.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.schema import one_of
from openmm_duality.units import ANGSTROM, BOHR, ELECTRONVOLT, GIGAPASCAL, HARTREE, KILOCALORIE, MEGAPASCAL

# by name: the units of energy (kJ/mol) and force (kJ/mol/nm); lengths are in Å in all of them
UNITS = {
    "eV": (ELECTRONVOLT, ELECTRONVOLT / ANGSTROM),
    "kcal/mol": (KILOCALORIE, KILOCALORIE / ANGSTROM),
    "kJ/mol": (1.0, 1.0 / ANGSTROM),
    "hartree": (HARTREE, HARTREE / BOHR),
    "hartree/angstrom": (HARTREE, HARTREE / ANGSTROM),
}
_DEFAULT_UNITS = "eV"  # of extended XYZ
STRESS_UNITS = {
    "eV/angstrom^3": ELECTRONVOLT / ANGSTROM**3,
    "GPa": GIGAPASCAL,
    "MPa": MEGAPASCAL,
    "kbar": 0.1 * GIGAPASCAL,
    "bar": 0.1 * MEGAPASCAL,
}  # kJ/mol/nm³
_PLACES = {a + b: tuple(sorted((x, y))) for x, a in enumerate("xyz") for y, b in enumerate("xyz")}
_VOIGT = "xx yy zz yz xz xy"
_WORDS = {"forces": {"force", "forces", "frc"}, "energy": {"energy"}}
_STRESS = {"stress", "virial", "virials"}
_PRESSURES = {"gpa", "mpa", "kpa", "pa", "kbar", "bar", "atm"}
_OTHERS = {
    *("free", "kinetic", "formation", "atomization", "binding", "adsorption", "interaction", "dispersion"),
    *("correction", "error", "std", "variance", "uncertainty", "committee", "atom", "atomic", "max", "rms"),
    *("net", "external"),
}


@dataclass(frozen=True)
class DataKeys:
    """What a file calls its forces and energies, and their units.

    Parameters
    ----------
    forces, energy : str or None
        Name of the column of forces and of the key of the energy; by default found among the common names.
    units : str or None
        ``eV`` (and eV/Å; the default of extended XYZ), ``kcal/mol`` (per Å), ``kJ/mol`` (per Å), ``hartree`` (per bohr)
        or ``hartree/angstrom``.
    stress : str or None
        Key of the stress, where its sign, unit or order is another than `stress_of` takes.
    stress_units : str or None
        Unit of the values of that key, one of `STRESS_UNITS`, or energy per volume by default. With a minus before it
        they are pressures, positive under compression, as VASP prints them: ``-kbar``.
    stress_order : str
        Order of six values.

    Raises
    ------
    DualityError
        If the units or the order are unknown, or a unit of stresses is given without their key.
    """

    forces: str | None = None
    energy: str | None = None
    units: str | None = None
    stress: str | None = None
    stress_units: str | None = None
    stress_order: str = _VOIGT

    def __post_init__(self) -> None:
        if self.units is not None:
            one_of(*UNITS)(self.units, "units")
        if self.stress_units is not None:
            one_of(*STRESS_UNITS)(self.stress_units.removeprefix("-"), "stress_units")
            if self.stress is None:
                raise DualityError(
                    f"stress_units: {self.stress_units} is the unit of what stress_key names; give stress_key too"
                )
        if sorted(self.stress_places) != sorted(set(_PLACES.values())):
            raise DualityError(
                f"stress_order: expected the six components in their order, such as '{_VOIGT}', got "
                f"{self.stress_order!r}"
            )

    @property
    def stress_places(self) -> list[tuple[int, ...]]:
        """Row and column of each of six values, the smaller first."""
        return [_PLACES.get(name, (-1, -1)) for name in self.stress_order.split()]

    @property
    def stress_factor(self) -> float:
        """What converts values of the key `stress` to kJ/mol/nm³, positive under tension."""
        if self.stress_units is None:
            return self.energy_unit / self.length**3
        sign = -1.0 if self.stress_units.startswith("-") else 1.0
        return sign * STRESS_UNITS[self.stress_units.removeprefix("-")]

    @property
    def energy_unit(self) -> float:
        """In kJ/mol."""
        return UNITS[self.units or _DEFAULT_UNITS][0]

    @property
    def force_unit(self) -> float:
        """In kJ/mol/nm."""
        return UNITS[self.units or _DEFAULT_UNITS][1]

    @property
    def length(self) -> float:
        """Unit of length of forces and stresses, in nm."""
        return self.energy_unit / self.force_unit


@dataclass
class NameChoice:
    """Chooser of the name of a quantity, the same in all frames of a file.

    Parameters
    ----------
    quantity : str
        ``forces`` or ``energy``.
    name : str or None
        The name that the user gave, and later the one that was found.
    where : str
        The file, for messages.
    """

    quantity: str
    name: str | None
    where: str
    given: bool = field(init=False)

    def __post_init__(self) -> None:
        self.given = self.name is not None

    def value(self, values: Mapping[str, Any]) -> Any | None:
        """The value of the quantity in a frame, None if it is absent.

        Raises
        ------
        DualityError
            If several names fit.
        """
        if not self.given:
            found = sorted({*([self.name] if self.name else []), *(n for n in values if means(self.quantity, n))})
            if len(found) > 1:
                raise DualityError(
                    f"{self.where}: {' and '.join(found)} may both be the {self.quantity}; choose one, with "
                    f"--{self.quantity}-key on the command line or {self.quantity}_key in the entry of the data set"
                )
            self.name = found[0] if found else None
        return None if self.name is None else values.get(self.name)


def stress_of(values: Mapping[str, Any], volume: float, keys: DataKeys) -> tuple[str | None, FloatArray | None]:
    """The name of the stress among the values of a frame, and the stress, in kJ/mol/nm³ and positive under tension.

    A stress σ is taken in units of energy per Å³ (of `hartree`: per bohr³), positive under tension as ASE has it, and a
    virial −Vσ in units of energy; six numbers are xx, yy, zz, yz, xz, xy. Names with both words say neither, those with
    a unit of pressure another unit, and of several stresses none is taken, unless the keys name one.

    Parameters
    ----------
    values : mapping of str to any
        By name, as in the comment line.
    volume : float
        In nm³.
    keys : DataKeys
    """
    if keys.stress is not None:
        found = _tensor(values.get(keys.stress), keys.stress_places)
        return (None, None) if found is None else (keys.stress, keys.stress_factor * found)
    tensors = {name: _tensor(value, keys.stress_places) for name, value in values.items()}
    words = {name: _words(name) for name, tensor in tensors.items() if tensor is not None}
    for of, factor in (
        ({"stress"}, keys.energy_unit / keys.length**3),
        ({"virial", "virials"}, -keys.energy_unit / volume),
    ):
        others = (_STRESS - of) | _OTHERS | _PRESSURES
        names = [name for name, mine in words.items() if mine & of and not mine & others]
        if len(names) == 1:
            return names[0], factor * np.asarray(tensors[names[0]])
        if names:
            break
    return None, None


def _tensor(value: Any, places: Sequence[tuple[int, ...]]) -> FloatArray | None:
    """A symmetric tensor (3, 3) from 9 numbers or 6 at given places; None for anything else."""
    if (
        value is None
        or isinstance(value, str)
        or np.size(value) not in (6, 9)
        or np.asarray(value).dtype.kind not in "fi"
    ):
        return None
    numbers = np.asarray(value, dtype=np.float64).ravel()
    if len(numbers) == 9:
        return 0.5 * (numbers.reshape(3, 3) + numbers.reshape(3, 3).T)
    tensor = np.empty((3, 3))
    for (x, y), number in zip(places, numbers, strict=True):
        tensor[x, y] = tensor[y, x] = number
    return tensor


def _words(name: str) -> set[str]:
    return set(re.split(r"[_\-.\s]+", name.lower()))


def means(quantity: str, name: str) -> bool:
    """Whether a name is one of those that programs give to a quantity, ``forces`` or ``energy``."""
    words = _words(name)
    return bool(words & _WORDS[quantity]) and not words & _OTHERS
