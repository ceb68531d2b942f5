"""Losses on some atoms of any System: a learned solute in classical water, a learned liquid around a classical solute.

The energy is that of the classical System, less its terms among the particles that the losses act on, plus the losses;
so these particles and the others interact as in the force field (mechanical embedding).
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations

import openmm as mm
from openmm import app

from openmm_duality.dynamics.systems import species_of
from openmm_duality.errors import DualityError
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.backends import lower
from openmm_duality.lowering.fused.checks import check_particles

MOST_EXCEPTIONS = 125_000  # pairs of 500 particles; those of more would slow down OpenMM's nonbonded force
_BONDED = (
    "HarmonicBondForce",
    "HarmonicAngleForce",
    "PeriodicTorsionForce",
    "RBTorsionForce",
    "CMAPTorsionForce",
    "CustomBondForce",
    "CustomAngleForce",
    "CustomTorsionForce",
    "CustomCompoundBondForce",
)
_INSEPARABLE = (  # sums over neighbours that are no pairs, polarisation, implicit solvent
    "AmoebaGeneralizedKirkwoodForce",
    "AmoebaMultipoleForce",
    "AmoebaVdwForce",
    "AmoebaWcaDispersionForce",
    "ATMForce",
    "ConstantPotentialForce",
    "CustomGBForce",
    "CustomHbondForce",
    "CustomManyParticleForce",
    "DrudeForce",
    "GBSAOBCForce",
    "GayBerneForce",
    "HippoNonbondedForce",
)
_PARTICLE = re.compile(r"[pab]\d+")  # attributes of a term that are indices of particles


def add_to_system(
    system: mm.System,
    losses: AgentLosses,
    topology: app.Topology,
    particles: Sequence[int] | None = None,
    *,
    replace: bool = True,
    backend: str | None = None,
    precision: str | None = None,
    platform: str | None = None,
) -> mm.System:
    """A copy of a System in which losses act on some of the atoms.

    Bonds, angles, torsions, constraints and nonbonded interactions among these atoms, and their virtual sites, are
    taken out; what acts between them and the others, restraints and barostats stay. Among up to 500 atoms nonbonded
    interactions are excluded, as in openmm-ml, though not those with periodic images under Ewald summation; of more
    atoms the `NonbondedForce` of these atoms alone is subtracted, which costs its time once more.

    Parameters
    ----------
    system : openmm.System
        Of any forces; it stays as it is.
    losses : AgentLosses
    topology : openmm.app.Topology
        Of the same particles; elements give the species.
    particles : sequence of int, optional
        Indices of the atoms that the losses act on, whole molecules; by default all. The losses take only them for
        neighbours.
    replace : bool
        Whether the losses replace the classical interactions among these atoms, or are added to them.
    backend, precision, platform : str, optional
        As for `create_system`.

    Raises
    ------
    DualityError
        If the topology is not of these particles, a species is unknown, an index is repeated or that of no atom, the
        atoms are bonded to others, losses with a baseline are to replace something, a force cannot be separated, the
        back end cannot run, or losses that do not conserve momentum are added to a System without a `CMMotionRemover`.
    """
    n = system.getNumParticles()
    if replace and losses.baseline is not None:
        raise DualityError(
            "these losses were inferred beside a baseline, so they replace no interactions; make a System that holds "
            "the baseline for all of its atoms, and add the losses with replace=False"
        )
    if topology.getNumAtoms() != n:
        raise DualityError(f"the topology has {topology.getNumAtoms()} atoms and the system {n} particles")
    indices = check_particles(particles, n_atoms=n)
    chosen = range(n) if indices is None else indices.tolist()
    every = species_of(topology)
    if not losses.has_potential and not _of_type(system, ("CMMotionRemover",)):
        raise DualityError(
            f"losses with the {losses.gradient} gradient do not conserve momentum; add a CMMotionRemover to the system"
        )
    force = lower(
        losses,
        [every[k] for k in chosen],
        particles=None if indices is None else chosen,
        periodic=_is_periodic(system, topology),
        backend=backend,
        precision=precision,
        platform=platform,
    )
    mixed = _without_internal(system, chosen) if replace else _copy(system)
    mixed.addForce(force)
    return mixed


def _of_type(system: mm.System, names: Collection[str]) -> list[mm.Force]:
    return [force for force in system.getForces() if type(force).__name__ in names]


def _is_periodic(system: mm.System, topology: app.Topology) -> bool:
    """Whether the System is periodic; without a force that says so, whether the topology has a box."""
    return bool(system.usesPeriodicBoundaryConditions()) or topology.getPeriodicBoxVectors() is not None


def _copy(system: mm.System, root: ElementTree.Element | None = None) -> mm.System:
    """A copy, from XML that may have been edited, with the names that plug-ins do not write."""
    text = mm.XmlSerializer.serialize(system) if root is None else ElementTree.tostring(root, encoding="unicode")
    copy = mm.XmlSerializer.deserialize(text)
    for old, new in zip(system.getForces(), copy.getForces(), strict=True):
        new.setName(old.getName())
    return copy


def _without_internal(system: mm.System, chosen: Sequence[int]) -> mm.System:
    """A copy of a System without the interactions among the chosen particles and their virtual sites."""
    inside = set(chosen) | set(_virtual_sites(system, set(chosen)))
    inseparable = _of_type(system, _INSEPARABLE)
    if inseparable:
        raise DualityError(
            f"the interactions of a {type(inseparable[0]).__name__} cannot be separated into those of some atoms and "
            "those of others; make the system without it"
        )
    root = ElementTree.fromstring(mm.XmlSerializer.serialize(system))
    for constraints in root.iter("Constraints"):
        _remove_terms(constraints, inside, "a constraint")
    for element in root.iterfind("Forces/Force"):
        if element.get("type") in _BONDED:
            for terms in element:
                if terms.tag in ("Bonds", "Angles", "Torsions"):
                    _remove_terms(terms, inside, "a bond" if element.get("type") == "HarmonicBondForce" else None)
    mixed = _copy(system, root)
    for force in mixed.getForces():
        if isinstance(force, mm.NonbondedForce):
            if _few(inside):
                _exclude(force, inside)
            else:
                mixed.addForce(_subtracted(force, inside))
        elif isinstance(force, mm.CustomNonbondedForce):
            _exclude_custom(force, inside)
    return mixed


def _virtual_sites(system: mm.System, inside: set[int]) -> Iterator[int]:
    """Virtual sites that lie on particles of a set alone."""
    for k in range(system.getNumParticles()):
        if k not in inside and system.isVirtualSite(k):
            site = system.getVirtualSite(k)
            if all(site.getParticle(m) in inside for m in range(site.getNumParticles())):
                yield k


def _remove_terms(terms: ElementTree.Element, inside: set[int], bond: str | None) -> None:
    """Remove the terms whose particles are all inside; refuse those that bond one inside to another.

    `bond` is what a term is called that bonds its particles, None where it does not.
    """
    for term in list(terms):
        particles = [int(value) for name, value in term.attrib.items() if _PARTICLE.fullmatch(name)]
        if particles and all(k in inside for k in particles):
            terms.remove(term)
        elif bond is not None and any(k in inside for k in particles):
            mine = next(k for k in particles if k in inside)
            other = next(k for k in particles if k not in inside)
            raise DualityError(
                f"particles: {bond} joins atom {mine}, which the losses act on, to atom {other}, which they do not; "
                "losses know no link atoms, so choose whole molecules"
            )


def _few(inside: Collection[int]) -> bool:
    return len(inside) * (len(inside) - 1) // 2 <= MOST_EXCEPTIONS


def _exclude(force: mm.NonbondedForce, inside: set[int]) -> None:
    """Exclude every pair of particles of a set."""
    for k in range(force.getNumExceptionParameterOffsets()):
        parameter, exception, *_ = force.getExceptionParameterOffset(k)
        if {*force.getExceptionParameters(exception)[:2]} <= inside:
            force.setExceptionParameterOffset(k, parameter, exception, 0.0, 0.0, 0.0)
    for i, j in combinations(sorted(inside), 2):
        force.addException(i, j, 0.0, 1.0, 0.0, True)
    if force.usesPeriodicBoundaryConditions():  # the particles may have diffused into different images
        force.setExceptionsUsePeriodicBoundaryConditions(True)


def _exclude_custom(force: mm.CustomNonbondedForce, inside: set[int]) -> None:
    """Exclude every pair of particles of a set."""
    if not _few(inside):
        raise DualityError(
            f"the pairs of {len(inside)} particles are too many to be excluded from a CustomNonbondedForce (at most "
            f"{MOST_EXCEPTIONS:,}); make the system with a NonbondedForce instead"
        )
    known = {tuple(sorted(force.getExclusionParticles(k))) for k in range(force.getNumExclusions())}
    for pair in combinations(sorted(inside), 2):
        if pair not in known:
            force.addExclusion(*pair)


def _subtracted(force: mm.NonbondedForce, inside: set[int]) -> mm.Force:
    """The negative of a nonbonded force between the particles of a set alone."""
    if force.getNumParticleParameterOffsets() or force.getNumExceptionParameterOffsets():
        raise DualityError(
            f"the nonbonded parameters depend on global ones, which cannot be separated for {len(inside)} particles; "
            "make the system with fixed parameters"
        )
    alone = mm.XmlSerializer.clone(force)
    for k in range(alone.getNumParticles()):
        if k not in inside:
            alone.setParticleParameters(k, 0.0, 1.0, 0.0)
    for k in range(alone.getNumExceptions()):
        i, j, *_ = alone.getExceptionParameters(k)
        if i not in inside or j not in inside:
            alone.setExceptionParameters(k, i, j, 0.0, 1.0, 0.0)
    negative = mm.CustomCVForce("-alone")
    negative.addCollectiveVariable("alone", alone)
    negative.setForceGroup(force.getForceGroup())
    negative.setName("classical interactions that losses replace")
    return negative
