"""Energy conserving descent: learning without friction that slows down only near a target of the loss."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from openmm import unit

from openmm_duality.dynamics.integrators import LearningIntegrator, positive
from openmm_duality.errors import DualityError
from openmm_duality.units import bare

_LARGEST_ENERGY = 1e12  # kJ/mol
_LARGEST_CONCENTRATION = 100.0
_LEAST = 1e-10  # of 1 − (V/B)^2η, so that dynamics that begin at rest begin at all
_LARGEST_TURN = 10.0  # exponent of a turn towards the gradient; beyond it the direction is that of the gradient
_NORM = 8  # of the displacements of the atoms, in the place of the largest, which no sum gives


class EnergyConservingDescentLearningIntegrator(LearningIntegrator):
    """Energy conserving descent: learning without friction that cannot come to rest above its target energy.

    Let V = U − U* be the loss above the target U* and B the value of V at which the dynamics is at rest (at the start,
    without initial velocities). The momentum of the optimiser has a limit that falls with the loss,

        Σ m v² = V (1 − (V/B)^2η),

    so it is zero only at V = B and at the target. The direction u of the motion (in mass-weighted coordinates of path
    length s) turns towards the gradient g of V,

        du/ds = −(η/2V) (1 + w²)/(1 − w²) (g − u (u·g)),    w = (V/B)^η.

    In learning: nothing damps the momentum for good. For η = 1 the rule is

        d²q/dt² = −½ (1 + w²) (1/M) ∂V/∂q + (d ln V/dt) dq/dt,

    Newton's equation at the start and half of its force at the end, with a damping that is the relative rate of
    descent: it brakes while the loss falls and pushes while it rises. This is the Born–Infeld dynamics of De Luca and
    Silverstein (ICML 2022, PMLR 162, 4918), with the Hamiltonian √(V (V + Σ p²/m)) = B. Larger η (`concentration`, as
    in De Luca, Gatti and Silverstein, arXiv:2306.00352) follow the trajectories of the same Hamiltonian with B (V/B)^η
    for V, in another time. Chaotic dynamics visits configurations about in proportion to V^(−ηn/2), n the number of
    degrees of freedom, as if at the temperature 2V/(k_B η n), which falls with V. Above a minimum that is ΔV above the
    target, about ΔV/(η − 1) is left.

    Local minima above the target are left again; the lowest configuration on the way has to be recorded, and relaxed
    where its exact minimum is wanted. A step that ends at or below the target ends the motion there. Dynamics that
    begin at rest in a minimum stay there: give them velocities. The length of the momentum conserves the energy
    exactly; the trajectory is of second order in the step, with one force evaluation per step.

    Parameters
    ----------
    stepSize : openmm.unit.Quantity or float
        The time step in ps: about that of molecular dynamics.
    targetEnergy : openmm.unit.Quantity or float
        U* in kJ/mol, below what is to be found. The lower, the longer the search and the less it is confined.
    concentration : float
        η, at least 1: the published dynamics is 1, which in many dimensions hardly descends.
    maximumDisplacement : openmm.unit.Quantity or float
        In nm: a step in which an atom would move farther is shortened for all atoms alike, which keeps the trajectory.

    Raises
    ------
    DualityError
        If an argument is out of range.
    """

    ensemble = "descent"
    needs_potential = True
    recorded = MappingProxyType(
        {"target_energy": "target", "concentration": "concentration", "maximum_displacement": "limit"}
    )

    def __init__(
        self, stepSize: Any, targetEnergy: Any, concentration: float = 4.0, maximumDisplacement: Any = 0.01
    ) -> None:
        target = bare(targetEnergy, unit.kilojoule_per_mole, "targetEnergy")
        if not abs(target) <= _LARGEST_ENERGY:
            raise DualityError(f"targetEnergy: expected at most {_LARGEST_ENERGY:g} kJ/mol in size, got {targetEnergy}")
        if not 1.0 <= concentration <= _LARGEST_CONCENTRATION:
            raise DualityError(f"concentration: expected 1 to {_LARGEST_CONCENTRATION:g}, got {concentration}")
        super().__init__(positive(stepSize, unit.picosecond, "stepSize"))
        self.addGlobalVariable("target", target)
        self.addGlobalVariable("concentration", float(concentration))
        self.addGlobalVariable("limit", positive(maximumDisplacement, unit.nanometer, "maximumDisplacement"))
        for name in (
            *("bound", "excess", "slowness", "moving", "speed", "path", "longest"),
            *("mvv", "ffm", "fv", "slope", "cosine", "turn", "kept", "gained"),
        ):
            self.addGlobalVariable(name, 0.0)
        self.addUpdateContextState()
        self.beginIfBlock("excess <= 0")  # else it is that of the end of the last step: OpenMM would compute it anew
        self._add_evaluation()
        self.endBlock()
        self._add_first_bound()
        self.beginIfBlock("excess > 0")
        self._add_speed_and_slope()
        gain = "-0.25*dt*cosine*slope*(1 - (2*concentration + 1)*slowness)"  # of speed, within half of the step
        self.addComputeGlobal("path", f"dt*max(0.5*speed, speed + {gain})")
        self._add_half_turn()
        self._add_displacement()
        self._add_evaluation()
        self.beginIfBlock("excess > 0")
        self._add_speed_and_slope()
        self._add_half_turn()
        self.addComputeSum("mvv", "m*v*v")
        self.addComputePerDof("v", "v*speed/sqrt(mvv)")
        self.endBlock()
        self.endBlock()
        self.beginIfBlock("excess <= 0")
        self.addComputePerDof("v", "0")
        self.endBlock()

    def conservedFrom(self, potentialEnergy: float, kineticEnergy: float) -> float | None:
        """The energy U* + B in kJ/mol to which the dynamics can climb; None at or below the target."""
        excess = potentialEnergy - self.getGlobalVariableByName("target")
        if excess <= 0.0:
            return None
        slowness = max(1.0 - 2.0 * kineticEnergy / excess, _LEAST)
        bound = excess * slowness ** (-0.5 / self.getGlobalVariableByName("concentration"))
        return float(potentialEnergy - excess + bound)

    def _add_evaluation(self) -> None:
        """V and the squared length of its gradient, in one evaluation."""
        self.addComputeSum("ffm", "select(m, f*f/(m + delta(m)), 0)")
        self.addComputeGlobal("excess", "energy - target")

    def _add_first_bound(self) -> None:
        """B of the start; velocities with more kinetic energy than nearly V/2 are shortened to it."""
        self.beginIfBlock("bound = 0")
        self.addComputeSum("mvv", "m*v*v")
        self.addComputeGlobal(
            "bound",
            f"excess*max(1 - mvv/excess, {_LEAST!r})^(-0.5/concentration)",
        )
        self.endBlock()

    def _add_speed_and_slope(self) -> None:
        """Length of the mass-weighted velocity, that of the gradient and the cosine of velocity and force."""
        self.addComputeGlobal("slowness", "min(1, excess/bound)^(2*concentration)")
        self.addComputeGlobal("moving", f"max(1 - slowness, {_LEAST!r})")
        self.addComputeGlobal("speed", "sqrt(excess*moving)")
        self.addComputeSum("mvv", "m*v*v")
        self.addComputeSum("fv", "f*v")
        self.addComputeGlobal("slope", "sqrt(max(ffm, 1e-30))")
        self.addComputeGlobal("mvv", "sqrt(mvv)")
        self.addComputeGlobal("cosine", "select(mvv, max(-1, min(1, fv/(slope*max(mvv, 1e-30)))), 1)")

    def _add_half_turn(self) -> None:
        """Turn the direction towards −g along half of the path, exactly for a constant gradient; its length is lost."""
        rate = "0.5*concentration*(1 + slowness)/(moving*excess)"
        self.addComputeGlobal("turn", f"exp(-min(0.5*path*slope*{rate}, {_LARGEST_TURN!r}))")
        self.addComputeGlobal("kept", "select(mvv, 2*turn/max(mvv, 1e-30), 0)")
        self.addComputeGlobal("gained", "(1 - turn)*(1 + turn + cosine*(1 - turn))/slope")
        self.addComputePerDof("v", "kept*v + gained*f/m")

    def _add_displacement(self) -> None:
        """Move along the direction, all atoms less far where one of them would move beyond the limit."""
        self.addComputeSum("mvv", "m*v*v")
        self.addComputeSum("longest", f"dot(v, v)^{_NORM // 2}/3")  # every component adds the same
        self.addComputeGlobal("longest", f"path*longest^{1 / _NORM!r}/sqrt(mvv)")
        self.addComputeGlobal("path", "path*min(1, limit/max(longest, 1e-30))")
        self.addComputePerDof("x", "x + path*v/sqrt(mvv)")
