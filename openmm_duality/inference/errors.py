"""Errors of a model on reference frames: for all atoms, by species, and of the net forces on molecules.

If the frames have no forces, the model is compared with the targets of inference instead: masses times accelerations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.molecules import molecular_forces
from openmm_duality.inference.equations.targets import count_samples
from openmm_duality.inference.uncertainty.measurements import Measurement, measure
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.frames import Frames, evenly_spaced
from openmm_duality.reference.molecules import molecules_of
from openmm_duality.reference.summary import component_rms
from openmm_duality.units import MEV

_OVERFITTED = 3.0  # times the training error
_NEGLIGIBLE = 0.1  # of the RMS force, below which a held-out error is no reason for a warning


@dataclass(frozen=True)
class ErrorTable:
    """Root-mean-square errors per force component, and root mean squares of the reference forces.

    Parameters
    ----------
    frames : int
    force_rmse, force_rms : dict
        In meV/Å, with the keys ``all``, each species, and ``molecular`` (net forces on the molecules identified in the
        data, if any).
    energy_rmse_per_atom : float or None
        In meV, after subtraction of the mean difference (the gauge); None for `agent` losses, whose sum is not an
        energy, or with fewer than two frames that have energies and forces.
    targets : str
        Reference of the comparison: ``forces``, or ``accelerations`` (times masses).
    """

    frames: int
    force_rmse: dict[str, float]
    force_rms: dict[str, float]
    energy_rmse_per_atom: float | None
    targets: str = "forces"

    def to_dict(self) -> dict[str, Any]:
        """Convert the table to plain values for JSON."""
        return {
            "frames": self.frames,
            "force_rmse": self.force_rmse,
            "force_rms": self.force_rms,
            "energy_rmse_per_atom": self.energy_rmse_per_atom,
            "targets": self.targets,
            "units": {"force": "meV/angstrom", "energy": "meV/atom"},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ErrorTable:
        """Read the table back from `to_dict`."""
        measured = data["frames"], data["force_rmse"], data["force_rms"], data["energy_rmse_per_atom"]
        return cls(*measured, targets=data.get("targets", "forces"))

    def __str__(self) -> str:
        return format_tables({"": self})


def format_tables(tables: dict[str, ErrorTable]) -> str:
    """Format error tables side by side as text: RMSE in meV/Å and in per cent of the RMS force."""
    keys = dict.fromkeys(key for table in tables.values() for key in table.force_rmse if key != "molecular")
    if any("molecular" in table.force_rmse for table in tables.values()):
        keys["molecular"] = None
    width = max(12, *(len(name) + 2 for name in tables)) + 8
    lines = ["force error".ljust(14) + "".join(name.rjust(width) for name in tables)]
    for key in keys:
        label = "molecules" if key == "molecular" else key
        cells = []
        for table in tables.values():
            rmse, rms = table.force_rmse.get(key), table.force_rms.get(key)
            share = 100.0 * rmse / rms if rmse is not None and rms else float("nan")
            cells.append("-" if rmse is None else f"{rmse:8.1f} ({share:5.1f} %)")
        lines.append(label.ljust(14) + "".join(cell.rjust(width) for cell in cells))
    energies = [table.energy_rmse_per_atom for table in tables.values()]
    if any(e is not None for e in energies):
        lines.append("energy".ljust(14) + "".join(("-" if e is None else f"{e:8.2f}").rjust(width) for e in energies))
    lines.append("frames".ljust(14) + "".join(str(table.frames).rjust(width) for table in tables.values()))
    if any(table.targets != "forces" for table in tables.values()):
        lines.append("targets".ljust(14) + "".join(table.targets.rjust(width) for table in tables.values()))
    lines.append("(RMSE per component in meV/Å and per cent of the RMS force; energy in meV per atom)")
    return "\n".join(lines)


def evaluate(losses: AgentLosses, frames: Frames, *, at_most: int | None = None, progress: bool = False) -> ErrorTable:
    """Evaluate the errors of a model on reference forces, or on accelerations if the frames have no forces.

    Parameters
    ----------
    losses : AgentLosses
    frames : Frames
        Frames of the same species; composition and cell may differ from those of the training data.
    at_most : int, optional
        Maximum number of frames, evenly spaced; all by default.
    progress : bool
        Whether to show a progress bar.

    Raises
    ------
    DualityError
        If a species is unknown, the frames have no forces and are no trajectory that gives accelerations, or the cutoff
        is too long for the cell.
    """
    number = count_samples(frames) if len(frames) else 0
    if not number:
        raise DualityError("the data contain no frames with forces to compare with")
    chosen = evenly_spaced(number, number if at_most is None else min(at_most, number))
    title = "evaluating" if progress else ""
    return error_table(losses, frames, measure(frames, dict.fromkeys(chosen.tolist(), (losses,)), title=title))


def error_table(losses: AgentLosses, frames: Frames, measurements: Sequence[Measurement], model: int = 0) -> ErrorTable:
    """Compute the error table of one of the models from measurements.

    Parameters
    ----------
    losses : AgentLosses
        The model in question.
    frames : Frames
        The frames of the measurements.
    measurements : sequence of Measurement
    model : int
        Its index among the measured models.
    """
    reference = np.array([m.target for m in measurements])
    difference = np.array([m.forces[model] for m in measurements]) - reference
    molecules = molecules_of(frames, dict(losses.bond_lengths))
    species = np.array(frames.species)
    rmse, rms = {}, {}
    selections: dict[str, Any] = {"all": slice(None)} | {name: species == name for name in frames.distinct_species}
    for name, atoms in selections.items():
        rmse[name], rms[name] = component_rms(difference[:, atoms]), component_rms(reference[:, atoms])
    if any(len(molecule) > 1 for molecule in molecules):
        rmse["molecular"] = component_rms(molecular_forces(difference, molecules))
        rms["molecular"] = component_rms(molecular_forces(reference, molecules))
    energy_error = None
    known = frames.energies if frames.forces is not None and len(measurements) > 1 else None
    if losses.gradient == "collective" and known is not None:
        deviations = np.array([m.energies[model] for m in measurements]) - known[[m.number for m in measurements]]
        energy_error = float(np.std(deviations) / frames.n_atoms / MEV)
    targets = "forces" if frames.forces is not None else "accelerations"
    return ErrorTable(len(measurements), rmse, rms, energy_error, targets)


def overfitted(errors: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, float]]:
    """Find the sets whose held-out force error is far above the training error, or above the RMS force itself.

    Parameters
    ----------
    errors : mapping
        Error tables (`ErrorTable.to_dict`) by split, ``train`` or ``test``, and by set.

    Returns
    -------
    dict
        By set, the ``train`` and ``test`` errors and the ``rms`` of the held-out forces in meV/Å. An error above three
        times the training error counts if it exceeds a tenth of the RMS force.
    """
    trained = {name: table["force_rmse"]["all"] for name, table in errors["train"].items()}
    found = {}
    for name, table in errors["test"].items():
        test, rms = table["force_rmse"]["all"], table["force_rms"]["all"]
        train = trained.get(name, max(trained.values(), default=np.inf))
        if not test <= rms or (test > _OVERFITTED * train and test > _NEGLIGIBLE * rms):
            found[name] = {"train": train, "test": test, "rms": rms}
    return found


def format_overfitted(found: Mapping[str, Mapping[str, float]]) -> str:
    """Describe what `overfitted` found, and what to do about it."""
    sets = "; ".join(
        f"{name} {e['test']:,.0f} held out, {e['train']:,.0f} in training, RMS force {e['rms']:,.0f} meV/Å"
        for name, e in found.items()
    )
    return (
        f"Warning: the error on held-out frames is far above the training error ({sets}), so that the model cannot be "
        "trusted on frames like those it was fitted to. Use more frames, or frames that also cover the distances of "
        "the held-out ones, a stronger ridge, fewer functions or a simpler form."
    )
