"""State points of dynamics: the ensemble, and what its heat bath and its barostat are set to."""

from __future__ import annotations

from dataclasses import dataclass, field

from openmm import unit

from openmm_duality.schema import boolean, bounded, key, one_of, optional

ENSEMBLES = ("NVE", "NVT", "NPT", "NPH")


@dataclass(frozen=True)
class StatePoint:
    """The state point that dynamics are set to.

    Parameters
    ----------
    ensemble : str
        One of `ENSEMBLES`.
    temperature : float or None
        Of the heat bath in K; None without one, as in NVE.
    pressure : float or None
        Of the barostat in bar; None without one, or where it is not known.
    massive : bool
        Whether every degree of freedom has a heat bath of its own, which changes its motion.
    """

    ensemble: str = field(metadata=key(one_of(*ENSEMBLES)))
    temperature: float | None = field(metadata=key(optional(bounded(unit.kelvin, "temperature"))), default=None)
    pressure: float | None = field(metadata=key(optional(bounded(unit.bar, "pressure"))), default=None)
    massive: bool = field(metadata=key(boolean), default=False)
