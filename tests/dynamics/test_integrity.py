"""Checks of the molecules of a run, against distances from an independent library and molecules broken on purpose."""

from __future__ import annotations

import mdtraj
import numpy as np
import pytest
from openmm import app

from openmm_duality.dynamics.integrity import Integrity
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


def test_collapse_is_judged_by_the_distances_seen(liquid):
    species, positions, cell, _ = liquid
    integrity = integrity_of(liquid, shortest_seen={("O", "O"): 0.24}, collapse_fraction=0.8)
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
