"""Forces through OpenMM compared with the evaluator in double precision, on one platform at each of its precisions.

python scripts/platform_forces.py MODEL… --platform CUDA [--backend fused torchscript] [-o forces.json]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import openmm as mm
from openmm import unit

import openmm_duality as duality
from openmm_duality.benchmark import water_box
from openmm_duality.benchmark.suite import BACKENDS
from openmm_duality.files import atomic_write
from openmm_duality.lowering.backends import computing_device, select_backend

MOLECULES = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--platform", default="CPU")
    parser.add_argument("--backend", nargs="+", default=BACKENDS)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    try:
        platform = mm.Platform.getPlatformByName(arguments.platform)
    except mm.OpenMMException as error:
        failures = "; ".join(mm.Platform.getPluginLoadFailures()) or "none"
        raise SystemExit(f"{error}. Plug-ins that did not load: {failures}") from None
    start = water_box(MOLECULES)
    topology = duality.create_topology(start.species, None, start.cell)
    rows: list[dict[str, Any]] = []
    for path in arguments.models:
        losses = duality.AgentLosses.load(path)
        expected = duality.evaluate_agents(losses, start.positions, start.species, start.cell).forces
        scale = float(np.sqrt(np.mean(expected**2)))
        for backend in arguments.backend:
            try:
                system = duality.create_system(losses, topology, backend=backend, platform=arguments.platform)
            except duality.DualityError as error:
                print(f"{path.name}: {error}")
                continue
            selected, losses_precision = select_backend(backend, platform=arguments.platform)
            device = computing_device(selected, arguments.platform)
            print(f"{path.name}: {selected} in {losses_precision} precision computes on {device}", flush=True)
            for precision in ("single", "mixed", "double") if "Precision" in platform.getPropertyNames() else (None,):
                properties = {"Precision": precision} if precision else {}
                context = mm.Context(system, mm.VerletIntegrator(0.001), platform, properties)
                context.setPositions(start.positions)
                state = context.getState(forces=True)
                forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
                difference = float(np.sqrt(np.mean((forces - expected) ** 2))) / scale
                row = {"model": path.name, "platform": arguments.platform, "precision": precision, "backend": backend}
                row["device"] = device
                rows.append({**row, "relative_rms_difference": difference})
                print(*row.values(), f"{difference:.1e} of the RMS force", flush=True)
    if arguments.output is not None:
        with atomic_write(arguments.output, overwrite=True) as temporary:
            temporary.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
