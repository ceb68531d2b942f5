"""Atoms much too close, or at one place: losses and forces are finite and repulsive by every back end and platform."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.invariants.neighbours import CLOSEST
from openmm_duality.losses import FORMS, GRADIENTS, evaluate_agents
from openmm_duality.lowering import lower
from openmm_duality.lowering.fused.checks import LARGEST_FORCE
from openmm_duality.lowering.fused.losses import FusedLosses
from tests.lowering.platforms import BACKENDS, context_of, energy_and_forces
from tests.systems import CELL, SPECIES, random_losses

EVERY_BACKEND = [*BACKENDS, *(f"fused-{name}" for name in BACKENDS)]
DISTANCES = (0.0, 1e-9, 1e-3, 0.006, 0.02)
NAMES = (*SPECIES[:2], SPECIES[1])


def at(distance):
    """Two atoms at a distance, not along an axis, and one that is further away."""
    axis = np.array([0.6, -0.48, 0.64])
    first = np.array([0.4, 0.3, 0.5])
    return np.array([first, first + distance * axis, first + 0.27 * axis[::-1]]), axis


def strong(form, gradient):
    """Losses with cores that are as hard as those of inferred models."""
    losses = random_losses(form, gradient)
    return replace(losses, core_strength=np.full_like(losses.core_strength, 1e4))


def check(losses, distance, energy, forces, tolerance):
    """Compare with the evaluator, as far as forces are not bounded."""
    positions, axis = at(distance)
    expected = evaluate_agents(losses, positions, NAMES, CELL)
    assert energy == pytest.approx(expected.energy, rel=tolerance)
    assert np.isfinite(forces).all()
    if distance > CLOSEST * losses.cutoff:  # else there is no direction
        assert forces[0] @ axis < -1e7
        assert forces[1] @ axis > 1e7
        bounded = np.clip(expected.forces, -LARGEST_FORCE, LARGEST_FORCE)
        assert np.abs(forces - bounded).max() < tolerance * np.abs(bounded).max()


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize(
    ("platform", "precision", "arithmetic"),
    [("Reference", None, "double"), ("OpenCL", "double", "double"), ("OpenCL", "mixed", "single")],
)
def test_energies_are_finite_and_forces_repulsive_at_any_distance(platform, precision, arithmetic, backend):
    losses = strong("coupled", "collective")
    force = lower(losses, NAMES, backend=backend, precision=arithmetic)
    context = context_of(force, at(0.2)[0], CELL, platform, precision)
    for distance in DISTANCES:
        context.setPositions(at(distance)[0])
        check(losses, distance, *energy_and_forces(context), 1e-9 if arithmetic == "double" else 1e-4)


@pytest.mark.parametrize(("precision", "tolerance"), [("double", 1e-9), ("single", 1e-4)])
@pytest.mark.parametrize("form", [name for name in FORMS if name != "coupled"])
def test_the_fused_kernel_of_every_form_is_the_evaluator_there(form, precision, tolerance):
    losses = strong(form, "collective")
    fused = FusedLosses(losses, NAMES, precision)
    for distance in DISTANCES:
        check(losses, distance, *fused(at(distance)[0], CELL), tolerance)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_the_force_of_the_core_is_constant_below_its_floor(gradient):
    losses = strong("pair", gradient)
    repulsion = []
    for distance in (0.0005, 0.002, 0.004):
        positions, axis = at(distance)
        repulsion.append(evaluate_agents(losses, positions, NAMES, CELL).forces[1] @ axis)
    assert min(repulsion) > 1e7
    np.testing.assert_allclose(repulsion, repulsion[0], rtol=1e-3)
