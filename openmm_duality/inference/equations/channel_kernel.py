"""Scalar products of tensors, and their derivatives in forward mode, agent by agent in machine code.

The components of all tensors are rows. Those whose derivatives are given come first; each of the others is a sum of
products of two rows before it. The derivatives by some coordinates at a time give those of all rows, and these those of
the scalar products, all in the nearest cache.

Index suffixes: i agent, r row, e term of a row, f scalar product, w coordinate (of the agent, then of its neighbours).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from llvmlite import ir

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.machine_code.code import DOUBLE, I32, I64, Code, Variable, transposed
from openmm_duality.machine_code.machine import Call, Function, aligned, to_aligned

LANES = 16  # coordinates taken together
_TOGETHER = 4  # scalar products whose derivatives are turned, so that those by one coordinate are written at once


class ScalarProducts:
    """Scalar products of tensors whose components are rows, laid out for the kernel.

    Parameters
    ----------
    n_given : int
        Number of rows whose derivatives are given.
    terms : sequence of arrays, shape (E, 3)
        Terms of each further row: two rows before it, and the factor of their product.
    products : array of int, shape (F, 3)
        First row of the one and of the other tensor of each scalar product, and their number of components.
    """

    def __init__(self, n_given: int, terms: Sequence[FloatArray], products: IntArray) -> None:
        self.n_given, self.n_rows = n_given, n_given + len(terms)
        self._ends = np.cumsum([0, *(len(row) for row in terms)]).astype(np.int64)
        joined = np.concatenate([np.zeros((0, 3)), *terms])
        self._one, self._other = (to_aligned(joined[:, k].astype(np.int32), "<i4") for k in (0, 1))
        self._factor = to_aligned(np.ascontiguousarray(joined[:, 2]), "<f8")
        self._count = len(products)
        self._products = np.zeros((-(-len(products) // _TOGETHER) * _TOGETHER, 3), dtype=np.int64)  # the last are empty
        self._products[: len(products)] = products

    def __len__(self) -> int:
        return self._count

    def derivatives_by(self, count: int) -> FloatArray:
        """Zeros for the derivatives by a number of coordinates, shape (count, F and some more)."""
        return np.zeros((count, len(self._products)))

    def subtract_derivatives(
        self, values: FloatArray, derivatives: FloatArray, targets: IntArray, out: FloatArray
    ) -> None:
        """Subtract the sums over the agents of the derivatives of all scalar products from the rows of coordinates.

        Parameters
        ----------
        values : array, shape (n, R)
            All rows of the agents.
        derivatives : array, shape (n, G, W)
            Derivatives of the given rows by W coordinates, a multiple of `LANES`.
        targets : array of int, shape (n, W)
            Row of every coordinate.
        out : array
            As `derivatives_by` makes it.
        """
        n, _, width = derivatives.shape
        call = Call(
            _kernel(),
            agents=n,
            width=width,
            components=self.n_given,
            rows=self.n_rows,
            invariants=len(self._products),
            values=np.ascontiguousarray(values),
            derivatives=np.ascontiguousarray(derivatives),
            targets=np.ascontiguousarray(targets, dtype=np.int64),
            ends=self._ends,
            one=self._one,
            other=self._other,
            factor=self._factor,
            starts=self._products,
            work=aligned(self.n_rows * LANES, "<f8"),
            out=out,
        )
        call()


@cache
def _kernel() -> Function:
    """The function ``product_derivatives``."""
    code = Code("product_derivatives")
    wide = ir.VectorType(DOUBLE, LANES)
    width, components, rows = (code.argument(name) for name in ("width", "components", "rows"))
    values, derivatives, out = (code.array(name, DOUBLE) for name in ("values", "derivatives", "out"))
    factor, work = code.array("factor", DOUBLE), code.array("work", DOUBLE)
    one, other = code.array("one", I32), code.array("other", I32)
    ends, starts, targets = (code.array(name, I64) for name in ("ends", "starts", "targets"))
    invariants = code.argument("invariants")
    with code.loop(0, code.argument("agents")) as i, code.loop(0, width, LANES) as w:
        mine, here = derivatives.from_index(i * components * width + w), values.from_index(i * rows)
        with code.loop(0, components) as c:
            work[c * LANES] = mine.vector(c * width, LANES)
        with code.loop(components, rows) as r:
            total = Variable(code, wide)
            with code.loop(ends[r - components], ends[r - components + 1]) as e:
                a, b, k = one[e].to(I64), other[e].to(I64), factor[e]
                total.add(work.vector(a * LANES, LANES) * (k * here[b]))
                total.add(work.vector(b * LANES, LANES) * (k * here[a]))
            work[r * LANES] = total.get()
        lines = [out.from_index(targets[i * width + w + lane] * invariants) for lane in range(LANES)]
        with code.loop(0, invariants, _TOGETHER) as first:
            found = []
            for f in (first + k for k in range(_TOGETHER)):
                p, q, count = (starts[f * 3 + k] for k in range(3))
                total = Variable(code, wide)
                with code.loop(0, count) as m:
                    total.add(work.vector((p + m) * LANES, LANES) * here[q + m])
                    total.add(work.vector((q + m) * LANES, LANES) * here[p + m])
                found.append(total)
            for line, by_coordinate in zip(lines, transposed([total.get() for total in found]), strict=True):
                line[first] = line.vector(first, _TOGETHER) - by_coordinate
    return code.compiled()
