"""The equations of a correction: those of the forces that a cheap model leaves over of a dear method's.

Every form is linear in its coefficients, so H_dear = H_cheap + ΔH has the form, the bases and the cost of H_cheap.
ΔH is fitted to F_dear − F_cheap, and both regularisers act on ΔH alone: the ridge pulls the coefficients towards those
of the cheap model instead of towards zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version

import numpy as np

import openmm_duality
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import BoolArray, FloatArray
from openmm_duality.inference.adding_frames import check_known
from openmm_duality.inference.equations.accumulation import accumulate, filled
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.layout import Layout
from openmm_duality.inference.equations.penalties import curvature_penalty
from openmm_duality.inference.equations.solution import NormalEquations, Regularisation, ranked, solve
from openmm_duality.inference.equations.targets import DataSet, described
from openmm_duality.inference.inference import determined, meetings, timed
from openmm_duality.inference.repulsive_core import with_core
from openmm_duality.inference.settings import Settings
from openmm_duality.losses.model import AgentLosses

CHOICES = ("ridge", "curvature", "blocks", "large_force")
RIDGES = tuple(10.0**k for k in range(-9, 3))
CURVATURES = (1e-7, 1e-4, 1e-1)
_FLOOR = 0.1  # of the root mean square of a group of columns
_TINY = 1e-300  # of what may be nothing and is divided by


@dataclass(frozen=True)
class Correction:
    """Normal equations of the forces that a model leaves over, with all that turns a solution of them into losses.

    Parameters
    ----------
    base : AgentLosses
        The cheap model.
    sets : sequence of DataSet
        Dear frames.
    settings : Settings
        Of which those in `CHOICES` count; the base model has the others.
    design : Design
        Of the base model.
    free : list of arrays of bool, shape (P,)
        The columns that may change, by problem of the layout: those that the base model selected, or all.
    blocks : list of lists of NormalEquations
        Of the free columns and the forces left over, by problem, then by contiguous block of the frames; those of a
        block that has no frame, or none of the problem's species, are empty.
    largest_force : float
        On an agent of the dear frames, in kJ/mol/nm.
    seconds : dict of str to float
        Wall time by what it was spent on.
    """

    base: AgentLosses
    sets: Sequence[DataSet]
    settings: Settings
    design: Design
    free: list[BoolArray]
    blocks: list[list[NormalEquations]]
    largest_force: float
    seconds: dict[str, float]

    @classmethod
    def of(cls, base: AgentLosses, sets: Sequence[DataSet], settings: Settings, progress: bool = False) -> Correction:
        """Set up the equations.

        Raises
        ------
        DualityError
            If there are no frames, or they hold a species or a distance that the base model does not know.
        """
        empty = [s.name for s in sets if not len(s.frames)]
        if not sets or empty:
            raise DualityError(f"there are no frames to correct with{' in ' + ', '.join(empty) if empty else ''}")
        check_known(base, sets, "let the cheap method label these frames too, and infer the base model anew with them")
        design = Design.of(base)
        found = accumulate(sets, base.species, design, settings, {}, progress)
        start = design.layout.pack(base.pair_coefficients, base.weights, base.couplings)
        selected = bool(base.metadata.get("selection"))
        free = [(c != 0.0) | (not selected) for c in start]
        blocks = []
        for problem, whole, c, mask in zip(design.layout.problems, found.parts, start, free, strict=True):
            size = _sizes(design.layout, problem, whole)
            blocks.append([_over(equations, c, size, mask) for equations in whole])
        return cls(base, sets, settings, design, free, blocks, found.largest_force, dict(found.seconds))

    @cached_property
    def totals(self) -> list[NormalEquations]:
        """The equations of all frames, by problem."""
        return [sum(mine[1:], mine[0]) for mine in self.blocks]

    @property
    def used(self) -> list[int]:
        """The blocks that hold frames."""
        return filled(self.blocks)

    @cached_property
    def penalties(self) -> list[FloatArray]:
        """The curvature penalty of the free columns, by problem."""
        layout, basis = self.design.layout, self.design.pair_basis
        whole = [curvature_penalty(layout, problem, basis, self.base.shortest) for problem in layout.problems]
        return [form[np.ix_(mask, mask)] for form, mask in zip(whole, self.free, strict=True)]

    @cached_property
    def strengths(self) -> list[Regularisation]:
        """The regularisation preferred on blocks of frames left out in turn, by problem: the ridge, then the curvature.

        Raises
        ------
        DualityError
            If there are too few frames for blocks.
        """
        settings, chosen = self.settings, []
        ridges = RIDGES if settings.ridge is None else (settings.ridge,)
        curvatures = CURVATURES if settings.curvature is None else (settings.curvature,)
        with timed(self.seconds, "regularisation"), determined():
            for mine, penalty in zip(self.blocks, self.penalties, strict=True):
                folds = [equations for equations in mine if equations.weight > 0.0]
                if not folds:  # no agent of this problem's species: nothing is corrected
                    chosen.append(Regularisation(ridges[-1], curvatures[-1]))
                    continue
                if len(ridges) + len(curvatures) > 2 and len(folds) < 2:
                    raise DualityError(
                        "the regularisation of a correction is chosen on at least two blocks of frames, and there are "
                        "not enough frames for that; add frames, or give ridge and curvature"
                    )
                chosen.append(two_steps(folds, penalty, ridges, curvatures))
        return chosen

    def differences(
        self, equations: Sequence[NormalEquations], strengths: Sequence[Regularisation]
    ) -> list[FloatArray]:
        """The coefficients of ΔH that solve the equations of every problem.

        Parameters
        ----------
        equations : sequence of NormalEquations
            Sums of `folds`: all of them, or those of resampled blocks.
        strengths : sequence of Regularisation

        Returns
        -------
        list of arrays, shape (P,)
        """
        found = []
        with timed(self.seconds, "solution"), determined():
            for mine, penalty, strength, mask in zip(equations, self.penalties, strengths, self.free, strict=True):
                whole = np.zeros(len(mask))
                if mine.weight > 0.0:
                    whole[mask] = solve(mine, penalty, strength)
                found.append(whole)
        return found

    def added(self, differences: list[FloatArray]) -> AgentLosses:
        """The base model with ΔH added to it, and the core of the base model.

        The committee and the domain of the base are left out: they say how far to trust its losses.
        """
        u, weights, couplings = self.design.layout.unpack(differences)
        return replace(
            self.base,
            committee=None,
            domain=None,
            pair_coefficients=self.base.pair_coefficients + u,
            weights={rank: w + weights[rank] for rank, w in self.base.weights.items()},
            couplings=self.base.couplings + couplings,
        )

    def losses(self, strengths: Sequence[Regularisation]) -> AgentLosses:
        """The corrected losses for a regularisation of every problem, with their core; errors are not measured.

        Raises
        ------
        DualityError
            If the data do not determine them, or no core keeps atoms apart.
        """
        settings, metadata = self.settings, self.base.metadata
        corrected = replace(
            self.added(self.differences(self.totals, strengths)),
            equations={},
            metadata={
                "version": openmm_duality.__version__,
                "versions": {name: version(name) for name in ("openmm", "numpy", "scipy")},
                "settings": {
                    **metadata.get("settings", {}),
                    **{name: getattr(settings, name) for name in CHOICES},
                    "energy_weight": 0.0,
                    "keep_equations": False,
                },
                "gauge": metadata.get("gauge", ""),
                "regularisation": [{"ridge": s.ridge, "curvature": s.curvature} for s in strengths],
                "coefficients": metadata.get("coefficients", int(sum(mask.sum() for mask in self.free))),
                "data": [described(s) for s in self.sets],
                "committee": {"members": 0, "reason": "the model was corrected"},
                "energy_zeros": {},
                "energy_constants": {},
                "selection": metadata.get("selection", {}),
                "corrected_from": {
                    "sha256": fingerprint(self.base),
                    **{
                        name: metadata[name]
                        for name in ("data", "regularisation", "settings", "version", "corrected_from")
                        if name in metadata
                    },
                },
            },
        )
        with timed(self.seconds, "core"):
            return with_core(corrected, meetings(self.sets), self.largest_force, weakest=self.base.core_strength)


def two_steps(
    folds: list[NormalEquations], penalty: FloatArray, ridges: Sequence[float], curvatures: Sequence[float]
) -> Regularisation:
    """The ridge preferred on folds left out in turn, with the middle curvature, then the curvature with that ridge."""
    best = Regularisation(ridges[0], curvatures[len(curvatures) // 2])
    if len(ridges) > 1:
        best = ranked(folds, penalty, [replace(best, ridge=r) for r in ridges])[0]
    if len(curvatures) > 1:
        best = ranked(folds, penalty, [replace(best, curvature=c) for c in curvatures])[0]
    return best


def fingerprint(losses: AgentLosses) -> str:
    """The SHA-256 of what a model computes: its species, form, gradient, cutoff, bases, coefficients and core."""
    words = (losses.species, losses.form, losses.gradient, losses.cutoff, sorted(losses.weights))
    digest = hashlib.sha256(repr(words).encode())
    bases = [basis.coefficients for basis in (losses.pair_basis, losses.basis, losses.coarse)]
    parts = [losses.pair_coefficients, *(losses.weights[rank] for rank in sorted(losses.weights)), losses.couplings]
    for array in (losses.masses, *bases, *parts, losses.shortest, losses.core_strength):
        digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return digest.hexdigest()


def _sizes(layout: Layout, problem: tuple[int, ...], folds: list[NormalEquations]) -> FloatArray:
    """Mean squares of the columns that the ridge goes by, shape (P,): none far below the mean of its group.

    The base model has seen more than the dear frames hold, and a function that these hardly touch would have a small
    column, and so hardly a ridge: noise would make its coefficient as large as it likes, and where the function is not
    small the correction would be anything.
    """
    sizes = layout.part_sizes(problem)
    group = np.repeat(np.arange(len(sizes)), sizes)
    own = sum(fold.size for fold in folds) / max(sum(fold.weight for fold in folds), _TINY)
    means = np.bincount(group, own, len(sizes)) / np.maximum(sizes, 1)
    return np.asarray(np.maximum(own, _FLOOR**2 * means[group]))


def _over(equations: NormalEquations, coefficients: FloatArray, sizes: FloatArray, free: BoolArray) -> NormalEquations:
    """The equations of the free columns for what the coefficients leave over of the targets."""
    every = bool(free.all())
    return NormalEquations(
        equations.gram if every else equations.gram[np.ix_(free, free)],
        (equations.moment - equations.gram @ coefficients)[free],
        equations.weight * sizes[free],
        equations.squared_error(coefficients),
        equations.weight,
    )
