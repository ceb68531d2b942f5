"""The code and the commands of docs/any-system.md are run as printed."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from openmm_duality.inference.configuration import InferenceConfig
from openmm_duality.inference.equations.channel_selection import SIZES
from openmm_duality.inference.equations.layout import Layout
from openmm_duality.losses.forms import FORMS
from tests.command import call

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "any-system.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_first_model_runs(tmp_path, monkeypatch):
    few = replace(SIZES["small"], invariants=(60, 200, 40), mixing_steps=1)  # for time, and fewer frames
    monkeypatch.setitem(SIZES, "small", few)
    monkeypatch.chdir(tmp_path)
    (snippet,), (commands,) = blocks("python"), blocks("bash")
    assert "range(60)" in snippet
    exec(snippet.replace("range(60)", "range(30)"), {})
    printed = {}
    for line in commands.splitlines():
        name, verb, *arguments = shlex.split(line)
        assert name == "openmm-duality"
        printed[verb] = call(verb, *arguments)
    assert "Channels: " in printed["infer"]
    assert "1000 steps done" in printed["simulate"]


def test_the_configuration_is_one(tmp_path):
    (content,) = blocks("yaml")
    (tmp_path / "c.yaml").write_text(content)
    settings = InferenceConfig.load(tmp_path / "c.yaml").settings
    assert settings.invariants == tuple(yaml.safe_load(content)["invariants"])
    assert settings.channel_cutoff == pytest.approx(0.45)


@pytest.mark.parametrize("size", SIZES)
def test_the_sizes_are_those_of_the_code(size):
    row = re.search(rf"^\| `{size}` \| (\d+) \| ([\d, ]+?) \| [\d,]+ \| (\d+) \|", TEXT, flags=re.MULTILINE)
    assert row is not None
    assert int(row[1]) == SIZES[size].channels
    assert tuple(int(n) for n in row[2].split(", ")) == SIZES[size].invariants
    assert int(row[3]) == SIZES[size].mixing_steps


@pytest.mark.parametrize(("form", "coarse"), [("pair", 0), ("quadratic", 0), ("moment", 0), ("coupled", 3)])
def test_the_numbers_of_coefficients_are_those_of_the_code(form, coarse):
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{form}` |"))
    cells = [cell.strip() for cell in row.split("|")[3:8]]
    for n_species, cell in zip((1, 2, 3, 4, 8), cells, strict=False):
        layout = Layout(FORMS[form], "collective", n_species, 28, 0 if form == "pair" else 8, coarse)
        assert not cell or int(cell.replace(",", "")) == sum(map(layout.size, layout.groups))
