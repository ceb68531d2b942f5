"""Quantities in the log of a run: temperature, energies, shortest distances, broken molecules, and how the run ended.

In the canonical ensemble the kinetic energy of f degrees of freedom follows a gamma distribution with mean f kT/2 and
variance f (kT)²/2: the mean shows the thermostat's target, the variance whether it samples the ensemble at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from openmm_duality.dynamics.monitoring import count_checks
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.observables.density import DensityRecord, measure_density
from openmm_duality.observables.runs import Run
from openmm_duality.observables.statistics import Estimate, mean_rate, series_estimate, slope, variance_estimate
from openmm_duality.units import BOLTZMANN


class Conserved(Enum):
    """Energies that the dynamics should conserve, or reasons why there is none."""

    TOTAL_ENERGY = "total_energy"
    EXTENDED_ENERGY = "extended_energy"
    NO_COMMON_ENERGY = "no_common_energy"
    BAROSTAT = "barostat"
    NOT_RECORDED = "not_recorded"


@dataclass(frozen=True)
class PumpRecord:
    """Power that forces without a potential fed into the motion, in kJ/mol per atom and ps.

    Parameters
    ----------
    measured : Estimate
        Rate of change of what forces with a potential would have conserved.
    predicted : float or None
        What inference predicted at 300 K, where the record of the run has it.
    """

    measured: Estimate
    predicted: float | None

    def to_dict(self) -> dict[str, Any]:
        """The numbers by name."""
        return {"measured": self.measured, "predicted": self.predicted}


@dataclass(frozen=True)
class Energetics:
    """Energetics of the part of a run that was analysed.

    Parameters
    ----------
    target : float
        The temperature asked for in K; in NVE the one the velocities were drawn at.
    temperature : Estimate
        In K.
    species_temperatures : dict of str to Estimate
        Of each species in K, where the log has them. A bath does not keep them alike if the forces pump power.
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
    density : DensityRecord or None
        None at constant volume.
    pump : PumpRecord or None
        None where the forces have a potential, or the log does not show it.
    """

    target: float
    temperature: Estimate
    species_temperatures: dict[str, Estimate]
    temperature_slope: Estimate
    kinetic_mean: Estimate
    kinetic_variance: Estimate
    canonical_mean: float | None
    canonical_variance: float | None
    drift: Estimate | None
    conserved: Conserved
    integrator: str
    density: DensityRecord | None = None
    pump: PumpRecord | None = None

    def to_dict(self) -> dict[str, Any]:
        """The numbers with their units in the names."""
        return {
            "target_K": self.target,
            "temperature_K": self.temperature,
            "species_temperatures_K": self.species_temperatures,
            "temperature_slope_K_per_ps": self.temperature_slope,
            "kinetic_mean_kJ_per_mol": self.kinetic_mean,
            "kinetic_variance_kJ2_per_mol2": self.kinetic_variance,
            "canonical_mean_kJ_per_mol": self.canonical_mean,
            "canonical_variance_kJ2_per_mol2": self.canonical_variance,
            "drift_kJ_per_mol_per_atom_per_ps": self.drift,
            **({} if self.density is None else {"constant_pressure": self.density.to_dict()}),
            **({} if self.pump is None else {"pump_kJ_per_mol_per_atom_per_ps": self.pump.to_dict()}),
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
    canonical = run.ensemble in ("NVT", "NPT")  # of the kinetic energy, which knows nothing of the volume
    variance = freedom * (BOLTZMANN * target) ** 2 / 2 if canonical else None
    conserved, energy = conserved_energy(run, log)
    return Energetics(
        target=target,
        temperature=series_estimate(log["temperature_K"], n_blocks),
        species_temperatures={
            name: series_estimate(log[f"temperature_{name}_K"], n_blocks)
            for name in sorted(set(run.trajectory.species))
            if f"temperature_{name}_K" in log
        },
        temperature_slope=slope(times, log["temperature_K"], n_blocks),
        kinetic_mean=series_estimate(kinetic, n_blocks),
        kinetic_variance=variance_estimate(kinetic, n_blocks, variance),
        canonical_mean=freedom * BOLTZMANN * target / 2 if canonical else None,
        canonical_variance=variance,
        drift=None if energy is None else slope(times, energy / len(run.trajectory.species), n_blocks),
        conserved=conserved,
        integrator=str(run.settings.get("integrator", "the integrator")),
        density=measure_density(run, log, n_blocks),
        pump=measure_pump(run, log, n_blocks),
    )


def measure_pump(run: Run, log: Mapping[str, FloatArray], n_blocks: int) -> PumpRecord | None:
    """Power that the forces of a run fed into its motion; None if they have a potential, or nothing shows it.

    Parameters
    ----------
    run : Run
    log : mapping of str to array, shape (T,)
        Columns of its log.
    n_blocks : int
        Number of contiguous blocks of time for the error.
    """
    if run.has_potential:
        return None
    energy = recorded_energy(run, log)[1]
    if energy is None:
        return None
    return PumpRecord(mean_rate(log["time_ps"], energy / len(run.trajectory.species), n_blocks), run.predicted_pump)


def conserved_energy(run: Run, log: Mapping[str, FloatArray]) -> tuple[Conserved, FloatArray | None]:
    """Conserved energy and its values in kJ/mol, shape (T,); None where there are none."""
    return recorded_energy(run, log) if run.has_potential else (Conserved.NO_COMMON_ENERGY, None)


def recorded_energy(run: Run, log: Mapping[str, FloatArray]) -> tuple[Conserved, FloatArray | None]:
    """Energy that forces with a potential would conserve, as `conserved_energy`."""
    if run.ensemble in ("NPT", "NPH"):
        return Conserved.BAROSTAT, None
    if run.ensemble == "NVE":
        return Conserved.TOTAL_ENERGY, log["potential_energy"] + log["kinetic_energy"]
    column = log.get("conserved_quantity")
    if column is None or not np.isfinite(column).all():
        return Conserved.NOT_RECORDED, None
    return Conserved.EXTENDED_ENERGY, column


@dataclass(frozen=True)
class Closest:
    """The shortest distance of one pair of species in nm: in the run, when (ps), and in the reference (or None)."""

    run: float
    time: float
    reference: float | None


@dataclass(frozen=True)
class IntegrityRecord:
    """The integrity of a whole run, its discarded beginning included.

    Parameters
    ----------
    status, reason : str
        How it ended, in the run's own words.
    time : float
        How far it came, in ps.
    shortest : dict of str to Closest
        By pair of species.
    most_left : int
        The largest number of atoms away from their molecule at once.
    first_left : float or None
        When the first one was seen to have left, in ps.
    alarms, checks : int
        Checks of the monitor that raised an alarm, and all of them; zero without a monitor.
    unknown_bonds : int
        Bonds that have formed or broken at the end as the data of the model do not show.
    """

    status: str
    reason: str
    time: float
    shortest: dict[str, Closest]
    most_left: int
    first_left: float | None
    alarms: int = 0
    checks: int = 0
    unknown_bonds: int = 0


def read_integrity(run: Run, reference_shortest: dict[str, float]) -> IntegrityRecord:
    """Read the integrity columns of the log.

    Parameters
    ----------
    run : Run
        The run.
    reference_shortest : dict of str to float
        The shortest distance per pair of species in the reference, in nm.
    """
    times, shortest = run.log["time_ps"], {}
    for name, column in run.log.items():
        if name.startswith("shortest_") and name.endswith("_nm") and np.isfinite(column).any():
            pair = name.removeprefix("shortest_").removesuffix("_nm")
            at = int(np.nanargmin(column))
            shortest[pair] = Closest(float(column[at]), float(times[at]), reference_shortest.get(pair))
    left = np.nan_to_num(run.log["atoms_left_molecule"])
    away = np.flatnonzero(left > 0)
    return IntegrityRecord(
        status=str(run.settings.get("status", "unknown")),
        reason=str(run.settings.get("reason") or ""),
        time=float(run.settings.get("time_ps") or times[-1]),
        shortest=dict(sorted(shortest.items())),
        most_left=int(left.max()),
        first_left=float(times[away[0]]) if len(away) else None,
        alarms=run.settings.get("alarms", 0),
        checks=count_checks(run.settings),
        unknown_bonds=run.settings.get("unknown_bonds", 0),
    )
