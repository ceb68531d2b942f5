"""The committee of an inference: refits to resampled blocks of time, calibrated on a held-out block.

The inverse of the normal matrix is not a posterior covariance here: residuals are due to the limited form and are
correlated in time and within molecules. The members are therefore refits to contiguous blocks of the data drawn with
replacement (a block bootstrap), at the cost of one factorisation each. With a prior model every member of its committee
is refitted, so that the spread contains the uncertainty of both data sets. For the calibration the same is done without
the last block, and the force errors on its frames are compared with the spread. How large the spread is in rare cases
is taken from frames of all blocks, each by the members that have not seen it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import minimize

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.inference.equations.accumulation import MIN_BLOCKS, block_of, sample_rows
from openmm_duality.inference.equations.inference import Inference
from openmm_duality.inference.equations.layout import Layout
from openmm_duality.inference.equations.penalties import Strengths
from openmm_duality.inference.equations.solution import NormalEquations
from openmm_duality.inference.equations.targets import indices_of, sample_numbers, samples
from openmm_duality.inference.uncertainty.domain import LARGEST_FACTOR, frames_of_agents, tail_limit
from openmm_duality.losses.coefficients import Coefficients, combine
from openmm_duality.losses.committee import Committee, variance_of
from openmm_duality.losses.model import AgentLosses
from openmm_duality.parallel import on_all_cores
from openmm_duality.progress import progress_bar, timed

NOMINAL = (0.6827, 0.9545)  # fractions of a normal distribution within one and two standard deviations
SEED = 1  # makes the draws reproducible
_MIN_TAIL_AGENTS = 1000  # below which no tail can be extrapolated
_FRAMES, _OTHER_FRAMES = 60, 6  # evenly spaced frames of every data set, of the last block and of each other one
_LEAST_MEMBERS = 4  # that have not seen a block, for spreads on its frames


def with_committee(losses: AgentLosses, inference: Inference) -> AgentLosses:
    """Add a committee to the losses, and its description to their metadata.

    There is no committee if the settings exclude it (or the prior model has none), if the data make fewer than four
    blocks, or if some resampled blocks do not determine the losses.

    Parameters
    ----------
    losses : AgentLosses
        Losses of the inference; their regularisation, read from their metadata, is used for the members.
    inference : Inference
    """
    prior, used = inference.prior, inference.equations.filled
    if prior is not None:
        n_members, reason = prior.committee.size if prior.committee else 0, "the prior model has none"
    else:
        n_members, reason = inference.settings.members, "none was requested"
    if not n_members:
        return without_committee(losses, reason)
    if len(used) < MIN_BLOCKS:
        return without_committee(losses, f"the frames make fewer than {MIN_BLOCKS} blocks")
    rng = np.random.default_rng(SEED)
    with timed(inference.seconds, "committee"):
        members = Members.of(inference, losses)
        last, rest = used[-1], used[:-1]
        try:
            (without_last, _), mean = members.drawn(rng, rest, n_members), members.solved(dict.fromkeys(rest, 1.0))
            drawn, counts = members.drawn(rng, used, n_members)
        except np.linalg.LinAlgError:
            return without_committee(losses, "some resampled blocks do not determine the losses; use a stronger ridge")
        judged = held_out_spreads(inference, mean, without_last, last, _FRAMES)
        errors, spreads, species_index = (np.concatenate(column) for column in zip(*judged, strict=True))
        residual, scale = calibrate(errors, spreads, species_index, len(inference.species))
        for block, of_block in zip(rest, counts.T, strict=False):
            unseen = [member for member, count in zip(drawn, of_block, strict=True) if not count]
            if len(unseen) >= _LEAST_MEMBERS:
                judged += held_out_spreads(inference, mean, unseen, block, _OTHER_FRAMES)
        unpacked = [inference.design.layout.unpack(solutions) for solutions in drawn]
    limit, tail = uncertainty_limits(judged, residual, scale)
    committee = Committee(**stacked(unpacked), residual=residual, scale=scale, limit=limit, tail=tail)
    committee_metadata = {
        "members": n_members,
        "blocks": len(used),
        "calibrated_on": {"block": last + 1, "agents": len(species_index)},
    }
    return replace(losses, committee=committee, metadata={**losses.metadata, "committee": committee_metadata})


def without_committee(losses: AgentLosses, reason: str) -> AgentLosses:
    """Record in the metadata of the losses why they have no committee."""
    return replace(losses, metadata={**losses.metadata, "committee": {"members": 0, "reason": reason}})


def committee_deviations(losses: AgentLosses, layout: Layout) -> list[FloatArray]:
    """Deviations of the committee members from the losses, arrays (P, K) by group; empty without a committee."""
    if losses.committee is None:
        return []
    own = layout.pack(losses)
    packed = [layout.pack(m) for m in losses.members()]
    return [np.stack([member[k] for member in packed], axis=1) - own[k][:, None] for k in range(len(own))]


def with_members(committee: Committee | None, layout: Layout, solutions: Sequence[FloatArray]) -> Committee | None:
    """Replace the members of a committee by solutions (P, K) by group, keeping its calibration."""
    if committee is None:
        return None
    unpacked = [layout.unpack([mine[:, k] for mine in solutions]) for k in range(committee.size)]
    return replace(committee, **stacked(unpacked))


def stacked(unpacked: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Stack the coefficients of all members into the arrays of a committee."""
    return combine(np.array, [Coefficients(**one) for one in unpacked]).coefficient_fields()


@dataclass(frozen=True)
class Members:
    """Solver for committee members: weighted sums of the blocks of an inference, with the column scales of all data.

    Parameters
    ----------
    inference : Inference
    strengths : list of mapping of str to float
        Regularisation strengths, by group.
    selected : list of arrays of bool or None
        Columns whose coefficients are fitted, by group.
    deviations : list of arrays, shape (P, K)
        Deviations of the prior model's committee members from it, by group; empty without a prior model.
    """

    inference: Inference
    strengths: list[Strengths]
    selected: list[BoolArray | None]
    deviations: list[FloatArray]

    @classmethod
    def of(cls, inference: Inference, losses: AgentLosses) -> Members:
        """Set up the solver with the regularisation and the selected coefficients of the losses."""
        layout, selected = inference.design.layout, inference.selectable
        if inference.prior is None and losses.metadata["selection"]:
            constants = np.ones(layout.n_constants, dtype=bool)
            packed = layout.pack(losses)
            selected = [np.concatenate([c[: len(c) - layout.n_constants] != 0.0, constants]) for c in packed]
        deviations = [] if inference.prior is None else committee_deviations(inference.prior, layout)
        return cls(inference, losses.metadata["regularisation"], selected, deviations)

    def solved(self, weights: Mapping[int, float], member: int | None = None) -> list[FloatArray]:
        """Solve for the coefficients by group, given weights of the blocks.

        Coefficients of species that none of the blocks contains are zero, or those of the prior model.

        Parameters
        ----------
        weights : mapping of int to float
            Weights by block.
        member : int, optional
            Member of the prior model's committee to correct, instead of the prior model itself.

        Raises
        ------
        LinAlgError
            If the blocks do not determine the coefficients.
        """
        equations, start = [], list(self.inference.start)
        for k, mine in enumerate(self.inference.equations.blocks):
            total = NormalEquations.empty(len(mine[0].rhs))
            for block, weight in weights.items():
                if weight:
                    total.add_weighted(mine[block], weight)
            if member is not None:
                deviation = self.deviations[k][:, member]
                total.rhs -= total.gram @ deviation
                start[k] = start[k] + deviation
            equations.append(total)
        found = self.inference.solve(equations, self.strengths, self.selected)
        return found if self.inference.prior is None else [a + b for a, b in zip(start, found, strict=True)]

    def drawn(
        self, rng: np.random.Generator, blocks: Sequence[int], members: int
    ) -> tuple[list[list[FloatArray]], IntArray]:
        """Solve for each member with as many blocks as are given, drawn from them with replacement.

        Also how often each member has each block, shape (K, number of blocks).
        """
        counts = rng.multinomial(len(blocks), np.full(len(blocks), 1.0 / len(blocks)), size=members)
        starts = range(members) if self.deviations else [None] * members
        shown = progress_bar(members, "committee", show=self.inference.progress, unit="member", items=counts)
        solutions = [
            self.solved(dict(zip(blocks, row.astype(float).tolist(), strict=True)), start)
            for row, start in zip(shown, starts, strict=True)
        ]
        return solutions, counts


def held_out_spreads(
    inference: Inference, mean: list[FloatArray], members: list[list[FloatArray]], block: int, at_most: int
) -> list[tuple[FloatArray, FloatArray, IntArray]]:
    """Errors (N, 3), spreads s² (N,) and species indices (N,) for frames of a block that no member has seen.

    Parameters
    ----------
    inference : Inference
    mean : list of arrays, shape (P,)
        Solution whose errors are computed, by group.
    members : list of lists of arrays, shape (P,)
        Solutions by member, then by group.
    block : int
        Index of the block.
    at_most : int
        Number of its frames of every data set.
    """
    design, n_blocks = inference.design, len(inference.equations.blocks[0])
    groups = design.layout.groups
    stacks = [np.column_stack([mean[k], *(m[k] for m in members)]) for k in range(len(groups))]
    found = []
    for data in inference.sets:
        numbers = sample_numbers(data.frames).tolist()
        inside = sorted(number for k, number in enumerate(numbers) if block_of(k, len(numbers), n_blocks) == block)
        wanted = samples(data.frames, inside[:: -(-len(inside) // at_most) or 1])
        rows_of = partial(sample_rows, design, inference.species, False, False)
        for rows in on_all_cores(rows_of, wanted, inference.memory.storage.at_once):
            sample = rows.sample
            species_index = indices_of(sample.species, inference.species)
            forces = np.empty((1 + len(members), len(species_index), 3))
            for group, x, coefficients in zip(groups, rows.forces, stacks, strict=True):
                forces[:, np.isin(species_index, group)] = np.moveaxis(x @ coefficients, -1, 0)
            found.append((forces[0] - sample.target, variance_of(forces[1:]), species_index))
    return found


def uncertainty_limits(
    judged: list[tuple[FloatArray, FloatArray, IntArray]], residual: FloatArray, scale: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Limits of σ and their tails by species, shape (S,); a species without agents gets the largest of the others."""
    found, tails = np.zeros(len(residual)), np.zeros(len(residual))
    for a in range(len(residual)):
        by_frame = [spreads[species_index == a] for _, spreads, species_index in judged]
        sigma = np.sqrt(residual[a] ** 2 + scale[a] ** 2 * np.concatenate(by_frame))
        if len(sigma):
            if len(sigma) >= _MIN_TAIL_AGENTS:
                found[a], tails[a] = tail_limit(sigma, frames_of_agents(by_frame), power_law=True)
            else:
                found[a] = LARGEST_FACTOR * sigma.max()
    return np.where(found > 0.0, found, found.max()), np.where(found > 0.0, tails, tails.max())


def calibrate(
    errors: FloatArray, spreads: FloatArray, species_index: IntArray, n_species: int
) -> tuple[FloatArray, FloatArray]:
    """Fit a_A and b_A of σ² = a² + b² s², shape (S,) each.

    Their ratio is that of maximum likelihood for normal errors. Actual errors have heavier tails, so that no σ gives
    both fractions of a normal distribution; a common factor minimises the larger of the deviations within σ and 2 σ.

    Parameters
    ----------
    errors : array, shape (M, 3)
        Force errors in kJ/mol/nm.
    spreads : array, shape (M,)
        Variances s² over the members, of the same agents.
    species_index : array of int, shape (M,)
    n_species : int
        Number S of species. A species without agents gets the values of a fit to all agents.
    """
    residual, scale = np.empty(n_species), np.empty(n_species)
    for a in range(n_species):
        mine = species_index == a if (species_index == a).any() else np.ones(len(species_index), dtype=bool)
        squares, s2 = np.square(errors[mine]), spreads[mine]
        a2, b2 = maximum_likelihood(squares.mean(axis=1), s2)
        factor = _coverage_factor(np.sqrt(squares / (a2 + b2 * s2)[:, None]).ravel())
        residual[a], scale[a] = factor * np.sqrt(a2), factor * np.sqrt(b2)
    return residual, scale


def maximum_likelihood(squares: FloatArray, s2: FloatArray) -> tuple[float, float]:
    """Maximum-likelihood estimates of a² and b² from mean squared errors, assuming a normal distribution."""
    mean_square, width = max(float(squares.mean()), 1e-12), max(float(s2.mean()), 1e-12)

    def negative_log_likelihood(logs: FloatArray) -> float:
        variance = mean_square * np.exp(logs[0]) + mean_square / width * np.exp(logs[1]) * s2
        return float(np.mean(np.log(variance / mean_square) + squares / variance))

    found = minimize(negative_log_likelihood, np.log([0.5, 0.5]), method="L-BFGS-B", bounds=[(-20.0, 5.0)] * 2).x
    return mean_square * float(np.exp(found[0])), mean_square / width * float(np.exp(found[1]))


def _coverage_factor(ratios: FloatArray) -> float:
    """Factor on σ that brings the fractions of |error| within σ and 2 σ closest to their nominal values."""
    factors = np.geomspace(0.3, 3.0, 461)
    ordered = np.sort(ratios)
    shares = [np.searchsorted(ordered, k * factors) / len(ordered) for k in (1, 2)]
    misses = np.max([np.abs(share - nominal) for share, nominal in zip(shares, NOMINAL, strict=True)], axis=0)
    best = np.flatnonzero(misses <= misses.min() + 1e-12)
    return float(factors[best[len(best) // 2]])
