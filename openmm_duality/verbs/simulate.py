"""The verbs simulate and export."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import openmm as mm
from click.core import ParameterSource
from openmm import unit

import openmm_duality as duality
from openmm_duality.console import PATH, check_outputs, json_option, overwrite_option, write_json
from openmm_duality.errors import DualityError
from openmm_duality.files import staged
from openmm_duality.units import bare
from openmm_duality.verbs.start_notes import held_atoms, narrow_cells, new_cluster, vacuum
from openmm_duality.verbs.structures import (
    baseline_option,
    numbers_of_atoms,
    read_structure,
    structure_options,
    topology_of,
)

if TYPE_CHECKING:
    from openmm_duality.dynamics import LearningIntegrator
    from openmm_duality.geometry.arrays import FloatArray
    from openmm_duality.learning import Monitor
    from openmm_duality.losses import AgentLosses

_LONGEST_STEP = 0.1  # ps
_FRICTIONLESS = ("verlet", "energy-conserving-descent")
_TIMES_HELD_OUT = 2.0  # mean predicted error of a run, beside the error of held-out frames
_BLOCKS = 10  # of a run, for the errors of its pump and pressure
_FAR = 50.0  # MPa, in which a mean pressure may differ from the one that is set before it is said


@click.command()
@click.argument("model", type=PATH)
@click.option("--start", type=PATH, required=True, help="PDB, XYZ, POSCAR, CIF …, or reference data.")
@click.option("-o", "--output", "directory", type=PATH, required=True, help="The folder of the run; resumes one.")
@click.option("--time", "duration", default="10", show_default=True, help="Length of the run, as 10 or '10 ps'.")
@click.option(
    "--temperature",
    default="300",
    show_default="300; a descent starts at rest",
    help="In K, of the heat bath and of the initial velocities.",
)
@click.option(
    "--integrator",
    type=click.Choice(["nose-hoover", "langevin", "verlet", "descent", "energy-conserving-descent"]),
    default="nose-hoover",
    show_default=True,
)
@click.option("--timestep", default="0.5 fs", show_default=True, help="A bare number is in ps, as of all times.")
@click.option(
    "--friction",
    default="10/ps",
    show_default=True,
    help="Collision frequency of the heat bath; under descent its inverse is the time constant of the momentum. "
    "The other integrators have none.",
)
@click.option(
    "--target-energy",
    help="Of energy-conserving-descent, as '-1200 kJ/mol': it cannot come to rest above it.",
)
@click.option("--report", default="10 fs", show_default=True, help="Time between frames, log rows and checks.")
@click.option("--platform", help="Reference, CPU, OpenCL or CUDA; the fastest by default (OpenCL only on a GPU).")
@click.option("--precision", help="Of the platform: single, mixed or double.")
@click.option(
    "--loss-precision",
    type=click.Choice(["double", "single"]),
    help="Of the losses; by default single where they are fused, double elsewhere.",
)
@click.option(
    "--backend",
    help="fused (compiled for this processor; the default), torchscript (on a GPU too), or "
    "where they are to run: torchforce, pythonforce, fused-torchforce or fused-pythonforce.",
)
@structure_options
@click.option("--pressure", help="Constant pressure, as '1 bar'; changes the volume. A model needs stresses for it.")
@click.option(
    "--barostat",
    type=click.Choice(["molecules", "atoms"]),
    default="molecules",
    show_default=True,
    help="What is scaled with the volume: molecules as a whole, or atoms one by one.",
)
@click.option("--axes", help="Along which the box changes, each on its own, as xyz or xy; by default by one factor.")
@baseline_option
@click.option("--fixed", help="Atoms that do not move, by their numbers in the start from 0, as '0-15,20'.")
@click.option("--minimize", is_flag=True, help="Minimise the energy of the start before the first step.")
@click.option("--seed", type=int, help="Of the velocities and the heat bath; drawn and recorded by default.")
@click.option("--velocities", is_flag=True, help="Write velocities.dcd too.")
@click.option(
    "--monitor",
    type=click.Choice(["warn", "stop", "collect", "off"]),
    help="What to do where the run leaves the training distribution of the model: warn (alarms.csv; the default), "
    "stop, collect the frames (collected.xyz) for the reference to label, or nothing.",
)
@click.option("--monitor-interval", default="50 fs", show_default=True, help="Time between checks of the monitor.")
@click.option(
    "--false-alarms",
    type=float,
    default=0.1,
    show_default=True,
    help="Of the monitor, expected per ns of the run from the tails of the training data.",
)
@click.option("--uncertainty", is_flag=True, help="Write the uncertainty of every atom's force to uncertainty.csv too.")
@click.option(
    "--allow-broken", is_flag=True, help="Continue when atoms leave their molecule, or bonds change as no data show."
)
@json_option
@click.option("--overwrite", is_flag=True, help="Replace the file of --json; the run itself is never replaced.")
def simulate(model: Path, directory: Path, json_file: Path | None, overwrite: bool, **options: Any) -> None:
    """Run learning dynamics with MODEL in a folder: DCD, log, checkpoint.

    The same command again resumes a killed run, or extends it to a longer --time. The run stops itself, with exit code
    1 and the last good state saved, on NaN, runaway temperature, collapsed atoms or broken molecules, and with
    --monitor stop also where it leaves the training distribution of the model. The log holds the mean and the largest
    predicted error of forces. Exit code 1 also where most checks of the monitor raised an alarm (not with --monitor
    collect, which is for such runs).
    """
    from openmm_duality.dynamics.integrators import positive
    from openmm_duality.dynamics.monitoring import mostly_unknown
    from openmm_duality.inference.errors import describe_pump, known_pump
    from openmm_duality.lowering.backends import computing_device
    from openmm_duality.lowering.force_identity import identify_forces
    from openmm_duality.lowering.platform_choice import fastest_platform

    check_outputs(overwrite, json_file)
    losses = duality.AgentLosses.load(model)
    start = read_structure(options["start"], options["cell"], options["supercell"], options["frame"])
    timestep, duration, report, interval = (
        positive(options[name], unit.picosecond, name)
        for name in ("timestep", "duration", "report", "monitor_interval")
    )
    if timestep > _LONGEST_STEP:
        raise DualityError(
            f"--timestep: {timestep:g} ps is longer than any vibration; a bare number is in ps, so write 0.5 fs as "
            "'0.5 fs'"
        )
    if round(duration / timestep) < 1:
        raise DualityError(f"--time: {duration:g} ps is shorter than a time step, {timestep:g} ps")
    integrator = _integrator(losses, options, timestep)
    topology, molecules = topology_of(losses, start)
    fixed = numbers_of_atoms(options["fixed"], len(start.species))
    if fixed and not losses.has_potential:
        raise DualityError(
            f"--fixed needs losses with a potential energy: under the {losses.gradient} gradient the motion of the "
            "centre of mass is removed at every step; infer collective losses"
        )
    system = duality.create_system(
        losses,
        topology,
        baseline=options["baseline"],
        backend=options["backend"],
        precision=options["loss_precision"],
        platform=options["platform"],
        removeCMMotion=not fixed,  # they take up momentum
    )
    for atom in fixed:
        system.setParticleMass(atom, 0.0)  # OpenMM moves nothing without a mass
    if options["pressure"] is not None:
        if fixed:
            raise DualityError(
                "--fixed atoms have places, which --pressure scales with the cell; leave out one of them"
            )
        if options["integrator"] not in ("nose-hoover", "langevin"):
            raise DualityError("constant pressure needs a heat bath: choose --integrator nose-hoover or langevin")
        scaled = molecules if options["barostat"] == "molecules" else None
        bath = (options["pressure"], options["temperature"])
        duality.add_barostat(system, *bath, molecules=scaled, axes=options["axes"])
    elif options["axes"] is not None:
        raise DualityError("--axes says which axes change at constant pressure; add --pressure, or leave it out")
    forces = identify_forces(system)
    backend, precision = forces["loss_backend"], forces["loss_precision"]
    device = computing_device(backend, options["platform"] or fastest_platform())
    click.echo(f"Losses are computed by {backend} in {precision} precision on: {device}.")
    closing = vacuum(losses, start) if options["pressure"] is not None and options["axes"] is None else ""
    for note in (narrow_cells(losses, start), new_cluster(losses, start), held_atoms(start, fixed), closing):
        if note:
            click.echo(note)
    pump = known_pump(losses)
    if pump is not None and integrator.ensemble != "descent":
        in_bath = options["integrator"] == "langevin"
        friction = integrator.getGlobalVariableByName("friction") if in_bath else 1.0
        click.echo(f"These losses have no potential energy. {describe_pump(pump, friction)}")
        if not in_bath:
            click.echo("Take --integrator langevin with such a friction: it takes up the heat at every atom alike.")
    result = duality.simulate(
        system,
        topology,
        start.positions,
        integrator,
        directory,
        steps=round(duration / timestep),
        report_interval=max(1, round(report / timestep)),
        platform=options["platform"],
        precision=options["precision"],
        temperature=options["temperature"] if integrator.ensemble != "descent" or _given("temperature") else None,
        minimize=options["minimize"],
        seed=options["seed"],
        species=start.species,
        limits=duality.Limits.of(losses, options["allow_broken"]),
        monitor=_monitor(losses, start.species, options, max(1, round(interval / timestep)), timestep),
        save_velocities=options["velocities"],
        metadata={"model": {"name": model.name, "sha256": losses.sha256(), **_described(losses)}},
    )
    click.echo(result.message)
    log = np.atleast_1d(np.genfromtxt(directory / "log.csv", delimiter=",", names=True))
    predicted = _predicted_error(log["mean_force_uncertainty"], losses, collected=options["monitor"] == "collect")
    shown = not losses.has_potential and result.status == "finished" and options["integrator"] != "descent"
    measured = _measured_pump(directory, pump) if shown else {}
    if options["pressure"] is not None:
        measured |= _mean_pressure(log["pressure_MPa"], options["pressure"])
    figures = {
        "status": result.status,
        "reason": result.reason,
        "ms_per_step": result.ms_per_step,
        "alarms": result.alarms,
        "exchanged_bonds": result.exchanged_bonds,
        "unknown_bonds": result.unknown_bonds,
        "predicted_force_error": predicted,
        **measured,
    }
    write_json(json_file, figures, overwrite)
    unknown = options["monitor"] != "collect" and mostly_unknown(result.alarms, result.checks)
    if result.status == "stopped" or unknown:
        sys.exit(1)


def _integrator(losses: AgentLosses, options: Mapping[str, Any], timestep: float) -> LearningIntegrator:
    from openmm_duality.dynamics import integrators

    name, target = options["integrator"], options["target_energy"]
    rate = integrators.positive(options["friction"], unit.picosecond**-1, "friction")
    kelvin = integrators.positive(options["temperature"], unit.kelvin, "temperature")
    if (name == "energy-conserving-descent") != (target is not None):
        raise DualityError(
            "--integrator energy-conserving-descent and --target-energy belong together: give both, the energy below "
            "what `simulate --minimize` finds, or neither"
        )
    if name in _FRICTIONLESS and _given("friction"):
        raise DualityError(f"--friction has no effect with --integrator {name}, which has none; leave it out")
    if target is not None:
        return duality.EnergyConservingDescentLearningIntegrator(timestep, target)
    if name == "verlet":
        return integrators.VerletLearningIntegrator(timestep)
    if name == "descent":
        return integrators.DescentLearningIntegrator(timestep, 1.0 / rate)
    if name == "langevin":
        # the work of forces without a potential is what they pump
        return integrators.LangevinLearningIntegrator(kelvin, rate, timestep, recordWork=not losses.has_potential)
    removed = 3 if options["fixed"] is None else 0  # fixed atoms take up momentum
    return integrators.NoseHooverLearningIntegrator(kelvin, rate, timestep, removedDegreesOfFreedom=removed)


def _given(option: str) -> bool:
    """Whether an option of the command is not left at its default."""
    return click.get_current_context().get_parameter_source(option) is not ParameterSource.DEFAULT


def _predicted_error(predicted: FloatArray, losses: AgentLosses, collected: bool) -> float | None:
    """Print and give the mean predicted error of the forces of a run in meV/Å, None if nothing predicts one."""
    known = predicted[np.isfinite(predicted)]
    if not len(known):
        return None
    tables = losses.metadata.get("errors", {}).get("test", {}).values()
    held_out = sorted(table["force_rmse"]["all"] for table in tables if table["force_rmse"])
    among = " to ".join(dict.fromkeys(f"{error:.3g}" for error in (held_out[:1] + held_out[-1:])))
    beside = f"; the error in held-out frames was {among}" if held_out else ""
    if held_out and known.mean() > _TIMES_HELD_OUT * held_out[-1]:
        frames = "collected.xyz" if collected else "--monitor collect"
        beside += f". So the run was where the model knows little: add frames of it ({frames}) to the data"
    click.echo(f"Mean predicted error of the forces along the run: {known.mean():.3g} meV/Å{beside}.")
    return float(known.mean())


def _measured_pump(directory: Path, predicted: float | None) -> dict[str, Any]:
    """Print and record the power that forces fed into a run after its first fifth; nothing where it does not show."""
    from openmm_duality.dynamics.record import add_to_record
    from openmm_duality.observables.run_log import measure_pump
    from openmm_duality.observables.runs import read_run

    run = read_run(directory)
    first = len(run.log["time_ps"]) // 5
    found = measure_pump(run, {name: column[first:] for name, column in run.log.items()}, _BLOCKS)
    if found is None or not math.isfinite(found.measured.error):
        return {}
    beside = "" if predicted is None else f"; predicted at 300 K: {predicted:.3g}"
    click.echo(
        f"Measured pump: {found.measured.mean:.3g} ± {found.measured.error:.2g} kJ/mol per atom and ps (standard "
        f"error; without the first fifth of the run){beside}."
    )
    entry = {"measured_pump": {"unit": "kJ/mol per atom and ps", **found.measured.to_dict()}}
    add_to_record(directory, entry)
    return entry


def _mean_pressure(pressures: FloatArray, wanted: str) -> dict[str, Any]:
    """Print and give the mean pressure in MPa of the second half of a run, if its rows of the log are enough."""
    from openmm_duality.observables.statistics import series_estimate

    values, target = pressures[len(pressures) // 2 :], bare(wanted, unit.bar, "pressure") / 10.0
    if len(values) < 2 * _BLOCKS or not np.isfinite(values).all():
        return {}
    found = series_estimate(values, _BLOCKS)
    far = abs(found.mean - target) > max(_FAR, 5.0 * found.error)
    click.echo(
        f"Mean pressure in the second half of the run: {found.mean:,.4g} ± {found.error:.2g} MPa (standard error); "
        f"{target:.4g} is set{', which the cell has not reached yet: run longer' if far else ''}."
    )
    return {"mean_pressure": {"unit": "MPa", **found.to_dict()}}


def _monitor(
    losses: AgentLosses, species: Sequence[str], options: Mapping[str, Any], interval: int, timestep: float
) -> Monitor | None:
    """The monitor of a run; none by default where the model has neither domain nor committee."""
    from openmm_duality.learning import Monitor

    action, per_atom, per_ns = options["monitor"], options["uncertainty"], options["false_alarms"]
    impossible = losses.domain is None and losses.committee is None
    if action == "off" or (action is None and impossible and not per_atom):
        if per_atom:
            raise DualityError("--uncertainty is written by the monitor; leave out --monitor off")
        if impossible and action is None:
            click.echo(
                "No monitor: the model, inferred from few frames, has neither a training domain nor a committee."
            )
        return None
    if not per_ns > 0.0:
        raise DualityError(f"--false-alarms: expected a number above 0, per ns, got {per_ns}")
    per_check = per_ns * 1e-3 * interval * timestep
    monitor = Monitor(losses, species, action or "warn", interval, per_atom, false_alarms=per_check)
    click.echo(
        f"Monitor: a check every {1e3 * interval * timestep:g} fs; limits are for {per_ns:g} false alarms per ns, "
        f"{per_ns / max(1, len(species)):.2g} per atom and ns."
    )
    return monitor


def _described(losses: AgentLosses) -> dict[str, Any]:
    errors = losses.metadata.get("errors", {})
    first = {part: next(iter(tables.values())) for part, tables in errors.items() if tables}
    pump = {"pump": losses.metadata["pump"]} if "pump" in losses.metadata else {}
    return {"form": losses.form.name, "gradient": losses.gradient, "errors": first, **pump}


@click.command()
@click.argument("model", type=PATH)
@click.option("--start", type=PATH, required=True, help="Structure whose atoms and cell the files are for.")
@click.option("-o", "--output", "directory", type=PATH, required=True, help="Folder for the files.")
@structure_options
@baseline_option
@click.option("--backend", default="torchscript", show_default=True)
@click.option("--precision", type=click.Choice(["double", "single"]), default="double", show_default=True)
@overwrite_option
def export(
    model: Path,
    start: Path,
    directory: Path,
    cell: tuple[str, str, str] | None,
    frame: int,
    supercell: tuple[int, int, int],
    baseline: Path | None,
    backend: str,
    precision: str,
    overwrite: bool,
) -> None:
    """Write what a plain OpenMM script loads: losses.pt (TorchScript), system.xml and topology.pdb.

    The baseline of a model, if it has one, is in system.xml and not in losses.pt. A script that loads them imports
    torch before openmm. The potential energy of OpenMM lacks the constants of the atoms, which the energies of the
    reference have; the calculator for ASE adds them.
    """
    check_outputs(overwrite, *(directory / name for name in ("losses.pt", "system.xml", "topology.pdb")))
    losses = duality.AgentLosses.load(model)
    structure = read_structure(start, cell, supercell, frame)
    topology, _ = topology_of(losses, structure)
    system = duality.create_system(losses, topology, baseline=baseline, backend=backend, precision=precision)
    with staged(directory, overwrite) as place:
        duality.export_torchscript(losses, structure.species, place / "losses.pt", precision=precision)
        duality.export_system(system, place / "system.xml")
        with open(place / "topology.pdb", "w") as file:
            mm.app.PDBFile.writeFile(topology, structure.positions * unit.nanometer, file)
    click.echo(f"{directory}: losses.pt, system.xml, topology.pdb")
