"""Run directories and references made for the tests, with known properties."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mdtraj.formats import DCDTrajectoryFile
from openmm import app

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.reference.frames import Frames
from openmm_duality.units import BOLTZMANN

MASSES = {"H": 1.008, "C": 12.011, "O": 15.999, "Ar": 39.948}
EDGE = 1.3


def water(n_frames: int, seed: int, *, edge: float = EDGE, n_molecules: int = 24, bond: float = 0.1) -> Frames:
    """Molecules H–O–H at random places, anew in every frame: bonds of 0.1 ± 0.002 nm, angles of 104 ± 4 degrees."""
    rng = np.random.default_rng(seed)
    shape = (n_frames, n_molecules)
    # Oxygens on a loose grid, so that molecules never touch.
    side = int(np.ceil(n_molecules ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n_molecules]
    oxygen = (grid + 0.12 * rng.uniform(-1, 1, (*shape, 3))) * edge / side
    axes = np.linalg.qr(rng.normal(size=(*shape, 3, 3)))[0]
    half = np.radians(rng.normal(104, 4, shape)) / 2
    lengths = rng.normal(bond, 0.002, (*shape, 2))
    arms = [
        lengths[..., k, None] * (np.cos(half)[..., None] * axes[..., 0] + sign * np.sin(half)[..., None] * axes[..., 1])
        for k, sign in enumerate((1, -1))
    ]
    positions = np.stack([oxygen, oxygen + arms[0], oxygen + arms[1]], axis=2).reshape(n_frames, -1, 3)
    return frames(("O", "H", "H") * n_molecules, positions, np.eye(3) * edge)


def frames(species: tuple[str, ...], positions: FloatArray, cell: FloatArray | None, spacing: float = 0.1) -> Frames:
    """Frames every `spacing` ps."""
    count = len(positions)
    return Frames(
        species=species,
        masses=np.array([MASSES[symbol] for symbol in species]),
        positions=positions,
        times=spacing * np.arange(1, count + 1),
        steps=np.arange(count),
        cells=None if cell is None else np.tile(cell, (count, 1, 1)),
        timestep=5e-4,
    )


def write_run(directory: Path, source: Frames, *, left: int = 0, seed: int = 0, **settings: Any) -> Path:
    """A run directory whose trajectory is `source`, with a canonical kinetic energy at 300 K."""
    directory.mkdir()
    rng = np.random.default_rng(seed)
    count, freedom = len(source), 3 * source.n_atoms - 3
    topology = app.Topology()
    chain = topology.addChain()
    for symbol in source.species:
        topology.addAtom(symbol, app.element.get_by_symbol(symbol), topology.addResidue("ATM", chain))
    app.PDBFile.writeFile(topology, source.positions[0] * 10, str(directory / "topology.pdb"))
    write_dcd(directory / "trajectory.dcd", source.positions, source.cells)
    if source.velocities is not None:
        write_dcd(directory / "velocities.dcd", source.velocities, source.cells)
    kinetic = BOLTZMANN * 300 * rng.gamma(freedom / 2, 1, count)
    columns = (
        "step,time_ps,potential_energy,kinetic_energy,conserved_quantity,temperature_K,temperature_O_K,volume_nm3,"
        "shortest_H-O_nm,atoms_left_molecule"
    )
    rows = [
        f"{200 * (t + 1)},{time:.6f},{-100 - k:.6f},{k:.6f},{5.0 + 0.01 * rng.normal():.6f},"
        f"{2 * k / freedom / BOLTZMANN:.4f},{2 * k / freedom / BOLTZMANN + 7.0:.4f},nan,0.095,{left}"
        for t, (time, k) in enumerate(zip(source.times, kinetic, strict=True))
    ]
    (directory / "log.csv").write_text("\n".join([columns, *rows]) + "\n")
    record = {
        "temperature": 300.0,
        "timestep": 5e-4,
        "ensemble": "NVT",
        "integrator": "NoseHooverLearningIntegrator",
        "platform": "CPU",
        "precision": "single",
        "report_interval": 200,
        "degrees_of_freedom": freedom,
        "species": list(source.distinct_species),
        "status": "finished",
        "reason": "",
        "ms_per_step": 1.0,
        "model": {"name": "m.safetensors", "form": "moment", "gradient": "collective"},
    }
    (directory / "run.json").write_text(json.dumps({**record, **settings}))
    return directory


def write_dcd(path: Path, positions: FloatArray, cells: FloatArray | None) -> None:
    """A DCD file of positions in nm, as OpenMM writes it."""
    with DCDTrajectoryFile(str(path), "w") as file:
        box = {}
        if cells is not None:
            lengths = np.linalg.norm(cells, axis=2)
            unit = cells / lengths[..., None]
            cosines = np.stack([(unit[:, i] * unit[:, j]).sum(-1) for i, j in ((1, 2), (0, 2), (0, 1))], axis=1)
            box = {
                "cell_lengths": (10 * lengths).astype(np.float32),
                "cell_angles": np.degrees(np.arccos(cosines)).astype(np.float32),
            }
        file.write((10 * positions).astype(np.float32), **box)


def imaged(source: Frames, seed: int = 0) -> Frames:
    """The same frames with every atom moved to a periodic image of its own, anew in every frame."""
    shifts = np.random.default_rng(seed).integers(-2, 3, source.positions.shape)
    return replace(source, positions=source.positions + np.einsum("tia,tax->tix", shifts, source.cells))
