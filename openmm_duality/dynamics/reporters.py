"""Reporters of a run: velocities beside the positions of OpenMM's own reporter, and the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import openmm as mm
from openmm import app, unit

from openmm_duality.dynamics.integrity import IntegrityReport, Pair
from openmm_duality.geometry.arrays import FloatArray


class VelocityDCDReporter(app.DCDReporter):  # type: ignore[misc]
    """A DCD file of velocities, for which OpenMM has no reporter.

    The numbers are velocities in nm/ps in the place where DCD has positions in nm: the file holds ten times the value
    (DCD is in angstrom), and a reader that converts to nm, such as mdtraj, gives nm/ps. They are those of the
    integrator: of the full step with Verlet and Nosé–Hoover, of the half-step with Langevin.

    Parameters are those of `openmm.app.DCDReporter`; ``enforcePeriodicBox`` means nothing here.
    """

    def describeNextReport(self, simulation: app.Simulation) -> dict[str, Any]:
        """Ask for velocities."""
        return {**super().describeNextReport(simulation), "include": ["velocities"]}

    def report(self, simulation: app.Simulation, state: mm.State) -> None:
        """Write the velocities of a state."""
        super().report(simulation, _VelocitiesAsPositions(state))


class _VelocitiesAsPositions:
    def __init__(self, state: mm.State) -> None:
        self._state = state

    def getPositions(self, asNumpy: bool = False) -> Any:
        velocities = self._state.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond)
        return velocities * unit.nanometer

    def getPeriodicBoxVectors(self) -> Any:
        return self._state.getPeriodicBoxVectors()


class RunLog:
    """The log of a run: CSV, one row per report, in MD units; ``nan`` where a value does not exist.

    Parameters
    ----------
    path : path
        Of the file.
    species : sequence of str
        One column for the temperature of each.
    pairs : sequence of pairs of species
        One column for the shortest distance of each.
    append : bool
        Whether to append to a file that is there.
    """

    def __init__(self, path: Path, species: Sequence[str], pairs: Sequence[Pair], append: bool = False) -> None:
        self._species, self._pairs = tuple(species), tuple(pairs)
        self._with_pressure = True
        if append:
            with open(path) as handle:  # a run that version 0.6 or an earlier one began lacks the last column
                self._with_pressure = self.columns[-1] in handle.readline()
        self._handle = open(path, "a" if append else "w")  # noqa: SIM115  (`close` closes it)
        if not append:
            self._write(self.columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns; energies in kJ/mol, uncertainties of forces in kJ/mol/nm."""
        return (
            "step",
            "time_ps",
            "potential_energy",
            "kinetic_energy",
            "conserved_quantity",
            "temperature_K",
            *(f"temperature_{name}_K" for name in self._species),
            "volume_nm3",
            "pressure_MPa",
            *(f"shortest_{a}-{b}_nm" for a, b in self._pairs),
            "atoms_left_molecule",
            "mean_force_uncertainty",
            "largest_force_uncertainty",
            "pressure_uncertainty_MPa",
        )

    def write(
        self,
        step: int,
        time: float,
        energies: tuple[float, float, float | None],
        temperature: float,
        of_species: Mapping[str, float],
        volume: float | None,
        pressure: float | None,
        integrity: IntegrityReport,
        uncertainty: FloatArray | None = None,
        pressure_uncertainty: float | None = None,
    ) -> None:
        """Add a row.

        Parameters
        ----------
        step : int
            Number of steps done.
        time : float
            In ps.
        energies : tuple
            Potential and kinetic energy and the conserved quantity, if there is one, in kJ/mol.
        temperature : float
            In K.
        of_species : mapping of str to float
            Temperature of each species in K.
        volume : float or None
            In nm³; None without a cell.
        pressure : float or None
            Instantaneous pressure in MPa, its kinetic part included; None without a barostat.
        integrity : IntegrityReport
            Of the same step.
        uncertainty : array, shape (N,), optional
            Predicted error of the force on every agent in kJ/mol/nm, where the monitor checked.
        pressure_uncertainty : float, optional
            Predicted error of the pressure in MPa.
        """
        spread = (None, None) if uncertainty is None else (uncertainty.mean(), uncertainty.max())
        temperatures = [temperature, *(of_species[name] for name in self._species)]
        numbers = [
            time,
            *energies,
            *temperatures,
            volume,
            pressure,
            *(integrity.shortest[pair] for pair in self._pairs),
        ]
        predicted = (*spread, pressure_uncertainty) if self._with_pressure else spread
        fields, last = (["nan" if x is None else f"{x:.10g}" for x in row] for row in (numbers, predicted))
        self._write([str(step), *fields, str(integrity.atoms_left_molecule), *last])

    def close(self) -> None:
        """Close the file."""
        self._handle.close()

    def _write(self, fields: Sequence[str]) -> None:
        self._handle.write(",".join(fields) + "\n")
        self._handle.flush()
