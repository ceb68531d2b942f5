"""The fused kernel: for one agent after the other moments, polynomial, adjoint and forces, all in the nearest cache.

As `losses.evaluator`, with a list of candidates for neighbours. Lengths are in units of the grid spacing, so that the
interval of a distance is its whole part. Displacements and distances are in double precision, and losses are added up
in it. Sums ρ are taken from their means (`losses.means`), so that single precision rounds small numbers; where they
are coupled they are added up in double precision too.

Neighbours come from lists of candidates (`search`, `neighbour_lists`); nothing here knows how they were found.

Index suffixes: i agent, j neighbour, p pair of the agent, b species of the neighbour, n radial function (the lanes of
registers), m component of all ranks, x Cartesian.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir

from openmm_duality.invariants.harmonics import combined_gradient, contracted_gradient, solid_harmonics
from openmm_duality.invariants.neighbours import CLOSEST
from openmm_duality.lowering.fused.boxes import nearest_image
from openmm_duality.lowering.fused.channels import AgentChannels
from openmm_duality.lowering.fused.polynomial import Polynomial
from openmm_duality.lowering.fused.shape import BLOCK, Shape
from openmm_duality.machine_code.code import DOUBLE, I32, I64, Array, Code, Value, Variable, element, four_sums, total
from openmm_duality.machine_code.machine import Function


class KernelCode:
    """A kernel being written: its code, and the arguments that all kernels over agents have.

    Parameters
    ----------
    name : str
        Of the function.
    shape : Shape
    with_virial : bool
        Whether the virial is summed too, which costs a few per cent.
    """

    def __init__(self, name: str, shape: Shape, with_virial: bool = False) -> None:
        self.shape = shape
        self.code = code = Code(name)
        self.agents = code.argument("agents")
        self._virial = [Variable(code, ir.VectorType(DOUBLE, 4)) for _ in range(3 if with_virial else 0)]
        self.positions = code.array("positions", DOUBLE)
        self.order = code.array("order", I32)
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

    def load(self, per_atom: int) -> None:
        """Copy the positions of the atoms of the part to where they are read, and set their forces to zero.

        Parameters
        ----------
        per_atom : int
            Numbers of the forces on an atom, a multiple of four.
        """
        code, positions = self.code, self.positions
        source, shifts, scale = code.array("source", DOUBLE), code.array("shifts", DOUBLE), code.array("scale", DOUBLE)
        with code.loop(0, code.argument("atoms")) as k:
            atom = self.order[k].to(I64) * 3
            for c in range(3):
                positions[k * 4 + c] = source[atom + c] * scale[0]
        with code.loop(0, code.argument("shifted") * 4, 4) as at:
            positions[at] = positions.vector(at, 4) + shifts.vector(at, 4)
        code.clear(self.forces, 0, code.argument("atoms") * per_atom, 4)

    def add_virial(self, gradient: Value, displacement: Callable[[], Value]) -> None:
        """Add the gradient of a pair (four numbers) times its displacement (four of double precision), if wanted."""
        if self._virial:
            d, g = displacement(), gradient.to(DOUBLE)
            for x, row in enumerate(self._virial):
                row.add(g * d.lane(x))

    def write_virial(self) -> None:
        """Write the sums, rows of four numbers of which the last is none."""
        for x, row in enumerate(self._virial):
            self.code.array("virial", DOUBLE)[4 * x] = row.get()

    def distance(self, square: Value) -> Value:
        """Distances from their squares; the shortest that there is for shorter ones."""
        distance = self.code.intrinsic("sqrt", square)
        closest = self.code.argument("intervals_of_grid").to(DOUBLE) * CLOSEST
        return distance.compare(">", closest).choose(distance, closest)


class EnvironmentKernel(KernelCode):
    """Writes the local environment of an agent: its neighbours, their geometry, its moments and its loss."""

    def __init__(self, name: str, shape: Shape, with_virial: bool = False) -> None:
        super().__init__(name, shape, with_virial)
        code = self.code
        self.nearest = nearest_image(code, shape.box)
        self.polynomial = (AgentChannels if shape.mixed else Polynomial)(code, shape, self.work)
        self.centres, self.at_centres = code.array("centres", shape.real), code.array("at_centres", DOUBLE)
        # where those of every species begin, and the end of all, in the list of neighbours that the own part reaches
        self.near = [Variable(code, I64) for _ in range(shape.species + 1 if shape.descents > 1 else 0)]

    def loss(self, i: Value, visit: Callable[[Value, Value], None]) -> tuple[Value, list[Variable]]:
        """The loss of an agent, and where its neighbours of every species begin, and the end of all.

        Parameters
        ----------
        i : Value
        visit : callable
            Writes what else is done with a pair, given its index and the slope of its pair potential, `of_descents`.
        """
        own, bounds = self.environment(i, Variable(self.code, I64), visit)
        if self.shape.ranks:
            species = self.species_index[i].to(I64)
            own.add(self.polynomial.write(species) + self.at_centres[species])
        return own.get(), bounds

    def environment(
        self, i: Value, count: Variable, visit: Callable[[Value, Value], None]
    ) -> tuple[Variable, list[Variable]]:
        """Moments of an agent, its pair part, and where its neighbours begin, behind those counted so far."""
        code, shape, species = self.code, self.shape, self.species_index[i].to(I64)
        own = Variable(code, DOUBLE)
        bounds = [Variable(code, I64) for _ in range(shape.species + 1)]
        own.set(code.constant(DOUBLE, 0.0))
        bounds[0].set(count.get())
        if self.near:
            self.near[0].set(code.integer(0))
        for b in range(shape.species):
            self.gather(i, i * shape.species + b, count)
            bounds[b + 1].set(count.get())
            self.geometry(species * shape.species + b, bounds[b].get(), count.get(), self.near[b : b + 2])
            self.sum_moments(species, b, bounds[b].get(), count.get(), own, visit)
        return own, bounds

    def gather(self, i: Value, segment: Value, count: Variable) -> None:
        """Displacements and indices of the candidates within the cutoff, without a branch.

        Parameters
        ----------
        i, segment : Value
            The agent, and where its candidates of a species are among the offsets.
        count : Variable
            Neighbours of the agent so far.
        """
        code = self.code
        here = self.positions.vector(i * 4, 4)
        intervals = code.argument("intervals_of_grid").to(DOUBLE)
        limit = intervals * intervals
        with code.loop(self.offsets[segment], self.offsets[segment + 1]) as candidate:
            j = self.list[candidate]
            d = self.nearest(self.positions.vector(j.to(I64) * 4, 4) - here)
            p = count.get()
            self.work["displacements"][p * 4] = d
            self.work["neighbours"][p] = j
            square = d * d
            count.set(p + total(square.lane(k) for k in range(3)).compare("<", limit).to(I64))

    def geometry(self, pair: Value, begin: Value, end: Value, near: list[Variable]) -> None:
        """Intervals, unit vectors and solid harmonics, a block of neighbours at a time.

        The last block runs over the end of these neighbours; the next ones of the agent write over that.

        Parameters
        ----------
        pair, begin, end : Value
        near : list of Variable
            Where the list of those begins that the own part reaches, and where it is to end; empty without that list.
        """
        code, shape, work = self.code, self.shape, self.work
        if near:
            reach, (first, last) = code.array("own_reach", DOUBLE)[0], near
            last.set(first.get())
        base = pair * (code.argument("intervals_of_grid") + 1)
        with code.loop(begin, end, BLOCK) as p:
            wide = [work["displacements"].vector(p * 4 + 8 * k, 8) for k in range(4)]
            orders = [[c, 4 + c, 8 + c, 12 + c] for c in range(3)]
            halves = ([wide[k].shuffle(wide[k + 1], order) for k in (0, 2)] for order in orders)
            x, y, z = (low.shuffle(high, range(8)) for low, high in halves)
            distance = self.distance(x * x + y * y + z * z)
            interval = distance.to(I32)
            inverse = 1.0 / distance
            if near:
                places = code.count_up(p, BLOCK)
                reached = distance.compare("<", reach).both(places.compare("<", end))
                kept, number = code.compress(places.to(I32), reached)
                work["reached"][last.get()] = kept
                last.add(number)
            work["intervals"][p] = interval + base.to(I32)
            work["fraction"][p] = (distance - interval.to(DOUBLE)).to(shape.real)
            work["inverse"][p] = inverse.to(shape.real)
            u = [(c * inverse).to(shape.real) for c in (x, y, z)]
            for k, c in enumerate(u):
                work["unit"][self.capacity * k + p] = c
            for rank in shape.ranks:
                if rank > 1:
                    for m, component in enumerate(solid_harmonics(rank, *u), start=shape.first(rank)):
                        work["solid"][self.capacity * m + p] = component

    def of_descents(self, array: Array, index: Any) -> Value:
        """Numbers of all descents from an index on, a vector where there are two."""
        return array[index] if self.shape.descents == 1 else array.vector(index, self.shape.descents)

    def descent(self, numbers: Value, k: int) -> Value:
        """The number of one descent."""
        return numbers if self.shape.descents == 1 else numbers.lane(k)

    def solid(self, m: int, p: Value) -> Value:
        """A component of rank 1 or more at a pair."""
        rank, k = self.shape.components[m]
        if rank == 1:
            return self.work["unit"][self.capacity * k + p]
        return self.work["solid"][self.capacity * m + p]

    def sum_moments(
        self,
        species: Value,
        b: int,
        begin: Value,
        end: Value,
        own: Variable,
        visit: Callable[[Value, Value], None],
    ) -> None:
        """Splines and moments of one neighbour species, and the pair part of the loss of an agent of a species."""
        code, shape, work = self.code, self.shape, self.work
        registers = [shape.register_of_sums if rank == 0 else shape.vector for rank, _ in shape.components]
        sums = [[Variable(code, one) for _ in shape.chunks] for one in registers]
        for (rank, _), chunks in zip(shape.components, sums, strict=True):
            for begins, moment in zip(shape.chunks, chunks, strict=True):
                if rank == 0:
                    place = (species * shape.species + b) * shape.padded + begins
                    start = code.constant(shape.vector, 0.0) - self.centres.vector(place, shape.lanes)
                    moment.set(start.to(element(moment.kind)))
        with code.loop(begin, end) as p:
            row = self.table.from_index(work["intervals"][p].to(I64) * shape.stride)
            x = work["fraction"][p]
            value, slope = spline([self.of_descents(row, 4 * shape.padded + k * shape.descents) for k in range(4)], x)
            own.add(self.descent(value, 0).to(DOUBLE))
            visit(p, slope)
            radial = []
            for begins in shape.chunks:
                c = [row.vector(k * shape.padded + begins, shape.lanes) for k in range(4)]
                f, df = spline(c, x)
                work["f"][p * shape.padded + begins] = f
                work["df"][p * shape.padded + begins] = df
                radial.append(f)
            for m, (rank, _) in enumerate(shape.components):
                y = self.solid(m, p) if rank else None
                for moment, f in zip(sums[m], radial, strict=True):
                    moment.add(f.to(element(moment.kind)) if y is None else f * y)
        for m, chunks in enumerate(sums):
            for begins, moment in zip(shape.chunks, chunks, strict=True):
                work["moments"][(m * shape.species + b) * shape.padded + begins] = moment.get().to(shape.real)


class AgentKernel(EnvironmentKernel):
    """Writes ``agents`` for one shape."""

    def write(self) -> Function:
        """Write the whole function."""
        code, shape = self.code, self.shape
        self.load(4)
        energy = Variable(code, DOUBLE)

        def visit(p: Value, slope: Value) -> None:
            self.work["slope"][p * shape.descents] = slope

        with code.loop(0, self.agents) as i:
            loss, bounds = self.loss(i, visit)
            force = Variable(code, ir.VectorType(shape.real, 4))
            # of what the agent descends alone, x, y and z
            by_function = [Variable(code, shape.vector) for _ in range(3 if shape.own and shape.ranks else 0)]
            for b in range(shape.species):
                self.descend(b, bounds[b].get(), bounds[b + 1].get(), force)
                if by_function:
                    self.descend_alone(b, self.near[b].get(), self.near[b + 1].get(), by_function)
            found = force.get()
            if by_function:
                x, y, z = (one.get() for one in by_function)
                found = found + four_sums(x, y, z, code.constant(shape.vector, 0.0))
            self.forces[i * 4] = self.forces.vector(i * 4, 4) + found
            energy.add(loss.to(DOUBLE))
        code.array("energy", DOUBLE)[0] = energy.get()
        self.write_virial()
        return code.compiled()

    def descend(self, b: int, begin: Value, end: Value, own: Variable) -> None:
        """Forces of the agent's loss on the agent and, where neighbours take part, on those of one species.

        Of an own part only the pair part is added to the force on the agent.
        """
        code, shape, work = self.code, self.shape, self.work
        adjoint = self.adjoint(b, 0)
        with code.loop(begin, end) as p:
            inverse = work["inverse"][p]
            u = work["displacements"].vector(p * 4, 4).to(shape.real) * inverse
            slopes = self.of_descents(work["slope"], p * shape.descents)
            along = self.descent(slopes, 0)
            force = u * along
            if shape.ranks:
                nothing = code.constant(shape.vector, 0.0)
                parts = self.across_and_along(p, inverse, adjoint)
                chunks = [[*([f * one for one in across] or 3 * [nothing]), radial] for f, across, radial in parts]
                of_functions = four_sums(*(total(terms) for terms in zip(*chunks, strict=True)))
                force = u * (along + of_functions.lane(3)) + of_functions * inverse
            own.add(force + u * self.descent(slopes, 1) if shape.own else force)
            self.add_virial(force, partial(work["displacements"].vector, p * 4, 4))
            if shape.reactions:
                j = work["neighbours"][p].to(I64) * 4
                self.forces[j] = self.forces.vector(j, 4) - force

    def descend_alone(self, b: int, begin: Value, end: Value, force: list[Variable]) -> None:
        """Add the force, x, y and z by function, of an own part, given the bounds of the neighbours that it reaches.

        It acts on the agent alone, so that forces of pairs are not needed: f/r ∂Y is linear in f/r times the harmonics
        of the next lower rank, which are summed over the neighbours first.
        """
        code, shape, work = self.code, self.shape, self.work
        ranks = [rank for rank in shape.ranks if rank]
        for begins, of_functions in zip(shape.chunks, self.adjoint(b, 1), strict=True):
            lower = {rank: [Variable(code, shape.vector) for _ in range(2 * rank - 1)] for rank in ranks}
            with code.loop(begin, end) as reached:
                p = work["reached"][reached].to(I64)
                f, df = (work[name].vector(p * shape.padded + begins, shape.lanes) for name in ("f", "df"))
                across = f * work["inverse"][p]
                u = [work["unit"][self.capacity * k + p] for k in range(3)]
                values = [of_functions[m] for m in shape.of(0)] if 0 in shape.ranks else []  # Σ_m G Y by rank
                for rank in ranks:
                    values.append(total(of_functions[m] * self.solid(m, p) for m in shape.of(rank)))
                    for one, harmonic in zip(lower[rank], solid_harmonics(rank - 1, *u), strict=True):
                        one.add(across * harmonic)
                along = df * total(values)
                if ranks:
                    degrees = (y * float(rank) for rank, y in zip(ranks, values[-len(ranks) :], strict=True))
                    along = along - across * total(degrees)
                for one, x in zip(force, u, strict=True):
                    one.add(along * x)
            for rank, sums in lower.items():
                weights = [of_functions[m] for m in shape.of(rank)]
                for one, part in zip(force, combined_gradient(rank, weights, [k.get() for k in sums]), strict=True):
                    one.add(part)

    def adjoint(self, b: int, descent: int) -> list[list[Value]]:
        """The adjoint of the moments of a neighbour species in a descent, by register of functions and component."""
        shape = self.shape
        places = [(m * shape.species + b) * shape.padded for m in range(len(shape.components))]
        first = descent * shape.moment_size
        return [
            [self.work["adjoint"].vector(first + at + begins, shape.lanes) for at in places] for begins in shape.chunks
        ]

    def across_and_along(
        self, p: Value, inverse: Value, adjoint: list[list[Value]]
    ) -> list[tuple[Value, list[Value], Value]]:
        """f, Σ_m G ∂_x Y for x, y and z, and Σ_m G (f' − l f/r) Y, for the functions in the lanes of each register."""
        shape, work = self.shape, self.work
        x = [work["unit"][self.capacity * k + p] for k in range(3)]
        upward = [rank for rank in shape.ranks if rank]
        found = []
        for begins, of_functions in zip(shape.chunks, adjoint, strict=True):
            f, df = (work[name].vector(p * shape.padded + begins, shape.lanes) for name in ("f", "df"))
            along = [of_functions[m] for m in shape.of(0)] if 0 in shape.ranks else []
            across: list[Value] = []
            degrees = None
            for number, rank in enumerate(upward, start=1):
                # the factors of the adjoint are computed before the loop
                across = contracted_gradient(rank, [of_functions[m] for m in shape.of(rank)], *x, onto=across)
                degrees = total(u * one for u, one in zip(x, across, strict=True))  # Σ l G Y so far, by Euler's theorem
                next_share = 1.0 / upward[number] if number < len(upward) else 0.0  # which it has in the next sum
                along.append(degrees * (1.0 / rank - next_share))
            radial = df * total(along)
            found.append((f, across, radial if degrees is None else radial - f * inverse * degrees))
        return found


def spline(c: list[Value], x: Value) -> tuple[Value, Value]:
    """A cubic and its derivative."""
    last = c[3] * x
    upper = c[2] + last
    return c[0] + x * (c[1] + x * upper), c[1] + x * (2.0 * upper + last)
