"""The polynomial H(M) of one agent and its adjoint G = ∂H/∂M in code, as `losses.evaluator.polynomial`.

For the losses themselves the lanes of registers are functions; for a committee they are members.

Index suffixes: m component of all ranks, b species of the neighbour, n radial function, a = (b, n) coarse moment,
q coupled invariant, k member.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from llvmlite import ir

from openmm_duality.lowering.fused.channels import HEADER, ChannelPolynomial
from openmm_duality.lowering.fused.shape import GROUP, MEMBER_TURN, TURN, Shape
from openmm_duality.machine_code.code import DOUBLE, I32, I64, Array, Code, Value, Variable, total


class Polynomial:
    """Writes the polynomial of one agent into a function; with an own part also the adjoint of that.

    Parameters
    ----------
    code : Code
        The function.
    shape : Shape
    work : mapping of str to Array
        The arrays that a thread works in; moments are read, adjoints written.
    """

    def __init__(self, code: Code, shape: Shape, work: Mapping[str, Array]) -> None:
        self.code, self.shape, self.work = code, shape, work
        self.weights = code.array("weights", shape.real)
        self.couplings = code.array("couplings", shape.real)
        self.mean_phi, self.at_mean_phi = (code.array(name, shape.real) for name in ("mean_phi", "slopes_at_mean_phi"))
        self.places = code.array("places", I32)
        self.mirrors = code.array("mirrors", I32)
        self.factors = code.array("factors", shape.real)

    def write(self, species: Value) -> Value:
        """Code for an agent of a species; its value is H."""
        shape = self.shape
        own = Variable(self.code, DOUBLE)
        for rank in shape.ranks:
            if rank in shape.contracted:
                self.contract(rank, species, own)
            else:
                size = shape.species * shape.padded
                for descent in range(shape.descents):
                    first = descent * shape.moment_size + shape.first(rank) * size
                    self.code.clear(self.work["adjoint"], first, first + (2 * rank + 1) * size, shape.lanes)
        if shape.coupled:
            self.couple(species, own)
        return own.get()

    def contract(self, rank: int, species: Value, own: Variable) -> None:
        """Add ½ w·(M·M) of one rank."""
        code, shape, descents = self.code, self.shape, range(self.shape.descents)
        moments, adjoint = self.work["moments"], self.work["adjoint"]
        size = shape.species * shape.padded
        first, count = shape.first(rank) * size, 2 * rank + 1
        numbers = [descent * len(shape.contracted) + shape.contracted.index(rank) for descent in descents]
        weights = [
            self.weights.from_index((species + number * shape.species) * (shape.species * shape.fine * size))
            for number in numbers
        ]
        energy = Variable(code, shape.vector)
        parts = [(0, shape.own_fine, 2), (shape.own_fine, shape.fine, 1)] if shape.own else [(0, shape.fine, 1)]
        with code.loop(0, size, shape.lanes) as out:
            sums = [[Variable(code, shape.vector) for _ in range(count)] for _ in descents]
            for begin, end, taken in parts:
                with code.loop(0, shape.species) as b, code.loop(begin, end) as n:
                    for of_descent, totals in zip(weights[:taken], sums[:taken], strict=True):
                        row = of_descent.vector((b * shape.fine + n) * size + out, shape.lanes)
                        for m, one in enumerate(totals):
                            one.add(row * moments[first + m * size + b * shape.padded + n])
            for m, one in enumerate(sums[0]):
                energy.add(one.get() * moments.vector(first + m * size + out, shape.lanes))
            for descent, totals in enumerate(sums):
                for m, one in enumerate(totals):
                    adjoint[descent * shape.moment_size + first + m * size + out] = one.get()
        own.add(0.5 * energy.get().folded(1).lane(0).to(DOUBLE))

    def couple(self, species: Value, own: Variable) -> None:
        """Add ½ φᵀCφ, written about mean invariants, without what is in the pair part (`tables.tables`)."""
        for place, at in self.coarse_places():
            self.work["coarse"][at] = self.work["moments"][place]
        self.invariants()
        self.coupling(species)
        for descent in range(self.shape.descents):
            value = self.spread_slopes(species, descent)
            self.coarse_adjoint(descent)
            for place, at in self.coarse_places():
                self.work["adjoint"][descent * self.shape.moment_size + place] = self.work["coarse_adjoint"][at]
            if descent == 0:
                own.add(0.5 * value)

    def coarse_places(self) -> Iterator[tuple[Value, Value]]:
        """Places of the coarse moments among all moments, and where those of all species are contiguous."""
        shape = self.shape
        with self.code.loop(0, shape.species) as b:
            for m in (m for rank in shape.with_coarse for m in shape.of(rank)):
                for n in range(shape.coarse):
                    place = (b + m * shape.species) * shape.padded + (shape.fine + n)
                    yield place, b * shape.coarse + (m * shape.padded_width + n)

    def invariants(self) -> None:
        """φ: the sums, then for every coupled rank the contractions of all a with all b."""
        code, shape = self.code, self.shape
        coarse, phi = self.work["coarse"], self.work["phi"]
        wide = shape.padded_width
        zero = shape.first(0) * wide
        with code.loop(0, wide, 8) as k:
            phi[k] = coarse.vector(k + zero, 8)
        for number, rank in enumerate(shape.coupled):
            start = wide * (1 + number * shape.width)
            with code.loop(0, wide, 8) as k:
                rows = [coarse.vector(k + m * wide, 8) for m in shape.of(rank)]
                with code.loop(0, shape.width) as a:
                    products = (row * coarse[a + m * wide] for m, row in zip(shape.of(rank), rows, strict=True))
                    phi[a * wide + k + start] = total(products)

    def coupling(self, species: Value) -> None:
        """Cδ + g, over the Q different invariants."""
        code, shape, descents = self.code, self.shape, range(self.shape.descents)
        size = shape.padded_invariants
        couplings = [self.couplings.from_index((species + d * shape.species) * (size * size)) for d in descents]
        means = self.mean_phi.from_index(species * size)
        # the own part has the first invariants, rows by groups and columns by turns
        by_group, by_turn = ([(0, own, len(descents)), (own, size, 1)] for own in shape.own_coupled)
        for first, last, rows in by_group:
            with code.loop(first, last, GROUP) as out:
                sums = [[Variable(code, ir.VectorType(shape.real, GROUP)) for _ in range(TURN)] for _ in range(rows)]
                for d, totals in enumerate(sums):
                    totals[0].set(self.at_mean_phi.vector((species + d * shape.species) * size + out, GROUP))
                for begin, end, columns in by_turn:
                    with code.loop(begin, end, TURN) as q:
                        for k in range(TURN):
                            phi = self.work["phi"][self.places[q + k]] - means[q + k]
                            for of_descent, totals in zip(couplings[:columns], sums[:columns], strict=False):
                                totals[k].add(of_descent.vector((q + k) * size + out, GROUP) * phi)
                for descent, totals in enumerate(sums):
                    self.work["slopes_of_phi"][out + descent * size] = total(one.get() for one in totals)

    def spread_slopes(self, species: Value, descent: int) -> Value:
        """∂H/∂φ into the places of φ, both of (a, b) and (b, a), doubled where a = b; δ·(Cδ + 2g).

        Nothing is ever written where the own part has no invariants: there it stays zero.
        """
        code, shape = self.code, self.shape
        energy, size = Variable(code, DOUBLE), shape.padded_invariants
        means = self.mean_phi.from_index(species * size)
        at_means = self.at_mean_phi.from_index((species + descent * shape.species) * size)
        matrix = self.work["matrix"].from_index(descent * shape.phi_size)
        with code.loop(0, shape.own_invariants if descent else shape.invariants) as q:
            slope = self.work["slopes_of_phi"][q + descent * size]
            place = self.places[q]
            energy.add(((slope + at_means[q]) * (self.work["phi"][place] - means[q])).to(DOUBLE))
            slope = slope * self.factors[q]
            matrix[place] = slope
            matrix[self.mirrors[q]] = slope
        return energy.get()

    def coarse_adjoint(self, descent: int) -> None:
        """∂H/∂M of the coarse moments."""
        code, shape = self.code, self.shape
        coarse, wide = self.work["coarse"], shape.padded_width
        matrix = self.work["matrix"].from_index(descent * shape.phi_size)
        with code.loop(0, wide, 8) as k:
            for rank in shape.with_coarse:
                sums = [Variable(code, ir.VectorType(shape.real, 8)) for _ in shape.of(rank)]
                if rank == 0:
                    sums[0].set(matrix.vector(k, 8))
                if rank in shape.coupled:
                    start = wide * (1 + shape.coupled.index(rank) * shape.width)
                    functions = shape.own_coarse if descent else shape.coarse
                    with code.loop(0, shape.species) as b, code.loop(0, functions) as n:
                        at = b * shape.coarse + n
                        row = matrix.vector(at * wide + k + start, 8)
                        for m, one in zip(shape.of(rank), sums, strict=True):
                            one.add(row * coarse[at + m * wide])
                for m, one in zip(shape.of(rank), sums, strict=True):
                    self.work["coarse_adjoint"][k + m * wide] = one.get()


class MemberPolynomials:
    """Writes the adjoints of a register of members of a committee, by species, function and component.

    The coupled invariants are those that `Polynomial` left.

    Parameters
    ----------
    code : Code
        The function.
    shape : Shape
    work : mapping of str to Array
        The arrays that a thread works in; moments and coupled invariants are read, adjoints of the members written.
    """

    def __init__(self, code: Code, shape: Shape, work: Mapping[str, Array]) -> None:
        self.code, self.shape, self.work = code, shape, work
        self.weights = code.array("member_weights", shape.real)
        self.couplings = code.array("member_couplings", shape.real)
        self.places = code.array("places", I32)
        self.matches = code.array("matches", I32)

    def write(self, species: Value, group: Value, descent: int) -> None:
        """Code for an agent of a species, a register of members and one of their descents."""
        at = group * self.shape.member_descents + descent
        for rank in self.shape.contracted:
            self.contract(rank, species, at)
        if self.shape.coupled:
            self.couple(species, at)
            self.coarse_adjoints()

    def adjoint(self, b: int | Value, n: int | Value, m: int) -> Value:
        """Place of the adjoint of a moment."""
        shape = self.shape
        at = self.code.integer(b) * shape.functions + n
        return (at * len(shape.components) + m) * shape.member_lanes

    def nothing(self, number: int) -> list[Variable]:
        """Variables for sums, at zero."""
        return [Variable(self.code, self.shape.member_vector) for _ in range(number)]

    def contract(self, rank: int, species: Value, at: Value) -> None:
        """W^l M^l of one rank, some functions in one turn."""
        code, shape, lanes = self.code, self.shape, self.shape.member_lanes
        moments, turn = self.work["moments"], shape.turn(rank)
        width = shape.species * shape.fine
        number = (at * len(shape.contracted) + shape.contracted.index(rank)) * shape.species + species
        of_species = self.weights.from_index(number * (width * width * lanes))
        with code.loop(0, shape.species) as b, code.loop(0, shape.fine, turn) as n:
            block = of_species.from_index((b * shape.fine + n) * (width * lanes))
            sums = [self.nothing(turn) for _ in shape.of(rank)]
            with code.loop(0, shape.species) as other, code.loop(0, shape.fine) as function:
                row = block.from_index((other * shape.fine + function) * (turn * lanes))
                w = [row.vector(k * lanes, lanes) for k in range(turn)]
                for m, totals in zip(shape.of(rank), sums, strict=True):
                    moment = moments[(other + m * shape.species) * shape.padded + function]
                    for one, weight in zip(totals, w, strict=True):
                        one.add(weight * moment)
            for m, totals in zip(shape.of(rank), sums, strict=True):
                for k, one in enumerate(totals):
                    self.work["member_adjoint"][self.adjoint(b, n + k, m)] = one.get()

    def couple(self, species: Value, at: Value) -> None:
        """Cφ: ∂H/∂φ, doubled for the contraction of a moment with itself."""
        code, shape, lanes = self.code, self.shape, self.shape.member_lanes
        size = shape.member_invariants
        of_species = self.couplings.from_index((at * shape.species + species) * (size * shape.invariants * lanes))
        with code.loop(0, size, MEMBER_TURN) as out:
            block = of_species.from_index(out * (shape.invariants * lanes))
            sums = self.nothing(MEMBER_TURN)
            with code.loop(0, shape.invariants) as q:
                phi = self.work["phi"][self.places[q]]
                for k, one in enumerate(sums):
                    one.add(block.vector((q * MEMBER_TURN + k) * lanes, lanes) * phi)
            for k, one in enumerate(sums):
                self.work["member_slopes"][(out + k) * lanes] = one.get()

    def coarse_adjoints(self) -> None:
        """∂H/∂M of the coarse moments."""
        code, shape, lanes = self.code, self.shape, self.shape.member_lanes
        slopes, coarse = self.work["member_slopes"], self.work["coarse"]
        with code.loop(0, shape.species) as b, code.loop(0, shape.coarse) as n:
            a = b * shape.coarse + n
            for rank in shape.with_coarse:
                sums = self.nothing(2 * rank + 1)
                if rank == 0:
                    sums[0].set(slopes.vector(a * lanes, lanes))
                if rank in shape.coupled:
                    first = shape.coupled.index(rank) * shape.pairs
                    with code.loop(0, shape.width) as other:
                        slope = slopes.vector((self.matches[a * shape.width + other].to(I64) + first) * lanes, lanes)
                        for m, one in zip(shape.of(rank), sums, strict=True):
                            one.add(slope * coarse[other + m * shape.padded_width])
                for m, one in zip(shape.of(rank), sums, strict=True):
                    self.work["member_adjoint"][self.adjoint(b, n + shape.fine, m)] = one.get()


class MemberChannels(MemberPolynomials):
    """The same for a form with channels; the tensors are those that `AgentChannels` left."""

    def __init__(self, code: Code, shape: Shape, work: Mapping[str, Array]) -> None:
        self.code, self.shape, self.work = code, shape, work
        lanes = shape.member_lanes
        self.polynomial = ChannelPolynomial(code, shape, work["tensors"], [work["member_tensor_slopes"]], 1, lanes)
        self.entries, self.n_entries = code.array("member_entry_weights", shape.real), code.array("entries", I64)

    def write(self, species: Value, group: Value, descent: int) -> None:
        """Code for an agent of a species, a register of members and one of their descents."""
        lanes, components = self.shape.member_lanes, len(self.shape.components)
        header = self.polynomial.headers.from_index(species * HEADER)
        at = group * self.shape.member_descents + descent
        weights = self.entries.from_index(at * self.n_entries[0] * lanes)
        self.polynomial.contract(header, [weights], lanes)
        self.polynomial.descend(header)
        self.polynomial.unmix(header, [self.work["member_adjoint"]], lambda m, a: (a * components + m) * lanes)
