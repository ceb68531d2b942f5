"""The benchmark as a whole: sizes, starts, the baselines, and the command."""

from __future__ import annotations

import json

import numpy as np
import pytest

from openmm_duality.benchmark import Baselines, Effort, measure_cost, read_sizes
from openmm_duality.benchmark.suite import copies_along
from openmm_duality.dynamics import Start
from openmm_duality.errors import DualityError
from openmm_duality.lowering.fused.threads import VARIABLE
from tests.benchmark.synthetic import weak_losses
from tests.command import call, refused
from tests.systems import random_positions

QUICK = Effort(repeats=2, warm_up=3, steps=5, seconds=0.01)


@pytest.fixture(scope="module")
def water(tmp_path_factory):
    """A model of H and O that fits 30 molecules."""
    path = tmp_path_factory.mktemp("model") / "water.safetensors"
    weak_losses().save(path)
    return path


@pytest.mark.parametrize("copies", [1, 2, 8, 12, 27, 64, 100, 512, 97])
def test_copies_are_spread_over_three_directions(copies):
    along = copies_along(copies)
    assert np.prod(along) == copies
    assert list(along) == sorted(along)
    if round(copies ** (1 / 3)) ** 3 == copies:
        assert along[0] == along[2]


def test_something_other_than_water_is_timed_alone(tmp_path):
    cell = np.diag([1.3, 1.25, 1.4])
    start = Start(random_positions(20, cell, least=0.25), ("Ar",) * 20, cell)
    model = tmp_path / "argon.safetensors"
    weak_losses(("Ar",), shortest=0.2).save(model)
    with pytest.warns(UserWarning, match="TIP3P and CP2K are left out"):
        costs = measure_cost(
            [model], sizes=[20, 40], platforms=["CPU"], backends=["torchscript"], start=start, effort=QUICK
        )
    assert [(row.what, row.atoms, len(row.blocks)) for row in costs.rows] == [
        ("duality:pair", 20, 2),
        ("duality:pair", 40, 2),
    ]
    with pytest.raises(DualityError, match="multiples of 20"):
        measure_cost([model], sizes=[30], start=start, effort=QUICK)
    with pytest.raises(DualityError, match="at most 10,000,000"):
        measure_cost([model], sizes=[20 * 10**8], start=start, effort=QUICK)
    with pytest.raises(DualityError, match="species"):
        measure_cost([model], sizes=[64], effort=QUICK)
    with pytest.raises(DualityError, match="something else"):
        measure_cost([model], sizes=[20], start=start, effort=QUICK, baselines=Baselines(tip3p=True))


def test_wrong_requests_are_refused_before_anything_is_timed(water, tmp_path):
    with pytest.raises(DualityError, match="Nowhere"):
        measure_cost([water], platforms=["Nowhere"])
    with pytest.raises(DualityError, match="at least one model"):
        measure_cost([])
    for sizes in ([], [0]):
        with pytest.raises(DualityError, match="above zero"):
            measure_cost([water], sizes=sizes)
    for sizes in ([64, 99_999_999_999], [10**8], [10**7]):
        with pytest.raises(DualityError, match="at most 3,333,333"):
            measure_cost([water], sizes=sizes)
    for text in ("64,,512", "many", "-8", "9" * 5000):
        with pytest.raises(DualityError, match="with commas"):
            read_sizes(text)
    assert read_sizes("64, 512") == [64, 512]


def test_cp2k_that_was_asked_for_and_is_missing_is_an_error(water, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    for baselines in (Baselines(cp2k=True), Baselines(dft=True)):
        with pytest.raises(DualityError, match="CP2K is not installed"):
            measure_cost([water], sizes=[30], baselines=baselines)


def test_the_command(water, tmp_path, monkeypatch):
    figures, folder = tmp_path / "b.json", tmp_path / "figures"
    outputs = ("--json", figures, "-o", folder)
    what = ("--sizes", 30, "--platform", "CPU", "--backend", "torchscript", "--repeats", 2, "--budget", 1, "--no-cp2k")
    text = call("benchmark", water, *what, *outputs)
    content = json.loads(figures.read_text())
    assert [row["what"] for row in content["rows"]] == [
        "duality:pair",
        "tip3p-flexible-pme",
        "tip3p-flexible-rf",
        "tip3p-rigid-pme",
    ]
    assert all(row["ms_per_step"] > 0 for row in content["rows"])
    assert content["rows"][1]["relative_to_tip3p_flexible_pme"] == 1.0
    assert "times the cost of flexible TIP3P" in text
    assert {path.name for path in folder.iterdir()} == {"cost-CPU.png", "relative-CPU-90.png"}
    assert "exists already" in refused("benchmark", water, *what, "-o", folder)
    monkeypatch.setenv(VARIABLE, "some")
    assert "not timed" in call("benchmark", water, *what[:4], "--backend", "fused", *what[6:], "--no-tip3p", code=1)
