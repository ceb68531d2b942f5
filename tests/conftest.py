"""The tests run in both sets of dependencies; those of openmm-torch itself only in the set that has it.

Torch comes first: the plug-ins of openmm-torch load only into a process that has torch's libraries.
"""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest
import torch  # noqa: F401

from openmm_duality.lowering.dependencies import torchforce_problem
from tests.water import FOLDER, liquid, water_losses

# Files that have nothing to test in one of the sets are left out of the collection there, not skipped: openmm-ml needs
# a newer OpenMM than openmm-torch works with. Where they belong, a package that is missing is an error.
_OF_TORCHFORCE, _OF_PYTHONFORCE = "lowering/test_torchforce.py", "integrations/test_openmm_ml.py"
collect_ignore = [_OF_PYTHONFORCE if torchforce_problem() is None else _OF_TORCHFORCE]


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder of what the processes of a session share; they inherit its name."""
    if not hasattr(config, "workerinput"):
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="openmm-duality-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove it."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(FOLDER))


def pytest_report_header() -> str:
    """Which set this is."""
    problem = torchforce_problem()
    left_out = f"not collected: {', '.join(collect_ignore)}"
    return f"set: {'torchforce' if problem is None else f'pythonforce (no openmm-torch: {problem})'}; {left_out}"


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
