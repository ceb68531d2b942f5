"""What an inference chose and found, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from openmm_duality.inference.equations.penalties import ROTAMERS, SEPARATIONS
from openmm_duality.inference.repulsive_core import attraction
from openmm_duality.losses.model import AgentLosses


def inference_notes(losses: AgentLosses, members: int) -> list[str]:
    """Notes on the regularisation, on what acts where there are no data, and on what a monitor cannot check.

    Parameters
    ----------
    losses : AgentLosses
        As `infer` returns them.
    members : int
        Number of committee members that were wanted.
    """
    return [*_regularisation_notes(losses), *_monitor_notes(losses, members)]


def describe_strengths(regularisation: Sequence[Mapping[str, float]], species: Sequence[str]) -> str:
    """Regularisation strengths, by species where each has equations and strengths of its own.

    Parameters
    ----------
    regularisation : sequence of mapping of str to float
        By group of species, then by penalty.
    species : sequence of str
    """
    texts = [", ".join(f"{name} {value:g}" for name, value in one.items()) for one in regularisation]
    if len(set(texts)) == 1:
        return texts[0]
    return "; ".join(f"{name}: {text}" for name, text in zip(species, texts, strict=True))


def _regularisation_notes(losses: AgentLosses) -> list[str]:
    """Notes on the regularisation taken and on the core."""
    core = losses.metadata["core"]
    onsets = ", ".join(f"{name} {10.0 * onset:.2f} Å" for name, onset in core["onset_nm"].items())
    chosen = describe_strengths(losses.metadata["regularisation"], losses.species)
    settings, weighted = losses.metadata["settings"], (("energies", "energy_weight"), ("stresses", "stress_weight"))
    weights = "".join(f", weight of {name} {settings[key]:g}" for name, key in weighted if settings[key])
    notes = [f"Regularisation: {chosen}{weights}. The repulsive core begins at {onsets}."]
    synthetic = losses.metadata.get("synthetic_frames", {})
    if count := synthetic.get(ROTAMERS):
        used = any(one.get(ROTAMERS) for one in losses.metadata["regularisation"])
        which = "" if used else ", but held-out frames allow no penalty on errors in them"
        notes.append(f"Rotamers: {count} frames with groups of the molecule rotated about single bonds{which}.")
    if count := synthetic.get(SEPARATIONS):
        notes.append(f"Separations: {count} frames of clusters with a molecule moved away from the others.")
    if unseen := ", ".join(core.get("unseen", ())):
        notes.append(f"The data never show {unseen} within the cutoff; only the core acts between them.")
    if walls := losses.metadata["walls"]:
        steeper = ", ".join(f"{name} {10.0 * wall['onset_nm']:.2f} Å" for name, wall in walls.items())
        notes.append(f"Walls become steeper, as they do in the data, below {steeper}.")
    for candidate in core.get("rejected", ()):
        pairs = ", ".join(candidate["attracting"])
        notes.append(
            f"No core keeps {pairs} apart with {describe_strengths(candidate['regularisation'], losses.species)}."
        )
    if attraction(losses):
        notes.append(f"Warning: {attraction(losses)}; use a stronger ridge, or add frames with short distances.")
    return notes


def _monitor_notes(losses: AgentLosses, members: int) -> list[str]:
    """Notes on what the monitor of a run cannot check with this model."""
    notes = []
    if losses.committee is None and members:
        reason = losses.metadata.get("committee", {}).get("reason", "there is no committee")
        notes.append(f"No uncertainty is predicted: {reason}.")
    if losses.domain is None:
        notes.append("The model has no domain (fewer than ten frames), so unknown local environments go undetected.")
    return notes
