"""Loops around a run: the monitor, stability checks and the inference of a stable model."""

from openmm_duality.learning.monitor import Monitor
from openmm_duality.learning.stability import Check, check_stability
from openmm_duality.learning.stable_inference import infer_stable

__all__ = ["Check", "Monitor", "check_stability", "infer_stable"]
