"""Stored equations, added frames, selection of coefficients and learning curves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.inference import DataSet, Settings, evaluate, infer
from openmm_duality.inference.adding_frames import add_frames
from openmm_duality.inference.equations.accumulation import accumulate
from openmm_duality.inference.equations.continuation import standard_penalties
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.energies import EnergyReference
from openmm_duality.inference.equations.penalties import ridge_penalty
from openmm_duality.inference.equations.selection import select
from openmm_duality.inference.equations.solution import NormalEquations, column_scale, propagate_deviations, solve
from openmm_duality.inference.equations.stored import StoredEquations
from openmm_duality.inference.learning_curves import learning_curve
from openmm_duality.invariants.contractions import environment_descriptors
from openmm_duality.losses import GRADIENTS, AgentLosses, evaluate_agents
from openmm_duality.losses.committee import variance_of
from openmm_duality.losses.evaluator import LocalEnvironments
from openmm_duality.report import learning_curve_figure
from tests.systems import labelled, random_frames, random_losses, rms
from tests.water import liquid

SMALL = {"cutoff": 0.5, "pair_functions": 6, "functions": 3, "coarse_functions": 2, "intervals": 60}


@pytest.fixture(scope="module")
def water():
    return liquid()


def fixed_fit(losses, sets):
    """A fit from scratch with the basis, scales and regularisation of a model."""
    design = Design.of(losses)
    settings = Settings.of(losses.metadata["settings"])
    found = accumulate(
        [DataSet(frames) for frames in sets],
        losses.species,
        design,
        settings,
        EnergyReference.none(losses.species),
        False,
    )
    solutions = []
    for k, group in enumerate(design.layout.groups):
        strengths = losses.metadata["regularisation"][k]
        penalties = standard_penalties(design, group, losses.shortest)
        stored = StoredEquations.from_arrays(losses.equations, f"{k}/")
        penalties += stored.further_penalties
        solutions.append(solve(found.totals[k], penalties, strengths, stored.scale))
    return design.layout.unpack(solutions)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_added_frames_give_the_fit_from_scratch_with_the_same_basis_and_scales(gradient, tmp_path):
    truth = random_losses("moment", gradient)
    old = labelled(random_frames(20, least=0.16), truth)
    new = labelled(random_frames(10, seed=9, least=0.22), truth)
    settings = {"form": "quadratic", "gradient": gradient, "ridge": 1e-6, "curvature": 1e-6, **SMALL}
    if gradient == "mutual":
        settings["symmetries"] = {"net-force": 0.1}
    losses = infer(old, keep_equations=True, **settings)
    losses.save(tmp_path / "model.safetensors")
    updated = add_frames(AgentLosses.load(tmp_path / "model.safetensors"), new)
    found = fixed_fit(losses, [old, new])
    u, w = found["pair_coefficients"], found["weights"][0]
    assert rms(updated.pair_coefficients - u) < 1e-6 * rms(u)
    assert rms(updated.weights[0] - w) < 1e-6 * rms(w)
    assert updated.metadata["data"][-1]["frames"] == len(new)
    assert rms(updated.pair_coefficients - losses.pair_coefficients) > 1e-4 * rms(u)


def test_adding_frames_leaves_the_selection_and_strengthens_the_core_where_new_frames_need_it():
    truth = random_losses("moment")
    old, new = labelled(random_frames(20, least=0.16), truth), labelled(random_frames(8, seed=9, least=0.22), truth)
    settings = {"form": "quadratic", "ridge": 1e-6, "curvature": 1e-6, "max_coefficients": 25, **SMALL}
    losses = infer(old, keep_equations=True, **settings)
    updated = add_frames(losses, new)
    (before,), (after,) = (Design.of(x).layout.pack(x) for x in (losses, updated))
    assert np.count_nonzero(before) == 25
    np.testing.assert_array_equal(before != 0.0, after != 0.0)
    assert rms(after - before) > 1e-4 * rms(before)
    assert (updated.core_strength >= losses.core_strength).all()
    weak = replace(losses, core_strength=1e-6 * losses.core_strength)
    assert (add_frames(weak, new).core_strength > weak.core_strength).all()
    again = add_frames(updated, new)  # the updated equations can be used again
    np.testing.assert_array_equal(Design.of(again).layout.pack(again)[0] != 0, before != 0)


def test_energies_of_added_frames_are_fitted_too():
    truth = random_losses("moment")
    old, new = labelled(random_frames(12, least=0.16), truth), labelled(random_frames(6, seed=9, least=0.22), truth)
    settings = {"form": "quadratic", "ridge": 1e-6, "curvature": 1e-6, "energy_weight": 0.5, **SMALL}
    losses = infer(old, keep_equations=True, **settings)
    updated = add_frames(losses, new)
    without = add_frames(losses, replace(new, energies=None))
    assert rms(updated.pair_coefficients - without.pair_coefficients) > 1e-6 * rms(updated.pair_coefficients)
    assert updated.metadata["energy_constants"] != losses.metadata["energy_constants"]
    other = labelled(random_frames(4, n_atoms=24, seed=3, least=0.22), truth)
    # the old composition alone does not determine both constants, and another one adds what is missing
    before, after = (evaluate(model, other).energy_rmse_per_atom for model in (losses, add_frames(losses, other)))
    assert after < before
    assert add_frames(losses, replace(other, energies=None)).metadata["data"][-1]["frames"] == 4


def test_equations_are_read_back_from_arrays():
    rng = np.random.default_rng(0)
    equations = NormalEquations.empty(5)
    equations.add_rows(rng.normal(size=(30, 5)), rng.normal(size=30), rng.uniform(size=30))
    stored = StoredEquations(equations, rng.uniform(size=5), rng.uniform(size=5) > 0.5, equations.gram @ equations.gram)
    again = StoredEquations.from_arrays({**stored.to_arrays("0/"), "1/gram": np.zeros(3)}, "0/")
    for found, one in ((again.total.gram, equations.gram), (again.curvature_changes, stored.curvature_changes)):
        np.testing.assert_array_equal(found, np.triu(one) + np.triu(one, 1).T)
    np.testing.assert_array_equal(again.total.rhs, equations.rhs)
    np.testing.assert_array_equal(again.total.column_squares, equations.column_squares)
    assert (again.total.target_squares, again.total.weight) == (equations.target_squares, equations.weight)
    np.testing.assert_array_equal(again.scale, stored.scale)
    np.testing.assert_array_equal(again.selected, stored.selected)
    bare = StoredEquations.from_arrays(StoredEquations(equations, stored.scale).to_arrays(""), "")
    assert bare.selected is None
    assert bare.curvature_changes is None


def test_models_without_equations_and_closer_distances_are_refused():
    frames = labelled(random_frames(12, least=0.2), random_losses())
    with pytest.raises(DualityError, match="stored no equations"):
        add_frames(infer(frames, form="pair", **SMALL), frames)
    losses = infer(frames, form="pair", keep_equations=True, **SMALL)
    with pytest.raises(DualityError, match="closer than"):
        add_frames(losses, labelled(random_frames(6, seed=3, least=0.13), random_losses()))
    apart = replace(losses, shortest=np.where(np.eye(2, dtype=bool), losses.shortest, np.nan))
    with pytest.raises(DualityError, match="absent from"):
        add_frames(apart, frames)


def test_selection_finds_the_columns_that_made_the_data():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(400, 30)) * 10.0 ** rng.uniform(-2, 2, size=30)
    true = np.zeros(30)
    true[[3, 7, 20, 29]] = 1.0 / np.sqrt(np.mean(rows[:, [3, 7, 20, 29]] ** 2, axis=0))
    equations = NormalEquations.empty(30)
    equations.add_rows(rows, rows @ true + 0.01 * rng.normal(size=400), np.ones(400))
    mask = select(equations, [ridge_penalty(30)], {"ridge": 1e-9}, 4, column_scale(equations))
    found = solve(equations, [ridge_penalty(30)], {"ridge": 1e-9}, selected=mask)
    assert np.flatnonzero(mask).tolist() == [3, 7, 20, 29]
    np.testing.assert_allclose(found[mask], true[mask], rtol=0.01)
    assert (found[~mask] == 0.0).all()


def test_the_best_half_of_the_coefficients_of_water_costs_little(water):
    train, test = water[0][::8], water[1][::4]
    settings = {"form": "quadratic", "cutoff": 0.55, "ridge": 1e-7, "curvature": 1e-4, "members": 0, "functions": 6}
    every = infer(train, test=test, **settings)
    half = infer(train, test=test, max_coefficients=every.metadata["coefficients"] // 2, **settings)
    assert half.metadata["coefficients"] == every.metadata["coefficients"] // 2
    assert "H, rank 0" in half.metadata["selection"]
    errors = [losses.metadata["errors"]["test"]["data"]["force_rmse"]["all"] for losses in (every, half)]
    assert errors[0] < errors[1] < 1.1 * errors[0]


def test_a_learning_curve_falls():
    truth = random_losses("moment")
    train, test = (labelled(random_frames(n, seed=seed), truth) for n, seed in ((40, 0), (5, 1)))
    settings = Settings(form="quadratic", ridge=1e-6, curvature=1e-6, **SMALL)
    curve = learning_curve([DataSet(train)], test, settings, fractions=(0.1, 1.0))
    assert curve.frames == (10, 40)
    assert curve.tables[1].force_rmse["all"] < curve.tables[0].force_rmse["all"]
    assert "40" in str(curve)
    assert len(learning_curve_figure(curve).axes[0].lines) == 1  # no molecules here


@pytest.mark.parametrize("energy_weight", [0.0, 1.0])
def test_the_committee_and_the_domain_include_the_new_frames(energy_weight):
    """The spread decreases in the new frames, and the domain contains them afterwards."""
    truth = random_losses("moment")
    old, new = labelled(random_frames(20, least=0.16), truth), labelled(random_frames(12, seed=9, least=0.17), truth)
    choices = {"ridge": 1e-5, "curvature": 1e-6, "energy_weight": energy_weight, **SMALL}
    losses = infer(old, form="quadratic", keep_equations=True, **choices)
    updated = add_frames(losses, new)
    before, after = (spreads_of(model, new) for model in (losses, updated))
    assert after.mean() < (0.97 if energy_weight else 0.9) * before.mean()
    np.testing.assert_array_equal(updated.committee.residual, losses.committee.residual)
    assert (updated.domain.seen >= losses.domain.seen).all()
    species_index = updated.index_of(new.species)
    for t in range(len(new)):
        local = LocalEnvironments.of(updated, new.positions[t], new.species, new.cell(t))
        phi, own = environment_descriptors(local.moments, updated.basis.size), local.evaluate(updated).losses
        found = updated.domain.distances([phi], np.zeros_like(updated.domain.seen, dtype=bool), own, species_index)
        assert found.environments.max() < 1.0
        assert found.losses.max() < 1.0


def spreads_of(model, frames):
    """Spread s of each agent in each frame."""
    places = [(frames.positions[t], frames.species, frames.cell(t)) for t in range(len(frames))]
    members = [[evaluate_agents(member, *place).forces for place in places] for member in model.members()]
    return np.sqrt(variance_of(np.array(members)))


def test_members_carried_over_are_the_refits_with_the_new_rows_added():
    """Members fitted to different targets get the same additional rows."""
    rng = np.random.default_rng(4)
    rows, more = rng.normal(size=(40, 6)), rng.normal(size=(25, 6))
    targets, shared = rng.normal(size=(3, 40)), rng.normal(size=25)
    strengths, penalties = {"ridge": 1e-2}, [ridge_penalty(6)]

    def equations(*parts):
        total = NormalEquations.empty(6)
        for x, y in parts:
            total.add_rows(x, y, np.ones(len(x)))
        return total

    old = [equations((rows, y)) for y in targets]
    whole = [equations((rows, y), (more, shared)) for y in targets]
    scale = np.sqrt(np.diag(whole[0].gram) / whole[0].weight)
    solved = [solve(e, penalties, strengths, scale) for e in old]
    deviations = np.stack([c - solved[0] for c in solved[1:]], axis=1)
    moved = propagate_deviations(deviations, old[0], whole[0], penalties, strengths, scale)
    expected = [solve(e, penalties, strengths, scale) for e in whole]
    np.testing.assert_allclose(expected[0][:, None] + moved, np.stack(expected[1:], axis=1), atol=1e-12)
