"""Δ-learning from CP2K's committee network to density functional theory with 10, 20 and 40 frames: figure and numbers.

python scripts/delta_learning.py [--work runs/delta-learning] [-o docs/delta-learning] [--forms moment coupled]

The models of the low level of theory are inferred from examples/water.yaml (64 H2O, committee network) at a cutoff that
fits the cell of 32 H2O, and kept in the working folder. The frames of the high level are those of
examples/water32-revpbe-d3. The last fifth of them by time is held out, after a gap of 0.5 ps. Of the others, sets of
frames are drawn several times, each spread over all of their time: it is cut into as many equal intervals as frames are
wanted, and one frame is drawn from each. Killed, the script goes on with what the working folder holds of the
same data, configuration and cutoff, whose hash is in the names of its files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import openmm_duality as duality
from openmm_duality.files import atomic_write
from openmm_duality.inference.configuration import InferenceConfig
from openmm_duality.inference.equations.inference import Inference
from openmm_duality.inference.equations.penalties import DELTA_GRIDS
from openmm_duality.inference.equations.strength_choice import coordinate_search
from openmm_duality.inference.fitting import solve_with_core
from openmm_duality.report.learning import delta_learning_figure
from openmm_duality.report.style import png

EXAMPLES = Path(__file__).parents[1] / "examples"
CUTOFF, GAP = 0.49, 0.5  # nm, ps
COUNTS = (10, 20, 40)
SMALL: dict[str, dict[str, Any]] = {  # models for few frames, inferred from the frames of the high level alone
    "moment of 4 functions": {"form": "moment", "functions": 4},
    "quadratic": {"form": "quadratic"},
    "pair": {"form": "pair"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=EXAMPLES / "water32-revpbe-d3" / "water32")
    parser.add_argument("--forms", nargs="+", default=["moment", "coupled"])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("runs/delta-learning"))
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/delta-learning"), help="without .png and .json")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    high = duality.read(arguments.data)
    train, test = apart(high)
    arguments.digest = digest_of(*inferred_from(), *high.source, GAP, SMALL, DELTA_GRIDS)
    print(f"{len(train)} frames up to {train.times[-1]:.2f} ps; held out: {len(test)} from {test.times[0]:.2f} ps")
    low = {form: low_level_model(form, arguments.work) for form in arguments.forms}
    before = {form: duality.evaluate(losses, test).force_rmse for form, losses in low.items()}
    curves = [
        curve(what, form, low.get(form), train, test, arguments)
        for what, forms in (("corrected", arguments.forms), ("alone", [*arguments.forms, *SMALL]))
        for form in forms
    ]
    content = {
        "cutoff": CUTOFF,
        "train": {"frames": len(train), "from": train.times[0], "to": train.times[-1]},
        "test": {"frames": len(test), "from": test.times[0], "to": test.times[-1]},
        "rms": duality.evaluate(low[arguments.forms[0]], test).force_rms,
        "low": {
            form: {"force_rmse": before[form], "made_of": [entry["name"] for entry in losses.metadata["data"]]}
            for form, losses in low.items()
        },
        "curves": curves,
        "units": {"force": "meV/angstrom", "time": "ps", "cutoff": "nm"},
    }
    write(arguments.output.with_suffix(".json"), (json.dumps(content, indent=1) + "\n").encode())
    write(arguments.output.with_suffix(".png"), png(delta_learning_figure(content)))


def apart(frames: Any) -> tuple[Any, Any]:
    """Training frames, and the last fifth; single points have no time step, so their gap in time is made here."""
    test = frames.split(0.2)[1]
    return frames[np.flatnonzero(frames.times < test.times[0] - GAP + 1e-9)], test


def inferred_from() -> tuple[object, ...]:
    """What the models of the low level come from."""
    return CUTOFF, (EXAMPLES / "water.yaml").read_text("utf-8")


def digest_of(*made_of: object) -> str:
    """A few letters that differ where any of these does."""
    return hashlib.sha256(repr(made_of).encode()).hexdigest()[:8]


def low_level_model(form: str, work: Path) -> Any:
    """The model of the committee network, from the working folder where it is there already."""
    file = work / f"low-{form}-{digest_of(*inferred_from())}.safetensors"
    if not file.exists():
        loaded = InferenceConfig.load(EXAMPLES / "water.yaml")
        config = InferenceConfig.of(loaded.data, {**loaded.choices, "form": form, "cutoff": CUTOFF}, loaded.folder)
        sets, held_out = config.read()
        duality.infer(sets, test=held_out, settings=config.settings, progress=True).save(file)
    return duality.AgentLosses.load(file)


def draws(total: int, count: int, number: int) -> list[Any]:
    """Indices of one frame from each of `count` equal stretches, drawn anew for every draw; all frames once."""
    if count >= total:
        return [np.arange(total)]
    edges = np.linspace(0, total, count + 1).round().astype(int)
    generators = [np.random.default_rng([count, k]) for k in range(number)]
    return [np.array([rng.integers(a, b) for a, b in pairwise(edges)]) for rng in generators]


def curve(what: str, form: str, low: Any, train: Any, test: Any, arguments: Any) -> dict[str, Any]:
    """Errors on the test frames against the number of frames of the high level, with standard errors over the draws.

    Draws of n among N frames have frames in common, so their spread is too small by √(1 − n/N); it is divided by that.
    """
    points = []
    for count in (*COUNTS, len(train)):
        found = []
        for k, chosen in enumerate(draws(len(train), count, arguments.draws)):
            file = arguments.work / f"{what}-{form.replace(' ', '-')}-{count}-{k}-{arguments.digest}.json"
            if not file.exists():
                write(file, json.dumps(measured(what, form, low, train[chosen], test)).encode())
            found.append(json.loads(file.read_text()))
        tables = [entry["force_rmse"] for entry in found]
        mean = {key: float(np.mean([table[key] for table in tables])) for key in tables[0]}
        error = {}
        if len(tables) > 1:
            share = np.sqrt(1.0 - count / len(train))
            error = {key: float(np.std([table[key] for table in tables], ddof=1) / share) for key in mean}
        points.append({"frames": count, "force_rmse": mean, "error": error, "draws": found})
        print(
            f"{what} {form}, {count} frames: {mean['all']:.1f} ± {error.get('all', float('nan')):.1f} meV/Å", flush=True
        )
    return {"what": what, "form": form, "points": points}


def measured(what: str, form: str, low: Any, frames: Any, test: Any) -> dict[str, Any]:
    """Errors of one model on the test frames."""
    if what == "corrected":
        losses = duality.fit_delta(low, frames, test=test)
        extra = {"jackknife": losses.metadata["delta"]["error"]["data"]}
        extra["blocks"] = losses.metadata["delta"]["blocks"]
    else:
        settings = duality.Settings(**SMALL.get(form, {"form": form}), cutoff=CUTOFF, members=0)
        inference = Inference.of([duality.DataSet(frames)], settings)
        (total,), (folds,), (penalties,), (scale,) = (
            inference.totals,
            inference.equations.folds,
            inference.penalties,
            inference.scales,
        )
        losses = solve_with_core(inference, [coordinate_search(total, folds, penalties, DELTA_GRIDS, scale=scale)])
        extra = {}
    table = duality.evaluate(losses, test)
    return {"force_rmse": table.force_rmse, "regularisation": losses.metadata["regularisation"], **extra}


def write(file: Path, content: bytes) -> None:
    """Write a file whole, in place of what was there."""
    with atomic_write(file, overwrite=True) as temporary:
        temporary.write_bytes(content)


if __name__ == "__main__":
    main()
