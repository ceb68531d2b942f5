"""The figure of the lowest energies that methods of descent find."""

from __future__ import annotations

import pytest

from openmm_duality.report.descents import descent_figure


@pytest.mark.parametrize("sizes", [[2], [2, 3, 4, 5, 6]])
def test_the_figure_of_descents_has_the_first_the_middle_and_the_last_size(sizes):
    def found(size, shift):
        return {"mean_above_lowest": [size + shift, size / 2 + shift], "error_of_mean": [0.3, 0.1]}

    content = {
        "evaluations": [10, 100],
        "sizes": [{"molecules": n, "methods": {"one": found(n, 0.0), "other": found(n, 1.0)}} for n in sizes],
    }
    figure, shown = descent_figure(content), sorted({sizes[0], sizes[len(sizes) // 2], sizes[-1]})
    assert [axes.get_title(loc="left") for axes in figure.axes] == [f"{n} molecules" for n in shown]
    for axes, n in zip(figure.axes, shown, strict=True):
        drawn = [bars.lines[0].get_xydata().tolist() for bars in axes.containers]
        assert drawn == [[[10, n + shift], [100, n / 2 + shift]] for shift in (0.0, 1.0)]
    assert [text.get_text() for text in figure.legends[0].texts] == ["one", "other"]
