"""The verb reference."""

from __future__ import annotations

import sys
from pathlib import Path

import click

import openmm_duality as duality
from openmm_duality.console import PATH, check_outputs, json_option, write_json


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
      method: nnp                      # or dft, xtb, classical, with keys: {name: dft, functional: revPBE}
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
