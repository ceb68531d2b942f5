"""Configurations, strictly: a mapping of YAML becomes a frozen dataclass, and an unknown key is an error."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.units import bare

Converter = Callable[[Any, str], Any]
T = TypeVar("T")


def key(read: Converter) -> dict[str, Converter]:
    """The metadata of a dataclass field that a configuration may give; `read` takes the value and its name."""
    return {"read": read}


def build(cls: type[T], content: Any, what: str) -> T:
    """An instance of a dataclass whose fields have the metadata `key`.

    Parameters
    ----------
    cls : type
        The dataclass.
    content : mapping
        From key to value, as YAML has it.
    what : str
        What is being read, for error messages.

    Raises
    ------
    DualityError
        If it is no mapping, a key is unknown or missing, or a value cannot be read.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    known = ", ".join(fields)
    if not isinstance(content, Mapping):
        raise DualityError(f"{what}: expected keys and values (of {known}), got {content!r}")
    unknown = [str(k) for k in content if k not in fields]
    if unknown:
        raise DualityError(f"{what}: unknown key {', '.join(unknown)}; the keys are {known}")
    nothing = dataclasses.MISSING
    missing = [n for n, f in fields.items() if f.default is nothing and f.default_factory is nothing]
    missing = [name for name in missing if name not in content]
    if missing:
        raise DualityError(f"{what}: {', '.join(missing)} must be given; the keys are {known}")
    values = {str(k): fields[k].metadata["read"](value, f"{what}: {k}") for k, value in content.items()}
    return cls(**values)


def whole(least: int = 0) -> Converter:
    """A whole number of at least `least`."""

    def read(value: Any, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise DualityError(f"{name}: expected a whole number of at least {least}, got {value!r}")
        return value

    return read


def quantity(dimension: unit.Unit = unit.dimensionless, *, positive: bool = True) -> Converter:
    """A number in MD units, or a quantity written out; positive unless said otherwise, and always finite."""

    def read(value: Any, name: str) -> float:
        if isinstance(value, bool):
            raise DualityError(f"{name}: expected a number, got {value!r}")
        number = bare(value, dimension, name)
        if not abs(number) < float("inf") or (positive and number <= 0.0):
            raise DualityError(f"{name}: expected a {'positive ' * positive}finite number, got {value!r}")
        return number

    return read


def flag(value: Any, name: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise DualityError(f"{name}: expected true or false, got {value!r}")
    return value


def word(value: Any, name: str) -> str:
    """A name."""
    if not isinstance(value, str) or not value:
        raise DualityError(f"{name}: expected a name, got {value!r}")
    return value


def one_of(*names: str) -> Converter:
    """One of a few names."""

    def read(value: Any, name: str) -> str:
        if value not in names:
            raise DualityError(f"{name}: expected {' or '.join(names)}, got {value!r}")
        return str(value)

    return read


def several(read: Converter, number: int | None = None) -> Converter:
    """A list of values that are read alike, of a given length if there is one."""

    def read_all(value: Any, name: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or not value or (number is not None and len(value) != number):
            raise DualityError(f"{name}: expected a list{f' of {number}' if number else ''}, got {value!r}")
        return tuple(read(item, name) for item in value)

    return read_all


def span(dimension: unit.Unit = unit.dimensionless) -> Converter:
    """Two positive numbers, the smaller first."""
    both = several(quantity(dimension), 2)

    def read(value: Any, name: str) -> tuple[float, float]:
        low, high = both(value, name)
        if low > high:
            raise DualityError(f"{name}: expected the smaller number first, got {value!r}")
        return low, high

    return read


def nested(cls: type[T]) -> Converter:
    """A mapping that becomes a dataclass of its own."""
    return lambda value, name: build(cls, value, name)
