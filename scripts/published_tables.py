"""Errors and costs of `channels` on published data sets, beside the published errors of others: Markdown and JSON.

python scripts/published_tables.py FOLDER [--size medium] [--only NAME…] [--out runs/published]

All data sets are inferred with the same settings: the defaults of the form, the size that is asked for, and a weight
of energies. Nothing is chosen by the test data. FOLDER holds files that you have fetched, named as here; what is
missing is listed and left out.

acac/train_300K.xyz, acac/test_MD_300K.xyz, test_MD_600K.xyz, test_H_transfer.xyz, test_dihedral.xyz
    Acetylacetone, from dataset_acac of github.com/davkovacs/BOTNet-datasets (eV, Å).
ethanol/train-n1000.xyz
    1,000 frames of ethanol of the revised MD17 set (doi.org/10.6084/m9.figshare.12672038) as extended XYZ with a column
    `forces` and a key `energy`, in kcal/mol and kcal/mol/Å as they are published.
crystals/Mo-training.xyz, crystals/Mo-test.xyz, crystals/Si-training.xyz, crystals/Si-test.xyz
    The files data/{Mo,Si}/{training,test}.json of github.com/materialsvirtuallab/mlearn as extended XYZ (eV, Å).

Each inference runs in a process of its own, whose largest resident memory is given. The cost of a step is that of the
fused back end on the CPU platform, for about 1,000 atoms: copies of the molecule too far apart to interact, or a
supercell of the crystal; each from the test frame with the smallest forces.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import openmm_duality as duality
from openmm_duality.benchmark import Effort
from openmm_duality.benchmark.cases import Case
from openmm_duality.benchmark.interleaved import time_interleaved
from openmm_duality.benchmark.machine import describe_machine, peak_memory
from openmm_duality.benchmark.suite import copies_along
from openmm_duality.benchmark.worker import save_start
from openmm_duality.dynamics.structures import Start
from openmm_duality.files import write_text
from openmm_duality.inference.equations.channel_selection import SIZES
from openmm_duality.reference.mixed_frames import largest_size

ENERGY_WEIGHT = 0.01  # the smallest that improves the energies of water (docs/results.md)
ATOMS = 1000  # about as many in the timed systems
MEASURES = ("force_rmse", "force_mae", "energy_rmse", "energy_mae")


@dataclass(frozen=True)
class Part:
    """Frames of a file: all, or those from a first to before a last one.

    Parameters
    ----------
    file : str
        Below the folder of the user.
    begin, end : int or None
    """

    file: str
    begin: int | None = None
    end: int | None = None


@dataclass(frozen=True)
class Published:
    """Errors that a paper gives for a test set.

    Parameters
    ----------
    method, test, source : str
        What was fitted, the name of the test set, and where the errors are published.
    errors : dict of str to float
        Out of `MEASURES`: forces in meV/Å, energies in meV per molecule or, for crystals, per atom.
    """

    method: str
    test: str
    source: str
    errors: dict[str, float]


@dataclass(frozen=True)
class PublishedSet:
    """A published data set: what to fit, what to test on, and what others reached.

    Parameters
    ----------
    name, title : str
    train : Part
    tests : dict of str to Part
    units : str
        Of the files (`DataKeys`).
    molecule : bool
        Whether every frame is one molecule, so that energies are given per molecule, otherwise per atom.
    published : tuple of Published
    note : str
        What the comparison leaves unequal.
    """

    name: str
    title: str
    train: Part
    tests: dict[str, Part]
    units: str = "eV"
    molecule: bool = True
    published: tuple[Published, ...] = ()
    note: str = ""


_BOTNET = "Batatia et al., arXiv:2205.06643"
_MACE = "Batatia et al., arXiv:2206.07697"
_ACE = "Kovács et al., J. Chem. Theory Comput. 17, 7696 (2021)"
_ZUO = "Zuo et al., J. Phys. Chem. A 124, 731 (2020)"


def _crystal(name: str, title: str, errors: dict[str, float], note: str) -> PublishedSet:
    return PublishedSet(
        name,
        title,
        Part(f"crystals/{name}-training.xyz"),
        {"test": Part(f"crystals/{name}-test.xyz")},
        molecule=False,
        published=tuple(Published(method, "test", _ZUO, {"force_mae": error}) for method, error in errors.items()),
        note=note,
    )


SETS = (
    PublishedSet(
        "acetylacetone",
        "Acetylacetone, trained at 300 K",
        Part("acac/train_300K.xyz"),
        {
            "300 K": Part("acac/test_MD_300K.xyz"),
            "600 K": Part("acac/test_MD_600K.xyz"),
            "proton transfer": Part("acac/test_H_transfer.xyz"),
            "dihedral": Part("acac/test_dihedral.xyz"),
        },
        published=(
            Published("NequIP", "300 K", _BOTNET, {"force_rmse": 5.9, "energy_rmse": 0.8}),
            Published("MACE", "300 K", _MACE, {"force_rmse": 5.1, "energy_rmse": 0.9}),
            Published("NequIP", "600 K", _BOTNET, {"force_rmse": 27.8, "energy_rmse": 6.0}),
            Published("MACE", "600 K", _MACE, {"force_rmse": 22.4, "energy_rmse": 4.6}),
        ),
    ),
    PublishedSet(
        "ethanol",
        "Ethanol (revised MD17)",
        Part("ethanol/train-n1000.xyz", end=800),
        {"last 200": Part("ethanol/train-n1000.xyz", begin=800)},
        units="kcal/mol",
        published=(
            Published("GAP", "last 200", _ACE, {"force_mae": 18.1}),
            Published("linear ACE", "last 200", _ACE, {"force_mae": 7.3}),
            Published("MACE", "last 200", _MACE, {"force_mae": 2.1}),
        ),
        note="The published errors are of 1,000 training frames and of other test frames of the same trajectory.",
    ),
    _crystal("Mo", "Molybdenum", {"GAP": 90.0, "MTP": 90.0}, "Published energy MAE: 2.2 to 2.8 meV per atom."),
    _crystal("Si", "Silicon", {"GAP": 70.0, "MTP": 60.0}, "Published energy MAE: 2.2 to 2.9 meV per atom."),
)


@dataclass(frozen=True)
class Measured:
    """What was measured on a data set.

    Parameters
    ----------
    name : str
    species : tuple of str
    train_frames, coefficients : int
    memory_mib, seconds, cpu_seconds : float
        Largest resident memory of the inference, data included, its wall time and its processor time.
    microseconds_per_atom_and_step : float or None
        None where the run could not be timed; `timing` says why.
    tests : dict of str to dict
        By test set: `frames` and the errors of `MEASURES`; energies in meV per molecule or atom, as `per` says.
    channels, regularisation, core : Any
        What inference chose, from the metadata of the model.
    timing : dict
        Row of the benchmark.
    """

    name: str
    species: tuple[str, ...]
    train_frames: int
    coefficients: int
    memory_mib: float
    seconds: float
    cpu_seconds: float
    microseconds_per_atom_and_step: float | None
    tests: dict[str, dict[str, Any]]
    channels: Any = None
    regularisation: Any = None
    core: Any = None
    timing: dict[str, Any] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=list(SIZES), default="medium")
    parser.add_argument("--only", nargs="+", choices=[one.name for one in SETS], help="some of the data sets")
    parser.add_argument("--energy-weight", type=float, default=ENERGY_WEIGHT)
    parser.add_argument("--members", type=int, default=0, help="of the committee, which changes no error")
    parser.add_argument("--out", type=Path, default=Path("runs/published"), help="folder of tables and models")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        parser.error(f"{arguments.folder} is no folder; fetch the data sets first (see --help)")
    settings = {
        "form": "channels",
        "size": arguments.size,
        "energy_weight": arguments.energy_weight,
        "members": arguments.members,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"machine": describe_machine(), "settings": settings, "sets": []}
    found: list[Measured] = []
    for one in SETS:
        if arguments.only and one.name not in arguments.only:
            continue
        missing = missing_files(one, arguments.folder)
        if missing:
            print(f"{one.name}: left out, because {', '.join(missing)} is not in {arguments.folder}", flush=True)
            continue
        found.append(measure(one, arguments.folder, settings, arguments.out / f"{one.name}-{arguments.size}"))
        content["sets"].append({**asdict(found[-1]), "published": [asdict(p) for p in one.published]})
        # after every set, so that an interrupted script leaves what it has
        stem = arguments.out / f"published-{arguments.size}"
        write_text(stem.with_suffix(".json"), json.dumps(content, indent=1) + "\n", overwrite=True)
        write_text(stem.with_suffix(".md"), tables(found, settings, content["machine"]), overwrite=True)
    if not found:
        raise SystemExit(f"no data set is in {arguments.folder}; the docstring of this script says where they are")
    print("\n" + tables(found, settings, content["machine"]))


def missing_files(one: PublishedSet, folder: Path) -> list[str]:
    """Files of a data set that are not in the folder."""
    files = dict.fromkeys(part.file for part in (one.train, *one.tests.values()))
    return [file for file in files if not (folder / file).exists()]


def measure(one: PublishedSet, folder: Path, settings: dict[str, Any], stem: Path) -> Measured:
    """Infer the losses of a data set in a process of its own, evaluate them, and time a step."""
    print(f"{one.name}: inference", flush=True)
    model = stem.with_suffix(".safetensors")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        costs = pool.submit(infer, one, folder, settings, model).result()
    losses = duality.AgentLosses.load(model)
    tests, calm = {}, None
    for name, part in one.tests.items():
        print(f"{one.name}: errors, {name}", flush=True)
        frames = frames_of(part, folder, one.units)
        tests[name] = errors(losses, frames, one.molecule)
        calm = calm or calmest(frames)
    assert calm is not None
    print(f"{one.name}: cost of a step", flush=True)
    timing = cost(model, system(calm, losses.cutoff))
    metadata = losses.metadata
    chosen = (metadata.get("channels"), metadata["regularisation"], metadata["core"])
    result = Measured(
        one.name,
        losses.species,
        coefficients=metadata["coefficients"],
        microseconds_per_atom_and_step=timing["microseconds_per_atom"],
        tests=tests,
        channels=chosen[0],
        regularisation=chosen[1],
        core=chosen[2],
        timing=timing,
        **costs,
    )
    print(f"{one.name}: {result.coefficients} coefficients in {result.seconds:.0f} s", flush=True)
    return result


def frames_of(part: Part, folder: Path, units: str) -> Any:
    """The frames of a part, in MD units."""
    frames = duality.read(folder / part.file, keys=duality.DataKeys(units=units))
    return frames[part.begin : part.end]


def infer(one: PublishedSet, folder: Path, settings: dict[str, Any], model: Path) -> dict[str, Any]:
    """Infer and save a model; give the number of frames, the seconds and the largest memory of this process."""
    frames = frames_of(one.train, folder, one.units)
    begin, cpu = time.perf_counter(), time.process_time()
    losses = duality.infer(frames, **settings)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    losses.save(model, overwrite=True)
    return {"train_frames": len(frames), "seconds": seconds, "cpu_seconds": cpu, "memory_mib": peak_memory()}


def errors(losses: Any, frames: Any, molecule: bool) -> dict[str, Any]:
    """Errors on the frames of a test set; those that it has no reference for are None."""
    table = duality.evaluate(losses, frames)
    factor = largest_size(frames) if molecule else 1
    per_atom = {"energy_rmse": table.energy_rmse_per_atom, "energy_mae": table.energy_mae_per_atom}
    return {
        "frames": table.frames,
        "per": "molecule" if molecule else "atom",
        "force_rmse": table.force_rmse.get("all"),
        "force_mae": table.force_mae.get("all"),
        **{name: None if value is None else factor * value for name, value in per_atom.items()},
        "energy_rmse_per_atom": table.energy_rmse_per_atom,
        "energy_mae_per_atom": table.energy_mae_per_atom,
    }


def calmest(frames: Any) -> Start | None:
    """The frame with the smallest root mean square force, or None without forces."""
    best: tuple[float, Start] | None = None
    for part in frames.parts if frames.has_forces else ():
        forces = np.sqrt(np.mean(part.forces**2, axis=(1, 2)))
        t = int(forces.argmin())
        if best is None or forces[t] < best[0]:
            best = float(forces[t]), Start(part.positions[t], part.species, part.cell(t))
    return None if best is None else best[1].for_openmm()


def system(start: Start, cutoff: float) -> Start:
    """About 1,000 atoms: a supercell, or copies of a molecule on a lattice whose gaps are wider than the cutoff."""
    if start.cell is None:
        extent = np.ptp(start.positions, axis=0).max()
        start = Start(start.positions, start.species, (extent + 1.2 * cutoff) * np.eye(3))
    return start.repeated(copies_along(max(1, round(ATOMS / len(start.species)))))


def cost(model: Path, start: Start) -> dict[str, Any]:
    """Row of the benchmark of a model: fused, CPU platform."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "start.npz"
        save_start(file, start)
        case = Case("duality:channels", "CPU", "fused", str(model))
        (row,) = time_interleaved([case], file, 0, len(start.species), Effort(repeats=5, warm_up=20, seconds=0.1))
    if row.error:
        print(f"  not timed: {row.error}", flush=True)
    return {name: value for name, value in row.to_dict().items() if name != "molecules"}


def tables(found: list[Measured], settings: dict[str, Any], machine: dict[str, Any]) -> str:
    """The tables in Markdown: errors beside those published, and costs."""
    sets = {one.name: one for one in SETS}
    ours = f"channels, {settings['size']}"
    lines = [
        "| data, test | model | force RMSE | force MAE | energy RMSE | energy MAE |",
        "|---|---|---|---|---|---|",
    ]
    for measured in found:
        one = sets[measured.name]
        for name, table in measured.tests.items():
            lines.append(_line(f"{one.title}: {name}", f"**{ours}**", *map(_number, (table[m] for m in MEASURES))))
            for other in one.published:
                if other.test == name:
                    values = (_number(other.errors.get(measure)) for measure in MEASURES)
                    lines.append(_line("", f"{other.method}, as published", *values))
    cores = machine["cores"]
    lines += [
        "",
        "Forces in meV/Å per component; energies in meV per molecule (acetylacetone, ethanol) or per atom (crystals).",
        "",
        "| data | species | training frames | coefficients | memory, MiB | inference, s | processor time, s "
        "| µs per atom and step | fastest |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for m in found:
        counts = (m.train_frames, m.coefficients, round(m.memory_mib), round(m.seconds), round(m.cpu_seconds))
        blocks = m.timing.get("ms_per_step_of_repeats")
        steps = (m.microseconds_per_atom_and_step, 1e3 * min(blocks) / m.timing["atoms"] if blocks else None)
        numbers = (*(f"{number:,}" for number in counts), *map(_number, steps))
        lines.append(_line(sets[m.name].title, " ".join(m.species), *numbers))
    lines += [
        "",
        f"{cores} cores ({machine['processor']}; load {machine['load']} when the script began, where 0 is an idle "
        f"machine). A step: fused back end, CPU platform, about {ATOMS:,} atoms; median and fastest of five repeats.",
    ]
    lines += [f"{sets[m.name].title}: {sets[m.name].note}" for m in found if sets[m.name].note]
    sources: dict[str, list[str]] = {}
    for m in found:
        for other in sets[m.name].published:
            sources.setdefault(other.source, []).append(f"{other.method} ({m.name})")
    lines += ["", *(f"- {', '.join(dict.fromkeys(names))}: {source}" for source, names in sources.items())]
    return "\n".join(lines) + "\n"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
