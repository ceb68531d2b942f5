"""The configurations among the examples are those of this version, and say how they are run."""

from __future__ import annotations

import pytest

from openmm_duality.cp2k.campaign import Campaign
from openmm_duality.cp2k.own_input import with_input
from openmm_duality.inference.configuration import InferenceConfig
from openmm_duality.schema import build, load_yaml
from tests.water import EXAMPLES

CONFIGURATIONS = sorted(EXAMPLES.rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_a_configuration_is_read(path):
    content = load_yaml(path)
    if "data" in content:
        verb, found = "infer", InferenceConfig.load(path).data
    else:
        content["method"] = with_input(content["method"], path.parent)
        verb, found = "reference", build(Campaign, content, "reference").tasks
    assert len(found) >= 1
    assert f"#   openmm-duality {verb} " in path.read_text()
