"""Forces along a run against those that CP2K computes for the same frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from openmm_duality.cp2k.campaign import run_reference
from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write, sha256
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.molecules import molecular_forces
from openmm_duality.losses.evaluator import evaluate_agents
from openmm_duality.losses.model import AgentLosses
from openmm_duality.observables.runs import Run
from openmm_duality.observables.trajectory import Trajectory
from openmm_duality.parallel import on_all_cores
from openmm_duality.reference.formats import read
from openmm_duality.reference.frames import Frames, evenly_spaced
from openmm_duality.reference.molecules import molecules_of
from openmm_duality.reference.summary import component_rms

FRAMES = 20
_TASK = "labelled"
_KEPT = ("method", "seed", "processes", "threads")


@dataclass(frozen=True)
class Recompute:
    """How frames of a run are to be recomputed.

    Parameters
    ----------
    method : Path
        A configuration of `run_reference`, of which the method counts, and `seed`, `processes` and `threads`; its tasks
        are not carried out.
    folder : Path
        Where CP2K works; every run has a folder of its name in it. What is labelled there is not labelled again.
    frames : int
        How many, evenly spread over the part of the run that is analysed.
    models : tuple of Path
        Where to look for the models of the runs, beside the folders of the runs and their parents.
    """

    method: Path
    folder: Path
    frames: int = FRAMES
    models: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise DualityError(f"frames to recompute: expected one or more, got {self.frames}")


@dataclass(frozen=True)
class Recomputed:
    """Errors of a model's forces in frames of its own run.

    Parameters
    ----------
    times : array, shape (T,)
        Of the frames, in ps.
    rmse, rms : dict of str to array, shape (T,)
        Root mean square of the error, and of CP2K's forces, per component and frame in meV/Å; the keys are ``all``,
        every species, and ``molecular``, the net force on molecules, where there are any.
    refused : tuple of str
        Frames that CP2K gave no forces for, and why.
    method : str
        As the configuration names it.
    model : str
        The file of the losses.
    """

    times: FloatArray
    rmse: dict[str, FloatArray]
    rms: dict[str, FloatArray]
    refused: tuple[str, ...]
    method: str
    model: str

    def error(self, key: str) -> tuple[float, float]:
        """RMSE and RMS of all frames together, in meV/Å."""
        found = (float(np.sqrt(np.mean(part[key] ** 2))) for part in (self.rmse, self.rms))
        return next(found), next(found)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers with their units in the names."""
        errors = {key: self.error(key) for key in self.rmse}
        return {
            "frames": len(self.times),
            "method": self.method,
            "model": self.model,
            "refused": list(self.refused),
            "time_ps": self.times,
            "force_rmse": {key: rmse for key, (rmse, _) in errors.items()},
            "force_rms": {key: rms for key, (_, rms) in errors.items()},
            "force_rmse_of_frames": self.rmse,
            "units": {"force": "meV/angstrom"},
        }


def recompute(run: Run, used: Trajectory, name: str, how: Recompute, *, progress: bool = False) -> Recomputed:
    """Label frames of a run by CP2K, and hold the forces of the run's own model against the labels.

    Parameters
    ----------
    run : Run
    used : Trajectory
        The part of it to take frames from.
    name : str
        Of its folder.
    how : Recompute
    progress : bool
        Whether to show a bar.

    Raises
    ------
    DualityError
        If the model cannot be found or is another than the run's, the method is wrong, or CP2K is missing or fails.
    """
    path = find_model(run, how.models)
    losses = AgentLosses.load(path)
    frames = _frames(used, how.frames)
    content = _method(how.method)
    folder = how.folder / name
    labelled, refused = _label(frames, content, folder, progress)
    if labelled.forces is None:
        raise DualityError(f"{folder / _TASK}: no forces there; remove {folder} and recompute the frames")
    own = np.array(list(on_all_cores(_Forces(losses, labelled), range(len(labelled)))))
    molecules = molecules_of(labelled, dict(losses.bond_lengths))
    return Recomputed(
        # CP2K counts the frames it was given from 1
        times=frames.times[np.asarray(labelled.steps) - 1],
        rmse=_by_frame(own - labelled.forces, labelled, molecules),
        rms=_by_frame(labelled.forces, labelled, molecules),
        refused=tuple(refused),
        method=_name(content["method"]),
        model=str(path),
    )


def find_model(run: Run, models: tuple[Path, ...] = ()) -> Path:
    """The file of the losses that a run was made with: of the name and the hash that its record holds.

    Parameters
    ----------
    run : Run
    models : tuple of Path
        Files to look at first; the folder of the run, the one it lies in and the working directory are looked through
        behind them.

    Raises
    ------
    DualityError
        If the record names no model, or none of these files is it.
    """
    name, digest = str(run.model.get("name", "")), run.model.get("sha256")
    if not name or not digest:
        raise DualityError(
            f"{run.directory}: its run.json names no model with a hash, so its forces cannot be computed again; give a "
            "run that `simulate` made from a model file"
        )
    directory = run.directory.resolve()
    beside = [folder / name for folder in (directory, directory.parent, Path.cwd())]
    for path in (*models, *beside):
        if path.is_file() and sha256(path) == digest:
            return path
    raise DualityError(
        f"{run.directory}: the model it was run with, {name} with SHA-256 {str(digest)[:12]}…, is not "
        f"{'among the files given, nor ' if models else ''}in {' or '.join(str(path.parent) for path in beside)}; give "
        "the file"
    )


def _frames(used: Trajectory, count: int) -> Frames:
    """Evenly spread frames of a trajectory."""
    chosen = evenly_spaced(len(used), count)
    positions, cells, done = [], [], 0
    for chunk in used:
        inside = chosen[(chosen >= done) & (chosen < done + len(chunk))] - done
        if chunk.cells is None:
            raise DualityError(f"{used.name}: its frames have no cell, and CP2K is run with one")
        positions.append(chunk.positions[inside])
        cells.append(chunk.cells[inside])
        done += len(chunk)
    return Frames(
        species=used.species,
        masses=used.masses,
        positions=np.concatenate(positions),
        times=used.times[chosen],
        steps=chosen,
        cells=np.concatenate(cells),
        source=(used.name,),
    )


def _method(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DualityError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from None
    known = (*_KEPT, "tasks")
    if not isinstance(content, dict) or "method" not in content or set(content) - set(known):
        raise DualityError(
            f"{path}: expected the key method, as in a configuration of `reference`, and no others than "
            f"{', '.join(known)}; got {', '.join(map(str, content)) if isinstance(content, dict) else content!r}"
        )
    return {key: content[key] for key in _KEPT if key in content}


def _label(frames: Frames, content: dict[str, Any], folder: Path, progress: bool) -> tuple[Frames, list[str]]:
    """Frames with CP2K's forces, and what was refused. Which frames and what method decide upon the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    data, config = folder / "frames.safetensors", folder / "method.yaml"
    if data.is_file() and not _same(Frames.load(data), frames):
        raise DualityError(
            f"{folder} holds other frames than are wanted now; remove it, or give another folder for the report"
        )
    if not data.is_file():
        frames.save(data)
    label = {"name": _TASK, "label": {"data": str(data.resolve())}}
    with atomic_write(config, overwrite=True) as temporary:
        temporary.write_text(yaml.safe_dump({**content, "tasks": [label]}), encoding="utf-8")
    done = run_reference(config, folder / "cp2k", progress=progress)[_TASK]
    return read(done.folder), list(done.refused)


def _same(first: Frames, second: Frames) -> bool:
    return first.positions.shape == second.positions.shape and bool((first.positions == second.positions).all())


def _by_frame(forces: FloatArray, frames: Frames, molecules: list[IntArray]) -> dict[str, FloatArray]:
    species = np.array(frames.species)
    parts = {"all": forces} | {kind: forces[:, species == kind] for kind in frames.distinct_species}
    if any(len(molecule) > 1 for molecule in molecules):
        parts["molecular"] = molecular_forces(forces, molecules)
    return {key: np.array([component_rms(frame) for frame in part]) for key, part in parts.items()}


def _name(method: Any) -> str:
    """A method in few words: its name, and the plain ones of its keys."""
    if not isinstance(method, dict):
        return str(method)
    rest = [f"{key} {value}" for key, value in method.items() if key != "name" and not isinstance(value, dict | list)]
    return f"{method.get('name')} ({', '.join(rest)})" if rest else str(method.get("name"))


@dataclass(frozen=True)
class _Forces:
    losses: AgentLosses
    frames: Frames

    def __call__(self, t: int) -> FloatArray:
        found = evaluate_agents(self.losses, self.frames.positions[t], self.frames.species, self.frames.cell(t))
        return np.asarray(found.forces)
