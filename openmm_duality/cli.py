"""The command line: `openmm-duality VERB …`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import openmm as mm
from openmm import unit

import openmm_duality as duality
from openmm_duality.console import PATH, Group, check_outputs, json_option, overwrite_option, write_json
from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write, sha256


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(duality.__version__, prog_name="openmm-duality")
def main() -> None:
    """Molecular learning dynamics: agent losses inferred from CP2K, run in OpenMM.

    \b
    A first session:
      openmm-duality inspect  examples/water64-cnnp
      openmm-duality infer    examples/water.yaml -o water.safetensors
      openmm-duality evaluate water.safetensors examples/water64-cnnp
      openmm-duality simulate water.safetensors --start examples/water64-cnnp -o run --time 10
      openmm-duality compare  run examples/water64-cnnp

    DATA is a CP2K project (a folder, or a prefix such as folder/water64), an extended-XYZ file or a saved frames file.
    Bare numbers are in nm, ps, K and kJ/mol; a unit may be written out ("6 angstrom", "0.5 fs").
    """


def structure_options(command: Any) -> Any:
    """Adds --cell A B C and --supercell A B C."""
    for option in (
        click.option(
            "--supercell", nargs=3, type=int, default=(1, 1, 1), show_default=True, help="Copies along a, b, c."
        ),
        click.option("--cell", nargs=3, help="Edges of the cell, for a structure file that has none (plain XYZ)."),
    ):
        command = option(command)
    return command


@main.command()
@click.argument("data", type=PATH)
@json_option
@overwrite_option
def inspect(data: Path, json_file: Path | None, overwrite: bool) -> None:
    """Say what DATA hold: frames, species, cell, forces, shortest distances, what is missing."""
    check_outputs(overwrite, json_file)
    summary = duality.summarise(duality.read(data))
    click.echo(str(summary))
    write_json(json_file, summary.to_dict(), overwrite)


@main.command()
@click.argument("config", type=PATH, required=False)
@click.option("--data", type=PATH, multiple=True, help="Training data, instead of CONFIG; may be given several times.")
@click.option("--form", help="pair, quadratic (the paper's), moment or coupled.")
@click.option("--gradient", help="agent (own loss) or collective (the sum; conserves energy and momentum).")
@click.option("--cutoff", help="For instance 0.6 or '6 angstrom'.")
@click.option("--ranks", help="Of the contracted moments of moment and coupled, such as 0,1,2,3.")
@click.option("--energy-weight", help="Let energies join the fit: 1 counts 1 meV per atom like 100 meV/Å.")
@click.option("--max-coefficients", type=int, help="Keep at most so many coefficients, those that pay most.")
@click.option("--keep-equations", is_flag=True, default=None, help="Let the model be updated with new frames later.")
@click.option("--learning-curve", "curve", is_flag=True, help="Also infer from parts of the frames; print and plot.")
@click.option("--check", is_flag=True, help="Choose among models that survive five short runs (2 ps each).")
@click.option("-o", "--output", "model", type=PATH, required=True, help="The model file (.safetensors).")
@json_option
@overwrite_option
def infer(
    config: Path | None,
    data: tuple[Path, ...],
    model: Path,
    curve: bool,
    check: bool,
    json_file: Path | None,
    overwrite: bool,
    **choices: Any,
) -> None:
    """Infer agent losses from the data sets of CONFIG.yaml (or --data), in closed form.

    The last 20 % of every data set by time is held out. Prints the errors and saves the model, with the resolved
    configuration beside it. Data without forces, or with `targets: accelerations`, are fitted to their accelerations.
    With --check, the regularisation is chosen among models that stay whole in short runs; exit code 1 if none does.

    \b
    CONFIG.yaml:
      form: quadratic
      gradient: collective
      cutoff: 6 angstrom
      data:
        - path: water64-cnnp
          every: 4
        - {path: water64-distorted/distorted, weight: 0.2}
    """
    from openmm_duality.dynamics.checks import Check
    from openmm_duality.inference.config import DataConfig, InferenceConfig
    from openmm_duality.inference.errors import ErrorTable, format_tables
    from openmm_duality.inference.settings import Settings

    if model.suffix != ".safetensors":
        raise DualityError(
            f"the model file {model} must end in .safetensors (its resolved configuration goes beside it, in a .yaml "
            "file of the same name); give such a name"
        )
    beside = model.with_suffix(".yaml")
    if config is not None and beside.resolve() == config.resolve():
        raise DualityError(
            f"the resolved configuration would be written to {beside}, which is the configuration itself; choose "
            "another name for the model"
        )
    plot = model.with_name(f"{model.stem}-learning-curve.png") if curve else None
    check_outputs(overwrite, model, beside, json_file, plot)
    choices = {name: value for name, value in choices.items() if value is not None}
    if "ranks" in choices:
        choices["ranks"] = _numbers(choices["ranks"], "ranks")
    if (config is None) == (not data):
        raise DualityError("infer needs either a configuration file or --data (see openmm-duality infer --help)")
    if config is None:
        resolved = InferenceConfig(tuple(DataConfig(str(path)) for path in data), Settings.of(**choices))
    else:
        loaded = InferenceConfig.load(config)
        settings = Settings.of(**{**loaded.settings.to_dict(), **choices})
        resolved = InferenceConfig(loaded.data, settings, loaded.folder)
    sets, held_out = resolved.read()
    begin = time.perf_counter()
    asked = {"test": held_out, "settings": resolved.settings, "progress": True}
    if check:
        losses = duality.infer_stable(sets, duality.read_start(sets[0].frames), **asked)
    else:
        losses = duality.infer(sets, **asked)
    seconds = time.perf_counter() - begin
    errors = losses.metadata["errors"]
    for kind, title in (("train", "Training frames"), ("test", "Held-out frames, by time")):
        tables = {name: ErrorTable.from_dict(table) for name, table in errors[kind].items()}
        if tables:
            click.echo(f"\n{title}\n{format_tables(tables)}")
    if losses.metadata["selection"]:
        click.echo("\nKept: " + ", ".join(f"{name} {kept}" for name, kept in losses.metadata["selection"].items()))
    for candidate in losses.metadata.get("failed_candidates", ()):
        strengths = ", ".join(
            f"ridge {s['ridge']:g}, curvature {s['curvature']:g}" for s in candidate["regularisation"]
        )
        click.echo(f"\nNot stable: {strengths}")
        for name, reason in candidate["reasons"].items():
            click.echo(f"  {name}: {reason}")
    checks = [Check.from_dict(content) for content in losses.metadata.get("stability", ())]
    if checks:
        click.echo("\nStability\n" + "\n".join(map(str, checks)))
    losses.save(model, overwrite)
    with atomic_write(beside, overwrite) as temporary:
        temporary.write_text(resolved.to_yaml(beside.parent))
    spent = ", ".join(f"{name} {s:.1f}" for name, s in losses.metadata["seconds"].items())
    click.echo(f"\n{losses.metadata['coefficients']} coefficients in {seconds:.1f} s ({spent}). The model: {model}")
    first = next(iter(errors["test"] or errors["train"]), None)
    figures = {
        "seconds": seconds,
        "seconds_by_part": losses.metadata["seconds"],
        "coefficients": losses.metadata["coefficients"],
        "train": errors["train"].get(first),
        "test": errors["test"].get(first),
        "sets": errors,
        "stability": losses.metadata.get("stability", []),
        "failed_candidates": losses.metadata.get("failed_candidates", []),
    }
    if plot is not None:
        figures["learning_curve"] = _learning_curve(losses, resolved, sets, held_out, plot, overwrite)
    write_json(json_file, figures, overwrite)
    if any(c.passed is False for c in checks):
        sys.exit(1)


def _numbers(text: str, name: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise DualityError(f"{name}: expected whole numbers with commas between them, got {text!r}") from None


def _learning_curve(
    losses: Any, resolved: Any, sets: Any, held_out: Any, plot: Path, overwrite: bool
) -> dict[str, Any]:
    """Of the first data set's held-out frames."""
    from openmm_duality.report import learning_curve_figure
    from openmm_duality.report.figures import png

    test = next(iter(held_out.values()))
    found = duality.learning_curve(sets, test, resolved.settings, whole=losses, progress=True)
    click.echo(f"\nLearning curve, held-out {next(iter(held_out))}\n{found}\nThe figure: {plot}")
    with atomic_write(plot, overwrite) as temporary:
        temporary.write_bytes(png(learning_curve_figure(found)))
    return dict(found.to_dict())


@main.command()
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


@main.command()
@click.argument("model", type=PATH)
@click.option("--start", type=PATH, required=True, help="PDB, XYZ, or reference data (its last frame).")
@click.option("-o", "--output", "directory", type=PATH, required=True, help="The folder of the run; resumes one.")
@click.option("--time", "duration", default="10", show_default=True, help="Length of the run, as 10 or '10 ps'.")
@click.option("--temperature", default="300", show_default=True, help="In K.")
@click.option(
    "--integrator",
    type=click.Choice(["nose-hoover", "langevin", "verlet", "descent"]),
    default="nose-hoover",
    show_default=True,
)
@click.option("--timestep", default="0.5 fs", show_default=True)
@click.option(
    "--friction",
    default="10/ps",
    show_default=True,
    help="Collision frequency of the heat bath; under descent its inverse is the memory of the momentum.",
)
@click.option("--report", default="10 fs", show_default=True, help="Time between frames, log rows and checks.")
@click.option("--platform", help="Reference, CPU, OpenCL or CUDA; the fastest by default.")
@click.option("--precision", help="Of the platform: single, mixed or double.")
@click.option(
    "--loss-precision",
    type=click.Choice(["double", "single"]),
    help="Of the losses; by default single where they are fused, double elsewhere.",
)
@click.option(
    "--backend",
    help="fused (compiled for this processor; the default but on GPUs), torchscript, or where they are to run: "
    "torchforce, pythonforce, fused-torchforce or fused-pythonforce.",
)
@structure_options
@click.option("--seed", type=int, help="Of the velocities and the heat bath; drawn and recorded by default.")
@click.option("--velocities", is_flag=True, help="Write velocities.dcd too.")
@click.option("--allow-broken", is_flag=True, help="Go on when a molecule breaks, or broke.")
@json_option
@click.option("--overwrite", is_flag=True, help="Replace the file of --json; the run itself is never replaced.")
def simulate(model: Path, directory: Path, json_file: Path | None, overwrite: bool, **options: Any) -> None:
    """Run learning dynamics with MODEL in a folder: DCD, log, checkpoint.

    The same command again resumes a killed run, or goes on with a longer --time. The run stops itself, with exit code
    1 and the last good state saved, on NaN, runaway temperature, collapsed atoms or broken molecules.
    """
    from openmm_duality.dynamics.integrators import positive
    from openmm_duality.lowering.backends import default_backend

    check_outputs(overwrite, json_file)
    losses = duality.AgentLosses.load(model)
    start = _start(options["start"], options["cell"], options["supercell"])
    timestep, duration, report = (
        positive(options[name], unit.picosecond, name) for name in ("timestep", "duration", "report")
    )
    topology = duality.create_topology(start.species, _molecules(losses, start), start.cell)
    backend = options["backend"] or default_backend(options["platform"])
    system = duality.create_system(losses, topology, backend=backend, precision=options["loss_precision"])
    result = duality.simulate(
        system,
        topology,
        start.positions,
        _integrator(options["integrator"], options["temperature"], options["friction"], timestep),
        directory,
        steps=round(duration / timestep),
        report_interval=max(1, round(report / timestep)),
        platform=options["platform"],
        precision=options["precision"],
        temperature=None if options["integrator"] == "descent" else options["temperature"],
        seed=options["seed"],
        species=start.species,
        limits=duality.Limits.of(losses, options["allow_broken"]),
        save_velocities=options["velocities"],
        metadata={"model": {"name": model.name, "sha256": sha256(model), **_described(losses)}},
    )
    click.echo(result.message)
    figures = {"status": result.status, "reason": result.reason, "ms_per_step": result.ms_per_step}
    write_json(json_file, figures, overwrite)
    if result.status == "stopped":
        sys.exit(1)


def _start(path: Path, cell: tuple[str, str, str] | None, copies: tuple[int, int, int]) -> Any:
    from openmm_duality.dynamics.integrators import positive
    from openmm_duality.dynamics.starting import Start, read_start
    from openmm_duality.reference.cp2k_files import is_position_file

    # CP2K's own files of positions hold no cell, so they are read with their project
    structure = path.suffix.lower() in (".pdb", ".xyz", ".extxyz") and not is_position_file(path)
    start = read_start(path if structure else duality.read(path))
    if cell is not None:
        if start.cell is not None:
            raise DualityError(f"{path} has a cell of its own; leave out --cell")
        edges = [positive(edge, unit.nanometer, "cell") for edge in cell]
        start = Start(start.positions, start.species, np.diag(edges))
    return start if copies == (1, 1, 1) else start.repeated(copies)


def _molecules(losses: Any, start: Any) -> Any:
    from openmm_duality.reference.molecules import find_molecules

    return find_molecules(start.positions, start.species, start.cell, dict(losses.bond_lengths))


def _integrator(name: str, temperature: str, friction: str, timestep: float) -> mm.CustomIntegrator:
    from openmm_duality.dynamics.integrators import positive

    rate = positive(friction, unit.picosecond**-1, "friction")
    kelvin = positive(temperature, unit.kelvin, "temperature")
    if name == "verlet":
        return duality.VerletLearningIntegrator(timestep)
    if name == "descent":
        return duality.DescentLearningIntegrator(timestep, 1.0 / rate)
    if name == "langevin":
        return duality.LangevinLearningIntegrator(kelvin, rate, timestep)
    return duality.NoseHooverLearningIntegrator(kelvin, rate, timestep)


def _described(losses: Any) -> dict[str, Any]:
    errors = losses.metadata.get("errors", {})
    first = {kind: next(iter(tables.values())) for kind, tables in errors.items() if tables}
    return {"form": losses.form.name, "gradient": losses.gradient, "errors": first}


@main.command()
@click.argument("run", type=PATH)
@click.argument("data", type=PATH)
@click.argument("more", type=PATH, nargs=-1)
@click.option("-o", "--output", "directory", type=PATH, help="Folder of the report; RUN/report by default.")
@click.option("--discard", help="Beginning of every run to leave out, as 1 or '1 ps'.")
@click.option("--dynamics", type=PATH, help="More frequent frames of the reference, for spectra and diffusion.")
@click.option("--every", help="Time between the frames of --dynamics where its files do not say, as '2 fs'.")
@click.option(
    "--band", "bands", type=(float, float), multiple=True, help="First and last wavenumber of a band, in 1/cm."
)
@click.option("--viscosity", type=float, help="In mPa s; corrects diffusion for the finite cell (Yeh and Hummer).")
@json_option
@overwrite_option
def compare(
    run: Path,
    data: Path,
    more: tuple[Path, ...],
    directory: Path | None,
    discard: str | None,
    dynamics: Path | None,
    every: str | None,
    bands: tuple[tuple[float, float], ...],
    viscosity: float | None,
    json_file: Path | None,
    overwrite: bool,
) -> None:
    """Hold the observables of RUN against those of the reference DATA, with error bars.

    MORE are other runs, or other reference data, that are held against the same DATA and stand beside RUN. Writes
    compare.json, figures and one HTML page. Exit code 1 if RUN differs from DATA by more than the errors of both.
    """
    folder = directory or run / "report"
    check_outputs(overwrite, folder / "compare.json", folder / "report.html", json_file)
    comparison = duality.compare(
        run,
        duality.read(data, forces=False),
        more=more,
        dynamics=None if dynamics is None else duality.read_dynamics(dynamics, every),
        discard=discard,
        bands=bands or None,
        viscosity=None if viscosity is None else 1e-3 * viscosity * unit.pascal * unit.second,
    )
    page = duality.write_report(comparison, folder, overwrite=overwrite)
    for column in comparison.columns:
        if more:
            click.echo(f"{column.name}:")
        for sentence in column.verdict:
            click.echo(f"- {sentence}")
    click.echo(f"The report: {page}")
    write_json(json_file, comparison.to_dict(), overwrite)
    if comparison.agrees is False:
        sys.exit(1)


@main.command()
@click.argument("model", type=PATH)
@click.option("--start", type=PATH, required=True, help="Structure whose atoms and cell the files are for.")
@click.option("-o", "--output", "directory", type=PATH, required=True, help="Folder for the files.")
@structure_options
@click.option("--backend", default="torchscript", show_default=True)
@click.option("--precision", type=click.Choice(["double", "single"]), default="double", show_default=True)
@overwrite_option
def export(
    model: Path,
    start: Path,
    directory: Path,
    cell: tuple[str, str, str] | None,
    supercell: tuple[int, int, int],
    backend: str,
    precision: str,
    overwrite: bool,
) -> None:
    """Write what a plain OpenMM script loads: losses.pt (TorchScript), system.xml and topology.pdb."""
    check_outputs(overwrite, *(directory / name for name in ("losses.pt", "system.xml", "topology.pdb")))
    losses = duality.AgentLosses.load(model)
    structure = _start(start, cell, supercell)
    topology = duality.create_topology(structure.species, _molecules(losses, structure), structure.cell)
    system = duality.create_system(losses, topology, backend=backend, precision=precision)
    duality.export_torchscript(
        losses, structure.species, directory / "losses.pt", precision=precision, overwrite=overwrite
    )
    duality.export_system(system, directory / "system.xml", overwrite=overwrite)
    with atomic_write(directory / "topology.pdb", overwrite) as temporary, open(temporary, "w") as file:
        mm.app.PDBFile.writeFile(topology, structure.positions * unit.nanometer, file)
    click.echo(f"{directory}: losses.pt, system.xml, topology.pdb")


@main.command()
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
@click.option("--tip3p/--no-tip3p", default=None, help="OpenMM's TIP3P beside it; where there is water by default.")
@click.option(
    "--cp2k/--no-cp2k", default=None, help="CP2K's network beside it, up to 64 molecules; where CP2K is by default."
)
@click.option("--dft", is_flag=True, help="CP2K's Born-Oppenheimer dynamics of 32 molecules too (PBE-D3; minutes).")
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
    repeats that are made by turns, so that whatever else the machine does hits all rows alike. A row that cannot be
    timed says why. Exit code 1 if no model could be.
    """
    from openmm_duality.benchmark import Beside, Effort, format_costs, measure_cost, read_sizes
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
        start=None if start is None else _start(start, None, (1, 1, 1)),
        effort=Effort(repeats=repeats, budget=budget),
        beside=Beside(tip3p, cp2k, dft),
        progress=True,
    )
    click.echo(format_costs(costs))
    write_json(json_file, costs.to_dict(), overwrite)
    if directory is not None:
        for path in write_benchmark_figures(costs, directory, overwrite=overwrite):
            click.echo(f"The figure: {path}")
    if not any(row.ms_per_step for row in costs.rows if row.what.startswith("duality:")):
        sys.exit(1)


if __name__ == "__main__":
    main()
