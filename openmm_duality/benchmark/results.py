"""Results of a benchmark: rows and ratios, and their JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from openmm_duality.benchmark.cases import FLEXIBLE_PME

_DAY = 86_400.0  # s


@dataclass(frozen=True)
class Row:
    """The cost of a step of one case at one size, or the reason why it is missing.

    Parameters
    ----------
    what : str
        ``duality:<form>``, ``tip3p-flexible-pme``, ``tip3p-flexible-rf``, ``tip3p-rigid-pme``, ``cp2k-nnp`` or
        ``cp2k-dft``.
    platform, backend : str
        Of OpenMM and of the losses; both ``cp2k`` for CP2K.
    molecules, atoms : int
    model : str
        Name of the model file, if there is one.
    blocks : tuple of float
        ms per step of every repeat; the n-th repeats of all rows of a size ran one after the other.
    steps_per_repeat : int
    facts : mapping
        More entries of the JSON: ``timestep`` (ps), ``cutoff`` (nm), ``precision``, ``threads`` …
    relative : float or None
        Cost in units of flexible TIP3P with PME at the same size: the median over the repeats of the ratio.
    memory : float or None
        Largest resident memory of the process, in MiB.
    error : str
        Why there are no times; empty if there are.
    """

    what: str
    platform: str
    backend: str
    molecules: int
    atoms: int
    model: str = ""
    blocks: tuple[float, ...] = ()
    steps_per_repeat: int = 0
    facts: dict[str, Any] | None = None
    relative: float | None = None
    memory: float | None = None
    error: str = ""

    @property
    def name(self) -> str:
        """The name shown in tables: models with their back end."""
        return f"{self.what} ({self.backend})" if self.what.startswith("duality:") else self.what

    @property
    def ms_per_step(self) -> float | None:
        """Median of the repeats."""
        return float(np.median(self.blocks)) if self.blocks else None

    @property
    def quartiles(self) -> tuple[float, float] | None:
        """Quartiles of the repeats, in ms per step."""
        if not self.blocks:
            return None
        low, high = np.quantile(self.blocks, (0.25, 0.75))
        return float(low), float(high)

    @property
    def microseconds_per_atom(self) -> float | None:
        """Cost of a step per atom."""
        return None if self.ms_per_step is None else 1e3 * self.ms_per_step / self.atoms

    @property
    def ns_per_day(self) -> float | None:
        """Simulated time per day, at the time step of the row."""
        timestep = (self.facts or {}).get("timestep")
        if self.ms_per_step is None or timestep is None:
            return None
        return float(1e-3 * timestep * _DAY / (1e-3 * self.ms_per_step))

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        content = asdict(self)
        blocks, facts = content.pop("blocks"), content.pop("facts") or {}
        relative, memory = content.pop("relative"), content.pop("memory")
        return {
            **content,
            "ms_per_step": self.ms_per_step,
            "repeats": len(blocks),
            "quartiles": self.quartiles,
            "microseconds_per_atom": self.microseconds_per_atom,
            "ns_per_day": self.ns_per_day,
            "relative_to_tip3p_flexible_pme": relative,
            "memory_mib": memory,
            "ms_per_step_of_repeats": list(blocks),
            **facts,
        }


@dataclass(frozen=True)
class Costs:
    """All rows of a benchmark, and the machine they were measured on.

    Parameters
    ----------
    machine : dict
        See `describe_machine`.
    rows : tuple of Row
    """

    machine: dict[str, Any]
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return {"machine": self.machine, "rows": [row.to_dict() for row in self.rows]}


def with_ratios(rows: list[Row]) -> list[Row]:
    """The rows of one size with their cost in units of flexible TIP3P with PME, where that was timed.

    The rows of each platform are compared with TIP3P on that platform, those of CP2K with TIP3P on the CPU platform.
    """
    units = {row.platform: row for row in rows if row.what == FLEXIBLE_PME and row.blocks}
    found = []
    for row in rows:
        unit = units.get("CPU" if row.backend == "cp2k" else row.platform)
        found.append(row if unit is None or not row.blocks else replace(row, relative=_ratio(row, unit)))
    return found


def _ratio(row: Row, unit: Row) -> float:
    if row.backend == "cp2k":  # it ran before the others, not among them
        return float(np.median(row.blocks) / np.median(unit.blocks))
    common = min(len(row.blocks), len(unit.blocks))
    return float(np.median(np.divide(row.blocks[:common], unit.blocks[:common])))
