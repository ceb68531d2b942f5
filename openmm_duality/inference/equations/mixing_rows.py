"""Design rows of the mixing of channels: how the forces of given losses change with W in A^l_k = Σ_a W^l_ka M^l_a.

The derivative of a loss H by W^l_ka is h^l_k·M^l_a with h^l_k = ∂H/∂A^l_k: a scalar product of two tensors, whose
forces are those of another invariant. It stands beside the invariants of the channels, whose rows are shared.

Index suffixes: i agent, s neighbour slot, c component of a tensor, x Cartesian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.inference.equations.channel_kernel import ScalarProducts
from openmm_duality.inference.equations.channel_rows import (
    Derivatives,
    InvariantRows,
    by_component,
    coupling_terms,
    product_terms,
    rows_of_tensors,
)
from openmm_duality.inference.equations.design import Design
from openmm_duality.invariants.channels import Channels, Tensors


class MixingRows:
    """The invariants of one agent species, and the derivatives of its loss by its mixing, in the order of `mixing`.

    Parameters
    ----------
    channels : Channels
    weights : array, shape (F,)
        Coefficients of the invariants in the loss.
    mean : array, shape (S·n,)
        Mean moments of rank 0, from which those are counted, so that the channels keep their zero mean.
    """

    def __init__(self, channels: Channels, weights: FloatArray, mean: FloatArray) -> None:
        self.channels, self.weights, self.mean = channels, weights, mean
        self._own = InvariantRows(channels)
        n, self._one = channels.n_channels, self._own.products.n_given  # channels; the row that is 1
        widths = 2 * channels.ranks + 1
        moments = {rank: w.shape[1] * (2 * rank + 1) for rank, w in channels.mixing.items()}
        begins = self._one + 1 + np.cumsum([0, *moments.values()])
        self._moments = dict(zip(moments, map(int, begins), strict=False))  # first row of the moments of a rank
        n_given = int(begins[-1])
        first = np.cumsum([0, *widths])
        products = int(first[-1] - first[n])
        # rows of the tensors, and of the derivatives of the loss by them: those of the products come first
        self._first = np.where(np.arange(len(widths)) < n, first[:-1], first[:-1] - first[n] + n_given)
        adjoints = np.concatenate([first[:n] + products, first[n:-1] - first[n]]) + n_given + products
        self._adjoints = adjoints.astype(np.int64)
        terms = [row for x in range(len(channels.products)) for row in product_terms(channels, x, self._first)]
        terms += self._adjoint_terms(n_given + products)
        self.products = ScalarProducts(n_given, terms, self._starts())

    @property
    def size(self) -> int:
        """Number of entries of the mixing of all ranks."""
        return sum(w.size for w in self.channels.mixing.values())

    def mixed(self, changes: FloatArray) -> Channels:
        """The channels after changes of the entries of the mixing, in the order of the ranks."""
        ends = np.cumsum([w.size for w in self.channels.mixing.values()])
        blocks = np.split(changes, ends[:-1])
        pairs = zip(self.channels.mixing.items(), blocks, strict=True)
        mixing = {rank: w + block.reshape(w.shape) for (rank, w), block in pairs}
        return Channels(mixing, mixing[0] @ self.mean, self.channels.products, self.channels.invariants)

    def values(self, moments: Tensors) -> FloatArray:
        """All rows of agents, shape (n, R)."""
        channels, n_rows = self.channels, self.products.n_rows
        mixed = channels.channels(moments)
        tensors = channels.tensors(mixed)
        slopes = {rank: w @ tensors[rank] for rank, w in channels.matrices(self.weights).items()}
        rows = rows_of_tensors(channels, tensors, self._first, n_rows)
        of_products = {rank: g.copy() for rank, g in slopes.items()}
        for rank, h in channels.channel_adjoints(mixed, slopes).items():
            of_products[rank][:, : h.shape[1]] = h
        rows += rows_of_tensors(channels, of_products, self._adjoints, n_rows)
        rows[:, self._one] = 1.0
        for rank, begin in self._moments.items():
            m = moments[rank] - self.mean[:, None] if rank == 0 else moments[rank]
            rows[:, begin : begin + m.shape[1] * m.shape[2]] = m.reshape(len(m), -1)
        return rows

    def set_derivatives(self, out: FloatArray, agents: IntArray, derivatives: Derivatives) -> None:
        """Set the derivatives, shape (i, c, s x), of the components of channels, of 1 and of the moments."""
        self._own.set_derivatives(out[:, : self._one], agents, derivatives)
        for rank, row in self._moments.items():
            column, components = 0, 2 * rank + 1
            for b, k in enumerate(derivatives[rank]):
                flat = by_component(k[agents])
                n, width = flat.shape[2:]
                rows = out[:, row + b * n * components : row + (b + 1) * n * components, column : column + width]
                rows.reshape(len(agents), n, components, width)[:] = flat.swapaxes(1, 2)
                column += width

    def _adjoint_terms(self, begin: int) -> list[FloatArray]:
        """Terms of the derivatives of the loss by the products, then by the channels, from row `begin` on."""
        channels, first, adjoints = self.channels, self._first, self._adjoints
        n_rows = int((2 * channels.ranks + 1).sum())
        terms: list[list[FloatArray]] = [[np.zeros((0, 3))] for _ in range(n_rows)]
        for (p, q), weight in zip(channels.invariants, self.weights, strict=True):
            for one, other in ((p, q), (q, p)):
                for m in range(2 * int(channels.ranks[one]) + 1):
                    terms[adjoints[one] - begin + m].append(np.array([[first[other] + m, self._one, weight]]))
        for x, (p, q, rank) in enumerate(channels.products):
            for one, other in ((p, q), (q, p)):
                ranks = (int(rank), int(channels.ranks[other]), int(channels.ranks[one]))
                found = coupling_terms(int(adjoints[channels.n_channels + x]), int(first[other]), ranks)
                for m, row in enumerate(found):
                    terms[adjoints[one] - begin + m].append(row)
        return [np.concatenate(row) for row in terms]

    def _starts(self) -> IntArray:
        """First rows and numbers of components of the scalar products: the invariants, then h_k·M_a."""
        channels = self.channels
        p, q = channels.invariants.T
        starts = [np.stack([self._first[p], self._first[q], 2 * channels.ranks[p] + 1], axis=1)]
        begin = 0
        for rank, w in channels.mixing.items():
            k, a = (index.ravel() for index in np.indices(w.shape))
            components = 2 * rank + 1
            own = self._adjoints[begin + k]
            starts.append(np.stack([own, self._moments[rank] + a * components, np.full(w.size, components)], axis=1))
            begin += len(w)
        return np.concatenate(starts).astype(np.int64)


@dataclass(frozen=True)
class MixingDesign(Design):
    """Design rows of the coefficients and, after the invariants of each species, of its mixing.

    Parameters
    ----------
    weights : tuple of arrays, shape (F,)
        Coefficients of the invariants of every species at which the forces are differentiated by the mixing.
    means : tuple of arrays, shape (S·n,)
        Mean moments of rank 0 of every species.
    """

    weights: Sequence[FloatArray] = ()
    means: Sequence[FloatArray] = ()

    @cached_property
    def channel_rows(self) -> list[MixingRows]:
        """Rows of every species."""
        return [MixingRows(*of_species) for of_species in zip(self.channels, self.weights, self.means, strict=True)]
