"""OpenMM's own `PythonForce`: around the TorchScript module, or around the fused kernel."""

from __future__ import annotations

import io
import os
import pickle
import re
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import openmm as mm
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.dependencies import prepare_torch, require, require_torch

DEVICE_VARIABLE = "OPENMM_DUALITY_DEVICE"


def pythonforce(
    losses: AgentLosses, species: Sequence[str], particles: Sequence[int] | None, periodic: bool, precision: str
) -> mm.Force:
    """A `PythonForce` of the losses of a list of atoms, on the GPU if torch has one (see `device_here`).

    Its computation is pickled into a System's XML; whoever reads that needs this package and torch.
    Sets torch up (see `prepare_torch`).

    Raises
    ------
    DualityError
        If OpenMM has no `PythonForce`, torch is missing, or a species is unknown.
    """
    require("pythonforce")
    require_torch()
    prepare_torch()
    import torch

    from openmm_duality.lowering.torchscript import compile_losses

    buffer = io.BytesIO()
    torch.jit.save(compile_losses(losses, species, precision, particles), buffer)
    return mm.PythonForce(partial(compute, buffer.getvalue(), periodic))


def fused_pythonforce(
    losses: AgentLosses, species: Sequence[str], particles: Sequence[int] | None, periodic: bool, precision: str
) -> mm.Force:
    """A `PythonForce` around the fused kernel; no torch is needed.

    Its computation is pickled into a System's XML; whoever reads that needs this package.

    Raises
    ------
    DualityError
        If OpenMM has no `PythonForce`, the fused kernel cannot be used with what is installed, or a species is unknown.
    """
    require("fused")
    require("pythonforce")
    from openmm_duality.lowering.fused.losses import pack

    return mm.PythonForce(partial(compute_fused, pack(losses, species, precision, particles), periodic))


def compute_fused(packed: bytes, periodic: bool, state: Any) -> tuple[float, np.ndarray[Any, np.dtype[np.float64]]]:
    """Sum of losses (kJ/mol) and forces (kJ/mol/nm) of a State, from packed losses."""
    from openmm_duality.lowering.fused.losses import unpacked

    box = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer) if periodic else None
    return unpacked(packed)(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer), box)


def compute(file: bytes, periodic: bool, state: Any) -> tuple[float, np.ndarray[Any, np.dtype[np.float64]]]:
    """Sum of losses (kJ/mol) and forces (kJ/mol/nm) of a State, from the bytes of a TorchScript file."""
    import torch

    positions = torch.tensor(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
    box = None
    if periodic:
        box = torch.tensor(state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer))
    energy, forces = _module(file, device_here())(positions, box)
    return float(energy), forces.numpy()


class _OwnFunctions(pickle.Unpickler):
    """Reads what `pythonforce` and `fused_pythonforce` write, and no other function."""

    def find_class(self, module: str, name: str) -> Any:
        known = {"functools": ("partial",), __name__: (compute.__name__, compute_fused.__name__)}
        if name not in known.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


def check_pickle(function: str, where: str) -> bool:
    """Refuse the function in the XML of a `PythonForce`, in hexadecimal digits, unless it is one of this module.

    Returns
    -------
    bool
        Whether it needs torch.

    Raises
    ------
    DualityError
        Beginning with `where`.
    """
    try:
        if re.fullmatch("(?:[0-9a-f]{2})+", function) is None:
            raise ValueError("no hexadecimal digits")
        found = _OwnFunctions(io.BytesIO(bytes.fromhex(function))).load()
    except Exception as error:  # a damaged pickle raises anything
        raise DualityError(
            f"{where}: a PythonForce in it holds a Python function that is not of this package ({error}), and to read "
            "it would run what the file says; use OpenMM's XmlSerializer if you trust the file"
        ) from None
    if not isinstance(found, partial) or found.func not in (compute, compute_fused):
        raise DualityError(f"{where}: a PythonForce in it holds no losses of this package")
    return found.func is compute


def device_here() -> str:
    """The device of torch on which a `PythonForce` computes: OPENMM_DUALITY_DEVICE, or its first GPU, or the CPU.

    Raises
    ------
    DualityError
        If the variable names a device that torch does not have.
    """
    import torch

    named = os.environ.get(DEVICE_VARIABLE)
    if named is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=named)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DualityError(f"{DEVICE_VARIABLE} is {named!r}, a device that torch does not have: {reason}") from None
    return named


@lru_cache(maxsize=8)
def _module(file: bytes, device: str) -> Any:
    import torch

    return torch.jit.freeze(torch.jit.load(io.BytesIO(file), map_location=device))
