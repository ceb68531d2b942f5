"""Which atoms are bonded, as CP2K reads it: a PSF file with bonds, angles and dihedrals.

CP2K can find bonds itself, but then bonds ions to molecules that touch them, and sorts molecules by kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.molecules import component_labels

_PER_LINE = 8


def neighbours_of(bonds: IntArray, n_atoms: int) -> list[list[int]]:
    """The atoms that each of n atoms is bonded to, from bonds of shape (n_bonds, 2)."""
    found: list[list[int]] = [[] for _ in range(n_atoms)]
    for i, j in bonds.tolist():
        found[i].append(j)
        found[j].append(i)
    return found


def psf_text(labels: Sequence[str], masses: FloatArray, bonds: IntArray) -> str:
    """A PSF file (CP2K's ``UPSF``, without fixed columns) of labelled atoms and their bonds, shape (n_bonds, 2).

    CP2K moves the atoms with the masses of this file, in dalton, whatever their elements.
    """
    near = neighbours_of(bonds, len(labels))
    angles = [(i, j, k) for j, around in enumerate(near) for i, k in combinations(around, 2)]
    dihedrals = [(i, j, k, m) for j, k in bonds.tolist() for i in near[j] for m in near[k] if len({i, j, k, m}) == 4]
    molecules = component_labels(bonds, len(labels)) + 1
    named = enumerate(zip(labels, molecules, masses.tolist(), strict=True), start=1)
    # segment, residue, name and type; charges are given elsewhere
    atoms = [f"{n} M{m} {m} M{m} {name} {name} 0.0 {mass:.6f} 0" for n, (name, m, mass) in named]
    lines = ["PSF", "", "1 !NTITLE", "REMARKS", "", f"{len(labels)} !NATOM", *atoms, ""]
    for name, rows in (("NBOND", bonds.tolist()), ("NTHETA", angles), ("NPHI", dihedrals), ("NIMPHI", [])):
        lines += [f"{len(rows)} !{name}", *_table(rows), ""]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Sequence[int]]) -> list[str]:
    """Numbers of atoms, counted from one, whole rows to a line."""
    if not rows:
        return []
    per_line = _PER_LINE // len(rows[0]) if len(rows[0]) != 3 else 3
    numbers = np.array(rows) + 1
    return [" ".join(map(str, numbers[n : n + per_line].ravel())) for n in range(0, len(rows), per_line)]
