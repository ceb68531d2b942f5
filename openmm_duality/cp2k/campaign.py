"""A reference campaign: the configuration of the verb `reference`, and its tasks carried out one after the other."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from openmm_duality.cp2k.distorting import Distortion, distort
from openmm_duality.cp2k.engine import find_cp2k
from openmm_duality.cp2k.inputs import Job, Method
from openmm_duality.cp2k.labelling import label
from openmm_duality.cp2k.methods import read_method
from openmm_duality.cp2k.own_input import with_input
from openmm_duality.cp2k.sampling import Sampling, sample
from openmm_duality.errors import DualityError
from openmm_duality.files import locked, write_text
from openmm_duality.reference.formats import read, read_one
from openmm_duality.reference.frames import Frames, evenly_spaced
from openmm_duality.schema import (
    Reader,
    boolean,
    build,
    integer,
    key,
    load_yaml,
    mapping_of,
    nested,
    optional,
    read_record,
    text,
    tuple_of,
    unread,
)

_RECORD, _DONE, _INPUT, _LOCK = "reference.json", "done.json", "input.json", ".lock"
_READERS: dict[str, dict[str, Reader]] = {
    _RECORD: {"configuration": mapping_of(unread, "an object")},
    _DONE: {"frames": integer(0), "refused": tuple_of(text, empty=True)},
    _INPUT: {"sha256": text, "source": tuple_of(text, empty=True)},
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Labelling:
    """The task ``label``: single points by CP2K.

    Parameters
    ----------
    data : str
        Frames: reference data, or the name of an earlier task.
    frames : int or None
        Number of them, evenly spaced; all by default.
    distort : tuple of Distortion
        If given, distorted frames made from them are labelled instead.
    """

    data: str = field(metadata=key(text))
    frames: int | None = field(metadata=key(integer(1)), default=None)
    distort: tuple[Distortion, ...] = field(metadata=key(tuple_of(nested(Distortion))), default=())

    def read(self, folder: Path) -> tuple[Frames, Frames]:
        """The first frame of the data, which lie in a folder, and those that are wanted.

        Raises
        ------
        DualityError
            If they cannot be read, or are fewer.
        """
        found = read_one(folder / self.data, "labelling", forces=False)
        asked = self.frames or len(found)
        if asked > len(found):
            raise DualityError(f"{asked} frames are wanted, and {self.data} has {len(found)}")
        return found[:1], found[evenly_spaced(len(found), asked)]


def _name(value: Any, what: str) -> str:
    if not isinstance(value, str) or _NAME.fullmatch(value) is None or value == "parts":
        raise DualityError(f"{what}: expected a name of letters, digits, '_', '-' and '.', got {value!r}")
    return value


@dataclass(frozen=True)
class Task:
    """One task: its name, either `md` or `label`, and a method or a seed if it differs from the campaign's."""

    name: str = field(metadata=key(_name))
    md: Sampling | None = field(metadata=key(nested(Sampling)), default=None)
    label: Labelling | None = field(metadata=key(nested(Labelling)), default=None)
    method: Method | None = field(metadata=key(read_method), default=None)
    seed: int | None = field(metadata=key(optional(integer(1))), default=None)

    def __post_init__(self) -> None:
        if (self.md is None) == (self.label is None):
            raise DualityError(f"task {self.name}: expected one of md and label")


@dataclass(frozen=True)
class Campaign:
    """The configuration of a reference campaign.

    Parameters
    ----------
    method : Method
        How CP2K computes forces.
    tasks : tuple of Task
        In order; later ones may take the frames of earlier ones by their names.
    seed : int
        Of CP2K's random numbers, and of distortions.
    processes, threads : int
        Of CP2K; they may differ when a campaign is resumed.
    stress : bool
        Whether every frame gets its stress too, from which an inference can learn the pressure.
    """

    method: Method = field(metadata=key(read_method))
    tasks: tuple[Task, ...] = field(metadata=key(tuple_of(nested(Task))))
    seed: int = field(metadata=key(integer(1)), default=1)
    processes: int = field(metadata=key(integer(1)), default=1)
    threads: int = field(metadata=key(integer(1)), default=1)
    stress: bool = field(metadata=key(boolean), default=False)

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise DualityError(f"tasks need names of their own, got {', '.join(names)}")


@dataclass(frozen=True)
class Finished:
    """Result of a task: its folder, its frames, those refused and why, and seconds of this call."""

    folder: Path
    frames: int
    refused: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values, for JSON."""
        return {"frames": self.frames, "refused": list(self.refused), "seconds": round(self.seconds, 3)}


def run_reference(config: str | Path, folder: str | Path, *, progress: bool = False) -> dict[str, Finished]:
    """Carry out a campaign in a folder, or resume it.

    Parameters
    ----------
    config : path
        A YAML file with the keys of `Campaign`. Paths in it are relative to it.
    folder : path
        Every task writes a CP2K project into a folder of its name, which `read` reads. After a kill, the same
        call resumes it; nothing that CP2K finished is computed again.
    progress : bool
        Whether to show bars.

    Returns
    -------
    dict
        From the name of each task to its result.

    Raises
    ------
    DualityError
        If the configuration is wrong, CP2K is missing or fails, or the folder holds something else: another campaign,
        or one whose configuration or data were different.
    """
    config, folder = Path(config), Path(folder)
    content = load_yaml(config)
    try:
        content = _with_inputs(content, config.parent)
        campaign = build(Campaign, content, "reference")
        _check_data(campaign, config.parent)
    except DualityError as error:
        raise DualityError(f"{config}: {error}") from None
    find_cp2k()
    if folder.is_file():
        raise DualityError(f"{folder} is a file; give the name of a folder for the campaign")
    folder.mkdir(parents=True, exist_ok=True)
    # two processes on one campaign would remove each other's parts
    with locked(folder / _LOCK, f"{folder}: another process is running this campaign; wait for it"):
        _claim(folder, content)
        finished: dict[str, Finished] = {}
        for task in campaign.tasks:
            begin = time.perf_counter()
            frames, refused = _carry_out(task, campaign, config.parent, folder, list(finished), progress)
            finished[task.name] = Finished(folder / task.name, frames, tuple(refused), time.perf_counter() - begin)
        return finished


def _check_data(campaign: Campaign, beside: Path) -> None:
    """Refuse starts and frames that cannot be had, but for those of earlier tasks, before a task has taken hours."""
    earlier: set[str | None] = set()
    for number, task in enumerate(campaign.tasks):
        same = [one.name for one in campaign.tasks[:number] if replace(one, name=task.name) == task]
        if same and task.md is not None:
            warnings.warn(
                f"the tasks {same[0]} and {task.name} are the same, and so will be their frames; give one a seed",
                stacklevel=3,
            )
        try:
            if task.md is not None and task.md.start.path not in earlier:
                task.md.start.frames(beside, task.seed or campaign.seed)
            elif task.label is not None and task.label.data not in earlier:
                task.label.read(beside)
        except DualityError as error:
            raise DualityError(f"task {task.name}: {error}") from None
        earlier.add(task.name)


def _with_inputs(content: Any, folder: Path) -> Any:
    """A configuration or task whose methods hold what they take from inputs, so that the record shows a changed one."""
    if not isinstance(content, Mapping):
        return content
    found = dict(content)
    if "method" in found:
        found["method"] = with_input(found["method"], folder)
    if isinstance(found.get("tasks"), list):
        found["tasks"] = [_with_inputs(task, folder) for task in found["tasks"]]
    return found


def _carry_out(
    task: Task, campaign: Campaign, beside: Path, folder: Path, earlier: list[str], progress: bool
) -> tuple[int, list[str]]:
    """Carry out one task; its number of frames, and those refused."""
    place = folder / task.name
    method = task.method or campaign.method
    seed = task.seed or campaign.seed
    job = Job(task.name, place, method, seed, campaign.processes, campaign.threads, progress, campaign.stress)

    def holder(name: str | None) -> Path:
        return folder if name in earlier else beside

    if task.md is not None:
        start = task.md.start.frames(holder(task.md.start.path), seed)
        _check_inputs(task.name, place, start)
    elif task.label is not None:
        start, source = task.label.read(holder(task.label.data))
        _check_inputs(task.name, place, source)
    done = place / _DONE
    if done.is_file():
        record = read_record(done, _READERS[_DONE])
        return record["frames"], list(record["refused"])
    if task.md is not None:
        refused = sample(job, task.md, start)
    elif task.label is not None:
        origins = [f"frame {step} of {task.label.data}" for step in source.steps]
        if task.label.distort:
            source, origins = distort(source, task.label.distort, seed)
        refused = label(job, source, start, origins)
    frames = len(read(place, forces=True))
    write_text(done, json.dumps({"frames": frames, "refused": refused}, indent=1) + "\n")
    return frames, refused


def _claim(folder: Path, content: Mapping[str, Any]) -> None:
    """Record the configuration in a new folder, or refuse one that was begun with another.

    Tasks that are not begun may change.
    """
    wanted = {str(k): v for k, v in content.items() if k not in ("processes", "threads")}
    wanted = json.loads(json.dumps(wanted, default=str))
    record = folder / _RECORD
    if record.is_file():
        recorded = read_record(record, _READERS[_RECORD])["configuration"]
        if recorded == wanted:
            return
        found, now = (_begun(configuration, folder) for configuration in (recorded, wanted))
        changed = sorted(k for k in {*found, *now} if found.get(k) != now.get(k))
        if changed:
            raise DualityError(
                f"{folder} was begun with another configuration (different: {', '.join(changed)}; what it was is in "
                f"{record}); take another folder, or the old configuration again"
            )
    else:
        others = [name for name in os.listdir(folder) if name != _LOCK]
        if others:
            raise DualityError(
                f"{folder} holds other files ({others[0]} …) and no campaign; give an empty or a new folder"
            )
    write_text(record, json.dumps({"configuration": wanted}, indent=1) + "\n", overwrite=True)


def _begun(configuration: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A configuration with only those tasks that have a folder."""
    tasks = configuration.get("tasks")
    if isinstance(tasks, list):
        tasks = [one for one in tasks if not isinstance(one, Mapping) or (folder / str(one.get("name"))).is_dir()]
    return {**configuration, "tasks": tasks}


def _check_inputs(name: str, place: Path, frames: Frames) -> None:
    """Refuse to go on where the frames a task began with have changed."""
    digest = hashlib.sha256(repr(frames.species).encode())
    for array in (frames.positions, frames.cells):
        if array is not None:
            digest.update(array.tobytes())
    record = place / _INPUT
    found = {"sha256": digest.hexdigest(), "source": list(frames.source)}
    if not record.is_file():
        write_text(record, json.dumps(found, indent=1) + "\n")
    elif read_record(record, _READERS[_INPUT])["sha256"] != found["sha256"]:
        raise DualityError(
            f"{place}: the frames this task began with have changed since; take another folder, or the old data again"
        )
