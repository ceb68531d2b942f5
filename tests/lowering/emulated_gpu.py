"""A GPU without one: tensors that say that they are on it, and are computed on the CPU.

It finds operations that mix devices, sums in no fixed order, and every time that the processor waits: for a copy to the
GPU or from it, or for the size of a result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("meta")  # a device that torch knows without its hardware
UNORDERED = ("scatter_add", "index_add", "scatter_reduce", "index_reduce", "put")  # of floats, atomic additions
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "bincount", "linalg_inv_ex", "equal")
INDEXING = ("index", "index_put", "_index_put_impl")  # their indices may come from the CPU
VIEWS = ("slice", "select", "expand", "view", "t", "transpose", "permute", "unsqueeze", "squeeze", "unbind", "alias",
         "detach", "diagonal", "_unsafe_view", "split")  # fmt: skip


class OnGPU(torch.Tensor):
    """A tensor on the emulated GPU; `inner` holds its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnGPU:
        """The same numbers and strides on the emulated GPU."""
        made: OnGPU = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=GPU
        )
        made.inner = inner
        return made

    def tolist(self) -> Any:
        """The numbers, copied from the GPU."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        raise NotImplementedError("within `emulated_gpu` alone")


class _Emulation(TorchDispatchMode):
    """Computes on the CPU, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.waits = 0, Counter[str]()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        options = dict(options or {})
        name = function._schema.name.removeprefix("aten::").removesuffix("_")
        tensors = [one for one in tree_leaves((arguments, options)) if isinstance(one, torch.Tensor)]
        from_gpu = any(isinstance(one, OnGPU) for one in tensors)
        device = options.get("device")
        on_gpu = from_gpu if device is None else torch.device(device) == GPU
        if device is not None:
            options["device"] = torch.device("cpu")
        if name == "_to_copy":
            if from_gpu != on_gpu:
                self.waits["copy to the GPU" if on_gpu else "copy from the GPU"] += 1
        elif from_gpu:
            self._check(name, tensors, options)
        self.operations += name not in VIEWS
        found = function(*tree_map(_inner, arguments), **tree_map(_inner, options))
        if any(result.alias_info is not None and result.alias_info.is_write for result in function._schema.returns):
            return arguments[0]
        return tree_map(OnGPU, found) if on_gpu and name != "_local_scalar_dense" else found

    def _check(self, name: str, tensors: list[torch.Tensor], options: dict[str, Any]) -> None:
        """Of an operation on the GPU."""
        indexing = name in INDEXING
        for one in tensors:
            if not isinstance(one, OnGPU) and one.dim() > 0:
                if not indexing or one.dtype != torch.long:
                    raise RuntimeError(f"{name}: tensors on two devices, of shapes {[tuple(t.shape) for t in tensors]}")
                self.waits["copy to the GPU"] += 1
        if name in UNORDERED and tensors[0].is_floating_point():
            raise RuntimeError(f"{name}: floats are added up in no fixed order")
        by_mask = indexing and any(one.dtype == torch.bool for one in tensors)
        of_unknown_size = name == "repeat_interleave" and options.get("output_size") is None
        if name in WAITING or by_mask or of_unknown_size:
            self.waits[name] += 1


def _inner(one: Any) -> Any:
    return one.inner if isinstance(one, OnGPU) else one


@contextmanager
def emulated_gpu() -> Iterator[_Emulation]:
    """Within it tensors `OnGPU` can be computed with; gives what it counts."""
    emulation, tensor = _Emulation(), torch.tensor

    def made(values: Any, *, device: Any = None, **options: Any) -> torch.Tensor:
        # torch makes it on the CPU and copies it, which no dispatch shows
        return tensor(values, **options).to(device or "cpu")

    with torch.no_grad(), mock.patch.object(torch, "tensor", made), emulation:
        yield emulation


def to_gpu(module: torch.nn.Module) -> torch.nn.Module:
    """The module with all its buffers on the emulated GPU."""
    for part in module.modules():
        for name, buffer in part._buffers.items():
            part._buffers[name] = OnGPU(buffer)
    return module
