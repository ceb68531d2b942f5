"""How often the tests of `compare` call equal sources different: windows of one long run compared with each other.

Windows as long as a run are compared with windows as long as a reference, at least 5 ps away from them. Prints how many
pairs of windows could be tested, what share of those was rejected at 5 % and at 1 %, and what share was taken for a run
that is not stationary. Pairs share windows: from 1 ns the shares are known to 2 or 3 %.

    python scripts/false_alarms.py RUN [--run 95] [--reference 19.6] [--pairs 250]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

import openmm_duality as duality
from openmm_duality.observables.bonds import Bonds
from openmm_duality.observables.differences import CurveDifference, MeanDifference
from openmm_duality.observables.findings import Observable
from openmm_duality.observables.runs import read_run
from openmm_duality.observables.statistics import Reason
from openmm_duality.observables.structure import collect_histograms
from openmm_duality.observables.structure_comparison import Sample, StructureComparison
from openmm_duality.observables.trajectory import Trajectory
from openmm_duality.reference import Frames, bond_lengths

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SPACING = 0.04  # ps between the frames analysed, about
DISCARDED = APART = 5.0  # ps
R_MAX = 0.6  # nm

Differences = Mapping[str, CurveDifference | MeanDifference | None]

TESTS: dict[str, Callable[[StructureComparison], Differences]] = {
    "g(r)": lambda c: {k: d.difference for k, d in c.curves(Observable.RDF).items()},
    "length": lambda c: {k: d.mean for k, d in c.distributions(Observable.BOND_LENGTH).items()},
    "angle": lambda c: {k: d.mean for k, d in c.distributions(Observable.ANGLE).items()},
    "order": lambda c: {k: d.mean for k, d in c.distributions(Observable.TETRAHEDRAL_ORDER).items()},
    "hydrogen bonds": lambda c: {"": q.difference} if (q := c.hydrogen_bonds()) else {},
}


def load(directory: Path) -> Frames:
    """The frames of a run in memory, without its first 5 ps."""
    trajectory = read_run(directory).trajectory
    trajectory = trajectory.every(max(1, round(SPACING / trajectory.spacing)))
    chunks = list(trajectory)
    cells = [chunk.cells for chunk in chunks if chunk.cells is not None]
    frames = Frames(
        species=trajectory.species,
        masses=trajectory.masses,
        positions=np.concatenate([chunk.positions for chunk in chunks]),
        times=trajectory.times,
        steps=np.arange(len(trajectory)),
        cells=np.concatenate(cells) if cells else None,
    )
    return frames[int(np.searchsorted(frames.times, DISCARDED)) :]


def windows(frames: Frames, duration: float, bonds: Bonds) -> list[tuple[float, Sample]]:
    """Windows that follow one another: when each begins, and what was measured in it."""
    spacing = float(frames.times[-1] - frames.times[0]) / max(len(frames) - 1, 1)
    width = max(1, round(duration / spacing)) if spacing > 0 else 1
    found = []
    for start in range(0, len(frames) - width + 1, width):
        part = Trajectory.from_frames(frames[start : start + width], f"{frames.times[start]:.0f} ps")
        measured = collect_histograms(part, bonds, R_MAX, progress=True)
        found.append((float(part.times[0]), Sample(measured, part.duration, frames.n_atoms)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a folder that `simulate` wrote; the longer the better")
    parser.add_argument("--run", dest="long", type=float, default=95.0, help="ps of the windows that stand for a run")
    parser.add_argument("--reference", type=float, default=19.6, help="ps of those that stand for a reference")
    parser.add_argument("--pairs", type=int, default=250, help="at most this many pairs of windows")
    arguments = parser.parse_args()
    frames = load(arguments.run)
    if len(frames) < 2:
        parser.error(
            f"{arguments.run} holds no frames beyond its first {DISCARDED:g} ps, which are left out; give a longer run"
        )
    lengths = bond_lengths(duality.read(EXAMPLES / "water64-cnnp", forces=False))
    bonds = Bonds.found(Trajectory.from_frames(frames[:1]), lengths)
    runs, references = (windows(frames, time, bonds) for time in (arguments.long, arguments.reference))
    pairs = [
        StructureComparison(run, reference)
        for begin, run in runs
        for start, reference in references
        if start + arguments.reference + APART <= begin or start >= begin + arguments.long + APART
    ]
    if not pairs:
        least = arguments.long + APART + arguments.reference
        parser.error(
            f"{arguments.run} holds {frames.times[-1] - frames.times[0]:.1f} ps after its first {DISCARDED:g} ps, "
            f"which gives no window of {arguments.long:g} ps with one of {arguments.reference:g} ps {APART:g} ps away "
            f"from it; give a run of well over {least + DISCARDED:g} ps, or shorter windows with --run and --reference"
        )
    chosen = np.random.default_rng(0).permutation(len(pairs))[: arguments.pairs]
    for word, test in TESTS.items():
        results = [test(pairs[k]) for k in chosen]
        for name in results[0]:
            found = [d for result in results if (d := result.get(name)) is not None]
            tested = np.array([d.p_value for d in found if d.p_value is not None])
            changing = sum(d.reason is Reason.NOT_STATIONARY for d in found)
            total = len(tested) + changing
            shares = [100 * np.count_nonzero(tested < level) / max(total, 1) for level in (0.05, 0.01)]
            print(
                f"{word:>15} {name:6} tested {total} of {len(results)}; at 5 % rejected {shares[0]:5.1f} %, "
                f"at 1 % {shares[1]:5.1f} %; taken for a change along the run {100 * changing / max(total, 1):5.1f} %",
                flush=True,
            )


if __name__ == "__main__":
    main()
