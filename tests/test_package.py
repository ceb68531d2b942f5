"""The package: a quick import, a strict order of imports, public names for users and type checkers."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scipy.sparse import csgraph, csr_matrix

import openmm_duality

ROOT = Path(openmm_duality.__file__).parent
MAIN = "openmm_duality"
GROUND = (
    "bounds",
    "console",
    "container",
    "errors",
    "files",
    "parallel",
    "progress",
    "schema",
    "system_memory",
    "units",
    "version",
)
ROOMS = (
    "machine_code",
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
    "integrations",
    "verbs",
    "cli",
)
MOST_LINES = 400


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
sys.modules["torch"] = None  # simulates a missing installation
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


def module_name(path):
    """Dotted name within the package; for an ``__init__`` that of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"}


def room_of(module):
    """The innermost subpackage of a module; empty for top-level modules."""
    holders = [room for room in ROOMS if f"{module}.".startswith(f"{room.replace('/', '.')}.")]
    return max(holders, key=len, default="")


def imported_modules(source):
    """Modules imported anywhere in a source, by their own names or through public names of the package."""
    tree, aliases, names = ast.parse(source), {MAIN}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not used"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
            aliases |= {alias.asname for alias in node.names if alias.name == MAIN and alias.asname}
    names += [
        f"{MAIN}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases
    ]
    below = [name.removeprefix(f"{MAIN}.") for name in names if name.startswith(f"{MAIN}.")]
    return {innermost_module(openmm_duality._SUBPACKAGE_OF.get(name, name)) for name in below} - {""}


def innermost_module(name):
    """The module that a dotted name denotes or belongs to; empty for an attribute of the package itself."""
    while name and name not in PATHS:
        name = name.rpartition(".")[0]
    return name


GRAPH = {module: imported_modules(path.read_text()) for module, path in PATHS.items()}


def test_every_module_has_its_place():
    assert {module for module in PATHS if not room_of(module)} == set(GROUND)
    assert {room.replace("/", ".") for room in ROOMS} <= set(PATHS)


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_a_room_imports_only_rooms_above_it(room):
    order = ("", *ROOMS)
    below = order[order.index(room) + 1 :]
    wrong = [
        f"{module} -> {imported}"
        for module, imports in GRAPH.items()
        for imported in sorted(imports)
        if room_of(module) == room and room_of(imported) in below
    ]
    assert not wrong, wrong


def test_only_the_command_line_imports_the_public_names():
    """They stand above all rooms."""
    public = re.compile(rf"^\s*(import {MAIN}( as \w+)?$|from {MAIN} import )", re.MULTILINE)
    assert {room_of(module) for module, path in PATHS.items() if public.search(path.read_text())} == {"verbs", "cli"}


def test_modules_import_each_other_in_no_circle():
    modules = list(GRAPH)
    links = [[other in GRAPH[module] for other in modules] for module in modules]
    label = csgraph.connected_components(csr_matrix(links), connection="strong")[1].tolist()
    circles = [[m for m, n in zip(modules, label, strict=True) if n == k] for k in set(label) if label.count(k) > 1]
    assert not circles, circles


@pytest.mark.parametrize("package", [module for module, path in PATHS.items() if path.stem == "__init__"])
def test_no_module_is_hidden_by_a_function_of_its_name(package):
    modules = {module.rpartition(".")[2] for module in PATHS if module.rpartition(".")[0] == package}
    tree = ast.parse(PATHS[package].read_text())
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if f"{node.module}.{alias.name}".removeprefix(f"{MAIN}.") not in PATHS
    }
    names |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert not names & modules


def test_no_module_is_hidden_by_a_public_name():
    assert not openmm_duality._SUBPACKAGE_OF.keys() & {module for module in PATHS if "." not in module}


def test_modules_are_short():
    lines = {module: len(path.read_text().splitlines()) for module, path in PATHS.items()}
    assert not {module: n for module, n in lines.items() if n >= MOST_LINES}


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
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from openmm_duality.dynamics import Limits",
    ],
)
def test_every_way_of_importing_a_room_is_seen(source):
    assert {room_of(module) for module in imported_modules(source)} == {"dynamics"}


def test_the_module_behind_a_name_is_found():
    assert imported_modules("from openmm_duality.inference.equations import layout") == {"inference.equations.layout"}
    assert imported_modules("from openmm_duality.geometry.cells import volume") == {"geometry.cells"}
    assert imported_modules("from openmm_duality import __version__") == set()
    assert room_of("inference.equations.layout") == "inference/equations"
    assert room_of("inference.fitting") == room_of("inference") == "inference"


def test_type_checkers_see_the_public_names():
    tree = ast.parse((ROOT / "__init__.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname: node.module for node in imports for alias in node.names if alias.name == alias.asname}
    assert seen.pop("__version__") == f"{MAIN}.version"
    assert seen == {name: f"{MAIN}.{room}" for name, room in openmm_duality._SUBPACKAGE_OF.items()}


USER = """
import openmm_duality as duality
reveal_type(duality.infer)
duality.infer(progress="no")
duality.infr
"""


def test_a_user_who_checks_types_has_mistakes_pointed_out(tmp_path):
    (tmp_path / "user.py").write_text(USER)
    options = ("--cache-dir", tmp_path / "cache", "--config-file", ROOT.parent / "pyproject.toml")
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *options, tmp_path / "user.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    revealed, *errors, _ = result.stdout.splitlines()
    assert "def (" in revealed
    assert "AgentLosses" in revealed
    assert [error.split("[")[-1] for error in errors] == ["call-arg]", "arg-type]", "attr-defined]"]
