"""Commands, configurations and code of the pages in docs/, as printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from openmm_duality.cli import main
from openmm_duality.cp2k.engine import find_cp2k
from openmm_duality.losses.baseline import Baseline
from openmm_duality.reference.summary import component_rms
from tests.pages import DOCS, code_of
from tests.systems import random_losses
from tests.water import EXAMPLES, liquid, small_water

PAGES = sorted([*DOCS.glob("*.md"), EXAMPLES.parent / "README.md"])
OWN_SYSTEM = (DOCS / "your-own-system.md").read_text()
METHANOL = EXAMPLES / "methanol"
# The same commands, on little data: fewer steps and frames, the smallest form, no committee.
SHORTER = {
    "reference.inp": [("STEPS 4000", "STEPS 48")],
    "more.yaml": [("steps: 1200", "steps: 24"), ("frames: 60", "frames: 2"), ("frames: 30", "frames: 1")],
    "infer.yaml": [
        ("every: 8, gap: 0.1", "gap: 0"),
        ("gap: 0.02", "gap: 0"),
        ("size: small", "size: small\ninvariants: [20, 0, 0]\nmixing_steps: 0\nmembers: 0"),
    ],
}


def commands(text: str) -> list[list[str]]:
    """The words of every command `openmm-duality` in the blocks of code of a page."""
    blocks = re.findall(r"```bash\n(.*?)```|((?:^    .*\n)+)", text, flags=re.DOTALL | re.MULTILINE)
    lines = "\n".join("".join(block) for block in blocks).replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines if line.split()[:1] == ["openmm-duality"]]
    return [words[1:] for words in found if "VERB" not in words]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_commands_are_as_the_command_line_knows_them(page: Path) -> None:
    for verb, *arguments in commands(page.read_text()):
        command = main.commands[verb]
        command.make_context(verb, arguments, parent=click.Context(main))


def test_the_configurations_of_the_page_are_those_of_the_example() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", OWN_SYSTEM, flags=re.DOTALL)
    files = {name: yaml.safe_load((METHANOL / name).read_text()) for name in ("more.yaml", "infer.yaml")}
    assert [yaml.safe_load(block) for block in blocks[:2]] == list(files.values())


def test_your_own_system_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in METHANOL.iterdir():
        text = path.read_text()
        for old, new in SHORTER.get(path.name, []):
            assert old in text
            text = text.replace(old, new)
        (tmp_path / path.name).write_text(text)
    monkeypatch.chdir(tmp_path)
    subprocess.run([find_cp2k(), "-i", "reference.inp", "-o", "reference.out"], check=True, env=dict(os.environ))
    first = commands(OWN_SYSTEM)[:5]
    assert [words[0] for words in first] == ["inspect", "reference", "infer", "simulate", "compare"]
    printed = []
    for words in first:
        result = CliRunner().invoke(main, ["0.1 ps" if word.endswith(" ps") else word for word in words])
        # a model of so little data may be said to be a bad one (1); it is no mistake in the command (2) or defect (3)
        assert result.exit_code in (0, 1), result.output
        printed.append(result.output)
    assert "6 (1 C, 4 H, 1 O)" in printed[0]
    assert "more/distorted: 4 frames" in printed[1]
    assert "model.safetensors" in printed[2]
    assert printed[3].splitlines()[-1].startswith("run: ")  # so crude a model may break, which is said
    assert (tmp_path / "run" / "report" / "report.html").is_file()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that code runs in, beside the examples."""
    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_code_of_dynamics_and_for_ase_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_water().save(folder / "water.safetensors")
    monkeypatch.setenv("OPENMM_DEFAULT_PLATFORM", "CPU")
    (code,) = code_of("dynamics.md")
    exec(compile(code.replace("step(2000)", "step(20)"), "dynamics.md", "exec"), {})
    assert len((folder / "nvt.csv").read_text().splitlines()) == 2
    names: dict[str, Any] = {}
    exec(compile(code_of("other-programs.md")[0], "other-programs.md", "exec"), names)
    uncertainty = names["atoms"].calc.get_property("uncertainty", names["atoms"])
    assert uncertainty.shape == (192,)
    assert (uncertainty > 0.0).all()


def test_the_code_of_mixing_runs(folder: Path) -> None:
    random_losses("moment", species=("H", "O"), cutoff=0.35).save(folder / "water.safetensors")
    names: dict[str, Any] = {}
    beside, charges, file = code_of("mixing.md")
    for code in (beside, file):
        exec(compile(code, "mixing.md", "exec"), names)
    mixed = names["mixed"]
    assert mixed.getNumConstraints() == mixed.getNumParticles() - 3  # three in each of the other molecules
    assert names["system"].getNumForces() == mixed.getNumForces()
    exec(compile(charges, "mixing.md", "exec"), names)
    rest = Baseline.of("charges.xml").subtracted_from(liquid()[1][::2])
    # what the table of the page says that these charges leave
    assert component_rms(rest.parts[0].forces) == pytest.approx(1002, rel=0.02)
