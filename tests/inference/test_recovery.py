"""Inference recovers the losses that generated the data, from forces and from accelerations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.inference import DataSet, evaluate, infer
from openmm_duality.inference.equations.targets import count_samples, samples
from openmm_duality.inference.repulsive_core import approach
from openmm_duality.losses import GRADIENTS
from tests.systems import (
    CELL,
    NARROW,
    RANKED,
    SPECIES,
    labelled,
    laws,
    narrow_frames,
    quick_laws,
    random_frames,
    randomised,
    repeated,
    rms,
    verlet,
)

TINY = {"ridge": 1e-13, "curvature": 0.0, "pump": 0.0, "large_force": 1e9}
SMALL = {
    "cutoff": 0.5,
    "pair_functions": 5,
    "functions": 2,
    "coarse_functions": 2,
    "intervals": 60,
    "own_part": "whole",
    "channels": 3,
    "mixing_steps": 0,
    "invariants": (15, 25, 15),
    **TINY,
}


def labelled_by_noise(frames):
    return replace(frames, forces=np.random.default_rng(0).normal(size=frames.positions.shape))


def known(form, gradient, frames, seed=1):
    """Random losses in the bases chosen for these frames, which inference can therefore represent exactly."""
    return randomised(infer(labelled_by_noise(frames), form=form, gradient=gradient, **SMALL | {"ridge": 1.0}), seed)


def force_errors(found, wanted, frames):
    """RMS difference of the forces relative to the RMS force."""
    ours, theirs = (labelled(frames, losses).forces for losses in (found, wanted))
    return rms(ours - theirs) / rms(theirs)


SIZES = [  # form, number of species, number of frames
    *((form, n, 24 if (form, n) == ("moment", 3) else 12) for form in ("pair", "quadratic", "moment") for n in (2, 3)),
    ("coupled", 2, 48),
    ("channels", 2, 24),
    ("channels", 3, 24),
]


@pytest.mark.parametrize(
    ("form", "gradient", "n_species", "n_frames"),
    [
        (form, gradient, *size)
        for form, *size in SIZES
        for _, gradient in (laws if size[0] == 2 else quick_laws)([form])
    ],
)
def test_losses_are_recovered_from_noiseless_forces(form, gradient, n_species, n_frames):
    frames = random_frames(n_frames, species=SPECIES[:n_species])
    losses = known(form, gradient, frames)
    found = infer(labelled(frames, losses), form=form, gradient=gradient, **SMALL)
    new = random_frames(3, species=SPECIES[:n_species], seed=7, least=0.18)
    assert found.shortest.max() < 0.18
    assert force_errors(found, losses, new) < 1e-6
    assert evaluate(found, labelled(new, losses)).force_rmse["all"] < 1e-5 * rms(labelled(new, losses).forces)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_losses_are_recovered_from_narrow_cells(gradient):
    """Cells narrower than the cutoff teach as much as large ones, and what they teach holds in large ones."""
    sets = [narrow_frames(100, cell, seed) for seed, cell in enumerate(NARROW.values())]
    noise = [DataSet(labelled_by_noise(frames)) for frames in sets]
    choices = {**SMALL, "form": "quadratic", "gradient": gradient}
    losses = randomised(infer(noise, **choices | {"ridge": 1.0}))
    found = infer([DataSet(labelled(frames, losses)) for frames in sets], **choices)
    new = narrow_frames(2, 1.02 * NARROW["bcc"], seed=7)
    large = labelled(repeated(new, (3, 3, 3)), losses)
    assert evaluate(found, labelled(new, losses)).force_rmse["all"] < 1e-5 * rms(large.forces)
    assert evaluate(found, large).force_rmse["all"] < 1e-5 * rms(large.forces)


@pytest.mark.parametrize("form", ["moment, ranks 0 to 3", "coupled, ranks 0 to 3"])
def test_losses_of_all_ranks_are_recovered(form):
    chosen = RANKED[form]
    ranks = {"ranks": chosen.ranks, "coupled_ranks": chosen.coupled or None}
    small = SMALL | {"functions": 1, "coarse_functions": 1}
    frames = random_frames(24)
    trial = infer(labelled_by_noise(frames), form=chosen.name, **ranks, **small | {"ridge": 1.0})
    assert trial.form == chosen
    losses = randomised(trial, 3)
    found = infer(labelled(frames, losses), form=chosen.name, **ranks, **small)
    assert force_errors(found, losses, random_frames(3, seed=7, least=0.18)) < 1e-6


def test_energies_determine_the_losses_when_forces_are_few():
    """The forces of one frame cannot determine these losses, but the energies of many frames can."""
    frames = random_frames(60, n_atoms=12)
    losses = known("pair", "collective", frames)
    data = labelled(frames, losses)
    spoilt = replace(data, forces=np.random.default_rng(1).normal(size=data.forces.shape) * rms(data.forces))
    shifted = replace(spoilt, energies=data.energies + 1e5)
    test = labelled(random_frames(5, n_atoms=12, seed=7, least=0.18), losses)
    test = replace(test, energies=test.energies + 1e5)
    errors = []
    for weight in (0.0, 1e3):
        found = infer(shifted, form="pair", energy_weight=weight, **SMALL)
        errors.append(evaluate(found, test).energy_rmse_per_atom)
    assert errors[1] < 0.01 * errors[0]
    constants = found.metadata["energy_constants"]
    assert sum(constants[name] for name in frames.species) == pytest.approx(1e5, rel=1e-3)


def test_energies_need_a_potential_and_energies():
    frames = labelled_by_noise(random_frames(4))
    with pytest.raises(DualityError, match="no data set has energies"):
        infer(frames, form="pair", energy_weight=1.0, **SMALL)
    with pytest.raises(DualityError, match="agent"):
        infer(frames, form="pair", gradient="agent", energy_weight=1.0, **SMALL)


def test_knots_may_be_given_for_a_pair_of_species():
    frames = labelled_by_noise(random_frames(4))
    every = {**SMALL, "form": "quadratic", "ridge": 1.0}
    usual = infer(frames, **every)
    given = infer(frames, knots={"Kr-Ar": [0.2, 0.3, 0.5]}, **every)
    assert not np.array_equal(given.basis.coefficients[0, 1], usual.basis.coefficients[0, 1])
    np.testing.assert_array_equal(given.basis.coefficients[0, 1], given.basis.coefficients[1, 0])
    np.testing.assert_array_equal(given.basis.coefficients[0, 0], usual.basis.coefficients[0, 0])
    for wrong, message in (
        ({"Ar-Kr": [0.2, 0.5]}, "3 increasing knots"),
        ({"Ar-Kr": [0.2, 0.3, 0.4]}, "end at the cutoff"),
        ({"Ar-Ne": [0.2, 0.3, 0.5]}, "not a pair of the species"),
        ([0.2], "for each pair"),
    ):
        with pytest.raises(DualityError, match=message):
            infer(frames, knots=wrong, **every)
    even = infer(frames, sharpness=0.0, **every)
    assert not np.array_equal(even.basis.coefficients, usual.basis.coefficients)


def test_collective_losses_are_recovered_in_their_gauge():
    frames = random_frames(12)
    losses = known("quadratic", "collective", frames)
    tilt = np.zeros_like(losses.pair_coefficients)
    tilt[0, 1] += 3.0
    tilt[1, 0] -= 3.0
    crooked = losses.pair_coefficients + tilt
    data = labelled(frames, losses)
    tilted = labelled(frames, replace(losses, pair_coefficients=crooked))
    np.testing.assert_allclose(tilted.forces, data.forces, atol=1e-9 * rms(data.forces))  # the gauge freedom
    found = infer(tilted, form="quadratic", gradient="collective", **SMALL)
    np.testing.assert_array_equal(found.pair_coefficients, found.pair_coefficients.transpose(1, 0, 2))
    assert "u_AB = u_BA" in found.metadata["gauge"]


def test_sets_of_different_composition_are_inferred_together():
    few, many = random_frames(8, n_atoms=16), random_frames(8, n_atoms=30, seed=3)
    merged = infer(
        [DataSet(labelled_by_noise(s), name=n) for s, n in ((few, "few"), (many, "many"))], **SMALL | {"ridge": 1.0}
    )
    losses = randomised(merged, 2)
    sets = [DataSet(labelled(few, losses), 0.3, "few"), DataSet(labelled(many, losses), name="many")]
    found = infer(sets, **SMALL)
    assert force_errors(found, losses, random_frames(2, seed=7, least=0.17)) < 1e-6
    assert set(found.metadata["errors"]["train"]) == {"few", "many"}


def test_pairs_of_species_that_only_a_later_set_has_are_kept_apart_too():
    first, second = random_frames(3, species=SPECIES[:2]), random_frames(3, species=SPECIES[1:], seed=2)
    sets = [DataSet(labelled_by_noise(frames), name=name) for frames, name in ((first, "1"), (second, "2"))]
    found = infer(sets, **SMALL | {"ridge": 1e-3})
    assert np.isnan(found.shortest[0, 2])
    i, j = (second.species.index(name) for name in ("Kr", "Xe"))
    assert approach(found, second, i, j).repels


def test_a_set_of_greater_weight_is_fitted_better():
    frames = random_frames(6)
    losses = known("pair", "collective", frames)
    one = labelled(frames, losses)
    other = replace(one, forces=-one.forces)

    def error_of_one(weight):
        found = infer([DataSet(one, weight, "one"), DataSet(other, 1.0, "other")], form="pair", **SMALL)
        return force_errors(found, losses, frames)

    # opposite targets: the solution is (w - 1)/(w + 1) times the losses
    assert error_of_one(1.0) == pytest.approx(1.0, abs=1e-6)
    assert error_of_one(3.0) == pytest.approx(0.5, abs=1e-6)


def test_large_forces_count_less():
    frames = random_frames(10)
    losses = known("pair", "collective", frames)
    data = labelled(frames, losses)
    spoilt = data.forces.copy()
    spoilt[0, 0] += 1e5
    spoilt = replace(data, forces=spoilt)
    careless = infer(spoilt, form="pair", gradient="collective", **SMALL)
    careful = infer(spoilt, form="pair", gradient="collective", **SMALL | {"large_force": rms(data.forces)})
    assert force_errors(careful, losses, frames) < 0.02 * force_errors(careless, losses, frames)


@pytest.fixture(scope="module")
def trajectory():
    """A velocity Verlet trajectory with known losses, every 0.5 fs, and the losses."""
    start = random_frames(1, n_atoms=24, least=0.2)
    spread = random_frames(6, n_atoms=24, least=0.2, seed=4)
    losses = known("quadratic", "collective", spread, seed=5)
    u = losses.pair_coefficients.copy()
    u[..., 0] += 150.0  # repels at short distances
    losses = replace(losses, pair_coefficients=u)
    return verlet(losses, replace(start, masses=start.masses / 4.0), 400)


def without_forces(frames):
    return replace(frames, forces=None)


@pytest.mark.parametrize(("every", "tolerance"), [(1, 1e-8), (2, 3e-4), (4, 5e-3)])
def test_targets_from_accelerations_are_the_forces(trajectory, every, tolerance):
    """They are exact if every step was written; else the weighted forces are much closer than the central one."""
    frames = trajectory[::every]
    centres = np.arange(1, len(frames) - 1, 20 // every)
    made = list(samples(without_forces(frames)))
    assert len(made) == count_samples(without_forces(frames)) == len(centres)
    forces = {x.tobytes(): force for x, force in zip(frames.positions, frames.forces, strict=True)}
    weighted = [sum(share * forces[x.tobytes()] for share, x, _ in sample.configurations) for sample in made]
    targets = np.array([sample.target for sample in made])
    error = rms(targets - np.array(weighted))
    assert error < tolerance * rms(targets)
    if every > 1:
        assert error < 0.2 * rms(targets - frames.forces[centres])
    for sample in made:
        assert sum(share for share, _, _ in sample.configurations) == pytest.approx(1.0)


def test_wrapped_trajectories_have_the_same_accelerations(trajectory):
    wrapped = replace(trajectory, positions=trajectory.positions % np.diag(CELL))
    for one, other in zip(samples(without_forces(trajectory)), samples(without_forces(wrapped)), strict=True):
        np.testing.assert_allclose(one.target, other.target, atol=1e-5 * rms(one.target))


@pytest.mark.parametrize("every", [1, 4])
def test_inference_without_forces_gives_the_model_inferred_from_forces(trajectory, every):
    frames = trajectory[::every]
    choices = {"form": "quadratic", "gradient": "collective", **SMALL, "ridge": 1e-9}
    stride = 20 // every
    from_forces = infer(frames[1:-1:stride], **choices)  # the frames at which accelerations are taken
    from_accelerations = infer(without_forces(frames), **choices)
    assert from_accelerations.metadata["data"][0]["targets"] == "accelerations"
    assert {"openmm", "numpy", "scipy"} <= set(from_accelerations.metadata["versions"])
    errors = [evaluate(found, frames[1:-1:stride]).force_rmse["all"] for found in (from_accelerations, from_forces)]
    assert errors[0] < 1.1 * errors[1]


def test_trajectories_that_give_no_accelerations_are_refused(trajectory):
    bare = without_forces(trajectory)
    for frames, message in (
        (bare[::5], "2.50 fs are too coarse"),
        (bare[[0, 1, 2, 4, 5, 6]], "equally spaced"),
        (bare[:2], "at least three"),
        (replace(bare, timestep=None), "not dynamics"),
    ):
        with pytest.raises(DualityError, match=message):
            infer(frames, form="pair", **SMALL)
