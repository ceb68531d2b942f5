"""The folder of a run and its record, `run.json`: all resolved settings, and the progress of the run."""

from __future__ import annotations

import json
import platform as host
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from openmm import unit

from openmm_duality.bounds import STEPS
from openmm_duality.errors import DualityError
from openmm_duality.files import locked, require_own_files, write_text
from openmm_duality.schema import (
    Reader,
    bounded,
    integer,
    mapping_of,
    one_of,
    optional,
    quantity,
    read_json,
    species_name,
    text,
    tuple_of,
    unread,
)

RECORD = "run.json"
LOCK = ".lock"
# What a resumed run may change: its length and progress, its limits and monitor, and the versions it runs with.
CHANGEABLE_ON_RESUME = (
    "status",
    "reason",
    "steps",
    "steps_done",
    "time_ps",
    "ms_per_step",
    "alarms",
    "exchanged_bonds",
    "unknown_bonds",
    "measured_pump",
    "limits",
    "versions",
    "checkpoint_interval",
)
_ATOMIC_STEMS = (".run", ".checkpoint", ".last_good", ".topology", ".final", ".stopped")
_READERS: dict[str, Reader] = {  # of what the package itself uses again
    "status": one_of("running", "interrupted", "stopped", "finished"),
    "reason": optional(unread),
    "steps": integer(1, STEPS),
    "steps_done": integer(0, STEPS),
    "time_ps": bounded(unit.picosecond, "times"),
    "ms_per_step": quantity(zero=True),
    "alarms": integer(0),
    "exchanged_bonds": integer(0),
    "unknown_bonds": integer(0),
    "ensemble": text,
    "integrator": text,
    "timestep": bounded(unit.picosecond, "timestep"),
    "temperature": optional(bounded(unit.kelvin, "temperature")),
    "seed": integer(1, 2**31),
    "report_interval": integer(1, STEPS),
    "checkpoint_interval": integer(1, STEPS),
    "degrees_of_freedom": integer(1, STEPS),
    "species": tuple_of(species_name),
    "masses": mapping_of(tuple_of(quantity(zero=True)), "masses by species"),
}
_PACKAGES = ("openmm_duality", "openmm", "numpy", "torch", "openmmtorch")


@contextmanager
def locked_folder(directory: Path) -> Iterator[dict[str, Any] | None]:
    """Lock the folder of a run while the block lasts; gives the record in it, or None for a new run.

    Parameters
    ----------
    directory : path
        Created if it is missing.

    Raises
    ------
    DualityError
        If there are other files and no record, the record cannot be read, or another process is running there.
    """
    created = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DualityError(f"cannot create the folder {directory} for the run: {error}") from None
    others = sorted(path.name for path in directory.iterdir() if path.name != LOCK and not _is_temporary(path))
    if others and RECORD not in others:
        raise DualityError(
            f"{directory} holds {others[0]}{' and other files' if len(others) > 1 else ''} but no {RECORD}, so it is "
            "not the folder of a run; choose a new or an empty one"
        )
    require_own_files(directory)
    with locked(directory / LOCK, f"another process is running in {directory}; wait for it, or choose a new folder"):
        for path in filter(_is_temporary, directory.iterdir()):
            path.unlink()
        try:
            yield read_record(directory) if RECORD in others else None
        finally:
            if not (directory / RECORD).exists():  # refused before anything was written
                (directory / LOCK).unlink(missing_ok=True)
                if created and not any(directory.iterdir()):
                    directory.rmdir()


def read_record(directory: Path) -> dict[str, Any]:
    """The record of a run.

    Parameters
    ----------
    directory : path
        Of the run.

    Raises
    ------
    DualityError
        If there is none, or it is not one.
    """
    path = directory / RECORD
    try:
        record = read_json(path.read_bytes(), f"{path} is not the record of a run")
    except OSError as error:
        raise DualityError(f"cannot read {path}: {error}; is {directory} the folder of a run?") from None
    if "status" not in record:
        raise DualityError(f"{path} is not the record of a run: its status is missing; start the run in a new folder")
    return {name: _READERS.get(name, unread)(value, f"{path}: {name}") for name, value in record.items()}


def write_record(directory: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a run, replacing the previous one."""
    write_text(directory / RECORD, json.dumps(record, indent=2) + "\n", overwrite=True)


def add_to_record(directory: Path, entries: Mapping[str, Any]) -> None:
    """Add what was measured on a run that has ended to its record.

    Parameters
    ----------
    directory : path
        Of the run.
    entries : mapping
        By names in `CHANGEABLE_ON_RESUME`: a longer run does not have them until it ends.

    Raises
    ------
    DualityError
        As for `locked_folder`, as when another process has gone on with the run.
    """
    with locked_folder(directory) as record:
        write_record(directory, {**(record or {}), **entries})


def check_same(directory: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse to resume a run whose settings differ.

    Parameters
    ----------
    directory : path
        Of the run, for the message.
    old, new : mapping
        The record that is there and the one that was asked for. Entries that hold a ``sha256`` are compared by that
        alone: a model may be moved, but not changed.

    Raises
    ------
    DualityError
        Naming every difference.
    """
    missing = sorted({"status", "steps_done", "time_ps", "ms_per_step", "reason"} - old.keys())
    if missing:
        raise DualityError(f"{directory / RECORD}: {', '.join(missing)} missing; start the run in a new folder")
    before, after = json.loads(json.dumps(dict(old))), json.loads(json.dumps(dict(new)))
    pairs = {key: (_compared(before.get(key)), _compared(after.get(key))) for key in before.keys() | after.keys()}
    differing = {key: pair for key, pair in pairs.items() if key not in CHANGEABLE_ON_RESUME and pair[0] != pair[1]}
    hashes = {key for key, pair in differing.items() if all(re.fullmatch("[0-9a-f]{64}", str(one)) for one in pair)}
    differences = [
        f"{key} was {_shortened(differing[key][0])} and is now {_shortened(differing[key][1])}"
        for key in sorted(differing.keys() - hashes)
    ] + [f"{key} differs" for key in sorted(hashes)]
    if "loss_atoms" in after and "loss_atoms" not in before:
        raise DualityError(f"{directory} holds a run of version 0.1, which cannot be resumed; choose a new folder")
    if differences:
        raise DualityError(
            f"{directory} holds a run with other settings: {'; '.join(differences)}. Repeat the settings to resume "
            "it, or choose a new folder"
        )


def limits_changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether the limits that stop a run differ from those of the previous call."""
    return bool(old.get("limits") != json.loads(json.dumps(new["limits"])))


def versions() -> dict[str, str]:
    """Versions of Python and of the loaded packages that can change results, by name."""
    found = {"python": host.python_version()}
    for name in _PACKAGES:
        if name in sys.modules:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = "not installed, run from its sources"
    return found


def _compared(value: Any) -> Any:
    return value["sha256"] if isinstance(value, dict) and "sha256" in value else value


def _shortened(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _is_temporary(path: Path) -> bool:
    """Whether a killed process left this file half-written, by the names that `atomic_write` gives."""
    stem, _, process = path.stem.rpartition(".")
    return stem in _ATOMIC_STEMS and process.isdigit()
