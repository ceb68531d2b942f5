"""The results of a benchmark for a terminal: a table per size and platform, and the ratios in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openmm_duality.benchmark.results import Costs, Row

_HEAD = ("", "ms/step", "quartiles", "µs/atom", "ns/day", "× TIP3P", "repeats", "MiB")

_BUSY = 0.5  # of the cores


def format_costs(costs: Costs) -> str:
    """The tables, the sentences and the machine."""
    sections = []
    for atoms in dict.fromkeys(row.atoms for row in costs.rows):
        rows = [row for row in costs.rows if row.atoms == atoms]
        cp2k_rows = [row for row in rows if row.backend == "cp2k"]
        for platform in dict.fromkeys(row.platform for row in rows if row.backend != "cp2k"):
            sections.append(_table([*(row for row in rows if row.platform == platform), *cp2k_rows]))
            cp2k_rows = []
    return "\n\n".join([*sections, *filter(None, ["\n".join(sentences(costs))]), _machine(costs)])


def sentences(costs: Costs) -> list[str]:
    """The cost of every model in units of TIP3P and of CP2K, and a warning where the machine was busy."""
    found = []
    for row in costs.rows:
        if not row.what.startswith("duality:") or row.ms_per_step is None:
            continue
        ratios = []
        if row.relative is not None:
            ratios.append(f"{three_digits(row.relative)} times the cost of flexible TIP3P with PME")
        for other in costs.rows:
            if other.backend == "cp2k" and other.atoms == row.atoms and other.ms_per_step is not None:
                method = other.what.removeprefix("cp2k-").upper()
                ratios.append(f"{three_digits(other.ms_per_step / row.ms_per_step)} times faster than CP2K's {method}")
        if ratios:
            found.append(f"{_name(row, costs.rows)}, {row.platform}, {row.molecules:,} molecules: {', '.join(ratios)}")
    load, cores = costs.machine["load"], costs.machine["cores"]
    if load is not None and load > _BUSY * cores:
        found.append(
            f"The machine was busy when this began (load {load} on {cores} cores): times are too long, CP2K's most, "
            "for its processes wait for each other. Ratios to TIP3P suffer least"
        )
    return found


def three_digits(value: float | None) -> str:
    """Three significant digits, thousands with a comma."""
    if value is None or not np.isfinite(value):
        return "–"
    rounded = float(f"{value:.2e}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:#.3g}".rstrip(".")


def _table(rows: Sequence[Row]) -> str:
    first = rows[0]
    cells = [list(_HEAD)] + [[_name(row, rows), *_cells(row)] for row in rows]
    widths = [max(len(line[k]) for line in cells) for k in range(len(_HEAD))]
    lines = [f"{first.platform}, {first.molecules:,} molecules, {first.atoms:,} atoms"]
    for line, error in zip(cells, ["", *(row.error for row in rows)], strict=True):
        numbers = "  ".join(f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        lines.append(f"{line[0]:<{widths[0]}}  {f'not timed: {error}' if error else numbers}".rstrip())
    return "\n".join(lines)


def _name(row: Row, rows: Sequence[Row]) -> str:
    """The name of a row, with its model file where several have the same form."""
    models = {other.model for other in rows if other.what == row.what}
    return f"{row.name} {row.model}" if len(models) > 1 else row.name


def _cells(row: Row) -> list[str]:
    if row.error:
        return [""] * (len(_HEAD) - 1)
    quartiles = row.quartiles
    return [
        three_digits(row.ms_per_step),
        "–" if quartiles is None else f"{three_digits(quartiles[0])}–{three_digits(quartiles[1])}",
        three_digits(row.microseconds_per_atom),
        three_digits(row.ns_per_day),
        three_digits(row.relative),
        str(len(row.blocks)),
        "–" if row.memory is None else f"{row.memory:,.0f}",
    ]


def _machine(costs: Costs) -> str:
    m = costs.machine
    versions = ", ".join(f"{package} {version}" for package, version in m["versions"].items())
    memory = "" if m["memory_gib"] is None else f", {m['memory_gib']} GiB"
    load = "" if m["load"] is None else f", load {m['load']} before"
    return f"{m['processor']}, {m['cores']} cores{memory}{load}, {m['system']}, Python {m['python']}; {versions}"
