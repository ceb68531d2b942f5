"""Inference in closed form: from reference frames to agent losses."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import openmm as mm

from openmm_duality.errors import DualityError
from openmm_duality.inference.equations.inference import Inference
from openmm_duality.inference.equations.penalties import ROTAMER_GRID, ROTAMERS, Strengths
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.targets import (
    DataSet,
    TrainingData,
    as_sets,
    count_samples,
    only_energies,
    pair_frames,
)
from openmm_duality.inference.errors import (
    ErrorTable,
    error_table,
    excessive_pump,
    mean_pump,
)
from openmm_duality.inference.judgement import contradicted_forces, doubts, error_of_fit, overfitted
from openmm_duality.inference.repulsive_core import with_core
from openmm_duality.inference.uncertainty.calibration import calibration_of, calibration_samples
from openmm_duality.inference.uncertainty.committee import with_committee
from openmm_duality.inference.uncertainty.domain import (
    MIN_FRAMES,
    FrameDescriptors,
    described_samples,
    with_domain,
    with_wider_domain,
)
from openmm_duality.inference.uncertainty.measurements import Measurement, Models, measure
from openmm_duality.inference.walls import with_walls
from openmm_duality.losses.baseline import Baseline
from openmm_duality.losses.model import AgentLosses
from openmm_duality.progress import timed
from openmm_duality.reference.formats import frames_of
from openmm_duality.reference.frames import evenly_spaced
from openmm_duality.reference.mixed_frames import AnyFrames, largest_size, without_isolated_atoms
from openmm_duality.units import MEV_PER_ANGSTROM

TestData: TypeAlias = AnyFrames | str | Path | Mapping[str, AnyFrames]

STRONGER = (1e-4, 1e-3, 1e-2, 1e-1)  # ridges tried when all the usual ones fail
STRONGER_CURVATURE = (10.0, 100.0, 1e3, 1e4)  # of channels, as factors on the preferred one, when that fails
_ERROR_FRAMES = 200  # evenly spaced frames of every set
_CALIBRATION_FRAMES = 12  # evenly spaced frames of every test set


def infer(
    data: TrainingData,
    *,
    test: TestData | None = None,
    settings: Settings | None = None,
    baseline: Baseline | mm.System | str | Path | None = None,
    unlabelled: AnyFrames | Sequence[AnyFrames] = (),
    progress: bool = False,
    **choices: Any,
) -> AgentLosses:
    """Infer agent losses from reference forces by regularised least squares.

    If no repulsive core keeps all atoms apart with the preferred regularisation, stronger ridges are tried; if none of
    them helps, the model with the fewest attracting pairs of species is returned. ``losses.metadata["core"]`` says what
    was taken and ``losses.metadata["overfitted"]`` which held-out errors are far above the training errors.

    Parameters
    ----------
    data : Frames, MixedFrames, DataSet, sequence of DataSet, or path
        Training frames with forces, or without forces as a trajectory that gives accelerations (see `samples`). Of a
        path all frames are taken, as `reference.read` reads them.
    test : Frames, MixedFrames, path, or mapping of names to frames, optional
        Held-out frames, whose errors are stored in the metadata of the model.
    settings : Settings, optional
    baseline : openmm.System, or path of its XML, optional
        Forces of OpenMM on the atoms of the frames: they are taken out of the targets, kept in the model, and act
        beside the losses in every System that is made of it.
    unlabelled : Frames, MixedFrames or sequence of them
        More frames for the penalties on the pump and on other symmetries, such as those of a run of a first model. Of
        these only the positions are used.
    progress : bool
        Whether to show progress bars.
    **choices
        Fields of `Settings`, as an alternative to `settings`; the cutoff may be an `openmm.unit` quantity.

    Returns
    -------
    AgentLosses
        The model, with provenance, regularisation and errors in its metadata.

    Raises
    ------
    DualityError
        If the data cannot be used, or a setting is unknown.
    """
    chosen = Settings.of(choices, settings)
    inference, test_sets, beside = begin_inference(data, test, chosen, baseline, unlabelled, progress)
    losses = with_uncertainty_and_errors(repulsive_losses(inference), inference, test_sets, progress)
    return replace(losses, baseline=beside)


def begin_inference(
    data: TrainingData,
    test: TestData | None,
    settings: Settings,
    baseline: Baseline | mm.System | str | Path | None,
    unlabelled: AnyFrames | Sequence[AnyFrames],
    progress: bool,
) -> tuple[Inference, dict[str, AnyFrames], Baseline | None]:
    """Accumulate the equations of data, with the held-out frames and the baseline; all are as for `infer`.

    Raises
    ------
    DualityError
        As for `infer`; of what is wrong with the held-out frames before anything is computed.
    """
    beside = None if baseline is None else Baseline.of(baseline)
    test_sets = sets_with_targets(test, beside, progress)
    more = as_unlabelled(unlabelled, settings)
    sets = as_sets(data, beside, progress)
    if beside is not None:
        if settings.rotamers:
            raise DualityError(
                "rotamers and a baseline exclude each other, because its forces in rotated frames are not known to the "
                "penalty; leave one of them out"
            )
        settings = replace(settings, rotamers=0.0, separations=0.0)
    check_test_species({name for one in sets for name in one.frames.distinct_species}, test_sets)
    return Inference.of(sets, settings, progress=progress, unlabelled=more), test_sets, beside


def solve_with_core(inference: Inference, strengths: Sequence[Strengths]) -> AgentLosses:
    """Solve an inference for given regularisation strengths of each group and add the walls and the repulsive core.

    Raises
    ------
    DualityError
        If the data do not determine the losses.
    """
    losses = inference.losses(strengths)
    weakest = None if inference.prior is None else inference.prior.core_strength
    frames = pair_frames(inference.sets)
    with timed(inference.seconds, "core"):
        return with_core(with_walls(losses, frames), frames, inference.equations.largest_force, weakest)


def repulsive_losses(inference: Inference) -> AgentLosses:
    """Solve an inference with the first regularisation, in order of preference, whose core keeps all atoms apart.

    After the preferred one only stronger ridges are tried. Those that were rejected are listed in the metadata of the
    core.
    """
    best: AgentLosses | None = None
    tried: list[Strengths] = []
    rejected: list[dict[str, Any]] = []
    for strengths in regularisation_candidates(inference):
        if tried and all(new["ridge"] <= old["ridge"] for new, old in zip(strengths, tried, strict=True)):
            continue
        losses, tried = solve_with_core(inference, strengths), strengths
        attracting = losses.metadata["core"]["attracting"]
        if best is None or len(attracting) < len(best.metadata["core"]["attracting"]):
            best = losses
        if not attracting:
            break
        rejected.append({"regularisation": losses.metadata["regularisation"], "attracting": attracting})
    assert best is not None
    return replace(best, metadata={**best.metadata, "core": {**best.metadata["core"], "rejected": rejected}})


def regularisation_candidates(inference: Inference) -> Iterator[list[Strengths]]:
    """Strengths by group in the order in which they are tried, unless the settings give them.

    The k-th preference of each group, then stronger ridges. With channels, after the first preference, stronger
    penalties on rotamers, where there are any, and on changes of the curvature: what fails lies outside the data,
    where they decide, and weaker ones are no remedy.
    """
    preferences = inference.preferences
    if inference.design.channels and inference.prior is None:
        first: list[Strengths] = [mine[0] for mine in preferences]
        yield first
        for least in ROTAMER_GRID if inference.settings.rotamers is None else ():
            stronger: list[Strengths] = [
                {k: max(v, least) if k == ROTAMERS else v for k, v in mine.items()} for mine in first
            ]
            if stronger != first:
                yield stronger
        for factor in STRONGER_CURVATURE if inference.settings.curvature is None else ():
            yield [{**mine[0], "curvature": factor * mine[0]["curvature"]} for mine in preferences]
    else:
        for k in range(max(map(len, preferences))):
            yield [mine[min(k, len(mine) - 1)] for mine in preferences]
    if inference.settings.ridge is None:
        strongest = max(mine[0]["ridge"] for mine in preferences)
        for ridge in (ridge for ridge in STRONGER if ridge > strongest):
            yield [{**mine[0], "ridge": ridge} for mine in preferences]


def with_uncertainty_and_errors(
    losses: AgentLosses, inference: Inference, test: Mapping[str, AnyFrames], progress: bool = False
) -> AgentLosses:
    """Add the committee, the domain, the errors and the timings to the losses of an inference.

    The domain, the errors and the calibration of the committee come from one pass over the training and test frames.
    With a prior model its errors on the same frames are stored in the metadata as ``prior_errors``.

    Parameters
    ----------
    losses : AgentLosses
    inference : Inference
    test : mapping of names to Frames
    progress : bool
        Whether to show progress bars.
    """
    losses, prior = with_committee(losses, inference), inference.prior
    compared: Models = (losses,) if prior is None else (losses, prior)
    n_sets, n_species = len(inference.sets), len(losses.species)
    domain_wanted = sum(len(s.frames) for s in inference.sets) >= MIN_FRAMES if prior is None else bool(prior.domain)
    errors: list[dict[str, dict[str, Any]]] = [{"train": {}, "test": {}} for _ in compared]
    descriptions: list[FrameDescriptors] = []
    calibrating: list[Measurement] = []
    fitted: list[tuple[float, int, list[Measurement]]] = []
    with timed(inference.seconds, "measurement"):
        for name, frames, weight in ((s.name, s.frames, s.weight) for s in inference.sets):
            count = count_samples(frames)
            numbers = described_samples(count, largest_size(frames), n_sets) if domain_wanted else ()
            found = _measured(frames, compared, {}, frozenset(map(int, numbers)), f"errors, {name}" if progress else "")
            _add_errors(errors, "train", name, frames, compared, found)
            fitted.append((weight, count, found))
            descriptions += [FrameDescriptors.of(m, count, n_species) for m in found if m.descriptors is not None]
        for name, frames in test.items():
            most = 0 if only_energies(frames) else _CALIBRATION_FRAMES
            numbers = calibration_samples(count_samples(frames), most)
            members = dict.fromkeys(map(int, numbers), losses.members())
            found = _measured(frames, compared, members, frozenset(), f"errors, {name}" if progress else "")
            _add_errors(errors, "test", name, frames, compared, found)
            for m in found:
                if losses.committee is not None and m.number in members:
                    calibrating.append(m.of_models([0, *range(len(compared), len(m.forces))]))
    if domain_wanted and prior is None:
        losses = with_domain(losses, descriptions, inference.statistics)
    elif prior is not None and prior.domain is not None:
        losses = with_wider_domain(losses, prior.domain, descriptions, inference.statistics)
    metadata = {
        **losses.metadata,
        "errors": errors[0],
        "overfitted": overfitted(errors[0]),
    }
    if prior is not None:
        metadata["prior_errors"] = errors[1]
    if not losses.has_potential:
        with timed(inference.seconds, "pump"):
            held_out = next((frames for frames in test.values() if not only_energies(frames)), None)
            metadata["pump"] = {
                "train": mean_pump(losses, inference.sets[0].frames),
                "test": None if held_out is None else mean_pump(losses, held_out),
                "unlabelled": mean_pump(losses, inference.unlabelled[0].frames) if inference.unlabelled else None,
            }
        limit = inference.settings.max_pump
        if limit is not None and (excess := excessive_pump(replace(losses, metadata=metadata), limit)):
            warnings.warn(excess, stacklevel=3)
    tables = {
        split: {name: ErrorTable.from_dict(table) for name, table in of_split.items()}
        for split, of_split in errors[0].items()
    }
    error = error_of_fit(fitted, inference.settings.large_force)
    alone = inference.mixing_errors[-1] / MEV_PER_ANGSTROM if inference.mixing_errors else error
    contradicted = contradicted_forces(error, alone, inference.settings)
    frames_of_sets = [s.frames for s in inference.sets]
    for sentence in (*contradicted, *doubts(losses, inference.settings, frames_of_sets, **tables)):
        warnings.warn(sentence, stacklevel=3)
    if calibrating:
        metadata["calibration"] = calibration_of(losses, calibrating).to_dict()
    return replace(losses, metadata={**metadata, "seconds": dict(inference.seconds)})


def sets_with_targets(
    test: TestData | None, baseline: Baseline | None = None, progress: bool = False
) -> dict[str, AnyFrames]:
    """Held-out frames with targets, by name, without isolated atoms and the forces of a baseline.

    Accelerations need at least three frames.

    Raises
    ------
    DualityError
        If the frames are too far apart in time for accelerations.
    """

    def has_target(frames: AnyFrames) -> bool:
        return (frames.has_forces or only_energies(frames) or len(frames) > 2) and count_samples(frames) > 0

    groups = {} if test is None else test if isinstance(test, Mapping) else {"data": frames_of(test)}
    found = {name: without_isolated_atoms(frames)[0] for name, frames in groups.items()}
    known = {name: frames for name, frames in found.items() if has_target(frames)}
    if baseline is None:
        return known
    return {name: baseline.subtracted_from(frames, name, progress) for name, frames in known.items()}


def check_test_species(known: Collection[str], test: Mapping[str, AnyFrames]) -> None:
    """Check that held-out frames have no species beyond those of the training data, before anything is computed.

    Raises
    ------
    DualityError
        If they have one.
    """
    for name, frames in test.items():
        unknown = sorted(set(frames.distinct_species) - set(known))
        if unknown:
            raise DualityError(
                f"the training data have the species {', '.join(sorted(known))}, but the held-out frames of {name!r} "
                f"contain {', '.join(unknown)} too; add training frames with all species, or leave these frames out"
            )


def as_unlabelled(frames: AnyFrames | Sequence[AnyFrames], settings: Settings) -> list[DataSet]:
    """Frames for penalties on symmetries as sets.

    Raises
    ------
    DualityError
        If the settings have no such penalty.
    """
    found = [frames] if isinstance(frames, AnyFrames) else list(frames)
    if found and not settings.symmetry_strengths:
        raise DualityError(
            "unlabelled frames are for penalties on symmetries, and there are none; choose the gradient 'mutual', or "
            "'agent' with pump, max_pump or symmetries"
        )
    return [DataSet(one, name="unlabelled") for one in found if len(one)]


def _error_samples(frames: AnyFrames) -> list[int]:
    """Numbers of the samples that enter the error table of a set of frames."""
    count = count_samples(frames)
    return list(map(int, evenly_spaced(count, _ERROR_FRAMES)))


def _measured(
    frames: AnyFrames, models: Models, more: Mapping[int, Models], described: frozenset[int], title: str
) -> list[Measurement]:
    """Measure the samples of the error table, and those that are described or have additional models."""
    numbers = {*_error_samples(frames), *more, *described}
    wanted = {number: (*models, *more.get(number, ())) for number in sorted(numbers)}
    return measure(frames, wanted, described, title=title)


def _add_errors(
    errors: Sequence[dict[str, dict[str, Any]]],
    split: str,
    name: str,
    frames: AnyFrames,
    models: Models,
    measurements: Sequence[Measurement],
) -> None:
    """Add the error table of each model on a set of frames to `errors`."""
    numbers = frozenset(_error_samples(frames))
    chosen = [m for m in measurements if m.number in numbers]
    for k, (tables, model) in enumerate(zip(errors, models, strict=True)):
        tables[split][name] = error_table(model, frames, chosen, k).to_dict()
