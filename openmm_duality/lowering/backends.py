"""Back ends by name: each lowers losses to one OpenMM force."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import openmm as mm

from openmm_duality.errors import DualityError
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.dependencies import (
    FUSED_PIP,
    PYTHONFORCE_PIP,
    TORCHFORCE_PIP,
    fused_problem,
    installed,
    pythonforce_problem,
    torchforce_problem,
)
from openmm_duality.lowering.pythonforce import fused_pythonforce, pythonforce
from openmm_duality.lowering.torchforce import fused_torchforce, torchforce

Lowering = Callable[[AgentLosses, Sequence[str], bool, str], mm.Force]

BACKENDS: dict[str, Lowering] = {
    "torchforce": torchforce,
    "pythonforce": pythonforce,
    "fused-torchforce": fused_torchforce,
    "fused-pythonforce": fused_pythonforce,
}
_DEVICES = ("CUDA", "HIP")  # platforms beside which a kernel on the CPU is the slower one


def lower(
    losses: AgentLosses,
    species: Sequence[str],
    *,
    periodic: bool = True,
    backend: str | None = None,
    precision: str | None = None,
) -> mm.Force:
    """The losses of a list of atoms as one OpenMM force.

    Parameters
    ----------
    losses : AgentLosses
    species : sequence of str, length N
        The species of every particle of the System.
    periodic : bool
        Whether distances are taken to nearest images.
    backend : str, optional
        ``fused``: compiled for this processor; ``torchscript``: a portable module, on GPUs too. Both go through
        `TorchForce`, or `PythonForce` where only that can be had; ``torchforce``, ``pythonforce``,
        ``fused-torchforce`` and ``fused-pythonforce`` say which. By default that of `default_backend`.
    precision : str, optional
        Of the arithmetic: ``double`` or ``single``; by default ``single`` where it is fused and ``double`` elsewhere.

    Raises
    ------
    DualityError
        If the back end is unknown or cannot run with what is installed, or a species is unknown.
    """
    backend, precision = resolve(backend or default_backend(), precision)
    return BACKENDS[backend](losses, species, periodic, precision)


def resolve(backend: str, precision: str | None = None) -> tuple[str, str]:
    """The one of `BACKENDS` that a name stands for here, and its precision.

    Raises
    ------
    DualityError
        If the back end is unknown, or cannot run with what is installed.
    """
    if backend in ("torchscript", "fused"):
        backend = _home(backend)
    if backend not in BACKENDS:
        raise DualityError(f"back end {backend!r} is not known; there are torchscript, fused, {', '.join(BACKENDS)}")
    return backend, precision or ("single" if backend.startswith("fused") else "double")


def default_backend(platform: str | None = None) -> str:
    """``fused`` where it can run and OpenMM computes on the CPU, ``torchscript`` elsewhere.

    Parameters
    ----------
    platform : str, optional
        Of OpenMM; by default its fastest here.
    """
    if platform is None:
        names = [mm.Platform.getPlatform(k) for k in range(mm.Platform.getNumPlatforms())]
        platform = max(names, key=lambda p: p.getSpeed()).getName()
    in_openmm = torchforce_problem() is None or pythonforce_problem() is None
    return "fused" if platform not in _DEVICES and fused_problem() is None and in_openmm else "torchscript"


def _home(what: str) -> str:
    """Through which force of OpenMM a computation goes."""
    torch_problem, python_problem = torchforce_problem(), pythonforce_problem()
    prefix, name = ("fused-", "the fused kernel") if what == "fused" else ("", "TorchScript")
    if what == "fused" and fused_problem() is not None:
        raise DualityError(f"{name} cannot be used here: {fused_problem()}. This installs it: {FUSED_PIP}")
    if what == "torchscript" and installed("torch") is None:
        python_problem = python_problem or "torch is not installed"
    if torch_problem is None:
        return f"{prefix}torchforce"
    if python_problem is None:
        return f"{prefix}pythonforce"
    raise DualityError(
        f"{name} can run neither in openmm-torch ({torch_problem}) nor in PythonForce ({python_problem}). "
        f"Either of these makes it run: {TORCHFORCE_PIP}   or   {PYTHONFORCE_PIP}"
    )
