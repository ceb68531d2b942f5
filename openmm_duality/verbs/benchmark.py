"""The verb benchmark."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from openmm_duality.console import PATH, check_outputs, json_option, overwrite_option, write_json
from openmm_duality.verbs.structures import read_structure


@click.command()
@click.argument("models", type=PATH, nargs=-1, required=True)
@click.option("--sizes", default="64,512,4096,32768", show_default=True, help="In molecules.")
@click.option("--start", type=PATH, help="Structure that is repeated to the sizes; liquid water is built by default.")
@click.option(
    "--platform", "platforms", multiple=True, help="May be given several times; all but Reference by default."
)
@click.option(
    "--backend", "backends", multiple=True, help="May be given several times; fused and torchscript by default."
)
@click.option(
    "--precision", type=click.Choice(["double", "single"]), help="Of the losses; the back end's own by default."
)
@click.option("--repeats", type=click.IntRange(1), default=9, show_default=True, help="Blocks of steps of every row.")
@click.option(
    "--budget",
    type=click.FloatRange(0, min_open=True),
    default=60,
    show_default=True,
    help="Seconds after which a row has no more repeats.",
)
@click.option("--tip3p/--no-tip3p", default=None, help="Time OpenMM's TIP3P too; by default where the start is water.")
@click.option(
    "--cp2k/--no-cp2k",
    default=None,
    help="Time CP2K's network too, up to 64 molecules; by default where CP2K is installed.",
)
@click.option(
    "--dft", is_flag=True, help="Time CP2K's Born-Oppenheimer dynamics of 32 molecules too (PBE-D3; minutes)."
)
@click.option("-o", "--output", "directory", type=PATH, help="Folder for the figures.")
@json_option
@overwrite_option
def benchmark(
    models: tuple[Path, ...],
    sizes: str,
    start: Path | None,
    platforms: tuple[str, ...],
    backends: tuple[str, ...],
    precision: str | None,
    repeats: int,
    budget: float,
    tip3p: bool | None,
    cp2k: bool | None,
    dft: bool,
    directory: Path | None,
    json_file: Path | None,
    overwrite: bool,
) -> None:
    """Measure the cost of a step of MODELS by size, platform and back end, with TIP3P and CP2K in the same run.

    Flexible models run with one integrator (Nosé-Hoover, 0.5 fs), rigid TIP3P at 2 fs. Every row is the median of
    interleaved repeats, so that other load on the machine slows all rows alike. A row that cannot be timed says why.
    Exit code 1 if no model could be timed.
    """
    from openmm_duality.benchmark import Baselines, Effort, format_costs, measure_cost, read_sizes
    from openmm_duality.report.benchmarks import check_figures, write_benchmark_figures

    check_outputs(overwrite, json_file)
    if directory is not None:
        check_figures(directory, overwrite)
    costs = measure_cost(
        models,
        sizes=read_sizes(sizes),
        platforms=platforms or None,
        backends=backends or None,
        precision=precision,
        start=None if start is None else read_structure(start, None, (1, 1, 1)),
        effort=Effort(repeats=repeats, budget=budget),
        baselines=Baselines(tip3p, cp2k, dft),
        progress=True,
    )
    click.echo(format_costs(costs))
    write_json(json_file, costs.to_dict(), overwrite)
    if directory is not None:
        for path in write_benchmark_figures(costs, directory, overwrite=overwrite):
            click.echo(f"Figure: {path}")
    if not any(row.ms_per_step for row in costs.rows if row.what.startswith("duality:")):
        sys.exit(1)
