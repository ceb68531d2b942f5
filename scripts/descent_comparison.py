"""Lowest energy found per force evaluation: L-BFGS, damped descent and energy conserving descent on water clusters.

python scripts/descent_comparison.py MODEL [--sizes 2 3 4 5 6 7 8 9 10] [--starts 20] [--budget 2000] [-o docs/descent]

From random starts (rigid molecules at random places and orientations in a sphere, no two oxygens within 2.7 Å), each
with the same budget of force evaluations:

- L-BFGS: OpenMM's LocalEnergyMinimizer to 1 kJ/mol/nm, once.
- L-BFGS from new starts: the same, from one random start after another until the budget is spent.
- damped descent: 1 fs, momentum time 0.1 ps, as `simulate --integrator descent` has it.
- energy conserving descent: 1 fs, with a target below the energy that L-BFGS finds from the same start, by 0.1 of what
  L-BFGS gained; the lowest structure on its way is relaxed by L-BFGS. Where the target is reached before the budget is
  spent, it begins again from the start with a target as far below what it found. All evaluations count.

Energies are double precision, recorded at every evaluation (by OpenMM's PythonForce: OpenMM 8.5 or newer). The JSON has
for every size, method and number of evaluations the mean over the starts of the lowest energy so far, above the lowest
that any method found for this size, in how many starts a method was the lowest of all (within 0.1 kJ/mol), and in how
many all molecules of its lowest structure are whole.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import openmm as mm

import openmm_duality as duality
from openmm_duality.files import atomic_write
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.losses import AgentLosses
from openmm_duality.lowering.fused.losses import FusedLosses
from openmm_duality.report.descents import descent_figure
from openmm_duality.report.style import png

TIMESTEP, MOMENTUM_TIME = 0.001, 0.1  # ps
DEPTH = 0.1  # of the target below the energy of L-BFGS, in units of what L-BFGS gained
TOLERANCE = 1.0  # kJ/mol/nm
SAME = 0.1  # kJ/mol
CHUNK = 20  # steps between looks at the target
FIRST = 100  # seed of the first start; the settings were chosen with others
LARGEST_BOND, SMALLEST_DISTANCE = 0.13, 0.27  # nm
MONOMER = np.array([[0.0, 0.0, 0.0], [0.0757, 0.0, 0.0587], [-0.0757, 0.0, 0.0587]])  # nm: O, H, H
SPECIES = ("O", "H", "H")
METHODS = ("L-BFGS", "L-BFGS, new starts", "damped descent", "energy conserving descent")


class BudgetSpentError(Exception):
    """All force evaluations that a method may have were made."""


class Recorder:
    """Evaluates losses, and records every energy and the lowest positions."""

    def __init__(self, losses: AgentLosses, molecules: int, budget: int) -> None:
        self.species, self.budget = SPECIES * molecules, budget
        self._losses = FusedLosses(losses, self.species, "double", threads=1)
        self.masses = losses.masses[losses.index_of(self.species)]
        self.energies: list[float] = []
        self.lowest, self.at = np.inf, np.empty((len(self.species), 3))

    def __call__(self, state: mm.State) -> tuple[float, FloatArray]:
        """Energy and forces of a state of OpenMM."""
        positions = np.ascontiguousarray(state.getPositions(asNumpy=True)._value)
        energy, forces = self._losses(positions, None)
        if len(self.energies) < self.budget:
            self.energies.append(energy)
            if energy < self.lowest:
                self.lowest, self.at = energy, positions.copy()
        return energy, forces

    @property
    def left(self) -> int:
        """Evaluations that remain of the budget."""
        return self.budget - len(self.energies)

    def context(self, integrator: mm.Integrator, positions: FloatArray) -> mm.Context:
        """A context whose only force this is."""
        system = mm.System()
        for mass in self.masses:
            system.addParticle(mass)
        system.addForce(mm.PythonForce(self))
        context = mm.Context(system, integrator, mm.Platform.getPlatformByName("Reference"))
        context.setPositions(positions)
        return context

    def relax(self, positions: FloatArray) -> None:
        """L-BFGS from these positions."""
        context = self.context(mm.VerletIntegrator(TIMESTEP), positions)
        mm.LocalEnergyMinimizer.minimize(context, TOLERANCE)

    def descend(
        self, integrator: mm.CustomIntegrator, positions: FloatArray, evaluations: int, target: float = -np.inf
    ) -> None:
        """An integrator from rest, for so many evaluations or until a target is reached."""
        context, end = self.context(integrator, positions), len(self.energies) + evaluations
        context.setVelocities(np.zeros_like(positions))
        while len(self.energies) < min(end, self.budget) and self.lowest > target:
            integrator.step(min(CHUNK, end - len(self.energies)))

    def whole(self) -> bool:
        """Whether every oxygen of the lowest structure has its two hydrogens, and no other."""
        oxygens, hydrogens = (self.at[np.array(self.species) == name] for name in "OH")
        bonded = np.linalg.norm(oxygens[:, None] - hydrogens, axis=-1) < LARGEST_BOND
        return bool((bonded.sum(axis=0) == 1).all() and (bonded.sum(axis=1) == 2).all())


def random_start(molecules: int, seed: list[int]) -> FloatArray:
    """Positions (3 N, 3) in nm."""
    rng, centres, radius = np.random.default_rng(seed), [], 0.2 * molecules ** (1 / 3)
    while len(centres) < molecules:
        centre = rng.uniform(-radius, radius, 3)
        if np.linalg.norm(centre) < radius and all(np.linalg.norm(centre - c) > SMALLEST_DISTANCE for c in centres):
            centres.append(centre)
        radius *= 1.002
    turns = [np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in centres]
    return np.concatenate([centre + MONOMER @ turn for centre, turn in zip(centres, turns, strict=True)])


def curves(losses: AgentLosses, molecules: int, start: int, budget: int) -> dict[str, Recorder]:
    """Every method from one start."""
    positions = random_start(molecules, [molecules, FIRST + start])
    found = {name: Recorder(losses, molecules, budget) for name in METHODS}
    once, repeated, damped, conserving = found.values()
    once.relax(positions)
    tries = 0
    while repeated.left > 0:
        repeated.relax(random_start(molecules, [molecules, FIRST + start, tries]) if tries else positions)
        tries += 1
    damped.descend(duality.DescentLearningIntegrator(TIMESTEP, MOMENTUM_TIME), positions, budget)
    conserving.relax(positions)
    reserve = len(conserving.energies)  # the last relaxation is hardly longer than the first
    while conserving.left > reserve:
        target = conserving.lowest - DEPTH * (conserving.energies[0] - conserving.lowest)
        integrator = duality.EnergyConservingDescentLearningIntegrator(TIMESTEP, target)
        conserving.descend(integrator, positions, conserving.left - reserve, target)
        conserving.relax(conserving.at)
    return found


def so_far(energies: list[float], budget: int) -> FloatArray:
    """The lowest energy after every evaluation, shape (budget,)."""
    lowest = np.minimum.accumulate(energies)
    return np.concatenate([lowest, np.full(budget - len(lowest), lowest[-1])])


def main() -> None:
    """Run every method from every start, and write the JSON and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(range(2, 11)))
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--budget", type=int, default=2000)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/descent"), help="without .png and .json")
    given = parser.parse_args()
    losses, results = AgentLosses.load(given.model), []
    at = [n for n in (100, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000, 10_000) if n <= given.budget]
    for molecules in given.sizes:
        runs = [curves(losses, molecules, start, given.budget) for start in range(given.starts)]
        best = min(recorder.lowest for run in runs for recorder in run.values())
        lowest = [min(recorder.lowest for recorder in run.values()) for run in runs]
        row: dict[str, Any] = {"molecules": molecules, "lowest_kj_per_mol": best, "methods": {}}
        for name in METHODS:
            recorders = [run[name] for run in runs]
            above = np.array([so_far(recorder.energies, given.budget) for recorder in recorders]) - best
            row["methods"][name] = {
                "mean_above_lowest": [float(above[:, n - 1].mean()) for n in at],
                "error_of_mean": [float(above[:, n - 1].std(ddof=1) / len(above) ** 0.5) for n in at],
                "lowest_of_methods": sum(
                    recorder.lowest < least + SAME for recorder, least in zip(recorders, lowest, strict=True)
                ),
                "whole": sum(recorder.whole() for recorder in recorders),
                "evaluations": float(np.mean([len(recorder.energies) for recorder in recorders])),
            }
            print(molecules, name, json.dumps(row["methods"][name]), flush=True)
        results.append(row)
        content = {"model": losses.form.name, "starts": given.starts, "evaluations": at, "sizes": results}
        with atomic_write(given.output.with_suffix(".json"), overwrite=True) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")
        with atomic_write(given.output.with_suffix(".png"), overwrite=True) as temporary:
            temporary.write_bytes(png(descent_figure(content)))


if __name__ == "__main__":
    main()
