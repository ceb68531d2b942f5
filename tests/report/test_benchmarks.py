"""The figures of a benchmark."""

from __future__ import annotations

from itertools import combinations

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from openmm_duality.errors import DualityError
from openmm_duality.report.benchmarks import benchmark_figures, cost_figure, write_benchmark_figures
from openmm_duality.report.style import png
from tests.benchmark.synthetic import synthetic_costs


def words(figure: Figure) -> list[str]:
    """Every text of a figure's only axes."""
    (axes,) = figure.axes
    return [text.get_text() for text in (*axes.texts, *axes.get_yticklabels(), *axes.get_xticklabels(), axes.title)]


def test_cost_against_size_shows_every_row_that_was_timed():
    figure = benchmark_figures(synthetic_costs())["cost-CPU"]
    (axes,) = figure.axes
    shown = {(x, y) for line in axes.lines for x, y in zip(*line.get_data(), strict=True)}
    rows = [row for row in synthetic_costs().rows if row.platform in ("CPU", "cp2k") and row.ms_per_step is not None]
    assert {(row.atoms, row.ms_per_step) for row in rows} <= shown
    for name in (
        "moment, fused",
        "moment, torchscript",
        "flexible TIP3P, PME",
        "CP2K, committee network",
        "CP2K, PBE-D3",
    ):
        assert words(figure).count(name) == 1
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_labels_at_the_edge_do_not_touch():
    figure = benchmark_figures(synthetic_costs())["cost-CPU"]
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the line that leads there
    pairs = [(a, b) for k, a in enumerate(boxes) for b in boxes[:k]]
    assert not any(a.overlaps(b) for a, b in pairs)


def test_bars_are_the_ratios_to_flexible_tip3p():
    drawn = benchmark_figures(synthetic_costs())
    assert set(drawn) == {"cost-CPU", "cost-OpenCL", "relative-CPU-96", "relative-CPU-192", "relative-OpenCL-96"}
    (axes,) = drawn["relative-CPU-96"].axes
    ends = sorted(bar.get_x() + bar.get_width() for bar in axes.patches)
    rows = [r for r in synthetic_costs().rows if r.atoms == 96 and r.platform in ("CPU", "cp2k")]
    assert ends == pytest.approx(sorted(row.relative for row in rows))


def test_one_size_and_no_tip3p_have_figures_too():
    costs = synthetic_costs(sizes=(4096,), platforms=("OpenCL",))
    drawn = benchmark_figures(costs)
    assert all(png(figure).startswith(b"\x89PNG") for figure in drawn.values())


def test_error_against_cost_names_every_model():
    points = [("quadratic", 123.1, 0.5, 356), ("moment", 17.9, 0.6, 900), ("coupled", 16.5, 1.2, 3252)]
    figure = cost_figure(points, tip3p=1.5)
    (axes,) = figure.axes
    dots, tip3p = axes.lines
    assert sorted(zip(*dots.get_data(), strict=True)) == [(p[2], p[1]) for p in points]
    assert set(tip3p.get_xdata()) == {1.5}
    assert axes.get_xlim()[1] > 1.5
    text = " ".join(words(figure))
    assert all(label in text and f"{count:,} coefficients" in text for label, _, _, count in points)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(t) for t in axes.texts]  # without their lines
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_earlier_figures_are_not_replaced_unasked(tmp_path):
    costs = synthetic_costs(sizes=(64,), platforms=("CPU",))
    paths = write_benchmark_figures(costs, tmp_path / "figures")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    with pytest.raises(DualityError, match="exists already"):
        write_benchmark_figures(costs, tmp_path / "figures")
    assert write_benchmark_figures(costs, tmp_path / "figures", overwrite=True) == paths
    (tmp_path / "file").write_text("")
    with pytest.raises(DualityError, match="is a file"):
        write_benchmark_figures(costs, tmp_path / "file")
