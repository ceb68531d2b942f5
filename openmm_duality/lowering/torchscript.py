"""Losses as a TorchScript module: the evaluator's computation with torch's batched operations.

The module stands alone: a file of it needs neither this package nor Python. Importing this module imports torch.

Index suffixes: i agent, s neighbour slot, p pair, n radial function, m component of all ranks, x Cartesian.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from openmm_duality.geometry.cells import WIDTH_TOLERANCE
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.limits import check_precision
from openmm_duality.lowering.torch_harmonics import add_harmonic_gradients, harmonics
from openmm_duality.lowering.torch_neighbours import find_pairs
from openmm_duality.lowering.torch_radial import cubics, derivatives, sums_of_powers, table_of

CHUNK = 256  # agents evaluated together: more overflow the processor's caches, and then the memory
CHUNK_ON_DEVICE = 16384  # the same on a GPU, which fewer would leave idle
DTYPES = {"double": torch.float64, "single": torch.float32}


class LearningDynamics(torch.nn.Module):  # type: ignore[misc]
    """Sum of the losses and the forces of a fixed list of atoms.

    Parameters
    ----------
    losses : AgentLosses
    species : sequence of str, length N
        The species of every atom, in the order of the positions.
    precision : str
        ``double`` or ``single``: of the arithmetic. Displacements are always taken in double precision.
    """

    # TorchScript reads these, so this module must not postpone its annotations
    ranks: list[int]
    coupled: list[int]
    starts: list[int]

    def __init__(self, losses: AgentLosses, species: Sequence[str], precision: str = "double") -> None:
        super().__init__()
        dtype = DTYPES[check_precision(precision)]
        grid, s = losses.grid, len(losses.species)
        species_index = losses.index_of(species)
        self.chunks: tuple[int, int] = (CHUNK, CHUNK_ON_DEVICE)
        self.cutoff: float = losses.cutoff
        self.width_tolerance: float = WIDTH_TOLERANCE
        self.spacing: float = grid.spacing
        self.intervals: int = grid.intervals
        self.n_species: int = s
        self.n: int = losses.moment_basis.size
        self.n_fine: int = losses.basis.size
        self.collective: bool = losses.gradient == "collective"
        self.ranks = list(losses.form.all_ranks)
        self.coupled = list(losses.form.coupled)
        self.only_sums: bool = self.ranks == [0]
        self.components: int = sum(2 * rank + 1 for rank in self.ranks)
        functions, pairs = table_of(losses.moment_basis), table_of(losses.pair_potentials)
        self.in_bags: bool = precision == "single"
        if self.in_bags:
            # rows of (f | f' | V | V') for every power of the fraction
            both = np.concatenate([functions, derivatives(functions), pairs, derivatives(pairs)], axis=2)
            self.register_buffer("table", torch.tensor(both.reshape(-1, both.shape[2]), dtype=dtype))
            self.register_buffer("pair_table", torch.empty(0))
        else:
            self.register_buffer("table", torch.tensor(functions.reshape(len(functions), -1), dtype=dtype))
            self.register_buffer("pair_table", torch.tensor(pairs.reshape(len(pairs), -1), dtype=dtype))
        self.register_buffer("weights", torch.tensor(weights_of_components(losses), dtype=dtype))
        self.register_buffer("couplings", torch.tensor(losses.couplings, dtype=dtype))
        width = s * losses.coarse.size
        rows, columns = np.triu_indices(width)
        self.register_buffer("triangle", torch.tensor(rows * width + columns))
        # agents in the order of their species, where each of them is in it, and where each species begins
        order = np.argsort(species_index, kind="stable")
        self.register_buffer("species_index", torch.tensor(species_index[order]))
        self.register_buffer("by_species", torch.tensor(order))
        self.register_buffer("places", torch.tensor(np.argsort(order)))
        self.starts = [int(k) for k in np.cumsum([0, *np.bincount(species_index, minlength=s)])]

    def forward(
        self, positions: torch.Tensor, boxvectors: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of losses in kJ/mol and forces (N, 3) in kJ/mol/nm, from positions (N, 3) and box (3, 3) in nm."""
        # TorchForce gives positions that require a gradient, and to record one would cost half as much again; in
        # TorchScript `detach` does not prevent that, and `no_grad` ends the process when an error is raised inside
        positions = positions.data
        box = None if boxvectors is None else boxvectors.to(torch.float64)
        # here and not where they are of use: TorchForce drops the functions that are inlined, and an error raised in
        # one of them would look for its name
        if not bool(torch.isfinite(positions).all()):
            raise ValueError("a position is not a finite number: the dynamics has blown up; take a shorter time step")
        if box is not None:
            width = float((1.0 / torch.linalg.vector_norm(torch.linalg.inv(box), dim=0)).min())
            if 2.0 * self.cutoff > width * (1.0 + self.width_tolerance):
                raise ValueError(
                    f"the cell is {width} nm wide, less than twice the cutoff ({self.cutoff} nm), so that an atom "
                    "meets two images of one neighbour; take a shorter cutoff, or a larger cell"
                )
        energy, forces = self.losses_and_forces(positions[self.by_species].to(torch.float64), box)
        return energy, forces.index_select(1, self.places).t().to(positions.dtype).contiguous()

    def losses_and_forces(
        self, positions: torch.Tensor, boxvectors: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of losses and forces (3, N) of agents in the order of their species."""
        n_atoms, device = positions.shape[0], positions.device
        i, j, displacement = find_pairs(positions, boxvectors, self.cutoff, self.species_index, self.n_species)
        displacement = displacement.to(self.table.dtype)
        begins = list(range(0, n_atoms, self.chunks[0] if device.type == "cpu" else self.chunks[1]))
        firsts: list[int] = torch.searchsorted(i, torch.tensor(begins, device=device)).tolist()
        begins.append(n_atoms)
        firsts.append(i.shape[0])
        energy = torch.zeros([], dtype=torch.float64, device=device)
        forces = torch.zeros((3, n_atoms), dtype=displacement.dtype, device=device)
        for c in range(len(begins) - 1):
            begin, end = begins[c], begins[c + 1]
            pairs = slice(firsts[c], firsts[c + 1])
            neighbour, d, ends = self.neighbour_slots(begin, end, i[pairs], j[pairs], displacement[:, pairs])
            own, gradient = self.losses_and_gradients(begin, end, d, ends)
            energy += own.sum(dtype=torch.float64)
            forces[:, begin:end] += gradient.sum(2)
            if self.collective:
                forces.scatter_add_(1, neighbour.expand(3, -1), -gradient.flatten(1))
        return energy, forces

    def losses_and_gradients(
        self, begin: int, end: int, displacement: torch.Tensor, ends: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of agents begin…end − 1: their losses, and the gradients of these by the displacements (3, N, J)."""
        r = torch.sqrt((displacement * displacement).sum(0))
        inverse = 1.0 / r
        u = displacement * inverse
        scaled = torch.clamp(r * (1.0 / self.spacing), max=float(self.intervals))
        k = scaled.to(torch.long)
        kind = torch.cat([torch.full((ends[b + 1] - ends[b],), b, device=u.device) for b in range(self.n_species)])
        rows = k + (self.species_index[begin:end].unsqueeze(1) * self.n_species + kind) * (self.intervals + 1)
        f, df, potential, along = self.radial(rows, scaled - k)
        own = potential.sum(1)
        across = torch.zeros_like(u)
        if len(self.ranks) > 0:
            angular = self.angular(u)
            blocks: list[torch.Tensor] = []
            for b in range(self.n_species):
                here = slice(ends[b], ends[b + 1])
                # products of matrices of one row are slower than sums
                sums = f[:, here].sum(1, keepdim=True) if self.only_sums else torch.bmm(angular[:, :, here], f[:, here])
                blocks.append(sums)
            value, adjoint = self.polynomial(begin, end, torch.cat(blocks, dim=2))
            own = own + value
            weights: list[torch.Tensor] = []
            slopes: list[torch.Tensor] = []
            for b in range(self.n_species):
                here = slice(ends[b], ends[b + 1])
                g = adjoint[:, :, b * self.n : (b + 1) * self.n]
                if self.only_sums:
                    slopes.append((g * df[:, here]).sum(2).unsqueeze(1))
                else:
                    weights.append(torch.bmm(g, f[:, here].transpose(1, 2)))
                    slopes.append(torch.bmm(g, df[:, here].transpose(1, 2)))
            along = along + (torch.cat(slopes, dim=2) * angular).sum(1)
            if not self.only_sums:
                # Σ_n G_nm f_n for every component m
                weight = torch.cat(weights, dim=2).transpose(0, 1)
                for rank in self.ranks:
                    here = slice(self.first(rank), self.first(rank) + 2 * rank + 1)
                    add_harmonic_gradients(rank, weight[here], u, across)
                across *= inverse
        # ∂H/∂r, less the part along u that the gradients of the harmonics have and a direction does not feel
        along = along * (1.0 / self.spacing) - (across * u).sum(0)
        return own, torch.addcmul(across, along, u)

    def angular(self, u: torch.Tensor) -> torch.Tensor:
        """The harmonics of all ranks, shape (N, M, J), of unit vectors (3, N, J)."""
        angular = torch.empty((self.components, u.shape[1], u.shape[2]), dtype=u.dtype, device=u.device)
        for rank in self.ranks:
            harmonics(rank, u, angular[self.first(rank) : self.first(rank) + 2 * rank + 1])
        return angular.transpose(0, 1)

    def radial(
        self, rows: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """f and f' (N, J, n) and the pair potential V and V' (N, J), derivatives by the fraction x of an interval."""
        if self.in_bags:
            found, n = sums_of_powers(self.table, rows, x), self.n
            return found[..., :n], found[..., n : 2 * n], found[..., 2 * n], found[..., 2 * n + 1]
        f, df = cubics(self.table, rows, x)
        value, slope = cubics(self.pair_table, rows, x)
        return f, df, value.squeeze(-1), slope.squeeze(-1)

    def neighbour_slots(
        self, begin: int, end: int, i: torch.Tensor, j: torch.Tensor, displacement: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """Neighbours in a row of J slots for agents begin…end − 1: those of the first species, then of the second, ….

        From their pairs, sorted by i and then by the species of j. Returns the index of the neighbour, shape (N·J,),
        the displacement to it, shape (3, N, J), and where the slots of every species begin, with J at the end. An empty
        slot sits at the cutoff, where the row of every function is zero.
        """
        n_atoms, n_species = end - begin, self.n_species
        # pairs of one agent with one species follow each other
        block = (i - begin) * n_species + torch.gather(self.species_index, 0, j)
        counts = torch.bincount(block, minlength=n_atoms * n_species)
        widths: list[int] = counts.reshape(n_atoms, n_species).max(0)[0].tolist()
        ends: list[int] = [0]
        for b in range(n_species):
            ends.append(ends[b] + widths[b])
        width = ends[n_species]
        agents = torch.arange(n_atoms, device=i.device).unsqueeze(1) * width
        slots = (agents + torch.tensor(ends[:-1], device=i.device)).flatten()
        shift = slots - (torch.cumsum(counts, 0) - counts)
        flat = torch.arange(i.shape[0], device=i.device) + torch.gather(shift, 0, block)
        neighbour = torch.zeros((n_atoms * width,), dtype=i.dtype, device=i.device)
        neighbour.scatter_(0, flat, j)
        d = torch.zeros((3, n_atoms * width), dtype=displacement.dtype, device=i.device)
        d[0] = self.cutoff
        d.scatter_(1, flat.expand(3, -1), displacement)
        return neighbour, d.reshape(3, n_atoms, width), ends

    def polynomial(self, begin: int, end: int, moments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `losses.evaluator.polynomial`, of agents begin…end − 1: H(M) without the pair part, and G = ∂H/∂M.

        The moments and G have the shape (N, M, S·(n + n_c)), with the M components of all ranks one after the other.
        """
        values: list[torch.Tensor] = []
        adjoints: list[torch.Tensor] = []
        for a in range(self.n_species):
            first, last = max(self.starts[a], begin), min(self.starts[a + 1], end)
            m = moments[first - begin : max(first, last) - begin]
            g = torch.bmm(m.transpose(0, 1), self.weights[a]).transpose(0, 1).contiguous()
            value = 0.5 * (m * g).sum(2).sum(1)
            if len(self.coupled) > 0:
                by_neighbour = [m.shape[0], m.shape[1], self.n_species, self.n]
                coupling, g_coarse = self.coupling(
                    m.reshape(by_neighbour)[..., self.n_fine :].flatten(2), self.couplings[a]
                )
                value = value + coupling
                coarse = g.reshape(by_neighbour)[..., self.n_fine :]
                coarse.add_(g_coarse.reshape_as(coarse))
            values.append(value)
            adjoints.append(g)
        return torch.cat(values), torch.cat(adjoints)

    def coupling(self, coarse: torch.Tensor, couplings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """½ φᵀCφ of agents of one species, and its adjoint in the shape of the coarse moments (N, M, S·n_c)."""
        n_atoms, width = coarse.shape[0], coarse.shape[2]
        triangle = self.triangle.expand(n_atoms, -1)
        phi = [coarse[:, 0]]
        for rank in self.coupled:
            m = coarse[:, self.first(rank) : self.first(rank) + 2 * rank + 1]
            phi.append(torch.gather(torch.bmm(m.transpose(1, 2), m).flatten(1), 1, triangle))
        invariants = torch.cat(phi, dim=1)
        g = torch.matmul(invariants, couplings)
        adjoint = torch.zeros_like(coarse)
        adjoint[:, 0] = g[:, :width]
        begin = width
        for rank in self.coupled:
            here = slice(self.first(rank), self.first(rank) + 2 * rank + 1)
            matrix = torch.zeros((n_atoms, width * width), dtype=coarse.dtype, device=coarse.device)
            matrix.scatter_(1, triangle, g[:, begin : begin + triangle.shape[1]])
            matrix = matrix.reshape(n_atoms, width, width)
            adjoint[:, here] += torch.bmm(coarse[:, here], matrix + matrix.transpose(1, 2))
            begin += triangle.shape[1]
        return 0.5 * (invariants * g).sum(1), adjoint

    def first(self, rank: int) -> int:
        """Where the components of a rank begin among those of all ranks."""
        first = 0
        for other in self.ranks:
            if other < rank:
                first += 2 * other + 1
        return first


def weights_of_components(losses: AgentLosses) -> np.ndarray[Any, Any]:
    """The weights of every component of all ranks, shape (S, M, S·(n + n_c), S·(n + n_c)); zero of coarse functions."""
    s, n, n_fine = len(losses.species), losses.moment_basis.size, losses.basis.size
    components = [rank for rank in losses.form.all_ranks for _ in range(2 * rank + 1)]
    weights = np.zeros((s, len(components), s, n, s, n))
    for m, rank in enumerate(components):
        if rank in losses.weights:
            weights[:, m, :, :n_fine, :, :n_fine] = losses.weights[rank].reshape(s, s, n_fine, s, n_fine)
    return weights.reshape(s, len(components), s * n, s * n)


def compile_losses(losses: AgentLosses, species: Sequence[str], precision: str = "double") -> torch.jit.ScriptModule:
    """The losses of a list of atoms as a TorchScript module.

    Parameters
    ----------
    losses : AgentLosses
    species : sequence of str, length N
    precision : str
        ``double`` or ``single``.

    Raises
    ------
    DualityError
        If a species is unknown to the model, or the precision is not one of the two.
    """
    module = LearningDynamics(losses, species, precision).eval()
    return torch.jit.script(module)
