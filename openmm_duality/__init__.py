"""Molecular learning dynamics for OpenMM: agent losses inferred from CP2K, run as custom forces.

Public names are imported when they are first used, so that ``import openmm_duality`` is quick and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_ROOMS = {
    "errors": ("DualityError",),
    "reference": ("Frames", "read", "read_cp2k", "read_extxyz", "summarise"),
    "cp2k": ("run_reference",),
    "losses": ("AgentLosses", "evaluate_agents"),
    "inference": (
        "DataSet",
        "ErrorTable",
        "Settings",
        "calibration",
        "correct",
        "evaluate",
        "infer",
        "learning_curve",
        "update",
    ),
    "lowering": ("export_system", "export_torchscript", "lower"),
    "dynamics": (
        "DescentLearningIntegrator",
        "LangevinLearningIntegrator",
        "Limits",
        "NoseHooverLearningIntegrator",
        "VerletLearningIntegrator",
        "add_barostat",
        "create_system",
        "create_topology",
        "minimize",
        "read_start",
        "simulate",
        "supercell",
    ),
    "learning": ("Guard", "check_stability", "find_model", "infer_stable", "recompute_forces"),
    "observables": ("compare", "read_dynamics", "sample_runs"),
    "benchmark": ("format_costs", "measure_cost"),
    "report": ("comparison_to_dict", "verdict", "write_report"),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
