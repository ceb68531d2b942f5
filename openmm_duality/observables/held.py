"""Structure of a run held against a reference's, every observable in blocks as long as its own memory asks.

Under the hypothesis of the tests, run and reference are the same liquid, so they have one memory and one noise. Of both
the larger is used: a short trajectory knows too little of either, and mostly too small ones. A run that is noisier than
chance allows changes on its way: its noise would excuse any difference, so then only a rejection counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.observables.curves import Curve, Distribution
from openmm_duality.observables.memory import BLOCK_TIME, NOTHING_KEPT, Memory, memory, slower
from openmm_duality.observables.pairs import first_minimum
from openmm_duality.observables.results import CurveComparison, DistributionComparison, Quantity, Shell
from openmm_duality.observables.statistics import (
    CurveDifference,
    Difference,
    MeanDifference,
    Why,
    compare_curves,
    compare_means,
    estimate,
    noisier,
    withdrawn,
)
from openmm_duality.observables.structure import Structure, Tally

Pick = Callable[[Structure], FloatArray]


@dataclass(frozen=True)
class Sample:
    """What was measured of one subject: its tally, the time its frames stand for in ps, and its number of atoms."""

    tally: Tally
    duration: float
    atoms: int

    def memory(self, pick: Pick) -> Memory | None:
        """The memory of an observable, None where some fine block lacks it."""
        try:
            fine = pick(self.tally.cut(self.tally.n_fine))
        except KeyError:
            return None
        return memory(fine, self.duration / self.tally.n_fine)

    def blocks(self, pick: Pick, kept: Memory, least: float) -> FloatArray:
        """The observable in blocks whose scatter gives the error of its mean.

        They are fewer and longer where one of them lacks it.
        """
        blocks = self._cut(pick, kept.blocks_in(self.tally.n_fine, self.duration, least))
        return widened(blocks, kept.widening(self.duration, len(blocks)))

    def _cut(self, pick: Pick, n_blocks: int) -> FloatArray:
        for fewer in range(n_blocks, 1, -1):
            try:
                return pick(self.tally.cut(fewer))
            except KeyError:
                continue
        return pick(self.tally.cut(1))

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
    why: Why | None


@dataclass(frozen=True)
class Held:
    """The samples of a run and of its reference, and the least length of a block in ps.

    `memories` holds the memory of every observable looked at, of the run and of the reference.
    """

    run: Sample
    reference: Sample
    least: float = BLOCK_TIME
    memories: dict[str, tuple[Memory, Memory]] = field(default_factory=dict)

    def curves(self, part: str, word: str) -> dict[str, CurveComparison]:
        """Curves of a part of the structure, by name."""
        known = self._whole(self.reference)
        return {
            name: self._curve(part, name, word.format(name), getattr(known, part)[name].centres)
            for name in getattr(self._whole(self.run), part)
            if name in getattr(known, part)
        }

    def distributions(self, part: str, word: str) -> dict[str, DistributionComparison]:
        """Distributions of a part of the structure, by name, with their means and spreads."""
        found: dict[str, DistributionComparison] = {}
        known = self._whole(self.reference)
        for name in getattr(self._whole(self.run), part):
            if name not in getattr(known, part):
                continue
            centres = getattr(known, part)[name].centres
            density, means, spreads = (
                self._pair(_Picked(part, name, what), f"{word.format(name)}{tail}")
                for what, tail in (("blocks", ", distribution"), ("block_means", ""), ("block_spreads", ", spread"))
            )
            run, reference = (
                Distribution(centres, *(getattr(both, side) for both in (density, means, spreads)))
                for side in ("run", "reference")
            )
            found[name] = DistributionComparison(run, reference, self._means(means), self._means(spreads))
        return found

    def shells(self) -> dict[str, Shell]:
        """The numbers of neighbours within the first shell of the reference."""
        found = {}
        whole, runs = self._whole(self.reference), self._whole(self.run)
        for name, curve in whole.coordination.items():
            g = whole.rdf.get(name) or whole.rdf.get("-".join(name.split("-")[::-1]))
            edge = None if g is None else first_minimum(g.centres, g.mean)
            if edge is not None and name in runs.coordination:
                at = int(np.searchsorted(curve.centres, edge))
                found[name] = Shell(
                    edge, self.number(_Picked("coordination", name, "blocks", at), f"first shell of {name}")
                )
        return found

    def hydrogen_bonds(self) -> Quantity | None:
        """The number of hydrogen bonds."""
        if any(self._whole(sample).hydrogen_bonds is None for sample in (self.run, self.reference)):
            return None
        return self.number(_hydrogen_bonds, "hydrogen bonds")

    def number(self, pick: Pick, word: str) -> Quantity:
        """A number beside the reference's."""
        both = self._pair(pick, word)
        return Quantity(estimate(both.run), estimate(both.reference), self._means(both))

    @staticmethod
    def _whole(sample: Sample) -> Structure:
        return sample.tally.cut(1)

    def _pair(self, pick: Pick, word: str) -> _Both:
        samples = self.run, self.reference
        found = [sample.memory(pick) for sample in samples]
        one, other = (NOTHING_KEPT if kept is None else kept for kept in found)
        kept = slower(one, other)
        self.memories[word] = one, other
        enough = all(kept.allows(sample.tally.n_fine, sample.duration, self.least) for sample in samples)
        run, reference = (sample.blocks(pick, kept, self.least) for sample in samples)
        return _Both(run, reference, "seldom" if None in found else None if enough else "short")

    def _noises(self, both: _Both) -> tuple[float, float]:
        return self.run.noise(both.run), self.reference.noise(both.reference)

    def _equal(self, both: _Both) -> tuple[FloatArray, FloatArray]:
        """Blocks that scatter by the larger noise of the two, which equal sources share."""
        noises = self._noises(both)
        one, other = (
            widened(blocks, np.sqrt(max(noises) / noise) if noise > 0 else 1.0)
            for blocks, noise in zip((both.run, both.reference), noises, strict=True)
        )
        return one, other

    def _judged(self, both: _Both, difference: Difference) -> Difference:
        """A difference, without its test where there can be none."""
        if both.why is not None:
            return difference.untested(both.why)
        changes = noisier(self._noises(both), (len(both.run), len(both.reference)))
        return withdrawn(difference) if changes else difference

    def _means(self, both: _Both) -> MeanDifference:
        return self._judged(both, compare_means(*self._equal(both)))

    def _curve(self, part: str, name: str, word: str, centres: FloatArray) -> CurveComparison:
        pick = _Picked(part, name, "blocks")
        both = self._pair(pick, word)
        halves = CurveDifference(np.nan, 0, np.nan, None, None)
        if self.reference.tally.n_fine > 1:
            first, second = pick(self.reference.tally.cut(2))
            halves = compare_curves(first[None], second[None], enough=False)
        difference = self._judged(both, compare_curves(*self._equal(both), enough=both.why is None))
        return CurveComparison(Curve(centres, both.run), Curve(centres, both.reference), difference, halves)


@dataclass(frozen=True)
class _Picked:
    """An observable of a structure: of a part, by name, its blocks, or one bin of them."""

    part: str
    name: str
    what: str
    at: int | None = None

    def __call__(self, structure: Structure) -> FloatArray:
        blocks = getattr(getattr(structure, self.part)[self.name], self.what)
        return np.asarray(blocks if self.at is None else blocks[:, self.at])


def _hydrogen_bonds(structure: Structure) -> FloatArray:
    return np.asarray(structure.hydrogen_bonds)


def widened(blocks: FloatArray, factor: float) -> FloatArray:
    """Blocks of the same mean that scatter by so many times as much."""
    mean = blocks.mean(axis=0)
    return np.asarray(mean + factor * (blocks - mean))
