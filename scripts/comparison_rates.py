"""False alarms and detections of `compare`: windows of water compared with each other, equal and different ones.

    python scripts/comparison_rates.py runs/rates [--reference 300K] [-o docs/comparison-rates.json]

FOLDER holds one folder per state, as `comparison_runs.py` writes them. Every window of every state is compared as a run
with every window of the reference state, and those of the reference state with each other: two different windows of one
run are equal waters. The table gives, of these pairs, the share in which a difference was found: by all that `compare`
has, and by the tests of structure, vibrations and motion alone, as if nothing was known of temperature and density.
Pairs share windows, so the shares are less certain than their number suggests. Below it, per observable: how often it
could be tested, and how often equal waters are rejected at 20, 5 and 1 %, which is what p values promise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np

from openmm_duality.observables import Comparison, Conclusion, Finding, Observable
from openmm_duality.observables.comparison import Analysis, side_by_side
from openmm_duality.observables.conditions import conditions_of_run
from openmm_duality.observables.decisions import judge
from openmm_duality.observables.differences import SIGNIFICANCE, holm, joint_p_value
from openmm_duality.observables.motion import Motion, Scales, measure_motion
from openmm_duality.observables.reaction_comparison import Followed, ReactionComparison
from openmm_duality.observables.reactions import follow_bonds
from openmm_duality.observables.runs import Run
from openmm_duality.observables.structure import collect_histograms
from openmm_duality.observables.subjects import Subject
from openmm_duality.reference import Frames
from openmm_duality.reference.molecules import terminal_species
from openmm_duality.reference.state_points import StatePoint
from openmm_duality.report.formatting import label
from openmm_duality.units import BOLTZMANN

BONDS = {("H", "O"): 0.13}  # nm
BANDS = [(0.0, 1150.0), (1500.0, 1850.0), (3100.0, 4200.0)]  # cm⁻¹
R_MAX = 0.58  # nm, half the width of the densest cell
LEVELS = (0.2, 0.05, 0.01)
CONDITIONS = (
    Observable.SET_TEMPERATURE,
    Observable.MEAN_TEMPERATURE,
    Observable.DENSITY,
    Observable.TEMPERATURE,
    Observable.KINETIC_VARIANCE,
)


class Window:
    """One window, measured once: as a run, and as a reference."""

    def __init__(self, path: Path, temperature: float) -> None:
        frames = replace(Frames.load(path), state_point=StatePoint("NVT", temperature))
        self.name = f"{path.parent.name}/{path.stem}"
        self.reference = Subject.of_frames(frames, self.name, BONDS)
        self.run = as_run(self.reference, frames, temperature)
        thinned = self.reference.thinned
        reactions = follow_bonds(thinned, BONDS, terminal_species(frames, BONDS), progress=False)
        histograms = collect_histograms(thinned, reactions, R_MAX, progress=False)
        self.analysis = Analysis(histograms, Followed(thinned, reactions), {})
        scales = Scales.common([self.reference.used], [self.reference.used])
        self.motion: Motion = measure_motion(
            self.reference.used, self.reference.bonds, scales, correction=None, progress=False
        )

    def compared_with(self, reference: Window) -> Comparison:
        """The findings of `compare`, with this window as the run."""
        measured = (self.analysis, reference.analysis), (self.motion, reference.motion)
        return judge(side_by_side(self.run, reference.reference, *measured, ReactionComparison(), BANDS, None))


def as_run(subject: Subject, frames: Frames, temperature: float) -> Subject:
    """A window with the record and the log of a run, without potential energies."""
    assert frames.velocities is not None
    freedom = 3 * frames.n_atoms - 3
    kinetic = 0.5 * np.einsum("i,tix,tix->t", frames.masses, frames.velocities, frames.velocities)
    unknown = np.full(len(frames), np.nan)
    log = {
        "time_ps": frames.times,
        "kinetic_energy": kinetic,
        "potential_energy": unknown,
        "temperature_K": 2 * kinetic / (freedom * BOLTZMANN),
        "atoms_left_molecule": np.zeros(len(frames)),
    }
    settings = {
        "temperature": temperature,
        "timestep": frames.timestep,
        "ensemble": "NVT",
        "degrees_of_freedom": freedom,
        "status": "finished",
        "report_interval": 1,
    }
    run = Run(Path(subject.name), settings, log, subject.used, ())
    rows = slice(0, len(frames))
    return replace(subject, run=run, rows=rows, conditions=conditions_of_run(run, frames.cell(0), rows))


def bonferroni(p_values: Sequence[float]) -> float:
    """The smallest p value of Holm's method."""
    return min(holm(p_values))


def simes(p_values: Sequence[float]) -> float:
    """Simes, Biometrika 73, 751 (1986); right where tests depend on each other positively."""
    ordered = np.sort(p_values)
    return float((len(ordered) * ordered / np.arange(1, len(ordered) + 1)).min())


def cauchy(p_values: Sequence[float]) -> float:
    """The combination that `compare` uses."""
    return joint_p_value(p_values) or 1.0


METHODS: dict[str, Callable[[Sequence[float]], float]] = {"Holm": bonferroni, "Simes": simes, "Cauchy": cauchy}


def p_values(comparison: Comparison, *, conditions: bool) -> list[float]:
    """Those of all tests, or of structure, vibrations and motion alone."""
    tests = [f for f in comparison.tests if conditions or f.observable not in CONDITIONS]
    return [f.p_value for f in tests if f.p_value is not None]


def share(found: Sequence[bool]) -> float:
    return 100 * float(np.mean(found)) if len(found) else float("nan")


def rates(comparisons: Sequence[Comparison]) -> dict[str, float]:
    """Shares of pairs in percent: by `compare` as it is, and by ways of judging the tests together."""
    found = {
        "pairs": float(len(comparisons)),
        "tests": float(np.mean([len(c.tests) for c in comparisons])),
        "differs": share([c.conclusion is Conclusion.DIFFERS for c in comparisons]),
        "too short": share([c.agrees is None for c in comparisons]),
    }
    for conditions, words in ((True, "all tests"), (False, "structure and motion")):
        tests = [p_values(c, conditions=conditions) for c in comparisons]
        for name, method in METHODS.items():
            found[f"{words}, {name}"] = share([method(p) < SIGNIFICANCE for p in tests])
        found[f"{words}, any p < 0.01 alone"] = share([min(p) < SIGNIFICANCE for p in tests])
    return found


def levels(comparisons: Sequence[Comparison]) -> dict[str, list[float]]:
    """By observable: percent of pairs in which it was tested, and of those how many were rejected at each level."""
    findings: dict[str, list[Finding]] = {}
    for comparison in comparisons:
        for finding in comparison.findings:
            findings.setdefault(label(finding), []).append(finding)
    rows = {}
    for name, found in findings.items():
        tested = np.array([f.p_value for f in found if f.p_value is not None])
        if len(tested):
            rows[name] = [share([f.p_value is not None for f in found]), *(share(tested < level) for level in LEVELS)]
    return rows


def temperature_of(name: str) -> float:
    """The temperature in the name of a state, in K; 300 in any other."""
    return float(name[:-1]) if name.endswith("K") and name[:-1].isdigit() else 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--reference", default="300K", help="the folder of the windows that stand for a reference")
    parser.add_argument("-o", "--output", type=Path, help="write the numbers as JSON too")
    arguments = parser.parse_args()
    windows: dict[str, list[Window]] = {}
    for path in sorted(arguments.folder.glob("*/window-*.safetensors")):
        windows.setdefault(path.parent.name, []).append(Window(path, temperature_of(path.parent.name)))
        print(f"measured {path.parent.name}/{path.stem}", flush=True)
    known = windows.pop(arguments.reference, [])
    if len(known) < 2:
        parser.error(f"{arguments.folder / arguments.reference}: two windows at least are needed")
    equal = [b.compared_with(a) for a, b in combinations(known, 2)]
    results = {arguments.reference: rates(equal)}
    print(f"{arguments.reference:10}", *(f"{key} {value:.3g};" for key, value in rates(equal).items()), flush=True)
    for name, others in windows.items():
        results[name] = rates([b.compared_with(a) for a, b in product(known, others)])
        print(f"{name:10}", *(f"{key} {value:.3g};" for key, value in results[name].items()), flush=True)
    table = levels(equal)
    for name, row in table.items():
        rejected = "; ".join(f"{x:5.1f} % at {level:g}" for x, level in zip(row[1:], LEVELS, strict=True))
        print(f"{name:36} tested {row[0]:5.1f} %; rejected {rejected}")
    if arguments.output is not None:
        arguments.output.write_text(json.dumps({"rates": results, "levels": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
