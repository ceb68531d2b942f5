"""Frames with groups rotated about bonds: exact for molecules of stiff bonds and angles, and what they are good for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import openmm as mm
import pytest
from ase import Atoms
from ase.build import molecule
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.geometry.contacts import screened_repulsion
from openmm_duality.geometry.molecules import bonded_pairs, find_molecules
from openmm_duality.inference import DataSet, add_frames, evaluate, infer
from openmm_duality.inference.equations.inference import Inference
from openmm_duality.inference.equations.penalties import ROTAMER_GRID, ROTAMERS
from openmm_duality.inference.equations.rotamers import rotated_frames
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.fitting import regularisation_candidates
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.mixed_frames import MixedFrames
from openmm_duality.report.inference_notes import inference_notes
from openmm_duality.units import ANGSTROM

LEVELS = {("H", "H"): 0.12}
LENGTHS = {("C", "H"): 0.14, ("C", "C"): 0.2, ("C", "O"): 0.19, ("H", "O"): 0.13}
STRETCH, BEND = 2.5e5, 400.0  # kJ/mol/nm² and kJ/mol/rad²


class StiffMolecule:
    """Harmonic bonds and angles, free rotation, and nuclei that repel where they are four or more bonds apart."""

    def __init__(self, atoms: Atoms) -> None:
        self.atoms, self.species = atoms, tuple(atoms.symbols)
        self.equilibrium = ANGSTROM * atoms.positions
        n = len(atoms)
        bonds = bonded_pairs(self.equilibrium, self.species, None, LENGTHS)
        near = np.zeros((n, n), dtype=int)
        near[tuple(bonds.T)] = near[tuple(bonds.T[::-1])] = 1
        reach = np.linalg.matrix_power(np.eye(n, dtype=int) + near, 3) > 0
        self.apart = np.argwhere(np.triu(~reach))
        system, stretch, bend = mm.System(), mm.HarmonicBondForce(), mm.HarmonicAngleForce()
        for mass in atoms.get_masses():
            system.addParticle(mass)
        for i, j in bonds.tolist():
            stretch.addBond(i, j, ANGSTROM * atoms.get_distance(i, j), STRETCH)
        for j in range(n):
            around = np.flatnonzero(near[j]).tolist()
            for a, i in enumerate(around):
                for k in around[a + 1 :]:
                    bend.addAngle(i, j, k, np.radians(atoms.get_angle(i, j, k)), BEND)
        system.addForce(stretch)
        system.addForce(bend)
        self.context = mm.Context(system, mm.VerletIntegrator(1e-3), mm.Platform.getPlatformByName("Reference"))

    def forces(self, positions):
        """Forces in kJ/mol/nm, those of the nuclei by central differences."""
        self.context.setPositions(positions)
        state = self.context.getState(forces=True)
        forces = np.array(state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer))
        for i, j in self.apart.tolist():
            vector = positions[i] - positions[j]
            r, pair, h = np.linalg.norm(vector), (self.species[i], self.species[j]), 1e-6
            slope = (screened_repulsion(pair, r + h) - screened_repulsion(pair, r - h)) / (2.0 * h)
            forces[i] -= slope * vector / r
            forces[j] += slope * vector / r
        return forces

    def frames(self, count, seed=0, spread=0.004, start=None):
        """Frames with atoms displaced at random by `spread` (nm) in every component."""
        rng = np.random.default_rng(seed)
        start = self.equilibrium if start is None else start
        positions = start + rng.normal(scale=spread, size=(count, *start.shape))
        numbers = np.arange(count)
        forces = np.array([self.forces(x) for x in positions])
        return Frames(self.species, self.atoms.get_masses(), positions, 0.1 * numbers, numbers, None, forces)


@pytest.fixture(scope="module", params=["trans-butane", "CH3CH2OCH3", "CH3CH2OH"])
def stiff(request):
    return StiffMolecule(molecule(request.param))


def test_rotated_forces_are_exact_where_rotation_is_free(stiff):
    frames = stiff.frames(4)
    rotated = rotated_frames(frames, LENGTHS, LEVELS, repeats=3)
    assert len(rotated) == 12
    for x, forces in zip(rotated.positions, rotated.forces, strict=True):
        expected = stiff.forces(x)
        np.testing.assert_allclose(forces, expected, atol=1e-6 * np.abs(expected).max())
        np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-8)
        np.testing.assert_allclose(np.cross(x, forces).sum(axis=0), 0.0, atol=1e-8)
        assert min(np.abs(x - frame).max() for frame in frames.positions) > 1e-3  # it is another one


def test_a_molecule_in_a_wide_cell_is_rotated_as_without_a_cell_and_one_near_its_images_is_not(stiff):
    frames = stiff.frames(2)
    alone = rotated_frames(frames, LENGTHS, LEVELS)
    shifted = frames.positions + np.array([2.9, 0.0, 0.0])

    def in_cell(width):
        cells = np.repeat(width * np.eye(3)[None], 2, axis=0)
        return replace(frames, positions=shifted % width, cells=cells)

    wide = rotated_frames(in_cell(3.0), LENGTHS, LEVELS)
    np.testing.assert_allclose(wide.forces, alone.forces, atol=1e-6 * np.abs(alone.forces).max())
    assert rotated_frames(in_cell(0.6), LENGTHS, LEVELS) is None


def frames_of(atoms):
    """Two equal frames without forces on any atom."""
    n = len(atoms)
    positions = np.repeat(ANGSTROM * atoms.positions[None], 2, axis=0)
    return Frames(
        tuple(atoms.symbols), atoms.get_masses(), positions, np.arange(2.0), np.arange(2), None, np.zeros((2, n, 3))
    )


def enol(proton):
    """A chain of OCCCO with a proton at a place in Å."""
    chain = [[-1.24, 0.0, 0.0], [-1.24, 1.36, 0.0], [0.0, 2.1, 0.0], [1.24, 1.36, 0.0], [1.24, 0.0, 0.0]]
    return Atoms("OCCCOH", positions=[*chain, proton])


def test_double_bonds_hydrogen_bonds_and_several_molecules_are_left_as_they_are():
    for name, rotates in (("C2H6", True), ("C2H4", False), ("C2H2", False), ("CH4", False)):
        assert (rotated_frames(frames_of(molecule(name)), LENGTHS, LEVELS) is not None) == rotates
    assert rotated_frames(frames_of(enol([-0.3, -0.1, 0.0])), LENGTHS, LEVELS) is None
    assert rotated_frames(frames_of(enol([-2.1, -0.4, 0.0])), LENGTHS, LEVELS) is not None
    two = molecule("C2H6")
    other = two.copy()
    other.positions += [6.0, 0.0, 0.0]
    assert rotated_frames(frames_of(two + other), LENGTHS, LEVELS) is None


def test_atoms_that_meet_come_no_closer_than_nuclei_do():
    stiff = StiffMolecule(molecule("trans-butane"))
    rotated = rotated_frames(stiff.frames(5, spread=0.001), LENGTHS, LEVELS, repeats=40)
    shortest = {}
    for x in rotated.positions:
        assert len(find_molecules(x, rotated.species, None, LENGTHS)) == 1
        for i, j in stiff.apart.tolist():
            pair = tuple(sorted((stiff.species[i], stiff.species[j])))
            shortest[pair] = min(shortest.get(pair, 1.0), np.linalg.norm(x[i] - x[j]))
    for pair, r in shortest.items():
        assert screened_repulsion(pair, r) <= 5.0 * 96.49  # 5 eV
    assert 0.12 <= shortest["H", "H"] < 0.13  # and they do meet


@pytest.fixture(scope="module")
def butane():
    """Frames of trans-butane, with forces that no losses describe to 5 %, and of another conformer."""
    stiff = StiffMolecule(molecule("trans-butane"))
    atoms = stiff.atoms.copy()
    atoms.set_dihedral(0, 1, 2, 3, 70.0, indices=[2, 3, 5, 8, 9, 12, 13])
    frames, noise = stiff.frames(60), np.random.default_rng(9).normal(scale=70.0, size=(60, len(atoms), 3))
    return replace(frames, forces=frames.forces + noise), stiff.frames(10, seed=7, start=ANGSTROM * atoms.positions)


@pytest.mark.parametrize(("gradient", "most"), [("collective", 0.5), ("agent", 0.99)])
def test_a_model_of_one_conformer_knows_others_by_them(butane, gradient, most):
    frames, other = butane
    settings = {"form": "moment", "gradient": gradient, "cutoff": 0.5, "members": 0}
    without, model = (infer(frames, **settings, **more) for more in ({"rotamers": 0.0}, {}))
    chosen = [strengths[ROTAMERS] for strengths in model.metadata["regularisation"]]
    assert max(chosen) > 0.0
    assert without.metadata["synthetic_frames"]["rotamers"] == 0 < 50 < model.metadata["synthetic_frames"]["rotamers"]
    assert ROTAMERS not in without.metadata["regularisation"][0]
    before, after = (evaluate(losses, other).force_rmse["all"] for losses in (without, model))
    assert after < most * before
    given = infer(frames, **settings, rotamers=0.02).metadata["regularisation"]
    assert {strengths[ROTAMERS] for strengths in given} == {0.02}


def test_frames_are_added_to_a_model_with_its_rotamers(butane):
    frames, other = butane
    settings = {"form": "moment", "cutoff": 0.5, "members": 0, "ridge": 1e-7, "curvature": 1e-4, "rotamers": 0.01}
    model = infer(frames, **settings, keep_equations=True)
    again = add_frames(model, frames)  # the same once more: the mean squared error is unchanged
    for one, two in ((model, again), (infer(DataSet(frames, weight=3.0), **settings), model)):
        assert two.pair_coefficients == pytest.approx(one.pair_coefficients, rel=1e-5, abs=1e-5)
    assert add_frames(model, other).metadata["regularisation"] == model.metadata["regularisation"]


def test_of_channels_that_fail_stronger_penalties_are_tried():
    frames = StiffMolecule(molecule("CH3CH2OH")).frames(40)  # which losses describe so well that a penalty costs much
    settings = {"form": "channels", "cutoff": 0.5, "channels": 4, "invariants": [20, 40, 0], "mixing_steps": 0}
    inference = Inference.of([DataSet(frames)], Settings(**settings, members=0))
    first, *others = [mine[0] for mine in regularisation_candidates(inference)]
    rising = [strength for strength in ROTAMER_GRID if strength > first[ROTAMERS]]
    assert rising
    assert [one[ROTAMERS] for one in others[: len(rising)]] == rising
    assert all({**one, ROTAMERS: 0.0} == {**first, ROTAMERS: 0.0} for one in others[: len(rising)])
    assert {one[ROTAMERS] for one in others[len(rising) :]} == {first[ROTAMERS]}


def test_parts_of_one_composition_each_are_rotated(butane):
    frames, _ = butane
    ethanol = StiffMolecule(molecule("CH3CH2OH")).frames(30)
    both = MixedFrames((frames, replace(ethanol, steps=ethanol.steps + 60)))
    model = infer(both, form="quadratic", cutoff=0.5, members=0, ridge=1e-7, curvature=1e-4)
    assert model.metadata["synthetic_frames"]["rotamers"] > 60


def test_what_cannot_be_rotated_takes_no_share_of_the_frames(stiff):
    frames, rigid = stiff.frames(20), StiffMolecule(molecule("C6H6")).frames(200)
    rigid = replace(rigid, steps=rigid.steps + 20)
    broken = frames.positions.copy()
    broken[0, 0] += 1.0  # an atom is away in the first frame
    settings = {"form": "pair", "cutoff": 0.5, "pair_functions": 8, "members": 0, "ridge": 1e-7, "curvature": 1e-4}
    alone = infer(frames, **settings).metadata["synthetic_frames"]["rotamers"]
    assert alone > 50
    assert infer(MixedFrames((frames, rigid)), **settings).metadata["synthetic_frames"]["rotamers"] >= alone
    assert infer(replace(frames, positions=broken), **settings).metadata["synthetic_frames"]["rotamers"] > 50
    deuterated = replace(frames, species=tuple("D" if name == "H" else name for name in frames.species))
    assert infer(deuterated, **settings).metadata["synthetic_frames"]["rotamers"] == 0


def test_molecules_of_two_atoms_have_nothing_to_rotate():
    assert rotated_frames(StiffMolecule(molecule("H2O")[:2]).frames(5), LENGTHS, LEVELS) is None


def test_few_frames_have_no_penalty_and_nothing_to_rotate_is_told(stiff):
    settings = {"form": "pair", "cutoff": 0.5, "pair_functions": 8, "members": 0, "ridge": 1e-7, "curvature": 1e-4}
    model = infer(stiff.frames(1), **settings)
    assert model.metadata["regularisation"][0][ROTAMERS] == 0.0
    assert "held-out frames allow no penalty" in " ".join(inference_notes(model, 0))
    with pytest.warns(UserWarning, match="no frame with forces shows a single molecule"):
        infer(StiffMolecule(molecule("CH4")).frames(5), **settings, rotamers=0.01)
    baseline = stiff.context.getSystem()
    with pytest.raises(DualityError, match="rotamers and a baseline"):
        infer(stiff.frames(3), **settings, rotamers=0.01, baseline=baseline)
    beside = infer(stiff.frames(3), **settings, baseline=baseline).metadata["synthetic_frames"]
    assert beside == {"rotamers": 0, "separations": 0}
