"""Whole comparisons of run directories with known properties, and damaged ones."""

import json
from dataclasses import replace

import numpy as np
import pytest
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.observables import Comparison, compare, read_run
from openmm_duality.observables.trajectory import Trajectory
from tests.observables import made


@pytest.fixture(scope="module")
def reference():
    return made.water(120, 1)


def quick(directory, reference) -> Comparison:
    return compare(directory, reference, r_max=0.5, progress=False)


def test_a_run_of_the_same_source_agrees(tmp_path, reference):
    found = quick(made.write_run(tmp_path / "run", made.water(120, 2)), reference)
    assert found.agrees is True, found.verdict
    assert found.failures == 0
    assert found.run_window.discarded == pytest.approx(1.0)
    assert found.energetics.temperature.mean == pytest.approx(300, abs=3 * found.energetics.temperature.interval)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert {"rdf", "integrity", "bond_length", "angle", "energetics", "verdict"} <= set(plain)
    assert {"p_value", "max_difference", "band_half_width"} <= set(plain["rdf"]["O-O"])
    assert set(plain["rdf"]) == {"H-H", "H-O", "O-O"}


def test_other_bonds_and_another_density_are_told_first(tmp_path, reference):
    run = made.write_run(tmp_path / "run", made.water(120, 3, edge=1.25, bond=0.104))
    found = quick(run, reference)
    assert found.agrees is False
    first = " ".join(found.verdict[: found.failures])
    assert "O–O g(r) is not the reference's" in first
    assert "H–O length is 1.04" in first
    assert any("atoms per nm³" in note for note in found.notes)


def test_broken_molecules_and_a_stop_come_before_all_else(tmp_path, reference):
    run = made.write_run(tmp_path / "run", made.water(120, 4), left=2, status="stopped", reason="2 atoms left.")
    found = quick(run, reference)
    assert found.agrees is False
    assert found.verdict[0] == "The run stopped itself after 12 ps: 2 atoms left."
    assert found.verdict[1].startswith("Molecules broke: up to 2 atoms")


def test_a_short_run_is_too_short_to_tell(tmp_path, reference):
    found = quick(made.write_run(tmp_path / "run", made.water(30, 5)), reference)
    assert found.agrees is None
    assert "too short to tell" in found.verdict[0]
    assert found.rdf["O-O"].difference.p_value is None


def test_a_single_frame_is_still_read(tmp_path, reference):
    found = quick(made.write_run(tmp_path / "run", made.water(1, 6)), reference)
    assert found.agrees is None
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_supercell_may_be_compared_but_another_substance_may_not(tmp_path, reference):
    bigger = made.water(40, 7, n_molecules=48, edge=made.EDGE * 2 ** (1 / 3))
    assert quick(made.write_run(tmp_path / "bigger", bigger), reference).run_window.atoms == 144
    other = replace(bigger, species=("O", "H", "O") * 48)
    with pytest.raises(DualityError, match="another composition"):
        quick(made.write_run(tmp_path / "other", other), reference)


def test_a_descent_has_no_averages(tmp_path, reference):
    run = made.write_run(tmp_path / "run", made.water(5, 8), ensemble="descent", temperature=None)
    with pytest.raises(DualityError, match="descent"):
        quick(run, reference)


def test_the_agent_gradient_is_given_no_energy(tmp_path, reference):
    run = made.write_run(tmp_path / "run", made.water(120, 9), model={"form": "quadratic", "gradient": "agent"})
    found = quick(run, reference)
    assert found.energetics.drift is None
    assert any("agent gradient" in sentence for sentence in found.verdict)


def test_a_quantity_may_say_what_to_discard(tmp_path, reference):
    run = made.write_run(tmp_path / "run", made.water(120, 10))
    found = compare(run, reference, discard=2000 * unit.femtosecond, r_max=0.5, progress=False)
    assert found.run_window.frames == 100
    with pytest.raises(DualityError, match="discard"):
        compare(run, reference, discard=12.0, progress=False)


def test_the_dcd_comes_back_as_it_was_written(tmp_path):
    source = made.water(7, 11)
    run = read_run(made.write_run(tmp_path / "run", source))
    chunks = list(run.trajectory)
    assert np.concatenate([c.positions for c in chunks]) == pytest.approx(source.positions, abs=2e-7)
    assert chunks[0].cell(0) == pytest.approx(source.cells[0], abs=1e-6)
    assert run.trajectory.species == source.species
    assert run.trajectory.after(5).first().positions[0] == pytest.approx(source.positions[5], abs=2e-7)


def test_a_dcd_cut_in_a_frame_is_used_up_to_there(tmp_path):
    run = made.write_run(tmp_path / "run", made.water(20, 12))
    path = run / "trajectory.dcd"
    path.write_bytes(path.read_bytes()[:-500])
    found = read_run(run)
    assert len(found.trajectory) == 19
    assert any("cut short" in note and "19" in note for note in found.notes)


def test_a_half_written_log_line_is_left_out_and_told(tmp_path):
    run = made.write_run(tmp_path / "run", made.water(20, 13))
    path = run / "log.csv"
    path.write_text(path.read_text()[:-30])
    found = read_run(run)
    assert len(found.log["step"]) == 19
    assert any("half-written" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "damage", "word"),
    [
        ("log.csv", lambda old: old.replace(b"nan,0.095", b"nan;0.095", 1), "line 2 is damaged"),
        ("log.csv", lambda old: old.replace(b"kinetic_energy", b"kinetic", 1), "no column kinetic_energy"),
        ("log.csv", lambda old: old[: old.index(b"\n") + 1], "not reported once"),
        ("trajectory.dcd", lambda old: old[:200], "not a readable DCD"),
        ("trajectory.dcd", lambda old: b"", "not a readable DCD"),
        ("run.json", lambda old: old[:40], "not whole JSON"),
        ("run.json", lambda old: b"{}", "missing"),
        ("topology.pdb", lambda old: b"\n".join(old.split(b"\n")[:-10]) + b"\nEND\n", "do not hold"),
    ],
)
def test_damaged_files_end_in_one_clear_error(tmp_path, name, damage, word):
    run = made.write_run(tmp_path / "run", made.water(3, 14))
    (run / name).write_bytes(damage((run / name).read_bytes()))
    with pytest.raises(DualityError, match=word) as caught:
        read_run(run)
    assert name.split(".")[0] in str(caught.value) or "reported" in word
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["log.csv", "trajectory.dcd", "run.json", "topology.pdb"])
def test_missing_files_are_named(tmp_path, name):
    run = made.write_run(tmp_path / "run", made.water(3, 15))
    (run / name).unlink()
    with pytest.raises(DualityError, match=name):
        read_run(run)


def test_a_position_that_is_not_a_number_is_an_error(tmp_path):
    source = made.water(5, 16)
    positions = source.positions.copy()
    run = made.write_run(tmp_path / "run", source)
    raw = bytearray((run / "trajectory.dcd").read_bytes())
    raw[-8:-4] = np.array([np.nan], dtype="<f4").tobytes()
    (run / "trajectory.dcd").write_bytes(raw)
    with pytest.raises(DualityError, match="frame 4"):
        list(read_run(run).trajectory)
    assert np.isfinite(positions).all()


def test_single_points_are_no_trajectory(reference):
    with pytest.raises(DualityError, match="not dynamics"):
        Trajectory.from_frames(replace(reference, times=np.zeros(len(reference))))
