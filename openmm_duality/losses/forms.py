"""Functional forms of an agent loss: the ranks of moments to contract and of invariants to couple.

Every form has the pair part u·ρ and adds ½ Σ_l W^l·φ^l over its ranks l, with the contractions φ^l_ab = M^l_a · M^l_b;
since M^0 = ρ, the quadratic loss of the paper has rank 0 alone. A coupled form adds ½ φᵀCφ over the sums and
contractions φ of a few coarse radial functions. The form of channels has, instead of all contractions, invariants of
orders 2 to 4 of mixed moments (`invariants.channels`), whose number does not depend on the number of species.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openmm_duality.errors import DualityError
from openmm_duality.invariants.harmonics import HIGHEST_RANK

# by the name of a gradient, the parts of its losses: a shared part is descended by all agents, so that a force has the
# reactions of the neighbours' losses in it; an own part by its agent alone
GRADIENTS = {"agent": ("own",), "collective": ("shared",), "mutual": ("shared", "own")}
_CHOOSE_RANKS = ("moment", "coupled", "channels")


@dataclass(frozen=True)
class Form:
    """Family of losses, linear in their coefficients: u·ρ + ½ Σ_l W^l·φ^l + ½ φᵀCφ + c·B.

    Parameters
    ----------
    name : str
    ranks : tuple of int
        Ranks l whose moments are contracted.
    coupled : tuple of int
        Ranks whose contractions of coarse functions are coupled, in addition to the sums; empty for no coupling.
    channels : tuple of int
        Ranks whose moments are mixed to channels, from which the invariants B are made; empty for none.
    """

    name: str
    ranks: tuple[int, ...]
    coupled: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()

    @property
    def all_ranks(self) -> tuple[int, ...]:
        """All ranks of moments in the form."""
        return tuple(sorted({*self.ranks, *self.coupled, *((0,) if self.coupled else ()), *self.channels}))

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
        Form("channels", (), channels=(0, 1, 2, 3)),
    )
}


def form_of(name: str, ranks: Sequence[int] | None = None, coupled: Sequence[int] | None = None) -> Form:
    """Look up a form by name, optionally with other ranks.

    Parameters
    ----------
    name : str
        ``pair``, ``quadratic``, ``moment``, ``coupled`` or ``channels``.
    ranks : sequence of int, optional
        Contracted ranks of `moment` and `coupled`, out of 0…3 (0, 1 and 2 by default); mixed ranks of `channels`, which
        include 0 (0 to 3 by default).
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
    default = form.channels or form.ranks
    given = {"ranks": default if ranks is None else tuple(ranks)}
    given["coupled_ranks"] = form.coupled if coupled is None else tuple(coupled)
    if given["ranks"] != default and name not in _CHOOSE_RANKS:
        raise DualityError(f"ranks can be chosen for {', '.join(_CHOOSE_RANKS)}; {name} has {form.ranks or 'none'}")
    if given["coupled_ranks"] and not form.coupled:
        raise DualityError(f"coupled_ranks belong to the form 'coupled', but the form is {name!r}")
    for key, chosen in given.items():
        if list(chosen) != sorted(set(chosen)) or not set(chosen) <= set(range(HIGHEST_RANK + 1)):
            raise DualityError(f"{key} must be increasing whole numbers from 0 to {HIGHEST_RANK}, got {list(chosen)}")
    if (default and not given["ranks"]) or (form.coupled and not given["coupled_ranks"]):
        raise DualityError(f"form {name!r} needs at least one rank of each kind; give ranks or choose another form")
    if form.channels:
        if 0 not in given["ranks"]:
            raise DualityError(f"the channels need rank 0 among their ranks, got {list(given['ranks'])}")
        return Form(name, (), channels=given["ranks"])
    return Form(name, given["ranks"], given["coupled_ranks"])


def check_gradient(name: str) -> str:
    """Check the name of a gradient of losses and return it.

    Raises
    ------
    DualityError
        If it is not known.
    """
    if name not in GRADIENTS:
        raise DualityError(
            f"gradient {name!r} is not known; it is 'agent' (own loss only), 'collective' (the sum of all losses) or "
            "'mutual' (a shared and an own part)"
        )
    return name


def has_potential(gradient: str) -> bool:
    """Whether forces of this gradient derive from a potential energy, the sum of all losses."""
    return "own" not in GRADIENTS[gradient]


def require_potential_energy(gradient: str, what: str, remedy: str = "") -> None:
    """Refuse something that needs a potential energy for losses of a gradient that have none.

    Parameters
    ----------
    gradient : str
    what : str
        What needs it, the subject of the message.
    remedy : str
        What can be done instead of an inference with the gradient ``collective``.

    Raises
    ------
    DualityError
        If forces of this gradient do not derive from a potential energy.
    """
    if not has_potential(gradient):
        raise DualityError(
            f"{what} needs a potential energy, and losses with the {gradient} gradient have none: each agent "
            "descends a loss of its own, and their sum is only information. Infer with gradient='collective'" + remedy
        )
