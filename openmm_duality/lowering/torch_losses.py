"""Losses and gradients of agents from displacements to their neighbours, as a TorchScript module.

The evaluator's computation with torch's batched operations. It knows nothing of positions, boxes or how neighbours are
found. Importing this module imports torch.

Of an own part (gradient `mutual`) only the sums over the neighbours are wanted. ∂Y is linear in the harmonics of the
next lower rank, which are summed first, and its component along u is l Y.

Index suffixes: i agent, s neighbour slot, n radial function, m component of all ranks, x Cartesian. Shapes: N agents,
J neighbour slots, M components, S species, R rows (intervals of pairs of species) of a table, D sets of coefficients
(the losses, and their own part), M′ components of the adjoints of all: M, and those of the ranks of an own part.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.invariants.harmonics import gradient_matrix, solid_harmonics
from openmm_duality.invariants.neighbours import CLOSEST
from openmm_duality.losses.means import about_means, mean_invariants_of, mean_sums_of
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.fused.checks import check_precision
from openmm_duality.lowering.fused.own_extent import OwnExtent
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
    own_ranks: list[int]
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
        own_ranks = [] if losses.own is None else OwnExtent.of(losses).mixed or losses.form.all_ranks
        self.single: bool = precision == "single"
        lower_ranks = [rank - 1 for rank in own_ranks if rank]
        multiple = 4 if self.single and not self.only_sums else 1
        self.harmonics = traced_harmonics(self.ranks, lower_ranks, multiple)
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
        if self.single:
            # rows of (f | f' | V | V') for every power of the fraction
            both = np.concatenate([functions, derivatives(functions), pairs, derivatives(pairs)], axis=2)
            self.register_buffer("table", torch.tensor(both.reshape(-1, both.shape[2]), dtype=dtype))
            self.register_buffer("pair_table", torch.empty(0))
        else:
            self.register_buffer("table", torch.tensor(functions.reshape(len(functions), -1), dtype=dtype))
            self.register_buffer("pair_table", torch.tensor(pairs.reshape(len(pairs), -1), dtype=dtype))
        mixed = zip(losses.channels, *(one.channel_weights for one in descents), strict=True)
        self.channels = torch.nn.ModuleList([ChannelPolynomial(mine, weights, dtype) for mine, *weights in mixed])
        # those of all descents beside each other
        weights, couplings = ([f(one) for one in descents] for f in (weights_of_components, lambda one: one.couplings))
        self.register_buffer("weights", torch.tensor(np.concatenate(weights, axis=-1), dtype=dtype))
        self.register_buffer("couplings", torch.tensor(np.concatenate(couplings, axis=-1), dtype=dtype))
        of_coarse = [(0, 0), (0, 0), (0, self.n - self.n_fine)]
        self.register_buffer("mean_sums", torch.tensor(np.pad(mean_sums, of_coarse).reshape(s, -1)))
        self.register_buffer("mean_invariants", torch.tensor(mean_invariants, dtype=dtype))
        at_means = np.concatenate([one.slopes for one in written], axis=-1)
        self.register_buffer("slopes", torch.tensor(at_means, dtype=dtype))
        self.register_buffer("values", torch.tensor(written[0].values))
        width = s * losses.coarse.size
        rows, columns = np.triu_indices(width)
        self.register_buffer("triangle", torch.tensor(rows * width + columns))
        # where the entries of a symmetric matrix are in its triangle, and how often an invariant has their moments
        places = np.zeros((width, width), dtype=np.int64)
        places[rows, columns] = places[columns, rows] = np.arange(len(rows))
        of_sets = [places + one * losses.couplings.shape[-1] for one in range(self.descents)]
        self.register_buffer("in_triangle", torch.tensor(np.concatenate(of_sets, axis=1).ravel()))
        twice = np.tile(1.0 + np.eye(width), (1, self.descents))
        self.register_buffer("twice", torch.tensor(twice.ravel(), dtype=dtype))
        # a matrix that puts coarse functions, of all sets and neighbour species, where they are among all functions
        among_all = np.kron(np.eye(self.descents * s), np.eye(self.n)[self.n_fine :])
        self.register_buffer("among_functions", torch.tensor(among_all, dtype=dtype))
        self.own_ranks = [rank for rank in own_ranks if rank]
        self.own_components: int = sum(2 * rank + 1 for rank in own_ranks)
        self.own_lower: int = sum(2 * rank - 1 for rank in own_ranks if rank)
        self.register_buffer("lower_terms", torch.tensor(lower_terms(own_ranks), dtype=dtype))

    def forward(
        self, displacement: torch.Tensor, neighbour_ends: list[int], species_index: torch.Tensor, agent_ends: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Losses (N,) in kJ/mol, and gradients in kJ/mol/nm.

        The first gradients, by the displacements (3, N, J), are those of the losses. The second are of all that an
        agent descends by its own position, with the opposite sign, shape (3, N).

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
        inverse = inverse.to(dtype)
        scaled = torch.clamp(r * (1.0 / self.spacing), max=float(self.intervals))
        k = scaled.to(torch.long)
        ends = neighbour_ends
        kind = torch.cat([torch.full((ends[b + 1] - ends[b],), b, device=u.device) for b in range(self.n_species)])
        rows = k + (species_index.unsqueeze(1) * self.n_species + kind) * (self.intervals + 1)
        f, df, potentials, slopes = self.radial(rows, (scaled - k).to(dtype))
        found = self.values.index_select(0, species_index) + potentials[..., 0].sum(1, dtype=torch.float64)
        along, along_own = slopes[..., 0], slopes[..., self.descents - 1]
        across, m = torch.zeros_like(u), self.bounds[4]
        own, moments = f[:, :0], f[:, :0]
        if len(self.ranks) > 0:
            angular = self.harmonics(u, inverse).transpose(0, 1)
            moments = self.moments(angular, f, ends, species_index)
            angular = angular[:, :m]
            value, adjoint = self.polynomials(agent_ends, moments[:, :m])
            found, own = found + value, adjoint[:, m:]
            of_radius, of_own_radius, weight = self.over_functions(adjoint, f, df, angular, inverse, ends)
            along = along + of_radius
            if self.descents == 2:
                along_own = along_own + of_own_radius
            if not self.only_sums:
                for rank in self.ranks:
                    weights = weight[:, self.bounds[rank] : self.bounds[rank + 1]].transpose(0, 1)
                    self.add_harmonic_gradients(rank, weights, u, across)
                across *= inverse
        # ∂H/∂r, less the component along u, on which a direction does not depend
        along = along * (1.0 / self.spacing) - (across * u).sum(0)
        gradient = torch.addcmul(across, along, u)
        if self.descents == 1:
            return found, gradient, gradient.sum(2)
        sums = torch.addcmul(gradient, along_own, u, value=1.0 / self.spacing).sum(2)
        if own.shape[1] > 1:
            products = torch.bmm(own, moments[:, m : m + self.own_lower].transpose(1, 2)).flatten(1)
            sums = sums + torch.matmul(products, self.lower_terms).t()
        return found, gradient, sums

    def moments(
        self, angular: torch.Tensor, f: torch.Tensor, ends: list[int], species_index: torch.Tensor
    ) -> torch.Tensor:
        """Σ_s f_n Y_m by neighbour species, shape (N, m, S·(n + n_c)); sums less their means, if contracted.

        After those of the M components there are those of which the gradients of an own part are made. Sums are added
        up in double precision, which the large coefficients of coupled ones need.
        """
        blocks: list[torch.Tensor] = []
        for b in range(self.n_species if not self.only_sums else 0):
            here = slice(ends[b], ends[b + 1])
            if self.single:  # twice as fast in this order, of harmonics in multiples of four
                by_function = torch.bmm(f[:, here].transpose(1, 2), angular[:, :, here].transpose(1, 2))
                blocks.append(by_function.transpose(1, 2))
            else:
                blocks.append(torch.bmm(angular[:, :, here], f[:, here]))
        if self.ranks[0] > 0:
            return torch.cat(blocks, dim=2)
        sums: list[torch.Tensor] = []
        for b in range(self.n_species):
            sums.append(f[:, ends[b] : ends[b + 1]].sum(1, dtype=torch.float64))
        differences = (torch.cat(sums, dim=1) - self.mean_sums.index_select(0, species_index)).to(f.dtype)
        if self.only_sums:
            return differences.unsqueeze(1)
        moments = torch.cat(blocks, dim=2)
        moments[:, 0] = differences
        return moments

    def over_functions(
        self,
        adjoint: torch.Tensor,
        f: torch.Tensor,
        df: torch.Tensor,
        angular: torch.Tensor,
        inverse: torch.Tensor,
        ends: list[int],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Σ_nm G_nm f'_n Y_m in every slot, of the losses and of their own part (N, J), and Σ_n G_nm f_n (N, M, J).

        From those of the own part the component of ∂Y along u, which is l Y, is taken off. Where only sums of functions
        enter, the last is not wanted.
        """
        alongs: list[torch.Tensor] = []
        own: list[torch.Tensor] = []
        weights: list[torch.Tensor] = []
        m = self.bounds[4]
        for b in range(self.n_species):
            here = slice(ends[b], ends[b + 1])
            g, harmonics = adjoint[:, :, b * self.n : (b + 1) * self.n], angular[:, :, here]
            slope = product_over_functions(g, df[:, here])
            weight = slope if self.only_sums else product_over_functions(g, f[:, here])
            for rank in self.own_ranks:
                of_rank = slice(m + self.bounds[rank], m + self.bounds[rank + 1])
                over_r = inverse[:, here].unsqueeze(1)
                slope[:, of_rank].addcmul_(weight[:, of_rank], over_r, value=-rank * self.spacing)
            alongs.append((slope[:, :m] * harmonics).sum(1))
            if self.descents == 2:
                own.append((slope[:, m:] * harmonics[:, : slope.shape[1] - m]).sum(1))
            weights.append(weight[:, :m])
        along = torch.cat(alongs, dim=1)
        along_own = torch.cat(own, dim=1) if self.descents == 2 else along
        return along, along_own, torch.cat(weights, dim=2)

    def add_harmonic_gradients(self, rank: int, w: torch.Tensor, u: torch.Tensor, out: torch.Tensor) -> None:
        """Adds Σ_m w_m ∂Y_m at unit vectors u (3, N, J) to out (3, N, J), from w (2l + 1, N, J)."""
        if rank == 1:
            out.add_(w)
        elif rank > 1:
            lower = (u if rank == 2 else self.second_harmonics(u, u[0])).unbind(0)
            weights, rows = w.unbind(0), out.unbind(0)
            for m, x, k, coefficient in self.gradient_terms[rank]:
                rows[x].addcmul_(weights[m], lower[k], value=coefficient)

    def radial(
        self, rows: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """f and f' (N, J, n), pair potentials V and V' (N, J, D): derivatives by the fraction x of an interval."""
        if self.single:
            found, n, m = sums_of_powers(self.table, rows, x), self.n, 2 * self.n + self.descents
            return found[..., :n], found[..., n : 2 * n], found[..., 2 * n : m], found[..., m:]
        f, df = cubics(self.table, rows, x)
        value, slope = cubics(self.pair_table, rows, x)
        return f, df, value, slope

    def polynomials(self, ends: list[int], moments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Evaluate H(M) of every agent without the pair part, and G = ∂H/∂M, as `losses.evaluator.polynomials` does.

        The moments have the shape (N, M, S·(n + n_c)), with the M components of all ranks one after the other, and
        adjoints (N, M′, S·(n + n_c)). From contracted sums their means are subtracted.
        """
        values: list[torch.Tensor] = []
        adjoints: list[torch.Tensor] = []
        for a, channels in enumerate(self.channels):
            value, g = channels(moments[ends[a] : ends[a + 1]])
            values.append(value)
            adjoints.append(g)
        for a in range(self.n_species if len(self.channels) == 0 else 0):
            m = moments[ends[a] : ends[a + 1]]
            products = torch.bmm(m.transpose(0, 1), self.weights[a])
            found = products.unflatten(2, [self.descents, m.shape[2]])
            value = 0.5 * (m * found[:, :, 0].transpose(0, 1)).sum(2).sum(1, dtype=torch.float64)
            if len(self.coupled) > 0:
                coarse = m.unflatten(2, [self.n_species, self.n])[..., self.n_fine :].flatten(2)
                coupling, g_coarse = self.coupling(coarse, a)
                value = value + coupling
                products.baddbmm_(g_coarse.transpose(0, 1), self.among_functions.expand(m.shape[1], -1, -1))
            values.append(value)
            adjoints.append(found.permute(1, 2, 0, 3).flatten(1, 2))
        return torch.cat(values), torch.cat(adjoints)[:, : self.bounds[4] + self.own_components]

    def coupling(self, coarse: torch.Tensor, species: int) -> tuple[torch.Tensor, torch.Tensor]:
        """½ δᵀCδ + g·δ of agents of one species, and adjoints (N, M, D·S·n_c), from coarse moments (N, M, S·n_c)."""
        n_atoms, width, sets = coarse.shape[0], coarse.shape[2], self.descents
        phi = [coarse[:, 0]]
        for rank in self.coupled:
            m = coarse[:, self.bounds[rank] : self.bounds[rank + 1]]
            phi.append(torch.bmm(m.transpose(1, 2), m).flatten(1).index_select(1, self.triangle))
        invariants = torch.cat(phi, dim=1) - self.mean_invariants[species]
        at_means = self.slopes[species]
        found = torch.addmm(at_means, invariants, self.couplings[species])
        value = 0.5 * (invariants * (found + at_means)[:, : invariants.shape[1]]).sum(1, dtype=torch.float64)
        adjoint = torch.zeros((n_atoms, coarse.shape[1], sets * width), dtype=coarse.dtype, device=coarse.device)
        adjoint[:, 0] = found.unflatten(1, [sets, invariants.shape[1]])[..., :width].flatten(1)
        begin = width
        for rank in self.coupled:
            here = slice(self.bounds[rank], self.bounds[rank + 1])
            matrix = found.index_select(1, begin + self.in_triangle) * self.twice
            adjoint[:, here] += torch.bmm(coarse[:, here], matrix.unflatten(1, [width, sets * width]))
            begin += self.triangle.shape[0]
        return value, adjoint


def product_over_functions(g: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
    """Σ_n G_nm f_n in every slot, shape (N, M, J), from (N, M, n) and (N, J, n)."""
    if g.shape[1] == 1:  # products of matrices of one row are slower than sums
        return (g * f).sum(2).unsqueeze(1)
    return torch.bmm(g, f.transpose(1, 2))


def traced_harmonics(ranks: Sequence[int], divided: Sequence[int] = (), multiple: int = 1) -> Any:
    """A function for TorchScript of unit vectors (3, N, J) and inverse distances (N, J), shape (M, N, J).

    It gives the harmonics of some ranks, after them those of others divided by the distances, and zeros up to a
    multiple of a number.
    """

    def harmonics(u: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
        x, y, z = u.unbind(0)
        components = [component for rank in ranks for component in solid_harmonics(rank, x, y, z)]
        components += [component * inverse for rank in divided for component in solid_harmonics(rank, x, y, z)]
        components += [0.0] * (-len(components) % multiple)
        components = [c if isinstance(c, torch.Tensor) else torch.full_like(x, c) for c in components]
        return torch.stack(components) if components else u[:0]

    example = torch.zeros((1, 1), dtype=torch.float64)
    return torch.jit.trace(harmonics, (torch.zeros((3, 1, 1), dtype=torch.float64), example))


def gradient_terms(rank: int) -> list[tuple[int, int, int, float]]:
    """(m, x, k, C_mxk) of all C_mxk that are not zero, for ranks above 1, the gradients of which are no constants."""
    matrix = gradient_matrix(rank) if rank > 1 else np.empty((0, 3, 0))
    return [(int(m), int(x), int(k), float(matrix[m, x, k])) for m, x, k in np.argwhere(matrix)]


def lower_terms(ranks: Sequence[int]) -> FloatArray:
    """C_mkx of all ranks, shape (m·k, 3), from components m of ranks to components k of the next lower ones."""
    widths, lower = [2 * rank + 1 for rank in ranks], [2 * rank - 1 for rank in ranks if rank]
    terms, m, k = np.zeros((sum(widths), sum(lower), 3)), 0, 0
    for rank, width in zip(ranks, widths, strict=True):
        if rank:
            terms[m : m + width, k : k + width - 2] = gradient_matrix(rank).swapaxes(1, 2)
            k += width - 2
        m += width
    return terms.reshape(-1, 3)


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
