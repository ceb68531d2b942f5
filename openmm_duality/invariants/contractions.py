"""Invariants φ of moments: the sums ρ, then the contractions M^l_a · M^l_b, a ≤ b, rank by rank.

Index suffixes: i agent, a = (B, n) moment, p invariant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray


def count_invariants(width: int, ranks: Sequence[int]) -> int:
    """Number Q of invariants of `width` moments per rank; zero if no rank is contracted."""
    return width + len(ranks) * (width * (width + 1) // 2) if ranks else 0


def factors_of_invariants(width: int, ranks: Sequence[int]) -> IntArray:
    """The moments a and b of every invariant, shape (Q, 2); of a sum both are the same."""
    sums, pairs = np.arange(width), np.stack(np.triu_indices(width), axis=1)
    return np.concatenate([np.stack([sums, sums], axis=1), *[pairs] * len(ranks)])


def invariants(moments: Mapping[int, FloatArray], ranks: Sequence[int]) -> FloatArray:
    """Invariants φ of each agent, shape (N, Q), from moments (N, a, 2l + 1) by rank."""
    rows, columns = np.triu_indices(moments[0].shape[1])
    blocks = [moments[0][..., 0]]
    for rank in ranks:
        m = moments[rank]
        blocks.append((m @ m.swapaxes(1, 2))[:, rows, columns])
    return np.concatenate(blocks, axis=1)


def environment_descriptors(moments: Mapping[int, FloatArray], functions: int) -> FloatArray:
    """Descriptors of local environments, shape (N, P): the sums, and the contractions of ranks above 0.

    The contractions of rank 0 are products of the sums and would be redundant.

    Parameters
    ----------
    moments : mapping of int to array, shape (N, S, n, 2l + 1)
        Moments by rank.
    functions : int
        Number of radial functions to use, from the first.
    """
    blocks = []
    for rank, m in moments.items():
        flat = m[:, :, :functions].reshape(len(m), -1, 2 * rank + 1)
        if rank == 0:
            blocks.append(flat[..., 0])
        else:
            rows, columns = np.triu_indices(flat.shape[1])
            blocks.append((flat @ flat.swapaxes(1, 2))[:, rows, columns])
    return np.concatenate(blocks, axis=1)


def adjoints(moments: Mapping[int, FloatArray], ranks: Sequence[int], g: FloatArray) -> dict[int, FloatArray]:
    """Derivatives ∂H/∂M by rank, in the shapes of the moments, from g = ∂H/∂φ, shape (N, Q)."""
    width = moments[0].shape[1]
    rows, columns = np.triu_indices(width)
    result = {0: g[:, :width, None].copy()}
    for number, rank in enumerate(ranks):
        first = width + number * len(rows)
        matrix = np.zeros((len(g), width, width))
        matrix[:, rows, columns] = g[:, first : first + len(rows)]
        result[rank] = result.get(rank, 0.0) + (matrix + matrix.swapaxes(1, 2)) @ moments[rank]
    return result
