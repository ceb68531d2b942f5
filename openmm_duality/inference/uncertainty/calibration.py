"""Whether the predicted uncertainty of forces is the error that is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import Any

import numpy as np
from tqdm import tqdm

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.inference.equations.targets import Sample, count_samples, samples
from openmm_duality.inference.uncertainty.committee import NOMINAL
from openmm_duality.losses.evaluator import LocalEnvironments
from openmm_duality.losses.model import AgentLosses
from openmm_duality.parallel import on_all_cores
from openmm_duality.reference.frames import Frames, evenly_spaced
from openmm_duality.units import MEV_PER_ANGSTROM

QUANTILES = 5


@dataclass(frozen=True)
class SpeciesCalibration:
    """Predicted and found errors of the forces on the agents of one species.

    Parameters
    ----------
    agents : int
        Number of agents, over all frames.
    within : tuple of float
        Shares of force components whose error is within one and two predicted standard deviations.
    predicted, found : tuple of float
        Root mean squares of σ and of the error in meV/Å, by quintile of the predicted σ, or by
        agent where they are fewer.
    """

    agents: int
    within: tuple[float, float]
    predicted: tuple[float, ...]
    found: tuple[float, ...]

    @classmethod
    def of(cls, errors: FloatArray, sigmas: FloatArray) -> SpeciesCalibration:
        """From errors (M, 3) and predicted standard deviations (M,) in meV/Å."""
        ratios = np.abs(errors) / sigmas[:, None]
        groups = np.array_split(np.argsort(sigmas, kind="stable"), min(QUANTILES, len(sigmas)))
        return cls(
            len(errors),
            (float((ratios <= 1.0).mean()), float((ratios <= 2.0).mean())),
            tuple(float(np.sqrt(np.mean(sigmas[g] ** 2))) for g in groups),
            tuple(float(np.sqrt(np.mean(errors[g] ** 2))) for g in groups),
        )


@dataclass(frozen=True)
class Calibration:
    """How far the predicted uncertainty of forces can be believed, by species.

    Parameters
    ----------
    frames : int
    species : mapping of str to SpeciesCalibration
    """

    frames: int
    species: Mapping[str, SpeciesCalibration]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "frames": self.frames,
            "species": {name: vars(found) for name, found in self.species.items()},
            "units": {"force": "meV/angstrom"},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Calibration:
        """From `to_dict`."""
        found = {
            name: SpeciesCalibration(s["agents"], *(tuple(s[key]) for key in ("within", "predicted", "found")))
            for name, s in content["species"].items()
        }
        return cls(content["frames"], found)

    def __str__(self) -> str:
        titles = "within σ".rjust(10) + "within 2 σ".rjust(12) + "   found / predicted, by fifths of σ"
        lines = ["uncertainty".ljust(14) + titles]
        for name, mine in self.species.items():
            shares = f"{100 * mine.within[0]:8.1f} %{100 * mine.within[1]:10.1f} %"
            pairs = ", ".join(f"{f:.0f}/{p:.0f}" for p, f in zip(mine.predicted, mine.found, strict=True))
            lines.append(name.ljust(14) + shares + "   " + pairs)
        expected = " and ".join(f"{100 * share:.1f} %" for share in NOMINAL)
        lines.append(f"(a normal law has {expected} within σ and 2 σ; found and predicted errors in meV/Å)")
        return "\n".join(lines)


def calibration(
    losses: AgentLosses, data: Frames | Sequence[Frames], *, at_most: int | None = None, progress: bool = False
) -> Calibration:
    """Hold the predicted uncertainty of forces against their errors in reference frames, all of them together.

    Parameters
    ----------
    losses : AgentLosses
        With a committee.
    data : Frames or sequence of Frames
        That neither the fit nor its calibration has seen, if the answer is to mean anything.
    at_most : int, optional
        Evenly spaced frames of each to look at; all by default.
    progress : bool
        Whether to show a bar.

    Raises
    ------
    DualityError
        If the model has no committee, or the data hold nothing to compare with.
    """
    if losses.committee is None:
        raise DualityError(
            "the model has no committee, so it predicts no uncertainty; infer it from ten frames or more, members: 16"
        )
    groups = [data] if isinstance(data, Frames) else list(data)
    counts = [count_samples(frames) if len(frames) else 0 for frames in groups]
    if not sum(counts):
        raise DualityError("the data hold no frames with forces to compare with")
    taken = [count if at_most is None else min(at_most, count) for count in counts]
    members = losses.members()
    errors: list[FloatArray] = []
    sigmas: list[FloatArray] = []
    species: list[str] = []
    bar = tqdm(total=sum(taken), desc="uncertainty", unit="frame", disable=None if progress else True, leave=False)
    with bar:
        for frames, count, most in zip(groups, counts, taken, strict=True):
            chosen = np.zeros(count, dtype=bool)
            chosen[evenly_spaced(count, most)] = True
            wanted = compress(samples(frames), chosen) if most else iter(())
            for found in on_all_cores(partial(_compared, losses, members, frames.species), wanted):
                errors.append(found[0])
                sigmas.append(found[1])
                species += frames.species
                bar.update()
    e, s, names = (
        np.concatenate(errors) / MEV_PER_ANGSTROM,
        np.concatenate(sigmas) / MEV_PER_ANGSTROM,
        np.array(species),
    )
    species_index = [kind for kind in losses.species if (names == kind).any()]
    return Calibration(
        sum(taken), {kind: SpeciesCalibration.of(e[names == kind], s[names == kind]) for kind in species_index}
    )


def _compared(
    losses: AgentLosses, members: Sequence[AgentLosses], species: Sequence[str], sample: Sample
) -> tuple[FloatArray, FloatArray]:
    """Errors (N, 3) and predicted standard deviations (N,) of the forces of a sample, in kJ/mol/nm."""
    assert losses.committee is not None
    forces = np.zeros((1 + len(members), len(species), 3))
    for share, positions, cell in sample.configurations:
        seen = LocalEnvironments.of(losses, positions, species, cell)
        forces += share * np.array([seen.evaluate(one).forces for one in (losses, *members)])
    return forces[0] - sample.target, losses.committee.uncertainty(forces[1:], losses.index_of(species))
