"""Losses on some atoms of a classical System: what they replace, and what stays."""

from __future__ import annotations

import itertools

import numpy as np
import openmm as mm
import pytest
from openmm import app, unit

from openmm_duality import add_to_system, create_system
from openmm_duality.dynamics import mixed_systems
from openmm_duality.errors import DualityError
from openmm_duality.losses import evaluate_agents
from tests.dynamics.mixtures import EDGE, FIELD, LOSSES, atoms_of, context, evaluated, made, water
from tests.lowering.platforms import BACKENDS, energy_and_forces
from tests.systems import random_losses, rms

PLATFORMS = [("Reference", None, 1e-7), ("CPU", None, 1e-3), ("OpenCL", "double", 1e-6)]


def part(topology, positions, atoms, field=FIELD, periodic=True):
    """The same force field of some of the molecules alone."""
    modeller = app.Modeller(topology, positions * unit.nanometer)
    modeller.delete([atom for atom in topology.atoms() if atom.index not in set(atoms)])
    return made(field, modeller.topology, modeller.positions, periodic)[0]


def expected(whole, topology, positions, atoms, cell, field=FIELD):
    """Energy and forces of the whole System, less those of the particles alone, plus the losses."""
    learned = [k for k in atoms if list(topology.atoms())[k].element is not None]
    energy, forces = evaluated(whole, positions)
    order = sorted(atoms)
    alone = evaluated(part(topology, positions, atoms, field, cell is not None), positions[order])
    species = [list(topology.atoms())[k].element.symbol for k in learned]
    losses = evaluate_agents(LOSSES, positions[learned], species, cell)
    forces[order] -= alone[1]
    forces[learned] += losses.forces
    return energy - alone[0] + losses.energy, forces


@pytest.mark.parametrize("most", [mixed_systems.MOST_EXCEPTIONS, 0], ids=["exclusions", "subtraction"])
@pytest.mark.parametrize("learned", [{2, 5}, set(range(1, 10))], ids=["solute", "liquid"])
def test_losses_replace_the_interactions_of_some_molecules(learned, most, monkeypatch):
    """A learned solute among classical molecules, and learned molecules around a classical one."""
    monkeypatch.setattr(mixed_systems, "MOST_EXCEPTIONS", most)
    system, topology, positions = water(periodic=False, molecules=range(10))
    atoms = atoms_of(topology, learned)
    before = mm.XmlSerializer.serialize(system)
    mixed = add_to_system(system, LOSSES, topology, atoms, precision="double")
    assert mm.XmlSerializer.serialize(system) == before
    energy, forces = evaluated(mixed, positions)
    should = expected(system, topology, positions, atoms, None)
    np.testing.assert_allclose(forces, should[1], atol=1e-9 * rms(should[1]))
    assert energy == pytest.approx(should[0], abs=1e-9 * rms(should[1]))


def test_under_ewald_summation(monkeypatch):
    """The subtraction is exact; exclusions leave the interactions with periodic images, which are weak."""
    system, topology, positions = water()
    atoms = atoms_of(topology, {0, 7, 20})
    cell = EDGE * np.eye(3)
    excluded = evaluated(add_to_system(system, LOSSES, topology, atoms, precision="double"), positions)
    monkeypatch.setattr(mixed_systems, "MOST_EXCEPTIONS", 0)
    subtracted = evaluated(add_to_system(system, LOSSES, topology, atoms, precision="double"), positions)
    should = expected(system, topology, positions, atoms, cell)
    np.testing.assert_allclose(subtracted[1], should[1], atol=1e-7 * rms(should[1]))
    assert 1e-6 < rms(excluded[1] - should[1]) / rms(should[1]) < 0.02


@pytest.mark.parametrize(("platform", "precision", "tolerance"), PLATFORMS)
def test_forces_are_central_differences(platform, precision, tolerance):
    system, topology, positions = water(nonbondedMethod=app.CutoffPeriodic)
    atoms = atoms_of(topology, {0, 7, 20})
    mixed = add_to_system(system, LOSSES, topology, atoms, precision="double")
    where = context(mixed, positions, platform, precision)
    _, forces = energy_and_forces(where)
    h, weights = (
        (1e-5, {1: 0.5, -1: -0.5}) if tolerance < 1e-5 else (3e-4, {2: -1 / 12, 1: 2 / 3, -1: -2 / 3, -2: 1 / 12})
    )
    for atom in (atoms[0], atoms[4], 3):  # two that the losses act on, and one beside them
        slope = 0.0
        for factor, weight in weights.items():
            moved = positions.copy()
            moved[atom, 1] += factor * h
            where.setPositions(moved)
            slope += weight * energy_and_forces(where)[0] / h
        assert forces[atom, 1] == pytest.approx(-slope, abs=5 * tolerance * rms(forces))
    shifted = positions.copy()
    shifted[atoms[:3]] += [EDGE, 0.0, -EDGE]  # a molecule that has diffused into another image
    where.setPositions(shifted)
    np.testing.assert_allclose(energy_and_forces(where)[1], forces, atol=tolerance * rms(forces))


@pytest.mark.parametrize("backend", [*BACKENDS, *(f"fused-{name}" for name in BACKENDS)])
def test_back_ends_agree_and_neighbours_are_those_of_the_subset(backend):
    system, topology, positions = water()
    atoms = atoms_of(topology, {0, 7, 20})
    mixed = add_to_system(system, LOSSES, topology, atoms, backend=backend, precision="double")
    for k, force in enumerate(mixed.getForces()):
        force.setForceGroup(1 if k == mixed.getNumForces() - 1 else 0)
    state = context(mixed, positions).getState(forces=True, groups={1})
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    species = [list(topology.atoms())[k].element.symbol for k in atoms]
    alone = evaluate_agents(LOSSES, positions[atoms], species, EDGE * np.eye(3)).forces
    np.testing.assert_allclose(forces[atoms], alone, atol=1e-9 * rms(alone))
    assert not forces[sorted(set(range(len(positions))) - set(atoms))].any()


def test_losses_may_be_added_to_what_is_there():
    system, topology, positions = water(periodic=False, molecules=range(4))
    mixed = add_to_system(system, LOSSES, topology, replace=False, precision="double")
    pure = create_system(LOSSES, topology, precision="double")
    sums = evaluated(system, positions)[1] + evaluated(pure, positions)[1]
    np.testing.assert_allclose(evaluated(mixed, positions)[1], sums, atol=1e-9 * rms(sums))


def test_virtual_sites_belong_to_their_atoms():
    field = app.ForceField("amber14/tip4pew.xml")
    system, topology, positions = water(field, periodic=False, molecules=range(6))
    learned = [k for k in atoms_of(topology, {1, 4}) if not system.isVirtualSite(k)]
    sites = [k for k in atoms_of(topology, {1, 4}) if system.isVirtualSite(k)]
    assert len(sites) == 2
    energy, forces = evaluated(add_to_system(system, LOSSES, topology, learned, precision="double"), positions)
    should = expected(system, topology, positions, learned + sites, None, field)
    massive = [k for k in range(len(positions)) if not system.isVirtualSite(k)]
    np.testing.assert_allclose(forces[massive], should[1][massive], atol=1e-9 * rms(should[1]))
    assert energy == pytest.approx(should[0], abs=1e-9 * rms(should[1]))


def test_constraints_go_with_the_molecules_that_lose_them():
    system, topology, _ = water(periodic=False, molecules=range(4), rigidWater=True)
    mixed = add_to_system(system, LOSSES, topology, atoms_of(topology, {2}))
    held = {k for c in range(mixed.getNumConstraints()) for k in mixed.getConstraintParameters(c)[:2]}
    assert held == set(range(12)) - set(atoms_of(topology, {2}))


def with_every_bonded_force(kept) -> mm.System:
    """Terms of every sort over eight particles: those that `kept` lets through, given their particles."""
    system = mm.System()
    for _ in range(8):
        system.addParticle(1.0)
    forces = {
        mm.HarmonicAngleForce(): (3, lambda f, p: f.addAngle(*p, 1.9, 100.0)),
        mm.PeriodicTorsionForce(): (4, lambda f, p: f.addTorsion(*p, 2, 0.3, 5.0)),
        mm.RBTorsionForce(): (4, lambda f, p: f.addTorsion(*p, 1.0, 2.0, 3.0, 1.0, 2.0, 1.0)),
        mm.CustomBondForce("r^2"): (2, lambda f, p: f.addBond(*p, [])),
        mm.CustomAngleForce("theta^2"): (3, lambda f, p: f.addAngle(*p, [])),
        mm.CustomTorsionForce("cos(theta)"): (4, lambda f, p: f.addTorsion(*p, [])),
        mm.CustomCompoundBondForce(3, "distance(p1,p2)*distance(p2,p3)"): (3, lambda f, p: f.addBond(p, [])),
    }
    cmap = mm.CMAPTorsionForce()
    cmap.addMap(4, np.random.default_rng(1).normal(size=16))
    forces[cmap] = (5, lambda f, p: f.addTorsion(0, *p[:4], *p[1:]))
    for force, (number, add) in forces.items():
        for particles in itertools.combinations(range(8), number):
            if sum(particles) % 3 == 0 and kept(set(particles)):
                add(force, particles)
        system.addForce(force)
    pairs = mm.CustomNonbondedForce("1/r")
    for _ in range(8):
        pairs.addParticle([])
    pairs.addExclusion(5, 1)
    for pair in itertools.combinations(range(8), 2):
        if not kept(set(pair)) and pair != (1, 5):
            pairs.addExclusion(*pair)
    system.addForce(pairs)
    return system


def test_bonded_terms_among_the_particles_go_and_others_stay():
    topology, inside = app.Topology(), {1, 2, 4, 5, 7}
    residue = topology.addResidue("X", topology.addChain())
    for _ in range(8):
        topology.addAtom("O", app.element.oxygen, residue)
    positions = np.random.default_rng(3).uniform(0.0, 0.6, size=(8, 3))
    mixed = add_to_system(with_every_bonded_force(lambda _: True), LOSSES, topology, sorted(inside), precision="double")
    energy, forces = evaluated(mixed, positions)
    rest = evaluated(with_every_bonded_force(lambda particles: not particles <= inside), positions)
    losses = evaluate_agents(LOSSES, positions[sorted(inside)], ["O"] * 5)
    assert energy == pytest.approx(rest[0] + losses.energy, rel=1e-9)
    forces[sorted(inside)] -= losses.forces
    np.testing.assert_allclose(forces, rest[1], atol=1e-9 * rms(losses.forces))


def test_what_cannot_be_separated_is_refused():
    system, topology, _ = water(periodic=False, molecules=range(4))
    with pytest.raises(DualityError, match="a bond joins atom 0, which the losses act on, to atom 1"):
        add_to_system(system, LOSSES, topology, [0])
    with pytest.raises(DualityError, match="no atom 12"):
        add_to_system(system, LOSSES, topology, [12])
    with pytest.raises(DualityError, match="CMMotionRemover"):
        add_to_system(system, random_losses("pair", "agent", ("H", "O")), topology)
    with pytest.raises(DualityError, match="species Ar"):
        add_to_system(system, random_losses("pair"), topology)
    implicit = mm.XmlSerializer.clone(system)
    implicit.addForce(mm.GBSAOBCForce())
    with pytest.raises(DualityError, match="GBSAOBCForce cannot be separated"):
        add_to_system(implicit, LOSSES, topology, [0, 1, 2])
    with pytest.raises(DualityError, match="12 atoms and the system 3 particles"):
        add_to_system(water(periodic=False, molecules=range(1))[0], LOSSES, topology)
