"""Inference in closed form: from reference frames to agent losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import combinations_with_replacement, product
from typing import Any

import numpy as np

import openmm_duality
from openmm_duality.errors import DualityError
from openmm_duality.inference.accumulate import accumulate
from openmm_duality.inference.basis import make_basis
from openmm_duality.inference.design import Design
from openmm_duality.inference.equations import NormalEquations, Regularisation, choose, solve
from openmm_duality.inference.errors import ErrorTable, evaluate
from openmm_duality.inference.kept import keep
from openmm_duality.inference.layout import FloatArray, Layout
from openmm_duality.inference.penalty import curvature_penalty
from openmm_duality.inference.selection import describe, select
from openmm_duality.inference.settings import Settings
from openmm_duality.inference.short_range import with_core
from openmm_duality.inference.survey import survey
from openmm_duality.inference.targets import DataSet, count_samples, described
from openmm_duality.invariants.radial import Grid
from openmm_duality.losses.forms import form_named
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.molecules import bond_lengths

RIDGES = (1e-11, 1e-9, 1e-7, 1e-5)
CURVATURES = (1e-10, 1e-7, 1e-4)
_ERROR_FRAMES = 200  # evenly spaced, of every set

GAUGE = {
    "collective": "u_AB = u_BA; the constant of every loss is zero",
    "agent": "the constant of every loss is zero",
}


def infer(
    data: Frames | DataSet | Sequence[DataSet],
    *,
    test: Frames | Mapping[str, Frames] | None = None,
    settings: Settings | None = None,
    progress: bool = False,
    **choices: Any,
) -> AgentLosses:
    """Infer the agent losses that reproduce reference forces best, by regularised least squares.

    Parameters
    ----------
    data : Frames, DataSet or sequence of DataSet
        Training frames, with forces or (see `samples`) without.
    test : Frames or mapping of names to Frames, optional
        Held-out frames; errors against them go into the model's metadata.
    settings : Settings, optional
    progress : bool
        Whether to show bars.
    **choices
        Fields of `Settings`, instead of `settings`; the cutoff may be an `openmm.unit` quantity.

    Returns
    -------
    AgentLosses
        With provenance, regularisation and errors in its metadata.

    Raises
    ------
    DualityError
        If the data cannot be used, a choice is unknown, or the cutoff is too long for a cell.
    """
    sets = [data] if isinstance(data, DataSet) else [DataSet(data)] if isinstance(data, Frames) else list(data)
    empty = [s.name for s in sets if not len(s.frames)]
    if not sets or empty:
        raise DualityError(f"there are no frames to infer from{' in ' + ', '.join(empty) if empty else ''}")
    chosen = settings if settings is not None else Settings.of(**choices)
    held_out = {} if test is None else {"data": test} if isinstance(test, Frames) else dict(test)
    measured = {name: frames for name, frames in held_out.items() if _measurable(frames)}
    species, masses = _species(sets)
    grid = Grid(chosen.cutoff, chosen.intervals)
    seen = survey((s.frames for s in sets), species, grid)
    form = form_named(chosen.form)
    n_coarse = chosen.coarse_functions if form.coupled else 0
    layout = Layout(form, chosen.gradient, len(species), chosen.pair_functions, chosen.functions, n_coarse)
    design = Design(
        layout,
        make_basis("b-splines", grid, chosen.pair_functions, seen),
        make_basis(chosen.basis, grid, chosen.functions, seen),
        make_basis(chosen.basis, grid, n_coarse, seen),
    )
    folds, largest = accumulate(sets, species, design, chosen, progress)
    strengths, solutions, totals = [], [], []
    shares = layout.shares(chosen.max_coefficients)
    selection: dict[str, str] = {}
    for k, problem in enumerate(layout.problems):
        mine = [fold[k] for fold in folds if fold[k].weight > 0.0]
        curvature = curvature_penalty(layout, problem, design.pair_basis, seen.shortest)
        totals.append(sum(mine[1:], mine[0]))
        try:
            strengths.append(_regularisation(mine, curvature, chosen))
            if shares is None:
                solutions.append(solve(totals[-1], curvature, strengths[-1]))
            else:
                solution, mask = select(totals[-1], curvature, strengths[-1], shares[k])
                solutions.append(solution)
                selection |= describe(layout, problem, mask, species)
        except np.linalg.LinAlgError as error:
            raise DualityError(
                f"the data do not determine the losses ({error}); give a stronger ridge, add frames, or ask for fewer "
                "functions"
            ) from None
    u, weights, couplings = layout.unpack(solutions)
    met = _meetings(sets)
    bonds = {pair: r for frames, pairs in met for pair, r in bond_lengths(frames).items() if pair in pairs}
    losses = AgentLosses(
        species=species,
        masses=masses,
        form=form,
        gradient=chosen.gradient,
        pair_basis=design.pair_basis,
        basis=design.basis,
        coarse=design.coarse,
        pair_coefficients=u,
        weights=weights,
        couplings=couplings,
        shortest=seen.shortest,
        core_strength=np.zeros((len(species), len(species))),
        bond_lengths=bonds,
        equations=keep(totals) if chosen.keep_equations else {},
        metadata={
            **_provenance(sets, chosen, strengths, sum(int(np.count_nonzero(s)) for s in solutions)),
            "selection": selection,
        },
    )
    return _with_errors(with_core(losses, met, largest), sets, measured, progress)


def _meetings(sets: Sequence[DataSet]) -> list[tuple[Frames, set[tuple[str, str]]]]:
    """The frames where each pair of species is looked at: those of the first set that has both."""
    met: set[tuple[str, str]] = set()
    result = []
    for frames in (s.frames for s in sets):
        pairs = set(combinations_with_replacement(frames.kinds, 2)) - met
        if pairs:
            result.append((frames, pairs))
            met |= pairs
    return result


def _species(sets: Sequence[DataSet]) -> tuple[tuple[str, ...], FloatArray]:
    masses: dict[str, float] = {}
    for s in sets:
        for name, mass in zip(s.frames.species, s.frames.masses, strict=True):
            if not np.isclose(masses.setdefault(name, float(mass)), mass):
                raise DualityError(
                    f"{name} has the mass {masses[name]:.4f} in one data set and {mass:.4f} dalton in {s.name!r}; "
                    "give isotopes labels of their own"
                )
    species = tuple(sorted(masses))
    return species, np.array([masses[name] for name in species])


def _regularisation(folds: list[NormalEquations], curvature: FloatArray, settings: Settings) -> Regularisation:
    ridges = RIDGES if settings.ridge is None else (settings.ridge,)
    curvatures = CURVATURES if settings.curvature is None else (settings.curvature,)
    candidates = [Regularisation(r, c) for r, c in product(ridges, curvatures)]
    if len(candidates) == 1:
        return candidates[0]
    if len(folds) < 2:
        raise DualityError(
            "the regularisation is chosen on at least two blocks of frames, and there are not enough frames for that; "
            "add frames, or give ridge and curvature"
        )
    return choose(folds, curvature, candidates)


def _provenance(
    sets: Sequence[DataSet], settings: Settings, strengths: list[Regularisation], coefficients: int
) -> dict[str, Any]:
    return {
        "version": openmm_duality.__version__,
        "versions": {name: version(name) for name in ("openmm", "numpy", "scipy")},
        "settings": settings.to_dict(),
        "gauge": GAUGE[settings.gradient],
        "regularisation": [{"ridge": s.ridge, "curvature": s.curvature} for s in strengths],
        "coefficients": coefficients,
        "data": [described(s) for s in sets],
    }


def _measurable(frames: Frames) -> bool:
    """Whether there is a target; accelerations need three frames, and raise if the frames are too coarse for them."""
    return count_samples(frames) > 0 if frames.forces is not None or len(frames) > 2 else False


def _with_errors(
    losses: AgentLosses, sets: Sequence[DataSet], held_out: Mapping[str, Frames], progress: bool
) -> AgentLosses:
    train = {s.name: s.frames for s in sets}
    errors: dict[str, dict[str, Any]] = {"train": {}, "test": {}}
    for kind, group in (("train", train), ("test", held_out)):
        for name, frames in group.items():
            table: ErrorTable = evaluate(losses, frames, at_most=_ERROR_FRAMES, progress=progress)
            errors[kind][name] = table.to_dict()
    return replace(losses, metadata={**losses.metadata, "errors": errors})
