"""Memory that kernels work in, and the arguments that point to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_LINE = 64  # bytes of a line of the cache


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
        self._kept: dict[str, npt.NDArray[Any]] = {}
        self.address = self._values.ctypes.data

    def set(self, **values: int | npt.NDArray[Any]) -> None:
        """Give some of them; arrays have to be contiguous and of the kind that the kernel reads."""
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                if not value.flags.c_contiguous:
                    raise ValueError(f"{name} is not contiguous")
                self._kept[name] = value
                value = value.ctypes.data
            self._values[self._index[name]] = value

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._kept[name]
