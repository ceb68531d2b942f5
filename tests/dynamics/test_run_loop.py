"""The reason that a run gives when a learned force raises an error."""

from __future__ import annotations

from openmm_duality.dynamics import NoseHooverLearningIntegrator, create_system, create_topology, simulate
from tests.systems import CELL, SPECIES, random_frames, random_losses


def test_positions_that_overflow_stop_the_run_in_one_line(tmp_path):
    """The traceback of the losses stays out of it."""
    frames = random_frames(1, n_atoms=12, least=0.3)
    topology = create_topology(frames.species, cell=CELL)
    result = simulate(
        create_system(random_losses("pair", "collective", SPECIES[:2]), topology),
        topology,
        frames.positions[0],
        NoseHooverLearningIntegrator(300.0, 10.0, 1e9),
        tmp_path / "run",
        steps=2000,
        report_interval=10,
        platform="Reference",
        seed=1,
        progress=False,
    )
    assert result.status == "stopped"
    assert result.reason.startswith("OpenMM failed: the position of atom 0 is not a finite number")
    assert "\n" not in result.reason
