"""The verb compare."""

from __future__ import annotations

import os
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import click
from openmm import unit

import openmm_duality as duality
from openmm_duality.console import PATH, check_outputs, json_option, overwrite_option, write_json
from openmm_duality.errors import DualityError
from openmm_duality.files import require_own
from openmm_duality.reference.formats import read_one
from openmm_duality.verbs.functions import load_functions
from openmm_duality.verbs.options import trajectory_options
from openmm_duality.verbs.structures import baseline_option

FRAMES = 20  # to recompute


@click.command()
@click.argument("run", type=PATH)
@click.argument("data", type=PATH)
@click.argument("more", type=PATH, nargs=-1)
@click.option("-o", "--output", "directory", type=PATH, help="Folder of the report; RUN/report by default.")
@click.option("--discard", help="Beginning of every run to leave out, as 1 or '1 ps'.")
@trajectory_options
@click.option("--reference-topology", type=PATH, help="The same for DATA, where it is not --topology.")
@click.option("--reference-timestep", help="The same for DATA.")
@click.option("--dynamics", type=PATH, help="More frequent frames of the reference, for spectra and diffusion.")
@click.option(
    "--dynamics-timestep", "--every", "every", help="Time between the frames of --dynamics, where it does not say."
)
@click.option(
    "--band", "bands", type=(float, float), multiple=True, help="First and last wavenumber of a band, in 1/cm."
)
@click.option(
    "--observable",
    "names",
    multiple=True,
    help="Function of your own from Frames to one number per frame: module:function, file.py:function or file.py.",
)
@click.option("--viscosity", type=float, help="In mPa s; corrects diffusion for the finite cell (Yeh and Hummer).")
@click.option(
    "--recompute", type=PATH, help="Configuration of `reference` by whose method CP2K labels frames of the runs."
)
@click.option("--recompute-frames", type=click.IntRange(1), default=FRAMES, show_default=True)
@click.option("--model", "models", type=PATH, multiple=True, help="Model of a run, where it is not in a folder nearby.")
@baseline_option
@json_option
@overwrite_option
def compare(
    run: Path,
    data: Path,
    more: tuple[Path, ...],
    directory: Path | None,
    topology: Path | None,
    timestep: str | None,
    reference_topology: Path | None,
    reference_timestep: str | None,
    discard: str | None,
    dynamics: Path | None,
    every: str | None,
    bands: tuple[tuple[float, float], ...],
    names: tuple[str, ...],
    viscosity: float | None,
    recompute: Path | None,
    recompute_frames: int,
    models: tuple[Path, ...],
    baseline: Path | None,
    json_file: Path | None,
    overwrite: bool,
) -> None:
    """Compare the observables of RUN with those of the reference DATA, with error bars.

    RUN is the folder of a run or, as DATA may be, a trajectory of any engine: DCD, XTC, TRR, NetCDF, PDB or extended
    XYZ, a CP2K project, or saved frames. `inspect` says what such a file holds and lacks.

    MORE are other runs, or other data, that are compared with the same DATA and stand beside RUN. Writes compare.json,
    figures and one HTML page. Temperature, density and pressure are compared too, and all tests are judged together.
    Exit code 1 if RUN differs from DATA, 0 if no difference was found or the data are too short to tell, as the first
    line and `conclusion` in the JSON say.

    With --recompute, CP2K computes the forces of frames of the runs again, as the method of a configuration says (its
    tasks are ignored), in the folder `recomputed` of the report. What it labelled there is not labelled again.
    """
    from openmm_duality.observables.subjects import is_run

    for name, given in (("--model", models), ("--baseline", baseline)):
        if given and recompute is None:
            raise DualityError(f"{name} is for --recompute; give --recompute METHOD.yaml with it")
    if every is not None and dynamics is None:
        raise DualityError("--dynamics-timestep is the time between the frames of --dynamics; give both")
    if (topology or timestep) is not None and all(map(is_run, (run, *more))):
        raise DualityError(
            "--topology and --timestep are for trajectories, and the folder of a run says both itself; for DATA give "
            "--reference-topology and --reference-timestep"
        )
    folder = directory or (run / "report" if run.is_dir() else run.with_name(f"{run.name.split('.')[0]}-report"))
    _check_links(folder, chosen=directory is not None)
    check_outputs(overwrite, folder / "compare.json", folder / "report.html", json_file)
    own = [function for name in names for function in load_functions(name)]
    named = reference_topology or topology
    reference = read_one(data, "a comparison", forces=False, topology=named, timestep=reference_timestep)
    motion = None if dynamics is None else duality.read_dynamics(dynamics, every, named)
    recomputed: dict[str, Any] = {}
    if recompute is not None:
        samples = duality.sample_runs(
            run, reference, more=more, dynamics=motion, count=recompute_frames, discard=discard
        )
        if not samples:
            raise DualityError(f"--recompute: {run} is not the folder of a run, so no model belongs to it")
        for sample in samples:
            try:
                model = duality.find_model(sample.directory, models)
            except DualityError as error:
                if sample is samples[0]:
                    raise
                recomputed[sample.name] = str(error)  # of the others, one without a model is left out with a note
                continue
            place = folder / "recomputed" / sample.name
            recomputed[sample.name] = duality.recompute_forces(
                sample.frames, model, recompute, place, baseline=baseline, progress=True
            )
    comparison = duality.compare(
        run,
        reference,
        more=more,
        dynamics=motion,
        topology=topology,
        timestep=timestep,
        discard=discard,
        bands=bands or None,
        viscosity=None if viscosity is None else 1e-3 * viscosity * unit.pascal * unit.second,
        recomputed=recomputed,
        observables=own,
    )
    page = duality.write_report(comparison, folder, overwrite=overwrite)
    click.echo(duality.headline(comparison))
    for column in comparison.columns:
        if more:
            click.echo(f"{column.name}:")
        for sentence in duality.verdict(column):
            click.echo(f"- {sentence}")
    click.echo(f"Report: {page}")
    write_json(json_file, duality.comparison_to_dict(comparison), overwrite)
    if comparison.agrees is False:
        sys.exit(1)


def _check_links(folder: Path, chosen: bool) -> None:
    """Refuse links in what may have come with a run from elsewhere; a folder that was chosen may be a link itself."""
    recomputed = folder / "recomputed"
    for path in chain([recomputed] if chosen else [folder, recomputed], recomputed.rglob("*")):
        if os.path.lexists(path):
            require_own(path)
