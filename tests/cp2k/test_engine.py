"""CP2K found, run, and ended with whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openmm_duality.cp2k.engine import find_cp2k, run_cp2k
from openmm_duality.errors import DualityError
from tests.command import hear_interrupts
from tests.cp2k.cp2k_runs import cp2k_in
from tests.reference.conftest import EXAMPLES

PAIR = """&GLOBAL
  PROJECT pair
  RUN_TYPE MD
  PRINT_LEVEL LOW
&END GLOBAL
&FORCE_EVAL
  METHOD FIST
  &MM
    &FORCEFIELD
      &CHARGE
        ATOM Ar
        CHARGE 0.0
      &END CHARGE
      &NONBONDED
        &LENNARD-JONES
          ATOMS Ar Ar
          EPSILON [K_e] 120
          SIGMA 3.4
          RCUT 7
        &END LENNARD-JONES
      &END NONBONDED
    &END FORCEFIELD
    &POISSON
      &EWALD
        EWALD_TYPE NONE
      &END EWALD
    &END POISSON
  &END MM
  &SUBSYS
    &CELL
      ABC 20 20 20
    &END CELL
    &COORD
      Ar 0 0 0
      Ar 3.9 0 0
    &END COORD
  &END SUBSYS
&END FORCE_EVAL
&MOTION
  &MD
    STEPS 2
  &END MD
&END MOTION
"""


def test_a_run_leaves_its_output_beside_the_input(tmp_path: Path) -> None:
    (tmp_path / "pair.inp").write_text(PAIR)
    output = run_cp2k(tmp_path, "pair.inp", threads=1)
    assert output == tmp_path / "pair.out"
    assert (tmp_path / "pair-1.ener").read_text().count("\n") == 4
    assert not (tmp_path / "pair.err").exists()


def test_two_processes_give_the_same_forces(tmp_path: Path) -> None:
    energies = []
    for processes in (1, 2):
        (tmp_path / "pair.inp").write_text(PAIR.replace("pair", f"pair{processes}"))
        run_cp2k(tmp_path, "pair.inp", processes=processes, threads=1)
        energies.append([row.split()[4] for row in (tmp_path / f"pair{processes}-1.ener").read_text().splitlines()[1:]])
    assert energies[0] == energies[1]


@pytest.mark.parametrize(
    ("written", "instead", "said"),
    [
        ("EPSILON", "EPSILONS", "EPSILONS"),
        ("3.9 0 0", "0.5 0 0", "EMAX_SPLINE"),
        ("METHOD FIST", "METHOD X", "enumeration:X"),
    ],
)
def test_what_cp2k_said_is_told(tmp_path: Path, written: str, instead: str, said: str) -> None:
    (tmp_path / "pair.inp").write_text(PAIR.replace(written, instead))
    with pytest.raises(DualityError, match=said) as caught:
        run_cp2k(tmp_path, "pair.inp", threads=1)
    assert "\n" not in str(caught.value)


def test_a_missing_program_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pair.inp").write_text(PAIR)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DualityError, match="apt-get install cp2k cp2k-data"):
        run_cp2k(tmp_path, "pair.inp")
    monkeypatch.undo()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "cp2k.psmp").symlink_to(find_cp2k())
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(DualityError, match="mpirun"):
        run_cp2k(tmp_path, "pair.inp", processes=2)


def test_a_missing_input_is_told(tmp_path: Path) -> None:
    with pytest.raises(DualityError, match=r"nothing\.inp"):
        run_cp2k(tmp_path, "nothing.inp")


def until(condition, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


@pytest.mark.parametrize(("how", "processes"), [(signal.SIGKILL, 1), (signal.SIGKILL, 2), (signal.SIGINT, 1)])
def test_cp2k_ends_with_whoever_started_it(tmp_path: Path, how: signal.Signals, processes: int) -> None:
    (tmp_path / "pair.inp").write_text(PAIR.replace("STEPS 2", "STEPS 100000000"))
    program = (
        "import sys; from pathlib import Path; from openmm_duality.cp2k.engine import run_cp2k; "
        f"run_cp2k(Path(sys.argv[1]), 'pair.inp', threads=1, processes={processes})"
    )
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        env=environment,
        stderr=subprocess.DEVNULL,
        cwd="/",
        preexec_fn=hear_interrupts,
    )
    energies = tmp_path / "pair-1.ener"
    try:
        assert until(lambda: energies.exists() and energies.stat().st_size > 1000)
        assert cp2k_in(tmp_path)
        parent.send_signal(how)
        parent.wait(60)
        assert until(lambda: not cp2k_in(tmp_path))
    finally:
        parent.kill()
