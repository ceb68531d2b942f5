"""TorchScript modules inside `TorchForce` (openmm-torch): the losses themselves, or a call of the fused kernel."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import openmm as mm

from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.dependencies import prepare_torch, require, require_torchforce


def torchforce(
    losses: AgentLosses, species: Sequence[str], particles: Sequence[int] | None, periodic: bool, precision: str
) -> mm.Force:
    """A `TorchForce` of the losses of a list of atoms.

    Sets torch up (see `prepare_torch`).

    Raises
    ------
    DualityError
        If openmm-torch cannot be used with what is installed, or a species is unknown.
    """
    require_torchforce()
    prepare_torch()
    from openmm_duality.lowering.torchscript import compile_losses

    return _force(compile_losses(losses, species, precision, particles))


def fused_torchforce(
    losses: AgentLosses, species: Sequence[str], particles: Sequence[int] | None, periodic: bool, precision: str
) -> mm.Force:
    """A `TorchForce` whose module calls the fused kernel.

    The computation is on the CPU, wherever OpenMM has the positions. Whoever reads it from a System's XML has to import
    `openmm_duality.lowering.fused.operator` first. Sets torch up (see `prepare_torch`).

    Raises
    ------
    DualityError
        If openmm-torch or the fused kernel cannot be used with what is installed, or a species is unknown.
    """
    require("fused")
    require_torchforce()
    prepare_torch()
    import torch

    from openmm_duality.lowering.fused.losses import pack
    from openmm_duality.lowering.fused.operator import FusedLossesModule

    return _force(torch.jit.script(FusedLossesModule(pack(losses, species, precision, particles)).eval()))


def _force(module: Any) -> mm.Force:
    import torch
    from openmmtorch import TorchForce

    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    buffer.seek(0)
    force = TorchForce(torch.jit.load(buffer))
    force.setOutputsForces(True)
    return force
