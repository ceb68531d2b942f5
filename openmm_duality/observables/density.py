"""Density, compressibility and pressure of a run at constant pressure.

The isothermal compressibility is that of the fluctuations of the volume, κ = ⟨δV²⟩/(k_B T ⟨V⟩).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.observables.runs import Run
from openmm_duality.observables.statistics import Estimate, series_estimate
from openmm_duality.units import BOLTZMANN, DALTON_PER_NM3, GIGAPASCAL


@dataclass(frozen=True)
class DensityRecord:
    """State of the part of a run at constant pressure that was analysed.

    Parameters
    ----------
    target : float
        The pressure asked for in MPa.
    scales : str
        What the barostat scales, ``molecules`` or ``atoms``.
    density : Estimate
        In g/cm³.
    compressibility : Estimate
        In 1/GPa.
    pressure : Estimate or None
        Mean of the instantaneous pressure in MPa, where the log has it.
    uncertainty : float or None
        Root mean square in MPa of the error of the pressure that the model predicts, where the log has it.
    """

    target: float
    scales: str
    density: Estimate
    compressibility: Estimate
    pressure: Estimate | None
    uncertainty: float | None = None

    @property
    def density_uncertainty(self) -> float | None:
        """The error of the density in g/cm³ that an error of the pressure by the uncertainty makes: ρ κ σ."""
        if self.uncertainty is None:
            return None
        return 1e-3 * self.uncertainty * self.compressibility.mean * self.density.mean

    def to_dict(self) -> dict[str, Any]:
        """The numbers with their units in the names."""
        return {
            "target_MPa": self.target,
            "barostat_scales": self.scales,
            "density_g_per_cm3": self.density,
            "compressibility_per_GPa": self.compressibility,
            "pressure_MPa": self.pressure,
            "pressure_uncertainty_MPa": self.uncertainty,
            "density_uncertainty_g_per_cm3": self.density_uncertainty,
        }


def measure_density(run: Run, log: dict[str, FloatArray], n_blocks: int) -> DensityRecord | None:
    """Density and what belongs to it, from rows of the log; None for a run at constant volume.

    Parameters
    ----------
    run : Run
    log : dict of str to array, shape (T,)
    n_blocks : int
        Number of contiguous blocks of time for the errors.
    """
    if str(run.settings["ensemble"]).upper() != "NPT" or "pressure_bar" not in run.settings:
        return None
    volumes = log["volume_nm3"]
    temperature = float(run.settings["temperature"])
    squares = (volumes - volumes.mean()) ** 2 * GIGAPASCAL / (BOLTZMANN * temperature * volumes.mean())
    mass = float(np.sum(run.trajectory.masses)) * DALTON_PER_NM3
    pressures = log.get("pressure_MPa")
    known = pressures is not None and bool(np.isfinite(pressures).all())
    predicted = log.get("pressure_uncertainty_MPa", np.empty(0))
    predicted = predicted[np.isfinite(predicted)]
    return DensityRecord(
        target=0.1 * float(run.settings["pressure_bar"]),
        scales=str(run.settings.get("barostat_scales", "atoms")),
        density=series_estimate(mass / volumes, n_blocks),
        compressibility=series_estimate(squares, n_blocks),
        pressure=series_estimate(pressures, n_blocks) if known and pressures is not None else None,
        uncertainty=float(np.sqrt(np.mean(predicted**2))) if len(predicted) else None,
    )
