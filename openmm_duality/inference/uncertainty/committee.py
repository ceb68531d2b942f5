"""The committee of an inference: refits to resampled blocks of time, calibrated on a block that they have not seen.

The inverse of the normal matrix is no posterior here: residuals are a misfit that the form cannot help, correlated in
time and within molecules. So members are refits to contiguous parts of the data, drawn with replacement; from the
equations of the parts that costs a factorisation each. To calibrate them, the same is done without the last part, whose
frames then show how large the errors of forces are for each spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from scipy.optimize import minimize

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.inference.equations.accumulation import filled, part_of, sample_rows
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.layout import Layout
from openmm_duality.inference.equations.solution import NormalEquations, Regularisation, column_scale, solve
from openmm_duality.inference.equations.targets import DataSet, count_samples, samples
from openmm_duality.inference.inference import Inference, timed
from openmm_duality.inference.uncertainty.tails import FURTHEST, limit
from openmm_duality.losses.committee import Committee, variance_of
from openmm_duality.losses.model import AgentLosses
from openmm_duality.parallel import on_all_cores

NOMINAL = (0.6827, 0.9545)  # shares of a normal law within one and two standard deviations
LEAST_PARTS = 4
SEED = 1  # the draws are the same for the same data
_LEAST_FOR_A_TAIL = 50  # frames, below which a tail is not to be told from them
_FRAMES = 60  # of the last part of every data set, evenly spaced


def with_committee(losses: AgentLosses, inference: Inference) -> AgentLosses:
    """The losses with their committee, and a word about it in their metadata.

    There is none where the settings ask for none, the data have fewer than four parts, or parts that are drawn do not
    determine the losses, though all together do.

    Parameters
    ----------
    losses : AgentLosses
        Of the inference; the regularisation in their metadata is that of the members.
    inference : Inference
    """
    asked = inference.settings.members
    strengths = [Regularisation(**s) for s in losses.metadata["regularisation"]]
    used = filled(inference.equations.parts)
    if not asked or len(used) < LEAST_PARTS:
        reason = "none was asked for" if not asked else f"the frames make fewer than {LEAST_PARTS} blocks"
        return without_committee(losses, reason)
    draws = np.random.default_rng(SEED)
    with timed(inference.seconds, "committee"):
        members = Members.of(inference, losses, strengths)
        last = used[-1]
        rest = [k for k in used if k != last]
        try:
            left_out, mean = members.drawn(draws, rest, asked), members.solved(dict.fromkeys(rest, 1.0))
            drawn = members.drawn(draws, used, asked)
        except np.linalg.LinAlgError:
            return without_committee(losses, "parts of the data do not determine the losses; a stronger ridge would")
        part = (last, len(inference.equations.parts[0]))
        seen = judged(inference.sets, inference.species, inference.design, mean, left_out, part)
        errors, spreads, species_index = (np.concatenate(column) for column in zip(*seen, strict=True))
        residual, scale = calibrate(errors, spreads, species_index, len(inference.species))
        unpacked = [inference.design.layout.unpack(solutions) for solutions in drawn]
    committee = Committee(**stacked(unpacked), residual=residual, scale=scale, limit=limits(seen, residual, scale))
    told = {"members": asked, "blocks": len(used), "calibrated_on": {"block": last + 1, "agents": len(species_index)}}
    return replace(losses, committee=committee, metadata={**losses.metadata, "committee": told})


def without_committee(losses: AgentLosses, reason: str) -> AgentLosses:
    """The losses with the reason why they have no committee in their metadata."""
    return replace(losses, metadata={**losses.metadata, "committee": {"members": 0, "reason": reason}})


def committee_deviations(losses: AgentLosses, layout: Layout) -> list[FloatArray]:
    """How far the members are from the losses, arrays of shape (P, K) by problem; none without a committee."""
    if losses.committee is None:
        return []
    own = layout.pack(losses.pair_coefficients, losses.weights, losses.couplings)
    packed = [layout.pack(m.pair_coefficients, m.weights, m.couplings) for m in losses.members()]
    return [np.stack([member[k] for member in packed], axis=1) - own[k][:, None] for k in range(len(own))]


def with_members(committee: Committee | None, layout: Layout, solutions: Sequence[FloatArray]) -> Committee | None:
    """The committee with other members, from solutions (P, K) by problem; its calibration stays."""
    if committee is None:
        return None
    unpacked = [layout.unpack([mine[:, k] for mine in solutions]) for k in range(committee.size)]
    return replace(committee, **stacked(unpacked))


def stacked(unpacked: Sequence[tuple[FloatArray, dict[int, FloatArray], FloatArray]]) -> dict[str, Any]:
    """Coefficients of members, from those of each."""
    return {
        "pair_coefficients": np.array([u for u, _, _ in unpacked]),
        "weights": {rank: np.array([w[rank] for _, w, _ in unpacked]) for rank in unpacked[0][1]},
        "couplings": np.array([c for _, _, c in unpacked]),
    }


@dataclass(frozen=True)
class Members:
    """Solutions of weighted sums of the parts of an inference.

    Parameters
    ----------
    parts : list of lists of NormalEquations
        By problem, then by part.
    penalties : list of arrays
        By problem.
    strengths : list of Regularisation
        By problem.
    scales : list of arrays
        Of the columns, by problem: those of all data, so that regularisation means the same to every member.
    kept : list of arrays of bool or None
        The columns that may have a coefficient, by problem.
    free : int
        Constants of the energy at the end of the columns.
    """

    parts: list[list[NormalEquations]]
    penalties: list[FloatArray]
    strengths: list[Regularisation]
    scales: list[FloatArray]
    kept: list[Any]
    free: int

    @classmethod
    def of(cls, inference: Inference, losses: AgentLosses, strengths: list[Regularisation]) -> Members:
        """Those of an inference, with the coefficients that these losses of it have."""
        layout = inference.design.layout
        kept: list[Any] = [None] * len(layout.problems)
        if losses.metadata["selection"]:
            ends = np.ones(layout.n_constants, dtype=bool)
            packed = layout.pack(losses.pair_coefficients, losses.weights, losses.couplings)
            kept = [np.concatenate([c[: len(c) - layout.n_constants] != 0.0, ends]) for c in packed]
        scales = [column_scale(total) for total in inference.totals]
        return cls(inference.equations.parts, inference.penalties, strengths, scales, kept, layout.n_constants)

    def solved(self, weights: dict[int, float]) -> list[FloatArray]:
        """The solution of every problem for parts with weights.

        A problem whose species are in none of them gets zeros: nothing is known of those there.

        Raises
        ------
        LinAlgError
            If the parts do not determine it.
        """
        result = []
        for k, mine in enumerate(self.parts):
            total = NormalEquations.empty(len(mine[0].moment))
            for part, weight in weights.items():
                if weight:
                    total.add_weighted(mine[part], weight)
            if total.weight:
                penalty, strength = self.penalties[k], self.strengths[k]
                result.append(solve(total, penalty, strength, self.scales[k], self.free, self.kept[k]))
            else:
                result.append(np.zeros(len(total.moment)))
        return result

    def drawn(self, draws: np.random.Generator, parts: Sequence[int], members: int) -> list[list[FloatArray]]:
        """Solutions of as many parts as there are, drawn with replacement, by member."""
        return [self.solved(weights) for weights in resampled(draws, parts, members)]


def resampled(draws: np.random.Generator, parts: Sequence[int], members: int) -> list[dict[int, float]]:
    """How often every part is in a sample of as many as there are, drawn with replacement, by member."""
    counts = draws.multinomial(len(parts), np.full(len(parts), 1.0 / len(parts)), size=members)
    return [dict(zip(parts, row.astype(float).tolist(), strict=True)) for row in counts]


def judged(
    sets: Sequence[DataSet],
    species: tuple[str, ...],
    design: Design,
    mean: list[FloatArray],
    members: list[list[FloatArray]],
    part: tuple[int, int],
) -> list[tuple[FloatArray, FloatArray, IntArray]]:
    """Errors (N, 3), spreads s² (N,) and species (N,) in every frame of a part that no solution has seen.

    Parameters
    ----------
    sets : sequence of DataSet
    species : tuple of str
        In the order of the species index.
    design : Design
    mean : list of arrays, shape (P,)
        The solution that errors are those of, by problem.
    members : list of lists of arrays, shape (P,)
        By member, then by problem.
    part : (int, int)
        Which one, out of how many.
    """
    layout = design.layout
    stacks = [np.column_stack([mean[k], *(m[k] for m in members)]) for k in range(len(layout.problems))]
    found = []
    for data in sets:
        species_index = np.array([species.index(name) for name in data.frames.species], dtype=np.int64)
        count = count_samples(data.frames)
        inside = [number for number in range(count) if part_of(number, count, part[1]) == part[0]]
        every = max(1, len(inside) // _FRAMES)
        wanted = islice(samples(data.frames), inside[0], inside[-1] + 1, every) if inside else iter(())
        for sample, rows, _ in on_all_cores(partial(sample_rows, design, species_index, None), wanted):
            forces = np.empty((1 + len(members), len(species_index), 3))
            for problem, x, coefficients in zip(layout.problems, rows, stacks, strict=True):
                forces[:, np.isin(species_index, problem)] = np.moveaxis(x @ coefficients, -1, 0)
            found.append((forces[0] - sample.target, variance_of(forces[1:]), species_index))
    return found


def limits(seen: list[tuple[FloatArray, FloatArray, IntArray]], residual: FloatArray, scale: FloatArray) -> FloatArray:
    """Limits of σ by species; one that no frame has gets the largest of the others."""
    found = np.zeros(len(residual))
    for a in range(len(residual)):
        largest = [
            spreads[species_index == a].max() for _, spreads, species_index in seen if (species_index == a).any()
        ]
        if largest:
            sigma = np.sqrt(residual[a] ** 2 + scale[a] ** 2 * np.array(largest))
            enough = len(sigma) >= _LEAST_FOR_A_TAIL
            found[a] = limit(sigma, power_law=True) if enough else FURTHEST * sigma.max()
    return np.where(found > 0.0, found, found.max())


def calibrate(
    errors: FloatArray, spreads: FloatArray, species_index: IntArray, n_species: int
) -> tuple[FloatArray, FloatArray]:
    """a_A and b_A of σ² = a² + b² s², shape (S,) each.

    Their ratio is the likeliest for normal errors. Errors have heavier tails than that, so that no σ gives both shares
    of a normal law; the common factor is the one that misses the shares within σ and 2 σ least.

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
    """a² and b² of the normal law that is the likeliest for mean squares of errors, in steps of their logarithms."""
    whole, width = max(float(squares.mean()), 1e-12), max(float(s2.mean()), 1e-12)

    def surprise(logs: FloatArray) -> float:
        variance = whole * np.exp(logs[0]) + whole / width * np.exp(logs[1]) * s2
        return float(np.mean(np.log(variance / whole) + squares / variance))

    found = minimize(surprise, np.log([0.5, 0.5]), method="L-BFGS-B", bounds=[(-20.0, 5.0)] * 2).x
    return whole * float(np.exp(found[0])), whole / width * float(np.exp(found[1]))


def _balanced(ratios: FloatArray) -> float:
    """The factor on σ that misses the nominal shares of |error| / σ within one and two by the least."""
    factors = np.geomspace(0.3, 3.0, 461)
    ordered = np.sort(ratios)
    shares = [np.searchsorted(ordered, k * factors) / len(ordered) for k in (1, 2)]
    misses = np.max([np.abs(share - nominal) for share, nominal in zip(shares, NOMINAL, strict=True)], axis=0)
    best = np.flatnonzero(misses <= misses.min() + 1e-12)
    return float(factors[best[len(best) // 2]])
