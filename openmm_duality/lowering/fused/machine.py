"""Code compiled to functions of this machine, the arguments they are called with and the memory they work in."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import binding, ir

_LINE = 64  # bytes of a line of the cache
_ENGINES: list[Any] = []  # the functions live as long as the engines that hold them


def _target_machine() -> Any:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_triple(binding.get_process_triple()).create_target_machine(
        cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=3, jit=True
    )


def _optimised(module: ir.Module, machine: Any) -> Any:
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    options = binding.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = False  # vectors are written out
    passes = binding.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    return parsed


def compiled(module: ir.Module, *names: str) -> tuple[Callable[[int], None], ...]:
    """Functions of a module; each takes the address of its arguments and releases the interpreter while it runs."""
    machine = _target_machine()
    engine = binding.create_mcjit_compiler(_optimised(module, machine), machine)
    engine.finalize_object()
    _ENGINES.append(engine)
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    return tuple(prototype(engine.get_function_address(name)) for name in names)


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


class Arguments:
    """The arguments of one call: integers, and the addresses of arrays, which are kept alive.

    Parameters
    ----------
    names : sequence of str
        In the order in which the kernel reads them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._index = {name: k for k, name in enumerate(names)}
        self._values = np.zeros(len(names), dtype=np.int64)
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        self.address = self._values.ctypes.data

    def set(self, **values: int | npt.NDArray[Any]) -> None:
        """Set some of them; arrays have to be contiguous and of the kind that the kernel reads."""
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                if not value.flags.c_contiguous:
                    raise ValueError(f"{name} is not contiguous")
                self._arrays[name] = value
                value = value.ctypes.data
            self._values[self._index[name]] = value

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._arrays[name]
