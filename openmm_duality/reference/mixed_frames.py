"""Frames of several compositions, sizes or orders of atoms, with and without periodic boundaries, in one sequence."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from openmm import unit

from openmm_duality.container import format_of, read_container, write_container
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import IntArray
from openmm_duality.reference.frames import Frames, description, frames_of, header_of
from openmm_duality.reference.splits import split_by_blocks, split_by_time
from openmm_duality.units import bare

if TYPE_CHECKING:
    from ase import Atoms

_MANY = 10  # frames, of which a tenth is one
_SEVERAL = 3  # frames, whose energies are not equal by chance
_GOLDEN = (5.0**0.5 - 1.0) / 2.0
_FORMAT = "openmm_duality mixed frames 1"


@dataclass(frozen=True, repr=False)
class MixedFrames:
    """A sequence of single points that differ in composition, in the order of their atoms or in periodicity.

    Parameters
    ----------
    parts : tuple of Frames
        The frames by list of species and periodicity. Their `steps`, all different, are the order of the sequence:
        for a file the number of the frame in it, counted from 0.

    Raises
    ------
    DualityError
        If two frames have the same number, or some parts have forces and others none.
    """

    parts: tuple[Frames, ...]

    def __post_init__(self) -> None:
        if len(np.unique(self.steps)) < len(self.steps):
            raise DualityError("frames: two frames of a sequence have the same number")
        if len({part.has_forces for part in self.parts}) > 1:
            raise DualityError("frames: some frames of a sequence have forces and others none; split them")

    def __repr__(self) -> str:
        return description(self.parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: slice | IntArray | list[int]) -> MixedFrames:
        """The chosen frames, in the order of the sequence."""
        if isinstance(index, int | np.integer):
            raise TypeError("index frames with a slice or a list")
        chosen = self._locations[index]
        members = [np.sort(chosen[chosen[:, 0] == k, 1]) for k in range(len(self.parts))]
        return MixedFrames(tuple(part[m] for part, m in zip(self.parts, members, strict=True) if len(m)))

    @property
    def steps(self) -> IntArray:
        """Numbers of the frames, shape (T,), in ascending order."""
        return np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *(part.steps for part in self.parts)]))

    @cached_property
    def _locations(self) -> IntArray:
        """Part and index in it of every frame of the sequence, shape (T, 2)."""
        places = [np.stack([np.full(len(p), k), np.arange(len(p))], axis=1) for k, p in enumerate(self.parts)]
        steps = np.concatenate([np.zeros(0, dtype=np.int64), *(part.steps for part in self.parts)])
        return np.concatenate([np.zeros((0, 2), dtype=np.int64), *places])[np.argsort(steps, kind="stable")]

    def part_of(self, numbers: IntArray) -> IntArray:
        """The parts that contain the frames at some places in the sequence."""
        return np.asarray(self._locations[numbers, 0])

    def locate(self, number: int) -> tuple[Frames, int]:
        """The part that contains the frame at a place in the sequence, and its index there."""
        part, index = self._locations[number]
        return self.parts[part], int(index)

    @property
    def distinct_species(self) -> tuple[str, ...]:
        """The distinct species in alphabetical order."""
        return tuple(sorted({name for part in self.parts for name in part.distinct_species}))

    @property
    def has_forces(self) -> bool:
        """Whether there are forces."""
        return any(part.has_forces for part in self.parts)

    @property
    def source(self) -> tuple[str, ...]:
        """One ``"name sha256:…"`` per file read."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.source))

    def split(self, test_fraction: float = 0.2, gap: Any = 0.5, how: str = "time") -> tuple[MixedFrames, MixedFrames]:
        """Training and test frames, as `Frames.split` splits single points.

        With ``time`` the last frames of every composition are held out, since a file often holds one after the other.
        """
        bare(gap, unit.picosecond, "gap")  # single points have no gap, but a wrong unit is a mistake
        if how == "random-blocks":
            train, test = split_by_blocks(len(self), test_fraction)
        else:
            order = balanced(self, np.arange(len(self)))
            train, test = (order[places] for places in split_by_time(len(self), test_fraction))
        return self[train], self[test]

    def to_ase(self) -> list[Atoms]:
        """The frames as `ase.Atoms`, in the order of the sequence, as for `Frames.to_ase`."""
        atoms = [part.to_ase() for part in self.parts]
        return [atoms[part][index] for part, index in self._locations.tolist()]

    @classmethod
    def from_ase(cls, images: Sequence[Atoms]) -> MixedFrames:
        """Frames of `ase.Atoms` of any compositions, as for `Frames.from_ase`."""
        groups: dict[tuple[bytes, bytes], list[int]] = {}
        for number, image in enumerate(images):
            groups.setdefault((image.numbers.tobytes(), image.pbc.tobytes()), []).append(number)
        return cls(
            tuple(
                replace(Frames.from_ase([images[k] for k in numbers]), steps=np.array(numbers, dtype=np.int64))
                for numbers in groups.values()
            )
        )

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write one safetensors file, as `Frames.save` does."""
        arrays = {f"{k}/{name}": array for k, part in enumerate(self.parts) for name, array in part.arrays().items()}
        header = {"parts": [header_of(part) for part in self.parts]}
        write_container(path, _FORMAT, arrays, header, overwrite)

    @classmethod
    def load(cls, path: str | Path) -> MixedFrames:
        """Read what `save` wrote.

        Raises
        ------
        DualityError
            If it is no such file, or is cut short.
        """
        arrays, header = read_container(path, _FORMAT)
        try:
            return cls(
                tuple(
                    frames_of(
                        {n.partition("/")[2]: a for n, a in arrays.items() if n.partition("/")[0] == str(k)}, part
                    )
                    for k, part in enumerate(header["parts"])
                )
            )
        except (KeyError, TypeError) as error:
            raise DualityError(f"{path}: the saved frames lack something or hold too much ({error})") from None


AnyFrames: TypeAlias = Frames | MixedFrames


def load_frames(path: str | Path) -> AnyFrames:
    """Read a saved frames file, of one composition or of several."""
    return MixedFrames.load(path) if format_of(path) == _FORMAT else Frames.load(path)


def largest_size(frames: AnyFrames) -> int:
    """Number of atoms of the largest frame."""
    return max((part.n_atoms for part in frames.parts), default=0)


def joined(parts: Sequence[Frames]) -> AnyFrames:
    """One sequence of parts: the frames themselves if there is only one part."""
    return parts[0] if len(parts) == 1 else MixedFrames(tuple(parts))


def balanced(frames: AnyFrames, numbers: IntArray) -> IntArray:
    """Numbers of frames in an order of which every stretch has its share of every composition, or of many rare ones.

    The frames of one composition keep their order.
    """
    if isinstance(frames, Frames):
        return numbers
    group, place = frames.part_of(numbers), np.zeros(len(numbers))
    for number, one in enumerate(dict.fromkeys(group.tolist()), start=1):  # in the order of the file
        mine = np.flatnonzero(group == one)
        # of multiples of the golden ratio any few in a row are spread evenly
        offset = 0.5 if len(mine) >= _MANY else number * _GOLDEN % 1.0
        place[mine] = (np.arange(len(mine)) + offset) / len(mine)
    return numbers[np.argsort(place, kind="stable")]


def of_one_composition(frames: AnyFrames, purpose: str) -> Frames:
    """The frames, if they have one composition and order of atoms.

    Raises
    ------
    DualityError
        If they have several.
    """
    if isinstance(frames, Frames):
        return frames
    if len(frames.parts) == 1:
        return frames.parts[0]
    raise DualityError(
        f"{purpose} needs frames of one composition and order of atoms, and {', '.join(frames.source) or 'these'} hold "
        f"{len(frames.parts)} of them; give a file with a single one"
    )


def without_forces(frames: AnyFrames) -> AnyFrames:
    """The same frames without their forces."""
    return joined([replace(part, forces=None) for part in frames.parts])


def without_constant_energies(frames: AnyFrames, name: str) -> AnyFrames:
    """The frames without energies that are the same whatever the positions, as a program puts zeros for none.

    `name` is that of the data, in messages.
    """
    known = [part for part in frames.parts if part.energies is not None and part.n_atoms > 1]
    energies = np.concatenate([np.zeros(0), *(part.energies for part in known if part.energies is not None)])
    arrays = [array for part in known for array in (part.positions, part.cells) if array is not None]
    copies = len(known) == 1 and not any(np.ptp(array, axis=0).any() for array in arrays)
    if len(energies) < _SEVERAL or np.ptp(energies) or copies:
        return frames
    warnings.warn(f"{name}: the energies of all frames are equal, as of none; they are left out", stacklevel=3)
    return joined([replace(part, energies=None) for part in frames.parts])


def without_large_forces(frames: AnyFrames, limit: float, name: str) -> AnyFrames:
    """The frames in which no force on an atom is above a limit in kJ/mol/nm; a warning says how many are left out.

    `name` is that of the data, in messages.

    Raises
    ------
    DualityError
        If there are no forces, or none of the frames is left.
    """
    chosen = []
    for part in frames.parts:
        if part.forces is None:
            raise DualityError(f"{name}: a limit of the forces is given, and there are none; leave out max_force")
        chosen.append(part[np.linalg.norm(part.forces, axis=-1).max(axis=1) <= limit])
    left = [part for part in chosen if len(part)]
    if not left:
        raise DualityError(f"{name}: all frames have forces above {limit:g} kJ/mol/nm; choose a larger max_force")
    removed = len(frames) - sum(map(len, left))
    if removed:
        warnings.warn(
            f"{name}: {removed} of {len(frames)} frames are left out for forces above {limit:g} kJ/mol/nm", stacklevel=2
        )
    return joined(left)


def without_isolated_atoms(frames: AnyFrames) -> tuple[AnyFrames, dict[str, float]]:
    """Take the isolated atoms out of the frames: single atoms without periodic boundaries.

    Returns
    -------
    frames : Frames or MixedFrames
        The other frames.
    energies : dict of str to float
        Energies of the isolated atoms in kJ/mol, by species.

    Raises
    ------
    DualityError
        If isolated atoms of one species have different energies.
    """
    energies: dict[str, float] = {}
    atoms = [part for part in frames.parts if part.n_atoms == 1 and part.cells is None]
    for part in atoms:
        for value in () if part.energies is None else part.energies.tolist():
            if not np.isclose(energies.setdefault(part.species[0], value), value, rtol=1e-9, atol=1e-3):
                raise DualityError(
                    f"{', '.join(part.source) or 'the data'}: isolated atoms of {part.species[0]} have different "
                    "energies; leave all but one out"
                )
    if not atoms:
        return frames, {}
    names = ", ".join(sorted({part.species[0] for part in atoms}))
    warnings.warn(
        f"isolated atoms of {names} are the zero of the energy of a fit, and are left out otherwise", stacklevel=2
    )
    others = [part for part in frames.parts if part.n_atoms > 1 or part.cells is not None]
    return joined(others or [atoms[0][:0]]), energies
