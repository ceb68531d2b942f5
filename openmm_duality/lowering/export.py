"""Files that a plain OpenMM script loads: the TorchScript module and the System around it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import openmm as mm

from openmm_duality.files import atomic_write
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.dependencies import require_torch


def export_torchscript(
    losses: AgentLosses,
    species: Sequence[str],
    path: str | Path,
    *,
    particles: Sequence[int] | None = None,
    precision: str = "double",
    overwrite: bool = False,
) -> None:
    """Write the TorchScript file of the losses of a list of atoms (``torch.jit.load`` or ``TorchForce(path)``).

    Its forward takes positions (N, 3) and, for a periodic System, the box (3, 3) in nm, and returns the sum of losses
    in kJ/mol and the forces in kJ/mol/nm; so call ``setOutputsForces(True)``. The particles are as for `lower`.

    Raises
    ------
    DualityError
        If the file exists and `overwrite` is not set, a species is unknown, the particles are wrong, or torch is
        not installed.
    """
    require_torch()
    import torch

    from openmm_duality.lowering.torchscript import compile_losses

    module = compile_losses(losses, species, precision, particles)
    buffer = io.BytesIO()  # torch raises no OSError, nor says why it cannot write
    torch.jit.save(module, buffer)
    with atomic_write(path, overwrite) as temporary:
        temporary.write_bytes(buffer.getvalue())


def export_system(system: mm.System, path: str | Path, *, overwrite: bool = False) -> None:
    """Write the XML of a System.

    Raises
    ------
    DualityError
        If the file exists and `overwrite` is not set.
    """
    with atomic_write(path, overwrite) as temporary:
        temporary.write_text(mm.XmlSerializer.serialize(system))
