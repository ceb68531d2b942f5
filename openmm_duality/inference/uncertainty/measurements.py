"""What losses give in reference frames, beside what the frames hold: one pass, for every statistic made of it.

Index suffixes: k model, i agent, x Cartesian.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from tqdm import tqdm

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.inference.equations.targets import Sample, samples
from openmm_duality.invariants.contractions import environment_descriptors
from openmm_duality.losses.evaluator import LocalEnvironments
from openmm_duality.losses.model import AgentLosses
from openmm_duality.parallel import on_all_cores
from openmm_duality.reference.frames import Frames

Models = Sequence[AgentLosses]


@dataclass(frozen=True)
class Measurement:
    """What some models with the same bases give for one sample of a set of frames.

    Parameters
    ----------
    number : int
        Of the sample.
    species_index : array of int, shape (N,)
    target : array, shape (N, 3)
        In kJ/mol/nm.
    forces : array, shape (K, N, 3)
        In kJ/mol/nm, averaged over the configurations of the sample as the target is.
    energies : array, shape (K,)
        Sums of losses in kJ/mol, averaged alike.
    losses : array, shape (K, N)
        Of the agents in the central configuration, in kJ/mol.
    descriptors : array, shape (N, P), or None
        Of the local environments in the central configuration; None where they were not asked for.
    """

    number: int
    species_index: IntArray
    target: FloatArray
    forces: FloatArray
    energies: FloatArray
    losses: FloatArray
    descriptors: FloatArray | None

    def of_models(self, chosen: Sequence[int]) -> Measurement:
        """The measurement with some of its models, in a given order."""
        return replace(self, forces=self.forces[chosen], energies=self.energies[chosen], losses=self.losses[chosen])


def measure(
    frames: Frames, models: Mapping[int, Models], described: Collection[int] = frozenset(), *, title: str = ""
) -> list[Measurement]:
    """Evaluate models at samples of a set of frames; the neighbours of each configuration are found once.

    Parameters
    ----------
    frames : Frames
    models : mapping of int to sequence of AgentLosses
        Numbers of the samples (see `samples`) in ascending order, and the models to evaluate there, one or more that
        share their bases.
    described : collection of int
        Samples whose local environments are described too.
    title : str
        Of a progress bar; none is shown without it.
    """
    wanted = zip(models.items(), samples(frames, models), strict=True)
    measured = on_all_cores(partial(_measure, frames.species, frozenset(described)), wanted)
    shown = None if title else True
    return list(tqdm(measured, total=len(models), desc=title, unit="frame", disable=shown, leave=False))


def _measure(
    species: Sequence[str], described: Collection[int], item: tuple[tuple[int, Models], Sample]
) -> Measurement:
    (number, models), sample = item
    first = models[0]
    forces, energies = np.zeros((len(models), len(species), 3)), np.zeros(len(models))
    for k, (share, positions, cell) in enumerate(sample.configurations):
        environments = LocalEnvironments.of(first, positions, species, cell)
        found = [environments.evaluate(model) for model in models]
        forces += share * np.array([one.forces for one in found])
        energies += share * np.array([one.energy for one in found])
        if k == sample.central:
            losses = np.array([one.losses for one in found])
            descriptors = None
            if number in described:
                descriptors = environment_descriptors(environments.moments, first.basis.size)
    return Measurement(number, first.index_of(species), sample.target, forces, energies, losses, descriptors)
