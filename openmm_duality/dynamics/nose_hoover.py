"""Nosé–Hoover chains around velocity Verlet, as an OpenMM integrator."""

from __future__ import annotations

from typing import Any

import openmm as mm
from openmm import unit

from openmm_duality.dynamics.integrators import HeatBathIntegrator, positive
from openmm_duality.errors import DualityError
from openmm_duality.units import BOLTZMANN

# Weights of the Yoshida–Suzuki factorisations (Yoshida 1990, Suzuki 1991); each set sums to one.
_OUTER3, _OUTER5 = 1.0 / (2.0 - 2.0 ** (1 / 3)), 1.0 / (4.0 - 4.0 ** (1 / 3))
YOSHIDA_SUZUKI = {
    1: (1.0,),
    3: (_OUTER3, 1.0 - 2.0 * _OUTER3, _OUTER3),
    5: (_OUTER5, _OUTER5, 1.0 - 4.0 * _OUTER5, _OUTER5, _OUTER5),
}


class NoseHooverLearningIntegrator(HeatBathIntegrator):
    """Nosé–Hoover chains (NVT): deterministic learning at a set temperature.

    `1/M` is the step scale of the gradient of the loss, `v` the momentum of the optimiser. Its damping is the velocity
    of the first thermostat of the chain, which is itself learned: it grows while the momenta hold more energy than
    the temperature allows and turns negative while they hold less. Nothing is random, and the extended energy

        H' = U + K + Σ_k ½ Q_k η̇_k² + N_f kT η_1 + kT Σ_{k>1} η_k,    Q_1 = N_f kT/ω², Q_k = kT/ω²

    is conserved while the temperature stays as it is. Martyna, Klein and Tuckerman, J. Chem. Phys. 97, 2635 (1992);
    Martyna, Tuckerman, Tobias and Klein, Mol. Phys. 87, 1117 (1996).

    Parameters
    ----------
    temperature : openmm.unit.Quantity or float
        In K.
    collisionFrequency : openmm.unit.Quantity or float
        The frequency ω of the thermostats in 1/ps.
    stepSize : openmm.unit.Quantity or float
        The time step in ps.
    chainLength : int
        Number of thermostats in the chain.
    numMTS : int
        Number of substeps of the chain in each half of a step.
    numYoshidaSuzuki : int
        Order of the factorisation of a substep: 1, 3 or 5.
    removedDegreesOfFreedom : int
        N_f is three for every massive particle less this number; the default takes out the centre of mass.
    """

    def __init__(
        self,
        temperature: Any,
        collisionFrequency: Any,
        stepSize: Any,
        chainLength: int = 3,
        numMTS: int = 1,
        numYoshidaSuzuki: int = 3,
        removedDegreesOfFreedom: int = 3,
    ) -> None:
        if chainLength < 1 or numMTS < 1 or numYoshidaSuzuki not in YOSHIDA_SUZUKI:
            raise DualityError(
                f"Nosé–Hoover chain: chainLength {chainLength} and numMTS {numMTS} must be at least 1, and "
                f"numYoshidaSuzuki {numYoshidaSuzuki} one of {', '.join(map(str, YOSHIDA_SUZUKI))}"
            )
        super().__init__(positive(stepSize, unit.picosecond, "stepSize"))
        self.addGlobalVariable("kT", BOLTZMANN * positive(temperature, unit.kelvin, "temperature"))
        self.addGlobalVariable("frequency", positive(collisionFrequency, unit.picosecond**-1, "collisionFrequency"))
        self.addGlobalVariable("removed", float(removedDegreesOfFreedom))
        self.addGlobalVariable("chain", float(chainLength))
        self.addGlobalVariable("dof", 0.0)
        self.addGlobalVariable("mvv", 0.0)
        self.addGlobalVariable("scale", 1.0)
        for k in range(1, chainLength + 1):
            self.addGlobalVariable(f"eta{k}", 0.0)
            self.addGlobalVariable(f"veta{k}", 0.0)
        weights = [weight / numMTS for weight in YOSHIDA_SUZUKI[numYoshidaSuzuki]] * numMTS

        self.addUpdateContextState()
        self.beginIfBlock("dof = 0")
        self.addComputeSum("dof", "1 - delta(m)")
        self.addComputeGlobal("dof", "dof - removed")
        self.endBlock()
        self._add_half_chain(chainLength, weights)
        self.addComputePerDof("v", "scale*v + 0.5*dt*f/m")
        self.addComputePerDof("x", "x + dt*v")
        self.addComputePerDof("v", "v + 0.5*dt*f/m")
        self._add_half_chain(chainLength, weights)
        self.addComputePerDof("v", "scale*v")

    def _add_half_chain(self, length: int, weights: list[float]) -> None:
        """Half a step of the chain; the factor for the particle velocities is left in `scale`."""
        self.addComputeSum("mvv", "m*v*v")
        self.addComputeGlobal("scale", "1")
        for weight in weights:
            for k in range(length, 0, -1):
                self._add_kick(k, length, weight)
            self.addComputeGlobal("scale", f"scale*exp(-{weight / 2!r}*dt*veta1)")
            self.addComputeGlobal("mvv", f"mvv*exp(-{weight!r}*dt*veta1)")
            for k in range(1, length + 1):
                self.addComputeGlobal(f"eta{k}", f"eta{k} + {weight / 2!r}*dt*veta{k}")
            for k in range(1, length + 1):
                self._add_kick(k, length, weight)

    def _add_kick(self, k: int, length: int, weight: float) -> None:
        """A quarter of a substep for the velocity of thermostat k, with the drag of the next one split around it."""
        push = (
            "frequency^2*(mvv/(dof*kT) - 1)"
            if k == 1
            else f"{'dof*' if k == 2 else ''}veta{k - 1}^2 - frequency^2"  # Q_{k−1}/Q_k is N_f for k = 2, else 1
        )
        drag = f"exp(-{weight / 8!r}*dt*veta{k + 1})" if k < length else "1"
        self.addComputeGlobal(f"veta{k}", f"drag*(drag*veta{k} + {weight / 4!r}*dt*push); drag={drag}; push={push}")

    def conservedFrom(self, totalEnergy: float) -> float:
        """The extended energy H' in kJ/mol; it jumps when the temperature is set anew."""
        value = self.getGlobalVariableByName
        kT, dof, frequency = value("kT"), value("dof"), value("frequency")
        chain = 0.0
        for k in range(1, int(value("chain")) + 1):
            copies = dof if k == 1 else 1.0
            chain += copies * kT * (0.5 * (value(f"veta{k}") / frequency) ** 2 + value(f"eta{k}"))
        return float(totalEnergy + chain)

    def removedDegreesOfFreedom(self, system: mm.System) -> int:
        """The number given at construction."""
        return int(self.getGlobalVariableByName("removed"))

    def parameters(self) -> dict[str, float]:
        """The numbers that define the dynamics, in MD units, by name."""
        names = {"collision_frequency": "frequency", "chain_length": "chain"}
        return {**super().parameters(), **{k: float(self.getGlobalVariableByName(v)) for k, v in names.items()}}
