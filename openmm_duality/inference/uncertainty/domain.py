"""The domain of an inference: what its frames held, and limits that held-out blocks of them stay within."""

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

AGENTS = 40_000  # at most, whose local environments are described
LEAST_VARIANCE = 1e-6  # of a principal component, as a share of the largest: below that is rounding
RANGE = 5.0  # standard deviations; what varies further does so by rare events, and is scaled by its range
BEYOND = 0.0075  # nm from a distance that occurred, up to which one counts as seen
LOSSES_LIMIT = 4.5  # standard deviations of a frame's mean loss
LEAST_FRAMES = 10  # for a domain
FALSE_ALARMS = 1e-6  # per frame; checks in a run are more than frames in the data, and its tails longer
LARGEST_FACTOR = 3.0  # on the largest value there is, up to which a tail is extrapolated
_TAIL = 0.2  # of the frames, whose values make up the tail
_BLOCKS = 5
_LEAST = 1e-9  # of what is divided by
_MARGIN = 1.01  # for rounding, where a limit is put on a frame that is to be known


@dataclass(frozen=True)
class Description:
    """What one frame holds: descriptors φ (N, P), mean losses (K, S + 1) by K models, species (N,), and its block.

    Frames are described in `_BLOCKS` contiguous blocks of time.
    """

    phi: FloatArray
    means: FloatArray
    species_index: IntArray
    block: int

    @classmethod
    def of(cls, measurement: Measurement, count: int, n_species: int) -> Description:
        """From a measurement with descriptors, one of `count` samples of a data set."""
        assert measurement.descriptors is not None
        index = measurement.species_index
        means = np.array([mean_losses(losses, index, n_species) for losses in measurement.losses])
        return cls(measurement.descriptors, means, index, measurement.number * _BLOCKS // count)


def described_samples(count: int, n_atoms: int, n_sets: int) -> IntArray:
    """Numbers of the samples to describe, evenly spaced, out of `count` of one of `n_sets` data sets."""
    most = max(LEAST_FRAMES, AGENTS // (n_sets * n_atoms))
    return evenly_spaced(count, min(most, count))


def with_domain(losses: AgentLosses, descriptions: Sequence[Description], statistics: PairStatistics) -> AgentLosses:
    """The losses with the domain of their training frames.

    Parameters
    ----------
    losses : AgentLosses
    descriptions : sequence of Description
        Of training frames, by the losses.
    statistics : PairStatistics
        Of all training frames.
    """
    means = np.array([description.means[0] for description in descriptions])
    domain = Domain(
        seen=_widened(statistics.density > 0.0, round(BEYOND / losses.grid.spacing)),
        environments=tuple(_known(descriptions, a) for a in range(len(losses.species))),
        losses=np.stack([np.nanmean(means, axis=0), np.maximum(np.nanstd(means, axis=0), _LEAST)], axis=1),
        limit=LOSSES_LIMIT,
        agents=float(np.mean([len(description.species_index) for description in descriptions])),
    )
    return replace(losses, domain=domain)


def with_wider_domain(
    losses: AgentLosses, domain: Domain, descriptions: Sequence[Description], statistics: PairStatistics
) -> AgentLosses:
    """The losses with the domain of others they were made from, widened only where new frames lie outside of it.

    New coefficients may shift the losses of all configurations alike; mean losses are shifted as those of the new
    frames are.

    Parameters
    ----------
    losses : AgentLosses
    domain : Domain
        Of the losses before.
    descriptions : sequence of Description
        Of new frames, by these losses and by those before.
    statistics : PairStatistics
        Of the new frames.
    """
    means, before = (np.array([description.means[k] for description in descriptions]) for k in (0, 1))
    shifts = means - before
    present = np.isfinite(shifts).any(axis=0)
    levels = domain.losses.copy()
    levels[present, 0] += np.nanmean(shifts[:, present], axis=0)
    away = np.nan_to_num(np.abs(means - levels[:, 0])).max(axis=0)
    levels[:, 1] = np.maximum(levels[:, 1], _MARGIN * away / domain.limit)
    seen = np.maximum(domain.seen, _widened(statistics.density > 0.0, round(BEYOND / losses.grid.spacing)))
    environments = tuple(_wider(known, descriptions, a) for a, known in enumerate(domain.environments))
    return replace(losses, domain=replace(domain, seen=seen, environments=environments, losses=levels))


def tail_limit(largest: FloatArray, rate: float = FALSE_ALARMS, power_law: bool = False) -> float:
    """The value that a frame of the same distribution exceeds at a rate, by an exponential tail, or that of a power.

    Parameters
    ----------
    largest : array, shape (T,)
        The largest value in every frame, above zero.
    rate : float
        Frames above the limit, as a share of all.
    power_law : bool
        Whether the logarithm has the exponential tail.
    """
    values = np.log(largest) if power_law else largest
    begin = float(np.quantile(values, 1.0 - _TAIL))
    excess = values[values >= begin] - begin
    found = begin + float(excess.mean()) * float(np.log(_TAIL / rate))
    furthest = LARGEST_FACTOR * float(largest.max())
    return min(float(np.exp(min(found, np.log(furthest)))) if power_law else found, furthest)


def _wider(known: KnownEnvironments, descriptions: Sequence[Description], a: int) -> KnownEnvironments:
    """The local environments of a species, with components widened to hold the agents of more frames."""
    phi = np.concatenate([one.phi[one.species_index == a] for one in descriptions])
    if not len(phi):
        return known
    reach = np.abs((phi - known.centre) @ known.whitening).max(axis=0) / known.limit
    return replace(known, whitening=known.whitening / np.maximum(_MARGIN * reach, 1.0))


def _known(descriptions: Sequence[Description], a: int) -> KnownEnvironments:
    """The local environments of a species, with a limit that frames left out of the components stay within."""
    mine = [(d.phi[d.species_index == a], d.block) for d in descriptions if (d.species_index == a).any()]
    largest = []
    for block in range(_BLOCKS):
        rest = [phi for phi, other in mine if other != block]
        left_out = [phi for phi, other in mine if other == block]
        if rest and left_out:
            known = _components(np.concatenate(rest))
            largest += [known.distances(phi).max() for phi in left_out]
    found = _components(np.concatenate([phi for phi, _ in mine]))
    return replace(found, limit=max(tail_limit(np.array(largest)), RANGE) if largest else RANGE)


def _components(phi: FloatArray) -> KnownEnvironments:
    """Principal components of invariants, shape (M, P); without a limit."""
    centre = phi.mean(axis=0)
    z = phi - centre
    scale = _scale(z)
    z /= scale
    values, axes = np.linalg.eigh(z.T @ z / len(z))
    axes = axes[:, values > LEAST_VARIANCE * values[-1]]
    if not axes.size:  # one agent in one frame: no width is known
        return KnownEnvironments(centre, np.zeros((len(centre), 1)), np.inf)
    return KnownEnvironments(centre, axes / _scale(z @ axes) / scale[:, None], np.inf)


def _scale(z: FloatArray) -> FloatArray:
    """Standard deviation of every column about zero, or its range in units of `RANGE` where that is larger."""
    deviation, reach = np.sqrt(np.mean(z**2, axis=0)), np.abs(z).max(axis=0)
    return np.asarray(np.maximum(np.maximum(deviation, reach / RANGE), _LEAST))


def _widened(seen: BoolArray, intervals: int) -> FloatArray:
    """1 where an interval was seen, or one within so many of it, and 0 elsewhere, in the last axis."""
    result = seen.copy()
    for k in range(1, intervals + 1):
        result[..., k:] |= seen[..., :-k]
        result[..., :-k] |= seen[..., k:]
    return result.astype(np.float64)
