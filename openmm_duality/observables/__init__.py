"""Structure, motion and energetics of runs, and their comparison with a reference."""

from openmm_duality.observables.comparison import compare
from openmm_duality.observables.findings import Conclusion, Finding, Observable, Outcome
from openmm_duality.observables.results import Comparison
from openmm_duality.observables.runs import Run, read_run
from openmm_duality.observables.subjects import read_dynamics, sample_runs

__all__ = [
    "Comparison",
    "Conclusion",
    "Finding",
    "Observable",
    "Outcome",
    "Run",
    "compare",
    "read_dynamics",
    "read_run",
    "sample_runs",
]
