"""Pairs of atoms within the cutoff, in TorchScript: all pairs in small systems, cells in large ones.

Index suffixes: i agent, j neighbour, p pair, x Cartesian.
"""

import torch

CELLS_FROM = 1200  # atoms from which cells are faster than all pairs (measured on one core)
CELLS_PER_ATOM = 8  # at most, so that an almost empty box does not fill the memory
CHUNK = 4096  # atoms whose candidates are examined together, which bounds the memory


def find_pairs(
    positions: torch.Tensor, box: torch.Tensor | None, cutoff: float, cells_from: int = CELLS_FROM
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ordered pairs (i, j), sorted by i, and q_j − q_i of the nearest image.

    Parameters
    ----------
    positions : tensor, shape (N, 3)
        In nm.
    box : tensor, shape (3, 3), or None
        Rows are the box vectors in nm.
    cutoff : float
        In nm.
    cells_from : int
        Number of atoms from which cells are used.

    Returns
    -------
    i, j : tensors of int64, shape (P,)
    displacement : tensor, shape (P, 3)
        In nm, in the precision of the positions.

    Raises
    ------
    ValueError
        If the cutoff is beyond half the shortest width of the box.
    """
    if box is not None:
        width = float((1.0 / torch.linalg.vector_norm(torch.linalg.inv(box), dim=0)).min())
        if 2.0 * cutoff > width * (1.0 + 1e-6):
            raise ValueError(
                f"the box is {width} nm wide, less than twice the cutoff of the losses ({cutoff} nm): "
                "use a larger box, or infer with a shorter cutoff"
            )
    if positions.shape[0] < cells_from:
        return all_pairs(positions, box, cutoff)
    return pairs_from_cells(positions, box, cutoff)


def nearest_image(displacement: torch.Tensor, box: torch.Tensor | None) -> torch.Tensor:
    """The displacement of the nearest image; exact below half the shortest width of the box."""
    if box is None:
        return displacement
    return displacement - torch.matmul(torch.round(torch.matmul(displacement, torch.linalg.inv(box))), box)


def all_pairs(
    positions: torch.Tensor, box: torch.Tensor | None, cutoff: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`find_pairs` over every pair of atoms."""
    n = positions.shape[0]
    # by component: long rows are several times faster than many vectors of three numbers
    x = positions.t().contiguous()
    displacement = (x.unsqueeze(1) - x.unsqueeze(2)).reshape(3, n * n)
    if box is not None:
        fractional = torch.matmul(torch.linalg.inv(box).t(), x)
        images = torch.round(fractional.unsqueeze(1) - fractional.unsqueeze(2)).reshape(3, n * n)
        displacement = displacement - torch.matmul(box.t().contiguous(), images)
    dx, dy, dz = displacement.unbind(0)
    within = dx * dx + dy * dy + dz * dz < cutoff * cutoff
    within[:: n + 1] = False
    chosen = torch.nonzero(within).squeeze(1)
    i = torch.div(chosen, n, rounding_mode="floor")
    return i, chosen - n * i, displacement[:, chosen].t()


def pairs_from_cells(
    positions: torch.Tensor,
    box: torch.Tensor | None,
    cutoff: float,
    chunk: int = CHUNK,
    cells_per_atom: int = CELLS_PER_ATOM,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`find_pairs` over cells at least a cutoff wide, in time and memory proportional to the number of atoms."""
    n = positions.shape[0]
    device = positions.device
    if box is None:
        # a box around the atoms, so wide that no image is within the cutoff
        lowest = positions.min(dim=0)[0]
        edges = positions.max(dim=0)[0] - lowest + 2.0 * cutoff
        cell_box = torch.diag(edges)
        fractional = (positions - lowest) / edges
    else:
        cell_box = box
        fractional = torch.matmul(positions, torch.linalg.inv(box))
    fractional = fractional - torch.floor(fractional)
    widths = 1.0 / torch.linalg.vector_norm(torch.linalg.inv(cell_box), dim=0)
    most = max(3.0, float(cells_per_atom * n) ** (1.0 / 3.0))
    shape = torch.clamp(torch.floor(widths / cutoff * (1.0 - 1e-6)), min=1.0, max=float(int(most))).to(torch.long)
    triple = torch.minimum(torch.floor(fractional * shape).to(torch.long), shape - 1)
    strides = torch.stack([shape[1] * shape[2], shape[2], torch.ones_like(shape[2])])
    cell = (triple * strides).sum(1)
    counts = torch.bincount(cell, minlength=int(shape.prod()))
    begins = torch.cumsum(counts, 0) - counts
    order = torch.argsort(cell)
    steps: list[torch.Tensor] = []
    for axis in range(3):
        # with one or two cells along an axis, each of them once
        first, last = (-1, 2) if int(shape[axis]) > 2 else (0, int(shape[axis]))
        steps.append(torch.arange(first, last, device=device))
    around = torch.cartesian_prod(steps[0], steps[1], steps[2])
    firsts: list[torch.Tensor] = []
    seconds: list[torch.Tensor] = []
    vectors: list[torch.Tensor] = []
    for begin in range(0, n, chunk):
        atoms = torch.arange(begin, min(begin + chunk, n), device=device)
        cells = (torch.remainder(triple[atoms].unsqueeze(1) + around, shape) * strides).sum(-1).flatten()
        sizes = counts[cells]
        ends = torch.cumsum(sizes, 0)
        total = int(ends[-1])
        within_cell = torch.arange(total, device=device) - torch.repeat_interleave(ends - sizes, sizes)
        j = order[torch.repeat_interleave(begins[cells], sizes) + within_cell]
        i = torch.repeat_interleave(torch.repeat_interleave(atoms, around.shape[0]), sizes)
        displacement = nearest_image(positions[j] - positions[i], box)
        near = ((displacement * displacement).sum(1) < cutoff * cutoff) & (i != j)
        chosen = torch.nonzero(near).squeeze(1)
        firsts.append(i[chosen])
        seconds.append(j[chosen])
        vectors.append(displacement[chosen])
    return torch.cat(firsts), torch.cat(seconds), torch.cat(vectors)
