"""The cost of a step, compared with TIP3P in OpenMM and with CP2K in one run."""

from openmm_duality.benchmark.interleaved import Effort
from openmm_duality.benchmark.results import Costs, Row
from openmm_duality.benchmark.suite import Baselines, measure_cost, read_sizes
from openmm_duality.benchmark.table import format_costs
from openmm_duality.benchmark.water import water_box

__all__ = ["Baselines", "Costs", "Effort", "Row", "format_costs", "measure_cost", "read_sizes", "water_box"]
