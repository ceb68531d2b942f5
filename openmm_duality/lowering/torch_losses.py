"""Losses and gradients of agents from displacements to their neighbours, as a TorchScript module.

The evaluator's computation with torch's batched operations. It knows nothing of positions, boxes or how neighbours are
found. Importing this module imports torch.

Index suffixes: i agent, s neighbour slot, n radial function, m component of all ranks, x Cartesian. Shapes: N agents,
J neighbour slots, M components, S species, R rows (intervals of pairs of species) of a table, D sets of coefficients
(the losses, and under `mutual` their own part).
"""

from typing import Any

import numpy as np
import torch

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.invariants.harmonics import gradient_matrix, solid_harmonics
from openmm_duality.invariants.neighbours import CLOSEST
from openmm_duality.losses.means import about_means, mean_invariants_of, mean_sums_of
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.fused.checks import check_precision
from openmm_duality.lowering.torch_channels import ChannelPolynomial

DTYPES = {"double": torch.float64, "single": torch.float32}


class NeighbourLosses(torch.nn.Module):  # type: ignore[misc]
    """Losses of agents, and their gradients by the displacements to the neighbours.

    Parameters
    ----------
    losses : AgentLosses
    precision : str
        ``double`` or ``single``: of the arithmetic.
    """

    # TorchScript reads these, so this module must not postpone its annotations
    ranks: list[int]
    coupled: list[int]
    bounds: list[int]
    gradient_terms: list[list[tuple[int, int, int, float]]]

    def __init__(self, losses: AgentLosses, precision: str) -> None:
        super().__init__()
        dtype = DTYPES[check_precision(precision)]
        grid, s = losses.grid, len(losses.species)
        self.spacing: float = grid.spacing
        self.intervals: int = grid.intervals
        self.closest: float = CLOSEST * grid.cutoff
        self.n_species: int = s
        self.n: int = losses.moment_basis.size
        self.n_fine: int = losses.basis.size
        self.ranks = list(losses.form.all_ranks)
        self.coupled = list(losses.form.coupled)
        # where the components of a rank begin among those of all ranks, and where they end
        self.bounds = [sum(2 * rank + 1 for rank in self.ranks if rank < next_rank) for next_rank in range(5)]
        self.only_sums: bool = self.ranks == [0]
        self.harmonics = traced_harmonics(self.ranks or [0])
        self.second_harmonics = traced_harmonics([2])
        self.gradient_terms = [gradient_terms(rank) for rank in range(4)]
        # the losses, and the own part, if there is one, which an agent descends beside them
        descents = [losses] if losses.own is None else [losses, losses.own_part]
        self.descents: int = len(descents)
        # about the means of the training data, so that single precision rounds small numbers
        mean_sums, mean_invariants = mean_sums_of(losses), mean_invariants_of(losses)
        written = [about_means(one, mean_sums, mean_invariants) for one in descents]
        functions = table_of(losses.moment_basis.powers)
        pairs = table_of(np.stack([one.pair_powers for one in written], axis=-1))
        self.embedding_bags: bool = precision == "single"
        if self.embedding_bags:
            # rows of (f | f' | V | V') for every power of the fraction
            both = np.concatenate([functions, derivatives(functions), pairs, derivatives(pairs)], axis=2)
            self.register_buffer("table", torch.tensor(both.reshape(-1, both.shape[2]), dtype=dtype))
            self.register_buffer("pair_table", torch.empty(0))
        else:
            self.register_buffer("table", torch.tensor(functions.reshape(len(functions), -1), dtype=dtype))
            self.register_buffer("pair_table", torch.tensor(pairs.reshape(len(pairs), -1), dtype=dtype))
        mixed = [
            ChannelPolynomial(mine.only(c != 0.0), c[c != 0.0], dtype)
            for one in descents
            for mine, c in zip(one.channels, one.channel_weights, strict=True)
        ]
        self.channels = torch.nn.ModuleList(mixed)
        weights, couplings = ([f(one) for one in descents] for f in (weights_of_components, lambda one: one.couplings))
        self.register_buffer("weights", torch.tensor(np.concatenate(weights), dtype=dtype))
        self.register_buffer("couplings", torch.tensor(np.concatenate(couplings), dtype=dtype))
        of_coarse = [(0, 0), (0, 0), (0, self.n - self.n_fine)]
        self.register_buffer("mean_sums", torch.tensor(np.pad(mean_sums, of_coarse).reshape(s, -1)))
        self.register_buffer("mean_invariants", torch.tensor(mean_invariants, dtype=dtype))
        self.register_buffer("slopes", torch.tensor(np.concatenate([one.slopes for one in written]), dtype=dtype))
        self.register_buffer("values", torch.tensor(written[0].values))
        width = s * losses.coarse.size
        rows, columns = np.triu_indices(width)
        self.register_buffer("triangle", torch.tensor(rows * width + columns))

    def forward(
        self, displacement: torch.Tensor, neighbour_ends: list[int], species_index: torch.Tensor, agent_ends: list[int]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Losses (N,) in kJ/mol, and gradients by the displacements (3, N, J) in kJ/mol/nm.

        The first gradient is that of the losses, the last that of what an agent descends by its own position.

        Parameters
        ----------
        displacement : tensor, shape (3, N, J)
            From every agent to its neighbours in nm, those of the first species first; an empty slot is at the cutoff.
        neighbour_ends : list of int, length S + 1
            Where the slots of every neighbour species begin, and J.
        species_index : tensor of int64, shape (N,)
            Species of the agents, in ascending order.
        agent_ends : list of int, length S + 1
            Where the agents of every species begin, and N.
        """
        dtype = self.table.dtype
        r = torch.sqrt((displacement * displacement).sum(0)).clamp_(min=self.closest)
        inverse = 1.0 / r
        u = (displacement * inverse).to(dtype)
        scaled = torch.clamp(r * (1.0 / self.spacing), max=float(self.intervals))
        k = scaled.to(torch.long)
        ends = neighbour_ends
        kind = torch.cat([torch.full((ends[b + 1] - ends[b],), b, device=u.device) for b in range(self.n_species)])
        rows = k + (species_index.unsqueeze(1) * self.n_species + kind) * (self.intervals + 1)
        f, df, potentials, slopes = self.radial(rows, (scaled - k).to(dtype))
        found = self.values.index_select(0, species_index) + potentials[..., 0].sum(1, dtype=torch.float64)
        angular = self.harmonics(u).transpose(0, 1) if len(self.ranks) > 0 else f
        moments = self.moments(angular, f, ends, species_index) if len(self.ranks) > 0 else f
        gradients: list[torch.Tensor] = []
        for descent in range(self.descents):
            along = slopes[..., descent]
            across = torch.zeros_like(u)
            if len(self.ranks) > 0:
                value, adjoint = self.polynomial(descent, agent_ends, moments)
                if descent == 0:
                    found = found + value
                along = along + (self.over_functions(adjoint, df, ends) * angular).sum(1)
                if not self.only_sums:
                    weight = self.over_functions(adjoint, f, ends).transpose(0, 1)
                    for rank in self.ranks:
                        self.add_harmonic_gradients(rank, weight[self.bounds[rank] : self.bounds[rank + 1]], u, across)
                    across *= inverse.to(dtype)
            # ∂H/∂r, less the component along u, on which a direction does not depend
            along = along * (1.0 / self.spacing) - (across * u).sum(0)
            gradient = torch.addcmul(across, along, u)
            gradients.append(gradient if descent == 0 else gradients[0] + gradient)
        return found, gradients

    def moments(
        self, angular: torch.Tensor, f: torch.Tensor, ends: list[int], species_index: torch.Tensor
    ) -> torch.Tensor:
        """Σ_s f_n Y_m by neighbour species, shape (N, M, S·(n + n_c)); sums less their means, if contracted.

        Sums are added up in double precision, which the large coefficients of coupled ones need.
        """
        blocks: list[torch.Tensor] = []
        sums: list[torch.Tensor] = []
        for b in range(self.n_species):
            here = slice(ends[b], ends[b + 1])
            if self.ranks[0] == 0:
                sums.append(f[:, here].sum(1, dtype=torch.float64))
            if not self.only_sums:  # products of matrices of one row are slower than sums
                blocks.append(torch.bmm(angular[:, :, here], f[:, here]))
        if len(sums) == 0:
            return torch.cat(blocks, dim=2)
        differences = (torch.cat(sums, dim=1) - self.mean_sums.index_select(0, species_index)).to(f.dtype)
        if self.only_sums:
            return differences.unsqueeze(1)
        moments = torch.cat(blocks, dim=2)
        moments[:, 0] = differences
        return moments

    def over_functions(self, adjoint: torch.Tensor, f: torch.Tensor, ends: list[int]) -> torch.Tensor:
        """Σ_n G_nm f_n in every slot, shape (N, M, J), of the functions or their derivatives."""
        blocks: list[torch.Tensor] = []
        for b in range(self.n_species):
            here = slice(ends[b], ends[b + 1])
            g = adjoint[:, :, b * self.n : (b + 1) * self.n]
            if self.only_sums:
                blocks.append((g * f[:, here]).sum(2).unsqueeze(1))
            else:
                blocks.append(torch.bmm(g, f[:, here].transpose(1, 2)))
        return torch.cat(blocks, dim=2)

    def add_harmonic_gradients(self, rank: int, w: torch.Tensor, u: torch.Tensor, out: torch.Tensor) -> None:
        """Adds Σ_m w_m ∂Y_m at unit vectors u (3, N, J) to out (3, N, J), from w (2l + 1, N, J)."""
        if rank == 1:
            out.add_(w)
        elif rank > 1:
            lower = (u if rank == 2 else self.second_harmonics(u)).unbind(0)
            weights, rows = w.unbind(0), out.unbind(0)
            for m, x, k, coefficient in self.gradient_terms[rank]:
                rows[x].addcmul_(weights[m], lower[k], value=coefficient)

    def radial(
        self, rows: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """f and f' (N, J, n), pair potentials V and V' (N, J, D): derivatives by the fraction x of an interval."""
        if self.embedding_bags:
            found, n, m = sums_of_powers(self.table, rows, x), self.n, 2 * self.n + self.descents
            return found[..., :n], found[..., n : 2 * n], found[..., 2 * n : m], found[..., m:]
        f, df = cubics(self.table, rows, x)
        value, slope = cubics(self.pair_table, rows, x)
        return f, df, value, slope

    def polynomial(self, descent: int, ends: list[int], moments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Evaluate H(M) of every agent without the pair part, and G = ∂H/∂M, as `losses.evaluator.polynomial` does.

        The moments and G have the shape (N, M, S·(n + n_c)), with the M components of all ranks one after the other.
        From contracted sums their means are subtracted.
        """
        values: list[torch.Tensor] = []
        adjoints: list[torch.Tensor] = []
        first = descent * self.n_species
        for k, channels in enumerate(self.channels):
            if k // self.n_species == descent:
                a = k - first
                value, g = channels(moments[ends[a] : ends[a + 1]])
                values.append(value)
                adjoints.append(g)
        for a in range(self.n_species if len(self.channels) == 0 else 0):
            m = moments[ends[a] : ends[a + 1]]
            g = torch.bmm(m.transpose(0, 1), self.weights[first + a]).transpose(0, 1).contiguous()
            value = 0.5 * (m * g).sum(2).sum(1, dtype=torch.float64)
            if len(self.coupled) > 0:
                by_neighbour = [m.shape[0], m.shape[1], self.n_species, self.n]
                coupling, g_coarse = self.coupling(m.reshape(by_neighbour)[..., self.n_fine :].flatten(2), a, first + a)
                value = value + coupling
                coarse = g.reshape(by_neighbour)[..., self.n_fine :]
                coarse.add_(g_coarse.reshape_as(coarse))
            values.append(value)
            adjoints.append(g)
        return torch.cat(values), torch.cat(adjoints)

    def coupling(self, coarse: torch.Tensor, species: int, which: int) -> tuple[torch.Tensor, torch.Tensor]:
        """½ δᵀCδ + g·δ of agents of one species, and its adjoint in the shape of the coarse moments (N, M, S·n_c)."""
        n_atoms, width = coarse.shape[0], coarse.shape[2]
        triangle = self.triangle.expand(n_atoms, -1)
        phi = [coarse[:, 0]]
        for rank in self.coupled:
            m = coarse[:, self.bounds[rank] : self.bounds[rank + 1]]
            phi.append(torch.gather(torch.bmm(m.transpose(1, 2), m).flatten(1), 1, triangle))
        invariants = torch.cat(phi, dim=1) - self.mean_invariants[species]
        at_means = self.slopes[which]
        g = torch.addmm(at_means, invariants, self.couplings[which])
        adjoint = torch.zeros_like(coarse)
        adjoint[:, 0] = g[:, :width]
        begin = width
        for rank in self.coupled:
            here = slice(self.bounds[rank], self.bounds[rank + 1])
            matrix = torch.zeros((n_atoms, width * width), dtype=coarse.dtype, device=coarse.device)
            matrix.scatter_(1, triangle, g[:, begin : begin + triangle.shape[1]])
            matrix = matrix.reshape(n_atoms, width, width)
            adjoint[:, here] += torch.bmm(coarse[:, here], matrix + matrix.transpose(1, 2))
            begin += triangle.shape[1]
        return 0.5 * (invariants * (g + at_means)).sum(1, dtype=torch.float64), adjoint


def traced_harmonics(ranks: list[int]) -> Any:
    """The harmonics of some ranks at unit vectors (3, N, J) as a function for TorchScript, shape (M, N, J)."""

    def harmonics(u: torch.Tensor) -> torch.Tensor:
        x, y, z = u.unbind(0)
        components = [component for rank in ranks for component in solid_harmonics(rank, x, y, z)]
        return torch.stack([c if isinstance(c, torch.Tensor) else torch.full_like(x, c) for c in components])

    return torch.jit.trace(harmonics, torch.zeros((3, 1, 1), dtype=torch.float64))


def gradient_terms(rank: int) -> list[tuple[int, int, int, float]]:
    """(m, x, k, C_mxk) of all C_mxk that are not zero, for ranks above 1, the gradients of which are no constants."""
    matrix = gradient_matrix(rank) if rank > 1 else np.empty((0, 3, 0))
    return [(int(m), int(x), int(k), float(matrix[m, x, k])) for m, x, k in np.argwhere(matrix)]


def weights_of_components(losses: AgentLosses) -> FloatArray:
    """The weights of every component of all ranks, shape (S, M, S·(n + n_c), S·(n + n_c)); zero of coarse functions."""
    s, n, n_fine = len(losses.species), losses.moment_basis.size, losses.basis.size
    components = [rank for rank in losses.form.all_ranks for _ in range(2 * rank + 1)]
    weights = np.zeros((s, len(components), s, n, s, n))
    for m, rank in enumerate(components):
        if rank in losses.weights:
            weights[:, m, :, :n_fine, :, :n_fine] = losses.weights[rank].reshape(s, s, n_fine, s, n_fine)
    return weights.reshape(s, len(components), s * n, s * n)


def cubics(table: torch.Tensor, rows: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and derivatives (N, J, n) of the n cubics whose four powers of x are the rows (4·n) of a table."""
    c = torch.nn.functional.embedding(rows, table).reshape(rows.shape[0], rows.shape[1], 4, table.shape[1] // 4)
    c0, c1, c2, c3 = c.unbind(2)
    x = x.unsqueeze(-1)
    second = torch.addcmul(c2, x, c3)
    first = torch.addcmul(c1, x, second)
    return torch.addcmul(c0, x, first), torch.addcmul(first, x, torch.addcmul(second, x, c3))


def table_of(powers: FloatArray) -> FloatArray:
    """The powers (R, 4, n) of every interval of every pair of species, and after its last a row of zeros."""
    padded = np.pad(powers, [(0, 0), (0, 0), (0, 1), (0, 0), (0, 0)])
    return padded.reshape(-1, 4, powers.shape[4])


def derivatives(powers: FloatArray) -> FloatArray:
    """The powers (R, 4, n) of the derivatives of cubics."""
    return np.concatenate([powers[:, 1:] * np.array([[1.0], [2.0], [3.0]]), np.zeros_like(powers[:, :1])], axis=1)


def sums_of_powers(table: torch.Tensor, rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Σ_p x^p c_p for rows of four powers, shape (N, J, C), from a table of shape (4·R, C).

    As one sum of embeddings: of single precision five times faster than `cubics`, of double precision slower.
    """
    powers = torch.empty((x.numel(), 4), dtype=x.dtype, device=x.device)
    x = x.flatten()
    square = x * x
    powers[:, 0] = 1.0
    powers[:, 1] = x
    powers[:, 2] = square
    powers[:, 3] = square * x
    every = (4 * rows).reshape(-1, 1) + torch.arange(4, device=rows.device)
    sums = torch.nn.functional.embedding_bag(every, table, mode="sum", per_sample_weights=powers)
    return sums.reshape(rows.shape[0], rows.shape[1], table.shape[1])
