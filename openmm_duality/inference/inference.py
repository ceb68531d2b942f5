"""An inference with its equations set up, to be solved for any regularisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import combinations_with_replacement, product
from time import perf_counter

import numpy as np

import openmm_duality
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.inference.equations.accumulation import Accumulated, accumulate
from openmm_duality.inference.equations.bases import make_basis
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.energies import energy_constants, energy_zeros
from openmm_duality.inference.equations.layout import Layout
from openmm_duality.inference.equations.pair_statistics import Survey, survey
from openmm_duality.inference.equations.penalties import curvature_penalty
from openmm_duality.inference.equations.selection import describe, select
from openmm_duality.inference.equations.solution import NormalEquations, Regularisation, ranked, solve
from openmm_duality.inference.equations.stored import keep
from openmm_duality.inference.equations.targets import DataSet, described
from openmm_duality.inference.repulsive_core import with_core
from openmm_duality.inference.settings import Settings
from openmm_duality.invariants.radial import Grid
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.molecules import bond_lengths

RIDGES = (1e-11, 1e-9, 1e-7, 1e-5)
CURVATURES = (1e-10, 1e-7, 1e-4)

GAUGE = {
    "collective": "u_AB = u_BA; the constant of every loss is zero",
    "agent": "the constant of every loss is zero",
}


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the wall time of a block to an entry."""
    begun = perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + perf_counter() - begun


@dataclass(frozen=True)
class Inference:
    """Normal equations of data sets, with all that turns a solution of them into losses.

    Parameters
    ----------
    sets : sequence of DataSet
    settings : Settings
    species : tuple of str, length S
    masses : array, shape (S,)
        In dalton.
    seen : Survey
    design : Design
    zeros : dict of str to float
        Reference energies (kJ/mol) by composition, where energies join the fit.
    equations : Accumulated
    seconds : dict of str to float
        Wall time by what it was spent on.
    """

    sets: Sequence[DataSet]
    settings: Settings
    species: tuple[str, ...]
    masses: FloatArray
    seen: Survey
    design: Design
    zeros: dict[str, float]
    equations: Accumulated
    seconds: dict[str, float]

    @classmethod
    def of(cls, sets: Sequence[DataSet], settings: Settings, progress: bool = False) -> Inference:
        """Look at the data, choose the bases and set up the equations.

        Raises
        ------
        DualityError
            If the data cannot be used or the cutoff is too long for a cell.
        """
        empty = [s.name for s in sets if not len(s.frames)]
        if not sets or empty:
            raise DualityError(f"there are no frames to infer from{' in ' + ', '.join(empty) if empty else ''}")
        seconds: dict[str, float] = {}
        species, masses = _species(sets)
        grid = Grid(settings.cutoff, settings.intervals)
        with timed(seconds, "survey"):
            seen = survey((s.frames for s in sets), species, grid)
        zeros = energy_zeros(sets) if settings.energy_weight else {}
        form = settings.agent_form
        n_coarse = settings.coarse_functions if form.coupled else 0
        sizes = (len(species), settings.pair_functions, settings.functions, n_coarse)
        knots = {_pair(name, species): row for name, row in (settings.knots or {}).items()}
        design = Design(
            Layout(form, settings.gradient, *sizes, n_constants=len(zeros)),
            make_basis("b-splines", grid, settings.pair_functions, seen, settings.sharpness),
            make_basis(settings.basis, grid, settings.functions, seen, settings.sharpness, knots),
            make_basis(settings.basis, grid, n_coarse, seen, settings.sharpness),
        )
        equations = accumulate(sets, species, design, settings, zeros, progress)
        seconds |= equations.seconds
        return cls(sets, settings, species, masses, seen, design, zeros, equations, seconds)

    @cached_property
    def totals(self) -> list[NormalEquations]:
        """The equations of all frames, by problem of the layout."""
        return self.equations.totals()

    @cached_property
    def penalties(self) -> list[FloatArray]:
        """The curvature penalty, by problem of the layout."""
        layout = self.design.layout
        return [curvature_penalty(layout, p, self.design.pair_basis, self.seen.shortest) for p in layout.problems]

    @cached_property
    def preferences(self) -> list[list[Regularisation]]:
        """Regularisations in order of preference on held-out blocks, by problem of the layout.

        Raises
        ------
        DualityError
            If there are too few frames for blocks, or the data do not determine the losses.
        """
        ridges = RIDGES if self.settings.ridge is None else (self.settings.ridge,)
        curvatures = CURVATURES if self.settings.curvature is None else (self.settings.curvature,)
        candidates = [Regularisation(r, c) for r, c in product(ridges, curvatures)]
        result = []
        with timed(self.seconds, "regularisation"), determined():
            for folds, penalty in zip(self.equations.folds, self.penalties, strict=True):
                if len(candidates) > 1 and len(folds) < 2:
                    raise DualityError(
                        "the regularisation is chosen on at least two blocks of frames, and there are not enough "
                        "frames for that; add frames, or give ridge and curvature"
                    )
                one = len(candidates) == 1
                result.append(candidates if one else ranked(folds, penalty, candidates, self.design.layout.n_constants))
        return result

    def losses(self, strengths: Sequence[Regularisation]) -> AgentLosses:
        """The losses for a regularisation of every problem, with their core; their errors are not measured.

        Raises
        ------
        DualityError
            If the data do not determine them, or no core keeps atoms apart.
        """
        layout, settings = self.design.layout, self.settings
        solutions: list[FloatArray] = []
        selection: dict[str, str] = {}
        masks: dict[str, FloatArray] = {}
        shares = layout.shares(settings.max_coefficients)
        with timed(self.seconds, "solution"), determined():
            for k, (problem, total, penalty, strength) in enumerate(
                zip(layout.problems, self.totals, self.penalties, strengths, strict=True)
            ):
                mask = None
                if shares is not None:
                    mask = select(total, penalty, strength, shares[k], layout.n_constants)
                    selection |= describe(layout, problem, mask, self.species)
                    masks[f"{k}/kept"] = mask.astype(np.float64)
                solutions.append(solve(total, penalty, strength, free=layout.n_constants, kept=mask))
        u, weights, couplings = layout.unpack(solutions)
        coefficients = sum(int(np.count_nonzero(s[: len(s) - layout.n_constants])) for s in solutions)
        met = meetings(self.sets)
        bonds = {pair: r for frames, pairs in met for pair, r in bond_lengths(frames).items() if pair in pairs}
        losses = AgentLosses(
            species=self.species,
            masses=self.masses,
            form=layout.form,
            gradient=layout.gradient,
            pair_basis=self.design.pair_basis,
            basis=self.design.basis,
            coarse=self.design.coarse,
            pair_coefficients=u,
            weights=weights,
            couplings=couplings,
            shortest=self.seen.shortest,
            core_strength=np.zeros((len(self.species), len(self.species))),
            bond_lengths=bonds,
            equations={**keep(self.totals), **masks} if settings.keep_equations else {},
            metadata={
                "version": openmm_duality.__version__,
                "versions": {name: version(name) for name in ("openmm", "numpy", "scipy")},
                "settings": settings.to_dict(),
                "gauge": GAUGE[settings.gradient],
                "regularisation": [{"ridge": s.ridge, "curvature": s.curvature} for s in strengths],
                "coefficients": coefficients,
                "data": [described(s) for s in self.sets],
                "energy_zeros": self.zeros,
                "energy_constants": energy_constants(self.zeros, solutions),
                "selection": selection,
            },
        )
        with timed(self.seconds, "core"):
            return with_core(losses, met, self.equations.largest_force)


def meetings(sets: Sequence[DataSet]) -> list[tuple[Frames, set[tuple[str, str]]]]:
    """The frames where each pair of species is looked at: those of the first set that has both."""
    met: set[tuple[str, str]] = set()
    result = []
    for frames in (s.frames for s in sets):
        pairs = set(combinations_with_replacement(frames.distinct_species, 2)) - met
        if pairs:
            result.append((frames, pairs))
            met |= pairs
    return result


@contextmanager
def determined() -> Iterator[None]:
    """Turn a factorisation that fails into an error for the user."""
    try:
        yield
    except np.linalg.LinAlgError as error:
        raise DualityError(
            f"the data do not determine the losses ({error}); give a stronger ridge, add frames, or ask for fewer "
            "functions"
        ) from None


def _pair(name: str, species: tuple[str, ...]) -> tuple[int, int]:
    species_index = name.split("-")
    if len(species_index) != 2 or not set(species_index) <= set(species):
        raise DualityError(f"knots: {name!r} is not a pair of the species {', '.join(species)}, such as H-O")
    a, b = sorted(species.index(kind) for kind in species_index)
    return a, b


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


def as_sets(data: Frames | DataSet | Sequence[DataSet]) -> list[DataSet]:
    """Data sets, from what `infer` takes."""
    return [data] if isinstance(data, DataSet) else [DataSet(data)] if isinstance(data, Frames) else list(data)
