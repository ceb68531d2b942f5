"""Structure, motion and energetics of runs, and their comparison with a reference."""

from openmm_duality.observables.comparison import compare
from openmm_duality.observables.dense import read_dynamics
from openmm_duality.observables.recomputing import Recompute
from openmm_duality.observables.results import Comparison
from openmm_duality.observables.runs import Run, read_run

__all__ = ["Comparison", "Recompute", "Run", "compare", "read_dynamics", "read_run"]
