"""Statistics of pair distances, and what is chosen and said by them."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from openmm_duality.inference import DataSet, Settings
from openmm_duality.inference.equations.adapted_design import adapted_design
from openmm_duality.inference.equations.pair_statistics import pair_statistics
from openmm_duality.invariants.radial import Grid
from openmm_duality.reference import Frames


@pytest.mark.parametrize(
    ("name", "lattice", "constant", "cutoff", "reach", "better"),
    [
        ("Si", "diamond", 5.43, 6.0, 5.0, None),
        ("Cs", "bcc", 6.14, 6.0, 6.0, "10 Å"),
        ("Cs", "bcc", 6.14, 10.0, 9.04, None),
    ],
)
def test_the_reach_of_channels_follows_the_nearest_neighbours(name, lattice, constant, cutoff, reach, better):
    atoms = bulk(name, lattice, a=constant, cubic=True)
    frames = Frames.from_ase([atoms, atoms])
    frames.positions[1] += 1e-3 * np.random.default_rng(0).normal(size=frames.positions[1].shape)
    settings, grid = Settings(form="channels", cutoff=0.1 * cutoff, size="small"), Grid(0.1 * cutoff, 240)
    statistics = pair_statistics([frames], (name,), grid)
    design = adapted_design([DataSet(frames)], settings, (name,), statistics, grid, 0)
    assert design.basis.reach == pytest.approx(0.1 * reach, abs=0.012)
    said = statistics.short_cutoff((name,), grid)
    assert said is None if better is None else better in said
