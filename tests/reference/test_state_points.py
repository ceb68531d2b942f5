"""State points and temperatures of CP2K projects, read and saved."""

from pathlib import Path

import pytest

from openmm_duality.reference.cp2k_input import read_input
from openmm_duality.reference.cp2k_project import read_cp2k
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.state_points import StatePoint
from tests.reference.conftest import EXAMPLES, INPUT


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("ENSEMBLE NVE\nTEMPERATURE 400", StatePoint("NVE")),
        ("ENSEMBLE NVT\nTEMPERATURE [K] 3.3D2", StatePoint("NVT", 330.0)),
        ("ENSEMBLE NVT", StatePoint("NVT", 300.0)),
        ("ENSEMBLE NVT\nANNEALING 1.0", StatePoint("NVT", 300.0)),
        ("ENSEMBLE NVT\n&THERMOSTAT\nREGION massive\n&END THERMOSTAT", StatePoint("NVT", 300.0, massive=True)),
        ("ENSEMBLE NVT\n&THERMOSTAT\nREGION GLOBAL\n&END THERMOSTAT", StatePoint("NVT", 300.0)),
        ("ENSEMBLE NVT\nANNEALING 0.99", None),
        ("ENSEMBLE NPT_I\n&BAROSTAT\nPRESSURE [GPa] 0.1\n&END BAROSTAT", StatePoint("NPT", 300.0, 1000.0)),
        ("ENSEMBLE REFTRAJ", None),
    ],
)
def test_the_state_point_is_that_of_the_input(tmp_path, lines, expected):
    (tmp_path / "w.inp").write_text(INPUT.replace("ENSEMBLE NVE", lines))
    assert read_input(tmp_path / "w.inp").state_point == expected


def test_temperatures_are_those_of_the_frames_and_are_saved_with_the_state_point(project, tmp_path):
    prefix = project()
    rows = [f"{s} {0.5 * s} 0.01 {300 + s} -17.0 -16.9 0.1" for s in range(50)]
    Path(f"{prefix}-1.ener").write_text("# Step Time Kin Temp Pot Cons Used\n" + "\n".join(rows) + "\n")
    Path(f"{prefix}.inp").write_text(INPUT.replace("ENSEMBLE NVE", "ENSEMBLE NVT\nTEMPERATURE 310"))
    frames = read_cp2k(prefix)
    assert frames.temperatures.tolist() == [300, 310, 320, 330, 340]
    frames[1:3].save(tmp_path / "some.safetensors")
    found = Frames.load(tmp_path / "some.safetensors")
    assert found.temperatures.tolist() == [310, 320]
    assert found.state_point == StatePoint("NVT", 310.0)


def test_the_bundled_reference_states_its_temperature():
    frames = read_cp2k(EXAMPLES / "water64-cnnp" / "water64", forces=False)
    assert frames.state_point == StatePoint("NVT", 300.0)
    assert frames.temperatures.mean() == pytest.approx(300.0, abs=3.0)
