"""The tests run in both sets of dependencies; those of openmm-torch itself only in the set that has it.

Torch comes first: the plug-ins of openmm-torch load only into a process that has torch's libraries.
"""

from __future__ import annotations

import pytest
import torch  # noqa: F401

from openmm_duality.lowering.dependencies import torchforce_problem
from tests.water import liquid, water_losses

# without openmm-torch these files have nothing to test: they are left out of the collection, not skipped
collect_ignore = [] if torchforce_problem() is None else ["lowering/test_torchforce.py"]


def pytest_report_header() -> str:
    """Which set this is."""
    problem = torchforce_problem()
    return "set: torchforce" if problem is None else f"set: pythonforce (no openmm-torch: {problem})"


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Saved frames of water, all and few, and a model of water."""
    path = tmp_path_factory.mktemp("water")
    train, test = liquid()
    train.save(path / "liquid.safetensors")
    train[::9].save(path / "few.safetensors")
    test.save(path / "test.safetensors")
    water_losses("collective").save(path / "model.safetensors")
    return path
