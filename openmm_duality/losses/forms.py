"""The forms of an agent loss, as data: which moments are contracted, and which invariants are coupled.

Every form has the pair part u·ρ. A form then adds ½ Σ_l w^l·φ^l over its ranks l, with the contractions
φ^l_ab = M^l_a · M^l_b; since M^0 = ρ, the quadratic loss of the paper is rank 0 alone. A coupled form adds ½ φᵀWφ over
the sums and contractions φ of a few coarse radial functions.
"""

from __future__ import annotations

from dataclasses import dataclass

from openmm_duality.errors import DualityError

GRADIENTS = ("agent", "collective")


@dataclass(frozen=True)
class Form:
    """A family of losses that are linear in their coefficients: u·ρ + ½ Σ_l w^l·φ^l + ½ φᵀWφ.

    Parameters
    ----------
    name : str
    ranks : tuple of int
        The ranks l whose moments are contracted.
    coupled : tuple of int
        The ranks whose contractions of coarse functions are coupled, beside their sums; empty for no coupling.
    """

    name: str
    ranks: tuple[int, ...]
    coupled: tuple[int, ...] = ()

    @property
    def all_ranks(self) -> tuple[int, ...]:
        """Every rank of moments that the form needs."""
        return tuple(sorted({*self.ranks, *self.coupled, *((0,) if self.coupled else ())}))


FORMS = {
    form.name: form
    for form in (
        Form("pair", ()),
        Form("quadratic", (0,)),
        Form("moment", (0, 1, 2)),
        Form("coupled", (0, 1, 2), coupled=(1, 2)),
    )
}


def form_named(name: str) -> Form:
    """The form of that name.

    Raises
    ------
    DualityError
        If there is none; the message names those there are.
    """
    if name not in FORMS:
        raise DualityError(f"form {name!r} is not known; the forms are {', '.join(FORMS)}")
    return FORMS[name]


def check_gradient(name: str) -> str:
    """The name of a gradient, checked.

    Raises
    ------
    DualityError
        If it is neither ``agent`` nor ``collective``.
    """
    if name not in GRADIENTS:
        raise DualityError(f"gradient {name!r} is not known; it is 'agent' (own loss only) or 'collective' (the sum)")
    return name
