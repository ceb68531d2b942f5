"""OpenMM Systems in which agents descend their losses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openmm as mm
from openmm import app, unit

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.cells import check_cell, require_openmm_form
from openmm_duality.losses.baseline import Baseline
from openmm_duality.losses.model import AgentLosses
from openmm_duality.losses.total import baseline_of_atoms, with_baseline
from openmm_duality.lowering.backends import lower
from openmm_duality.lowering.force_identity import require_potential
from openmm_duality.lowering.fused.checks import check_particles
from openmm_duality.units import bare

# what relaxes structures without a potential energy
DAMPED_DESCENT = ", or relax by damped descent (DescentLearningIntegrator; `simulate --integrator descent`)"
# residue names that readers of PDB files expect instead of the formula
_PDB_RESIDUE_NAMES = {"H2O": "HOH"}


def create_topology(
    species: Sequence[str], molecules: Sequence[IntArray] | None = None, cell: FloatArray | None = None
) -> app.Topology:
    """A topology without bonds, one residue per molecule.

    Parameters
    ----------
    species : sequence of str, length N
        Atom names and, where they are elements, elements.
    molecules : sequence of arrays of int, optional
        The atoms of every molecule; every atom is its own by default. OpenMM keeps the atoms of a residue together,
        so molecules whose atoms do not follow each other become one residue per atom.
    cell : array, shape (3, 3), optional
        In nm.

    Raises
    ------
    DualityError
        If the cell is flat, too large or too small for the atoms, or not in the form that OpenMM wants; `read_start`
        gives structures that are.
    """
    if cell is not None:
        check_cell(cell, len(species))
        require_openmm_form(cell)
    topology = app.Topology()
    chain = topology.addChain()
    contiguous = molecules is not None and np.array_equal(np.concatenate(molecules), np.arange(len(species)))
    groups = molecules if contiguous and molecules is not None else [np.array([k]) for k in range(len(species))]
    for atoms in groups:
        names = [species[k] for k in atoms]
        residue = topology.addResidue(_residue_name(names), chain)
        for k, name in enumerate(names):
            element = _element(name)
            # where there is no element, the name alone says which species it is
            number = names[:k].count(name) + 1 if element is not None and names.count(name) > 1 else ""
            topology.addAtom(f"{name}{number}", element, residue)
    if cell is not None:
        topology.setPeriodicBoxVectors([mm.Vec3(*row) for row in cell] * unit.nanometer)
    return topology


def species_of(topology: app.Topology) -> tuple[str, ...]:
    """The species of every atom of a topology: its element, or its name where it has none."""
    return tuple(a.element.symbol if a.element is not None else a.name for a in topology.atoms())


def create_system(
    losses: AgentLosses,
    topology: app.Topology,
    *,
    particles: Sequence[int] | None = None,
    baseline: Baseline | mm.System | str | Path | None = None,
    backend: str | None = None,
    precision: str | None = None,
    platform: str | None = None,
    removeCMMotion: bool = True,
) -> mm.System:
    """A System whose only interactions are those of the agent losses and of their baseline, if they have one.

    The box may be of any width: the losses act between all images within their cutoff. (A `NonbondedForce` that is
    added refuses a box narrower than twice its own cutoff.) The System declares no bonds, so write trajectories with
    ``enforcePeriodicBox=False``. Under `agent` and `mutual` the sum of losses that OpenMM reports as potential energy
    is information, not a potential.

    Parameters
    ----------
    losses : AgentLosses
    topology : openmm.app.Topology
        Elements give the species; its box vectors decide whether the System is periodic.
    particles : sequence of int, optional
        Indices of the atoms that the losses act on, by default all. The others have the masses of their elements, and
        the losses do not act on them; the removal of the centre-of-mass motion does.
    baseline : openmm.System, or path of its XML, optional
        Of losses that were inferred beside a baseline, for other atoms than those of their data, as in a supercell: the
        System of the same force field for the atoms of the topology. By default the baseline in the model.
    backend, precision, platform : str, optional
        As for `select_backend`: by default ``fused`` in single precision. The platform is the fastest by default.
    removeCMMotion : bool
        Whether the motion of the centre of mass is removed at every step.

    Raises
    ------
    DualityError
        If a species is unknown, the back end cannot run, centre-of-mass motion is to stay under `agent` or `mutual`,
        which do not conserve momentum, the baseline is of other atoms or is missing, an index of a particle is repeated
        or that of no atom, or another atom has no element.
    """
    if not losses.has_potential and not removeCMMotion:
        raise DualityError(
            f"losses with the {losses.gradient} gradient do not conserve momentum, so their centre-of-mass motion must "
            "be removed"
        )
    species = species_of(topology)
    indices = check_particles(particles, n_atoms=len(species))
    if indices is not None:
        species = tuple(species[k] for k in indices)
    masses = losses.masses[losses.index_of(species)]
    box = topology.getPeriodicBoxVectors()
    if baseline is not None or losses.baseline is not None:
        cell = None if box is None else np.array(box.value_in_unit(unit.nanometer))
        system = _baseline_system(losses, species, masses, baseline, cell, indices is not None)
    else:
        system = mm.System()
        for mass in masses if indices is None else _with_others(masses, indices, topology):
            system.addParticle(float(mass))
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
    periodic = box is not None
    system.addForce(
        lower(
            losses,
            species,
            particles=particles,
            periodic=periodic,
            backend=backend,
            precision=precision,
            platform=platform,
        )
    )
    if removeCMMotion:
        system.addForce(mm.CMMotionRemover(1))
    return system


def minimize(simulation: app.Simulation, tolerance: Any = 10.0, maxIterations: int = 0) -> None:
    """Minimise the energy of a simulation with OpenMM's L-BFGS minimiser.

    Parameters
    ----------
    tolerance : openmm.unit.Quantity or float
        Root-mean-square force to reach, in kJ/mol/nm.
    maxIterations : int
        0 means until the tolerance is met.

    Raises
    ------
    DualityError
        Under `agent` and `mutual`.
    """
    require_potential(simulation.system, "the minimiser", DAMPED_DESCENT)
    force = unit.kilojoule_per_mole / unit.nanometer
    simulation.minimizeEnergy(bare(tolerance, force, "tolerance") * force, maxIterations)


def _baseline_system(
    losses: AgentLosses,
    species: Sequence[str],
    masses: FloatArray,
    given: Baseline | mm.System | str | Path | None,
    cell: FloatArray | None,
    only_some: bool,
) -> mm.System:
    """The System of a baseline, with the masses (dalton) of the agents."""
    beside = losses if given is None else with_baseline(losses, given)
    if only_some:
        raise DualityError(
            "these losses were inferred beside a baseline, which acts on all atoms; to let them act on some of the "
            "atoms of a System that holds the baseline for all, use add_to_system(…, replace=False)"
        )
    remedy = "; give the System of the same force field for these atoms as the baseline (in a command: --baseline)"
    system = baseline_of_atoms(beside, species, cell, remedy).system()
    for k, mass in enumerate(masses):
        system.setParticleMass(k, float(mass))
    return system


def _with_others(masses: FloatArray, particles: IntArray, topology: app.Topology) -> FloatArray:
    """Masses (dalton) of all atoms of a topology: those given for the particles, of their elements for the others."""
    every = np.full(topology.getNumAtoms(), np.nan)
    every[particles] = masses
    for k, atom in enumerate(topology.atoms()):
        if np.isnan(every[k]):
            if atom.element is None:
                raise DualityError(f"atom {k} ({atom.name}) has no element, so it has no mass; give it one")
            every[k] = atom.element.mass.value_in_unit(unit.dalton)
    return every


def _residue_name(names: Sequence[str]) -> str:
    """Three characters at most, as the PDB format has it: the formula in Hill's order, or the format's own name."""
    number = Counter(names)
    if len(names) == 1:
        return names[0]
    first = [symbol for symbol in ("C", "H") if "C" in number and symbol in number]
    order = first + sorted(set(number) - set(first))
    formula = "".join(f"{symbol}{number[symbol] if number[symbol] > 1 else ''}" for symbol in order)
    return _PDB_RESIDUE_NAMES.get(formula, formula[:3])


def _element(name: str) -> app.Element | None:
    try:
        element = app.Element.getBySymbol(name)
    except KeyError:
        return None
    return element if element.symbol == name else None  # OpenMM takes a label such as OS for osmium
