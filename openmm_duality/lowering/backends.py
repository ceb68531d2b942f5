"""Back ends by name: each lowers losses to one OpenMM force."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import openmm as mm

from openmm_duality.errors import DualityError
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.dependencies import (
    PYTHONFORCE_PIP,
    TORCHFORCE_PIP,
    pythonforce_problem,
    torchforce_problem,
)
from openmm_duality.lowering.pythonforce import pythonforce
from openmm_duality.lowering.torchforce import torchforce

Lowering = Callable[[AgentLosses, Sequence[str], bool, str], mm.Force]

BACKENDS: dict[str, Lowering] = {"torchforce": torchforce, "pythonforce": pythonforce}


def lower(
    losses: AgentLosses,
    species: Sequence[str],
    *,
    periodic: bool = True,
    backend: str = "torchscript",
    precision: str = "double",
) -> mm.Force:
    """The losses of a list of atoms as one OpenMM force.

    Parameters
    ----------
    losses : AgentLosses
    species : sequence of str, length N
        The species of every particle of the System.
    periodic : bool
        Whether distances are taken to nearest images.
    backend : str
        ``torchscript`` (through `TorchForce`, or `PythonForce` where only that can be had), ``torchforce`` or
        ``pythonforce``.
    precision : str
        Of the arithmetic: ``double`` or ``single``.

    Raises
    ------
    DualityError
        If the back end is unknown or cannot run with what is installed, or a species is unknown.
    """
    if backend == "torchscript":
        backend = _torchscript_home()
    if backend not in BACKENDS:
        raise DualityError(f"back end {backend!r} is not known; there are torchscript, {', '.join(BACKENDS)}")
    return BACKENDS[backend](losses, species, periodic, precision)


def _torchscript_home() -> str:
    torch_problem, python_problem = torchforce_problem(), pythonforce_problem()
    if torch_problem is None:
        return "torchforce"
    if python_problem is None:
        return "pythonforce"
    raise DualityError(
        f"TorchScript can run neither in openmm-torch ({torch_problem}) nor in PythonForce ({python_problem}). "
        f"Either of these makes it run: {TORCHFORCE_PIP}   or   {PYTHONFORCE_PIP}"
    )
