"""Notes on what was left out of an analysis or looks unusual, as data."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Remark(Enum):
    """What is noted, with its values in the order in which a `Note` holds them."""

    LOG_CUT = "log_cut"
    """The log ends in a half-written line."""
    FRAMES_CUT = "frames_cut"
    """A file of frames is cut short: frames announced, whole frames."""
    REPORTS_AND_FRAMES = "reports_and_frames"
    """Log and trajectory differ in length: reports, frames, used of both."""
    VELOCITIES_SHORT = "velocities_short"
    """A file of velocities is shorter than the trajectory: frames, frames of the trajectory."""
    UNEVEN_FRAMES = "uneven_frames"
    """Frames are not evenly spaced in time."""
    BROKEN_AT_START = "broken_at_start"
    """The first frame has other bonds than the reference's: bonds per atom of both."""
    NO_CELL = "no_cell"
    """There is no periodic cell in both run and reference."""
    OTHER_DENSITY = "other_density"
    """The densities differ: atoms per nm³ of both."""
    DIFFUSION_UNEVEN = "diffusion_uneven"
    """No diffusion: frames are not evenly spaced in time."""
    MOTION_SHORT = "motion_short"
    """No diffusion and reorientation: duration and the least in ps."""
    MOTION_COARSE = "motion_coarse"
    """No diffusion and reorientation: time between frames and the most in ps."""
    PATHS_LOST = "paths_lost"
    """No diffusion: atoms move too far between frames."""
    SPECTRUM_UNEVEN = "spectrum_uneven"
    """No spectrum: frames are too few or not evenly spaced in time."""
    SPECTRUM_COARSE = "spectrum_coarse"
    """No spectrum: time between frames, and the most for positions and for velocities, in fs."""
    SPECTRUM_SHORT = "spectrum_short"
    """No spectrum: duration and the least in ps."""
    SPECTRUM_OF_SOME = "spectrum_of_some"
    """The spectrum is of some atoms: their number, number of all."""
    NOT_RECOMPUTED = "not_recomputed"
    """Forces along a run were not recomputed: why."""


class Note(NamedTuple):
    """A remark on a run, a trajectory or a file, with the values that belong to it."""

    remark: Remark
    name: str
    values: tuple[float | str, ...] = ()
