"""User settings of an inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.inference.equations.bases import FAMILIES, SHARPNESS
from openmm_duality.inference.equations.channel_selection import SIZES
from openmm_duality.inference.equations.own_columns import SMALL, WHOLE
from openmm_duality.inference.equations.penalties import NET_FORCE, PUMP, SYMMETRIES
from openmm_duality.losses.forms import Form, check_gradient, form_of, has_potential, require_potential_energy
from openmm_duality.schema import (
    boolean,
    bounded,
    build,
    convert_keys,
    integer,
    key,
    mapping_of,
    one_of,
    optional,
    quantity,
    text,
    to_plain,
    tuple_of,
)
from openmm_duality.system_memory import memory_size
from openmm_duality.units import ELECTRONVOLT

_BY_NUMBER = "; a size by number is given by the keys channels and invariants of a configuration, or --max-coefficients"


def _knots(value: Any, name: str) -> dict[str, tuple[float, ...]]:
    """Read knots in nm by pair of species, each pair named in alphabetical order."""
    lengths = tuple_of(quantity(unit.nanometer, positive=False))
    rows = mapping_of(lengths, "a list of lengths for each pair, as in {H-O: [0.08, 0.1, …]}")(value, name)
    found = {"-".join(sorted(pair.split("-"))): row for pair, row in rows.items()}
    if len(found) < len(rows):
        raise DualityError(f"{name}: a pair of species is named twice, in {', '.join(rows)}")
    return found


_ATOM_ENERGIES = mapping_of(
    quantity(unit.kilojoule_per_mole, positive=False), "an energy for each species, as in {H: -13.6 eV}"
)
_RANKS = optional(tuple_of(integer(), single=True, empty=True))
_STRENGTH = optional(quantity(zero=True))
_SYMMETRIES = mapping_of(quantity(zero=True), f"a strength for each symmetry, as in {{{NET_FORCE}: 1}}")
_PUMP = 1e-3
DELTA_CHOICES = (
    "ridge",
    "curvature",
    "blocks",
    "large_force",
    "stress_weight",
    "memory",
)  # settings that can be chosen with a prior model


@dataclass(frozen=True)
class Settings:
    """Settings of an inference; values are bare numbers in MD units or quantities.

    Parameters
    ----------
    form : str
        ``pair``, ``quadratic`` (the paper's), ``moment``, ``coupled`` or ``channels``.
    gradient : str
        ``agent``, ``collective`` or ``mutual``.
    ranks, coupled_ranks : tuple of int or None
        Ranks (0…3) of the contracted and of the coupled moments; None for the defaults of the form (`form_of`).
    cutoff : float
        Cutoff radius in nm.
    basis : str
        Radial functions of the many-body part: ``b-splines`` or ``inverse-powers``.
    pair_functions, functions, coarse_functions : int
        Numbers of radial functions per pair of species: pair part (28 by default, 12 of `channels`), contracted or
        mixed moments (8; of `channels` 12 shared by all species, but 5 to 10 each), coupled invariants.
    size : str
        Size of the form `channels`: ``small``, ``medium`` or ``large``.
    channels : int or None
        Largest number of channels of a rank; by default that of the size.
    invariants : tuple of int or None
        Numbers of invariants of orders 2, 3 and 4 of each agent species; by default those of the size.
    channel_cutoff : float or None
        Cutoff radius of the channels in nm; by default 0.5 nm, or 1.7 times the distance of the nearest neighbours if
        that is more, but at most the cutoff.
    mixing_steps : int or None
        Largest number of steps in which the mixing of channels is learned (`equations.mixing`), by default that of the
        size; with 0 the channels are those of largest variance.
    sharpness : float
        Exponent of the density of pair distances in the placement of knots; 0 for even spacing.
    knots : mapping of str to tuple of float, or None
        Knots of the contracted moments (nm) by pair of species, as ``{"H-O": (0.08, …)}``: one more than functions, the
        last at the cutoff. The knots of other pairs are placed by the density.
    intervals : int
        Number of intervals of the spline grid from 0 to the cutoff, common to all radial functions.
    ridge, curvature : float or None
        Regularisation strengths, of the size of the coefficients and of changes of the curvature: of the functions, or,
        with channels, of the losses when training frames are displaced. None chooses them by cross-validation over
        contiguous blocks of time.
    rotamers : float or None
        Strength of the penalty on errors in frames of single molecules with groups rotated about single bonds
        (`equations.rotamers`); 0 for none. None chooses the strongest of 1e-4 to 0.03 that costs no more than 5 % of
        the error on held-out blocks, if one does.
    separations : float
        Strength of the penalty on errors in frames of clusters with a molecule moved away (`equations.separations`); 0
        for none. The default decides what the data leave open, and costs nothing in them.
    pump : float or None
        Strength η of the penalty on the predicted pump (`equations.pump`), the power that losses that agents descend
        alone feed into thermal motion: by default 1e-3 under `mutual`, else 0.
    max_pump : float or None
        Instead of a strength, largest predicted pump in kJ/mol per atom and ps; the weakest penalty that keeps it is
        taken. With friction γ it changes the temperature by 40 K per kJ/mol, over γ.
    symmetries : mapping of str to float, or None
        Strengths of penalties on other symmetries by name, ``net-force``, ``net-torque`` and ``work``
        (`equations.symmetries`): at 1, an error of them counts as much as that of the forces.
    own_part : str
        Columns of the own part under `mutual`: ``small`` (`equations.own_columns`), which costs least, or ``whole``.
    pump_frames : int
        Number of training frames for each of these penalties, whose forces are not used; as many unlabelled ones are
        used, where there are any.
    blocks : int
        Number of these blocks, the folds of the cross-validation.
    members : int
        Number of committee members, refits to resampled blocks that estimate the uncertainty of forces; 0 for none.
        With a committee each fold is kept as two blocks of equations in memory, 8 P² bytes each.
    max_coefficients : int or None
        Maximum number of coefficients, of which the most important are selected; None for all.
    keep_equations : bool
        Whether the model stores its normal equations, so that frames can be added later.
    memory : int or None
        Largest memory in bytes that the inference may take, or text such as ``8 GiB``; None for 60 % of what is
        available. If it does not suffice there are fewer blocks, then they are kept in a temporary file, and
        fewer frames are computed at the same time.
    large_force : float
        F₀ in kJ/mol/nm: the squared errors of an agent are weighted by 1/(1 + F²/F₀²), so that large forces do not
        dominate the fit. The default is 3 eV/Å.
    energy_weight : float or None
        Weight of energies in the fit, 0 for none. At 1, an error of 1 meV per atom in the energy of a frame counts as
        much as an error of 100 meV/Å in each of its force components. By default 0.003 for the form `channels` where
        the data have energies, otherwise 0.
    stress_weight : float or None
        Weight of stresses in the fit, 0 for none. At 1, an error of 1 meV per atom in each component of the virial −Vσ
        of a frame counts as much as an error of 100 meV/Å in each of its force components. By default
        0.003 where the data have stresses and the losses a potential, otherwise 0.
    atom_energies : mapping of str to float, or None
        Energies of isolated atoms in kJ/mol by species, as the method of the data gives them. They are then the energy
        constants; otherwise those of isolated atoms in the data are, or constants are fitted. In a configuration a unit
        may be written out: ``{H: -13.6 eV}``.

    Raises
    ------
    DualityError
        If a value is unknown or out of range.
    """

    form: str = field(metadata=key(text), default="channels")
    gradient: str = field(metadata=key(text), default="collective")
    ranks: tuple[int, ...] | None = field(metadata=key(_RANKS), default=None)
    coupled_ranks: tuple[int, ...] | None = field(metadata=key(_RANKS), default=None)
    cutoff: float = field(metadata=key(bounded(unit.nanometer, "cutoff")), default=0.6)
    basis: str = field(metadata=key(text), default="b-splines")
    pair_functions: int | None = field(metadata=key(optional(integer(4, 1000))), default=None)
    functions: int | None = field(metadata=key(optional(integer(1, 1000))), default=None)
    coarse_functions: int = field(metadata=key(integer(1, 1000)), default=3)
    size: str = field(metadata=key(one_of(*SIZES, otherwise=_BY_NUMBER)), default="medium")
    channels: int | None = field(metadata=key(optional(integer(1))), default=None)
    invariants: tuple[int, ...] | None = field(metadata=key(optional(tuple_of(integer()))), default=None)
    channel_cutoff: float | None = field(metadata=key(optional(bounded(unit.nanometer, "cutoff"))), default=None)
    mixing_steps: int | None = field(metadata=key(optional(integer(0, 100))), default=None)
    sharpness: float = field(metadata=key(quantity(zero=True)), default=SHARPNESS)
    knots: dict[str, tuple[float, ...]] | None = field(metadata=key(optional(_knots)), default=None)
    intervals: int = field(metadata=key(integer(20, 100_000)), default=240)
    ridge: float | None = field(metadata=key(_STRENGTH), default=None)
    curvature: float | None = field(metadata=key(_STRENGTH), default=None)
    rotamers: float | None = field(metadata=key(_STRENGTH), default=None)
    separations: float = field(metadata=key(quantity(zero=True)), default=1e-4)
    pump: float | None = field(metadata=key(_STRENGTH), default=None)
    max_pump: float | None = field(metadata=key(optional(quantity())), default=None)
    symmetries: dict[str, float] | None = field(metadata=key(optional(_SYMMETRIES)), default=None)
    own_part: str = field(metadata=key(one_of(SMALL, WHOLE)), default=SMALL)
    pump_frames: int = field(metadata=key(integer(1)), default=8)
    blocks: int = field(metadata=key(integer(2, 1000)), default=5)
    members: int = field(metadata=key(integer(0, 1000)), default=16)
    max_coefficients: int | None = field(metadata=key(optional(integer(1))), default=None)
    keep_equations: bool = field(metadata=key(boolean), default=False)
    memory: int | None = field(metadata=key(optional(memory_size)), default=None)
    large_force: float = field(
        metadata=key(quantity(unit.kilojoule_per_mole / unit.nanometer)), default=30.0 * ELECTRONVOLT
    )
    energy_weight: float | None = field(metadata=key(optional(quantity(zero=True))), default=None)
    stress_weight: float | None = field(metadata=key(optional(quantity(zero=True))), default=None)
    atom_energies: dict[str, float] | None = field(metadata=key(optional(_ATOM_ENERGIES)), default=None)

    @property
    def agent_form(self) -> Form:
        """Form of the losses, with its ranks."""
        return form_of(self.form, self.ranks, self.coupled_ranks)

    def __post_init__(self) -> None:
        convert_keys(self)
        self.agent_form  # noqa: B018  (raises if the ranks do not fit the form)
        check_gradient(self.gradient)
        if self.basis not in FAMILIES:
            raise DualityError(f"basis {self.basis!r} is not known; the families are {', '.join(FAMILIES)}")
        if self.knots is not None and (self.basis != "b-splines" or not self.agent_form.ranks):
            raise DualityError(
                "knots are for the b-splines of contracted moments; leave them out, or choose a form with moments and "
                "the basis b-splines"
            )
        if self.energy_weight and not has_potential(self.gradient):
            raise DualityError(
                f"energies cannot be fitted with the gradient {self.gradient!r}, because the sum of its losses is no "
                "potential; leave energy_weight at 0, or use the gradient 'collective'"
            )
        if self.stress_weight:
            require_potential_energy(self.gradient, "a fit to stresses (stress_weight)")
        if (self.pump or self.max_pump or self.symmetries) and has_potential(self.gradient):
            raise DualityError(
                f"forces with the gradient {self.gradient!r} have a potential, with all its symmetries, and pump no "
                "power; leave pump, max_pump and symmetries out, or use the gradient 'mutual' or 'agent'"
            )
        others = [name for name in SYMMETRIES if name != PUMP]
        unknown = sorted(set(self.symmetries or ()) - set(others))
        if unknown:
            raise DualityError(
                f"symmetries: {', '.join(unknown)} is not one of {', '.join(others)}; the strength of the penalty on "
                "the pump is 'pump'"
            )
        if self.pump is not None and self.max_pump is not None:
            raise DualityError("give either the strength of the penalty, pump, or the largest pump, max_pump")
        if self.invariants is not None and len(self.invariants) != 3:
            raise DualityError(
                "invariants must be three numbers, of the orders 2, 3 and 4, such as [300, 900, 400]; got "
                f"{list(self.invariants)}"
            )
        if self.members == 1:
            raise DualityError("members must be 0 (no committee) or at least 2, got 1")

    @property
    def most_mixing_steps(self) -> int:
        """Largest number of steps in which the mixing of channels is learned; zero of other forms."""
        if not self.agent_form.channels:
            return 0
        return SIZES[self.size].mixing_steps if self.mixing_steps is None else self.mixing_steps

    @property
    def pump_strength(self) -> float:
        """Strength of the penalty on the pump; with a stated target the one to begin with."""
        if self.pump is not None:
            return self.pump
        return _PUMP if self.max_pump is not None or self.gradient == "mutual" else 0.0

    @property
    def symmetry_strengths(self) -> dict[str, float]:
        """Strengths of the penalties on soft symmetries, by name, without those that are zero."""
        every = {PUMP: self.pump_strength, **(self.symmetries or {})}
        return {name: every[name] for name in SYMMETRIES if every.get(name)}

    @classmethod
    def of(cls, choices: Mapping[str, Any], settings: Settings | None = None) -> Settings:
        """Build settings from keyword arguments or a configuration; or return those that are given as a whole.

        Raises
        ------
        DualityError
            If a name is not a setting, a value cannot be read, or both choices and settings are given.
        """
        if settings is None:
            return build(cls, choices, noun="setting")
        if choices:
            raise DualityError(f"{', '.join(choices)} cannot be given beside settings; put everything into one of them")
        return settings

    def to_dict(self) -> dict[str, Any]:
        """Convert the settings to plain values for JSON and YAML, with numbers in MD units."""
        return dict(to_plain(self))
