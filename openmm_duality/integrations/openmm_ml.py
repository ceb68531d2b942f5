"""The potential ``duality`` of openmm-ml, which loads this module at its import; so nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import openmm as mm
from openmm import app
from openmmml.mlpotential import MLPotentialImpl, MLPotentialImplFactory

from openmm_duality.errors import DualityError

_OPTIONS = ("backend", "precision", "platform")
_OF_EMBEDDINGS = ("mlLongRange", "linkAtomDistances")  # which openmm-ml hands on to the potential


class DualityPotentialImplFactory(MLPotentialImplFactory):  # type: ignore[misc]
    """Makes the implementation of ``MLPotential("duality", model="water.safetensors")``."""

    def createImpl(self, name: str, model: Any = None, **args: Any) -> MLPotentialImpl:
        """The implementation of agent losses.

        Parameters
        ----------
        name : str
        model : path or AgentLosses
            The model file, or the losses themselves.

        Raises
        ------
        DualityError
            If no model is given, or the file is none.
        """
        from openmm_duality.losses.model import AgentLosses

        if model is None or args:
            raise DualityError(
                f"MLPotential({name!r}) takes one argument, model='FILE.safetensors'"
                + (f", and got {', '.join(args)}" if args else "")
            )
        return DualityPotentialImpl(AgentLosses.load(model) if isinstance(model, str | Path) else model)


class DualityPotentialImpl(MLPotentialImpl):  # type: ignore[misc]
    """Agent losses as a potential of openmm-ml.

    Parameters
    ----------
    losses : AgentLosses
        Under `collective`, so that there is a potential.

    Raises
    ------
    DualityError
        If the losses have no potential, or have a baseline.
    """

    def __init__(self, losses: Any) -> None:
        if not losses.has_potential:
            raise DualityError(
                f"openmm-ml needs a potential energy, which losses with the {losses.gradient} gradient do not have; "
                "infer with gradient='collective', or use openmm_duality.create_system"
            )
        if losses.baseline is not None:
            raise DualityError(
                "openmm-ml adds forces one by one, and this model has a baseline that acts beside its losses; use "
                "openmm_duality.create_system"
            )
        self.losses = losses

    def addForces(
        self, topology: app.Topology, system: mm.System, atoms: Iterable[int] | None, forceGroup: int, **args: Any
    ) -> None:
        """Add the force of the losses to a System; options are those of `openmm_duality.create_system`.

        Raises
        ------
        DualityError
            If an option or a species is unknown, or the back end cannot run.
        """
        from openmm_duality.dynamics.systems import species_of
        from openmm_duality.lowering.backends import lower

        unknown = sorted(set(args) - {*_OPTIONS, *_OF_EMBEDDINGS})
        if unknown:
            raise DualityError(f"unknown option {', '.join(unknown)}; the options are {', '.join(_OPTIONS)}")
        species = species_of(topology)
        chosen = None if atoms is None else list(atoms)
        force = lower(
            self.losses,
            species if chosen is None else [species[k] for k in chosen],
            particles=chosen,
            periodic=topology.getPeriodicBoxVectors() is not None or bool(system.usesPeriodicBoundaryConditions()),
            **{name: args[name] for name in _OPTIONS if name in args},
        )
        force.setForceGroup(forceGroup)
        system.addForce(force)

    def getMLLongRange(self) -> bool:
        """Losses act within their cutoff alone."""
        return False
