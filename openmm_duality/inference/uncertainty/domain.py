"""The domain of an inference: the training distribution, with limits derived from held-out blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.inference.equations.pair_statistics import PairStatistics
from openmm_duality.inference.uncertainty.measurements import Measurement
from openmm_duality.losses.domain import Domain, KnownEnvironments, mean_losses
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.frames import evenly_spaced

MAX_AGENTS = 40_000  # whose local environments are described
MIN_VARIANCE = 1e-6  # of a principal component relative to the largest; anything below is rounding
RANGE = 5.0  # standard deviations; a component with rare larger values is scaled by its range instead
DISTANCE_MARGIN = 0.0075  # nm around an observed distance that also count as observed
LOSSES_LIMIT = 4.5  # standard deviations of a frame's mean loss
MIN_FRAMES = 10  # for a domain
FALSE_ALARMS = 1e-6  # per frame; a run has more checks than there are training frames, and longer tails
LARGEST_FACTOR = 3.0  # limit of the extrapolation of a tail, relative to the largest value
_TAIL = 0.2  # fraction of the frames in the tail
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
    return evenly_spaced(count, min(max_frames, count))


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
        seen=_with_margin(statistics.density > 0.0, round(DISTANCE_MARGIN / losses.grid.spacing)),
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
    seen = np.maximum(domain.seen, _with_margin(statistics.density > 0.0, round(DISTANCE_MARGIN / losses.grid.spacing)))
    environments = tuple(_widened_environments(known, descriptions, a) for a, known in enumerate(domain.environments))
    return replace(losses, domain=replace(domain, seen=seen, environments=environments, losses=levels))


def tail_limit(largest: FloatArray, rate: float = FALSE_ALARMS, power_law: bool = False) -> float:
    """Extrapolate the value that a given fraction of frames exceeds, assuming an exponential or power-law tail.

    Parameters
    ----------
    largest : array, shape (T,)
        Largest value in each frame, positive.
    rate : float
        Fraction of frames above the limit.
    power_law : bool
        Whether the tail is a power law, so that the logarithms have an exponential tail.
    """
    values = np.log(largest) if power_law else largest
    begin = float(np.quantile(values, 1.0 - _TAIL))
    excess = values[values >= begin] - begin
    found = begin + float(excess.mean()) * float(np.log(_TAIL / rate))
    furthest = LARGEST_FACTOR * float(largest.max())
    return min(float(np.exp(min(found, np.log(furthest)))) if power_law else found, furthest)


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
    largest = []
    for block in range(_BLOCKS):
        rest = [descriptors for descriptors, other in of_species if other != block]
        held_out = [descriptors for descriptors, other in of_species if other == block]
        if rest and held_out:
            known = _components(np.concatenate(rest))
            largest += [known.distances(descriptors).max() for descriptors in held_out]
    found = _components(np.concatenate([descriptors for descriptors, _ in of_species]))
    return replace(found, limit=max(tail_limit(np.array(largest)), RANGE) if largest else RANGE)


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


def _with_margin(seen: BoolArray, intervals: int) -> FloatArray:
    """Array with 1 for intervals (last axis) at most `intervals` away from an observed one, and 0 elsewhere."""
    result = seen.copy()
    for k in range(1, intervals + 1):
        result[..., k:] |= seen[..., :-k]
        result[..., :-k] |= seen[..., k:]
    return result.astype(np.float64)
