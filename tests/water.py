"""The bundled water, and models inferred from it once for all tests of a session."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from openmm_duality.inference import infer
from openmm_duality.losses import AgentLosses
from openmm_duality.reference import Frames, read

EXAMPLES = Path(__file__).parents[1] / "examples"


@cache
def liquid() -> tuple[Frames, Frames]:
    """About a hundred training frames, and about twenty held out by time."""
    train, test = read(EXAMPLES / "water64-cnnp").split(test_fraction=0.2)
    return train[::8], test[:: max(1, len(test) // 20)]


@cache
def water_losses(gradient: str) -> AgentLosses:
    """`quadratic` losses of every second of these frames, cutoff 0.6 nm."""
    return infer(liquid()[0][::2], form="quadratic", gradient=gradient, cutoff=0.6)


@cache
def small_water() -> AgentLosses:
    """The same of all, with fewer functions and a shorter cutoff, for what is called often or in a smaller box."""
    choices = {"pair_functions": 18, "functions": 8, "ridge": 1e-7, "curvature": 1e-7, "stress_weight": 0.0}
    return infer(liquid()[0], form="quadratic", gradient="collective", cutoff=0.55, **choices)
