"""Energies as targets: one constant per species, so that sets of different composition teach each other.

The zero of an energy is that of its method, and the losses have no constant terms (the gauge). So the energy of a frame
is the sum of losses plus Σ_A n_A c_A, with n_A atoms of species A. The constants c_A are the energies of isolated atoms
where these are given; otherwise they are fitted, as columns without a penalty. Data of a single composition, or of
proportional ones, determine only Σ_A n_A c_A; of all constants that fit, those with the smallest sum of squares are
taken.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.targets import DataSet
from openmm_duality.losses.forms import has_potential
from openmm_duality.reference.frames import Frames
from openmm_duality.units import MEV, MEV_PER_ANGSTROM

# at weight one, an energy error of 1 meV per atom counts as a force error of 100 meV/Å
SCALE = 100.0 * MEV_PER_ANGSTROM / MEV

_DEFAULT_WEIGHT = 0.003  # for channels
_MOST_COHESIVE = 1200.0  # kJ/mol per atom; tungsten, the strongest bound element, has 860

FITTED, ISOLATED, NONE = "fitted", "isolated atoms", "none"


@dataclass(frozen=True)
class EnergyReference:
    """Energies per atom that are subtracted from the energies of the frames before the fit.

    Parameters
    ----------
    species : tuple of str, length S
    zeros : array, shape (S,)
        In kJ/mol.
    kind : str
        ``fitted`` if the fit adds a constant per species to the zeros, ``isolated atoms`` if they are the constants,
        ``none`` if energies are not fitted.
    """

    species: tuple[str, ...]
    zeros: FloatArray
    kind: str

    @classmethod
    def none(cls, species: tuple[str, ...]) -> EnergyReference:
        """Reference of a fit without energies."""
        return cls(species, np.zeros(len(species)), NONE)

    @classmethod
    def of(
        cls, sets: Sequence[DataSet], species: tuple[str, ...], given: Mapping[str, float] | None = None
    ) -> EnergyReference:
        """The energies of isolated atoms if they are known for all species, else those that fit the mean energies.

        Parameters
        ----------
        sets : sequence of DataSet
        species : tuple of str
        given : mapping of str to float, optional
            Energies of isolated atoms in kJ/mol that a user gave, instead of those in the data.

        Raises
        ------
        DualityError
            If no set has both energies and forces, or energies of isolated atoms are given for some species only or
            cannot be those of the method.
        """
        parts = _with_energies(sets)
        if not parts:
            raise DualityError(
                "energy_weight includes energies in the fit, but no data set has energies and forces; leave it at 0, "
                "or add the energies (CP2K's .ener file)"
            )
        atoms = dict(given) if given else _isolated(sets)
        if given and set(given) != set(species):
            raise DualityError(
                f"atom_energies: expected the energies of isolated atoms of {', '.join(species)}, got "
                f"{', '.join(given)}; give all of them, or none"
            )
        counts = np.array([_counts(species, part.species) for part in parts])
        means = np.array([np.mean(part.energies) for part in parts])  # type: ignore[arg-type]
        if set(species) <= set(atoms):
            zeros = np.array([atoms[name] for name in species])
            cohesive = np.abs((means - counts @ zeros) / counts.sum(axis=1)).max()
            if cohesive > _MOST_COHESIVE:
                raise DualityError(
                    f"the energies of the frames differ from those of their isolated atoms by {cohesive:,.0f} kJ/mol "
                    "per atom, more than any bonds give; check that both are of the same method and in the units that "
                    "are assumed (atom_energies without a unit are in kJ/mol; write for instance -13.6 eV)"
                )
            return cls(species, zeros, ISOLATED)
        if atoms:
            warnings.warn(
                f"there are isolated atoms of {', '.join(sorted(atoms))} only, not of "
                f"{', '.join(sorted(set(species) - set(atoms)))}, so the energy constants are fitted",
                stacklevel=2,
            )
        weights = np.sqrt([len(part) for part in parts]) / counts.sum(axis=1)
        zeros = np.linalg.lstsq(weights[:, None] * counts, weights * means, rcond=1e-10)[0]
        return cls(species, zeros, FITTED)

    @classmethod
    def from_metadata(cls, species: tuple[str, ...], metadata: Mapping[str, Any]) -> EnergyReference:
        """Read the reference back from the metadata of a model.

        Raises
        ------
        DualityError
            If the model was inferred with a constant per composition, as before version 0.3.
        """
        zeros = metadata["energy_zeros"]
        if not zeros:
            return cls.none(species)
        if set(zeros) != set(species):
            raise DualityError(
                "the model was fitted to energies with a constant per composition, as by an earlier version; infer it "
                "again from all frames"
            )
        return cls(species, np.array([zeros[name] for name in species]), metadata["energy_reference"])

    @property
    def used(self) -> bool:
        """Whether energies are fitted."""
        return self.kind != NONE

    @property
    def n_constants(self) -> int:
        """Number of columns of constants in the fit: one per species, or none."""
        return len(self.species) if self.kind == FITTED else 0

    @property
    def gauge(self) -> str:
        """Choice of the constants where the data leave it open, to be added to the gauge of a model."""
        smallest = "; of the energy constants of the species that fit the data equally well, the smallest"
        return smallest if self.kind == FITTED else ""

    def target(self, energy: float, species_index: IntArray) -> float:
        """Energy of a frame without that of its atoms, in kJ/mol."""
        return float(energy - self.zeros[species_index].sum())

    def to_metadata(self, solutions: Sequence[FloatArray]) -> dict[str, Any]:
        """Entries of the metadata of a model: zeros and constants in kJ/mol by species, and where they come from."""
        constants = self.zeros.copy()
        if self.n_constants:
            constants += solutions[0][len(solutions[0]) - self.n_constants :]
        named = [dict(zip(self.species, map(float, v), strict=True)) for v in (self.zeros, constants)]
        zeros, constants_by_name = named if self.used else ({}, {})
        return {"energy_zeros": zeros, "energy_constants": constants_by_name, "energy_reference": self.kind}


def energy_weight(relative: float, force_weights: FloatArray) -> float:
    """Weight of the squared energy error of a frame relative to squared force errors, in 1/nm².

    Parameters
    ----------
    relative : float
        `Settings.energy_weight`.
    force_weights : array, shape (N,)
        Weights of the squared force errors of the agents; they reduce the weight of the energy accordingly.
    """
    return float(relative * 3.0 * force_weights.sum() * (SCALE / len(force_weights)) ** 2)


def _isolated(sets: Sequence[DataSet]) -> dict[str, float]:
    energies: dict[str, float] = {}
    for s in sets:
        for name, energy in s.atom_energies.items():
            if not np.isclose(energies.setdefault(name, energy), energy, rtol=1e-9, atol=1e-3):
                raise DualityError(f"the data sets have different energies of an isolated atom of {name}")
    return energies


def _counts(species: tuple[str, ...], names: Sequence[str]) -> FloatArray:
    return np.array([names.count(name) for name in species], dtype=np.float64)


def default_weight(settings: Settings, sets: Sequence[DataSet]) -> float:
    """Weight of energies where the settings give none: a small one for channels, if there are energies; else 0."""
    wanted = settings.agent_form.channels and has_potential(settings.gradient) and _with_energies(sets)
    return _DEFAULT_WEIGHT if wanted else 0.0


def _with_energies(sets: Sequence[DataSet]) -> list[Frames]:
    """Frames of all sets that have energies and forces, each of one composition."""
    parts = [part for s in sets for part in s.frames.parts if len(part)]
    return [part for part in parts if part.energies is not None and part.forces is not None]
