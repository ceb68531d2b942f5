"""Boxes of water made for a benchmark, and the TIP3P that runs in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import openmm as mm
import pytest
from openmm import unit

from openmm_duality.benchmark.water import (
    SPECIES,
    _relaxed,
    as_water,
    tip3p_cutoff,
    tip3p_system,
    tip3p_topology,
    water_box,
)
from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import volume
from openmm_duality.geometry.molecules import find_molecules
from openmm_duality.geometry.pairs import pairs_within

BONDS = {("H", "O"): 0.125}


@pytest.mark.parametrize("molecules", [8, 30, 1728])
def test_a_box_is_liquid_water_at_its_density(molecules):
    """1,728 molecules are eight copies of 216."""
    box = water_box(molecules)
    assert box.species == SPECIES * molecules
    grams = molecules * 18.01528 / 6.02214076e23
    assert grams / (volume(box.cell) * 1e-21) == pytest.approx(0.997, rel=1e-6)
    found = find_molecules(box.positions, box.species, box.cell, BONDS)
    assert [list(atoms) for atoms in found] == [[3 * k, 3 * k + 1, 3 * k + 2] for k in range(molecules)]
    i, j, d = pairs_within(box.positions, box.cell, 0.3)
    between = np.array(i) // 3 != np.array(j) // 3
    oxygens = between & (np.array(i) % 3 == 0) & (np.array(j) % 3 == 0)
    assert d[between].min() > 0.13
    assert 0.23 < d[oxygens].min() < 0.28


def test_a_box_is_the_same_every_time():
    first, second = (_relaxed.__wrapped__(10) for _ in range(2))
    np.testing.assert_array_equal(first.positions, second.positions)


def test_a_box_of_few_molecules_is_refused():
    with pytest.raises(DualityError, match="at least 8"):
        water_box(3)


def energy(start):
    """Of flexible TIP3P with reaction field, in kJ/mol."""
    system, _ = tip3p_system(tip3p_topology(start), start.cell, "rf", rigid=False)
    context = mm.Context(system, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName("Reference"))
    context.setPositions(start.positions)
    return context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def test_water_in_any_order_and_wrapped_atom_by_atom_has_the_same_energy():
    box = water_box(30)
    order = np.random.default_rng(0).permutation(90)
    wrapped = np.mod(box.positions, np.diag(box.cell))[order]
    shuffled = replace(box, positions=wrapped, species=tuple(np.array(box.species)[order]))
    assert energy(as_water(shuffled)) == pytest.approx(energy(box), rel=1e-9)


def test_what_is_not_water_is_refused():
    box = water_box(8)
    with pytest.raises(DualityError, match="something else"):
        as_water(replace(box, species=("S", *box.species[1:])))
    with pytest.raises(DualityError, match="no cell"):
        as_water(replace(box, cell=None))


@pytest.mark.parametrize(("edge", "cutoff"), [(3.0, 0.9), (1.8, 0.6), (1.25, 0.6), (0.986, 0.49)])
def test_the_cutoff_is_the_largest_that_fits(edge, cutoff):
    assert tip3p_cutoff(edge * np.eye(3)) == pytest.approx(cutoff)


@pytest.mark.parametrize("rigid", [False, True])
def test_flexible_water_is_not_constrained(rigid):
    box = water_box(8)
    system, _ = tip3p_system(tip3p_topology(box), box.cell, "pme", rigid=rigid)
    assert system.getNumConstraints() == (24 if rigid else 0)
