"""Checks of the optional dependencies (openmm-torch, PythonForce with torch, llvmlite) before they are imported.

openmm-torch works with few versions of OpenMM and torch; with others it fails late or crashes the process. Its plug-ins
load only if torch was imported before OpenMM; otherwise they are loaded again here.
"""

from __future__ import annotations

import logging
from functools import cache
from glob import glob
from importlib import metadata
from itertools import takewhile
from pathlib import Path

import openmm as mm
from openmm import version

from openmm_duality.errors import DualityError

TORCHFORCE_PIP = 'pip install "openmm>=8.4,<8.5" "openmmtorch==1.5" "torch>=2.9,<2.10"'
PYTHONFORCE_PIP = 'pip install "openmm>=8.6.1,<8.7" "torch>=2.9,<2.14"'
# by the set of dependencies, the packages of the CUDA platform: OpenMM's own, and openmm-torch's part of it
CUDA_PIP = {
    "torchforce": 'pip install "openmm[cuda12]>=8.4,<8.5" "openmmtorch[cuda12]==1.5"',
    "pythonforce": 'pip install "openmm[cuda12]>=8.6.1,<8.7" (or cuda13, as the driver and torch have it)',
}
FUSED_PIP = 'pip install "llvmlite>=0.45"'

_LLVMLITE = (0, 45)  # the lowest that was tried
# package, lowest version, first version known not to work
_TORCHFORCE = (("openmm", (8, 4), (8, 5)), ("openmmtorch", (1, 5), (1, 6)), ("torch", (2, 9), (2, 10)))


def installed(package: str) -> tuple[int, ...] | None:
    """Version of an installed package as numbers, without importing it; None if it is not there."""
    try:
        text = metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
    return tuple(int(part) for part in takewhile(str.isdigit, text.split("+")[0].split(".")))


def torchforce_problem() -> str | None:
    """Why `TorchForce` cannot be used with what is installed, or None."""
    wrong = []
    for package, lowest, beyond in _TORCHFORCE:
        found = installed(package)
        if found is None:
            wrong.append(f"{package} is not installed")
        elif not lowest <= found[: len(lowest)] < beyond:
            wrong.append(f"{package} is {metadata.version(package)}, not {'.'.join(map(str, lowest))}")
    return "; ".join(wrong) or None


def pythonforce_problem() -> str | None:
    """Why `PythonForce` cannot be used with what is installed, or None."""
    if not hasattr(mm, "PythonForce"):
        return f"OpenMM {metadata.version('openmm')} has no PythonForce (8.6 has)"
    return None


def fused_problem() -> str | None:
    """Why the fused kernel cannot be compiled with what is installed, or None."""
    found = installed("llvmlite")
    if found is None:
        return "llvmlite is not installed"
    if found[:2] < _LLVMLITE:
        return f"llvmlite is {metadata.version('llvmlite')}, not {'.'.join(map(str, _LLVMLITE))} or newer"
    return None


def installed_platforms() -> list[str]:
    """OpenMM's platforms here, by name."""
    return [mm.Platform.getPlatform(k).getName() for k in range(mm.Platform.getNumPlatforms())]


def require_platform(platform: str) -> None:
    """Make sure that OpenMM has a platform here.

    Raises
    ------
    DualityError
        If it has not, with what is missing for CUDA.
    """
    known = installed_platforms()
    if platform not in known:
        hint = f"; {_missing_packages(platform) or _driver_problem()}" if platform == "CUDA" else ""
        raise DualityError(f"platform: there is no {platform!r} here, only {', '.join(known)}{hint}")


def platform_error(platform: str, error: Exception) -> DualityError:
    """The error that a platform cannot run a System, with the packages for CUDA that are missing."""
    missing = _missing_packages(platform)  # OpenMM has the platform, but openmm-torch may have no part for it
    why = " ".join(str(error).split())
    return DualityError(f"{platform} cannot run this system: {why}{f'; {missing}' if missing else ''}")


def _missing_packages(platform: str) -> str:
    """Packages that CUDA needs and that are not installed, with the pip command; empty if none is, or elsewhere."""
    if platform != "CUDA":
        return ""
    of_torch = torchforce_problem() is None
    lacks = []
    if platform not in installed_platforms() and not _for_cuda("OpenMM"):  # where it is, OpenMM may be conda's
        lacks.append("OpenMM's CUDA platform (OpenMM-CUDA-12 or -13)")
    if of_torch and not _for_cuda("OpenMM-Torch"):
        lacks.append("openmm-torch's part of it (OpenMM-Torch-CUDA-12 or -13)")
    if not lacks:
        return ""
    return f"{' and '.join(lacks)} is not installed: {CUDA_PIP['torchforce' if of_torch else 'pythonforce']}"


def _for_cuda(package: str) -> bool:
    return any(installed(f"{package}-CUDA-{version}") is not None for version in (12, 13))


def _driver_problem() -> str:
    failures = "; ".join(mm.Platform.getPluginLoadFailures())
    return f"its packages are installed, so the driver or a library is missing: {failures or 'no plug-in failed'}"


def require_torchforce() -> None:
    """Make sure that `openmmtorch` can be used: versions, import order and plug-ins.

    Raises
    ------
    DualityError
        If the installed versions do not work together, with the one pip command that mends it.
    """
    require("torchforce")
    _load_torch_plugins()
    _import_openmmtorch()


def require(what: str) -> None:
    """Check what is installed for openmm-torch (``torchforce``), ``pythonforce`` or the ``fused`` kernel.

    Raises
    ------
    DualityError
        If it cannot be used, with the pip command that mends it.
    """
    name, problem, remedy = {
        "torchforce": ("openmm-torch", torchforce_problem(), f"These versions work together: {TORCHFORCE_PIP}"),
        "pythonforce": ("PythonForce", pythonforce_problem(), f"This installs it: {PYTHONFORCE_PIP}"),
        "fused": ("the fused kernel", fused_problem(), f"This installs it: {FUSED_PIP}"),
    }[what]
    if problem is not None:
        raise DualityError(f"{name} cannot be used here: {problem}. {remedy}")


def require_torch() -> None:
    """Make sure that torch can be imported.

    Raises
    ------
    DualityError
        If it is not installed, with the pip commands that install it.
    """
    if installed("torch") is None:
        raise DualityError(
            f"torch is not installed. Either of these installs it: {TORCHFORCE_PIP}   or   {PYTHONFORCE_PIP}"
        )


def prepare_torch() -> None:
    """Let torch use one thread, and compile nothing during a run.

    On few cores its threads and OpenMM's wait for each other, at 30 times the cost; ``torch.set_num_threads`` after the
    System is made sets another number. On GPUs TorchScript compiles code for the shapes that it meets, and numbers of
    pairs change at every step; ``torch.jit.set_fusion_strategy`` makes it do so again.
    """
    import torch

    torch.set_num_threads(1)
    torch.jit.set_fusion_strategy([("STATIC", 0), ("DYNAMIC", 0)])


@cache
def _load_torch_plugins() -> None:
    import torch  # noqa: F401  (its libraries must be in the process before the plug-ins are loaded)

    if not any("OpenMMTorch" in failure for failure in mm.Platform.getPluginLoadFailures()):
        return
    platforms = installed_platforms()
    # one by one: loading the whole folder again would register the platforms twice
    for path in sorted(glob(str(Path(version.openmm_library_path) / "plugins" / "*OpenMMTorch*"))):
        of_platform = next((p for p in ("CUDA", "OpenCL", "HIP") if p in Path(path).name), None)
        if of_platform is None or of_platform in platforms:
            mm.Platform.loadPluginLibrary(path)


@cache
def _import_openmmtorch() -> None:
    # openmmtorch 1.5 imports OpenMM by its old name, and OpenMM's remark on that is of no use to whoever runs this
    def other(record: logging.LogRecord) -> bool:
        return "simtk.openmm" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(other)
    try:
        import openmmtorch  # noqa: F401
    finally:
        root.removeFilter(other)
