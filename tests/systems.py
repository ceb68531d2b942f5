"""Losses and configurations that tests of several rooms share: random, physical in scale, and not water."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from openmm_duality.geometry.cells import supercell
from openmm_duality.inference.equations.channel_selection import choose_channels
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.own_columns import SMALL
from openmm_duality.invariants import contractions
from openmm_duality.invariants.channels import Channels
from openmm_duality.invariants.radial import Grid, RadialBasis, b_splines
from openmm_duality.losses import FORMS, GRADIENTS, AgentLosses, evaluate_agents
from openmm_duality.losses.coefficients import Coefficients, combine
from openmm_duality.losses.cores import levelled
from openmm_duality.losses.forms import form_of
from openmm_duality.reference.frames import Frames
from openmm_duality.units import stress_from_virial

FloatArray = npt.NDArray[np.float64]

CELL = np.diag([1.30, 1.25, 1.40])
TRICLINIC = np.array([[1.40, 0.0, 0.0], [0.25, 1.35, 0.0], [-0.20, 0.30, 1.30]])
SPECIES = ("Ar", "Kr", "Xe")

# narrow cells, with two atoms in each: the cutoff of `random_losses` is two to three times their width
NARROW = {
    "fcc": 0.28 * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]),
    "bcc": 0.2 * np.array([[-1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [1.0, 1.0, -1.0]]),
    "skewed": np.array([[0.25, 0.0, 0.0], [0.20, 0.24, 0.0], [-0.19, 0.20, 0.26]]),
    "chain": np.diag([0.22, 0.48, 0.52]),
}


def narrow_positions(cell: FloatArray) -> FloatArray:
    """Two atoms in a narrow cell, off the symmetric sites."""
    return np.array([[0.02, -0.01, 0.03], [0.53, 0.46, 0.52]]) @ cell


# every rank of contraction and of coupling, alone and all together
RANKED = {
    **{f"moment, rank {rank}": form_of("moment", [rank]) for rank in range(4)},
    "moment, ranks 0 to 3": form_of("moment", range(4)),
    **{f"coupled, rank {rank}": form_of("coupled", [0], [rank]) for rank in range(4)},
    "coupled, ranks 0 to 3": form_of("coupled", range(4), range(4)),
    **{f"channels, ranks 0 and {rank}": form_of("channels", [0, rank]) for rank in range(1, 4)},
}


def laws(forms: Iterable[str]) -> list[tuple[str, str]]:
    """Forms, names of `FORMS` or `RANKED`, each with every gradient."""
    return [(form, g) for form in forms for g in GRADIENTS]


def quick_laws(forms: Iterable[str]) -> list[tuple[str, str]]:
    """The same without channels under `mutual`, which take longest to compile."""
    every = FORMS | RANKED
    return [(form, g) for form, g in laws(forms) if not (every[form].channels and g == "mutual")]


def covering(forms: Iterable[str], *choices: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Forms, each with every gradient, and one of every other choice in turn: every form and gradient meets each.

    A choice of several values is a tuple, whose values follow each other.
    """
    found = []
    for f, form in enumerate(forms):
        for g, gradient in enumerate(GRADIENTS):
            chosen = [choice[(f + g) % len(choice)] for choice in choices]
            values = [value if isinstance(value, tuple) else (value,) for value in chosen]
            found.append((form, gradient, *itertools.chain.from_iterable(values)))
    return found


def alternated(forms: Iterable[str]) -> list[tuple[str, str]]:
    """Forms, each with one gradient, the gradients in turn; channels not with `mutual`, as `quick_laws`."""
    gradients, every = list(GRADIENTS), FORMS | RANKED
    return [(form, gradients[k % (2 if every[form].channels else 3)]) for k, form in enumerate(forms)]


def random_losses(
    form: str = "quadratic",
    gradient: str = "collective",
    species: tuple[str, ...] = SPECIES,
    cutoff: float = 0.5,
    seed: int = 0,
    shortest: float = 0.12,
) -> AgentLosses:
    """Losses with random coefficients, in the gauge in which inference gives them.

    The form is a name of `FORMS` or `RANKED`.
    """
    chosen = (FORMS | RANKED)[form]
    rng = np.random.default_rng(seed)
    s, n_pair, n = len(species), 7, 4
    grid = Grid(cutoff, 100)
    distances = np.full((s, s), shortest)
    bases = []
    n_coarse = 2 if chosen.coupled else 0
    for size in (n_pair, n, n_coarse):
        knots = grid.spacing * np.round(np.linspace(shortest, cutoff, size + 1) / grid.spacing)
        functions = b_splines(grid, knots) if size else np.empty((0, grid.intervals + 3))
        coefficients = np.broadcast_to(functions, (s, s, size, grid.intervals + 3))
        bases.append(levelled(RadialBasis(grid, coefficients), distances, species))
    q = contractions.count_invariants(s * n_coarse, chosen.coupled)

    def coefficients() -> Coefficients:
        u = rng.normal(size=(s, s, n_pair)) * 10.0
        weights = {}
        for rank in chosen.ranks:
            w = rng.normal(size=(s, s * n, s * n))
            weights[rank] = w + w.transpose(0, 2, 1)
        c = rng.normal(size=(s, q, q))
        return Coefficients(u, weights, c + c.transpose(0, 2, 1), ())

    first = coefficients()
    channels = tuple(random_channels(chosen.channels, s * n, rng) for _ in species) if chosen.channels else ()
    first, own = (
        replace(one, channel_weights=tuple(rng.normal(size=len(mine.invariants)) for mine in channels))
        for one in (first, coefficients())
    )
    return AgentLosses(
        species=species,
        masses=np.arange(1, s + 1) * 20.0,
        form=chosen,
        gradient=gradient,
        pair_basis=bases[0],
        basis=bases[1],
        coarse=bases[2],
        **in_gauge(first, own, gradient).coefficient_fields(),
        shortest=distances,
        contacts=distances,
        core_strength=np.full((s, s), 50.0),
        wall_strength=np.full((s, s), 2000.0),
        channels=channels,
    )


def in_gauge(coefficients: Coefficients, own: Coefficients, gradient: str) -> Coefficients:
    """Coefficients as inference gives them: u_AB = u_BA in a shared part, u_AB = -u_BA in an own part beside it."""
    if gradient == "agent":
        return coefficients
    u, du = coefficients.pair_coefficients, own.pair_coefficients
    own = replace(own, pair_coefficients=0.5 * (du - du.transpose(1, 0, 2)))
    shared = replace(coefficients, pair_coefficients=0.5 * (u + u.transpose(1, 0, 2)))
    return replace(shared, own=own if gradient == "mutual" else None)


def with_small_own_part(losses: AgentLosses) -> AgentLosses:
    """The losses with an own part that has only the columns which inference gives it by default."""
    known = replace(losses, metadata={"settings": {"own_part": SMALL}, "regularisation": [{}]})
    layout = Design.of(known).layout
    return replace(known, **layout.unpack(layout.pack(known)))


def random_channels(ranks: tuple[int, ...], width: int, rng: np.random.Generator) -> Channels:
    """Channels and invariants of all orders for random covariances of `width` moments of a rank."""
    covariances = {}
    for rank in ranks:
        axes = np.linalg.qr(rng.normal(size=(width, width)))[0]
        covariances[rank] = (axes * np.geomspace(1.0, 1e-3, width)) @ axes.T * (2.0 - 0.3 * rank)
    return choose_channels(covariances, rng.normal(size=width), 4, (20, 30, 30))


def random_positions(n_atoms: int, cell: FloatArray, seed: int = 0, least: float = 0.15) -> FloatArray:
    """Positions in a cell with no two atoms closer than `least` nm, images included."""
    from openmm_duality.geometry.cells import minimum_image

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
    """The same losses descended the other way; under `mutual` without an own part."""
    own = combine(lambda arrays: 0.0 * arrays[0], [replace(losses, own=None)]) if gradient == "mutual" else None
    return replace(losses, gradient=gradient, own=own)


def random_frames(
    n_frames: int, n_atoms: int = 30, species: tuple[str, ...] = SPECIES[:2], seed: int = 0, least: float = 0.15
) -> Frames:
    """Unrelated configurations of one composition in `CELL`, without forces."""
    names = random_species(n_atoms, seed=99, species=species)
    positions = np.array([random_positions(n_atoms, CELL, seed=1000 * seed + t, least=least) for t in range(n_frames)])
    return Frames(
        species=names,
        masses=np.array([20.0 * (1 + SPECIES.index(name)) for name in names]),
        positions=positions,
        times=np.zeros(n_frames),
        steps=np.arange(n_frames),
        cells=np.tile(CELL, (n_frames, 1, 1)),
        source=("made by a test",),
    )


def narrow_frames(n_frames: int, cell: FloatArray, seed: int = 0) -> Frames:
    """Two atoms in a narrow cell that is strained, moved at random from frame to frame."""
    rng = np.random.default_rng(seed)
    cells = cell @ (np.eye(3) + rng.uniform(-0.1, 0.1, size=(n_frames, 3, 3)))
    moved = rng.uniform(-0.03, 0.03, size=(n_frames, 2, 3))
    return Frames(
        species=SPECIES[:2],
        masses=np.array([20.0, 40.0]),
        positions=np.array([narrow_positions(one) + move for one, move in zip(cells, moved, strict=True)]),
        times=np.zeros(n_frames),
        steps=np.arange(n_frames),
        cells=cells,
        source=("made by a test",),
    )


def repeated(frames: Frames, n: tuple[int, int, int]) -> Frames:
    """Supercells of all frames, without forces."""
    copies = [supercell(frames.positions[t], frames.species, frames.cell(t), n) for t in range(len(frames))]
    return replace(
        frames,
        species=copies[0][1],
        masses=np.tile(frames.masses, int(np.prod(n))),
        positions=np.array([positions for positions, _, _ in copies]),
        cells=np.array([cell for _, _, cell in copies]),
        forces=None,
        energies=None,
    )


def labelled(frames: Frames, losses: AgentLosses, *, stresses: bool = False) -> Frames:
    """The same frames with the forces, the sums and, if they are wanted, the stresses of these losses."""
    results = [evaluate_agents(losses, frames.positions[t], frames.species, frames.cell(t)) for t in range(len(frames))]
    found = None
    if stresses and frames.cells is not None:
        virials = np.array([result.virial for result in results])
        found = stress_from_virial(virials, np.abs(np.linalg.det(frames.cells)))
    return replace(
        frames,
        forces=np.array([result.forces for result in results]),
        energies=np.array([result.energy for result in results]),
        stresses=found,
    )


def strain_derivatives(
    energy: Callable[[FloatArray, FloatArray], float], positions: FloatArray, cell: FloatArray, step: float = 1e-5
) -> FloatArray:
    """Derivatives ∂E/∂ε of an energy (positions, cell) by a homogeneous strain, fourth-order central differences."""
    found = np.empty((3, 3))
    for x, y in np.ndindex(3, 3):
        ends = {}
        for k in (-2, -1, 1, 2):
            strain = np.eye(3)
            strain[x, y] += k * step
            ends[k] = energy(positions @ strain.T, cell @ strain.T)
        found[x, y] = (8.0 * (ends[1] - ends[-1]) - (ends[2] - ends[-2])) / (12.0 * step)
    return found


def descended(
    losses: AgentLosses, positions: FloatArray, species: Sequence[str], cell: FloatArray | None
) -> FloatArray:
    """What each agent descends: its own loss, and what its neighbours lose through its position."""
    own = evaluate_agents(losses.descended, positions, species, cell).losses
    if not losses.has_reactions:
        return own
    shared = evaluate_agents(losses, positions, species, cell).losses
    return own + shared.sum() - shared


def verlet(losses: AgentLosses, start: Frames, steps: int, dt: float = 5e-4) -> Frames:
    """A trajectory of these losses by velocity Verlet from the first frame of `start`: every step, with forces."""
    masses, cell = start.masses[:, None], start.cell(0)
    x = start.positions[0]
    v = np.random.default_rng(0).normal(size=x.shape) * 0.3
    positions, forces = [], []
    f = evaluate_agents(losses, x, start.species, cell).forces
    for _ in range(steps):
        positions.append(x)
        forces.append(f)
        v = v + 0.5 * dt * f / masses
        x = x + dt * v
        f = evaluate_agents(losses, x, start.species, cell).forces
        v = v + 0.5 * dt * f / masses
    return replace(
        start,
        positions=np.array(positions),
        times=np.arange(steps) * dt,
        steps=np.arange(steps),
        cells=None if cell is None else np.tile(cell, (steps, 1, 1)),
        forces=np.array(forces),
        timestep=dt,
    )


def randomised(losses: AgentLosses, seed: int = 0, scale: float = 10.0) -> AgentLosses:
    """Losses with the bases of a model, random coefficients and no core; `collective` in its gauge."""
    rng = np.random.default_rng(seed)

    def coefficients() -> Coefficients:
        u = rng.normal(size=losses.pair_coefficients.shape) * scale
        weights = {}
        for rank, w in losses.weights.items():
            noise = rng.normal(size=w.shape) * 0.1 * scale
            weights[rank] = noise + noise.transpose(0, 2, 1)
        noise = rng.normal(size=losses.couplings.shape) * 0.01 * scale
        mixed = tuple(0.01 * scale * rng.normal(size=c.shape) for c in losses.channel_weights)
        return Coefficients(u, weights, noise + noise.transpose(0, 2, 1), mixed)

    return replace(
        losses,
        **in_gauge(coefficients(), coefficients(), losses.gradient).coefficient_fields(),
        core_strength=np.zeros_like(losses.core_strength),
        metadata={},
    )


def rms(array: npt.ArrayLike) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(array))))
