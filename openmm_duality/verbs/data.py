"""The verbs `inspect` and `evaluate`, which read reference data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import openmm_duality as duality
from openmm_duality.console import PATH, check_outputs, json_option, overwrite_option, write_json
from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write

_CALIBRATION_FRAMES = 100


@click.command()
@click.argument("data", type=PATH)
@json_option
@overwrite_option
def inspect(data: Path, json_file: Path | None, overwrite: bool) -> None:
    """Summarise DATA: frames, species, cell, forces, shortest distances, missing items."""
    check_outputs(overwrite, json_file)
    summary = duality.summarise(duality.read(data))
    click.echo(str(summary))
    write_json(json_file, summary.to_dict(), overwrite)


@click.command()
@click.argument("model", type=PATH)
@click.argument("data", type=PATH)
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Use every n-th frame.")
@click.option("--held-out", is_flag=True, help="Use only the last 20 % by time.")
@click.option("--figure", type=PATH, help="Plot actual against predicted errors to a PNG file.")
@json_option
@overwrite_option
def evaluate(
    model: Path,
    data: Path,
    every: int,
    held_out: bool,
    figure: Path | None,
    json_file: Path | None,
    overwrite: bool,
) -> None:
    """Print the errors of MODEL on the forces and energies of DATA, or on accelerations if there are no forces.

    If the model has a committee, its predicted uncertainty is compared with the errors too, on at most 100 evenly
    spaced frames.
    """
    check_outputs(overwrite, json_file, figure)
    losses = duality.AgentLosses.load(model)
    if figure is not None and losses.committee is None:
        raise DualityError(f"{model} has no committee, so there are no predicted errors to plot")
    frames = duality.read(data)
    if held_out:
        frames = frames.split()[1]
    table = duality.evaluate(losses, frames[::every], progress=True)
    click.echo(str(table))
    figures = table.to_dict()
    if losses.committee is not None:
        calibration = duality.assess_calibration(losses, frames[::every], at_most=_CALIBRATION_FRAMES, progress=True)
        click.echo(f"\n{calibration}")
        figures["calibration"] = calibration.to_dict()
        if figure is not None:
            _draw(calibration, figure, overwrite)
    write_json(json_file, figures, overwrite)


def _draw(calibration: Any, path: Path, overwrite: bool) -> None:
    from openmm_duality.report import calibration_figure
    from openmm_duality.report.style import png

    with atomic_write(path, overwrite) as temporary:
        temporary.write_bytes(png(calibration_figure(calibration)))
    click.echo(f"Figure: {path}")
