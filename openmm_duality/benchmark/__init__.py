"""The cost of a step, against TIP3P in OpenMM and against CP2K, in one run."""

from openmm_duality.benchmark.results import Costs, Row
from openmm_duality.benchmark.rounds import Effort
from openmm_duality.benchmark.suite import Beside, measure_cost, read_sizes
from openmm_duality.benchmark.table import format_costs
from openmm_duality.benchmark.water import water_box

__all__ = ["Beside", "Costs", "Effort", "Row", "format_costs", "measure_cost", "read_sizes", "water_box"]
