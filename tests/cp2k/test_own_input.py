"""The `&FORCE_EVAL` of an input of one's own: the same forces as by the package's method, and what cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from openmm_duality.cp2k.campaign import run_reference
from openmm_duality.cp2k.engine import converged
from openmm_duality.cp2k.inputs import Job, project_input, start_files
from openmm_duality.cp2k.methods import read_method
from openmm_duality.cp2k.own_input import read_force_eval, with_input
from openmm_duality.cp2k.structures import read_structure
from openmm_duality.errors import DualityError
from openmm_duality.reference import read
from openmm_duality.reference.cp2k_input import parse_input
from tests.cp2k.cp2k_runs import configure
from tests.reference.conftest import EXAMPLES

INPUT = EXAMPLES / "methanol" / "reference.inp"
OWN = {"name": "input", "path": str(INPUT)}
START = {"path": str(INPUT.with_name("structure.xyz")), "cell": ["10 angstrom"] * 3}
DISTORT = [{"frames": 2, "displaced": {"size": 0.003}}]


def test_it_gives_the_forces_of_the_method(tmp_path: Path) -> None:
    tasks = [
        {"name": "run", "md": {"start": START, "steps": 2, "write_every": 2}},
        {"name": "own", "label": {"data": "run", "distort": DISTORT}},
        {"name": "xtb", "method": "xtb", "label": {"data": "run", "distort": DISTORT}},
    ]
    config = configure(tmp_path, method=OWN, tasks=tasks, stress=True)
    result = run_reference(config, tmp_path / "out")
    assert [result[name].frames for name in ("run", "own", "xtb")] == [2, 2, 2]
    own, xtb = (read(tmp_path / "out" / name) for name in ("own", "xtb"))
    assert own.forces is not None
    assert xtb.forces is not None
    assert own.stresses is not None
    assert np.sqrt(np.mean(own.forces**2)) > 100.0  # kJ/mol/nm
    assert own.forces == pytest.approx(xtb.forces, abs=0.5)  # both converge to 1e-6 atomic units, by different ways
    # the iteration of the input has no outer loop, whose convergence the other one prints
    assert converged(tmp_path / "out" / "own" / "parts" / "0000" / "own.out")[-2:] == [True, True]


def test_what_is_taken_from_an_input(tmp_path: Path) -> None:
    (tmp_path / "basis").write_text("a basis")
    text = INPUT.read_text().replace("&QS\n", "BASIS_SET_FILE_NAME basis\n &QS\n EXTRAPOLATION ASPC\n", 1)
    text = text.replace("&CELL\n", "&KIND c\n BASIS_SET DZVP\n &END KIND\n &CELL\n", 1)
    text = text.replace("METHOD Quickstep", "METHOD Quickstep\n STRESS_TENSOR ANALYTICAL\n &PRINT\n &END PRINT")
    (tmp_path / "own.inp").write_text(text)
    content = with_input({"name": "input", "path": "own.inp"}, tmp_path)
    method = read_method(content)
    start = read_structure(START).frames(tmp_path, 1)
    job = Job("task", tmp_path, method)
    for name, text in start_files(job, start).items():
        (tmp_path / name).write_text(text)
    for dynamics, expected in ((True, ["ASPC"]), (False, ["USE_PREV_WF"])):
        (tmp_path / "task.inp").write_text(project_input(job, start, [], dynamics=dynamics))
        (made,) = parse_input(tmp_path / "task.inp").find("FORCE_EVAL")
        assert [s.keyword("EXTRAPOLATION") for s in made.find("DFT", "QS")] == expected
        assert made.keyword("STRESS_TENSOR") is None
        assert not list(made.find("PRINT"))
        assert [s.keyword("BASIS_SET_FILE_NAME") for s in made.find("DFT")] == [str((tmp_path / "basis").resolve())]
        kinds = {s.parameter: s.keyword("BASIS_SET") for s in made.find("SUBSYS", "KIND")}
        assert kinds == {"C": "DZVP", "H": None, "O": None}
        assert [s.parameter for s in made.find("DFT", "SCF", "PRINT", "RESTART")] == ["OFF"]


def test_a_changed_input_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "own.inp").write_text(INPUT.read_text())
    (tmp_path / "atom.xyz").write_text("1\n\nH 0 0 0\n")
    tasks = [{"name": "point", "label": {"data": "atom.xyz"}}]
    config = configure(tmp_path, method={"name": "input", "path": "own.inp"}, tasks=tasks)
    with pytest.raises(DualityError, match="no cell"):
        run_reference(config, tmp_path / "out")
    (tmp_path / "own.inp").write_text(INPUT.read_text().replace("GMAX 25", "GMAX 30"))
    with pytest.raises(DualityError, match=r"another configuration \(different: method"):
        run_reference(config, tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("METHOD Quickstep", "METHOD FIST", "METHOD FIST is not supported"),
        ("ABC 10.0 10.0 10.0", "ABC 10 10 10\n PERIODIC NONE", "wide periodic cell"),
        ("&CELL\n", "&KIND H1\n ELEMENT H\n &END KIND\n &CELL\n", "&KIND H1 is a label of its own for H"),
        ("&MOTION", "&FORCE_EVAL\n &END FORCE_EVAL\n&MOTION", "expected one &FORCE_EVAL, found 2"),
    ],
)
def test_inputs_that_cannot_be_used(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "own.inp").write_text(INPUT.read_text().replace(old, new, 1))
    with pytest.raises(DualityError, match=said):
        read_force_eval(tmp_path / "own.inp")


def test_the_path_must_be_given() -> None:
    with pytest.raises(DualityError, match="expected the key path"):
        with_input({"name": "input", "file": "a.inp"}, Path())
