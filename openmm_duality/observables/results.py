"""What a comparison holds, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from openmm_duality.observables.bands import Band
from openmm_duality.observables.curves import Curve, Distribution
from openmm_duality.observables.energetics import Energetics
from openmm_duality.observables.integrity import IntegrityRecord
from openmm_duality.observables.motion import Motion
from openmm_duality.observables.recomputing import Recomputed
from openmm_duality.observables.runs import Run
from openmm_duality.observables.statistics import CurveDifference, Estimate, MeanDifference, Why


@dataclass(frozen=True)
class CurveComparison:
    """A curve of the run beside the reference's; `halves` is the reference's first half against its second."""

    run: Curve
    reference: Curve
    difference: CurveDifference
    halves: CurveDifference


@dataclass(frozen=True)
class DistributionComparison:
    """A distribution of the run beside the reference's, in nm, degrees or no unit."""

    run: Distribution
    reference: Distribution
    mean: MeanDifference
    spread: MeanDifference


@dataclass(frozen=True)
class Quantity:
    """A number of the run beside the reference's; None where one of them does not give it.

    Parameters
    ----------
    run, reference : Estimate or None
        In the unit that its place in `Comparison` says.
    difference : MeanDifference or None
        None unless both are there.
    """

    run: Estimate | None
    reference: Estimate | None
    difference: MeanDifference | None


@dataclass(frozen=True)
class Shell:
    """The number of neighbours in the first shell of the reference.

    Parameters
    ----------
    edge : float
        Where it ends, in nm: the first minimum of the reference's g(r).
    number : Quantity
        Of neighbours in other molecules.
    """

    edge: float
    number: Quantity


@dataclass(frozen=True)
class Window:
    """What of a trajectory was analysed: frames, their time in ps, and whether that is long enough for a test at all.

    Parameters
    ----------
    atoms, frames : int
        How many.
    structure_frames : int
        How many of the frames were looked at for structure.
    duration, discarded : float
        In ps.
    enough : bool
        Whether there are as many blocks of the least length as a test needs.
    correlation_times : dict of str to float
        The time in ps over which every observable forgets, as this trajectory tells it.
    """

    atoms: int
    frames: int
    structure_frames: int
    duration: float
    discarded: float
    enough: bool
    correlation_times: dict[str, float]

    @property
    def slowest(self) -> tuple[str, float] | None:
        """The observable that forgets most slowly and its correlation time in ps; None where there is none."""
        return max(self.correlation_times.items(), key=lambda item: item[1], default=None)


@dataclass(frozen=True)
class Untested:
    """What could not be tested.

    Parameters
    ----------
    time : float
        In ps, over which it forgets.
    minor : bool
        Whether run and reference agree without it.
    why : str or None
        As in `CurveDifference`.
    """

    time: float
    minor: bool
    why: Why | None


@dataclass(frozen=True)
class Comparison:
    """All that was found about one run, or other data, beside one reference.

    Parameters
    ----------
    name : str
        What tables call it: the name of its folder or file.
    run : Run or None
        The run as read; None for reference data in the place of a run.
    source, reference_source : tuple of str
        The files of both.
    dynamics_source : tuple of str
        The files of the reference's motion, where they are others.
    species : tuple of str, length N
        Of the run.
    run_window, reference_window : Window
        What was analysed of each.
    block_time : float
        The least length of a block, in ps.
    rdf, rdf_whole : dict of str to CurveComparison
        g(r) between molecules (which the test judges), and with the pairs inside a molecule.
    coordination : dict of str to CurveComparison
        Under "A-B" the number of B within r of an A, in other molecules.
    shells : dict of str to Shell
        The same at the end of the first shell of the reference.
    bond_length, angle : dict of str to DistributionComparison
        In nm and degrees.
    order, around : dict of str to DistributionComparison
        Tetrahedral order, and the angles between four nearest neighbours in degrees.
    hydrogen_bonds : Quantity or None
        Per molecule; None where there are no donors.
    motion, reference_motion : Motion
        Of each.
    diffusion : dict of str to Quantity
        By formula, in nm²/ps.
    reorientation : dict of str to Quantity
        τ₂ of bonds in ps.
    bands, band_shares : dict of Band to Quantity
        Centroids in cm⁻¹, and the part of the whole density of states that lies there.
    energetics, integrity
        From the log; None without one.
    notes : tuple of str
        What was left out or looks unusual.
    recomputed : Recomputed or None
        Errors of the forces along the run; None where none were computed again.
    verdict : tuple of str
        What a chemist would conclude, failures first.
    agrees : bool or None
        Whether the run passes; None where it is too short to tell.
    failures : int
        How many of the first sentences of the verdict tell a failure.
    more : tuple of Comparison
        Others held against the same reference.
    """

    name: str
    run: Run | None
    source: tuple[str, ...]
    reference_source: tuple[str, ...]
    dynamics_source: tuple[str, ...]
    species: tuple[str, ...]
    run_window: Window
    reference_window: Window
    block_time: float
    rdf: dict[str, CurveComparison]
    rdf_whole: dict[str, CurveComparison]
    coordination: dict[str, CurveComparison]
    shells: dict[str, Shell]
    bond_length: dict[str, DistributionComparison]
    angle: dict[str, DistributionComparison]
    order: dict[str, DistributionComparison]
    around: dict[str, DistributionComparison]
    hydrogen_bonds: Quantity | None
    motion: Motion
    reference_motion: Motion
    diffusion: dict[str, Quantity]
    reorientation: dict[str, Quantity]
    bands: dict[Band, Quantity]
    band_shares: dict[Band, Quantity]
    energetics: Energetics | None
    integrity: IntegrityRecord | None
    notes: tuple[str, ...]
    recomputed: Recomputed | None = None
    verdict: tuple[str, ...] = ()
    agrees: bool | None = None
    failures: int = 0
    more: tuple[Comparison, ...] = field(default=())

    @property
    def enough(self) -> bool:
        """Whether run and reference are long enough for any test."""
        return self.run_window.enough and self.reference_window.enough

    @property
    def untested(self) -> dict[str, Untested]:
        """What could not be tested of the structure, or of motion that changes along the run, by its name."""
        judged: list[tuple[str, CurveDifference | MeanDifference, bool]] = [
            *((f"g(r) {pair}", c.difference, False) for pair, c in self.rdf.items()),
            *((f"{name} length", c.mean, False) for name, c in self.bond_length.items()),
            *((f"{name} angle", c.mean, False) for name, c in self.angle.items()),
            *((f"tetrahedral order of {kind}", c.mean, True) for kind, c in self.order.items()),
        ]
        if self.hydrogen_bonds is not None and self.hydrogen_bonds.difference is not None:
            judged.append(("hydrogen bonds", self.hydrogen_bonds.difference, True))
        for part, word in ((self.diffusion, "diffusion of {}"), (self.reorientation, "turning of {} bonds")):
            for name, q in part.items():
                if q.difference is not None and q.difference.why == "changes":
                    judged.append((word.format(name), q.difference, True))
        windows = self.run_window, self.reference_window
        return {
            word: Untested(
                max(window.correlation_times.get(word, 0.0) for window in windows),
                minor and difference.why != "changes",
                difference.why,
            )
            for word, difference, minor in judged
            if difference.p_value is None
        }

    @property
    def changes(self) -> bool:
        """Whether something changes along the run, so that its mean says little."""
        return any(untested.why == "changes" for untested in self.untested.values())

    @property
    def columns(self) -> tuple[Comparison, ...]:
        """This one and the others, in the order in which they were asked for."""
        return (self, *self.more)

    def to_dict(self) -> dict[str, object]:
        """Everything as plain numbers, lists and strings, fit for JSON (no NaN: None instead)."""
        from openmm_duality.observables.plain import comparison_to_dict  # which needs these classes

        return comparison_to_dict(self)
