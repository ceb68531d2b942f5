"""The committee of an inference: refits to resampled blocks of time, calibrated on a block that they have not seen.

The inverse of the normal matrix is no posterior here: residuals are a misfit that the form cannot help, correlated in
time and within molecules. So members are refits to contiguous blocks of the data, drawn with replacement; from the
equations of the blocks that costs a factorisation each. With a prior model every member of its committee is refitted,
so that the spread holds both what the prior's data leave open and what the new frames do. To calibrate the members, the
same is done without the last block, whose frames then show how large the errors of forces are for each spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import minimize

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.inference.equations.accumulation import block_of, sample_rows
from openmm_duality.inference.equations.inference import Inference, timed
from openmm_duality.inference.equations.layout import Layout
from openmm_duality.inference.equations.penalties import Strengths
from openmm_duality.inference.equations.solution import NormalEquations
from openmm_duality.inference.equations.targets import count_samples, samples
from openmm_duality.inference.uncertainty.domain import LARGEST_FACTOR, tail_limit
from openmm_duality.losses.committee import Committee, variance_of
from openmm_duality.losses.model import AgentLosses
from openmm_duality.parallel import on_all_cores

NOMINAL = (0.6827, 0.9545)  # shares of a normal distribution within one and two standard deviations
LEAST_BLOCKS = 4
SEED = 1  # the draws are the same for the same data
_LEAST_FOR_A_TAIL = 50  # frames, below which no tail can be extrapolated
_FRAMES = 60  # of the last block of every data set, evenly spaced


def with_committee(losses: AgentLosses, inference: Inference) -> AgentLosses:
    """The losses with their committee, and a description of it in their metadata.

    There is none where the settings ask for none (or the prior model has none), the data have fewer than four blocks,
    or blocks that are drawn do not determine the losses, though all together do.

    Parameters
    ----------
    losses : AgentLosses
        Of the inference; the regularisation in their metadata is that of the members.
    inference : Inference
    """
    prior, used = inference.prior, inference.equations.filled
    if prior is not None:
        asked, none = prior.committee.size if prior.committee else 0, "the prior model has none"
    else:
        asked, none = inference.settings.members, "none was asked for"
    if not asked or len(used) < LEAST_BLOCKS:
        return without_committee(losses, none if not asked else f"the frames make fewer than {LEAST_BLOCKS} blocks")
    rng = np.random.default_rng(SEED)
    with timed(inference.seconds, "committee"):
        members = Members.of(inference, losses)
        last, rest = used[-1], used[:-1]
        try:
            left_out, mean = members.drawn(rng, rest, asked), members.solved(dict.fromkeys(rest, 1.0))
            drawn = members.drawn(rng, used, asked)
        except np.linalg.LinAlgError:
            reason = "blocks of the data do not determine the losses; a stronger ridge would"
            return without_committee(losses, reason)
        judged = held_out_spreads(inference, mean, left_out, last)
        errors, spreads, species_index = (np.concatenate(column) for column in zip(*judged, strict=True))
        residual, scale = calibrate(errors, spreads, species_index, len(inference.species))
        unpacked = [inference.design.layout.unpack(solutions) for solutions in drawn]
    limit = uncertainty_limits(judged, residual, scale)
    committee = Committee(**stacked(unpacked), residual=residual, scale=scale, limit=limit)
    described = {
        "members": asked,
        "blocks": len(used),
        "calibrated_on": {"block": last + 1, "agents": len(species_index)},
    }
    return replace(losses, committee=committee, metadata={**losses.metadata, "committee": described})


def without_committee(losses: AgentLosses, reason: str) -> AgentLosses:
    """The losses with the reason why they have no committee in their metadata."""
    return replace(losses, metadata={**losses.metadata, "committee": {"members": 0, "reason": reason}})


def committee_deviations(losses: AgentLosses, layout: Layout) -> list[FloatArray]:
    """Deviations of the members from the losses, arrays of shape (P, K) by group; none without a committee."""
    if losses.committee is None:
        return []
    own = layout.pack(losses.pair_coefficients, losses.weights, losses.couplings)
    packed = [layout.pack(m.pair_coefficients, m.weights, m.couplings) for m in losses.members()]
    return [np.stack([member[k] for member in packed], axis=1) - own[k][:, None] for k in range(len(own))]


def with_members(committee: Committee | None, layout: Layout, solutions: Sequence[FloatArray]) -> Committee | None:
    """The committee with other members, from solutions (P, K) by group; its calibration stays."""
    if committee is None:
        return None
    unpacked = [layout.unpack([mine[:, k] for mine in solutions]) for k in range(committee.size)]
    return replace(committee, **stacked(unpacked))


def stacked(unpacked: Sequence[tuple[FloatArray, dict[int, FloatArray], FloatArray]]) -> dict[str, Any]:
    """Coefficients of a committee, from those of each member."""
    return {
        "pair_coefficients": np.array([u for u, _, _ in unpacked]),
        "weights": {rank: np.array([w[rank] for _, w, _ in unpacked]) for rank in unpacked[0][1]},
        "couplings": np.array([c for _, _, c in unpacked]),
    }


@dataclass(frozen=True)
class Members:
    """Solutions of weighted sums of the blocks of an inference, all with the scales of the columns over all data.

    Parameters
    ----------
    inference : Inference
    strengths : list of mapping of str to float
        Of the penalties, by group.
    selected : list of arrays of bool or None
        The columns that may have a coefficient, by group.
    deviations : list of arrays, shape (P, K)
        Of the members of the prior model from it, by group; none without a prior model.
    """

    inference: Inference
    strengths: list[Strengths]
    selected: list[BoolArray | None]
    deviations: list[FloatArray]

    @classmethod
    def of(cls, inference: Inference, losses: AgentLosses) -> Members:
        """Members with the regularisation and the selected coefficients of losses of the inference."""
        layout, selected = inference.design.layout, inference.selectable
        if inference.prior is None and losses.metadata["selection"]:
            constants = np.ones(layout.n_constants, dtype=bool)
            packed = layout.pack(losses.pair_coefficients, losses.weights, losses.couplings)
            selected = [np.concatenate([c[: len(c) - layout.n_constants] != 0.0, constants]) for c in packed]
        deviations = [] if inference.prior is None else committee_deviations(inference.prior, layout)
        return cls(inference, losses.metadata["regularisation"], selected, deviations)

    def solved(self, weights: Mapping[int, float], member: int | None = None) -> list[FloatArray]:
        """The coefficients of every group for blocks with weights.

        Those of species that are in none of them are zero, or those of the prior model.

        Parameters
        ----------
        weights : mapping of int to float
            By block.
        member : int, optional
            Of the prior model's committee, from which the differences are counted instead of from the prior itself.

        Raises
        ------
        LinAlgError
            If the blocks do not determine them.
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
        found = self.inference.solve(equations, self.strengths, self.selected, self.inference.scales)
        return found if self.inference.prior is None else [a + b for a, b in zip(start, found, strict=True)]

    def drawn(self, rng: np.random.Generator, blocks: Sequence[int], members: int) -> list[list[FloatArray]]:
        """Solutions of as many blocks as there are, drawn with replacement, by member."""
        counts = rng.multinomial(len(blocks), np.full(len(blocks), 1.0 / len(blocks)), size=members)
        starts = range(members) if self.deviations else [None] * members
        return [
            self.solved(dict(zip(blocks, row.astype(float).tolist(), strict=True)), start)
            for row, start in zip(counts, starts, strict=True)
        ]


def held_out_spreads(
    inference: Inference, mean: list[FloatArray], members: list[list[FloatArray]], block: int
) -> list[tuple[FloatArray, FloatArray, IntArray]]:
    """Errors (N, 3), spreads s² (N,) and species (N,) in every frame of a block that no solution has seen.

    Parameters
    ----------
    inference : Inference
    mean : list of arrays, shape (P,)
        The solution whose errors are wanted, by group.
    members : list of lists of arrays, shape (P,)
        By member, then by group.
    block : int
    """
    design, n_blocks = inference.design, len(inference.equations.blocks[0])
    groups = design.layout.groups
    stacks = [np.column_stack([mean[k], *(m[k] for m in members)]) for k in range(len(groups))]
    found = []
    for data in inference.sets:
        species_index = np.array([inference.species.index(name) for name in data.frames.species], dtype=np.int64)
        count = count_samples(data.frames)
        inside = [number for number in range(count) if block_of(number, count, n_blocks) == block]
        wanted = samples(data.frames, inside[:: max(1, len(inside) // _FRAMES)])
        for sample, rows, _ in on_all_cores(partial(sample_rows, design, species_index, None), wanted):
            forces = np.empty((1 + len(members), len(species_index), 3))
            for group, x, coefficients in zip(groups, rows, stacks, strict=True):
                forces[:, np.isin(species_index, group)] = np.moveaxis(x @ coefficients, -1, 0)
            found.append((forces[0] - sample.target, variance_of(forces[1:]), species_index))
    return found


def uncertainty_limits(
    judged: list[tuple[FloatArray, FloatArray, IntArray]], residual: FloatArray, scale: FloatArray
) -> FloatArray:
    """Limits of σ by species, shape (S,); a species that no frame has gets the largest of the others."""
    found = np.zeros(len(residual))
    for a in range(len(residual)):
        largest = [
            spreads[species_index == a].max() for _, spreads, species_index in judged if (species_index == a).any()
        ]
        if largest:
            sigma = np.sqrt(residual[a] ** 2 + scale[a] ** 2 * np.array(largest))
            enough = len(sigma) >= _LEAST_FOR_A_TAIL
            found[a] = tail_limit(sigma, power_law=True) if enough else LARGEST_FACTOR * sigma.max()
    return np.where(found > 0.0, found, found.max())


def calibrate(
    errors: FloatArray, spreads: FloatArray, species_index: IntArray, n_species: int
) -> tuple[FloatArray, FloatArray]:
    """a_A and b_A of σ² = a² + b² s², shape (S,) each.

    Their ratio is the likeliest for normal errors. Errors have heavier tails than that, so that no σ gives both shares
    of a normal distribution; the common factor is the one that misses the shares within σ and 2 σ least.

    Parameters
    ----------
    errors : array, shape (M, 3)
        Of forces, in kJ/mol/nm.
    spreads : array, shape (M,)
        s² of the same agents.
    species_index : array of int, shape (M,)
    n_species : int
        S. A species without agents gets the numbers of all of them.
    """
    residual, scale = np.empty(n_species), np.empty(n_species)
    for a in range(n_species):
        mine = species_index == a if (species_index == a).any() else np.ones(len(species_index), dtype=bool)
        squares, s2 = np.square(errors[mine]), spreads[mine]
        a2, b2 = _likeliest(squares.mean(axis=1), s2)
        factor = _balanced(np.sqrt(squares / (a2 + b2 * s2)[:, None]).ravel())
        residual[a], scale[a] = factor * np.sqrt(a2), factor * np.sqrt(b2)
    return residual, scale


def _likeliest(squares: FloatArray, s2: FloatArray) -> tuple[float, float]:
    """a² and b² of the normal distribution of maximum likelihood for mean squares of errors, by their logarithms."""
    whole, width = max(float(squares.mean()), 1e-12), max(float(s2.mean()), 1e-12)

    def negative_log_likelihood(logs: FloatArray) -> float:
        variance = whole * np.exp(logs[0]) + whole / width * np.exp(logs[1]) * s2
        return float(np.mean(np.log(variance / whole) + squares / variance))

    found = minimize(negative_log_likelihood, np.log([0.5, 0.5]), method="L-BFGS-B", bounds=[(-20.0, 5.0)] * 2).x
    return whole * float(np.exp(found[0])), whole / width * float(np.exp(found[1]))


def _balanced(ratios: FloatArray) -> float:
    """The factor on σ that misses the nominal shares of |error| / σ within one and two by the least."""
    factors = np.geomspace(0.3, 3.0, 461)
    ordered = np.sort(ratios)
    shares = [np.searchsorted(ordered, k * factors) / len(ordered) for k in (1, 2)]
    misses = np.max([np.abs(share - nominal) for share, nominal in zip(shares, NOMINAL, strict=True)], axis=0)
    best = np.flatnonzero(misses <= misses.min() + 1e-12)
    return float(factors[best[len(best) // 2]])
