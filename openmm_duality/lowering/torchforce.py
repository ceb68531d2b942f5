"""The TorchScript module inside `TorchForce` (openmm-torch)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

import openmm as mm

from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.dependencies import calm_torch, require_torchforce


def torchforce(losses: AgentLosses, species: Sequence[str], periodic: bool, precision: str) -> mm.Force:
    """A `TorchForce` of the losses of a list of atoms.

    Sets torch to one thread (see `calm_torch`).

    Raises
    ------
    DualityError
        If openmm-torch cannot be used with what is installed, or a species is unknown.
    """
    require_torchforce()
    calm_torch()
    import torch
    from openmmtorch import TorchForce

    from openmm_duality.lowering.torchscript import compile_losses

    module = compile_losses(losses, species, precision)
    handle, path = tempfile.mkstemp(suffix=".pt")
    os.close(handle)
    try:
        torch.jit.save(module, path)
        force = TorchForce(torch.jit.load(path))
    finally:
        os.unlink(path)
    force.setOutputsForces(True)
    force.setUsesPeriodicBoundaryConditions(periodic)
    return force
