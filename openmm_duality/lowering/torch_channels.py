"""The invariants of channels of one agent species as a TorchScript module. Importing this module imports torch.

Tensors have their components before their index, shape (N, 2l + 1, number of the rank): the channels of a rank come
first, then its products, group by group of equal ranks (l1, l2, L).

Index suffixes: i agent, m component of a rank, p and q channels of a product.
"""

import numpy as np
import torch

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.invariants.channels import Channels
from openmm_duality.invariants.couplings import coupling


class ChannelPolynomial(torch.nn.Module):  # type: ignore[misc]
    """Loss Σ_f c_f B_f of agents of one species, and its adjoint.

    Parameters
    ----------
    channels : Channels
    weights : array, shape (F,)
        Coefficients c of the invariants.
    dtype : torch.dtype
    """

    # TorchScript reads these, so this module must not postpone its annotations
    ranks: list[int]
    bounds: list[int]
    rank_triples: list[tuple[int, int, int]]
    begins: list[int]
    tensor_begins: list[int]

    def __init__(self, channels: Channels, weights: FloatArray, dtype: torch.dtype) -> None:
        super().__init__()
        self.alone: float = float(channels.alone @ weights)  # of an agent without neighbours, whose loss is zero
        matrices = channels.matrices(weights)
        self.ranks = list(channels.mixing)
        empty = np.zeros((0, 0))
        mixing = [channels.mixing.get(rank, empty) for rank in range(4)]
        self.bounds = [sum(2 * rank + 1 for rank in self.ranks if rank < limit) for limit in range(5)]
        groups = channels.product_groups
        self.rank_triples = [triple for triple, _ in groups]
        self.begins = np.cumsum([0, *(len(which) for _, which in groups)]).tolist()
        order = [list(range(len(mine))) for mine in mixing]  # places of the tensors of a rank, in the order here
        self.tensor_begins = []
        for (_, _, rank), which in groups:
            self.tensor_begins.append(len(order[rank]))
            order[rank] += channels.places[channels.n_channels + which].tolist()
        products = np.concatenate([channels.products[which] for _, which in groups] or [channels.products])

        def buffer(name: str, values: FloatArray) -> None:
            self.register_buffer(name, torch.tensor(np.ascontiguousarray(values), dtype=dtype))

        factors = channels.places[products]
        for column, name in enumerate(("one", "other")):
            self.register_buffer(name, torch.tensor(factors[:, column]))
        # which channels of a rank the columns of the adjoint belong to: its own, then the factors of every group
        belongs = [[np.arange(len(mine))] for mine in mixing]
        for group, (one, other, _) in enumerate(self.rank_triples):
            for column, of_factor in enumerate((one, other)):
                belongs[of_factor].append(factors[self.begins[group] : self.begins[group + 1], column])
        buffer("means", channels.means)
        # a buffer for each rank, because TorchScript has no lists of buffers
        for rank in range(4):
            buffer(f"sums_{rank}", np.eye(len(mixing[rank]))[np.concatenate(belongs[rank])])
            buffer(f"mixing_{rank}", mixing[rank])
            matrix = matrices.get(rank, empty)
            buffer(f"matrix_{rank}", matrix[np.ix_(order[rank], order[rank])] if len(matrix) else empty)
        couplings = [coupling(*triple).reshape(-1) for triple in self.rank_triples]
        self.coupling_begins: list[int] = np.cumsum([0, *map(len, couplings)]).tolist()
        buffer("couplings", np.concatenate([*couplings, np.zeros(0)]))

    def forward(self, moments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses (N,) and adjoints, shape (N, M, S·n), from moments of that shape, the components of all ranks."""
        mixing = [self.mixing_0, self.mixing_1, self.mixing_2, self.mixing_3]
        matrices = [self.matrix_0, self.matrix_1, self.matrix_2, self.matrix_3]
        channels = [moments.new_zeros((moments.shape[0], 2 * rank + 1, 0)) for rank in range(4)]
        for rank in self.ranks:
            here = moments[:, self.bounds[rank] : self.bounds[rank + 1]]
            channels[rank] = torch.matmul(here, mixing[rank].t())
        channels[0] = channels[0] - self.means
        parts = [[of_rank] for of_rank in channels]
        factors: list[tuple[torch.Tensor, torch.Tensor]] = []
        for group, (one, other, rank) in enumerate(self.rank_triples):
            here = slice(self.begins[group], self.begins[group + 1])
            x, y = channels[one].index_select(2, self.one[here]), channels[other].index_select(2, self.other[here])
            factors.append((x, y))
            outer = (x.unsqueeze(2) * y.unsqueeze(1)).flatten(1, 2)
            parts[rank].append(torch.matmul(self.coupling(group).t(), outer))
        slopes: list[torch.Tensor] = []
        value = torch.full([moments.shape[0]], -self.alone, dtype=torch.float64, device=moments.device)
        for rank in range(4):
            if matrices[rank].shape[0] > 0:
                tensors = torch.cat(parts[rank], dim=2)
                slope = torch.matmul(tensors, matrices[rank])
                value = value + 0.5 * (tensors * slope).sum(2).sum(1, dtype=torch.float64)
                slopes.append(slope)
            else:
                slopes.append(torch.zeros_like(channels[rank]))
        # columns are added up by a product of matrices: in a fixed order, so that runs repeat on a GPU, and at once
        parts = [[slope[:, :, : channels[rank].shape[2]]] for rank, slope in enumerate(slopes)]
        for group, (one, other, rank) in enumerate(self.rank_triples):
            x, y = factors[group]
            begin = self.tensor_begins[group]
            g = slopes[rank][:, :, begin : begin + x.shape[2]]
            pairs = torch.matmul(self.coupling(group), g).reshape(x.shape[0], x.shape[1], y.shape[1], x.shape[2])
            parts[one].append((pairs * y.unsqueeze(1)).sum(2))
            parts[other].append((pairs * x.unsqueeze(2)).sum(1))
        sums = [self.sums_0, self.sums_1, self.sums_2, self.sums_3]
        adjoints: list[torch.Tensor] = []
        for rank in self.ranks:
            adjoints.append(torch.matmul(torch.matmul(torch.cat(parts[rank], dim=2), sums[rank]), mixing[rank]))
        return value, torch.cat(adjoints, dim=1)

    def coupling(self, group: int) -> torch.Tensor:
        """Coupling of a group, shape ((2 l1 + 1)(2 l2 + 1), 2 L + 1)."""
        _, _, rank = self.rank_triples[group]
        here = slice(self.coupling_begins[group], self.coupling_begins[group + 1])
        return self.couplings[here].reshape(-1, 2 * rank + 1)
