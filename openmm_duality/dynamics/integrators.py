"""Learning dynamics as OpenMM integrators: velocity Verlet, Langevin, Nosé–Hoover chains and damped descent.

The duality that all of them share: the positions `q` are the trainable variables, the agent losses `H` are what they
descend, the inverse mass `1/M` is the step scale of the gradient, the velocity `v` is the momentum of the optimiser,
and friction, where there is any, is the damping of that momentum. The time step is the length of one update. The
equation of motion `M d²q/dt² = −∂H/∂q` is the learning rule without damping.

The integrators are independent of the losses: they run any `openmm.System` without constraints (`dynamics.running`
refuses constraints). Every one calls ``addUpdateContextState``, so barostats and ``CMMotionRemover`` act. The conserved
quantities are conserved only by forces that derive from the potential energy. The slope of one under the gradients
`agent` and `mutual` is the power that the forces pump into the motion.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import openmm as mm
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.units import BOLTZMANN, bare, masses_of

_MOST = 1e9  # of times, rates, temperatures and lengths in MD units

# Weights of the Yoshida–Suzuki factorisations (Yoshida 1990, Suzuki 1991); each set sums to one.
_OUTER3, _OUTER5 = 1.0 / (2.0 - 2.0 ** (1 / 3)), 1.0 / (4.0 - 4.0 ** (1 / 3))
YOSHIDA_SUZUKI = {
    1: (1.0,),
    3: (_OUTER3, 1.0 - 2.0 * _OUTER3, _OUTER3),
    5: (_OUTER5, _OUTER5, 1.0 - 4.0 * _OUTER5, _OUTER5, _OUTER5),
}


def positive(value: Any, dimension: Any, name: str) -> float:
    """A quantity as a bare number in MD units, refused unless above zero and at most 1e9."""
    number = bare(value, dimension, name)
    if not 0 < number <= _MOST:
        raise DualityError(f"{name}: expected a number above zero and up to {_MOST:g} in {dimension}, got {value}")
    return number


class LearningIntegrator(mm.CustomIntegrator):  # type: ignore[misc]
    """Base class of the integrators of learning dynamics."""

    ensemble = "none"
    needs_potential = False  # whether the dynamics is meaningless for forces without a potential energy
    recorded: Mapping[str, str] = MappingProxyType({})  # global variables by the names they have in a run record

    def conservedQuantity(self, context: mm.Context) -> float | None:
        """The quantity that exact dynamics would conserve, in kJ/mol; None if there is none.

        Parameters
        ----------
        context : openmm.Context
            The context that this integrator drives.
        """
        state = context.getState(energy=True)
        energies = (state.getPotentialEnergy(), state.getKineticEnergy())
        return self.conservedFrom(*(float(energy.value_in_unit(unit.kilojoule_per_mole)) for energy in energies))

    def conservedFrom(self, potentialEnergy: float, kineticEnergy: float) -> float | None:
        """The conserved quantity in kJ/mol, from the energies of the same state, in kJ/mol."""
        return None

    def getTemperature(self) -> float | None:
        """The temperature of the heat bath in K; None without one."""
        return None

    def removedDegreesOfFreedom(self, system: mm.System) -> int:
        """Number of degrees of freedom without motion: three (centre of mass) if a ``CMMotionRemover`` acts."""
        return 3 if any(isinstance(force, mm.CMMotionRemover) for force in system.getForces()) else 0

    def degreesOfFreedom(self, system: mm.System) -> int:
        """Number of degrees of freedom that carry kinetic energy: 3 per massive particle, less the removed ones."""
        return 3 * int((masses_of(system) > 0).sum()) - self.removedDegreesOfFreedom(system)

    def parameters(self) -> dict[str, float]:
        """The numbers that define the dynamics, in MD units, by name."""
        temperature = self.getTemperature()
        return {
            "timestep": float(self.getStepSize().value_in_unit(unit.picosecond)),
            **({} if temperature is None else {"temperature": temperature}),
            **{name: float(self.getGlobalVariableByName(variable)) for name, variable in self.recorded.items()},
        }


class HeatBathIntegrator(LearningIntegrator):
    """A learning integrator with a heat bath, whose temperature can be set."""

    ensemble = "NVT"

    def getTemperature(self) -> float:
        """The temperature of the heat bath in K."""
        return float(self.getGlobalVariableByName("kT")) / BOLTZMANN

    def setTemperature(self, temperature: Any) -> None:
        """Set the temperature of the heat bath; velocities follow by the dynamics.

        Parameters
        ----------
        temperature : openmm.unit.Quantity or float
            In K.
        """
        self.setGlobalVariableByName("kT", BOLTZMANN * positive(temperature, unit.kelvin, "temperature"))


class VerletLearningIntegrator(LearningIntegrator):
    """Velocity Verlet (NVE): learning without damping.

    `1/M` is the step scale of the gradient of the loss, `v` the momentum of the optimiser, and nothing damps it: the
    loss descended becomes kinetic energy, and their sum is conserved to second order in the step, if the forces are
    those of a potential.

    Parameters
    ----------
    stepSize : openmm.unit.Quantity or float
        The time step in ps.
    """

    ensemble = "NVE"

    def __init__(self, stepSize: Any) -> None:
        super().__init__(positive(stepSize, unit.picosecond, "stepSize"))
        self.addUpdateContextState()
        self.addComputePerDof("v", "v + 0.5*dt*f/m")
        self.addComputePerDof("x", "x + dt*v")
        self.addComputePerDof("v", "v + 0.5*dt*f/m")

    def conservedFrom(self, potentialEnergy: float, kineticEnergy: float) -> float:
        """The total energy in kJ/mol."""
        return potentialEnergy + kineticEnergy

    def removedDegreesOfFreedom(self, system: mm.System) -> int:
        """Three, as Verlet keeps the momentum of the centre of mass, which is zero at the start; 0 if atoms are fixed.

        Fixed are particles without a mass that are no virtual sites.
        """
        massless = np.flatnonzero(masses_of(system) == 0.0).tolist()
        return 3 if all(map(system.isVirtualSite, massless)) else 0


class LangevinLearningIntegrator(HeatBathIntegrator):
    """Langevin dynamics (NVT), the "middle" scheme: stochastic learning with damped momentum.

    `1/M` is the step scale of the gradient of the loss, `v` the momentum of the optimiser, `frictionCoeff` its
    damping (momentum decays in the time ``1/frictionCoeff``), and the noise that goes with the damping keeps
    the positions at the given temperature instead of in a minimum of the loss. The velocities are those of the
    half-step, at which the kinetic energy is canonical. Zhang et al., J. Phys. Chem. A 123, 6056 (2019).

    A ``CMMotionRemover`` acts at the beginning of a step and the noise after it. So it takes three degrees of freedom
    away only as far as one step of noise gives nothing back: at frequency 1 the centre of mass holds
    1 − exp(−2 `frictionCoeff` `stepSize`) of its canonical 3/2 kT, which is 1 % at 10/ps and 0.5 fs. The internal
    motion stays canonical.

    Parameters
    ----------
    temperature : openmm.unit.Quantity or float
        In K.
    frictionCoeff : openmm.unit.Quantity or float
        In 1/ps.
    stepSize : openmm.unit.Quantity or float
        The time step in ps.
    recordWork : bool
        Whether to sum the work of the forces on the particles, so that there is a conserved quantity: the energy
        without the heat that was exchanged with the bath and what a ``CMMotionRemover`` took. It costs two sums over
        all degrees of freedom in every step, and starts anew with velocities that are set after the first step.
    """

    recorded = MappingProxyType({"friction": "friction"})

    def __init__(self, temperature: Any, frictionCoeff: Any, stepSize: Any, recordWork: bool = False) -> None:
        super().__init__(positive(stepSize, unit.picosecond, "stepSize"))
        self._records_work = recordWork
        self.addGlobalVariable("kT", BOLTZMANN * positive(temperature, unit.kelvin, "temperature"))
        self.addGlobalVariable("friction", positive(frictionCoeff, unit.picosecond**-1, "frictionCoeff"))
        self.addGlobalVariable("decay", 1.0)
        self.addGlobalVariable("noise", 0.0)
        self.addUpdateContextState()
        self.addComputeGlobal("decay", "exp(-friction*dt)")
        self.addComputeGlobal("noise", "sqrt(kT*(1 - decay*decay))")
        if recordWork:
            self._begin_work()
        self.addComputePerDof("v", "v + dt*f/m")
        self.addComputePerDof("x", "x + 0.5*dt*v")
        self.addComputePerDof("v", "decay*v + noise*gaussian/sqrt(m)")
        self.addComputePerDof("x", "x + 0.5*dt*v")
        if recordWork:
            self._add_work("half_work", 0.5)  # the forces are those of the next step too
            self.addComputeSum("kinetic", "0.5*m*v*v")

    def _begin_work(self) -> None:
        """Add the work of the forces in this step to the kinetic energy of the start."""
        for name in ("begun", "step_work", "half_work", "work", "kinetic"):
            self.addGlobalVariable(name, 0.0)
        self.beginIfBlock("begun = 0")
        self.addComputeSum("work", "0.5*m*v*v")
        self.addComputeGlobal("begun", "1")
        self.endBlock()
        self._add_work("step_work", 1.0)
        self.addComputeGlobal("work", "work + step_work")

    def _add_work(self, variable: str, share: float) -> None:
        """The kinetic energy that the forces give in a share of a step; particles without a mass do not move."""
        self.addComputeSum(variable, f"{share}*dt*f*(v + {0.5 * share}*dt*select(m, f/m, 0))")

    def conservedFrom(self, potentialEnergy: float, kineticEnergy: float) -> float | None:
        """The energy that forces and start have given in kJ/mol; None unless the work is recorded."""
        if not self._records_work:
            return None
        value = self.getGlobalVariableByName
        total = potentialEnergy + kineticEnergy
        return float(total - value("kinetic") + value("work") + value("half_work"))

    def parameters(self) -> dict[str, float]:
        """The numbers that define the dynamics, in MD units, by name, and whether the work is recorded."""
        return super().parameters() | ({"record_work": 1.0} if self._records_work else {})


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

    recorded = MappingProxyType({"collision_frequency": "frequency", "chain_length": "chain"})

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
        self.addComputeSum("mvv", "m*v*v")
        self._add_half_chain(chainLength, weights)
        self.addComputePerDof("v", "scale*v + 0.5*dt*f/m")
        self.addComputePerDof("x", "x + dt*v")
        # the second half of the kick is taken twice, which is faster than a turn over all velocities in between
        self.addComputeSum("mvv", "m*(v + 0.5*dt*select(m, f/m, 0))^2")
        self._add_half_chain(chainLength, weights)
        self.addComputePerDof("v", "scale*(v + 0.5*dt*f/m)")

    def _add_half_chain(self, length: int, weights: list[float]) -> None:
        """Half a step of the chain, given Σ m v² as `mvv`; the factor for the velocities is left in `scale`."""
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

    def conservedFrom(self, potentialEnergy: float, kineticEnergy: float) -> float:
        """The extended energy H' in kJ/mol; it jumps when the temperature is set anew."""
        value = self.getGlobalVariableByName
        kT, dof, frequency = value("kT"), value("dof"), value("frequency")
        chain = 0.0
        for k in range(1, int(value("chain")) + 1):
            copies = dof if k == 1 else 1.0
            chain += copies * kT * (0.5 * (value(f"veta{k}") / frequency) ** 2 + value(f"eta{k}"))
        return float(potentialEnergy + kineticEnergy + chain)

    def removedDegreesOfFreedom(self, system: mm.System) -> int:
        """The number given at construction."""
        return int(self.getGlobalVariableByName("removed"))


class DescentLearningIntegrator(LearningIntegrator):
    """Damped descent: learning with friction, which relaxes a structure into a minimum of the loss.

    The rule is gradient descent with a momentum average of time constant `momentumTime` τ,

        d²q/dt² = −(γ/τ) ∂H/∂q − (1/τ) dq/dt,    γ/τ = 1/M,

    so γ = τ/M is the learning rate, `v` the momentum and 1/τ its damping. Newton's equation is the limit τ → ∞ at
    fixed γ/τ, plain gradient descent (dq/dt = −γ ∂H/∂q) that of τ → 0 at fixed γ. No atom moves farther than
    `maximumDisplacement` in a step: a faster one has its velocity cut to that length, direction kept, so that a bad
    start with large but finite forces is relaxed and not thrown apart (OpenMM's GPU platforms hold forces only up to
    2·10⁹ kJ/mol/nm; beyond, relax on Reference or CPU).

    Parameters
    ----------
    stepSize : openmm.unit.Quantity or float
        The time step in ps.
    momentumTime : openmm.unit.Quantity or float
        The time constant τ of the momentum in ps.
    maximumDisplacement : openmm.unit.Quantity or float
        In nm.
    """

    ensemble = "descent"
    recorded = MappingProxyType({"momentum_time": "tau", "maximum_displacement": "limit"})

    def __init__(self, stepSize: Any, momentumTime: Any, maximumDisplacement: Any = 0.002) -> None:
        super().__init__(positive(stepSize, unit.picosecond, "stepSize"))
        self.addGlobalVariable("tau", positive(momentumTime, unit.picosecond, "momentumTime"))
        self.addGlobalVariable("limit", positive(maximumDisplacement, unit.nanometer, "maximumDisplacement"))
        self.addGlobalVariable("decay", 1.0)
        self.addUpdateContextState()
        self.addComputeGlobal("decay", "exp(-dt/tau)")
        # the damped update is exact for a constant force; its end speed is that of plain descent, tau*f/m
        self.addComputePerDof("v", "decay*v + (1 - decay)*tau*f/m")
        self.addComputePerDof("v", "v*min(1, limit/(dt*max(speed, 1e-20))); speed=sqrt(dot(v, v))")
        self.addComputePerDof("x", "x + dt*v")
