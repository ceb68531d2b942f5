"""Rows, ratios, the table, and how a start becomes a size."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.benchmark import format_costs
from openmm_duality.benchmark.cases import FLEXIBLE_PME
from openmm_duality.benchmark.machine import describe_machine
from openmm_duality.benchmark.results import Row, with_ratios
from openmm_duality.benchmark.table import three_digits
from tests.benchmark.synthetic import synthetic_costs


def test_rates_are_those_of_the_median_step():
    row = Row(FLEXIBLE_PME, "CPU", "openmm", 64, 192, blocks=(1.0, 2.0, 9.0), facts={"timestep": 0.5e-3})
    assert row.ms_per_step == 2.0
    assert row.quartiles == (1.5, 5.5)
    assert row.microseconds_per_atom == pytest.approx(2000 / 192)
    steps_per_day = 24 * 3600 / 2e-3
    assert row.ns_per_day == pytest.approx(steps_per_day * 0.5e-6)


def test_json_has_the_keys_that_scripts_rely_on():
    content = json.loads(json.dumps(synthetic_costs().to_dict(), allow_nan=False))
    assert {"machine", "rows"} == set(content)
    for row in content["rows"]:
        assert {"what", "platform", "backend", "atoms", "ms_per_step", "repeats"} <= set(row)
        assert (row["ms_per_step"] is None) == bool(row["error"])
    assert {row["what"] for row in content["rows"]} >= {"duality:moment", FLEXIBLE_PME, "cp2k-nnp", "cp2k-dft"}


def test_noise_that_hits_all_rows_alike_does_not_change_their_ratio():
    noise = np.random.default_rng(0).uniform(1.0, 3.0, size=9)
    rows = [
        Row("duality:moment", "CPU", "fused", 64, 192, blocks=tuple(1.7 * noise[:5])),
        Row(FLEXIBLE_PME, "CPU", "openmm", 64, 192, blocks=tuple(noise)),
        Row("duality:moment", "OpenCL", "fused", 64, 192, blocks=tuple(noise)),
        Row("duality:moment", "CPU", "torchscript", 64, 192, error="no"),
        Row("cp2k-nnp", "cp2k", "cp2k", 64, 192, blocks=(300.0,) * 4),
    ]
    ours, unit, elsewhere, failed, cp2k = with_ratios(rows)
    assert ours.relative == pytest.approx(1.7)
    assert unit.relative == 1.0
    assert elsewhere.relative is None  # no TIP3P was timed on its platform
    assert failed.relative is None
    assert cp2k.relative == pytest.approx(300.0 / np.median(noise))


def test_the_machine_is_described_but_not_named():
    machine = describe_machine()
    assert {"processor", "cores", "versions", "platforms"} <= set(machine)
    assert machine["cores"] >= 1
    assert "openmm" in machine["versions"]
    assert re.search(rf"\b{re.escape(socket.gethostname())}\b", json.dumps(machine)) is None


def test_the_table_has_every_row_and_every_error():
    costs = synthetic_costs()
    text = format_costs(costs)
    for row in costs.rows:
        assert row.name in text
        assert row.error in text
        if row.ms_per_step is not None:
            assert three_digits(row.ms_per_step) in text
    assert "duality:moment (fused), CPU, 64 molecules: 0.900 times the cost of flexible TIP3P with PME" in text
    assert "250 times faster than CP2K's NNP" in text


@pytest.mark.parametrize(("load", "busy"), [(0.1, False), (3.0, True), (None, False)])
def test_times_of_a_busy_machine_come_with_a_warning(load, busy):
    costs = synthetic_costs()
    assert ("was busy" in format_costs(replace(costs, machine={**costs.machine, "load": load}))) is busy


@pytest.mark.parametrize("value", [1e-4, 0.0123456, 0.9999, 3.14159, 99.97, 123.4, 999.6, 1234.5, 98765.0, 2e7])
def test_three_digits_are_what_is_shown(value):
    shown = three_digits(value)
    assert float(shown.replace(",", "")) == pytest.approx(value, rel=5.1e-3)
    assert len(shown.replace(",", "").replace(".", "").strip("0")) <= 3
    assert three_digits(None) == "–"
