"""Errors of a model on reference frames: for all atoms, by species, and of the net forces on molecules.

If the frames have no forces, the model is compared with the targets of inference instead: masses times accelerations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.molecules import molecular_forces
from openmm_duality.inference.equations.penalties import PUMP
from openmm_duality.inference.equations.pump import predicted_pump
from openmm_duality.inference.equations.targets import count_samples, only_energies
from openmm_duality.inference.uncertainty.measurements import Measurement, measure
from openmm_duality.losses.evaluator import LocalEnvironments
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.formats import frames_of
from openmm_duality.reference.frames import Frames, evenly_spaced, formula
from openmm_duality.reference.mixed_frames import AnyFrames, without_isolated_atoms
from openmm_duality.reference.molecules import molecules_of
from openmm_duality.reference.summary import component_mean, component_rms
from openmm_duality.units import BOLTZMANN, MEGAPASCAL, MEV

_PUMP_FRAMES = 3  # evenly spaced, whose pump is predicted
_ACCEPTED = 5.0  # K, an acceptable error of the temperature
_COMPOSITIONS = 30  # at most, with errors of their own
_HOT = 100.0  # K, a rise that is only said to be exceeded
_OUTLYING, _RELATIVELY = 8.0, 4.0  # times the median of the errors of frames, and of their parts of the RMS force
_LEAST = 0.02  # of the RMS force of the frame
_TYPICAL = 10  # frames at least, to have a median
UNITS = {"force": "meV/angstrom", "energy": "meV/atom", "virial": "meV/atom", "stress": "MPa"}
_STRESS_LINES = (
    ("virial", ("virial_rmse_per_atom", "virial_mae_per_atom"), 2),
    ("stress", ("stress_rmse", "stress_mae"), 1),
    ("pressure", ("pressure_error",), 1),
)


@dataclass(frozen=True)
class ErrorTable:
    """Errors per force component, and root mean squares of the reference forces.

    Parameters
    ----------
    frames : int
    force_rmse, force_mae, force_rms : dict
        Root-mean-square error, mean absolute error and root mean square in meV/Å, with the keys ``all``, each species,
        and ``molecular`` (net forces on the molecules identified in the data, if any is a part of its frame).
    energy_rmse_per_atom, energy_mae_per_atom : float or None
        In meV; None for losses whose sum is not an energy (`agent`, `mutual`), or without enough frames that have
        energies and forces.
    energy_constants : str
        Constants per species in the energies: ``model``, or ``frames`` if the model has none, so that those that fit
        these frames best are taken (for one composition: the mean difference).
    pump : float or None
        Power in kJ/mol per atom and ps that the losses are predicted to feed into thermal motion (`mean_pump`).
    virial_rmse_per_atom, virial_mae_per_atom : float or None
        Errors of a component of the virial −Vσ in meV; None for losses without a potential, or frames without stresses.
    stress_rmse, stress_mae, stress_rms : float or None
        The same of the stress, in MPa, and the root mean square of the reference's.
    pressure_error : float or None
        Mean error of the pressure −tr σ/3 in MPa, with its sign: what shifts a density.
    targets : str
        Reference of the comparison: ``forces``, ``accelerations`` (times masses), or ``energies`` alone, so that the
        errors of the forces are empty.
    outlying : dict of str to float
        Errors of the forces of outlying frames in meV/Å, by their numbers in the file or steps: more than eight times
        the median, and as parts of the RMS force of the frame more than four times, and above 2 %.
    groups : dict of str to ErrorTable
        Errors by formula, where the frames have several compositions, but at most thirty; or by label.
    """

    frames: int
    force_rmse: dict[str, float]
    force_mae: dict[str, float]
    force_rms: dict[str, float]
    energy_rmse_per_atom: float | None = None
    energy_mae_per_atom: float | None = None
    energy_constants: str = "frames"
    targets: str = "forces"
    pump: float | None = None
    virial_rmse_per_atom: float | None = None
    virial_mae_per_atom: float | None = None
    stress_rmse: float | None = None
    stress_mae: float | None = None
    stress_rms: float | None = None
    pressure_error: float | None = None
    outlying: dict[str, float] = field(default_factory=dict)
    groups: dict[str, ErrorTable] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Convert the table to plain values for JSON."""
        return {**asdict(self), "units": UNITS}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ErrorTable:
        """Read the table back from `to_dict`."""
        values = {name: value for name, value in data.items() if name != "units"}
        groups = {name: cls.from_dict(table) for name, table in values.pop("groups", {}).items()}
        return cls(**values, groups=groups)

    def __str__(self) -> str:
        return format_tables({"": self}, groups=True)


def format_tables(tables: dict[str, ErrorTable], groups: bool = False) -> str:
    """Format error tables side by side as text: RMSE and MAE in meV/Å, and the RMSE in per cent of the RMS force.

    Below them, if they are wanted, the errors by group of every table that has them, under its name.
    """
    keys = dict.fromkeys(key for table in tables.values() for key in table.force_rmse if key != "molecular")
    if any("molecular" in table.force_rmse for table in tables.values()):
        keys["molecular"] = None
    width = max(22, *(len(name) + 2 for name in tables)) + 8

    def line(label: str, cells: Iterable[str]) -> str:
        return label.ljust(14) + "".join(cell.rjust(width) for cell in cells)

    lines = [line("force error", tables)]
    for key in keys:
        cells = []
        for table in tables.values():
            rmse, mae, rms = (values.get(key) for values in (table.force_rmse, table.force_mae, table.force_rms))
            share = 100.0 * rmse / rms if rmse is not None and rms else float("nan")
            cells.append("-" if rmse is None or mae is None else f"{rmse:8.1f} {mae:8.1f} ({share:5.1f} %)")
        lines.append(line("molecules" if key == "molecular" else key, cells))
    energies = [(table.energy_rmse_per_atom, table.energy_mae_per_atom) for table in tables.values()]
    if any(rmse is not None for rmse, _ in energies):
        cells = ["-" if rmse is None or mae is None else f"{rmse:8.2f} {mae:8.2f}" + 10 * " " for rmse, mae in energies]
        lines.append(line("energy", cells))
    for label, names, digits in _STRESS_LINES:
        columns = [[getattr(table, name) for name in names] for table in tables.values()]
        if any(None not in values for values in columns):
            cells = ["-" if None in v else "".join(f"{x:8.{digits}f} " for x in v) + 9 * " " for v in columns]
            lines.append(line(label, cells))
    lines.append(line("frames measured", (str(table.frames) for table in tables.values())))
    if any(table.targets != "forces" for table in tables.values()):
        lines.append(line("targets", (table.targets for table in tables.values())))
    lines.append("(RMSE, MAE per component in meV/Å, and RMSE in per cent of the RMS force; energy in meV per atom)")
    if any(table.stress_rmse is not None for table in tables.values()):
        lines.append("(virial in meV per atom, stress in MPa per component; pressure: mean error in MPa)")
    for name, table in tables.items():
        if groups and table.groups:
            lines += ["", *([name] if name else []), *_lines_of_groups(table)]
    return "\n".join(lines)


def _lines_of_groups(table: ErrorTable) -> list[str]:
    """The errors by group of frames as lines of text, the largest first."""
    width = max([8, *map(len, table.groups)])
    lines = [f"{'frames':<{width}}  number     force       MAE    energy       MAE"]
    for name, one in sorted(table.groups.items(), key=lambda item: -item[1].force_rmse.get("all", 0.0)):
        values = [values.get("all") for values in (one.force_rmse, one.force_mae)]
        numbers = [f"{x:10.1f}" if x is not None else f"{'-':>10}" for x in values]
        energies = (one.energy_rmse_per_atom, one.energy_mae_per_atom)
        numbers += [f"{x:10.2f}" if x is not None else f"{'-':>10}" for x in energies]
        lines.append(f"{name:<{width}}{one.frames:8d}{''.join(numbers)}")
    return lines


def evaluate(
    losses: AgentLosses,
    frames: AnyFrames | str | Path,
    *,
    at_most: int | None = None,
    labels: Mapping[int, str] | None = None,
    progress: bool = False,
) -> ErrorTable:
    """Evaluate the errors of a model on reference forces and energies, or on accelerations for lack of forces.

    Parameters
    ----------
    losses : AgentLosses
    frames : Frames, MixedFrames or path
        Frames of the same species; composition and cell may differ from those of the training data. Isolated atoms are
        left out.
    at_most : int, optional
        Maximum number of frames, evenly spaced; all by default.
    labels : mapping of int to str, optional
        By step (of a file its number there), what groups the frames whose errors are given too; by default the formula.
    progress : bool
        Whether to show the progress.

    Raises
    ------
    DualityError
        If a species is unknown, or the frames have neither forces nor energies and are no trajectory that gives
        accelerations.
    """
    data, _ = without_isolated_atoms(frames_of(frames))
    if losses.baseline is not None:
        data = losses.baseline.subtracted_from(data, progress=progress)
    number = count_samples(data)
    if not number:
        raise DualityError("the data contain no frames with forces to compare with")
    chosen = evenly_spaced(number, number if at_most is None else at_most)
    title = "evaluating" if progress else ""
    found = measure(data, dict.fromkeys(chosen.tolist(), (losses,)), title=title)
    table = error_table(losses, data, found, labels=labels)
    return table if losses.has_potential else replace(table, pump=mean_pump(losses, data))


def mean_pump(losses: AgentLosses, frames: AnyFrames) -> float:
    """Mean over frames of the power that losses feed into thermal motion at 300 K, in kJ/mol per atom and ps."""
    found = []
    for number in evenly_spaced(len(frames), _PUMP_FRAMES).tolist():
        part, t = frames.locate(number)
        environments = LocalEnvironments.of(losses, part.positions[t], part.species, part.cell(t))
        found.append(predicted_pump(losses, environments))
    return float(np.mean(found))


def known_pump(losses: AgentLosses) -> float | None:
    """Pump that inference predicted; None if the losses have a potential.

    It is that on unlabelled frames, if there were any, because a run goes there; else on held-out or training frames.
    """
    found: Mapping[str, float | None] = losses.metadata.get("pump", {})
    known = (found.get(name) for name in ("unlabelled", "test", "train"))
    return next((pump for pump in known if pump is not None), None)


def describe_pump(pump: float, friction: float = 1.0) -> str:
    """Describe what a predicted pump means for dynamics in a Langevin bath with a friction in 1/ps."""
    heating = pump / (3.0 * BOLTZMANN)  # K/ps, which a friction of 1/ps holds to as many K
    rise = heating / friction
    kelvin = f"{rise:.2g}" if rise < _HOT else f"more than {_HOT:g}"
    return (
        f"Predicted pump at 300 K: {pump:.3g} kJ/mol per atom and ps. In a Langevin bath with a friction of "
        f"{friction:g}/ps it raises the temperature by {kelvin} K; a friction of {heating / _ACCEPTED:.2g}/ps holds it "
        f"to {_ACCEPTED:g} K."
    )


def excessive_pump(losses: AgentLosses, limit: float) -> str:
    """Describe a predicted pump above a limit in kJ/mol per atom and ps, and what to do; empty if it is not above."""
    pump = known_pump(losses)
    if pump is None or pump <= limit:
        return ""
    strength = losses.metadata["regularisation"][0][PUMP]
    return (
        f"the predicted pump of the model, {pump:.3g} kJ/mol per atom and ps, exceeds max_pump, {limit:g}. The "
        f"strength of its penalty, pump: {strength:.2g}, was chosen on a few frames and with the first ridge that was "
        "tried; these are other frames, or the model has another ridge. Infer again with max_pump: "
        f"{limit * limit / pump:.2g}, or give a larger pump in the place of max_pump"
    )


def error_table(
    losses: AgentLosses,
    frames: AnyFrames,
    measurements: Sequence[Measurement],
    model: int = 0,
    labels: Mapping[int, str] | None = None,
) -> ErrorTable:
    """Compute the error table of one of the models from measurements.

    Parameters
    ----------
    losses : AgentLosses
        The model in question.
    frames : Frames or MixedFrames
        The frames of the measurements.
    measurements : sequence of Measurement
    model : int
        Its index among the measured models.
    labels : mapping of int to str, optional
        As for `evaluate`.
    """
    index = np.concatenate([m.species_index for m in measurements])
    reference = np.concatenate([m.target for m in measurements])
    compared: dict[str, tuple[FloatArray, FloatArray]] = {}
    targets = "forces" if frames.has_forces else "energies" if only_energies(frames) else "accelerations"
    if targets != "energies":
        difference = np.concatenate([m.forces[model] for m in measurements]) - reference
        compared["all"] = difference, reference
        for a, name in enumerate(losses.species):
            if (index == a).any():
                compared[name] = difference[index == a], reference[index == a]
        molecular = _molecular(losses, frames, measurements, model)
        if molecular is not None:
            compared["molecular"] = molecular
    table = ErrorTable(
        len(measurements),
        {name: component_rms(difference) for name, (difference, _) in compared.items()},
        {name: component_mean(difference) for name, (difference, _) in compared.items()},
        {name: component_rms(forces) for name, (_, forces) in compared.items()},
        *_energy_errors(losses, frames, measurements, model),
        targets=targets,
    )
    outlying = {} if targets == "energies" else _outlying(frames, measurements, model)
    table = replace(table, **_stress_errors(measurements, model), outlying=outlying)
    groups: dict[str, list[Measurement]] = {}
    for m in measurements:
        part, t = frames.locate(m.number)
        label = formula(part.species) if labels is None else labels.get(int(part.steps[t]), "without")
        groups.setdefault(label, []).append(m)
    if len(groups) < 2 or (labels is None and len(groups) > _COMPOSITIONS):
        return table
    found = {name: error_table(losses, frames, mine, model, {}) for name, mine in groups.items()}
    return replace(table, groups=found)


def _outlying(frames: AnyFrames, measurements: Sequence[Measurement], model: int) -> dict[str, float]:
    """Errors of outlying frames in meV/Å, by step, the largest first."""
    if len(measurements) < _TYPICAL:
        return {}
    errors = np.array([component_rms(m.forces[model] - m.target) for m in measurements])
    shares = errors / np.maximum([component_rms(m.target) for m in measurements], 1.0)
    far = (errors > _OUTLYING * np.median(errors)) & (shares > max(_RELATIVELY * np.median(shares), _LEAST))
    found = {}
    for k in sorted(np.flatnonzero(far).tolist(), key=lambda k: -errors[k]):
        part, t = frames.locate(measurements[k].number)
        found[str(part.steps[t])] = float(errors[k])
    return found


def _molecular(
    losses: AgentLosses, frames: AnyFrames, measurements: Sequence[Measurement], model: int
) -> tuple[FloatArray, FloatArray] | None:
    """Errors and references of the net forces on molecules; None if there are none, or every frame is a molecule."""
    by_part: dict[int, tuple[Frames, list[Measurement]]] = {}
    for m in measurements:
        part, _ = frames.locate(m.number)
        by_part.setdefault(id(part), (part, []))[1].append(m)
    differences: list[FloatArray] = []
    references: list[FloatArray] = []
    found = False
    for part, mine in by_part.values():
        molecules = molecules_of(part, dict(losses.bond_lengths))
        found = found or any(1 < len(molecule) < part.n_atoms for molecule in molecules)
        target = np.array([m.target for m in mine])
        difference = np.array([m.forces[model] for m in mine]) - target
        for values, forces in ((differences, difference), (references, target)):
            values.append(molecular_forces(forces, molecules).reshape(-1, 3))
    return (np.concatenate(differences), np.concatenate(references)) if found else None


def _energy_errors(
    losses: AgentLosses, frames: AnyFrames, measurements: Sequence[Measurement], model: int
) -> tuple[float | None, float | None, str]:
    """RMSE and MAE of the energies in meV per atom, and whose constants per species they contain."""
    constants = losses.metadata.get("energy_constants") or {}
    ours = set(losses.species) <= set(constants)
    whose = "model" if ours else "frames"
    deviations, counts = [], []
    one_per_frame = frames.has_forces or only_energies(frames)
    for m in measurements if losses.has_potential and one_per_frame else ():
        part, t = frames.locate(m.number)
        if part.energies is not None:
            deviations.append(m.energies[model] - part.energies[t])
            counts.append(np.bincount(m.species_index, minlength=len(losses.species)))
    if not deviations:
        return None, None, whose
    atoms = np.sum(counts, axis=1)
    errors, shares = np.array(deviations) / atoms, np.array(counts) / atoms[:, None]
    if ours:
        errors = errors + shares @ [constants[name] for name in losses.species]
    else:
        fitted, _, rank, _ = np.linalg.lstsq(shares, errors, rcond=1e-10)
        if len(errors) <= rank:
            return None, None, whose
        errors = errors - shares @ fitted
    return float(np.sqrt(np.mean(errors**2)) / MEV), float(np.abs(errors).mean() / MEV), whose


def _stress_errors(measurements: Sequence[Measurement], model: int) -> dict[str, Any]:
    """Errors of virials and stresses, as fields of an error table; empty where there are none to compare."""
    errors, virials, references = [], [], []
    for m in measurements:
        if m.stress_errors is not None and m.stress is not None:
            references.append(m.stress / MEGAPASCAL)
            errors.append(m.stress_errors[model] / MEGAPASCAL)
            virials.append(m.stress_errors[model] / MEV * m.volume / len(m.species_index))
    if not errors:
        return {}
    found = {"pressure_error": -float(np.trace(errors, axis1=1, axis2=2).mean()) / 3.0}
    found["stress_rms"] = float(np.sqrt(np.mean(np.square(references))))
    for values, rmse, mae in (
        (virials, "virial_rmse_per_atom", "virial_mae_per_atom"),
        (errors, "stress_rmse", "stress_mae"),
    ):
        found |= {rmse: float(np.sqrt(np.mean(np.square(values)))), mae: float(np.abs(values).mean())}
    return found
