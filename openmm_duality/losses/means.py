"""Losses written about the means of the training data, so that what single precision rounds of them is small.

With mean sums ρ₀, ½ ρᵀWρ = ½ (ρ − ρ₀)ᵀW(ρ − ρ₀) + (Wρ₀)·ρ − ½ ρ₀ᵀWρ₀. With mean invariants φ̄, δ = φ − φ̄ and g = Cφ̄,
½ φᵀCφ = ½ δᵀCδ + g·δ + ½ φ̄ᵀCφ̄. What is linear in sums, of fine and of coarse functions, is one more pair potential.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.losses.model import AgentLosses


@dataclass(frozen=True)
class AboutMeans:
    """What is added to the quadratic terms ½ (ρ − ρ₀)ᵀW(ρ − ρ₀) and ½ δᵀCδ.

    Parameters
    ----------
    pair_powers : array, shape (S, S, K, 4)
        Pair potentials with all that is linear in sums, as powers by interval.
    slopes : array, shape (S, Q)
        g of the invariants, by species of the agent; zero of the sums.
    values : array, shape (S,)
        Constants by species of the agent.
    """

    pair_powers: FloatArray
    slopes: FloatArray
    values: FloatArray


def about_means(losses: AgentLosses, mean_sums: FloatArray, mean_invariants: FloatArray) -> AboutMeans:
    """The losses about sums (S, S, n) and coupled invariants (S, Q) by species of the agent."""
    s, n_coarse = len(losses.species), losses.coarse.size
    pair, values = losses.pair_potentials.powers[..., 0], np.zeros(s)
    if 0 in losses.form.ranks:
        flat = mean_sums.reshape(s, -1)
        of_fine = np.einsum("aij,aj->ai", losses.weights[0], flat)
        pair = pair + np.einsum("abkpn,abn->abkp", losses.basis.powers, of_fine.reshape(mean_sums.shape))
        values = values - 0.5 * np.einsum("ai,ai->a", flat, of_fine)
    slopes = np.einsum("aij,aj->ai", losses.couplings, mean_invariants)
    if losses.form.coupled:
        values = values + 0.5 * np.einsum("ai,ai->a", slopes, mean_invariants)
        of_coarse, slopes[:, : s * n_coarse] = slopes[:, : s * n_coarse].copy(), 0.0
        pair = pair + np.einsum("abkpn,abn->abkp", losses.coarse.powers, of_coarse.reshape(s, s, n_coarse))
        values = values - np.einsum("ai,ai->a", of_coarse, mean_invariants[:, : s * n_coarse])
    return AboutMeans(pair, slopes, values)


def mean_sums_of(losses: AgentLosses) -> FloatArray:
    """Mean sums ρ in the training data, shape (S, S, n), by species; zero where they are not known or not contracted.

    The descriptors of the domain begin with them.
    """
    s, n = len(losses.species), losses.basis.size
    if losses.domain is None or 0 not in losses.form.ranks:
        return np.zeros((s, s, n))
    return np.array([known.centre[: s * n].reshape(s, n) for known in losses.domain.environments])


def mean_invariants_of(losses: AgentLosses) -> FloatArray:
    """Mean coupled invariants φ̄ in the training data, shape (S, Q), by species; zero where they are not known.

    Coarse functions are nearly sums X of the fine ones, so that X also gives their mean sums, and their mean
    contractions of ranks above 0, X⟨M·M⟩Xᵀ; both means of the fine ones are in the domain. Those of rank 0 are taken as
    products of mean sums.
    """
    s, n, coarse = len(losses.species), losses.basis.size, losses.coarse.size
    if losses.domain is None or not losses.form.coupled:
        return np.zeros((s, losses.couplings.shape[-1]))
    fine_ranks = [rank for rank in losses.form.all_ranks if rank]
    found, (rows, columns) = [], np.triu_indices(s * n)
    coarse_rows, coarse_columns = np.triu_indices(s * coarse)
    for a, known in enumerate(losses.domain.environments):
        x = np.zeros((s * coarse, s * n))
        for b in range(s):
            values, wanted = (one.powers[a, b, :, 0] for one in (losses.basis, losses.coarse))
            x[b * coarse : (b + 1) * coarse, b * n : (b + 1) * n] = np.linalg.lstsq(values, wanted, rcond=None)[0].T
        sums = x @ known.centre[: s * n]
        blocks = [sums]
        for rank in losses.form.coupled:
            contractions = np.outer(sums, sums)
            if rank:
                fine = np.zeros((s * n, s * n))
                first = s * n + fine_ranks.index(rank) * len(rows)
                fine[rows, columns] = fine[columns, rows] = known.centre[first : first + len(rows)]
                contractions = x @ fine @ x.T
            blocks.append(contractions[coarse_rows, coarse_columns])
        found.append(np.concatenate(blocks))
    return np.array(found)
