"""The bundled water, and models inferred from it once for all tests of a session, whichever process runs them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar

from openmm_duality.inference import infer
from openmm_duality.losses import AgentLosses
from openmm_duality.reference import Frames, read

EXAMPLES = Path(__file__).parents[1] / "examples"
FOLDER = "OPENMM_DUALITY_TEST_FOLDER"  # environment variable that names what the processes of a session share


class Saved(Protocol):
    def save(self, path: Path) -> object: ...


Thing = TypeVar("Thing", bound=Saved)


def made_once(name: str, make: Callable[[], Thing], load: Callable[[Path], Thing]) -> Thing:
    """What the first process of a session that asks for it makes and saves, and every one of them loads."""
    if FOLDER not in os.environ:
        return make()
    path = Path(os.environ[FOLDER]) / f"{name}.safetensors"
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            make().save(path)
    return load(path)


@cache
def liquid() -> tuple[Frames, Frames]:
    """About a hundred training frames, and about twenty held out by time."""

    @cache
    def split() -> tuple[Frames, Frames]:
        train, test = read(EXAMPLES / "water64-cnnp").split(test_fraction=0.2)
        return train[::8], test[:: max(1, len(test) // 20)]

    return (
        made_once("train", lambda: split()[0], Frames.load),
        made_once("test", lambda: split()[1], Frames.load),
    )


@cache
def water_losses(gradient: str) -> AgentLosses:
    """`quadratic` losses of every second of these frames, cutoff 0.6 nm."""

    def make() -> AgentLosses:
        return infer(liquid()[0][::2], form="quadratic", gradient=gradient, cutoff=0.6)

    return made_once(gradient, make, AgentLosses.load)


@cache
def small_water() -> AgentLosses:
    """The same of all, with fewer functions and a shorter cutoff, for what is called often or in a smaller box."""
    choices = {"pair_functions": 18, "functions": 8, "ridge": 1e-7, "curvature": 1e-7, "stress_weight": 0.0}

    def make() -> AgentLosses:
        return infer(liquid()[0], form="quadratic", gradient="collective", cutoff=0.55, **choices)

    return made_once("small", make, AgentLosses.load)
