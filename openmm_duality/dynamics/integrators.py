"""Learning dynamics as OpenMM integrators: velocity Verlet, Langevin and damped descent.

The duality that all of them share: the positions `q` are the trainable variables, the agent losses `H` are what they
descend, the inverse mass `1/M` is the step scale of the gradient, the velocity `v` is the momentum of the optimiser,
and friction, where there is any, is the damping of that momentum. The time step is the length of one update. The
equation of motion `M d²q/dt² = −∂H/∂q` is the learning rule without damping.

The integrators know nothing of losses: they run any `openmm.System` without constraints (`dynamics.running` refuses
constraints). Every one calls ``addUpdateContextState``, so barostats and ``CMMotionRemover`` act. A conserved quantity
is one only for forces that derive from the potential energy; the forces of the `agent` gradient do not.
"""

from __future__ import annotations

from typing import Any

import openmm as mm
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.units import BOLTZMANN, bare


def positive(value: Any, dimension: Any, name: str) -> float:
    """A quantity as a bare number in MD units, refused unless above zero."""
    number = bare(value, dimension, name)
    if not 0 < number < float("inf"):
        raise DualityError(f"{name}: expected a finite number above zero in {dimension}, got {value}")
    return number


class LearningIntegrator(mm.CustomIntegrator):  # type: ignore[misc]
    """What the integrators of learning dynamics have in common."""

    ensemble = "none"

    def conservedQuantity(self, context: mm.Context) -> float | None:
        """The quantity that exact dynamics would conserve, in kJ/mol; None if there is none.

        Parameters
        ----------
        context : openmm.Context
            The context that this integrator drives.
        """
        return self.conservedFrom(total_energy(context))

    def conservedFrom(self, totalEnergy: float) -> float | None:
        """The conserved quantity in kJ/mol, from the total energy of the same moment, in kJ/mol."""
        return None

    def getTemperature(self) -> float | None:
        """The temperature of the heat bath in K; None without one."""
        return None

    def removedDegreesOfFreedom(self, system: mm.System) -> int:
        """Degrees of freedom held at zero: the three of the centre of mass, if a ``CMMotionRemover`` acts."""
        return 3 if any(isinstance(force, mm.CMMotionRemover) for force in system.getForces()) else 0

    def degreesOfFreedom(self, system: mm.System) -> int:
        """Number of degrees of freedom that carry kinetic energy: 3 per massive particle, less the removed ones."""
        masses = (system.getParticleMass(i).value_in_unit(unit.dalton) for i in range(system.getNumParticles()))
        return int(3 * sum(mass > 0 for mass in masses)) - self.removedDegreesOfFreedom(system)

    def parameters(self) -> dict[str, float]:
        """The numbers that define the dynamics, in MD units, by name."""
        return {"timestep": float(self.getStepSize().value_in_unit(unit.picosecond))}


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

    def parameters(self) -> dict[str, float]:
        """The numbers that define the dynamics, in MD units, by name."""
        return {**super().parameters(), "temperature": self.getTemperature()}


class VerletLearningIntegrator(LearningIntegrator):
    """Velocity Verlet (NVE): learning without damping.

    `1/M` is the step scale of the gradient of the loss, `v` the momentum of the optimiser, and nothing damps it: what
    is descended from is kept as momentum, and the sum of loss and kinetic energy is conserved to second order in the
    step, if the forces are those of a potential.

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

    def conservedFrom(self, totalEnergy: float) -> float:
        """The total energy itself, in kJ/mol."""
        return totalEnergy

    def removedDegreesOfFreedom(self, system: mm.System) -> int:
        """Three: Verlet keeps the momentum of the centre of mass, which `simulate` starts at zero."""
        return 3


class LangevinLearningIntegrator(HeatBathIntegrator):
    """Langevin dynamics (NVT), the "middle" scheme: stochastic learning with damped momentum.

    `1/M` is the step scale of the gradient of the loss, `v` the momentum of the optimiser, `frictionCoeff` its
    damping (momentum is forgotten in the time ``1/frictionCoeff``), and the noise that goes with the damping keeps
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
    """

    def __init__(self, temperature: Any, frictionCoeff: Any, stepSize: Any) -> None:
        super().__init__(positive(stepSize, unit.picosecond, "stepSize"))
        self.addGlobalVariable("kT", BOLTZMANN * positive(temperature, unit.kelvin, "temperature"))
        self.addGlobalVariable("friction", positive(frictionCoeff, unit.picosecond**-1, "frictionCoeff"))
        self.addGlobalVariable("kept", 1.0)
        self.addGlobalVariable("noise", 0.0)
        self.addUpdateContextState()
        self.addComputeGlobal("kept", "exp(-friction*dt)")
        self.addComputeGlobal("noise", "sqrt(kT*(1 - kept*kept))")
        self.addComputePerDof("v", "v + dt*f/m")
        self.addComputePerDof("x", "x + 0.5*dt*v")
        self.addComputePerDof("v", "kept*v + noise*gaussian/sqrt(m)")
        self.addComputePerDof("x", "x + 0.5*dt*v")

    def parameters(self) -> dict[str, float]:
        """The numbers that define the dynamics, in MD units, by name."""
        return {**super().parameters(), "friction": float(self.getGlobalVariableByName("friction"))}


class DescentLearningIntegrator(LearningIntegrator):
    """Damped descent: learning with friction, which relaxes a structure into a minimum of the loss.

    The rule is gradient descent with a momentum average of time constant `memory` τ,

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
    memory : openmm.unit.Quantity or float
        The time constant τ of the momentum in ps.
    maximumDisplacement : openmm.unit.Quantity or float
        In nm.
    """

    ensemble = "descent"

    def __init__(self, stepSize: Any, memory: Any, maximumDisplacement: Any = 0.002) -> None:
        super().__init__(positive(stepSize, unit.picosecond, "stepSize"))
        self.addGlobalVariable("memory", positive(memory, unit.picosecond, "memory"))
        limit = positive(maximumDisplacement, unit.nanometer, "maximumDisplacement")
        self.addGlobalVariable("limit", limit)
        self.addGlobalVariable("kept", 1.0)
        self.addUpdateContextState()
        self.addComputeGlobal("kept", "exp(-dt/memory)")
        # the damped update is exact for a constant force; its end speed is that of plain descent, memory*f/m
        self.addComputePerDof("v", "kept*v + (1 - kept)*memory*f/m")
        self.addComputePerDof("v", "v*min(1, limit/(dt*max(speed, 1e-20))); speed=sqrt(dot(v, v))")
        self.addComputePerDof("x", "x + dt*v")

    def parameters(self) -> dict[str, float]:
        """The numbers that define the dynamics, in MD units, by name."""
        names = {"memory": "memory", "maximum_displacement": "limit"}
        return {**super().parameters(), **{k: float(self.getGlobalVariableByName(v)) for k, v in names.items()}}


def total_energy(context: mm.Context) -> float:
    """Potential and kinetic energy of a context, in kJ/mol."""
    state = context.getState(energy=True)
    energy = state.getPotentialEnergy() + state.getKineticEnergy()
    return float(energy.value_in_unit(unit.kilojoule_per_mole))
