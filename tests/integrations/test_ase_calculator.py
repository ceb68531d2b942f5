"""The calculator of ASE: properties of its forces, and what ASE computes with it: molecules, phonons, dynamics."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import ase.build
import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.lj import LennardJones
from ase.filters import FrechetCellFilter
from ase.md.nptberendsen import NPTBerendsen
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.phonons import Phonons

from openmm_duality import DualityCalculator
from openmm_duality.errors import DualityError
from openmm_duality.inference import infer
from openmm_duality.losses import AgentLosses, evaluate_agents
from openmm_duality.reference import Frames
from openmm_duality.units import ANGSTROM, ELECTRONVOLT
from tests.systems import CELL, TRICLINIC, random_losses, random_positions, random_species, rms
from tests.water import liquid, small_water

FORCE = ELECTRONVOLT / ANGSTROM
N = 30
SPECIES = random_species(N)


def made(cell=TRICLINIC, pbc=True) -> Atoms:
    """Atoms at random."""
    positions = random_positions(N, TRICLINIC if cell is None else cell, least=0.14)
    atoms = Atoms(SPECIES, positions / ANGSTROM, pbc=pbc if cell is not None else False)
    atoms.set_cell(None if cell is None else cell / ANGSTROM)
    return atoms


@pytest.mark.parametrize("cell", [CELL, TRICLINIC, None], ids=["orthorhombic", "triclinic", "open"])
def test_results_are_those_of_the_reference_implementation(cell):
    losses, atoms = random_losses("moment"), made(cell)
    atoms.calc = DualityCalculator(losses)
    expected = evaluate_agents(losses, atoms.positions * ANGSTROM, SPECIES, cell)
    scale = np.abs(expected.losses).sum() / ELECTRONVOLT
    assert atoms.get_potential_energy() == pytest.approx(expected.energy / ELECTRONVOLT, abs=1e-10 * scale)
    np.testing.assert_allclose(atoms.get_forces() * FORCE, expected.forces, atol=1e-9 * rms(expected.forces))
    np.testing.assert_allclose(atoms.get_potential_energies() * ELECTRONVOLT, expected.losses, atol=1e-9 * scale)


@pytest.mark.parametrize("form", ["moment", "channels"])
def test_stresses_are_central_differences(form):
    atoms = made()
    atoms.calc = DualityCalculator(random_losses(form))
    expected = calculate_numerical_stress(atoms, eps=1e-5, force_consistent=True)
    np.testing.assert_allclose(atoms.get_stress(), expected, atol=1e-6 * rms(expected))
    slab = made(pbc=(True, True, False))
    slab.calc = atoms.calc
    with pytest.raises(PropertyNotImplementedError, match="periodic in all three"):
        slab.get_stress()


@pytest.mark.parametrize("pbc", [True, (True, True, False), (False, True, False), False])
def test_forces_are_central_differences(pbc):
    """Also where atoms are periodic in some directions only."""
    atoms = made(pbc=pbc)
    atoms.calc = DualityCalculator(random_losses("moment"))
    expected = calculate_numerical_forces(atoms, eps=1e-5, iatoms=[0, 7], force_consistent=True)
    np.testing.assert_allclose(atoms.get_forces()[[0, 7]], expected, atol=1e-6 * rms(atoms.get_forces()))
    assert np.abs(atoms.get_forces().sum(axis=0)).max() < 1e-10 * np.abs(atoms.get_forces()).sum()


def test_there_are_no_images_in_directions_without_periodicity():
    losses = random_losses("moment")
    slab = made(CELL, pbc=(True, True, False))
    wide = slab.copy()
    wide.pbc = True
    wide.cell[2] = [0.0, 0.0, 40.0]
    slab.calc, wide.calc = DualityCalculator(losses), DualityCalculator(losses)
    np.testing.assert_allclose(slab.get_forces(), wide.get_forces(), atol=1e-10 * rms(wide.get_forces()))
    whole = made(CELL)
    whole.calc = DualityCalculator(losses)
    assert rms(slab.get_forces() - whole.get_forces()) > 1e-2 * rms(whole.get_forces())


def test_energies_hold_the_constants_of_the_species_that_were_fitted():
    losses = random_losses("moment")
    constants = {name: -100.0 * (k + 1) for k, name in enumerate(losses.species)}
    fitted = replace(losses, metadata={**losses.metadata, "energy_constants": constants})
    bare, atoms = made(), made()
    bare.calc, atoms.calc = DualityCalculator(losses), DualityCalculator(fitted)
    expected = np.array([constants[name] for name in SPECIES]) / ELECTRONVOLT
    np.testing.assert_allclose(atoms.get_potential_energies() - bare.get_potential_energies(), expected, atol=1e-9)
    assert atoms.get_potential_energy() - bare.get_potential_energy() == pytest.approx(expected.sum())
    np.testing.assert_array_equal(atoms.get_forces(), bare.get_forces())


def test_one_calculator_serves_other_atoms():
    losses = random_losses("moment")
    calculator = DualityCalculator(losses)
    for atoms in (made(), made(CELL)[::-1], made(None)[:7]):
        atoms.calc = calculator
        expected = evaluate_agents(
            losses,
            atoms.positions * ANGSTROM,
            atoms.get_chemical_symbols(),
            atoms.cell * ANGSTROM if any(atoms.pbc) else None,
        )
        np.testing.assert_allclose(atoms.get_forces() * FORCE, expected.forces, atol=1e-9 * rms(expected.forces))
        np.testing.assert_allclose(atoms.get_potential_energies() * ELECTRONVOLT, expected.losses, atol=1e-6)


def test_species_may_differ_from_the_elements():
    losses = random_losses("pair", species=("OA", "OB"))
    atoms = Atoms("O2", positions=[[0, 0, 0], [0, 0, 2.0]])
    atoms.calc = DualityCalculator(losses, species=["OB", "OA"])
    expected = evaluate_agents(losses, atoms.positions * ANGSTROM, ["OB", "OA"])
    np.testing.assert_allclose(atoms.get_forces() * FORCE, expected.forces, atol=1e-9 * rms(expected.forces))
    with pytest.raises(DualityError, match="2 species for 4 atoms"):
        Atoms("O4", positions=np.arange(12.0).reshape(4, 3), calculator=atoms.calc).get_forces()
    atoms.calc = DualityCalculator(losses)
    with pytest.raises(DualityError, match="species OA, OB"):
        atoms.get_forces()


@pytest.mark.parametrize("gradient", ["agent", "mutual"])
def test_losses_without_a_potential_give_forces_and_no_energy(gradient):
    losses, atoms = random_losses("moment", gradient), made()
    atoms.calc = DualityCalculator(losses)
    expected = evaluate_agents(losses, atoms.positions * ANGSTROM, SPECIES, TRICLINIC)
    np.testing.assert_allclose(atoms.get_forces() * FORCE, expected.forces, atol=1e-9 * rms(expected.forces))
    for compute in (atoms.get_potential_energy, atoms.get_potential_energies):
        with pytest.raises(PropertyNotImplementedError):
            compute()


def test_the_uncertainty_is_that_of_the_committee(tmp_path):
    losses = small_water()
    losses.save(tmp_path / "water.safetensors")
    frames = liquid()[1][:1]
    atoms = frames.to_ase()[0]
    atoms.calc = DualityCalculator(tmp_path / "water.safetensors")
    members = [evaluate_agents(m, frames.positions[0], frames.species, frames.cell(0)).forces for m in losses.members()]
    expected = losses.committee.uncertainty(np.array(members), losses.index_of(frames.species))
    np.testing.assert_allclose(atoms.calc.get_property("uncertainty", atoms) * FORCE, expected, rtol=1e-6)
    assert "uncertainty" not in DualityCalculator(replace(losses, committee=None)).implemented_properties


def test_a_molecule_and_a_dimer_of_water():
    """A model of the liquid alone has the geometry and the hydrogen bond that were measured in the gas."""
    calculator = DualityCalculator(small_water())
    molecule = ase.build.molecule("H2O", calculator=calculator)
    BFGS(molecule, logfile=None).run(0.01, 100)
    assert np.abs(molecule.get_forces()).max() < 0.02
    assert molecule.get_distance(0, 1) == pytest.approx(0.957, abs=0.02)
    assert molecule.get_angle(1, 0, 2) == pytest.approx(104.5, abs=5.0)
    alone = molecule.get_potential_energy()
    dimer = molecule.copy()
    second = molecule.copy()
    second.translate([0.0, 0.0, -2.95])
    dimer += second
    dimer.calc = calculator
    BFGS(dimer, logfile=None).run(0.01, 200)
    assert dimer.get_distance(0, 3) == pytest.approx(2.98, abs=0.25)
    assert 0.05 < 2 * alone - dimer.get_potential_energy() < 0.35
    energy = dimer.get_potential_energy()
    dimer.rotate(40.0, [1.0, 2.0, 3.0])
    assert dimer.get_potential_energy() == pytest.approx(energy, abs=1e-9)
    dimer.positions[3:] += 20.0  # beyond the cutoff
    assert dimer.get_potential_energy() == pytest.approx(
        sum(Atoms(part, calculator=calculator).get_potential_energy() for part in (dimer[:3], dimer[3:])), abs=1e-9
    )


def lennard_jones() -> LennardJones:
    """Argon, smooth at its cutoff."""
    return LennardJones(sigma=3.4, epsilon=0.0104, rc=6.5, ro=5.0, smooth=True)


@cache
def argon() -> AgentLosses:
    """Losses inferred from strained and rattled crystals of Lennard-Jones argon."""
    rng, images = np.random.default_rng(0), []
    for k in range(8):
        atoms = ase.build.bulk("Ar", "fcc", a=5.25, cubic=True) * (2, 2, 2)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.uniform(-0.03, 0.03, (3, 3))), scale_atoms=True)
        atoms.rattle(0.2, seed=k)
        atoms.calc = lennard_jones()
        atoms.get_forces()
        images.append(atoms)
    choices = {"cutoff": 0.65, "pair_functions": 40, "ridge": 1e-9, "curvature": 0.0, "members": 0}
    return infer(Frames.from_ase(images), form="pair", **choices)


def test_a_cell_relaxes_to_that_of_the_law():
    edges = []
    for calculator in (DualityCalculator(argon()), lennard_jones()):
        crystal = ase.build.bulk("Ar", "fcc", a=5.35, cubic=True) * (2, 2, 2)
        crystal.set_cell(crystal.cell.array @ (np.eye(3) + 0.01 * np.eye(3, k=1)), scale_atoms=True)
        crystal.calc = calculator
        BFGS(FrechetCellFilter(crystal), logfile=None).run(1e-4, 200)
        assert np.abs(crystal.get_stress()).max() < 1e-5
        edges.append(crystal.cell.lengths() / 2)
    np.testing.assert_allclose(*edges, atol=0.005)


def test_dynamics_at_constant_pressure_finds_the_density_of_the_law():
    """Crystals of both laws at 20 K and no pressure, after the same dynamics from the same start."""
    volumes = []
    for calculator in (DualityCalculator(argon()), lennard_jones()):
        atoms = ase.build.bulk("Ar", "fcc", a=5.25, cubic=True) * (2, 2, 2)
        atoms.calc, found = calculator, []
        atoms.set_momenta(np.random.default_rng(1).normal(size=(32, 3)) * np.sqrt(39.95 * units.kB * 40.0))
        dynamics = NPTBerendsen(
            atoms,
            timestep=10.0 * units.fs,
            temperature_K=20.0,
            pressure_au=0.0,
            taut=0.5e3 * units.fs,
            taup=0.5e3 * units.fs,
            compressibility_au=0.5 / units.GPa,
        )
        dynamics.attach(lambda atoms=atoms, found=found: found.append(atoms.get_volume()), interval=5)
        dynamics.run(150)
        volumes.append(np.mean(found[10:]))
    assert volumes[0] == pytest.approx(volumes[1], rel=0.003)
    assert volumes[0] > 1.03 * (2 * 5.25) ** 3


def test_phonons_of_a_crystal(tmp_path):
    """Those of the law that the losses were inferred from; three acoustic modes have no energy at Γ."""
    crystal, bands = ase.build.bulk("Ar", "fcc", a=5.25), {}
    for name, calculator in (("losses", DualityCalculator(argon())), ("law", lennard_jones())):
        phonons = Phonons(crystal, calculator, supercell=(4, 4, 4), delta=0.02, name=str(tmp_path / name))
        phonons.run()
        phonons.read(acoustic=True)
        # Γ, X, L and half way to X and L: the waves that fit into the supercell
        waves = [[0, 0, 0], [0.5, 0, 0.5], [0.5, 0.5, 0.5], [0.25, 0, 0.25], [0.25, 0.25, 0.25]]
        bands[name] = 1e3 * phonons.band_structure(waves, verbose=False)
    assert np.abs(bands["losses"][0]).max() < 1e-4
    assert bands["losses"][1:].min() > 1.0  # no soft mode
    np.testing.assert_allclose(bands["losses"], bands["law"], atol=0.3)  # meV, of 8.5


def test_dynamics_conserves_the_energy():
    """The fluctuation of the energy falls with the square of the time step, so that it is the integrator's."""
    spread = []
    for femtoseconds, steps in ((10.0, 40), (5.0, 80)):
        atoms = ase.build.bulk("Ar", "fcc", a=5.25, cubic=True) * (2, 2, 2)
        atoms.rattle(0.1, seed=1)
        atoms.calc = DualityCalculator(argon())
        momenta = np.random.default_rng(2).normal(size=(len(atoms), 3)) * np.sqrt(39.95 * units.kB * 60.0)
        atoms.set_momenta(momenta - momenta.mean(axis=0))
        energies = []
        dynamics = VelocityVerlet(atoms, femtoseconds * units.fs)
        dynamics.attach(lambda atoms=atoms, energies=energies: energies.append(atoms.get_total_energy()))
        dynamics.run(steps)
        spread.append(float(np.std(energies)))
    assert spread[0] / len(atoms) < 1e-4
    assert spread[1] == pytest.approx(spread[0] / 4.0, rel=0.4)
