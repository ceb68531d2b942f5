"""Whole comparisons of run directories with known properties, and damaged ones."""

import json
from dataclasses import replace

import numpy as np
import pytest
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.observables import Comparison, Observable, compare, read_run
from openmm_duality.observables.findings import Measured
from openmm_duality.observables.statistics import Reason
from openmm_duality.observables.trajectory import Trajectory
from openmm_duality.reference.frames import Frames
from openmm_duality.report import comparison_to_dict, verdict
from openmm_duality.report.formatting import label
from openmm_duality.report.notes import note_sentence
from tests.observables import made


@pytest.fixture(scope="module")
def reference():
    return made.water(120, 1)


def quick(directory, reference) -> Comparison:
    return compare(directory, reference, r_max=0.5, progress=False)


def test_a_run_of_the_same_source_agrees(tmp_path, reference):
    found = quick(made.write_run(tmp_path / "run", made.water(120, 2)), reference)
    assert found.agrees is True, verdict(found)
    assert found.failures == ()
    assert found.run_window.discarded == pytest.approx(1.0)
    assert found.energetics.temperature.mean == pytest.approx(300, abs=3 * found.energetics.temperature.interval)
    (of_oxygen,) = found.energetics.species_temperatures.values()
    assert of_oxygen.mean == pytest.approx(found.energetics.temperature.mean + 7.0)
    plain = json.loads(json.dumps(comparison_to_dict(found), allow_nan=False))
    assert {"rdf", "integrity", "bond_length", "angle", "energetics", "verdict"} <= set(plain)
    assert {"p_value", "max_difference", "band_half_width"} <= set(plain["rdf"]["O-O"])
    assert set(plain["rdf"]) == {"H-H", "H-O", "O-O"}


def test_other_bonds_and_another_density_are_failures_and_come_first(tmp_path, reference):
    run = made.write_run(tmp_path / "run", made.water(400, 3, edge=1.1, bond=0.104))
    found = quick(run, reference)
    assert found.agrees is False
    failed = [(finding.observable, finding.subject) for finding in found.failures]
    assert {(Observable.RDF, "O-O"), (Observable.BOND_LENGTH, "H-O")} <= set(failed)
    first = " ".join(verdict(found)[: len(failed)])
    assert verdict(found)[0].startswith("The density differs: ")
    assert "O–O g(r) differs from the reference" in first
    assert "H–O length differs: 1.04" in first


def test_broken_molecules_and_a_stop_come_before_all_else(tmp_path, reference):
    run = made.write_run(tmp_path / "run", made.water(120, 4), left=2, status="stopped", reason="2 atoms left.")
    found = quick(run, reference)
    assert found.agrees is False
    assert [finding.observable for finding in found.failures[:2]] == [Observable.COMPLETION, Observable.WHOLE_MOLECULES]
    assert verdict(found)[0] == "The run stopped itself after 12 ps: 2 atoms left."
    assert verdict(found)[1].startswith("Molecules broke: up to 2 atoms")


def test_a_short_run_is_too_short_to_test(tmp_path, reference):
    found = quick(made.write_run(tmp_path / "run", made.water(30, 5)), reference)
    assert found.agrees is None
    assert "too short to test" in verdict(found)[0]
    assert found.rdf["O-O"].difference.p_value is None


def test_a_single_frame_is_still_read(tmp_path, reference):
    found = quick(made.write_run(tmp_path / "run", made.water(1, 6)), reference)
    assert found.agrees is None
    json.dumps(comparison_to_dict(found), allow_nan=False)


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
    assert abs(found.energetics.pump.measured.mean) < 1e-3
    assert any("feed" in sentence and "into the motion" in sentence for sentence in verdict(found))


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
    assert any("cut short" in note_sentence(note) and "19" in note_sentence(note) for note in found.notes)


def test_a_half_written_log_line_is_left_out_with_a_note(tmp_path):
    run = made.write_run(tmp_path / "run", made.water(20, 13))
    path = run / "log.csv"
    path.write_text(path.read_text()[:-30])
    found = read_run(run)
    assert len(found.log["step"]) == 19
    assert any("half-written" in note_sentence(note) for note in found.notes)


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


def test_several_are_compared_with_the_same_reference(tmp_path, reference):
    """Runs and data side by side: the findings of each are those that it has alone."""
    runs = [made.write_run(tmp_path / name, made.water(120, seed)) for name, seed in (("a", 20), ("b", 21))]
    data = made.water(120, 22, bond=0.103)
    data.save(tmp_path / "other.safetensors")
    found = compare(runs[0], reference, more=[runs[1], tmp_path / "other.safetensors"], r_max=0.5, progress=False)
    assert [c.name for c in found.columns] == ["a", "b", "other.safetensors"]
    assert [c.agrees for c in found.columns] == [True, True, False]
    assert found.more[1].energetics is None
    assert found.more[1].integrity is None
    alone = quick(runs[1], reference)
    assert found.more[0].findings == alone.findings
    assert verdict(found.more[0]) == verdict(alone)
    plain = json.loads(json.dumps(comparison_to_dict(found), allow_nan=False))
    assert [other["name"] for other in plain["more"]] == ["b", "other.safetensors"]


def test_runs_of_one_name_are_told_apart(tmp_path, reference):
    runs = []
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        runs.append(made.write_run(tmp_path / folder / "run", made.water(60, 23)))
    found = compare(runs[0], reference, more=[runs[1]], r_max=0.5, progress=False)
    assert [c.name for c in found.columns] == ["run", "run (2)"]


def test_other_data_of_another_substance_are_refused(tmp_path, reference):
    run = made.write_run(tmp_path / "run", made.water(60, 24))
    argon = made.frames(("Ar",) * 5, np.random.default_rng(0).random((5, 5, 3)), np.eye(3))
    with pytest.raises(DualityError, match="another composition"):
        compare(run, reference, more=[argon], r_max=0.5, progress=False)
    with pytest.raises(DualityError, match="another composition"):
        compare(run, reference, dynamics=argon, r_max=0.5, progress=False)


BONDS = {("H", "O"): 0.13}


def breathing(source: Frames, breath: FloatArray) -> Frames:
    """Water whose bonds all are longer by 2 % of a number per frame."""
    stretched = source.positions.copy()
    for h in (1, 2):
        arms = stretched[:, h::3] - stretched[:, ::3]
        stretched[:, h::3] = stretched[:, ::3] + arms * (1 + 0.02 * breath[:, None, None])
    return replace(source, positions=stretched)


def slow_water(n_frames: int, seed: int, correlation: float) -> Frames:
    """Water whose bonds all breathe together and forget with this many frames."""
    rng, keep = np.random.default_rng(seed), np.exp(-1 / correlation)
    breath = np.empty(n_frames)
    breath[0] = rng.normal()
    for t in range(1, n_frames):
        breath[t] = keep * breath[t - 1] + np.sqrt(1 - keep**2) * rng.normal()
    return breathing(made.water(n_frames, seed), breath)


def test_every_observable_has_blocks_that_suit_its_own_correlation_time(tmp_path):
    run = made.write_run(tmp_path / "run", slow_water(1000, 25, 10.0))
    found = compare(run, slow_water(800, 26, 10.0), lengths=BONDS, r_max=0.5, progress=False)
    name = Measured(Observable.BOND_LENGTH, "H-O")
    time = found.run_window.correlation_times[name]
    assert time == pytest.approx(1.0, rel=0.5)  # ps: ten frames
    slow, quick_ = found.bond_length["H-O"], found.angle["H-O-H"]
    slower = max(window.correlation_times[name] for window in (found.run_window, found.reference_window))
    for measured, window in ((slow.run, found.run_window), (slow.reference, found.reference_window)):
        assert window.duration / len(measured.block_means) >= min(6 * slower, window.duration / 5)
    # that of an angle may be slower than it seems, as of any vibration
    assert len(found.rdf["O-O"].run.blocks) > len(quick_.run.block_means) >= len(slow.run.block_means)
    assert slow.mean.p_value is not None
    assert quick_.mean.p_value is not None


def test_what_decorrelates_slowly_leaves_the_rest_its_test(tmp_path):
    """Bonds that hardly decorrelate within the reference: g(r) and angles are tested all the same."""
    run = made.write_run(tmp_path / "run", slow_water(200, 46, 60.0))
    found = compare(run, slow_water(200, 47, 60.0), lengths=BONDS, r_max=0.5, progress=False)
    assert [label(finding) for finding in found.untested] == ["H-O length"]
    assert found.untested[0].reason is Reason.TOO_SHORT
    assert found.rdf["O-O"].difference.p_value is not None
    assert found.angle["H-O-H"].mean.p_value is not None
    assert found.agrees is None
    assert "too short to test what decorrelates slowly, the H–O length (" in verdict(found)[0]


def test_a_run_that_drifts_all_along_is_not_stationary(tmp_path):
    run = made.write_run(tmp_path / "run", breathing(made.water(120, 27), np.linspace(-1, 1, 120)))
    found = compare(run, made.water(400, 28), lengths=BONDS, r_max=0.5, progress=False)
    assert found.agrees is None
    assert found.finding(Observable.BOND_LENGTH, "H-O").reason is Reason.NOT_STATIONARY
    assert "changes along the run" in verdict(found)[0]


def test_a_run_that_is_not_stationary_does_not_agree(tmp_path):
    """Bonds a fifth longer after 14 of 20 ps: the scatter this makes must not excuse the difference it makes."""
    run = made.write_run(tmp_path / "run", breathing(made.water(200, 2), 10.0 * (np.arange(200) > 140)))
    found = compare(run, made.water(200, 1), discard=0, r_max=0.5, progress=False)
    assert found.agrees is None
    assert found.changes
    assert found.finding(Observable.BOND_LENGTH, "H-O").reason is Reason.NOT_STATIONARY
    assert found.finding(Observable.BOND_LENGTH, "H-O") in found.untested
    assert "changes along the run" in verdict(found)[0]
    assert "the H–O length" in verdict(found)[0]
    assert comparison_to_dict(found)["untested"]["H-O length"]["why"] == "changes"


def test_every_correlation_time_bears_the_name_of_its_observable(tmp_path, reference):
    found = quick(made.write_run(tmp_path / "run", made.water(120, 2)), reference)
    for window in (found.run_window, found.reference_window):
        words = {label(measured) for measured in window.correlation_times}
        assert {"g(r) O-O", "g(r) H-O", "neighbours O-H", "H-O length"} <= words
        assert not any("{" in word for word in words)
        assert min(window.correlation_times.values()) >= 0.0


def argon(seed: int, together: range, n_atoms: int = 8) -> Frames:
    """Atoms far from one another, but in some of 100 frames five of them are neighbours."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(2.0)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n_atoms]
    positions = grid * 1.5 + 0.1 * rng.normal(size=(100, n_atoms, 3))
    corners = np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    for t in together:
        positions[t, :5] = positions[t, 0] + 0.2 * corners
    return made.frames(("Ar",) * n_atoms, positions, np.eye(3) * 3.0)


@pytest.mark.parametrize("together", [range(3, 5), range(0, 100, 7)])
def test_what_some_block_lacks_is_reported_without_a_test(tmp_path, together):
    run = made.write_run(tmp_path / "run", argon(1, together))
    found = compare(run, argon(2, range(60, 61)), lengths={}, discard=0, progress=False)
    assert found.finding(Observable.TETRAHEDRAL_ORDER, "Ar").reason is Reason.TOO_RARE
    assert found.finding(Observable.TETRAHEDRAL_ORDER, "Ar") in found.untested
    assert (
        verdict(found)[-1]
        == "Too rare or too constant to be tested: the tetrahedral order of Ar and the Ar–Ar–Ar angle."
    )
    corner = 1 - 3 / 8 * (3 * (np.sqrt(2 / 3) + 1 / 3) ** 2 + 3 * (1 / 2 + 1 / 3) ** 2)  # of a tetrahedron, filled
    assert found.tetrahedral_order["Ar"].run.average.mean == pytest.approx((1 + 4 * corner) / 5, abs=1e-3)


def test_a_single_atom_of_a_species_has_no_shell_of_its_own(tmp_path):
    source = made.frames(("Ar", "C"), np.random.default_rng(3).random((60, 2, 3)), np.eye(3) * 2)
    run = made.write_run(tmp_path / "run", source, degrees_of_freedom=3)
    assert "Ar-Ar" not in compare(run, source, lengths={}, discard=0, progress=False).shells


@pytest.mark.parametrize(("near_in_run", "named"), [(False, set()), (True, {"C-C"})])
def test_atoms_that_never_come_near_each_other_have_no_curves(tmp_path, near_in_run, named):
    rng = np.random.default_rng(4)
    positions = np.array([[0.2, 0.2, 0.2], [1.2, 1.2, 1.2]]) + rng.normal(scale=0.01, size=(60, 2, 3))
    far = made.frames(("C", "C"), positions, np.eye(3) * 2)
    run = made.frames(("C", "C"), positions * [[1.0], [0.4 if near_in_run else 1.0]], np.eye(3) * 2)
    found = compare(made.write_run(tmp_path / "run", run), far, r_max=0.6, lengths={}, discard=0, progress=False)
    assert set(found.rdf) == set(found.coordination) == named


def test_one_reference_has_one_error_of_its_motion(tmp_path):
    rng = np.random.default_rng(36)
    walks = [
        made.frames(("Ar",) * 30, np.cumsum(rng.normal(0, 0.01, (count, 30, 3)), 0), np.eye(3) * 1.3, 0.05)
        for count in (400, 800, 400)
    ]
    runs = [made.write_run(tmp_path / f"run{k}", walk) for k, walk in enumerate(walks[:2])]
    found = compare(runs[0], walks[2], more=[runs[1]], r_max=0.5, progress=False)
    own = found.reference_motion.diffusion["Ar"].value
    assert [column.diffusion["Ar"].reference for column in found.columns] == [own, own]
    for column in found.columns:
        assert column.diffusion["Ar"].run == column.motion.diffusion["Ar"].value
        shown = np.hypot(column.diffusion["Ar"].run.error, own.error)
        assert column.diffusion["Ar"].difference.interval > 1.96 * shown * (1 - 1e-9)


def dense_water(seed: int, shift: float = 0.0) -> Frames:
    """Argon-like atoms that swing at 1000 cm⁻¹, every 2 fs for 3 ps, and their velocities."""
    rng = np.random.default_rng(seed)
    t = 0.002 * np.arange(1, 1501)[:, None, None]
    own = np.random.default_rng(0).normal(0, 20, (24, 1))  # the same atoms in all of them
    omega = 2 * np.pi * (1000.0 + shift + own) / 33.356
    phase, home = rng.uniform(0, 6.28, (24, 3)), made.water(1, 1).positions[0, ::3]
    swing = made.frames(("Ar",) * 24, home + 0.01 * np.sin(omega * t + phase), np.eye(3) * made.EDGE, 0.002)
    return replace(swing, velocities=0.01 * omega * np.cos(omega * t + phase))


@pytest.mark.parametrize(("shift", "same"), [(0.0, True), (60.0, False)])
def test_bands_are_compared(tmp_path, shift, same):
    run = made.write_run(tmp_path / "run", dense_water(29, shift))
    found = quick(run, replace(dense_water(30), velocities=None))
    assert found.motion.spectra.source == "velocities"
    assert found.reference_motion.spectra.source == "positions"
    (band,) = found.bands.values()
    assert band.difference.difference == pytest.approx(shift, abs=15)
    assert found.failed(Observable.BAND_CENTROID, next(iter(found.bands))) != same
    assert any("centroid" in sentence for sentence in verdict(found)[: len(found.failures)]) != same


def test_asked_bands_are_used_and_checked(tmp_path):
    run = made.write_run(tmp_path / "run", dense_water(31))
    found = compare(run, dense_water(32), bands=[(900, 1100)], r_max=0.5, progress=False)
    assert list(found.bands) == [(900.0, 1100.0)]
    with pytest.raises(DualityError, match="bands"):
        compare(run, dense_water(32), bands=[(1100, 900)], r_max=0.5, progress=False)


def test_a_viscosity_corrects_for_the_cell(tmp_path):
    rng = np.random.default_rng(33)
    walks = [
        made.frames(("Ar",) * 30, np.cumsum(rng.normal(0, 0.01, (400, 30, 3)), 0), np.eye(3) * 1.3, 0.05)
        for _ in range(2)
    ]
    run = made.write_run(tmp_path / "run", walks[0])
    found = compare(run, walks[1], r_max=0.5, viscosity=0.8e-3 * unit.pascal * unit.second, progress=False)
    correction = found.motion.diffusion["Ar"].correction
    assert correction == pytest.approx(found.reference_motion.diffusion["Ar"].correction)
    assert correction == pytest.approx(2.837297 * 1.380649e-23 * 300 / (6 * np.pi * 0.8e-3 * 1.3e-9) * 1e6, rel=1e-5)
    assert found.diffusion["Ar"].difference.p_value > 1e-4


def test_velocities_cut_short_are_left_out_with_a_note(tmp_path):
    run = made.write_run(tmp_path / "run", dense_water(34))
    path = run / "velocities.dcd"
    path.write_bytes(path.read_bytes()[:-5000])
    found = read_run(run)
    assert found.trajectory.velocity_reader is None
    assert any("velocities were not used" in note_sentence(note) for note in found.notes)


def test_thinned_frames_are_the_ones_asked_for(tmp_path, monkeypatch):
    source = made.water(50, 35)
    monkeypatch.setattr("openmm_duality.observables.trajectory._COORDINATES_PER_CHUNK", 3 * 72 * 4)
    trajectory = Trajectory.from_frames(source).after(3)
    for stride in (1, 3, 7, 100):
        thinned = trajectory.every(stride)
        read = np.concatenate([chunk.positions for chunk in thinned])
        assert (read == source.positions[3::stride]).all()
        assert len(thinned) == len(read)
