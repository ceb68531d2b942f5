"""How often the tests of `compare` call equal sources different: windows of one long run held against each other.

Windows as long as a run are held against windows as long as a reference, at least 5 ps away from them. Prints how many
pairs of windows could be tested, and what share of those was rejected at 5 % and at 1 %. Pairs share windows: from 1 ns
the shares are known to 2 or 3 %.

    python scripts/false_alarms.py RUN [--run 95] [--reference 19.6] [--pairs 250]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

import openmm_duality as duality
from openmm_duality.observables.bonds import Bonds
from openmm_duality.observables.held import Held, Sample
from openmm_duality.observables.runs import read_run
from openmm_duality.observables.structure import tally
from openmm_duality.observables.trajectory import Trajectory
from openmm_duality.reference import Frames, bond_lengths

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SPACING = 0.04  # ps
LEFT_OUT = APART = 5.0  # ps
R_MAX = 0.6  # nm

TESTS: dict[str, Callable[[Held], dict[str, float | None]]] = {
    "g(r)": lambda h: {k: c.difference.p_value for k, c in h.curves("rdf", "g(r) {}").items()},
    "length": lambda h: {k: d.mean.p_value for k, d in h.distributions("lengths", "{} length").items()},
    "angle": lambda h: {k: d.mean.p_value for k, d in h.distributions("angles", "{} angle").items()},
    "order": lambda h: {k: d.mean.p_value for k, d in h.distributions("order", "order of {}").items()},
    "hydrogen bonds": lambda h: {"": q.difference.p_value} if (q := h.hydrogen_bonds()) and q.difference else {},
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
    return frames[int(np.searchsorted(frames.times, LEFT_OUT)) :]


def windows(frames: Frames, duration: float, bonds: Bonds) -> list[tuple[float, Sample]]:
    """Windows that follow one another: when each begins, and what was measured in it."""
    width = round(duration / SPACING)
    found = []
    for start in range(0, len(frames) - width + 1, width):
        part = Trajectory.from_frames(frames[start : start + width], f"{frames.times[start]:.0f} ps")
        measured = tally(part, bonds, R_MAX, progress=True)
        found.append((float(part.times[0]), Sample(measured, part.duration, frames.n_atoms)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a folder that `simulate` wrote; the longer the better")
    parser.add_argument("--run", dest="long", type=float, default=95.0, help="ps of the windows that stand for a run")
    parser.add_argument("--reference", type=float, default=19.6, help="ps of those that stand for a reference")
    parser.add_argument("--pairs", type=int, default=250, help="at most so many")
    arguments = parser.parse_args()
    frames = load(arguments.run)
    lengths = bond_lengths(duality.read(EXAMPLES / "water64-cnnp", forces=False))
    bonds = Bonds.found(Trajectory.from_frames(frames[:1]), lengths)
    runs, references = (windows(frames, time, bonds) for time in (arguments.long, arguments.reference))
    pairs = [
        Held(run, reference)
        for begin, run in runs
        for start, reference in references
        if start + arguments.reference + APART <= begin or start >= begin + arguments.long + APART
    ]
    chosen = np.random.default_rng(0).permutation(len(pairs))[: arguments.pairs]
    for word, test in TESTS.items():
        results = [test(pairs[k]) for k in chosen]
        for name in results[0]:
            tested = np.array([p for result in results if (p := result[name]) is not None])
            shares = [100 * float(np.mean(tested < level)) if len(tested) else float("nan") for level in (0.05, 0.01)]
            print(
                f"{word:>15} {name:6} tested {len(tested)} of {len(results)}; at 5 % rejected {shares[0]:5.1f} %, "
                f"at 1 % {shares[1]:5.1f} %",
                flush=True,
            )


if __name__ == "__main__":
    main()
