"""Machine code written from Python: a thin layer of operators, arrays and loops over llvmlite's IR.

A kernel is a function ``void f(int64 *arguments)``; the arguments are addresses and integers, in the order in which
the code first names them.
Vectors are explicit, so nothing hangs on what a compiler recognises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import Any

from llvmlite import ir

from openmm_duality.machine_code.machine import Function, compiled

I32, I64 = ir.IntType(32), ir.IntType(64)
SINGLE, DOUBLE = ir.FloatType(), ir.DoubleType()
POINTER = ir.PointerType()
BYTES = {I32: 4, I64: 8, SINGLE: 4, DOUBLE: 8}

_FLAGS = ("contract", "nsz")  # products and sums may be fused; nothing is reordered, and NaN stays NaN
_Operator = Callable[["Value", Any], "Value"]


def element(kind: Any) -> Any:
    """The type of a scalar, or of the lanes of a vector."""
    return kind.element if isinstance(kind, ir.VectorType) else kind


def lanes(kind: Any) -> int:
    """Number of lanes; 1 for a scalar."""
    return int(kind.count) if isinstance(kind, ir.VectorType) else 1


def _operators(operation: str) -> tuple[_Operator, _Operator]:
    """A method for an operator of values, and one for values on its right-hand side."""
    return (
        lambda value, other: value.code.binary(operation, value, other),
        lambda value, other: value.code.binary(operation, other, value),
    )


class Value:
    """A number or vector of the code being written; numbers of Python join in, scalars spread over lanes."""

    __slots__ = ("code", "ir")

    def __init__(self, code: Code, value: Any) -> None:
        self.code = code
        self.ir = value

    __add__, __radd__ = _operators("add")
    __sub__, __rsub__ = _operators("sub")
    __mul__, __rmul__ = _operators("mul")
    __truediv__, __rtruediv__ = _operators("div")

    def compare(self, operator: str, other: Any) -> Value:
        """A truth value; false where a number is NaN."""
        a, b = self.code.matched(self, other)
        real, builder = element(a.ir.type) in (SINGLE, DOUBLE), self.code.builder
        return Value(self.code, (builder.fcmp_ordered if real else builder.icmp_signed)(operator, a.ir, b.ir))

    def both(self, other: Value) -> Value:
        """Whether this truth value and another are true."""
        return Value(self.code, self.code.builder.and_(self.ir, other.ir))

    def bits(self) -> list[Value]:
        """The truth values of the lanes as integers 0 and 1."""
        builder, count = self.code.builder, lanes(self.ir.type)
        packed = builder.zext(builder.bitcast(self.ir, ir.IntType(count)), I64)
        shifted = [builder.lshr(packed, ir.Constant(I64, k)) for k in range(count)]
        return [Value(self.code, builder.and_(one, ir.Constant(I64, 1))) for one in shifted]

    def choose(self, yes: Value, no: Any) -> Value:
        """One of two values by this truth value."""
        a, b = self.code.matched(yes, no)
        return Value(self.code, self.code.builder.select(self.ir, a.ir, b.ir))

    def to(self, kind: Any) -> Value:
        """Convert the number to another type, lane by lane; reals are truncated to integers."""
        here, builder = self.ir.type, self.code.builder
        target = ir.VectorType(kind, lanes(here)) if isinstance(here, ir.VectorType) else kind
        if here == target:
            return self
        was_real, is_real = element(here) in (SINGLE, DOUBLE), kind in (SINGLE, DOUBLE)
        if was_real and is_real:
            operation = builder.fptrunc if kind == SINGLE else builder.fpext
        elif was_real or is_real:
            operation = builder.fptosi if was_real else builder.sitofp
        elif element(here) == ir.IntType(1):
            operation = builder.zext
        else:
            operation = builder.trunc if BYTES[kind] < BYTES[element(here)] else builder.sext
        return Value(self.code, operation(self.ir, target))

    def lane(self, k: int) -> Value:
        """One lane of a vector."""
        return Value(self.code, self.code.builder.extract_element(self.ir, ir.Constant(I32, k)))

    def shuffle(self, other: Value, order: Sequence[int]) -> Value:
        """Lanes of this vector, then of another, in an order."""
        mask = ir.Constant(ir.VectorType(I32, len(order)), [ir.Constant(I32, k) for k in order])
        return Value(self.code, self.code.builder.shuffle_vector(self.ir, other.ir, mask))

    def folded(self, count: int) -> Value:
        """The sum of halves of a vector, and of their halves, until there are `count` lanes."""
        value, half = self, lanes(self.ir.type) // 2
        while half >= count:
            value = value.shuffle(value, range(half)) + value.shuffle(value, range(half, 2 * half))
            half //= 2
        return value


def total(values: Iterable[Value]) -> Value:
    """The sum of one or more values, from the first on."""
    return reduce(add, values)


def joined(parts: Sequence[Value]) -> Value:
    """Vectors of one type, 1, 2, 4… of them, as one vector."""
    if len(parts) == 1:
        return parts[0]
    low, high = joined(parts[: len(parts) // 2]), joined(parts[len(parts) // 2 :])
    return low.shuffle(high, range(2 * lanes(low.ir.type)))


def transposed(rows: Sequence[Value]) -> list[Value]:
    """Vectors by lane of the rows, with a lane for every row; the numbers of rows and of lanes are powers of two."""
    height, count = len(rows), lanes(rows[0].ir.type)
    square = min(height, count)
    # rows of square blocks, which lie next to each other
    turned = [joined(rows[k::square]) for k in range(square)]
    places, step = range(lanes(turned[0].ir.type)), 1
    while step < square:
        low = [k - step + len(places) if k & step else k for k in places]
        high = [k + len(places) if k & step else k + step for k in places]
        for k in (k for k in range(square) if not k & step):
            a, b = turned[k], turned[k + step]
            turned[k], turned[k + step] = a.shuffle(b, low), a.shuffle(b, high)
        step *= 2
    if height >= count:
        return turned
    return [turned[k % square].shuffle(turned[0], range(k - k % square, k - k % square + square)) for k in range(count)]


def four_sums(a: Value, b: Value, c: Value, d: Value) -> Value:
    """The sums over lanes of four vectors, as one vector of four."""
    count = a.ir.type.count
    groups = range(0, count, 4)
    low = [k for g in groups for k in (g, count + g, g + 1, count + g + 1)]
    high = [k + 2 for k in low]
    ab, cd = (one.shuffle(two, low) + one.shuffle(two, high) for one, two in ((a, b), (c, d)))
    low = [k for g in groups for k in (g, g + 1, count + g, count + g + 1)]
    return (ab.shuffle(cd, low) + ab.shuffle(cd, [k + 2 for k in low])).folded(4)


class Variable:
    """A value of some type that changes from one turn of a loop to the next; zero at first."""

    def __init__(self, code: Code, kind: Any) -> None:
        self.code = code
        self.kind = kind
        with code.builder.goto_entry_block():
            self.slot = code.builder.alloca(kind)
        self.set(code.constant(kind, 0))

    def get(self) -> Value:
        """The current value of the variable."""
        return Value(self.code, self.code.builder.load(self.slot, typ=self.kind))

    def set(self, value: Value) -> None:
        """Assign a value."""
        self.code.builder.store(value.ir, self.slot)

    def add(self, value: Any) -> None:
        """Add a value to the variable."""
        self.set(self.get() + value)


class Array:
    """Numbers of one type in memory, at an address."""

    def __init__(self, code: Code, pointer: Any, kind: Any) -> None:
        self.code = code
        self.pointer = pointer
        self.kind = kind

    def _at(self, index: Any) -> Any:
        where = self.code.integer(index)
        return self.code.builder.gep(self.pointer, [where.ir], inbounds=True, source_etype=self.kind)

    def __getitem__(self, index: Any) -> Value:
        return Value(self.code, self.code.builder.load(self._at(index), typ=self.kind, align=BYTES[self.kind]))

    def __setitem__(self, index: Any, value: Value) -> None:
        # of a vector all lanes, from the index on
        self.code.builder.store(value.ir, self._at(index), align=BYTES[self.kind])

    def vector(self, index: Any, count: int) -> Value:
        """`count` numbers from an index on."""
        kind = ir.VectorType(self.kind, count)
        return Value(self.code, self.code.builder.load(self._at(index), typ=kind, align=BYTES[self.kind]))

    def from_index(self, index: Any) -> Array:
        """The part of the array that begins at an index."""
        return Array(self.code, self._at(index), self.kind)


class Code:
    """A function being written.

    Parameters
    ----------
    name : str
    """

    def __init__(self, name: str) -> None:
        self.module = ir.Module(name=name)
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [POINTER]), name)
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        # what goes into the entry block later on, such as room for variables, goes before this branch
        body = function.append_basic_block("body")
        self.builder.branch(body)
        self.builder.position_at_end(body)
        self._arguments = Array(self, function.args[0], I64)
        self._places: dict[str, int] = {}

    def argument(self, name: str) -> Value:
        """An integer argument."""
        return self._arguments[self._places.setdefault(name, len(self._places))]

    def array(self, name: str, kind: Any) -> Array:
        """An argument that is the address of numbers."""
        return Array(self, self.builder.inttoptr(self.argument(name).ir, POINTER), kind)

    def integer(self, number: Any) -> Value:
        """An index, from a number of Python or an integer of the code."""
        if isinstance(number, Value):
            return number.to(I64)
        return Value(self, ir.Constant(I64, int(number)))

    def constant(self, kind: Any, number: float) -> Value:
        """A constant; in every lane where the type is a vector."""
        single = ir.Constant(element(kind), number)
        if isinstance(kind, ir.VectorType):
            return Value(self, ir.Constant(kind, [single] * lanes(kind)))
        return Value(self, single)

    def count_up(self, first: Value, count: int) -> Value:
        """`count` integers from a first one on."""
        steps = ir.Constant(ir.VectorType(I64, count), [ir.Constant(I64, k) for k in range(count)])
        return self.spread(first, count) + Value(self, steps)

    def spread(self, value: Value, count: int) -> Value:
        """A scalar in every lane of a vector."""
        kind = ir.VectorType(value.ir.type, count)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value.ir, ir.Constant(I32, 0))
        return Value(self, one).shuffle(Value(self, ir.Constant(kind, ir.Undefined)), [0] * count)

    def matched(self, a: Any, b: Any) -> tuple[Value, Value]:
        """Two operands of one type."""
        if not isinstance(a, Value):
            a = self.constant(b.ir.type, a)
        if not isinstance(b, Value):
            b = self.constant(a.ir.type, b)
        if lanes(a.ir.type) < lanes(b.ir.type):
            a = self.spread(a, lanes(b.ir.type))
        if lanes(b.ir.type) < lanes(a.ir.type):
            b = self.spread(b, lanes(a.ir.type))
        return a, b

    def binary(self, operation: str, a: Any, b: Any) -> Value:
        """A sum, difference, product or quotient."""
        a, b = self.matched(a, b)
        if element(a.ir.type) in (SINGLE, DOUBLE):
            return Value(self, getattr(self.builder, "f" + operation)(a.ir, b.ir, flags=_FLAGS))
        return Value(self, getattr(self.builder, "sdiv" if operation == "div" else operation)(a.ir, b.ir))

    def intrinsic(self, name: str, value: Value) -> Value:
        """A function of the processor, such as ``sqrt`` or ``rint``, lane by lane."""
        kind = value.ir.type
        prefix = f"v{lanes(kind)}" if isinstance(kind, ir.VectorType) else ""
        full = f"llvm.{name}.{prefix}{element(kind).intrinsic_name}"
        function = self.module.declare_intrinsic(full, fnty=ir.FunctionType(kind, [kind]))
        return Value(self, self.builder.call(function, [value.ir]))

    def compress(self, value: Value, chosen: Value) -> tuple[Value, Value]:
        """The chosen lanes of a vector, moved to its beginning and followed by zeros, and their number."""
        kind, mask = value.ir.type, chosen.ir.type
        function = self.module.declare_intrinsic(
            f"llvm.experimental.vector.compress.v{kind.count}{kind.element.intrinsic_name}",
            fnty=ir.FunctionType(kind, [kind, mask, kind]),
        )
        bits = self.builder.zext(self.builder.bitcast(chosen.ir, ir.IntType(mask.count)), I64)
        moved = self.builder.call(function, [value.ir, chosen.ir, self.constant(kind, 0).ir])
        return Value(self, moved), Value(self, self.builder.ctpop(bits))

    def clear(self, array: Array, start: Any, stop: Any, count: int) -> None:
        """Set an array to zero from one index until another, `count` numbers at a time."""
        with self.loop(start, stop, count) as k:
            array[k] = self.constant(ir.VectorType(array.kind, count), 0.0)

    @contextmanager
    def loop(self, start: Any, stop: Any, step: int = 1) -> Iterator[Value]:
        """Loop over the indices from `start` until `stop`; the body is the code written inside."""
        first, last = self.integer(start), self.integer(stop)
        before, function = self.builder.block, self.builder.function
        head, body, after = (function.append_basic_block(name) for name in ("head", "turn", "after"))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        index = self.builder.phi(I64)
        index.add_incoming(first.ir, before)
        self.builder.cbranch(self.builder.icmp_signed("<", index, last.ir), body, after)
        self.builder.position_at_end(body)
        yield Value(self, index)
        index.add_incoming(self.builder.add(index, ir.Constant(I64, step)), self.builder.block)
        self.builder.branch(head)
        self.builder.position_at_end(after)

    def compiled(self) -> Function:
        """The function as it is written, compiled for this machine."""
        self.builder.ret_void()
        return compiled(self.module, tuple(self._places))
