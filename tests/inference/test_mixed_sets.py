"""Inference from sets of several compositions, and energies with one constant per species."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule

from openmm_duality.errors import DualityError
from openmm_duality.inference import DataSet, assess_calibration, evaluate, fit_delta, infer
from openmm_duality.inference.adding_frames import add_frames
from openmm_duality.inference.equations.inference import Inference
from openmm_duality.inference.equations.targets import bond_lengths_of
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.mixed_frames import MixedFrames
from openmm_duality.units import MEV, MEV_PER_ANGSTROM
from tests.inference.test_recovery import SMALL, force_errors, labelled_by_noise
from tests.systems import SPECIES, labelled, random_frames, randomised, rms

CONSTANTS = {"Ar": -1.2e4, "Kr": 3.4e4}


def interleaved(parts):
    """A sequence in which frames of all parts alternate."""
    return MixedFrames(
        tuple(
            replace(part, steps=len(parts) * np.arange(len(part)) + k, source=(f"part {k}",))
            for k, part in enumerate(parts)
        )
    )


def with_constants(frames, constants=CONSTANTS):
    """The same frames with energies of another zero."""
    return replace(frames, energies=frames.energies + sum(constants[name] for name in frames.species))


def reordered(frames):
    """The same frames with their atoms in reverse order."""
    return replace(
        frames, species=frames.species[::-1], masses=frames.masses[::-1], positions=frames.positions[:, ::-1]
    )


def isolated(name, energy):
    """A single atom without periodic boundaries."""
    atom = random_frames(1, n_atoms=2)
    i = atom.species.index(name)
    return replace(
        atom,
        species=(name,),
        masses=atom.masses[[i]],
        positions=np.zeros((1, 1, 3)),
        cells=None,
        forces=np.zeros((1, 1, 3)),
        energies=np.array([energy]),
    )


def clusters(name, n=20):
    """Frames of a molecule without periodic boundaries."""
    images = [molecule(name) for _ in range(n)]
    for seed, atoms in enumerate(images):
        atoms.rattle(0.03, seed=seed)
    return Frames.from_ase(images)


def test_bonds_are_those_of_all_compositions_and_the_longest_counts():
    ethane, butyne, water = clusters("C2H6"), clusters("2-butyne", 8), clusters("H2O", 40)
    hydrogen, nitrogen = clusters("H2", 12), clusters("N2", 12)
    found = bond_lengths_of([DataSet(interleaved([water, butyne, ethane, hydrogen, nitrogen]))])
    assert set(found) == {("C", "C"), ("C", "H"), ("H", "H"), ("H", "O"), ("N", "N")}
    assert found["C", "C"] > 0.16
    first, then = DataSet(butyne), DataSet(interleaved([ethane, water]))
    assert bond_lengths_of([first, then]) == {**bond_lengths_of([then]), **bond_lengths_of([first])}


def test_a_dimer_does_not_bond_a_crystal():
    crystal = bulk("Si", cubic=True)
    images = [crystal.copy() for _ in range(20)]
    for seed, atoms in enumerate(images):
        atoms.rattle(0.05, seed=seed)
    bonded = bond_lengths_of([DataSet(clusters("Si2", 12))])
    assert bonded["Si", "Si"] > 0.24
    assert not bond_lengths_of([DataSet(interleaved([Frames.from_ase(images), clusters("Si2", 12)]))])


def unlabelled():
    """Periodic and open frames of different composition and order."""
    return [
        random_frames(12, n_atoms=16),
        reordered(random_frames(12, n_atoms=30, seed=3)),
        replace(random_frames(12, n_atoms=20, seed=4), cells=None),
    ]


def random_truth(gradient, seed=1):
    """Random losses in the bases chosen for these frames."""
    frames = interleaved([labelled_by_noise(part) for part in unlabelled()])
    return randomised(infer(frames, form="moment", gradient=gradient, **SMALL | {"ridge": 1.0}), seed)


@pytest.fixture(scope="module")
def truth():
    return random_truth("collective")


@pytest.fixture(scope="module")
def parts(truth):
    return [labelled(frames, truth) for frames in unlabelled()]


@pytest.mark.parametrize("gradient", ["collective", "agent"])
def test_losses_are_recovered_from_a_mixed_set(gradient, parts):
    losses = random_truth(gradient)
    frames = interleaved([labelled(part, losses) for part in parts])
    found = infer(frames, form="moment", gradient=gradient, **SMALL)
    assert force_errors(found, losses, random_frames(3, seed=7, least=0.18)) < 1e-6
    assert set(found.metadata["errors"]["train"]) == {"data"}
    assert found.metadata["errors"]["train"]["data"]["frames"] == 36


def test_a_mixed_set_is_the_same_as_its_parts(parts):
    settings = {"form": "pair", **SMALL, "ridge": 1e-6, "members": 0}
    together = infer(interleaved(parts), **settings)
    apart = infer([DataSet(part, name=str(k)) for k, part in enumerate(parts)], **settings)
    np.testing.assert_allclose(together.pair_coefficients, apart.pair_coefficients, rtol=1e-6, atol=1e-8)


def test_committee_domain_and_calibration_of_a_mixed_set(parts):
    frames = interleaved(parts)
    noise = np.random.default_rng(0)
    noisy = MixedFrames(
        tuple(
            replace(p, forces=p.forces + rms(p.forces) * 0.1 * noise.normal(size=p.forces.shape)) for p in frames.parts
        )
    )
    found = infer(noisy[:30], test=noisy[30:], form="pair", **SMALL | {"ridge": 1e-6}, members=4)
    assert found.committee is not None
    assert found.domain is not None
    assert found.metadata["calibration"]["frames"] == 6
    assert assess_calibration(found, noisy[30:]).frames == 6


def test_errors_are_pooled_over_the_compositions(truth, parts):
    spoilt = [replace(part, forces=part.forces + k + 1.0) for k, part in enumerate(parts)]
    table = evaluate(truth, interleaved(spoilt))
    sizes = np.array([part.forces.size for part in parts])
    shifts = np.arange(1.0, len(parts) + 1)
    assert table.force_mae["all"] == pytest.approx(sizes @ shifts / sizes.sum() / MEV_PER_ANGSTROM)
    assert table.force_rmse["all"] == pytest.approx(np.sqrt(sizes @ shifts**2 / sizes.sum()) / MEV_PER_ANGSTROM)
    apart = [evaluate(truth, part) for part in spoilt]
    atoms = [part.species.count("Kr") for part in parts]
    assert table.force_mae["Kr"] == pytest.approx(np.average([t.force_mae["Kr"] for t in apart], weights=atoms))


def test_compositions_teach_each_other_their_constants(truth, parts):
    data = [with_constants(part) for part in parts]
    found = infer(interleaved(data), form="moment", energy_weight=1.0, **SMALL)
    assert found.metadata["energy_reference"] == "fitted"
    assert found.metadata["energy_constants"] == pytest.approx(CONSTANTS, rel=1e-5)
    # a composition that was in no training set
    new = with_constants(labelled(random_frames(3, n_atoms=25, seed=8, least=0.18), truth))
    table = evaluate(found, new)
    assert table.energy_constants == "model"
    assert table.energy_rmse_per_atom < 1e-3
    assert table.energy_mae_per_atom <= table.energy_rmse_per_atom
    shifted = replace(new, energies=new.energies + 5.0 * MEV * new.n_atoms)
    assert evaluate(found, shifted).energy_mae_per_atom == pytest.approx(5.0, abs=1e-3)


def test_a_single_composition_gets_the_smallest_constants(truth, parts):
    part = parts[0]
    found = infer(with_constants(part), form="pair", energy_weight=1.0, **SMALL | {"ridge": 1e-6})
    constants = found.metadata["energy_constants"]
    counts = {name: part.species.count(name) for name in SPECIES[:2]}
    assert constants["Ar"] / counts["Ar"] == pytest.approx(constants["Kr"] / counts["Kr"], rel=1e-6)
    assert "smallest" in found.metadata["gauge"]
    fitted_to_frames = evaluate(replace(found, metadata={}), with_constants(part))
    assert fitted_to_frames.energy_constants == "frames"
    same = evaluate(found, with_constants(part)).energy_rmse_per_atom
    assert same == pytest.approx(fitted_to_frames.energy_rmse_per_atom, rel=0.01)


def test_isolated_atoms_are_the_constants_and_not_fitted(truth, parts):
    data = interleaved([*map(with_constants, parts), *(isolated(name, e) for name, e in CONSTANTS.items())])
    found = infer(data, form="moment", energy_weight=1.0, **SMALL)
    assert found.metadata["energy_reference"] == "isolated atoms"
    assert found.metadata["energy_constants"] == CONSTANTS
    assert found.metadata["data"][0]["frames"] == 36
    assert evaluate(found, data).frames == 36
    assert evaluate(found, data).energy_rmse_per_atom < 1e-3
    without = interleaved([with_constants(part) for part in parts])
    given = infer(without, form="moment", energy_weight=1.0, atom_energies=CONSTANTS, **SMALL)
    assert given.metadata["energy_constants"] == CONSTANTS
    assert force_errors(given, found, random_frames(2, seed=7, least=0.18)) < 1e-6


def test_impossible_energies_of_atoms_are_refused(parts):
    settings = {"form": "pair", "energy_weight": 1.0, **SMALL}
    with pytest.raises(DualityError, match="Ar, Kr, got Ar"):
        infer(with_constants(parts[0]), atom_energies={"Ar": 1.0}, **settings)
    with pytest.raises(DualityError, match="more than any bonds give"):
        infer(with_constants(parts[0]), atom_energies={"Ar": -1.0, "Kr": -2.0}, **settings)


def test_held_out_species_are_checked_before_anything_is_computed(monkeypatch):
    monkeypatch.setattr(Inference, "of", lambda *_, **__: pytest.fail("the inference has started"))
    argon = labelled_by_noise(random_frames(2, n_atoms=4, species=("Ar",)))
    with pytest.raises(DualityError, match="the held-out frames of 'new' contain Kr too"):
        infer(argon, test={"new": labelled_by_noise(random_frames(2))}, **SMALL)


def test_frames_of_another_composition_are_added(truth):
    old = with_constants(labelled(random_frames(16, n_atoms=16), truth))
    new = with_constants(labelled(random_frames(12, n_atoms=30, seed=3, least=0.22), truth))
    settings = {"form": "moment", "energy_weight": 1.0, **SMALL, "ridge": 1e-10}
    found = infer(old, keep_equations=True, **settings)
    added = add_frames(found, new[:8])
    held_out = new[8:]
    before, after = (evaluate(model, held_out).energy_rmse_per_atom for model in (found, added))
    assert after < 0.01 * before
    assert added.metadata["energy_constants"] == pytest.approx(CONSTANTS, rel=0.02)


def test_a_prior_model_is_corrected_by_a_mixed_set(truth, parts):
    low = infer(interleaved([labelled(part, random_truth("collective", 2)) for part in parts]), form="moment", **SMALL)
    frames = interleaved(parts)
    high = fit_delta(low, frames[:30], test=frames[30:])
    before = high.metadata["delta"]["before"]["test"]["data"]["force_mae"]["all"]
    assert high.metadata["errors"]["test"]["data"]["force_mae"]["all"] < 0.5 * before


def test_energies_alone_can_be_evaluated_but_not_fitted(truth, parts):
    bare = interleaved([replace(part, forces=None) for part in parts])
    table = evaluate(truth, bare)
    assert (table.targets, table.force_rmse, table.frames) == ("energies", {}, 36)
    assert table.energy_rmse_per_atom < 1e-6
    with pytest.raises(DualityError, match="no targets"):
        infer(bare, form="pair", **SMALL)
    found = infer(interleaved(parts), test=bare, form="pair", **SMALL | {"ridge": 1e-6})
    assert found.metadata["errors"]["test"]["data"]["targets"] == "energies"
    assert "calibration" not in found.metadata
