"""A run goes on only with the losses and the forces that it began with."""

from __future__ import annotations

import json
from dataclasses import replace

import openmm as mm
import pytest

from openmm_duality.dynamics import LangevinLearningIntegrator, create_system, create_topology, simulate
from openmm_duality.errors import DualityError
from openmm_duality.losses.forms import form_of
from openmm_duality.lowering import lower, select_backend
from openmm_duality.lowering.force_identity import identify_forces
from tests.systems import CELL, random_losses, random_positions, random_species, with_gradient

SPECIES = random_species(12)
START = random_positions(12, CELL, least=0.3)
LOSSES = random_losses("quadratic", "collective")


def run(directory, losses=LOSSES, species=SPECIES, precision="double", steps=4, change=lambda system: None):
    topology = create_topology(species, cell=CELL)
    system = create_system(losses, topology, precision=precision)
    change(system)
    integrator = LangevinLearningIntegrator(50.0, 50.0, 0.0005)
    return simulate(
        system,
        topology,
        START,
        integrator,
        directory,
        steps=steps,
        report_interval=2,
        platform="Reference",
        seed=1,
        progress=False,
    )


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    return run(tmp_path_factory.mktemp("identity") / "run").directory


def other_weight(losses):
    weights = {rank: w.copy() for rank, w in losses.weights.items()}
    weights[0][0, 1, 1] *= 1 + 1e-12
    return replace(losses, weights=weights)


def test_the_record_says_what_acts(begun):
    record = json.loads((begun / "run.json").read_text())
    assert record["losses"] == {"sha256": LOSSES.sha256()}
    assert (record["loss_gradient"], record["loss_precision"]) == ("collective", "double")
    assert record["loss_backend"] == select_backend()[0]
    assert record["forces_not_hashed"] == []
    assert run(begun, steps=6).resumed_from == 4
    renamed = replace(LOSSES, metadata={"name": "the same numbers"}, bond_lengths={("Ar", "Kr"): 0.1})
    assert run(begun, renamed, steps=8).resumed_from == 6


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"losses": random_losses("quadratic", "collective", seed=1)}, "losses differs"),
        ({"losses": other_weight(LOSSES)}, "losses differs"),
        ({"losses": replace(LOSSES, core_strength=2 * LOSSES.core_strength)}, "losses differs"),
        ({"losses": with_gradient(LOSSES, "agent")}, 'loss_gradient was "collective" and is now "agent"'),
        ({"precision": "single"}, 'loss_precision was "double" and is now "single"'),
        ({"change": lambda system: system.addForce(mm.CMMotionRemover(7))}, "other_forces differs"),
        ({"change": lambda system: system.setParticleMass(0, 21.0)}, "other_forces differs"),
    ],
)
def test_a_run_is_not_resumed_with_another_model(begun, change, word):
    before = {path.name: path.read_bytes() for path in begun.iterdir()}
    with pytest.raises(DualityError, match=word):
        run(begun, steps=40, **change)
    assert {path.name: path.read_bytes() for path in begun.iterdir()} == before


def test_who_is_who_belongs_to_the_force():
    """Which atom has which species, and which atoms there are, beside the identity of the losses themselves."""
    swapped = tuple(reversed(SPECIES))
    assert swapped != SPECIES
    topology = create_topology(SPECIES, cell=CELL)
    every, turned = range(len(SPECIES)), list(reversed(range(len(SPECIES))))
    records = [
        identify_forces(system)
        for system in (
            create_system(LOSSES, topology),
            create_system(LOSSES, create_topology(swapped, cell=CELL)),
            create_system(LOSSES, topology, particles=every[:-1]),
            create_system(LOSSES, topology, particles=turned),
            create_system(LOSSES, topology, particles=every),
        )
    ]
    assert {record["losses"]["sha256"] for record in records} == {LOSSES.sha256()}
    atoms = [record["loss_atoms"]["sha256"] for record in records]
    assert atoms[0] == atoms[-1]
    assert len(set(atoms)) == len(atoms) - 1


def test_forces_of_openmm_are_known_by_their_parameters():
    def harmonic(stiffness):
        system = mm.System()
        system.addParticle(1.0)
        system.addParticle(1.0)
        force = mm.HarmonicBondForce()
        force.addBond(0, 1, 0.1, stiffness)
        system.addForce(force)
        return identify_forces(system)

    assert harmonic(1000.0) == harmonic(1000.0)
    assert harmonic(1000.0) != harmonic(1001.0)
    assert harmonic(1000.0)["losses"] == {"sha256": None}


def test_the_ranks_are_a_part_of_the_hash():
    """Equal numbers on other ranks give other forces."""
    one, other = (replace(random_losses("moment, rank 1"), form=form_of("moment", [rank])) for rank in (1, 2))
    other = replace(other, weights={2: one.weights[1]})
    assert one.sha256() != other.sha256()


def test_a_force_that_cannot_be_compared_is_named():
    system = create_system(LOSSES, create_topology(SPECIES, cell=CELL))
    stranger = lower(LOSSES, SPECIES)
    stranger.setName("a stranger")
    backend = type(stranger).__name__
    system.addForce(stranger)
    assert identify_forces(system)["forces_not_hashed"] == (["a stranger"] if backend == "TorchForce" else [])


@pytest.mark.parametrize("barostat", [mm.MonteCarloBarostat, mm.MonteCarloAnisotropicBarostat])
def test_a_barostat_does_not_run_on_agent_losses(tmp_path, barostat):
    pressure = 1.0 if barostat is mm.MonteCarloBarostat else mm.Vec3(1, 1, 1)

    def with_barostat(system):
        system.addForce(barostat(pressure, 50.0))

    with pytest.raises(DualityError, match="a barostat needs a potential"):
        run(tmp_path / "agent", with_gradient(LOSSES, "agent"), change=with_barostat)
    assert not (tmp_path / "agent").exists()
    assert run(tmp_path / "collective", change=with_barostat).status == "finished"
