"""Errors of a model's forces and pressure along its own run, in frames that the reference method computed again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.molecules import molecular_forces
from openmm_duality.learning.recomputing import RecomputedFrames
from openmm_duality.losses.model import AgentLosses
from openmm_duality.losses.total import evaluate_total
from openmm_duality.observables.statistics import Estimate, series_estimate
from openmm_duality.parallel import on_all_cores
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.molecules import molecules_of
from openmm_duality.reference.summary import component_mean, component_rms
from openmm_duality.units import MEGAPASCAL, stress_from_virial

_BLOCKS = 10  # of frames, for the error of a mean


@dataclass(frozen=True)
class ForceErrors:
    """Errors of a model's forces in frames of its own run.

    Parameters
    ----------
    times : array, shape (T,)
        Of the frames, in ps.
    rmse, mae, rms : dict of str to array, shape (T,)
        Root mean square and mean absolute value of the error, and root mean square of CP2K's forces, per component and
        frame in meV/Å; the keys are ``all``, every species, and ``molecular``, the net force on molecules, where there
        are any.
    refused : tuple of str
        Frames that CP2K gave no forces for, and why.
    method : str
        As the configuration names it.
    model : str
        The file of the losses.
    pressures : array, shape (T, 2), or None
        Pressure −tr σ/3 of the model and of CP2K in MPa, without the kinetic part; None without stresses.
    """

    times: FloatArray
    rmse: dict[str, FloatArray]
    mae: dict[str, FloatArray]
    rms: dict[str, FloatArray]
    refused: tuple[str, ...]
    method: str
    model: str
    pressures: FloatArray | None = None

    @property
    def pressure_error(self) -> Estimate | None:
        """Mean error of the pressure in MPa, from the scatter of blocks of frames; None without stresses."""
        if self.pressures is None or len(self.pressures) < 2:
            return None
        errors = self.pressures[:, 0] - self.pressures[:, 1]
        return series_estimate(errors, min(_BLOCKS, len(errors)))

    def error(self, key: str) -> tuple[float, float]:
        """RMSE and RMS of all frames together, in meV/Å."""
        found = (float(np.sqrt(np.mean(part[key] ** 2))) for part in (self.rmse, self.rms))
        return next(found), next(found)

    def mean_error(self, key: str) -> float:
        """MAE of all frames together, in meV/Å."""
        return float(np.mean(self.mae[key]))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers with their units in the names."""
        errors, error = {key: self.error(key) for key in self.rmse}, self.pressure_error
        return {
            "frames": len(self.times),
            "method": self.method,
            "model": self.model,
            "refused": list(self.refused),
            "time_ps": self.times,
            "force_rmse": {key: rmse for key, (rmse, _) in errors.items()},
            "force_mae": {key: self.mean_error(key) for key in self.mae},
            "force_rms": {key: rms for key, (_, rms) in errors.items()},
            "force_rmse_of_frames": self.rmse,
            "pressure_MPa": None if self.pressures is None else self.pressures.T,
            "pressure_error_MPa": None if error is None else {"mean": error.mean, "interval_95": error.interval},
            "units": {"force": "meV/angstrom"},
        }


def measure_force_errors(recomputed: RecomputedFrames) -> ForceErrors:
    """Compare the forces of the run's own model with those of the reference method.

    Parameters
    ----------
    recomputed : RecomputedFrames
        As `recompute_forces` gives them.
    """
    frames, losses = recomputed.frames, recomputed.losses
    assert frames.forces is not None
    cells = None if frames.stresses is None or not losses.has_potential else frames.cells
    found = list(on_all_cores(_Evaluations(losses, frames, cells is not None), range(len(frames))))
    own, pressures = np.array([forces for forces, _ in found]), None
    if cells is not None and frames.stresses is not None:
        virials = np.array([virial for _, virial in found])
        stresses = np.stack([stress_from_virial(virials, np.abs(np.linalg.det(cells))), frames.stresses], axis=1)
        pressures = -np.trace(stresses, axis1=2, axis2=3) / 3.0 / MEGAPASCAL
    molecules = molecules_of(frames, dict(losses.bond_lengths))
    return ForceErrors(
        times=frames.times,
        rmse=_by_frame(own - frames.forces, frames, molecules, component_rms),
        mae=_by_frame(own - frames.forces, frames, molecules, component_mean),
        rms=_by_frame(frames.forces, frames, molecules, component_rms),
        refused=recomputed.refused,
        method=recomputed.method,
        model=recomputed.model,
        pressures=pressures,
    )


def _by_frame(
    forces: FloatArray, frames: Frames, molecules: list[IntArray], mean: Callable[[FloatArray], float]
) -> dict[str, FloatArray]:
    species = np.array(frames.species)
    selected = {"all": forces} | {name: forces[:, species == name] for name in frames.distinct_species}
    if any(len(molecule) > 1 for molecule in molecules):
        selected["molecular"] = molecular_forces(forces, molecules)
    return {key: np.array([mean(frame) for frame in forces_of]) for key, forces_of in selected.items()}


@dataclass(frozen=True)
class _Evaluations:
    losses: AgentLosses
    frames: Frames
    with_virial: bool

    def __call__(self, t: int) -> tuple[FloatArray, FloatArray | None]:
        """Forces, and the virial if it is wanted."""
        frames = self.frames
        configuration = (self.losses, frames.positions[t], frames.species, frames.cell(t))
        return evaluate_total(*configuration, with_virial=self.with_virial)[1:]
