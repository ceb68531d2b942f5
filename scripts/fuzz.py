"""Run all kinds of damaged and nonsensical input, and files with random bytes changed, through the command line.

python scripts/fuzz.py [--seeds 5] [--noise 50] [--part 0] [--only WORDS]

Every kind of the catalogue must be refused with exit code 2 and a message of less than 1 kB; nothing may end in a
traceback, a signal, a hang of more than 10 s or files left behind. Exit code 1 if anything did.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.fuzz.catalogue import KINDS
from tests.fuzz.harness import run_case
from tests.fuzz.imports import import_everything
from tests.fuzz.material import write_material
from tests.fuzz.noise import NOISE


def main() -> int:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="seeds of every kind of the catalogue")
    parser.add_argument("--noise", type=int, default=50, help="seeds of every file with changed bytes")
    parser.add_argument("--part", type=int, default=0, help="which seeds: those behind as many others for each part")
    parser.add_argument("--only", default="", help="kinds whose names contain this")
    arguments = parser.parse_args()
    import_everything()
    begin, count, codes, longest = time.monotonic(), 0, Counter[int](), (0.0, "")
    faults = Counter[str]()
    with TemporaryDirectory() as folder:
        write_material(Path(folder))
        for kinds, seeds, refused in ((KINDS, arguments.seeds, True), (NOISE, arguments.noise, False)):
            for name, kind in kinds.items():
                first = arguments.part * seeds
                for seed in range(first, first + seeds) if arguments.only in name else ():
                    outcome = run_case(kind, Path(folder), seed)
                    count += 1
                    codes[outcome.code] += 1
                    longest = max(longest, (outcome.seconds, name))
                    for fault in outcome.faults(refused):
                        faults[fault.split(",")[0]] += 1
                        print(f"{name}, seed {seed}: {fault}: {outcome.message[-300:]!r}", flush=True)
    print(f"{count} cases of {len(KINDS)} kinds and {len(NOISE)} files in {time.monotonic() - begin:.0f} s")
    print(f"exit codes: {dict(sorted(codes.items()))}; longest: {longest[0]:.1f} s ({longest[1]})")
    print(f"faults: {dict(faults) or 'none'}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
