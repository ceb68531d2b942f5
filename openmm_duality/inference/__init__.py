"""Inference in closed form: design equations, solving, errors."""

from openmm_duality.inference.errors import ErrorTable, evaluate
from openmm_duality.inference.infer import infer
from openmm_duality.inference.settings import Settings
from openmm_duality.inference.targets import DataSet

__all__ = ["DataSet", "ErrorTable", "Settings", "evaluate", "infer"]
