"""The one strict schema: a mapping (YAML, keyword arguments) becomes a frozen dataclass; unknown keys are errors.

A field takes part when its metadata is a `key`, whose reader checks and converts the value. A reader is called with
the value and its name (for messages) and raises `DualityError`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.units import bare

Reader = Callable[[Any, str], Any]
T = TypeVar("T")


def key(read: Reader) -> dict[str, Reader]:
    """The metadata of a dataclass field that a configuration may give."""
    return {"read": read}


def build(cls: type[T], content: Any, what: str = "", *, noun: str = "key") -> T:
    """An instance of a dataclass, from a mapping of YAML or from keyword arguments.

    Parameters
    ----------
    cls : type
        The dataclass; its fields that have the metadata `key` are the keys.
    content : mapping
        From key to value, as YAML has it.
    what : str
        What is being read, for error messages.
    noun : str
        What a key is called in error messages.

    Raises
    ------
    DualityError
        If it is no mapping, a key is unknown or missing, or a value cannot be read.
    """
    fields = _fields(cls)
    known, prefix = ", ".join(fields), f"{what}: " if what else ""
    if not isinstance(content, Mapping):
        raise DualityError(f"{prefix}expected {noun}s and values (of {known}), got {content!r}")
    unknown = [str(k) for k in content if k not in fields]
    if unknown:
        raise DualityError(f"{prefix}unknown {noun} {', '.join(unknown)}; the {noun}s are {known}")
    absent = dataclasses.MISSING
    required = [n for n, f in fields.items() if f.default is absent and f.default_factory is absent]
    missing = [name for name in required if name not in content]
    if missing:
        raise DualityError(f"{prefix}{', '.join(missing)} must be given; the {noun}s are {known}")
    return cls(**{str(k): fields[k].metadata["read"](value, f"{prefix}{k}") for k, value in content.items()})


def convert_keys(instance: Any) -> None:
    """Convert and check the keys of an instance as `build` does, whichever way it was made; for `__post_init__`.

    Raises
    ------
    DualityError
        If a value cannot be read.
    """
    for name, f in _fields(type(instance)).items():
        object.__setattr__(instance, name, f.metadata["read"](getattr(instance, name), name))


def to_plain(value: Any) -> Any:
    """The plain values of an instance, for YAML and JSON; `build` reads them back.

    Dataclasses become mappings of their keys, tuples become lists, paths become text, NumPy numbers become Python's.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: to_plain(getattr(value, name)) for name in _fields(type(value))}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, Path) else value


def load_yaml(path: str | Path) -> Any:
    """The content of a YAML file.

    Raises
    ------
    DualityError
        In one line, with the place, if the file cannot be read or is no YAML.
    """
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        said = " ".join(str(error).split())
        if mark is not None and problem is not None:
            said = f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
        raise DualityError(f"{path}: cannot be read as YAML ({said})") from None


def integer(least: int | None = None) -> Reader:
    """A whole number, of at least `least` if that is given."""
    bound = "" if least is None else f" of at least {least}"

    def read(value: Any, name: str) -> int:
        wrong = isinstance(value, bool) or not isinstance(value, int | np.integer)
        if wrong or (least is not None and value < least):
            raise DualityError(f"{name}: expected a whole number{bound}, got {value!r}")
        return int(value)

    return read


def quantity(dimension: unit.Unit = unit.dimensionless, *, positive: bool = True, zero: bool = False) -> Reader:
    """A number in MD units, or a quantity written out; always finite.

    Parameters
    ----------
    dimension : openmm.unit.Unit
    positive : bool
        Whether only positive numbers are allowed.
    zero : bool
        Whether zero is allowed beside them.
    """
    expected = "finite number"
    if positive:
        expected = "finite number that is not negative" if zero else "positive finite number"

    def read(value: Any, name: str) -> float:
        if isinstance(value, bool):
            raise DualityError(f"{name}: expected a number, got {value!r}")
        number = bare(value, dimension, name)
        too_low = positive and (number < 0.0 if zero else number <= 0.0)
        if too_low or not abs(number) < float("inf"):
            raise DualityError(f"{name}: expected a {expected}, got {value!r}")
        return number

    return read


def boolean(value: Any, name: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise DualityError(f"{name}: expected true or false, got {value!r}")
    return value


def text(value: Any, name: str) -> str:
    """A name or a path; not empty."""
    if not isinstance(value, str) or not value:
        raise DualityError(f"{name}: expected a name, got {value!r}")
    return value


def one_of(*names: str) -> Reader:
    """One of a few names."""

    def read(value: Any, name: str) -> str:
        if value not in names:
            raise DualityError(f"{name}: expected {' or '.join(names)}, got {value!r}")
        return str(value)

    return read


def optional(read: Reader) -> Reader:
    """A value that may also be None."""
    return lambda value, name: None if value is None else read(value, name)


def tuple_of(read: Reader, length: int | None = None, *, single: bool = False, empty: bool = False) -> Reader:
    """A list of values that are read alike.

    Parameters
    ----------
    read : callable
        The reader of every value.
    length : int, optional
        How many there must be.
    single : bool
        Whether one value may stand without brackets.
    empty : bool
        Whether the list may be empty.
    """

    def read_all(value: Any, name: str) -> tuple[Any, ...]:
        items = [value] if single and not isinstance(value, list | tuple) else value
        if not isinstance(items, list | tuple) or not (items or empty) or length not in (None, len(items)):
            raise DualityError(f"{name}: expected a list{f' of {length}' if length else ''}, got {value!r}")
        return tuple(read(item, name) for item in items)

    return read_all


def interval(dimension: unit.Unit = unit.dimensionless) -> Reader:
    """Two positive numbers, the smaller first."""
    both = tuple_of(quantity(dimension), 2)

    def read(value: Any, name: str) -> tuple[float, float]:
        low, high = both(value, name)
        if low > high:
            raise DualityError(f"{name}: expected the smaller number first, got {value!r}")
        return low, high

    return read


def mapping_of(read: Reader, expected: str) -> Reader:
    """A mapping from names to values that are read alike; `expected` describes it in messages."""

    def read_all(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise DualityError(f"{name}: expected {expected}, got {value!r}")
        return {text(k, name): read(item, f"{name} of {k}") for k, item in value.items()}

    return read_all


def nested(cls: type[T]) -> Reader:
    """A mapping that becomes a dataclass of its own."""
    return lambda value, name: build(cls, value, name)


def _fields(cls: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    return {f.name: f for f in dataclasses.fields(cls) if "read" in f.metadata}
