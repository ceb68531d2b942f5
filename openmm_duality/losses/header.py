"""The header of a model file, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.geometry.bonding import Coordination
from openmm_duality.schema import bounded, integer, key, mapping_of, optional, species_name, text, tuple_of, unread


def _species(value: Any, name: str) -> tuple[str, ...]:
    found: tuple[str, ...] = tuple_of(species_name)(value, name)
    if list(found) != sorted(set(found)):
        raise DualityError(f"{name}: expected different names in alphabetical order, got {', '.join(found)}")
    return found


def _bond_lengths(value: Any, name: str) -> dict[tuple[str, str], float]:
    pairs = {}
    for entry in tuple_of(tuple_of(unread, 3), empty=True)(value, name):
        a, b = (species_name(item, name) for item in entry[:2])
        pairs[a, b] = bounded(unit.nanometer, "bond length")(entry[2], f"{name} of {a} and {b}")
    return pairs


def _coordinations(value: Any, name: str) -> frozenset[Coordination]:
    numbers = mapping_of(integer(1), "numbers of neighbours by species")
    found = set()
    for entry in tuple_of(tuple_of(unread, 2), empty=True)(value, name):
        found.add((species_name(entry[0], name), tuple(sorted(numbers(entry[1], name).items()))))
    return frozenset(found)


def _mapping(value: Any, name: str) -> dict[str, Any]:
    return dict(mapping_of(unread, "names and values")(value, name))


_RANKS = optional(tuple_of(integer(), empty=True))


@dataclass(frozen=True)
class Header:
    """What the header of a model file says (see `AgentLosses`)."""

    species: tuple[str, ...] = field(metadata=key(_species))
    form: str = field(metadata=key(text))
    gradient: str = field(metadata=key(text))
    cutoff: float = field(metadata=key(bounded(unit.nanometer, "cutoff")))
    bond_lengths: Mapping[tuple[str, str], float] = field(metadata=key(_bond_lengths))
    coordinations: frozenset[Coordination] = field(metadata=key(_coordinations))
    metadata: Mapping[str, Any] = field(metadata=key(_mapping))
    ranks: tuple[int, ...] | None = field(metadata=key(_RANKS), default=None)
    coupled_ranks: tuple[int, ...] | None = field(metadata=key(_RANKS), default=None)
    baseline: str | None = field(metadata=key(optional(text)), default=None)

    def __post_init__(self) -> None:
        known = set(self.species)
        foreign = sorted({name for pair in self.bond_lengths for name in pair} - known)
        if foreign:
            raise DualityError(f"bond_lengths: {foreign[0]} is none of the species {', '.join(self.species)}")
