"""Observables of the user's own: functions from frames to a number of every frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.observables.trajectory import Trajectory
from openmm_duality.progress import progress_bar
from openmm_duality.reference.frames import Frames

FrameFunction = Callable[[Frames], Any]
"""From some consecutive `Frames` to a number of each, shape (T,)."""


@dataclass(frozen=True)
class OwnObservable:
    """An observable of the user's own.

    Parameters
    ----------
    name : str
        With its unit in brackets, where it has one.
    function : callable
        From frames to numbers.
    """

    name: str
    function: FrameFunction

    def measure(self, trajectory: Trajectory, *, progress: bool) -> FloatArray:
        """The number of every frame, shape (T,).

        Parameters
        ----------
        trajectory : Trajectory
            Which the function sees in chunks.
        progress : bool
            Whether to show a progress bar.

        Raises
        ------
        DualityError
            If the function fails, or does not give one finite number per frame.
        """
        found, done = [], 0
        with progress_bar(len(trajectory), f"{self.name} of {trajectory.name}", show=progress) as bar:
            for chunk in trajectory:
                count = len(chunk)
                frames = Frames(
                    species=trajectory.species,
                    masses=trajectory.masses,
                    positions=chunk.positions,
                    times=trajectory.times[done : done + count],
                    steps=np.arange(done, done + count),
                    cells=chunk.cells,
                    source=(trajectory.name,),
                )
                found.append(self._of(frames, done))
                done += count
                bar.update(count)
        return np.concatenate(found)

    def _of(self, frames: Frames, first: int) -> FloatArray:
        where = f"observable {self.name!r}, frames {first} to {first + len(frames) - 1} of {frames.source[0]}"
        try:
            given = self.function(frames)
            values = np.asarray(given, dtype=np.float64)
        except DualityError:
            raise
        except Exception as error:  # whatever the user's function raises
            raise DualityError(f"{where}: it failed ({type(error).__name__}: {error})") from error
        if values.shape != (len(frames),):
            raise DualityError(
                f"{where}: expected one number for each of {len(frames)} frames, got the shape {values.shape}"
            )
        if not np.isfinite(values).all():
            at = first + int(np.flatnonzero(~np.isfinite(values))[0])
            raise DualityError(f"{where}: its value in frame {at} (counted from 0) is not a finite number")
        return values


def own_observables(given: Mapping[str, FrameFunction] | Iterable[FrameFunction]) -> tuple[OwnObservable, ...]:
    """Observables from functions.

    Parameters
    ----------
    given : mapping of str to callable, or iterable of callables
        By name, or named by the functions themselves. A function may have an attribute ``unit``.

    Raises
    ------
    DualityError
        If one cannot be called, or two have the same name.
    """
    named = list(given.items()) if isinstance(given, Mapping) else [(_name_of(one), one) for one in given]
    found = []
    for name, function in named:
        if not callable(function):
            raise DualityError(f"observable {name!r}: expected a function of frames, got {type(function).__name__}")
        unit = str(getattr(function, "unit", ""))
        found.append(OwnObservable(f"{name} ({unit})" if unit else str(name), function))
    names = [one.name for one in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DualityError(f"observables: several have the name {', '.join(twice)}; name them apart")
    return tuple(found)


def _name_of(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__)).replace("_", " ").strip()
