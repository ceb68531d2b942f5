"""What the own part of losses has of their form, so that no more of it is computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openmm_duality.geometry.arrays import BoolArray
from openmm_duality.invariants.contractions import factors_of_invariants
from openmm_duality.losses.model import AgentLosses


@dataclass(frozen=True)
class OwnExtent:
    """Functions, invariants or ranks of channels that an own part has coefficients of.

    Parameters
    ----------
    fine, coarse : int
        Numbers of fine and coarse functions, the first ones, that it contracts and couples.
    coupled : array of bool, shape (Q,)
        Invariants that it couples.
    mixed : tuple of int
        Ranks of channels up to the highest of its own.
    reach : float
        Distance in nm from which on all functions that it contracts or couples are zero.
    """

    fine: int
    coarse: int
    coupled: BoolArray
    mixed: tuple[int, ...]
    reach: float

    @classmethod
    def of(cls, losses: AgentLosses) -> OwnExtent:
        """The extent of the own part of losses that have one."""
        own, s, n, coarse = losses.own, len(losses.species), losses.basis.size, losses.coarse.size
        assert own is not None
        used = np.zeros(s * n, dtype=bool)
        for w in own.weights.values():
            used |= w.any(axis=(0, 2))
        coupled, used_coarse = own.couplings.any(axis=(0, 1)), np.zeros(s * coarse, dtype=bool)
        if losses.form.coupled:
            used_coarse[factors_of_invariants(s * coarse, losses.form.coupled)[coupled]] = True
        of_functions = used.reshape(s, n).any(axis=0), used_coarse.reshape(s, coarse).any(axis=0)
        n_fine, n_coarse = (int(np.flatnonzero(one).max(initial=-1)) + 1 for one in of_functions)
        of_channels = zip(losses.channels, own.channel_weights, strict=True)
        highest = max((int(mine.highest_ranks[c != 0.0].max(initial=-1)) for mine, c in of_channels), default=-1)
        mixed = tuple(rank for rank in losses.form.channels if rank <= highest)
        reach = losses.moment_basis.reaches[np.concatenate(of_functions)].max(initial=0.0)
        return cls(n_fine, n_coarse, np.asarray(coupled), mixed, float(reach))
