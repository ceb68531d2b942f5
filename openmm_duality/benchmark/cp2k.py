"""The cost of a step of CP2K itself: its committee network, and Born–Oppenheimer molecular dynamics."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from openmm_duality.benchmark.cases import TEMPERATURE, TIMESTEP
from openmm_duality.benchmark.results import Row
from openmm_duality.cp2k.engine import run_cp2k
from openmm_duality.cp2k.inputs import Method, cell_section, femtoseconds, section
from openmm_duality.cp2k.methods import Dft, Network
from openmm_duality.dynamics import Start
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.parallel import usable_cores
from openmm_duality.progress import progress_bar
from openmm_duality.units import ANGSTROM

CP2K_SIZE, DFT_SIZE = 64, 32  # molecules: the largest of the network's rows, and that of DFT
STEPS = {"nnp": (30, 5), "dft": (15, 5)}  # of the run, and those at its beginning that do not count
METHODS: dict[str, Method] = {"nnp": Network(), "dft": Dft(functional="PBE", dispersion="D3", cutoff=300.0)}
_PROJECT = "cost"
_NOT_PRINTED = ("TRAJECTORY", "VELOCITIES", "FORCES", "RESTART", "RESTART_HISTORY")


def time_cp2k(method: str, start: Start, molecules: int, progress: bool = False) -> Row:
    """The cost of a step of molecular dynamics by CP2K on all cores, as CP2K's own ``.ener`` file gives it.

    Parameters
    ----------
    method : str
        ``nnp``: the committee network for bulk water (8 members); ``dft``: Quickstep with PBE-D3,
        DZVP-MOLOPT-SR-GTH, 300 Ry, and ASPC extrapolation of the wave function.
    start : Start
        Water.
    molecules : int
        Of the start.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Row
        Its repeats are the steps after the first five; a run that failed says why.
    """
    ranks, threads = (usable_cores(), 1) if shutil.which("mpirun") else (1, usable_cores())
    steps, begin = STEPS[method]
    facts: dict[str, Any] = {"timestep": TIMESTEP, "processes": ranks, "threads": threads, "precision": "double"}
    times: FloatArray = np.empty(0)
    error = ""
    with (
        tempfile.TemporaryDirectory() as folder,
        progress_bar(steps, f"CP2K, {method}", show=progress, unit="step") as bar,
    ):
        directory = Path(folder)
        (directory / f"{_PROJECT}.inp").write_text(_input(method, start, steps))
        energies = directory / f"{_PROJECT}-1.ener"

        def watch() -> None:
            bar.update(max(0, len(_step_times(energies)) - 1) - bar.n)

        try:
            output = run_cp2k(directory, f"{_PROJECT}.inp", processes=ranks, threads=threads, watch=watch)
            versions = re.findall(r"CP2K\| version string:(.*)", output.read_text(errors="replace"))
            facts["version"] = versions[0].strip() if versions else None
            times = _step_times(energies)[1:][begin:]  # the first line is the start, before any step
        except DualityError as failure:
            error = str(failure)
    blocks = tuple(float(1e3 * seconds) for seconds in times)
    return Row(f"cp2k-{method}", "cp2k", "cp2k", molecules, len(start.species), "", blocks, 1, facts, error=error)


def _step_times(energies: Path) -> FloatArray:
    """Wall time in seconds of every step so far."""
    if not energies.is_file():
        return np.empty(0)
    lines = [line.split() for line in energies.read_text().splitlines() if not line.lstrip().startswith("#")]
    return np.array([float(line[-1]) for line in lines if len(line) == 7])


def _input(method: str, start: Start, steps: int) -> str:
    """Molecular dynamics at constant volume and temperature that writes energies only."""
    assert start.cell is not None
    coordinates = zip(start.species, start.positions / ANGSTROM, strict=True)
    atoms = [f"{name} {x:.8f} {y:.8f} {z:.8f}" for name, (x, y, z) in coordinates]
    names = sorted(set(start.species))
    kind_sections = [line for name in names for line in section(f"KIND {name}", *METHODS[method].kind(name))]
    subsystem = section("SUBSYS", *cell_section(start.cell), *section("COORD", *atoms), *kind_sections)
    dynamics = section(
        "MD",
        "ENSEMBLE NVT",
        f"STEPS {steps}",
        f"TIMESTEP {femtoseconds(TIMESTEP)}",
        f"TEMPERATURE {TEMPERATURE}",
        *section("THERMOSTAT", "TYPE NOSE"),
    )
    quiet = section("PRINT", *(line for name in _NOT_PRINTED for line in section(f"{name} OFF")))
    lines = [
        *section("GLOBAL", f"PROJECT {_PROJECT}", "RUN_TYPE MD", "PRINT_LEVEL LOW"),
        *section("FORCE_EVAL", *METHODS[method].force_eval(start.species, start.cell, True), *subsystem),
        *section("MOTION", *dynamics, *quiet),
    ]
    return "\n".join(lines) + "\n"
