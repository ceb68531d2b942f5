"""Loops around a run: the monitor, stability checks, inference of a stable model, and recomputed forces."""

from openmm_duality.learning.monitor import Monitor
from openmm_duality.learning.recomputing import find_model, recompute_forces
from openmm_duality.learning.stability import Check, check_stability
from openmm_duality.learning.stable_inference import infer_stable

__all__ = ["Check", "Monitor", "check_stability", "find_model", "infer_stable", "recompute_forces"]
