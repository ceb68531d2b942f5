"""Functional forms of an agent loss: the ranks of moments to contract and of invariants to couple.

Every form has the pair part u·ρ and adds ½ Σ_l W^l·φ^l over its ranks l, with the contractions φ^l_ab = M^l_a · M^l_b;
since M^0 = ρ, the quadratic loss of the paper has rank 0 alone. A coupled form adds ½ φᵀCφ over the sums and
contractions φ of a few coarse radial functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openmm_duality.errors import DualityError
from openmm_duality.invariants.harmonics import HIGHEST_RANK

GRADIENTS = ("agent", "collective")
_CHOOSE_RANKS = ("moment", "coupled")


@dataclass(frozen=True)
class Form:
    """Family of losses, linear in their coefficients: u·ρ + ½ Σ_l W^l·φ^l + ½ φᵀCφ.

    Parameters
    ----------
    name : str
    ranks : tuple of int
        Ranks l whose moments are contracted.
    coupled : tuple of int
        Ranks whose contractions of coarse functions are coupled, in addition to the sums; empty for no coupling.
    """

    name: str
    ranks: tuple[int, ...]
    coupled: tuple[int, ...] = ()

    @property
    def all_ranks(self) -> tuple[int, ...]:
        """All ranks of moments in the form."""
        return tuple(sorted({*self.ranks, *self.coupled, *((0,) if self.coupled else ())}))

    @property
    def descriptor_ranks(self) -> tuple[int, ...]:
        """Ranks of moments that describe local environments: those of the form, or 0 if it has none."""
        return self.all_ranks or (0,)


FORMS = {
    form.name: form
    for form in (
        Form("pair", ()),
        Form("quadratic", (0,)),
        Form("moment", (0, 1, 2)),
        Form("coupled", (0, 1, 2), coupled=(1, 2)),
    )
}


def form_of(name: str, ranks: Sequence[int] | None = None, coupled: Sequence[int] | None = None) -> Form:
    """Look up a form by name, optionally with other ranks.

    Parameters
    ----------
    name : str
        ``pair``, ``quadratic``, ``moment`` or ``coupled``.
    ranks : sequence of int, optional
        Contracted ranks of `moment` and `coupled`, out of 0…3; 0, 1 and 2 by default.
    coupled : sequence of int, optional
        Coupled ranks of `coupled`, out of 0…3; 1 and 2 by default.

    Raises
    ------
    DualityError
        If the form is unknown, or cannot have these ranks.
    """
    if name not in FORMS:
        raise DualityError(f"form {name!r} is not known; the forms are {', '.join(FORMS)}")
    form = FORMS[name]
    given = {"ranks": form.ranks if ranks is None else tuple(ranks)}
    given["coupled_ranks"] = form.coupled if coupled is None else tuple(coupled)
    if given["ranks"] != form.ranks and name not in _CHOOSE_RANKS:
        raise DualityError(f"ranks can be chosen for {' and '.join(_CHOOSE_RANKS)}; {name} has {form.ranks or 'none'}")
    if given["coupled_ranks"] and not form.coupled:
        raise DualityError(f"coupled_ranks belong to the form 'coupled', but the form is {name!r}")
    for key, chosen in given.items():
        if list(chosen) != sorted(set(chosen)) or not set(chosen) <= set(range(HIGHEST_RANK + 1)):
            raise DualityError(f"{key} must be increasing whole numbers from 0 to {HIGHEST_RANK}, got {list(chosen)}")
    if (form.ranks and not given["ranks"]) or (form.coupled and not given["coupled_ranks"]):
        raise DualityError(f"form {name!r} needs at least one rank of each kind; give ranks or choose another form")
    return Form(name, given["ranks"], given["coupled_ranks"])


def check_gradient(name: str) -> str:
    """Check the name of a gradient and return it.

    Raises
    ------
    DualityError
        If it is neither ``agent`` nor ``collective``.
    """
    if name not in GRADIENTS:
        raise DualityError(f"gradient {name!r} is not known; it is 'agent' (own loss only) or 'collective' (the sum)")
    return name
