"""The script of the published data sets, on small data of the same layout."""

from __future__ import annotations

import json
import math
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "published_tables.py"


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def copper(n: int, seed: int) -> list[Any]:
    """Displaced and strained frames of a copper crystal, by ASE's effective medium theory."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        atoms.set_cell(atoms.cell * rng.uniform(0.97, 1.03), scale_atoms=True)
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        found.append(atoms)
    return found


def numbers(content: Any) -> list[float]:
    if isinstance(content, dict):
        return [x for value in content.values() for x in numbers(value)]
    if isinstance(content, list):
        return [x for value in content for x in numbers(value)]
    return [content] if isinstance(content, int | float) and not isinstance(content, bool) else []


def test_tables_of_what_is_there_with_finite_numbers(tmp_path):
    (tmp_path / "crystals").mkdir()
    ase.io.write(tmp_path / "crystals" / "Mo-training.xyz", copper(12, 1))
    ase.io.write(tmp_path / "crystals" / "Mo-test.xyz", copper(4, 2))
    done = run(tmp_path, "--size", "small", "--only", "Mo", "Si", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "Si: left out, because crystals/Si-training.xyz, crystals/Si-test.xyz is not in" in done.stdout
    content = json.loads((tmp_path / "out" / "published-small.json").read_text())
    (measured,) = content["sets"]
    assert measured["tests"]["test"]["frames"] == 4
    assert measured["tests"]["test"]["force_rmse"] >= measured["tests"]["test"]["force_mae"] > 0.0
    assert measured["microseconds_per_atom_and_step"] > 0.0
    assert all(map(math.isfinite, numbers(content)))
    table = (tmp_path / "out" / "published-small.md").read_text()
    assert table in done.stdout
    assert f"{measured['coefficients']:,}" in table
    assert table.count("as published") == 2


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_data_is_told_so(tmp_path, there, monkeypatch, capsys):
    folder = tmp_path if there else tmp_path / "nowhere"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(folder), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capsys.readouterr()
    assert ended.value.code not in (0, None)
    assert str(folder) in f"{ended.value.code} {printed.err}"
    assert printed.out.count("left out") == (4 if there else 0)
