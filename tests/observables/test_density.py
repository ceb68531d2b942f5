"""The density of water at 1 bar that CP2K gives, as docs/pressure.md quotes it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from openmm_duality.files import open_text
from openmm_duality.observables.statistics import series_estimate
from openmm_duality.units import DALTON_PER_NM3

ROOT = Path(__file__).resolve().parents[2]


def test_the_quoted_density_is_that_of_the_bundled_run():
    with open_text(ROOT / "examples" / "water64-npt" / "water64-npt-1.cell.xz") as file:
        rows = np.loadtxt(file)
    times, volumes = rows[:, 1] * 1e-3, rows[:, -1] * 1e-3  # ps, nm³
    density = series_estimate(64 * 18.01528 / volumes[times > 5.0] * DALTON_PER_NM3, 5)
    quoted = re.search(r"has a density of\s+\*\*([\d.]+) ± ([\d.]+) g/cm³", (ROOT / "docs" / "pressure.md").read_text())
    assert quoted is not None
    assert density.mean == pytest.approx(float(quoted[1]), abs=6e-4)
    assert 1.5 * density.error < float(quoted[2]) < 3.0 * density.error
