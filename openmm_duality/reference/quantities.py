"""Names and units of forces, energies and stresses in files of others.

Programs name their columns and keys differently: ``forces``, ``force``, ``REF_forces``, ``dft_force``, ``forces_xtb``.
A name is split into words at ``_``, ``-``, ``.`` and blanks, in any case. It names forces if one of the words is force,
forces or frc, and an energy if one is energy, unless another word says that it is something else (``free_energy``,
``energy_error``). If several names fit, the user has to choose.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.schema import one_of
from openmm_duality.units import ANGSTROM, BOHR, ELECTRONVOLT, HARTREE, KILOCALORIE

# by name: the units of energy (kJ/mol) and force (kJ/mol/nm); lengths are in Å in all of them
UNITS = {
    "eV": (ELECTRONVOLT, ELECTRONVOLT / ANGSTROM),
    "kcal/mol": (KILOCALORIE, KILOCALORIE / ANGSTROM),
    "kJ/mol": (1.0, 1.0 / ANGSTROM),
    "hartree": (HARTREE, HARTREE / BOHR),
    "hartree/angstrom": (HARTREE, HARTREE / ANGSTROM),
}
_WORDS = {"forces": {"force", "forces", "frc"}, "energy": {"energy"}}
_STRESS = {"stress", "virial", "virials"}
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
    units : str
        ``eV`` (and eV/Å), ``kcal/mol`` (per Å), ``kJ/mol`` (per Å), ``hartree`` (per bohr) or ``hartree/angstrom``.

    Raises
    ------
    DualityError
        If the units are unknown.
    """

    forces: str | None = None
    energy: str | None = None
    units: str = "eV"

    def __post_init__(self) -> None:
        one_of(*UNITS)(self.units, "units")

    @property
    def energy_unit(self) -> float:
        """In kJ/mol."""
        return UNITS[self.units][0]

    @property
    def force_unit(self) -> float:
        """In kJ/mol/nm."""
        return UNITS[self.units][1]

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
    virial −Vσ in units of energy; six numbers are xx, yy, zz, yz, xz, xy. Names with both words say neither, and of
    several stresses none is taken.

    Parameters
    ----------
    values : mapping of str to any
        By name, as in the comment line.
    volume : float
        In nm³.
    keys : DataKeys
    """
    tensors = {name: _tensor(value) for name, value in values.items()}
    words = {name: _words(name) for name, tensor in tensors.items() if tensor is not None}
    for of, factor in (
        ({"stress"}, keys.energy_unit / keys.length**3),
        ({"virial", "virials"}, -keys.energy_unit / volume),
    ):
        found = [name for name, mine in words.items() if mine & of and not mine & (_STRESS - of) and not mine & _OTHERS]
        if len(found) == 1:
            return found[0], factor * np.asarray(tensors[found[0]])
        if found:
            break
    return None, None


def _tensor(value: Any) -> FloatArray | None:
    """A symmetric tensor (3, 3) from 9 or 6 numbers; None for anything else."""
    if isinstance(value, str) or np.size(value) not in (6, 9) or np.asarray(value).dtype.kind not in "fi":
        return None
    numbers = np.asarray(value, dtype=np.float64).ravel()
    if len(numbers) == 9:
        return 0.5 * (numbers.reshape(3, 3) + numbers.reshape(3, 3).T)
    return np.asarray(numbers[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]])


def _words(name: str) -> set[str]:
    return set(re.split(r"[_\-.\s]+", name.lower()))


def means(quantity: str, name: str) -> bool:
    """Whether a name is one of those that programs give to a quantity, ``forces`` or ``energy``."""
    words = _words(name)
    return bool(words & _WORDS[quantity]) and not words & _OTHERS
