"""The CP2K input: cells, units, &KIND, directives."""

from pathlib import Path

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.reference.cp2k_input import Cp2kInput, read_input


def parsed(tmp_path: Path, subsys: str = "", md: str = "", head: str = "") -> Cp2kInput:
    text = f"""{head}
&GLOBAL
  RUN_TYPE MD ! dynamics
&END
&FORCE_EVAL
  &SUBSYS
{subsys}
  &END SUBSYS
&END FORCE_EVAL
&MOTION
  &MD
{md}
  &END MD
&END MOTION
"""
    path = tmp_path / "x.inp"
    path.write_text(text)
    return read_input(path)


@pytest.mark.parametrize(
    "cell",
    [
        "ABC 10.0 11.0 12.0",
        "ABC [nm] 1.0 1.1 1.2",
        "abc [pm] 1000 1100 1200 # comment",
        "A 10 0 0\nB 0 1.1D1 0\nC 0 0 12",
        "A [nm] 1 0 0\nB [angstrom] 0 11 0\nC [bohr] 0 0 22.67671351\n",
        "ABC 10.0 \\\n 11.0 12.0",
        "ABC 5.0 11.0 4.0\nMULTIPLE_UNIT_CELL 2 1 3",
    ],
)
def test_one_cell_written_in_many_ways(tmp_path: Path, cell: str) -> None:
    read = parsed(tmp_path, f"&CELL\n{cell}\n&END CELL")
    assert read.cell is not None
    np.testing.assert_allclose(read.cell, np.diag([1.0, 1.1, 1.2]), atol=1e-8)


def test_triclinic_cell_has_its_lengths_and_angles(tmp_path: Path) -> None:
    cell = parsed(tmp_path, "&CELL\nABC 10 11 12\nALPHA_BETA_GAMMA [deg] 80 100 75\n&END CELL").cell
    assert cell is not None
    lengths = np.linalg.norm(cell, axis=1)
    np.testing.assert_allclose(lengths, [1.0, 1.1, 1.2])
    cosines = [cell[i] @ cell[j] / lengths[i] / lengths[j] for i, j in ((1, 2), (0, 2), (0, 1))]
    np.testing.assert_allclose(np.degrees(np.arccos(cosines)), [80, 100, 75])


@pytest.mark.parametrize(
    ("md", "timestep"),
    [("TIMESTEP 0.5", 5e-4), ("TIMESTEP [ps] 0.002", 2e-3), ("", 5e-4), ("TIMESTEP [au_t] 41.341374575751", 1e-3)],
)
def test_time_step(tmp_path: Path, md: str, timestep: float) -> None:
    assert parsed(tmp_path, md=md).timestep == pytest.approx(timestep)


def test_reftraj_is_not_dynamics(tmp_path: Path) -> None:
    read = parsed(tmp_path, md="ENSEMBLE REFTRAJ\nTIMESTEP 80")
    assert read.reftraj
    assert read.timestep is None


def test_no_boundaries(tmp_path: Path) -> None:
    read = parsed(tmp_path, "&CELL\nABC 10 10 10\nPERIODIC NONE\n&END CELL")
    assert not read.periodic
    assert read.cell is None


def test_kinds_name_elements_and_masses(tmp_path: Path) -> None:
    sections = "&KIND OW\nELEMENT O\n&END KIND\n&KIND D\nELEMENT H\nMASS 2.014\n&END KIND"
    read = parsed(tmp_path, sections)
    assert [read.element(label) for label in ("OW", "D", "ow", "Na1", "CL")] == ["O", "H", "O", "Na", "Cl"]
    assert read.mass("D") == 2.014
    assert read.mass("H") == 2.014
    assert read.mass("OW") == pytest.approx(15.999)
    with pytest.raises(DualityError, match="neither an element nor a &KIND"):
        read.element("Qx")


def test_two_masses_of_one_element_need_labels(tmp_path: Path) -> None:
    read = parsed(tmp_path, "&KIND H1\nELEMENT H\nMASS 1.0\n&END\n&KIND H2\nELEMENT H\nMASS 2.0\n&END")
    assert read.mass("H2") == 2.0
    with pytest.raises(DualityError, match="PRINT_ATOM_KIND"):
        read.mass("H")


def test_set_and_include(tmp_path: Path) -> None:
    (tmp_path / "cell.inc").write_text("&CELL\nABC ${edge} $EDGE 12\n&END CELL\n")
    read = parsed(tmp_path, "@INCLUDE 'cell.inc'", head="@SET EDGE 10")
    assert read.cell is not None
    np.testing.assert_allclose(read.cell.diagonal(), [1.0, 1.0, 1.2])


@pytest.mark.parametrize(
    ("subsys", "message"),
    [
        ("@IF $X\n@ENDIF", "no @SET gives it a value"),
        ("@IF 1\n@ENDIF", "directive @IF is not understood"),
        ("@INCLUDE nowhere.inc", "nowhere.inc: the CP2K input cannot be read"),
        ("&CELL\nABC 10 10\n&END CELL", r"expected 3 number\(s\)"),
        ("&CELL\nABC [furlong] 10 10 10\n&END CELL", r"unit \[furlong\]"),
        ("&CELL\nABC 10 10 10\nPERIODIC XY\n&END CELL", "PERIODIC XY is not supported"),
        ("&CELL\nA 1 0 0\nB 2 0 0\nC 0 0 1\n&END CELL", "expected three vectors in nm that span a volume"),
        ("&CELL\n&END KIND", "closes a section that is not open"),
        ("&CELL", "closes a section that is not open"),
        ("&KIND Qx\n&END KIND", "names no element"),
    ],
)
def test_what_cannot_be_understood_is_named(tmp_path: Path, subsys: str, message: str) -> None:
    with pytest.raises(DualityError, match=message):
        parsed(tmp_path, subsys)


def test_an_input_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "x.inp"
    path.write_text("&FORCE_EVAL\n&SUBSYS\n")
    with pytest.raises(DualityError, match="&SUBSYS is not closed"):
        read_input(path)
