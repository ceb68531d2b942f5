"""False alarms of the monitor of a run, and the time to its first true alarm.

python scripts/monitor_alarms.py [--time 50] [--starts 10] [-o runs/monitor]

The monitor is that of a model inferred from liquid water alone (64 H2O, 300 K, CP2K). The dynamics is that of a model
that was inferred from distorted, compressed and hot water too, so that it remains stable where the first does not.
There is a long run at 300 K with a check every 10 steps; then, from many starts, 50 fs with velocities of 600 K, one
O–H bond stretched to 1.4 Å, one proton moved to another oxygen, and cell edges 5 % shorter (216 H2O), each beside the
same start unchanged.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np

import openmm_duality as duality
from openmm_duality.benchmark.water import water_box
from openmm_duality.dynamics.structures import Start
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.inference.configuration import InferenceConfig
from openmm_duality.losses import AgentLosses

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TIMESTEP, INTERVAL, WITHIN = 0.5e-3, 10, 100  # ps, steps between checks, steps of a trial


def load_or_infer(path: Path, config: str, liquid_only: bool) -> AgentLosses:
    """The model of a configuration, inferred unless its file exists; or of every second frame of the liquid."""
    if path.exists():
        return duality.AgentLosses.load(path)
    resolved = InferenceConfig.load(EXAMPLES / config)
    if liquid_only:
        resolved = replace(resolved, data=(replace(resolved.data[0], every=2),))
    sets, test = resolved.read()
    losses = duality.infer(sets, test=test, settings=resolved.settings, progress=True)
    losses.save(path)
    return losses


def run_monitored(
    losses: AgentLosses,
    monitoring: AgentLosses,
    start: Start,
    folder: Path,
    steps: int,
    kelvin: float = 300.0,
    seed: int = 1,
) -> list[tuple[float, str]]:
    """Run learning dynamics from a start with the monitor of another model; the alarms as (time in ps, text)."""
    topology = duality.create_topology(start.species, None, start.cell)
    duality.simulate(
        duality.create_system(losses, topology, backend="fused"),
        topology,
        start.positions,
        duality.NoseHooverLearningIntegrator(kelvin, 1.0, TIMESTEP),
        folder,
        steps=steps,
        report_interval=100,
        platform="CPU",
        seed=seed,
        monitor=duality.Monitor(monitoring, start.species, interval=INTERVAL),
        progress=steps > WITHIN,
    )
    path = folder / "alarms.csv"
    rows = [line.split(",", 2) for line in path.read_text().splitlines()[1:]] if path.exists() else []
    return [(float(time), text.strip('"')) for _, time, text in rows]


def stretched(start: Start, rng: np.random.Generator) -> Start:
    """One hydrogen moved along its bond to 1.4 Å."""
    h, (own, _) = _hydrogen(start, rng)
    return _placed(start, h, own, 0.14)


def moved(start: Start, rng: np.random.Generator) -> Start:
    """One hydrogen moved to the oxygen that is nearest to it but one, 1 Å from it."""
    h, (_, other) = _hydrogen(start, rng)
    return _placed(start, h, other, 0.10)


def compressed(start: Start, factor: float = 0.95) -> Start:
    """The cell's edges 5 % shorter, molecules moved with it and not stretched; atoms in the order O, H, H."""
    molecules = start.positions.reshape(-1, 3, 3)
    arms = minimum_image((molecules - molecules[:, :1]).reshape(-1, 3), start.cell).reshape(-1, 3, 3)
    return replace(start, positions=(factor * molecules[:, :1] + arms).reshape(-1, 3), cell=factor * start.cell)


def _hydrogen(start: Start, rng: np.random.Generator) -> tuple[int, np.ndarray]:
    """A hydrogen, and its nearest two oxygens."""
    names = np.array(start.species)
    h, oxygens = int(rng.choice(np.flatnonzero(names == "H"))), np.flatnonzero(names == "O")
    away = np.linalg.norm(minimum_image(start.positions[oxygens] - start.positions[h], start.cell), axis=1)
    return h, oxygens[np.argsort(away)[:2]]


def _placed(start: Start, atom: int, centre: int, distance: float) -> Start:
    vector = minimum_image(start.positions[atom] - start.positions[centre], start.cell)
    positions = start.positions.copy()
    positions[atom] = positions[centre] + distance * vector / np.linalg.norm(vector)
    return replace(start, positions=positions)


def frames(folder: Path, start: Start, count: int) -> list[Start]:
    """Evenly spaced frames of the second half of a run."""
    run = mdtraj.load(str(folder / "trajectory.dcd"), top=str(folder / "topology.pdb"))
    chosen = np.linspace(0.5 * len(run), len(run) - 1, count).astype(int)
    return [replace(start, positions=run.xyz[k].astype(np.float64)) for k in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=float, default=50.0, help="ps of the long run")
    parser.add_argument("--starts", type=int, default=10, help="of every trial")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/monitor"))
    given = parser.parse_args()
    folder: Path = given.output
    folder.mkdir(parents=True, exist_ok=True)
    monitoring = load_or_infer(folder / "liquid.safetensors", "water.yaml", liquid_only=True)
    losses = load_or_infer(folder / "water.safetensors", "water.yaml", liquid_only=False)
    rng = np.random.default_rng(1)
    liquid = duality.read_start(duality.read(EXAMPLES / "water64-cnnp"))
    steps = round(given.time / TIMESTEP)
    alarms = run_monitored(losses, monitoring, liquid, folder / "long", steps)
    found: dict[str, Any] = {"long": {"checks": steps // INTERVAL, "alarms": len(alarms), "alarm_texts": alarms[:20]}}
    print(f"{given.time:g} ps at 300 K: {len(alarms)} alarms in {steps // INTERVAL} checks")
    run_monitored(losses, monitoring, water_box(216), folder / "216", 8000)
    small, large = frames(folder / "long", liquid, given.starts), frames(folder / "216", water_box(216), given.starts)
    trials: dict[str, tuple[list[Start], Callable[[Start], Start], float]] = {
        "unchanged": (small, lambda start: start, 300.0),
        "216 H2O unchanged": (large, lambda start: start, 300.0),
        "velocities of 600 K": (small, lambda start: start, 600.0),
        "a bond stretched to 1.4 Å": (small, lambda start: stretched(start, rng), 300.0),
        "a proton moved": (small, lambda start: moved(start, rng), 300.0),
        "216 H2O, edges 5 % shorter": (large, compressed, 300.0),
    }
    for name, (starts, change, kelvin) in trials.items():
        first = []
        for k, start in enumerate(starts):
            trial = folder / "trials" / f"{name.replace(' ', '-').replace('%', 'per-cent')}-{k}"
            alarms = run_monitored(losses, monitoring, change(start), trial, WITHIN, kelvin, seed=k + 1)
            first.append((1e3 * alarms[0][0], alarms[0][1]) if alarms else None)
        times = [None if one is None else one[0] for one in first]
        found[name] = {"first_alarm_fs": times, "alarm_texts": [one[1] for one in first if one]}
        detected = sum(time is not None for time in times)
        print(f"{name}: {detected} of {len(times)} within {1e3 * WITHIN * TIMESTEP:g} fs, first alarms at {times} fs")
    (folder / "monitor.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
