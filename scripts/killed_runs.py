"""End `openmm-duality simulate` by signals at random moments, resume it, and compare with an uninterrupted run.

python scripts/killed_runs.py MODEL START FOLDER [--kills 100] [--time "2 ps"] [--platform CPU] [--seed 1]

Every kill, by SIGINT, SIGTERM or SIGKILL, comes after frames that were not there before. The runs are of all
integrators with a heat bath and Verlet, with both back ends, and must end bitwise as the uninterrupted ones. A run that
a signal did not end counts as wrong.
"""

from __future__ import annotations

import argparse
import itertools
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
_DATE = slice(180, 260)  # of a DCD file
_FILES = ("trajectory.dcd", "velocities.dcd", "log.csv")


def contents(folder: Path) -> list[bytes]:
    """What a run has written, without the date in its trajectories."""
    found = [bytearray((folder / name).read_bytes()) for name in _FILES]
    for data in found[:2]:
        data[_DATE] = b""
    return [bytes(data) for data in found]


def rows(folder: Path) -> int:
    """Rows of the log so far."""
    log = folder / "log.csv"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def main() -> int:
    """Exit code 1 if a run differs from the uninterrupted one, did not resume, or was not ended by a signal."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell runs in the background ignores it otherwise
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "start", "folder"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--time", default="2 ps")
    parser.add_argument("--platform", default="CPU")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng, wrong, codes = random.Random(arguments.seed), 0, Counter[str]()
    cases = list(itertools.product(("nose-hoover", "langevin", "verlet"), ("fused", "torchscript")))
    for k, (integrator, backend) in enumerate(cases):
        kills = arguments.kills * (k + 1) // len(cases) - arguments.kills * k // len(cases)

        def command(folder: Path, integrator: str = integrator, backend: str = backend) -> list[str]:
            options = f"--seed 5 --velocities --report 2fs --integrator {integrator} --backend {backend}".split()
            fixed = ["simulate", str(arguments.model), "--start", str(arguments.start), "-o", str(folder)]
            chosen = ["--time", arguments.time, "--platform", arguments.platform, "--monitor", "off"]
            return [sys.executable, "-m", "openmm_duality.cli", *fixed, *chosen, *options]

        whole, broken = (arguments.folder / f"{integrator}-{backend}-{name}" for name in ("whole", "broken"))
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command(whole), check=True, **quiet)  # type: ignore[call-overload]
        last, done = rows(whole), 0
        while done < kills:
            # an even share of what is left, so that every kill finds something to interrupt
            before = rows(broken)
            wanted = before + rng.randrange(2, max(3, 2 * (last - before) // (kills - done + 1)))
            process = subprocess.Popen(command(broken), **quiet)  # type: ignore[call-overload]
            while process.poll() is None and rows(broken) < min(wanted, last - 1):
                time.sleep(0.001)
            time.sleep(rng.uniform(0.0, 0.01))
            number = rng.choice(_SIGNALS)
            process.send_signal(number)
            codes[f"{number.name} {process.wait()}"] += 1
            wrong += process.returncode == 0
            done += 1
        code = subprocess.run(command(broken), **quiet).returncode  # type: ignore[call-overload]
        same = contents(broken) == contents(whole)
        wrong += code != 0 or not same
        print(f"{integrator}, {backend}: {kills} kills, exit code {code}, {'same' if same else 'DIFFERS'}", flush=True)
    print(f"{wrong} faults in {len(cases)} runs; signals and exit codes: {dict(codes)}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
