"""The verb `infer`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import openmm_duality as duality
from openmm_duality.console import PATH, check_outputs, json_option, overwrite_option, write_json
from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write, staged
from openmm_duality.verbs.options import data_options

if TYPE_CHECKING:  # imported only when the verb runs, so that --help is quick
    from openmm_duality.inference.configuration import InferenceConfig
    from openmm_duality.reference.mixed_frames import AnyFrames
    from openmm_duality.reference.near_copies import TrainingDistance

_RESOLVED = "# Resolved configuration"  # how the file begins, by which it is told from one that a user wrote
_TOLD = (  # what JSON holds of the metadata of a model
    "coefficients",
    "memory",
    "channels",
    "synthetic_frames",
    "delta",
    "calibration",
    "pump",
    "core",
    "walls",
    "overfitted",
)
_OF_DATA = ("test_fraction", "split", "forces_key", "energy_key", "units")  # options for the data sets of --data


@click.command()
@click.argument("config", type=PATH, required=False)
@click.option("--data", type=PATH, multiple=True, help="Training data instead of CONFIG; may be given several times.")
@click.option("--test", type=PATH, multiple=True, help="Separate data to test on; may be given several times.")
@click.option("--test-fraction", type=float, help="Fraction held out of every data set; 0.2, or 0 with --test.")
@click.option("--split", help="time (the last frames are held out) or random-blocks, with --data.")
@data_options
@click.option("--prior", type=PATH, help="Prior model, to be corrected with the data (Δ-learning).")
@click.option("--baseline", help="XML of an OpenMM System that acts beside the losses, or charges, as 'Na=1, Cl=-1'.")
@click.option("--form", help="Form: channels (default), pair, quadratic (the paper's), moment or coupled.")
@click.option("--size", help="Size of the form channels: small, medium (default) or large.")
@click.option(
    "--gradient",
    help="agent (own loss), collective (sum of losses; conserves energy and momentum) or mutual (a shared part and an "
    "own one).",
)
@click.option("--pump", type=float, help="Strength of the penalty on the pump; 1e-3 by default under mutual, else 0.")
@click.option("--max-pump", type=float, help="Instead: largest pump, in kJ/mol per atom and ps.")
@click.option("--unlabelled", type=PATH, multiple=True, help="Folder of a run: its frames join those of the penalty.")
@click.option("--cutoff", help="Cutoff radius, such as 0.6 or '6 angstrom'.")
@click.option("--ranks", help="Ranks of the moments: contracted (moment, coupled; 0,1,2) or mixed (channels; 0,1,2,3).")
@click.option("--energy-weight", help="Weight of energies in the fit; 1 equates 1 meV per atom and 100 meV/Å.")
@click.option("--stress-weight", help="Weight of stresses in the fit; 1 equates 1 meV per atom and 100 meV/Å.")
@click.option("--max-coefficients", type=int, help="Maximum number of coefficients; the most important are kept.")
@click.option("--memory", help="Largest memory to use, such as '8 GiB'; 60 % of what is available by default.")
@click.option("--keep-equations", is_flag=True, default=None, help="Store the normal equations, to add frames later.")
@click.option("--learning-curve", "curve", is_flag=True, help="Also infer from parts of the frames; print and plot.")
@click.option(
    "--check", is_flag=True, help="Choose among models that are stable in five short runs (four without a cell)."
)
@click.option("--temperature", help="Of these runs; by default that of the first data set, as its files give it.")
@click.option("--check-time", help="Length of each of these runs; 2 ps, longer of fewer than 200 atoms.")
@click.option("-o", "--output", "model", type=PATH, required=True, help="The model file (.safetensors).")
@json_option
@overwrite_option
def infer(
    config: Path | None,
    data: tuple[Path, ...],
    test: tuple[Path, ...],
    prior: Path | None,
    baseline: str | None,
    unlabelled: tuple[Path, ...],
    model: Path,
    curve: bool,
    check: bool,
    temperature: str | None,
    check_time: str | None,
    json_file: Path | None,
    overwrite: bool,
    **choices: Any,
) -> None:
    """Infer agent losses from the data sets of CONFIG.yaml (or --data), in closed form.

    The last 20 % by time of every data set, and of every composition in it, is held out, or data named by --test are
    separate. The errors are printed, and the model is saved along with the resolved configuration, MODEL.config.yaml,
    in which the chosen regularisation and the weights of energies and stresses are written out. Data without forces, or
    with `targets: accelerations`, are fitted to their accelerations.
    With --check, the regularisation is chosen among models that are stable in short runs, which begin from a frame with
    the most species and atoms; exit code 1 if none is.
    Exit code 1 also if the error on held-out frames is far above the training error.
    With --prior (or the key `prior`), the data are of a higher level of theory than that of the prior model, and the
    difference is inferred and added to it (Δ-learning); --check then tests the corrected model.

    With --baseline (or the key `baseline`), the forces of an OpenMM System of the same atoms are taken out of the data,
    kept in the model, and act beside its losses.

    \b
    CONFIG.yaml:
      form: channels
      size: small
      cutoff: 6 angstrom
      data:
        - path: water64-cnnp
          every: 4
        - {path: water64-distorted/distorted, weight: 0.2}
        - {path: molecules.xyz, test: others.xyz, forces_key: REF_forces, units: kcal/mol}
    """
    from openmm import unit

    from openmm_duality.benchmark.machine import peak_memory
    from openmm_duality.dynamics.integrators import positive
    from openmm_duality.inference.configuration import DataConfig, InferenceConfig, common_strength
    from openmm_duality.inference.equations.channel_choice import ChannelChoice
    from openmm_duality.inference.errors import ErrorTable, describe_pump, format_tables, known_pump
    from openmm_duality.inference.judgement import format_overfitted
    from openmm_duality.inference.uncertainty.calibration import Calibration
    from openmm_duality.learning.stability import Check
    from openmm_duality.learning.stable_inference import start_of_check
    from openmm_duality.losses.baseline import are_charges
    from openmm_duality.report.inference_notes import describe_strengths, inference_notes

    if model.suffix != ".safetensors":
        raise DualityError(
            f"the name of the model file {model} must end in .safetensors (the resolved configuration is written to a "
            ".config.yaml file of the same name); choose such a name"
        )
    resolved_file = model.with_suffix(".config.yaml")
    if resolved_file.is_file() and not resolved_file.read_bytes().startswith(_RESOLVED.encode()):
        raise DualityError(
            f"the resolved configuration would be written to {resolved_file}, which holds something else; choose "
            "another name for the model"
        )
    if config is not None and resolved_file.resolve() == config.resolve():
        raise DualityError(
            f"the resolved configuration would be written to {resolved_file}, which is the configuration itself; "
            "choose another name for the model"
        )
    plot = model.with_name(f"{model.stem}-learning-curve.png") if curve else None
    check_outputs(overwrite, model, resolved_file, json_file, plot)
    choices = {name: value for name, value in choices.items() if value is not None}
    if "ranks" in choices:
        choices["ranks"] = _numbers(choices["ranks"], "ranks")
    if (temperature or check_time) is not None and not check:
        raise DualityError("--temperature and --check-time are of the short runs of --check; add --check")
    if (config is None) == (not data):
        raise DualityError("infer needs either a configuration file or --data (see openmm-duality infer --help)")
    length = {} if check_time is None else {"time": positive(check_time, unit.picosecond, "--check-time")}
    of_data = {name: choices.pop(name) for name in _OF_DATA if name in choices}
    if config is not None and (of_data or test):
        raise DualityError(
            f"{', '.join('--' + name.replace('_', '-') for name in (*of_data, *(['test'] if test else [])))} is for "
            "--data; write it into the entry of the data set in the configuration"
        )
    if config is None:
        entries = [DataConfig(str(path), **of_data) for path in data]
        entries[0] = replace(entries[0], test=tuple(map(str, test)))
        if test and "test_fraction" not in of_data:
            entries = [replace(entry, test_fraction=0.0) for entry in entries]
        named = (None if prior is None else str(prior), baseline)
        resolved = InferenceConfig.of(tuple(entries), choices, Path(), *named, tuple(map(str, unlabelled)))
    else:
        beside = baseline if baseline is None or are_charges(baseline) else str(Path(baseline).absolute())
        given = (None if prior is None else str(prior.absolute()), beside)
        loaded = InferenceConfig.load(config, *given)
        more = tuple(str(path.absolute()) for path in unlabelled) or loaded.unlabelled
        files = loaded.prior, loaded.baseline, more
        resolved = InferenceConfig.of(loaded.data, {**loaded.choices, **choices}, loaded.folder, *files)
    if "size" in choices and not resolved.settings.agent_form.channels:
        raise DualityError(
            f"--size {choices['size']} is for the form channels, but the form is {resolved.settings.form}; add --form "
            "channels, or leave --size out"
        )
    system = resolved.read_baseline()
    sets, held_out = resolved.read(progress=True)
    begin = time.perf_counter()
    arguments: dict[str, Any] = {
        "test": held_out,
        "settings": resolved.settings,
        "baseline": system,
        "unlabelled": resolved.read_unlabelled(progress=True),
        "progress": True,
    }
    runs = {"temperature": _check_temperature(sets, temperature), **length} if check else {}
    if resolved.prior is not None:
        losses = _corrected(resolved, sets, held_out, runs)
    elif check:
        losses = duality.infer_stable(sets, start_of_check(sets), **arguments, **runs)
    else:
        losses = duality.infer(sets, **arguments)
    seconds = time.perf_counter() - begin
    errors = losses.metadata["errors"]
    for split, title in (("train", "Training frames"), ("test", "Held-out frames")):
        tables = {name: ErrorTable.from_dict(table) for name, table in errors[split].items()}
        if tables:
            click.echo(f"\n{title}\n{format_tables(tables, groups=split == 'test')}")
    if losses.baseline is not None:
        click.echo(
            "\nThe forces are those that the baseline leaves; it is kept in the model and acts beside the losses."
        )
    distances = _training_distances(sets, held_out)
    for name, distance in distances.items():
        if distance.doubtful:
            click.echo(f"\n{name}: {distance}")
    if not errors["test"]:
        click.echo("\nThere are no test frames: nothing was held out, and no separate data were named.")
    if "delta" in losses.metadata:
        click.echo("\n" + "\n".join(_described(losses.metadata["delta"], errors["test"])))
    if "calibration" in losses.metadata:
        click.echo(f"\nHeld-out frames of all sets\n{Calibration.from_dict(losses.metadata['calibration'])}")
    pump = known_pump(losses)
    if pump is not None:
        click.echo(f"\n{describe_pump(pump)}")
    for note in inference_notes(losses, resolved.settings.members):
        click.echo(f"\n{note}")
    if "channels" in losses.metadata:
        click.echo(f"\n{ChannelChoice.from_dict(losses.metadata['channels'])}")
    if losses.metadata["selection"]:
        click.echo(
            "\nSelected: " + ", ".join(f"{name} {share}" for name, share in losses.metadata["selection"].items())
        )
    unstable = [
        f"Not stable: {describe_strengths(candidate['regularisation'], losses.species)} (failed: "
        f"{'; '.join(candidate['reasons'])})"
        for candidate in losses.metadata.get("failed_candidates", ())
    ]
    if unstable:
        click.echo("\n" + "\n".join([*unstable, "(--json holds the reasons)"]))
    checks = [Check.from_dict(content) for content in losses.metadata.get("stability", ())]
    if checks:
        click.echo("\nStability\n" + "\n".join(map(str, checks)))
    strengths = losses.metadata["regularisation"]
    comment = f"{_RESOLVED} of {model.name}, regularisation {describe_strengths(strengths, losses.species)}"
    content = resolved.as_fitted(losses.metadata).to_yaml(resolved_file.parent)
    with staged(model.parent, overwrite) as place:
        losses.save(place / model.name)
        (place / resolved_file.name).write_text(f"{comment}\n{content}", encoding="utf-8")
    spent = ", ".join(f"{name} {s:.1f}" for name, s in losses.metadata["seconds"].items())
    click.echo(f"\n{losses.metadata['coefficients']} coefficients in {seconds:.1f} s ({spent}). Model file: {model}")
    figures = {name: losses.metadata.get(name) for name in _TOLD} | {
        "seconds": seconds,
        "seconds_by_part": losses.metadata["seconds"],
        "peak_memory_MiB": peak_memory(),
        "train": next(iter(errors["train"].values()), None),
        "test": next(iter(errors["test"].values()), None),
        "sets": errors,
        "training_distance": {name: distance.to_dict() for name, distance in distances.items()},
        "stability": losses.metadata.get("stability", []),
        "failed_candidates": losses.metadata.get("failed_candidates", []),
        "ridge": common_strength("ridge", strengths),
        "curvature": common_strength("curvature", strengths),
        "rotamers": common_strength("rotamers", strengths),
        "regularisation": strengths,
    }
    if plot is not None:
        figures["learning_curve"] = _learning_curve(losses, resolved, sets, held_out, plot, overwrite)
    write_json(json_file, figures, overwrite)
    if losses.metadata["overfitted"]:
        click.echo(f"\n{format_overfitted(losses.metadata['overfitted'])}")
    repeated = any(distance.repeated for distance in distances.values())
    if losses.metadata["overfitted"] or repeated or any(c.passed is False for c in checks):
        sys.exit(1)


def _check_temperature(sets: list[duality.DataSet], given: str | None) -> Any:
    """Temperature of the short runs of --check: the given one, or that of the first data set in K."""
    from openmm_duality.reference.summary import temperature_of

    if given is not None:
        return given
    found = temperature_of(sets[0].frames)
    if found is None:
        click.echo(f"The files of {sets[0].name} give no temperature: --check runs at 300 K (or --temperature).")
        return 300.0
    click.echo(f"--check runs at {found:.0f} K, the temperature of {sets[0].name}.")
    return float(round(found))


def _training_distances(sets: list[duality.DataSet], held_out: Mapping[str, AnyFrames]) -> dict[str, TrainingDistance]:
    """Distances of test frames without times from the training frames, by the name of their set, where known."""
    from openmm_duality.reference.near_copies import training_distance

    found = {}
    for name, test in held_out.items():
        distances = [d for d in (training_distance(s.frames, test) for s in sets) if d is not None]
        if distances:
            found[name] = min(distances, key=lambda distance: distance.nearest)
    return found


def _numbers(text: str, name: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise DualityError(f"{name}: expected whole numbers separated by commas, got {text!r}") from None


def _corrected(
    resolved: InferenceConfig, sets: list[duality.DataSet], held_out: dict[str, AnyFrames], runs: dict[str, Any]
) -> duality.AgentLosses:
    """Correct the prior model with the data, and check its stability if short runs are described."""
    assert resolved.prior is not None
    losses = duality.fit_delta(resolved.folder / resolved.prior, sets, test=held_out, progress=True, **resolved.choices)
    if not runs:
        return losses
    from openmm_duality.learning.stable_inference import start_of_check

    start = start_of_check(sets)
    checks = duality.check_stability(losses, start, **runs, progress=True)
    return replace(losses, metadata={**losses.metadata, "stability": [check.to_dict() for check in checks]})


def _described(delta: Mapping[str, Any], test: Mapping[str, Any]) -> list[str]:
    """Errors before and after Δ-learning as text, with error bars over the blocks of frames."""
    lines = ["Δ-learning (RMSE per component in meV/Å, ± one standard error over blocks of the frames)"]
    if delta["blocks"]:
        before, after = (delta["blocks"][when] for when in ("before", "after"))
        lines.append(
            f"  blocks left out in turn, weighted as in the fit: {before['force_rmse']:.1f} before, "
            f"{after['force_rmse']:.1f} ± {after['error']:.1f} after"
        )
    for name, table in test.items():
        before, bars = delta["before"]["test"][name]["force_rmse"], delta["error"].get(name, {})
        changes = [
            f"{'molecules' if key == 'molecular' else key} {before[key]:.1f} → {rmse:.1f}"
            + (f" ± {bars[key]:.1f}" if key in bars else "")
            for key, rmse in table["force_rmse"].items()
        ]
        lines.append(f"  {name}, held out: {', '.join(changes)}")
    return lines


def _learning_curve(
    losses: duality.AgentLosses,
    resolved: InferenceConfig,
    sets: list[duality.DataSet],
    held_out: dict[str, AnyFrames],
    plot: Path,
    overwrite: bool,
) -> dict[str, Any]:
    """Print and plot the learning curve on the held-out frames of the first data set."""
    from openmm_duality.inference.equations.targets import only_energies
    from openmm_duality.report import learning_curve_figure
    from openmm_duality.report.style import png

    name, test = next(((n, f) for n, f in held_out.items() if not only_energies(f)), (None, None))
    if test is None:
        raise DualityError("a learning curve needs test frames with forces; hold some out, or name separate data")
    # a model that --check preferred for its stability has another regularisation than the curve
    full_model = None if losses.metadata.get("failed_candidates") else losses
    prior = None if resolved.prior is None else duality.AgentLosses.load(resolved.folder / resolved.prior)
    found = duality.learning_curve(
        sets, test, resolved.settings, baseline=losses.baseline, full_model=full_model, prior=prior, progress=True
    )
    click.echo(f"\nLearning curve, held-out {name}\n{found}\nFigure: {plot}")
    with atomic_write(plot, overwrite) as temporary:
        temporary.write_bytes(png(learning_curve_figure(found)))
    return dict(found.to_dict())
