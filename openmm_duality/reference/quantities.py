"""Names and units of forces and energies in files of others.

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

from openmm_duality.errors import DualityError
from openmm_duality.schema import key, one_of, optional, text
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
    """

    forces: str | None = field(metadata=key(optional(text)), default=None)
    energy: str | None = field(metadata=key(optional(text)), default=None)
    units: str = field(metadata=key(one_of(*UNITS)), default="eV")

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


def means(quantity: str, name: str) -> bool:
    """Whether a name is one of those that programs give to a quantity, ``forces`` or ``energy``."""
    words = set(re.split(r"[_\-.\s]+", name.lower()))
    return bool(words & _WORDS[quantity]) and not words & _OTHERS
