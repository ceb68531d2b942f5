"""The kernel of a form with channels: blocks of agents of one species, with an agent in each lane of the polynomial.

As `kernel`, with other lanes of registers where these are fuller: components for the moments, and neighbours for
distances and forces. The pair part is one more radial function, whose moment of rank 0 is its loss. Beyond the reach of
the moments pairs have only that, which acts at once.

Index suffixes: i agent, j neighbour, p pair of the block of agents, q distant pair of the agent, b species of the
neighbour, n radial function, a = (b, n), m component of all ranks, x Cartesian.
"""

from __future__ import annotations

from llvmlite import ir

from openmm_duality.invariants.harmonics import contracted_gradient, solid_harmonics
from openmm_duality.lowering.fused.boxes import nearest_image, nearest_images
from openmm_duality.lowering.fused.channels import HEADER, ChannelPolynomial
from openmm_duality.lowering.fused.kernel import KernelCode, spline
from openmm_duality.lowering.fused.shape import BLOCK, Shape
from openmm_duality.machine_code.code import (
    DOUBLE,
    I32,
    I64,
    Array,
    Value,
    Variable,
    four_sums,
    joined,
    total,
    transposed,
)
from openmm_duality.machine_code.machine import Function


class ChannelKernel(KernelCode):
    """Writes ``agents`` for a form with channels."""

    def __init__(self, name: str, shape: Shape, with_virial: bool = False) -> None:
        super().__init__(name, shape, with_virial)
        code = self.code
        self.intervals = code.argument("intervals_of_grid")
        self.nearest = nearest_images(code, shape.box, BLOCK)
        self.nearest_one = nearest_image(code, shape.box)
        self.four = ir.VectorType(shape.real, 4)
        self.half = max(shape.together // 2, 4)

    def write(self) -> Function:
        """Write the whole function."""
        code, shape, work, lanes = self.code, self.shape, self.work, self.shape.together
        self.load(4)
        descents = range(shape.descents)
        slopes = [work["tensor_slopes"].from_index(k * shape.rows * lanes) for k in descents]
        polynomial = ChannelPolynomial(code, shape, work["tensors"], slopes, lanes)
        blocks, entries = code.array("blocks", I32), code.array("entries", I64)
        weights = [code.array("entry_weights", shape.real).from_index(entries[0] * k) for k in descents]
        adjoints = [work["mixed_adjoint"].from_index(k * shape.mixed_size) for k in descents]
        energy, count = Variable(code, DOUBLE), Variable(code, I64)
        with code.loop(0, code.argument("number_of_blocks")) as block:
            agents = blocks.from_index(block * (lanes + 1) + 1)
            number = blocks[block * (lanes + 1)].to(I64)
            count.set(code.integer(0))
            with code.loop(0, number) as lane:
                energy.add(self.environment(agents[lane].to(I64), lane, count))
            self.gather_moments()
            species = self.species_index[agents[0].to(I64)].to(I64)
            header, alone = polynomial.headers.from_index(species * HEADER), polynomial.alone[species]
            polynomial.mix(header, work["mixed_moments"])
            polynomial.multiply(header)
            work["agent_losses"][0] = polynomial.contract(header, weights, 1)
            polynomial.descend(header)
            polynomial.unmix(header, adjoints, lambda m, a: (a + m * shape.mixing_width) * lanes)
            with code.loop(0, number) as lane:
                energy.add(work["agent_losses"][lane] - alone)
                bounds = [self.bound(lane, b).to(I64) for b in range(shape.species + 1)]
                own = self.own_force(self.half)
                for b in range(shape.species):
                    self.descend([one.from_index(lane) for one in adjoints], b, bounds[b], bounds[b + 1], own)
                self.push(agents[lane].to(I64), work["neighbours"], bounds[0], bounds[-1], own)
        code.array("energy", DOUBLE)[0] = energy.get()
        self.write_virial()
        return code.compiled()

    def bound(self, lane: Value, b: int) -> Value:
        """Where the neighbours of a species begin of the agent in a lane."""
        return self.work["bounds"][lane * (self.shape.species + 1) + b]

    def environment(self, i: Value, lane: Value, count: Variable) -> Value:
        """Neighbours, geometry and moments of an agent; the pair part of its loss.

        Parameters
        ----------
        i, lane : Value
        count : Variable
            Neighbours of the block so far.
        """
        code, shape = self.code, self.shape
        own, bounds = Variable(code, DOUBLE), [count.get()]
        own.set(code.constant(DOUBLE, 0.0))
        pairs = [self.species_index[i].to(I64) * shape.species + b for b in range(shape.species)]
        for b, pair in enumerate(pairs):
            own.add(self.select(i, i * shape.species + b, pair, count))
            bounds.append(count.get())
        for b, bound in enumerate(bounds):
            self.work["bounds"][lane * len(bounds) + b] = bound.to(I32)
        self.geometry(i, bounds[0], bounds[-1])
        for b, pair in enumerate(pairs):
            harmonics = self.work["harmonics"].from_index((bounds[b] - bounds[0]) * shape.padded_components)
            own.add(self.sum_moments(lane, b, pair, harmonics, bounds[b], bounds[b + 1]))
        return own.get()

    def displacements(self, i: Value, neighbours: list[Value]) -> tuple[list[Value], Value]:
        """Displacements x, y and z of a block of neighbours, and their squared distances."""
        rows = [self.positions.vector(j.to(I64) * 4, 4) for j in neighbours]
        x, y, z = self.nearest([q - self.positions[i * 4 + c] for c, q in enumerate(transposed(rows)[:3])])
        return [x, y, z], x * x + y * y + z * z

    def displacement(self, i: Value, place: Value) -> Value:
        """Displacement of four numbers to a neighbour whose position is at a place."""
        return self.nearest_one(self.positions.vector(place, 4) - self.positions.vector(i * 4, 4))

    def select(self, i: Value, segment: Value, pair: Value, count: Variable) -> Value:
        """Candidates of a species within the reach of the moments; the others act at once, and their loss is returned.

        Parameters
        ----------
        i, segment : Value
            The agent, and where its candidates of a species are among the offsets.
        pair : Value
            Number of the pair of species.
        count : Variable
            Neighbours of the block so far.
        """
        code = self.code
        limit, near_limit = (
            k * k for k in (self.intervals.to(DOUBLE), code.argument("intervals_of_moments").to(DOUBLE))
        )
        distant, end = Variable(code, I64), self.offsets[segment + 1]
        distant.set(code.integer(0))
        with code.loop(self.offsets[segment], end, BLOCK) as candidate:
            inside = code.count_up(candidate, BLOCK).compare("<", end)
            j = inside.choose(self.list.vector(candidate, BLOCK), i.to(I32))
            _, square = self.displacements(i, [j.lane(k) for k in range(BLOCK)])
            near = inside.both(square.compare("<", near_limit))
            far = inside.both(square.compare(">=", near_limit)).both(square.compare("<", limit))
            for chosen, name, number in ((near, "neighbours", count), (far, "distant_neighbours", distant)):
                kept, more = code.compress(j, chosen)
                self.work[name][number.get()] = kept
                number.add(more)
        return self.distant(i, pair, distant.get())

    def distant(self, i: Value, pair: Value, end: Value) -> Value:
        """Pair potential and forces of the distant neighbours of one species."""
        code, shape, neighbours = self.code, self.shape, self.work["distant_neighbours"]
        base, loss = pair * (self.intervals + 1), Variable(code, ir.VectorType(DOUBLE, BLOCK))
        loss.set(code.constant(loss.kind, 0.0))
        own = self.own_force(BLOCK)
        with code.loop(0, end, BLOCK) as q:
            d, square = self.displacements(i, [neighbours[q + k] for k in range(BLOCK)])
            distance = self.distance(square)
            # beyond the end the row of zeros at the cutoff
            interval = code.count_up(q, BLOCK).compare("<", end).choose(distance.to(I64), self.intervals)
            places = [(base + interval.lane(k)) * shape.stride + 4 * shape.padded for k in range(BLOCK)]
            rows = transposed([self.table.vector(place, 4 * shape.descents) for place in places])
            for descent in range(shape.descents):
                powers = rows[descent :: shape.descents]
                value, slope = spline(powers, (distance - interval.to(DOUBLE)).to(shape.real))
                if descent == 0:
                    loss.add(value.to(DOUBLE))
                along = slope / distance.to(shape.real)
                self.keep_forces(q, [along * c.to(shape.real) for c in d], own if descent else [])
        self.push(i, neighbours, code.integer(0), end, own)
        return loss.get().folded(1).lane(0)

    def geometry(self, i: Value, begin: Value, end: Value) -> None:
        """Intervals, unit vectors and harmonics of the neighbours of an agent, a register of them at a time.

        The last register runs over their end; the neighbours of the next agent write over that.
        """
        code, shape, work, lanes = self.code, self.shape, self.work, self.shape.together
        with code.loop(begin, end, lanes) as p:
            blocks = []
            for first in range(0, lanes, BLOCK):
                d, square = self.displacements(i, [work["neighbours"][p + (first + k)] for k in range(BLOCK)])
                distance = self.distance(square)
                interval = distance.to(I32)
                work["intervals"][p + first] = interval
                reals = [*d, distance, distance - interval.to(DOUBLE)]
                blocks.append([number.to(shape.real) for number in reals])
            *d, distance, fraction = (joined(parts) for parts in zip(*blocks, strict=True))
            inverse = 1.0 / distance
            u = [c * inverse for c in d]
            work["fraction"][p], work["inverse"][p] = fraction, inverse
            for k, c in enumerate(u):
                work["unit"][self.capacity * k + p] = c
            zero = code.constant(inverse.ir.type, 0.0)
            components = [zero + y for rank in shape.ranks for y in solid_harmonics(rank, *u)]
            components += [zero] * (shape.padded_components - len(components))
            for first in range(0, shape.padded_components, lanes):
                for k, row in enumerate(transposed(components[first : first + lanes])):
                    work["harmonics"][(p - begin + k) * shape.padded_components + first] = row

    def sum_moments(self, lane: Value, b: int, pair: Value, harmonics: Array, begin: Value, end: Value) -> Value:
        """Splines and moments of one neighbour species; the pair part of the loss."""
        code, shape, work, lanes = self.code, self.shape, self.work, self.shape.together
        chunks = range(0, shape.padded_components, lanes)
        sums = [[Variable(code, ir.VectorType(shape.real, lanes)) for _ in chunks] for _ in range(shape.fine)]
        own, base = Variable(code, DOUBLE), pair * (self.intervals + 1)
        for one in (own, *(moment for of_function in sums for moment in of_function)):
            one.set(code.constant(one.kind, 0.0))
        with code.loop(begin, end) as p:
            row = self.table.from_index((work["intervals"][p].to(I64) + base) * shape.stride)
            x = work["fraction"][p]
            for begins in shape.chunks:
                f, df = spline([row.vector(k * shape.padded + begins, shape.lanes) for k in range(4)], x)
                work["f"][p * shape.padded + begins] = f
                work["df"][p * shape.padded + begins] = df
                if shape.fine in range(begins, begins + shape.lanes):
                    own.add(f.lane(shape.fine % shape.lanes).to(DOUBLE))
        # the functions are read again one by one, which costs less than moving their lanes
        with code.loop(begin, end) as p:
            y = [harmonics.vector((p - begin) * shape.padded_components + first, lanes) for first in chunks]
            for n, of_function in enumerate(sums):
                f = work["f"][p * shape.padded + n]
                for part, moment in zip(y, of_function, strict=True):
                    moment.add(part * f)
        for n, of_function in enumerate(sums):
            at = (lane * shape.mixing_width + (b * shape.fine + n)) * shape.padded_components
            for first, moment in zip(chunks, of_function, strict=True):
                work["agent_moments"][at + first] = moment.get()
        return own.get()

    def gather_moments(self) -> None:
        """The moments of the agents of the block, by component and a, with an agent in each lane."""
        code, shape, lanes = self.code, self.shape, self.shape.together
        moments, width = self.work["agent_moments"], shape.padded_components
        with code.loop(0, shape.mixing_width) as a:
            for first in range(0, width, lanes):
                rows = [moments.vector((a + k * shape.mixing_width) * width + first, lanes) for k in range(lanes)]
                for m, row in enumerate(transposed(rows)[: len(shape.components) - first], start=first):
                    self.work["mixed_moments"][(a + m * shape.mixing_width) * lanes] = row

    def descend(self, adjoints: list[Array], b: int, begin: Value, end: Value, own: list[Variable]) -> None:
        """Forces of the loss of an agent on its neighbours of one species, a register of them at a time.

        Parameters
        ----------
        adjoints : list of Array
            Those of the agent, by descent.
        b, begin, end : int, Value
        own : list of Variable
            As `own_force`.
        """
        code, lanes, half = self.code, self.shape.together, self.half
        # what half a register holds is left to half a register
        whole = begin + (end - begin + (half - 1)) / lanes * lanes
        of_species = [one.from_index(b * self.shape.fine * lanes) for one in adjoints]
        with code.loop(begin, whole, lanes) as p:
            self.descend_register(of_species, p, lanes, end, own)
        with code.loop(whole, end, half) as p:
            self.descend_register(of_species, p, half, end, own)

    def descend_register(self, adjoints: list[Array], p: Value, lanes: int, end: Value, own: list[Variable]) -> None:
        """Forces on the neighbours of one species in the lanes of a register, from p on."""
        code, shape, work = self.code, self.shape, self.work
        u = [work["unit"].vector(self.capacity * k + p, lanes) for k in range(3)]
        values, slopes = self.radial("f", p, lanes)[: shape.fine], self.radial("df", p, lanes)
        inside = code.count_up(p, lanes).compare("<", end)
        for descent, adjoint in enumerate(adjoints):
            ranks = shape.own_mixed if descent else shape.ranks
            # kept in memory, so that every adjoint is read again below rather than all of them held in registers
            work["slope"][p] = self.along(u, slopes[: shape.fine], adjoint, ranks) + slopes[shape.fine + descent]
            slope = work["slope"].vector(p, lanes)
            inverse = work["inverse"].vector(p, lanes)
            across = [c * inverse for c in self.across(u, values, adjoint, ranks)]
            along = slope - total(c * one for c, one in zip(u, across, strict=True))
            force = [along * c + one for c, one in zip(u, across, strict=True)]
            if descent:
                force = [inside.choose(one, code.constant(one.ir.type, 0.0)) for one in force]
            self.keep_forces(p, force, own if descent else [])

    def adjoint(self, adjoint: Array, m: int, n: int) -> Value:
        """G of a component and a function."""
        return adjoint[(n + m * self.shape.mixing_width) * self.shape.together]

    def along(self, u: list[Value], slopes: list[Value], adjoint: Array, ranks: tuple[int, ...]) -> Value:
        """Σ_nm G f' Y over the components of some ranks."""
        harmonics = [y for rank in ranks for y in solid_harmonics(rank, *u)]
        found = [self.code.constant(u[0].ir.type, 0.0)]
        for n, slope in enumerate(slopes if ranks else []):
            found.append(slope * total(y * self.adjoint(adjoint, m, n) for m, y in enumerate(harmonics)))
        return total(found)

    def across(self, u: list[Value], values: list[Value], adjoint: Array, ranks: tuple[int, ...]) -> list[Value]:
        """Σ_nm G f ∂_x Y over the components of some ranks, for x, y and z."""
        gradients = [[self.code.constant(u[0].ir.type, 0.0)] * 3]
        for rank in filter(None, ranks):
            sums = [total(f * self.adjoint(adjoint, m, n) for n, f in enumerate(values)) for m in self.shape.of(rank)]
            gradients.append(contracted_gradient(rank, sums, *u))
        return [total(parts) for parts in zip(*gradients, strict=True)]

    def radial(self, name: str, p: Value, lanes: int) -> list[Value]:
        """Radial functions or their slopes, then those of the pair part, with a neighbour in each lane."""
        shape, array = self.shape, self.work[name]
        found: list[Value] = []
        for begins in shape.chunks:
            rows = [array.vector((p + k) * shape.padded + begins, shape.lanes) for k in range(lanes)]
            found += transposed(rows)
        return found[: shape.table_width]

    def own_force(self, lanes: int) -> list[Variable]:
        """Sums x, y and z, with a neighbour in each lane, of forces on the agent of an own part, if any."""
        kind = ir.VectorType(self.shape.real, lanes)
        found = [Variable(self.code, kind) for _ in range(3 if self.shape.own else 0)]
        for one in found:
            one.set(self.code.constant(kind, 0.0))
        return found

    def keep_forces(self, p: Value, force: list[Value], own: list[Variable]) -> None:
        """Keep the forces x, y and z of a register of pairs, by pair; or add them to those of an own part."""
        if own:
            for on_agent, one in zip(own, force, strict=True):
                on_agent.add(one.folded(on_agent.kind.count))
        else:
            for k, row in enumerate(transposed([*force, self.code.constant(force[0].ir.type, 0.0)])):
                self.work["pair_forces"][(p + k) * 4] = row

    def push(self, i: Value, neighbours: Array, begin: Value, end: Value, own: list[Variable]) -> None:
        """Forces of pairs and of an own part on their agent, and where neighbours take part those of pairs on these."""
        sums = Variable(self.code, self.four)
        sums.set(self.code.constant(self.four, 0.0))
        if own:
            x, y, z = (one.get() for one in own)
            sums.set(four_sums(x, y, z, self.code.constant(x.ir.type, 0.0)))
        with self.code.loop(begin, end) as p:
            force = self.work["pair_forces"].vector(p * 4, 4)
            sums.add(force)
            j = neighbours[p].to(I64) * 4
            self.add_virial(
                force, lambda: self.nearest_one(self.positions.vector(j, 4) - self.positions.vector(i * 4, 4))
            )
            if self.shape.reactions:
                self.forces[j] = self.forces.vector(j, 4) - force
        self.forces[i * 4] = self.forces.vector(i * 4, 4) + sums.get()
