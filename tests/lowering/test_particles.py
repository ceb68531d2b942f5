"""Losses that act on chosen particles of a System, by every back end: the others are not there for them."""

from __future__ import annotations

import numpy as np
import openmm as mm
import pytest
import torch

from openmm_duality.errors import DualityError
from openmm_duality.losses import GRADIENTS, evaluate_agents
from openmm_duality.lowering import export_torchscript, lower
from openmm_duality.lowering.fused.losses import FusedLosses, pack, unpacked
from openmm_duality.lowering.torchscript import compile_losses
from tests.lowering.platforms import BACKENDS, DOUBLE, context_of, energy_and_forces, in_every_cell
from tests.systems import CELL, TRICLINIC, covering, descended, random_losses, random_positions, random_species, rms

N = 40
PARTICLES = np.random.default_rng(1).permutation(N)[:30]  # in no order
SPECIES = random_species(len(PARTICLES))
OTHERS = np.setdiff1d(np.arange(N), PARTICLES)
EVERY_BACKEND = [*BACKENDS, *(f"fused-{name}" for name in BACKENDS)]
CELLS = {"triclinic": TRICLINIC, "open": None}


def positions_in(cell):
    return random_positions(N, CELL if cell is None else cell, least=0.13)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize(("form", "gradient", "platform", "precision"), covering(["coupled"], DOUBLE))
def test_forces_are_those_of_the_particles_alone(form, gradient, platform, precision, backend):
    losses = random_losses(form, gradient)
    choices = {"platform": platform, "precision": precision, "particles": PARTICLES, "n_atoms": N, "least": 0.13}
    for positions, cell, energy, forces in in_every_cell(losses, SPECIES, backend=backend, **choices):
        expected = evaluate_agents(losses, positions[PARTICLES], SPECIES, cell)
        assert np.abs(forces[PARTICLES] - expected.forces).max() < 1e-9 * rms(expected.forces)
        assert (forces[OTHERS] == 0.0).all()
        assert energy == pytest.approx(expected.energy, abs=1e-9 * np.abs(expected.losses).sum())


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_forces_are_central_differences(gradient, name, backend):
    """Of the sum of losses under `collective`, of what the atom descends under `agent` and `mutual`."""
    losses, cell, h = random_losses("moment", gradient), CELLS[name], 1e-6
    positions = positions_in(cell)
    force = lower(losses, SPECIES, particles=PARTICLES, periodic=cell is not None, backend=backend, precision="double")
    context = context_of(force, positions, cell)
    forces = energy_and_forces(context)[1]
    for number, axis in ((0, 0), (7, 1), (29, 2)):
        ends, atom = [], PARTICLES[number]
        for sign in (1, -1):
            moved = positions.copy()
            moved[atom, axis] += sign * h
            context.setPositions(moved)
            own = descended(losses, moved[PARTICLES], SPECIES, cell)[number]
            ends.append(energy_and_forces(context)[0] if losses.has_potential else own)
        assert (ends[1] - ends[0]) / (2 * h) == pytest.approx(forces[atom, axis], abs=1e-6 * rms(forces))
    moved = positions.copy()
    moved[OTHERS] += 0.05
    context.setPositions(moved)
    np.testing.assert_array_equal(energy_and_forces(context)[1], forces)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_a_copy_of_a_force_acts_on_the_same_particles(backend):
    losses, positions = random_losses("quadratic"), positions_in(CELL)
    force = lower(losses, SPECIES, particles=PARTICLES, backend=backend, precision="single")
    copy = mm.XmlSerializer.deserialize(mm.XmlSerializer.serialize(force))
    forces = energy_and_forces(context_of(copy, positions, CELL))[1]
    expected = evaluate_agents(losses, positions[PARTICLES], SPECIES, CELL).forces
    assert rms(forces[PARTICLES] - expected) < 1e-4 * rms(expected)
    assert (forces[OTHERS] == 0.0).all()


def test_all_particles_named_are_all_particles():
    losses, positions = random_losses("moment"), positions_in(CELL)[PARTICLES]
    for particles in (range(len(SPECIES)), np.arange(len(SPECIES), dtype=np.int32)):
        energy, forces = FusedLosses(losses, SPECIES, particles=particles)(positions, CELL)
        expected = FusedLosses(losses, SPECIES)(positions, CELL)
        assert energy == expected[0]
        np.testing.assert_array_equal(forces, expected[1])
        pair = (torch.tensor(positions), torch.tensor(CELL))
        for one, other in zip(
            compile_losses(losses, SPECIES, particles=particles)(*pair),
            compile_losses(losses, SPECIES)(*pair),
            strict=True,
        ):
            np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_file_of_the_module_acts_on_the_particles(tmp_path):
    losses, positions = random_losses("moment"), positions_in(CELL)
    export_torchscript(losses, SPECIES, tmp_path / "losses.pt", particles=PARTICLES)
    _, forces = torch.jit.load(str(tmp_path / "losses.pt"))(torch.tensor(positions), torch.tensor(CELL))
    expected = evaluate_agents(losses, positions[PARTICLES], SPECIES, CELL).forces
    assert np.abs(forces.numpy()[PARTICLES] - expected).max() < 1e-9 * rms(expected)
    assert (forces.numpy()[OTHERS] == 0.0).all()


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize(
    ("particles", "word"),
    [
        ((0, 2, 2), "atom 2 is there more than once"),
        ((0, -1, 2), "no atom -1"),
        ((0, 1), "2 indices were given with 3 species"),
        ((0.0, 1.0, 2.5), "whole numbers"),
        ([[0, 1, 2]], "whole numbers"),
        ((), "one or more"),
    ],
)
def test_wrong_particles_are_refused(particles, word, backend):
    with pytest.raises(DualityError, match=word):
        lower(random_losses("pair"), SPECIES[:3], particles=particles, backend=backend)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_a_particle_beyond_the_atoms_stops_the_run(backend):
    positions = positions_in(CELL)
    force = lower(random_losses("pair"), SPECIES[:3], particles=(0, 1, N), backend=backend)
    context = context_of(force, positions, CELL)
    for _ in range(2):
        with pytest.raises(Exception, match=f"act on atom {N}, and there are {N} atoms"):
            context.getState(forces=True)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_a_system_of_another_number_of_atoms_stops_the_run(backend):
    for number in (3, 5):
        context = context_of(
            lower(random_losses("pair"), SPECIES[:4], backend=backend), positions_in(CELL)[:number], CELL
        )
        for _ in range(2):
            with pytest.raises(Exception, match="4 atoms"):
                context.getState(forces=True)


def test_a_file_of_the_module_refuses_another_number_of_atoms(tmp_path):
    export_torchscript(random_losses("pair"), SPECIES[:4], tmp_path / "losses.pt")
    module = torch.jit.load(str(tmp_path / "losses.pt"))
    for number in (3, 5):
        with pytest.raises(torch.jit.Error, match=f"of 4 atoms, and there are {number}"):
            module(torch.tensor(positions_in(CELL)[:number]), torch.tensor(CELL))
        with pytest.raises(torch.jit.Error, match=f"of 4 atoms, and there are {number}"):
            module.virial(torch.tensor(positions_in(CELL)[:number]), torch.tensor(CELL))


def test_a_position_that_is_not_finite_is_that_of_the_atom():
    fused = unpacked(pack(random_losses("pair"), SPECIES, "double", PARTICLES))
    positions = positions_in(CELL)
    positions[PARTICLES[4], 2] = np.nan
    with pytest.raises(DualityError, match=f"atom {PARTICLES[4]} is not a finite number"):
        fused(positions, CELL)
