"""Code compiled to functions of this machine, the arguments they are called with and the memory they work in."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import binding, ir

_LINE = 64  # bytes of a line of the cache
_ENGINES: list[Any] = []  # the functions live as long as the engines that hold them


@dataclass(frozen=True)
class Function:
    """A compiled function, which takes the address of its arguments and releases the interpreter while it runs.

    Parameters
    ----------
    call : callable
    names : tuple of str
        Names of the arguments, in their order.
    """

    call: Callable[[int], None]
    names: tuple[str, ...]


def compiled(module: ir.Module, names: tuple[str, ...]) -> Function:
    """The function that has the name of its module, compiled for this machine; its arguments have these names."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_triple(binding.get_process_triple()).create_target_machine(
        cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=3, jit=True
    )
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    options = binding.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = False  # vectors are written out
    passes = binding.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    engine = binding.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    address = engine.get_function_address(module.name)
    engine.remove_module(parsed)  # the code stays; what it was compiled from takes several MB
    _ENGINES.append(engine)
    return Function(ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address), names)


@cache
def register_bytes() -> int:
    """Bytes of a vector register of this machine."""
    return 64 if binding.get_host_cpu_features().get("avx512f") else 32


def aligned(length: int, kind: Any) -> npt.NDArray[Any]:
    """Zeros that begin at a line of the cache."""
    itemsize = np.dtype(kind).itemsize
    raw = np.zeros(length * itemsize + _LINE, dtype=np.uint8)
    first = -raw.ctypes.data % _LINE
    return raw[first : first + length * itemsize].view(kind)


def to_aligned(array: npt.NDArray[Any], kind: Any) -> npt.NDArray[Any]:
    """A copy, flat, that begins at a line of the cache."""
    copy = aligned(array.size, kind)
    copy[:] = array.ravel()
    return copy


class Call:
    """A function with its arguments: integers, and the addresses of arrays, which are kept alive.

    Parameters
    ----------
    function : Function
    **values : int or array
        Some of its arguments, as for `set`.
    """

    def __init__(self, function: Function, **values: int | npt.NDArray[Any]) -> None:
        self.function = function.call
        self._index = {name: k for k, name in enumerate(function.names)}
        self._values = np.zeros(len(function.names), dtype=np.int64)
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        self.address = self._values.ctypes.data
        self.set(**values)

    def __call__(self) -> None:
        self.function(self.address)

    def set(self, **values: int | npt.NDArray[Any]) -> None:
        """Set some of the arguments; arrays have to be contiguous and of the kind that the kernel reads."""
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                if not value.flags.c_contiguous:
                    raise ValueError(f"{name} is not contiguous")
                self._arrays[name] = value
                value = value.ctypes.data
            self._values[self._index[name]] = value

    def with_other(self, **values: int | npt.NDArray[Any]) -> Call:
        """The same call with other values of some arguments; it is made much faster than one with all of them."""
        other = copy(self)
        other._values, other._arrays = self._values.copy(), self._arrays.copy()
        other.address = other._values.ctypes.data
        other.set(**values)
        return other

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._arrays[name]
