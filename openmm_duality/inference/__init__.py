"""Inference in closed form: design equations, solving, errors."""

from openmm_duality.inference.calibration import Calibration, calibration
from openmm_duality.inference.correct import correct
from openmm_duality.inference.errors import ErrorTable, evaluate
from openmm_duality.inference.infer import infer
from openmm_duality.inference.learning_curve import LearningCurve, learning_curve
from openmm_duality.inference.settings import Settings
from openmm_duality.inference.targets import DataSet
from openmm_duality.inference.update import update

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
