"""A baseline: forces of OpenMM that act beside losses, which were inferred from what it leaves of the reference.

Charges, dispersion or a whole force field are OpenMM's, on a fixed list of atoms, and losses learn the rest. Charges of
species alone are for any atoms.
"""

from __future__ import annotations

import hashlib
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
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
from openmm_duality.schema import species_name
from openmm_duality.units import masses_of, stress_from_virial

_LARGEST = 50_000_000  # characters
_CHARGE = r"\s*[^\s=,<>]+\s*=\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*"
_NEUTRAL = 1e-3  # elementary charges
_COULOMB = 138.93545764438198  # kJ/mol nm, of two elementary charges
_SCREENING = 5.0  # 1/nm: beyond 0.6 nm 2e-5 of the potential of a charge is not in its long-range part
_MESH, _LEAST_MESH = 24.0, 32  # points per nm, and along an edge
_NO_DISTANCE = 0.01  # nm
_STRAIN = 3e-4  # small against what bends the energy, large against the jumps of truncated interactions
_MASS_TOLERANCE = 0.5  # dalton, by which elements are told apart
_MOST_ON_REFERENCE = 3000  # atoms, whose forces are computed in double precision
_OFF_FACES = np.array([0.0123, 0.0457, 0.0791])  # nm: in triclinic boxes OpenMM 8.4 loses pairs of atoms on faces
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
    """The forces of a System of OpenMM, without constraints and virtual sites, or of point charges by species.

    Parameters
    ----------
    text : str
        The XML of the System, or charges in elementary charges, as ``Na=1, Cl=-1``. Nothing in it is run: forces that
        hold code are refused.

    Raises
    ------
    DualityError
        If it is neither, or holds something that cannot be a baseline.
    """

    text: str

    def __post_init__(self) -> None:
        if self.charges:
            return
        root = _checked(self.text)
        for force in root.findall("Forces/Force"):
            if force.get("type") in _REMOVED:
                root.find("Forces").remove(force)  # type: ignore[union-attr]
        # what was checked is what OpenMM reads
        object.__setattr__(self, "text", ElementTree.tostring(root, encoding="unicode"))
        system = self.system()
        if system.getNumConstraints() or any(system.isVirtualSite(k) for k in range(system.getNumParticles())):
            raise DualityError(
                "baseline: the system has constraints or virtual sites, and the reference moves every atom freely; "
                "make it without them (in a force field of OpenMM: rigidWater=False, constraints=None)"
            )

    def __repr__(self) -> str:
        if self.charges:
            return f"charges {self.text}"
        forces = [str(force.get("type")) for force in ElementTree.fromstring(self.text).iterfind("Forces/Force")]
        return f"System of {len(self.masses)} particles: {', '.join(forces) or 'no forces'}"

    @cached_property
    def charges(self) -> dict[str, float]:
        """Charges by species, in elementary charges; empty if the baseline is a System."""
        if not are_charges(self.text):
            return {}
        pairs = [part.split("=") for part in self.text.split(",")]
        found = {species_name(name.strip(), "baseline: a species"): float(charge) for name, charge in pairs}
        if len(found) < len(pairs):
            raise DualityError(f"baseline: expected one charge for each species, got {self.text!r}")
        return found

    @classmethod
    def of(cls, source: Baseline | mm.System | str | Path) -> Baseline:
        """The baseline of a System, of a file of its XML, or of charges such as ``Na=1, Cl=-1``.

        Raises
        ------
        DualityError
            If there is no such file, or as for the class.
        """
        if isinstance(source, Baseline):
            return source
        if isinstance(source, mm.System):
            return cls(mm.XmlSerializer.serialize(source))
        if are_charges(str(source)):
            return cls(str(source))
        try:
            with open(source, encoding="utf-8-sig") as file:
                text = file.read(_LARGEST + 1)
        except (OSError, UnicodeDecodeError) as error:
            raise DualityError(
                f"baseline: {source} cannot be read ({error}); expected the XML of an OpenMM System, or charges of "
                "species such as 'Na=1, Cl=-1'"
            ) from None
        try:
            return cls(text)
        except DualityError as error:
            raise DualityError(f"{source}: {error}") from None

    @property
    def masses(self) -> FloatArray:
        """Masses of the particles of the System in dalton, shape (N,)."""
        self._require_system()
        return _masses(self.text)

    def system(self) -> mm.System:
        """A new System with these forces; bonded forces and exceptions take nearest images where others do."""
        self._require_system()
        try:
            system = mm.XmlSerializer.deserialize(self.text)
        except Exception as error:  # OpenMM raises what it likes for a file that is damaged
            raise DualityError(f"baseline: OpenMM cannot read this System: {error}") from None
        if system.usesPeriodicBoundaryConditions():
            for force in system.getForces():
                if isinstance(force, mm.NonbondedForce):
                    force.setExceptionsUsePeriodicBoundaryConditions(True)
                elif hasattr(force, "setUsesPeriodicBoundaryConditions"):
                    force.setUsesPeriodicBoundaryConditions(True)
        return system

    def _require_system(self) -> None:
        if self.charges:
            raise DualityError(f"the charges {self.text} are of no atoms yet; name these by for_atoms")

    def for_atoms(
        self, species: Sequence[str], masses: FloatArray, cell: FloatArray | None, remedy: str = ""
    ) -> Baseline:
        """The baseline as a System for given atoms: this one, if they are its own, or one with their charges.

        Parameters
        ----------
        species : sequence of str, length N
        masses : array, shape (N,)
            In dalton.
        cell : array, shape (3, 3), or None
            In nm.
        remedy : str
            What to do if the number of atoms is another.

        Raises
        ------
        DualityError
            If the atoms are others, or a species has no charge.
        """
        if not self.charges:
            self._require(masses, cell is not None, remedy)
            return self
        unknown = sorted(set(species) - set(self.charges))
        if unknown:
            raise DualityError(
                f"the baseline has charges of {', '.join(self.charges)}, and none of {', '.join(unknown)}; name one "
                "for every species, which may be 0"
            )
        charges = tuple(self.charges[name] for name in species)
        if cell is not None and abs(sum(charges)) > _NEUTRAL:
            warnings.warn(
                f"the charges of the baseline add up to {sum(charges):g} in these {len(charges)} atoms; in a cell, a "
                "uniform background balances them",
                stacklevel=2,
            )
        mesh = None
        if cell is not None:
            points = np.ceil(_MESH * np.diag(openmm_form(cell)[0]))
            mesh = tuple(np.maximum(points, _LEAST_MESH).astype(int).tolist())
        return _charged(charges, tuple(masses.tolist()), mesh)

    def _require(self, masses: FloatArray, periodic: bool, remedy: str) -> None:
        """Refuse atoms that are not those of this System."""
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
        if periodic is not _is_periodic(self.text):
            here, there = ("have a cell", "not periodic") if periodic else ("have no cell", "periodic")
            raise DualityError(f"these atoms {here}, and the baseline is {there}; make them agree")

    def evaluate(
        self, positions: FloatArray, cell: FloatArray | None, precise: bool = False
    ) -> tuple[float, FloatArray]:
        """Energy in kJ/mol and forces (N, 3) in kJ/mol/nm of one configuration of the atoms of the System.

        Parameters
        ----------
        positions : array, shape (N, 3)
            In nm.
        cell : array, shape (3, 3), or None
            In nm.
        precise : bool
            Whether the energy must be in double precision in a triclinic box too.

        Raises
        ------
        DualityError
            If OpenMM cannot compute them, as in a box narrower than twice the cutoff.
        """
        rotation, box = np.eye(3), None
        if cell is not None:
            box, rotation = openmm_form(cell)
        triclinic = box is not None and np.count_nonzero(box) > 3
        if triclinic:
            positions = positions + _OFF_FACES
        context = _context(self.text, triclinic and not precise)
        try:
            with _LOCK:
                if box is not None:
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
                self.evaluate(positions + positions @ (sign * strain), cell + cell @ (sign * strain), precise=True)[0]
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
        energies, forces = np.zeros(len(part)), np.zeros_like(part.forces)
        stresses = None if part.stresses is None else part.stresses.copy()
        for t in range(len(part)):
            cell = part.cell(t)
            try:
                mine = self.for_atoms(part.species, part.masses, cell, "; give frames of its atoms alone")
            except DualityError as error:
                raise DualityError(f"{name}: {error}") from None
            energies[t], forces[t] = mine.evaluate(part.positions[t], cell)
            if stresses is not None and cell is not None:
                stresses[t] -= stress_from_virial(mine.virial(part.positions[t], cell), volume(cell))
            bar.update()
        rest = None if part.energies is None else part.energies - energies
        return replace(part, forces=part.forces - forces, energies=rest, stresses=stresses)

    def sha256(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@lru_cache(maxsize=8)
def _charged(charges: tuple[float, ...], masses: tuple[float, ...], mesh: tuple[int, ...] | None) -> Baseline:
    """The System of the long-range part erf(αr)/r of point charges, in a cell the reciprocal part of an Ewald sum.

    Nothing is summed over pairs in a cell, which OpenMM need not find, and which may be as small as it likes.
    """
    system = mm.System()
    if mesh is None:
        force = mm.CustomNonbondedForce(f"{_COULOMB!r}*q1*q2*erf({_SCREENING!r}*r)/r")
        force.addPerParticleParameter("q")
    else:
        force = mm.NonbondedForce()
        force.setNonbondedMethod(mm.NonbondedForce.PME)
        force.setCutoffDistance(_NO_DISTANCE)
        force.setIncludeDirectSpace(False)
        force.setPMEParameters(_SCREENING, *mesh)
    for charge, mass in zip(charges, masses, strict=True):
        system.addParticle(mass)
        force.addParticle(*([(charge,)] if mesh is None else (charge, 0.1, 0.0)))
    system.addForce(force)
    return Baseline(mm.XmlSerializer.serialize(system))


def are_charges(text: str) -> bool:
    """Whether a text is of charges by species, as ``Na=1, Cl=-1``."""
    return re.fullmatch(f"{_CHARGE}(,{_CHARGE})*", text) is not None


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
    return masses_of(mm.XmlSerializer.deserialize(xml))


@lru_cache(maxsize=8)
def _context(xml: str, triclinic: bool) -> mm.Context:
    """A context on the platform that gives the same numbers every time, for many atoms on the CPU.

    So for triclinic boxes, in some of which the Reference platform of OpenMM 8.4 loses pairs within the cutoff.
    """
    system = Baseline(xml).system()
    platform = "Reference" if system.getNumParticles() <= _MOST_ON_REFERENCE and not triclinic else "CPU"
    try:
        return mm.Context(system, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName(platform))
    except mm.OpenMMException as error:
        raise DualityError(f"baseline: OpenMM cannot compute its forces: {error}") from None
