"""A calculator of ASE: energies, forces and their uncertainties from the fused kernels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import volume
from openmm_duality.losses.model import AgentLosses
from openmm_duality.losses.total import baseline_of_atoms
from openmm_duality.lowering.fused.committee import FusedCommittee
from openmm_duality.lowering.fused.losses import FusedLosses
from openmm_duality.reference.ase_atoms import VACUUM, cell_of
from openmm_duality.units import ANGSTROM, ELECTRONVOLT, MEV_PER_ANGSTROM, stress_from_virial

if TYPE_CHECKING:
    from ase import Atoms

_FORCE = 1e3 * MEV_PER_ANGSTROM  # kJ/mol/nm in one eV/Å


class DualityCalculator(Calculator):  # type: ignore[misc]
    """Agent losses as a calculator of ASE, on all cores of this machine.

    Properties are ``energy`` and ``free_energy`` (eV), ``energies`` (those of the atoms, whose sum is the energy),
    ``forces`` (eV/Å), ``stress`` (eV/Å³) where the cell is periodic in all directions, and ``uncertainty``, shape (N,),
    the predicted standard deviation of the force components on every atom in eV/Å, of a model with a committee:
    ``atoms.calc.get_property("uncertainty")``. Energies are those of the reference where energies were fitted: the
    losses and a constant of every species. Of other models they are zero for isolated atoms.
    Losses under `agent` and `mutual` have no potential, hence forces and neither energies nor stresses. The baseline of
    a model is included, for the atoms that it is of; then there are no energies of the atoms.

    Atoms that are periodic in some directions only have no images in the others.

    Parameters
    ----------
    losses : AgentLosses or path
        A model, or its file.
    species : sequence of str, length N, optional
        The species of every atom, where they are not the chemical symbols.
    precision : str
        ``double`` or ``single``: of the arithmetic. Distances and the energy are always double.
    threads : int, optional
        By default OPENMM_DUALITY_THREADS, or as many as the cores that this process may use.
    **kwargs
        As for `ase.calculators.calculator.Calculator`.

    Raises
    ------
    DualityError
        If the file is not a model, or the precision is not one of the two; later, if the atoms are of a species that
        the model does not know, or are not those of its baseline.
    """

    def __init__(
        self,
        losses: AgentLosses | str | Path,
        *,
        species: Sequence[str] | None = None,
        precision: str = "double",
        threads: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.losses = losses if isinstance(losses, AgentLosses) else AgentLosses.load(losses)
        self._given, self._precision, self._threads = species, precision, threads
        self._species: tuple[str, ...] = ()
        self._constants = np.zeros(0)  # of every atom, in kJ/mol
        self._fused = FusedLosses(self.losses, (), precision, threads=threads)
        self._committee: FusedCommittee | None = None
        with_energy = ["energy", "free_energy"] if self.losses.has_potential else []
        with_energy += ["stress"] if with_energy else []
        with_energy += ["energies"] if with_energy and self.losses.baseline is None else []
        with_committee = [] if self.losses.committee is None else ["uncertainty"]
        self.implemented_properties = ["forces", *with_energy, *with_committee]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("forces",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate energy and forces; stress, per-atom energies and uncertainties where they are asked for."""
        super().calculate(atoms, list(properties), list(system_changes))
        self._lower_for(self._species_of(self.atoms))
        positions, cell = self.atoms.positions * ANGSTROM, cell_of(self.atoms, self._vacuum)
        energy, forces = self._fused(positions, cell)
        if self.losses.baseline is not None:
            further = baseline_of_atoms(self.losses, self._species, cell).evaluate(positions, cell)
            energy, forces = energy + further[0], forces + further[1]
        self.results["forces"] = forces / _FORCE
        if self.losses.has_potential:
            total = energy + float(self._constants.sum())
            self.results["energy"] = self.results["free_energy"] = total / ELECTRONVOLT
        if "stress" in properties and "stress" in self.implemented_properties:
            self.results["stress"] = self._stress(positions, cell)
        if {"energies", "uncertainty"}.isdisjoint(properties):
            return
        if self._committee is None:
            self._committee = FusedCommittee(self.losses, self._species, self._precision, self._threads)
        evaluation = self._committee(positions, cell)
        if "energies" in self.implemented_properties:
            self.results["energies"] = (evaluation.losses + self._constants) / ELECTRONVOLT
        if self.losses.committee is not None:
            sigma = self.losses.committee.uncertainty(evaluation.forces, self.losses.index_of(self._species))
            self.results["uncertainty"] = sigma / _FORCE

    @property
    def _vacuum(self) -> float:
        """In directions without periodicity, in nm: charges act through it, so that it is that of the data."""
        return 2.0 * self.losses.cutoff if self.losses.baseline is None else VACUUM

    def _stress(self, positions: FloatArray, cell: FloatArray | None) -> FloatArray:
        """The six components xx, yy, zz, yz, xz, xy of the stress in eV/Å³, positive under tension."""
        if cell is None or not self.atoms.pbc.all():
            raise PropertyNotImplementedError("a stress needs a cell that is periodic in all three directions")
        virial = self._fused.virial(positions, cell)
        if self.losses.baseline is not None:
            virial = virial + baseline_of_atoms(self.losses, self._species, cell).virial(positions, cell)
        stress = stress_from_virial(virial, volume(cell))
        return np.asarray(full_3x3_to_voigt_6_stress(stress * ANGSTROM**3 / ELECTRONVOLT))

    def _species_of(self, atoms: Atoms) -> tuple[str, ...]:
        if self._given is None:
            return tuple(atoms.get_chemical_symbols())
        if len(self._given) != len(atoms):
            raise DualityError(f"the calculator was given {len(self._given)} species for {len(atoms)} atoms")
        return tuple(self._given)

    def _lower_for(self, species: tuple[str, ...]) -> None:
        if species != self._species:
            self._fused = FusedLosses(self.losses, species, self._precision, threads=self._threads)
            constants = self.losses.metadata.get("energy_constants") or {}
            self._constants = np.array([constants.get(name, 0.0) for name in species])
            self._committee, self._species = None, species
