"""The memory of an inference: estimated before it is taken, bounded, and without influence on the results."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from openmm_duality import parallel, system_memory
from openmm_duality.errors import DualityError
from openmm_duality.inference import DataSet, infer
from openmm_duality.inference.equations import inference as equations_of
from openmm_duality.inference.equations import memory, mixing, solution
from openmm_duality.inference.equations.accumulation import Storage, accumulate
from openmm_duality.inference.equations.inference import Inference
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.solution import NormalEquations
from openmm_duality.inference.equations.stored import StoredEquations
from openmm_duality.inference.fitting import repulsive_losses
from openmm_duality.inference.uncertainty.committee import with_committee
from openmm_duality.system_memory import available_memory, format_size, memory_size, temporary_space
from tests.systems import SPECIES, labelled, random_frames, random_losses, rms

SETTINGS = Settings(form="moment", cutoff=0.5, pair_functions=8, functions=7, intervals=60, curvature=1e-6, members=4)


@pytest.fixture(scope="module")
def frames():
    return labelled(random_frames(24, n_atoms=20, least=0.16), random_losses("moment", species=SPECIES[:2]))


@pytest.fixture(scope="module")
def unbounded(frames):
    return Inference.of([DataSet(frames)], SETTINGS)


def bounded(frames, bound, **choices):
    return Inference.of([DataSet(frames)], replace(SETTINGS, memory=int(bound), **choices))


@pytest.mark.parametrize(
    ("form", "functions", "steps", "keep"),
    [("moment", 9, 0, False), ("channels", None, 1, True)],
)
def test_the_estimate_is_what_an_inference_allocates(form, functions, steps, keep, frames, monkeypatch):
    """Within a quarter, with blocks, cross-validation, selection and committee."""
    most = 500 if form == "moment" else None
    settings = replace(SETTINGS, form=form, functions=functions, size="small", max_coefficients=most)
    settings = replace(settings, keep_equations=keep, mixing_steps=steps)
    base = []

    def traced(*arguments, **choices):
        if not base:
            tracemalloc.reset_peak()
        base.append(tracemalloc.get_traced_memory()[0])
        return accumulate(*arguments, **choices)

    for module in (equations_of, mixing):
        monkeypatch.setattr(module, "accumulate", traced)
    for module in (parallel, memory):  # more threads would not all be at their peaks at the same time
        monkeypatch.setattr(module, "usable_threads", lambda: 2)
    tracemalloc.start()
    try:
        inference = Inference.of([DataSet(frames)], settings)
        with_committee(repulsive_losses(inference), inference)
        measured = tracemalloc.get_traced_memory()[1] - base[0]
    finally:
        tracemalloc.stop()
    assert inference.memory.peak == pytest.approx(measured, rel=0.25)


def test_the_estimate_grows_with_the_square_of_the_columns_and_the_blocks(frames, unbounded):
    plan = unbounded.memory
    (size,) = plan.columns
    assert plan.blocks == 10 * 8 * size**2
    assert plan.total == 8 * size**2
    assert plan.peak <= plan.blocks + plan.total + plan.copies + plan.stored + plan.rows
    assert f"10 blocks of {size:,} × {size:,}" in str(plan)
    assert unbounded.memory.to_dict()["estimate"] == plan.peak
    alone = Inference.of([DataSet(frames)], replace(SETTINGS, ridge=1e-6, members=0)).memory
    assert alone.storage.n_blocks == 1  # nothing is left out or drawn
    prior, least = infer(frames, settings=replace(SETTINGS, ridge=1e-6)), Settings(members=0, memory=plan.total)
    with pytest.raises(DualityError, match="even with 4 blocks"):  # of its committee
        Inference.of([DataSet(frames)], least, prior)
    with pytest.raises(DualityError, match="even with 2 blocks"):
        Inference.of([DataSet(frames)], least, replace(prior, committee=None))


def test_a_bound_is_kept_by_fewer_blocks_then_by_a_file_then_by_a_refusal(frames, unbounded, monkeypatch):
    plan, threads = unbounded.memory, parallel.usable_threads()
    block = plan.blocks // 10
    assert plan.storage == Storage(5, 2, at_once=threads)
    assert bounded(frames, plan.peak + block).memory.storage == plan.storage
    assert bounded(frames, plan.peak - block).memory.storage == Storage(4, 2, at_once=threads)
    assert bounded(frames, plan.peak - 5.9 * block).memory.storage == Storage(2, 2, at_once=threads)
    on_disk = bounded(frames, plan.peak - 8 * block).memory
    assert on_disk.storage == Storage(5, 2, on_disk=True, at_once=threads)
    assert on_disk.peak <= on_disk.bound
    assert "temporary file" in str(on_disk)
    with pytest.raises(DualityError, match=r"needs about .* at most 1 MiB .*fewer functions, members: 0.*--memory"):
        bounded(frames, 2**20)
    with pytest.raises(DualityError, match=r"smaller size \(--size; or, in a configuration, fewer channels"):
        bounded(frames, 2**20, form="channels", pair_functions=None, functions=None)
    monkeypatch.setattr(memory, "temporary_space", lambda: 3 * plan.total)
    with pytest.raises(DualityError, match="free on disk"):
        bounded(frames, plan.peak - 8 * block)


def test_a_mixing_that_does_not_fit_is_not_learned_unless_it_was_asked_for(frames, monkeypatch):
    monkeypatch.setattr(equations_of, "learn_mixing", lambda problem, steps: (problem.design, [1.0]))
    choices = {"form": "channels", "size": "small", "invariants": (20, 60, 20), "ridge": 1e-6, "members": 0}
    choices |= {"pair_functions": None, "functions": None}
    most = bounded(frames, 2**40, **choices)
    assert most.mixing_errors
    assert most.memory.peak == most.memory.mixing
    with pytest.warns(UserWarning, match=r"mixing of channels is not learned, since that needs .*--memory"):
        less = bounded(frames, 0.9 * most.memory.mixing, **choices)
    assert less.memory.mixing == 0
    assert less.memory.peak <= less.memory.bound
    assert less.mixing_errors == []
    with pytest.raises(DualityError, match="the mixing of channels: "):
        bounded(frames, 0.9 * most.memory.mixing, mixing_steps=1, **choices)


def test_rows_that_cannot_fit_are_not_computed(frames, unbounded, monkeypatch):
    def never(*arguments):
        raise AssertionError("rows are computed")

    monkeypatch.setattr(memory, "sample_rows", never)
    with pytest.raises(DualityError, match="needs about"):
        bounded(frames, 2**20)


def test_fewer_frames_are_computed_at_the_same_time_where_rows_do_not_fit(monkeypatch):
    for module in (parallel, memory):
        monkeypatch.setattr(module, "usable_threads", lambda: 8)
    large = labelled(random_frames(3, n_atoms=60, least=0.16), random_losses("moment", species=SPECIES[:2]))
    plan = bounded(large, 2**40).memory
    less = bounded(large, plan.total + 0.7 * plan.rows).memory
    assert plan.storage.at_once == 8
    assert "rows of 8 frames at the same time" in str(plan)
    assert less.storage.on_disk
    assert 1 <= less.storage.at_once < 8
    assert less.peak <= less.bound


@pytest.mark.parametrize("less", [0, 2, 8])
def test_results_do_not_depend_on_the_storage(less, frames, unbounded):
    """With given strengths and without a committee the number of blocks only changes the order of summation."""
    plan = unbounded.memory
    inference = bounded(frames, plan.peak - less * plan.blocks / 10)
    for total, expected in zip(inference.totals, unbounded.totals, strict=True):
        assert rms(total.gram - expected.gram) < 1e-13 * rms(expected.gram)
        np.testing.assert_array_equal(total.gram, total.gram.T)
    strengths = [{"ridge": 1e-6, "curvature": 1e-6}]
    found = inference.losses(strengths)
    assert rms(found.pair_coefficients - unbounded.losses(strengths).pair_coefficients) < 1e-6 * rms(
        found.pair_coefficients
    )
    if inference.memory.storage.n_blocks == 10:
        assert inference.preferences == unbounded.preferences


def test_a_model_made_with_a_file_is_the_same(frames, unbounded):
    plan = unbounded.memory
    found, expected = (
        infer(frames, settings=replace(SETTINGS, memory=size)) for size in (int(plan.peak - 0.8 * plan.blocks), None)
    )
    assert found.metadata["memory"]["on_disk"]
    assert not expected.metadata["memory"]["on_disk"]
    assert found.sha256() == expected.sha256()
    np.testing.assert_array_equal(found.committee.pair_coefficients, expected.committee.pair_coefficients)


def test_sums_and_products_taken_a_few_rows_at_a_time_are_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    rows, targets, weights = rng.normal(size=(40, 23)), rng.normal(size=40), rng.uniform(0.5, 2.0, size=40)
    found = []
    for panel in (solution.PANEL, 23 * 5):
        monkeypatch.setattr(solution, "PANEL", panel)
        equations = NormalEquations.empty(23)
        for part in (slice(0, 25), slice(25, 40)):
            equations.add_rows(rows[part], targets[part], weights[part])
        equations.add_weighted(equations, 0.5)
        found.append(equations)
    np.testing.assert_allclose(found[1].gram, found[0].gram, atol=1e-12)
    np.testing.assert_allclose(found[1].gram, 1.5 * (rows.T * weights) @ rows, atol=1e-12)
    np.testing.assert_array_equal(found[1].column_squares, found[0].column_squares)
    np.testing.assert_allclose(found[1].column_squares, np.diag(found[1].gram))
    again = StoredEquations.from_arrays(StoredEquations(found[0], np.ones(23)).to_arrays("x/"), "x/")
    np.testing.assert_array_equal(again.total.gram, found[0].gram)


def test_sizes_are_read_and_written():
    assert memory_size("8 GiB", "memory") == 8 * 2**30
    assert memory_size("1.5 MB", "memory") == memory_size(1_500_000, "memory") == 1_500_000
    assert memory_size(format_size(3 * 2**30), "memory") == 3 * 2**30
    assert memory_size(format_size(700 * 2**20), "memory") == 700 * 2**20
    for wrong in ("much", "8 GeV", "-1 GiB", 0, True, "", None, "1.2.3 MiB"):
        with pytest.raises(DualityError, match="memory: expected a size such as '8 GiB'"):
            memory_size(wrong, "memory")
    assert Settings(memory="2 GiB").memory == Settings.of(Settings(memory="2 GiB").to_dict()).memory == 2**31


def test_what_is_available_is_less_than_the_machine_has_and_within_the_limits_of_groups(tmp_path, monkeypatch):
    assert 0 < available_memory() < 2**50
    for name, content in (("memory.max", "5000"), ("memory.current", "4000"), ("memory.stat", "inactive_file 700")):
        (tmp_path / name).write_text(f"{content}\n")
    group = (tmp_path, "memory.max", "memory.current", "inactive_file")
    monkeypatch.setattr(system_memory, "_groups", lambda: [group])
    assert available_memory() == 1700
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory() > 2**20
    assert temporary_space() >= 0
