"""Systems written as XML and opened where nothing is loaded yet."""

from __future__ import annotations

import functools
import json
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import openmm as mm
import pytest

from openmm_duality import export_system, load_system
from openmm_duality.errors import DualityError
from openmm_duality.losses import evaluate_agents
from openmm_duality.lowering import lower
from openmm_duality.lowering.force_identity import identify_forces
from openmm_duality.lowering.pythonforce import check_pickle, compute
from tests.lowering.platforms import BACKENDS
from tests.systems import CELL, random_losses, random_positions, random_species, rms

SPECIES = random_species(20)
POSITIONS = random_positions(24, CELL)
PARTICLES = range(2, 22)
NEW_PROCESS = """
import json, sys
import openmm as mm
import openmm_duality as duality
from openmm_duality.lowering.force_identity import identify_forces
system = duality.load_system(sys.argv[1])
context = mm.Context(system, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName("Reference"))
context.setPositions(json.loads(sys.argv[2]))
forces = context.getState(forces=True).getForces(asNumpy=True)._value
threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
print(json.dumps({"forces": forces.tolist(), "identity": identify_forces(system), "threads": threads}))
"""


def system_of(losses, backend) -> mm.System:
    """Atoms with losses among some of them, and a spring."""
    system = mm.System()
    for _ in POSITIONS:
        system.addParticle(10.0)
    system.setDefaultPeriodicBoxVectors(*CELL)
    spring = mm.HarmonicBondForce()
    spring.addBond(0, 1, 0.1, 100.0)
    system.addForce(spring)
    system.addForce(lower(losses, SPECIES, particles=PARTICLES, backend=backend, precision="double"))
    return system


@pytest.mark.parametrize("backend", [*BACKENDS, *(f"fused-{name}" for name in BACKENDS)])
def test_a_system_opens_in_a_new_process(backend, tmp_path):
    """With its forces, and with the identity of its losses, by which runs are resumed and barostats refused."""
    losses = random_losses("moment", "mutual")
    system = system_of(losses, backend)
    export_system(system, tmp_path / "system.xml")
    command = [sys.executable, "-c", NEW_PROCESS, str(tmp_path / "system.xml"), json.dumps(POSITIONS.tolist())]
    several = {name: number for name, number in os.environ.items() if name != "OMP_NUM_THREADS"}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=several).stdout
    found = json.loads(output.splitlines()[-1])
    expected = evaluate_agents(losses, POSITIONS[PARTICLES], SPECIES, CELL).forces
    np.testing.assert_allclose(np.array(found["forces"])[PARTICLES], expected, atol=1e-9 * rms(expected))
    assert found["forces"][0] != [0.0, 0.0, 0.0]
    assert found["threads"] == (None if backend == "fused-pythonforce" else 1)
    assert found["identity"] == identify_forces(system)
    assert found["identity"]["loss_gradient"] == "mutual"


def test_what_is_no_system_is_refused(tmp_path):
    path = tmp_path / "s.xml"
    for content, word in (
        (None, "expected the XML of an OpenMM System"),
        ("<System", "expected the XML of an OpenMM System"),
        ("<State/>", "found that of 'State'"),
        ("<System version='1'><Forces><Force type='Wrong'/></Forces></System>", "cannot read this System"),
    ):
        if content is not None:
            path.write_text(content)
        with pytest.raises(DualityError, match=word):
            load_system(path)


class Evil:
    """What a pickle may do when it is read."""

    def __reduce__(self):
        return os.mkdir, ("never",)


@pytest.mark.parametrize(
    "function",
    [
        pickle.dumps(Evil()),
        pickle.dumps(functools.partial(os.mkdir, "never")),
        pickle.dumps(functools.partial(compute, Evil(), True)),
        pickle.dumps(compute),
        pickle.dumps({"no": "function"}),
        b"cut",
    ],
)
def test_python_functions_of_others_are_not_run(function, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DualityError, match=r"no losses of this package|not of this package"):
        check_pickle(function.hex(), "system.xml")
    assert not list(tmp_path.iterdir())
    for spoiled in ("", function.hex().upper() + "AA", " " + function.hex()):
        with pytest.raises(DualityError, match="hexadecimal"):
            check_pickle(spoiled, "system.xml")
    if not hasattr(mm, "PythonForce"):
        return
    system = system_of(random_losses("pair"), "fused-pythonforce")
    text = re.sub('function="[0-9a-f]*"', f'function="{function.hex()}"', mm.XmlSerializer.serialize(system))
    (tmp_path / "system.xml").write_text(text)
    with pytest.raises(DualityError, match="PythonForce"):
        load_system(tmp_path / "system.xml")
    assert [path.name for path in tmp_path.iterdir()] == ["system.xml"]
