"""The fused kernel: for one agent after the other moments, polynomial, adjoint and forces, all in the nearest cache.

As `losses.evaluator`, with a list of candidates for neighbours. Lengths are in units of the grid spacing, so that the
interval of a distance is its whole part. Displacements and distances are in double precision.

Neighbours come from lists of candidates (`search`, `neighbour_lists`); nothing here knows how they were found.

Index suffixes: i agent, j neighbour, p pair of the agent, b species of the neighbour, n radial function (the lanes of
registers), m component of all ranks, x Cartesian.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from llvmlite import ir

from openmm_duality.invariants.harmonics import contracted_gradient, solid_harmonics
from openmm_duality.lowering.fused.boxes import nearest_image, squared_length
from openmm_duality.lowering.fused.code import DOUBLE, I32, I64, SINGLE, Array, Code, Value, Variable
from openmm_duality.lowering.fused.polynomial import Polynomial
from openmm_duality.lowering.fused.shape import BLOCK, Shape

INPUTS = (
    *("begin", "end", "atoms", "positions", "species_index", "box", "list", "offsets", "capacity", "intervals_of_grid"),
    *("table", "weights", "couplings", "places", "mirrors", "factors", "forces", "energy"),
)

COLLECT = ("begin", "end", "atoms", "parts", "source", "order", "scale", "target")


def agents_module(shape: Shape) -> ir.Module:
    """A module with the function ``agents``: losses and forces of the agents `begin` to `end`."""
    module = ir.Module(name="agents")
    AgentKernel(module, shape).write()
    return module


def arguments(shape: Shape) -> tuple[str, ...]:
    """Names of the arguments of ``agents``, in their order."""
    return (*INPUTS, *shape.work(1))


class EnvironmentKernel:
    """Writes the local environment of an agent: its neighbours, their geometry and its moments.

    Parameters
    ----------
    module : llvmlite.ir.Module
    name : str
        Of the function.
    names : sequence of str
        Names of its arguments, in their order.
    shape : Shape
    """

    def __init__(self, module: ir.Module, name: str, names: Sequence[str], shape: Shape) -> None:
        self.shape = shape
        self.code = code = Code(module, name, names)
        self.positions = code.array("positions", DOUBLE)
        self.species_index = code.array("species_index", I32)
        self.list = code.array("list", I32)
        self.offsets = code.array("offsets", I64)
        self.table = code.array("table", shape.real)
        self.forces = code.array("forces", shape.real)
        self.capacity = code.argument("capacity")
        self.work = {
            name: code.array(name, {"<f8": DOUBLE, "<i4": I32}.get(kind, shape.real))
            for name, (kind, _) in shape.work(1).items()
        }
        self.nearest = nearest_image(code, shape.box)

    def gather(self, i: Value, segment: Value, count: Variable) -> None:
        """Displacements and indices of the candidates within the cutoff, without a branch."""
        code = self.code
        here = self.positions.vector(i * 4, 4)
        intervals = code.argument("intervals_of_grid").to(DOUBLE)
        limit = intervals * intervals
        with code.loop(self.offsets[segment], self.offsets[segment + 1]) as candidate:
            j = self.list[candidate]
            d = self.nearest(self.positions.vector(j.to(I64) * 4, 4) - here)
            p = count.get()
            code.store(self.work["displacements"], p * 4, d)
            self.work["neighbours"][p] = j
            count.set(p + squared_length(d).compare("<", limit).to(I64))

    def geometry(self, pair: Value, begin: Value, end: Value) -> None:
        """Intervals, unit vectors and solid harmonics, a block of neighbours at a time.

        The last block runs over the end of these neighbours; the next ones of the agent write over that.
        """
        code, shape, work = self.code, self.shape, self.work
        base = pair * (code.argument("intervals_of_grid") + 1)
        with code.loop(begin, end, BLOCK) as p:
            wide = [work["displacements"].vector(p * 4 + 8 * k, 8) for k in range(4)]
            x, y, z = (self.transposed(wide, c) for c in range(3))
            distance = code.intrinsic("sqrt", x * x + y * y + z * z)
            interval = distance.to(I32)
            inverse = 1.0 / distance
            code.store(work["intervals"], p, interval + base.to(I32))
            code.store(work["fraction"], p, (distance - interval.to(DOUBLE)).to(shape.real))
            code.store(work["inverse"], p, inverse.to(shape.real))
            u = [(c * inverse).to(shape.real) for c in (x, y, z)]
            for k, c in enumerate(u):
                code.store(work["unit"], self.capacity * k + p, c)
            for rank in shape.ranks:
                if rank > 1:
                    for m, component in enumerate(solid_harmonics(rank, *u), start=shape.first(rank)):
                        code.store(work["solid"], self.capacity * m + p, component)

    @staticmethod
    def transposed(wide: list[Value], c: int) -> Value:
        """One Cartesian component of eight displacements."""
        order = [c, 4 + c, 8 + c, 12 + c]
        return wide[0].shuffle(wide[1], order).shuffle(wide[2].shuffle(wide[3], order), range(8))

    def solid(self, m: int, p: Value) -> Value:
        """A component of rank 1 or more at a pair."""
        rank, k = self.shape.components[m]
        if rank == 1:
            return self.work["unit"][self.capacity * k + p]
        return self.work["solid"][self.capacity * m + p]

    def sum_moments(self, b: int, begin: Value, end: Value, pair_part: Callable[[Value, Array, Value], None]) -> None:
        """Splines and moments of one neighbour species.

        Parameters
        ----------
        b : int
        begin, end : Value
            Of the pairs.
        pair_part : callable
            Writes what is done with a pair beside its moments, given its index, its row of the table and its place in
            the interval.
        """
        code, shape, work = self.code, self.shape, self.work
        kind = ir.VectorType(shape.real, shape.lanes)
        nothing = code.constant(kind, 0.0)
        sums = [[Variable(code, nothing) for _ in shape.chunks] for _ in shape.components]
        with code.loop(begin, end) as p:
            row = self.table.from_index(work["intervals"][p].to(I64) * shape.stride)
            x = work["fraction"][p]
            pair_part(p, row, x)
            radial = []
            for begins in shape.chunks:
                c = [row.vector(k * shape.padded + begins, shape.lanes) for k in range(4)]
                f, df = spline(c, x)
                code.store(work["f"], p * shape.padded + begins, f)
                code.store(work["df"], p * shape.padded + begins, df)
                radial.append(f)
            for m, (rank, _) in enumerate(shape.components):
                y = self.solid(m, p) if rank else None
                for total, f in zip(sums[m], radial, strict=True):
                    total.add(f if y is None else f * y)
        for m, chunks in enumerate(sums):
            for begins, total in zip(shape.chunks, chunks, strict=True):
                code.store(work["moments"], (m * shape.species + b) * shape.padded + begins, total.get())


class AgentKernel(EnvironmentKernel):
    """Writes ``agents`` for one shape."""

    def __init__(self, module: ir.Module, shape: Shape) -> None:
        super().__init__(module, "agents", arguments(shape), shape)
        self.polynomial = Polynomial(self.code, shape, self.work)

    def write(self) -> None:
        """Write the whole function."""
        code, shape = self.code, self.shape
        zero = code.constant(ir.VectorType(shape.real, 4), 0.0)
        with code.loop(0, code.argument("atoms")) as i:
            code.store(self.forces, i * 4, zero)
        energy = Variable(code, code.constant(DOUBLE, 0.0))
        begin = code.argument("begin")
        with code.loop(begin, code.argument("end")) as i:
            species = self.species_index[i].to(I64)
            own = Variable(code, code.constant(shape.real, 0.0))
            bounds = [Variable(code, code.integer(0)) for _ in range(shape.species + 1)]
            count = Variable(code, code.integer(0))
            for b in range(shape.species):
                self.gather(i, (i - begin) * shape.species + b, count)
                bounds[b + 1].set(count.get())
                self.geometry(species * shape.species + b, bounds[b].get(), count.get())
                self.sum_moments(b, bounds[b].get(), count.get(), partial(self.pair_part, own))
            if shape.ranks:
                own.add(self.polynomial.write(species))
            total = Variable(code, zero)
            for b in range(shape.species):
                self.descend(b, bounds[b].get(), bounds[b + 1].get(), total)
            code.store(self.forces, i * 4, self.forces.vector(i * 4, 4) + total.get())
            energy.add(own.get().to(DOUBLE))
        code.array("energy", DOUBLE)[0] = energy.get()
        code.finish()

    def pair_part(self, own: Variable, p: Value, row: Array, x: Value) -> None:
        """The pair part of the loss, and its slope for later."""
        c = [row[4 * self.shape.padded + k] for k in range(4)]
        value, slope = spline(c, x)
        own.add(value)
        self.work["slope"][p] = slope

    def descend(self, b: int, begin: Value, end: Value, total: Variable) -> None:
        """Forces of the agent's loss on the agent and, where neighbours take part, on those of one species."""
        code, shape, work = self.code, self.shape, self.work
        adjoint = [
            [
                work["adjoint"].vector((m * shape.species + b) * shape.padded + begins, shape.lanes)
                for begins in shape.chunks
            ]
            for m in range(len(shape.components))
        ]
        with code.loop(begin, end) as p:
            inverse = work["inverse"][p]
            u = work["displacements"].vector(p * 4, 4).to(shape.real) * inverse
            along = work["slope"][p]
            if shape.ranks:
                sums = self.across_and_along(p, inverse, adjoint)
                force = u * (along + sums.lane(3)) + sums * inverse
            else:
                force = u * along
            total.add(force)
            if shape.collective:
                j = work["neighbours"][p].to(I64) * 4
                code.store(self.forces, j, self.forces.vector(j, 4) - force)

    def across_and_along(self, p: Value, inverse: Value, adjoint: list[list[Value]]) -> Value:
        """Σ_nm G f ∂_x Y, for x, y and z, and Σ_nm G (f' − l f/r) Y: four numbers."""
        code, shape, work = self.code, self.shape, self.work
        x = [work["unit"][self.capacity * k + p] for k in range(3)]
        sums: list[Value] = []
        for number, begins in enumerate(shape.chunks):
            f = work["f"].vector(p * shape.padded + begins, shape.lanes)
            df = work["df"].vector(p * shape.padded + begins, shape.lanes)
            along = weighted = None
            gradient: list[Value] | None = None
            for rank in shape.ranks:
                first = shape.first(rank)
                g = [adjoint[first + m][number] for m in range(2 * rank + 1)]
                if rank == 0:
                    along = g[0]
                    continue
                product = g[0] * self.solid(first, p)
                for m in range(1, 2 * rank + 1):
                    product = product + g[m] * self.solid(first + m, p)
                along = product if along is None else along + product
                times = product if rank == 1 else product * float(rank)
                weighted = times if weighted is None else weighted + times
                added = contracted_gradient(rank, g, *x)
                gradient = added if gradient is None else [a + c for a, c in zip(gradient, added, strict=True)]
            assert along is not None
            four = [df * along]
            if gradient is not None and weighted is not None:
                four = [*(f * c for c in gradient), four[0] - f * inverse * weighted]
            else:
                nothing = code.constant(f.ir.type, 0.0)
                four = [nothing, nothing, nothing, four[0]]
            sums = four if not sums else [a + c for a, c in zip(sums, four, strict=True)]
        return four_sums(*sums)


def collect_module(precision: str) -> ir.Module:
    """A module with the function ``collect``: the forces of all threads added up, scaled and put back as (N, 3)."""
    module = ir.Module(name="collect")
    real = SINGLE if precision == "single" else DOUBLE
    code = Code(module, "collect", COLLECT)
    source, target, order = code.array("source", real), code.array("target", DOUBLE), code.array("order", I64)
    scale, atoms = code.array("scale", DOUBLE)[0], code.argument("atoms")
    kind = ir.VectorType(DOUBLE, 4)
    with code.loop(code.argument("begin"), code.argument("end")) as i:
        total = Variable(code, code.constant(kind, 0.0))
        with code.loop(0, code.argument("parts")) as part:
            total.add(source.vector((part * atoms + i) * 4, 4).to(DOUBLE))
        force = total.get() * scale
        for c in range(3):
            target[order[i] * 3 + c] = force.lane(c)
    code.finish()
    return module


def spline(c: list[Value], x: Value) -> tuple[Value, Value]:
    """A cubic and its derivative."""
    last = c[3] * x
    upper = c[2] + last
    return c[0] + x * (c[1] + x * upper), c[1] + x * (2.0 * upper + last)


def four_sums(a: Value, b: Value, c: Value, d: Value) -> Value:
    """The sums over lanes of four vectors, as one vector of four."""
    count = a.ir.type.count
    groups = range(0, count, 4)
    low = [k for g in groups for k in (g, count + g, g + 1, count + g + 1)]
    high = [k + 2 for k in low]
    ab, cd = (one.shuffle(two, low) + one.shuffle(two, high) for one, two in ((a, b), (c, d)))
    low = [k for g in groups for k in (g, g + 1, count + g, count + g + 1)]
    total = ab.shuffle(cd, low) + ab.shuffle(cd, [k + 2 for k in low])
    while count > 4:
        count //= 2
        total = total.shuffle(total, range(count)) + total.shuffle(total, range(count, 2 * count))
    return total
