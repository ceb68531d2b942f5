"""Any legal cell, as CP2K may have it, becomes one that OpenMM takes, and the physics stays the same."""

from __future__ import annotations

import json

import ase
import ase.io
import numpy as np
import openmm as mm
import pytest
from click.testing import CliRunner
from openmm import unit
from scipy.spatial.transform import Rotation

from openmm_duality.cli import main
from openmm_duality.dynamics import create_system, create_topology, read_start
from openmm_duality.dynamics.structures import Start
from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import has_openmm_form, openmm_form, volume
from openmm_duality.losses import evaluate_agents
from openmm_duality.reference.frames import Frames
from tests.dynamics.systems import make_context
from tests.reference.conftest import INPUT
from tests.systems import TRICLINIC, random_losses, random_positions, random_species
from tests.water import liquid, water_losses

TURN = Rotation.from_euler("xyz", [0.4, -1.1, 2.3]).as_matrix()
HEXAGONAL = 1.4 * np.array([[1.0, 0.0, 0.0], [-0.5, np.sqrt(0.75), 0.0], [0.0, 0.0, 1.0]])
CELLS = {
    "reduced": TRICLINIC,
    "turned": TRICLINIC @ TURN,
    "left-handed": TRICLINIC[[1, 0, 2]],
    "left-handed and turned": -TRICLINIC @ TURN,
    "along -x": np.diag([-1.4, -1.3, 1.35]),
    "cyclic": TRICLINIC[[2, 0, 1]],
    "not reduced": np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]]) @ TRICLINIC,
    "hexagonal": HEXAGONAL,
    "hexagonal turned": HEXAGONAL @ TURN,
    "hexagonal, 60 degrees": np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]]) @ HEXAGONAL @ TURN,
}


@pytest.mark.parametrize("cell", [*CELLS.values(), np.array([[1, 0, 0], [1, 1, 0], [-2, 3, 1]]) @ TRICLINIC])
def test_the_form_is_one_of_the_same_lattice_without_mirroring(cell):
    new, rotation = openmm_form(cell)
    assert has_openmm_form(new)
    mm.System().setDefaultPeriodicBoxVectors(*new)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    whole = new @ np.linalg.inv(cell @ rotation)
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-9)
    assert volume(new) == pytest.approx(volume(cell))


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_forces_of_a_start_are_the_rotated_forces_of_its_frame(cell):
    species, losses = random_species(40), random_losses("moment", "collective", cutoff=0.38)
    positions = random_positions(40, cell, least=0.15)
    frames = Frames(species, np.ones(40), positions[None], np.zeros(1), np.arange(1), cells=cell[None])
    start = read_start(frames)
    rotation = openmm_form(cell)[1]
    expected = evaluate_agents(losses, positions, species, cell).forces @ rotation
    np.testing.assert_allclose(
        evaluate_agents(losses, start.positions, species, start.cell).forces, expected, atol=1e-7
    )
    topology = create_topology(species, cell=start.cell)
    context = make_context(create_system(losses, topology), mm.VerletIntegrator(0.001), start.positions)
    forces = context.getState(forces=True).getForces(asNumpy=True)
    forces = forces.value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    np.testing.assert_allclose(forces, expected, atol=1e-6 * np.abs(expected).max())


def test_files_and_supercells_come_in_the_form_too(tmp_path):
    cell = CELLS["left-handed and turned"]
    positions = random_positions(5, cell)
    ase.io.write(tmp_path / "a.xyz", ase.Atoms("H5", 10 * positions, cell=10 * cell, pbc=True), format="extxyz")
    start = read_start(tmp_path / "a.xyz")
    assert has_openmm_form(start.cell)
    skew = Start(start.positions, start.species, np.array([[1.0, 0, 0], [0.45, 1.0, 0], [0, 0, 1.0]]))
    many = skew.repeated((1, 3, 1))
    assert has_openmm_form(many.cell)
    assert volume(many.cell) == pytest.approx(3.0)
    np.testing.assert_allclose(many.positions[5:10] - many.positions[:5], np.tile([0.45, 1.0, 0.0], (5, 1)))


@pytest.mark.parametrize("kind", ["turned", "left-handed", "not reduced"])
def test_a_topology_says_which_cells_it_takes(kind):
    with pytest.raises(DualityError, match=r"a along x, b in the xy plane.*read_start"):
        create_topology(("Ar",), cell=CELLS[kind])


def test_a_left_handed_cell_of_cp2k_runs_from_the_command_line(tmp_path):
    frames = liquid()[1][:1]
    cell = (frames.cells[0] @ TURN)[[1, 0, 2]]
    rows = [
        f"{symbol} {x:.10f} {y:.10f} {z:.10f}"
        for symbol, (x, y, z) in zip(frames.species, 10 * frames.positions[0] @ TURN, strict=True)
    ]
    head = f"{len(rows)}\n i =        0, time =        0.000, E =       -17.0\n"
    (tmp_path / "w-pos-1.xyz").write_text(head + "\n".join(rows) + "\n")
    vectors = "\n".join(
        f"{name} " + " ".join(map(repr, map(float, 10 * v))) for name, v in zip("ABC", cell, strict=True)
    )
    (tmp_path / "w.inp").write_text(INPUT.replace("ABC 10.0 11.0 12.0", vectors))
    losses = water_losses("collective")
    losses.save(tmp_path / "m.safetensors")
    arguments = ("--start", tmp_path, "-o", tmp_path / "run", "--time", "2 fs", "--report", "1 fs", "--platform", "CPU")
    result = CliRunner().invoke(main, ["simulate", str(tmp_path / "m.safetensors"), *map(str, arguments)])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert has_openmm_form(np.array(record["cell_nm"]))
    assert record["molecules"] == 64


def test_a_flat_cell_is_refused():
    with pytest.raises(DualityError, match="no volume"):
        openmm_form(np.array([[1.0, 0, 0], [0, 1.0, 0], [1.0, 1.0, 0]]))
