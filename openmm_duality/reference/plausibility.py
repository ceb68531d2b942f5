"""Checks that forces have the units that are assumed, from pairs of similar frames, and that they are of a potential.

Between two similar frames with displacements Δq of the atoms and changes ΔF of the forces, a quadratic potential gives
ΔF = −K Δq and ΔE = −½ (F + F′)·Δq. So |ΔF|²/(−ΔF·Δq) is a mean stiffness weighted by the forces, which cannot exceed
that of the strongest bond; and the slope of ΔE over −½ (F + F′)·Δq is one if energies and forces have the same units.
Neither depends on the temperature. Where too few frames are similar, only the size of the forces is left to judge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.bonding import sums_of_covalent_radii
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.geometry.pairs import pairs_within
from openmm_duality.reference.frames import Frames, evenly_spaced
from openmm_duality.reference.mixed_frames import AnyFrames
from openmm_duality.units import ANGSTROM, ELECTRONVOLT

# kJ/mol/nm²; the largest force constants of a bond, those of N2 and CO, give 2 k = 290 eV/Å²
_STIFFEST = 300.0 * ELECTRONVOLT / ANGSTROM**2
_SLOPES = (0.6, 1.6)  # of energies over the work of the forces
_CLEAR = 0.9  # correlation of the two from which the slope says something
_SIMILAR = 0.05  # nm, root mean square displacement of similar frames
_LARGEST = 10.0 * ELECTRONVOLT / ANGSTROM  # kJ/mol/nm, root mean square
_CLOSE = 0.6  # of the sum of the covalent radii; only atoms closer than this have forces so large
_UNBALANCED = 0.05  # of the sum that independent forces would have; what programs round leaves less than 0.001
_PERCEPTIBLE = 0.02 * ELECTRONVOLT / ANGSTROM  # along an axis: of a relaxed structure only noise is left
_FRAMES = 200
_ATOMS = 12_000  # in all frames that are compared
_FEWEST, _MOST = 5, 20  # pairs, of which the most similar are taken


@dataclass(frozen=True)
class SimilarPairs:
    """Pairs of similar frames: displacements and changes, summed over the atoms of each pair.

    Parameters
    ----------
    stiffness : float or None
        |ΔF|²/(−ΔF·Δq) in kJ/mol/nm², None if too few pairs are similar.
    slope, correlation : float or None
        Of ΔE over −½ (F + F′)·Δq; None without energies.
    """

    stiffness: float | None
    slope: float | None = None
    correlation: float | None = None


def implausible_units(frames: AnyFrames) -> list[str]:
    """Sentences about forces whose size, or whose work, cannot be right in the units that were assumed."""
    part = max(frames.parts, key=len)
    found = similar_pairs(part)
    sentences = []
    if found.stiffness is None:
        sentences += excessive_forces(frames)
    elif found.stiffness > _STIFFEST:
        sentences.append(
            f"between similar frames the forces change by {found.stiffness / _STIFFEST * 300:,.0f} eV/Å² times the "
            "displacement, which is stiffer than the strongest bond there is (290 eV/Å²); the forces are probably not "
            "in the units that were assumed (see --units, or units in the entry of the data set)"
        )
    if found.slope is not None and found.correlation is not None and abs(found.correlation) > _CLEAR:
        low, high = _SLOPES
        if found.slope < 0.0:
            sentences.append(
                "between similar frames the energies rise where the forces point, so that these are gradients, of the "
                "opposite sign, or other columns than forces"
            )
        elif not low < found.slope < high:
            sentences.append(
                f"between similar frames the energies change by {found.slope:.3g} times the work of the forces, so "
                "that energies and forces are not in the same units, or not of the same method"
            )
    return sentences


def excessive_forces(frames: AnyFrames) -> list[str]:
    """A sentence about forces of more than 10 eV/Å, root mean square, although no atoms are close to each other.

    For frames of different compositions or orders of the atoms, of which too few are similar.
    """
    parts = [part for part in frames.parts if part.forces is not None and part.n_atoms > 1]
    forces = [part.forces for part in parts if part.forces is not None]
    number, square = sum(f.size for f in forces), sum(float(np.sum(f**2)) for f in forces)
    if not number or square <= _LARGEST**2 * number or any(_compressed(part, len(parts)) for part in parts):
        return []
    size = np.sqrt(square / number) / (ELECTRONVOLT / ANGSTROM)
    return [
        f"the forces are {size:,.0f} eV/Å (root mean square) although no atoms are closer than {_CLOSE:g} times the "
        "sum of their covalent radii; the forces are probably not in the units that were assumed (see --units, or "
        "units in the entry of the data set)"
    ]


def unbalanced_forces(frames: AnyFrames) -> list[str]:
    """A sentence about forces that do not add up to zero, which those of a potential do."""
    forces = [part.forces for part in frames.parts if part.forces is not None and part.n_atoms > 1]
    sums = [(float(np.sum(np.sum(one, axis=1) ** 2)), float(np.sum(one**2)), len(one)) for one in forces]
    sums = [one for one in sums if one[0] > max(_UNBALANCED**2 * one[1], 3 * one[2] * _PERCEPTIBLE**2)]
    if not sums:
        return []
    net, independent, count = (sum(numbers) for numbers in zip(*sums, strict=True))
    size = np.sqrt(net / (3 * count)) / (ELECTRONVOLT / ANGSTROM)
    return [
        f"the forces of {count} frames add up to {size:.2g} eV/Å (root mean square along an axis), "
        f"{100.0 * np.sqrt(net / independent):.0f} % of what independent forces of their size would, where those of a "
        "potential add up to zero, and no loss can learn what is left. Write the forces without those of a thermostat "
        "(LAMMPS: fix langevin adds random ones) or of an external field, and those of atoms held fixed as they are, "
        "not as zero (ASE: get_forces(apply_constraint=False)); or converge them better"
    ]


def _compressed(frames: Frames, n_parts: int) -> bool:
    """Whether two atoms are far closer than a bond is long, or are of no element, so that nobody knows."""
    names = frames.distinct_species
    bonds = sums_of_covalent_radii(names)
    if np.isnan(bonds).any():
        return True
    limits, index = _CLOSE * bonds, np.array([names.index(name) for name in frames.species])
    for t in evenly_spaced(len(frames), max(1, _ATOMS // (n_parts * frames.n_atoms))):
        i, j, d = pairs_within(frames.positions[t], frames.cell(t), float(limits.max()))
        if (d < limits[index[i], index[j]]).any():
            return True
    return False


def similar_pairs(frames: Frames) -> SimilarPairs:
    """Compare every one of at most 200 frames with the most similar of the others."""
    if frames.forces is None or frames.n_atoms < 2 or len(frames) < 2:
        return SimilarPairs(None)
    count = int(np.clip(_ATOMS // frames.n_atoms, 2 * _FEWEST, _FRAMES))
    chosen = evenly_spaced(len(frames), count)
    behind = np.minimum(chosen + 1, len(frames) - 1)  # in a trajectory the most similar frame is the next
    i, j = np.triu_indices(len(chosen), 1)
    first, second = np.concatenate([chosen[i], chosen]), np.concatenate([chosen[j], behind])
    keep = first != second
    first, second = first[keep], second[keep]
    moved, force_changes, work = _compare(frames, first, second)
    sizes = np.sqrt(np.mean(np.sum(moved**2, axis=-1), axis=-1))
    nearest = [np.flatnonzero((first == t) | (second == t)) for t in chosen]
    pairs = np.unique([of[np.argmin(sizes[of])] for of in nearest if len(of)]).astype(np.int64)
    pairs = pairs[sizes[pairs] < _SIMILAR]
    pairs = pairs[np.argsort(sizes[pairs])[:_MOST]]
    if len(pairs) < _FEWEST:
        return SimilarPairs(None)
    opposed = -float(np.sum(force_changes[pairs] * moved[pairs]))
    stiffness = float(np.sum(force_changes[pairs] ** 2)) / opposed if opposed > 0.0 else None
    if frames.energies is None:
        return SimilarPairs(stiffness)
    changes, done = (frames.energies[second] - frames.energies[first])[pairs], work[pairs]
    size = float(np.sum(done**2) * np.sum(changes**2))
    if not size:
        return SimilarPairs(stiffness)
    product = float(changes @ done)
    return SimilarPairs(stiffness, product / float(np.sum(done**2)), product / np.sqrt(size))


def _compare(frames: Frames, first: IntArray, second: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Displacements and changes of the forces, shape (K, N, 3), and −½ (F + F′)·Δq, shape (K,), of pairs of frames.

    Without a cell the second frame is rotated onto the first. Pairs with different cells get infinite displacements.
    """
    assert frames.forces is not None
    x, y = frames.positions[first], frames.positions[second]
    f, g = frames.forces[first], frames.forces[second]
    if frames.cells is None:
        x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
        u, _, v = np.linalg.svd(np.einsum("kia,kib->kab", y, x))
        u[..., -1] *= np.sign(np.linalg.det(u @ v))[:, None]
        rotation = u @ v
        moved, g = y @ rotation - x, g @ rotation
    else:
        moved = np.array([minimum_image(b - a, frames.cell(int(t))) for a, b, t in zip(x, y, first, strict=True)])
        moved -= moved.mean(axis=1, keepdims=True)
        same = np.abs(frames.cells[first] - frames.cells[second]).max(axis=(1, 2)) < 1e-3 * np.abs(frames.cells).max()
        moved[~same] = np.inf
    with np.errstate(invalid="ignore"):
        work = -0.5 * np.einsum("kia,kia->k", f + g, moved)
    return moved, g - f, work
