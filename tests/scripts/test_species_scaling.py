"""The script that measures against the number of species: its potential, and a small run."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "species_scaling.py"


def test_forces_of_the_model_alloy_are_the_gradient_of_its_energy():
    script = runpy.run_path(str(SCRIPT))
    atoms, rng = script["alloy"](8), np.random.default_rng(0)
    atoms.positions += rng.normal(scale=0.15, size=atoms.positions.shape)
    forces = script["energy_and_forces"](atoms)[1]
    direction, energies = rng.normal(size=forces.shape), []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions += sign * 1e-5 * direction
        energies.append(script["energy_and_forces"](moved)[0])
    assert np.isclose(-(energies[0] - energies[1]) / 2e-5, (forces * direction).sum(), rtol=1e-6)
    assert np.allclose(forces.sum(axis=0), 0.0, atol=1e-10)


def test_a_point_for_every_form_and_number_of_species(tmp_path):
    options = ["--species", "1", "8", "--forms", "moment", "--frames", "3", "-o", str(tmp_path / "s")]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    one, eight = json.loads((tmp_path / "s.json").read_text())["points"]
    assert one["seconds"] > 0.0
    assert one["memory_mib"] > 0.0
    assert one["fastest"] > 0.0
    assert "seconds" not in eight  # too large to be inferred
    assert eight["coefficients"] > 100 * one["coefficients"]
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
