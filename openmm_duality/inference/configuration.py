"""The configuration of an inference, read from a YAML file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.inference.equations.settings import DELTA_CHOICES, Settings
from openmm_duality.inference.equations.targets import DataSet
from openmm_duality.losses.baseline import Baseline, are_charges
from openmm_duality.reference.formats import read
from openmm_duality.reference.mixed_frames import AnyFrames, without_isolated_atoms, without_large_forces
from openmm_duality.reference.quantities import UNITS, DataKeys
from openmm_duality.reference.splits import SPLITS, check_fraction
from openmm_duality.schema import (
    build,
    convert_keys,
    integer,
    key,
    load_yaml,
    one_of,
    optional,
    quantity,
    text,
    to_plain,
    tuple_of,
)

_FORCE = unit.kilojoule_per_mole / unit.nanometer
TARGETS = ("auto", "forces", "accelerations")


@dataclass(frozen=True)
class DataConfig:
    """One data set of a configuration.

    Parameters
    ----------
    path : str
        Any data that `reference.read` reads, relative to the configuration file.
    name : str
        Name in error tables; by default the last component of the path.
    weight : float
        Factor on the squared errors of this set.
    every : int
        Use every n-th training frame.
    test : tuple of str
        Separate data to test on, of any composition; their errors are listed by the last component of their paths.
    test_fraction : float
        Fraction of the frames that is held out for testing; by default 0.2, or 0 where there is separate data.
    split : str
        ``time``: the last frames, after a gap, are held out. ``random-blocks``: contiguous blocks of the file, chosen
        at random, for frames without an order in time.
    gap : float
        Time in ps between training and held-out frames that is left out of both.
    targets : str
        ``forces``, ``accelerations`` (forces are ignored), or ``auto``: forces if available, else accelerations.
    forces_key, energy_key : str or None
        Names of forces and energies in an extended XYZ file; by default found among the common names.
    max_force : float or None
        Largest force on an atom, in kJ/mol/nm; frames with a larger one are left out, of training and test. A few
        collisions may otherwise outweigh all other frames.
    units : str or None
        Units of an extended XYZ file, as `reference.DataKeys` knows them.
    stress_key, stress_units, stress_order : str or None
        Key of the stresses of an extended XYZ file, their unit and the order of six values, likewise.
    """

    path: str = field(metadata=key(text))
    name: str = field(metadata=key(text), default="")
    weight: float = field(metadata=key(quantity()), default=1.0)
    every: int = field(metadata=key(integer(1)), default=1)
    test: tuple[str, ...] = field(metadata=key(tuple_of(text, single=True, empty=True)), default=())
    test_fraction: float | None = field(metadata=key(optional(quantity(zero=True))), default=None)
    split: str = field(metadata=key(one_of(*SPLITS)), default="time")
    gap: float = field(metadata=key(quantity(unit.picosecond, zero=True)), default=0.5)
    targets: str = field(metadata=key(one_of(*TARGETS)), default="auto")
    forces_key: str | None = field(metadata=key(optional(text)), default=None)
    energy_key: str | None = field(metadata=key(optional(text)), default=None)
    max_force: float | None = field(metadata=key(optional(quantity(_FORCE))), default=None)
    units: str | None = field(metadata=key(optional(one_of(*UNITS))), default=None)
    stress_key: str | None = field(metadata=key(optional(text)), default=None)
    stress_units: str | None = field(metadata=key(optional(text)), default=None)
    stress_order: str = field(metadata=key(text), default=DataKeys.stress_order)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", Path(text(self.path, "path")).name)
        convert_keys(self)
        if self.test_fraction is None:
            object.__setattr__(self, "test_fraction", 0.0 if self.test else 0.2)
        check_fraction(self.held_out)
        self.keys  # noqa: B018  (raises if the units or the order are unknown)

    @property
    def held_out(self) -> float:
        """Fraction of the frames that is held out."""
        assert self.test_fraction is not None
        return self.test_fraction

    @property
    def keys(self) -> DataKeys:
        """Names and units of forces, energies and stresses."""
        names = self.forces_key, self.energy_key, self.units, self.stress_key, self.stress_units, self.stress_order
        return DataKeys(*names)


_CHOSEN = ("ridge", "curvature", "rotamers")


def common_strength(name: str, regularisation: Sequence[Mapping[str, float]]) -> float | None:
    """Strength of a penalty where all species that have it share it, else None."""
    values = {one[name] for one in regularisation if name in one}
    return values.pop() if len(values) == 1 else None


@dataclass(frozen=True)
class InferenceConfig:
    """Data sets and settings of an inference, and the prior model of Δ-learning, if any.

    Parameters
    ----------
    data : tuple of DataConfig
    settings : Settings
    folder : path
        Base folder of relative paths of the data and of the prior model.
    baseline : str or None
        XML file of the System whose forces act beside the losses, or charges by species, as ``Na=1, Cl=-1``. With a
        prior model, its baseline does.
    unlabelled : tuple of str
        Trajectories or folders of runs whose frames join those of the penalties on symmetries.
    prior : str or None
        File of the prior model of Δ-learning. It fixes form, gradient, cutoff and bases, so that only the settings in
        `equations.settings.DELTA_CHOICES` can be chosen.
    """

    data: tuple[DataConfig, ...]
    settings: Settings = field(default_factory=Settings)
    folder: Path = Path()
    prior: str | None = None
    baseline: str | None = None
    unlabelled: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        data: tuple[DataConfig, ...],
        choices: Mapping[str, Any],
        folder: Path = Path(),
        prior: str | None = None,
        baseline: str | None = None,
        unlabelled: tuple[str, ...] = (),
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
        if prior is not None and baseline is not None:
            raise DualityError(
                "the prior model has its own baseline, or none, which Δ-learning keeps; leave baseline out"
            )
        if prior is not None and unlabelled:
            raise DualityError("unlabelled frames are for an inference without a prior model; leave one of the two out")
        return cls(data, settings, folder, prior, baseline, unlabelled)

    @property
    def choices(self) -> dict[str, Any]:
        """All settings, or with a prior model those that can be chosen."""
        every = self.settings.to_dict()
        return every if self.prior is None else {name: every[name] for name in DELTA_CHOICES}

    @classmethod
    def load(cls, path: str | Path, prior: str | None = None, baseline: str | None = None) -> InferenceConfig:
        """Read a YAML file: a list `data`, fields of `Settings`, and where wanted `prior`, `baseline`, `unlabelled`.

        Parameters
        ----------
        path : path
        prior, baseline : str, optional
            Prior model and baseline to use instead of those named in the file.

        Raises
        ------
        DualityError
            If the file cannot be read, a key is unknown or a value is out of range.
        """
        content = load_yaml(path)
        if not isinstance(content, Mapping) or not isinstance(content.get("data"), list) or not content["data"]:
            raise DualityError(f"{path}: expected a key 'data' with a list of data sets, and settings such as 'form'")
        choices = {str(key): value for key, value in content.items()}
        if isinstance(charges := choices.get("baseline"), Mapping):
            choices["baseline"] = ", ".join(f"{name}={charge}" for name, charge in charges.items())
        entries = choices.pop("data")
        try:
            named: dict[str, str] = {
                name: text(choices.pop(name), name) for name in ("prior", "baseline") if name in choices
            }
            more = tuple_of(text, single=True, empty=True)(choices.pop("unlabelled", ()), "unlabelled")
            found = tuple(
                DataConfig(entry) if isinstance(entry, str) else build(DataConfig, entry, "data") for entry in entries
            )
            given = {"prior": prior, "baseline": baseline}
            named |= {name: value for name, value in given.items() if value is not None}
            return cls.of(found, choices, Path(path).parent, **named, unlabelled=more)
        except DualityError as error:
            raise DualityError(f"{path}: {error}") from None

    def read(self, progress: bool = False) -> tuple[list[DataSet], dict[str, AnyFrames]]:
        """Read the data: training sets, and held-out and separate test frames by the name of their set.

        Parameters
        ----------
        progress : bool
            Whether to show the progress.

        Raises
        ------
        DualityError
            If a data set cannot be read, or two have the same name.
        """
        names = [name for entry in self.data for name in (entry.name, *(Path(path).name for path in entry.test))]
        if len(set(names)) < len(names):
            raise DualityError(f"data sets need different names, got {', '.join(names)}")
        sets, held_out = [], {}
        for entry in self.data:
            frames, atoms = without_isolated_atoms(self._frames(entry, entry.path, progress))
            train, test = frames.split(entry.held_out, entry.gap, entry.split)
            sets.append(DataSet(train[:: entry.every], entry.weight, entry.name, atoms))
            if len(test):
                held_out[entry.name] = test
            for path in entry.test:
                held_out[Path(path).name] = self._frames(entry, path, progress)
        return sets, held_out

    def read_baseline(self) -> Baseline | None:
        """Read the baseline, if there is one; errors as for `Baseline`."""
        if self.baseline is None:
            return None
        return Baseline.of(self.baseline if are_charges(self.baseline) else self.folder / self.baseline)

    def read_unlabelled(self, progress: bool = False) -> list[AnyFrames]:
        """Read the unlabelled frames; errors as for `read`."""
        return [read(self.folder / path, forces=False, progress=progress) for path in self.unlabelled]

    def _frames(self, entry: DataConfig, path: str, progress: bool) -> AnyFrames:
        forces = entry.targets != "accelerations"
        frames = read(self.folder / path, forces=forces, keys=entry.keys, progress=progress)
        if not frames.has_forces and entry.targets == "forces" and path == entry.path:
            raise DualityError(f"data {entry.name}: the targets should be forces, but {path} holds none")
        return frames if entry.max_force is None else without_large_forces(frames, entry.max_force, path)

    def as_fitted(self, metadata: Mapping[str, Any]) -> InferenceConfig:
        """The configuration with what was chosen for a model written out.

        These are the strengths of ridge, curvature and rotamers, which stay as they are where the species have
        different ones, because a configuration has one of each, and the weights of energies and stresses.

        Parameters
        ----------
        metadata : mapping
            Of the model.
        """
        chosen = {name: common_strength(name, metadata["regularisation"]) for name in _CHOSEN}
        known: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
        known |= {name: metadata["settings"][name] for name in ("energy_weight", "stress_weight")}
        return replace(self, settings=replace(self.settings, **known))

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
            entry["test"] = [self._relative(path, folder) for path in entry["test"]]
        named = {"prior": self.prior, "baseline": self.baseline}
        files: dict[str, Any] = {name: self._relative(path, folder) for name, path in named.items() if path is not None}
        if self.unlabelled:
            files["unlabelled"] = [self._relative(path, folder) for path in self.unlabelled]
        return yaml.safe_dump({"data": entries, **files, **self.choices}, sort_keys=False)

    def _relative(self, path: str, folder: str | Path | None) -> str:
        same = folder is None or os.path.isabs(path) or are_charges(path)
        return path if same else os.path.relpath(self.folder / path, folder)
