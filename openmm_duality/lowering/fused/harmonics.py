"""Real solid harmonics written with operators alone, so that numbers, arrays and values of code go through them.

As `invariants.moments.harmonics`: Σ_m Y_m(u) Y_m(v) = P_l(u·v).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_A, _B, _C, _S = (5.0 / 8.0) ** 0.5, 15.0**0.5, (3.0 / 8.0) ** 0.5, 3.0**0.5


def harmonics(rank: int, x: Any, y: Any, z: Any) -> list[Any]:
    """The 2l + 1 components of rank 1…3 at unit vectors (x, y, z)."""
    if rank == 1:
        return [x, y, z]
    if rank == 2:
        sx = _S * x
        return [sx * y, _S * y * z, sx * z, 0.5 * _S * (x * x - y * y), 1.5 * z * z - 0.5]
    xx, yy, zz = x * x, y * y, z * z
    return [
        _A * y * (3.0 * xx - yy),
        _B * x * y * z,
        _C * y * (5.0 * zz - 1.0),
        0.5 * z * (5.0 * zz - 3.0),
        _C * x * (5.0 * zz - 1.0),
        0.5 * _B * z * (xx - yy),
        _A * x * (xx - 3.0 * yy),
    ]


def contracted_gradient(rank: int, w: Sequence[Any], x: Any, y: Any, z: Any) -> tuple[Any, Any, Any]:
    """Σ_m w_m ∂Y_m, with the gradient of the homogeneous polynomials of rank 1…3 taken at unit vectors."""
    if rank == 1:
        return w[0], w[1], w[2]
    if rank == 2:
        xy, yz, zx, planar, axial = _S * w[0], _S * w[1], _S * w[2], _S * w[3], w[4]
        return (
            xy * y + zx * z + (planar - axial) * x,
            xy * x + yz * z - (planar + axial) * y,
            yz * y + zx * x + (2.0 * axial) * z,
        )
    a, b, c = _A, _B, _C
    xx, yy, zz, xy, yz, zx = x * x, y * y, z * z, x * y, y * z, z * x
    planar = 3.0 * a * (xx - yy)
    gx = (6.0 * a * xy) * w[0] + (b * yz) * w[1] - (2.0 * c * xy) * w[2] - (3.0 * zx) * w[3]
    gx = gx + (c * (4.0 * zz - 3.0 * xx - yy)) * w[4] + (b * zx) * w[5] + planar * w[6]
    gy = planar * w[0] + (b * zx) * w[1] + (c * (4.0 * zz - xx - 3.0 * yy)) * w[2] - (3.0 * yz) * w[3]
    gy = gy - (2.0 * c * xy) * w[4] - (b * yz) * w[5] - (6.0 * a * xy) * w[6]
    gz = (b * xy) * w[1] + (8.0 * c * yz) * w[2] + (1.5 * (2.0 * zz - xx - yy)) * w[3] + (8.0 * c * zx) * w[4]
    return gx, gy, gz + (0.5 * b * (xx - yy)) * w[5]
