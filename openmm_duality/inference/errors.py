"""Errors of a model against reference frames: in all, per species, and of the net force on molecules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from openmm_duality.errors import DualityError
from openmm_duality.losses.evaluator import evaluate_agents
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.molecules import molecular_forces, molecules_of
from openmm_duality.units import MEV, MEV_PER_ANGSTROM


@dataclass(frozen=True)
class ErrorTable:
    """Root-mean-square errors per force component, beside the root mean square of the forces themselves.

    Parameters
    ----------
    frames : int
    force_rmse, force_rms : dict
        In meV/Å, with the keys ``all``, every species, and ``molecular`` (net force on the molecules found in the
        data, where there are any).
    energy_rmse_per_atom : float or None
        In meV, after the mean difference (the gauge) is taken out; None for `agent` losses, whose sum is no energy,
        or data without energies.
    """

    frames: int
    force_rmse: dict[str, float]
    force_rms: dict[str, float]
    energy_rmse_per_atom: float | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "frames": self.frames,
            "force_rmse": self.force_rmse,
            "force_rms": self.force_rms,
            "energy_rmse_per_atom": self.energy_rmse_per_atom,
            "units": {"force": "meV/angstrom", "energy": "meV/atom"},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ErrorTable:
        """From `to_dict`."""
        return cls(data["frames"], data["force_rmse"], data["force_rms"], data["energy_rmse_per_atom"])

    def __str__(self) -> str:
        return format_tables({"": self})


def format_tables(tables: dict[str, ErrorTable]) -> str:
    """Several error tables side by side, as text: RMSE in meV/Å and in per cent of the RMS force."""
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
    lines.append("(RMSE per component in meV/Å and per cent of the RMS force; energy in meV per atom)")
    return "\n".join(lines)


def evaluate(losses: AgentLosses, frames: Frames, *, at_most: int | None = None, progress: bool = False) -> ErrorTable:
    """Errors of a model against reference frames with forces.

    Parameters
    ----------
    losses : AgentLosses
    frames : Frames
        Of the same species; composition and cell may differ from the training data's.
    at_most : int, optional
        Evenly spaced frames to look at; all by default.
    progress : bool
        Whether to show a bar.

    Raises
    ------
    DualityError
        If a species is unknown, forces are missing, or the cutoff is too long for the cell.
    """
    if frames.forces is None or not len(frames):
        raise DualityError("the data hold no frames with forces to compare with")
    count = len(frames) if at_most is None else min(at_most, len(frames))
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, count).astype(np.int64))]
    assert chosen.forces is not None
    predicted, energies = np.empty_like(chosen.forces), np.empty(len(chosen))
    for t in tqdm(range(len(chosen)), desc="evaluating", unit="frame", disable=None if progress else True, leave=False):
        result = evaluate_agents(losses, chosen.positions[t], chosen.species, chosen.cell(t))
        predicted[t], energies[t] = result.forces, result.energy
    molecules = molecules_of(chosen, dict(losses.bond_lengths))
    species = np.array(chosen.species)
    rmse, rms = {}, {}
    parts: dict[str, Any] = {"all": slice(None)} | {kind: species == kind for kind in chosen.kinds}
    for name, part in parts.items():
        rmse[name] = _rms((predicted - chosen.forces)[:, part])
        rms[name] = _rms(chosen.forces[:, part])
    if any(len(molecule) > 1 for molecule in molecules):
        rmse["molecular"] = _rms(molecular_forces(predicted - chosen.forces, molecules))
        rms["molecular"] = _rms(molecular_forces(chosen.forces, molecules))
    energy_error = None
    if losses.gradient == "collective" and chosen.energies is not None:
        difference = energies - chosen.energies
        energy_error = float(np.std(difference) / chosen.n_atoms / MEV)
    return ErrorTable(len(chosen), rmse, rms, energy_error)


def _rms(forces: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    return float(np.sqrt(np.mean(forces**2)) / MEV_PER_ANGSTROM)
