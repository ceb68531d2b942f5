"""The smaller kernels: candidates from cells, atoms into the order of the cells, forces out of it.

Index suffixes: i agent, j candidate, b species of the candidate.
"""

from __future__ import annotations

from llvmlite import ir

from openmm_duality.lowering.fused.boxes import nearest_images
from openmm_duality.lowering.fused.code import DOUBLE, I32, I64, SINGLE, Code, Variable
from openmm_duality.lowering.fused.shape import BLOCK, Shape

SEARCH = (
    *("begin", "end", "positions", "stride", "box", "cells", "around", "shells", "species", "bins"),
    *("reach", "list", "room", "offsets", "found"),
)
ARRANGE = ("begin", "end", "source", "order", "scale", "target", "reference", "limit", "moved")
COLLECT = ("begin", "end", "atoms", "parts", "source", "order", "scale", "target")


def search_module(box: str) -> ir.Module:
    """A module with the function ``search``: the candidates of the agents `begin` to `end`, species by species.

    Positions are all x, then all y, then all z, with room for a block behind each. Candidates beyond the room of the
    list are counted and not kept; the list has room for two more blocks.
    """
    module = ir.Module(name="search")
    code = Code(module, "search", SEARCH)
    cells, bins, around = (code.array(name, I32) for name in ("cells", "bins", "around"))
    listed, offsets = code.array("list", I32), code.array("offsets", I64)
    stride, positions = code.argument("stride"), code.array("positions", DOUBLE)
    axes = [positions.from_index(stride * c) for c in range(3)]
    shells, species, room = (code.argument(name) for name in ("shells", "species", "room"))
    reach = code.array("reach", DOUBLE)[0]
    limit = reach * reach
    nearest = nearest_images(code, box, BLOCK)
    count = Variable(code, code.integer(0))
    begin = code.argument("begin")
    with code.loop(begin, code.argument("end")) as i:
        here = [axis[i] for axis in axes]
        cell = cells[i].to(I64) * shells
        with code.loop(0, species) as b:
            offsets[(i - begin) * species + b] = count.get()
            with code.loop(0, shells) as shell:
                bin_ = around[cell + shell].to(I64) * species + b
                last = bins[bin_ + 1].to(I64)
                with code.loop(bins[bin_], last, BLOCK) as j:
                    x, y, z = nearest([axis.vector(j, BLOCK) - q for axis, q in zip(axes, here, strict=True)])
                    near = (x * x + y * y + z * z).compare("<", limit)
                    index = code.count_up(j, BLOCK)
                    chosen = near.both(index.compare("<", last)).both(index.compare("!=", i))
                    at = count.get()
                    place = at.compare("<", room).choose(at, room)
                    for k, bit in enumerate(chosen.bits()):
                        listed[place] = (j + k).to(I32)
                        place, at = place + bit, at + bit
                    count.set(at)
    offsets[(code.argument("end") - begin) * species] = count.get()
    code.array("found", I64)[0] = count.get()
    code.finish()
    return module


def arrange_module() -> ir.Module:
    """A module with the function ``arrange``: positions (N, 3) scaled and in order as (x, y, z, 0).

    It counts those further than a limit from where they were.
    """
    module = ir.Module(name="arrange")
    code = Code(module, "arrange", ARRANGE)
    source, target, reference = (code.array(name, DOUBLE) for name in ("source", "target", "reference"))
    order, scale, limit = code.array("order", I64), code.array("scale", DOUBLE)[0], code.array("limit", DOUBLE)[0]
    moved = Variable(code, code.integer(0))
    with code.loop(code.argument("begin"), code.argument("end")) as i:
        atom, square = order[i] * 3, code.constant(DOUBLE, 0.0)
        for c in range(3):
            value = source[atom + c] * scale
            target[i * 4 + c] = value
            change = value - reference[i * 4 + c]
            square = square + change * change
        # a comparison that NaN fails counts as a move
        moved.set(moved.get() + 1 - square.compare("<=", limit).to(I64))
    code.array("moved", I64)[0] = moved.get()
    code.finish()
    return module


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


def collect_members_module(shape: Shape) -> ir.Module:
    """A module with ``collect_members``: the forces of the members, put back as (K, N, 3), of the agents of a part."""
    module = ir.Module(name="collect_members")
    code = Code(module, "collect_members", COLLECT)
    source, target, order = code.array("source", shape.real), code.array("target", DOUBLE), code.array("order", I64)
    scale, atoms = code.array("scale", DOUBLE)[0], code.argument("atoms")
    lanes, padded = shape.member_lanes, shape.padded_members
    nothing = code.constant(ir.VectorType(DOUBLE, lanes), 0.0)
    with code.loop(code.argument("begin"), code.argument("end")) as i, code.loop(0, padded, lanes) as k:
        for c in range(3):
            total = Variable(code, nothing)
            with code.loop(0, code.argument("parts")) as part:
                total.add(source.vector(((part * atoms + i) * 3 + c) * padded + k, lanes).to(DOUBLE))
            force = total.get() * scale
            for lane in range(lanes):
                target[((k + lane) * atoms + order[i]) * 3 + c] = force.lane(lane)
    code.finish()
    return module
