"""The TorchScript module against the NumPy evaluator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import supercell
from openmm_duality.invariants.moments import harmonics
from openmm_duality.losses import FORMS, GRADIENTS, evaluate_agents
from openmm_duality.losses.domain import Domain, KnownEnvironments
from openmm_duality.lowering import export_torchscript, torch_neighbours, torchscript
from openmm_duality.lowering.torch_losses import NeighbourLosses, traced_harmonics
from openmm_duality.lowering.torch_neighbours import find_pairs, neighbour_slots, pairs_from_cells
from openmm_duality.lowering.torchscript import compile_losses
from openmm_duality.units import BOLTZMANN
from tests.systems import (
    CELL,
    NARROW,
    RANKED,
    TRICLINIC,
    alternated,
    laws,
    narrow_positions,
    random_losses,
    random_positions,
    random_species,
    rms,
    with_small_own_part,
)
from tests.water import liquid, water_losses

N = 30
SPECIES = random_species(N)
CELLS = {"orthorhombic": CELL, "triclinic": TRICLINIC, "left-handed": TRICLINIC[[1, 0, 2]], "open": None}


def tensor(array, dtype=torch.float64):
    return None if array is None else torch.tensor(np.array(array), dtype=dtype)


def forward(losses, positions, species, cell, precision="double", dtype=torch.float64):
    energy, forces = compile_losses(losses, species, precision)(tensor(positions, dtype), tensor(cell, dtype))
    assert forces.dtype == dtype
    assert forces.is_contiguous()
    return float(energy), forces.numpy().astype(float)


TOLERANCE = {"double": 1e-12, "single": 1e-5}
FULL = [form for form in RANKED if form.endswith("3")]  # with the highest rank, alone and among all


# a module takes half a second of the processor, and memory that torch never gives back
@pytest.mark.parametrize(
    ("form", "gradient", "precision"),
    [
        *((*law, "double") for law in laws(FORMS)),
        *((*law, "single") for law in [*alternated(FORMS), ("channels", "mutual")]),
        *((*law, "double") for law in alternated(RANKED)),
        *((*law, "single") for law in alternated(FULL)),
    ],
)
def test_forces_sum_of_losses_and_virial_are_those_of_the_evaluator(form, gradient, precision):
    losses, tolerance = random_losses(form, gradient), TOLERANCE[precision]
    module = compile_losses(losses, SPECIES, precision)
    for cell in CELLS.values():
        positions = random_positions(N, CELL if cell is None else cell)
        expected = evaluate_agents(losses, positions, SPECIES, cell)
        energy, forces = module(tensor(positions), tensor(cell))
        assert np.abs(forces.numpy() - expected.forces).max() < tolerance * rms(expected.forces)
        assert float(energy) == pytest.approx(expected.energy, abs=tolerance * np.abs(expected.losses).sum())
        if cell is not None and expected.virial is not None:
            virial = module.virial(tensor(positions), tensor(cell)).numpy()
            assert np.abs(virial - expected.virial).max() < tolerance * np.abs(expected.virial).max()
        elif cell is not None:
            with pytest.raises(torch.jit.Error, match="a virial needs a potential energy"):
                module.virial(tensor(positions), tensor(cell))


@pytest.mark.parametrize("form", ["coupled", "channels"])
def test_an_own_part_of_few_columns(form):
    losses, positions = with_small_own_part(random_losses(form, "mutual")), random_positions(N, CELL)
    forces = forward(losses, positions, SPECIES, CELL)[1]
    expected = evaluate_agents(losses, positions, SPECIES, CELL).forces
    assert np.abs(forces - expected).max() < 1e-12 * rms(expected)


def with_random_means(losses):
    """The losses with a domain whose mean descriptors are any numbers."""
    s, n = len(losses.species), losses.basis.size
    rng, pairs = np.random.default_rng(4), s * n * (s * n + 1) // 2
    size = s * n + pairs * sum(rank > 0 for rank in losses.form.all_ranks)
    known = tuple(KnownEnvironments(rng.normal(size=size), np.ones((size, 1)), 1.0) for _ in range(s))
    domain = Domain(np.ones((s, s, losses.grid.intervals)), known, np.ones((s + 1, 2)), 1.0, 1.0)
    return replace(losses, domain=domain, core_strength=np.zeros((s, s)))


@pytest.mark.parametrize(("form", "gradient"), laws(["moment", "coupled", "coupled, ranks 0 to 3"]))
def test_losses_about_any_means_are_the_same_losses(form, gradient):
    losses, positions = with_random_means(random_losses(form, gradient)), random_positions(N, CELL)
    energy, forces = forward(losses, positions, SPECIES, CELL)
    expected = evaluate_agents(losses, positions, SPECIES, CELL)
    assert np.abs(forces - expected.forces).max() < 1e-11 * rms(expected.forces)
    assert energy == pytest.approx(expected.energy, abs=1e-11 * np.abs(expected.losses).sum())


def test_noise_of_energies_in_single_precision_is_below_a_hundredth_of_kt_for_100_000_atoms():
    """Of the difference of two energies, which the acceptance test of a Monte Carlo barostat takes."""
    losses, start = water_losses("collective"), liquid()[1]
    single, double = (torchscript.LossesModule(losses, start.species, precision) for precision in ("single", "double"))
    errors = []
    for scale in 1.0 + 3e-4 * np.random.default_rng(0).normal(size=16):
        given = tensor(scale * start.positions[0]), tensor(scale * start.cell(0))
        errors.append(float(single(*given)[0] - double(*given)[0]))
    noise = np.sqrt(2.0) * np.std(errors, ddof=1) / (BOLTZMANN * 300.0)
    assert 0.0 < noise * np.sqrt(1e5 / len(start.species)) < 0.01


def test_single_precision_positions_give_forces_in_single_precision():
    losses = random_losses("moment")
    positions = random_positions(N, CELL)
    _, forces = forward(losses, positions, SPECIES, CELL, "single", torch.float32)
    expected = evaluate_agents(losses, positions, SPECIES, CELL).forces
    assert rms(forces - expected) < 1e-4 * rms(expected)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_nothing_is_recorded_of_positions_that_require_a_gradient(gradient):
    """TorchForce gives such positions, and a recorded computation takes half as long again."""
    positions = tensor(random_positions(N, CELL)).requires_grad_()
    module = torch.jit.freeze(compile_losses(random_losses("coupled", gradient), SPECIES))
    for _ in range(4):  # the first calls run another program than the later ones
        energy, forces = module(positions, tensor(CELL))
        assert not energy.requires_grad
        assert not forces.requires_grad
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("form", "precision"), [*((form, "double") for form in FORMS), ("coupled", "single")])
def test_agents_evaluated_a_few_at_a_time_have_the_same_forces(form, precision, monkeypatch):
    losses, positions = random_losses(form), random_positions(N, CELL)
    energy, forces = forward(losses, positions, SPECIES, CELL, precision)
    monkeypatch.setattr(torchscript, "CHUNK", 7)
    other_energy, others = forward(losses, positions, SPECIES, CELL, precision)
    tolerance = 1e-12 if precision == "double" else 1e-5
    np.testing.assert_allclose(others, forces, atol=tolerance * rms(forces))
    assert other_energy == pytest.approx(energy, rel=tolerance)


@pytest.mark.parametrize("rank", range(4))
def test_harmonics_and_their_gradients_are_those_of_the_evaluator(rank):
    rng = np.random.default_rng(rank)
    u = rng.normal(size=(4, 5, 3))
    u /= np.linalg.norm(u, axis=-1)[..., None]
    w = rng.normal(size=(4, 5, 2 * rank + 1))
    y, dy = harmonics(rank, u)
    unit = torch.tensor(np.moveaxis(u, -1, 0).copy())
    np.testing.assert_allclose(np.moveaxis(traced_harmonics([rank])(unit, unit[0]).numpy(), 0, -1), y, atol=1e-14)
    before = rng.normal(size=(3, 4, 5))
    gradient = torch.tensor(before)
    module = torch.jit.script(NeighbourLosses(random_losses("moment, ranks 0 to 3"), "double"))
    module.add_harmonic_gradients(rank, torch.tensor(np.moveaxis(w, -1, 0).copy()), unit, gradient)
    added = np.moveaxis(gradient.numpy() - before, 0, -1)
    np.testing.assert_allclose(added, np.einsum("ijm,ijmx->ijx", w, dy), atol=1e-13)


@pytest.mark.parametrize("form", [*FORMS, *FULL])
def test_gradients_by_displacements_are_those_of_the_losses(form):
    """The module of losses alone, without search and sums over neighbours, by central differences."""
    losses, h = random_losses(form), 1e-6
    species_index = losses.index_of(sorted(SPECIES))
    index, s = torch.tensor(species_index), len(losses.species)
    pairs = find_pairs(tensor(random_positions(N, CELL)), tensor(CELL), losses.cutoff, index, s)
    _, displacement, neighbour_ends = neighbour_slots(0, N, *pairs, index, s, losses.cutoff)
    agent_ends = [0, *np.cumsum(np.bincount(species_index)).tolist()]
    module = torch.jit.script(NeighbourLosses(losses, "double"))

    def evaluated(d):
        found, by_displacement, _ = module(d, neighbour_ends, index, agent_ends)
        return found.numpy(), by_displacement.numpy()

    own, gradient = evaluated(displacement)
    assert own.shape == (N,)
    for axis, slot in ((0, 0), (1, neighbour_ends[1]), (2, neighbour_ends[2])):
        ends = []
        for sign in (1, -1):
            moved = displacement.clone()
            moved[axis, :, slot] += sign * h
            ends.append(evaluated(moved)[0])
        numerical = (ends[0] - ends[1]) / (2 * h)
        np.testing.assert_allclose(gradient[axis, :, slot], numerical, atol=1e-6 * rms(gradient))


@pytest.mark.parametrize(
    ("form", "precision", "tolerance"), [*((form, "double", 1e-9) for form in FORMS), ("coupled", "single", 1e-3)]
)
def test_atoms_without_neighbours_of_a_species_or_of_any(form, precision, tolerance):
    losses = random_losses(form)
    for species in (("Xe",), ("Ar", "Ar"), ("Ar", "Kr", "Ar")):
        positions = np.arange(len(species))[:, None] * np.array([0.31, 0.0, 0.0])
        expected = evaluate_agents(losses, positions, species)
        energy, forces = forward(losses, positions, species, None, precision)
        np.testing.assert_allclose(forces, expected.forces, atol=tolerance)
        assert energy == pytest.approx(expected.energy, abs=tolerance)


def pair_set(pairs, species_index=None):
    i, j, d = (x.numpy() for x in pairs)
    species_index = np.zeros(int(j.max()) + 1, dtype=int) if species_index is None else species_index
    assert (np.diff(i * (species_index.max() + 1) + species_index[j]) >= 0).all()
    order = np.lexsort((j, i))
    return i[order], j[order], d[:, order].T


def species_index_of(positions, n_species=1):
    """Species of atoms, in ascending order, as the pair search wants them."""
    return torch.tensor(np.sort(np.arange(len(positions)) % n_species))


def every_pair(positions, box, n_species=1, chunk=100):
    species_index = species_index_of(positions, n_species)
    pairs = find_pairs(positions, box, 0.5, species_index, n_species, cells_from=10_000, chunks=(chunk, chunk))
    return pair_set(pairs, species_index.numpy())


def cell_pairs(positions, box, n_species=1, chunk=100):
    species_index = species_index_of(positions, n_species)
    pairs = pairs_from_cells(positions, box, 0.5, species_index, n_species, chunk, len(positions))
    return pair_set(pairs, species_index.numpy())


def far_outside(positions, cell, seed=0):
    return positions + np.random.default_rng(seed).integers(-40, 40, size=positions.shape) @ cell


@pytest.mark.parametrize(("chunk", "n_species"), [(4096, 1), (100, 3), (77, 2)])
@pytest.mark.parametrize("name", CELLS)
def test_cells_find_the_pairs_that_all_pairs_find(name, chunk, n_species):
    cell = CELLS[name]
    box = 3.0 * (CELL if cell is None else cell)
    positions = np.random.default_rng(1).uniform(-1, 2, size=(400, 3)) @ box
    periodic = None if cell is None else tensor(box)
    every = every_pair(tensor(positions), periodic, n_species, chunk)
    cells = cell_pairs(tensor(positions), periodic, n_species, chunk)
    for one, other in zip(every, cells, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    assert len(every[0]) > 40


@pytest.mark.parametrize("copies", [(1, 1, 8), (1, 5, 1), (2, 1, 4), (1, 1, 1)])
def test_cells_of_thin_boxes(copies):
    """Along an axis of one or two cells every cell is a neighbour, once."""
    box = np.array(copies)[:, None] * TRICLINIC
    positions = np.random.default_rng(4).uniform(size=(300, 3)) @ box
    every = every_pair(tensor(positions), tensor(box))
    cells = cell_pairs(tensor(positions), tensor(box), 3)
    for one, other in zip(every, cells, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_cells_of_atoms_far_outside_the_box():
    box = 3.0 * TRICLINIC
    positions = np.random.default_rng(2).uniform(size=(400, 3)) @ box
    inside = cell_pairs(tensor(positions), tensor(box))
    outside = cell_pairs(tensor(far_outside(positions, box)), tensor(box))
    for one, other in zip(inside, outside, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


def test_the_number_of_cells_does_not_grow_with_empty_space():
    positions = np.vstack([random_positions(30, CELL), [[4e4, 0.0, 0.0], [0.0, 5e4, 0.0], [0.0, 5e4, 6e4]]])
    i, j, _ = cell_pairs(tensor(positions), None)
    expected = every_pair(tensor(positions), None)
    np.testing.assert_array_equal(i, expected[0])
    np.testing.assert_array_equal(j, expected[1])


def test_a_system_large_enough_for_cells_has_the_forces_of_the_evaluator():
    losses = random_losses("quadratic")
    shifts = np.stack(np.meshgrid(*3 * [np.arange(4)], indexing="ij"), axis=-1).reshape(-1, 3) @ CELL
    positions = (random_positions(N, CELL) + shifts[:, None]).reshape(-1, 3)
    species = SPECIES * len(shifts)
    assert len(positions) > torch_neighbours.CELLS_FROM
    single = evaluate_agents(losses, positions[:N], SPECIES, CELL)
    energy, forces = forward(losses, far_outside(positions, 4 * CELL), species, 4 * CELL)
    np.testing.assert_allclose(forces, np.tile(single.forces, (64, 1)), atol=1e-8 * rms(single.forces))
    assert energy == pytest.approx(64 * single.energy, rel=1e-9)


@pytest.mark.parametrize(
    ("form", "gradient", "precision", "tolerance"),
    [
        *((*law, "double", 1e-11) for law in alternated(FORMS)),
        *((*law, "single", 1e-5) for law in [("coupled", "mutual"), ("channels", "collective")]),
    ],
)
def test_narrow_boxes_have_the_forces_of_the_evaluator(form, gradient, precision, tolerance):
    losses = random_losses(form, gradient)
    for copies in ((1, 1, 1), (2, 1, 1)):
        module = None
        for cell in NARROW.values():
            shifted = narrow_positions(cell) + np.array([[5, -3, 0], [0, 1, -7]]) @ cell
            positions, species, box = supercell(shifted, SPECIES[:2], cell, copies)
            expected = evaluate_agents(losses, positions, species, box)
            module = module or compile_losses(losses, species, precision)
            energy, forces = module(tensor(positions), tensor(box))
            np.testing.assert_allclose(forces.numpy(), expected.forces, atol=tolerance * rms(expected.forces))
            assert float(energy) == pytest.approx(expected.energy, abs=tolerance * np.abs(expected.losses).sum())
            if expected.virial is not None:
                virial = module.virial(tensor(positions), tensor(box)).numpy()
                assert np.abs(virial - expected.virial).max() < tolerance * np.abs(expected.virial).max()


@pytest.mark.parametrize("n_species", [1, 3])
@pytest.mark.parametrize("name", NARROW)
def test_cells_find_the_images_that_all_pairs_find(name, n_species):
    box = tensor(np.diag([2.0, 1.0, 1.0]) @ NARROW[name])
    positions = tensor(np.random.default_rng(1).uniform(-1, 2, size=(60, 3))) @ box
    index, results = species_index_of(positions, n_species), []
    for cells_from in (10**6, 0):
        i, j, d = find_pairs(positions, box, 0.5, index, n_species, cells_from, (7, 7))
        assert (np.diff((i * n_species + index[j]).numpy()) >= 0).all()
        results.append(sorted(map(tuple, np.round(np.stack([i.numpy(), j.numpy(), *d.numpy()], axis=1), 9))))
    assert results[0] == results[1]
    assert len(set(results[0])) == len(results[0]) > 60


def test_a_model_is_not_tied_to_one_number_of_atoms_and_unknown_things_are_refused(tmp_path):
    losses = random_losses("pair")
    for n in (3, 11):
        positions = random_positions(n, CELL)
        forces = forward(losses, positions, SPECIES[:n], CELL)[1]
        np.testing.assert_allclose(forces, evaluate_agents(losses, positions, SPECIES[:n], CELL).forces, atol=1e-9)
    with pytest.raises(DualityError, match="Ne"):
        compile_losses(losses, ("Ne",))
    with pytest.raises(DualityError, match="half"):
        compile_losses(losses, SPECIES, "half")


def test_file_of_the_module_is_written_whole_or_not_at_all(tmp_path):
    losses = random_losses("moment")
    export_torchscript(losses, SPECIES, tmp_path / "losses.pt")
    positions = random_positions(N, CELL)
    _, forces = torch.jit.load(str(tmp_path / "losses.pt"))(tensor(positions), tensor(CELL))
    expected = evaluate_agents(losses, positions, SPECIES, CELL).forces
    assert np.abs(forces.numpy() - expected).max() < 1e-9 * rms(expected)
    with pytest.raises(DualityError, match="overwritten"):
        export_torchscript(losses, SPECIES, tmp_path / "losses.pt")
    with pytest.raises(DualityError, match="Ne"):
        export_torchscript(losses, ("Ne",), tmp_path / "other.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["losses.pt"]
    export_torchscript(replace(losses, gradient="agent"), SPECIES, tmp_path / "losses.pt", overwrite=True)
