"""The method ``input``: the ``&FORCE_EVAL`` of a CP2K input of your own, whatever it computes forces by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openmm_duality.cp2k.inputs import Method, section
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.reference.cp2k_input import Section, parse_input, read_input
from openmm_duality.schema import key, mapping_of, text, tuple_of

NAME = "input"
_METHODS = ("QUICKSTEP", "QS", "NNP")  # of &FORCE_EVAL; the others need bonds, or several of them
_ITERATES = ("QUICKSTEP", "QS")
_LINES = tuple_of(text)
_LEFT_OUT = ("SUBSYS", "PRINT")


@dataclass(frozen=True)
class OwnInput(Method):
    """What the ``&FORCE_EVAL`` of an input holds; `read_force_eval` takes it from the file.

    Parameters
    ----------
    method : str
        Keyword ``METHOD`` of the ``&FORCE_EVAL``: ``QUICKSTEP`` (density functional theory, xTB, …) or ``NNP``.
    lines : tuple of str
        Of the ``&FORCE_EVAL``, apart from its ``&SUBSYS`` and from what is printed.
    kind_lines : dict
        From the species to the lines of its ``&KIND``.
    """

    method: str = field(metadata=key(text))
    lines: tuple[str, ...] = field(metadata=key(_LINES))
    kind_lines: dict[str, tuple[str, ...]] = field(metadata=key(mapping_of(_LINES, "lines by species")))

    @property
    def iterates(self) -> bool:
        """Whether every evaluation is a self-consistent iteration, which may fail."""
        return self.method in _ITERATES

    def force_eval(self, labels: Sequence[str], cell: FloatArray, dynamics: bool) -> list[str]:
        """The lines of the ``&FORCE_EVAL``, as `Method` defines them."""
        if dynamics:
            return list(self.lines)
        # single points are no trajectory, so nothing beyond the last wave function can be extrapolated
        kept = [line for line in self.lines if not line.lstrip().startswith("EXTRAPOLATION")]
        return [line + "\n" + " " * 8 + "EXTRAPOLATION USE_PREV_WF" if line.strip() == "&QS" else line for line in kept]

    def kind(self, label: str) -> list[str]:
        """The lines of the ``&KIND`` of a species."""
        return list(self.kind_lines.get(label, self.kind_lines.get("DEFAULT", (f"ELEMENT {label}",))))


def with_input(content: Any, folder: Path) -> Any:
    """The method of a configuration, with what the file of ``{name: input, path: FILE}`` holds in place of the path.

    Parameters
    ----------
    content
        Of the key ``method``.
    folder : Path
        What the path is relative to.
    """
    if not isinstance(content, Mapping) or content.get("name") != NAME or "lines" in content:
        return content
    if set(content) != {"name", "path"}:
        raise DualityError(f"method {NAME}: expected the key path, a CP2K input, and no other, got {dict(content)}")
    return {"name": NAME, **read_force_eval(folder / text(content["path"], f"method {NAME}: path"))}


def read_force_eval(path: Path) -> dict[str, Any]:
    """The keys of `OwnInput`, from a CP2K input.

    Files that it names and that lie beside it are named by their full paths, as CP2K runs elsewhere.

    Raises
    ------
    DualityError
        If the input cannot be read, or its forces are not those of one ``&FORCE_EVAL`` for atoms in a periodic cell
        that are named by their elements.
    """
    if not read_input(path).periodic:
        raise DualityError(f"{path}: PERIODIC NONE is not supported; give the molecule a wide periodic cell")
    found = list(parse_input(path).find("FORCE_EVAL"))
    if len(found) != 1:
        raise DualityError(f"{path}: expected one &FORCE_EVAL, found {len(found)}")
    method = (found[0].keyword("METHOD") or "QUICKSTEP").upper()
    if method not in _METHODS:
        raise DualityError(
            f"{path}: METHOD {method} is not supported, only {' and '.join(_METHODS)}; for a force field write the "
            "method 'classical' into the configuration"
        )
    kind_lines = {}
    for kind in found[0].find("SUBSYS", "KIND"):
        name = kind.parameter.capitalize() if kind.parameter.upper() != "DEFAULT" else "DEFAULT"
        element = kind.keyword("ELEMENT", "ELEMENT_SYMBOL")
        if element is not None and element.capitalize() != name:
            raise DualityError(
                f"{path}: &KIND {kind.parameter} is a label of its own for {element}; the method {NAME} calls atoms by "
                "their elements, so name the &KIND after its element"
            )
        lines = list(_lines(kind, path.parent))
        kind_lines[name] = lines if element is not None or name == "DEFAULT" else [f"ELEMENT {name}", *lines]
    return {"method": method, "lines": list(_lines(found[0], path.parent)), "kind_lines": kind_lines}


def _lines(content: Section, folder: Path) -> Iterator[str]:
    """Lines without the system, stresses and files to print; no wave functions are written either."""
    for name, value in content.keywords:
        if name == "STRESS_TENSOR":
            continue
        word = value.strip("'\"")
        beside = folder / word
        named = bool(word) and " " not in word and beside.is_file()
        yield f"{name} {beside.resolve() if named else value}".rstrip()
    for inner in content.sections:
        if inner.name not in _LEFT_OUT:
            yield from section(f"{inner.name} {inner.parameter}".strip(), *_lines(inner, folder))
    if content.name == "SCF":
        yield from section("PRINT", *section("RESTART OFF"))
