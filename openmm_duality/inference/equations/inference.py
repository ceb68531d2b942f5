"""The equations of an inference and their solution for any regularisation strengths.

With a prior model the unknowns are the differences from its coefficients (Δ-learning). Every form is linear in its
coefficients, so H = H_prior + ΔH has the form, the bases and the cost of H_prior. ΔH is fitted to F − F_prior, and the
penalties act on ΔH alone: the ridge pulls the coefficients towards those of the prior model instead of towards zero.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from itertools import zip_longest
from typing import Any

import numpy as np

from openmm_duality.geometry.arrays import BoolArray, FloatArray
from openmm_duality.geometry.bonding import BondLengths
from openmm_duality.inference.equations.accumulation import MIN_BLOCKS, MIN_FOLDS, BlockedEquations, accumulate
from openmm_duality.inference.equations.adapted_design import adapted_design
from openmm_duality.inference.equations.channel_choice import ChannelChoice
from openmm_duality.inference.equations.continuation import standard_penalties
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.displaced_frames import curvature_changes
from openmm_duality.inference.equations.energies import EnergyReference, default_weight
from openmm_duality.inference.equations.layout import GAUGE
from openmm_duality.inference.equations.memory import MemoryPlan, plan_memory
from openmm_duality.inference.equations.mixing import MixingProblem, learn_mixing
from openmm_duality.inference.equations.pair_statistics import PairStatistics, known_pair_statistics, pair_statistics
from openmm_duality.inference.equations.penalties import PUMP, ROTAMERS, SEPARATIONS, Penalty, Strengths
from openmm_duality.inference.equations.pump import FIRST_STRENGTHS, weakest_strength
from openmm_duality.inference.equations.rotamers import rotated_sets
from openmm_duality.inference.equations.selection import describe_selection, select
from openmm_duality.inference.equations.separations import separated_sets
from openmm_duality.inference.equations.settings import DELTA_CHOICES, Settings
from openmm_duality.inference.equations.solution import NormalEquations, column_scale, raise_if_undetermined, solve
from openmm_duality.inference.equations.stored import StoredEquations
from openmm_duality.inference.equations.strength_choice import preferred_strengths
from openmm_duality.inference.equations.symmetries import soft_symmetries
from openmm_duality.inference.equations.synthetic_frames import penalties_on_errors
from openmm_duality.inference.equations.targets import (
    DataSet,
    bond_lengths_of,
    data_set_metadata,
    parts_of,
    species_and_masses,
)
from openmm_duality.inference.equations.unlabelled import check_species
from openmm_duality.inference.equations.virials import checked_stress_weight, resolved_stress_weight
from openmm_duality.invariants.radial import Grid
from openmm_duality.losses.model import AgentLosses
from openmm_duality.progress import note, timed
from openmm_duality.reference.molecules import known_coordinations
from openmm_duality.version import __version__

_NOTHING_TO_ROTATE = (
    "rotamers: no frame with forces shows a single molecule with a group that can be rotated about a bond, so there is "
    "no such penalty"
)


@dataclass(frozen=True)
class Inference:
    """Normal equations of data sets, and the conversion of their solutions to agent losses.

    Parameters
    ----------
    sets : sequence of DataSet
    settings : Settings
        With a prior model only those in `DELTA_CHOICES` are used; it fixes the others.
    species : tuple of str, length S
    masses : array, shape (S,)
        In dalton.
    statistics : PairStatistics
        Pair distances of the frames.
    lengths : dict
        The bond length of every pair of species that is bonded, in nm.
    design : Design
    reference : EnergyReference
        What is subtracted from the energies, if they are fitted.
    equations : BlockedEquations
        Equations of the coefficients, or of their differences from those of the prior model.
    seconds : dict of str to float
        Wall time by task.
    memory : MemoryPlan
        Memory that was expected to be needed.
    curvature_changes : list of arrays, shape (P, P)
        Mean squared changes of the curvature of a form with channels in displaced frames, by group; otherwise empty.
    mixing_errors : list of float
        Error of forces in kJ/mol/nm before and after every step in which the mixing of channels was learned.
    on_synthetic : list of tuple of Penalty
        By group the penalties on errors in synthetic frames; empty where there are none.
    n_synthetic : dict of str to int
        Number of these frames, by the name of the penalty.
    prior : AgentLosses, optional
    unlabelled : sequence of DataSet
        Further frames for the penalties on soft symmetries, whose forces are not used.
    progress : bool
        Whether to show the progress.
    """

    sets: Sequence[DataSet]
    settings: Settings
    species: tuple[str, ...]
    masses: FloatArray
    statistics: PairStatistics
    lengths: BondLengths
    design: Design
    reference: EnergyReference
    equations: BlockedEquations
    seconds: dict[str, float]
    memory: MemoryPlan
    curvature_changes: list[FloatArray]
    mixing_errors: list[float]
    on_synthetic: list[tuple[Penalty, ...]]
    n_synthetic: dict[str, int]
    prior: AgentLosses | None = None
    unlabelled: Sequence[DataSet] = ()
    progress: bool = False

    @classmethod
    def of(
        cls,
        sets: Sequence[DataSet],
        settings: Settings,
        prior: AgentLosses | None = None,
        progress: bool = False,
        unlabelled: Sequence[DataSet] = (),
    ) -> Inference:
        """Analyse the data, choose the bases (or adopt those of the prior model) and accumulate the equations.

        Raises
        ------
        DualityError
            If the data cannot be used, or the frames contain a species or a distance outside the training data of the
            prior model.
        """
        seconds: dict[str, float] = {}
        synthetic: dict[str, list[DataSet]] = {ROTAMERS: [], SEPARATIONS: []}
        if settings.energy_weight is None:
            settings = replace(settings, energy_weight=default_weight(settings, sets) if prior is None else 0.0)
        chosen = settings if prior is None else replace(settings, gradient=prior.gradient)
        stress_weight, given = resolved_stress_weight(chosen, sets), settings.stress_weight is not None
        if prior is not None:
            known = prior.metadata.get("regularisation", [{}])[0]
            pump = {"pump": known.get(PUMP, 0.0), "symmetries": None}
            settings = replace(settings, gradient=prior.gradient, mixing_steps=0, **pump)
            remedy = "label these frames with the method of the prior model too, and infer it again with them"
            with timed(seconds, "pair_statistics"):
                statistics = known_pair_statistics(prior, parts_of(sets), remedy)
            species, masses, design = prior.species, prior.masses, Design.of(prior)
            lengths, reference = dict(prior.bond_lengths), EnergyReference.none(species)
        else:
            species, masses = species_and_masses(sets)
            grid = Grid(settings.cutoff, settings.intervals)
            with timed(seconds, "pair_statistics"):
                statistics = pair_statistics(parts_of(sets), species, grid, progress)
            reference = EnergyReference.none(species)
            if settings.energy_weight:
                reference = EnergyReference.of(sets, species, settings.atom_energies)
            with timed(seconds, "channels"):
                design = adapted_design(sets, settings, species, statistics, grid, reference.n_constants)
            lengths = bond_lengths_of(sets)
            with timed(seconds, "synthetic_frames"):
                if settings.rotamers != 0.0:
                    synthetic[ROTAMERS] = rotated_sets(sets, species, lengths, statistics.shortest, design)
                if settings.separations:
                    synthetic[SEPARATIONS] = separated_sets(sets, lengths, design)
                if settings.rotamers and not synthetic[ROTAMERS]:
                    warnings.warn(_NOTHING_TO_ROTATE, stacklevel=2)
        check_species(unlabelled, species)
        with timed(seconds, "stresses"):
            weight = checked_stress_weight(stress_weight, given, sets, species, design)
            settings = replace(settings, stress_weight=weight)
        with timed(seconds, "memory"):
            undecided = None in (settings.ridge, settings.curvature, settings.rotamers if synthetic[ROTAMERS] else 0.0)
            least = MIN_FOLDS if prior is not None or undecided else 1
            if settings.members or (prior is not None and prior.committee is not None):
                least = MIN_BLOCKS
            number = sum(map(bool, synthetic.values()))
            memory = plan_memory(sets, species, design, settings, reference, least_blocks=least, n_synthetic=number)
        note(str(memory), show=progress)
        mixing: list[float] = []
        if memory.mixing:
            with timed(seconds, "mixing"), raise_if_undetermined():
                problem = MixingProblem(sets, species, statistics.shortest, design, settings, memory.storage, progress)
                design, mixing = learn_mixing(problem, settings.most_mixing_steps)
        equations = accumulate(sets, species, design, settings, reference, progress, memory.storage)
        seconds |= equations.seconds
        changes: list[FloatArray] = []
        if design.channels:
            with timed(seconds, "displaced_frames"):
                changes = curvature_changes(sets, species, design, progress, memory.storage.at_once)
        with timed(seconds, "synthetic_frames"):
            on_synthetic = penalties_on_errors(synthetic, species, design, settings, progress, memory.storage)
        if prior is not None:
            equations = equations.relative_to(design.layout.pack(prior))
        found = (sets, settings, species, masses, statistics, lengths, design, reference, equations, seconds, memory)
        n_synthetic = {name: sum(len(one.frames) for one in mine) for name, mine in synthetic.items()}
        return cls(*found, changes, mixing, on_synthetic, n_synthetic, prior, unlabelled, progress)

    @property
    def totals(self) -> list[NormalEquations]:
        """Equations of all frames, by group."""
        return self.equations.totals

    @cached_property
    def scales(self) -> list[FloatArray]:
        """Column scales of the equations of all frames, by group."""
        layout = self.design.layout
        pairs = zip(self.totals, layout.groups, strict=True)
        return [column_scale(total, layout.scale_blocks(group)) for total, group in pairs]

    @cached_property
    def penalties(self) -> list[tuple[Penalty, ...]]:
        """Penalties of each group."""
        shortest = self.statistics.shortest if self.prior is None else self.prior.shortest
        to_pairs = self.totals if self.prior is None else []  # differences from a prior model are continued by zero
        groups = zip_longest(self.design.layout.groups, self.curvature_changes, to_pairs)
        with raise_if_undetermined():
            standard = [standard_penalties(self.design, group, shortest, a, b) for group, a, b in groups]
        standard = [(*mine, *more) for mine, more in zip(standard, self.on_synthetic, strict=True)]
        if not self.settings.symmetry_strengths:
            return standard
        (total,), (penalties,), (scale,) = self.totals, standard, self.scales
        with timed(self.seconds, "symmetries"), raise_if_undetermined():
            losses = self.prior or self._losses([solve(total, penalties, FIRST_STRENGTHS, scale)])
            frames, unit = (self.sets, self.unlabelled), self.equations.mean_square
            return [(*penalties, *soft_symmetries(self.design, losses, *frames, self.settings, unit, self.lengths))]

    @cached_property
    def start(self) -> list[FloatArray]:
        """Coefficients to which the solution is added, by group: those of the prior model, or zeros."""
        layout = self.design.layout
        if self.prior is None:
            return [np.zeros(layout.size(group)) for group in layout.groups]
        return layout.pack(self.prior)

    @property
    def selectable(self) -> list[BoolArray | None]:
        """Columns whose coefficients are fitted, by group: those that the prior model selected; None for all."""
        if self.prior is None or not self.prior.metadata.get("selection"):
            return [None] * len(self.start)
        return [start != 0.0 for start in self.start]

    @cached_property
    def preferences(self) -> list[list[Strengths]]:
        """Regularisation strengths by group, in order of preference in cross-validation (`strength_choice`).

        Raises
        ------
        DualityError
            If there are too few frames for two blocks, or the data do not determine the losses.
        """
        kind = {"of_channels": bool(self.design.channels), "corrects": self.prior is not None}
        kind["progress"] = self.progress
        n_constants = self.design.layout.n_constants
        with timed(self.seconds, "regularisation"), raise_if_undetermined():
            groups = zip(self.totals, self.equations.folds, self.penalties, self.selectable, self.scales, strict=True)
            result = [
                preferred_strengths(total, folds, penalties, self.settings, n_constants, selectable, scale, **kind)
                for total, folds, penalties, selectable, scale in groups
            ]
            if self.settings.max_pump is not None:

                def losses_with(eta: float, first: Strengths = result[0][0]) -> AgentLosses:
                    return self._losses(self.solve(self.totals, [{**first, PUMP: eta}]))

                strength = weakest_strength(self.settings.max_pump, losses_with, self.unlabelled or self.sets)
                result = [[{**one, PUMP: strength} for one in mine] for mine in result]
        return result

    def solve(
        self,
        equations: Sequence[NormalEquations],
        strengths: Sequence[Strengths],
        selected: Sequence[BoolArray | None] | None = None,
    ) -> list[FloatArray]:
        """Solve the equations of each group; the solution of a group without rows is zero.

        Parameters
        ----------
        equations : sequence of NormalEquations
            Equations of all frames or of some of the blocks, by group.
        strengths : sequence of mapping of str to float
        selected : sequence of arrays of bool or None, optional
            Columns whose coefficients are fitted; `selectable` by default.

        Returns
        -------
        list of arrays, shape (P,)

        Raises
        ------
        LinAlgError
            If the equations do not determine the coefficients.
        """
        found, masks = [], self.selectable if selected is None else selected
        by_group = zip(equations, self.penalties, strengths, masks, self.scales, strict=True)
        for mine, penalties, strength, mask, scale in by_group:
            if mine.weight > 0.0:
                found.append(solve(mine, penalties, strength, scale, self.design.layout.n_constants, mask))
            else:
                found.append(np.zeros(len(mine.rhs)))
        return found

    def losses(self, strengths: Sequence[Strengths]) -> AgentLosses:
        """Solve for the losses, without core, committee, domain and errors, given the strengths of each group.

        Raises
        ------
        DualityError
            If the data do not determine the losses.
        """
        layout, settings = self.design.layout, self.settings
        selected, selection = list(self.selectable), dict[str, str]()
        shares = [] if self.prior is not None else layout.shares(settings.max_coefficients)
        with timed(self.seconds, "solution"), raise_if_undetermined():
            for k, (group, share) in enumerate(zip(layout.groups, shares, strict=False)):
                mask = select(
                    self.totals[k], self.penalties[k], strengths[k], share, self.scales[k], layout.n_constants
                )
                selection |= describe_selection(layout, group, mask, self.species)
                selected[k] = mask
            solutions = self.solve(self.totals, strengths, selected)
        metadata: dict[str, Any] = {
            "version": __version__,
            "versions": {name: version(name) for name in ("openmm", "numpy", "scipy")},
            "settings": settings.to_dict(),
            "gauge": GAUGE[layout.gradient] + self.reference.gauge,
            "regularisation": [dict(strength) for strength in strengths],
            "coefficients": sum(int(np.count_nonzero(s[: len(s) - layout.n_constants])) for s in solutions),
            "data": [data_set_metadata(s) for s in self.sets],
            "unlabelled": [list(s.frames.source) for s in self.unlabelled],
            **self.reference.to_metadata(solutions),
            "selection": selection,
            "synthetic_frames": self.n_synthetic,
            "memory": self.memory.to_dict(),
        }
        if self.design.channels:
            metadata["channels"] = ChannelChoice.of(self.design, self.species, self.mixing_errors).to_dict()
        if self.prior is not None:
            return self.added_to_prior(solutions, self.prior, metadata)
        equations: dict[str, FloatArray] = {}
        if settings.keep_equations:
            for k, of_group in enumerate(zip_longest(self.totals, self.scales, selected, self.curvature_changes)):
                equations |= StoredEquations.of(*of_group, self.penalties[k]).to_arrays(f"{k}/")
        return replace(self._losses(solutions), **self.bonds, equations=equations, metadata=metadata)

    def _losses(self, solutions: Sequence[FloatArray]) -> AgentLosses:
        return self.design.losses(solutions, self.species, self.masses, self.statistics.shortest)

    def added_to_prior(
        self, differences: Sequence[FloatArray], prior: AgentLosses, metadata: Mapping[str, Any] | None = None
    ) -> AgentLosses:
        """Add ΔH to the prior model, keeping its walls and cores but not its committee, domain and equations.

        Parameters
        ----------
        differences : sequence of arrays, shape (P,)
            Coefficients of ΔH, by group.
        prior : AgentLosses
        metadata : mapping, optional
            Metadata as of an inference without a prior model; those of the prior model by default.
        """
        coefficients = [c + d for c, d in zip(self.start, differences, strict=True)]
        known = prior.metadata
        if metadata is not None:
            chosen = {name: getattr(self.settings, name) for name in DELTA_CHOICES}
            inherited = ("data", "regularisation", "settings", "version", "prior")
            n_coefficients = sum(int(np.count_nonzero(c)) for c in coefficients)
            metadata = {
                **metadata,
                "settings": {**known.get("settings", {}), **chosen, "energy_weight": 0.0, "keep_equations": False},
                "coefficients": known.get("coefficients", n_coefficients),
                "selection": known.get("selection", {}),
                "prior": {"sha256": prior.sha256(), **{name: known[name] for name in inherited if name in known}},
            }
        return replace(
            prior,
            **self.design.layout.unpack(coefficients),
            committee=None,
            domain=None,
            equations={},
            metadata=known if metadata is None else metadata,
            **self.bonds,
        )

    @cached_property
    def bonds(self) -> dict[str, Any]:
        """What the data show of bonds, as fields of losses: those of a prior model, and what is new in the data."""
        known = known_coordinations(parts_of(self.sets), self.lengths)
        known |= frozenset() if self.prior is None else self.prior.coordinations
        return {"bond_lengths": self.lengths, "coordinations": known}
