"""Bases, channels and layout adapted to the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from openmm_duality.errors import DualityError
from openmm_duality.inference.equations.bases import make_basis, smooth_basis
from openmm_duality.inference.equations.channel_selection import SIZES, channels_of_data
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.layout import Layout, joint_group
from openmm_duality.inference.equations.own_columns import OwnColumns
from openmm_duality.inference.equations.pair_statistics import PairStatistics
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.targets import DataSet
from openmm_duality.invariants.radial import Grid
from openmm_duality.losses.cores import levelled

_PAIR_FUNCTIONS, _FUNCTIONS = 28, 8  # of other forms than channels
_SMOOTH_PAIR_FUNCTIONS = 12
_MOMENTS = 12  # functions of all neighbour species together
_LEAST_FUNCTIONS, _MOST_FUNCTIONS = 5, 10  # of each of them
_REACH = 0.5  # nm, of the channels, at least
_SHELLS = 1.7  # reach relative to the distance of the nearest neighbour, which takes in the next ones of a crystal


def adapted_design(
    sets: Sequence[DataSet],
    settings: Settings,
    species: tuple[str, ...],
    statistics: PairStatistics,
    grid: Grid,
    n_constants: int,
) -> Design:
    """Choose bases, channels and layout by the data and the settings.

    Raises
    ------
    DualityError
        If the grid is too coarse for the functions, or given knots do not fit.
    """
    if settings.agent_form.channels:
        design = _with_channels(sets, settings, species, statistics, grid)
    else:
        design = _with_contractions(settings, species, statistics, grid)
    groups = joint_group(len(species)) if settings.symmetry_strengths else ()
    sizes = (len(species), design.basis.size, design.coarse.size)
    own = OwnColumns.of(settings.own_part, settings.agent_form, *sizes, design.channels)
    held = partial(levelled, shortest=statistics.shortest, species=species)
    return replace(
        design,
        layout=replace(design.layout, n_constants=n_constants, own=own, groups=groups),
        pair_basis=held(design.pair_basis),
        basis=held(design.basis),
        coarse=held(design.coarse),
    )


def _with_contractions(settings: Settings, species: tuple[str, ...], statistics: PairStatistics, grid: Grid) -> Design:
    """Design of the other forms: contractions of moments, and coupled invariants."""
    form = settings.agent_form
    n_pair, n = settings.pair_functions or _PAIR_FUNCTIONS, settings.functions or _FUNCTIONS
    n_coarse = settings.coarse_functions if form.coupled else 0
    knots = {_pair(name, species): row for name, row in (settings.knots or {}).items()}
    return Design(
        Layout(form, settings.gradient, len(species), n_pair, n, n_coarse),
        make_basis("b-splines", grid, n_pair, statistics, settings.sharpness),
        make_basis(settings.basis, grid, n, statistics, settings.sharpness, knots),
        make_basis(settings.basis, grid, n_coarse, statistics, settings.sharpness),
    )


def _with_channels(
    sets: Sequence[DataSet], settings: Settings, species: tuple[str, ...], statistics: PairStatistics, grid: Grid
) -> Design:
    """Design of a form with channels: few smooth functions, the fewer the more species there are."""
    form, size = settings.agent_form, SIZES[settings.size]
    n_pair = settings.pair_functions or _SMOOTH_PAIR_FUNCTIONS
    n = settings.functions or min(max(_MOMENTS // len(species), _LEAST_FUNCTIONS), _MOST_FUNCTIONS)
    usual = max(_REACH, _SHELLS * statistics.nearest(grid).max())
    reach = min(settings.channel_cutoff or usual, grid.cutoff)
    basis = smooth_basis(grid, n, statistics, reach)
    invariants = settings.invariants or size.invariants
    channels = channels_of_data(sets, species, basis, form.channels, settings.channels or size.channels, invariants)
    n_invariants = tuple(len(mine.invariants) for mine in channels)
    return Design(
        Layout(form, settings.gradient, len(species), n_pair, n, n_invariants=n_invariants),
        smooth_basis(grid, n_pair, statistics, grid.cutoff),
        basis,
        make_basis("b-splines", grid, 0, statistics),
        channels,
    )


def _pair(name: str, species: tuple[str, ...]) -> tuple[int, int]:
    names = name.split("-")
    if len(names) != 2 or not set(names) <= set(species):
        raise DualityError(f"knots: {name!r} is not a pair of the species {', '.join(species)}, such as H-O")
    a, b = sorted(species.index(one) for one in names)
    return a, b
