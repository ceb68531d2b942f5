"""Temperature, kinetic energy and drift of a run, from its log.

In the canonical ensemble the kinetic energy of f degrees of freedom follows a gamma distribution with mean f kT/2 and
variance f (kT)²/2: the mean shows the thermostat's target, the variance whether it samples the ensemble at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.observables.runs import Run
from openmm_duality.observables.statistics import Estimate, series_estimate, slope
from openmm_duality.units import BOLTZMANN


class Conserved(Enum):
    """What the dynamics should conserve, or why nothing is known of it; in the words of the report."""

    TOTAL_ENERGY = "total energy"
    EXTENDED_ENERGY = "conserved quantity"  # of the system with its thermostat, as the integrator reports it
    NO_COMMON_ENERGY = "nothing is conserved: the agent gradient descends no common energy"
    NOT_RECORDED = "{integrator} has no conserved quantity"


@dataclass(frozen=True)
class Energetics:
    """Energetics of the part of a run that was analysed.

    Parameters
    ----------
    target : float
        The temperature asked for in K; in NVE the one the velocities were drawn at.
    temperature : Estimate
        In K.
    temperature_slope : Estimate
        In K/ps.
    kinetic_mean, kinetic_variance : Estimate
        In kJ/mol and (kJ/mol)².
    canonical_mean, canonical_variance : float or None
        Those of the canonical ensemble at the target; None in NVE.
    drift : Estimate or None
        Slope of what should be conserved, in kJ/mol per atom and ps; None where nothing is.
    conserved : Conserved
        What should be conserved, or why nothing is.
    integrator : str
        Of the run.
    """

    target: float
    temperature: Estimate
    temperature_slope: Estimate
    kinetic_mean: Estimate
    kinetic_variance: Estimate
    canonical_mean: float | None
    canonical_variance: float | None
    drift: Estimate | None
    conserved: Conserved
    integrator: str

    @property
    def drift_of(self) -> str:
        """The energy whose drift is given, or why there is none."""
        return self.conserved.value.format(integrator=self.integrator)

    def to_dict(self) -> dict[str, Any]:
        """The numbers with their units in the names."""
        return {
            "target_K": self.target,
            "temperature_K": self.temperature,
            "temperature_slope_K_per_ps": self.temperature_slope,
            "kinetic_mean_kJ_per_mol": self.kinetic_mean,
            "kinetic_variance_kJ2_per_mol2": self.kinetic_variance,
            "canonical_mean_kJ_per_mol": self.canonical_mean,
            "canonical_variance_kJ2_per_mol2": self.canonical_variance,
            "drift_kJ_per_mol_per_atom_per_ps": self.drift,
            "drift_of": self.drift_of,
        }


def measure_energetics(run: Run, rows: slice, n_blocks: int) -> Energetics:
    """Energetics of some rows of the log.

    Parameters
    ----------
    run : Run
        The run.
    rows : slice
        The rows of its log to use.
    n_blocks : int
        Number of contiguous blocks of time for the errors.
    """
    log = {name: column[rows] for name, column in run.log.items()}
    times, kinetic = log["time_ps"], log["kinetic_energy"]
    n_blocks = min(n_blocks, len(times))
    target = float(run.settings["temperature"])
    freedom = float(run.settings["degrees_of_freedom"])
    canonical = str(run.settings["ensemble"]).upper() == "NVT"
    conserved, energy = conserved_energy(run, log)
    return Energetics(
        target=target,
        temperature=series_estimate(log["temperature_K"], n_blocks),
        temperature_slope=slope(times, log["temperature_K"], n_blocks),
        kinetic_mean=series_estimate(kinetic, n_blocks),
        kinetic_variance=series_estimate((kinetic - kinetic.mean()) ** 2, n_blocks),
        canonical_mean=freedom * BOLTZMANN * target / 2 if canonical else None,
        canonical_variance=freedom * (BOLTZMANN * target) ** 2 / 2 if canonical else None,
        drift=None if energy is None else slope(times, energy / len(run.trajectory.species), n_blocks),
        conserved=conserved,
        integrator=str(run.settings.get("integrator", "the integrator")),
    )


def conserved_energy(run: Run, log: dict[str, FloatArray]) -> tuple[Conserved, FloatArray | None]:
    """What the dynamics should conserve, and its values in kJ/mol, shape (T,); None where there are none."""
    if run.model.get("gradient") == "agent":
        return Conserved.NO_COMMON_ENERGY, None
    if str(run.settings["ensemble"]).upper() == "NVE":
        return Conserved.TOTAL_ENERGY, log["potential_energy"] + log["kinetic_energy"]
    column = log.get("conserved_quantity")
    if column is None or not np.isfinite(column).all():
        return Conserved.NOT_RECORDED, None
    return Conserved.EXTENDED_ENERGY, column
