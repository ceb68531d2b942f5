"""Targets of the fit: reference forces, or accelerations if there are none, energies and virials."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from openmm_duality.bounds import require_bounds
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.bonding import BondLengths
from openmm_duality.geometry.cells import minimum_image, widths
from openmm_duality.geometry.molecules import bonded_pairs
from openmm_duality.losses.baseline import Baseline
from openmm_duality.reference.formats import frames_of
from openmm_duality.reference.frames import Frames, evenly_spaced, formula
from openmm_duality.reference.mixed_frames import AnyFrames, balanced, of_one_composition, without_isolated_atoms
from openmm_duality.reference.molecules import bond_lengths
from openmm_duality.schema import quantity

COARSEST = 2e-3  # ps; longer steps do not resolve bond vibrations
_NO_TARGETS = "these frames have no forces and are not dynamics, so they contain no targets for inference"
_COMPOSITIONS = 1000  # of clusters, which are listed
_BONDS_OF = 100  # compositions of a set, those with the most frames
_LOOKED_AT = 5  # frames of each, for pairs that are not bonded in them
_SPACING = 1e-2  # ps between the centres of acceleration targets; closer ones are nearly redundant


@dataclass(frozen=True)
class DataSet:
    """A set of training frames.

    Parameters
    ----------
    frames : Frames or MixedFrames
        Frames with forces, or successive steps of a trajectory from which accelerations are computed.
    weight : float
        Factor on the squared errors of this set.
    name : str
        Name in error tables.
    atom_energies : mapping of str to float
        Energies of isolated atoms in kJ/mol by species, with the zero of the energies of the frames. `infer` adds those
        of isolated atoms among the frames, and does not fit these frames otherwise.
    """

    frames: AnyFrames
    weight: float = 1.0
    name: str = "data"
    atom_energies: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_bounds(quantity()(self.weight, f"data {self.name}: weight"), "weight", f"data {self.name}")


TrainingData: TypeAlias = AnyFrames | str | Path | DataSet | Sequence[DataSet]


@dataclass(frozen=True)
class Sample:
    """One fitting target, for the weighted sum of rows Σ_k share_k · (rows of configuration k).

    Parameters
    ----------
    species : tuple of str, length N
    configurations : tuple of (share, positions (N, 3) in nm, cell (3, 3) in nm or None)
    target : array, shape (N, 3)
        In kJ/mol/nm.
    energy : float or None
        Energy in kJ/mol, if the sample has a single configuration with an energy.
    virial : array, shape (3, 3), or None
        W = −V σ in kJ/mol, if the sample has a single configuration with a stress.
    """

    species: tuple[str, ...]
    configurations: tuple[tuple[float, FloatArray, FloatArray | None], ...]
    target: FloatArray
    energy: float | None = None
    virial: FloatArray | None = None

    @property
    def central(self) -> int:
        """Index of the configuration at the time of the target."""
        return len(self.configurations) // 2


def as_sets(data: TrainingData, baseline: Baseline | None = None, progress: bool = False) -> list[DataSet]:
    """Convert the data argument of `infer` to a list of data sets, without isolated atoms and the forces of a baseline.

    Raises
    ------
    DualityError
        If there is no data set, or one without frames or with energies alone, or something else than data.
    """
    given = data if isinstance(data, Sequence) and not isinstance(data, str) else [data]
    sets = [_without_isolated_atoms(one) for one in map(_as_set, given)]
    empty = [s.name for s in sets if not len(s.frames)]
    if not sets or empty:
        raise DualityError(f"there are no frames to infer from{' in ' + ', '.join(empty) if empty else ''}")
    if any(only_energies(s.frames) for s in sets):
        raise DualityError(_NO_TARGETS)
    if baseline is None:
        return sets
    return [replace(s, frames=baseline.subtracted_from(s.frames, s.name, progress)) for s in sets]


def _as_set(data: Any) -> DataSet:
    return data if isinstance(data, DataSet) else DataSet(frames_of(data))


def _without_isolated_atoms(data: DataSet) -> DataSet:
    frames, energies = without_isolated_atoms(data.frames)
    if frames is data.frames:
        return data
    return replace(data, frames=frames, atom_energies={**energies, **data.atom_energies})


def data_set_metadata(data: DataSet) -> dict[str, Any]:
    """Entry of a data set in the metadata of a model."""
    cells = (part.cells[[0, -1]] for part in data.frames.parts if part.cells is not None and len(part))
    clusters = sorted({formula(part.species) for part in data.frames.parts if part.cells is None and len(part)})
    return {
        "name": data.name,
        "weight": data.weight,
        "frames": len(data.frames),
        "targets": "forces" if data.frames.has_forces else "accelerations",
        "source": list(data.frames.source),
        "widest_cell": max((float(widths(cell).min()) for ends in cells for cell in ends), default=None),
        "clusters": clusters if len(clusters) <= _COMPOSITIONS else None,
    }


def species_and_masses(sets: Sequence[DataSet]) -> tuple[tuple[str, ...], FloatArray]:
    """Collect the names of the species, in alphabetical order, and their masses in dalton.

    Raises
    ------
    DualityError
        If a species has different masses in different data sets.
    """
    masses: dict[str, float] = {}
    for name_of_set, part in ((s.name, part) for s in sets for part in s.frames.parts):
        for name, mass in sorted(set(zip(part.species, part.masses.tolist(), strict=True))):
            if not np.isclose(masses.setdefault(name, mass), mass):
                raise DualityError(
                    f"{name} has a mass of {masses[name]:.4f} in one data set and of {mass:.4f} dalton in "
                    f"{name_of_set!r}; give isotopes different names"
                )
    species = tuple(sorted(masses))
    return species, np.array([masses[name] for name in species])


def pair_frames(sets: Sequence[DataSet]) -> list[tuple[Frames, set[tuple[str, str]]]]:
    """Frames in which each pair of species is analysed: those of the first data set that contains two such atoms.

    In a set of several compositions, the one with the most frames comes first. Where no set has two atoms of a species,
    frames with one show it and its images.
    """
    found: set[tuple[str, str]] = set()
    result = []
    parts = [part for s in sets for part in sorted(s.frames.parts, key=len, reverse=True)]
    for least in (2, 1):
        for frames in parts:
            every = combinations_with_replacement(frames.distinct_species, 2)
            pairs = {(a, b) for a, b in every if a != b or frames.species.count(a) >= least} - found
            if pairs:
                result.append((frames, pairs))
                found |= pairs
    return result


def bond_lengths_of(sets: Sequence[DataSet]) -> BondLengths:
    """The bond length in nm of every pair of species that is bonded, in the first data set that shows the bond.

    Of several compositions, which may have bonds that others lack, the longest counts: that of few frames may be cut
    too short. But a pair is not bonded where a composition of more frames has it as close without bonding it, as a
    crystal beside a dimer. Looked at are the hundred with the most frames, and those that `pair_frames` gives.
    """
    shown, result = [frames for frames, _ in pair_frames(sets)], BondLengths()
    for data in sets:
        parts = sorted(data.frames.parts, key=len, reverse=True)
        looked_at = [frames for k, frames in enumerate(parts) if k < _BONDS_OF or any(frames is one for one in shown)]
        found = [bond_lengths(frames) for frames in looked_at]
        longest = BondLengths()
        for k, (pair, length) in ((k, bond) for k, one in enumerate(found) for bond in one.items()):
            others = [frames for frames, one in zip(looked_at[:k], found, strict=False) if pair not in one]
            if pair in longest or not any(_come_within(length, pair, frames) for frames in others):
                longest[pair] = max(length, longest.get(pair, 0.0))
        result = {**longest, **result}
    return result


def _come_within(length: float, pair: tuple[str, str], frames: Frames) -> bool:
    """Whether atoms of a pair of species come within a length in nm, in a few evenly spaced frames."""
    chosen = evenly_spaced(len(frames), _LOOKED_AT)
    return any(len(bonded_pairs(frames.positions[t], frames.species, frames.cell(t), {pair: length})) for t in chosen)


def parts_of(sets: Sequence[DataSet]) -> list[Frames]:
    """The frames of all sets, each of one composition."""
    return [part for s in sets for part in s.frames.parts]


def only_energies(frames: AnyFrames) -> bool:
    """Whether energies are all there is to compare with: no forces, and no dynamics that give accelerations."""
    single = all(part.energies is not None and part.timestep is None for part in frames.parts)
    return bool(len(frames)) and not frames.has_forces and single


def count_samples(frames: AnyFrames) -> int:
    """Number of samples that `samples` yields."""
    one_per_frame = frames.has_forces or only_energies(frames) or not len(frames)
    return len(frames) if one_per_frame else len(_centres(_trajectory(frames)))


def agent_weights(squares: FloatArray, weight: float, large_force: float) -> FloatArray:
    """Weights of the errors of agents, shape (N,), by the squares of their forces and the weight of their data set."""
    return weight / (1.0 + squares / large_force**2)


def sample_numbers(frames: AnyFrames, every: int = 1) -> IntArray:
    """Numbers of every n-th sample, in the order in which they are divided into blocks (`mixed_frames.balanced`)."""
    return balanced(frames, np.arange(0, count_samples(frames), every))


def samples(frames: AnyFrames, numbers: Iterable[int] | None = None) -> Iterator[Sample]:
    """Yield the targets of a set of frames: one sample per frame with forces, else one per 10 fs of trajectory.

    Single points that have only energies yield one sample per frame too, whose target is not a number.

    Without forces the target is M (q₊ − 2 q₀ + q₋)/Δt². On a velocity Verlet trajectory with time step δ this is the
    mean of the forces at all steps between q₋ and q₊ with triangular weights, F₀ + (Δt² − δ²)/12 F̈ to fourth order; the
    rows are weighted accordingly, w F₋ + (1 − 2w) F₀ + w F₊ with w = (1 − δ²/Δt²)/12. If every step was written, w = 0
    is exact; for small δ the formula is that of Numerov, w = 1/12.

    Parameters
    ----------
    frames : Frames or MixedFrames
    numbers : iterable of int, optional
        Numbers of the samples to yield, counted from 0; all by default.

    Raises
    ------
    DualityError
        If there are no forces and the frames are no trajectory of one composition, more than 2 fs apart or not equally
        spaced.
    """
    if frames.has_forces or only_energies(frames):
        for number in range(len(frames)) if numbers is None else numbers:
            part, t = frames.locate(number)
            target = np.full((part.n_atoms, 3), np.nan) if part.forces is None else part.forces[t]
            energy = None if part.energies is None else float(part.energies[t])
            virial = None
            if part.stresses is not None and part.cells is not None:
                virial = -abs(float(np.linalg.det(part.cells[t]))) * part.stresses[t]
            yield Sample(part.species, ((1.0, part.positions[t], part.cell(t)),), target, energy, virial)
        return
    trajectory = _trajectory(frames)
    dt = _spacing(trajectory)
    shares = _shares(trajectory, dt)
    centres = _centres(trajectory)
    positions = trajectory.positions
    for t in centres if numbers is None else (centres[number] for number in numbers):
        before, after = (minimum_image(positions[k] - positions[t], trajectory.cell(t)) for k in (t - 1, t + 1))
        acceleration = (before + after) / dt**2
        yield Sample(
            trajectory.species,
            tuple((share, positions[t + k], trajectory.cell(t + k)) for k, share in shares),
            trajectory.masses[:, None] * acceleration,
        )


def _trajectory(frames: AnyFrames) -> Frames:
    return of_one_composition(frames, "the computation of accelerations, for lack of forces,")


def _shares(frames: Frames, dt: float) -> list[tuple[int, float]]:
    """Offsets and weights of the frames whose rows are summed for a target."""
    assert frames.timestep is not None
    w = (1.0 - min(1.0, frames.timestep / dt) ** 2) / 12.0
    return [(-1, w), (0, 1.0 - 2.0 * w), (1, w)] if w > 1e-4 else [(0, 1.0)]


def _centres(frames: Frames) -> range:
    stride = max(1, round(_SPACING / _spacing(frames)))
    return range(1, len(frames) - 1, stride)


def _spacing(frames: Frames) -> float:
    """Time between frames in ps, after checks that accelerations can be computed from them."""
    if len(frames) < 3:
        raise DualityError(
            "without forces the targets are accelerations, which need at least three successive frames of a "
            "trajectory; if the file has forces under another name, give it with --forces-key"
        )
    steps = np.diff(frames.times)
    dt = float(np.median(steps))
    if frames.timestep is None:
        raise DualityError(_NO_TARGETS)
    if not np.allclose(steps, dt, rtol=1e-3, atol=0.0):
        raise DualityError(
            f"accelerations need equally spaced frames, but the spacing varies from {steps.min() * 1e3:.3f} to "
            f"{steps.max() * 1e3:.3f} fs; choose a part of the trajectory without gaps"
        )
    if dt > COARSEST * (1.0 + 1e-6):
        raise DualityError(
            f"without forces, inference takes accelerations from second differences, and frames every {dt * 1e3:.2f} "
            f"fs are too coarse for them (at most {COARSEST * 1e3:.0f} fs); let CP2K write positions every step, or "
            "forces"
        )
    return dt


def indices_of(names: Sequence[str], species: tuple[str, ...]) -> IntArray:
    """Species index of every atom."""
    return np.array([species.index(name) for name in names], dtype=np.int64)
