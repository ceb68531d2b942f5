"""The verbs `reference`, `inspect` and `evaluate`, which compute, summarise and use reference data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

import openmm_duality as duality
from openmm_duality.console import PATH, check_outputs, json_option, overwrite_option, write_json
from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write
from openmm_duality.reference.extended_xyz import read_labels
from openmm_duality.reference.mixed_frames import without_isolated_atoms
from openmm_duality.reference.near_copies import training_distance
from openmm_duality.verbs.options import data_options, trajectory_options
from openmm_duality.verbs.structures import baseline_option

if TYPE_CHECKING:
    from openmm_duality.inference.uncertainty.calibration import Calibration

_CALIBRATION_FRAMES = 100


@click.command()
@click.argument("config", type=PATH)
@click.option("-o", "--output", "directory", type=PATH, required=True, help="Folder of the campaign; resumes one.")
@json_option
@click.option("--overwrite", is_flag=True, help="Replace the file of --json; the campaign itself is never replaced.")
def reference(config: Path, directory: Path, json_file: Path | None, overwrite: bool) -> None:
    """Run CP2K: sample by dynamics, label frames by single points, distort them, as CONFIG.yaml says.

    Every task writes a CP2K project into a folder of its name, which is DATA for the other verbs. The same command
    again resumes a killed campaign. Exit code 1 if frames were refused, because CP2K could not converge them.

    \b
    CONFIG.yaml:
      method: nnp                      # or dft, xtb, classical, with keys: {name: dft, functional: revPBE};
                                       # or a CP2K input of your own: {name: input, path: liquid.inp}
      tasks:
        - name: liquid
          md: {start: start.pdb, temperature: 300 K, timestep: 0.5 fs, steps: 4000, write_every: 40}
        - name: distorted
          label: {data: liquid, distort: [{frames: 40, displaced: {size: 0.05 angstrom}}]}
    """
    check_outputs(overwrite, json_file)
    finished = duality.run_reference(config, directory, progress=True)
    for result in finished.values():
        click.echo(f"{result.folder}: {result.frames} frames")
        for what in result.refused:
            click.echo(f"refused: {what}")
    write_json(json_file, {name: result.to_dict() for name, result in finished.items()}, overwrite)
    if any(result.refused for result in finished.values()):
        sys.exit(1)


@click.command()
@click.argument("data", type=PATH)
@trajectory_options
@data_options
@json_option
@overwrite_option
def inspect(
    data: Path,
    topology: Path | None,
    timestep: str | None,
    json_file: Path | None,
    overwrite: bool,
    **names: str | None,
) -> None:
    """Summarise DATA: frames, species, cell, forces, shortest distances, what is missing, and what `compare` lacks."""
    from openmm_duality.observables.findings import Remark
    from openmm_duality.observables.motion import obstacles_of
    from openmm_duality.observables.subjects import is_run
    from openmm_duality.report.notes import note_sentence

    check_outputs(overwrite, json_file)
    frames = duality.read(data, keys=_keys(**names), topology=topology, timestep=timestep, progress=True)
    summary = duality.summarise(frames)
    click.echo(str(summary))
    notes = obstacles_of(frames, data.name)
    if is_run(data):  # whose log and record give the temperature
        notes = [note for note in notes if note.remark is not Remark.NO_TEMPERATURE]
    obstacles = [note_sentence(note) for note in notes]
    for sentence in obstacles:
        click.echo(f"compare: {sentence}")
    write_json(json_file, {**summary.to_dict(), "compare_lacks": obstacles}, overwrite)


@click.command()
@click.argument("model", type=PATH)
@click.argument("data", type=PATH)
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Use every n-th frame.")
@click.option("--held-out", is_flag=True, help="Use only the frames that infer holds out by default.")
@click.option("--by", metavar="KEY", help="Errors by a key of the comment lines of extended XYZ, as config_type.")
@baseline_option
@click.option("--figure", type=PATH, help="Plot actual against predicted errors to a PNG file.")
@data_options
@json_option
@overwrite_option
def evaluate(
    model: Path,
    data: Path,
    every: int,
    held_out: bool,
    by: str | None,
    baseline: Path | None,
    figure: Path | None,
    json_file: Path | None,
    overwrite: bool,
    **names: str | None,
) -> None:
    """Print the errors of MODEL on the forces and energies of DATA, or on accelerations if there are no forces.

    Of several compositions the errors of each are printed too, or with --by those of the frames by a key.
    If the model has a committee, its predicted uncertainty is compared with the errors too, on at most 100 evenly
    spaced frames.
    """
    from openmm_duality.inference.errors import describe_pump
    from openmm_duality.inference.judgement import outlying_frames, unknown_systems
    from openmm_duality.losses.total import with_baseline

    check_outputs(overwrite, json_file, figure)
    losses = duality.AgentLosses.load(model)
    if baseline is not None:
        losses = with_baseline(losses, baseline)
    if figure is not None and losses.committee is None:
        raise DualityError(f"{model} has no committee, so there are no predicted errors to plot")
    frames = duality.read(data, keys=_keys(**names), progress=True)
    distance = None
    if held_out:
        train, frames = without_isolated_atoms(frames)[0].split()  # as `infer` does
        distance = training_distance(train, frames)
    labels = None if by is None else read_labels(data, by)
    table = duality.evaluate(losses, frames[::every], labels=labels, progress=True)
    click.echo(str(table))
    for sentence in filter(None, (unknown_systems(table), *outlying_frames({data.name: table}))):
        click.echo(f"\n{sentence}")
    if table.pump is not None:
        click.echo(f"\n{describe_pump(table.pump)}")
    figures = table.to_dict()
    if distance is not None:
        figures["training_distance"] = distance.to_dict()
        if distance.doubtful:
            click.echo(f"\n{distance}")
    if losses.committee is not None and table.force_rmse:
        calibration = duality.assess_calibration(losses, frames[::every], at_most=_CALIBRATION_FRAMES, progress=True)
        click.echo(f"\n{calibration}")
        figures["calibration"] = calibration.to_dict()
        if figure is not None:
            _draw(calibration, figure, overwrite)
    write_json(json_file, figures, overwrite)


def _keys(forces_key: str | None, energy_key: str | None, units: str | None) -> duality.DataKeys:
    return duality.DataKeys(forces_key, energy_key, units)


def _draw(calibration: Calibration, path: Path, overwrite: bool) -> None:
    from openmm_duality.report import calibration_figure
    from openmm_duality.report.style import png

    with atomic_write(path, overwrite) as temporary:
        temporary.write_bytes(png(calibration_figure(calibration)))
    click.echo(f"Figure: {path}")
