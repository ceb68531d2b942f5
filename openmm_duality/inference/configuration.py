"""The configuration of an inference, as a YAML file holds it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.inference.equations.settings import DELTA_CHOICES, Settings
from openmm_duality.inference.equations.targets import DataSet
from openmm_duality.reference.formats import read
from openmm_duality.reference.frames import Frames
from openmm_duality.schema import build, convert_keys, integer, key, load_yaml, one_of, quantity, text, to_plain

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

    path: str = field(metadata=key(text))
    name: str = field(metadata=key(text), default="")
    weight: float = field(metadata=key(quantity()), default=1.0)
    every: int = field(metadata=key(integer(1)), default=1)
    test_fraction: float = field(metadata=key(quantity(zero=True)), default=0.2)
    gap: float = field(metadata=key(quantity(unit.picosecond, zero=True)), default=0.5)
    targets: str = field(metadata=key(one_of(*TARGETS)), default="auto")

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", Path(text(self.path, "path")).name)
        convert_keys(self)


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
        settings = Settings.of(choices)
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
        content = load_yaml(path)
        if not isinstance(content, Mapping) or not isinstance(content.get("data"), list) or not content["data"]:
            raise DualityError(f"{path}: expected a key 'data' with a list of data sets, and settings such as 'form'")
        choices = {str(key): value for key, value in content.items()}
        entries = choices.pop("data")
        try:
            named = text(choices.pop("prior"), "prior") if "prior" in choices else None
            found = tuple(
                DataConfig(entry) if isinstance(entry, str) else build(DataConfig, entry, "data") for entry in entries
            )
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
        entries = [to_plain(entry) for entry in self.data]
        for entry in entries:
            entry["path"] = self._relative(entry["path"], folder)
        prior = {} if self.prior is None else {"prior": self._relative(self.prior, folder)}
        return yaml.safe_dump({"data": entries, **prior, **self.choices}, sort_keys=False)

    def _relative(self, path: str, folder: str | Path | None) -> str:
        return path if folder is None or os.path.isabs(path) else os.path.relpath(self.folder / path, folder)
