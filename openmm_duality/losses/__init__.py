"""Agent losses: their forms, their evaluation, and the model file."""

from openmm_duality.losses.evaluator import Evaluation, evaluate_agents, evaluate_stress
from openmm_duality.losses.forms import FORMS, GRADIENTS, Form
from openmm_duality.losses.model import AgentLosses

__all__ = ["FORMS", "GRADIENTS", "AgentLosses", "Evaluation", "Form", "evaluate_agents", "evaluate_stress"]
