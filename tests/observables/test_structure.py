"""Structure against analytic cases, mdtraj, and under changes that must not matter."""

import mdtraj
import numpy as np
import pytest

from openmm_duality.observables.bonds import Bonds
from openmm_duality.observables.rdf import first_minimum
from openmm_duality.observables.statistics import curve_error
from openmm_duality.observables.structure import Structure, collect_histograms
from openmm_duality.observables.trajectory import Trajectory
from openmm_duality.reference.frames import Frames
from tests.observables import made

TRICLINIC = np.array([[1.4, 0.0, 0.0], [0.3, 1.3, 0.0], [-0.2, 0.25, 1.35]])


def structure(frames: Frames, n_blocks: int = 5, r_max: float | None = 0.55, bond: float = 0.12) -> Structure:
    trajectory = Trajectory.from_frames(frames)
    lengths = {("H", "O"): bond} if "O" in frames.distinct_species else {}
    return collect_histograms(trajectory, Bonds.found(trajectory, lengths), r_max, progress=False).joined(n_blocks)


@pytest.mark.parametrize("cell", [1.3 * np.eye(3), TRICLINIC])
def test_an_ideal_gas_has_g_of_one(cell):
    rng = np.random.default_rng(1)
    species = ("Ar",) * 40 + ("H",) * 30
    gas = made.frames(species, rng.random((300, 70, 3)) @ cell, cell)
    for curve in structure(gas, 10).rdf.values():
        seen = slice(100, None)
        pull = (curve.mean[seen] - 1) / curve_error(curve.blocks)[seen]
        assert np.mean(np.abs(pull) < 1) == pytest.approx(0.95, abs=0.06)
        assert curve.mean[seen].mean() == pytest.approx(1, abs=0.01)


def test_a_lattice_shows_its_shells():
    n, spacing = 5, 0.3
    grid = spacing * np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1).reshape(1, -1, 3)
    lattice = made.frames(("Ar",) * n**3, grid + 0.0005, np.eye(3) * n * spacing)
    curve = structure(lattice, 1, 0.7).rdf["Ar-Ar"]
    edges = np.append(curve.centres - 0.001, curve.centres[-1] + 0.001)
    around = curve.mean[0:] * 4 / 3 * np.pi * np.diff(edges**3) * (n**3 - 1) / (n * spacing) ** 3
    for r, neighbours in ((spacing, 6), (spacing * 2**0.5, 12), (spacing * 3**0.5, 8), (2 * spacing, 6)):
        near = np.abs(curve.centres - r) < 0.006
        assert around[near].sum() == pytest.approx(neighbours, abs=1e-6)
    assert around.sum() == pytest.approx(6 + 12 + 8 + 6 + 24, abs=1e-6)
    running = structure(lattice, 1, 0.7).coordination["Ar-Ar"]
    for r, neighbours in ((0.36, 6), (0.47, 18), (0.56, 26), (0.64, 32), (0.69, 56)):
        assert running.mean[np.searchsorted(running.centres, r)] == pytest.approx(neighbours, abs=1e-9)


def test_wrapping_imaging_and_permutation_do_not_matter():
    whole = made.water(20, 2)
    rng = np.random.default_rng(3)
    shifts = rng.integers(-3, 4, whole.positions.shape) * made.EDGE
    order = rng.permutation(whole.n_atoms)
    moved = made.frames(
        tuple(whole.species[i] for i in order), (whole.positions + shifts + 0.37)[:, order], whole.cells[0]
    )
    a, b = structure(whole), structure(moved)
    for name in a.rdf:
        # A distance on the edge of a bin may fall to either side; the running count may not move.
        assert (
            np.abs(np.cumsum(a.rdf_whole[name].mean - b.rdf_whole[name].mean)).max()
            < 0.05 * a.rdf_whole[name].mean.max()
        )
    assert a.bond_length["H-O"].block_means == pytest.approx(b.bond_length["H-O"].block_means, abs=1e-12)
    assert a.angle["H-O-H"].block_means == pytest.approx(b.angle["H-O-H"].block_means, abs=1e-9)
    assert a.shortest == pytest.approx(b.shortest, abs=1e-12)


@pytest.mark.parametrize("cell", [1.3 * np.eye(3), TRICLINIC])
def test_mdtraj_gives_the_same(cell):
    source = made.water(15, 4)
    source = made.frames(source.species, source.positions / made.EDGE @ cell, cell)
    found = structure(source, 3, 0.5, bond=0.16)
    topology = mdtraj.Topology()
    residue = topology.add_residue("MOL", topology.add_chain())
    for symbol in source.species:
        topology.add_atom(symbol, mdtraj.element.get_by_symbol(symbol), residue)
    other = mdtraj.Trajectory(source.positions, topology)
    other.unitcell_vectors = source.cells
    for name, curve in found.rdf_whole.items():
        pairs = topology.select_pairs(*(f"name {symbol}" for symbol in name.split("-")))
        r, g = mdtraj.compute_rdf(other, pairs, r_range=(0, 0.5), bin_width=0.002)
        running = np.cumsum((curve.mean - g) * r**2) / np.cumsum(g * r**2).max()
        assert r == pytest.approx(curve.centres, abs=1e-6)
        assert np.abs(running).max() < 1e-3
    bonds = Bonds.found(Trajectory.from_frames(source), {("H", "O"): 0.16})
    assert found.bond_length["H-O"].average.mean == pytest.approx(
        mdtraj.compute_distances(other, bonds.pairs).mean(), abs=1e-6
    )
    assert found.angle["H-O-H"].average.mean == pytest.approx(
        np.degrees(mdtraj.compute_angles(other, bonds.triples)).mean(), abs=1e-3
    )


def test_known_bonds_and_angles_come_back():
    found = structure(made.water(200, 5))
    length, angle = found.bond_length["H-O"], found.angle["H-O-H"]
    assert abs(length.average.mean - 0.1) < 3 * length.average.error
    assert length.spread.mean == pytest.approx(0.002, rel=0.05)
    assert abs(angle.average.mean - 104) < 3 * angle.average.error
    assert angle.spread.mean == pytest.approx(4, rel=0.05)
    assert np.trapezoid(length.mean, length.centres) == pytest.approx(1, abs=1e-6)


def test_pairs_within_a_molecule_are_apart():
    found = structure(made.water(20, 6))
    within = found.rdf["H-O"].centres < 0.115
    assert found.rdf["H-O"].mean[within].max() == 0
    assert found.rdf_whole["H-O"].mean[within].max() > 10
    assert (found.rdf["O-O"].mean == found.rdf_whole["O-O"].mean).all()


def test_without_a_cell_there_are_bonds_but_no_g():
    source = made.water(10, 7)
    found = structure(made.frames(source.species, source.positions, None), r_max=None)
    assert found.rdf == {}
    assert set(found.bond_length) == {"H-O"}


def test_both_ways_of_counting_a_pair_agree():
    """Every H near an O is an O near that H; and each has the neighbours that its g(r) says."""
    found = structure(made.water(30, 8))
    around_o, around_h = found.coordination["O-H"].mean, found.coordination["H-O"].mean
    assert around_o == pytest.approx(2 * around_h, abs=1e-12)
    g = found.rdf["O-O"]
    density = 24 / made.EDGE**3
    edges = np.append(0.0, found.coordination["O-O"].centres)
    counted = np.cumsum(g.mean * 4 / 3 * np.pi * np.diff(edges**3)) * density * 23 / 24
    assert found.coordination["O-O"].mean == pytest.approx(counted, abs=1e-9)


def test_the_first_shell_ends_between_two_peaks():
    r = np.arange(0, 0.6, 0.002)
    g = 1 + 2 * np.exp(-(((r - 0.28) / 0.015) ** 2)) - 0.3 * np.exp(-(((r - 0.35) / 0.02) ** 2))
    g += 0.2 * np.exp(-(((r - 0.45) / 0.04) ** 2))
    g *= r > 0.22
    noisy = g + 0.02 * np.random.default_rng(9).normal(size=len(r)) * (g > 0)
    assert first_minimum(r, noisy) == pytest.approx(0.35, abs=0.01)
    assert first_minimum(r, np.ones(len(r))) is None


def test_a_network_is_no_molecule():
    """A lattice whose atoms are all bonded has neighbours between its atoms, not one molecule without any."""
    n, spacing = 5, 0.3
    grid = spacing * np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1).reshape(1, -1, 3)
    lattice = Trajectory.from_frames(made.frames(("Ar",) * n**3, grid, np.eye(3) * n * spacing))
    bonds = Bonds.found(lattice, {("Ar", "Ar"): 0.35})
    assert len(bonds.pairs) == 3 * n**3
    assert bonds.n_molecules == n**3
