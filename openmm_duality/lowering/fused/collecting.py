"""Kernels that add up the forces on atoms from all parts of a system that have them.

Index suffixes: i atom, x Cartesian, k member.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from llvmlite import ir

from openmm_duality.lowering.fused.shape import Shape
from openmm_duality.machine_code.code import DOUBLE, I64, Code, Value, Variable
from openmm_duality.machine_code.machine import Function


@cache
def collect(real: Any) -> Function:
    """The function ``collect``: the forces on atoms, from all parts that have them, added up and scaled, as (N, 3)."""
    code = Code("collect")
    source, target, scale = code.array("source", real), code.array("target", DOUBLE), code.array("scale", DOUBLE)[0]
    with code.loop(code.argument("begin"), code.argument("end")) as i:
        force = Variable(code, ir.VectorType(DOUBLE, 4))
        with places_of(code, i) as place:
            force.add(source.vector(place * 4, 4).to(DOUBLE))
        scaled = force.get() * scale
        for c in range(3):
            target[i * 3 + c] = scaled.lane(c)
    return code.compiled()


@cache
def collect_members(shape: Shape) -> Function:
    """The function ``collect_members``: as `collect`, with the forces of the members, as (K, N, 3)."""
    code = Code("collect_members")
    source, target = code.array("source", shape.real), code.array("target", DOUBLE)
    scale, atoms = code.array("scale", DOUBLE)[0], code.argument("all_agents")
    lanes, padded = shape.member_lanes, shape.padded_members
    with code.loop(code.argument("begin"), code.argument("end")) as i, code.loop(0, padded, lanes) as k:
        for c in range(3):
            force = Variable(code, ir.VectorType(DOUBLE, lanes))
            with places_of(code, i) as place:
                force.add(source.vector((place * 3 + c) * padded + k, lanes).to(DOUBLE))
            scaled = force.get() * scale
            for lane in range(lanes):
                target[((k + lane) * atoms + i) * 3 + c] = scaled.lane(lane)
    return code.compiled()


@contextmanager
def places_of(code: Code, i: Value) -> Iterator[Value]:
    """Loop over the places of an atom among the atoms of all parts."""
    firsts, places = code.array("firsts", I64), code.array("places", I64)
    with code.loop(firsts[i], firsts[i + 1]) as k:
        yield places[k]
