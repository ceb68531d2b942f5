"""Structure of a run compared with a reference's, every observable in blocks that suit its own correlation time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.observables.correlation_times import BLOCK_TIME, UNCORRELATED, VIBRATIONAL, CorrelationTime
from openmm_duality.observables.curves import Curve, Distribution
from openmm_duality.observables.differences import CurveDifference, compare_curves
from openmm_duality.observables.findings import Measured, Observable, Quantity
from openmm_duality.observables.paired_blocks import PairedBlocks, Series
from openmm_duality.observables.rdf import first_minimum
from openmm_duality.observables.results import CurveComparison, DistributionComparison, Shell
from openmm_duality.observables.structure import BlockedHistograms, Structure

Pick = Callable[[Structure], FloatArray]
_VIBRATING = (Observable.BOND_LENGTH, Observable.ANGLE)


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

    def series(self, pick: Pick) -> Series:
        """An observable in blocks of time."""
        histograms = self.histograms
        return Series(lambda n: pick(histograms.joined(n)), histograms.n_blocks, self.duration, self.atoms)


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
            found[name] = DistributionComparison(run, reference, means.means(), spreads.means())
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
        return self._pair(measured, pick).quantity()

    def _pair(self, measured: Measured, pick: Pick) -> PairedBlocks:
        known = VIBRATIONAL if measured.observable in _VIBRATING else UNCORRELATED
        both = PairedBlocks.of(self.run.series(pick), self.reference.series(pick), self.least, known=known)
        self.correlation_times[measured] = both.times
        return both

    def _curve(self, observable: Observable, name: str) -> CurveComparison:
        pick = _picked(observable, name)
        both = self._pair(Measured(observable, name), pick)
        halves = CurveDifference(np.nan, 0, np.nan, None, None)
        if self.reference.histograms.n_blocks > 1:
            first, second = pick(self.reference.histograms.joined(2))
            halves = compare_curves(first[None], second[None], (1.0, 1.0), enough=False)
        centres = _part(self.reference.whole, observable)[name].centres
        run, reference = Curve(centres, both.run), Curve(centres, both.reference)
        return CurveComparison(run, reference, both.curves(), halves)


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
