"""The figure of the pump: every number is drawn, and what is no measured value as such."""

from __future__ import annotations

import numpy as np
import pytest

from openmm_duality.report.pump import UPPER_LIMIT, pump_figure


def point(gradient, eta, predicted, measured=None, error=0.02, rmse=100.0):
    ran = {} if measured is None else {"measured": measured, "standard_error": error}
    found = {"form": "moment", "gradient": gradient, "eta": eta, "predicted": predicted, **ran}
    return {**found, "force_rmse_mev_per_angstrom": rmse + predicted}


POINTS = [
    *(point("agent", 0.1, 0.2, 0.3), point("agent", 0.3, 0.01, 0.01), point("agent", 1.0, 0.005, -0.01, 0.1)),
    *(point("mutual", 1e-3, 0.1, 0.11), point("mutual", 1e-2, 0.02)),
]
CONTROL = point("collective", 0.0, 0.0, 0.0, rmse=120.0)


@pytest.mark.parametrize("limited", [True, False])
def test_every_point_is_in_the_figure_of_the_pump(limited):
    """The last of the own losses measures less than zero: a triangle two standard errors above."""
    points = [one for one in POINTS if limited or one.get("measured", 1.0) > 0.0]
    figure = pump_figure({"points": [*points, CONTROL]})
    measured, by_strength, by_pump = figure.axes
    values = np.concatenate([bars.lines[0].get_xydata() for bars in measured.containers])
    assert {tuple(one) for one in values} == {(0.2, 0.3), (0.01, 0.01), (0.1, 0.11)}
    limits = [
        line.get_xydata().tolist() for line in measured.lines if line.get_marker() == "v" and len(line.get_xdata())
    ]
    assert limits == ([[[0.005, pytest.approx(0.19)]]] if limited else [])
    for x, y in [*values, *(one[0] for one in limits)]:
        assert measured.get_xlim()[0] < x < measured.get_xlim()[1]
        assert measured.get_ylim()[0] < y < measured.get_ylim()[1]
    for axes, key in ((by_strength, "eta"), (by_pump, "predicted")):
        *lines, control = axes.lines
        drawn = {tuple(one) for line in lines for one in line.get_xydata()}
        assert drawn == {(one[key], one["force_rmse_mev_per_angstrom"]) for one in points}
        assert set(control.get_ydata()) == {120.0}
    names = {text.get_text() for text in figure.legends[0].texts}
    assert {"moment, agent", "moment, mutual", "moment, collective"} <= names
    assert (UPPER_LIMIT in names) == limited
