"""Losses lowered to TorchScript or to machine code, and injected into OpenMM."""

from openmm_duality.lowering.backends import BACKENDS, lower, select_backend
from openmm_duality.lowering.dependencies import require_torchforce
from openmm_duality.lowering.export import export_system, export_torchscript, load_system

__all__ = [
    "BACKENDS",
    "export_system",
    "export_torchscript",
    "load_system",
    "lower",
    "require_torchforce",
    "select_backend",
]
