"""Frames of a reference simulation, the form in which data enter the package.

Index suffixes: t frame, i atom, x Cartesian.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from openmm import unit

from openmm_duality.bounds import BOUNDS, require_bounds
from openmm_duality.container import read_container, write_container
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.cells import check_cell
from openmm_duality.reference.splits import split_by_blocks, split_by_time
from openmm_duality.reference.state_points import StatePoint
from openmm_duality.schema import nested, optional, quantity, species_name, text, to_plain, tuple_of
from openmm_duality.units import FEMTOSECOND, bare

if TYPE_CHECKING:
    from ase import Atoms

FORMAT = "openmm_duality frames 1"
_PER_FRAME = ("positions", "times", "steps", "cells", "forces", "velocities", "energies", "stresses", "temperatures")


def evenly_spaced(number: int, count: int) -> IntArray:
    """Choose at most `count` indices from 0 to number − 1, evenly spaced and with both ends where there are two."""
    return np.linspace(0, number - 1, min(count, number)).astype(np.int64)


@dataclass(frozen=True, repr=False)
class Frames:
    """A trajectory, or a set of single points, of one composition in MD units.

    Parameters
    ----------
    species : tuple of str, length N
        The species of every atom.
    masses : array, shape (N,)
        In dalton.
    positions : array, shape (T, N, 3)
        In nm, unwrapped as the source wrote them.
    times : array, shape (T,)
        In ps.
    steps : array of int, shape (T,)
        The step numbers of the source.
    cells : array, shape (T, 3, 3), or None
        Rows are the cell vectors a, b, c in nm; None without periodic boundaries.
    forces : array, shape (T, N, 3), or None
        In kJ/mol/nm.
    velocities : array, shape (T, N, 3), or None
        In nm/ps.
    energies : array, shape (T,), or None
        Potential energies in kJ/mol; their zero is the source's.
    stresses : array, shape (T, 3, 3), or None
        Stress σ = (1/V) ∂E/∂ε in kJ/mol/nm³, positive under tension; the pressure is −tr σ/3 without its kinetic part.
    temperatures : array, shape (T,), or None
        Kinetic temperatures in K, as the source states them.
    state_point : StatePoint or None
        What the dynamics were set to; None if these frames are not dynamics or it is unknown.
    timestep : float or None
        The time step of the dynamics in ps, None if these frames are not dynamics or it is unknown.
    source : tuple of str
        One ``"name sha256:…"`` per file read.

    Raises
    ------
    DualityError
        If shapes disagree or a value is not finite.
    """

    species: tuple[str, ...]
    masses: FloatArray
    positions: FloatArray
    times: FloatArray
    steps: IntArray
    cells: FloatArray | None = None
    forces: FloatArray | None = None
    velocities: FloatArray | None = None
    energies: FloatArray | None = None
    stresses: FloatArray | None = None
    temperatures: FloatArray | None = None
    state_point: StatePoint | None = None
    timestep: float | None = None
    source: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in set(self.species):
            species_name(name, "frames: species")
        t, n = len(self.positions), len(self.species)
        shapes = {
            "masses": (n,),
            "positions": (t, n, 3),
            "times": (t,),
            "steps": (t,),
            "cells": (t, 3, 3),
            "forces": (t, n, 3),
            "velocities": (t, n, 3),
            "energies": (t,),
            "stresses": (t, 3, 3),
            "temperatures": (t,),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array is None:
                continue
            if array.shape != shape:
                raise DualityError(f"frames: {name} have shape {array.shape}, expected {shape}")
            if not np.isfinite(array).all():
                where = int(np.argwhere(~np.isfinite(array))[0][0])
                what = "atom" if name == "masses" else "frame"
                # of a file of several compositions the number there is the step
                step = f", step {self.steps[where]}" if what == "frame" and self.steps[where] != where else ""
                raise DualityError(
                    f"frames: {name} hold a value that is not finite (first in {what} {where}, counted from 0{step}); "
                    f"repair or leave out what wrote it: {', '.join(self.source) or 'the data'}"
                )
            if name in BOUNDS:
                require_bounds(array, name, f"frames from {', '.join(self.source) or 'memory'}")
        check_cell(self.cells, n)
        if self.timestep is not None:
            require_bounds(self.timestep, "timestep", f"frames from {', '.join(self.source) or 'memory'}")

    def __repr__(self) -> str:
        return description([self])

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: slice | IntArray | list[int]) -> Frames:
        """The chosen frames, as `Frames` (an integer index would drop the frame axis and is refused)."""
        if isinstance(index, int | np.integer):
            raise TypeError("index frames with a slice or a list, so that the frame axis stays")
        chosen = {name: getattr(self, name)[index] for name in _PER_FRAME if getattr(self, name) is not None}
        return replace(self, **chosen)

    def __iter__(self) -> Iterator[Frames]:
        return (self[t : t + 1] for t in range(len(self)))

    @property
    def n_atoms(self) -> int:
        """Number of atoms N."""
        return len(self.species)

    @property
    def parts(self) -> tuple[Frames, ...]:
        """These frames: the parts of one composition, as `MixedFrames` has them."""
        return (self,)

    @property
    def has_forces(self) -> bool:
        """Whether there are forces."""
        return self.forces is not None

    def locate(self, number: int) -> tuple[Frames, int]:
        """The part that contains frame `number`, and its index there, as for `MixedFrames`."""
        return self, number

    @property
    def distinct_species(self) -> tuple[str, ...]:
        """The distinct species in alphabetical order."""
        return tuple(sorted(set(self.species)))

    def cell(self, t: int) -> FloatArray | None:
        """The cell of frame t, shape (3, 3) in nm, or None."""
        return None if self.cells is None else self.cells[t]

    def atoms_of(self, name: str) -> IntArray:
        """Indices of the atoms of one species."""
        return np.flatnonzero(np.array(self.species) == name)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Every array that is present, by name."""
        present = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in present.items() if isinstance(value, np.ndarray)}

    def split(self, test_fraction: float = 0.2, gap: Any = 0.5, how: str = "time") -> tuple[Frames, Frames]:
        """Training and test frames, apart in time.

        Neighbouring frames of a trajectory are nearly the same frame, so the test set is the last part of the time,
        and frames within the gap before it belong to neither. Single points (no time step) are split in their order,
        without a gap.

        Parameters
        ----------
        test_fraction : float
            The fraction of the frames behind the training frames, gap included; with 0 there are no test frames.
        gap : float or openmm.unit.Quantity
            In ps.
        how : str
            ``time``, or ``random-blocks``: of twenty contiguous blocks of the frames some are held out at random,
            without a gap.

        Returns
        -------
        tuple of Frames
            Training frames, test frames.

        Raises
        ------
        DualityError
            If nothing would be left to train on or to test on.
        """
        width = bare(gap, unit.picosecond, "gap")
        if how == "random-blocks":
            train, test = split_by_blocks(len(self), test_fraction)
        else:
            times = None if self.timestep is None else self.times
            train, test = split_by_time(len(self), test_fraction, times, width)
        return self[train], self[test]

    def to_ase(self) -> list[Atoms]:
        """The frames as `ase.Atoms`, with energies, forces and stresses as the results of their calculators.

        Times are left out, for which ASE has no place.

        Raises
        ------
        DualityError
            If a species is no chemical element.
        """
        from openmm_duality.reference.ase_atoms import atoms_of

        per_frame = {"energy": self.energies, "forces": self.forces, "stress": self.stresses}
        return [
            atoms_of(
                self.species,
                self.masses,
                self.positions[t],
                self.cell(t),
                None if self.velocities is None else self.velocities[t],
                {name: array[t] for name, array in per_frame.items() if array is not None},
            )
            for t in range(len(self))
        ]

    @classmethod
    def from_ase(cls, images: Atoms | Sequence[Atoms]) -> Frames:
        """Frames of `ase.Atoms` of one composition, as single points; `MixedFrames.from_ase` takes several.

        Forces, energies and stresses are those that the calculators have computed already.

        Raises
        ------
        DualityError
            If the atoms differ in composition or periodicity, are periodic in some directions only, or some of them
            lack what others have.
        """
        from openmm_duality.reference.ase_atoms import arrays_of

        return cls(**arrays_of([images] if hasattr(images, "get_positions") else images))

    def blocks(self, n: int) -> list[Frames]:
        """Split into n contiguous blocks of nearly equal length, in order."""
        if not 1 <= n <= len(self):
            raise DualityError(f"{len(self)} frames cannot be cut into {n} blocks")
        return [self[block] for block in np.array_split(np.arange(len(self)), n)]

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write one safetensors file: the arrays, and a JSON header with the rest.

        Raises
        ------
        DualityError
            If the file exists and `overwrite` is not set.
        """
        write_container(path, FORMAT, self.arrays(), header_of(self), overwrite)

    @classmethod
    def load(cls, path: str | Path) -> Frames:
        """Read what `save` wrote.

        Raises
        ------
        DualityError
            If it is no saved frames file, or is cut short.
        """
        arrays, header = read_container(path, FORMAT)
        try:
            return frames_of(arrays, header)
        except (KeyError, TypeError) as error:
            raise DualityError(f"{path}: the saved frames lack something or hold too much ({error})") from None


def header_of(frames: Frames) -> dict[str, Any]:
    """What the header of a file says beside the arrays; `frames_of` reads it back."""
    header = {name: getattr(frames, name) for name in ("species", "timestep", "source")}
    return header if frames.state_point is None else {**header, "state_point": to_plain(frames.state_point)}


def frames_of(arrays: dict[str, npt.NDArray[Any]], header: dict[str, Any]) -> Frames:
    """Frames from the arrays and the header of a file."""
    for name, array in arrays.items():
        if array.dtype != (np.int64 if name == "steps" else np.float64):
            raise TypeError(f"{name} are numbers of the kind {array.dtype}")
    timestep = optional(quantity(unit.picosecond))(header["timestep"], "timestep")
    source = tuple_of(text, empty=True)(header["source"], "source")
    state_point = optional(nested(StatePoint))(header.get("state_point"), "state_point")
    return Frames(species=tuple(header["species"]), state_point=state_point, timestep=timestep, source=source, **arrays)


def formula(species: Sequence[str]) -> str:
    """Number of atoms of every species, in alphabetical order."""
    return "".join(f"{name}{n if n > 1 else ''}" for name, n in sorted(Counter(species).items()))


def description(parts: Sequence[Frames]) -> str:
    """Description of the frames of one or several compositions in five lines."""
    total = sum(map(len, parts))
    sizes = sorted({part.n_atoms for part in parts})
    atoms = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else ", ".join(map(str, sizes)) or "no"
    formulas = list(dict.fromkeys(formula(part.species) for part in parts))
    more = f" and {len(formulas) - 3} more" if len(formulas) > 3 else ""
    dynamics = [part for part in parts if part.timestep is not None and len(part)]
    times = [
        f"{p.times[0]:g} to {p.times[-1]:g} ps, time step {p.timestep / FEMTOSECOND:g} fs"
        for p in dynamics
        if p.timestep
    ]
    periodic = [part for part in parts if part.cells is not None]
    cell = f"{sum(map(len, periodic))} of {total} frames"
    if len(periodic) == len(parts) == 1 and parts[0].cells is not None and total:
        lengths = np.linalg.norm(parts[0].cells, axis=-1).mean(axis=0)
        cell = " x ".join(f"{length:.4f}" for length in lengths) + " nm"
    held = [name for name in _PER_FRAME[4:] if parts and all(getattr(part, name) is not None for part in parts)]
    files = list(dict.fromkeys(name.split(" sha256:")[0] for part in parts for name in part.source))
    return "\n".join(
        [
            f"{total} frames of {atoms} atoms: {', '.join(formulas[:3])}{more}",
            f"times:  {'; '.join(times) or 'single points'}",
            f"cell:   {cell if periodic else 'none'}",
            f"with:   {', '.join(held) or 'positions alone'}",
            f"source: {', '.join(files[:3]) or 'memory'}{f' and {len(files) - 3} more' if len(files) > 3 else ''}",
        ]
    )
