"""CP2K's own steps, with the real CP2K."""

from __future__ import annotations

import numpy as np
import pytest

from openmm_duality.benchmark.cp2k import STEPS, _input, time_cp2k
from openmm_duality.benchmark.water import water_box
from openmm_duality.reference.cp2k_input import read_input


def test_the_network_is_timed_step_by_step(monkeypatch):
    monkeypatch.setitem(STEPS, "nnp", (8, 3))  # fewer, for time
    row = time_cp2k("nnp", water_box(8), 8)
    assert row.error == ""
    assert (row.what, row.atoms) == ("cp2k-nnp", 24)
    steps, begin = STEPS["nnp"]
    assert len(row.blocks) == steps - begin
    assert min(row.blocks) > 0
    assert row.facts["version"].startswith("CP2K")


def test_without_cp2k_the_row_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    row = time_cp2k("nnp", water_box(8), 8)
    assert "apt-get install cp2k" in row.error
    assert row.ms_per_step is None


@pytest.mark.parametrize("method", ["nnp", "dft"])
def test_the_input_has_the_cell_and_the_step_of_the_benchmark(method, tmp_path):
    start = water_box(8)
    (tmp_path / "c.inp").write_text(_input(method, start, 15))
    found = read_input(tmp_path / "c.inp")
    np.testing.assert_allclose(found.cell, start.cell, atol=1e-9)
    assert found.timestep == pytest.approx(0.5e-3)
