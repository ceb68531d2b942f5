"""The script that lets CP2K write every step, with the real CP2K."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np

import openmm_duality as duality
from openmm_duality.inference.equations.targets import samples

ROOT = Path(__file__).resolve().parents[2]


def test_cp2k_writes_every_step_and_its_accelerations_are_its_forces(tmp_path):
    folder = tmp_path / "run"
    subprocess.run(["bash", str(ROOT / "scripts" / "cp2k_every_step.sh"), str(folder), "6"], check=True, timeout=300)
    frames = duality.read(folder)
    assert len(frames) == 7
    assert np.allclose(np.diff(frames.times), 0.5e-3)
    (sample,) = samples(replace(frames, forces=None))
    forces = frames.forces[1]
    assert np.sqrt(np.mean((sample.target - forces) ** 2)) < 1e-4 * np.sqrt(np.mean(forces**2))
