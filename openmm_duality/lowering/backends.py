"""Back ends by name: each lowers losses to one OpenMM force."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import openmm as mm

from openmm_duality.errors import DualityError
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.dependencies import (
    PYTHONFORCE_PIP,
    TORCHFORCE_PIP,
    fused_problem,
    installed,
    pythonforce_problem,
    require,
    torchforce_problem,
)
from openmm_duality.lowering.force_identity import tag_force
from openmm_duality.lowering.platform_choice import fastest_platform
from openmm_duality.lowering.pythonforce import fused_pythonforce, pythonforce
from openmm_duality.lowering.torchforce import fused_torchforce, torchforce

Lowering = Callable[[AgentLosses, Sequence[str], Sequence[int] | None, bool, str], mm.Force]

BACKENDS: dict[str, Lowering] = {
    "torchforce": torchforce,
    "pythonforce": pythonforce,
    "fused-torchforce": fused_torchforce,
    "fused-pythonforce": fused_pythonforce,
}
_GPU_PLATFORMS = ("CUDA", "HIP")  # OpenCL is often on the CPU


def lower(
    losses: AgentLosses,
    species: Sequence[str],
    *,
    particles: Sequence[int] | None = None,
    periodic: bool = True,
    backend: str | None = None,
    precision: str | None = None,
    platform: str | None = None,
) -> mm.Force:
    """Lower losses to OpenMM: one force that acts on a list of atoms, tagged with its identity (see `force_identity`).

    Parameters
    ----------
    losses : AgentLosses
    species : sequence of str, length N
        The species of every particle of the System, or of `particles`.
    particles : sequence of int, length N, optional
        Indices of the particles that the losses act on, which then are neighbours of each other alone; no force acts
        on the others. By default they are all particles.
    periodic : bool
        Whether distances are taken to nearest images.
    backend, precision, platform : str, optional
        As for `select_backend`.

    Raises
    ------
    DualityError
        If the back end is unknown or cannot run with what is installed, a species is unknown, or an index of a
        particle is negative or repeated or their number is not N.
    """
    backend, precision = select_backend(backend, precision, platform)
    force = BACKENDS[backend](losses, species, particles, periodic, precision)
    force.setUsesPeriodicBoundaryConditions(periodic)
    tag_force(force, losses, species, particles, backend, precision)
    return force


def select_backend(
    backend: str | None = None, precision: str | None = None, platform: str | None = None
) -> tuple[str, str]:
    """Select a back end, one of `BACKENDS`, and the precision of its arithmetic.

    Parameters
    ----------
    backend : str, optional
        ``fused``: compiled for this processor; ``torchscript``: a portable module, on GPUs too. Both go through
        `TorchForce`, or `PythonForce` where only that can be had; ``torchforce``, ``pythonforce``,
        ``fused-torchforce`` and ``fused-pythonforce`` say which. By default ``fused``, which is the faster one beside
        a GPU too (docs/benchmarks.md), and ``torchscript`` where that cannot run.
    precision : str, optional
        ``double`` or ``single``; by default ``single`` where it is fused or on CUDA and HIP, most of whose processors
        are many times slower in double precision, and ``double`` elsewhere.
    platform : str, optional
        On which OpenMM will compute; by default its fastest here.

    Raises
    ------
    DualityError
        If the back end is unknown, or cannot run with what is installed.
    """
    on_gpu = (platform or fastest_platform()) in _GPU_PLATFORMS
    runs_fused = fused_problem() is None and None in (torchforce_problem(), pythonforce_problem())
    backend = backend or ("fused" if runs_fused else "torchscript")
    if backend in ("torchscript", "fused"):
        backend = _through_openmm(backend)
    if backend not in BACKENDS:
        raise DualityError(f"back end {backend!r} is not known; there are torchscript, fused, {', '.join(BACKENDS)}")
    return backend, precision or ("single" if on_gpu or backend.startswith("fused") else "double")


def computing_device(backend: str, platform: str) -> str:
    """Where a back end, as `select_backend` names it, computes on a platform: the name of a GPU, or the CPU."""
    if backend.startswith("fused"):
        why = ", which is mostly faster than TorchScript on the GPU" if platform in _GPU_PLATFORMS else ""
        return f"CPU (the fused kernel{why})"
    import torch

    if backend == "pythonforce":
        from openmm_duality.lowering.pythonforce import device_here

        device = torch.device(device_here())
    else:  # openmm-torch moves the module to a GPU where torch has one, whatever the platform
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type.upper()} (torch)"


def _through_openmm(backend: str) -> str:
    """The back end of ``torchscript`` or ``fused`` with the force of OpenMM that can be used here."""
    torch_problem, python_problem = torchforce_problem(), pythonforce_problem()
    prefix, name = ("fused-", "the fused kernel") if backend == "fused" else ("", "TorchScript")
    if backend == "fused":
        require("fused")
    elif installed("torch") is None:
        python_problem = python_problem or "torch is not installed"
    if torch_problem is None:
        return f"{prefix}torchforce"
    if python_problem is None:
        return f"{prefix}pythonforce"
    raise DualityError(
        f"{name} can run neither in openmm-torch ({torch_problem}) nor in PythonForce ({python_problem}). "
        f"Either of these makes it run: {TORCHFORCE_PIP}   or   {PYTHONFORCE_PIP}"
    )
