"""Forces of a System identified by hashes, so that a run is never resumed with other losses or other forces.

The force of the losses has their hash in its name: the name stays with the force in the System, whereas the bytes of
a compiled module cannot be compared, because TorchScript serialises the same module differently from time to time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import openmm as mm

from openmm_duality.losses.forms import require_potential_energy
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.fused.checks import hash_of_atoms
from openmm_duality.units import masses_of

_NAME = "learning dynamics, {} gradient, {} precision, {}, losses {}, atoms {}"
_NO_STRESSES = ", inferred without stresses"
_PATTERN = re.compile(
    _NAME.format(r"(\w+)", r"(\w+)", r"([\w-]+)", "([0-9a-f]{64})", "([0-9a-f]{64})") + f"(?:{_NO_STRESSES})?"
)


def tag_force(
    force: mm.Force,
    losses: AgentLosses,
    species: Sequence[str],
    particles: Sequence[int] | None,
    backend: str,
    precision: str,
) -> None:
    """Name a force after the losses that act through it, and the atoms they act on.

    Parameters
    ----------
    force : openmm.Force
    losses : AgentLosses
    species : sequence of str, length N
        The species of these atoms.
    particles : sequence of int, length N, or None
        Their indices; None for all.
    backend, precision : str
        As `select_backend` gives them.
    """
    suffix = "" if losses.knows_stresses else _NO_STRESSES
    name = _NAME.format(losses.gradient, precision, backend, losses.sha256(), hash_of_atoms(species, particles))
    force.setName(name + suffix)


def identify_forces(system: mm.System) -> dict[str, Any]:
    """The forces of a System, as entries of the record of a run.

    Parameters
    ----------
    system : openmm.System

    Returns
    -------
    dict
        ``losses`` with the ``sha256`` of the losses (`AgentLosses.sha256`), ``loss_atoms`` with that of the indices and
        species of the atoms they act on, ``loss_gradient``, ``loss_precision`` and ``loss_backend``, all None in a
        System without such a force; ``other_forces`` with the ``sha256`` of the masses and
        of the XML of every other force, and ``forces_not_hashed``, the names of those without an XML that could be
        compared (a `TorchForce` that was made elsewhere, a `PythonForce` of a function that cannot be pickled).
    """
    digest = hashlib.sha256(masses_of(system).astype("<f8").tobytes())
    learned, unknown = [], []
    for force in system.getForces():
        found = _PATTERN.fullmatch(force.getName())
        if found is not None:
            learned.append(found.groups())
        elif (text := _xml(force)) is not None:
            digest.update(text.encode())
        else:
            unknown.append(force.getName())
    gradients, precisions, backends, hashes, atoms = (
        ", ".join(column) or None for column in (zip(*learned, strict=True) if learned else [()] * 5)
    )
    return {
        "losses": {"sha256": hashes},
        "loss_atoms": {"sha256": atoms},
        "loss_gradient": gradients,
        "loss_precision": precisions,
        "loss_backend": backends,
        "other_forces": {"sha256": digest.hexdigest()},
        "forces_not_hashed": unknown,
    }


def fused_identities(system: mm.System) -> list[tuple[str, ...]]:
    """Precision, and the hashes of losses and atoms, of every force of a System that goes through the fused kernel."""
    found = [_PATTERN.fullmatch(force.getName()) for force in system.getForces()]
    return [one.group(2, 4, 5) for one in found if one is not None and one[3].startswith("fused")]


def fitted_without_stresses(system: mm.System) -> bool:
    """Whether a System holds losses that were inferred from forces and energies alone."""
    return any(force.getName().endswith(_NO_STRESSES) for force in system.getForces())


def require_potential(system: mm.System, what: str, remedy: str = "") -> None:
    """Refuse something that needs a potential energy in a System of losses that have none.

    Parameters
    ----------
    system : openmm.System
    what, remedy : str
        As for `require_potential_energy`.

    Raises
    ------
    DualityError
        If the System holds losses that agents descend alone.
    """
    gradients = identify_forces(system)["loss_gradient"]
    for gradient in gradients.split(", ") if gradients else ():
        require_potential_energy(gradient, what, remedy)


def _xml(force: mm.Force) -> str | None:
    if type(force) is mm.Force:  # a plug-in's: TorchForce writes its module anew, and differently, every time
        return None
    try:
        return str(mm.XmlSerializer.serialize(force))
    except Exception:  # SWIG and pickle raise what they like; the caller records that there is none
        return None
