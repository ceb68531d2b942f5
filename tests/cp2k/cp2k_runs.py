"""CP2K run by the tests: liquid water by the network, and campaigns in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.reference.conftest import EXAMPLES

LIQUID = str(EXAMPLES / "water64-cnnp")
PROGRAM = "import sys; from openmm_duality.cp2k.campaign import run_reference; run_reference(sys.argv[1], sys.argv[2])"


def configure(folder: Path, **content: Any) -> Path:
    """Writes a configuration into the folder."""
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def in_a_process(config: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Begins a campaign that may be killed."""
    paths = os.pathsep.join([str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(config), str(folder)], env=environment)


def cp2k_in(folder: Path) -> list[int]:
    """The processes of CP2K at work below a folder."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and os.readlink(process / "cwd").startswith(str(folder)):
                found.append(int(process.name))
        except OSError:  # it has ended since, or is not ours to look at
            continue
    return found
