"""Inference: the least-squares fit of agent losses to reference frames, in closed form, with uncertainty estimates."""

from openmm_duality.inference.adding_frames import add_frames
from openmm_duality.inference.delta_learning import fit_delta
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.targets import DataSet
from openmm_duality.inference.errors import ErrorTable, evaluate
from openmm_duality.inference.fitting import infer
from openmm_duality.inference.learning_curves import LearningCurve, learning_curve
from openmm_duality.inference.uncertainty.calibration import Calibration, assess_calibration

__all__ = [
    "Calibration",
    "DataSet",
    "ErrorTable",
    "LearningCurve",
    "Settings",
    "add_frames",
    "assess_calibration",
    "evaluate",
    "fit_delta",
    "infer",
    "learning_curve",
]
