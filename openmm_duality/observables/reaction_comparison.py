"""Species, hops and lifetimes of molecules that change, of a run beside those of its reference.

Numbers are those of a system of the reference's size. Index suffix: t frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.observables.correlation_times import CorrelationTime
from openmm_duality.observables.curves import Curve
from openmm_duality.observables.differences import MeanDifference
from openmm_duality.observables.findings import Measured, Note, Observable, Quantity, Remark
from openmm_duality.observables.frame_series import FrameSeries, compare_series
from openmm_duality.observables.reactions import Reactions
from openmm_duality.observables.results import DistributionComparison
from openmm_duality.observables.statistics import Estimate, Reason, block_means, jackknife
from openmm_duality.observables.trajectory import Trajectory

_MOST_FORMULAS = 12
_GROUPS = 10  # of the jackknife
_UNEVEN = 0.05  # relative difference of two times between frames
_POINTS = 500  # of a curve

Follow = Callable[[Trajectory], Reactions]
Times = dict[Measured, tuple[CorrelationTime, CorrelationTime]]


@dataclass(frozen=True)
class ReactionComparison:
    """Reactions of a run beside those of its reference; empty where no bond changed in either.

    Parameters
    ----------
    population : dict of str to DistributionComparison
        Number of molecules by formula.
    hops : dict of str to DistributionComparison
        Atoms of a species that change their partner, per ps.
    lifetime : dict of str to Quantity
        Mean lifetime of the molecules of a formula that end at all, in ps.
    hop_counts : dict of str to tuple of Curve
        Number of hops since the first frame, against the time since then in ps, of the run and of the reference.
    spacing : float
        Between the frames in which bonds were followed, in ps.
    times : dict of Measured to tuple of CorrelationTime
        Of the run and of the reference.
    notes : tuple of Note
    """

    population: dict[str, DistributionComparison] = field(default_factory=dict)
    hops: dict[str, DistributionComparison] = field(default_factory=dict)
    lifetime: dict[str, Quantity] = field(default_factory=dict)
    hop_counts: dict[str, tuple[Curve, Curve]] = field(default_factory=dict)
    spacing: float = 0.0
    times: Times = field(default_factory=dict)
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Followed:
    """A trajectory, its reactions, and the factor from its size to that of the reference."""

    trajectory: Trajectory
    reactions: Reactions
    factor: float = 1.0

    def every(self, spacing: float, follow: Follow) -> Followed:
        """The same followed in frames that are about so far apart, in ps."""
        own = self.trajectory.spacing
        stride = max(1, round(spacing / own)) if own > 0 else 1
        if stride == 1:
            return self
        thinned = self.trajectory.every(stride)
        return Followed(thinned, follow(thinned), self.factor)

    def population(self, formula: str) -> FrameSeries:
        """Number of molecules in every frame."""
        return self._series(self._found(self.reactions.populations, formula), self.trajectory.duration)

    def hops(self, species: str) -> FrameSeries:
        """Hops per ps in every frame but the first."""
        rates = self._found(self.reactions.hops, species)[1:] / self.trajectory.spacing
        return self._series(rates, self.trajectory.spacing * len(rates))

    def hop_count(self, species: str) -> Curve:
        """Number of hops since the first frame, at some of the frames."""
        total = self.factor * np.cumsum(self._found(self.reactions.hops, species))
        chosen = np.unique(np.linspace(0, len(total) - 1, _POINTS).astype(np.int64))
        return Curve(self.trajectory.times[chosen] - self.trajectory.times[0], total[None, chosen])

    def lifetime(self, formula: str) -> Estimate | None:
        """Mean lifetime in ps: the time that molecules were there, by the number of those that ended.

        It is that of an exponential decay, whether or not its beginning and end were seen. Its error is from a
        jackknife over blocks of time, at least that of as many independent ends. None where none ended.
        """
        ends = self._found(self.reactions.ends, formula)
        number = int(ends.sum())
        if not number:
            return None
        there = self._found(self.reactions.populations, formula) * self.trajectory.spacing
        groups = block_means(np.stack([there, ends], axis=1), min(_GROUPS, len(ends)))
        value, independent = float(there.sum()) / number, number**-0.5
        error = value * independent
        if number >= _GROUPS and len(groups) > 1:
            error = max(error, jackknife(groups, lambda mean: float(mean[0] / mean[1]) if mean[1] else np.inf).error)
        return Estimate(value, error, min(number + 1, _GROUPS))

    def _found(self, by_name: dict[str, FloatArray], name: str) -> FloatArray:
        return by_name.get(name, np.zeros(len(self.trajectory)))

    def _series(self, values: FloatArray, duration: float) -> FrameSeries:
        return FrameSeries(self.factor * values, duration, len(self.trajectory.species))


def compare_reactions(run: Followed, reference: Followed, follow: Follow, least: float) -> ReactionComparison:
    """Compare the reactions of a run with those of a reference.

    Parameters
    ----------
    run, reference : Followed
    follow : callable
        What follows the bonds of a thinned trajectory: events are counted in frames that are equally far apart.
    least : float
        The least length of a block in ps.
    """
    if not (run.reactions.occurred or reference.reactions.occurred):
        return ReactionComparison()
    spacing = max(run.trajectory.spacing, reference.trajectory.spacing)
    one, other = run.every(spacing, follow), reference.every(spacing, follow)
    times: Times = {}

    def compared(observable: Observable, name: str, a: FrameSeries, b: FrameSeries) -> DistributionComparison:
        found, times[Measured(observable, name)] = compare_series(a, b, least)
        return found

    means = {
        name: max(float(side.population(name).values.mean()) for side in (one, other))
        for name in sorted({*one.reactions.populations, *other.reactions.populations})
    }
    frequent = sorted(means, key=lambda name: -means[name])[:_MOST_FORMULAS]
    hopping = sorted({*one.reactions.hops, *other.reactions.hops})
    lifetimes = {name: _side_by_side(one.lifetime(name), other.lifetime(name)) for name in frequent}
    notes = [
        Note(Remark.HOPS_COARSE, side.trajectory.name, (1e3 * side.trajectory.spacing, 1e3 * spacing))
        for side in (one, other)
        if abs(side.trajectory.spacing / spacing - 1) > _UNEVEN
    ]
    if len(frequent) < len(means):
        notes.append(Note(Remark.FORMULAS_LEFT_OUT, run.trajectory.name, (len(means) - len(frequent), len(frequent))))
    return ReactionComparison(
        {n: compared(Observable.POPULATION, n, one.population(n), other.population(n)) for n in frequent},
        {n: compared(Observable.HOPS, n, one.hops(n), other.hops(n)) for n in hopping},
        {n: q for n, q in lifetimes.items() if q.run is not None or q.reference is not None},
        {n: (one.hop_count(n), other.hop_count(n)) for n in hopping},
        spacing,
        times,
        tuple(notes),
    )


def _side_by_side(run: Estimate | None, reference: Estimate | None) -> Quantity:
    """Lifetimes beside each other, without a test: they follow from populations and ends."""
    if run is None or reference is None:
        return Quantity(run, reference, None)
    return Quantity(run, reference, MeanDifference(run.mean - reference.mean, None, None, Reason.IMPLIED))
