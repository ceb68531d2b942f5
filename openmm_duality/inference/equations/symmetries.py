"""Soft symmetries: what the forces of the reference do and those of own losses need not, as penalties on coefficients.

Each is a linear condition X c = y on the coefficients, from configurations whose forces are not used:

- `pump`: no power flows into thermal motion (see `equations.pump`);
- `net-force`: the forces on all atoms add up to zero;
- `net-torque`: so do their torques, in isolated clusters cut out of the frames;
- `work`: the forces along a straight path from a frame to the next do work equal to the loss of energy.

The rows of the last three are divided by their norms per unit force, so that errors of the forces that are independent
of each other have the mean square there that they have in the fit.

Index suffixes: i agent, x, y, z Cartesian, p coefficient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.bonding import BondLengths
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.penalties import NET_FORCE, NET_TORQUE, PUMP, WORK, Penalty
from openmm_duality.inference.equations.pump import pump_rows
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.targets import DataSet, indices_of
from openmm_duality.inference.equations.unlabelled import (
    Configuration,
    Step,
    configurations,
    isolated_cluster,
    steps,
)
from openmm_duality.invariants.neighbours import find_neighbours
from openmm_duality.losses.evaluator import LocalEnvironments
from openmm_duality.losses.model import AgentLosses
from openmm_duality.parallel import on_all_cores

Rows = tuple[FloatArray, FloatArray]  # of the last coefficients, shape (R, p), and their targets, shape (R,)
Item = TypeVar("Item")
_CLUSTERS, _CLUSTER_ATOMS = 4, 24  # of a frame, and of a cluster
_POINTS, _SHARES = np.polynomial.legendre.leggauss(4)  # of a path, from −1 to 1


def soft_symmetries(
    design: Design,
    losses: AgentLosses,
    sets: Sequence[DataSet],
    unlabelled: Sequence[DataSet],
    settings: Settings,
    mean_square: float,
    lengths: BondLengths,
) -> tuple[Penalty, ...]:
    """Penalties on the symmetries that the settings name, as means over training frames and unlabelled ones.

    Parameters
    ----------
    design : Design
        With one group of species.
    losses : AgentLosses
        Losses with the bases of the design, whose modes are those of the pump.
    sets, unlabelled : sequences of DataSet
        The number of frames in the settings is taken of the training sets, and as many of the unlabelled ones. Of
        these, `work` uses none, because it needs energies.
    settings : Settings
    mean_square : float
        Mean square of the targets, in units of which the squared errors are compared with the pump.
    lengths : dict
        The bond length of every pair of species that is bonded, in nm.

    Raises
    ------
    DualityError
        If the training frames are not what a symmetry needs.
    """
    number = settings.pump_frames
    frames = [*configurations(sets, number), *configurations(unlabelled, number)]
    (group,) = design.layout.groups

    def penalty(name: str, rows_of: Callable[[Item, np.random.Generator], Rows], items: Iterable[Item]) -> Penalty:
        def of_item(item: tuple[int, Item]) -> Rows:
            return rows_of(item[1], np.random.default_rng(item[0]))

        return Penalty.of_rows(name, design.layout.size(group), on_all_cores(of_item, enumerate(items)))

    makers = {
        PUMP: lambda: penalty(PUMP, partial(_pump, design, losses, mean_square), frames),
        NET_FORCE: lambda: penalty(NET_FORCE, partial(_net_force, design, losses), frames),
        NET_TORQUE: lambda: penalty(NET_TORQUE, partial(_net_torque, design, losses, lengths), frames),
        WORK: lambda: penalty(WORK, partial(_work, design, losses), steps(sets, number)),
    }
    return tuple(makers[name]() for name in settings.symmetry_strengths)


def _pump(
    design: Design, losses: AgentLosses, mean_square: float, frame: Configuration, rng: np.random.Generator
) -> Rows:
    environments = LocalEnvironments.of(losses, frame.positions, frame.species, frame.cell)
    rows = np.sqrt(mean_square) * pump_rows(design, losses, environments, rng)
    return rows, np.zeros(len(rows))


def _net_force(design: Design, losses: AgentLosses, frame: Configuration, rng: np.random.Generator) -> Rows:
    del rng
    rows = _own_rows(design, losses, frame)
    return rows.sum(axis=0) / np.sqrt(len(rows)), np.zeros(3)


def _net_torque(
    design: Design, losses: AgentLosses, lengths: BondLengths, frame: Configuration, rng: np.random.Generator
) -> Rows:
    found = []
    for _ in range(_CLUSTERS):
        cluster = isolated_cluster(frame, lengths, _CLUSTER_ATOMS, rng)
        arms = cluster.positions - cluster.positions.mean(axis=0)
        rows = np.cross(arms[:, :, None], _own_rows(design, losses, cluster), axis=1).sum(axis=0)
        found.append(rows / np.sqrt(_CLUSTERS * max(2.0 / 3.0 * np.sum(arms**2), np.finfo(float).tiny)))
    return np.concatenate(found), np.zeros(3 * _CLUSTERS)


def _work(design: Design, losses: AgentLosses, step: Step, rng: np.random.Generator) -> Rows:
    del rng
    row: FloatArray | float = 0.0
    start, along = step.start, step.displacement
    for point, share in zip(_POINTS, _SHARES, strict=True):
        positions = start.positions + 0.5 * (1.0 + point) * along
        rows = _force_rows(design, losses, Configuration(start.species, positions, start.cell))
        row = row + 0.5 * share * np.tensordot(along, rows, axes=2)
    length = float(np.linalg.norm(along))
    return np.asarray(row)[None] / length, np.array([-step.energy_change / length])


def _own_rows(design: Design, losses: AgentLosses, frame: Configuration) -> FloatArray:
    """Rows of the forces of the own part, shape (N, 3, p); a shared part has these symmetries already."""
    (group,) = design.layout.groups
    *_, (_, first) = design.layout.first_columns(group)
    return _force_rows(design, losses, frame)[..., first:]


def _force_rows(design: Design, losses: AgentLosses, frame: Configuration) -> FloatArray:
    """Rows of all forces, shape (N, 3, P)."""
    index = indices_of(frame.species, losses.species)
    tables = find_neighbours(frame.positions, frame.cell, index, len(losses.species), losses.cutoff)
    (rows,) = design.force_rows(tables, index)
    return rows
