"""Channels: mixtures of moments over neighbour species and radial functions, and their invariants of orders 2 to 4.

The channels of an agent species are A^l_k = Σ_a W^l_ka M^l_a with a = (B, n), those of rank 0 less their mean. Products
of two channels, coupled to a rank L, are tensors as well. Every invariant is a scalar product t_p·t_q of two tensors of
one rank, less its value without neighbours: of two channels (order 2), of a product and a channel (order 3), or of two
products (order 4).

Index suffixes: i agent, a = (B, n) moment, k channel of a rank, p and q tensors (first the channels, rank by rank, then
the products), m component of a rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.invariants.couplings import can_couple, coupling

Tensors = Mapping[int, FloatArray]  # by rank, of shape (N, number of tensors of the rank, 2 l + 1)


@dataclass(frozen=True)
class Channels:
    """Channels of one agent species, their products, and the invariants chosen from them.

    Parameters
    ----------
    mixing : mapping of int to array, shape (K_l, S·n)
        W^l by rank l.
    means : array, shape (K_0,)
        Means of the channels of rank 0, which are subtracted.
    products : array of int, shape (X, 3)
        Channels p ≤ q and rank L of every product.
    invariants : array of int, shape (F, 2)
        Tensors p ≤ q of one rank, whose scalar product is the invariant.
    """

    mixing: Mapping[int, FloatArray]
    means: FloatArray
    products: IntArray
    invariants: IntArray

    @property
    def n_channels(self) -> int:
        """Number of channels of all ranks, the first tensors."""
        return sum(map(len, self.mixing.values()))

    @cached_property
    def ranks(self) -> IntArray:
        """Rank of every tensor."""
        channels = [np.full(len(w), rank) for rank, w in self.mixing.items()]
        return np.concatenate([*channels, self.products[:, 2]]).astype(np.int64)

    @cached_property
    def places(self) -> IntArray:
        """Index of every tensor among those of its rank."""
        places = np.zeros(len(self.ranks), dtype=np.int64)
        for rank in range(int(self.ranks.max(initial=0)) + 1):
            of_rank = self.ranks == rank
            places[of_rank] = np.arange(int(of_rank.sum()))
        return places

    @cached_property
    def orders(self) -> IntArray:
        """Order of every invariant: the number of moments in it, shape (F,)."""
        return np.asarray((1 + (self.invariants >= self.n_channels)).sum(axis=1), dtype=np.int64)

    @cached_property
    def highest_ranks(self) -> IntArray:
        """Highest rank of the channels in every invariant, shape (F,)."""
        n = self.n_channels
        of_tensors = np.concatenate([self.ranks[:n], self.ranks[self.products[:, :2]].max(axis=1, initial=0)])
        return np.asarray(of_tensors[self.invariants].max(axis=1, initial=0))

    @cached_property
    def product_groups(self) -> list[tuple[tuple[int, int, int], IntArray]]:
        """Products by the ranks of their channels and their own: ((l1, l2, L), indices of the products)."""
        triples = np.stack([self.ranks[self.products[:, 0]], self.ranks[self.products[:, 1]], self.products[:, 2]], 1)
        distinct, which = np.unique(triples, axis=0, return_inverse=True)
        return [((int(a), int(b), int(c)), np.flatnonzero(which.ravel() == g)) for g, (a, b, c) in enumerate(distinct)]

    def products_in(self, kept: BoolArray | IntArray) -> BoolArray:
        """Which products occur in some invariants, by a mask (F,) or indices, shape (X,)."""
        return np.isin(self.n_channels + np.arange(len(self.products)), self.invariants[kept])

    def only(self, kept: BoolArray | IntArray) -> Channels:
        """The same channels with some invariants, by a mask (F,) or indices, and the products that these have."""
        chosen, n = self.invariants[kept], self.n_channels
        used = np.flatnonzero(self.products_in(kept))
        return replace(
            self,
            products=self.products[used],
            invariants=np.where(chosen < n, chosen, n + np.searchsorted(used, chosen - n)),
        )

    def to_arrays(self, prefix: str) -> dict[str, FloatArray]:
        """Convert to arrays of a model file, all in double precision."""
        arrays = {f"{prefix}mixing_{rank}": w for rank, w in self.mixing.items()}
        numbers = {"means": self.means, "products": self.products, "invariants": self.invariants}
        return arrays | {prefix + name: np.asarray(array, dtype=np.float64) for name, array in numbers.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, FloatArray], prefix: str, ranks: Sequence[int], width: int) -> Channels:
        """Read back what `to_arrays` wrote.

        Parameters
        ----------
        arrays : mapping of str to array
        prefix : str
        ranks : sequence of int
        width : int
            Number S·n of moments of a rank.

        Raises
        ------
        KeyError
            If an array is missing.
        ValueError
            If the arrays do not fit each other.
        """
        mixing = {rank: arrays[f"{prefix}mixing_{rank}"] for rank in ranks}
        products, invariants = (arrays[prefix + name].astype(np.int64) for name in ("products", "invariants"))
        found = cls(mixing, arrays[f"{prefix}means"], products, invariants)
        n = found.n_channels
        good = all(w.ndim == 2 and w.shape[1] == width for w in mixing.values())
        good &= found.means.shape == (len(mixing[0]),) and products.shape[1:] == (3,) and invariants.shape[1:] == (2,)
        if not good or not (_within(products[:, :2], n) and _within(invariants, n + len(products))):
            raise ValueError("the arrays of the channels do not fit each other")
        triples = np.column_stack([found.ranks[products[:, :2]], products[:, 2]])
        if (
            not all(can_couple(*map(int, triple)) for triple in triples)
            or (found.ranks[invariants[:, 0]] != found.ranks[invariants[:, 1]]).any()
        ):
            raise ValueError("the products or invariants of the channels are none")
        return found

    def channels(self, moments: Tensors) -> dict[int, FloatArray]:
        """Channels (N, K_l, 2l + 1) by rank, from moments (N, S·n, 2l + 1) by rank."""
        found = {rank: np.matmul(w, moments[rank]) for rank, w in self.mixing.items()}
        found[0] = found[0] - self.means[:, None]
        return found

    def tensors(self, channels: Tensors) -> dict[int, FloatArray]:
        """All tensors by rank: the channels, then the products, each in the order of the indices."""
        n = len(next(iter(channels.values())))
        found = {}
        for rank in set(self.ranks.tolist()):
            found[rank] = np.zeros((n, int((self.ranks == rank).sum()), 2 * rank + 1))
            if rank in channels:
                found[rank][:, : channels[rank].shape[1]] = channels[rank]
        for (one, other, rank), which in self.product_groups:
            x = channels[one][:, self.places[self.products[which, 0]]]
            y = channels[other][:, self.places[self.products[which, 1]]]
            found[rank][:, self.places[self.n_channels + which]] = coupled(x, y, (one, other, rank))
        return found

    def values(self, tensors: Tensors) -> FloatArray:
        """Invariants of every agent, shape (N, F); those of an agent without neighbours are zero."""
        return self._products_of(tensors) - self.alone

    @cached_property
    def alone(self) -> FloatArray:
        """Scalar products t_p·t_q of an agent without neighbours, shape (F,), which the invariants do not contain."""
        moments = {rank: np.zeros((1, w.shape[1], 2 * rank + 1)) for rank, w in self.mixing.items()}
        return np.asarray(self._products_of(self.tensors(self.channels(moments)))[0])

    def _products_of(self, tensors: Tensors) -> FloatArray:
        found = np.zeros((len(next(iter(tensors.values()))), len(self.invariants)))
        ranks = self.ranks[self.invariants[:, 0]]
        for rank, t in tensors.items():
            of_rank = ranks == rank
            p, q = self.places[self.invariants[of_rank]].T
            found[:, of_rank] = (t[:, p] * t[:, q]).sum(axis=-1)
        return found

    def adjoints(self, channels: Tensors, g: Tensors) -> dict[int, FloatArray]:
        """Derivatives by the moments, from derivatives g by the tensors as if these were independent, by rank."""
        return {rank: np.matmul(self.mixing[rank].T, h) for rank, h in self.channel_adjoints(channels, g).items()}

    def channel_adjoints(self, channels: Tensors, g: Tensors) -> dict[int, FloatArray]:
        """Derivatives by the channels, from derivatives g by the tensors as if these were independent, by rank."""
        own = {rank: g[rank][:, : len(w)].copy() for rank, w in self.mixing.items()}
        for (one, other, rank), which in self.product_groups:
            of_product = g[rank][:, self.places[self.n_channels + which]]
            used = of_product.any(axis=(0, 2))  # an own part has few of them
            if not used.any():
                continue
            of_product, which = of_product[:, used], which[used]
            p, q = (self.places[self.products[which, k]] for k in (0, 1))
            x, y = channels[one][:, p], channels[other][:, q]
            own[one] += _summed(len(self.mixing[one]), p, coupled(of_product, y, (rank, other, one)))
            own[other] += _summed(len(self.mixing[other]), q, coupled(of_product, x, (rank, one, other)))
        return own

    def matrices(self, weights: FloatArray) -> dict[int, FloatArray]:
        """Symmetric matrices w^L by rank, such that Σ_f c_f t_p·t_q = ½ Σ_L Σ_pq w^L_pq t_p·t_q."""
        found = {}
        for rank in set(self.ranks.tolist()):
            of_rank = self.ranks[self.invariants[:, 0]] == rank
            size = int((self.ranks == rank).sum())
            p, q = self.places[self.invariants[of_rank]].T
            matrix = np.zeros((size, size))
            np.add.at(matrix, (p, q), weights[of_rank])
            found[rank] = matrix + matrix.T
        return found


def coupled(x: FloatArray, y: FloatArray, ranks: tuple[int, int, int]) -> FloatArray:
    """Products of rank L of tensors x (…, 2 l1 + 1) and y (…, 2 l2 + 1), shape (…, 2 L + 1); ranks are (l1, l2, L)."""
    c = coupling(*ranks)
    outer = (x[..., :, None] * y[..., None, :]).reshape(*x.shape[:-1], c.shape[0] * c.shape[1])
    return np.asarray(outer @ c.reshape(-1, c.shape[-1]))


def _within(numbers: IntArray, count: int) -> bool:
    return bool(((numbers >= 0) & (numbers < count)).all())


def _summed(size: int, index: IntArray, values: FloatArray) -> FloatArray:
    """Sum of values (N, G, m) by an index (G,), shape (N, size, m)."""
    places = np.zeros((size, len(index)))
    places[index, np.arange(len(index))] = 1.0
    return np.asarray(np.matmul(places, values))
