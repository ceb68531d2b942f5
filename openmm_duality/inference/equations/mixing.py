"""The mixing of channels learned by descent, with the linear coefficients eliminated (variable projection).

The losses are linear in their coefficients c, but polynomials of the mixing W. A Gauss–Newton step takes the forces as
linear in both, F(W, c′) + ∂F/∂W(W, c) δW, and minimises the squared error over c′ and δW together: one linear solve,
which eliminates the coefficients (Golub and Pereyra, SIAM J. Numer. Anal. 10, 413 (1973), as Kaufman simplified it).
A ridge keeps δW small (Levenberg–Marquardt); its strength is chosen by the forces on held-out frames, and grows where a
step does not lower the error. By these frames the ridge on the coefficients, unless it is given, is chosen before the
first step. What counts is the geometric mean of their errors: one with a collision, unlike all that were fitted, would
otherwise decide for all others.
Starting from the channels of largest variance, few steps suffice.

The penalty on changes of the curvature outside the data (`displaced_frames`) is part of what is minimised, by both.
Without it the steps learn channels that suit the data and nothing else, and the coefficients alone cannot mend that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from openmm_duality.geometry.arrays import BoolArray, FloatArray
from openmm_duality.inference.equations.accumulation import BlockedEquations, Storage, accumulate, sample_rows
from openmm_duality.inference.equations.channel_selection import moment_statistics
from openmm_duality.inference.equations.continuation import continuation
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.displaced_frames import curvature_changes
from openmm_duality.inference.equations.energies import EnergyReference
from openmm_duality.inference.equations.layout import Layout
from openmm_duality.inference.equations.mixing_rows import MixingDesign
from openmm_duality.inference.equations.penalties import (
    CHANNEL_GRIDS,
    CHANNEL_TOLERANCE,
    TOLERANCE,
    Penalty,
    Strengths,
    ridge_penalty,
)
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.solution import NormalEquations, column_scale, solve
from openmm_duality.inference.equations.targets import DataSet, Sample, indices_of, sample_numbers, samples
from openmm_duality.invariants.channels import Channels
from openmm_duality.parallel import on_all_cores
from openmm_duality.reference.frames import evenly_spaced

CHANGES = "mixing"  # the name of their penalty
_FOLDS = 4  # of the frames from which the mixing is learned, the last of them held out
_HELD_OUT = 60  # samples of it at most
_EXACT = 1e-3  # of the root mean square force of the held-out frames
_CURVATURE = {"curvature": 1e-6}  # the strength of this penalty while the mixing is learned
_FIXED = 1e3  # ridge of the changes of the mixing with which there are none
_CANDIDATES = (_FIXED, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
_ROWS_PER_COLUMN, _OUTSIDE = 8, 1.0  # of forces, and of changes of the curvature
_LEAST_GAIN = 0.01  # of the error by a step, below which no other is made
_TRIALS, _STRONGER = 3, 100.0  # of a step that does not lower the error; factor on the ridge from one to the next


@dataclass(frozen=True)
class MixingProblem:
    """The coefficients and the mixing of a design with channels, to be fitted to the forces of some of the frames.

    Joint equations have columns for the coefficients and, after the invariants of each species, for its mixing.

    Parameters
    ----------
    sets : sequence of DataSet
    species : tuple of str
        Names in the order of the species index.
    shortest : array, shape (S, S)
        Shortest distances in the data, in nm.
    design : Design
    settings : Settings
    storage : Storage
        How equations are kept, and how many frames are computed at the same time.
    progress : bool
        Whether to show progress bars.
    """

    sets: Sequence[DataSet]
    species: tuple[str, ...]
    shortest: FloatArray
    design: Design
    settings: Settings
    storage: Storage
    progress: bool

    @cached_property
    def plain_layout(self) -> Layout:
        """Columns of the coefficients."""
        return _plain(self.design.layout)

    @cached_property
    def layout(self) -> Layout:
        """Columns of the coefficients and of the changes of the mixing."""
        return joint_layout(self.design)

    @cached_property
    def is_change(self) -> list[BoolArray]:
        """Which entries of the vector of each group are changes of the mixing."""
        masks = [np.zeros(self.layout.size(group), dtype=bool) for group in self.layout.groups]
        columns = self.layout.unpack([np.arange(len(mask), dtype=np.float64) for mask in masks])["channel_weights"]
        for group, mask in zip(self.layout.groups, masks, strict=True):
            for a in group:
                mask[columns[a][len(self.design.channels[a].invariants) :].astype(np.int64)] = True
        return masks

    @cached_property
    def means(self) -> list[FloatArray]:
        """Mean moments of rank 0 of every species."""
        ranks = self.design.layout.form.channels
        return [mine.mean for mine in moment_statistics(self.sets, self.species, self.design.basis, ranks)]

    @cached_property
    def stride(self) -> int:
        """Of each data set every so many samples give enough rows."""
        atoms = sum(3 * part.n_atoms * len(part) for s in self.sets for part in s.frames.parts)
        most = _ROWS_PER_COLUMN * max(self.layout.size(group) for group in self.layout.groups)
        return max(1, atoms // most)

    @cached_property
    def two_blocks(self) -> Storage:
        """Storage of the equations: in one block those of the held-out frames, in the other those of all others."""
        return replace(self.storage, folds=_FOLDS, per_fold=1, last_alone=True)

    @cached_property
    def held_out(self) -> list[Sample]:
        """Samples of the block that is held out, evenly spaced."""
        taken = [(data, sample_numbers(data.frames, self.stride)) for data in self.sets]
        numbers = [
            (data, number)
            for data, of_set in taken
            for k, number in enumerate(of_set)
            if self.two_blocks.block_of(k, len(of_set))
        ]
        chosen = [numbers[k] for k in evenly_spaced(len(numbers), _HELD_OUT)]
        return [sample for data, number in chosen for sample in samples(data.frames, [number])]

    def equations(self, design: Design, title: str) -> BlockedEquations:
        """Equations of the forces alone."""
        settings = replace(self.settings, energy_weight=0.0, stress_weight=0.0)
        none = EnergyReference.none(self.species)
        found = (self.sets, self.species, design, settings, none, self.progress, self.two_blocks)
        return accumulate(*found, every=self.stride, title=title)

    def outside(self, design: Design, totals: Sequence[NormalEquations]) -> list[Penalty]:
        """Penalty of each group on changes of the curvature outside the data, by coefficients as by the mixing."""
        matrices = curvature_changes(self.sets, self.species, design, self.progress, self.storage.at_once, _OUTSIDE)
        groups = zip(design.layout.groups, matrices, totals, strict=True)
        return [continuation(design, group, self.shortest, matrix, total) for group, matrix, total in groups]

    def coefficients(
        self, channels: tuple[Channels, ...], title: str, strengths: Strengths | None = None
    ) -> tuple[list[FloatArray], float, Strengths]:
        """Fit the coefficients with given channels.

        Parameters
        ----------
        channels : tuple of Channels
        title : str
            What the progress bar shows.
        strengths : mapping, optional
            Of the penalties. By default the ridge is that of the settings, or else the weakest that costs at most 5 %
            of the error of the held-out frames.

        Returns
        -------
        list of arrays, shape (P,)
            Coefficients by group.
        float
            The root mean square error of the forces in kJ/mol/nm.
        mapping
            The strengths.
        """
        design = replace(self.design, layout=self.plain_layout, channels=channels)
        found = self.equations(design, title)
        outside = self.outside(design, found.totals)

        def solutions(equations: Sequence[NormalEquations], strengths: Strengths) -> list[FloatArray]:
            pairs = zip(equations, outside, strict=True)
            return [solve(mine, [penalty, ridge_penalty(len(mine.rhs))], strengths) for mine, penalty in pairs]

        if strengths is None:
            given = self.settings.ridge
            ridges = CHANNEL_GRIDS["ridge"][::-1] if given is None else (given,)
            candidates = [{**_CURVATURE, "ridge": ridge} for ridge in ridges]
            strengths = self.preferred(design, found, solutions, candidates, CHANNEL_TOLERANCE, strongest=False)
        result = solutions(found.totals, strengths)
        squares = sum(total.squared_error(c) for total, c in zip(found.totals, result, strict=True))
        error = float(np.sqrt(max(squares, 0.0) / sum(total.weight for total in found.totals)))
        return result, error, strengths

    def joint_design(self, channels: tuple[Channels, ...], coefficients: Sequence[FloatArray]) -> MixingDesign:
        """Design of coefficients and mixing at given channels and coefficients."""
        weights = self.plain_layout.unpack(coefficients)["channel_weights"]
        bases = (self.design.pair_basis, self.design.basis, self.design.coarse)
        return MixingDesign(self.layout, *bases, channels, weights=weights, means=self.means)

    def ridges(self, group: int) -> tuple[Penalty, Penalty]:
        """Ridges on the changes of the mixing and on the coefficients of a group."""
        changes = self.is_change[group].astype(np.float64)
        return Penalty(CHANGES, changes, relative=True), Penalty("ridge", 1.0 - changes, relative=True)

    def scale(self, group: int, total: NormalEquations) -> FloatArray:
        """Column scales of a group: the changes of the mixing of a species and a rank have a common lower bound."""
        species = self.layout.groups[group]
        pairs = self.layout.pairs(self.layout.parts[0], species)
        blocks = [self.layout.n_pair] * len(pairs)
        for a in species:
            mine = self.design.channels[a]
            blocks += [*[1] * len(mine.invariants), *(w.size for w in mine.mixing.values())]
        return column_scale(total, blocks)

    def preferred(
        self,
        design: Design,
        found: BlockedEquations,
        solutions: Callable[[Sequence[NormalEquations], Strengths], list[FloatArray]],
        candidates: Sequence[Strengths],
        tolerance: float = TOLERANCE,
        strongest: bool = True,
    ) -> Strengths:
        """The strongest, or the weakest, of some candidates that has nearly the smallest error of held-out frames.

        They are fitted to all other frames by `solutions`.

        Parameters
        ----------
        design : Design
        found : BlockedEquations
            The equations of the design, in two blocks.
        solutions : callable
            From equations by group and strengths to coefficients by group.
        candidates : sequence of mappings of str to float
            From strong to weak.
        tolerance : float
            Relative increase of the error that is accepted.
        strongest : bool
            Whether it is the strongest, also where no frame is held out.
        """
        rest, solved = [blocks[0] for blocks in found.blocks], list[list[FloatArray]]()
        if len(candidates) == 1 or not self.held_out or not all(equations.weight for equations in rest):
            return candidates[0 if strongest else -1]
        with suppress(np.linalg.LinAlgError):  # too weak for positive definite equations, as all after it
            for candidate in candidates:
                solved.append(solutions(rest, candidate))
        if not solved:
            return candidates[0]
        of_group = [np.stack(of_one, axis=1) for of_one in zip(*solved, strict=True)]
        floor = _EXACT**2 * float(np.mean([np.mean(sample.target**2) for sample in self.held_out]))
        errors_of = partial(_logarithmic_errors, design, self.species, of_group, floor)
        errors = np.mean(list(on_all_cores(errors_of, self.held_out, self.storage.at_once)), axis=0)
        near = np.flatnonzero(errors <= errors.min() + tolerance)
        return candidates[int(near[0 if strongest else -1])]

    def solutions(
        self, outside: Sequence[Penalty], equations: Sequence[NormalEquations], strengths: Strengths
    ) -> list[FloatArray]:
        """Coefficients and, after them, changes of the mixing by group."""
        return [
            solve(mine, (*self.ridges(k), penalty), strengths, self.scale(k, mine))
            for k, (mine, penalty) in enumerate(zip(equations, outside, strict=True))
        ]

    def mixed(self, joint: MixingDesign, solutions: Sequence[FloatArray]) -> tuple[Channels, ...]:
        """Channels after the changes of the mixing in solutions."""
        weights = self.layout.unpack(solutions)["channel_weights"]
        pairs = zip(joint.channel_rows, weights, self.design.channels, strict=True)
        return tuple(rows.mixed(w[len(mine.invariants) :]) for rows, w, mine in pairs)


def joint_layout(design: Design) -> Layout:
    """Columns of the coefficients of a design and, after the invariants of each species, of its mixing."""
    sizes = (len(mine.invariants) + sum(w.size for w in mine.mixing.values()) for mine in design.channels)
    return replace(_plain(design.layout), n_invariants=tuple(sizes))


def _logarithmic_errors(
    design: Design, species: tuple[str, ...], solutions: Sequence[FloatArray], floor: float, sample: Sample
) -> FloatArray:
    """Logarithms of the errors of the forces of a sample under solutions, shape (P, K) by group, shape (K,).

    Errors below the root of `floor` do not count: in a perfect crystal all forces are zero.
    """
    squares, index = 0.0, indices_of(sample.species, species)
    forces = sample_rows(design, species, False, False, sample).forces
    for group, rows, mine in zip(design.layout.groups, forces, solutions, strict=True):
        errors = rows @ mine - sample.target[np.isin(index, group), :, None]
        squares = squares + np.sum(errors**2, axis=(0, 1))
    return np.asarray(0.5 * np.log(squares / sample.target.size + floor))


def _plain(layout: Layout) -> Layout:
    """Columns of the coefficients alone; two parts have the same channels, which are learned for the shared one."""
    return replace(layout, n_constants=0, gradient=layout.gradient if len(layout.parts) == 1 else "collective")


def learn_mixing(problem: MixingProblem, steps: int) -> tuple[Design, list[float]]:
    """Learn the mixing of the channels of a design.

    Parameters
    ----------
    problem : MixingProblem
    steps : int
        Largest number of steps.

    Returns
    -------
    Design
        With the learned channels, or the given ones if no change lowers the error of held-out frames.
    list of float
        Error of the forces in kJ/mol/nm before the first step and after every one that was taken.

    Raises
    ------
    LinAlgError
        If the data do not determine the losses.
    """
    best = problem.design.channels
    coefficients, error, of_coefficients = problem.coefficients(best, "mixing, before")
    candidates = [{CHANGES: strength, **of_coefficients} for strength in _CANDIDATES]
    errors, strengths = [error], dict[str, float]()
    while len(errors) <= steps:
        joint = problem.joint_design(best, coefficients)
        found = problem.equations(joint, f"mixing, step {len(errors)}")
        outside = problem.outside(joint, found.totals)
        fit = partial(problem.solutions, outside)
        strengths = strengths or dict(problem.preferred(joint, found, fit, candidates))
        if strengths[CHANGES] == _FIXED:
            break
        totals = found.totals
        del found  # its blocks
        for _ in range(_TRIALS):
            channels = problem.mixed(joint, fit(totals, strengths))
            title = f"mixing, after step {len(errors)}"
            coefficients, error, _ = problem.coefficients(channels, title, of_coefficients)
            if error < errors[-1]:
                break
            strengths[CHANGES] *= _STRONGER
        else:
            break
        best, errors = channels, [*errors, error]
        if error > (1.0 - _LEAST_GAIN) * errors[-2]:
            break
    return replace(problem.design, channels=best), errors
