"""The polynomials of all members of a committee at the moments of one agent: the lanes of registers are members.

As `polynomial`, with coefficients of the members side by side; the coupled invariants are those that it left.

Index suffixes: m component of all ranks, b species of the neighbour, n radial function, a = (b, n) moment, q coupled
invariant, k member.
"""

from __future__ import annotations

from collections.abc import Mapping

from llvmlite import ir

from openmm_duality.lowering.fused.code import I32, I64, Array, Code, Value, Variable
from openmm_duality.lowering.fused.shape import MEMBER_TURN, Shape


class MemberPolynomials:
    """Writes the adjoints of a register of members, by species, function and component.

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
        self.vector = ir.VectorType(shape.real, shape.member_lanes)

    def write(self, kind: Value, group: Value) -> None:
        """Code for an agent of a species and a register of members."""
        for rank in self.shape.contracted:
            self.contract(rank, kind, group)
        if self.shape.coupled:
            self.couple(kind, group)
            self.coarse_adjoints()

    def adjoint(self, b: int | Value, n: int | Value, m: int) -> Value:
        """Where the adjoint of a moment is."""
        shape = self.shape
        at = self.code.integer(b) * shape.functions + n
        return (at * len(shape.components) + m) * shape.member_lanes

    def nothing(self, number: int) -> list[Variable]:
        """Sums that begin."""
        return [Variable(self.code, self.code.constant(self.vector, 0.0)) for _ in range(number)]

    def contract(self, rank: int, kind: Value, group: Value) -> None:
        """W^l M^l of one rank, some functions in one turn."""
        code, shape, lanes = self.code, self.shape, self.shape.member_lanes
        moments, turn = self.work["moments"], shape.turn(rank)
        width = shape.species * shape.fine
        number = (group * len(shape.contracted) + shape.contracted.index(rank)) * shape.species + kind
        of_kind = self.weights.from_index(number * (width * width * lanes))
        with code.loop(0, shape.species) as b, code.loop(0, shape.fine, turn) as n:
            block = of_kind.from_index((b * shape.fine + n) * (width * lanes))
            sums = [self.nothing(turn) for _ in shape.of(rank)]
            with code.loop(0, shape.species) as other, code.loop(0, shape.fine) as function:
                row = block.from_index((other * shape.fine + function) * (turn * lanes))
                w = [row.vector(k * lanes, lanes) for k in range(turn)]
                for m, totals in zip(shape.of(rank), sums, strict=True):
                    moment = moments[(other + m * shape.species) * shape.padded + function]
                    for total, one in zip(totals, w, strict=True):
                        total.add(one * moment)
            for m, totals in zip(shape.of(rank), sums, strict=True):
                for k, total in enumerate(totals):
                    code.store(self.work["member_adjoint"], self.adjoint(b, n + k, m), total.get())

    def couple(self, kind: Value, group: Value) -> None:
        """Cφ: ∂H/∂φ, doubled for the contraction of a moment with itself."""
        code, shape, lanes = self.code, self.shape, self.shape.member_lanes
        size = shape.member_invariants
        of_kind = self.couplings.from_index((group * shape.species + kind) * (size * shape.invariants * lanes))
        with code.loop(0, size, MEMBER_TURN) as out:
            block = of_kind.from_index(out * (shape.invariants * lanes))
            sums = self.nothing(MEMBER_TURN)
            with code.loop(0, shape.invariants) as q:
                phi = self.work["phi"][self.places[q]]
                for k, total in enumerate(sums):
                    total.add(block.vector((q * MEMBER_TURN + k) * lanes, lanes) * phi)
            for k, total in enumerate(sums):
                code.store(self.work["member_slopes"], (out + k) * lanes, total.get())

    def coarse_adjoints(self) -> None:
        """∂H/∂M of the coarse moments."""
        code, shape, lanes = self.code, self.shape, self.shape.member_lanes
        slopes, coarse = self.work["member_slopes"], self.work["coarse"]
        with code.loop(0, shape.species) as b, code.loop(0, shape.coarse) as n:
            a = b * shape.coarse + n
            for rank in sorted({0, *shape.coupled}):
                sums = self.nothing(2 * rank + 1)
                if rank == 0:
                    sums[0].set(slopes.vector(a * lanes, lanes))
                if rank in shape.coupled:
                    first = shape.coupled.index(rank) * shape.pairs
                    with code.loop(0, shape.width) as other:
                        slope = slopes.vector((self.matches[a * shape.width + other].to(I64) + first) * lanes, lanes)
                        for m, total in zip(shape.of(rank), sums, strict=True):
                            total.add(slope * coarse[other + m * shape.padded_width])
                for m, total in zip(shape.of(rank), sums, strict=True):
                    code.store(self.work["member_adjoint"], self.adjoint(b, n + shape.fine, m), total.get())
