"""What commands import, so that the copies of a process that has it need not."""

from __future__ import annotations

import importlib

_MODULES = (
    *("ase.io", "jinja2", "matplotlib.pyplot", "mdtraj", "openmm.app", "torch", "vesin", "yaml"),
    *("cli", "learning", "lowering.fused.losses", "report.page", "benchmark"),
)


def import_everything() -> None:
    """Import it, the plug-ins of OpenMM included."""
    for name in _MODULES[:8]:
        importlib.import_module(name)
    for name in _MODULES[8:]:
        importlib.import_module(f"openmm_duality.{name}")
    from openmm_duality.lowering.backends import select_backend

    select_backend()
