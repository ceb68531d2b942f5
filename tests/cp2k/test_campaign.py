"""Reference campaigns with the real CP2K: network, density functional theory, kills and resumption."""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from openmm_duality.cp2k.campaign import run_reference
from openmm_duality.cp2k.parts import closed_parts, complete_blocks, complete_rows, open_part
from openmm_duality.errors import DualityError
from openmm_duality.reference import read, read_cp2k
from openmm_duality.reference.cp2k_stress import printed_stresses
from tests.cp2k.cp2k_runs import LIQUID, configure, cp2k_in, in_a_process
from tests.reference.conftest import EXAMPLES

LIQUID_START = {"path": LIQUID, "frame": 0}
MD = {"start": LIQUID_START, "steps": 24, "write_every": 4, "velocities": True}
ONE_WATER = 'Lattice="5 0 0 0 5 0 0 0 5"\nO 2.5 2.5 2.5\nH 3.46 2.5 2.5\nH 2.26 3.43 2.5\n'


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dynamics and the labels of distorted frames of it, never killed."""
    folder = tmp_path_factory.mktemp("campaign")
    tasks = [
        {"name": "liquid", "md": MD},
        {"name": "some", "label": {"data": "liquid", "distort": [{"frames": 9, "scaled": {"factor": 0.97}}]}},
    ]
    config = configure(folder, method="nnp", stress=True, tasks=tasks)
    result = run_reference(config, folder / "out")
    assert {name: task.frames for name, task in result.items()} == {"liquid": 7, "some": 9}
    assert not any(task.refused for task in result.values())
    return folder


def test_tasks_have_seeds_of_their_own_and_two_that_are_the_same_are_noticed(tmp_path: Path) -> None:
    md = {"start": LIQUID_START, "steps": 4, "write_every": 4}
    tasks = [{"name": "a", "md": md}, {"name": "b", "md": md}, {"name": "c", "md": md, "seed": 2}]
    with pytest.warns(
        UserWarning, match="the tasks a and b are the same, and so will be their frames; give one a seed"
    ):
        run_reference(configure(tmp_path, method="nnp", tasks=tasks), tmp_path / "out")
    a, b, c = (read_cp2k(tmp_path / "out" / name).positions[-1] for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert np.abs(c - a).max() > 1e-5


def test_labels_are_those_of_the_bundled_data(tmp_path: Path) -> None:
    expected = [read_cp2k(EXAMPLES / "water64-distorted" / name)[:2] for name in ("box0_95", "box1_03")]
    for name, frames in zip("ab", expected, strict=True):
        frames.save(tmp_path / f"{name}.safetensors")
    tasks = [{"name": n, "label": {"data": f"{n}.safetensors"}} for n in "ab"]
    run_reference(configure(tmp_path, method="nnp", tasks=tasks), tmp_path / "out")
    for name, frames in zip("ab", expected, strict=True):
        found = read(tmp_path / "out" / name)
        assert np.abs(found.forces - frames.forces).max() < 1e-3
        assert found.energies - found.energies[0] == pytest.approx(frames.energies - frames.energies[0], abs=1e-3)
        assert found.cells == pytest.approx(frames.cells)


def test_frames_of_different_cells_in_one_batch_have_the_forces_of_their_own_cell(tmp_path: Path) -> None:
    liquid = read_cp2k(LIQUID, forces=False)[:1]
    liquid.save(tmp_path / "liquid.safetensors")
    recipe = [{"frames": 1, "scaled": {"factor": 0.95}}, {"frames": 1, "scaled": {"factor": 1.05}}]
    task = {"name": "mixed", "label": {"data": "liquid.safetensors", "distort": recipe}}
    run_reference(configure(tmp_path, method="nnp", tasks=[task]), tmp_path / "mixed")
    mixed = read(tmp_path / "mixed" / "mixed")
    assert len(np.unique(mixed.cells[:, 0, 0])) == 2
    mixed[1:].save(tmp_path / "last.safetensors")
    alone = {"name": "alone", "label": {"data": "last.safetensors"}}
    run_reference(configure(tmp_path, method="nnp", tasks=[alone]), tmp_path / "alone")
    assert np.abs(read(tmp_path / "alone" / "alone").forces[0] - mixed.forces[1]).max() < 1e-3


def test_dynamics_is_read_as_dynamics(finished: Path) -> None:
    frames = read(finished / "out" / "liquid")
    assert frames.steps.tolist() == list(range(0, 25, 4))
    assert frames.times == pytest.approx(0.0005 * frames.steps)
    assert frames.timestep == pytest.approx(0.0005)
    assert frames.velocities is not None
    # velocities belong to positions: their mean over 2 fs is the way, but for the fastest vibrations
    moved, mean = np.diff(frames.positions, axis=0), 0.5 * (frames.velocities[1:] + frames.velocities[:-1])
    assert np.std(moved - 0.002 * mean) < 0.2 * np.std(moved)


def test_every_frame_has_its_stress(finished: Path) -> None:
    liquid, squeezed = (read(finished / "out" / name) for name in ("liquid", "some"))
    assert liquid.stresses.shape == (7, 3, 3)
    means = [float(np.trace(frames.stresses, axis1=1, axis2=2).mean()) / 3.0 for frames in (liquid, squeezed)]
    assert means[1] < means[0] - 300.0  # MPa, nearly: compression is negative


def test_a_finished_campaign_is_left_as_it_is(finished: Path) -> None:
    files = {p: p.stat().st_mtime_ns for p in (finished / "out").rglob("*") if p.is_file() and p.name != ".lock"}
    again = run_reference(finished / "campaign.yaml", finished / "out")
    assert {name: task.frames for name, task in again.items()} == {"liquid": 7, "some": 9}
    after = {p: p.stat().st_mtime_ns for p in (finished / "out").rglob("*") if p.is_file() and p.name != ".lock"}
    assert after == files


def complete_frames(part: Path, name: str) -> int:
    """Number of frames that are complete in every file."""
    counts = [sum(1 for _ in complete_blocks(part / f"{name}-{kind}-1.xyz")) for kind in ("pos", "frc")]
    if name == "some":
        tables = [complete_rows(part / f"{name}-1.{kind}", n) for kind, n in (("ener", 7), ("cell", 12))]
        counts += [sum(1 for _ in rows) for rows in tables]
        output = part / f"{name}.out"
        counts.append(len(printed_stresses(output)[0]) if output.is_file() else 0)
    return min(counts)


def test_a_killed_campaign_does_nothing_twice_and_loses_nothing(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = shutil.copy(finished / "campaign.yaml", tmp_path)
    rng = random.Random()
    for task, frames in (("liquid", rng.randrange(3, 5)), ("some", rng.randrange(1, 6))):
        process = in_a_process(config, out)
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            part = open_part(out / task)
            if part is not None and complete_frames(part, task) >= frames:
                break
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -9
        while cp2k_in(tmp_path) and time.monotonic() < end:
            time.sleep(0.01)
        if task == "some":
            saved = complete_frames(open_part(out / task), task)
    result = run_reference(config, out)
    assert {name: task.frames for name, task in result.items()} == {"liquid": 7, "some": 9}
    orders = [part.record["order"] for part in closed_parts(out / "some")]
    assert len(orders[0]) == saved
    assert np.concatenate(orders).tolist() == list(range(9))
    sampled = closed_parts(out / "liquid")
    assert [part.record["first"] for part in sampled[1:]] == [part.record["last"] for part in sampled[:-1]]
    assert len(sampled) == 2
    assert sampled[1].record["last"] == 24
    # CP2K's restart files hold all digits, so that the resumed dynamics is that of the run that was not killed
    for name in ("liquid", "some"):
        one, other = read(out / name), read(finished / "out" / name)
        assert one.positions == pytest.approx(other.positions, abs=1e-8)
        assert one.forces == pytest.approx(other.forces, abs=1e-2)
        assert one.energies == pytest.approx(other.energies, abs=1e-3)
        assert (one.steps == other.steps).all()


def test_files_cut_short_by_a_kill_count_up_to_the_cut(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished / "out", out)
    config = shutil.copy(finished / "campaign.yaml", tmp_path)
    part = out / "some" / "parts" / "0000"
    for path in (part / "part.json", out / "some" / "done.json"):
        path.unlink()
    forces = part / "some-frc-1.xyz"
    text = forces.read_text()
    forces.write_text(text[: int(0.7 * len(text))])
    run_reference(config, out)
    assert [part.record["order"] for part in closed_parts(out / "some")] == [tuple(range(6)), (6, 7, 8)]
    assert read(out / "some").forces == pytest.approx(read(finished / "out" / "some").forces, abs=1e-2)


def test_dft_of_one_molecule_and_a_frame_that_does_not_converge(tmp_path: Path) -> None:
    (tmp_path / "one.xyz").write_text(f"3\n{ONE_WATER}")
    # the same four times: each begins with the wave function the one before it came to, so that the last converge
    (tmp_path / "four.xyz").write_text(f"3\n{ONE_WATER}" * 4)
    dft = {"name": "dft", "functional": "revPBE", "cutoff": 200, "relative_cutoff": 30, "basis": "SZV-MOLOPT-SR-GTH"}
    tasks = [
        {"name": "point", "label": {"data": "one.xyz"}, "method": dft},
        {"name": "hasty", "label": {"data": "four.xyz"}, "method": {**dft, "eps_scf": 1e-7, "max_scf": 2}},
    ]
    result = run_reference(configure(tmp_path, method="nnp", tasks=tasks), tmp_path / "out")
    frames, labelled = read(tmp_path / "out" / "point"), read(tmp_path / "out" / "hasty")
    # by symmetry of the bonds the force on oxygen lies in the plane, and nothing acts across it
    assert np.abs(frames.forces[0, :, 2]).max() < 0.01 * np.abs(frames.forces).max()
    assert result["point"].refused == ()
    refused = result["hasty"].refused
    assert 1 <= len(refused) <= 3
    assert all(f"frame {n + 1} " in what and "unconverged" in what for n, what in enumerate(refused))
    assert labelled.steps.tolist() == list(range(len(refused) + 1, 5))
    assert labelled.energies[-1] == pytest.approx(frames.energies[0], abs=0.05)
    assert labelled.forces[-1] == pytest.approx(frames.forces[0], abs=0.01 * np.abs(frames.forces).max())


SPC_FW = {
    "name": "classical",
    "charges": {"O": -0.82, "H": 0.41},
    "lennard_jones": {"O": {"epsilon": 0.650299, "sigma": 0.3165492}, "H": {"epsilon": 0, "sigma": 0.1}},
    "bonds": [{"species": ["O", "H"], "k": 443153.4, "length": 0.1012}],
    "angles": [{"species": ["H", "O", "H"], "k": 317.566, "angle": 113.24}],
}


def two_waters(apart: float) -> str:
    """Two H2O with their O at a distance in Å and their H on the far sides, as extended XYZ."""
    atoms = [
        f"O {5 + s * apart / 2} 5 5\nH {5 + s * (apart / 2 + 0.6)} 5.8 5\nH {5 + s * (apart / 2 + 0.6)} 4.2 5\n"
        for s in (-1, 1)
    ]
    return '6\nLattice="10 0 0 0 10 0 0 0 10"\n' + "".join(atoms)


@pytest.mark.parametrize("wrong", [[0], [0, 1], [2, 3], [0, 1, 2, 3]])
def test_frames_that_cp2k_gives_up_on_are_refused_also_the_first(tmp_path: Path, wrong: list[int]) -> None:
    text = "".join(two_waters(1.62 if n in wrong else 3.0 + 0.1 * n) for n in range(4))
    (tmp_path / "four.xyz").write_text(text)
    tasks = [{"name": "four", "label": {"data": "four.xyz"}}]
    config = configure(tmp_path, method=SPC_FW, tasks=tasks)
    if len(wrong) == 4:
        with pytest.raises(DualityError, match="GEOMETRY wrong"):
            run_reference(config, tmp_path / "out")
        return
    refused = run_reference(config, tmp_path / "out")["four"].refused
    assert len(refused) == len(wrong)
    for n, why in zip(wrong, refused, strict=True):
        assert f"frame {n + 1} " in why
        assert "CP2K gave up" in why
    assert read(tmp_path / "out" / "four").steps.tolist() == [n + 1 for n in range(4) if n not in wrong]  # in order


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": {"name": "nnp", "members": 7}}, "different: method"),
        ({"seed": 2}, "different: seed"),
        ({"tasks": [{"name": "liquid", "md": {**MD, "steps": 16}}]}, "different: tasks"),
    ],
)
def test_another_configuration_is_refused(finished: Path, tmp_path: Path, change: dict, said: str) -> None:
    content = {**json.loads((finished / "out" / "reference.json").read_text())["configuration"], **change}
    with pytest.raises(DualityError, match=said):
        run_reference(configure(tmp_path, **content), finished / "out")


def test_other_numbers_of_processes_are_no_other_configuration(finished: Path, tmp_path: Path) -> None:
    content = json.loads((finished / "out" / "reference.json").read_text())["configuration"]
    assert run_reference(configure(tmp_path, **content, threads=2), finished / "out")["liquid"].frames == 7


@pytest.mark.parametrize(
    "second",
    [
        {"md": {**MD, "start": {"molecules": {"C99": 1}, "cell": [1.0, 1.0, 1.0]}}},
        {"md": {**MD, "start": "nothing.xyz"}},
        {"md": {**MD, "start": "last"}},
        {"label": {"data": "nothing.xyz"}},
        {"label": {"data": "last"}},
    ],
)
def test_all_data_are_checked_before_the_first_task(tmp_path: Path, second: dict) -> None:
    tasks = [{"name": "first", "md": MD}, {"name": "second", **second}, {"name": "last", "md": MD}]
    with pytest.raises(DualityError, match="task second: "):
        run_reference(configure(tmp_path, method="nnp", tasks=tasks), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_changed_data_are_refused(tmp_path: Path) -> None:
    frames = read_cp2k(LIQUID, forces=False)
    frames[:1].save(tmp_path / "data.safetensors")
    config = configure(tmp_path, method="nnp", tasks=[{"name": "a", "label": {"data": "data.safetensors"}}])
    run_reference(config, tmp_path / "out")
    frames[1:2].save(tmp_path / "data.safetensors", overwrite=True)
    with pytest.raises(DualityError, match="have changed"):
        run_reference(config, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"method": "nnp"}, "tasks must be given"),
        ({"method": "nnp", "tasks": []}, "list"),
        ({"method": "nnp", "tasks": [{"name": "a"}]}, "one of md and label"),
        ({"method": "nnp", "tasks": [{"name": "../a", "md": MD}]}, "letters"),
        ({"method": "nnp", "tasks": [{"name": "a", "md": MD}] * 2}, "names of their own"),
        ({"method": "nnp", "tasks": [{"name": "a", "md": {**MD, "write_every": 5}}]}, "multiple"),
        ({"method": "nnp", "tasks": [{"name": "a", "md": {**MD, "ensemble": "NPT"}}]}, "NVT or NVE"),
        ({"method": "nnp", "tasks": [{"name": "a", "md": {**MD, "discard": "1 ps"}}]}, "leaves nothing"),
        ({"method": "nnp", "tasks": [{"name": "a", "label": {"data": LIQUID, "frames": 9999}}]}, "981"),
        ({"method": "nnp", "tasks": [{"name": "a", "label": {"data": "later"}}]}, "later"),
        ([1, 2], "expected keys and values"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, content: object, said: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(content))
    with pytest.raises(DualityError, match=said):
        run_reference(path, tmp_path / "out")


def test_folders_that_hold_something_else_are_left_alone(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(DualityError, match=r"thesis\.txt"):
        run_reference(finished / "campaign.yaml", tmp_path)
    with pytest.raises(DualityError, match="is a file"):
        run_reference(finished / "campaign.yaml", tmp_path / "thesis.txt")


def test_two_at_once_are_refused(finished: Path, tmp_path: Path) -> None:
    import fcntl

    with open(finished / "out" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DualityError, match="another process"):
            run_reference(finished / "campaign.yaml", finished / "out")
