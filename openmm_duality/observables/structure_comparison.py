"""Structure of a run compared with a reference's, every observable in blocks that suit its own correlation time.

Under the hypothesis of the tests, run and reference are the same liquid, so they have one correlation time and one
noise. The larger of the two is used: a short trajectory gives poor values of both, and mostly too small ones. A run
that is noisier than chance allows is not stationary: its noise would hide any difference, so only a rejection counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.observables.correlation_times import (
    BLOCK_TIME,
    UNCORRELATED,
    CorrelationTime,
    correlation_time,
    slower,
)
from openmm_duality.observables.curves import Curve, Distribution
from openmm_duality.observables.findings import Measured, Observable
from openmm_duality.observables.rdf import first_minimum
from openmm_duality.observables.results import CurveComparison, DistributionComparison, Quantity, Shell
from openmm_duality.observables.statistics import (
    CurveDifference,
    Difference,
    MeanDifference,
    Reason,
    compare_curves,
    compare_means,
    estimate,
    noisier,
    without_test,
)
from openmm_duality.observables.structure import BlockedHistograms, Structure

Pick = Callable[[Structure], FloatArray]


@dataclass(frozen=True)
class Sample:
    """Measurements of one system: histograms, the time that each frame represents in ps, and the number of atoms."""

    histograms: BlockedHistograms
    duration: float
    atoms: int

    @property
    def whole(self) -> Structure:
        """The structure in a single block."""
        return self.histograms.joined(1)

    def correlation_time(self, pick: Pick) -> CorrelationTime | None:
        """Correlation time of an observable, None where some short block lacks it."""
        try:
            series = pick(self.histograms.joined(self.histograms.n_blocks))
        except KeyError:
            return None
        return correlation_time(series, self.duration / self.histograms.n_blocks)

    def blocks(self, pick: Pick, slowest: CorrelationTime, least: float) -> FloatArray:
        """The observable in blocks whose scatter gives the error of its mean.

        They are fewer and longer where one of them lacks it.
        """
        blocks = pick(self.whole)
        for n_blocks in range(slowest.blocks_in(self.histograms.n_blocks, self.duration, least), 1, -1):
            try:
                blocks = pick(self.histograms.joined(n_blocks))
                break
            except KeyError:
                continue
        return widened(blocks, slowest.widening(self.duration, len(blocks)))

    def noise(self, blocks: FloatArray) -> float:
        """The variance of the mean in one ps of one atom, all bins together; 0 from a single block."""
        if len(blocks) < 2:
            return 0.0
        return float(np.var(blocks, axis=0, ddof=1).sum()) / len(blocks) * self.duration * self.atoms


@dataclass(frozen=True)
class _Both:
    """The blocks of an observable of the run and of the reference, and why they allow no test, if so."""

    run: FloatArray
    reference: FloatArray
    reason: Reason | None


@dataclass(frozen=True)
class StructureComparison:
    """The samples of a run and of its reference, and the least length of a block in ps.

    `correlation_times` holds those of every observable compared so far, of the run and of the reference.
    """

    run: Sample
    reference: Sample
    least: float = BLOCK_TIME
    correlation_times: dict[Measured, tuple[CorrelationTime, CorrelationTime]] = field(default_factory=dict)

    def curves(self, observable: Observable) -> dict[str, CurveComparison]:
        """Curves of an observable, by name, where both have one and at least one is not zero, as of two far ions."""
        wholes = [_part(sample.whole, observable) for sample in (self.run, self.reference)]
        names = [name for name in self._names(observable) if any(whole[name].mean.any() for whole in wholes)]
        return {name: self._curve(observable, name) for name in names}

    def distributions(self, observable: Observable) -> dict[str, DistributionComparison]:
        """Distributions of an observable, by name, with their means and spreads, where both have one."""
        found: dict[str, DistributionComparison] = {}
        for name in self._names(observable):
            centres = _part(self.reference.whole, observable)[name].centres
            density = self._pair(Measured(observable, name, "distribution"), _picked(observable, name))
            means = self._pair(Measured(observable, name), _picked(observable, name, "block_means"))
            spreads = self._pair(Measured(observable, name, "spread"), _picked(observable, name, "block_spreads"))
            run = Distribution(centres, density.run, means.run, spreads.run)
            reference = Distribution(centres, density.reference, means.reference, spreads.reference)
            found[name] = DistributionComparison(run, reference, self._means(means), self._means(spreads))
        return found

    def shells(self) -> dict[str, Shell]:
        """The numbers of neighbours within the first shell of the reference."""
        found = {}
        whole, runs = self.reference.whole, self.run.whole
        for name, curve in whole.coordination.items():
            g = whole.rdf.get(name) or whole.rdf.get("-".join(name.split("-")[::-1]))
            edge = None if g is None else first_minimum(g.centres, g.mean)
            if edge is not None and name in runs.coordination:
                at = int(np.searchsorted(curve.centres, edge))
                found[name] = Shell(edge, self._number(Measured(Observable.FIRST_SHELL, name), _neighbours(name, at)))
        return found

    def hydrogen_bonds(self) -> Quantity | None:
        """The number of hydrogen bonds."""
        if any(sample.whole.hydrogen_bonds is None for sample in (self.run, self.reference)):
            return None
        return self._number(Measured(Observable.HYDROGEN_BONDS), lambda structure: np.asarray(structure.hydrogen_bonds))

    def _names(self, observable: Observable) -> list[str]:
        known = _part(self.reference.whole, observable)
        return [name for name in _part(self.run.whole, observable) if name in known]

    def _number(self, measured: Measured, pick: Pick) -> Quantity:
        both = self._pair(measured, pick)
        return Quantity(estimate(both.run), estimate(both.reference), self._means(both))

    def _pair(self, measured: Measured, pick: Pick) -> _Both:
        samples = self.run, self.reference
        found = [sample.correlation_time(pick) for sample in samples]
        one, other = (UNCORRELATED if time is None else time for time in found)
        slowest = slower(one, other)
        self.correlation_times[measured] = one, other
        enough = all(slowest.allows_test(s.histograms.n_blocks, s.duration, self.least) for s in samples)
        run, reference = (sample.blocks(pick, slowest, self.least) for sample in samples)
        return _Both(run, reference, Reason.TOO_RARE if None in found else None if enough else Reason.TOO_SHORT)

    def _noises(self, both: _Both) -> tuple[float, float]:
        return self.run.noise(both.run), self.reference.noise(both.reference)

    def _with_common_noise(self, both: _Both) -> tuple[FloatArray, FloatArray]:
        """Blocks that scatter by the larger noise of the two, which equal sources share."""
        noises = self._noises(both)
        one, other = (
            widened(blocks, np.sqrt(max(noises) / noise) if noise > 0 else 1.0)
            for blocks, noise in zip((both.run, both.reference), noises, strict=True)
        )
        return one, other

    def _checked(self, both: _Both, difference: Difference) -> Difference:
        """A difference, without its test where there can be none."""
        if both.reason is not None:
            return difference.untested(both.reason)
        changes = noisier(self._noises(both), (len(both.run), len(both.reference)))
        return without_test(difference) if changes else difference

    def _means(self, both: _Both) -> MeanDifference:
        return self._checked(both, compare_means(*self._with_common_noise(both)))

    def _curve(self, observable: Observable, name: str) -> CurveComparison:
        pick = _picked(observable, name)
        both = self._pair(Measured(observable, name), pick)
        halves = CurveDifference(np.nan, 0, np.nan, None, None)
        if self.reference.histograms.n_blocks > 1:
            first, second = pick(self.reference.histograms.joined(2))
            halves = compare_curves(first[None], second[None], enough=False)
        difference = compare_curves(*self._with_common_noise(both), enough=both.reason is None)
        centres = _part(self.reference.whole, observable)[name].centres
        run, reference = Curve(centres, both.run), Curve(centres, both.reference)
        return CurveComparison(run, reference, self._checked(both, difference), halves)


def _picked(observable: Observable, name: str, what: str = "blocks") -> Pick:
    """Make a function from a structure to the blocks of an observable, or to its means or spreads."""
    return lambda structure: np.asarray(getattr(_part(structure, observable)[name], what))


def _neighbours(name: str, at: int) -> Pick:
    """Make a function from a structure to the coordination numbers of one bin."""
    return lambda structure: np.asarray(structure.coordination[name].blocks[:, at])


def _part(structure: Structure, observable: Observable) -> dict[str, Any]:
    """The curves or distributions of an observable, which bear its name."""
    found: dict[str, Any] = getattr(structure, observable.value)
    return found


def widened(blocks: FloatArray, factor: float) -> FloatArray:
    """Blocks of the same mean whose scatter is multiplied by a factor."""
    mean = blocks.mean(axis=0)
    return np.asarray(mean + factor * (blocks - mean))
