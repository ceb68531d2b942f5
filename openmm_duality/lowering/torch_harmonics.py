"""Harmonics of unit vectors and their gradients, in TorchScript, written into the rows of one tensor.

Shapes: N agents, J neighbour slots, 2l + 1 components of a rank.
"""

import torch


def harmonics(rank: int, u: torch.Tensor, out: torch.Tensor) -> None:
    """As `invariants.moments.harmonics`: the components at unit vectors u (3, N, J) into out (2l + 1, N, J)."""
    x, y, z = u.unbind(0)
    if rank == 0:
        out.fill_(1.0)
    elif rank == 1:
        out.copy_(u)
    elif rank == 2:
        s = 3.0**0.5
        torch.mul(u[:2], u[1:], out=out[:2])
        torch.mul(z, x, out=out[2])
        torch.mul(x + y, x - y, out=out[3])
        out[:3].mul_(s)
        out[3].mul_(0.5 * s)
        torch.mul(z, 1.5 * z, out=out[4])
        out[4].sub_(0.5)
    else:
        a, b, c = (5.0 / 8.0) ** 0.5, 15.0**0.5, (3.0 / 8.0) ** 0.5
        xx, yy, zz = x * x, y * y, z * z
        torch.mul(a * y, 3.0 * xx - yy, out=out[0])
        torch.mul(b * x, y * z, out=out[1])
        torch.mul(c * y, 5.0 * zz - 1.0, out=out[2])
        torch.mul(0.5 * z, 5.0 * zz - 3.0, out=out[3])
        torch.mul(c * x, 5.0 * zz - 1.0, out=out[4])
        torch.mul(0.5 * b * z, xx - yy, out=out[5])
        torch.mul(a * x, xx - 3.0 * yy, out=out[6])


def add_harmonic_gradients(rank: int, w: torch.Tensor, u: torch.Tensor, out: torch.Tensor) -> None:
    """Adds Σ_m w_m ∂Y_m at unit vectors u (3, N, J) to out (3, N, J), from w (2l + 1, N, J).

    Of the part along u nothing is promised: the harmonics of a direction have none.
    """
    if rank == 1:
        out.add_(w)
    elif rank == 2:
        s = 3.0**0.5
        out[:2].addcmul_(w[:2], u[1:], value=s)
        out[1:].addcmul_(w[:2], u[:2], value=s)
        out[0].addcmul_(w[2], u[2], value=s)
        out[2].addcmul_(w[2], u[0], value=s)
        out[0].addcmul_(w[3], u[0], value=s)
        out[1].addcmul_(w[3], u[1], value=-s)
        out[2].addcmul_(w[4], u[2], value=3.0)
    elif rank == 3:
        a, b, c = (5.0 / 8.0) ** 0.5, 15.0**0.5, (3.0 / 8.0) ** 0.5
        x, y, z = u.unbind(0)
        xy, yz, zx = x * y, y * z, z * x
        planar, axial = (x + y) * (x - y), z * z
        polar = c * (5.0 * axial - 1.0)
        out[0] += 6 * a * xy * w[0] + b * yz * w[1] + polar * w[4] + b * zx * w[5] + 3 * a * planar * w[6]
        out[1] += 3 * a * planar * w[0] + b * zx * w[1] + polar * w[2] - b * yz * w[5] - 6 * a * xy * w[6]
        out[2] += b * xy * w[1] + 10 * c * (yz * w[2] + zx * w[4]) + (7.5 * axial - 1.5) * w[3]
        out[2] += 0.5 * b * planar * w[5]
