"""Verbs about reference data: inspect, evaluate."""

from __future__ import annotations

from pathlib import Path

import click

import openmm_duality as duality
from openmm_duality.console import PATH, check_outputs, json_option, overwrite_option, write_json


@click.command()
@click.argument("data", type=PATH)
@json_option
@overwrite_option
def inspect(data: Path, json_file: Path | None, overwrite: bool) -> None:
    """Say what DATA hold: frames, species, cell, forces, shortest distances, what is missing."""
    check_outputs(overwrite, json_file)
    summary = duality.summarise(duality.read(data))
    click.echo(str(summary))
    write_json(json_file, summary.to_dict(), overwrite)


@click.command()
@click.argument("model", type=PATH)
@click.argument("data", type=PATH)
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Look at every n-th frame.")
@click.option("--held-out", is_flag=True, help="Look at the last 20 % by time only.")
@json_option
@overwrite_option
def evaluate(model: Path, data: Path, every: int, held_out: bool, json_file: Path | None, overwrite: bool) -> None:
    """Errors of MODEL against the forces and energies of DATA, or their accelerations where there are no forces."""
    check_outputs(overwrite, json_file)
    losses = duality.AgentLosses.load(model)
    frames = duality.read(data)
    if held_out:
        frames = frames.split()[1]
    table = duality.evaluate(losses, frames[::every], progress=True)
    click.echo(str(table))
    write_json(json_file, table.to_dict(), overwrite)
