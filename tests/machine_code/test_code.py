"""Vectors of generated code against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from llvmlite import ir

from openmm_duality.machine_code.code import I32, SINGLE, Code, transposed
from openmm_duality.machine_code.machine import Call


@pytest.mark.parametrize("height", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("width", [1, 2, 4, 8, 16])
def test_rows_are_transposed(height, width):
    code = Code("transpose")
    source, target = code.array("source", SINGLE), code.array("target", SINGLE)
    for k, row in enumerate(transposed([source.vector(k * width, width) for k in range(height)])):
        assert row.ir.type == ir.VectorType(SINGLE, height)
        target[k * height] = row
    rows = np.random.default_rng(0).normal(size=(height, width)).astype(np.float32)
    found = np.zeros((width, height), dtype=np.float32)
    Call(code.compiled(), source=rows, target=found)()
    np.testing.assert_array_equal(found, rows.T)


@pytest.mark.parametrize("width", [4, 8, 16])
def test_chosen_lanes_are_at_the_beginning_and_zeros_behind_them(width):
    code = Code("compress")
    source, target, number = (code.array(name, I32) for name in ("source", "target", "number"))
    values = source.vector(0, width)
    kept, count = code.compress(values, values.compare("<", 0))
    target[0], number[0] = kept, count.to(I32)
    call, rng = Call(code.compiled()), np.random.default_rng(0)
    for numbers in (-np.ones(width), np.ones(width), *(rng.integers(-9, 9, size=width) for _ in range(9))):
        source, found, count = numbers.astype(np.int32), np.full(width, 7, dtype=np.int32), np.zeros(1, dtype=np.int32)
        call.set(source=source, target=found, number=count)
        call()
        chosen = source[source < 0]
        assert count[0] == len(chosen)
        np.testing.assert_array_equal(found, np.pad(chosen, (0, width - len(chosen))))
