"""Losses laid out as the kernel reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.losses.means import AboutMeans, about_means
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.fused.channels import channel_tables, entry_weights
from openmm_duality.lowering.fused.own_extent import OwnExtent
from openmm_duality.lowering.fused.shape import MEMBER_TURN, Shape
from openmm_duality.machine_code.machine import to_aligned

_NOTHING = 1e-14  # of the largest, below which a function is taken for zero


def shape_of(losses: AgentLosses, box: str, precision: str) -> Shape:
    """Constants of a kernel for the given losses."""
    form, own = losses.form, dict[str, Any]()
    if losses.own is not None:
        extent = OwnExtent.of(losses)
        own = {
            "own_fine": extent.fine,
            "own_coarse": extent.coarse,
            "own_invariants": int(extent.coupled.sum()),
            "own_mixed": extent.mixed,
        }
    return Shape(
        species=len(losses.species),
        fine=losses.basis.size,
        coarse=losses.coarse.size if form.coupled else 0,
        ranks=tuple(form.all_ranks),
        contracted=tuple(form.ranks),
        coupled=tuple(form.coupled),
        reactions=losses.has_reactions,
        box=box,
        precision=precision,
        mixed=tuple(form.channels),
        rows=max((int((2 * mine.ranks + 1).sum()) for mine in losses.channels), default=0),
        own=losses.own is not None,
        **own,
    )


def descents_of(losses: AgentLosses, number: int) -> list[AgentLosses]:
    """The losses, and where there are two the own part, which an agent descends beside them."""
    return [losses, losses.own_part] if number > 1 else [losses]


def tables(
    losses: AgentLosses, shape: Shape, centres: FloatArray | None = None, mean_phi: FloatArray | None = None
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of the losses that the kernel reads, by the names of its arguments.

    Parameters
    ----------
    losses : AgentLosses
    shape : Shape
    centres : array, shape (S, S, n), optional
        Sums ρ₀ about which contractions are written (`means.about_means`); zero by default.
    mean_phi : array, shape (S, Q), optional
        Invariants φ̄ about which their quadratic form is written; zero by default.
    """
    if centres is None:
        centres = np.zeros((shape.species, shape.species, shape.fine))
    if mean_phi is None:
        mean_phi = np.zeros(losses.couplings.shape[:2])
    descents = descents_of(losses, shape.descents)
    written = [about_means(one, centres, mean_phi) for one in descents]
    if losses.channels:
        own = descents[1].channel_weights if shape.descents > 1 else ()
        found = channel_tables(losses.channels, own) | {"table": _table(losses, shape, written)}
        by_descent = [entry_weights(losses.channels, one.channel_matrices, own) for one in descents]
        found["entry_weights"] = np.concatenate(by_descent)
        found["entries"] = np.array([len(found["entry_rows"])])
        laid_out = {
            name: np.ascontiguousarray(array, dtype=shape.dtype if array.dtype == np.float64 else array.dtype)
            for name, array in found.items()
        }
        return laid_out | {"alone": losses.channels_alone}
    order, reach = np.arange(shape.invariants), {}
    if shape.descents > 1:  # those of the own part come first
        extent = OwnExtent.of(losses)
        order = np.argsort(~extent.coupled, kind="stable")
        reach = {"own_reach": np.array([extent.reach / losses.grid.spacing])}
    places, mirrors, factors = _places(shape, order)
    padding = (0, shape.padded_invariants - shape.invariants)
    starts = np.zeros((shape.species, shape.species, shape.padded))
    if 0 in shape.contracted:
        starts[..., : shape.fine] = centres
    mean_sums = mean_phi[:, : shape.width]
    left = mean_phi.copy()  # to be subtracted of φ, after what the sums begin with
    if shape.coupled and 0 not in shape.coupled:
        begins = mean_sums.astype(shape.dtype)
        starts[..., shape.fine : shape.functions] = begins.reshape(shape.species, shape.species, shape.coarse)
        left[:, : shape.width] -= begins
    arrays = {
        "table": _table(losses, shape, written),
        "centres": starts,
        "mean_phi": np.pad(left[:, order], [(0, 0), padding]),
        "slopes_at_mean_phi": np.array([np.pad(one.slopes[:, order], [(0, 0), padding]) for one in written]),
        "weights": np.array([_weights(one, shape) for one in descents]),
        "couplings": np.array(
            [np.pad(one.couplings[:, order][:, :, order], [(0, 0), padding, padding]) for one in descents]
        ),
        "factors": factors,
    }
    return (
        {name: np.ascontiguousarray(array, dtype=shape.dtype) for name, array in arrays.items()}
        | reach
        | {
            "at_centres": written[0].values,
            "places": places.astype(np.int32),
            "mirrors": mirrors.astype(np.int32),
        }
    )


def committee_shape(losses: AgentLosses, box: str, precision: str) -> Shape:
    """Constants of the kernel of a committee, which gives the sums of a form without moments too."""
    shape = shape_of(losses, box, precision)
    ranks = losses.form.descriptor_ranks if losses.moment_basis.size else ()
    members = losses.committee.size if losses.committee else 0
    window = int(_windows(losses)[1].max(initial=0))
    return replace(shape, ranks=ranks, members=members, window=0 if window == shape.fine else window)


def committee_tables(losses: AgentLosses, shape: Shape) -> dict[str, npt.NDArray[Any]]:
    """The arrays that the kernel of a committee reads; members are the last axis, a register at a time."""
    members = losses.members()
    descents = [descents_of(member, shape.member_descents) for member in members]

    def of_members(lay_out: Callable[[AgentLosses], npt.NDArray[np.float64]]) -> list[npt.NDArray[np.float64]]:
        return [np.array([lay_out(one) for one in member]) for member in descents]

    own = tables(losses, shape)
    arrays: dict[str, list[npt.NDArray[np.float64]]] = {"member_table": of_members(_member_table)}
    integers = {"starts": _starts(losses, shape)}
    if losses.channels:
        centres = np.zeros((shape.species, shape.species, shape.padded), dtype=shape.dtype)
        own |= {"centres": centres, "at_centres": np.zeros(shape.species)}
        arrays["member_entry_weights"] = of_members(lambda one: entry_weights(losses.channels, one.channel_matrices))
    else:
        w, rows, columns = shape.width, *np.triu_indices(shape.width)
        integers["matches"] = np.zeros((w, w), dtype=np.int32)
        integers["matches"][rows, columns] = integers["matches"][columns, rows] = w + np.arange(len(rows))
        arrays["member_weights"] = of_members(lambda one: _member_weights(one, shape))
        arrays["member_couplings"] = of_members(lambda one: _member_couplings(one, shape, own["factors"]))
    in_registers = {name: to_aligned(_registers(array, shape), shape.dtype) for name, array in arrays.items()}
    return own | in_registers | integers


def _windows(losses: AgentLosses) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The first fine function that is not zero, and how many there are to the last, by pair of species and interval."""
    powers = np.abs(losses.basis.powers).max(axis=3)
    n = powers.shape[-1]
    present = powers > _NOTHING * powers.max(initial=0.0)
    first = np.where(present, np.arange(n), n).min(axis=-1, initial=n)
    last = np.where(present, np.arange(n), -1).max(axis=-1, initial=-1)
    return first, np.maximum(last + 1 - first, 0)


def _starts(losses: AgentLosses, shape: Shape) -> npt.NDArray[np.int32]:
    """First function of the window of every interval, the cutoff included."""
    starts = np.zeros((shape.species, shape.species, losses.grid.intervals + 1), dtype=np.int32)
    starts[..., :-1] = np.minimum(_windows(losses)[0], shape.fine - shape.window)
    return starts


def _table(losses: AgentLosses, shape: Shape, written: Sequence[AboutMeans]) -> npt.NDArray[np.float64]:
    """Powers by pair of species and interval: functions, then the pair parts of all descents; zeros at the cutoff.

    Of a form with channels the pair part is also the last of the functions.
    """
    s, k, n, padded = shape.species, losses.grid.intervals, shape.functions, shape.padded
    table = np.zeros((s, s, k + 1, shape.stride))
    powers = table[:, :, :k, : 4 * padded].reshape(s, s, k, 4, padded)
    powers[..., :n] = losses.moment_basis.powers[..., :n]
    if shape.mixed:
        for number, one in enumerate(written, start=n):
            powers[..., number] = one.pair_powers
    table[:, :, :k, : 4 * padded] = powers.reshape(s, s, k, 4 * padded)
    table[:, :, :k, 4 * padded :] = np.stack([one.pair_powers for one in written], axis=-1).reshape(s, s, k, -1)
    return table


def _weights(losses: AgentLosses, shape: Shape) -> npt.NDArray[np.float64]:
    """W^l_A by rank and species, rows (b, n) and padded columns."""
    s, n = shape.species, shape.fine
    weights = np.zeros((len(shape.contracted), s, s, n, s, shape.padded))
    for number, rank in enumerate(shape.contracted):
        weights[number, ..., :n] = losses.weights[rank].reshape(s, s, n, s, n)
    return weights


def _places(
    shape: Shape, order: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Places of the invariants: at (a, b) and (b, a) among all contractions, and how often their slope counts there."""
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
    for one in (places, mirrors, factors):
        one[: len(order)] = one[order]
    return places, mirrors, factors


def _registers(arrays: Sequence[npt.NDArray[np.float64]], shape: Shape) -> npt.NDArray[np.float64]:
    """Arrays of the members as one, (registers, …, lanes)."""
    if not arrays:
        return np.zeros(1)
    padded = np.zeros((shape.padded_members, *arrays[0].shape))
    padded[: len(arrays)] = arrays
    return np.moveaxis(padded.reshape(shape.registers, shape.member_lanes, *arrays[0].shape), 1, -1)


def _member_table(member: AgentLosses) -> npt.NDArray[np.float64]:
    """Slopes of the pair part by pair of species and interval, as powers; a row of zeros at the cutoff."""
    slopes = member.pair_potentials.powers[..., 1:, 0] * np.array([1.0, 2.0, 3.0])
    return np.pad(slopes, [(0, 0), (0, 0), (0, 1), (0, 0)])


def _member_weights(member: AgentLosses, shape: Shape) -> npt.NDArray[np.float64]:
    """W^l_A by rank and species; of each turn the rows of all moments, in a row the functions of the turn."""
    s, width = shape.species, shape.species * shape.fine
    weights = np.zeros((len(shape.contracted), s, width * width))
    for number, rank in enumerate(shape.contracted):
        turn = shape.turn(rank)
        by_turn = member.weights[rank].reshape(s, width // turn, turn, width).swapaxes(2, 3)
        weights[number] = by_turn.reshape(s, -1)
    return weights


def _member_couplings(member: AgentLosses, shape: Shape, factors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """C_A by species, and by turn; with the factors of the slopes."""
    s, q, padded = shape.species, shape.invariants, shape.member_invariants
    couplings = np.pad(member.couplings * factors[:q], [(0, 0), (0, 0), (0, padded - q)])
    return couplings.reshape(s, q, padded // MEMBER_TURN, MEMBER_TURN).swapaxes(1, 2)
