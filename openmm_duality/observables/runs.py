"""Run directories as the analyses read them: settings, log and trajectory.

The contract with the room that writes it: `run.json`, `topology.pdb`, `trajectory.dcd`, `velocities.dcd` where it was
asked for, and `log.csv` with one row per report. A run that was killed may end in a half-written line or frame; what
is whole is used, and a note says so.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from openmm import app, unit

from openmm_duality.bounds import require_bounds
from openmm_duality.dynamics.record import read_record
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.losses.forms import GRADIENTS, has_potential
from openmm_duality.observables.findings import Note, Remark
from openmm_duality.observables.trajectory import Trajectory, whole_frames

_SETTINGS = ("temperature", "timestep", "ensemble", "report_interval", "degrees_of_freedom")
_BOUNDED = {
    "time_ps": "times",
    "potential_energy": "energies",
    "kinetic_energy": "energies",
    "temperature_K": "temperature",
}
_COLUMNS = ("step", "time_ps", "potential_energy", "kinetic_energy", "temperature_K", "atoms_left_molecule")


@dataclass(frozen=True)
class Run:
    """One run of learning dynamics, as found on disk.

    Parameters
    ----------
    directory : Path
        Where it is.
    settings : dict
        What `run.json` holds.
    log : dict of str to array, shape (T,)
        The columns of `log.csv` (ps, kJ/mol, K, nm); NaN where a field is empty.
    trajectory : Trajectory
        Positions, with the times of the log.
    notes : tuple of Note
        What was noticed while reading.
    """

    directory: Path
    settings: dict[str, Any]
    log: dict[str, FloatArray]
    trajectory: Trajectory
    notes: tuple[Note, ...]

    @property
    def model(self) -> dict[str, Any]:
        """The record of the model that the run used; empty if there is none."""
        model = self.settings.get("model")
        return model if isinstance(model, dict) else {}

    @property
    def ensemble(self) -> str:
        """NVE, NVT, or NPH and NPT where a barostat acted, whatever the record calls it; else what the record says."""
        recorded = str(self.settings["ensemble"])
        barostat = any("Barostat" in str(force) for force in self.settings.get("forces") or ())
        return {"NVE": "NPH", "NVT": "NPT"}.get(recorded, recorded) if barostat else recorded

    @property
    def has_potential(self) -> bool:
        """Whether the forces of the run derive from its potential energy, as far as its record says."""
        gradient = self.model.get("gradient")
        return gradient not in GRADIENTS or has_potential(gradient)

    @property
    def predicted_pump(self) -> float | None:
        """Pump in kJ/mol per atom and ps that inference predicted for the model, where the record has it."""
        found = self.model.get("pump")
        values = [found.get(key) for key in ("unlabelled", "test", "train")] if isinstance(found, dict) else []
        return next((float(value) for value in values if isinstance(value, int | float)), None)

    def held_out_error(self, key: str = "all") -> float | None:
        """RMSE of forces in meV/Å on the first of the sets that inference held out, where the record has it."""
        errors = self.model.get("errors")
        table = errors.get("test") if isinstance(errors, dict) else None
        value = table.get("force_rmse", {}).get(key) if isinstance(table, dict) else None
        return float(value) if isinstance(value, int | float) else None


def read_run(directory: str | Path) -> Run:
    """Read a run directory.

    Parameters
    ----------
    directory : str or Path
        The folder that a run wrote.

    Raises
    ------
    DualityError
        If a file is missing or unreadable, or the files do not fit together.
    """
    directory = Path(directory)
    settings = _settings(directory)
    log, log_notes = _log(directory / "log.csv")
    species, masses = _atoms(directory / "topology.pdb", settings)
    times = log["time_ps"]
    times = times[1:] if len(times) and times[0] == 0 else times  # no frame is written of step 0
    if not len(times):
        ended = f"it is {settings.get('status', 'unfinished')}: {settings.get('reason') or 'no reason given'}"
        raise DualityError(f"{directory}: the run has not reported once ({ended}), so there is nothing to compare")
    path = directory / "trajectory.dcd"
    if not path.exists():
        raise DualityError(f"{directory}: no trajectory.dcd; compare needs the positions that the run wrote")
    trajectory = Trajectory.from_dcd(path, species, masses, times)
    if not len(trajectory):
        raise DualityError(f"{path}: holds no frame; compare needs the positions that the run wrote")
    notes = [*log_notes, *trajectory.notes]
    n_frames = whole_frames(path, len(species))[0]
    if n_frames != len(times):
        notes.append(Note(Remark.REPORTS_AND_FRAMES, directory.name, (len(times), n_frames, len(trajectory))))
    path = directory / "velocities.dcd"
    if path.exists():
        velocities = Trajectory.from_dcd(path, species, masses, trajectory.times)
        if len(velocities) < len(trajectory):
            notes.append(Note(Remark.VELOCITIES_SHORT, path.name, (len(velocities), len(trajectory))))
        else:
            trajectory = replace(trajectory, velocity_reader=velocities.reader)
    return Run(directory, settings, log, trajectory, tuple(notes))


def _settings(directory: Path) -> dict[str, Any]:
    path = directory / "run.json"
    if not path.exists():
        raise DualityError(f"{directory}: no run.json; give the folder that `simulate` wrote")
    settings = read_record(directory)
    missing = [key for key in _SETTINGS if key not in settings]
    if missing:
        raise DualityError(f"{path}: {', '.join(missing)} missing; it was not written by `simulate` of this version")
    if settings["temperature"] is None:
        how = settings.get("integrator", "its integrator")
        raise DualityError(
            f"{path}: the run is a descent ({how}), which has no temperature, so there is nothing to compare with"
        )
    return settings


def _log(path: Path) -> tuple[dict[str, FloatArray], list[Note]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DualityError(f"{path.parent}: no log.csv; give the folder that `simulate` wrote") from None
    except UnicodeDecodeError as error:
        raise DualityError(f"{path}: no text ({error}); restore the log or repeat the run") from None
    lines = text.split("\n")
    # What follows the last line end is empty, or was being written when the run died.
    notes = [Note(Remark.LOG_CUT, path.name)] if lines.pop() else []
    if not lines:
        raise DualityError(f"{path}: empty; let the run go on until it has reported")
    names = [name.strip().lstrip("#").strip('"') for name in next(csv.reader([lines[0]]))]
    missing = [name for name in _COLUMNS if name not in names]
    if missing:
        raise DualityError(f"{path}: no column {', '.join(missing)}; it has {', '.join(names)}")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        fields = next(csv.reader([line]), [])
        try:
            if len(fields) != len(names):
                raise ValueError(f"{len(fields)} fields where there should be {len(names)}")
            rows.append([float(field) if field.strip() else np.nan for field in fields])
        except ValueError as error:
            raise DualityError(
                f"{path}: line {number} is damaged ({error}); restore the log or repeat the run"
            ) from None
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
    log = dict(zip(names, table.T, strict=True))
    for name, of in _BOUNDED.items():
        require_bounds(log[name], of, f"{path}: {name}")
    if (log["kinetic_energy"] < 0.0).any() or (np.diff(log["time_ps"], prepend=-1e-9) <= 0.0).any():
        raise DualityError(
            f"{path}: a kinetic energy below zero, or times that do not rise; restore the log or repeat the run"
        )
    return log, notes


def _atoms(path: Path, settings: dict[str, Any]) -> tuple[tuple[str, ...], FloatArray]:
    """Species and masses of all atoms: from run.json where it lists them, else those of the topology's elements."""
    listed = settings.get("species")
    try:
        topology = app.PDBFile(str(path)).topology
    except Exception as error:  # whatever the library raises
        raise DualityError(f"{path}: not a readable PDB file ({error}); it names the atoms of trajectory.dcd") from None
    symbols = [atom.element.symbol if atom.element is not None else None for atom in topology.atoms()]
    if listed is not None and len(listed) == len(symbols) and set(listed) != set(symbols):
        species = tuple(listed)
    elif None in symbols:
        raise DualityError(
            f"{path}: atom {symbols.index(None) + 1} has no element, and run.json does not list the species of "
            f"{topology.getNumAtoms()} atoms; one of them must"
        )
    else:
        species = tuple(str(symbol) for symbol in symbols)
    return species, _masses(path, species, settings.get("masses"))


def _masses(path: Path, species: tuple[str, ...], recorded: Any) -> FloatArray:
    known = {name: values[0] for name, values in (recorded or {}).items() if len(values) == 1}
    for name in sorted(set(species) - set(known)):
        try:
            known[name] = app.element.get_by_symbol(name).mass.value_in_unit(unit.dalton)
        except KeyError:
            raise DualityError(
                f"{path.parent}: run.json does not give one mass for {name}, which is no element; write it there as "
                f'"masses": {{"{name}": [dalton]}}'
            ) from None
    masses = np.array([known[name] for name in species], dtype=np.float64)
    require_bounds(masses, "masses", str(path.parent / "run.json"))
    return masses
