"""Systems of agent losses, and learning dynamics of the bundled water with them."""

from __future__ import annotations

import numpy as np
import openmm as mm
import pytest
from openmm import app, unit

from openmm_duality.dynamics import (
    DescentLearningIntegrator,
    NoseHooverLearningIntegrator,
    VerletLearningIntegrator,
    add_barostat,
    create_system,
    create_topology,
    minimize,
)
from openmm_duality.dynamics.systems import species_of
from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import openmm_form
from openmm_duality.losses import GRADIENTS, evaluate_agents
from openmm_duality.losses.forms import has_potential
from tests.dynamics.systems import make_context, masses_of, positions_of, thermal
from tests.systems import CELL, NARROW, narrow_positions, random_losses, random_positions, random_species, rms
from tests.water import liquid, water_losses

SPECIES = random_species(20)


def system_of(gradient, form="quadratic", **choices):
    return create_system(random_losses(form, gradient), create_topology(SPECIES, cell=CELL), **choices)


def water_system(gradient="collective", precision="double"):
    frames = liquid()[1][:1]
    topology = create_topology(frames.species, cell=frames.cell(0))
    return create_system(water_losses(gradient), topology, precision=precision), frames.positions[0]


def test_a_system_has_the_masses_the_box_and_the_species_of_the_losses():
    losses = random_losses()
    system = system_of("collective")
    np.testing.assert_allclose(masses_of(system), losses.masses[losses.index_of(SPECIES)])
    box = [row.value_in_unit(unit.nanometer) for row in system.getDefaultPeriodicBoxVectors()]
    np.testing.assert_allclose(np.array(box), CELL)
    assert system.usesPeriodicBoundaryConditions()
    without_cell = create_system(losses, create_topology(SPECIES))
    assert not without_cell.usesPeriodicBoundaryConditions()
    assert without_cell.getNumConstraints() == 0


def test_a_topology_keeps_the_species_also_where_they_are_no_elements():
    species = ("O", "H", "H", "Ow", "OS", "OS", "D")
    topology = create_topology(species, [np.array([0, 1, 2]), np.array([3, 4, 5]), np.array([6])], CELL)
    assert species_of(topology) == species
    assert [len(list(residue.atoms())) for residue in topology.residues()] == [3, 3, 1]
    assert topology.getNumBonds() == 0
    # molecules whose atoms do not follow each other
    scattered = create_topology(("O", "O", "H"), [np.array([0, 2]), np.array([1])])
    assert species_of(scattered) == ("O", "O", "H")


@pytest.mark.parametrize("edge", [1e200, 2e4, 0.04, 0.1, np.nan])
def test_a_topology_refuses_a_cell_that_no_system_has(edge):
    with pytest.raises(DualityError, match="none longer than 10000 nm"):
        create_topology(SPECIES, cell=edge * np.eye(3))


@pytest.mark.parametrize(
    ("species", "name"),
    [
        ("O H H", "HOH"),
        ("H O H", "HOH"),
        ("C O O", "CO2"),
        ("H C H H H", "CH4"),
        ("C H H H O H", "CH4"),
        ("N H H H", "H3N"),
        ("Ar", "Ar"),
    ],
)
def test_residues_are_named_as_pdb_readers_know_them(species, name):
    names = tuple(species.split())
    (residue,) = create_topology(names, [np.arange(len(names))]).residues()
    assert residue.name == name


def test_what_does_not_fit_is_refused():
    with pytest.raises(DualityError, match="Ne"):
        create_system(random_losses(), create_topology(("Ne",)))
    with pytest.raises(DualityError, match="the agent gradient do not conserve momentum"):
        system_of("agent", removeCMMotion=False)
    with pytest.raises(DualityError, match="the mutual gradient do not conserve momentum"):
        system_of("mutual", removeCMMotion=False)
    system_of("collective", removeCMMotion=False)


@pytest.mark.parametrize("backend", ["torchscript", "fused"])
@pytest.mark.parametrize("name", NARROW)
def test_a_crystal_in_a_narrow_cell_runs_at_constant_pressure(name, backend):
    """Two atoms among images of each other and of themselves; the barostat changes the box time and again."""
    cell, rotation = openmm_form(NARROW[name])
    losses, species = random_losses("moment"), SPECIES[:2]
    system = create_system(losses, create_topology(species, cell=cell), backend=backend, precision="double")
    add_barostat(system, 1e5 * unit.bar, 300.0, frequency=1)
    context = make_context(system, VerletLearningIntegrator(1e-5), narrow_positions(NARROW[name]) @ rotation)
    boxes = []
    for _ in range(10):
        context.getIntegrator().step(5)
        state = context.getState(positions=True, forces=True, energy=True)
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        boxes.append(state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer))
        expected = evaluate_agents(losses, positions, species, boxes[-1])
        forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        assert np.abs(forces - expected.forces).max() < 1e-8 * rms(expected.forces)
        energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
        assert energy == pytest.approx(expected.energy, abs=1e-9 * np.abs(expected.losses).sum())
    assert len({box.tobytes() for box in map(np.asarray, boxes)}) > 3


def test_losses_act_on_chosen_particles_of_a_topology():
    losses = random_losses("moment")
    particles = np.array([19, 3, 4, 7, 11])
    names = ["He"] * len(SPECIES)
    for k in particles:
        names[k] = SPECIES[k]
    topology = create_topology(names, cell=CELL)
    system = create_system(losses, topology, particles=particles, precision="double")
    masses = np.full(len(SPECIES), 4.003)
    masses[particles] = losses.masses[losses.index_of([SPECIES[k] for k in particles])]
    np.testing.assert_allclose(masses_of(system), masses, atol=1e-3)
    assert [type(force) is mm.CMMotionRemover for force in system.getForces()] == [False, True]
    start = random_positions(len(SPECIES), CELL)
    context = make_context(system, VerletLearningIntegrator(1e-3), start)
    forces = context.getState(forces=True).getForces(asNumpy=True)._value
    expected = evaluate_agents(losses, start[particles], [SPECIES[k] for k in particles], CELL).forces
    np.testing.assert_allclose(forces[particles], expected, atol=1e-9 * rms(expected))
    assert (np.delete(forces, particles, axis=0) == 0.0).all()
    with pytest.raises(DualityError, match="He"):
        create_system(losses, topology)
    with pytest.raises(DualityError, match="no atom 20; the first is 0 and the last is 19"):
        create_system(losses, topology, particles=[3, 20])
    with pytest.raises(DualityError, match="atom 3 is there more than once"):
        create_system(losses, topology, particles=[3, 3])
    with pytest.raises(DualityError, match=r"atom 0 \(site\) has no element"):
        create_system(losses, create_topology(["site", *names[1:]], cell=CELL), particles=particles)


@pytest.mark.parametrize("gradient", ["agent", "mutual"])
def test_the_centre_of_mass_rests_where_momentum_is_not_conserved(gradient):
    start = random_positions(20, CELL, least=0.2)

    def drift(system):
        integrator = VerletLearningIntegrator(1e-3)
        context = make_context(system, integrator, start)
        integrator.step(100)
        masses = masses_of(system)
        return np.linalg.norm(masses @ (positions_of(context) - start)) / masses.sum()

    with_remover, without_remover = system_of(gradient), system_of(gradient)
    removers = [k for k, force in enumerate(with_remover.getForces()) if isinstance(force, mm.CMMotionRemover)]
    assert [with_remover.getForce(k).getFrequency() for k in removers] == [1]
    without_remover.removeForce(removers[0])
    assert drift(with_remover) < 0.1 * drift(without_remover)


def test_what_needs_a_potential_is_refused_where_there_is_none():
    positions = random_positions(20, CELL, least=0.2)
    for gradient in GRADIENTS:
        system = system_of(gradient)
        topology = create_topology(SPECIES, cell=CELL)
        platform = mm.Platform.getPlatformByName("Reference")
        simulation = app.Simulation(topology, system, VerletLearningIntegrator(1e-3), platform)
        simulation.context.setPositions(positions)
        if not has_potential(gradient):
            with pytest.raises(DualityError, match=r"the minimiser needs a potential.*--integrator descent"):
                minimize(simulation)
            with pytest.raises(DualityError, match=r"a barostat needs a potential.*'collective'$"):
                add_barostat(system, 1.0, 300.0)
            assert system.getNumForces() == 2
            continue
        before = simulation.context.getState(energy=True).getPotentialEnergy()
        minimize(simulation, maxIterations=5)
        assert simulation.context.getState(energy=True).getPotentialEnergy() < before
        add_barostat(system, 1 * unit.bar, 300 * unit.kelvin)
        assert system.getNumForces() == 3
    with pytest.raises(DualityError, match="periodic"):
        add_barostat(create_system(random_losses(), create_topology(SPECIES)), 1.0, 300.0)


@pytest.mark.parametrize("make", [VerletLearningIntegrator, lambda dt: NoseHooverLearningIntegrator(300.0, 10.0, dt)])
def test_the_conserved_quantity_of_learning_water_has_no_drift(make):
    """0.25 fs, 1 ps, double precision."""
    system, positions = water_system()
    integrator = make(0.25e-3)
    context = make_context(system, integrator, positions, "CPU", temperature=300.0)
    times, values = [], []
    for _ in range(100):
        integrator.step(40)
        times.append(context.getState().getTime().value_in_unit(unit.picosecond))
        values.append(integrator.conservedQuantity(context))
    slope = np.polyfit(times, values, 1)[0] / len(positions)
    assert abs(slope) < 0.001  # kJ/mol per atom and ps


@pytest.mark.parametrize(
    ("make", "gradient"),
    [
        (VerletLearningIntegrator, "collective"),
        (VerletLearningIntegrator, "mutual"),
        (lambda dt: NoseHooverLearningIntegrator(300.0, 10.0, dt), "agent"),
        (lambda dt: NoseHooverLearningIntegrator(300.0, 10.0, dt), "collective"),
        (lambda dt: DescentLearningIntegrator(dt, 0.02), "mutual"),
    ],
    ids=["verlet, collective", "verlet, mutual", "nose-hoover, agent", "nose-hoover, collective", "descent, mutual"],
)
def test_platforms_agree_after_fifty_steps(make, gradient):
    ends = {}
    for platform, precision in (("Reference", None), ("CPU", None), ("OpenCL", "double"), ("OpenCL", "single")):
        system, positions = water_system(gradient)
        integrator = make(0.5e-3)
        context = make_context(system, integrator, positions, platform, precision)
        context.setVelocities(thermal(system, 300.0))
        integrator.step(50)
        ends[platform, precision] = positions_of(context)
    for (platform, precision), end in ends.items():
        tolerance = 1e-4 if precision == "single" else 1e-6
        assert np.abs(end - ends["Reference", None]).max() < tolerance, platform
    assert np.abs(ends["Reference", None] - positions).max() > 1e-4
