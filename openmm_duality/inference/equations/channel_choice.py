"""What was chosen from the data for a form with channels, as plain values and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from openmm_duality.inference.equations.design import Design
from openmm_duality.units import MEV_PER_ANGSTROM

_ORDERS = (2, 3, 4)


@dataclass(frozen=True)
class ChannelChoice:
    """Numbers of functions, channels and invariants of a form with channels.

    Parameters
    ----------
    functions, pair_functions : int
        Radial functions of the channels, for each neighbour species, and of the pair part, for each pair of species.
    cutoff, pair_cutoff : float
        Distances in nm from which on these functions are zero.
    channels : mapping of str to mapping of int to int
        Number of channels by agent species and rank.
    invariants : mapping of str to mapping of int to int
        Number of invariants by agent species and order.
    mixing_errors : list of float
        Error of forces in kJ/mol/nm before and after every step in which the mixing was learned; empty if it was not.
    """

    functions: int
    pair_functions: int
    cutoff: float
    pair_cutoff: float
    channels: Mapping[str, Mapping[int, int]]
    invariants: Mapping[str, Mapping[int, int]]
    mixing_errors: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, design: Design, species: Sequence[str], mixing_errors: list[float]) -> ChannelChoice:
        """Describe a design with channels for the species in the order of their indices."""
        chosen = dict(zip(species, design.channels, strict=True))
        return cls(
            design.basis.size,
            design.pair_basis.size,
            design.basis.reach,
            design.pair_basis.reach,
            {name: {rank: len(w) for rank, w in mine.mixing.items()} for name, mine in chosen.items()},
            {name: {n: int((mine.orders == n).sum()) for n in _ORDERS} for name, mine in chosen.items()},
            mixing_errors,
        )

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON; ranks and orders become text there."""
        content = asdict(self)
        for name in ("channels", "invariants"):
            content[name] = {s: {str(n): count for n, count in row.items()} for s, row in content[name].items()}
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ChannelChoice:
        """Read back what `to_dict` wrote."""
        counts = {
            name: {s: {int(n): count for n, count in row.items()} for s, row in content[name].items()}
            for name in ("channels", "invariants")
        }
        return cls(**{**content, **counts})

    def __str__(self) -> str:
        alike: dict[str, list[str]] = {}
        for species, channels in self.channels.items():
            invariants = self.invariants[species]
            text = (
                f"{_sum(channels)} channels of rank {_list(channels)} and {_sum(invariants)} invariants of order "
                f"{_list(invariants)}"
            )
            alike.setdefault(text, []).append(species)
        chosen = "; ".join(f"{', '.join(names)}: {text}" for text, names in alike.items())
        return (
            f"Channels: {self.functions} radial functions of each neighbour species within {10.0 * self.cutoff:.2f} Å; "
            f"{chosen}. Pair part: {self.pair_functions} functions within {10.0 * self.pair_cutoff:.2f} Å."
            f"{self._mixing}"
        )

    @property
    def _mixing(self) -> str:
        if not self.mixing_errors:
            return ""
        if len(self.mixing_errors) == 1:
            return " Mixing not changed: the typical held-out frame gains nothing by it."
        errors = " → ".join(f"{error / MEV_PER_ANGSTROM:.1f}" for error in self.mixing_errors)
        steps = len(self.mixing_errors) - 1
        learned = f"learned in {steps} step{'s' if steps > 1 else ''}"
        return f" Mixing {learned}: error of the fit, in which large forces count less, {errors} meV/Å."


def _sum(counts: Mapping[int, int]) -> str:
    return " + ".join(str(count) for count in counts.values())


def _list(counts: Mapping[int, int]) -> str:
    return ", ".join(map(str, counts))
