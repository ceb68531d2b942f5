"""The domain of an inference: what its frames held, and limits that held-out blocks of them stay within."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.inference.equations.pair_statistics import Survey, survey
from openmm_duality.inference.equations.targets import DataSet
from openmm_duality.inference.uncertainty.tails import limit
from openmm_duality.invariants.contractions import environment_descriptors
from openmm_duality.losses.domain import Domain, KnownEnvironments, mean_losses
from openmm_duality.losses.evaluator import LocalEnvironments
from openmm_duality.losses.model import AgentLosses
from openmm_duality.parallel import on_all_cores
from openmm_duality.reference.frames import Frames, evenly_spaced

AGENTS = 40_000  # at most, whose local environments are described
LEAST_VARIANCE = 1e-6  # of a principal component, as a share of the largest: below that is rounding
RANGE = 5.0  # standard deviations; what varies further does so by rare events, and is scaled by its range
BEYOND = 0.0075  # nm from a distance that occurred, up to which one counts as seen
LOSSES_LIMIT = 4.5  # standard deviations of a frame's mean loss
_BLOCKS = 5
_LEAST_FRAMES = 10
_LEAST = 1e-9  # of what is divided by
_ROOM = 1.01  # for rounding, where a limit is put on a frame that is to be known


@dataclass(frozen=True)
class _Look:
    """What one frame shows: φ (N, P), mean losses (S + 1,), species (N,), and the block of time that it is in."""

    phi: FloatArray
    means: FloatArray
    species_index: IntArray
    block: int


def with_domain(losses: AgentLosses, sets: Sequence[DataSet], seen: Survey) -> AgentLosses:
    """The losses with the domain of their training frames; without one where those are fewer than ten.

    Parameters
    ----------
    losses : AgentLosses
    sets : sequence of DataSet
        The training frames.
    seen : Survey
        Of the same frames.
    """
    if sum(len(s.frames) for s in sets) < _LEAST_FRAMES:
        return losses
    looks = _looks(losses, sets)
    means = np.array([look.means for look in looks])
    domain = Domain(
        seen=_widened(seen.density > 0.0, round(BEYOND / losses.grid.spacing)),
        environments=tuple(_known(looks, a) for a in range(len(losses.species))),
        losses=np.stack([np.nanmean(means, axis=0), np.maximum(np.nanstd(means, axis=0), _LEAST)], axis=1),
        limit=LOSSES_LIMIT,
        agents=float(np.mean([len(look.species_index) for look in looks])),
    )
    return replace(losses, domain=domain)


def with_wider_domain(losses: AgentLosses, before: AgentLosses, sets: Sequence[DataSet]) -> AgentLosses:
    """The losses with the domain of others they were made from, wider where new frames stick out, and only there.

    New coefficients may shift the losses of all configurations alike; mean losses are shifted as those of the new
    frames are.

    Parameters
    ----------
    losses, before : AgentLosses
    sets : sequence of DataSet
        The new frames.
    """
    if before.domain is None:
        return replace(losses, domain=None)
    domain, looks = before.domain, _looks(losses, sets)
    means = np.array([look.means for look in looks])
    shifts = means - np.array([look.means for look in _looks(before, sets)])
    there = np.isfinite(shifts).any(axis=0)
    levels = domain.losses.copy()
    levels[there, 0] += np.nanmean(shifts[:, there], axis=0)
    away = np.nan_to_num(np.abs(means - levels[:, 0])).max(axis=0)
    levels[:, 1] = np.maximum(levels[:, 1], _ROOM * away / domain.limit)
    density = survey((s.frames for s in sets), losses.species, losses.grid).density
    seen = np.maximum(domain.seen, _widened(density > 0.0, round(BEYOND / losses.grid.spacing)))
    environments = tuple(_wider(known, looks, a) for a, known in enumerate(domain.environments))
    return replace(losses, domain=replace(domain, seen=seen, environments=environments, losses=levels))


def _wider(known: KnownEnvironments, looks: Sequence[_Look], a: int) -> KnownEnvironments:
    """The local environments of a species, with components widened to hold the agents of more frames."""
    phi = np.concatenate([look.phi[look.species_index == a] for look in looks])
    if not len(phi):
        return known
    reach = np.abs((phi - known.centre) @ known.whitening).max(axis=0) / known.limit
    return replace(known, whitening=known.whitening / np.maximum(_ROOM * reach, 1.0))


def _looks(losses: AgentLosses, sets: Sequence[DataSet]) -> list[_Look]:
    """At evenly spaced frames of every set."""
    found = []
    for data in sets:
        most = max(_LEAST_FRAMES, AGENTS // (len(sets) * len(data.frames.species)))
        chosen = evenly_spaced(len(data.frames), min(most, len(data.frames)))
        places = [(data.frames, int(t), int(t) * _BLOCKS // len(data.frames)) for t in chosen]
        found += list(on_all_cores(partial(_look, losses), places))
    return found


def _look(losses: AgentLosses, place: tuple[Frames, int, int]) -> _Look:
    frames, t, block = place
    seen = LocalEnvironments.of(losses, frames.positions[t], frames.species, frames.cell(t))
    phi = environment_descriptors(seen.moments, losses.basis.size)
    return _Look(
        phi,
        mean_losses(seen.evaluate(losses).losses, seen.species_index, len(losses.species)),
        seen.species_index,
        block,
    )


def _known(looks: Sequence[_Look], a: int) -> KnownEnvironments:
    """The local environments of a species, with a limit that frames left out of the components stay within."""
    mine = [(look.phi[look.species_index == a], look.block) for look in looks if (look.species_index == a).any()]
    largest = []
    for block in range(_BLOCKS):
        rest = [phi for phi, other in mine if other != block]
        left_out = [phi for phi, other in mine if other == block]
        if rest and left_out:
            known = _components(np.concatenate(rest))
            largest += [known.distances(phi).max() for phi in left_out]
    found = _components(np.concatenate([phi for phi, _ in mine]))
    return replace(found, limit=max(limit(np.array(largest)), RANGE) if largest else RANGE)


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


def _widened(seen: npt.NDArray[np.bool_], intervals: int) -> FloatArray:
    """1 where an interval was seen, or one within so many of it, and 0 elsewhere, in the last axis."""
    result = seen.copy()
    for k in range(1, intervals + 1):
        result[..., k:] |= seen[..., :-k]
        result[..., :-k] |= seen[..., k:]
    return result.astype(np.float64)
