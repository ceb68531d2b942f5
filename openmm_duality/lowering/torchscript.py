"""Losses as a TorchScript module: the evaluator's computation with torch's batched operations.

The module stands alone: a file of it needs neither this package nor Python. Importing this module imports torch.

Index suffixes: i agent, s neighbour slot, p pair, n radial function, m component of all ranks, x Cartesian.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from openmm_duality.errors import DualityError
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.torch_neighbours import find_pairs

PRECISIONS = {"double": torch.float64, "single": torch.float32}


def harmonics(rank: int, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `invariants.moments.harmonics`, with the gradient (N, J, 2l + 1, 3) projected: ∂_x Y − l Y u_x."""
    x, y, z = u[..., 0], u[..., 1], u[..., 2]
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    values = [one]
    gradient = [zero, zero, zero]
    if rank == 1:
        values = [x, y, z]
        gradient = [one, zero, zero, zero, one, zero, zero, zero, one]
    elif rank == 2:
        s = 3.0**0.5
        values = [s * x * y, s * y * z, s * z * x, 0.5 * s * (x * x - y * y), 0.5 * (2 * z * z - x * x - y * y)]
        gradient = [s * y, s * x, zero, zero, s * z, s * y, s * z, zero, s * x, s * x, -s * y, zero, -x, -y, 2 * z]
    elif rank == 3:
        a, b, c = (5.0 / 8.0) ** 0.5, 15.0**0.5, (3.0 / 8.0) ** 0.5
        values = [
            a * y * (3 * x * x - y * y),
            b * x * y * z,
            c * y * (4 * z * z - x * x - y * y),
            0.5 * z * (2 * z * z - 3 * x * x - 3 * y * y),
            c * x * (4 * z * z - x * x - y * y),
            0.5 * b * z * (x * x - y * y),
            a * x * (x * x - 3 * y * y),
        ]
        gradient = [6 * a * x * y, 3 * a * (x * x - y * y), zero]
        gradient += [b * y * z, b * x * z, b * x * y]
        gradient += [-2 * c * x * y, c * (4 * z * z - x * x - 3 * y * y), 8 * c * y * z]
        gradient += [-3 * x * z, -3 * y * z, 0.5 * (6 * z * z - 3 * x * x - 3 * y * y)]
        gradient += [c * (4 * z * z - 3 * x * x - y * y), -2 * c * x * y, 8 * c * x * z]
        gradient += [b * x * z, -b * y * z, 0.5 * b * (x * x - y * y)]
        gradient += [3 * a * (x * x - y * y), -6 * a * x * y, zero]
    ylm = torch.stack(values, dim=-1)
    dylm = torch.stack(gradient, dim=-1).reshape(ylm.shape + (3,))
    return ylm, dylm - rank * ylm.unsqueeze(-1) * u.unsqueeze(-2)


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
    starts: list[int]

    def __init__(self, losses: AgentLosses, species: Sequence[str], precision: str = "double") -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise DualityError(f"precision {precision!r} is not known; it is one of {', '.join(PRECISIONS)}")
        dtype = PRECISIONS[precision]
        grid, s = losses.grid, len(losses.species)
        kinds = losses.index_of(species)
        self.cutoff: float = losses.cutoff
        self.spacing: float = grid.spacing
        self.intervals: int = grid.intervals
        self.n_species: int = s
        self.n: int = losses.basis.size
        self.collective: bool = losses.gradient == "collective"
        self.ranks = list(losses.form.ranks)

        def table(powers: np.ndarray[Any, Any]) -> torch.Tensor:
            return torch.tensor(powers.reshape(s * s * grid.intervals, -1), dtype=dtype)

        self.register_buffer("kinds", torch.tensor(kinds))
        self.register_buffer("pair_table", table(losses.pair_potentials.powers))
        self.register_buffer("table", table(losses.basis.powers))
        stacked = np.array([losses.weights[rank] for rank in losses.form.ranks])
        self.register_buffer("weights", torch.tensor(stacked.reshape(-1, s, s * self.n, s * self.n), dtype=dtype))
        # agents in the order of their species, and where each species begins in it
        self.register_buffer("by_species", torch.tensor(np.argsort(kinds, kind="stable")))
        self.starts = [int(k) for k in np.cumsum([0, *np.bincount(kinds, minlength=s)])]

    def radial(
        self, table: torch.Tensor, rows: torch.Tensor, fraction: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """f and f' (per grid interval) from the rows of a table, shape (N, J, n)."""
        c = torch.nn.functional.embedding(rows, table)
        c = c.reshape(rows.shape + (4, -1))
        c0, c1, c2, c3 = c.unbind(-2)
        x = fraction.unsqueeze(-1)
        return c0 + x * (c1 + x * (c2 + x * c3)), c1 + x * (2.0 * c2 + x * (3.0 * c3))

    def forward(
        self, positions: torch.Tensor, boxvectors: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of losses in kJ/mol and forces (N, 3) in kJ/mol/nm, from positions (N, 3) and box (3, 3) in nm."""
        i, j, displacement = find_pairs(positions, boxvectors, self.cutoff)
        displacement = displacement.to(self.pair_table.dtype)
        n_atoms = positions.shape[0]
        forces = torch.zeros((n_atoms, 3), dtype=self.pair_table.dtype, device=positions.device)
        own = torch.zeros((n_atoms,), dtype=self.pair_table.dtype, device=positions.device)
        kind_j = self.kinds[j]
        blocks: list[torch.Tensor] = []
        values: list[torch.Tensor] = []
        slopes: list[torch.Tensor] = []
        harmonic: list[torch.Tensor] = []
        gradients: list[torch.Tensor] = []
        directions: list[torch.Tensor] = []
        indices: list[torch.Tensor] = []
        for b in range(self.n_species):
            # neighbours of species b in a padded table: empty slots sit at the cutoff, where everything is zero
            chosen = torch.nonzero(kind_j == b).squeeze(1)
            i_b = i[chosen]
            counts = torch.bincount(i_b, minlength=n_atoms)
            width = int(counts.max())
            slot = torch.arange(i_b.shape[0], device=i.device) - (torch.cumsum(counts, 0) - counts)[i_b]
            flat = i_b * width + slot
            d = torch.zeros((n_atoms * width, 3), dtype=displacement.dtype, device=i.device)
            d[:, 0] = self.cutoff
            d[flat] = displacement[chosen]
            neighbour = torch.zeros((n_atoms * width,), dtype=i.dtype, device=i.device)
            neighbour[flat] = j[chosen]
            d = d.reshape(n_atoms, width, 3)
            r = torch.linalg.vector_norm(d, dim=-1)
            u = d / r.unsqueeze(-1)
            scaled = torch.clamp(r / self.spacing, max=float(self.intervals))
            k = torch.clamp(scaled.to(torch.long), max=self.intervals - 1)
            fraction = scaled - k
            rows = (self.kinds.unsqueeze(1) * self.n_species + b) * self.intervals + k
            value, slope = self.radial(self.pair_table, rows, fraction)
            own = own + value.squeeze(-1).sum(1)
            gradient = slope / self.spacing * u
            indices.append(neighbour)
            directions.append(u)
            gradients.append(gradient)
            if len(self.ranks) > 0:
                f, df = self.radial(self.table, rows, fraction)
                y: list[torch.Tensor] = []
                dy: list[torch.Tensor] = []
                for rank in self.ranks:
                    y_rank, dy_rank = harmonics(rank, u)
                    y.append(y_rank)
                    dy.append(dy_rank)
                y_all = torch.cat(y, dim=-1)
                harmonic.append(y_all)
                harmonic.append(torch.cat(dy, dim=-2).flatten(2))
                values.append(f / r.unsqueeze(-1))
                slopes.append(df / self.spacing)
                blocks.append(torch.bmm(f.transpose(1, 2), y_all))
        if len(self.ranks) > 0:
            moments = torch.cat(blocks, dim=1)
            adjoint = self.adjoint(moments)
            own = own + 0.5 * (moments * adjoint).sum(2).sum(1)
            for b in range(self.n_species):
                g = adjoint[:, b * self.n : (b + 1) * self.n]
                y_all, dy_all = harmonic[2 * b], harmonic[2 * b + 1]
                along = (torch.bmm(slopes[b], g) * y_all).sum(-1, keepdim=True)
                weight = torch.bmm(values[b], g)
                across = (weight.unsqueeze(-1) * dy_all.reshape(weight.shape + (3,))).sum(-2)
                gradients[b] = gradients[b] + along * directions[b] + across
        for b in range(self.n_species):
            forces = forces + gradients[b].sum(1)
            if self.collective:
                forces.index_add_(0, indices[b], gradients[b].reshape(-1, 3), alpha=-1.0)
        return own.sum(dtype=torch.float64), forces.to(positions.dtype).contiguous()

    def adjoint(self, moments: torch.Tensor) -> torch.Tensor:
        """G = W M for the weights of every agent's species, shape (N, S·n, M)."""
        adjoint = torch.empty_like(moments)
        for a in range(self.n_species):
            agents = self.by_species[self.starts[a] : self.starts[a + 1]]
            m = moments[agents]
            parts: list[torch.Tensor] = []
            first = 0
            for number, rank in enumerate(self.ranks):
                parts.append(torch.matmul(self.weights[number, a], m[..., first : first + 2 * rank + 1]))
                first += 2 * rank + 1
            adjoint[agents] = torch.cat(parts, dim=-1)
        return adjoint


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
