"""The invariants of channels in code: mixing, products, contraction, and back, as `invariants.channels`.

The lanes of registers are agents of one species for the losses themselves, and members for a committee, where the
tensors of the agent are scalars.

Index suffixes: a = (b, n) moment, k channel of a rank, m component of a rank, x product, p and q tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from openmm_duality.invariants.channels import Channels
from openmm_duality.invariants.couplings import can_couple, coupling
from openmm_duality.invariants.harmonics import HIGHEST_RANK
from openmm_duality.lowering.fused.shape import Shape
from openmm_duality.machine_code.code import DOUBLE, I32, I64, Array, Code, Value, Variable, total

_RANKS = range(HIGHEST_RANK + 1)
RANK_TRIPLES = [(a, b, c) for a in _RANKS for b in _RANKS for c in _RANKS if a <= b and can_couple(a, b, c)]
_CHANNELS, _ROWS = 2, 2 + len(_RANKS)  # where the parts of a header begin
_PRODUCTS = _ROWS + len(_RANKS)
_TENSORS = _PRODUCTS + len(RANK_TRIPLES) + 1
_OWN_PRODUCTS = _TENSORS + len(_RANKS) + 1
HEADER = _OWN_PRODUCTS + len(RANK_TRIPLES)


class ChannelPolynomial:
    """Writes the polynomial of channels into a function.

    Parameters
    ----------
    code : Code
    shape : Shape
    tensors : Array
        Where tensors are kept, by row.
    slopes : sequence of Array
        The same of their adjoints: of the losses, and of their own part if that is descended too.
    lanes : int
        Lanes of the tensors; 1 for scalars.
    slope_lanes : int
        Lanes of the adjoints.
    """

    def __init__(
        self,
        code: Code,
        shape: Shape,
        tensors: Array,
        slopes: Sequence[Array],
        lanes: int,
        slope_lanes: int | None = None,
    ) -> None:
        self.code, self.shape = code, shape
        self.tensors, self.slopes = tensors, slopes
        self.lanes, self.slope_lanes = lanes, slope_lanes or lanes
        self.alone = code.array("alone", DOUBLE)
        self.mixing, self.means = code.array("mixing", shape.real), code.array("means", shape.real)
        self.headers, self.ends = code.array("headers", I64), code.array("entry_ends", I64)
        self.products, self.rows = code.array("products", I32), code.array("tensor_rows", I32)
        self.entry_rows = code.array("entry_rows", I32)
        self.own_ends = code.array("own_entry_ends", I64) if len(slopes) > 1 else self.ends

    def _load(self, array: Array, row: Any, lanes: int) -> Value:
        where = self.code.integer(row) * lanes
        return array[where] if lanes == 1 else array.vector(where, lanes)

    def _sums(self, lanes: int, count: int) -> list[Variable]:
        kind = self.shape.real if lanes == 1 else ir.VectorType(self.shape.real, lanes)
        return [Variable(self.code, kind) for _ in range(count)]

    def _tensor(self, row: Value, rank: int) -> list[Value]:
        return [self._load(self.tensors, row + m, self.lanes) for m in range(2 * rank + 1)]

    def mix(self, header: Array, moments: Array) -> None:
        """Channels of the agents, from moments by component and a."""
        code, shape = self.code, self.shape
        mixing, means = self.mixing.from_index(header[0]), self.means.from_index(header[1])
        for rank in shape.mixed:
            first, of_rank = header[_ROWS + rank], mixing.from_index(self._mixing_start(header, rank))
            with code.loop(0, header[_CHANNELS + rank]) as k:
                sums = self._sums(self.lanes, 2 * rank + 1)
                with code.loop(0, shape.mixing_width) as a:
                    w = of_rank[k * shape.mixing_width + a]
                    for m, one in zip(shape.of(rank), sums, strict=True):
                        one.add(self._load(moments, a + m * shape.mixing_width, self.lanes) * w)
                for m, one in enumerate(sums):
                    value = one.get() - means[k] if rank == 0 else one.get()
                    self.tensors[(first + k * (2 * rank + 1) + m) * self.lanes] = value

    def unmix(self, header: Array, adjoints: Sequence[Array], place: Callable[[int, Value], Value]) -> None:
        """Adjoints of the moments from those of the channels, at ``place(component, a)`` of arrays."""
        code, shape = self.code, self.shape
        mixing = self.mixing.from_index(header[0])
        for rank in shape.mixed:
            first, of_rank = header[_ROWS + rank], mixing.from_index(self._mixing_start(header, rank))
            every = self.slopes if rank in shape.own_mixed else self.slopes[:1]
            with code.loop(0, shape.mixing_width) as a:
                sums = [self._sums(self.slope_lanes, 2 * rank + 1) for _ in every]
                with code.loop(0, header[_CHANNELS + rank]) as k:
                    w = of_rank[k * shape.mixing_width + a]
                    for slopes, totals in zip(every, sums, strict=True):
                        for m, one in enumerate(totals):
                            one.add(self._load(slopes, first + k * (2 * rank + 1) + m, self.slope_lanes) * w)
                for adjoint, totals in zip(adjoints, sums, strict=False):
                    for m, one in zip(shape.of(rank), totals, strict=True):
                        adjoint[place(m, a)] = one.get()

    def _mixing_start(self, header: Array, rank: int) -> Value:
        lower = [header[_CHANNELS + other] for other in self.shape.mixed if other < rank]
        return total([self.code.integer(0), *lower]) * self.shape.mixing_width

    def multiply(self, header: Array) -> None:
        """Products of channels."""
        for number, triple in enumerate(RANK_TRIPLES):
            c = coupling(*triple)
            with self.code.loop(header[_PRODUCTS + number], header[_PRODUCTS + number + 1]) as x:
                p, q, out = (self.products[x * 3 + k].to(I64) for k in range(3))
                one, other = self._tensor(p, triple[0]), self._tensor(q, triple[1])
                for m, of_component in enumerate(np.moveaxis(c, 2, 0)):
                    self.tensors[(out + m) * self.lanes] = _product(of_component, one, other)

    def contract(self, header: Array, weights: Sequence[Array], weight_lanes: int) -> Value:
        """Adjoints of all tensors as if they were independent; half the product of the first with them, in double."""
        code = self.code
        energy = Variable(code, DOUBLE if self.slope_lanes == 1 else ir.VectorType(DOUBLE, self.slope_lanes))
        for rank in _RANKS:
            with code.loop(header[_TENSORS + rank], header[_TENSORS + rank + 1]) as p:
                sums, row = [self._sums(self.slope_lanes, 2 * rank + 1) for _ in weights], self.rows[p].to(I64)
                for begin, end, taken in self._parts(self.ends[p], self.own_ends[p], self.ends[p + 1]):
                    with code.loop(begin, end) as entry:
                        tensor = self._tensor(self.entry_rows[entry].to(I64), rank)
                        for of_losses, totals in zip(weights[:taken], sums[:taken], strict=True):
                            w = self._load(of_losses, entry, weight_lanes)
                            for one, t in zip(totals, tensor, strict=True):
                                one.add(t * w)
                terms = [one.get() * t for one, t in zip(sums[0], self._tensor(row, rank), strict=True)]
                energy.add(total(terms).to(DOUBLE))
                for slopes, totals in zip(self.slopes, sums, strict=True):
                    for m, one in enumerate(totals):
                        slopes[(row + m) * self.slope_lanes] = one.get()
        return 0.5 * energy.get()

    def descend(self, header: Array) -> None:
        """Add what the products give to the adjoints of the channels."""
        for number, triple in enumerate(RANK_TRIPLES):
            bounds = [header[k + number] for k in (_PRODUCTS, _OWN_PRODUCTS, _PRODUCTS + 1)]
            for begin, end, taken in self._parts(*bounds):
                with self.code.loop(begin, end) as x:
                    p, q, out = (self.products[x * 3 + k].to(I64) for k in range(3))
                    one, other = self._tensor(p, triple[0]), self._tensor(q, triple[1])
                    for slopes in self.slopes[:taken]:
                        self._descend_product(slopes, coupling(*triple), out, ((p, other), (q, one)))

    def _parts(self, begin: Value, own_end: Value, end: Value) -> list[tuple[Value, Value, int]]:
        """Where lists begin and end, and the number of adjoints that each has: the own part comes first, if any."""
        return [(begin, own_end, 2), (own_end, end, 1)] if len(self.slopes) > 1 else [(begin, end, 1)]

    def _descend_product(
        self, slopes: Array, c: npt.NDArray[np.float64], out: Value, factors: Sequence[tuple[Value, list[Value]]]
    ) -> None:
        """Add what one product gives to the adjoints of its two factors, given their rows and the other factor."""
        lanes = self.slope_lanes
        g = [self._load(slopes, out + m, lanes) for m in range(c.shape[2])]
        # by component of one and of the other, summed over those of the product
        pairs = np.argwhere(c.any(axis=2))
        mixed = [total(g[m] * float(c[a, b, m]) for m in np.flatnonzero(c[a, b])) for a, b in pairs]
        for axis, (row, other) in enumerate(factors):
            for k in range(c.shape[axis]):
                terms = [g * other[pair[1 - axis]] for g, pair in zip(mixed, pairs, strict=True) if pair[axis] == k]
                if terms:
                    before = self._load(slopes, row + k, lanes)
                    slopes[(row + k) * lanes] = before + total(terms)


def _product(c: npt.NDArray[np.float64], one: list[Value], other: list[Value]) -> Value:
    """Σ_ab c_ab x_a y_b, with one factor for all couplings of one size."""
    parts = []
    for size in np.unique(np.abs(c[c != 0.0])):
        (a, b), *others = np.argwhere(np.abs(c) == size)
        first, part = c[a, b], one[a] * other[b]
        for k, m in others:
            part = part + one[k] * other[m] if c[k, m] == first else part - one[k] * other[m]
        parts.append(part * float(first))
    return total(parts)


class AgentChannels:
    """Writes the polynomial of channels of one agent, as `Polynomial` does for other forms; its tensors are scalars."""

    def __init__(self, code: Code, shape: Shape, work: Mapping[str, Array]) -> None:
        self.code, self.shape, self.work = code, shape, work
        self.polynomial = ChannelPolynomial(code, shape, work["tensors"], [work["tensor_slopes"]], lanes=1)
        self.weights = code.array("entry_weights", shape.real)

    def write(self, species: Value) -> Value:
        """Code for an agent of a species; its value is H."""
        for moment, at in each_moment(self.code, self.shape):
            self.work["mixed_moments"][at] = self.work["moments"][moment]
        header = self.polynomial.headers.from_index(species * HEADER)
        self.polynomial.mix(header, self.work["mixed_moments"])
        self.polynomial.multiply(header)
        value = self.polynomial.contract(header, [self.weights], 1)
        return value - self.polynomial.alone[species]


def each_moment(code: Code, shape: Shape) -> Iterator[tuple[Value, Value]]:
    """Places of all moments: padded as they are summed, and contiguous as they are mixed."""
    with code.loop(0, shape.species) as b:
        for m in range(len(shape.components)):
            for n in range(shape.fine):
                place = (b + m * shape.species) * shape.padded + n
                yield place, b * shape.fine + (m * shape.mixing_width + n)


def channel_tables(
    channels: Sequence[Channels], own: Sequence[npt.NDArray[np.float64]] = ()
) -> dict[str, npt.NDArray[Any]]:
    """The arrays that `ChannelPolynomial` reads, of all species; the weights of the entries are apart.

    Parameters
    ----------
    channels : sequence of Channels
    own : sequence of array, shape (F_A,), optional
        Coefficients of the own part. The products and entries that it has come first.
    """
    headers, mixing, means, products, rows, ends, entries = [], [], [], [], [], [np.zeros(1, dtype=np.int64)], []
    own_ends: list[npt.NDArray[np.int64]] = []
    counts = {"mixing": 0, "means": 0, "products": 0, "tensors": 0, "entries": 0}
    for mine, has in zip(channels, _in_own_part(channels, own), strict=True):
        header = np.zeros(HEADER, dtype=np.int64)
        first = np.cumsum([0, *(2 * mine.ranks + 1)])[:-1]
        n = mine.n_channels
        header[:2] = counts["mixing"], counts["means"]
        for rank, w in mine.mixing.items():
            of_rank = np.flatnonzero(mine.ranks[:n] == rank)
            header[_CHANNELS + rank] = len(of_rank)
            header[_ROWS + rank] = first[of_rank[0]] if len(of_rank) else 0
            mixing.append(w.ravel())
            counts["mixing"] += w.size
        means.append(mine.means)
        counts["means"] += len(mine.means)
        by_triple = dict(mine.product_groups)
        of_own = mine.products_in(has)
        for number, triple in enumerate(RANK_TRIPLES):
            which = by_triple.get(triple, np.zeros(0, dtype=np.int64))
            which = which[np.argsort(~of_own[which], kind="stable")]
            header[_PRODUCTS + number] = counts["products"]
            header[_OWN_PRODUCTS + number] = counts["products"] + of_own[which].sum()
            products.append(np.stack([*first[mine.products[which, :2]].T.reshape(2, -1), first[n + which]], axis=1))
            counts["products"] += len(which)
        header[_PRODUCTS + len(RANK_TRIPLES)] = counts["products"]
        for rank in _RANKS:
            header[_TENSORS + rank] = counts["tensors"]
            of_rank = first[mine.ranks == rank]
            rows.append(of_rank)
            counts["tensors"] += len(of_rank)
            p, q, in_own = _entries(mine, rank, has)
            entries.append(of_rank[q])
            numbers = np.bincount(p, minlength=len(of_rank))
            ends.append(counts["entries"] + np.cumsum(numbers))
            own_ends.append(ends[-1] - numbers + np.bincount(p[in_own], minlength=len(of_rank)))
            counts["entries"] += len(p)
        header[_TENSORS + len(_RANKS)] = counts["tensors"]
        headers.append(header)
    found = {
        "headers": np.concatenate(headers),
        "entry_ends": np.concatenate(ends).astype(np.int64),
        "mixing": np.concatenate(mixing),
        "means": np.concatenate(means),
    }
    if own:
        found["own_entry_ends"] = np.concatenate(own_ends).astype(np.int64)
    joined = {"products": products, "tensor_rows": rows, "entry_rows": entries}
    return found | {name: np.concatenate(parts).astype(np.int32).ravel() for name, parts in joined.items()}


def entry_weights(
    channels: Sequence[Channels],
    matrices: Sequence[Mapping[int, npt.NDArray[np.float64]]],
    own: Sequence[npt.NDArray[np.float64]] = (),
) -> npt.NDArray[np.float64]:
    """Weights of the entries of `channel_tables`, of one member, of the losses themselves or of their own part."""
    found = []
    for mine, matrix, has in zip(channels, matrices, _in_own_part(channels, own), strict=True):
        for rank in _RANKS:
            p, q, _ = _entries(mine, rank, has)
            found.append(matrix[rank][p, q] if rank in matrix else np.zeros(0))
    return np.concatenate(found)


def _in_own_part(channels: Sequence[Channels], own: Sequence[npt.NDArray[np.float64]]) -> list[npt.NDArray[np.bool_]]:
    """By species the invariants that the own part has, shape (F_A,)."""
    return [c != 0.0 for c in own] if own else [np.zeros(len(mine.invariants), dtype=bool) for mine in channels]


def _entries(
    channels: Channels, rank: int, own: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Pairs (p, q) of tensors of a rank that have a coefficient, in both orders, and whether the own part has one.

    They are sorted by p, of each those of the own part first.
    """
    of_rank = channels.ranks[channels.invariants[:, 0]] == rank
    one, other = channels.places[channels.invariants[of_rank]].T
    apart = one != other
    p, q = np.concatenate([one, other[apart]]), np.concatenate([other, one[apart]])
    in_own = np.concatenate([own[of_rank], own[of_rank][apart]])
    order = np.lexsort((q, ~in_own, p))
    return p[order], q[order], in_own[order]
