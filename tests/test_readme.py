"""The Python code of the README is run as printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_snippet_runs_and_writes_what_it_says(tmp_path):
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "molecules" in done.stdout
    assert (tmp_path / "water.safetensors").stat().st_size > 10_000
    assert (tmp_path / "water.dcd").stat().st_size > 5 * 192 * 12
