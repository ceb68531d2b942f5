"""Frames for the motion of a reference: from a DCD file beside its CP2K project, and from saved frames."""

from pathlib import Path

import numpy as np
import pytest
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.observables import read_dynamics
from tests.observables import made


def project(folder: Path) -> Path:
    """A CP2K project of two molecules, with every fourth of forty steps in a DCD file of its own."""
    source = made.water(10, 1, n_molecules=2)
    edge = f"{10 * made.EDGE:.6f}"
    (folder / "w.inp").write_text(
        "&GLOBAL\n PROJECT w\n&END GLOBAL\n&MOTION\n &MD\n  TIMESTEP 0.5\n &END MD\n&END MOTION\n"
        f"&FORCE_EVAL\n &SUBSYS\n  &CELL\n   ABC {edge} {edge} {edge}\n  &END CELL\n &END SUBSYS\n&END FORCE_EVAL\n"
    )
    blocks = [
        f"{source.n_atoms}\n i = {4 * t}, time = {2.0 * t:.3f}, E = 0.0\n"
        + "".join(
            f"{symbol} {x:.8f} {y:.8f} {z:.8f}\n"
            for symbol, (x, y, z) in zip(source.species, 10 * source.positions[t], strict=True)
        )
        for t in range(len(source))
    ]
    (folder / "w-pos-1.xyz").write_text("".join(blocks))
    made.write_dcd(folder / "often.dcd", source.positions, source.cells)
    return folder / "often.dcd"


def test_a_dcd_beside_its_project_is_read_at_the_time_that_is_given(tmp_path):
    found = read_dynamics(project(tmp_path), 2 * unit.femtosecond)
    assert np.diff(found.times) == pytest.approx(0.002)
    assert found.species == ("O", "H", "H") * 2
    assert found.positions == pytest.approx(made.water(10, 1, n_molecules=2).positions, abs=1e-6)


def test_other_data_are_read_as_ever(tmp_path):
    made.water(10, 2).save(tmp_path / "saved.safetensors")
    found = read_dynamics(tmp_path / "saved.safetensors")
    assert found.times == pytest.approx(made.water(10, 2).times)


@pytest.mark.parametrize("every", [0, -1.0, "0 fs"])
def test_a_time_between_frames_is_above_zero(tmp_path, every):
    with pytest.raises(DualityError, match="above zero"):
        read_dynamics(project(tmp_path), every)


def test_a_missing_dcd_is_named(tmp_path):
    with pytest.raises(DualityError, match=r"nothing\.dcd"):
        read_dynamics(tmp_path / "nothing.dcd")
