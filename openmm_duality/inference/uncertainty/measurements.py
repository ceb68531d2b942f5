"""Evaluation of losses on reference frames: a single pass that serves all statistics.

Index suffixes: k model, i agent, x Cartesian.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.inference.equations.targets import Sample, samples
from openmm_duality.losses.evaluator import LocalEnvironments, describe_environments
from openmm_duality.losses.model import AgentLosses
from openmm_duality.parallel import on_all_cores
from openmm_duality.progress import progress_bar
from openmm_duality.reference.mixed_frames import AnyFrames
from openmm_duality.units import stress_from_virial

Models = Sequence[AgentLosses]


@dataclass(frozen=True)
class Measurement:
    """Results of several models with the same bases for one sample of a set of frames, with its target.

    Parameters
    ----------
    number : int
        Number of the sample.
    species_index : array of int, shape (N,)
    target : array, shape (N, 3)
        Target in kJ/mol/nm.
    forces : array, shape (K, N, 3)
        Forces in kJ/mol/nm, averaged over the configurations of the sample like the target.
    energies : array, shape (K,)
        Sums of losses in kJ/mol, averaged in the same way.
    virials : array, shape (K, 3, 3), or None
        In kJ/mol; None for losses without a potential.
    losses : array, shape (K, N)
        Losses of the agents in the central configuration, in kJ/mol.
    stress : array, shape (3, 3), or None
        Target of the stress in kJ/mol/nm³; None for losses or samples without one.
    volume : float
        Of the cell in nm³, for the stresses of the virials; zero without one.
    descriptors : array, shape (N, P), or None
        Descriptors of the local environments in the central configuration; None if not requested.
    """

    number: int
    species_index: IntArray
    target: FloatArray
    forces: FloatArray
    energies: FloatArray
    virials: FloatArray | None
    losses: FloatArray
    stress: FloatArray | None
    volume: float
    descriptors: FloatArray | None

    @property
    def stress_errors(self) -> FloatArray | None:
        """Errors of the stresses of all models in kJ/mol/nm³, shape (K, 3, 3)."""
        if self.virials is None or self.stress is None:
            return None
        return stress_from_virial(self.virials, self.volume) - self.stress

    def of_models(self, chosen: Sequence[int]) -> Measurement:
        """Select some of the models, in a given order."""
        virials = None if self.virials is None else self.virials[chosen]
        mine = {name: getattr(self, name)[chosen] for name in ("forces", "energies", "losses")}
        return replace(self, **mine, virials=virials)


def measure(
    frames: AnyFrames, models: Mapping[int, Models], described: Collection[int] = frozenset(), *, title: str = ""
) -> list[Measurement]:
    """Evaluate models on samples of a set of frames, with one neighbour search per configuration.

    Parameters
    ----------
    frames : Frames or MixedFrames
    models : mapping of int to sequence of AgentLosses
        Models to evaluate, one or more with the same bases, by number of the sample (see `samples`) in ascending
        order.
    described : collection of int
        Numbers of the samples whose local environments are described too.
    title : str
        Title of the progress; without a title none is shown.
    """
    wanted = zip(models.items(), samples(frames, models), strict=True)
    measured = on_all_cores(partial(_measure, frozenset(described)), wanted)
    return list(progress_bar(len(models), title, show=bool(title), items=measured))


def _measure(described: Collection[int], item: tuple[tuple[int, Models], Sample]) -> Measurement:
    (number, models), sample = item
    first, species = models[0], sample.species
    forces, energies = np.zeros((len(models), len(species), 3)), np.zeros(len(models))
    for k, (share, positions, cell) in enumerate(sample.configurations):
        environments = LocalEnvironments.of(first, positions, species, cell)
        found = [environments.evaluate(model) for model in models]
        forces += share * np.array([one.forces for one in found])
        energies += share * np.array([one.energy for one in found])
        if k == sample.central:
            losses = np.array([one.losses for one in found])
            virials = np.array([one.virial for one in found]) if first.has_potential else None
            descriptors = None
            if number in described:
                descriptors = describe_environments(first, environments.moments, environments.species_index)
    volume = 0.0 if cell is None else abs(float(np.linalg.det(cell)))
    stress = None if sample.virial is None else stress_from_virial(sample.virial, volume)
    index = first.index_of(species)
    return Measurement(number, index, sample.target, forces, energies, virials, losses, stress, volume, descriptors)
