"""A little CP2K project that tests may damage, and the bundled data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
ARGON_NEON = Path(__file__).parent / "data" / "argon_neon"

INPUT = """&GLOBAL
  PROJECT other_name
  RUN_TYPE MD
&END GLOBAL
&FORCE_EVAL
  &SUBSYS
    &CELL
      ABC 10.0 11.0 12.0
    &END CELL
  &END SUBSYS
&END FORCE_EVAL
&MOTION
  &MD
    ENSEMBLE NVE
    TIMESTEP 0.5
  &END MD
&END MOTION
"""

LABELS = ("O", "H", "H")


def values(step: int, what: str) -> np.ndarray:
    """Numbers of one block that depend on step and file, so that a mismatch shows."""
    return np.random.default_rng([step, ord(what[0])]).normal(size=(len(LABELS), 3))


def block(step: int, what: str, labels: Sequence[str] = LABELS) -> str:
    """One block as CP2K writes it."""
    rows = [
        f"{name:>3} {x:20.10f}{y:20.10f}{z:20.10f}" for name, (x, y, z) in zip(labels, values(step, what), strict=True)
    ]
    head = f"{len(rows):>8}\n i = {step:>8}, time = {0.5 * step:>12.3f}, E = {-17.0 - 0.001 * step:>20.10f}\n"
    return head + "\n".join(rows) + "\n"


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Writes a project with the given steps and returns its prefix."""

    def write(positions: Sequence[int] = range(0, 50, 10), forces: Sequence[int] = range(0, 50, 10)) -> Path:
        (tmp_path / "w.inp").write_text(INPUT)
        (tmp_path / "w-pos-1.xyz").write_text("".join(block(s, "pos") for s in positions))
        (tmp_path / "w-frc-1.xyz").write_text("".join(block(s, "frc") for s in forces))
        return tmp_path / "w"

    return write
