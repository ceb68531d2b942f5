"""The invariants of channels of one agent species as a TorchScript module. Importing this module imports torch.

Tensors have their components before their index, shape (N, 2l + 1, number of the rank): the channels of a rank come
first, then its products, group by group of equal ranks (l1, l2, L). So do the slopes of the losses by them, and then
those of what is descended beside the losses, by the channels and by the products that occur in it.

Index suffixes: i agent, m component of a rank, p and q channels of a product.
"""

from collections.abc import Sequence

import numpy as np
import torch

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.invariants.channels import Channels
from openmm_duality.invariants.couplings import coupling


class ChannelPolynomial(torch.nn.Module):  # type: ignore[misc]
    """Losses Σ_f c_f B_f of agents of one species, and their adjoints.

    Parameters
    ----------
    channels : Channels
    weights : sequence of arrays, shape (F,)
        Coefficients c of the invariants: of the losses, and of what is descended beside them, D in all.
    dtype : torch.dtype
    """

    # TorchScript reads these, so this module must not postpone its annotations
    ranks: list[int]
    bounds: list[int]
    rank_triples: list[tuple[int, int, int]]
    begins: list[int]
    slope_begins: list[list[int]]
    counts: list[list[int]]

    def __init__(self, channels: Channels, weights: Sequence[FloatArray], dtype: torch.dtype) -> None:
        super().__init__()
        self.alone: float = float(channels.alone @ weights[0])  # of an agent without neighbours, whose loss is zero
        self.sets: int = len(weights)
        self.ranks = list(channels.mixing)
        empty = np.zeros((0, 0))
        mixing = [channels.mixing.get(rank, empty) for rank in range(4)]
        self.bounds = [sum(2 * rank + 1 for rank in self.ranks if rank < limit) for limit in range(5)]
        groups = channels.product_groups
        self.rank_triples = [triple for triple, _ in groups]
        # of every group all products, then for each further set those that occur in it
        occur = [channels.products_in(c != 0.0) for c in weights[1:]]
        by_group = [[which, *(which[mine[which]] for mine in occur)] for _, which in groups]
        self.counts = [[len(mine) for mine in of_group] for of_group in by_group]
        self.begins = np.cumsum([0, *(sum(counts) for counts in self.counts)]).tolist()
        every = np.concatenate([np.zeros(0, dtype=int), *(mine for of_group in by_group for mine in of_group)])
        factors = channels.places[channels.products[every, :2]]

        def buffer(name: str, values: FloatArray) -> None:
            self.register_buffer(name, torch.tensor(np.ascontiguousarray(values), dtype=dtype))

        for column, name in enumerate(("one", "other")):
            self.register_buffer(name, torch.tensor(factors[:, column]))
        # places of the tensors of a rank, by set, in the order here
        order = [[list(range(len(mine))) for _ in weights] for mine in mixing]
        # which channels of a rank, by set, the columns of the adjoint belong to: its own, then the factors of groups
        belongs = [[np.arange(len(mine)) + k * len(mine) for k in range(self.sets)] for mine in mixing]
        begins = []
        for (one, other, rank), of_group in zip(self.rank_triples, by_group, strict=True):
            begins.append([len(mine) for mine in order[rank]])
            for k, which in enumerate(of_group):
                order[rank][k] += channels.places[channels.n_channels + which].tolist()
            for column, of_factor in enumerate((one, other)):
                mine = [channels.places[channels.products[which, column]] for which in of_group]
                belongs[of_factor] += [which + k * len(mixing[of_factor]) for k, which in enumerate(mine)]
        before = [np.cumsum([0, *(len(mine) for mine in of_rank)]) for of_rank in order]
        self.slope_begins = [
            [int(before[rank][k]) + begin for k, begin in enumerate(of_group)]
            for (_, _, rank), of_group in zip(self.rank_triples, begins, strict=True)
        ]
        self.firsts: list[list[int]] = [of_rank.tolist() for of_rank in before]
        buffer("means", channels.means)
        matrices = [channels.matrices(c) for c in weights]
        # a buffer for each rank, because TorchScript has no lists of buffers
        for rank in range(4):
            buffer(f"sums_{rank}", np.eye(self.sets * len(mixing[rank]))[np.concatenate(belongs[rank])])
            buffer(f"mixing_{rank}", mixing[rank])
            beside = [
                mine[rank][np.ix_(order[rank][0], of_set)]
                for mine, of_set in zip(matrices, order[rank], strict=True)
                if rank in mine
            ]
            buffer(f"matrix_{rank}", np.concatenate(beside, axis=1) if beside else empty)
        couplings = [coupling(*triple).reshape(-1) for triple in self.rank_triples]
        self.coupling_begins: list[int] = np.cumsum([0, *map(len, couplings)]).tolist()
        buffer("couplings", np.concatenate([*couplings, np.zeros(0)]))

    def forward(self, moments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses (N,), and adjoints of every set, shape (N, D·M, S·n), from moments (N, M, S·n).

        M is the number of components of all ranks.
        """
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
            count = self.counts[group][0]
            outer = (x[:, :, :count].unsqueeze(2) * y[:, :, :count].unsqueeze(1)).flatten(1, 2)
            parts[rank].append(torch.matmul(self.coupling(group).t(), outer))
        slopes: list[torch.Tensor] = []
        value = torch.full([moments.shape[0]], -self.alone, dtype=torch.float64, device=moments.device)
        for rank in range(4):
            if matrices[rank].shape[0] > 0:
                tensors = torch.cat(parts[rank], dim=2)
                slope = torch.matmul(tensors, matrices[rank])
                of_losses = slope[:, :, : tensors.shape[2]]
                value = value + 0.5 * (tensors * of_losses).sum(2).sum(1, dtype=torch.float64)
                slopes.append(slope)
            else:
                slopes.append(channels[rank].repeat(1, 1, self.sets) * 0.0)
        # columns are added up by a product of matrices: in a fixed order, so that runs repeat on a GPU, and at once
        parts = [
            [slope[:, :, first : first + channels[rank].shape[2]] for first in self.firsts[rank][: self.sets]]
            for rank, slope in enumerate(slopes)
        ]
        for group, (one, other, rank) in enumerate(self.rank_triples):
            x, y = factors[group]
            of_sets: list[torch.Tensor] = []
            for k, begin in enumerate(self.slope_begins[group]):
                of_sets.append(slopes[rank][:, :, begin : begin + self.counts[group][k]])
            g = of_sets[0] if self.sets == 1 else torch.cat(of_sets, dim=2)
            pairs = torch.matmul(self.coupling(group), g).reshape(x.shape[0], x.shape[1], y.shape[1], x.shape[2])
            parts[one].append((pairs * y.unsqueeze(1)).sum(2))
            parts[other].append((pairs * x.unsqueeze(2)).sum(1))
        sums = [self.sums_0, self.sums_1, self.sums_2, self.sums_3]
        adjoints: list[torch.Tensor] = []
        for rank in self.ranks:
            by_channels = torch.matmul(torch.cat(parts[rank], dim=2), sums[rank])
            by_set = by_channels.unflatten(2, [self.sets, mixing[rank].shape[0]])
            adjoints.append(torch.matmul(by_set, mixing[rank]))
        return value, torch.cat(adjoints, dim=1).transpose(1, 2).flatten(1, 2)

    def coupling(self, group: int) -> torch.Tensor:
        """Coupling of a group, shape ((2 l1 + 1)(2 l2 + 1), 2 L + 1)."""
        _, _, rank = self.rank_triples[group]
        here = slice(self.coupling_begins[group], self.coupling_begins[group + 1])
        return self.couplings[here].reshape(-1, 2 * rank + 1)
