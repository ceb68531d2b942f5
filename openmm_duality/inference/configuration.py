"""The configuration of an inference, read from a YAML file."""

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
        CP2K project, extended-XYZ file or saved frames file, relative to the configuration file.
    name : str
        Name in error tables; by default the last component of the path.
    weight : float
        Factor on the squared errors of this set.
    every : int
        Use every n-th training frame.
    test_fraction : float
        Fraction of the trajectory, at its end, that is held out for testing.
    gap : float
        Time in ps between training and held-out frames that is left out of both.
    targets : str
        ``forces``, ``accelerations`` (forces are ignored), or ``auto``: forces if available, else accelerations.
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
    """Data sets and settings of an inference, and the prior model of Δ-learning, if any.

    Parameters
    ----------
    data : tuple of DataConfig
    settings : Settings
    folder : path
        Base folder of relative paths of the data and of the prior model.
    prior : str or None
        File of the prior model of Δ-learning. It fixes form, gradient, cutoff and bases, so that only the settings in
        `equations.settings.DELTA_CHOICES` can be chosen.
    """

    data: tuple[DataConfig, ...]
    settings: Settings = field(default_factory=Settings)
    folder: Path = Path()
    prior: str | None = None

    @classmethod
    def of(
        cls, data: tuple[DataConfig, ...], choices: Mapping[str, Any], folder: Path = Path(), prior: str | None = None
    ) -> InferenceConfig:
        """Build a configuration from data sets and the settings a user chose.

        Raises
        ------
        DualityError
            If a choice is not a setting, its value is out of range, or the prior model fixes it.
        """
        settings = Settings.of(choices)
        fixed = [name for name in choices if name not in DELTA_CHOICES]
        if prior is not None and fixed:
            raise DualityError(
                f"the prior model has its own {', '.join(fixed)}, which Δ-learning keeps; leave that out (settings "
                f"that can be chosen with a prior model: {', '.join(DELTA_CHOICES)})"
            )
        return cls(data, settings, folder, prior)

    @property
    def choices(self) -> dict[str, Any]:
        """All settings, or with a prior model those that can be chosen."""
        every = self.settings.to_dict()
        return every if self.prior is None else {name: every[name] for name in DELTA_CHOICES}

    @classmethod
    def load(cls, path: str | Path, prior: str | None = None) -> InferenceConfig:
        """Read a YAML file: a list `data`, the fields of `Settings`, and for Δ-learning `prior`.

        Parameters
        ----------
        path : path
        prior : str, optional
            Prior model to use instead of the one named in the file.

        Raises
        ------
        DualityError
            If the file cannot be read, a key is unknown or a value is out of range.
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
        """Read the data: training sets, and held-out frames by the name of their set.

        Raises
        ------
        DualityError
            If a data set cannot be read, or two have the same name.
        """
        names = [entry.name for entry in self.data]
        if len(set(names)) < len(names):
            raise DualityError(f"data sets need different names, got {', '.join(names)}")
        sets, held_out = [], {}
        for entry in self.data:
            frames = read(self.folder / entry.path, forces=entry.targets != "accelerations")
            if entry.targets == "forces" and frames.forces is None:
                raise DualityError(f"data {entry.name}: the targets should be forces, but {entry.path} holds none")
            train, test = frames.split(entry.test_fraction, entry.gap)
            sets.append(DataSet(train[:: entry.every], entry.weight, entry.name))
            held_out[entry.name] = test
        return sets, held_out

    def to_yaml(self, folder: str | Path | None = None) -> str:
        """Write the resolved configuration as YAML that `load` reads back.

        Parameters
        ----------
        folder : path, optional
            Folder of the configuration to be written, to which relative paths are converted; unchanged by default.
        """
        entries = [to_plain(entry) for entry in self.data]
        for entry in entries:
            entry["path"] = self._relative(entry["path"], folder)
        prior = {} if self.prior is None else {"prior": self._relative(self.prior, folder)}
        return yaml.safe_dump({"data": entries, **prior, **self.choices}, sort_keys=False)

    def _relative(self, path: str, folder: str | Path | None) -> str:
        return path if folder is None or os.path.isabs(path) else os.path.relpath(self.folder / path, folder)
