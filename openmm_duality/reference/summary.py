"""Summary of a set of frames: composition, cell, forces, shortest distances, molecules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from tqdm import tqdm

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.cells import volume, widths
from openmm_duality.geometry.molecules import molecular_forces
from openmm_duality.geometry.pairs import pairs_within
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.molecules import bond_lengths, molecules_of
from openmm_duality.units import ANGSTROM, BOLTZMANN, FEMTOSECOND, MEV_PER_ANGSTROM

_DENSITY = 1.66053906660e-3  # dalton/nm³ in g/cm³
_FIRST_SEARCH = 0.3  # nm; doubled until every pair of species is found


@dataclass(frozen=True)
class Summary:
    """Summary of a set of frames, in the units of a report: Å, meV/Å, ps.

    Parameters
    ----------
    frames, atoms : int
        How many.
    composition : dict
        From species to number of atoms.
    times : tuple of float
        Of the first and the last frame, in ps.
    spacing : float or None
        Between frames in ps (median); None for single points.
    timestep : float or None
        Of the dynamics, in fs.
    cell : tuple of float or None
        Mean lengths of a, b, c in Å and angles α, β, γ in degrees.
    density : float or None
        Mean, in g/cm³.
    force_rms : dict
        Per component in meV/Å: ``all``, each species, and ``molecular`` (net force of a molecule, if there are any).
        Empty without forces.
    net_force_rms : float or None
        Of the net force on all atoms, per component in meV/Å.
    shortest : dict
        From ``"A-B"`` to the shortest distance in Å.
    bonds : dict
        From ``"A-B"`` to the longest bond in Å, found in the data.
    molecules : dict
        From formula to number of molecules, single atoms among them; empty where there are only those.
    temperature : float or None
        Mean kinetic temperature in K, where there are velocities.
    missing : tuple of str
        What the data do not hold.
    """

    frames: int
    atoms: int
    composition: dict[str, int]
    times: tuple[float, float]
    spacing: float | None
    timestep: float | None
    cell: tuple[float, ...] | None
    density: float | None
    force_rms: dict[str, float]
    net_force_rms: float | None
    shortest: dict[str, float]
    bonds: dict[str, float]
    molecules: dict[str, int]
    temperature: float | None
    missing: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain values, for JSON."""
        units = {"force": "meV/angstrom", "distance": "angstrom", "time": "ps", "timestep": "fs", "density": "g/cm^3"}
        return {**asdict(self), "units": units}

    def __str__(self) -> str:
        rows = [
            ("frames", str(self.frames)),
            ("atoms", f"{self.atoms} ({_listed(self.composition)})"),
            ("molecules", _listed(self.molecules) or "none: no bonds, or only those of a network as in a crystal"),
        ]
        if self.spacing is None:
            rows.append(("time", "single points"))
        else:
            step = "" if self.timestep is None else f", time step {self.timestep:g} fs"
            rows.append(("time", f"{self.times[0]:g} to {self.times[1]:g} ps, every {self.spacing:g} ps{step}"))
        if self.cell is not None:
            a, b, c, alpha, beta, gamma = self.cell
            rows.append(("cell", f"{a:.4f} x {b:.4f} x {c:.4f} Å, angles {alpha:.2f}, {beta:.2f}, {gamma:.2f}°"))
            rows.append(("density", f"{self.density:.4f} g/cm³"))
        if self.temperature is not None:
            rows.append(("temperature", f"{self.temperature:.1f} K"))
        rows += [(f"force RMS, {key}", f"{value:.1f} meV/Å") for key, value in self.force_rms.items()]
        if self.net_force_rms is not None:
            rows.append(("net force RMS, cell", f"{self.net_force_rms:.3g} meV/Å"))
        rows += [(f"shortest {pair}", f"{value:.3f} Å") for pair, value in self.shortest.items()]
        rows += [(f"bond {pair}", f"up to {value:.3f} Å (found in the data)") for pair, value in self.bonds.items()]
        rows.append(("missing", ", ".join(self.missing) or "nothing"))
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def summarise(frames: Frames, progress: bool = True) -> Summary:
    """Summarise a set of frames.

    Parameters
    ----------
    frames : Frames
        At least one frame.
    progress : bool
        Whether to show a bar when it takes more than a few seconds.
    """
    lengths = bond_lengths(frames)
    molecules = molecules_of(frames, lengths)
    dynamics = len(frames) > 1 and float(np.ptp(frames.times)) > 0
    present = {
        "forces": frames.forces,
        "energies": frames.energies,
        "velocities": frames.velocities,
        "cell": frames.cells,
        "time step": frames.timestep,
    }
    shortest = shortest_distances(frames, progress)
    density = None
    if frames.cells is not None:
        density = float(np.mean([frames.masses.sum() / volume(cell) for cell in frames.cells]) * _DENSITY)
    return Summary(
        frames=len(frames),
        atoms=frames.n_atoms,
        composition=dict(sorted(Counter(frames.species).items())),
        times=(float(frames.times[0]), float(frames.times[-1])),
        spacing=float(np.median(np.diff(frames.times))) if dynamics else None,
        timestep=None if frames.timestep is None else frames.timestep / FEMTOSECOND,
        cell=None if frames.cells is None else _cell_parameters(frames.cells),
        density=density,
        force_rms=_force_rms(frames, molecules),
        net_force_rms=None if frames.forces is None else component_rms(frames.forces.sum(axis=1)),
        shortest={"-".join(pair): value / ANGSTROM for pair, value in shortest.items()},
        bonds={"-".join(pair): value / ANGSTROM for pair, value in lengths.items()},
        molecules=_formulas(frames.species, molecules),
        temperature=_temperature(frames),
        missing=tuple(name for name, value in present.items() if value is None),
    )


def shortest_distances(frames: Frames, progress: bool = True) -> dict[tuple[str, str], float]:
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
        the molecule).
    """
    distinct = frames.distinct_species
    number = np.searchsorted(distinct, frames.species)
    shortest = np.full((len(distinct), len(distinct)), np.inf)
    order = np.sort([(a, b) for a, b in combinations_with_replacement(range(len(distinct)), 2)])
    for t in tqdm(range(len(frames)), desc="distances", delay=3.0, disable=None if progress else True, leave=False):
        cell = frames.cell(t)
        reach = float(np.ptp(frames.positions[t], axis=0).max() * 2 if cell is None else widths(cell).max())
        # What earlier frames have shown bounds the search from above: a longer distance cannot lower it.
        known = shortest[np.isfinite(shortest)]
        cutoff = min(max([_FIRST_SEARCH, *known]), max(reach, 1e-3))
        while True:
            i, j, d = pairs_within(frames.positions[t], cell, cutoff)
            a, b = np.minimum(number[i], number[j]), np.maximum(number[i], number[j])
            np.minimum.at(shortest, (a, b), d)
            if np.isfinite(shortest[order[:, 0], order[:, 1]]).all() or cutoff >= reach:
                break
            cutoff = min(2 * cutoff, reach)
    return {(distinct[a], distinct[b]): float(shortest[a, b]) for a, b in order if np.isfinite(shortest[a, b])}


def _force_rms(frames: Frames, molecules: list[IntArray]) -> dict[str, float]:
    if frames.forces is None:
        return {}
    per_species = {name: component_rms(frames.forces[:, frames.atoms_of(name)]) for name in frames.distinct_species}
    found = {"all": component_rms(frames.forces), **per_species}
    if any(len(atoms) > 1 for atoms in molecules):
        found["molecular"] = component_rms(molecular_forces(frames.forces, molecules))
    return found


def component_rms(forces: FloatArray) -> float:
    """Root mean square of the components of forces (kJ/mol/nm), in meV/Å."""
    return float(np.sqrt(np.mean(forces**2)) / MEV_PER_ANGSTROM)


def _cell_parameters(cells: FloatArray) -> tuple[float, ...]:
    lengths = np.linalg.norm(cells, axis=-1)
    cosines = [np.einsum("tx,tx->t", cells[:, i], cells[:, j]) for i, j in ((1, 2), (0, 2), (0, 1))]
    products = [lengths[:, i] * lengths[:, j] for i, j in ((1, 2), (0, 2), (0, 1))]
    angles = [np.degrees(np.arccos(c / p)).mean() for c, p in zip(cosines, products, strict=True)]
    return (*(float(x) / ANGSTROM for x in lengths.mean(axis=0)), *(float(x) for x in angles))


def _temperature(frames: Frames) -> float | None:
    if frames.velocities is None or frames.n_atoms < 2:
        return None
    twice_kinetic = np.einsum("i,tix->t", frames.masses, frames.velocities**2)
    return float(twice_kinetic.mean() / (BOLTZMANN * (3 * frames.n_atoms - 3)))


def _formulas(species: Sequence[str], molecules: list[IntArray]) -> dict[str, int]:
    if all(len(atoms) == 1 for atoms in molecules):
        return {}
    formulas = []
    for atoms in molecules:
        counts = Counter(species[i] for i in atoms)
        formulas.append("".join(f"{name}{n if n > 1 else ''}" for name, n in sorted(counts.items())))
    return dict(Counter(formulas).most_common())


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())
