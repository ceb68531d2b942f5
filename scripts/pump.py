"""The pump of losses without a potential, measured in runs, against the predicted one: the figure and its numbers.

    python scripts/pump.py [--every 4] [--time 12] [--friction 5] [--models quadratic-mutual-1e-3,…] [--unlabelled RUN]

Every form and gradient is inferred once from `examples/water.yaml`, or every so many of its frames, and solved for each
strength η of the penalty. The runs are of 64 H2O at 300 K, Langevin, 0.5 fs. The measured pump is the mean rate of
change of what forces with a potential would conserve, without the first 2 ps of a run. `collective` is the control.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from run_log import columns
from scipy.stats import spearmanr

import openmm_duality as duality
from openmm_duality.files import atomic_write
from openmm_duality.inference.configuration import InferenceConfig
from openmm_duality.inference.equations.inference import Inference
from openmm_duality.inference.fitting import solve_with_core
from openmm_duality.losses.forms import has_potential
from openmm_duality.observables.statistics import mean_rate
from openmm_duality.report.figures import png
from openmm_duality.report.pump import pump_figure

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TIMESTEP = 0.5e-3  # ps
FIRST = 2.0  # ps of a run that are left out
BLOCK = 2.0  # ps, for the errors
RIDGE, CURVATURE = 1e-9, 1e-7
MODELS = (
    *("moment-collective-0", "quadratic-agent-3e-3", "quadratic-agent-1e-2", "quadratic-agent-3e-2"),
    *("quadratic-agent-1e-1", "quadratic-mutual-1e-4", "quadratic-mutual-1e-3", "quadratic-mutual-1e-2"),
    *("moment-mutual-1e-6", "moment-mutual-1e-4", "moment-mutual-1e-3", "moment-mutual-1e-2"),
    *("moment-agent-1e-1", "moment-agent-1"),
)


@cache
def data(every: int) -> tuple[list[Any], Any]:
    """Training sets with every so many of their frames, and held-out liquid."""
    sets, held_out = InferenceConfig.load(EXAMPLES / "water.yaml").read()
    return [replace(one, frames=one.frames[::every]) for one in sets], held_out["liquid"]


@cache
def inference(form: str, gradient: str, every: int, unlabelled: Path | None) -> Inference:
    """Equations of a form and gradient, with those of the penalty on the pump."""
    choices = {"form": form, "gradient": gradient, "cutoff": 0.59, "members": 0, "stress_weight": 0.0}
    penalty = {} if has_potential(gradient) else {"pump": 1.0}
    settings = duality.Settings(**choices, ridge=RIDGE, curvature=CURVATURE, **penalty)
    more = [] if unlabelled is None or not penalty else [duality.DataSet(duality.read(unlabelled, forces=False))]
    return Inference.of(data(every)[0], settings, unlabelled=more)


def run(
    losses: duality.AgentLosses, held_out: duality.Frames, directory: Path, time: float, friction: float
) -> dict[str, Any]:
    """Temperatures and the measured pump of a run, or why it stopped itself."""
    start = duality.read_start(held_out)
    topology = duality.create_topology(start.species, None, start.cell)
    result = duality.simulate(
        duality.create_system(losses, topology, platform="CPU"),
        topology,
        start.positions,
        duality.LangevinLearningIntegrator(300.0, friction, TIMESTEP, recordWork=True),
        directory,
        steps=round(time / TIMESTEP),
        platform="CPU",
        seed=1,
        limits=duality.Limits.of(losses),
    )
    found: dict[str, Any] = {"ran_ps": result.steps_done * TIMESTEP, "reason": result.reason}
    if result.status != "finished":
        return found
    names = ("temperature_K", *(f"temperature_{name}_K" for name in sorted(set(start.species))))
    times, conserved, *temperatures = columns(directory, "time_ps", "conserved_quantity", *names)
    used = times > FIRST
    rate = mean_rate(times[used], conserved[used] / len(start.species), round((time - FIRST) / BLOCK))
    found |= {"measured": rate.mean, "standard_error": rate.error}
    return found | {name: float(one[used].mean()) for name, one in zip(names, temperatures, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=4, help="of the training frames")
    parser.add_argument("--time", type=float, default=12.0, help="ps of each run")
    parser.add_argument("--friction", type=float, default=5.0, help="1/ps")
    parser.add_argument("--models", default=",".join(MODELS), help="FORM-GRADIENT-ETA, separated by commas")
    parser.add_argument("--unlabelled", type=Path, help="run of a first model, whose frames join those of the penalty")
    parser.add_argument("--runs", type=Path, default=Path("runs/pump"), help="folder of the runs")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/pump"), help="without .png and .json")
    arguments = parser.parse_args()
    points = []
    for name in arguments.models.split(","):
        form, gradient, eta = name.split("-", 2)
        strengths = {"ridge": RIDGE, "curvature": CURVATURE, "pump": float(eta)}
        equations = inference(form, gradient, arguments.every, arguments.unlabelled)
        losses = solve_with_core(equations, len(equations.totals) * [strengths])
        held_out = data(arguments.every)[1]
        errors = duality.evaluate(losses, held_out, at_most=20)
        point = {
            "form": form,
            "gradient": gradient,
            "eta": float(eta),
            "force_rmse_mev_per_angstrom": errors.force_rmse["all"],
            "predicted": errors.pump or 0.0,
            **run(losses, held_out, arguments.runs / name, arguments.time, arguments.friction),
        }
        points.append(point)
        print(json.dumps(point), flush=True)
    pumping = [p for p in points if p["predicted"] > 0.0]
    whole = [p for p in pumping if "measured" in p]
    rank = spearmanr([p["predicted"] for p in whole], [p["measured"] for p in whole]).statistic
    print(f"Spearman's rank correlation of {len(whole)} models: {rank:.3f}")
    settings = {name: getattr(arguments, name) for name in ("every", "time", "friction")}
    content = {**settings, "spearman": float(rank), "points": points}
    with atomic_write(arguments.output.with_suffix(".json"), overwrite=True) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    with atomic_write(arguments.output.with_suffix(".png"), overwrite=True) as temporary:
        temporary.write_bytes(png(pump_figure(content)))


if __name__ == "__main__":
    main()
