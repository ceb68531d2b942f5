"""Loops around a run: the monitor, stability checks, choosing a stable model."""

from openmm_duality.learning.monitor import Guard
from openmm_duality.learning.stability import Check, check_stability
from openmm_duality.learning.stable_inference import infer_stable

__all__ = ["Check", "Guard", "check_stability", "infer_stable"]
