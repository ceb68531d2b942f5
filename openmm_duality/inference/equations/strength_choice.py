"""The choice of regularisation strengths on held-out blocks, where the settings do not give them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, product

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import BoolArray, FloatArray
from openmm_duality.inference.equations.penalties import (
    CHANNEL_GRIDS,
    CHANNEL_TOLERANCE,
    DELTA_GRIDS,
    GRIDS,
    ROTAMER_GRID,
    ROTAMER_TOLERANCE,
    ROTAMERS,
    SEPARATIONS,
    SYMMETRIES,
    TOLERANCE,
    Penalty,
    Strengths,
)
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.solution import ABSENT, NormalEquations, solve, undetermined
from openmm_duality.progress import progress_bar

Grids = Mapping[str, Sequence[float]]


def strength_grids(settings: Settings, penalties: Sequence[Penalty], *, of_channels: bool, corrects: bool) -> Grids:
    """Strengths to choose from, by penalty: a single one where the settings give it.

    Parameters
    ----------
    settings : Settings
    penalties : sequence of Penalty
    of_channels : bool
        Whether the form has channels.
    corrects : bool
        Whether a prior model is corrected.
    """
    grids = DELTA_GRIDS if corrects else CHANNEL_GRIDS if of_channels else GRIDS
    grids = {**grids, **{p.name: ROTAMER_GRID for p in penalties if p.name == ROTAMERS}}
    given = {name: getattr(settings, name) for name in grids}
    grids = {name: grid if given[name] is None else (given[name],) for name, grid in grids.items()}
    fixed = {SEPARATIONS: settings.separations, **settings.symmetry_strengths}
    return {**grids, **{p.name: (fixed[p.name],) for p in penalties if p.name in (SEPARATIONS, *SYMMETRIES)}}


def preferred_strengths(
    total: NormalEquations,
    folds: Sequence[Sequence[NormalEquations]],
    penalties: Sequence[Penalty],
    settings: Settings,
    n_constants: int,
    selected: BoolArray | None,
    scale: FloatArray,
    *,
    of_channels: bool,
    corrects: bool,
    progress: bool = False,
) -> list[Strengths]:
    """Strengths in order of preference, by the errors of the folds (`held_out_errors`, `by_preference`).

    Beside the preferred ones of the other penalties the ridge of channels is chosen, and then the strength of the
    penalty on rotamers; both are common to all. Without folds they are the first of their grids. With a prior model
    only the best are given: the ridge is chosen first, then the curvature.

    Parameters
    ----------
    total, folds, penalties, n_constants, selected, scale
        As for `held_out_errors`.
    settings, of_channels, corrects
        As for `strength_grids`.
    progress : bool
        Whether to show the progress.

    Raises
    ------
    DualityError
        If there are too few frames for two blocks.
    LinAlgError
        As for `held_out_errors`.
    """
    grids = strength_grids(settings, penalties, of_channels=of_channels, corrects=corrects)
    raised = ["ridge"] if of_channels and not corrects else []
    last = {name: grids[name] for name in (*raised, ROTAMERS) if name in grids}
    first = {name: grid for name, grid in grids.items() if name not in last}
    others: list[Strengths] = [dict(zip(first, values, strict=True)) for values in product(*first.values())]
    beside = {name: grid[0] for name, grid in last.items()}
    if len(folds) < 2 and (len(others) == 1 or (corrects and not folds)):
        return [{**others[-1], **beside}]
    if len(folds) < 2:
        raise DualityError(
            "choosing the regularisation by cross-validation needs at least two blocks of frames, and "
            "there are too few frames; add frames, or give ridge and curvature"
        )
    if corrects:
        return [coordinate_search(total, folds, penalties, grids, n_constants, selected, scale)]

    def errors_of(candidates: Sequence[Strengths]) -> list[float]:
        return held_out_errors(total, folds, penalties, candidates, n_constants, selected, scale, progress)

    ridges = last.get("ridge", ())
    if len(others) > 1 or len(ridges) > 1:
        candidates: list[Strengths] = [{**one, **beside} for one in others]
        errors = errors_of(candidates)
        others = by_preference(candidates, errors, CHANNEL_TOLERANCE if of_channels else TOLERANCE)
        if ridges:
            of_stronger = (errors_of([{**others[0], "ridge": ridge}])[0] for ridge in ridges[1:])
            beside["ridge"] = _weakest(ridges, chain([errors[candidates.index(others[0])]], of_stronger))
    rotamers = last.get(ROTAMERS, ())
    if len(rotamers) > 1:  # the strongest comes first by the first penalty
        rest = {name: strength for name, strength in {**others[0], **beside}.items() if name != ROTAMERS}
        candidates = [{ROTAMERS: strength, **rest} for strength in rotamers]
        beside[ROTAMERS] = by_preference(candidates, errors_of(candidates), ROTAMER_TOLERANCE)[0][ROTAMERS]
    return [{**one, **beside} for one in others]


def _weakest(strengths: Sequence[float], errors: Iterable[float]) -> float:
    """The weakest strength with nearly the smallest squared error; the errors are asked for until they grow."""
    found: list[float] = []
    for error in errors:
        found.append(error)
        if error > (1.0 + TOLERANCE) ** 2 * min(found):
            break
    enough = (1.0 + CHANNEL_TOLERANCE) ** 2 * min(found)
    return next(strength for strength, error in zip(strengths, found, strict=False) if error <= enough)


def held_out_errors(
    total: NormalEquations,
    folds: Sequence[Sequence[NormalEquations]],
    penalties: Sequence[Penalty],
    candidates: Sequence[Strengths],
    n_constants: int = 0,
    selected: BoolArray | None = None,
    scale: FloatArray | None = None,
    progress: bool = False,
) -> list[float]:
    """Squared errors of candidate regularisation strengths on folds, each fitted to all others.

    The folds are contiguous blocks of time, so that frames of the fold left out have no nearly identical neighbours
    among those fitted. The error of strengths that make the equations indefinite is infinite.

    Parameters
    ----------
    total : NormalEquations
        Sum of all folds.
    folds : sequence of sequences of NormalEquations
        The blocks of each fold.
    penalties, n_constants, selected, scale
        As for `solve`.
    candidates : sequence of mappings of str to float
    progress : bool
        Whether to show the progress.

    Raises
    ------
    LinAlgError
        If no candidate makes the equations positive definite.
    """
    errors = [0.0] * len(candidates)
    with progress_bar(len(folds) * len(candidates), "regularisation", show=progress, unit="solution") as bar:
        for blocks in folds:  # one after the other, because each needs two more Gram matrices
            fold = blocks[0] if len(blocks) == 1 else NormalEquations.sum_of(blocks)
            rest = total - fold
            for k, strengths in enumerate(candidates):
                try:
                    errors[k] += _held_out_error(fold, rest, penalties, strengths, scale, n_constants, selected)
                except np.linalg.LinAlgError:  # too weak for positive definite equations
                    errors[k] = np.inf
                bar.update()
    if not np.isfinite(min(errors)):
        raise np.linalg.LinAlgError("no candidate regularisation makes the normal equations positive definite")
    return errors


def by_preference(candidates: Sequence[Strengths], errors: Sequence[float], tolerance: float) -> list[Strengths]:
    """Candidates in order of preference, omitting those with infinite errors.

    First come those with nearly the smallest RMS error, the strongest first (by the first penalty, then by the next),
    then the others by their error. The tolerance is the relative increase of the RMS error accepted for a stronger
    regularisation.
    """
    best = min(errors)

    def preference(k: int) -> tuple[bool, list[float]]:
        if errors[k] <= (1.0 + tolerance) ** 2 * best:
            return False, [-strength for strength in candidates[k].values()]
        return True, [errors[k]]

    return [candidates[k] for k in sorted(range(len(candidates)), key=preference) if np.isfinite(errors[k])]


def coordinate_search(
    total: NormalEquations,
    folds: Sequence[Sequence[NormalEquations]],
    penalties: Sequence[Penalty],
    grids: Mapping[str, Sequence[float]],
    n_constants: int = 0,
    selected: BoolArray | None = None,
    scale: FloatArray | None = None,
) -> Strengths:
    """Choose the strengths by cross-validation, one penalty after the other, starting from the middle of each grid.

    Raises
    ------
    LinAlgError
        As for `held_out_errors`.
    """
    best: Strengths = {name: grid[len(grid) // 2] for name, grid in grids.items()}
    for name, grid in grids.items():
        if len(grid) > 1:
            candidates = [{**best, name: strength} for strength in grid]
            errors = held_out_errors(total, folds, penalties, candidates, n_constants, selected, scale)
            best = by_preference(candidates, errors, TOLERANCE)[0]
    return best


def _held_out_error(
    fold: NormalEquations,
    rest: NormalEquations,
    penalties: Sequence[Penalty],
    strengths: Strengths,
    scale: FloatArray | None,
    n_constants: int,
    selected: BoolArray | None,
) -> float:
    """Squared error of a fold under the solution of the rest.

    Energy constants that the rest does not determine, because only the fold has their compositions, are fitted to it.
    """
    first = len(rest.rhs) - n_constants
    ours, others = (equations.gram[first:, first:] for equations in (fold, rest))
    alone = first + np.flatnonzero(np.diag(others) <= ABSENT * np.diag(ours))
    rest.gram[alone] = rest.gram[:, alone] = rest.rhs[alone] = 0.0  # what is left there is rounding
    solution = solve(rest, penalties, strengths, scale, n_constants, selected)
    if n_constants and np.trace(ours) > 0.0:
        largest = float(np.trace(ours))
        free = undetermined(rest.gram[first:, first:], largest)
        values, axes = np.linalg.eigh(free.T @ ours @ free)
        shown = values > ABSENT * largest  # the fold has no more compositions either: what is left is rounding
        free = free @ axes[:, shown]
        residual = (fold.rhs - fold.gram @ solution)[first:]
        solution[first:] += free @ ((free.T @ residual) / values[shown])
    return fold.squared_error(solution)
