"""Molecular learning dynamics for OpenMM: agent losses inferred from CP2K data and run as custom forces.

Public names are imported on first use, so that ``import openmm_duality`` is quick and does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from openmm_duality.version import __version__ as __version__

_EXPORTS = {
    "errors": "DualityError",
    "geometry": "supercell",
    "reference": "DataKeys Frames MixedFrames read read_cp2k read_deepmd read_extxyz summarise",
    "cp2k": "run_reference",
    "losses": "AgentLosses evaluate_agents evaluate_stress",
    "inference": "DataSet ErrorTable Settings add_frames assess_calibration evaluate fit_delta infer learning_curve",
    "lowering": "export_system export_torchscript load_system lower",
    "dynamics": "DescentLearningIntegrator EnergyConservingDescentLearningIntegrator LangevinLearningIntegrator "
    "Limits NoseHooverLearningIntegrator VerletLearningIntegrator add_barostat add_to_system create_system "
    "create_topology minimize read_start simulate",
    "learning": "Monitor check_stability find_model infer_stable recompute_forces",
    "observables": "compare read_dynamics sample_runs",
    "benchmark": "format_costs measure_cost",
    "integrations": "DualityCalculator",
    "report": "comparison_to_dict headline verdict write_report",
}
_SUBPACKAGE_OF = {name: room for room, names in _EXPORTS.items() for name in names.split()}

__all__ = sorted(_SUBPACKAGE_OF)

if TYPE_CHECKING:  # the same names, for type checkers and editors; a test compares the two lists
    from openmm_duality.benchmark import format_costs as format_costs
    from openmm_duality.benchmark import measure_cost as measure_cost
    from openmm_duality.cp2k import run_reference as run_reference
    from openmm_duality.dynamics import DescentLearningIntegrator as DescentLearningIntegrator
    from openmm_duality.dynamics import (
        EnergyConservingDescentLearningIntegrator as EnergyConservingDescentLearningIntegrator,
    )
    from openmm_duality.dynamics import LangevinLearningIntegrator as LangevinLearningIntegrator
    from openmm_duality.dynamics import Limits as Limits
    from openmm_duality.dynamics import NoseHooverLearningIntegrator as NoseHooverLearningIntegrator
    from openmm_duality.dynamics import VerletLearningIntegrator as VerletLearningIntegrator
    from openmm_duality.dynamics import add_barostat as add_barostat
    from openmm_duality.dynamics import add_to_system as add_to_system
    from openmm_duality.dynamics import create_system as create_system
    from openmm_duality.dynamics import create_topology as create_topology
    from openmm_duality.dynamics import minimize as minimize
    from openmm_duality.dynamics import read_start as read_start
    from openmm_duality.dynamics import simulate as simulate
    from openmm_duality.errors import DualityError as DualityError
    from openmm_duality.geometry import supercell as supercell
    from openmm_duality.inference import DataSet as DataSet
    from openmm_duality.inference import ErrorTable as ErrorTable
    from openmm_duality.inference import Settings as Settings
    from openmm_duality.inference import add_frames as add_frames
    from openmm_duality.inference import assess_calibration as assess_calibration
    from openmm_duality.inference import evaluate as evaluate
    from openmm_duality.inference import fit_delta as fit_delta
    from openmm_duality.inference import infer as infer
    from openmm_duality.inference import learning_curve as learning_curve
    from openmm_duality.integrations import DualityCalculator as DualityCalculator
    from openmm_duality.learning import Monitor as Monitor
    from openmm_duality.learning import check_stability as check_stability
    from openmm_duality.learning import find_model as find_model
    from openmm_duality.learning import infer_stable as infer_stable
    from openmm_duality.learning import recompute_forces as recompute_forces
    from openmm_duality.losses import AgentLosses as AgentLosses
    from openmm_duality.losses import evaluate_agents as evaluate_agents
    from openmm_duality.losses import evaluate_stress as evaluate_stress
    from openmm_duality.lowering import export_system as export_system
    from openmm_duality.lowering import export_torchscript as export_torchscript
    from openmm_duality.lowering import load_system as load_system
    from openmm_duality.lowering import lower as lower
    from openmm_duality.observables import compare as compare
    from openmm_duality.observables import read_dynamics as read_dynamics
    from openmm_duality.observables import sample_runs as sample_runs
    from openmm_duality.reference import DataKeys as DataKeys
    from openmm_duality.reference import Frames as Frames
    from openmm_duality.reference import MixedFrames as MixedFrames
    from openmm_duality.reference import read as read
    from openmm_duality.reference import read_cp2k as read_cp2k
    from openmm_duality.reference import read_deepmd as read_deepmd
    from openmm_duality.reference import read_extxyz as read_extxyz
    from openmm_duality.reference import summarise as summarise
    from openmm_duality.report import comparison_to_dict as comparison_to_dict
    from openmm_duality.report import headline as headline
    from openmm_duality.report import verdict as verdict
    from openmm_duality.report import write_report as write_report
else:

    def __getattr__(name: str) -> Any:
        if name not in _SUBPACKAGE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_SUBPACKAGE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_SUBPACKAGE_OF])
