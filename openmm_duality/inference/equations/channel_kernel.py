"""Derivatives of the invariants of channels by the positions, agent by agent in machine code.

In forward mode: the derivatives of the channels by some coordinates at a time give those of the products, and these
those of the invariants, all in the nearest cache.

Index suffixes: i agent, c component of a channel, r row (component of a channel, then of a product), e term of a
product, f invariant, w coordinate (of the agent, then of its neighbours).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from llvmlite import ir

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.invariants.channels import Channels, Tensors
from openmm_duality.invariants.couplings import coupling
from openmm_duality.machine_code.code import DOUBLE, I32, I64, Code, Variable
from openmm_duality.machine_code.machine import Call, Function, aligned, to_aligned

LANES = 16  # coordinates taken together


class InvariantDerivatives:
    """Derivatives of the invariants of one agent species, with the terms of its products laid out for the kernel.

    Parameters
    ----------
    channels : Channels
    """

    def __init__(self, channels: Channels) -> None:
        self.channels = channels
        self.first = np.cumsum([0, *(2 * channels.ranks + 1)])  # row of every tensor
        self.n_components = int(self.first[channels.n_channels])
        terms = [self._terms(int(x)) for x in range(len(channels.products))]
        rows = [row for of_product in terms for row in of_product]
        self._ends = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64)
        joined = np.concatenate(rows) if rows else np.zeros((0, 3))
        self._one, self._other = (to_aligned(joined[:, k].astype(np.int32), "<i4") for k in (0, 1))
        self._factor = to_aligned(np.ascontiguousarray(joined[:, 2]), "<f8")
        p, q = channels.invariants.T
        self._starts = np.stack([self.first[p], self.first[q], 2 * channels.ranks[p] + 1], axis=1).astype(np.int64)

    def _terms(self, x: int) -> list[FloatArray]:
        """Terms (row of one, row of the other, factor) of every component of a product."""
        p, q, rank = map(int, self.channels.products[x])
        c = coupling(int(self.channels.ranks[p]), int(self.channels.ranks[q]), rank)
        found = []
        for m in range(c.shape[2]):
            a, b = np.nonzero(c[:, :, m])
            found.append(np.stack([self.first[p] + a, self.first[q] + b, c[a, b, m]], axis=1))
        return found

    def add(self, tensors: Tensors, derivatives: FloatArray, targets: IntArray, out: FloatArray) -> None:
        """Subtract Σ_i ∂B_f/∂x_w from the columns of the coordinates.

        Parameters
        ----------
        tensors : mapping of int to array, shape (n, number of the rank, 2 l + 1)
            Of the agents.
        derivatives : array, shape (n, C, W)
            Derivatives of the components of the channels by W coordinates, a multiple of `LANES`.
        targets : array of int, shape (n, W)
            Column of every coordinate.
        out : array, shape (F, columns)
        """
        n, _, width = derivatives.shape
        values = np.empty((n, int(self.first[-1])))
        for rank, t in tensors.items():
            of_rank = np.flatnonzero(self.channels.ranks == rank)
            columns = self.first[of_rank][:, None] + np.arange(2 * rank + 1)
            values[:, columns] = t
        call = Call(
            _kernel(),
            agents=n,
            width=width,
            components=self.n_components,
            rows=values.shape[1],
            invariants=len(self._starts),
            columns=out.shape[1],
            values=values,
            derivatives=derivatives,
            targets=np.ascontiguousarray(targets, dtype=np.int64),
            ends=self._ends,
            one=self._one,
            other=self._other,
            factor=self._factor,
            starts=self._starts,
            work=aligned(values.shape[1] * LANES, "<f8"),
            out=out,
        )
        call()


@cache
def _kernel() -> Function:
    """The function ``invariant_derivatives``."""
    code = Code("invariant_derivatives")
    wide = ir.VectorType(DOUBLE, LANES)
    width, components, rows = (code.argument(name) for name in ("width", "components", "rows"))
    values, derivatives, out = (code.array(name, DOUBLE) for name in ("values", "derivatives", "out"))
    factor, work = code.array("factor", DOUBLE), code.array("work", DOUBLE)
    one, other = code.array("one", I32), code.array("other", I32)
    ends, starts, targets = (code.array(name, I64) for name in ("ends", "starts", "targets"))
    columns = code.argument("columns")
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
        places = [targets[i * width + w + lane] for lane in range(LANES)]
        with code.loop(0, code.argument("invariants")) as f:
            p, q, count = (starts[f * 3 + k] for k in range(3))
            total = Variable(code, wide)
            with code.loop(0, count) as m:
                total.add(work.vector((p + m) * LANES, LANES) * here[q + m])
                total.add(work.vector((q + m) * LANES, LANES) * here[p + m])
            found, line = total.get(), f * columns
            for lane, place in enumerate(places):
                at = line + place
                out[at] = out[at] - found.lane(lane)
    return code.compiled()
