"""Frames of a reference that were written often enough for its motion."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.observables.trajectory import quiet
from openmm_duality.reference.cp2k_project import read_cp2k
from openmm_duality.reference.formats import read
from openmm_duality.reference.frames import Frames
from openmm_duality.units import bare


def read_dynamics(path: str | Path, every: Any = None) -> Frames:
    """Read frames for spectra, diffusion and reorientation, without forces.

    Parameters
    ----------
    path : str or Path
        Whatever `read` reads, or a DCD file in the folder of a CP2K project.
    every : quantity or float, optional
        The time between frames in ps, where the files do not say it or say it wrongly, as the header of a DCD file
        that was thinned.

    Raises
    ------
    DualityError
        If nothing can be read, or the time between frames is not above zero.
    """
    path = Path(path)
    if path.suffix != ".dcd":
        frames = read(path, forces=False)
    elif path.exists():
        with quiet(), warnings.catch_warnings():
            # wrong step numbers in the header find no energies in the .ener file, and none are needed here
            warnings.filterwarnings("ignore", "the .ener file lacks")
            frames = read_cp2k(path.parent, positions=path.name, forces=False)
    else:
        raise DualityError(f"{path}: there is no such file; give a DCD file in the folder of its CP2K project")
    if every is None:
        return frames
    spacing = bare(every, unit.picosecond, "every")
    if not spacing > 0:
        raise DualityError(f"every: expected a time above zero between frames, got {every}")
    return replace(frames, times=np.asarray(spacing * np.arange(len(frames)), dtype=np.float64))
