"""Machine code written from Python: a thin layer of operators, arrays and loops over llvmlite's IR.

A kernel is a function ``void f(int64 *arguments)``; the arguments are addresses and integers in a fixed order.
Vectors are explicit, so nothing hangs on what a compiler recognises.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

I32, I64 = ir.IntType(32), ir.IntType(64)
SINGLE, DOUBLE = ir.FloatType(), ir.DoubleType()
POINTER = ir.PointerType()
BYTES = {I32: 4, I64: 8, SINGLE: 4, DOUBLE: 8}

_FLAGS = ("contract", "nsz")  # products and sums may be fused; nothing is reordered, and NaN stays NaN
_SUFFIX = {I32: "i32", I64: "i64", SINGLE: "f32", DOUBLE: "f64"}


def element(kind: Any) -> Any:
    """The type of a scalar, or of the lanes of a vector."""
    return kind.element if isinstance(kind, ir.VectorType) else kind


def lanes(kind: Any) -> int:
    """Number of lanes; 1 for a scalar."""
    return int(kind.count) if isinstance(kind, ir.VectorType) else 1


class Value:
    """A number or vector of the code being written; numbers of Python join in, scalars spread over lanes."""

    __slots__ = ("code", "ir")

    def __init__(self, code: Code, value: Any) -> None:
        self.code = code
        self.ir = value

    def __add__(self, other: Any) -> Value:
        return self.code.binary("add", self, other)

    def __radd__(self, other: Any) -> Value:
        return self.code.binary("add", other, self)

    def __sub__(self, other: Any) -> Value:
        return self.code.binary("sub", self, other)

    def __rsub__(self, other: Any) -> Value:
        return self.code.binary("sub", other, self)

    def __mul__(self, other: Any) -> Value:
        return self.code.binary("mul", self, other)

    def __rmul__(self, other: Any) -> Value:
        return self.code.binary("mul", other, self)

    def __truediv__(self, other: Any) -> Value:
        return self.code.binary("div", self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return self.code.binary("div", other, self)

    def compare(self, operator: str, other: Any) -> Value:
        """A truth value; false where a number is NaN."""
        a, b = self.code.matched(self, other)
        builder = self.code.builder
        if element(a.ir.type) in (SINGLE, DOUBLE):
            return Value(self.code, builder.fcmp_ordered(operator, a.ir, b.ir))
        return Value(self.code, builder.icmp_signed(operator, a.ir, b.ir))

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
        """The same number in another type, lane by lane; reals are cut to integers."""
        here, builder = self.ir.type, self.code.builder
        target = ir.VectorType(kind, lanes(here)) if isinstance(here, ir.VectorType) else kind
        if here == target:
            return self
        real = element(here) in (SINGLE, DOUBLE)
        if kind in (SINGLE, DOUBLE):
            if not real:
                return Value(self.code, builder.sitofp(self.ir, target))
            operation = builder.fptrunc if kind == SINGLE else builder.fpext
            return Value(self.code, operation(self.ir, target))
        if real:
            return Value(self.code, builder.fptosi(self.ir, target))
        if element(here) == ir.IntType(1):
            return Value(self.code, builder.zext(self.ir, target))
        return Value(
            self.code, (builder.trunc if BYTES[kind] < BYTES[element(here)] else builder.sext)(self.ir, target)
        )

    def lane(self, k: int) -> Value:
        """One lane of a vector."""
        return Value(self.code, self.code.builder.extract_element(self.ir, ir.Constant(I32, k)))

    def shuffle(self, other: Value, order: Sequence[int]) -> Value:
        """Lanes of this vector, then of another, in an order."""
        mask = ir.Constant(ir.VectorType(I32, len(order)), [ir.Constant(I32, k) for k in order])
        return Value(self.code, self.code.builder.shuffle_vector(self.ir, other.ir, mask))

    def sum(self) -> Value:
        """The sum over lanes, by halves."""
        value = self
        while lanes(value.ir.type) > 1:
            half = lanes(value.ir.type) // 2
            low, high = value.shuffle(value, range(half)), value.shuffle(value, range(half, 2 * half))
            value = low + high
            if half == 1:
                return value.lane(0)
        return value


class Variable:
    """A value that changes from one turn of a loop to the next."""

    def __init__(self, code: Code, initial: Value) -> None:
        self.code = code
        self.kind = initial.ir.type
        with code.builder.goto_entry_block():
            self.slot = code.builder.alloca(self.kind)
        self.set(initial)

    def get(self) -> Value:
        """Its present value."""
        return Value(self.code, self.code.builder.load(self.slot, typ=self.kind))

    def set(self, value: Value) -> None:
        """Give it another value."""
        self.code.builder.store(value.ir, self.slot)

    def add(self, value: Any) -> None:
        """Increase it."""
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
        self.code.builder.store(value.ir, self._at(index), align=BYTES[self.kind])

    def vector(self, index: Any, count: int) -> Value:
        """`count` numbers from an index on."""
        kind = ir.VectorType(self.kind, count)
        return Value(self.code, self.code.builder.load(self._at(index), typ=kind, align=BYTES[self.kind]))

    def from_index(self, index: Any) -> Array:
        """The part of the array that begins at an index."""
        return Array(self.code, self._at(index), self.kind)


class Code:
    """A function being written into a module.

    Parameters
    ----------
    module : llvmlite.ir.Module
    name : str
    arguments : sequence of str
        Names of the arguments, in their order.
    """

    def __init__(self, module: ir.Module, name: str, arguments: Sequence[str]) -> None:
        self.module = module
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER]), name)
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        # what goes into the entry block later on, such as room for variables, goes before this branch
        body = function.append_basic_block("body")
        self.builder.branch(body)
        self.builder.position_at_end(body)
        self._arguments = Array(self, function.args[0], I64)
        self._names = list(arguments)

    def argument(self, name: str) -> Value:
        """An integer argument."""
        return self._arguments[self._names.index(name)]

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
        suffix = (f"v{lanes(kind)}" if isinstance(kind, ir.VectorType) else "") + _SUFFIX[element(kind)]
        full = f"llvm.{name}.{suffix}"
        function = self.module.globals.get(full)
        if function is None:
            function = ir.Function(self.module, ir.FunctionType(kind, [kind]), full)
        return Value(self, self.builder.call(function, [value.ir]))

    def store(self, array: Array, index: Any, value: Value) -> None:
        """Numbers into an array, from an index on."""
        array[index] = value

    @contextmanager
    def loop(self, start: Any, stop: Any, step: int = 1) -> Iterator[Value]:
        """What is written inside is done for every index from `start` until `stop`."""
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

    def finish(self) -> None:
        """The end of the function."""
        self.builder.ret_void()
