"""The domain of an inference: the training distribution, with limits derived from held-out blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.inference.equations.pair_statistics import PairStatistics
from openmm_duality.inference.uncertainty.measurements import Measurement
from openmm_duality.invariants.radial import Grid
from openmm_duality.losses.domain import REFERENCE_SHARE, Domain, KnownEnvironments, mean_losses
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.frames import evenly_spaced

MAX_AGENTS = 40_000  # whose local environments are described
MIN_VARIANCE = 1e-6  # of a principal component relative to the largest; anything below is rounding
RANGE = 5.0  # standard deviations; a component with rare larger values is scaled by its range instead
DISTANCE_MARGIN = 0.0075  # nm around an observed distance that also count as observed
LOSSES_LIMIT = 5.0  # standard deviations of a frame's mean loss
MIN_FRAMES = 10  # for a domain
LARGEST_FACTOR = 10.0  # limit at the share `REFERENCE_SHARE`, at most, relative to the largest value
_TAIL, _LEAST_TAIL = 0.005, 30  # fraction of the agents in the tail, and their least number
_CONFIDENCE = 2.0  # standard deviations by which the width of a tail is taken to be wider than estimated
_TAIL_DISTANCES = 30  # at an edge of the observed distances
_CONCAVITY = 0.1  # of the logarithm of the share of distances beyond an edge: at a wall it falls ever faster
_BLOCKS = 5
_MIN_SCALE = 1e-9  # avoids division by zero
_MARGIN = 1.01  # for rounding, when a limit is widened to contain a frame


@dataclass(frozen=True)
class FrameDescriptors:
    """Description of a frame: descriptors (N, P), mean losses (K, S + 1) of K models, species indices (N,), block.

    The block is the index among `_BLOCKS` contiguous blocks of time.
    """

    descriptors: FloatArray
    means: FloatArray
    species_index: IntArray
    block: int

    @classmethod
    def of(cls, measurement: Measurement, count: int, n_species: int) -> FrameDescriptors:
        """Build the description from a measurement with descriptors, one of `count` samples of a data set."""
        assert measurement.descriptors is not None
        index = measurement.species_index
        means = np.array([mean_losses(losses, index, n_species) for losses in measurement.losses])
        return cls(measurement.descriptors, means, index, measurement.number * _BLOCKS // count)


def described_samples(count: int, n_atoms: int, n_sets: int) -> IntArray:
    """Numbers of the evenly spaced samples to describe, out of `count` in one of `n_sets` data sets."""
    max_frames = max(MIN_FRAMES, MAX_AGENTS // (n_sets * n_atoms))
    return evenly_spaced(count, max_frames)


def with_domain(
    losses: AgentLosses, descriptions: Sequence[FrameDescriptors], statistics: PairStatistics
) -> AgentLosses:
    """Add the domain of their training frames to the losses.

    Parameters
    ----------
    losses : AgentLosses
    descriptions : sequence of FrameDescriptors
        Descriptions of training frames by the losses.
    statistics : PairStatistics
        Pair distances of all training frames.
    """
    means = np.array([description.means[0] for description in descriptions])
    domain = Domain(
        seen=_frequencies(statistics, losses.grid),
        environments=tuple(_known_environments(descriptions, a) for a in range(len(losses.species))),
        losses=np.stack([np.nanmean(means, axis=0), np.maximum(np.nanstd(means, axis=0), _MIN_SCALE)], axis=1),
        limit=LOSSES_LIMIT,
        agents=float(np.mean([len(description.species_index) for description in descriptions])),
    )
    return replace(losses, domain=domain)


def with_wider_domain(
    losses: AgentLosses, domain: Domain, descriptions: Sequence[FrameDescriptors], statistics: PairStatistics
) -> AgentLosses:
    """Give the losses the domain of the model they were refitted from, widened to contain new frames.

    New coefficients may shift the losses of all configurations by a constant; the mean losses of the domain are shifted
    by the mean difference in the new frames.

    Parameters
    ----------
    losses : AgentLosses
    domain : Domain
        Domain of the losses before the refit.
    descriptions : sequence of FrameDescriptors
        Descriptions of the new frames by the losses after and before the refit.
    statistics : PairStatistics
        Pair distances of the new frames.
    """
    means, before = (np.array([description.means[k] for description in descriptions]) for k in (0, 1))
    shifts = means - before
    present = np.isfinite(shifts).any(axis=0)
    levels = domain.losses.copy()
    levels[present, 0] += np.nanmean(shifts[:, present], axis=0)
    away = np.nan_to_num(np.abs(means - levels[:, 0])).max(axis=0)
    levels[:, 1] = np.maximum(levels[:, 1], _MARGIN * away / domain.limit)
    seen = np.maximum(domain.seen, _frequencies(statistics, losses.grid))
    environments = tuple(_widened_environments(known, descriptions, a) for a, known in enumerate(domain.environments))
    return replace(losses, domain=replace(domain, seen=seen, environments=environments, losses=levels))


def tail_limit(
    values: FloatArray, frames: IntArray, share: float = REFERENCE_SHARE, power_law: bool = False
) -> tuple[float, float]:
    """Extrapolate the value that a share of agents exceeds, assuming an exponential or power-law tail.

    The width of the tail is the upper end of its confidence interval, but no more than leads to ten times the largest
    value at the share `losses.domain.REFERENCE_SHARE`. What is unusual lasts and concerns the atoms of a molecule
    together, so that the agents of a frame count as one event there.

    Parameters
    ----------
    values : array, shape (M,)
        Of agents in many frames, positive.
    frames : array of int, shape (M,)
        The frame of each agent.
    share : float
        Share of agents above the limit.
    power_law : bool
        Whether the tail is a power law, so that the logarithms have an exponential tail.

    Returns
    -------
    limit : float
    tail : float
        Growth of the limit, or of its logarithm, where the share is smaller by a factor of e.
    """
    number = min(len(values), max(_LEAST_TAIL, round(_TAIL * len(values))))
    outermost = np.argsort(values)[-number:]
    tail_values = np.log(values[outermost]) if power_law else values[outermost]
    begin, events = float(tail_values[0]), len(np.unique(frames[outermost]))
    tail = float((tail_values - begin).mean()) * (1.0 + _CONFIDENCE / events**0.5)
    furthest = LARGEST_FACTOR * float(values.max())
    reach = (np.log(furthest) if power_law else furthest) - begin
    tail = min(tail, float(reach / np.log(number / (len(values) * REFERENCE_SHARE))))
    found = begin + tail * float(np.log(number / (len(values) * share)))
    return float(np.exp(found)) if power_law else found, tail


def frames_of_agents(by_frame: Sequence[FloatArray]) -> IntArray:
    """The number of the frame of every agent, shape (M,), of values of agents by frame."""
    return np.repeat(np.arange(len(by_frame)), [len(values) for values in by_frame])


def _widened_environments(
    known: KnownEnvironments, descriptions: Sequence[FrameDescriptors], a: int
) -> KnownEnvironments:
    """Widen the known environments of a species to contain the agents of more frames."""
    descriptors = np.concatenate([one.descriptors[one.species_index == a] for one in descriptions])
    if not len(descriptors):
        return known
    reach = np.abs((descriptors - known.centre) @ known.whitening).max(axis=0) / known.limit
    return replace(known, whitening=known.whitening / np.maximum(_MARGIN * reach, 1.0))


def _known_environments(descriptions: Sequence[FrameDescriptors], a: int) -> KnownEnvironments:
    """Known environments of a species, with a limit that held-out blocks of frames stay within."""
    of_species = [(d.descriptors[d.species_index == a], d.block) for d in descriptions if (d.species_index == a).any()]
    away: list[FloatArray] = []  # by frame
    for block in range(_BLOCKS):
        rest = [descriptors for descriptors, other in of_species if other != block]
        held_out = [descriptors for descriptors, other in of_species if other == block]
        if rest and held_out:
            known = _components(np.concatenate(rest))
            away += [known.distances(descriptors) for descriptors in held_out]
    found = _components(np.concatenate([descriptors for descriptors, _ in of_species]))
    if not away:
        return replace(found, limit=RANGE)
    limit, tail = tail_limit(np.concatenate(away), frames_of_agents(away))
    return replace(found, limit=max(limit, RANGE), tail=tail)


def _components(descriptors: FloatArray) -> KnownEnvironments:
    """Principal components of invariants, shape (M, P), without a limit."""
    centre = descriptors.mean(axis=0)
    z = descriptors - centre
    scale = _scale(z)
    z /= scale
    values, axes = np.linalg.eigh(z.T @ z / len(z))
    axes = axes[:, values > MIN_VARIANCE * values[-1]]
    if not axes.size:  # a single agent in a single frame has no width
        return KnownEnvironments(centre, np.zeros((len(centre), 1)), np.inf)
    return KnownEnvironments(centre, axes / _scale(z @ axes) / scale[:, None], np.inf)


def _scale(z: FloatArray) -> FloatArray:
    """Standard deviation of every column about zero, or its range in units of `RANGE` where that is larger."""
    deviation, reach = np.sqrt(np.mean(z**2, axis=0)), np.abs(z).max(axis=0)
    return np.asarray(np.maximum(np.maximum(deviation, reach / RANGE), _MIN_SCALE))


def _frequencies(statistics: PairStatistics, grid: Grid) -> FloatArray:
    """How many neighbours an agent has in every interval of the grid, `Domain.seen`, with a tail at every edge.

    Beyond an edge of the observed distances, towards longer or shorter ones, the frequency falls as a generalised
    Pareto distribution with the mean excess of the outermost distances and the shape −`_CONCAVITY`. Near an observed
    distance there is one neighbour at least in all the data. Of two species the agent is of the rarer one.
    """
    counts = np.asarray(statistics.counts, dtype=np.float64)
    near = _with_margin(counts > 0.0, round(DISTANCE_MARGIN / grid.spacing))
    found = np.maximum(counts, near)
    for a, b in np.ndindex(counts.shape[:2]):
        for way in (slice(None), slice(None, None, -1)):
            tail = _tail_beyond_edges(counts[a, b, way])
            found[a, b, way] = np.maximum(found[a, b, way], tail)
    agents = np.maximum(statistics.agents, 1.0)
    return np.asarray(np.maximum(found, found.swapaxes(0, 1)) / np.minimum.outer(agents, agents)[..., None])


def _tail_beyond_edges(counts: FloatArray) -> FloatArray:
    """Expected counts (K,) in the intervals that follow an observed one, up to the next that is observed."""
    found, observed = np.zeros_like(counts), np.flatnonzero(counts)
    for edge, following in pairwise([*observed, len(counts)]):
        if following > edge + 1:
            inner = np.cumsum(counts[edge::-1])  # from the edge inwards
            depth = int(np.searchsorted(inner, min(_TAIL_DISTANCES, inner[-1])))
            outermost = counts[edge - depth : edge + 1]
            excess = max(float(outermost @ (0.5 + np.arange(depth + 1.0)) / outermost.sum()), 0.5)
            reduced = np.arange(edge + 1, following + 1) - (edge - depth)
            left = np.maximum(1.0 - _CONCAVITY * reduced / ((1.0 + _CONCAVITY) * excess), 0.0) ** (1.0 / _CONCAVITY)
            found[edge + 1 : following] = outermost.sum() * -np.diff(left)
    return found


def _with_margin(seen: BoolArray, intervals: int) -> FloatArray:
    """Array with 1 for intervals (last axis) at most `intervals` away from an observed one, and 0 elsewhere."""
    result = seen.copy()
    for k in range(1, intervals + 1):
        result[..., k:] |= seen[..., :-k]
        result[..., :-k] |= seen[..., k:]
    return result.astype(np.float64)
