"""Inference in closed form: design equations, solving, errors."""

from openmm_duality.inference.errors import ErrorTable, evaluate
from openmm_duality.inference.infer import infer
from openmm_duality.inference.learning_curve import LearningCurve, learning_curve
from openmm_duality.inference.settings import Settings
from openmm_duality.inference.targets import DataSet
from openmm_duality.inference.update import update

__all__ = ["DataSet", "ErrorTable", "LearningCurve", "Settings", "evaluate", "infer", "learning_curve", "update"]
