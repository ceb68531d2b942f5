"""From written code to functions of this machine."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir

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
    """Functions of a module; each takes the address of its arguments and lets go of the interpreter while it runs."""
    machine = _target_machine()
    engine = binding.create_mcjit_compiler(_optimised(module, machine), machine)
    engine.finalize_object()
    _ENGINES.append(engine)
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    return tuple(prototype(engine.get_function_address(name)) for name in names)
