"""Losses laid out as the kernel reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.fused.shape import Shape


def shape_of(losses: AgentLosses, box: str, precision: str) -> Shape:
    """What a kernel of these losses is written for."""
    form = losses.form
    return Shape(
        species=len(losses.species),
        fine=losses.basis.size,
        coarse=losses.coarse.size if form.coupled else 0,
        ranks=tuple(form.all_ranks),
        contracted=tuple(form.ranks),
        coupled=tuple(form.coupled),
        collective=losses.gradient == "collective",
        box=box,
        precision=precision,
    )


def tables(losses: AgentLosses, shape: Shape) -> dict[str, npt.NDArray[Any]]:
    """The arrays of the losses that the kernel reads, by the names of its arguments."""
    real = np.float32 if shape.precision == "single" else np.float64
    places, mirrors, factors = _places(shape)
    arrays = {
        "table": _table(losses, shape),
        "weights": _weights(losses, shape),
        "couplings": _couplings(losses, shape),
        "factors": factors,
    }
    return {name: np.ascontiguousarray(array, dtype=real) for name, array in arrays.items()} | {
        "places": places.astype(np.int32),
        "mirrors": mirrors.astype(np.int32),
    }


def _table(losses: AgentLosses, shape: Shape) -> npt.NDArray[np.float64]:
    """Powers by pair of species and interval: of the functions, then of the pair part; a row of zeros at the cutoff."""
    s, k, n, padded = shape.species, losses.grid.intervals, shape.functions, shape.padded
    table = np.zeros((s, s, k + 1, shape.stride))
    powers = table[:, :, :k, : 4 * padded].reshape(s, s, k, 4, padded)
    powers[..., :n] = losses.moment_basis.powers[..., :n]
    table[:, :, :k, : 4 * padded] = powers.reshape(s, s, k, 4 * padded)
    table[:, :, :k, 4 * padded :] = losses.pair_potentials.powers[..., 0]
    return table


def _weights(losses: AgentLosses, shape: Shape) -> npt.NDArray[np.float64]:
    """W^l_A by rank and species, rows (b, n) and padded columns."""
    s, n = shape.species, shape.fine
    weights = np.zeros((len(shape.contracted), s, s, n, s, shape.padded))
    for number, rank in enumerate(shape.contracted):
        weights[number, ..., :n] = losses.weights[rank].reshape(s, s, n, s, n)
    return weights


def _couplings(losses: AgentLosses, shape: Shape) -> npt.NDArray[np.float64]:
    q, padded = shape.invariants, shape.padded_invariants
    couplings = np.zeros((shape.species, padded, padded))
    couplings[:, :q, :q] = losses.couplings
    return couplings


def _places(shape: Shape) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Where the invariants are: at (a, b) and (b, a) among all contractions, and how often their slope counts there."""
    w, wide = shape.width, shape.padded_width
    places = np.full(shape.padded_invariants, shape.phi_size - 1)
    mirrors, factors = places.copy(), np.zeros(shape.padded_invariants)
    places[:w] = mirrors[:w] = np.arange(w)
    factors[:w] = 1.0
    rows, columns = np.triu_indices(w)
    for number in range(len(shape.coupled)):
        here = slice(w + number * shape.pairs, w + (number + 1) * shape.pairs)
        start = wide * (1 + number * w)
        places[here] = start + rows * wide + columns
        mirrors[here] = start + columns * wide + rows
        factors[here] = np.where(rows == columns, 2.0, 1.0)
    return places, mirrors, factors
