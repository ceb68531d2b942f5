"""Losses and atoms as one string of bytes, for what has to travel inside a force or a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.fused.losses import FusedLosses


def pack(losses: AgentLosses, species: Sequence[str], precision: str, particles: Sequence[int] | None = None) -> bytes:
    """Pack losses and atoms: a line of JSON, then the model file without what forces do not need; nothing in it is run.

    Raises
    ------
    DualityError
        If a species is unknown to the model, the precision is not one of the two, or the particles are wrong.
    """
    FusedLosses(losses, species, precision, particles)
    indices = None if particles is None else [int(k) for k in particles]
    header = json.dumps({"species": list(species), "precision": precision, "particles": indices})
    with TemporaryDirectory() as folder:
        path = Path(folder) / "losses"
        replace(losses, committee=None, domain=None, equations={}, metadata={}).save(path)
        return header.encode() + b"\n" + path.read_bytes()


@lru_cache(maxsize=16)
def unpacked(packed: bytes) -> FusedLosses:
    """The losses that `pack` packed, ready to be called; the same object for the same bytes."""
    header, model = packed.split(b"\n", 1)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "losses"
        path.write_bytes(model)
        losses = AgentLosses.load(path)
    return FusedLosses(losses, **json.loads(header))
