"""Paths of molecules and directions of bonds, collected from frames that may be wrapped.

A path is continued from frame to frame by the minimum image, so frames must be close enough that no atom moves half a
cell between two of them. The motion of the whole system's centre of mass is taken out. Index suffixes: t frame, i atom,
m molecule, p bond.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.observables.bonds import Bonds, bond_labels
from openmm_duality.observables.trajectory import Trajectory
from openmm_duality.progress import progress_bar

_NUMBERS = 15_000_000  # 120 MB of doubles, for paths and directions together
_MOST_POINTS = 2000
_AMBIGUOUS = 0.4  # of a cell vector between two frames: beyond half, the image is unknown


@dataclass(frozen=True)
class Paths:
    """Paths of molecules and directions of their bonds.

    Parameters
    ----------
    spacing : float
        Of the points in time, in ps.
    centres : dict of str to array, shape (T, M, 3)
        Centres of mass of the molecules by formula in nm, continuous in time.
    directions : dict of str to array, shape (T, P, 3)
        Unit vectors along the bonds of every pair of species.
    owners : dict of str to array of int, shape (P,)
        The molecule of every bond.
    lost : bool
        Whether atoms moved so far between frames that their paths cannot be followed.
    """

    spacing: float
    centres: dict[str, FloatArray]
    directions: dict[str, FloatArray]
    owners: dict[str, IntArray]
    lost: bool


def follow_molecules(
    trajectory: Trajectory, bonds: Bonds, *, lasting: BoolArray | None = None, progress: bool
) -> Paths:
    """Follow the molecules of a trajectory, streamed; at most 2,000 points in time are kept, fewer of large systems.

    Parameters
    ----------
    trajectory : Trajectory
        Wrapped or unwrapped, evenly spaced.
    bonds : Bonds
        Of its first frame.
    lasting : array of bool, shape (N,), optional
        The atoms of the molecules that are followed; by default all.
    progress : bool
        Whether to show a progress bar.
    """
    n_vectors = bonds.n_molecules + len(bonds.pairs)
    stride = -(-len(trajectory) // max(2, min(_MOST_POINTS, _NUMBERS // (3 * n_vectors))))
    share = trajectory.masses / np.bincount(bonds.molecule, trajectory.masses)[bonds.molecule]
    system = trajectory.masses / trajectory.masses.sum()
    centres, directions, lost, done = [], [], False, 0
    last = unwrapped = None
    with progress_bar(len(trajectory), f"motion in {trajectory.name}", show=progress) as bar:
        for chunk in trajectory:
            if last is None or unwrapped is None:
                last = chunk.positions[0]
                unwrapped = bonds.whole(last, chunk.cell(0))
            steps = np.diff(chunk.positions, axis=0, prepend=last[None])
            moved = steps if chunk.cells is None else minimum_image(steps, chunk.cells)
            if chunk.cells is not None:
                lost = lost or bool(np.abs(moved @ np.linalg.inv(chunk.cells)).max() > _AMBIGUOUS)
            paths = unwrapped + np.cumsum(moved, axis=0)
            last, unwrapped = chunk.positions[-1], paths[-1]
            thinned = paths[(-done) % stride :: stride]
            thinned = thinned - np.einsum("i,tix->tx", system, thinned)[:, None]
            centres.append(_sums(share[:, None] * thinned, bonds.molecule))
            arms = thinned[:, bonds.pairs[:, 1]] - thinned[:, bonds.pairs[:, 0]]
            directions.append(arms / np.linalg.norm(arms, axis=2, keepdims=True))
            done += len(chunk)
            bar.update(len(chunk))
    formula = formulas(trajectory.species, bonds.molecule)
    label = np.array(bond_labels(trajectory.species, bonds.pairs), dtype=str)
    if lasting is not None:  # what changes has no name and is given to nobody
        formula[np.unique(bonds.molecule[~lasting])] = ""
        label[~lasting[bonds.pairs].all(axis=1)] = ""
    where, along = np.concatenate(centres), np.concatenate(directions)
    return Paths(
        spacing=trajectory.spacing * stride,
        centres={str(name): where[:, formula == name] for name in np.unique(formula) if name},
        directions={str(name): along[:, label == name] for name in np.unique(label) if name},
        owners={str(name): bonds.molecule[bonds.pairs[label == name, 0]] for name in np.unique(label) if name},
        lost=lost,
    )


def formulas(species: tuple[str, ...], molecule: IntArray) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    """The formula of every molecule, species in alphabetical order, shape (M,)."""
    distinct, code = np.unique(np.array(species), return_inverse=True)
    number = np.zeros((int(molecule.max()) + 1, len(distinct)), dtype=np.int64)
    np.add.at(number, (molecule, code), 1)
    different, which = np.unique(number, axis=0, return_inverse=True)
    names = [
        "".join(f"{symbol}{n if n > 1 else ''}" for symbol, n in zip(distinct, row, strict=True) if n)
        for row in different
    ]
    return np.array(names)[which.ravel()]


def _sums(values: FloatArray, molecule: IntArray) -> FloatArray:
    """Sums over the atoms of every molecule: (T, N, 3) to (T, M, 3)."""
    order = np.argsort(molecule, kind="stable")
    starts = np.flatnonzero(np.diff(molecule[order], prepend=-1))
    return np.asarray(np.add.reduceat(values[:, order], starts, axis=1))
