"""Force fields with atom types, combined pair potentials, torsions and ions, against their formulas."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import ase.build
import numpy as np
import pytest
from openmm import unit

from openmm_duality.cp2k.campaign import run_reference
from openmm_duality.cp2k.methods import read_method
from openmm_duality.errors import DualityError
from openmm_duality.reference import read, read_one
from openmm_duality.units import HARTREE
from tests.cp2k.cp2k_runs import configure

COULOMB = 138.935456  # kJ/mol nm / e²
TYPES = ("C", "O", "H", "HO", "H", "H", "Na", "Cl")
BONDS = [(0, 1), (1, 3), (0, 2), (0, 4), (0, 5)]
CHARGES = {"C": 0.145, "H": 0.04, "O": -0.683, "HO": 0.418, "Na": 1.0, "Cl": -1.0}
SITES = {  # ε, σ
    "C": (0.28, 0.35),
    "H": (0.13, 0.25),
    "O": (0.71, 0.31),
    "HO": (0.1, 0.1),
    "Na": (1.4754, 0.216),
    "Cl": (0.0535, 0.483),
}
STRETCH = {"C-O": (267776.0, 0.141), "O-HO": (462750.0, 0.0945), "C-H": (284512.0, 0.109)}
BEND = {"C-O-HO": (460.0, 108.5), "H-C-O": (293.0, 109.5), "H-C-H": (276.0, 107.8)}
TORSION = (1.9, 3, 25.0)  # k, m, φ₀
SCALE = (0.5, 0.3)


def method(combination: str) -> dict[str, Any]:
    terms = {
        "bonds": [{"species": name.split("-"), "k": k, "length": r} for name, (k, r) in STRETCH.items()],
        "angles": [{"species": name.split("-"), "k": k, "angle": a} for name, (k, a) in BEND.items()],
    }
    k, m, phase = TORSION
    return {
        "name": "classical",
        "cutoff": 1.2,
        "types": [{"name": "HO", "species": "H", "bonded": "O"}],
        "charges": CHARGES,
        "combination": combination,
        "lennard_jones": {name: {"epsilon": e, "sigma": s} for name, (e, s) in SITES.items()},
        "scale_14": {"charges": SCALE[0], "pairs": SCALE[1]},
        **terms,
        "torsions": [{"species": ["H", "C", "O", "HO"], "k": k, "multiplicity": m, "phase": phase}],
    }


def angle(positions: np.ndarray, i: int, j: int, k: int) -> float:
    a, b = positions[i] - positions[j], positions[k] - positions[j]
    return float(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))


def dihedral(positions: np.ndarray, i: int, j: int, k: int, n: int) -> float:
    a, b, c = (positions[y] - positions[x] for x, y in ((i, j), (j, k), (k, n)))
    return float(np.arctan2(np.linalg.norm(b) * a @ np.cross(b, c), np.cross(a, b) @ np.cross(b, c)))


def energy(positions: np.ndarray, combination: str) -> float:
    """Of a molecule of methanol and two ions, by hand."""
    third = {(2, 3), (3, 4), (3, 5)}
    near = {tuple(sorted(p)) for p in combinations(range(6), 2)} - third
    total = 0.0
    for pair in combinations(range(8), 2):
        if pair in near:
            continue
        i, j = pair
        r = float(np.linalg.norm(positions[i] - positions[j]))
        (e1, s1), (e2, s2) = SITES[TYPES[i]], SITES[TYPES[j]]
        e, s = np.sqrt(e1 * e2), 0.5 * (s1 + s2) if combination == "lorentz-berthelot" else np.sqrt(s1 * s2)
        coulomb, pairs = SCALE if pair in third else (1.0, 1.0)
        total += coulomb * COULOMB * CHARGES[TYPES[i]] * CHARGES[TYPES[j]] / r
        total += pairs * 4 * e * ((s / r) ** 12 - (s / r) ** 6)
    for i, j in BONDS:
        k, r0 = STRETCH.get(f"{TYPES[i]}-{TYPES[j]}") or STRETCH[f"{TYPES[j]}-{TYPES[i]}"]
        total += 0.5 * k * (np.linalg.norm(positions[i] - positions[j]) - r0) ** 2
    for i, j, n in [(0, 1, 3), (2, 0, 1), (4, 0, 1), (5, 0, 1), (2, 0, 4), (2, 0, 5), (4, 0, 5)]:
        k, theta = BEND[f"{TYPES[i]}-{TYPES[j]}-{TYPES[n]}"]
        total += 0.5 * k * (angle(positions, i, j, n) - np.radians(theta)) ** 2
    k, m, phase = TORSION
    total += sum(k * (1 + np.cos(m * dihedral(positions, h, 0, 1, 3) - np.radians(phase))) for h in (2, 4, 5))
    return total


@pytest.mark.parametrize("combination", ["lorentz-berthelot", "geometric"])
def test_a_force_field_of_types_is_its_formulas(tmp_path: Path, combination: str) -> None:
    one = ase.build.molecule("CH3OH")
    rng = np.random.default_rng(4)
    # sodium is as close to oxygen as if it were bonded to it, and is not
    ions = one.positions[1] + [[-1.4, -1.7, 0.4], [0.6, -4.0, 1.9]]
    positions = 0.1 * (np.concatenate([one.positions + rng.normal(scale=0.05, size=(6, 3)), ions]) + 20)
    species = (*one.symbols, "Na", "Cl")
    rows = "".join(f"{s} {x:.10f} {y:.10f} {z:.10f}\n" for s, (x, y, z) in zip(species, 10 * positions, strict=True))
    (tmp_path / "methanol.xyz").write_text(f'8\nLattice="40 0 0 0 40 0 0 0 40"\n{rows}')
    content = method(combination)
    frame = read_one(tmp_path / "methanol.xyz", "the test", forces=False)
    assert read_method(content).labels(frame) == TYPES
    tasks = [{"name": "point", "label": {"data": "methanol.xyz"}}, {"name": "md", "md": {"start": "point", "steps": 4}}]
    tasks[1]["md"].update(write_every=2, velocities=True)  # type: ignore[union-attr]
    config = configure(tmp_path, method=content, tasks=tasks)
    run_reference(config, tmp_path / "out")
    found, after = read(tmp_path / "out" / "point"), read(tmp_path / "out" / "md")
    assert found.forces is not None
    assert found.energies is not None
    assert after.forces is not None
    assert found.species == after.species == species
    assert after.velocities is not None
    kinetic = {int(row[0]): row[2] for row in np.loadtxt(tmp_path / "out" / "md" / "md-1.ener")}
    moving = 0.5 * np.einsum("i,tix,tix->t", after.masses, after.velocities, after.velocities)
    expected = [kinetic[step] * HARTREE for step in after.steps.tolist()]
    np.testing.assert_allclose(moving, expected, rtol=1e-4)  # CP2K moves the atoms with their masses
    assert {path.name for path in (tmp_path / "out" / "md").iterdir()} >= {"md.inp", "start.xyz", "bonds.psf"}
    forces, h = np.zeros((8, 3)), 1e-6
    for i, x in np.ndindex(8, 3):
        step = np.zeros((8, 3))
        step[i, x] = h
        both = [energy(positions + way * step, combination) for way in (1, -1)]
        forces[i, x] = (both[1] - both[0]) / (2 * h)
    # images are 4 nm away, and the dipole of the cell has a field of its own
    assert np.abs(found.forces[0] - forces).max() < 4.0
    assert np.abs(forces).max() > 1000.0
    assert found.energies[0] == pytest.approx(energy(positions, combination), abs=0.7)
    assert np.abs(after.forces[0] - found.forces[0]).max() < 1e-3


def test_the_first_type_that_fits_counts() -> None:
    water, methanol = ase.build.molecule("H2O"), ase.build.molecule("CH3OH")
    methanol.positions += 5.0
    both = water + methanol
    both.set_cell([20.0] * 3)
    both.pbc = True
    from openmm_duality.reference.formats import frames_of_atoms

    types = [
        {"name": "OW", "species": "O", "bonded": ["H", "H"]},
        {"name": "OH", "species": "O", "bonded": ["C"]},
        {"name": "HO", "species": "H", "bonded": ["O"]},
    ]
    bonds = [{"species": pair, "k": 1e5, "length": 0.1} for pair in (["OW", "HO"], ["OH", "HO"], ["C", "H"])]
    bonds.append({"species": ["C", "OH"], "k": 1e5, "length": 1.4 * unit.angstrom})
    content = {"name": "classical", "types": types, "bonds": bonds, "lennard_jones": {}, "pairs": [PAIR]}
    labels = read_method(content).labels(frames_of_atoms([both]))
    assert labels == ("OW", "HO", "HO", "C", "OH", "H", "HO", "H", "H")


PAIR = {"species": ["C", "C"], "lennard_jones": {"epsilon": 1, "sigma": 0.3}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "pairs or lennard_jones"),
        ({"lennard_jones": {"C": {"epsilon": 1}}}, "sigma must be given"),
        ({"lennard_jones": {"C": {"epsilon": -1, "sigma": 0.3}}}, "not negative"),
        ({"pairs": [PAIR], "combination": "waldman-hagler"}, "lorentz-berthelot or geometric"),
        ({"pairs": [PAIR], "torsions": [{"species": ["C"] * 3, "k": 1, "multiplicity": 3}]}, "list of 4"),
    ],
)
def test_what_is_wrong_is_refused(content: dict[str, Any], said: str) -> None:
    with pytest.raises(DualityError, match=said):
        read_method({"name": "classical", **content})


def test_a_type_without_a_potential_is_named() -> None:
    sites = {"C": {"epsilon": 1, "sigma": 0.3}}
    found = read_method({"name": "classical", "lennard_jones": sites})
    with pytest.raises(DualityError, match="C-O, O-O"):
        found.force_eval(("C", "O"), np.eye(3), True)
