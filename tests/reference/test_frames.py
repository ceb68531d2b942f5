"""Frames: splits in time, blocks, the saved file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.mixed_frames import MixedFrames
from openmm_duality.reference.state_points import StatePoint


def made(t: int, timestep: float | None = 5e-4) -> Frames:
    rng = np.random.default_rng(t)
    return Frames(
        species=("O", "H"),
        masses=np.array([16.0, 1.0]),
        positions=rng.normal(size=(t, 2, 3)),
        times=0.02 * np.arange(t) if timestep else np.zeros(t),
        steps=np.arange(t),
        cells=np.tile(np.eye(3), (t, 1, 1)),
        forces=rng.normal(size=(t, 2, 3)),
        timestep=timestep,
        source=("a sha256:0",),
    )


@pytest.mark.parametrize("gap", [0.5, 0.5 * unit.picosecond, "500 fs"])
def test_split_leaves_the_gap_to_neither(gap: object) -> None:
    frames = made(500)
    train, test = frames.split(0.2, gap)
    assert len(train) == 400
    assert test.steps[-1] == 499
    assert 0.5 < test.times[0] - train.times[-1] <= 0.5 + 0.021


def test_single_points_are_split_in_order_without_gap() -> None:
    train, test = made(50, timestep=None).split()
    assert list(train.steps) + list(test.steps) == list(range(50))
    assert len(test) == 10


def test_nothing_is_held_out_at_a_fraction_of_zero() -> None:
    for how in ("time", "random-blocks"):
        train, test = made(100).split(0.0, how=how)
        assert (len(train), len(test)) == (100, 0)


def test_random_blocks_are_contiguous_and_always_the_same() -> None:
    train, test = made(100).split(0.2, how="random-blocks")
    assert sorted([*train.steps, *test.steps]) == list(range(100))
    assert len(test) == 20
    assert np.count_nonzero(np.diff(test.steps) > 1) >= 1  # not the last part
    runs = np.split(test.steps, np.flatnonzero(np.diff(test.steps) > 1) + 1)
    assert {len(run) % 5 for run in runs} == {0}  # whole blocks of a twentieth
    again = made(100).split(0.2, how="random-blocks")[1]
    np.testing.assert_array_equal(again.steps, test.steps)
    with pytest.raises(DualityError, match="blocks"):
        made(100).split(0.01, how="random-blocks")


@pytest.mark.parametrize("fraction", [1.0, -1.0, 0.1])
def test_splits_that_leave_nothing_are_refused(fraction: float) -> None:
    with pytest.raises(DualityError):
        made(100).split(fraction)


def test_blocks_hold_every_frame_once() -> None:
    blocks = made(23).blocks(4)
    assert np.concatenate([b.steps for b in blocks]).tolist() == list(range(23))
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1
    with pytest.raises(DualityError, match="cannot be cut"):
        made(3).blocks(4)


def test_saved_frames_come_back(tmp_path: Path) -> None:
    frames = replace(made(7), temperatures=np.full(7, 310.0), state_point=StatePoint("NVT", 300.0))
    path = tmp_path / "new" / "f.safetensors"
    frames.save(path)
    again = Frames.load(path)
    for name in ("species", "timestep", "state_point", "source"):
        assert getattr(again, name) == getattr(frames, name)
    assert again.arrays().keys() == frames.arrays().keys()
    for name, array in frames.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array)
        assert again.arrays()[name].dtype == array.dtype
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_frames_are_printed_in_five_lines() -> None:
    lines = str(made(500)).splitlines()
    assert lines == [
        "500 frames of 2 atoms: HO",
        "times:  0 to 9.98 ps, time step 0.5 fs",
        "cell:   1.0000 x 1.0000 x 1.0000 nm",
        "with:   forces",
        "source: a",
    ]
    points = replace(made(3, None), cells=None, forces=None, source=("a", "b", "c", "d sha256:0"))
    assert repr(points).splitlines()[1:] == [
        "times:  single points",
        "cell:   none",
        "with:   positions alone",
        "source: a, b, c and 1 more",
    ]
    assert str(points[:0]).splitlines()[0] == "0 frames of 2 atoms: HO"
    water = replace(
        points, species=("O", "H", "H"), masses=np.array([16.0, 1.0, 1.0]), positions=np.zeros((3, 3, 3)), source=()
    )
    mixed = MixedFrames((replace(made(3, None), forces=None), replace(water, steps=np.arange(3, 6))))
    assert str(mixed).splitlines() == [
        "6 frames of 2 to 3 atoms: HO, H2O",
        "times:  single points",
        "cell:   3 of 6 frames",
        "with:   positions alone",
        "source: a",
    ]


def test_a_file_is_not_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    made(3).save(path)
    with pytest.raises(DualityError, match="would be overwritten"):
        made(4).save(path)
    assert len(Frames.load(path)) == 3
    made(4).save(path, overwrite=True)
    assert len(Frames.load(path)) == 4


def test_a_failed_writing_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "f.txt"
    path.write_text("old")

    def write() -> None:
        with atomic_write(path, overwrite=True) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert [p.name for p in tmp_path.iterdir()] == ["f.txt"]
    assert path.read_text() == "old"


def test_what_is_no_frames_file(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    made(3).save(path)
    whole = path.read_bytes()
    for content in (whole[:-10], whole[:5], b"", b"not at all"):
        path.write_bytes(content)
        with pytest.raises(DualityError, match="openmm_duality frames"):
            Frames.load(path)
    with pytest.raises(DualityError):
        Frames.load(tmp_path / "nothing.safetensors")


def test_values_that_are_not_finite_are_refused() -> None:
    positions = np.zeros((2, 1, 3))
    positions[1, 0, 2] = np.nan
    with pytest.raises(DualityError, match="frame 1"):
        Frames(("H",), np.ones(1), positions, np.zeros(2), np.arange(2))
