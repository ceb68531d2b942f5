"""Wall time of the steps of one context, and a look at whether what ran was still a liquid."""

from __future__ import annotations

import time

import numpy as np
from openmm import unit

from openmm_duality.benchmark.subjects import TEMPERATURE, Made
from openmm_duality.errors import DualityError
from openmm_duality.units import BOLTZMANN

_RUNAWAY = 3.0  # times the temperature


class Stopwatch:
    """Times blocks of steps.

    Parameters
    ----------
    made : Made
    """

    def __init__(self, made: Made) -> None:
        self.made = made
        system = made.context.getSystem()
        self._dof = 3 * system.getNumParticles() - system.getNumConstraints() - 3

    def warm_up(self, steps: int, seconds: float) -> float:
        """Run until that many steps or seconds are over, whichever is first; at least two steps.

        Returns
        -------
        float
            Seconds per step of the second half: the first steps compile, and touch memory for the first time.
        """
        times: list[float] = []
        begin = time.perf_counter()
        while len(times) < 2 or (len(times) < steps and time.perf_counter() - begin < seconds):
            times.append(self.block(1))
        return float(np.mean(times[len(times) // 2 :]))

    def block(self, steps: int) -> float:
        """Seconds that these steps take."""
        begin = time.perf_counter()
        self.made.integrator.step(steps)
        self.made.context.getState(positions=True)  # GPU platforms only queue the steps; this waits for them
        return time.perf_counter() - begin

    def check(self) -> None:
        """Look at positions, energy and temperature.

        Raises
        ------
        DualityError
            If a number is not finite, or the temperature three times that of the heat bath.
        """
        state = self.made.context.getState(positions=True, energy=True)
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        potential, kinetic = (
            energy.value_in_unit(unit.kilojoule_per_mole)
            for energy in (state.getPotentialEnergy(), state.getKineticEnergy())
        )
        temperature = 2.0 * kinetic / (self._dof * BOLTZMANN)
        if not (np.isfinite(positions).all() and np.isfinite(potential) and temperature < _RUNAWAY * TEMPERATURE):
            raise DualityError(
                f"the run fell apart while it was timed (energy {potential:.6g} kJ/mol, {temperature:.6g} K), so its "
                "times mean nothing; see whether the model is stable (infer --check) and knows this start"
            )
