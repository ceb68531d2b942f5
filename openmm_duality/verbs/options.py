"""Options that several verbs share about the data they read."""

from __future__ import annotations

from typing import Any

import click

from openmm_duality.console import PATH


def data_options(command: Any) -> Any:
    """Add options that name the forces and energies of extended XYZ and npz files, and their units, to a command."""
    for option in (
        click.option("--units", help="Of extended XYZ and npz files: eV (default), kcal/mol, kJ/mol, hartree …"),
        click.option("--energy-key", help="Of the energies in extended XYZ or npz files; by default it is found."),
        click.option("--forces-key", help="Column of the forces in extended XYZ or npz files; by default it is found."),
    ):
        command = option(command)
    return command


def trajectory_options(command: Any) -> Any:
    """Add --topology and --timestep, for trajectories that hold neither atoms nor times, to a command."""
    for option in (
        click.option(
            "--timestep",
            help="Time between frames, as '10 fs', where a trajectory does not say it, or wrongly.",
        ),
        click.option(
            "--topology",
            type=PATH,
            help="What names the atoms of a trajectory: PDB, GRO, PSF, prmtop, extended XYZ …",
        ),
    ):
        command = option(command)
    return command
