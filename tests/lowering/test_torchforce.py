"""Files that a plain OpenMM script loads through openmm-torch (collected where that is installed)."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from openmm_duality.dynamics.systems import create_system, create_topology
from openmm_duality.losses import evaluate_agents
from openmm_duality.lowering import export_system, export_torchscript
from tests.systems import CELL, random_losses, random_positions, random_species, rms

SPECIES = random_species(20)

PLAIN = """
import sys
import torch
import numpy as np, openmm as mm
from openmmtorch import TorchForce

def forces(system):
    context = mm.Context(system, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName("CPU"))
    context.setPositions(np.load("positions.npy"))
    state = context.getState(forces=True)
    return np.array(state.getForces(asNumpy=True)._value)

system = mm.XmlSerializer.deserialize(open("system.xml").read())
other = mm.System()
for k in range(system.getNumParticles()):
    other.addParticle(system.getParticleMass(k))
other.setDefaultPeriodicBoxVectors(*system.getDefaultPeriodicBoxVectors())
force = TorchForce("losses.pt")
force.setOutputsForces(True)
force.setUsesPeriodicBoundaryConditions(True)
other.addForce(force)
np.save("from_xml.npy", forces(system))
np.save("from_pt.npy", forces(other))
assert "openmm_duality" not in sys.modules
"""


def test_a_plain_script_loads_the_exported_files(tmp_path):
    losses = random_losses("quadratic", "mutual")
    positions = random_positions(len(SPECIES), CELL)
    np.save(tmp_path / "positions.npy", positions)
    topology = create_topology(SPECIES, cell=CELL)
    system = create_system(losses, topology, backend="torchscript", precision="double")
    export_system(system, tmp_path / "system.xml")
    export_torchscript(losses, SPECIES, tmp_path / "losses.pt")
    subprocess.run([sys.executable, "-I", "-c", PLAIN], cwd=tmp_path, check=True)
    expected = evaluate_agents(losses, positions, SPECIES, CELL).forces
    for name in ("from_xml", "from_pt"):
        assert np.abs(np.load(tmp_path / f"{name}.npy") - expected).max() < 1e-9 * rms(expected)
