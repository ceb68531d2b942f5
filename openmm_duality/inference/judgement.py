"""Judgement of a fit by its errors: what it does not describe, and what holds for training frames alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.targets import agent_weights
from openmm_duality.inference.errors import ErrorTable
from openmm_duality.inference.uncertainty.measurements import Measurement
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.mixed_frames import AnyFrames
from openmm_duality.units import MEV_PER_ANGSTROM

_OVERFITTED = 3.0  # times the training error
_UNEXPLAINED = 0.4  # of the RMS force
_NO_FORCE = 1.0  # meV/Å
_LEAST_ENERGY = 5.0  # meV per atom
_UNFOLLOWED = 0.8  # error of the stresses relative to their root mean square
_SHORT = 1.0  # ps
_NAMED = 5  # outlying frames
_CONTRADICTED = 2.0  # times the error of the forces alone
_POORLY = 5.0  # times the training error, where the held-out one is small
_PERCEPTIBLE = 0.02  # of the RMS force
_LOOSELY = 0.2  # of the RMS net force on molecules
_NEGLIGIBLE = 0.1  # of the RMS force, below which a held-out error is no reason for a warning


def doubts(
    losses: AgentLosses,
    settings: Settings,
    sets: Sequence[AnyFrames],
    train: Mapping[str, ErrorTable],
    test: Mapping[str, ErrorTable],
) -> list[str]:
    """Sentences on all that is doubtful in a fit to training sets, from its error tables by set."""
    return [
        *short_dynamics(sets),
        *too_simple(losses.form.name, losses.species, train),
        *(doubtful_stresses(train) if settings.stress_weight else ()),
        *outlying_frames(train),
        *outlying_frames(test),
        *doubtful_fits(train, test),
    ]


def doubtful_stresses(tables: Mapping[str, ErrorTable]) -> list[str]:
    """Describe the sets whose stresses a fit to them does not follow: another sign, unit or order than was read."""
    found = []
    for name, table in tables.items():
        if (
            table.stress_rmse is not None
            and table.stress_rms is not None
            and table.stress_rmse > _UNFOLLOWED * table.stress_rms
        ):
            found.append(
                f"{name}: the fit does not follow the stresses (error {table.stress_rmse:,.0f}, root mean square "
                f"{table.stress_rms:,.0f} MPa); check their sign, unit and order, or leave them out by stress_weight: 0"
            )
    return found


def unknown_systems(table: ErrorTable) -> str:
    """A warning where errors of forces exceed 0.4 of their root mean square: the model does not know such systems."""
    share = _unexplained(table)
    if share is None:
        return ""
    return (
        f"Warning: the error is {100.0 * share:.0f} % of the RMS force: the model does not know what these "
        "frames show, and no run of it can be trusted; add such frames to its data"
    )


def _unexplained(table: ErrorTable) -> float | None:
    """The error of forces as a part of their root mean square, if it is so large; None, too, without any forces."""
    error, rms = table.force_rmse.get("all", 0.0), table.force_rms.get("all", 0.0)
    return error / rms if rms > _NO_FORCE and error > _UNEXPLAINED * rms else None


def doubtful_fits(train: Mapping[str, ErrorTable], test: Mapping[str, ErrorTable]) -> list[str]:
    """Describe the sets of which a fit explains little, or whose energies or stresses it holds for the training alone.

    Those are training errors above 0.4 of the RMS force, errors of held-out energies and stresses above three times
    those in training, if they exceed 5 meV per atom, or a tenth of the RMS stress, and errors of held-out forces above
    five times those in training, from 0.02 to 0.1 of the RMS force (above they are `overfitted`), or of net forces on
    molecules above three times, if they exceed a fifth of their RMS.
    """
    found = []
    for name, table in train.items():
        share = _unexplained(table)
        if share is not None:
            found.append(
                f"{name}: the fit leaves an error of {100.0 * share:.0f} % of the RMS force in the frames it was "
                "fitted to, so that no run with this model can be trusted; check the forces, or choose another form "
                "(channels), a larger size, or a longer cutoff"
            )
    for name, table in test.items():
        mine = train.get(name, next(iter(train.values()), table))
        known, error, rms = (one.get("all", 0.0) for one in (mine.force_rmse, table.force_rmse, table.force_rms))
        if error > _POORLY * known and _PERCEPTIBLE * rms < error <= _NEGLIGIBLE * rms:
            found.append(
                f"{name}: the error of forces is {error:,.1f} meV/Å in held-out frames and {known:,.1f} in training, "
                "so that the model generalises poorly; use more frames, a smaller size, or mixing_steps: 0"
            )
        known, error, rms = (one.get("molecular", 0.0) for one in (mine.force_rmse, table.force_rmse, table.force_rms))
        if known and error > max(_OVERFITTED * known, _LOOSELY * rms):
            found.append(
                f"{name}: the error of the net forces on molecules is {100.0 * error / rms:.0f} % of their RMS in "
                f"held-out frames, {error / known:.1f} times that in training, so that how molecules attract and repel "
                "each other is hardly known; use more frames in which they meet"
            )
        pairs = (
            ("energies", "meV per atom", mine.energy_rmse_per_atom, table.energy_rmse_per_atom, _LEAST_ENERGY),
            ("stresses", "MPa", mine.stress_rmse, table.stress_rmse, _NEGLIGIBLE * (table.stress_rms or np.inf)),
        )
        for what, unit, fitted, held_out, least in pairs:
            if fitted is not None and held_out is not None and held_out > max(_OVERFITTED * fitted, least):
                found.append(
                    f"{name}: the error of {what} is {held_out:,.1f} {unit} in held-out frames and {fitted:,.1f} in "
                    f"training; more frames of every composition and cell are needed, or a smaller weight of {what}"
                )
    return found


def outlying_frames(tables: Mapping[str, ErrorTable]) -> list[str]:
    """Describe the sets with frames whose errors are far above those of others (`ErrorTable.outlying`)."""
    found = []
    for name, table in tables.items():
        worst = [f"{step} ({error:,.0f} meV/Å)" for step, error in table.outlying.items()]
        more = f" and {len(worst) - _NAMED} more" if len(worst) > _NAMED else ""
        if worst:
            found.append(
                f"{name}: errors are far above those of all other frames in {', '.join(worst[:_NAMED])}{more} (numbers "
                "in the file, or steps); look whether the reference converged there, because a few wrong frames spoil "
                "a fit, or whether they show what no others do"
            )
    return found


def error_of_fit(measured: Sequence[tuple[float, int, Sequence[Measurement]]], large_force: float) -> float:
    """Root mean square error of training forces in meV/Å, weighted as in the fit.

    Parameters
    ----------
    measured : sequence of (float, int, sequence of Measurement)
        Of every set its weight, its number of samples, and measurements of some of them.
    large_force : float
        `Settings.large_force`.
    """
    squares = weights = 0.0
    for weight, count, found in measured:
        for m in found:
            mine = agent_weights(np.sum(m.target**2, axis=1), weight * count / len(found), large_force)
            squares += float(mine @ np.sum((m.forces[0] - m.target) ** 2, axis=1))
            weights += 3.0 * float(mine.sum())
    return float(np.sqrt(squares / weights)) / MEV_PER_ANGSTROM


def contradicted_forces(error: float, alone: float, settings: Settings) -> list[str]:
    """Say that forces are fitted far worse beside energies and stresses than alone, errors in meV/Å."""
    weights = {"energies": settings.energy_weight, "stresses": settings.stress_weight}
    beside = [name for name, weight in weights.items() if weight]
    if not beside or error <= _CONTRADICTED * alone:
        return []
    what = " and ".join(beside)
    return [
        f"forces are fitted with an error of {error:,.1f} meV/Å beside {what}, and of {alone:,.1f} without, so that "
        "they are not of one potential of these atoms, as where a file holds several charges, spins or methods; infer "
        "from frames of one of them, or with energy_weight: 0 (and stress_weight: 0)"
    ]


def too_simple(form: str, species: Sequence[str], train: Mapping[str, ErrorTable]) -> list[str]:
    """Say that three elements or more need the form `channels`, where another leaves a tenth of the RMS force."""
    left = [table.force_rmse.get("all", 0.0) / (table.force_rms.get("all") or np.inf) for table in train.values()]
    if form == "channels" or len(species) < 3 or max(left, default=0.0) <= _NEGLIGIBLE:
        return []
    return [
        f"the form {form!r} leaves an error of {100.0 * max(left):.0f} % of the RMS force in the frames it was fitted "
        f"to; for {len(species)} elements the default form, 'channels', is usually far more accurate"
    ]


def short_dynamics(sets: Sequence[AnyFrames]) -> list[str]:
    """Describe data that are nothing but dynamics of less than 1 ps, whose held-out frames are like all others."""
    spans = [float(np.ptp(part.times)) if len(part) > 1 else 0.0 for frames in sets for part in frames.parts]
    if not spans or min(spans) == 0.0 or sum(spans) > _SHORT:
        return []
    return [
        f"the data are dynamics of {sum(spans):.2g} ps in all, in which few arrangements of the atoms occur, so that "
        "held-out frames are like those of the fit, and those of a longer run are not; sample for longer, or add hot "
        "and distorted frames, and test the model with --check"
    ]


def overfitted(errors: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, float]]:
    """Find the sets whose held-out force error is far above the training error, or above the RMS force itself.

    Parameters
    ----------
    errors : mapping
        Error tables (`ErrorTable.to_dict`) by split, ``train`` or ``test``, and by set.

    Returns
    -------
    dict
        By set, the ``train`` and ``test`` errors and the ``rms`` of the held-out forces in meV/Å. An error above three
        times the training error counts if it exceeds a tenth of the RMS force. A set that is not trained on is compared
        with the training set whose RMS force is nearest. Where only single species are far above, they have entries of
        their own, if their errors exceed a tenth of the RMS force of all species as well.
    """
    trained = {name: table for name, table in errors["train"].items() if table["force_rmse"]}
    found = {}
    for name, table in errors["test"].items():
        if not table["force_rmse"]:  # energies alone
            continue
        rms = table["force_rms"]["all"]
        sets = [trained[name]] if name in trained else trained.values()
        nearest = sorted(sets, key=lambda one: abs(float(one["force_rms"]["all"]) - rms))
        for key in ("all", *sorted(set(table["force_rmse"]) - {"all", "molecular"})):
            train = next((one["force_rmse"][key] for one in nearest if key in one["force_rmse"]), np.inf)
            mine = {"train": train, "test": table["force_rmse"][key], "rms": table["force_rms"][key]}
            far = far_above(mine["test"], mine["train"], max(mine["rms"], rms))  # of the forces on all atoms too
            if far or (key == "all" and not mine["test"] <= rms):
                found[name if key == "all" else f"{key} in {name}"] = mine
                if key == "all":
                    break
    return found


def far_above(error: float, known: float, rms: float) -> bool:
    """Whether an error of forces is far above a known one, and above a tenth of the RMS force."""
    return error > _OVERFITTED * known and error > _NEGLIGIBLE * rms


def format_overfitted(found: Mapping[str, Mapping[str, float]]) -> str:
    """Describe what `overfitted` found, and what to do about it."""
    sets = "; ".join(
        f"{name} {e['test']:,.0f} held out, {e['train']:,.0f} in training, RMS force {e['rms']:,.0f} meV/Å"
        for name, e in found.items()
    )
    return (
        f"Warning: the error on held-out frames is far above the training error ({sets}), so that the model cannot be "
        "trusted on frames like those it was fitted to. Use more frames, or frames that also cover the distances of "
        "the held-out ones, a stronger ridge, fewer functions, channels whose mixing is not learned (mixing_steps: "
        "0), or a simpler form."
    )
