"""Conditions of a run or of reference data: what it was set to, and its temperature, density and pressure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import volume
from openmm_duality.observables.correlation_times import UNCORRELATED
from openmm_duality.observables.differences import MeanDifference, compare_estimates
from openmm_duality.observables.findings import Note, Observable, Quantity, Remark
from openmm_duality.observables.runs import Run
from openmm_duality.observables.statistics import Estimate, Reason, series_estimate
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.state_points import StatePoint
from openmm_duality.units import BOLTZMANN, DALTON_PER_NM3, GIGAPASCAL

BAR = 1e-4 * GIGAPASCAL  # kJ/mol/nm³
_MEGAPASCAL = 10.0  # bar
_ALIKE = 1e-6  # relative change of a volume that single precision rounds away
_ROUNDED = 1e-3  # relative difference of cells that a PDB file rounds away


class Origin(Enum):
    """Sources of a measured temperature."""

    LOG = "log"
    ENERGY_FILE = "energy_file"
    VELOCITIES = "velocities"


@dataclass(frozen=True)
class Conditions:
    """The conditions of the part of a trajectory that is analysed.

    Parameters
    ----------
    state_point : StatePoint or None
        What the dynamics were set to; None where it is not known.
    temperature : Estimate or None
        Mean kinetic temperature in K.
    origin : Origin or None
        Where the temperatures come from.
    density : Estimate or None
        In g/cm³, without error where the cell is fixed; None without a cell.
    cell : array, shape (3, 3), or None
        The first one, in nm.
    pressure : Estimate or None
        In bar, kinetic part included.
    timestep : float or None
        In ps.
    """

    state_point: StatePoint | None = None
    temperature: Estimate | None = None
    origin: Origin | None = None
    density: Estimate | None = None
    cell: FloatArray | None = None
    pressure: Estimate | None = None
    timestep: float | None = None

    @property
    def fixed_cell(self) -> bool:
        """Whether there is a cell and its volume does not change."""
        return self.density is not None and self.density.error == 0.0

    @property
    def set_temperature(self) -> float | None:
        """Temperature of the heat bath in K; None without one, or where it is not known."""
        return None if self.state_point is None else self.state_point.temperature

    @property
    def set_pressure(self) -> float | None:
        """Pressure of the barostat in bar; None without one, or where it is not known."""
        return None if self.state_point is None else self.state_point.pressure

    def to_dict(self) -> dict[str, Any]:
        """The numbers with their units in the names."""
        return {
            "ensemble": None if self.state_point is None else self.state_point.ensemble,
            "set_temperature_K": self.set_temperature,
            "set_pressure_bar": self.set_pressure,
            "temperature_K": self.temperature,
            "temperature_from": None if self.origin is None else self.origin.value,
            "density_g_per_cm3": self.density,
            "cell_nm": self.cell,
            "pressure_bar": self.pressure,
        }


def conditions_of_frames(frames: Frames) -> Conditions:
    """Conditions of reference data.

    Parameters
    ----------
    frames : Frames
        Temperatures are those that the source states, else those of the velocities with the motion of the centre of
        mass taken out.
    """
    temperatures, origin = frames.temperatures, Origin.ENERGY_FILE
    freedom = 3 * frames.n_atoms - 3
    if temperatures is None and frames.velocities is not None and freedom > 0:
        temperatures = _kinetic_energies(frames.velocities, frames.masses) / (freedom * BOLTZMANN / 2)
        origin = Origin.VELOCITIES
    cells = frames.cells
    volumes = None if cells is None else np.abs(np.linalg.det(cells))
    pressures = None
    if frames.stresses is not None and temperatures is not None and volumes is not None:
        kinetic = freedom * BOLTZMANN * temperatures / (3 * volumes)
        pressures = (kinetic - np.trace(frames.stresses, axis1=1, axis2=2) / 3) / BAR
    n_blocks = _blocks(frames.times)
    return Conditions(
        state_point=frames.state_point,
        temperature=None if temperatures is None else series_estimate(temperatures, n_blocks),
        origin=None if temperatures is None else origin,
        density=None if volumes is None else _density(frames.masses, volumes, n_blocks),
        cell=frames.cell(0),
        pressure=None if pressures is None else series_estimate(pressures, n_blocks),
        timestep=frames.timestep,
    )


def conditions_of_run(run: Run, cell: FloatArray | None, rows: slice) -> Conditions:
    """Conditions of some rows of the log of a run.

    Parameters
    ----------
    run : Run
    cell : array, shape (3, 3), or None
        Of the first frame that is analysed, in nm.
    rows : slice
        Of its log.
    """
    log = {name: column[rows] for name, column in run.log.items()}
    n_blocks = _blocks(log["time_ps"])
    volumes = log.get("volume_nm3", np.array([np.nan]))
    if cell is not None and not np.isfinite(volumes).all():
        volumes = np.array([volume(cell)])
    pressures = log.get("pressure_MPa")
    if pressures is not None:
        pressures = _MEGAPASCAL * pressures if np.isfinite(pressures).all() else None
    barostat = run.settings.get("pressure_bar") if run.ensemble in ("NPT", "NPH") else None
    bath = None if run.ensemble in ("NVE", "NPH") else float(run.settings["temperature"])
    return Conditions(
        state_point=StatePoint(run.ensemble, bath, float(barostat) if isinstance(barostat, int | float) else None),
        temperature=series_estimate(log["temperature_K"], n_blocks),
        origin=Origin.LOG,
        density=None if cell is None else _density(run.trajectory.masses, volumes, n_blocks),
        cell=cell,
        pressure=None if pressures is None else series_estimate(pressures, n_blocks),
        timestep=float(run.settings["timestep"]),
    )


def _blocks(times: FloatArray) -> int:
    duration = float(times[-1] - times[0]) * len(times) / max(len(times) - 1, 1)
    return min(len(times), UNCORRELATED.blocks_in(len(times), duration))


def _kinetic_energies(velocities: FloatArray, masses: FloatArray) -> FloatArray:
    """Kinetic energy of every frame in kJ/mol, without that of the centre of mass, shape (T,)."""
    total = 0.5 * np.einsum("i,tix,tix->t", masses, velocities, velocities)
    momentum = np.einsum("i,tix->tx", masses, velocities)
    return np.asarray(total - (momentum**2).sum(axis=1) / (2 * masses.sum()))


def _density(masses: FloatArray, volumes: FloatArray, n_blocks: int) -> Estimate:
    densities = DALTON_PER_NM3 * masses.sum() / volumes
    if np.ptp(volumes) <= _ALIKE * volumes.mean():
        return Estimate(float(densities.mean()), 0.0, len(densities))
    return series_estimate(densities, n_blocks)


def compare_conditions(run: Conditions, reference: Conditions) -> dict[Observable, Quantity]:
    """Conditions side by side, without those that neither has: what is set, and what was measured.

    Densities of two fixed cells are set; the others are measured and tested.
    """
    found = {}
    for observable, a, b in (
        (Observable.SET_TEMPERATURE, run.set_temperature, reference.set_temperature),
        (Observable.SET_PRESSURE, run.set_pressure, reference.set_pressure),
    ):
        found[observable] = _set(*(None if value is None else Estimate(value, 0.0, 1) for value in (a, b)))
    fixed = run.fixed_cell and reference.fixed_cell
    found[Observable.DENSITY] = (_set if fixed else _measured)(run.density, reference.density)
    found[Observable.MEAN_TEMPERATURE] = _measured(run.temperature, reference.temperature)
    found[Observable.PRESSURE] = _measured(run.pressure, reference.pressure)
    return {key: q for key, q in found.items() if q.run is not None or q.reference is not None}


def differences_in_conditions(name: str, run: Conditions, reference: Conditions) -> list[Note]:
    """Differences of ensembles and of time steps, which are no difference of the substances, and what is not known."""
    notes = [
        Note(Remark.NO_TEMPERATURE, whose)
        for whose, known in ((name, run), ("the reference", reference))
        if known.temperature is None and known.set_temperature is None
    ]
    one, other = run.state_point, reference.state_point
    if one is not None and other is not None and one.ensemble != other.ensemble:
        notes.append(Note(Remark.OTHER_ENSEMBLE, name, (one.ensemble, other.ensemble)))
    steps = run.timestep, reference.timestep
    if steps[0] is not None and steps[1] is not None and abs(steps[0] / steps[1] - 1) > _ROUNDED:
        notes.append(Note(Remark.OTHER_TIME_STEP, name, (1e3 * steps[0], 1e3 * steps[1])))
    return notes


def same_cell(a: FloatArray | None, b: FloatArray | None) -> bool:
    """Whether two cells have the same edges and angles, to what files round away."""
    if a is None or b is None:
        return a is b
    products = a @ a.T, b @ b.T
    return bool(np.abs(products[0] - products[1]).max() <= _ROUNDED * np.abs(products[1]).max())


def _set(run: Estimate | None, reference: Estimate | None) -> Quantity:
    if run is None or reference is None:
        return Quantity(run, reference, None)
    return Quantity(run, reference, MeanDifference(run.mean - reference.mean, None, None, Reason.SET))


def _measured(run: Estimate | None, reference: Estimate | None) -> Quantity:
    if run is None or reference is None:
        return Quantity(run, reference, None)
    difference = compare_estimates(run, reference)
    return Quantity(run, reference, difference.untested(Reason.TOO_SHORT) if difference.p_value is None else difference)
