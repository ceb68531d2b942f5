"""The Jacobian of the forces, ∂F/∂q: minus the Hessian of a potential energy, and not symmetric where there is none.

Forces are sums over agents of −(∂M/∂q)ᵀ G, so that their derivatives are −(∂M/∂q)ᵀ W (∂M/∂q), with the derivatives
W = ∂G/∂M of the adjoint, and those of ∂M/∂q at fixed G, which are sums over pairs.

Index suffixes: i agent, s neighbour slot, a component of all moments (rank, species, function, m), x, y Cartesian.
"""

from __future__ import annotations

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.invariants.moments import moment_derivatives
from openmm_duality.losses.evaluator import LocalEnvironments, polynomial
from openmm_duality.losses.model import AgentLosses

_STEP = 1e-4  # of the root mean square of a moment, in central differences of adjoints
_LENGTH = 1e-6  # nm, in those of the gradients of pairs
_CHUNK = 16  # agents at a time


def jacobian(losses: AgentLosses, environments: LocalEnvironments) -> FloatArray:
    """Derivatives ∂F_ix/∂q_jy of the forces by the positions, shape (3 N, 3 N), in kJ/mol/nm².

    Parameters
    ----------
    losses : AgentLosses
    environments : LocalEnvironments
        Of the configuration.
    """
    n = len(environments.species_index)
    result = np.zeros((n, 3, n, 3))
    descended = losses.descended
    for one in [losses] if descended is losses else [losses, descended]:
        own, reactions = one is descended, one is losses and losses.has_reactions
        _add_pairs(result, one, environments, own, reactions)
        if one.form.all_ranks:
            _add_moments(result, one, environments, own, reactions)
    return result.reshape(3 * n, 3 * n)


def _add_pairs(
    result: FloatArray, losses: AgentLosses, environments: LocalEnvironments, own: bool, reactions: bool
) -> None:
    """Add the derivatives at fixed adjoints, by central differences of the gradients of pairs."""
    _, adjoints = polynomial(losses, environments.species_index, environments.moments)
    by_atoms = result.swapaxes(1, 2)
    for b, table in enumerate(environments.tables):
        curvature = np.empty((*table.indices.shape, 3, 3))  # ∂g_x/∂(q_j − q_i)_y
        for y in range(3):
            ends = [environments.moved(losses, b, sign * _LENGTH * np.eye(3)[y]) for sign in (1.0, -1.0)]
            up, down = (end.pair_gradients(losses, adjoints, b)[1] for end in ends)
            curvature[..., y] = (up - down) / (2.0 * _LENGTH)
        i, j = np.broadcast_arrays(np.arange(len(table.indices))[:, None], table.indices)
        for atom, sign in ((i, 1.0 if own else 0.0), (j, -1.0 if reactions else 0.0)):
            if sign:
                for other, change in ((j, sign), (i, -sign)):
                    np.add.at(by_atoms, (atom, other), change * curvature)


def _add_moments(
    result: FloatArray, losses: AgentLosses, environments: LocalEnvironments, own: bool, reactions: bool
) -> None:
    """Add the derivatives by way of the adjoints."""
    n = len(environments.species_index)
    for begin in range(0, n, _CHUNK):
        agents = np.arange(begin, min(begin + _CHUNK, n))
        slopes, own_slopes = _moment_slopes(losses, environments, agents)
        curved = slopes @ _adjoint_slopes(losses, environments, agents)
        of_agents = (own_slopes @ curved.swapaxes(1, 2)).reshape(len(agents), 3, n, 3)
        if reactions:
            every = np.concatenate(list(slopes), axis=1) @ np.concatenate(list(curved), axis=1).T
            result -= every.reshape(n, 3, n, 3)
            if not own:
                result[agents] += of_agents
        elif own:
            result[agents] -= of_agents


def _moment_slopes(
    losses: AgentLosses, environments: LocalEnvironments, agents: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Derivatives of the moments of some agents by all positions, shape (I, 3 N, a), and by their own, (I, 3, a).

    They differ where an agent is its own neighbour: its images move with it, but it descends as if they did not.
    """
    s, number = len(losses.species), losses.moment_basis.size
    blocks, own = [], []
    for rank in losses.form.all_ranks:
        by_self = np.zeros((len(agents), 3, s, number, 2 * rank + 1))
        block = np.zeros((len(agents), len(environments.species_index), *by_self.shape[1:]))
        for b, (table, radial) in enumerate(zip(environments.tables, environments.radial, strict=True)):
            f, df = (array[agents] for array in radial)
            k = moment_derivatives(rank, f, df, table.of(agents)).transpose(0, 3, 1, 2, 4)
            rows = np.broadcast_to(np.arange(len(agents))[:, None], k.shape[:2])
            np.add.at(block[:, :, :, b], (rows, table.indices[agents]), k)
            by_self[:, :, b] = -k.sum(axis=1)
        block[np.arange(len(agents)), agents] += by_self
        blocks.append(block.reshape(len(agents), 3 * block.shape[1], -1))
        own.append(by_self.reshape(len(agents), 3, -1))
    return np.concatenate(blocks, axis=-1), np.concatenate(own, axis=-1)


def _adjoint_slopes(losses: AgentLosses, environments: LocalEnvironments, agents: IntArray) -> FloatArray:
    """Derivatives W = ∂G/∂M of some agents, shape (I, a, a), by central differences."""
    found = {rank: environments.moments[rank][agents] for rank in losses.form.all_ranks}
    sizes = [m[0].size for m in found.values()]
    flat = np.concatenate([m.reshape(len(agents), -1) for m in found.values()], axis=1)
    steps = _STEP * np.maximum(np.sqrt(np.mean(flat**2, axis=0)), 1e-3)
    adjoints = []
    for sign in (1.0, -1.0):
        moved = (flat[:, None] + sign * np.diag(steps)).reshape(-1, flat.shape[1])
        parts = np.split(moved, np.cumsum(sizes)[:-1], axis=1)
        by_rank = {rank: p.reshape(-1, *m.shape[1:]) for (rank, m), p in zip(found.items(), parts, strict=True)}
        _, g = polynomial(losses, np.repeat(environments.species_index[agents], len(steps)), by_rank)
        adjoints.append(np.concatenate([g[rank].reshape(len(moved), -1) for rank in found], axis=1))
    slopes = (adjoints[0] - adjoints[1]).reshape(len(agents), len(steps), -1) / (2.0 * steps[:, None])
    return np.asarray(0.5 * (slopes + slopes.swapaxes(1, 2)))
