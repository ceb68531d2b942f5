"""What the user can choose about an inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.inference.equations.bases import FAMILIES, SHARPNESS
from openmm_duality.losses.forms import Form, check_gradient, form_of
from openmm_duality.units import ELECTRONVOLT, bare


def number(value: Any, name: str) -> float:
    """A pure number; also one written out, for YAML reads 1e-7 as text."""
    return bare(value, unit.dimensionless, name)


def whole(value: Any, name: str) -> int:
    """A whole number, as it was given."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise DualityError(f"{name}: expected a whole number, got {value!r}")
    return int(value)


def word(value: Any, name: str) -> str:
    """A name, as it was given."""
    if not isinstance(value, str):
        raise DualityError(f"{name}: expected a name, got {value!r}")
    return value


def ranks(value: Any, name: str) -> tuple[int, ...]:
    """Whole numbers, as a tuple; one alone may stand without brackets."""
    return tuple(whole(rank, name) for rank in (value if isinstance(value, list | tuple) else [value]))


def knots(value: Any, name: str) -> dict[str, tuple[float, ...]]:
    """Lengths in nm by pair of species, each pair named in alphabetical order."""
    if not isinstance(value, Mapping) or not all(isinstance(row, list | tuple) for row in value.values()):
        raise DualityError(f"{name}: expected a list of lengths for each pair, as in {{H-O: [0.08, 0.1, …]}}")
    found = {
        "-".join(sorted(str(pair).split("-"))): tuple(bare(x, unit.nanometer, f"{name} {pair}") for x in row)
        for pair, row in value.items()
    }
    if len(found) < len(value):
        raise DualityError(f"{name}: a pair of species is named twice, in {', '.join(map(str, value))}")
    return found


DELTA_CHOICES = ("ridge", "curvature", "blocks", "large_force")  # that can be chosen beside a prior model


@dataclass(frozen=True)
class Settings:
    """The choices of an inference; bare numbers in MD units.

    Parameters
    ----------
    form : str
        ``pair``, ``quadratic`` (the paper's), ``moment`` or ``coupled``.
    gradient : str
        ``agent`` or ``collective``.
    ranks, coupled_ranks : tuple of int or None
        Ranks of the contracted and of the coupled moments, out of 0…3; None for those of the form (`form_of`).
    cutoff : float
        In nm.
    basis : str
        Radial functions of the many-body part: ``b-splines`` or ``inverse-powers``.
    pair_functions, functions, coarse_functions : int
        Radial functions per pair of species, of the pair part, of the contracted moments and of the coupled invariants.
    sharpness : float
        How far knots gather where pair distances do: the exponent of their density, 0 for even spacing.
    knots : mapping of str to tuple of float, or None
        Knots of the contracted moments (nm) by pair of species, as ``{"H-O": (0.08, …)}``: one more than functions, the
        last at the cutoff. Pairs that are not named have knots placed by the density.
    intervals : int
        Of the grid from 0 to the cutoff on which all radial functions are splines.
    ridge, curvature : float or None
        Strengths of the regularisers; None chooses them on contiguous blocks of time.
    blocks : int
        Number of those blocks.
    members : int
        Of the committee: refits to resampled blocks, by which the model knows how far to trust a force; 0 for none.
        With a committee twice as many blocks of equations are kept while inferring, of 8 P² bytes each.
    max_coefficients : int or None
        Largest number of coefficients: those that matter most are selected; None for all.
    keep_equations : bool
        Whether the model keeps its normal equations, so that new frames can update it.
    large_force : float
        F₀ in kJ/mol/nm: the squared errors of an agent are weighted by 1/(1 + |F|²/F₀²), so that large forces do not
        dominate the fit. The default is 3 eV/Å.
    energy_weight : float
        Zero leaves energies out of the fit. At one, an error of 1 meV per atom in the energy of a frame counts as much
        as an error of 100 meV/Å in each of its force components.

    Raises
    ------
    DualityError
        If a value is not among those known or out of range.
    """

    form: str = "quadratic"
    gradient: str = "collective"
    ranks: tuple[int, ...] | None = None
    coupled_ranks: tuple[int, ...] | None = None
    cutoff: float = 0.6
    basis: str = "b-splines"
    pair_functions: int = 28
    functions: int = 8
    coarse_functions: int = 3
    sharpness: float = SHARPNESS
    knots: dict[str, tuple[float, ...]] | None = None
    intervals: int = 240
    ridge: float | None = None
    curvature: float | None = None
    blocks: int = 5
    members: int = 16
    max_coefficients: int | None = None
    keep_equations: bool = False
    large_force: float = 30.0 * ELECTRONVOLT
    energy_weight: float = 0.0

    @property
    def agent_form(self) -> Form:
        """The form, with its ranks."""
        return form_of(self.form, self.ranks, self.coupled_ranks)

    def __post_init__(self) -> None:
        self.agent_form  # noqa: B018  (raises where the ranks do not fit the form)
        check_gradient(self.gradient)
        if self.basis not in FAMILIES:
            raise DualityError(f"basis {self.basis!r} is not known; the families are {', '.join(FAMILIES)}")
        if self.knots is not None and (self.basis != "b-splines" or not self.agent_form.ranks):
            raise DualityError(
                "knots are for the b-splines of contracted moments; leave them out, or take a form with moments and "
                "the basis b-splines"
            )
        for name in ("cutoff", "large_force"):
            if not 0.0 < getattr(self, name) < np.inf:
                raise DualityError(f"{name} must be positive and finite, got {getattr(self, name)}")
        for name in ("energy_weight", "sharpness"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise DualityError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        if self.energy_weight and self.gradient == "agent":
            raise DualityError(
                "energies cannot join a fit with the gradient 'agent': the sum of its losses is no potential; leave "
                "energy_weight at 0, or use the gradient 'collective'"
            )
        least = {"pair_functions": 4, "functions": 1, "coarse_functions": 1, "intervals": 20, "blocks": 2}
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise DualityError(f"{name} must be at least {lowest}, got {getattr(self, name)}")
        if self.members < 0 or self.members == 1:
            raise DualityError(f"members must be 0, for no committee, or at least 2, got {self.members}")
        if self.max_coefficients is not None and self.max_coefficients < 1:
            raise DualityError(f"max_coefficients must be at least 1, got {self.max_coefficients}")
        for name in ("ridge", "curvature"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value < np.inf:
                raise DualityError(f"{name} must be finite and not negative, got {value}")

    @classmethod
    def of(cls, **choices: Any) -> Settings:
        """Settings from keyword arguments or a configuration; quantities and written units are converted.

        Raises
        ------
        DualityError
            If a name is not a setting, or a value is of another kind.
        """
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(choices) - set(known))
        if unknown:
            raise DualityError(f"unknown setting {', '.join(unknown)}; the settings are {', '.join(known)}")
        force = unit.kilojoule_per_mole / unit.nanometer
        for name, dimension in (("cutoff", unit.nanometer), ("large_force", force)):
            if name in choices:
                choices[name] = bare(choices[name], dimension, name)
        for name in ("ridge", "curvature"):
            if choices.get(name) is not None:
                choices[name] = number(choices[name], name)
        for name in ("pair_functions", "functions", "coarse_functions", "intervals", "blocks", "members"):
            if name in choices:
                choices[name] = whole(choices[name], name)
        if choices.get("max_coefficients") is not None:
            choices["max_coefficients"] = whole(choices["max_coefficients"], "max_coefficients")
        if not isinstance(choices.get("keep_equations", False), bool):
            raise DualityError(f"keep_equations: expected true or false, got {choices['keep_equations']!r}")
        for name in ("form", "gradient", "basis"):
            if name in choices:
                choices[name] = word(choices[name], name)
        for name in ("energy_weight", "sharpness"):
            if name in choices:
                choices[name] = number(choices[name], name)
        for name in ("ranks", "coupled_ranks"):
            if choices.get(name) is not None:
                choices[name] = ranks(choices[name], name)
        if choices.get("knots") is not None:
            choices["knots"] = knots(choices["knots"], "knots")
        return cls(**choices)

    def to_dict(self) -> dict[str, Any]:
        """For JSON and YAML; bare numbers in MD units."""
        content = asdict(self)
        for name in ("ranks", "coupled_ranks"):
            content[name] = None if content[name] is None else list(content[name])
        if self.knots is not None:
            content["knots"] = {pair: list(row) for pair, row in self.knots.items()}
        return content
