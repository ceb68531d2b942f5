"""Files that a plain OpenMM script loads: the TorchScript module and the System around it."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import openmm as mm

from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.dependencies import (
    fused_problem,
    prepare_torch,
    require,
    require_torch,
    require_torchforce,
)
from openmm_duality.lowering.pythonforce import check_pickle


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
    """Write the XML of a System, which `load_system` reads.

    Raises
    ------
    DualityError
        If the file exists and `overwrite` is not set, or a force cannot be written.
    """
    try:
        root = ElementTree.fromstring(mm.XmlSerializer.serialize(system))
    except mm.OpenMMException as error:
        raise DualityError(f"the system cannot be written: {error}") from None
    for element, force in zip(root.iterfind("Forces/Force"), system.getForces(), strict=True):
        element.set("name", force.getName())  # a TorchForce writes none, and the name says which losses these are
    with atomic_write(path, overwrite) as temporary:
        temporary.write_text(ElementTree.tostring(root, encoding="unicode", xml_declaration=True), encoding="utf-8")


def load_system(path: str | Path) -> mm.System:
    """Read the XML of a System, also where losses act in it and nothing of what they need is loaded yet.

    A `PythonForce` is read only if it holds losses of this package: that of any other function would run what its file
    says. A `TorchForce` holds TorchScript, so read only what you trust.

    Raises
    ------
    DualityError
        If the file is missing or is not that of a System, a force in it cannot be used with what is installed, or it
        holds a Python function of others.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, UnicodeDecodeError) as error:
        raise DualityError(f"{path}: expected the XML of an OpenMM System ({error})") from None
    if root.tag != "System":
        raise DualityError(f"{path}: expected the XML of an OpenMM System, found that of {root.tag!r}")
    forces = list(root.iter("Force"))
    if any(element.get("type") == "TorchForce" for element in forces):
        require_torchforce()
        prepare_torch()
        if fused_problem() is None:
            # makes the operator of the fused kernel known to torch
            import openmm_duality.lowering.fused.operator  # noqa: F401
    for element in forces:
        if element.get("type") == "PythonForce":
            require("pythonforce")
            if check_pickle(element.get("function", ""), str(path)):
                require_torch()
                prepare_torch()
    try:
        # what was checked is what is read
        system = mm.XmlSerializer.deserialize(ElementTree.tostring(root, encoding="unicode"))
    except Exception as error:  # OpenMM, torch and SWIG raise what they like
        raise DualityError(f"{path}: OpenMM cannot read this System: {error}") from None
    for element, force in zip(root.iterfind("Forces/Force"), system.getForces(), strict=True):
        force.setName(element.get("name") or force.getName())
    return system
