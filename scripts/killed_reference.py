"""Kill `openmm-duality reference` at random moments, resume it, and report whether anything was lost or done twice.

python scripts/killed_reference.py CONFIG.yaml FOLDER [--kills 10] [--longest 60] [--seed 1]
"""

from __future__ import annotations

import argparse
import itertools
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from openmm_duality.cp2k.parts import closed_parts, complete_blocks, open_part
from openmm_duality.reference import read

COMMAND = [sys.executable, "-m", "openmm_duality.cli", "reference"]


def frames_in(file: Path) -> int:
    """Complete frames of a file, without that of step 0: every run of CP2K begins with the forces where it starts."""
    return sum(block.step > 0 for block in complete_blocks(file))


def written(folder: Path) -> dict[str, int]:
    """Frames in the open part of every task: those whose positions and forces are both complete on the disk."""
    found = {}
    for task in sorted(p for p in folder.iterdir() if (p / "parts").is_dir()):
        part = open_part(task)
        if part is not None:
            files = [part / f"{task.name}-{kind}-1.xyz" for kind in ("pos", "frc")]
            found[task.name] = min(map(frames_in, files))
    return found


def counted(task: Path, number: int) -> int:
    """Frames that count, or still can, of the part which was open at a kill."""
    parts = closed_parts(task)
    if number >= len(parts):
        return written(task.parent).get(task.name, 0)  # the next kill came before it was closed
    part = parts[number]
    if "order" in part.record:
        return len(part.record["order"])
    return sum(0 < b.step <= part.record["last"] for b in complete_blocks(part.folder / f"{task.name}-frc-1.xyz"))


def twice(task: Path) -> int:
    """Frames that two parts have contributed."""
    parts = closed_parts(task)
    if parts and "order" in parts[0].record:
        frames = [t for part in parts for t in part.record["order"]]
        return len(frames) - len(set(frames))
    return sum(b.record["first"] != a.record["last"] for a, b in itertools.pairwise(parts))


def main() -> int:
    """Exit code 1 if a frame was lost or done twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--longest", type=float, default=60.0, help="seconds between kills at most")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng, lost, kills = random.Random(arguments.seed), 0, 0
    command = [*COMMAND, str(arguments.config), "-o", str(arguments.folder)]
    before: dict[str, tuple[int, int]] = {}
    begin = time.perf_counter()
    while True:
        process = subprocess.Popen(command)
        try:
            process.wait(rng.uniform(1.0, arguments.longest) if kills < arguments.kills else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        code = process.wait()
        time.sleep(0.5)  # CP2K ends with it
        for name, (number, frames) in before.items():
            left = counted(arguments.folder / name, number)
            print(f"  {name}, part {number}: {frames} frames were complete at the kill, {left} count", flush=True)
            lost += max(frames - left, 0)
        if code != -signal.SIGKILL:
            break
        kills += 1
        open_ones = written(arguments.folder)
        before = {n: (len(closed_parts(arguments.folder / n)), f) for n, f in open_ones.items() if f}
        state = ", ".join(f"{n}: {f} frames in the open part" for n, f in open_ones.items()) or "between two parts"
        print(f"kill {kills} after {time.perf_counter() - begin:.1f} s; {state}", flush=True)
    tasks = sorted(p for p in arguments.folder.iterdir() if (p / "parts").is_dir())
    doubled = sum(twice(task) for task in tasks)
    seconds = time.perf_counter() - begin
    print(f"exit code {code}, {kills} kills, {lost} frames lost, {doubled} done twice, {seconds:.0f} s")
    for task in tasks:
        print(f"  {task.name}: {len(read(task))} frames from {len(closed_parts(task))} parts")
    return int(code != 0 or lost > 0 or doubled > 0)


if __name__ == "__main__":
    sys.exit(main())
