"""Methods in a configuration, and CP2K's classical force fields against their formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from openmm_duality.cp2k.campaign import run_reference
from openmm_duality.cp2k.methods import read_method
from openmm_duality.errors import DualityError
from openmm_duality.reference import read
from tests.cp2k.cp2k_runs import configure

COULOMB = 138.935456  # kJ/mol nm / e²
CHARGES = {"C": 0.6, "O": -0.3}
CARBON, MIXED = (0.234, 0.2757), (0.396, 0.2895)  # ε, σ
OXYGEN = (200000.0, 35.0, 0.002)  # A, B, C
BOND, ANGLE = (1.0e6, 0.1149), (560.0, 165.0)
POSITIONS = 0.1 * np.array(
    [
        *([5.0, 5.0, 5.0], [6.18, 5.1, 5.0], [3.85, 5.0, 5.3]),
        *([9.5, 6.0, 5.0], [10.68, 6.1, 5.0], [8.35, 6.0, 5.4]),
        *([5.5, 8.5, 5.0], [6.7, 8.6, 5.0], [4.35, 8.5, 5.35]),
    ]
)
SPECIES = ("C", "O", "O") * 3


def energy(positions: np.ndarray) -> float:
    """Of three bent molecules far from their images, by hand."""
    total = 0.0
    for i in range(9):
        for j in range(3 * (i // 3)):
            r = float(np.linalg.norm(positions[i] - positions[j]))
            total += COULOMB * CHARGES[SPECIES[i]] * CHARGES[SPECIES[j]] / r
            if SPECIES[i] == SPECIES[j] == "O":
                total += OXYGEN[0] * np.exp(-OXYGEN[1] * r) - OXYGEN[2] / r**6
            else:
                epsilon, sigma = CARBON if SPECIES[i] == SPECIES[j] else MIXED
                total += 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6)
    for m in range(0, 9, 3):
        a, b = positions[m + 1] - positions[m], positions[m + 2] - positions[m]
        lengths = np.linalg.norm(a), np.linalg.norm(b)
        total += sum(0.5 * BOND[0] * (length - BOND[1]) ** 2 for length in lengths)
        total += 0.5 * ANGLE[0] * (np.arccos(a @ b / lengths[0] / lengths[1]) - np.radians(ANGLE[1])) ** 2
    return total


def test_a_classical_force_field_is_its_formulas(tmp_path: Path) -> None:
    rows = "".join(f"{s} {x} {y} {z}\n" for s, (x, y, z) in zip(SPECIES, 10 * POSITIONS, strict=True))
    (tmp_path / "three.xyz").write_text(f'9\nLattice="40 0 0 0 40 0 0 0 40"\n{rows}')
    method = {
        "name": "classical",
        "cutoff": 1.5,
        "charges": CHARGES,
        "pairs": [
            {"species": ["C", "C"], "lennard_jones": dict(zip(("epsilon", "sigma"), CARBON, strict=True))},
            {"species": ["O", "C"], "lennard_jones": dict(zip(("epsilon", "sigma"), MIXED, strict=True))},
            {"species": ["O", "O"], "buckingham": dict(zip("ABC", OXYGEN, strict=True))},
        ],
        "bonds": [{"species": ["C", "O"], "k": BOND[0], "length": BOND[1]}],
        "angles": [{"species": ["O", "C", "O"], "k": ANGLE[0], "angle": ANGLE[1]}],
    }
    config = configure(tmp_path, method=method, tasks=[{"name": "point", "label": {"data": "three.xyz"}}])
    run_reference(config, tmp_path / "out")
    found = read(tmp_path / "out" / "point")
    forces, h = np.zeros((9, 3)), 1e-6
    for i, x in np.ndindex(9, 3):
        step = np.zeros((9, 3))
        step[i, x] = h
        forces[i, x] = -(energy(POSITIONS + step) - energy(POSITIONS - step)) / (2 * h)
    assert found.forces is not None
    assert found.energies is not None
    # the images of the three molecules are 3 nm away and more
    assert np.abs(found.forces[0] - forces).max() < 0.5
    assert np.abs(forces).max() > 1000.0
    assert found.energies[0] == pytest.approx(energy(POSITIONS), abs=0.05)


PAIR = {"species": ["C", "C"], "lennard_jones": {"epsilon": 1, "sigma": 0.3}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("dftt", "expected one of nnp"),
        ({"functional": "PBE"}, "name"),
        ({"name": "dft", "functional": "B97"}, "PBE or revPBE or BLYP"),
        ({"name": "dft", "cutof": 300}, "unknown key cutof"),
        ({"name": "dft", "cutoff": -300}, "positive"),
        ({"name": "nnp", "members": 0}, "at least 1"),
        ({"name": "xtb", "charge": 0.5}, "whole number"),
        ({"name": "classical", "pairs": [{"species": ["C", "C"]}]}, "one of lennard_jones and buckingham"),
        ({"name": "classical", "pairs": [{**PAIR, "species": ["C"]}]}, "list of 2"),
        ({"name": "classical", "pairs": [PAIR], "charges": {"C": "much"}}, "charges of C"),
    ],
)
def test_a_wrong_method_is_refused(content: object, said: str) -> None:
    with pytest.raises(DualityError, match=said):
        read_method(content)


@pytest.mark.parametrize(
    ("content", "species", "said"),
    [
        ({"pairs": [PAIR]}, ("C", "O"), "C-O, O-O"),
        ({"pairs": [PAIR], "charges": {"C": 1}}, ("C", "C"), "sum to 2"),
        ({"pairs": [PAIR], "charges": {"O": 1}}, ("C",), "not of C"),
    ],
)
def test_a_force_field_must_cover_the_system(content: dict, species: tuple[str, ...], said: str) -> None:
    with pytest.raises(DualityError, match=said):
        read_method({"name": "classical", **content}).force_eval(species, np.eye(3), True)
