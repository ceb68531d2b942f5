"""Memory of the fused kernel and the bytes that a step moves through it, counted, for numbers of atoms and of threads.

python scripts/fused_memory.py MODEL [--molecules 64,4096,32768] [--threads 1,2,16,64]

The box is water at 0.997 g/cm³, on a lattice. Every number is of bytes per atom, of all threads together; work is what
the threads compute in, which stays in their nearest caches. A step moves the positions in and out of the parts, zeroes,
adds and collects their forces, and reads the candidates once. Parts share no memory that is written, so what a second
thread can slow down is only the bandwidth that these bytes need.
"""

from __future__ import annotations

import argparse

import numpy as np

from openmm_duality.losses import AgentLosses
from openmm_duality.lowering.fused.losses import FusedLosses
from openmm_duality.lowering.fused.neighbour_lists import NeighbourList

DENSITY = 33.33  # molecules per nm³
MOLECULE = np.array([[0.0, 0.0, 0.0], [0.0957, 0.0, 0.0], [-0.0240, 0.0927, 0.0]])  # nm


def lattice(molecules: int) -> tuple[np.ndarray, np.ndarray]:
    """Water on a simple cubic lattice, in nm, and its cell."""
    edge = (molecules / DENSITY) ** (1 / 3)
    n = int(np.ceil(molecules ** (1 / 3) - 1e-9))
    sites = np.stack(np.meshgrid(*3 * [np.arange(n)], indexing="ij"), axis=-1).reshape(-1, 3)[:molecules]
    return ((sites * edge / n)[:, None] + MOLECULE).reshape(-1, 3), edge * np.eye(3)


def bytes_per_step(one: NeighbourList) -> dict[str, float]:
    """Bytes that a step reads and writes, of all parts together."""
    agents, atoms = np.sum(one.part_sizes, axis=0)
    memory = one.memory()
    return {
        "positions": atoms * (4 + 24) + 2 * memory["positions"],  # order and source read, written, read again
        "forces": 3 * memory["forces"] + memory["places"] + 24 * agents,  # zeroed, added to, collected
        "candidates": memory["list"] + memory["offsets"],
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--molecules", default="64,4096,32768")
    parser.add_argument("--threads", default="1,2,16,64")
    options = parser.parse_args()
    losses = AgentLosses.load(options.model)
    print(
        f"{'atoms':>8}{'threads':>8}{'parts':>6}{'atoms of parts':>16}{'memory':>8}{'of it lists':>12}{'work':>8}",
        end="",
    )
    print(f"{'a step moves':>14}{'without lists':>15}{'sums over threads moved':>25}")
    for molecules in map(int, options.molecules.split(",")):
        positions, cell = lattice(molecules)
        for threads in map(int, options.threads.split(",")):
            fused = FusedLosses(losses, ("O", "H", "H") * molecules, threads=threads)
            fused(positions, cell)
            one, n = fused._lists[0], len(positions)
            memory, moved = one.memory(), bytes_per_step(one)
            work, lists = memory.pop("work"), moved.pop("candidates")
            parts = one.part_sizes
            ratio = sum(atoms for _, atoms in parts) / n
            print(
                f"{n:8}{threads:8}{len(parts):6}{ratio:16.2f}{sum(memory.values()) / n:8.0f}{lists / n:12.0f}", end=""
            )
            print(f"{work / n:8.0f}{(sum(moved.values()) + lists) / n:14.0f}{sum(moved.values()) / n:15.0f}", end="")
            # what whole force arrays for every part would take: zeroed, added to by its agents' pairs, summed
            print(f"{(2 * 16 * len(parts) + 16 + 24):25}", flush=True)


if __name__ == "__main__":
    main()
