"""CP2K as the reference engine: methods, inputs, sampling, distorting, labelling, campaigns."""

from openmm_duality.cp2k.campaign import run_reference
from openmm_duality.cp2k.engine import run_cp2k

__all__ = ["run_cp2k", "run_reference"]
