"""Files with random bytes changed, removed or repeated; they may be read or refused, but nothing else."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz import catalogue
from tests.fuzz.harness import Kind

_READ = {
    "frames.xyz": catalogue.INSPECT,
    "start.xyz": catalogue.EXPORT,
    "start.pdb": catalogue.SIMULATE,
    "frames.safetensors": catalogue.INFER,
    "model.safetensors": catalogue.EVALUATE,
    "config.yaml": catalogue.CONFIG,
    "cp2k/w.inp": ["inspect", "cp2k"],
    "cp2k/w-pos-1.xyz": ["inspect", "cp2k"],
    "cp2k/w-frc-1.xyz": ["inspect", "cp2k"],
    "cp2k/w-1.ener": ["inspect", "cp2k"],
    "deepmd/type.raw": ["inspect", "deepmd"],
    "deepmd/set.000/coord.npy": ["inspect", "deepmd"],
    "deepmd/set.000/box.npy": ["inspect", "deepmd"],
    "arrays.npz": ["inspect", "arrays.npz"],
    "run/run.json": catalogue.RESUME,
    "run/checkpoint.chk": catalogue.RESUME,
    "run/log.csv": catalogue.COMPARE,
    "run/topology.pdb": catalogue.COMPARE,
    "run/trajectory.dcd": catalogue.COMPARE,
}


def _noisy(path: str, command: list[str]) -> Kind:
    def case(folder: Path, rng: random.Random) -> list[str]:
        data = bytearray((folder / path).read_bytes())
        for _ in range(rng.choice([1, 1, 3, 20])):
            # headers are short, and much depends on them
            at = rng.randrange(rng.choice([len(data), min(len(data), 300)]))
            size = rng.choice([1, 1, 4, 40])
            match rng.randrange(4):
                case 0:
                    data[at : at + size] = rng.randbytes(size)
                case 1:
                    del data[at : at + size]
                case 2:
                    data[at:at] = data[at : at + size]
                case _:
                    data[at] = rng.choice(b"0123456789-+.eEnNxX/\n\t {}[]\x00\xff")
            if not data:
                break
        (folder / path).write_bytes(data)
        return list(command)

    return case


NOISE: dict[str, Kind] = {path: _noisy(path, command) for path, command in _READ.items()}
