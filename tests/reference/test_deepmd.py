"""DeePMD folders: one system, several, the mixed format, open boundaries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.reference import Frames, MixedFrames, read
from openmm_duality.units import ANGSTROM, ELECTRONVOLT


def system(folder: Path, types: list[int], sets: tuple[int, ...] = (3, 2), periodic: bool = True) -> np.ndarray:
    """Write a system with random numbers; returns the forces of all its frames in eV/Å."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(types))
    (folder / "type.raw").write_text("\n".join(map(str, types)))
    (folder / "type_map.raw").write_text("O\nH\n")
    if not periodic:
        (folder / "nopbc").touch()
    forces = []
    for k, count in enumerate(sets):
        place = folder / f"set.{k:03d}"
        place.mkdir()
        np.save(place / "coord.npy", rng.normal(size=(count, 3 * len(types))))
        np.save(place / "force.npy", rng.normal(size=(count, 3 * len(types))).astype(np.float32))
        np.save(place / "energy.npy", rng.normal(size=(count, 1)))
        if periodic:
            np.save(place / "box.npy", np.tile(np.diag([7.0, 8.0, 9.0]).ravel(), (count, 1)))
        forces.append(np.load(place / "force.npy").reshape(count, -1, 3))
    return np.concatenate(forces)


def test_a_folder_is_one_set_of_frames(tmp_path: Path) -> None:
    forces = system(tmp_path / "water", [0, 1, 1])
    frames = read(tmp_path / "water")
    assert isinstance(frames, Frames)
    assert frames.species == ("O", "H", "H")
    assert frames.steps.tolist() == list(range(5))
    np.testing.assert_allclose(frames.forces, forces.astype(np.float64) * ELECTRONVOLT / ANGSTROM)
    first = np.load(tmp_path / "water" / "set.000" / "coord.npy").reshape(3, 3, 3)
    np.testing.assert_allclose(frames.positions[:3], first * ANGSTROM)
    assert frames.cells is not None
    np.testing.assert_allclose(frames.cells[4], np.diag([0.7, 0.8, 0.9]))
    assert frames.stresses is None
    np.testing.assert_allclose(frames.masses, [15.999, 1.008, 1.008])


def test_virials_become_stresses(tmp_path: Path) -> None:
    system(tmp_path / "w", [0, 1, 1], sets=(2,))
    np.save(tmp_path / "w" / "set.000" / "virial.npy", np.tile(np.arange(9.0), (2, 1)))
    (frames,) = read(tmp_path / "w").parts
    expected = -np.arange(9.0).reshape(3, 3) * ELECTRONVOLT / (0.7 * 0.8 * 0.9)
    assert frames.stresses is not None
    np.testing.assert_allclose(frames.stresses[1], expected)
    np.testing.assert_allclose(frames[1:].stresses, [expected])


def test_a_folder_of_folders_is_mixed(tmp_path: Path) -> None:
    system(tmp_path / "all" / "a", [0, 1, 1])
    system(tmp_path / "all" / "b", [1, 1], periodic=False)
    frames = read(tmp_path / "all")
    assert isinstance(frames, MixedFrames)
    assert [(p.species, len(p), p.cells is None) for p in frames.parts] == [
        (("O", "H", "H"), 5, False),
        (("H", "H"), 5, True),
    ]
    assert not read(tmp_path / "all", forces=False).has_forces


def test_the_mixed_format_has_types_by_frame(tmp_path: Path) -> None:
    forces = system(tmp_path / "m", [0, 0, 0], sets=(3,))
    np.save(tmp_path / "m" / "set.000" / "real_atom_types.npy", np.array([[0, 1, 1], [1, 1, -1], [0, 1, 1]]))
    frames = read(tmp_path / "m")
    assert isinstance(frames, MixedFrames)
    assert [frames.locate(k)[0].species for k in range(3)] == [("O", "H", "H"), ("H", "H"), ("O", "H", "H")]
    part, t = frames.locate(1)
    assert part.forces is not None
    np.testing.assert_allclose(part.forces[t], forces[1, :2].astype(np.float64) * ELECTRONVOLT / ANGSTROM)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    system(tmp_path / "w", [0, 1, 1])
    (tmp_path / "w" / "set.001" / "box.npy").unlink()
    with pytest.raises(DualityError, match=r"box\.npy is missing.*nopbc"):
        read(tmp_path / "w")
    (tmp_path / "w" / "nopbc").touch()
    (tmp_path / "w" / "set.001" / "force.npy").unlink()
    with pytest.raises(DualityError, match="have forces"):
        read(tmp_path / "w")
    np.save(tmp_path / "w" / "set.001" / "force.npy", np.zeros((2, 8)))
    with pytest.raises(DualityError, match="9 numbers per frame"):
        read(tmp_path / "w")
    (tmp_path / "w" / "type_map.raw").write_text("O\n")
    with pytest.raises(DualityError, match="names 1 types"):
        read(tmp_path / "w")
    (tmp_path / "w" / "type_map.raw").unlink()
    with pytest.raises(DualityError, match="type_map"):
        read(tmp_path / "w")
