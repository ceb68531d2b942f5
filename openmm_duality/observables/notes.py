"""Notes on what was left out of an analysis or looks unusual, as data."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Remark(Enum):
    """What is noted, as a sentence with the places of the name and the values that a `Note` holds."""

    LOG_CUT = "{name} ends in a half-written line, which was left out."
    FRAMES_CUT = "{name} is cut short: of {0} frames announced, the {1} whole ones were used."
    REPORTS_AND_FRAMES = "log.csv has {0} reports and trajectory.dcd {1} whole frames; the first {2} of both were used."
    VELOCITIES_SHORT = "{name} has {0} of {1} frames; velocities were not used."
    UNEVEN_FRAMES = "The frames of {name} are not evenly spaced; blocks hold equal numbers of them."
    BROKEN_AT_START = (
        "The first frame of {name} has {0:.4g} bonds per atom, that of the reference {1:.4g}: some molecules were "
        "broken from the start."
    )
    NO_CELL = "Without a periodic cell in both {name} and reference there is no g(r) to compare."
    OTHER_DENSITY = (
        "{name} starts at {0:.2f} atoms per nm³ and the reference at {1:.2f}: a difference in structure is to be "
        "expected from the density alone."
    )
    DIFFUSION_UNEVEN = "Diffusion of {name} is not given: its frames are not evenly spaced."
    MOTION_SHORT = (
        "Diffusion and reorientation of {name} are not given: {0:.3g} ps are too short, {1:g} ps are the least."
    )
    MOTION_COARSE = (
        "Diffusion and reorientation of {name} are not given: frames every {0:.3g} ps are too coarse, {1:g} ps is the "
        "most."
    )
    PATHS_LOST = (
        "Diffusion of {name} is not given: between frames, atoms move so far that their path through the periodic cell "
        "is lost."
    )
    SPECTRUM_UNEVEN = "No vibrational spectrum of {name}: its frames are too few or not evenly spaced."
    SPECTRUM_COARSE = (
        "No vibrational spectrum of {name}: it was written every {0:.3g} fs, and a spectrum needs positions every "
        "{1:g} fs or velocities every {2:g} fs at the most."
    )
    SPECTRUM_SHORT = "No vibrational spectrum of {name}: {0:.3g} ps are too short, {1:g} ps are the least."
    SPECTRUM_OF_SOME = "The spectrum of {name} follows {0} of its {1} atoms."
    NOT_RECOMPUTED = "Forces along {name} were not recomputed: {0}."


class Note(NamedTuple):
    """A remark on a run, a trajectory or a file, with the values that belong to it."""

    remark: Remark
    name: str
    values: tuple[float | str, ...] = ()

    @property
    def sentence(self) -> str:
        """The note in words."""
        return self.remark.value.format(*self.values, name=self.name)
