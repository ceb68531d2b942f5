"""Notes on a comparison, and the energy whose drift is given, in words."""

from __future__ import annotations

from openmm_duality.observables.findings import Note, Remark
from openmm_duality.observables.run_log import Conserved, Energetics

_SENTENCES = {  # with the name and the values of a `Note`
    Remark.LOG_CUT: "{name} ends in a half-written line, which was left out.",
    Remark.FRAMES_CUT: "{name} is cut short: of {0} frames announced, the {1} whole ones were used.",
    Remark.REPORTS_AND_FRAMES: (
        "log.csv has {0} reports and trajectory.dcd {1} whole frames; the first {2} of both were used."
    ),
    Remark.VELOCITIES_SHORT: "{name} has {0} of {1} frames; velocities were not used.",
    Remark.UNEVEN_FRAMES: "The frames of {name} are not evenly spaced; blocks hold equal numbers of them.",
    Remark.BROKEN_AT_START: (
        "The first frame of {name} has {0:.4g} bonds per atom, that of the reference {1:.4g}: some molecules were "
        "broken from the start."
    ),
    Remark.NO_CELL: "Without a periodic cell in both {name} and reference there is no g(r) to compare.",
    Remark.NO_TEMPERATURE: (
        "The temperature of {name} is not known, neither measured (no velocities, no log) nor set, and is not compared."
    ),
    Remark.NO_TIMES: (
        "{name} gives no times that rise, so it is no dynamics to compare; give the time between its frames "
        "(--timestep) if it is."
    ),
    Remark.NO_RDF: "{name} has no cell, so it has no g(r).",
    Remark.MIXED: "{name} holds several compositions, orders of atoms or periodicities, and a comparison needs one.",
    Remark.OTHER_ENSEMBLE: "{name} samples {0} and the reference {1}: fluctuations differ, means need not.",
    Remark.OTHER_TIME_STEP: (
        "The time step of {name} is {0:.3g} fs and that of the reference {1:.3g} fs: velocity Verlet moves the bands "
        "of fast vibrations, and the kinetic energy in them, with the square of the step."
    ),
    Remark.MASSIVE_BATH: (
        "Every degree of freedom of {name} has a heat bath of its own (a massive thermostat), which slows diffusion "
        "and broadens bands: compare motion with dynamics at constant energy, or of one bath for all (--dynamics)."
    ),
    Remark.DIFFUSION_UNEVEN: "Diffusion of {name} is not given: its frames are not evenly spaced.",
    Remark.MOTION_SHORT: (
        "Diffusion and reorientation of {name} are not given: {0:.3g} ps are too short, {1:g} ps are the least."
    ),
    Remark.MOTION_COARSE: (
        "Diffusion and reorientation of {name} are not given: frames every {0:.3g} ps are too coarse, {1:g} ps is the "
        "most."
    ),
    Remark.PATHS_LOST: (
        "Diffusion of {name} is not given: between frames, atoms move so far that their path through the periodic cell "
        "is lost."
    ),
    Remark.MOTION_OF_LASTING: (
        "Molecules of {name} change; diffusion and reorientation are those of {0} of its {1} atoms, in molecules that "
        "last from the first frame to the last."
    ),
    Remark.HOPS_COARSE: (
        "Hops of {name} are counted between frames {0:.3g} fs apart, those it is compared with between frames {1:.3g} "
        "fs apart: more are seen in the closer ones."
    ),
    Remark.FORMULAS_LEFT_OUT: "Of the formulas in {name} and its reference, the {1} most frequent are shown, {0} not.",
    Remark.SPECTRUM_UNEVEN: "No vibrational spectrum of {name}: its frames are too few or not evenly spaced.",
    Remark.SPECTRUM_COARSE: (
        "No vibrational spectrum of {name}: it was written every {0:.3g} fs, and a spectrum needs positions every "
        "{1:g} fs or velocities every {2:g} fs at the most."
    ),
    Remark.SPECTRUM_SHORT: "No vibrational spectrum of {name}: {0:.3g} ps are too short, {1:g} ps are the least.",
    Remark.SPECTRUM_OF_SOME: "The spectrum of {name} follows {0} of its {1} atoms.",
    Remark.NOT_RECOMPUTED: "Forces along {name} were not recomputed: {0}.",
}
CONSERVED = {
    Conserved.TOTAL_ENERGY: "total energy",
    Conserved.EXTENDED_ENERGY: "conserved quantity",  # of the system with its thermostat
    Conserved.NO_COMMON_ENERGY: "nothing is conserved: the agents descend no common energy",
    Conserved.BAROSTAT: "no quantity is conserved under a barostat that moves by Monte Carlo",
    Conserved.NOT_RECORDED: "{integrator} has no conserved quantity",
}


def note_sentence(note: Note) -> str:
    """Put a note into words."""
    return _SENTENCES[note.remark].format(*note.values, name=note.name)


def drift_of(e: Energetics) -> str:
    """Name the energy whose drift is given, or say why there is none."""
    return CONSERVED[e.conserved].format(integrator=e.integrator)
