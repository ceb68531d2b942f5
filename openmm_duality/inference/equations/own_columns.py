"""Columns of the own part of losses under `mutual`: fewer than those of the shared part, so that a call costs less.

At the same pump a smaller own part has nearly the same error (docs/duality.md). That it is near saves most where
neighbours are many, and that its ranks and orders are low where the polynomial is large.

Index suffixes: a = (B, n) moment, q coupled invariant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openmm_duality.geometry.arrays import BoolArray
from openmm_duality.invariants.channels import Channels
from openmm_duality.invariants.contractions import factors_of_invariants
from openmm_duality.losses.forms import Form

SMALL, WHOLE = "small", "whole"
SHARE = 0.67  # of the radial functions of contractions
HIGHEST_RANK, HIGHEST_ORDER = 2, 3  # of invariants of channels


@dataclass(frozen=True, eq=False)
class OwnColumns:
    """Which columns of a form an own part has.

    Parameters
    ----------
    contracted : array of bool
        Of the upper triangle of W^l_A.
    coupled : array of bool
        Of the upper triangle of C_A.
    invariants : tuple of array of bool, shape (F_A,)
        Of the invariants of channels, by species.
    """

    contracted: BoolArray
    coupled: BoolArray
    invariants: tuple[BoolArray, ...]

    @classmethod
    def of(
        cls, own_part: str, form: Form, n_species: int, n: int, n_coarse: int, channels: tuple[Channels, ...]
    ) -> OwnColumns | None:
        """Those that a setting names; None for all.

        A small own part has those of the first functions, which of b-splines are the nearest, and of channels of low
        ranks and orders.

        Parameters
        ----------
        own_part : str
            `SMALL` or `WHOLE`.
        form : Form
        n_species, n, n_coarse : int
            Numbers of species, and of functions of the contracted moments and the coupled invariants.
        channels : tuple of Channels
        """
        if own_part == WHOLE:
            return None
        near, near_coarse = (np.tile(np.arange(k) < max(1, int(SHARE * k)), n_species) for k in (n, n_coarse))
        rows, columns = np.triu_indices(len(near))
        of_coarse = np.zeros(0, dtype=bool)
        if form.coupled:
            of_coarse = near_coarse[factors_of_invariants(len(near_coarse), form.coupled)].min(axis=1)
        one, other = np.triu_indices(len(of_coarse))
        low = [(mine.highest_ranks <= HIGHEST_RANK) & (mine.orders <= HIGHEST_ORDER) for mine in channels]
        return cls(near[rows] & near[columns], of_coarse[one] & of_coarse[other], tuple(low))
