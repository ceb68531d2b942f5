"""Checks of the molecules of a run, against distances from an independent library and molecules broken on purpose."""

from __future__ import annotations

import mdtraj
import numpy as np
import pytest
from openmm import app

from openmm_duality.dynamics.integrity import Integrity, runaway_temperature
from openmm_duality.errors import DualityError
from tests.dynamics.systems import water

LENGTHS = {("H", "O"): 0.13}


@pytest.fixture(scope="module")
def liquid():
    _, topology, positions = water(1.25)
    return tuple(atom.element.symbol for atom in topology.atoms()), positions, 1.25 * np.eye(3), topology


def integrity_of(liquid, **more):
    species, positions, cell, _ = liquid
    return Integrity(species, positions, cell, LENGTHS, **more)


def test_a_start_without_bonds_is_refused_unless_the_data_show_its_atoms_alone():
    apart, known = np.diag([0.0, 0.5, 1.0]), frozenset({("H", ()), ("O", ()), ("O", (("H", 2),))})
    with pytest.raises(DualityError, match="right unit"):
        Integrity(["O", "H", "H"], apart, None, LENGTHS, coordinations=known - {("H", ())})
    assert Integrity(["O", "H", "H"], apart, None, LENGTHS, coordinations=known).molecules == 3


def test_shortest_distances_are_those_of_mdtraj(liquid):
    species, positions, cell, topology = liquid
    trajectory = mdtraj.Trajectory(positions, mdtraj.Topology.from_openmm(topology))
    trajectory.unitcell_vectors = cell[None]
    species = np.array(species)
    report = integrity_of(liquid).check(positions, cell)
    for (a, b), shortest in report.shortest.items():
        pairs = [(i, j) for i in np.flatnonzero(species == a) for j in np.flatnonzero(species == b) if i < j or a != b]
        assert shortest == pytest.approx(mdtraj.compute_distances(trajectory, pairs).min(), abs=1e-5)


def test_wrapping_and_permutation_change_nothing(liquid):
    species, positions, cell, _ = liquid
    there = integrity_of(liquid).check(positions, cell)
    random = np.random.default_rng(5)
    moved = positions + random.integers(-2, 3, positions.shape) @ cell
    assert integrity_of(liquid).check(moved, cell).failures() == ()
    order = random.permutation(len(species))
    other = Integrity([species[i] for i in order], moved[order], cell, LENGTHS)
    assert other.molecules == integrity_of(liquid).molecules == species.count("O")
    for pair, shortest in other.check(moved[order], cell).shortest.items():
        assert shortest == pytest.approx(there.shortest[pair], abs=1e-12)


def test_atoms_that_leave_are_counted(liquid):
    species, positions, cell, _ = liquid
    integrity = integrity_of(liquid)
    moved = positions.copy()
    hydrogens = [i for i, symbol in enumerate(species) if symbol == "H"]
    moved[hydrogens[0]] += 0.2
    assert integrity.check(moved, cell).atoms_left_molecule == 1
    moved[hydrogens[5]] += 0.2
    report = integrity.check(moved, cell)
    assert report.atoms_left_molecule == 2
    assert any("2 atoms have left" in failure for failure in report.failures())
    assert report.failures(allow_broken=True) == ()
    moved = positions.copy()
    moved[species.index("O")] += np.array(
        [0.3, 0.3, 0.3]
    )  # both hydrogens are alone then, one of them the largest part
    assert integrity.check(moved, cell).atoms_left_molecule == 2


def coordination(name, **around):
    return name, tuple(sorted(around.items()))


ENOL = ("O", "C", "C", "C", "O", "H")
CHAIN = np.array([[-0.124, 0.0, 0.0], [-0.124, 0.13, 0.0], [0.0, 0.2, 0.0], [0.124, 0.13, 0.0], [0.124, 0.0, 0.0]])
ENOL_BONDS = {("H", "O"): 0.125, ("C", "O"): 0.18, ("C", "C"): 0.2}
SHARED = frozenset(
    [
        coordination("O", C=1),
        coordination("O", C=1, H=1),
        coordination("H", O=1),
        coordination("C", C=1, O=1),
        coordination("C", C=2),
    ]
)


def enol(proton, stretch=0.0):
    """A chain O–C–C–C–O with a proton beside its oxygens, its last two atoms moved away."""
    moved = CHAIN + np.outer([0.0, 0.0, 0.0, 1.0, 1.0], [stretch, 0.0, 0.0])
    return np.vstack([moved, [proton]])


@pytest.mark.parametrize("cell", [None, 1.2 * np.eye(3)], ids=["open", "periodic"])
def test_a_proton_that_the_data_show_passed_on_is_no_break_and_one_that_leaves_is(cell):
    start = enol([-0.025, 0.0, 0.0])
    known = Integrity(ENOL, start, cell, ENOL_BONDS, coordinations=SHARED)
    strict = Integrity(ENOL, start, cell, ENOL_BONDS)
    for x in (-0.025, 0.0, 0.004, 0.025, 0.03):
        passed_on = enol([x, 0.0, 0.0])
        assert known.check(passed_on, cell).failures() == ()
        assert strict.check(passed_on, cell).atoms_left_molecule == int(x + 0.124 > 0.1358)
    for integrity in (known, strict):
        assert integrity.check(enol([-0.124, -0.13, 0.0]), cell).failures() == ()
        assert Integrity(ENOL, enol([-0.124, -0.13, 0.0]), cell, ENOL_BONDS).molecules == 1
    for away in ([-0.124, -0.14, 0.0], [0.0, -0.3, 0.1], [0.0, 0.12, 0.0]):
        assert known.check(enol(away), cell).atoms_left_molecule == 1
    assert known.check(enol([-0.025, 0.0, 0.0], stretch=0.05), cell).failures() == ()
    assert known.check(enol([-0.025, 0.0, 0.0], stretch=0.15), cell).atoms_left_molecule == 2
    # a bond that breaks elsewhere is one, whatever the proton does
    assert known.check(enol([0.124, -0.1, 0.0]), cell).failures() == ()
    assert known.check(enol([0.274, -0.1, 0.0], stretch=0.15), cell).atoms_left_molecule > 1


SQUARE = 0.15 * np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [-0.9, 1.5, 0.0]])
OPEN = SQUARE - np.outer([1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.1, 0.0])


@pytest.mark.parametrize("cell", [None, 1.5 * np.eye(3)], ids=["open", "periodic"])
@pytest.mark.parametrize(
    ("start", "now", "shown"),
    [(OPEN, SQUARE, [1, 2]), (SQUARE[:4], OPEN[:4], [2])],
    ids=["a chain with a tail becomes a ring", "a ring becomes a chain"],
)
def test_bonds_that_form_or_break_within_a_molecule_are_breaks_unless_the_data_show_them(cell, start, now, shown):
    names, bonds = ("C",) * len(start), {("C", "C"): 0.2}
    data = frozenset(coordination("C", C=number) for number in shown)
    report = Integrity(names, start, cell, bonds, coordinations=data).check(now, cell)
    assert (report.atoms_left_molecule, report.unknown_bonds, report.exchanged_bonds) == (0, 1, 0)
    assert "1 bond has formed or broken as the data of the model do not show" in report.failures()[0]
    assert report.failures(allow_broken=True) == ()
    more = data | {coordination("C", C=1), coordination("C", C=3)}
    assert Integrity(names, start, cell, bonds, coordinations=more).check(now, cell).failures() == ()
    assert Integrity(names, start, cell, bonds).check(now, cell).failures() == ()  # nothing says what the data show


def test_an_atom_with_one_bond_is_bonded_to_no_other_as_long_as_that_is_whole():
    start = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.3, 0.0, 0.0], [0.4, 0.0, 0.0]])
    hydroxyls = frozenset([coordination("O", H=1), coordination("H", O=1)])
    integrity = Integrity(("O", "H", "O", "H"), start, None, {("H", "O"): 0.13}, coordinations=hydroxyls)
    near = start - np.outer([0.0, 0.0, 1.0, 1.0], [0.09, 0.0, 0.0])
    assert integrity.check(near, None).failures() == ()
    nearer = start - np.outer([0.0, 0.0, 1.0, 1.0], [0.1, 0.0, 0.0])  # where no proton is shared
    assert integrity.check(nearer, None).unknown_bonds == 1


def test_molecules_that_end_as_they_began_have_exchanged_atoms_and_ions_have_not(liquid):
    species, positions, cell, _ = liquid
    waters = frozenset([coordination("O", H=2), coordination("H", O=1)])
    integrity = integrity_of(liquid, coordinations=waters)
    hydrogens = [i for i, symbol in enumerate(species) if symbol == "H"]
    swapped = positions.copy()
    swapped[hydrogens[0]], swapped[hydrogens[5]] = positions[hydrogens[5]], positions[hydrogens[0]]
    assert integrity.check(swapped, cell).failures() == ()
    assert integrity_of(liquid).check(swapped, cell).atoms_left_molecule == 2
    # a hydroxide and a hydronium are no waters
    first, second = (i for i, symbol in enumerate(species) if symbol == "O" and i in (0, 3))
    passed_on = positions.copy()
    passed_on[first + 1] = positions[second] - 0.1 * np.mean(positions[second + 1 : second + 3] - positions[second], 0)
    passed_on[first + 1] += np.array([0.0, 0.0, 0.08])
    assert integrity.check(passed_on, cell).atoms_left_molecule == 1


def test_collapse_is_judged_by_the_distances_seen(liquid):
    species, positions, cell, _ = liquid
    integrity = integrity_of(liquid, collapse_distances={("O", "O"): 0.192})
    assert integrity.check(positions, cell).failures() == ()
    first, second = [i for i, symbol in enumerate(species) if symbol == "O"][:2]
    for distance, fails in ((0.19, True), (0.195, False)):
        moved = positions.copy()
        moved[[first, first + 1, first + 2]] += positions[second] + np.array([distance, 0, 0]) - positions[first]
        found = integrity.check(moved, cell)
        assert found.shortest["O", "O"] <= distance + 1e-12
        assert (found.shortest["O", "O"] < 0.192) == bool(found.collapsed)
        if fails:
            assert found.collapsed


def test_positions_that_are_not_finite_are_reported(liquid):
    _, positions, cell, _ = liquid
    bad = positions.copy()
    bad[3, 1] = np.nan
    report = integrity_of(liquid).check(bad, cell)
    assert not report.finite
    assert report.failures(allow_broken=True)


def test_nothing_closer_is_nan_and_no_cell_is_fine():
    positions = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    report = Integrity(["Ar", "Ar"], positions, None, {}).check(positions, None)
    assert np.isnan(report.shortest["Ar", "Ar"])
    assert report.failures() == ()


def test_a_start_in_the_wrong_unit_is_refused(liquid):
    species, positions, cell, _ = liquid
    with pytest.raises(DualityError, match="unit"):
        Integrity(species, 10 * positions, 10 * cell, LENGTHS)


def test_large_systems_take_milliseconds_per_thousand_atoms(liquid):
    import time

    species, positions, cell, _ = liquid
    from openmm_duality.geometry.cells import supercell

    times = []
    for n in (2, 4):
        many, names, box = supercell(positions, species, cell, (n, n, n))
        integrity = Integrity(names, many, box, LENGTHS)
        best = np.inf
        for _ in range(3):
            clock = time.perf_counter()
            integrity.check(many, box)
            best = min(best, time.perf_counter() - clock)
        times.append(best)
    assert times[1] < 30 * times[0]  # 8 times the atoms: 8 if linear, 64 if quadratic
    assert isinstance(liquid[3], app.Topology)


def test_a_small_system_may_be_hot_for_a_moment() -> None:
    kinetic = np.random.default_rng(0).chisquare(15, size=1_000_000) / 15  # of a molecule of six atoms, at the bath
    assert (300.0 * kinetic > 900.0).sum() > 5
    assert (300.0 * kinetic).max() < runaway_temperature(300.0, 15) < 2000.0
    assert runaway_temperature(300.0, 573) == 900.0
