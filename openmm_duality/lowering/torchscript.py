"""Losses as a TorchScript module: the evaluator's computation with torch's batched operations.

The module stands alone: a file of it needs neither this package nor Python. Importing this module imports torch.

Index suffixes: i agent, s neighbour slot, p pair, n radial function, m component of all ranks, x Cartesian.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.limits import check_precision
from openmm_duality.lowering.torch_neighbours import find_pairs

DTYPES = {"double": torch.float64, "single": torch.float32}


def harmonics(rank: int, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> list[torch.Tensor]:
    """As `invariants.moments.harmonics`: the 2l + 1 components at unit vectors (x, y, z), each of shape (N, J)."""
    if rank == 0:
        return [torch.ones_like(x)]
    if rank == 1:
        return [x, y, z]
    if rank == 2:
        s = 3.0**0.5
        return [s * x * y, s * y * z, s * z * x, 0.5 * s * (x * x - y * y), 1.5 * z * z - 0.5]
    a, b, c = (5.0 / 8.0) ** 0.5, 15.0**0.5, (3.0 / 8.0) ** 0.5
    xx, yy, zz = x * x, y * y, z * z
    return [
        a * y * (3 * xx - yy),
        b * x * y * z,
        c * y * (5 * zz - 1.0),
        0.5 * z * (5 * zz - 3.0),
        c * x * (5 * zz - 1.0),
        0.5 * b * z * (xx - yy),
        a * x * (xx - 3 * yy),
    ]


def harmonic_gradients(
    rank: int, w: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor, z: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Σ_m w_m ∂Y_m, the gradient of the homogeneous polynomials of rank 1…3 at unit vectors, each of shape (N, J)."""
    if rank == 1:
        return w[0], w[1], w[2]
    if rank == 2:
        s = 3.0**0.5
        xy, yz, zx, planar, axial = s * w[0], s * w[1], s * w[2], s * w[3], w[4]
        return (
            xy * y + zx * z + (planar - axial) * x,
            xy * x + yz * z - (planar + axial) * y,
            yz * y + zx * x + 2 * axial * z,
        )
    a, b, c = (5.0 / 8.0) ** 0.5, 15.0**0.5, (3.0 / 8.0) ** 0.5
    xx, yy, zz, xy, yz, zx = x * x, y * y, z * z, x * y, y * z, z * x
    planar = 3 * a * (xx - yy)
    gx = 6 * a * xy * w[0] + b * yz * w[1] - 2 * c * xy * w[2] - 3 * zx * w[3]
    gx = gx + c * (4 * zz - 3 * xx - yy) * w[4] + b * zx * w[5] + planar * w[6]
    gy = planar * w[0] + b * zx * w[1] + c * (4 * zz - xx - 3 * yy) * w[2] - 3 * yz * w[3]
    gy = gy - 2 * c * xy * w[4] - b * yz * w[5] - 6 * a * xy * w[6]
    gz = b * xy * w[1] + 8 * c * yz * w[2] + 1.5 * (2 * zz - xx - yy) * w[3] + 8 * c * zx * w[4]
    gz = gz + 0.5 * b * (xx - yy) * w[5]
    return gx, gy, gz


class LearningDynamics(torch.nn.Module):  # type: ignore[misc]
    """Sum of the losses and the forces of a fixed list of atoms.

    Parameters
    ----------
    losses : AgentLosses
    species : sequence of str, length N
        The species of every atom, in the order of the positions.
    precision : str
        ``double`` or ``single``: of the arithmetic. Displacements are taken in the precision of the positions.
    """

    # TorchScript reads these, so this module must not postpone its annotations
    ranks: list[int]
    contracted: list[int]
    coupled: list[int]
    starts: list[int]

    def __init__(self, losses: AgentLosses, species: Sequence[str], precision: str = "double") -> None:
        super().__init__()
        dtype = DTYPES[check_precision(precision)]
        grid, s = losses.grid, len(losses.species)
        kinds = losses.index_of(species)
        self.cutoff: float = losses.cutoff
        self.spacing: float = grid.spacing
        self.intervals: int = grid.intervals
        self.n_species: int = s
        self.n: int = losses.moment_basis.size
        self.n_fine: int = losses.basis.size
        self.collective: bool = losses.gradient == "collective"
        self.ranks = list(losses.form.all_ranks)
        self.contracted = list(losses.form.ranks)
        self.coupled = list(losses.form.coupled)
        self.only_sums: bool = self.ranks == [0]

        def table(powers: np.ndarray[Any, Any]) -> torch.Tensor:
            return torch.tensor(powers.reshape(s * s * grid.intervals, -1), dtype=dtype)

        self.register_buffer("kinds", torch.tensor(kinds))
        self.register_buffer("pair_table", table(losses.pair_potentials.powers))
        self.register_buffer("table", table(losses.moment_basis.powers))
        stacked = np.array([losses.weights[rank] for rank in losses.form.ranks])
        width = s * self.n_fine
        self.register_buffer("weights", torch.tensor(stacked.reshape(-1, s, width, width), dtype=dtype))
        self.register_buffer("couplings", torch.tensor(losses.couplings, dtype=dtype))
        rows, columns = np.triu_indices(s * losses.coarse.size)
        self.register_buffer("rows", torch.tensor(rows))
        self.register_buffer("columns", torch.tensor(columns))
        # agents in the order of their species, and where each species begins in it
        self.register_buffer("by_species", torch.tensor(np.argsort(kinds, kind="stable")))
        self.starts = [int(k) for k in np.cumsum([0, *np.bincount(kinds, minlength=s)])]

    def radial(
        self, table: torch.Tensor, rows: torch.Tensor, fraction: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """f and f' (per grid interval) from the rows of a table, shape (N, J, n)."""
        c = torch.nn.functional.embedding(rows, table)
        c = c.reshape([rows.shape[0], rows.shape[1], 4, table.shape[1] // 4])
        c0, c1, c2, c3 = c.unbind(-2)
        x = fraction.unsqueeze(-1)
        return c0 + x * (c1 + x * (c2 + x * c3)), c1 + x * (2.0 * c2 + x * (3.0 * c3))

    def forward(
        self, positions: torch.Tensor, boxvectors: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of losses in kJ/mol and forces (N, 3) in kJ/mol/nm, from positions (N, 3) and box (3, 3) in nm."""
        neighbour, displacement, ends = self.surroundings(positions, boxvectors)
        n_species = self.n_species
        x, y, z = displacement.unbind(0)
        r = torch.sqrt(x * x + y * y + z * z)
        inverse = 1.0 / r
        x, y, z = x * inverse, y * inverse, z * inverse
        scaled = torch.clamp(r / self.spacing, max=float(self.intervals))
        k = torch.clamp(scaled.to(torch.long), max=self.intervals - 1)
        fraction = scaled - k
        kind = torch.cat([torch.full((ends[b + 1] - ends[b],), b, device=x.device) for b in range(n_species)])
        rows = (self.kinds.unsqueeze(1) * n_species + kind) * self.intervals + k
        value, slope = self.radial(self.pair_table, rows, fraction)
        own = value.squeeze(-1).sum(1)
        per_length = 1.0 / self.spacing
        along = slope.squeeze(-1) * per_length  # ∂H/∂r
        gx, gy, gz = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
        if len(self.ranks) > 0:
            f, df = self.radial(self.table, rows, fraction)
            ylm: list[torch.Tensor] = []
            for rank in self.ranks:
                ylm += harmonics(rank, x, y, z)
            angular = torch.stack(ylm, dim=1)
            blocks: list[torch.Tensor] = []
            for b in range(n_species):
                here = slice(ends[b], ends[b + 1])
                # products of matrices of one row are slower than sums
                sums = f[:, here].sum(1, keepdim=True) if self.only_sums else torch.bmm(angular[:, :, here], f[:, here])
                blocks.append(sums)
            value, adjoint = self.polynomial(torch.cat(blocks, dim=2))
            own = own + value
            weights: list[torch.Tensor] = []
            slopes: list[torch.Tensor] = []
            for b in range(n_species):
                here = slice(ends[b], ends[b + 1])
                g = adjoint[:, :, b * self.n : (b + 1) * self.n]
                if self.only_sums:
                    slopes.append((g * df[:, here]).sum(2).unsqueeze(1))
                else:
                    weights.append(torch.bmm(g, f[:, here].transpose(1, 2)))
                    slopes.append(torch.bmm(g, df[:, here].transpose(1, 2)))
            along = along + (torch.cat(slopes, dim=2) * angular).sum(1) * per_length
            # Σ_n G_nm f_n for every component m, each of shape (N, J)
            weight = torch.cat(weights, dim=2).unbind(1) if not self.only_sums else []
            first = 0
            for rank in self.ranks:
                if rank > 0:
                    w = weight[first : first + 2 * rank + 1]
                    tx, ty, tz = harmonic_gradients(rank, w, x, y, z)
                    gx, gy, gz = gx + tx, gy + ty, gz + tz
                first += 2 * rank + 1
            # the polynomials are homogeneous, so their gradients have a part along u that a direction does not feel
            along = along - inverse * (gx * x + gy * y + gz * z)
        gradient = [along * x + inverse * gx, along * y + inverse * gy, along * z + inverse * gz]
        forces = torch.stack([g.sum(1) for g in gradient])
        if self.collective:
            for c in range(3):
                forces[c].index_add_(0, neighbour, gradient[c].flatten(), alpha=-1.0)
        return own.sum(dtype=torch.float64), forces.t().to(positions.dtype).contiguous()

    def surroundings(
        self, positions: torch.Tensor, boxvectors: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """Neighbours in a row of J slots for every agent: those of the first species, then those of the second, ….

        Returns the index of the neighbour, shape (N·J,), the displacement to it, shape (3, N, J), and where the slots
        of every species begin, with J at the end. An empty slot sits at the cutoff, where every function is zero.
        """
        i, j, displacement = find_pairs(positions, boxvectors, self.cutoff)
        n_atoms = positions.shape[0]
        kind_j = self.kinds[j]
        members = [torch.nonzero(kind_j == b).squeeze(1) for b in range(self.n_species)]
        slots: list[torch.Tensor] = []
        ends: list[int] = [0]
        for b in range(self.n_species):
            slot, width = slots_of(i[members[b]], n_atoms)
            slots.append(slot + ends[b])
            ends.append(ends[b] + width)
        width = ends[self.n_species]
        pairs = torch.cat(members)
        flat = i[pairs] * width + torch.cat(slots)
        neighbour = torch.zeros((n_atoms * width,), dtype=i.dtype, device=i.device)
        neighbour[flat] = j[pairs]
        d = torch.zeros((3, n_atoms * width), dtype=self.pair_table.dtype, device=i.device)
        d[0] = self.cutoff
        d[:, flat] = displacement.t()[:, pairs].to(d.dtype)
        return neighbour, d.reshape(3, n_atoms, width), ends

    def polynomial(self, moments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `losses.evaluator.polynomial`: H(M) of every agent without its pair part, and G = ∂H/∂M.

        The moments and G have the shape (N, M, S·(n + n_c)), with the M components of all ranks one after the other.
        """
        value = torch.zeros((moments.shape[0],), dtype=moments.dtype, device=moments.device)
        adjoint = torch.empty_like(moments)
        for a in range(self.n_species):
            agents = self.by_species[self.starts[a] : self.starts[a + 1]]
            every = moments[agents].reshape(agents.shape[0], moments.shape[1], self.n_species, self.n)
            fine = every[..., : self.n_fine].flatten(2)
            g_fine = torch.zeros_like(fine)
            for number, rank in enumerate(self.contracted):
                first = self.first(rank)
                here = slice(first, first + 2 * rank + 1)
                g_fine[:, here] = torch.matmul(fine[:, here], self.weights[number, a])
            total = 0.5 * (fine * g_fine).sum(2).sum(1)
            g = [g_fine.reshape_as(every[..., : self.n_fine])]
            if len(self.coupled) > 0:
                coarse = every[..., self.n_fine :].flatten(2)
                coupling, g_coarse = self.coupling(coarse, self.couplings[a])
                total = total + coupling
                g.append(g_coarse.reshape_as(every[..., self.n_fine :]))
            value[agents] = total
            adjoint[agents] = torch.cat(g, dim=3).flatten(2)
        return value, adjoint

    def coupling(self, coarse: torch.Tensor, couplings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """½ φᵀCφ of agents of one species, and its adjoint in the shape of the coarse moments (N, M, S·n_c)."""
        width, pairs = coarse.shape[2], self.rows.shape[0]
        phi = [coarse[:, 0]]
        for rank in self.coupled:
            m = coarse[:, self.first(rank) : self.first(rank) + 2 * rank + 1]
            phi.append(torch.bmm(m.transpose(1, 2), m)[:, self.rows, self.columns])
        invariants = torch.cat(phi, dim=1)
        g = torch.matmul(invariants, couplings)
        adjoint = torch.zeros_like(coarse)
        adjoint[:, 0] = g[:, :width]
        begin = width
        for rank in self.coupled:
            here = slice(self.first(rank), self.first(rank) + 2 * rank + 1)
            matrix = torch.zeros((coarse.shape[0], width, width), dtype=coarse.dtype, device=coarse.device)
            matrix[:, self.rows, self.columns] = g[:, begin : begin + pairs]
            matrix = matrix + matrix.transpose(1, 2)
            adjoint[:, here] += torch.bmm(coarse[:, here], matrix)
            begin += pairs
        return 0.5 * (invariants * g).sum(1), adjoint

    def first(self, rank: int) -> int:
        """Where the components of a rank begin among those of all ranks."""
        first = 0
        for other in self.ranks:
            if other < rank:
                first += 2 * other + 1
        return first


def slots_of(i: torch.Tensor, n_atoms: int) -> tuple[torch.Tensor, int]:
    """The slot of every one of sorted pairs in the row of its agent, and how many the longest row has."""
    counts = torch.bincount(i, minlength=n_atoms)
    slot = torch.arange(i.shape[0], device=i.device) - (torch.cumsum(counts, 0) - counts)[i]
    return slot, int(counts.max())


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
