"""Inference in closed form: design equations, solving, errors."""

from openmm_duality.inference.adding_frames import update
from openmm_duality.inference.delta import correct
from openmm_duality.inference.equations.targets import DataSet
from openmm_duality.inference.errors import ErrorTable, evaluate
from openmm_duality.inference.fitting import infer
from openmm_duality.inference.learning_curves import LearningCurve, learning_curve
from openmm_duality.inference.settings import Settings
from openmm_duality.inference.uncertainty.calibration import Calibration, calibration

__all__ = [
    "Calibration",
    "DataSet",
    "ErrorTable",
    "LearningCurve",
    "Settings",
    "calibration",
    "correct",
    "evaluate",
    "infer",
    "learning_curve",
    "update",
]
