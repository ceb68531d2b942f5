"""The whole benchmark: every model, back end, platform and size, with TIP3P and CP2K as baselines."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openmm_duality.benchmark.cases import benchmark_cases
from openmm_duality.benchmark.cp2k import CP2K_SIZE, DFT_SIZE, time_cp2k
from openmm_duality.benchmark.interleaved import Effort, time_interleaved
from openmm_duality.benchmark.machine import describe_machine
from openmm_duality.benchmark.results import Costs, Row, with_ratios
from openmm_duality.benchmark.water import SPECIES, as_water, water_box
from openmm_duality.benchmark.worker import save_start
from openmm_duality.cp2k.engine import find_cp2k
from openmm_duality.dynamics import Start
from openmm_duality.errors import DualityError
from openmm_duality.geometry.molecules import find_molecules
from openmm_duality.losses import AgentLosses
from openmm_duality.lowering.dependencies import installed_platforms, require_platform

SIZES = (64, 512, 4096, 32768)
BACKENDS = ("fused", "torchscript")
MOST_ATOMS = 10**7  # whose topology alone takes 6 GB in Python


@dataclass(frozen=True)
class Baselines:
    """Baselines timed beside the models; None means wherever that is possible.

    Parameters
    ----------
    tip3p : bool or None
        OpenMM's TIP3P: where there is water.
    cp2k : bool or None
        Molecular dynamics by CP2K's committee network, at sizes of up to 64: where there is water and CP2K.
    dft : bool
        Born–Oppenheimer molecular dynamics by CP2K, at 32 molecules; minutes.
    """

    tip3p: bool | None = None
    cp2k: bool | None = None
    dft: bool = False


def measure_cost(
    models: Sequence[str | Path],
    *,
    sizes: Sequence[int] = SIZES,
    platforms: Sequence[str] | None = None,
    backends: Sequence[str] | None = None,
    precision: str | None = None,
    start: Start | None = None,
    effort: Effort | None = None,
    baselines: Baselines | None = None,
    progress: bool = False,
) -> Costs:
    """The cost of a step of models, of TIP3P and of CP2K, in one run on this machine.

    Parameters
    ----------
    models : sequence of path
        Model files.
    sizes : sequence of int
        In molecules. With a start, multiples of its own number.
    platforms : sequence of str, optional
        Of OpenMM; by default all that are installed but Reference, which is slow.
    backends : sequence of str, optional
        By default the fused kernel and TorchScript.
    precision : str, optional
        Of the arithmetic of the losses; the default of the back end by default.
    start : Start, optional
        Repeated to the sizes; liquid water is built by default.
    effort : Effort, optional
    baselines : Baselines, optional
    progress : bool
        Whether to show progress bars.

    Raises
    ------
    DualityError
        If a model cannot be read or knows other species, a size cannot be made, or a platform is not known.
    """
    paths, baselines = list(models), baselines or Baselines()
    chosen = _platforms(platforms)
    losses = [AgentLosses.load(path) for path in paths]
    if not losses:
        raise DualityError("there is no model to time; give at least one model file")
    starts = _starts_by_size(losses, start, sizes, baselines)
    tip3p, nnp = _available(baselines, next(iter(starts.values())))
    cases = benchmark_cases(paths, chosen, backends or BACKENDS, precision, tip3p)
    machine = describe_machine()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "start.npz"
        for molecules, structure in sorted(starts.items()):
            save_start(file, structure)
            found = []
            if nnp and molecules <= CP2K_SIZE:
                found.append(time_cp2k("nnp", structure, molecules, progress))
            if baselines.dft and molecules == DFT_SIZE:
                found.append(time_cp2k("dft", structure, molecules, progress))
            found += time_interleaved(cases, file, molecules, len(structure.species), effort or Effort(), progress)
            rows += with_ratios(found)
    return Costs(machine, tuple(rows))


def read_sizes(text: str) -> list[int]:
    """Numbers of molecules from a list with commas.

    Raises
    ------
    DualityError
        If it is something else.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and len(word) < 20 for word in words):
        raise DualityError(f"sizes: expected numbers of molecules with commas between them, as 64,512, got {text!r}")
    return [int(word) for word in words]


def _platforms(requested: Sequence[str] | None) -> list[str]:
    if requested is None:
        return [name for name in installed_platforms() if name != "Reference"]
    for name in requested:
        require_platform(name)
    return list(requested)


def _starts_by_size(
    losses: Sequence[AgentLosses], start: Start | None, sizes: Sequence[int], baselines: Baselines
) -> dict[int, Start]:
    """The structure of every size."""
    wanted = sorted({*sizes, *([DFT_SIZE] if baselines.dft else [])})
    if not wanted or wanted[0] < 1:
        raise DualityError(f"sizes: expected numbers of molecules above zero, got {list(sizes)}")
    species = SPECIES if start is None else start.species
    if start is None:
        _check_atoms(wanted[-1], len(SPECIES))
    for model in losses:
        model.index_of(sorted(set(species)))
    if start is None:
        return {size: water_box(size) for size in wanted}
    lengths = dict(losses[0].bond_lengths)
    own = len(find_molecules(start.positions, start.species, start.cell, lengths))
    _check_atoms(wanted[-1], len(species) / own)
    found = {}
    for size in wanted:
        if size % own:
            raise DualityError(
                f"sizes: the start has {own} molecules and is repeated whole, so {size} molecules cannot be made of "
                f"it; take multiples of {own}"
            )
        found[size] = start if size == own else start.repeated(copies_along(size // own))
    return found


def _check_atoms(molecules: int, atoms_per_molecule: float) -> None:
    if molecules * atoms_per_molecule > MOST_ATOMS:
        raise DualityError(
            f"sizes: {molecules:,} molecules have more than {MOST_ATOMS:,} atoms, the most that can be timed; ask for "
            f"at most {int(MOST_ATOMS / atoms_per_molecule):,}"
        )


def copies_along(copies: int) -> tuple[int, int, int]:
    """The three factors of a number of copies that are nearest to each other, in ascending order."""
    triples = [
        (a, b, copies // (a * b))
        for a in range(1, round(copies ** (1 / 3)) + 1)
        if copies % a == 0
        for b in range(a, math.isqrt(copies // a) + 1)
        if copies % (a * b) == 0
    ]
    return min(triples, key=sum)


def _available(baselines: Baselines, start: Start) -> tuple[bool, bool]:
    """Whether TIP3P and CP2K's network are timed; a baseline that is requested and impossible is an error."""
    try:
        as_water(start)
    except DualityError as error:
        if baselines.tip3p or baselines.cp2k or baselines.dft:
            raise
        if baselines.tip3p is None:
            warnings.warn(f"TIP3P and CP2K are left out: {error}", stacklevel=2)
        return False, False
    nnp = baselines.cp2k is not False
    if nnp or baselines.dft:
        try:
            find_cp2k()
        except DualityError as error:
            if baselines.cp2k or baselines.dft:
                raise
            warnings.warn(f"CP2K is left out: {error}", stacklevel=2)
            nnp = False
    return baselines.tip3p is not False, nnp
