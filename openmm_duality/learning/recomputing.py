"""Forces of the reference method for frames of a run: CP2K labels what the model visited."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import openmm as mm
import yaml

from openmm_duality.cp2k.campaign import run_reference
from openmm_duality.cp2k.own_input import with_input
from openmm_duality.dynamics.record import read_record
from openmm_duality.errors import DualityError
from openmm_duality.files import write_text
from openmm_duality.losses.baseline import Baseline
from openmm_duality.losses.model import AgentLosses
from openmm_duality.losses.total import with_baseline
from openmm_duality.reference.cp2k_project import read_cp2k
from openmm_duality.reference.frames import Frames
from openmm_duality.schema import load_yaml

_TASK = "labelled"
_USED = ("method", "seed", "processes", "threads", "stress")  # keys of a configuration


@dataclass(frozen=True)
class RecomputedFrames:
    """Frames of a run with the forces that CP2K computed for them, and the model that the run was made with.

    Parameters
    ----------
    frames : Frames
        With forces; times as in the run.
    losses : AgentLosses
        The model.
    model : str
        Its file.
    method : str
        As the configuration names it.
    refused : tuple of str
        Frames that CP2K gave no forces for, and why.
    """

    frames: Frames
    losses: AgentLosses
    model: str
    method: str
    refused: tuple[str, ...]


def recompute_forces(
    frames: Frames,
    model: str | Path,
    method: str | Path,
    folder: str | Path,
    *,
    baseline: Baseline | mm.System | str | Path | None = None,
    progress: bool = False,
) -> RecomputedFrames:
    """Let CP2K compute the forces in frames of a run.

    Parameters
    ----------
    frames : Frames
        As `sample_runs` gives them, with cells.
    model : str or Path
        The model that the run was made with, as `find_model` finds it.
    method : str or Path
        A configuration of `run_reference`, of which the method counts, and `seed`, `processes`, `threads` and `stress`,
        for the pressure too; its tasks are not carried out.
    folder : str or Path
        Where CP2K works. What is labelled there is not labelled again.
    baseline : openmm.System, or path of its XML, optional
        As for `create_system`, of the atoms of the run.
    progress : bool
        Whether to show a bar.

    Raises
    ------
    DualityError
        If the model cannot be read, the method is wrong, the folder holds other frames, or CP2K is missing or fails.
    """
    losses, folder = AgentLosses.load(model), Path(folder)
    if baseline is not None:
        losses = with_baseline(losses, baseline)
    if losses.baseline is not None:  # before CP2K takes hours
        remedy = "; give the System of the baseline for the atoms of the run (--baseline)"
        losses.baseline.for_atoms(frames.species, frames.masses, frames.cell(0), remedy)
    content = _method(Path(method))
    labelled, refused = _label(frames, content, folder, progress)
    if labelled.forces is None:
        raise DualityError(f"{folder / _TASK}: no forces there; remove {folder} and recompute the frames")
    # CP2K counts the frames it was given from 1
    times = frames.times[np.asarray(labelled.steps) - 1]
    return RecomputedFrames(
        replace(labelled, times=times), losses, str(model), _name(content["method"]), tuple(refused)
    )


def find_model(run: str | Path, models: tuple[Path, ...] = ()) -> Path:
    """Find the file of the losses that a run was made with, by the name and the identity that its record holds.

    Parameters
    ----------
    run : str or Path
        The folder of the run.
    models : tuple of Path
        Files to try first; then the folder of the run, the one it lies in and the working directory are searched.

    Raises
    ------
    DualityError
        If the record names no model, or none of these files is it.
    """
    model = read_record(Path(run)).get("model")
    name, digest = (model.get(key) for key in ("name", "sha256")) if isinstance(model, dict) else (None, None)
    if not name or not digest:
        raise DualityError(
            f"{run}: its run.json names no model with a hash, so its forces cannot be computed again; give a "
            "run that `simulate` made from a model file"
        )
    directory = Path(run).resolve()
    beside = [folder / str(name) for folder in (directory, directory.parent, Path.cwd())]
    unreadable = []
    for path in (*models, *beside):
        try:
            if path.is_file() and AgentLosses.load(path).sha256() == digest:
                return path
        except DualityError as error:
            unreadable.append(str(error))
    missing = (
        f"{run}: the model it was run with, {name} with SHA-256 {str(digest)[:12]}…, is not "
        f"{'among the files given, nor ' if models else ''}in {' or '.join(str(path.parent) for path in beside)}; give "
        "the file"
    )
    raise DualityError("; ".join([missing, *unreadable]))


def _method(path: Path) -> dict[str, Any]:
    content = load_yaml(path)
    known = (*_USED, "tasks")
    if not isinstance(content, dict) or "method" not in content or set(content) - set(known):
        raise DualityError(
            f"{path}: expected the key method, as in a configuration of `reference`, and no others than "
            f"{', '.join(known)}; got {', '.join(map(str, content)) if isinstance(content, dict) else content!r}"
        )
    used = {key: content[key] for key in _USED if key in content}
    return {**used, "method": with_input(content["method"], path.parent)}


def _label(frames: Frames, content: dict[str, Any], folder: Path, progress: bool) -> tuple[Frames, list[str]]:
    """Frames with CP2K's forces, and what was refused; a folder belongs to one set of frames and one method."""
    folder.mkdir(parents=True, exist_ok=True)
    data, config = folder / "frames.safetensors", folder / "method.yaml"
    if data.is_file() and not np.array_equal(Frames.load(data).positions, frames.positions):
        raise DualityError(
            f"{folder} holds other frames than are wanted now; remove it, or give another folder for the report"
        )
    if not data.is_file():
        frames.save(data)
    label = {"name": _TASK, "label": {"data": str(data.resolve())}}
    write_text(config, yaml.safe_dump({**content, "tasks": [label]}), overwrite=True)
    done = run_reference(config, folder / "cp2k", progress=progress)[_TASK]
    return read_cp2k(done.folder), list(done.refused)


def _name(method: Any) -> str:
    """A method in few words: its name, and the plain ones of its keys."""
    if not isinstance(method, dict):
        return str(method)
    rest = [f"{key} {value}" for key, value in method.items() if key != "name" and not isinstance(value, dict | list)]
    return f"{method.get('name')} ({', '.join(rest)})" if rest else str(method.get("name"))
