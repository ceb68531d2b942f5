"""What the neighbour lists of fused losses in a System were made for, so that a resumed run adds up as it did before.

A list holds until an atom has moved by half its skin. Atoms lie in memory in the order of the cells in which they were
when it was made, and rounding in sums depends on that order. With the list of the run, made anew for the positions that
it was made for, a resumed run is bitwise the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import openmm as mm

from openmm_duality.errors import DualityError
from openmm_duality.lowering.force_identity import fused_identities

if TYPE_CHECKING:
    from openmm_duality.lowering.fused.losses import FusedLosses


def _evaluators_of(system: mm.System) -> list[FusedLosses]:
    """Those of the forces of a System that have been evaluated in this process, in their order."""
    identities = fused_identities(system)
    if not identities:
        return []
    from openmm_duality.lowering.fused.losses import evaluators

    return [evaluators[identity] for identity in identities if identity in evaluators]


def save_lists(system: mm.System) -> bytes:
    """What the lists of all fused losses of a System were made for; empty where there are none."""
    return b"".join(evaluator.origin().astype("<f8").tobytes() for evaluator in _evaluators_of(system))


def restore_lists(system: mm.System, saved: bytes, where: str) -> None:
    """Make the lists anew that `save_lists` saved; the forces of the System must have been evaluated before.

    Raises
    ------
    DualityError
        Beginning with `where`, if they are not of these atoms.
    """
    evaluators = _evaluators_of(system)
    rows = [3 + len(evaluator.species_index) for evaluator in evaluators]
    if len(saved) != 24 * sum(rows):
        raise DualityError(f"{where} holds neighbour lists of other atoms; start the run in a new folder")
    origins = np.split(np.frombuffer(saved, dtype="<f8").reshape(-1, 3), np.cumsum(rows)[:-1])
    for evaluator, origin in zip(evaluators, origins, strict=True):
        evaluator.remake_list(origin)
