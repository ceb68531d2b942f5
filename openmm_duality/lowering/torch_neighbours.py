"""Pairs of atoms within the cutoff, in TorchScript: all pairs in small systems, cells in large ones.

In a box narrower than twice the cutoff, periodic images are atoms of their own in a search that knows no boundaries.

Index suffixes: i agent, j neighbour, p pair, x Cartesian.

`gather` is several times faster than an index in brackets. On a GPU whatever the processor has to know waits for all
that was begun there, so boxes are on the CPU, and what is asked of the GPU is how many candidates and pairs there are.
"""

import torch

from openmm_duality.geometry.cells import WIDTH_TOLERANCE

CELLS_FROM = 1500  # atoms from which cells are faster than all pairs (measured on one core)
CELLS_PER_ATOM = 8  # at most, so that an almost empty box does not fill the memory
CHUNK = 128  # atoms whose candidates are examined together: more overflow the processor's caches
CHUNK_ON_DEVICE = 4096  # the same on a GPU, which fewer would leave idle


def find_pairs(
    positions: torch.Tensor,
    box: torch.Tensor | None,
    cutoff: float,
    species_index: torch.Tensor,
    n_species: int,
    cells_from: int = CELLS_FROM,
    chunks: tuple[int, int] = (CHUNK, CHUNK_ON_DEVICE),
    width_tolerance: float = WIDTH_TOLERANCE,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ordered pairs (i, j) of all images, sorted by i and then by the species of j, and q_j − q_i.

    Parameters
    ----------
    positions : tensor, shape (N, 3)
        In nm.
    box : tensor, shape (3, 3), or None
        Rows are the box vectors in nm; of any width. On the CPU, wherever the positions are.
    cutoff : float
        In nm.
    species_index : tensor of int64, shape (N,)
        The species of every atom, in ascending order.
    n_species : int
    cells_from : int
        Number of atoms from which cells are used.
    chunks : pair of int
        Atoms whose candidates are examined together, on the CPU and elsewhere.
    width_tolerance : float
        Part by which the box may be narrower than twice the cutoff before atoms have several images.

    Returns
    -------
    i, j : tensors of int64, shape (P,)
    displacement : tensor, shape (3, P)
        In nm.
    """
    chunk = chunks[0] if positions.device.type == "cpu" else chunks[1]
    n_agents = positions.shape[0]
    if box is not None and n_agents > 0 and 2.0 * cutoff > float(widths_of(box).min()) * (1.0 + width_tolerance):
        sources, images = with_images(positions, box, cutoff)
        of_sources = torch.gather(species_index, 0, sources)
        if images.shape[0] < cells_from:
            i, j, displacement = all_pairs(images, None, cutoff, chunk, n_agents)
        else:
            i, j, displacement = pairs_from_cells(images, None, cutoff, of_sources, n_species, chunk, n_agents)
        j = torch.gather(sources, 0, j)
        order = torch.argsort(i * n_species + torch.gather(species_index, 0, j), stable=True)
        return i[order], j[order], displacement[:, order]
    if n_agents < cells_from:
        return all_pairs(positions, box, cutoff, chunk, n_agents)
    return pairs_from_cells(positions, box, cutoff, species_index, n_species, chunk, n_agents)


def widths_of(box: torch.Tensor) -> torch.Tensor:
    """Perpendicular widths of a box, shape (3,)."""
    return 1.0 / torch.linalg.vector_norm(torch.linalg.inv(box), dim=0)


def with_images(positions: torch.Tensor, box: torch.Tensor, cutoff: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The atoms, wrapped into the box, then all images that one of them may have within the cutoff.

    As `geometry.images.images_within`. Returns the atom that each of them is of, shape (M,), and positions (M, 3).
    """
    fractional = torch.matmul(positions, torch.linalg.inv(box).to(positions.device))
    fractional = fractional - torch.floor(fractional)
    lowest, highest = fractional.min(dim=0)[0], fractional.max(dim=0)[0]
    margin = (cutoff / widths_of(box)).to(positions.device)
    most: list[int] = torch.floor(margin + highest - lowest).to(torch.long).tolist()
    axes = [torch.arange(-k, k + 1, device=positions.device) for k in most]
    steps = torch.cartesian_prod(axes[0], axes[1], axes[2])
    moved = fractional + steps[steps.any(dim=1)].to(fractional.dtype).unsqueeze(1)
    inside = ((moved >= lowest - margin) & (moved <= highest + margin)).all(dim=2)
    atoms = torch.arange(positions.shape[0], device=positions.device)
    sources = torch.cat([atoms, torch.nonzero(inside)[:, 1]])
    return sources, torch.matmul(torch.cat([fractional, moved[inside]]), box.to(positions.device))


def within_cutoff(
    difference: torch.Tensor, box: torch.Tensor | None, cutoff: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Displacements (3, …) of nearest images from differences of fractional coordinates, and which are short enough.

    Exact below half the shortest width of the box, which is where the differences are. Without a box these are
    Cartesian.
    """
    if box is not None:
        difference = difference - torch.round(difference)
        difference = torch.matmul(box.t(), difference.flatten(1)).reshape_as(difference)
    dx, dy, dz = difference.unbind(0)
    return difference, torch.addcmul(torch.addcmul(dx * dx, dy, dy), dz, dz) < cutoff * cutoff


def coordinates(positions: torch.Tensor, box: torch.Tensor | None) -> torch.Tensor:
    """Coordinates (3, N), fractional where there is a box; long rows are faster than many vectors of three numbers."""
    x = positions.t().contiguous()
    return x if box is None else torch.matmul(torch.linalg.inv(box).t().to(x.device), x)


def all_pairs(
    positions: torch.Tensor, box: torch.Tensor | None, cutoff: float, chunk: int, n_agents: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The pairs of the first atoms, sorted by i and then by j, among every pair of atoms."""
    n = positions.shape[0]
    x = coordinates(positions, box)
    box = None if box is None else box.to(x.device)
    firsts: list[torch.Tensor] = []
    seconds: list[torch.Tensor] = []
    vectors: list[torch.Tensor] = []
    for begin in range(0, n_agents, chunk):
        own = x[:, begin : min(begin + chunk, n_agents)]
        displacement, near = within_cutoff(x.unsqueeze(1) - own.unsqueeze(2), box, cutoff)
        near.diagonal(begin).fill_(False)
        i, j = torch.nonzero(near).t().contiguous().unbind(0)
        firsts.append(i + begin)
        seconds.append(j)
        vectors.append(torch.gather(displacement.flatten(1), 1, (n * i + j).expand(3, -1)))
    return torch.cat(firsts), torch.cat(seconds), torch.cat(vectors, dim=1)


def pairs_from_cells(
    positions: torch.Tensor,
    box: torch.Tensor | None,
    cutoff: float,
    species_index: torch.Tensor,
    n_species: int,
    chunk: int,
    n_agents: int,
    cells_per_atom: int = CELLS_PER_ATOM,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The pairs of the first atoms, sorted by i and then by the species of j, from cells at least a cutoff wide.

    In time and memory proportional to the number of atoms.
    """
    n = positions.shape[0]
    device = positions.device
    if box is None:
        # a box around the atoms, so wide that no image is within the cutoff
        lowest = positions.min(dim=0)[0]
        edges = positions.max(dim=0)[0] - lowest + 2.0 * cutoff
        cell_box = torch.diag(edges).cpu()
        fractional = (positions - lowest) / edges
    else:
        cell_box = box
        fractional = torch.matmul(positions, torch.linalg.inv(box).to(device))
    fractional = fractional - torch.floor(fractional)
    widths = widths_of(cell_box)
    most = max(3.0, float(cells_per_atom * n) ** (1.0 / 3.0))
    numbers = torch.clamp(torch.floor(widths / cutoff * (1.0 - 1e-6)), min=1.0, max=float(int(most))).to(torch.long)
    shape = numbers.to(device)
    triple = torch.minimum(torch.floor(fractional * shape).to(torch.long), shape - 1)
    strides = torch.stack([shape[1] * shape[2], shape[2], torch.ones_like(shape[2])])
    # every species has cells of its own, so that an agent meets its neighbours one species after the other
    n_cells = int(numbers.prod())
    cell = species_index * n_cells + (triple * strides).sum(1)
    counts = counted(cell, n_species * n_cells)
    begins = torch.cumsum(counts, 0) - counts
    order = torch.argsort(cell)
    x = coordinates(positions, box)
    box = None if box is None else box.to(device)
    firsts_of_species = (torch.arange(n_species, device=device) * n_cells).unsqueeze(1)
    steps: list[torch.Tensor] = []
    for axis in range(3):
        # with one or two cells along an axis, each of them once
        first, last = (-1, 2) if int(numbers[axis]) > 2 else (0, int(numbers[axis]))
        steps.append(torch.arange(first, last, device=device))
    around = torch.cartesian_prod(steps[0], steps[1], steps[2])
    firsts: list[torch.Tensor] = []
    seconds: list[torch.Tensor] = []
    vectors: list[torch.Tensor] = []
    for begin in range(0, n_agents, chunk):
        atoms = torch.arange(begin, min(begin + chunk, n_agents), device=device)
        cells = (torch.remainder(triple[atoms].unsqueeze(1) + around, shape) * strides).sum(-1)
        cells = (cells.unsqueeze(1) + firsts_of_species).flatten()
        sizes = counts[cells]
        ends = torch.cumsum(sizes, 0)
        total = int(ends[-1])
        first = torch.repeat_interleave(begins[cells] - (ends - sizes), sizes, output_size=total)
        j = order[first + torch.arange(total, device=device)]
        of_cells = torch.repeat_interleave(atoms, n_species * around.shape[0])
        i = torch.repeat_interleave(of_cells, sizes, output_size=total)
        difference = torch.gather(x, 1, j.expand(3, -1)) - torch.gather(x, 1, i.expand(3, -1))
        displacement, near = within_cutoff(difference, box, cutoff)
        chosen = torch.nonzero(near & (i != j)).squeeze(1)
        firsts.append(torch.gather(i, 0, chosen))
        seconds.append(torch.gather(j, 0, chosen))
        vectors.append(torch.gather(displacement, 1, chosen.expand(3, -1)))
    return torch.cat(firsts), torch.cat(seconds), torch.cat(vectors, dim=1)


def counted(indices: torch.Tensor, length: int) -> torch.Tensor:
    """How often every index below a length occurs, as `torch.bincount`, which on a GPU waits for the largest."""
    if indices.device.type == "cpu":
        return torch.bincount(indices, minlength=length)
    return torch.zeros([length], dtype=torch.long, device=indices.device).scatter_add_(
        0, indices, torch.ones_like(indices)
    )


def neighbour_slots(
    begin: int,
    end: int,
    i: torch.Tensor,
    j: torch.Tensor,
    displacement: torch.Tensor,
    species_index: torch.Tensor,
    n_species: int,
    cutoff: float,
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Neighbours in a row of J slots for agents begin…end − 1: those of the first species, then of the second, ….

    From their pairs, sorted by i and then by the species of j. Returns the index of the neighbour, shape (N·J,),
    the displacement to it, shape (3, N, J), and where the slots of every species begin, with J at the end. An empty
    slot sits at the cutoff, where the row of every function is zero. Its neighbour is the agent itself: there are many
    empty slots, and a GPU adds up what is for one atom number by number.
    """
    n_atoms = end - begin
    # pairs of one agent with one species follow each other
    block = (i - begin) * n_species + torch.gather(species_index, 0, j)
    counts = counted(block, n_atoms * n_species)
    widths = counts.reshape(n_atoms, n_species).max(0)[0]
    last = torch.cumsum(widths, 0)
    ends: list[int] = torch.cat([torch.zeros_like(last[:1]), last]).tolist()
    width = ends[n_species]
    slots = (torch.arange(n_atoms, device=i.device).unsqueeze(1) * width + (last - widths)).flatten()
    shift = slots - (torch.cumsum(counts, 0) - counts)
    flat = torch.arange(i.shape[0], device=i.device) + torch.gather(shift, 0, block)
    neighbour = torch.arange(begin, end, device=i.device).unsqueeze(1).repeat(1, width).flatten()
    neighbour.scatter_(0, flat, j)
    d = torch.zeros((3, n_atoms * width), dtype=displacement.dtype, device=i.device)
    d[0] = cutoff
    d.scatter_(1, flat.expand(3, -1), displacement)
    return neighbour, d.reshape(3, n_atoms, width), ends
