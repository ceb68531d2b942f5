"""Synthetic results of a benchmark, and losses of water so weak that its structure hardly changes."""

from __future__ import annotations

from dataclasses import replace

from openmm_duality.benchmark.results import Costs, Row, with_ratios
from tests.systems import random_losses

MACHINE = {
    "processor": "a processor",
    "cores": 2,
    "memory_gib": 8.0,
    "load": 0.1,
    "system": "Linux x86_64",
    "python": "3.12.0",
    "versions": {"openmm": "8.4"},
    "platforms": ["Reference", "CPU", "OpenCL"],
}
PER_ATOM = {"tip3p-flexible-pme": 3.0, "tip3p-flexible-rf": 1.2, "tip3p-rigid-pme": 2.8}  # µs


def weak_losses(species=("H", "O"), cutoff=0.4, shortest=0.08):
    """Weak random losses without many-body part, with the O–H bond."""
    losses = random_losses("pair", species=species, cutoff=cutoff, shortest=shortest)
    bonds = {("H", "O"): 0.125} if "H" in species else {}
    return replace(losses, pair_coefficients=0.01 * losses.pair_coefficients, bond_lengths=bonds)


def row(what, platform, backend, molecules, cost):
    """Three repeats around a cost in ms."""
    blocks = (cost, 1.1 * cost, 0.9 * cost)
    return Row(what, platform, backend, molecules, 3 * molecules, blocks=blocks, facts={"timestep": 0.5e-3})


def synthetic_costs(sizes=(32, 64, 4096), platforms=("CPU", "OpenCL")):
    """Two back ends, one of which fails at the largest size, TIP3P, and CP2K at small sizes."""
    rows = []
    for size in sizes:
        size_rows = []
        for platform in platforms:
            size_rows.append(row("duality:moment", platform, "fused", size, 2.7e-3 * 3 * size))
            if size == max(sizes):
                size_rows.append(Row("duality:moment", platform, "torchscript", size, 3 * size, error="no memory"))
            else:
                size_rows.append(row("duality:moment", platform, "torchscript", size, 0.05 * size))
            size_rows += [row(w, platform, "openmm", size, 3e-3 * c * size) for w, c in PER_ATOM.items()]
        if size <= 64:
            size_rows.append(row("cp2k-nnp", "cp2k", "cp2k", size, 250 * 2.7e-3 * 3 * size))
        if size == 32:
            size_rows.append(row("cp2k-dft", "cp2k", "cp2k", size, 20_000.0))
        rows += with_ratios(size_rows)
    return Costs(MACHINE, tuple(rows))
