"""The scripts about observables and few frames: what they take for one piece of work."""

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openmm_duality.units import BOLTZMANN
from tests.observables import made

SCRIPTS = Path(__file__).parents[2] / "scripts"


def script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(SCRIPTS / f"{name}.py"))


def windows(folder: Path, seeds: list[int], bond: float = 0.1) -> None:
    """Windows as `comparison_runs.py` writes them."""
    folder.mkdir(parents=True)
    for k, seed in enumerate(seeds):
        frames = made.water(120, seed, bond=bond)
        heat = np.sqrt(BOLTZMANN * 300.0 / frames.masses)[:, None]
        velocities = np.random.default_rng(seed).normal(size=frames.positions.shape) * heat
        centre = np.einsum("i,tix->tx", frames.masses / frames.masses.sum(), velocities)
        replace(frames, velocities=velocities - centre[:, None]).save(folder / f"window-{k:02d}.safetensors")


def test_rates_are_those_of_equal_and_of_different_windows(tmp_path, monkeypatch):
    windows(tmp_path / "300K", [1, 2, 3])
    windows(tmp_path / "longer bonds", [4], bond=0.104)
    monkeypatch.setattr("sys.argv", ["comparison_rates.py", str(tmp_path), "-o", str(tmp_path / "rates.json")])
    script("comparison_rates")["main"]()
    found = json.loads((tmp_path / "rates.json").read_text())
    assert {name: row["pairs"] for name, row in found["rates"].items()} == {"300K": 3, "longer bonds": 3}
    assert found["rates"]["300K"]["differs"] == 0
    assert found["rates"]["longer bonds"]["differs"] == 100
    assert found["rates"]["longer bonds"]["structure and motion, Holm"] == 100
    assert {"g(r) O-O", "H-O length", "mean temperature"} <= set(found["levels"])
    assert all(row[0] == 100 for row in found["levels"].values())


def test_one_window_is_no_pair(tmp_path, monkeypatch, capsys):
    windows(tmp_path / "300K", [1])
    monkeypatch.setattr("sys.argv", ["comparison_rates.py", str(tmp_path)])
    with pytest.raises(SystemExit):
        script("comparison_rates")["main"]()
    assert "two windows at least" in capsys.readouterr().err


def test_kept_results_are_those_of_the_same_work():
    digest_of = script("delta_learning")["digest_of"]
    work = (0.49, "form: moment", "a sha256:1")
    assert digest_of(*work) == digest_of(*work)
    others = ((0.5, *work[1:]), (0.49, "form: pair", work[2]), (*work[:2], "b"))
    assert len({digest_of(*work), *(digest_of(*other) for other in others)}) == 4
