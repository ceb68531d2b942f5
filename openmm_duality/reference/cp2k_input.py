"""CP2K inputs, read for the data that belong to them: cell, time step, masses, labels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase.cell import Cell
from ase.data import atomic_masses, atomic_numbers
from scipy.constants import physical_constants

from openmm_duality.bounds import require_bounds
from openmm_duality.errors import DualityError
from openmm_duality.files import UNREADABLE, open_text
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import check_cell
from openmm_duality.reference.state_points import StatePoint
from openmm_duality.units import ANGSTROM, BOHR, FEMTOSECOND

_LENGTHS = {"angstrom": ANGSTROM, "bohr": BOHR, "nm": 1.0, "pm": 1e-3, "m": 1e9}  # nm
_TIMES = {
    "fs": FEMTOSECOND,
    "ps": 1.0,
    "ns": 1e3,
    "s": 1e12,
    "au_t": physical_constants["atomic unit of time"][0] * 1e12,
}  # ps
_ANGLES = {"deg": 1.0, "rad": 180.0 / np.pi}  # degrees
_MASSES = {"amu": 1.0}  # dalton
_TEMPERATURES = {"k": 1.0}
_PRESSURES = {"bar": 1.0, "pa": 1e-5, "kbar": 1e3, "mpa": 10.0, "gpa": 1e4, "atm": 1.01325}  # bar
_HEAT_BATH = ("NVT", "NPT_I", "NPT_F", "NPT_IA", "LANGEVIN", "ISOKIN")  # ensembles at the temperature they are set to
_LARGEST, _LONGEST_VALUE = 100_000_000, 10_000  # characters of an input, and of a variable
_VARIABLE_CELL = ("NPT", "NPE", "MSST", "HYDROSTATICSHOCK")

ATOMIC_TIME = _TIMES["au_t"]


@dataclass
class Section:
    """One ``&NAME … &END`` of an input: its parameter, keywords and sections, names in capitals, in the order read."""

    name: str
    parameter: str = ""
    keywords: list[tuple[str, str]] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)

    def find(self, *path: str) -> Iterator[Section]:
        """Every section at a path below this one."""
        for section in self.sections:
            if section.name == path[0]:
                if len(path) == 1:
                    yield section
                else:
                    yield from section.find(*path[1:])

    def keyword(self, *names: str) -> str | None:
        """The value of a keyword, by any of its names; the last one counts."""
        values = [value for name, value in self.keywords if name in names]
        return values[-1] if values else None


@dataclass(frozen=True)
class Kind:
    """A ``&KIND``: the element of a label, and the mass in dalton where it is given."""

    element: str
    mass: float | None


@dataclass(frozen=True)
class Cp2kInput:
    """The settings of an input that its data need.

    Parameters
    ----------
    path : Path
        Of the input.
    periodic : bool
        False for ``PERIODIC NONE``.
    cell : array, shape (3, 3), or None
        Rows a, b, c in nm; None where the input gives none.
    variable_cell : bool
        Whether the run changes the cell.
    reftraj : bool
        Whether the frames are single points along another trajectory.
    timestep : float or None
        In ps; None where the frames are not dynamics.
    state_point : StatePoint or None
        What the dynamics are set to; None for other ensembles than NVE, NVT and NPT, or where the temperature is
        raised or lowered along the run.
    atomic_kinds : dict
        From the label, in capitals, to its `Kind`.
    labels : tuple of str
        Of the atoms in ``&COORD``; empty without.
    coordinates : Path or None
        The coordinate file, where it is XYZ.
    units : dict
        Units written in the print keys, by section name.
    """

    path: Path
    periodic: bool
    cell: FloatArray | None
    variable_cell: bool
    reftraj: bool
    timestep: float | None
    state_point: StatePoint | None
    atomic_kinds: dict[str, Kind]
    labels: tuple[str, ...]
    coordinates: Path | None
    units: dict[str, str]

    def element(self, label: str) -> str:
        """The element of a label: by its ``&KIND``, or because the label begins with it."""
        kind = self.atomic_kinds.get(label.upper())
        if kind is not None:
            return kind.element
        element = _element(label)
        if element is None:
            raise DualityError(
                f"{self.path}: the label {label!r} of the coordinates is neither an element nor a &KIND of the input; "
                "add a &KIND with ELEMENT, or read the input that belongs to these data"
            )
        return element

    def mass(self, label: str) -> float:
        """The mass of a label in dalton: by its ``&KIND``, by a ``&KIND`` of its element, or the element's own."""
        kind = self.atomic_kinds.get(label.upper())
        if kind is not None and kind.mass is not None:
            return kind.mass
        element = self.element(label)
        usual = float(atomic_masses[atomic_numbers[element]])
        if kind is not None:
            return usual
        # The coordinate files name elements, not labels, unless PRINT_ATOM_KIND was set.
        masses = {k.mass or usual for k in self.atomic_kinds.values() if k.element == element}
        if len(masses) > 1:
            raise DualityError(
                f"{self.path}: the &KINDs of {element} have different masses ({sorted(masses)} dalton) and the "
                "coordinate files name only the element; run CP2K with PRINT_ATOM_KIND in &MOTION/&PRINT/&TRAJECTORY"
            )
        return masses.pop() if masses else usual


def read_input(path: str | Path) -> Cp2kInput:
    """Read a CP2K input.

    Understands comments, continuation lines, ``@SET``, ``@INCLUDE`` and units in brackets; refuses ``@IF`` and other
    directives, which only CP2K itself can evaluate.

    Raises
    ------
    DualityError
        If the input cannot be understood.
    """
    path = Path(path)
    root = parse_input(path)
    subsys = next(root.find("FORCE_EVAL", "SUBSYS"), Section("SUBSYS"))
    cells = list(root.find("FORCE_EVAL", "SUBSYS", "CELL"))
    md = next(root.find("MOTION", "MD"), Section("MD"))
    run = next((s.keyword("RUN_TYPE") for s in root.find("GLOBAL")), None)
    ensemble = (md.keyword("ENSEMBLE") or "NVE").upper()
    dynamics = (run or "").upper() in ("MD", "MOLECULAR_DYNAMICS")
    reftraj = dynamics and ensemble == "REFTRAJ"
    moves = (run or "").upper() == "CELL_OPT" or (dynamics and ensemble.startswith(_VARIABLE_CELL))
    if reftraj:
        moves = any((s.keyword("VARIABLE_VOLUME") or "F").upper().strip(".")[:1] == "T" for s in md.find("REFTRAJ"))
    periodic, cell = _cell(path, cells[0]) if cells else (True, None)
    timestep = float(_numbers(path, md.keyword("TIMESTEP") or "0.5", _TIMES, "fs", 1)[0])
    require_bounds(timestep, "timestep", f"{path}: TIMESTEP")
    topology = next(subsys.find("TOPOLOGY"), Section("TOPOLOGY"))
    file = topology.keyword("COORD_FILE_NAME", "COORD_FILE")
    is_xyz = (topology.keyword("COORD_FILE_FORMAT", "COORDINATE") or "").upper() == "XYZ"
    atomic_kinds = {s.parameter.upper(): _kind(path, s) for s in root.find("FORCE_EVAL", "SUBSYS", "KIND")}
    labels = tuple(name for s in subsys.find("COORD") for name, _ in s.keywords if name not in ("UNIT", "SCALED"))
    prints = {s.name: s.keyword("UNIT") for p in root.find("MOTION", "PRINT") for s in p.sections}
    return Cp2kInput(
        path=path,
        periodic=periodic,
        cell=cell,
        variable_cell=moves,
        reftraj=reftraj,
        timestep=timestep if dynamics and not reftraj else None,
        state_point=_state_point(path, md, ensemble) if dynamics else None,
        atomic_kinds=atomic_kinds,
        labels=labels,
        coordinates=path.parent / file.strip("'\"") if file and is_xyz else None,
        units={name: value for name, value in prints.items() if value is not None},
    )


def _state_point(path: Path, md: Section, ensemble: str) -> StatePoint | None:
    """What a ``&MD`` is set to, with CP2K's defaults: 300 K, and 0 bar."""
    if ensemble == "NVE":
        return StatePoint("NVE")
    annealed = [md.keyword(name) for name in ("ANNEALING", "ANNEALING_CELL", "TEMPERATURE_ANNEALING")]
    if ensemble not in _HEAT_BATH or any(_numbers(path, v, {}, "", 1)[0] != 1.0 for v in annealed if v is not None):
        return None
    kelvin = float(_numbers(path, md.keyword("TEMPERATURE", "TEMP") or "300", _TEMPERATURES, "k", 1)[0])
    massive = any((s.keyword("REGION") or "").upper() == "MASSIVE" for s in md.find("THERMOSTAT"))
    if not ensemble.startswith("NPT"):
        return StatePoint("NVT", kelvin, massive=massive)
    given = next((s.keyword("PRESSURE") for s in md.find("BAROSTAT")), None)
    return StatePoint("NPT", kelvin, float(_numbers(path, given or "0", _PRESSURES, "bar", 1)[0]), massive)


def parse_input(path: Path) -> Section:
    """The sections of a CP2K input, as `read_input` understands it.

    Raises
    ------
    DualityError
        If the input cannot be understood.
    """
    root = Section("")
    stack = [root]
    for line in _lines(path, {}):
        words = line.split(None, 1)
        head, rest = words[0].upper(), (words[1].strip() if len(words) > 1 else "")
        if head.startswith("&END"):
            if len(stack) == 1 or (rest and rest.split()[0].upper() != stack[-1].name):
                raise DualityError(f"{path}: {line!r} closes a section that is not open (open: &{stack[-1].name})")
            stack.pop()
        elif head.startswith("&"):
            section = Section(head[1:], rest)
            stack[-1].sections.append(section)
            stack.append(section)
        else:
            # Labels of atoms lose their case: CP2K matches a &KIND without regard to it.
            stack[-1].keywords.append((head, rest))
    if len(stack) > 1:
        raise DualityError(f"{path}: the section &{stack[-1].name} is not closed; the input looks cut short")
    return root


def _lines(path: Path, variables: dict[str, str], within: tuple[Path, ...] = ()) -> Iterator[str]:
    """Lines without comments, with continued lines joined, variables replaced and included files read."""
    if path.resolve() in within:
        raise DualityError(f"{path}: the input includes itself")
    try:
        with open_text(path) as handle:
            text = handle.read(_LARGEST + 1)
    except UNREADABLE as error:
        raise DualityError(f"{path}: the CP2K input cannot be read ({error})") from None
    if len(text) > _LARGEST:
        raise DualityError(f"{path}: longer than {_LARGEST:,} characters; this is no CP2K input")
    text = re.sub(r"[!#].*", "", text)
    for raw in re.sub(r"\\[ \t]*\n", " ", text).splitlines():
        line = re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda m: _variable(path, variables, m[1] or m[2]), raw).strip()
        if not line:
            continue
        if not line.startswith("@"):
            yield line
            continue
        directive, _, rest = line.partition(" ")
        if directive.upper() == "@SET":
            name, _, value = rest.strip().partition(" ")
            if len(value) > _LONGEST_VALUE:
                raise DualityError(f"{path}: the value of @SET {name} is longer than {_LONGEST_VALUE} characters")
            variables[name.upper()] = value.strip()
        elif directive.upper() == "@INCLUDE":
            yield from _lines(path.parent / rest.strip().strip("'\""), variables, (*within, path.resolve()))
        else:
            raise DualityError(
                f"{path}: the directive {directive} is not understood (only @SET and @INCLUDE are); give the expanded "
                "input, which CP2K writes with 'cp2k.psmp --echo'"
            )


def _variable(path: Path, variables: dict[str, str], name: str) -> str:
    if name.upper() not in variables:
        raise DualityError(f"{path}: the variable ${name} is used but no @SET gives it a value")
    return variables[name.upper()]


def _numbers(path: Path, text: str, units: dict[str, float], default: str, count: int) -> FloatArray:
    """Numbers with their units; a unit in brackets holds for all numbers behind it."""
    factor, values = units.get(default, 1.0), []
    for word in re.findall(r"\[[^\]]*\]|\S+", text)[: count + text.count("[")]:
        if word.startswith("["):
            name = word[1:-1].strip().lower()
            if name not in units:
                raise DualityError(f"{path}: the unit [{name}] in {text!r} is not known; known are {', '.join(units)}")
            factor = units[name]
            continue
        try:
            values.append(factor * float(word.lower().replace("d", "e")))
        except ValueError:
            raise DualityError(f"{path}: expected {count} number(s), got {text!r}") from None
    if len(values) < count:
        raise DualityError(f"{path}: expected {count} number(s), got {text!r}")
    return np.array(values[:count])


def _cell(path: Path, section: Section) -> tuple[bool, FloatArray | None]:
    periodic = (section.keyword("PERIODIC") or "XYZ").upper()
    if periodic == "NONE":
        return False, None
    if set(periodic) != set("XYZ"):
        raise DualityError(
            f"{path}: PERIODIC {periodic} is not supported; the cell must be periodic along all three vectors or NONE"
        )
    vectors = [section.keyword(name) for name in "ABC"]
    lengths = section.keyword("ABC")
    if lengths is not None:
        angles = section.keyword("ALPHA_BETA_GAMMA", "ANGLES") or "90 90 90"
        parameters = [*_numbers(path, lengths, _LENGTHS, "angstrom", 3), *_numbers(path, angles, _ANGLES, "deg", 3)]
        # a along x, b in the plane of x and y: CP2K's convention and ASE's.
        try:
            assert min(parameters) > 0.0
            cell = np.array(Cell.fromcellpar(parameters))
        except AssertionError:
            raise DualityError(f"{path}: there is no &CELL with ABC {lengths} and the angles {angles}") from None
    elif all(vector is not None for vector in vectors):
        cell = np.array([_numbers(path, vector or "", _LENGTHS, "angstrom", 3) for vector in vectors])
    else:
        return True, None
    multiple = _numbers(path, section.keyword("MULTIPLE_UNIT_CELL") or "1 1 1", {}, "", 3)
    cell = cell * multiple[:, None]
    try:
        check_cell(cell)
    except DualityError as error:
        raise DualityError(f"{path}: {error}") from None
    return True, cell


def _kind(path: Path, section: Section) -> Kind:
    element = _element(section.keyword("ELEMENT", "ELEMENT_SYMBOL") or section.parameter)
    if element is None:
        raise DualityError(f"{path}: &KIND {section.parameter} names no element; add the keyword ELEMENT to it")
    mass = section.keyword("MASS", "ATOMIC_MASS", "ATOMIC_WEIGHT", "WEIGHT")
    if mass is None:
        return Kind(element, None)
    value = float(_numbers(path, mass, _MASSES, "amu", 1)[0])
    require_bounds(value, "masses", f"{path}: &KIND {section.parameter}")
    return Kind(element, value)


def _element(label: str) -> str | None:
    letters = re.match(r"[A-Za-z]*", label)
    word = letters[0] if letters else ""
    for guess in (word, word[:2], word[:1]):
        if guess.capitalize() in atomic_numbers and guess:
            return guess.capitalize()
    return None
