"""The reason that a run gives when a learned force raises an error."""

from __future__ import annotations

import numpy as np
from openmm import unit

from openmm_duality.dynamics import NoseHooverLearningIntegrator, add_barostat, create_system, create_topology, simulate
from tests.systems import CELL, SPECIES, random_frames, random_losses


def test_a_box_that_shrinks_below_twice_the_cutoff_stops_the_run_in_one_line(tmp_path):
    """The traceback of the losses stays out of it."""
    losses = random_losses("pair", "collective", SPECIES[:2])
    frames = random_frames(1, n_atoms=12, least=0.3)
    cell = CELL * 1.001 * 2 * losses.cutoff / np.diag(CELL).min()
    topology = create_topology(frames.species, cell=cell)
    system = create_system(losses, topology)
    add_barostat(system, 1e6 * unit.bar, 300.0, frequency=1)
    result = simulate(
        system,
        topology,
        frames.positions[0] @ np.linalg.inv(CELL) @ cell,
        NoseHooverLearningIntegrator(300.0, 10.0, 0.0005),
        tmp_path / "run",
        steps=2000,
        report_interval=10,
        platform="Reference",
        seed=1,
        progress=False,
    )
    assert result.status == "stopped"
    assert result.reason.startswith("OpenMM failed: the cell is ")
    assert "less than twice the cutoff" in result.reason
    assert "\n" not in result.reason
