"""A baseline: forces of OpenMM that act beside losses, which were inferred from what it leaves of the reference.

Charges, dispersion or a whole force field are OpenMM's, on a fixed list of atoms, and losses learn the rest.
"""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import openmm as mm
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import openmm_form, volume
from openmm_duality.progress import progress_bar
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.mixed_frames import AnyFrames, joined
from openmm_duality.units import stress_from_virial

_LARGEST = 50_000_000  # characters
_STRAIN = 3e-4  # small against what bends the energy, large against the jumps of truncated interactions
_MASS_TOLERANCE = 0.5  # dalton, by which elements are told apart
_MOST_ON_REFERENCE = 3000  # atoms, whose forces are computed in double precision
_PYTHON = "PythonForce"  # its XML holds a pickled function
_LOCK = Lock()  # of the contexts, which threads share
_REMOVED = ("CMMotionRemover",)
_NO_POTENTIAL = (
    "AndersenThermostat",
    "MonteCarloBarostat",
    "MonteCarloAnisotropicBarostat",
    "MonteCarloFlexibleBarostat",
    "MonteCarloMembraneBarostat",
)


@dataclass(frozen=True)
class Baseline:
    """The forces of a System of OpenMM, without constraints and virtual sites.

    Parameters
    ----------
    xml : str
        Of the System. Nothing in it is run: forces that hold code are refused.

    Raises
    ------
    DualityError
        If it is not the XML of a System, or holds something that cannot be a baseline.
    """

    xml: str

    def __post_init__(self) -> None:
        root = _checked(self.xml)
        for force in root.findall("Forces/Force"):
            if force.get("type") in _REMOVED:
                root.find("Forces").remove(force)  # type: ignore[union-attr]
        # what was checked is what OpenMM reads
        object.__setattr__(self, "xml", ElementTree.tostring(root, encoding="unicode"))
        system = self.system()
        if system.getNumConstraints() or any(system.isVirtualSite(k) for k in range(system.getNumParticles())):
            raise DualityError(
                "baseline: the system has constraints or virtual sites, and the reference moves every atom freely; "
                "make it without them (in a force field of OpenMM: rigidWater=False, constraints=None)"
            )

    def __repr__(self) -> str:
        forces = [str(force.get("type")) for force in ElementTree.fromstring(self.xml).iterfind("Forces/Force")]
        return f"System of {len(self.masses)} particles: {', '.join(forces) or 'no forces'}"

    @classmethod
    def of(cls, source: Baseline | mm.System | str | Path) -> Baseline:
        """The baseline of a System, or of a file of its XML.

        Raises
        ------
        DualityError
            If there is no such file, or as for the class.
        """
        if isinstance(source, Baseline):
            return source
        if isinstance(source, mm.System):
            return cls(mm.XmlSerializer.serialize(source))
        try:
            with open(source, encoding="utf-8") as file:
                text = file.read(_LARGEST + 1)
        except (OSError, UnicodeDecodeError) as error:
            raise DualityError(f"baseline: {source} cannot be read ({error})") from None
        try:
            return cls(text)
        except DualityError as error:
            raise DualityError(f"{source}: {error}") from None

    @property
    def masses(self) -> FloatArray:
        """Masses of the particles in dalton, shape (N,)."""
        return _masses(self.xml)

    def system(self) -> mm.System:
        """A new System with these forces; bonded forces and exceptions take nearest images where others do."""
        try:
            system = mm.XmlSerializer.deserialize(self.xml)
        except Exception as error:  # OpenMM raises what it likes for a file that is damaged
            raise DualityError(f"baseline: OpenMM cannot read this System: {error}") from None
        if system.usesPeriodicBoundaryConditions():
            for force in system.getForces():
                if isinstance(force, mm.NonbondedForce):
                    force.setExceptionsUsePeriodicBoundaryConditions(True)
                elif hasattr(force, "setUsesPeriodicBoundaryConditions"):
                    force.setUsesPeriodicBoundaryConditions(True)
        return system

    def require_atoms(self, masses: FloatArray, periodic: bool, remedy: str = "") -> None:
        """Refuse atoms that are not those of this System.

        Parameters
        ----------
        masses : array, shape (N,)
            In dalton.
        periodic : bool
            Whether the atoms have a cell.
        remedy : str
            What to do if their number is another.

        Raises
        ------
        DualityError
        """
        mine = self.masses
        if len(mine) != len(masses):
            raise DualityError(f"the baseline is of {len(mine)} atoms, and these are {len(masses)}{remedy}")
        wrong = np.flatnonzero(np.abs(mine - masses) > _MASS_TOLERANCE)
        if len(wrong):
            k = int(wrong[0])
            raise DualityError(
                f"atom {k} has a mass of {mine[k]:.3f} dalton in the baseline and of {masses[k]:.3f} here, so the "
                "atoms are others or in another order; make the System of the baseline for these atoms in their order"
            )
        if periodic is not _is_periodic(self.xml):
            here, there = ("have a cell", "not periodic") if periodic else ("have no cell", "periodic")
            raise DualityError(f"these atoms {here}, and the baseline is {there}; make them agree")

    def evaluate(self, positions: FloatArray, cell: FloatArray | None) -> tuple[float, FloatArray]:
        """Energy in kJ/mol and forces (N, 3) in kJ/mol/nm of one configuration.

        Parameters
        ----------
        positions : array, shape (N, 3)
            In nm.
        cell : array, shape (3, 3), or None
            In nm.

        Raises
        ------
        DualityError
            If OpenMM cannot compute them, as in a box narrower than twice the cutoff.
        """
        context, rotation = _context(self.xml), np.eye(3)
        try:
            with _LOCK:
                if cell is not None:
                    box, rotation = openmm_form(cell)
                    context.setPeriodicBoxVectors(*box)
                context.setPositions(positions @ rotation)
                state = context.getState(energy=True, forces=True)
        except mm.OpenMMException as error:
            raise DualityError(f"baseline: OpenMM cannot compute its forces: {error}") from None
        forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
        return float(energy), np.asarray(forces @ rotation.T, dtype=np.float64)

    def virial(self, positions: FloatArray, cell: FloatArray) -> FloatArray:
        """The virial W = −∂E/∂ε in kJ/mol, shape (3, 3), by central differences of the energy under strain.

        Parameters and errors are those of `evaluate`, with a cell.
        """
        virial = np.empty((3, 3))
        for x, y in zip(*np.triu_indices(3), strict=True):
            strain = np.zeros((3, 3))
            strain[x, y] += 0.5 * _STRAIN
            strain[y, x] += 0.5 * _STRAIN
            ahead, behind = (
                self.evaluate(positions + positions @ (sign * strain), cell + cell @ (sign * strain))[0]
                for sign in (1, -1)
            )
            virial[x, y] = virial[y, x] = -(ahead - behind) / (2.0 * _STRAIN)
        return virial

    def subtracted_from(self, frames: AnyFrames, name: str = "data", progress: bool = False) -> AnyFrames:
        """The frames with the baseline taken out of their forces, energies and stresses.

        `name` is that of the data, in messages.

        Raises
        ------
        DualityError
            If the frames have no forces, are of other atoms, or the baseline cannot be computed.
        """
        bar = progress_bar(len(frames), f"baseline, {name}", show=progress)
        with bar:
            return joined([self._rest(part, name, bar) for part in frames.parts])

    def _rest(self, part: Frames, name: str, bar: Any) -> Frames:
        if part.forces is None:
            raise DualityError(f"{name}: a baseline is taken out of forces, and the frames have none; compute them")
        try:
            self.require_atoms(part.masses, part.cells is not None, "; give frames of its atoms alone")
        except DualityError as error:
            raise DualityError(f"{name}: {error}") from None
        energies, forces = np.zeros(len(part)), np.zeros_like(part.forces)
        stresses = None if part.stresses is None else part.stresses.copy()
        for t in range(len(part)):
            cell = part.cell(t)
            energies[t], forces[t] = self.evaluate(part.positions[t], cell)
            if stresses is not None and cell is not None:
                stresses[t] -= stress_from_virial(self.virial(part.positions[t], cell), volume(cell))
            bar.update()
        rest = None if part.energies is None else part.energies - energies
        return replace(part, forces=part.forces - forces, energies=rest, stresses=stresses)

    def sha256(self) -> str:
        """SHA-256 of the XML."""
        return hashlib.sha256(self.xml.encode()).hexdigest()


def _checked(xml: str) -> ElementTree.Element:
    """The XML of a System with forces of OpenMM alone, none of which holds code."""
    if len(xml) > _LARGEST:
        raise DualityError(f"baseline: the XML has more than {_LARGEST:,} characters")
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise DualityError(f"baseline: expected the XML of an OpenMM System ({error})") from None
    if root.tag != "System":
        raise DualityError(f"baseline: expected the XML of an OpenMM System, found that of {root.tag!r}")
    for force in root.iter("Force"):
        kind = force.get("type", "")
        known = isinstance(getattr(mm, kind, None), type) and issubclass(getattr(mm, kind), mm.Force)
        if kind == _PYTHON or not known:
            raise DualityError(
                f"baseline: a {kind or 'force without a type'} cannot be kept in a model file, because it holds code "
                "or belongs to a plug-in; only OpenMM's own forces can"
            )
        if kind in _NO_POTENTIAL:
            raise DualityError(f"baseline: a {kind} is no force of a potential; make the system without it")
    return root


@lru_cache(maxsize=8)
def _is_periodic(xml: str) -> bool:
    return bool(mm.XmlSerializer.deserialize(xml).usesPeriodicBoundaryConditions())


@lru_cache(maxsize=8)
def _masses(xml: str) -> FloatArray:
    system = mm.XmlSerializer.deserialize(xml)
    return np.array([system.getParticleMass(k).value_in_unit(unit.dalton) for k in range(system.getNumParticles())])


@lru_cache(maxsize=4)
def _context(xml: str) -> mm.Context:
    """A context on the platform that gives the same numbers every time, for many atoms on the CPU."""
    system = Baseline(xml).system()
    platform = "Reference" if system.getNumParticles() <= _MOST_ON_REFERENCE else "CPU"
    try:
        return mm.Context(system, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName(platform))
    except mm.OpenMMException as error:
        raise DualityError(f"baseline: OpenMM cannot compute its forces: {error}") from None
