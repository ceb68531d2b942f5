"""Losses lowered to TorchScript or to machine code, and injected into OpenMM."""

from openmm_duality.lowering.backends import BACKENDS, default_backend, lower, resolve
from openmm_duality.lowering.dependencies import require_torchforce
from openmm_duality.lowering.export import export_system, export_torchscript

__all__ = [
    "BACKENDS",
    "default_backend",
    "export_system",
    "export_torchscript",
    "lower",
    "require_torchforce",
    "resolve",
]
