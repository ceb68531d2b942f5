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
    by_atoms = result.swapaxes(1, 2)
    for begin in range(0, len(environments.species_index), _CHUNK):
        agents = np.arange(begin, min(begin + _CHUNK, len(environments.species_index)))
        of_agents = (_adjoint_slopes(losses, environments, agents), *_moment_slopes(losses, environments, agents))
        for i, w, by_slot, near in zip(agents, *of_agents, strict=True):
            near, place = np.unique(near, return_inverse=True)
            by_atom = np.zeros((len(near), *by_slot.shape[1:]))
            np.add.at(by_atom, place, by_slot)
            change = (by_atom.reshape(-1, len(w)) @ w).T
            # what acts on the agent itself comes first; its images move with it, but it descends as if they did not
            on_agent = (by_slot[0] @ change).reshape(3, -1, 3).swapaxes(0, 1)
            if reactions:
                every = (by_atom.reshape(-1, len(w)) @ change).reshape(len(near), 3, len(near), 3)
                by_atoms[np.ix_(near, near)] -= every.swapaxes(1, 2)
            if own is not reactions:
                by_atoms[i, near] += on_agent if reactions else -on_agent


def _moment_slopes(
    losses: AgentLosses, environments: LocalEnvironments, agents: IntArray
) -> tuple[FloatArray, IntArray]:
    """Derivatives of the moments of some agents, shape (I, 1 + J, 3, a), by their own positions and each neighbour's.

    The second value has the indices of these atoms, shape (I, 1 + J).
    """
    s, number = len(losses.species), losses.moment_basis.size
    ends = np.cumsum([1, *(table.indices.shape[1] for table in environments.tables)])
    blocks = []
    for rank in losses.form.all_ranks:
        block = np.zeros((len(agents), ends[-1], 3, s, number, 2 * rank + 1))
        for b, (table, radial) in enumerate(zip(environments.tables, environments.radial, strict=True)):
            f, df = (array[agents] for array in radial)
            k = moment_derivatives(rank, f, df, table.of(agents)).transpose(0, 3, 1, 2, 4)
            block[:, ends[b] : ends[b + 1], :, b] = k
            block[:, 0, :, b] = -k.sum(axis=1)
        blocks.append(block.reshape(*block.shape[:3], -1))
    atoms = np.concatenate([agents[:, None], *(table.indices[agents] for table in environments.tables)], axis=1)
    return np.concatenate(blocks, axis=-1), atoms


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
