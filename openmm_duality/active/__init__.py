"""Uncertainty acting on a run: the guard that knows what the model does not."""

from openmm_duality.active.guard import Guard

__all__ = ["Guard"]
