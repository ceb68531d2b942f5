"""Strict reading of mappings (YAML, keyword arguments) into frozen dataclasses; unknown keys are errors.

A dataclass field is read if its metadata is a `key`, whose reader checks and converts the value. A reader is called
with the value and its name (for messages) and raises `DualityError`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from openmm import unit

from openmm_duality.bounds import require_bounds
from openmm_duality.errors import DualityError
from openmm_duality.units import bare

Reader = Callable[[Any, str], Any]
T = TypeVar("T")
_LARGEST_YAML, _MOST_NODES = 10_000_000, 100_000
_SPECIES_NAME = re.compile(r"\w[\w+\-.*']{0,31}")


def key(read: Reader) -> dict[str, Reader]:
    """Metadata of a dataclass field that a configuration can set, with the reader of its value."""
    return {"read": read}


def build(cls: type[T], content: Any, what: str = "", *, noun: str = "key") -> T:
    """Build an instance of a dataclass from a YAML mapping or keyword arguments.

    Parameters
    ----------
    cls : type
        The dataclass; its fields with the metadata `key` are the keys.
    content : mapping
        Values by key, as read from YAML.
    what : str
        What is being read, for error messages.
    noun : str
        The word for a key in error messages.

    Raises
    ------
    DualityError
        If `content` is no mapping, a key is unknown or missing, or a value cannot be read.
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
    """Convert and check the fields of an instance as `build` does; for use in `__post_init__`.

    Raises
    ------
    DualityError
        If a value cannot be read.
    """
    for name, f in _fields(type(instance)).items():
        object.__setattr__(instance, name, f.metadata["read"](getattr(instance, name), name))


def to_plain(value: Any) -> Any:
    """Convert an instance to plain values for YAML and JSON, which `build` reads back.

    Dataclasses become mappings of their keys, tuples become lists, paths become strings, NumPy numbers Python numbers.
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
        If the file cannot be read or is not YAML; a message of one line, with line and column.
    """
    try:
        if Path(path).stat().st_size > _LARGEST_YAML:
            raise DualityError(f"{path}: larger than {_LARGEST_YAML} bytes; this is no configuration")
        loader = yaml.SafeLoader(Path(path).read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return None
        if _expanded(node, {}) > _MOST_NODES:
            raise DualityError(f"{path}: its aliases stand for more than {_MOST_NODES:,} values; write them out")
        return loader.construct_document(node)
    except RecursionError:
        raise DualityError(f"{path}: lists in lists, or aliases of themselves, without end") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        said = " ".join(str(error).split())
        if mark is not None and problem is not None:
            said = f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
        raise DualityError(f"{path}: cannot be read as YAML ({said})") from None


def _expanded(node: Any, known: dict[int, int]) -> int:
    """Number of values that a node stands for, with its aliases written out."""
    if id(node) not in known:
        members = node.value if isinstance(node.value, list) else []
        flat = [n for member in members for n in (member if isinstance(member, tuple) else (member,))]
        known[id(node)] = 1 + sum(_expanded(n, known) for n in flat)
    return known[id(node)]


def read_json(content: str | bytes, what: str) -> dict[str, Any]:
    """The object that a JSON text holds.

    Raises
    ------
    DualityError
        Beginning with `what`, if it is no JSON or no object.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DualityError(f"{what}: not whole JSON ({error})") from None
    if not isinstance(found, dict):
        raise DualityError(f"{what}: expected a JSON object, got {type(found).__name__}")
    return found


def read_record(path: Path, *layouts: Mapping[str, Reader]) -> dict[str, Any]:
    """A record that this package wrote, read back: a JSON object with the keys of one of the layouts, and no others.

    Raises
    ------
    DualityError
        With the file, if it has other keys, or a value that their readers refuse.
    """
    try:
        content = read_json(path.read_bytes(), "the file")
        readers = next((layout for layout in layouts if layout.keys() == content.keys()), None)
        if readers is None:
            expected = " or ".join(", ".join(layout) for layout in layouts)
            raise DualityError(f"expected the keys {expected}, got {', '.join(map(str, content)) or 'none'}")
        return {name: read(content[name], name) for name, read in readers.items()}
    except DualityError as error:
        raise DualityError(
            f"{path} is damaged ({error}); restore it from a copy, or remove its folder to do again what is in it"
        ) from None


def integer(minimum: int | None = None, maximum: int = 10**9) -> Reader:
    """Reader of a whole number, not below `minimum` if that is given and not above `maximum`."""
    bound = "" if minimum is None else f" of at least {minimum}"

    def read(value: Any, name: str) -> int:
        wrong = isinstance(value, bool) or not isinstance(value, int | np.integer)
        if not wrong and value > maximum:
            raise DualityError(
                f"{name}: expected a whole number of at most {maximum:,}, got {float(min(value, 10**300)):g}"
            )
        if wrong or (minimum is not None and value < minimum):
            raise DualityError(f"{name}: expected a whole number{bound}, got {value!r}")
        return int(value)

    return read


def quantity(dimension: unit.Unit = unit.dimensionless, *, positive: bool = True, zero: bool = False) -> Reader:
    """Reader of a finite quantity, returned as a bare number in MD units.

    Parameters
    ----------
    dimension : openmm.unit.Unit
    positive : bool
        Whether only positive numbers are allowed.
    zero : bool
        Whether zero is allowed too.
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


def bounded(dimension: unit.Unit, of: str) -> Reader:
    """Reader of a quantity within the bounds that `bounds.BOUNDS` names."""
    read_number = quantity(dimension, positive=False)

    def read(value: Any, name: str) -> float:
        number = float(read_number(value, name))
        require_bounds(number, of, name)
        return number

    return read


def unread(value: Any, name: str) -> Any:
    """The value as it is."""
    return value


def boolean(value: Any, name: str) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise DualityError(f"{name}: expected true or false, got {value!r}")
    return value


def text(value: Any, name: str) -> str:
    """Read a name or a path, which must not be empty."""
    if not isinstance(value, str) or not value:
        raise DualityError(f"{name}: expected a name, got {value!r}")
    return value


def species_name(value: Any, name: str) -> str:
    """Read the name of a species, which becomes part of file names and of tables."""
    if not isinstance(value, str) or _SPECIES_NAME.fullmatch(value) is None:
        raise DualityError(
            f"{name}: {value!r} cannot name a species; expected at most 32 letters and digits, and behind the first "
            "of them also any of _ + - . * '"
        )
    return value


def one_of(*names: str, otherwise: str = "") -> Reader:
    """Reader of one of the given names; errors end with what there is `otherwise`."""

    def read(value: Any, name: str) -> str:
        if value not in names:
            raise DualityError(f"{name}: expected {' or '.join(names)}, got {value!r}{otherwise}")
        return str(value)

    return read


def optional(read: Reader) -> Reader:
    """Reader of a value that may also be None."""
    return lambda value, name: None if value is None else read(value, name)


def tuple_of(read: Reader, length: int | None = None, *, single: bool = False, empty: bool = False) -> Reader:
    """Reader of a list whose values share one reader.

    Parameters
    ----------
    read : callable
        Reader of each value.
    length : int, optional
        Required number of values.
    single : bool
        Whether a single value may be given without brackets.
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
    """Reader of two positive quantities, the smaller first."""
    both = tuple_of(quantity(dimension), 2)

    def read(value: Any, name: str) -> tuple[float, float]:
        low, high = both(value, name)
        if low > high:
            raise DualityError(f"{name}: expected the smaller number first, got {value!r}")
        return low, high

    return read


def mapping_of(read: Reader, expected: str) -> Reader:
    """Reader of a mapping from names to values that share one reader; `expected` describes it in messages."""

    def read_all(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise DualityError(f"{name}: expected {expected}, got {value!r}")
        return {text(k, name): read(item, f"{name} of {k}") for k, item in value.items()}

    return read_all


def nested(cls: type[T]) -> Reader:
    """Reader of a mapping that becomes an instance of another dataclass."""
    return lambda value, name: build(cls, value, name)


def _fields(cls: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    return {f.name: f for f in dataclasses.fields(cls) if "read" in f.metadata}
