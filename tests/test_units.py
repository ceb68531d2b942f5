"""Conversion of quantities, texts with units and bare numbers to MD units."""

from __future__ import annotations

import numpy as np
import pytest
from openmm import unit
from scipy import constants

from openmm_duality import units
from openmm_duality.errors import DualityError
from openmm_duality.units import bare

FORCE = unit.kilojoule_per_mole / unit.nanometer


@pytest.mark.parametrize(
    ("value", "dimension", "expected"),
    [
        (0.6, unit.nanometer, 0.6),
        (np.float32(0.5), unit.nanometer, 0.5),
        ("0.6", unit.nanometer, 0.6),
        ("6 angstrom", unit.nanometer, 0.6),
        ("6A", unit.nanometer, 0.6),
        (6 * unit.angstrom, unit.nanometer, 0.6),
        ("0.5 fs", unit.picosecond, 5e-4),
        ("1e-3 ns", unit.picosecond, 1.0),
        ("10/ps", unit.picosecond**-1, 10.0),
        ("0.01 /fs", unit.picosecond**-1, 10.0),
        (10 / unit.picosecond, unit.picosecond**-1, 10.0),
        ("300 K", unit.kelvin, 300.0),
        ("1 bar", unit.bar, 1.0),
        ("0.1 MPa", unit.bar, 1.0),
        ("2 GPa", unit.bar, 2e4),
        ("1 atm", unit.bar, 1.01325),
        ("1e-7", unit.dimensionless, 1e-7),
        ("5 kJ/mol", unit.kilojoule_per_mole, 5.0),
        ("5kcal/mol", unit.kilojoule_per_mole, 5 * 4.184),
        ("0.1 eV", unit.kilojoule_per_mole, 9.648533),
        ("3 eV/angstrom", FORCE, 3 * 964.8533),
        ("3 eV/Å", FORCE, 3 * 964.8533),
        ("3 eV / A", FORCE, 3 * 964.8533),
        ("100 meV/angstrom", FORCE, 96.48533),
        ("10 kJ/mol/nm", FORCE, 10.0),
        ("10 kJ/(mol nm)", FORCE, 10.0),
        ("10 kJ/(mol*nm)", FORCE, 10.0),
        ("1 kcal/mol/angstrom", FORCE, 41.84),
        ("1 hartree/bohr", FORCE, 2625.4996 / 0.05291772),
        ("2 kJ/mol/nm^2", FORCE / unit.nanometer, 2.0),
        ("2 kJ/mol*nm**-2", FORCE / unit.nanometer, 2.0),
    ],
)
def test_values_are_converted_to_md_units(value, dimension, expected):
    assert bare(value, dimension) == pytest.approx(expected)


WRONG_LENGTHS = ("6 parsec", "6 fs", "six", "", "6 angstrom long", None, [1.0], 6 * unit.kelvin, "6 /nm")


@pytest.mark.parametrize("value", [*WRONG_LENGTHS, "6 nm^", "6 nm//ps", "6 nm/", "6 nm*", "6 nm/(ps"])
def test_errors_name_the_quantity(value):
    with pytest.raises(DualityError, match="the cutoff"):
        bare(value, unit.nanometer, "the cutoff")


def test_constants_agree_with_codata():
    kilojoule = constants.N_A / 1000.0
    assert pytest.approx(constants.physical_constants["Hartree energy"][0] * kilojoule, rel=1e-7) == units.HARTREE
    assert pytest.approx(constants.physical_constants["Bohr radius"][0] * 1e9, rel=1e-7) == units.BOHR
    assert pytest.approx(constants.e * kilojoule, rel=1e-7) == units.ELECTRONVOLT
    assert pytest.approx(constants.k * kilojoule, rel=1e-7) == units.BOLTZMANN
    assert pytest.approx(1e-3 * constants.e * kilojoule / 0.1, rel=1e-7) == units.MEV_PER_ANGSTROM


def test_a_compressed_cell_has_a_negative_stress():
    stress = units.stress_from_virial(np.array([np.eye(3), 2.0 * np.eye(3)]), np.array([2.0, 4.0]))
    np.testing.assert_allclose(stress, [-0.5 * np.eye(3)] * 2)
    assert pytest.approx(1e6 * constants.N_A * 1e-27 * 1e-3) == units.MEGAPASCAL
