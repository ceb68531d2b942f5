"""Tetrahedral order and hydrogen bonds against lattices, random directions, geometry by hand and mdtraj's distances."""

from itertools import product

import mdtraj
import numpy as np
import pytest

from openmm_duality.observables.bonds import Bonds
from openmm_duality.observables.local_structure import Frame, HydrogenBonds
from openmm_duality.observables.structure import collect_histograms
from openmm_duality.observables.trajectory import Trajectory
from openmm_duality.reference.frames import Frames
from tests.observables import made

TRICLINIC = np.array([[1.4, 0.0, 0.0], [0.3, 1.3, 0.0], [-0.2, 0.25, 1.35]])


def of(frames: Frames, lengths=None):
    trajectory = Trajectory.from_frames(frames)
    return collect_histograms(trajectory, Bonds.found(trajectory, lengths or {}), 0.55, progress=False).joined(1)


def diamond(cells: int = 3, edge: float = 0.3567) -> Frames:
    corners = np.array(list(product(range(cells), repeat=3)), dtype=float)
    face = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    basis = np.concatenate([face, face + 0.25])
    positions = edge * (corners[:, None] + basis).reshape(1, -1, 3)
    return made.frames(("C",) * positions.shape[1], positions, np.eye(3) * cells * edge)


def test_diamond_is_tetrahedral():
    found = of(diamond())
    assert found.tetrahedral_order["C"].average.mean == pytest.approx(1, abs=1e-9)
    assert found.neighbour_angle["C-C-C"].average.mean == pytest.approx(np.degrees(np.arccos(-1 / 3)), abs=1e-5)
    running = found.coordination["C-C"]
    first, second = (running.mean[np.searchsorted(running.centres, r)] for r in (0.2, 0.27))
    assert (first, second) == pytest.approx((4, 16), abs=1e-9)


def test_a_simple_cubic_lattice_has_the_order_of_its_right_angles():
    """Six equal neighbours; whichever four are taken, the pairs are at 90 or 180 degrees."""
    n, spacing = 4, 0.3
    grid = spacing * np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1).reshape(1, -1, 3)
    found = of(made.frames(("Ar",) * n**3, grid, np.eye(3) * n * spacing)).tetrahedral_order["Ar"]
    allowed = {1 - 3 / 8 * (k * 4 / 9 + (6 - k) / 9) for k in (1, 2)}
    assert min(allowed) - 1e-9 <= found.average.mean <= max(allowed) + 1e-9


@pytest.mark.parametrize("cell", [1.3 * np.eye(3), TRICLINIC])
def test_random_directions_have_no_order(cell):
    gas = made.frames(("Ar",) * 80, np.random.default_rng(1).random((60, 80, 3)) @ cell, cell)
    found = of(gas)
    assert found.tetrahedral_order["Ar"].average.mean == pytest.approx(0, abs=0.02)
    assert found.neighbour_angle["Ar-Ar-Ar"].average.mean == pytest.approx(90, abs=0.5)


def test_order_and_hydrogen_bonds_do_not_see_images():
    source = made.water(5, 2)
    a, b = (of(frames, {("H", "O"): 0.12}) for frames in (source, made.imaged(source)))
    assert a.tetrahedral_order["O"].average.mean == pytest.approx(b.tetrahedral_order["O"].average.mean, abs=1e-9)
    assert a.hydrogen_bonds == pytest.approx(b.hydrogen_bonds)


def dimer(distance: float, degrees: float) -> int:
    """Two waters: the first gives its hydrogen to the second, this far away and this far off the line."""
    angle = np.radians(degrees)
    donor = [[0, 0, 0], [0.097 * np.cos(angle), 0.097 * np.sin(angle), 0], [-0.03, -0.09, 0]]
    acceptor = [[distance, 0, 0], [distance + 0.06, 0.05, 0.05], [distance + 0.06, -0.05, 0.05]]
    frames = made.frames(("O", "H", "H") * 2, np.array([donor + acceptor]), None)
    trajectory = Trajectory.from_frames(frames)
    bonds = Bonds.found(trajectory, {("H", "O"): 0.12})
    meter = HydrogenBonds(frames.species, bonds, 1)
    return len(meter.find(Frame.of(frames.positions[0], None, 0.5)))


@pytest.mark.parametrize(
    ("distance", "degrees", "count"),
    [(0.28, 0, 1), (0.345, 0, 1), (0.355, 0, 0), (0.28, 29, 1), (0.28, 31, 0), (0.345, -29, 1)],
)
def test_a_dimer_is_bonded_by_the_stated_geometry(distance, degrees, count):
    assert dimer(distance, degrees) == count


def test_hydrogen_bonds_are_those_of_mdtrajs_distances_and_angles():
    source = made.water(4, 3, edge=1.0)
    trajectory = Trajectory.from_frames(source)
    bonds = Bonds.found(trajectory, {("H", "O"): 0.12})
    meter = HydrogenBonds(source.species, bonds, 1)
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for symbol in source.species:
        topology.add_atom(symbol, mdtraj.element.get_by_symbol(symbol), topology.add_residue("MOL", chain))
    other = mdtraj.Trajectory(source.positions, topology)
    other.unitcell_vectors = source.cells
    triples = np.array([(3 * a, 3 * a + h, 3 * b) for a, b in product(range(24), repeat=2) for h in (1, 2) if a != b])
    far = mdtraj.compute_distances(other, triples[:, [0, 2]])
    off = np.degrees(mdtraj.compute_angles(other, triples[:, [1, 0, 2]]))
    for t in range(len(source)):
        expected = {tuple(row) for row in triples[(far[t] < 0.35) & (off[t] < 30)].tolist()}
        found = {tuple(row) for row in meter.find(Frame.of(source.positions[t], source.cell(t), 0.5)).tolist()}
        assert found == expected
        assert len(found) > 10


def test_argon_has_no_hydrogen_bonds():
    gas = made.frames(("Ar",) * 30, np.random.default_rng(4).random((3, 30, 3)), np.eye(3))
    assert of(gas).hydrogen_bonds is None
