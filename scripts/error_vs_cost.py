"""Force error against the cost of a step, for models inferred from the same data: the figure and its numbers.

python scripts/error_vs_cost.py MODEL… [-o docs/error-vs-cost] [--backend fused]

The error is that of the first test set, held out by time, as inference measured it. The cost is the median over
interleaved repeats: 64 H2O on the CPU platform, Nosé–Hoover, 0.5 fs; a line is flexible TIP3P with PME.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import openmm_duality as duality
from openmm_duality.benchmark import Effort, water_box
from openmm_duality.benchmark.cases import FLEXIBLE_PME, Case, benchmark_cases
from openmm_duality.benchmark.interleaved import time_interleaved
from openmm_duality.benchmark.machine import describe_machine
from openmm_duality.benchmark.worker import save_start
from openmm_duality.files import atomic_write
from openmm_duality.lowering.backends import select_backend
from openmm_duality.report.benchmarks import cost_figure
from openmm_duality.report.figures import png

MOLECULES = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/error-vs-cost"), help="without .png and .json")
    parser.add_argument("--backend", default=select_backend(platform="CPU")[0])
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    machine, start = describe_machine(), water_box(MOLECULES)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "start.npz"
        save_start(file, start)
        cases = benchmark_cases(arguments.models, ["CPU"], [arguments.backend], tip3p=False)
        cases.append(Case(FLEXIBLE_PME, "CPU"))
        rows = time_interleaved(cases, file, MOLECULES, len(start.species), Effort(arguments.repeats), progress=True)
    costs = []
    for row in rows:
        if row.ms_per_step is None:
            raise SystemExit(f"{row.model or row.what}: {row.error}")
        costs.append(row.ms_per_step)
    *learned, tip3p = costs
    points = []
    for path, row, cost in zip(arguments.models, rows[:-1], learned, strict=True):
        metadata = duality.AgentLosses.load(path).metadata
        error = next(iter(metadata["errors"]["test"].values()))["force_rmse"]["all"]
        form = row.what.removeprefix("duality:")
        name = f"{form}, {metadata['settings']['size']}" if form == "channels" else form
        points.append((name, error, cost, metadata["coefficients"]))
        print(f"{path.name}: {error:.1f} meV/Å, {cost:.3g} ms per step, {points[-1][3]} coefficients")
    print(f"flexible TIP3P, PME: {tip3p:.3g} ms per step")
    content = {
        "machine": machine,
        "backend": arguments.backend,
        "molecules": MOLECULES,
        "tip3p_ms_per_step": tip3p,
        "points": [
            {"form": form, "force_rmse_mev_per_angstrom": error, "ms_per_step": cost, "coefficients": coefficients}
            for form, error, cost, coefficients in points
        ],
    }
    with atomic_write(arguments.output.with_suffix(".json"), overwrite=True) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    with atomic_write(arguments.output.with_suffix(".png"), overwrite=True) as temporary:
        temporary.write_bytes(png(cost_figure(points, tip3p)))


if __name__ == "__main__":
    main()
