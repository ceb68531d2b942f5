"""Every example script runs, with a small model and a few steps, and prints what it says it does."""

from __future__ import annotations

import re
import runpy
import sys

import pytest

from tests.water import EXAMPLES, small_water

SCRIPTS = sorted(EXAMPLES.glob("*.py"))
# steps, and what is printed; numbers are checked against limits
EXPECTED = {
    "large_box.py": ("2", r"512 molecules: (\S+) ms per step", [(0.0, 1e5)]),
    "mixed_system.py": ("5", r"molecule.* (\S+) and (\S+) Å", [(0.85, 1.1)] * 2),
    "npt.py": ("50", r"\n50,\S+,(\S+)", [(0.9, 1.1)]),
    "nvt.py": ("10", r"\n10,\S+,(\S+),", [(150.0, 450.0)]),
    "own_forces.py": ("10", r"O–O distance: (\S+) nm", [(0.2, 1.1)]),
    "own_observable.py": ("20", r"run: (\S+) ±.*\nreference: (\S+) ±", [(3.0, 6.0)] * 2),
    "path_integrals.py": ("20", r"of H: (\S+) Å\nradius of gyration of O: (\S+) Å", [(1e-3, 0.3), (1e-4, 0.1)]),
    "with_ase.py": ("100", r"O–H (\S+) Å, H–O–H (\S+)°", [(0.93, 0.99), (98.0, 112.0)]),
}


def test_every_script_is_tested_and_named():
    assert [path.name for path in SCRIPTS] == sorted(EXPECTED)
    readme = (EXAMPLES / "README.md").read_text()
    assert all(f"`{path.name}`" in readme for path in SCRIPTS)
    for path in SCRIPTS:
        assert f"python examples/{path.name} water.safetensors" in path.read_text()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "water.safetensors"
    small_water().save(path)
    return path


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example(script, model, tmp_path, monkeypatch, capfd):
    steps, pattern, limits = EXPECTED[script.name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENMM_DEFAULT_PLATFORM", "CPU")
    monkeypatch.setattr(sys, "argv", [str(script), str(model), steps])
    runpy.run_path(str(script), run_name="__main__")
    found = re.search(pattern, capfd.readouterr().out)
    assert found is not None
    for number, (low, high) in zip(found.groups(), limits, strict=True):
        assert low < float(number) < high
