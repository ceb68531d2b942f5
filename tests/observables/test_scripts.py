"""The scripts about observables and few frames: what they take for one piece of work."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from openmm_duality.observables.bonds import Bonds
from openmm_duality.observables.trajectory import Trajectory
from openmm_duality.reference import bond_lengths
from tests.observables import made

SCRIPTS = Path(__file__).parents[2] / "scripts"


def script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(SCRIPTS / f"{name}.py"))


def test_windows_last_as_long_as_they_were_asked_to(tmp_path):
    """Whatever the time between frames, of which the script takes one per 0.04 ps at most."""
    alarms = script("false_alarms")
    frames = alarms["load"](made.write_run(tmp_path / "run", made.water(100, 1, n_molecules=4)))
    bonds = Bonds.found(Trajectory.from_frames(frames[:1]), bond_lengths(frames))
    found = alarms["windows"](frames, 2.0, bonds)
    assert [begin for begin, _ in found] == pytest.approx([5.0, 7.0], abs=1e-6)
    assert [sample.duration for _, sample in found] == pytest.approx([2.0, 2.0], rel=1e-6)


@pytest.mark.parametrize(("frames", "word"), [(100, "no window of 95 ps"), (30, "no frames beyond")])
def test_a_run_without_a_pair_of_windows_is_told_so(tmp_path, monkeypatch, capsys, frames, word):
    run = made.write_run(tmp_path / "run", made.water(frames, 1, n_molecules=4))
    monkeypatch.setattr("sys.argv", ["false_alarms.py", str(run)])
    with pytest.raises(SystemExit):
        script("false_alarms")["main"]()
    assert word in capsys.readouterr().err


def test_kept_results_are_those_of_the_same_work():
    digest_of = script("delta_learning")["digest_of"]
    work = (0.49, "form: moment", "a sha256:1")
    assert digest_of(*work) == digest_of(*work)
    others = ((0.5, *work[1:]), (0.49, "form: pair", work[2]), (*work[:2], "b"))
    assert len({digest_of(*work), *(digest_of(*other) for other in others)}) == 4
