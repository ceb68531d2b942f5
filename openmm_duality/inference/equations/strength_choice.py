"""The choice of regularisation strengths on held-out blocks, where the settings do not give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

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
    Penalty,
    Strengths,
)
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.solution import (
    TOLERANCE,
    NormalEquations,
    coordinate_search,
    rank_strengths,
)

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
) -> list[Strengths]:
    """Strengths in order of preference, by the errors of the folds (`rank_strengths`).

    That of the penalty on rotamers is chosen last, beside the preferred others, and is common to all; without folds it
    is zero. With a prior model only the best are given: the ridge is chosen first, then the curvature.

    Parameters
    ----------
    total, folds, penalties, n_constants, selected, scale
        As for `rank_strengths`.
    settings, of_channels, corrects
        As for `strength_grids`.

    Raises
    ------
    DualityError
        If there are too few frames for two blocks.
    LinAlgError
        As for `rank_strengths`.
    """
    grids = strength_grids(settings, penalties, of_channels=of_channels, corrects=corrects)
    last = grids.get(ROTAMERS, (0.0,))
    first = {name: grid for name, grid in grids.items() if name != ROTAMERS}
    others: list[Strengths] = [dict(zip(first, values, strict=True)) for values in product(*first.values())]
    beside = {ROTAMERS: last[0]} if ROTAMERS in grids else {}
    if len(folds) < 2 and (len(others) == 1 or (corrects and not folds)):
        return [{**others[-1], **beside}]
    if len(folds) < 2:
        raise DualityError(
            "choosing the regularisation by cross-validation needs at least two blocks of frames, and "
            "there are too few frames; add frames, or give ridge and curvature"
        )
    if corrects:
        return [coordinate_search(total, folds, penalties, grids, n_constants, selected, scale)]

    def ranked(candidates: list[Strengths], tolerance: float) -> list[Strengths]:
        return rank_strengths(total, folds, penalties, candidates, n_constants, selected, scale, tolerance)

    if len(others) > 1:
        others = ranked([{**one, **beside} for one in others], CHANNEL_TOLERANCE if of_channels else TOLERANCE)
    if len(last) > 1:  # the strongest comes first by the first penalty
        rest = {name: strength for name, strength in others[0].items() if name != ROTAMERS}
        best = ranked([{ROTAMERS: strength, **rest} for strength in last], ROTAMER_TOLERANCE)
        beside = {ROTAMERS: best[0][ROTAMERS]}
    return [{**one, **beside} for one in others]
