"""The configuration of an inference, as a YAML file holds it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.inference.equations.settings import DELTA_CHOICES, Settings, number, whole, word
from openmm_duality.inference.equations.targets import DataSet
from openmm_duality.reference.formats import read
from openmm_duality.reference.frames import Frames
from openmm_duality.units import bare

TARGETS = ("auto", "forces", "accelerations")


@dataclass(frozen=True)
class DataConfig:
    """One data set of a configuration.

    Parameters
    ----------
    path : str
        CP2K project, extended-XYZ file or saved frames file; relative to the configuration file.
    name : str
        For error tables; the last part of the path by default.
    weight : float
        Factor on the squared errors of this set.
    every : int
        Take every n-th training frame.
    test_fraction : float
        The last part by time is held out.
    gap : float
        Time in ps before the held-out part that belongs to neither.
    targets : str
        ``forces``, ``accelerations`` (forces that are there are not read), or ``auto``: forces where there are any.
    """

    path: str
    name: str = ""
    weight: float = 1.0
    every: int = 1
    test_fraction: float = 0.2
    gap: float = 0.5
    targets: str = "auto"

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", Path(self.path).name)
        if not 0.0 < self.weight < math.inf:
            raise DualityError(f"data {self.name}: the weight must be positive and finite, got {self.weight}")
        if self.every < 1:
            raise DualityError(f"data {self.name}: every must be at least 1, got {self.every}")
        if self.targets not in TARGETS:
            raise DualityError(f"data {self.name}: targets must be {' or '.join(TARGETS)}, got {self.targets!r}")


@dataclass(frozen=True)
class InferenceConfig:
    """Data sets and settings, and the prior model of Δ-learning, if any.

    Parameters
    ----------
    data : tuple of DataConfig
    settings : Settings
    folder : path
        What relative paths of the data and of the prior model are relative to.
    prior : str or None
        File of the model that the data correct. It has form, gradient, cutoff and bases, so that of the settings only
        those in `equations.settings.DELTA_CHOICES` can be chosen.
    """

    data: tuple[DataConfig, ...]
    settings: Settings = field(default_factory=Settings)
    folder: Path = Path()
    prior: str | None = None

    @classmethod
    def of(
        cls, data: tuple[DataConfig, ...], choices: Mapping[str, Any], folder: Path = Path(), prior: str | None = None
    ) -> InferenceConfig:
        """With settings from what a user chose.

        Raises
        ------
        DualityError
            If a choice is not a setting, its value is out of range, or a prior model has it.
        """
        settings = Settings.of(**choices)
        taken = [name for name in choices if name not in DELTA_CHOICES]
        if prior is not None and taken:
            raise DualityError(
                f"the prior model has its own {', '.join(taken)}, which Δ-learning keeps; leave them out (what can be "
                f"chosen beside a prior model: {', '.join(DELTA_CHOICES)})"
            )
        return cls(data, settings, folder, prior)

    @property
    def choices(self) -> dict[str, Any]:
        """The settings; beside a prior model those that can be chosen."""
        every = self.settings.to_dict()
        return every if self.prior is None else {name: every[name] for name in DELTA_CHOICES}

    @classmethod
    def load(cls, path: str | Path, prior: str | None = None) -> InferenceConfig:
        """Read a YAML file: a list `data`, the fields of `Settings`, and `prior` where a model is corrected.

        Parameters
        ----------
        path : path
        prior : str, optional
            Instead of the one in the file.

        Raises
        ------
        DualityError
            If it cannot be read, a key is unknown or a value out of range.
        """
        try:
            content = yaml.safe_load(Path(path).read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DualityError(f"{path}: cannot be read as YAML ({_complaint(error)})") from None
        if not isinstance(content, Mapping) or not isinstance(content.get("data"), list) or not content["data"]:
            raise DualityError(f"{path}: expected a key 'data' with a list of data sets, and settings such as 'form'")
        choices = {str(key): value for key, value in content.items()}
        entries = choices.pop("data")
        try:
            named = word(choices.pop("prior"), "prior") if "prior" in choices else None
            found = tuple(_data(entry) for entry in entries)
            return cls.of(found, choices, Path(path).parent, named if prior is None else prior)
        except DualityError as error:
            raise DualityError(f"{path}: {error}") from None

    def read(self) -> tuple[list[DataSet], dict[str, Frames]]:
        """The training sets, and the held-out frames by name.

        Raises
        ------
        DualityError
            If data cannot be read, or two sets have the same name.
        """
        names = [entry.name for entry in self.data]
        if len(set(names)) < len(names):
            raise DualityError(f"data sets need names of their own, got {', '.join(names)}")
        sets, held_out = [], {}
        for entry in self.data:
            frames = read(self.folder / entry.path, forces=entry.targets != "accelerations")
            if entry.targets == "forces" and frames.forces is None:
                raise DualityError(f"data {entry.name}: targets are to be forces, and {entry.path} holds none")
            train, test = frames.split(entry.test_fraction, entry.gap)
            sets.append(DataSet(train[:: entry.every], entry.weight, entry.name))
            held_out[entry.name] = test
        return sets, held_out

    def to_yaml(self, folder: str | Path | None = None) -> str:
        """Everything resolved, as a configuration that `load` reads back.

        Parameters
        ----------
        folder : path, optional
            Where the configuration is written; relative paths of the data are made relative to it. By default they
            stay as they were.
        """
        entries = [asdict(entry) for entry in self.data]
        for entry in entries:
            entry["path"] = self._relative(entry["path"], folder)
        prior = {} if self.prior is None else {"prior": self._relative(self.prior, folder)}
        return yaml.safe_dump({"data": entries, **prior, **self.choices}, sort_keys=False)

    def _relative(self, path: str, folder: str | Path | None) -> str:
        return path if folder is None or os.path.isabs(path) else os.path.relpath(self.folder / path, folder)


def _complaint(error: Exception) -> str:
    """In one line; what YAML itself says quotes the file over several."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def _data(entry: Any) -> DataConfig:
    if isinstance(entry, str):
        return DataConfig(entry)
    known = [f.name for f in fields(DataConfig)]
    if not isinstance(entry, Mapping) or "path" not in entry:
        raise DualityError(f"every data set needs a 'path'; got {entry!r}")
    unknown = sorted(str(key) for key in set(entry) - set(known))
    if unknown:
        raise DualityError(f"unknown key {', '.join(unknown)} of a data set; the keys are {', '.join(known)}")
    species_index: dict[str, Callable[[Any, str], Any]] = {
        "path": word,
        "name": word,
        "weight": number,
        "every": whole,
        "test_fraction": number,
        "targets": word,
        "gap": lambda value, name: bare(value, unit.picosecond, name),
    }
    return DataConfig(**{key: species_index[key](value, key) for key, value in entry.items()})
