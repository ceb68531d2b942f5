"""Summary of a set of frames: composition, cell, forces, shortest distances, molecules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.cells import volume, widths
from openmm_duality.geometry.molecules import molecular_forces
from openmm_duality.geometry.pairs import pairs_within
from openmm_duality.progress import progress_bar
from openmm_duality.reference.frames import Frames, formula
from openmm_duality.reference.mixed_frames import AnyFrames
from openmm_duality.reference.molecules import bond_lengths, molecules_of
from openmm_duality.units import ANGSTROM, BOLTZMANN, ELECTRONVOLT, FEMTOSECOND, GIGAPASCAL, MEV_PER_ANGSTROM

_DENSITY = 1.66053906660e-3  # dalton/nm³ in g/cm³
_VARIES = 1e-4  # g/cm³, a density
_SHOWN = 6  # compositions
_FIRST_SEARCH = 0.3  # nm; doubled until every pair of species is found
_MOST_PAIRS = 1_000_000  # from which on it is not doubled: in a long and narrow cell images would fill the memory


@dataclass(frozen=True)
class Summary:
    """Summary of a set of frames, in the units of a report: Å, meV/Å, ps.

    Parameters
    ----------
    frames : int
        How many.
    atoms, fewest_atoms : int
        Of the largest and of the smallest frame.
    compositions : dict
        From formula to number of frames.
    composition : dict
        From species to number of atoms in a frame; empty if the frames have several compositions.
    periodic : int
        Number of frames with a cell.
    times : tuple of float
        Of the first and the last frame, in ps.
    spacing : float or None
        Between frames in ps (median); None for single points.
    timestep : float or None
        Of the dynamics, in fs.
    cell : tuple of float or None
        Mean lengths of a, b, c in Å and angles α, β, γ in degrees; None for several compositions.
    density : float or None
        Mean, in g/cm³; None for several compositions.
    densities : tuple of float, or None
        The lowest and the highest of a cell that varies.
    force_rms : dict
        Per component in meV/Å: ``all``, each species, and ``molecular`` (net force of a molecule, if there are any).
        Empty without forces.
    net_force_rms : float or None
        Of the net force on all atoms, per component in meV/Å.
    energy : float or None
        Mean per atom in eV, where all frames have energies.
    energy_rms : float or None
        Of its differences from the mean of the composition, in meV per atom; None for one frame of each.
    shortest : dict
        From ``"A-B"`` to the shortest distance in Å.
    bonds : dict
        From ``"A-B"`` to the longest bond in Å, found in the data; not searched in frames of several compositions.
    molecules : dict
        From formula to number of molecules, single atoms among them; empty where there are only those. Not searched in
        frames of several compositions.
    pressure : float or None
        Mean of −tr σ/3 in GPa, without its kinetic part, where all frames have stresses.
    temperature : float or None
        Mean kinetic temperature in K, where there are velocities or a log of the dynamics gives it.
    missing : tuple of str
        What the data do not hold.
    """

    frames: int
    atoms: int
    fewest_atoms: int
    compositions: dict[str, int]
    composition: dict[str, int]
    periodic: int
    times: tuple[float, float]
    spacing: float | None
    timestep: float | None
    cell: tuple[float, ...] | None
    density: float | None
    densities: tuple[float, float] | None
    force_rms: dict[str, float]
    net_force_rms: float | None
    energy: float | None
    energy_rms: float | None
    shortest: dict[str, float]
    bonds: dict[str, float]
    molecules: dict[str, int]
    pressure: float | None
    temperature: float | None
    missing: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain values, for JSON."""
        units = {
            "force": "meV/angstrom",
            "energy": "eV/atom",
            "energy_rms": "meV/atom",
            "distance": "angstrom",
            "time": "ps",
            "timestep": "fs",
            "density": "g/cm^3",
            "pressure": "GPa",
        }
        return {**asdict(self), "units": units}

    def __str__(self) -> str:
        rows = [("frames", str(self.frames))]
        if self.composition:
            rows.append(("atoms", f"{self.atoms} ({_listed(self.composition)})"))
            none = "none: no bonds, or only those of a network as in a crystal"
            rows.append(("molecules", _listed(self.molecules) or none))
        else:
            rows.append(("atoms", f"{self.fewest_atoms} to {self.atoms} in a frame"))
            shown = [f"{n} of {formula}" for formula, n in list(self.compositions.items())[:_SHOWN]]
            more = f", and {len(self.compositions) - _SHOWN} more" if len(self.compositions) > _SHOWN else ""
            rows.append(("compositions", ", ".join(shown) + more))
            rows.append(("periodic", f"{self.periodic} of {self.frames} frames"))
        if self.spacing is None:
            rows.append(("time", "single points"))
        else:
            step = "" if self.timestep is None else f", time step {self.timestep:g} fs"
            rows.append(("time", f"{self.times[0]:g} to {self.times[1]:g} ps, every {self.spacing:g} ps{step}"))
        if self.cell is not None:
            a, b, c, alpha, beta, gamma = self.cell
            varies = "" if self.densities is None else " on average"
            rows.append(
                ("cell", f"{a:.4f} x {b:.4f} x {c:.4f} Å, angles {alpha:.2f}, {beta:.2f}, {gamma:.2f}°{varies}")
            )
            span = "" if self.densities is None else "{}, {:.4f} to {:.4f}".format(varies, *self.densities)
            rows.append(("density", f"{self.density:.4f} g/cm³{span}"))
        if self.pressure is not None:
            rows.append(("pressure", f"{self.pressure:.4g} GPa (potential part, positive under compression)"))
        if self.temperature is not None:
            rows.append(("temperature", f"{self.temperature:.1f} K"))
        rows += [(f"force RMS, {key}", f"{value:.1f} meV/Å") for key, value in self.force_rms.items()]
        if self.net_force_rms is not None:
            rows.append(("net force RMS, cell", f"{self.net_force_rms:.3g} meV/Å"))
        if self.energy is not None:
            varies = "" if self.energy_rms is None else f", varies by {self.energy_rms:.3g} meV/atom (RMS)"
            rows.append(("energy", f"{self.energy:.4f} eV/atom{varies}"))
        rows += [(f"shortest {pair}", f"{value:.3f} Å") for pair, value in self.shortest.items()]
        rows += [(f"bond {pair}", f"up to {value:.3f} Å (found in the data)") for pair, value in self.bonds.items()]
        rows.append(("missing", ", ".join(self.missing) or "nothing"))
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def summarise(frames: AnyFrames, progress: bool = True) -> Summary:
    """Summarise a set of frames.

    Parameters
    ----------
    frames : Frames or MixedFrames
        At least one frame.
    progress : bool
        Whether to show the progress.
    """
    parts, first = frames.parts, frames.parts[0]
    one = first if len(parts) == 1 else None
    lengths = {} if one is None else bond_lengths(one)
    molecules = [] if one is None else molecules_of(one, lengths)
    dynamics = one is not None and len(one) > 1 and float(np.ptp(one.times)) > 0
    names = {"forces": "forces", "energies": "energies", "velocities": "velocities", "cells": "cell"}
    absent = {name: [getattr(part, name) is None for part in parts] for name in names}
    # of cells it is said how many frames have one
    missing = [shown for name, shown in names.items() if (all if name == "cells" else any)(absent[name])]
    shortest = shortest_distances(frames, progress)
    compositions: Counter[str] = Counter()
    for part in parts:
        compositions[formula(part.species)] += len(part)
    density = densities = None
    if one is not None and one.cells is not None:
        found = np.array([one.masses.sum() / volume(cell) for cell in one.cells]) * _DENSITY
        density = float(found.mean())
        densities = (float(found.min()), float(found.max())) if np.ptp(found) > _VARIES else None
    energy, energy_rms = _energies(parts)
    net = [part.forces.sum(axis=1) for part in parts if part.forces is not None]
    return Summary(
        frames=len(frames),
        atoms=max(part.n_atoms for part in parts),
        fewest_atoms=min(part.n_atoms for part in parts),
        compositions=dict(compositions.most_common()),
        composition={} if one is None else dict(sorted(Counter(one.species).items())),
        periodic=sum(len(part) for part in parts if part.cells is not None),
        times=(float(first.times[0]), float(first.times[-1])),
        spacing=float(np.median(np.diff(first.times))) if dynamics else None,
        timestep=None if first.timestep is None else first.timestep / FEMTOSECOND,
        cell=None if one is None or one.cells is None else _cell_parameters(one.cells),
        density=density,
        densities=densities,
        force_rms=_force_rms(parts, frames.distinct_species, molecules),
        net_force_rms=component_rms(np.concatenate(net)) if net else None,
        energy=energy,
        energy_rms=energy_rms,
        shortest={"-".join(pair): value / ANGSTROM for pair, value in shortest.items()},
        bonds={"-".join(pair): value / ANGSTROM for pair, value in lengths.items()},
        molecules={} if one is None else _formulas(one.species, molecules),
        pressure=_pressure(parts),
        temperature=temperature_of(frames),
        missing=(*missing, *([] if first.timestep is not None else ["time step"])),
    )


def temperature_of(frames: AnyFrames) -> float | None:
    """Mean kinetic temperature of the frames in K: of their velocities, or else what the log of the dynamics gives.

    None for single points without velocities.
    """
    found = [(len(part), _temperature(part)) for part in frames.parts]
    known = [(number, kelvin) for number, kelvin in found if kelvin is not None and number]
    if not known:
        return None
    return float(np.average([kelvin for _, kelvin in known], weights=[number for number, _ in known]))


def _temperature(frames: Frames) -> float | None:
    if frames.velocities is None or frames.n_atoms < 2:
        return None if frames.temperatures is None else float(frames.temperatures.mean())
    twice_kinetic = np.einsum("i,tix->t", frames.masses, frames.velocities**2)
    return float(twice_kinetic.mean() / (BOLTZMANN * (3 * frames.n_atoms - 3)))


def shortest_distances(frames: AnyFrames, progress: bool = True) -> dict[tuple[str, str], float]:
    """The shortest distance of every pair of species that occurs in the frames.

    Parameters
    ----------
    frames, progress
        As for `summarise`.

    Returns
    -------
    dict
        From the pair of species, in alphabetical order, to nm. A pair is absent where it cannot occur: one atom of a
        species in a cell that is not periodic, or further apart than the search reaches (the size of the cell or of
        the molecule, or a million pairs).
    """
    distinct = frames.distinct_species
    indices = {part.species: np.searchsorted(distinct, part.species) for part in frames.parts}
    shortest = np.full((len(distinct), len(distinct)), np.inf)
    order = np.sort([(a, b) for a, b in combinations_with_replacement(range(len(distinct)), 2)])
    for k in progress_bar(len(frames), "distances", show=progress, items=range(len(frames))):
        part, t = frames.locate(k)
        cell, number = part.cell(t), indices[part.species]
        reach = float(np.ptp(part.positions[t], axis=0).max() * 2 if cell is None else widths(cell).max())
        # What earlier frames have shown bounds the search from above: a longer distance cannot lower it.
        known = shortest[np.isfinite(shortest)]
        cutoff = min(max([_FIRST_SEARCH, *known]), max(reach, 1e-3))
        while True:
            i, j, d = pairs_within(part.positions[t], cell, cutoff)
            a, b = np.minimum(number[i], number[j]), np.maximum(number[i], number[j])
            np.minimum.at(shortest, (a, b), d)
            here = shortest[np.ix_(np.unique(number), np.unique(number))]
            if np.isfinite(here).all() or cutoff >= reach or len(d) > _MOST_PAIRS:
                break
            cutoff = min(2 * cutoff, reach)
    return {(distinct[a], distinct[b]): float(shortest[a, b]) for a, b in order if np.isfinite(shortest[a, b])}


def _force_rms(parts: Sequence[Frames], species: Sequence[str], molecules: list[IntArray]) -> dict[str, float]:
    labelled = [(part, part.forces) for part in parts if part.forces is not None]
    if not labelled:
        return {}

    def rms(name: str | None) -> float:
        chosen = [f if name is None else f[:, part.atoms_of(name)] for part, f in labelled]
        return component_rms(np.concatenate([forces.ravel() for forces in chosen]))

    found = {"all": rms(None), **{name: rms(name) for name in species}}
    if any(len(atoms) > 1 for atoms in molecules):
        found["molecular"] = component_rms(molecular_forces(labelled[0][1], molecules))
    return found


def component_rms(forces: FloatArray) -> float:
    """Root mean square of the components of forces (kJ/mol/nm), in meV/Å."""
    return float(np.sqrt(np.mean(forces**2)) / MEV_PER_ANGSTROM)


def component_mean(forces: FloatArray) -> float:
    """Mean absolute value of the components of forces (kJ/mol/nm), in meV/Å."""
    return float(np.abs(forces).mean() / MEV_PER_ANGSTROM)


def _cell_parameters(cells: FloatArray) -> tuple[float, ...]:
    lengths = np.linalg.norm(cells, axis=-1)
    cosines = [np.einsum("tx,tx->t", cells[:, i], cells[:, j]) for i, j in ((1, 2), (0, 2), (0, 1))]
    products = [lengths[:, i] * lengths[:, j] for i, j in ((1, 2), (0, 2), (0, 1))]
    angles = [np.degrees(np.arccos(c / p)).mean() for c, p in zip(cosines, products, strict=True)]
    return (*(float(x) / ANGSTROM for x in lengths.mean(axis=0)), *(float(x) for x in angles))


def _pressure(parts: Sequence[Frames]) -> float | None:
    traces = [np.trace(part.stresses, axis1=1, axis2=2) for part in parts if part.stresses is not None]
    return float(-np.concatenate(traces).mean() / 3.0 / GIGAPASCAL) if len(traces) == len(parts) else None


def _energies(parts: Sequence[Frames]) -> tuple[float | None, float | None]:
    """Mean energy in eV per atom, and the RMS of its differences from the mean of a composition in meV per atom."""
    by_composition: dict[str, list[FloatArray]] = {}
    for part in parts:
        if part.energies is None:
            return None, None
        by_composition.setdefault(formula(part.species), []).append(part.energies / part.n_atoms / ELECTRONVOLT)
    found = [np.concatenate(mine) for mine in by_composition.values()]
    differences = np.concatenate([mine - mine.mean() for mine in found])
    rms = float(1e3 * np.sqrt(np.mean(differences**2))) if len(differences) > len(found) else None
    return float(np.concatenate(found).mean()), rms


def _formulas(species: Sequence[str], molecules: list[IntArray]) -> dict[str, int]:
    if all(len(atoms) == 1 for atoms in molecules):
        return {}
    return dict(Counter(formula([species[i] for i in atoms]) for atoms in molecules).most_common())


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())
