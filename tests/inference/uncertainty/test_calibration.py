"""The predicted uncertainty of forces compared with actual errors."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.inference import evaluate, infer
from openmm_duality.inference.uncertainty.calibration import Calibration, SpeciesCalibration, assess_calibration
from openmm_duality.losses import evaluate_agents
from openmm_duality.units import MEV_PER_ANGSTROM
from tests.systems import labelled, random_frames, random_losses
from tests.water import liquid, small_water


@pytest.fixture(scope="module")
def judged():
    return assess_calibration(small_water(), liquid()[1])


def test_errors_are_as_large_as_predicted_on_frames_held_out_by_time(judged):
    assert judged.frames == len(liquid()[1])
    assert set(judged.species) == {"H", "O"}
    for name, mine in judged.species.items():
        assert mine.agents == judged.frames * liquid()[1].species.count(name)
        assert mine.within[0] == pytest.approx(0.683, abs=0.05)
        assert mine.within[1] == pytest.approx(0.954, abs=0.05)
        ratios = np.array(mine.found) / np.array(mine.predicted)
        assert ratios.min() > 0.75
        assert ratios.max() < 1.35
        assert list(mine.predicted) == sorted(mine.predicted)
        assert mine.found[-1] > 1.1 * mine.found[0]  # larger predictions go with larger errors


def test_the_quintiles_together_give_the_error_of_the_error_table(judged):
    table = evaluate(small_water(), liquid()[1]).force_rmse
    for name, mine in judged.species.items():
        assert np.sqrt(np.mean(np.square(mine.found))) == pytest.approx(table[name], rel=0.01)


def test_fractions_and_quintiles_by_hand():
    errors = np.array([[0.5, -1.5, 2.5], [0.0, 0.0, 0.0]] * 5)
    found = SpeciesCalibration.of(errors, np.tile([1.0, 3.0], 5))
    assert found.agents == 10
    assert found.within == pytest.approx((4.0 / 6.0, 5.0 / 6.0))
    assert found.predicted == pytest.approx((1.0, 1.0, np.sqrt(5.0), 3.0, 3.0))
    whole = np.mean([0.25, 2.25, 6.25])
    assert found.found == pytest.approx(np.sqrt([whole, whole, whole / 2, 0.0, 0.0]))


def test_the_sigmas_are_those_of_the_committee():
    """The members are so far apart that all errors are within σ."""
    losses, frames = small_water(), liquid()[1][:2]
    wide = replace(losses, committee=replace(losses.committee, residual=np.full(2, 1e6)))
    found = assess_calibration(wide, frames)
    assert all(mine.within == (1.0, 1.0) for mine in found.species.values())
    assert found.species["O"].predicted[0] == pytest.approx(1e6 / MEV_PER_ANGSTROM, rel=1e-3)
    narrow = replace(losses.committee, residual=np.full(2, 1e-9), scale=np.full(2, 1e-9))
    assert assess_calibration(replace(losses, committee=narrow), frames).species["H"].within[1] < 1e-3


def test_predicted_errors_that_are_too_small_are_said(judged):
    assert "too small" not in str(judged)
    for within in ((0.35, 0.9), (0.5, 0.8)):
        species = judged.species | {"O": replace(judged.species["O"], within=within)}
        assert "the predicted errors of O are too small" in str(replace(judged, species=species))


def test_several_sets_are_assessed_together_on_evenly_spaced_frames():
    losses, test = small_water(), liquid()[1]
    together = assess_calibration(losses, [test[:4], test[4:8]])
    assert together == assess_calibration(losses, test[:8])
    assert assess_calibration(losses, [test[:8], test[8:11]], at_most=3).frames == 6


def test_a_calibration_is_read_back_from_json_and_printed(judged):
    content = json.loads(json.dumps(judged.to_dict()))
    assert Calibration.from_dict(content) == judged
    assert content["units"] == {"force": "meV/angstrom", "pressure": "MPa"}
    text = str(judged)
    assert "68.3 % and 95.5 %" in text
    for name, mine in judged.species.items():
        (line,) = (line for line in text.splitlines() if line.startswith(name))
        assert f"{100 * mine.within[0]:.1f} %" in line
        assert f"{mine.found[4]:.0f}/{mine.predicted[4]:.0f}" in line


def test_a_single_molecule_is_sufficient():
    losses, frames = small_water(), liquid()[1][:1]
    few = replace(
        frames,
        species=frames.species[:3],
        masses=frames.masses[:3],
        positions=frames.positions[:, :3],
        forces=frames.forces[:, :3],
        cells=None,
    )
    found = assess_calibration(losses, few)
    assert found.species["O"].agents == 1
    assert np.isfinite([*found.species["O"].predicted, *found.species["H"].found]).all()
    assert "nan" not in str(found)


def test_calibration_without_committee_or_species_is_refused():
    losses, test = small_water(), liquid()[1]
    with pytest.raises(DualityError, match="committee"):
        assess_calibration(replace(losses, committee=None), test)
    with pytest.raises(DualityError):
        assess_calibration(losses, test[:0])
    with pytest.raises(DualityError, match="Ar"):
        assess_calibration(losses, labelled(random_frames(1), random_losses()))


def test_an_inference_with_held_out_frames_includes_a_calibration():
    truth = random_losses("moment")
    train, test = (labelled(random_frames(n, n_atoms=14, seed=n, least=0.2), truth) for n in (20, 5))
    small = {"form": "pair", "cutoff": 0.5, "pair_functions": 5, "functions": 2, "intervals": 60, "ridge": 1e-4}
    losses = infer(train, test={"later": test}, curvature=1e-6, **small)
    found = Calibration.from_dict(losses.metadata["calibration"])
    assert found == assess_calibration(losses, test)
    assert losses.metadata["seconds"]["measurement"] > 0.0
    assert "calibration" not in infer(train, test=test, curvature=1e-6, members=0, **small).metadata
    sigmas = losses.committee.uncertainty(
        np.array([evaluate_agents(m, test.positions[0], test.species, test.cell(0)).forces for m in losses.members()]),
        losses.index_of(test.species),
    )
    assert (sigmas > losses.committee.residual.min()).all()
