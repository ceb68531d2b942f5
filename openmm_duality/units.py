"""Constants and conversions of units.

Inside the package everything is in OpenMM's MD units: nm, ps, dalton, kJ/mol, K (so forces are in kJ/mol/nm and
velocities in nm/ps). At the public border a quantity of `openmm.unit` is accepted wherever a bare number is; a bare
number is in MD units.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from openmm import unit

from openmm_duality.errors import DualityError

if TYPE_CHECKING:
    import openmm as mm

ANGSTROM = 0.1  # nm
FEMTOSECOND = 1e-3  # ps
BOHR = float(unit.bohr.conversion_factor_to(unit.nanometer))  # nm
HARTREE = float((1.0 * unit.hartree * unit.AVOGADRO_CONSTANT_NA).value_in_unit(unit.kilojoule_per_mole))  # kJ/mol
ELECTRONVOLT = float(
    (1.0 * unit.elementary_charge * unit.volt * unit.AVOGADRO_CONSTANT_NA).value_in_unit(unit.kilojoule_per_mole)
)  # kJ/mol
KILOCALORIE = 4.184  # kJ/mol per kcal/mol
BOLTZMANN = float(unit.MOLAR_GAS_CONSTANT_R.value_in_unit(unit.kilojoule_per_mole / unit.kelvin))  # kJ/mol/K
GIGAPASCAL = float(
    (1e9 * unit.joule / unit.meter**3 * unit.AVOGADRO_CONSTANT_NA).value_in_unit(
        unit.kilojoule_per_mole / unit.nanometer**3
    )
)  # kJ/mol/nm³
MEGAPASCAL = 1e-3 * GIGAPASCAL  # kJ/mol/nm³
DALTON_PER_NM3 = float(1e21 / unit.AVOGADRO_CONSTANT_NA.value_in_unit(unit.mole**-1))  # g/cm³
MEV_PER_ANGSTROM = 1e-3 * ELECTRONVOLT / ANGSTROM  # kJ/mol/nm
MEV = 1e-3 * ELECTRONVOLT  # kJ/mol

_NUMBER_AND_UNIT = re.compile(r"^\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*$")


def stress_from_virial(
    virial: npt.NDArray[np.float64], volume: float | npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Convert virials W = −∂E/∂ε in kJ/mol, shape (…, 3, 3), to stresses σ = (1/V) ∂E/∂ε = −W/V in kJ/mol/nm³.

    This is the sign of ASE, positive under tension: the pressure is −tr σ/3 = tr W/(3 V), both without the kinetic
    part, which adds (2/3) E_kin/V to it.

    Parameters
    ----------
    virial : array, shape (…, 3, 3)
    volume : float or array, shape (…)
        In nm³.
    """
    return np.asarray(-virial / np.asarray(volume)[..., None, None])


def masses_of(system: mm.System) -> npt.NDArray[np.float64]:
    """Masses of the particles of a System in dalton, shape (N,)."""
    return np.array([system.getParticleMass(k).value_in_unit(unit.dalton) for k in range(system.getNumParticles())])


def bare(value: Any, dimension: unit.Unit, name: str = "value") -> float:
    """Convert a quantity, a text such as "6 angstrom" or a bare number to a bare number in MD units.

    Parameters
    ----------
    value : openmm.unit.Quantity, str or float
        A string may name its unit (``"6 angstrom"``, ``"10/ps"``); a bare number is in MD units already.
    dimension : openmm.unit.Unit
        The MD unit of the result, such as `openmm.unit.nanometer`.
    name : str
        Name of the value in error messages.

    Raises
    ------
    DualityError
        If the value cannot be read or has another dimension.
    """
    quantity = _parsed(value, name) if isinstance(value, str) else value
    if not unit.is_quantity(quantity):
        try:
            return float(quantity)
        except (TypeError, ValueError):
            raise DualityError(f"{name}: expected a number or a quantity in {dimension}, got {value!r}") from None
    if not quantity.unit.is_compatible(dimension):
        raise DualityError(f"{name}: {value} is not a quantity in {dimension}")
    return float(quantity.value_in_unit(dimension))


_UNITS: dict[str, Any] = {
    "nm": unit.nanometer,
    "A": unit.angstrom,
    "Å": unit.angstrom,
    "Bohr": unit.bohr,
    "ps": unit.picosecond,
    "fs": unit.femtosecond,
    "ns": unit.nanosecond,
    "K": unit.kelvin,
    "bar": unit.bar,
    "kbar": 1e3 * unit.bar,
    "MPa": 10.0 * unit.bar,
    "GPa": 1e4 * unit.bar,
    "atm": unit.atmosphere,
    "mol": unit.mole,
    "kJ": unit.kilojoule,
    "kcal": unit.kilocalorie,
    # of one particle, which in MD units is of a mole of them
    "eV": ELECTRONVOLT * unit.kilojoule_per_mole,
    "meV": MEV * unit.kilojoule_per_mole,
    "hartree": HARTREE * unit.kilojoule_per_mole,
    "Hartree": HARTREE * unit.kilojoule_per_mole,
}
_DENOMINATOR = re.compile(r"/\s*\(([^()/]+)\)")
_OPERATOR = re.compile(r"(/|·|(?<!\*)\*(?!\*))")
_POWER = re.compile(r"(.*?)(?:\^|\*\*)(-?\d)")


def _parsed(text: str, name: str) -> Any:
    """Read a number with or without a unit, which may be a quotient or a product, such as ``kJ/mol/nm^2``."""
    match = _NUMBER_AND_UNIT.match(text)
    if match is None:
        raise DualityError(f"{name}: expected a number with or without a unit (such as '6 angstrom'), got {text!r}")
    found, suffix = float(match[1]), match[2]
    if not suffix:
        return found
    # a/(b*c) and a/(b c) are a/b/c
    suffix = _DENOMINATOR.sub(lambda m: "".join(f"/{word}" for word in re.split(r"[*·\s]+", m[1].strip())), suffix)
    words = _OPERATOR.split(suffix if suffix.startswith("/") else f"*{suffix}")  # "", operator, word, operator, …
    for operator, word in zip(words[1::2], words[2::2], strict=True):
        factor = _unit(word.strip(), name, text)
        found = found / factor if operator == "/" else found * factor
    return found


def _unit(word: str, name: str, text: str) -> Any:
    """A unit by its name or symbol, which may be raised to a power."""
    raised = _POWER.fullmatch(word)
    symbol, power = (raised[1].strip(), int(raised[2])) if raised is not None else (word, 1)
    base = _UNITS.get(symbol) or getattr(unit, symbol, None)
    if not isinstance(base, unit.Unit | unit.Quantity):
        raise DualityError(
            f"{name}: unknown unit {symbol!r} in {text!r}; use for instance nanometer, angstrom, fs, K or kJ/mol"
        )
    return base**power
