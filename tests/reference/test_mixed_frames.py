"""Frames of several compositions in one sequence: order, choice, splits, files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.reference import Frames, MixedFrames, read, summarise
from openmm_duality.reference.mixed_frames import balanced, joined, of_one_composition, without_isolated_atoms
from openmm_duality.units import ELECTRONVOLT, MEV_PER_ANGSTROM


def part(species: tuple[str, ...], steps: list[int], periodic: bool = False, **more: object) -> Frames:
    rng = np.random.default_rng(len(species))
    t, n = len(steps), len(species)
    return Frames(
        species=species,
        masses=np.array([{"H": 1.0, "O": 16.0}[name] for name in species]),
        positions=rng.normal(size=(t, n, 3)),
        times=np.zeros(t),
        steps=np.array(steps),
        cells=np.tile(np.eye(3), (t, 1, 1)) if periodic else None,
        forces=rng.normal(size=(t, n, 3)),
        energies=np.array(steps, dtype=np.float64),
        source=(f"made with {n} atoms",),
        **more,  # type: ignore[arg-type]
    )


def mixed() -> MixedFrames:
    return MixedFrames(
        (part(("O", "H", "H"), [0, 3, 4, 8]), part(("H", "H"), [1, 6, 7]), part(("H", "O", "H"), [2, 5, 9], True))
    )


def test_frames_are_found_in_the_order_of_the_sequence() -> None:
    frames = mixed()
    assert len(frames) == 10
    assert frames.distinct_species == ("H", "O")
    for number in range(10):
        found, t = frames.locate(number)
        assert found.steps[t] == number
    assert frames.locate(5)[0].species == ("H", "O", "H")


@pytest.mark.parametrize("index", [slice(2, 7), slice(None, None, 3), [8, 1, 0], np.arange(3, 9)])
def test_a_choice_keeps_order_and_contents(index: slice | list[int]) -> None:
    frames = mixed()
    chosen = frames[index]
    assert chosen.steps.tolist() == sorted(np.arange(10)[index].tolist())
    for number, step in enumerate(chosen.steps):
        (one, t), (other, u) = chosen.locate(number), frames.locate(int(step))
        assert one.species == other.species
        np.testing.assert_array_equal(one.positions[t], other.positions[u])
    with pytest.raises(TypeError):
        frames[3]  # type: ignore[index]


def test_splits_leave_nothing_out() -> None:
    for how in ("time", "random-blocks"):
        train, test = mixed().split(0.3, how=how)
        assert sorted([*train.steps, *test.steps]) == list(range(10))
        assert len(test) == 3
    assert len(mixed().split(0.0)[1]) == 0


def test_the_last_frames_of_every_composition_are_held_out() -> None:
    assert mixed().split(0.3)[1].steps.tolist() == [7, 8, 9]
    one_after_the_other = MixedFrames((part(("O", "H", "H"), [*range(10)]), part(("H", "H"), [*range(10, 15)])))
    assert one_after_the_other.split()[1].steps.tolist() == [8, 9, 14]
    assert one_after_the_other.split()[0].distinct_species == ("H", "O")


def test_every_stretch_has_its_share_of_every_composition() -> None:
    grouped = MixedFrames((part(("O", "H", "H"), [*range(40)]), part(("H", "H"), [*range(40, 60)])))
    order = balanced(grouped, np.arange(60))
    assert sorted(order) == list(range(60))
    for stretch in order.reshape(10, 6):
        assert (stretch < 40).sum() == 4
    for composition in (order[order < 40], order[order >= 40]):
        assert (np.diff(composition) > 0).all()
    chosen = np.arange(0, 60, 3)
    assert sorted(balanced(grouped, chosen)) == chosen.tolist()
    alone = grouped.parts[0]
    np.testing.assert_array_equal(balanced(alone, np.arange(40)), np.arange(40))


@pytest.mark.parametrize("each", [1, 2, 3])
def test_of_many_rare_compositions_every_sort_is_held_out(each: int) -> None:
    """Bulk first, then slabs, then clusters, as a file often has them."""
    number = iter(range(1000))
    parts = [part(("H",) * (k + 1), [next(number) for _ in range(each)]) for k in range(60)]
    steps = MixedFrames(tuple(parts)).split()[1].steps
    assert len(steps) == 12 * each
    for sort in range(3):  # a fifth of each
        assert 2 * each <= np.sum(steps // (20 * each) == sort) <= 6 * each


def test_a_rare_composition_leaves_the_others_their_last_frames() -> None:
    many = [part(("H",) * (k + 1), [k]) for k in range(2)]
    assert MixedFrames((many[0], part(("O", "H"), [*range(1, 11)]))).split()[1].steps.tolist() == [9, 10]
    with pytest.raises(DualityError, match="cannot be split"):
        MixedFrames(tuple(many)).split()


def test_a_saved_file_holds_the_same(tmp_path: Path) -> None:
    mixed().save(tmp_path / "f.safetensors")
    again = read(tmp_path / "f.safetensors")
    assert isinstance(again, MixedFrames)
    assert again.source == mixed().source
    for one, other in zip(again.parts, mixed().parts, strict=True):
        assert one.species == other.species
        for name, array in other.arrays().items():
            np.testing.assert_array_equal(getattr(one, name), array)
    (tmp_path / "f.safetensors").write_bytes((tmp_path / "f.safetensors").read_bytes()[:400])
    with pytest.raises(DualityError, match="cut short"):
        read(tmp_path / "f.safetensors")


def test_what_cannot_be_a_sequence_is_refused() -> None:
    with pytest.raises(DualityError, match="same number"):
        MixedFrames((part(("H", "H"), [0, 1]), part(("O", "H"), [1, 2])))
    with pytest.raises(DualityError, match="others none"):
        MixedFrames((part(("H", "H"), [0, 1]), replace(part(("O", "H"), [2]), forces=None)))
    with pytest.raises(DualityError, match="a comparison needs frames of one composition"):
        of_one_composition(mixed(), "a comparison")


def test_isolated_atoms_are_taken_out_with_their_energies() -> None:
    atoms = (part(("H",), [10, 12]), part(("O",), [11]))
    same = replace(atoms[0], energies=np.full(2, -5.0))
    frames, energies = without_isolated_atoms(MixedFrames((*mixed().parts, same, atoms[1])))
    assert len(frames) == 10
    assert energies == {"H": -5.0, "O": 11.0}
    with pytest.raises(DualityError, match="different energies"):
        without_isolated_atoms(joined([part(("H", "H"), [0]), atoms[0]]))
    # a single atom in a cell is a crystal
    crystal = joined([part(("H",), [0], True), part(("O", "H"), [1])])
    assert without_isolated_atoms(crystal) == (crystal, {})


def test_the_summary_counts_compositions() -> None:
    summary = summarise(mixed())
    assert summary.compositions == {"H2O": 7, "H2": 3}
    assert (summary.frames, summary.fewest_atoms, summary.atoms, summary.periodic) == (10, 2, 3, 3)
    forces = np.concatenate([p.forces.ravel() for p in mixed().parts if p.forces is not None])
    assert summary.force_rms["all"] == pytest.approx(np.sqrt(np.mean(forces**2)) / MEV_PER_ANGSTROM)
    assert "7 of H2O, 3 of H2" in str(summary)


def test_the_summary_has_energies_per_atom_and_how_they_vary_within_a_composition() -> None:
    water, hydrogen = part(("H", "H", "O"), [0, 1]), part(("H", "H"), [2])
    water = replace(water, energies=3.0 * ELECTRONVOLT * np.array([-5.0, -5.2]))
    hydrogen = replace(hydrogen, energies=2.0 * ELECTRONVOLT * np.array([-1.0]))
    summary = summarise(joined([water, hydrogen]))
    assert summary.energy == pytest.approx(-11.2 / 3.0)
    assert summary.energy_rms == pytest.approx(1e3 * 0.1 * np.sqrt(2.0 / 3.0))
    assert "-3.7333 eV/atom, varies by 81.6 meV/atom (RMS)" in str(summary)
    alone = summarise(hydrogen)
    assert (alone.energy, alone.energy_rms) == (pytest.approx(-1.0), None)
    assert "energy" not in str(summarise(joined([water, replace(hydrogen, energies=None)]))).split("missing")[0]
