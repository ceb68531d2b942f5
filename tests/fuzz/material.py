"""Small inputs of every kind that the command line accepts as they are; the catalogue damages copies of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from openmm import app, unit

from openmm_duality.cp2k import campaign
from openmm_duality.dynamics import LangevinLearningIntegrator, create_system, create_topology, simulate
from openmm_duality.reference import Frames
from openmm_duality.schema import load_yaml
from openmm_duality.units import ANGSTROM, ELECTRONVOLT
from tests.reference.conftest import INPUT, block
from tests.systems import CELL, SPECIES, labelled, random_frames, random_losses

STEPS = 20  # of the run, of 1 fs


def write_material(folder: Path) -> None:
    """Write frames of every format, structures, a model, a configuration, a run and a campaign."""
    losses = random_losses("pair", "collective", SPECIES[:2])
    frames = labelled(random_frames(12, n_atoms=12, least=0.3), losses)
    frames.save(folder / "frames.safetensors")
    frames[:1].save(folder / "start.safetensors")
    replace(frames, times=0.1 * np.arange(len(frames)), timestep=5e-4).save(folder / "trajectory.safetensors")
    losses.save(folder / "model.safetensors")
    (folder / "frames.xyz").write_text(extended_xyz(frames))
    (folder / "start.xyz").write_text(extended_xyz(frames[:1]))
    topology = create_topology(frames.species, cell=CELL)
    with open(folder / "start.pdb", "w") as file:
        app.PDBFile.writeFile(topology, frames.positions[0] * unit.nanometer, file)
    project = folder / "cp2k"
    project.mkdir()
    (project / "w.inp").write_text(INPUT)
    (project / "w-1.ener").write_text("".join(f"{s} {0.5 * s} 0.1 300.0 -17.0 -16.9 0.01\n" for s in range(0, 50, 10)))
    for name in ("pos", "frc"):
        (project / f"w-{name}-1.xyz").write_text("".join(block(step, name) for step in range(0, 50, 10)))
    system = folder / "deepmd"
    (system / "set.000").mkdir(parents=True)
    (system / "type.raw").write_text("".join(f"{SPECIES.index(name)}\n" for name in frames.species))
    (system / "type_map.raw").write_text("\n".join(SPECIES[:2]))
    arrays = {"coord": frames.positions / ANGSTROM, "box": frames.cells / ANGSTROM}
    arrays["force"] = frames.forces * ANGSTROM / ELECTRONVOLT
    for name, array in arrays.items():
        np.save(system / "set.000" / f"{name}.npy", array.reshape(len(frames), -1))
    np.savez(folder / "arrays.npz", **arrays_of(frames))
    (folder / "config.yaml").write_text("form: pair\ncutoff: 0.4\ndata:\n  - {path: frames.safetensors}\n")
    write_campaign(folder)
    simulate(
        create_system(losses, topology),
        topology,
        frames.positions[0],
        LangevinLearningIntegrator(300.0, 10.0, 0.001),
        folder / "run",
        steps=STEPS,
        report_interval=2,
        platform="Reference",
        seed=3,
        metadata={"model": {"name": "model.safetensors", "sha256": losses.sha256()}},
        progress=False,
    )


def arrays_of(frames: Frames) -> dict[str, Any]:
    """Frames as sGDML has them, in eV."""
    assert frames.forces is not None
    return {
        "R": frames.positions / ANGSTROM,
        "z": np.array([atomic_numbers[name] for name in frames.species]),
        "E": np.zeros(len(frames)),
        "F": frames.forces * ANGSTROM / ELECTRONVOLT,
        "e_unit": "eV",
        "r_unit": "Ang",
    }


def write_campaign(folder: Path) -> None:
    """Write a finished campaign that labelled the saved frames, as if CP2K had."""
    (folder / "campaign.yaml").write_text(
        "method: nnp\ntasks:\n  - {name: points, label: {data: frames.safetensors}}\n"
    )
    place, source = folder / "campaign" / "points", Frames.load(folder / "frames.safetensors")
    part = place / "parts" / "0000"
    (folder / "campaign").mkdir()
    campaign._claim(folder / "campaign", load_yaml(folder / "campaign.yaml"))
    part.mkdir(parents=True)
    campaign._check_inputs("points", place, source)
    (part / "part.json").write_text(json.dumps({"labelled": list(range(6)), "refused": {}, "order": []}))
    (place / "done.json").write_text(json.dumps({"frames": 6, "refused": []}))
    (folder / "campaign" / ".lock").touch()


def extended_xyz(frames: Frames) -> str:
    """Frames with their cell, energies and forces in Å and eV."""
    text = []
    for t in range(len(frames)):
        lattice = " ".join(f"{x:.6f}" for x in (frames.cell(t) / ANGSTROM).ravel())
        energy = frames.energies[t] / ELECTRONVOLT
        text += [
            f"{frames.n_atoms}",
            f'Lattice="{lattice}" Properties=species:S:1:pos:R:3:forces:R:3 energy={energy:.8f} pbc="T T T"',
        ]
        rows = np.hstack([frames.positions[t] / ANGSTROM, frames.forces[t] * ANGSTROM / ELECTRONVOLT])
        text += [f"{name} " + " ".join(f"{x:.8f}" for x in row) for name, row in zip(frames.species, rows, strict=True)]
    return "\n".join(text) + "\n"
