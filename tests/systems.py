"""Losses and configurations that tests of several rooms share: random, physical in scale, and not water."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from openmm_duality.invariants.radial import Grid, RadialBasis, b_splines
from openmm_duality.losses import FORMS, AgentLosses
from openmm_duality.losses.model import levelled

FloatArray = npt.NDArray[np.float64]

CELL = np.diag([1.30, 1.25, 1.40])
TRICLINIC = np.array([[1.40, 0.0, 0.0], [0.25, 1.35, 0.0], [-0.20, 0.30, 1.30]])
SPECIES = ("Ar", "Kr", "Xe")


def random_losses(
    form: str = "quadratic",
    gradient: str = "collective",
    species: tuple[str, ...] = SPECIES,
    cutoff: float = 0.5,
    seed: int = 0,
    shortest: float = 0.12,
) -> AgentLosses:
    """Losses with random coefficients; under `collective` in the gauge u_AB = u_BA, as inference gives them."""
    rng = np.random.default_rng(seed)
    s, n_pair, n = len(species), 7, 4
    grid = Grid(cutoff, 100)
    distances = np.full((s, s), shortest)
    bases = []
    for size in (n_pair, n):
        knots = grid.spacing * np.round(np.linspace(shortest, cutoff, size + 1) / grid.spacing)
        coefficients = np.broadcast_to(b_splines(grid, knots), (s, s, size, grid.intervals + 3))
        bases.append(levelled(RadialBasis(grid, coefficients), distances))
    u = rng.normal(size=(s, s, n_pair)) * 10.0
    if gradient == "collective":
        u = 0.5 * (u + u.transpose(1, 0, 2))
    weights = {}
    for rank in FORMS[form].ranks:
        w = rng.normal(size=(s, s * n, s * n))
        weights[rank] = w + w.transpose(0, 2, 1)
    return AgentLosses(
        species=species,
        masses=np.arange(1, s + 1) * 20.0,
        form=FORMS[form],
        gradient=gradient,
        pair_basis=bases[0],
        basis=bases[1],
        pair_coefficients=u,
        weights=weights,
        shortest=distances,
        core_strength=np.full((s, s), 50.0),
    )


def random_positions(n_atoms: int, cell: FloatArray, seed: int = 0, least: float = 0.15) -> FloatArray:
    """Positions in a cell with no two atoms closer than `least` nm, images included."""
    from openmm_duality.reference.cells import minimum_image

    rng = np.random.default_rng(seed)
    placed: list[FloatArray] = []
    while len(placed) < n_atoms:
        trial = rng.uniform(size=3) @ cell
        if all(np.linalg.norm(minimum_image(trial - other, cell)) > least for other in placed):
            placed.append(trial)
    return np.array(placed)


def random_species(n_atoms: int, seed: int = 0, species: tuple[str, ...] = SPECIES) -> tuple[str, ...]:
    """A species for every atom, each of them present."""
    rng = np.random.default_rng(seed)
    return (*species, *(str(s) for s in rng.choice(species, n_atoms - len(species))))


def with_gradient(losses: AgentLosses, gradient: str) -> AgentLosses:
    """The same losses descended the other way."""
    return replace(losses, gradient=gradient)
