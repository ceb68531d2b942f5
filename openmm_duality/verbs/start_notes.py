"""Notes on the start of a run, empty where there is nothing to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from openmm_duality.geometry.cells import widths
from openmm_duality.reference.frames import formula
from openmm_duality.units import ANGSTROM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openmm_duality.dynamics.structures import Start
    from openmm_duality.losses import AgentLosses

_WIDER = 1.2  # times the training cells, which may be narrower than two cutoffs


def narrow_cells(losses: AgentLosses, start: Start) -> str:
    """Note that a cell is wider than those of the training data, where these are narrower than two cutoffs."""
    found = [entry.get("widest_cell") for entry in losses.metadata.get("data", ())]
    known = max((width for width in found if width is not None), default=0.0)
    here = 0.0 if start.cell is None else float(widths(start.cell).min())
    if not 0.0 < known < 2.0 * losses.cutoff or here < _WIDER * known or losses.baseline is not None:
        return ""
    return (
        f"Note: the training cells are at most {known / ANGSTROM:.3g} Å wide, less than two cutoffs, and this one is "
        f"{here / ANGSTROM:.3g} Å. What atoms do further apart than half of the former, as ions do, neither the data "
        "nor the predicted errors show: compare the forces in this cell with the reference (compare --recompute), "
        "train on wider cells, or take charges out of the data (infer --baseline)."
    )


def vacuum(losses: AgentLosses, start: Start) -> str:
    """Note that a cell is empty across more than a cutoff, so that a barostat for all its axes closes it."""
    if start.cell is None:
        return ""
    edges = np.sort(start.positions @ np.linalg.inv(start.cell) % 1.0, axis=0)
    gaps = np.diff(edges, axis=0, append=edges[:1] + 1.0).max(axis=0) * widths(start.cell)
    empty = [
        f"{gap / ANGSTROM:.3g} Å along {axis}" for gap, axis in zip(gaps, "abc", strict=True) if gap > losses.cutoff
    ]
    if not empty:
        return ""
    return f"Note: the cell is empty over {', '.join(empty)}, which a barostat closes; let --axes change alone, as xy."


def new_cluster(losses: AgentLosses, start: Start) -> str:
    """Note that no frame without a cell has the composition of a start without one, if all compositions are known."""
    known = [entry.get("clusters") for entry in losses.metadata.get("data", ())]
    if start.cell is not None or not known or None in known or any(formula(start.species) in one for one in known):
        return ""
    return (
        f"Note: no frame of the data is an isolated {formula(start.species)}. Of what the data do not hold the model "
        "knows less than its predicted errors say: compare forces of the run with the reference (compare --recompute)."
    )


def held_atoms(start: Start, fixed: Sequence[int]) -> str:
    """Note that the file of a start holds atoms that move in the run, and how they are fixed."""
    free, every = set(start.held) - set(fixed), sorted({*start.held, *fixed})
    if not free:
        return ""
    breaks = [k for k in range(1, len(every)) if every[k] > every[k - 1] + 1]
    ends = zip([0, *breaks], [*breaks, len(every)], strict=True)
    ranges = [(every[first], every[last - 1]) for first, last in ends]
    numbers = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)
    atoms, move = ("an atom", "moves") if len(free) == 1 else (f"{len(free)} atoms", "move")
    return f"Note: {atoms} that the file of the start holds fixed {move} here; --fixed {numbers} holds all."
