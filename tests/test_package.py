"""The package as a whole: quick to import, one way for data, every public name there."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import openmm_duality

ROOT = Path(openmm_duality.__file__).parent
ROOMS = (
    "geometry",
    "reference",
    "cp2k",
    "invariants",
    "losses",
    "inference/equations",
    "inference/uncertainty",
    "inference",
    "lowering/fused",
    "lowering",
    "dynamics",
    "learning",
    "observables",
    "benchmark",
    "report",
    "verbs",
    "cli",
)


def test_import_is_quick_and_brings_neither_torch_nor_matplotlib():
    script = """
import sys, time
begin = time.perf_counter()
import openmm_duality
seconds = time.perf_counter() - begin
heavy = {"torch", "matplotlib", "mdtraj", "openmmtorch"} & set(sys.modules)
assert not heavy, heavy
assert seconds < 2.0, seconds
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_inference_and_evaluation_need_no_torch():
    script = """
import sys
sys.modules["torch"] = None  # as if it were not installed
import openmm_duality as duality
from tests.systems import labelled, random_frames, random_losses
losses = random_losses("pair", "collective", ("Ar", "Kr"))
frames = labelled(random_frames(3, least=0.2), losses)
found = duality.infer(frames, form="pair", cutoff=0.5, ridge=1e-6, curvature=0.0, pair_functions=5, intervals=60)
print(duality.evaluate(found, frames))
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("name", openmm_duality.__all__)
def test_public_names_are_there_and_say_what_they_are(name):
    assert getattr(openmm_duality, name).__doc__
    assert name in dir(openmm_duality)


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="nonsense"):
        openmm_duality.nonsense  # noqa: B018


def imported_rooms(source):
    """Rooms that a module imports: by their own names, through the package, or by a public name of the package."""
    tree, package, names = ast.parse(source), {"openmm_duality"}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
            package |= {alias.asname for alias in node.names if alias.name == "openmm_duality" and alias.asname}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in package:
            names.append(f"openmm_duality.{node.attr}")
    parts = [name.split(".")[1] for name in names if name.startswith("openmm_duality.")]
    return {openmm_duality._HOME.get(part, part) for part in parts}


@pytest.mark.parametrize("room", ROOMS[:-1])
def test_nothing_imports_a_room_below_its_own(room):
    below = ROOMS[ROOMS.index(room) + 1 :]
    for path in (ROOT / room).glob("*.py"):
        assert not imported_rooms(path.read_text()) & set(below), path.name


@pytest.mark.parametrize(
    "source",
    [
        "from openmm_duality.dynamics.systems import create_system",
        "import openmm_duality.dynamics",
        "from openmm_duality import dynamics",
        "from openmm_duality import create_system",
        "import openmm_duality\nopenmm_duality.create_system",
        "import openmm_duality as duality\ndef f():\n    import math\n    return duality.dynamics",
        "if True:\n    from openmm_duality import simulate as s",
    ],
)
def test_every_way_of_importing_a_room_is_seen(source):
    assert imported_rooms(source) == {"dynamics"}
