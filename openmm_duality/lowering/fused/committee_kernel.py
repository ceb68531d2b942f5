"""The kernel of a committee: the moments and loss of every agent once, then the forces of all members.

As `kernel` up to the moments. In the polynomials and forces of the members the lanes of registers are members, so that
nothing is summed over lanes, and what the members have in common is read once for all of them.

Index suffixes: i agent, j neighbour, p pair of the agent, b species of the neighbour, n radial function, m component
of all ranks, x Cartesian, k member.
"""

from __future__ import annotations

from functools import cache

from openmm_duality.invariants.harmonics import contracted_gradient
from openmm_duality.lowering.fused.kernel import EnvironmentKernel
from openmm_duality.lowering.fused.polynomial import MemberChannels, MemberPolynomials
from openmm_duality.lowering.fused.shape import Shape
from openmm_duality.machine_code.code import DOUBLE, I32, I64, Value, Variable
from openmm_duality.machine_code.machine import Function


class CommitteeKernel(EnvironmentKernel):
    """Writes ``evaluate`` for one shape."""

    def __init__(self, name: str, shape: Shape) -> None:
        super().__init__(name, shape)
        code = self.code
        self.member_table = code.array("member_table", shape.real)
        self.starts = code.array("starts", I32)
        self.visited = code.array("visited", I64)
        self.all_agents = code.argument("all_agents")
        self.polynomials = (MemberChannels if shape.mixed else MemberPolynomials)(code, shape, self.work)

    def write(self) -> Function:
        """Write the whole function."""
        code, shape = self.code, self.shape
        self.load(3 * shape.padded_members)
        losses = code.array("losses", DOUBLE)
        with code.loop(0, self.agents) as i:
            atom = self.order[i].to(I64)

            def visit(p: Value, _: Value) -> None:
                self.visited[self.work["intervals"][p]] = atom

            loss, bounds = self.loss(i, visit)
            self.copy_moments(atom)
            losses[atom] = loss.to(DOUBLE)
            if shape.members:
                species = self.species_index[i].to(I64)
                with code.loop(0, shape.registers) as group:
                    own = self.polynomials.nothing(3)
                    for descent in range(shape.member_descents):
                        self.polynomials.write(species, group, descent)
                        for b in range(shape.species):
                            self.descend_members(b, bounds[b].get(), bounds[b + 1].get(), group, descent, own)
                    self.push(i, group, [force.get() for force in own], 1)
        return code.compiled()

    def copy_moments(self, atom: Value) -> None:
        """Copy the moments to where the result has them: by rank, then atom, species, function and component."""
        code, shape = self.code, self.shape
        found, moments = code.array("found", DOUBLE), self.work["moments"]
        size = shape.species * shape.functions
        with code.loop(0, shape.species) as b, code.loop(0, shape.functions) as n:
            for m, (rank, component) in enumerate(shape.components):
                first = self.all_agents * (size * shape.first(rank))
                at = (atom * size + b * shape.functions + n) * (2 * rank + 1) + component
                found[first + at] = moments[(b + m * shape.species) * shape.padded + n].to(DOUBLE)

    def descend_members(
        self, b: int, begin: Value, end: Value, group: Value, descent: int, own: list[Variable]
    ) -> None:
        """Forces of the agent's loss by every member, on the agent and, where they take part, its neighbours."""
        code, shape, work, lanes = self.code, self.shape, self.work, self.shape.member_lanes
        at = group * shape.member_descents + descent
        rows = (code.argument("intervals_of_grid") + 1) * (shape.species**2) * at
        with code.loop(begin, end) as p:
            inverse, place = work["inverse"][p], work["fraction"][p]
            x = [work["unit"][self.capacity * k + p] for k in range(3)]
            row = self.member_table.from_index((rows + work["intervals"][p].to(I64)) * (3 * lanes))
            c = [row.vector(k * lanes, lanes) for k in range(3)]
            start = self.starts[work["intervals"][p]].to(I64) if shape.window else code.integer(0)
            along = c[0] + place * (c[1] + place * c[2])
            weighted: Value | None = None
            gradient: list[Value] = []
            for rank in shape.ranks:
                if not any(shape.descending(rank)):
                    continue
                sums = []
                for m in shape.of(rank):
                    slopes, values = self.over_functions(b, m, p, start)
                    if rank == 0:
                        along = along + slopes
                        continue
                    y = self.solid(m, p)
                    along = along + slopes * y
                    times = values * (y * float(rank))
                    weighted = times if weighted is None else weighted + times
                    sums.append(values)
                if rank:
                    gradient = contracted_gradient(rank, sums, *x, onto=gradient)
            if weighted is None:
                force = [along * u for u in x]
            else:
                along = along - weighted * inverse
                force = [along * u + g * inverse for u, g in zip(x, gradient, strict=True)]
            for component, one in zip(own, force, strict=True):
                component.add(one)
            if shape.reactions and descent == 0:
                self.push(work["neighbours"][p].to(I64), group, force, -1)

    def over_functions(self, b: int, m: int, p: Value, start: Value) -> tuple[Value, Value]:
        """Σ_n G f' and Σ_n G f of one component at a pair, with the fine functions from a first one on."""
        code, shape, work, lanes = self.code, self.shape, self.work, self.shape.member_lanes
        sums = [code.constant(shape.member_vector, 0.0)] * 2
        for first, functions in zip((start, code.integer(0)), shape.descending(shape.components[m][0]), strict=True):
            adjoint = work["member_adjoint"].from_index(self.polynomials.adjoint(b, first, m))
            radial = [work[name].from_index(p * shape.padded + first) for name in ("df", "f")]
            for n in functions:
                g = adjoint.vector(self.polynomials.adjoint(0, n, 0), lanes)
                sums = [before + g * values[n] for before, values in zip(sums, radial, strict=True)]
        return sums[0], sums[1]

    def push(self, at: Value, group: Value, force: list[Value], sign: int) -> None:
        """Add forces of a register of members to an atom, or the reaction to them."""
        lanes, padded = self.shape.member_lanes, self.shape.padded_members
        for k, one in enumerate(force):
            place = (at * 3 + k) * padded + group * lanes
            before = self.forces.vector(place, lanes)
            self.forces[place] = before + one if sign > 0 else before - one


@cache
def evaluate(shape: Shape) -> Function:
    """The function ``evaluate``: moments, distances and members of the agents `begin` to `end`."""
    return CommitteeKernel("evaluate", shape).write()
