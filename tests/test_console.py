"""A defect: one paragraph and exit code 3; its traceback where it is asked for."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from openmm_duality.console import TRACEBACK_VARIABLE, Group


@click.group(cls=Group)
def verbs():
    pass


@verbs.command()
def broken():
    raise ZeroDivisionError("of nothing")


@pytest.mark.parametrize("asked", [True, False])
def test_a_defect_says_how_its_traceback_is_shown(asked, monkeypatch):
    monkeypatch.setenv(TRACEBACK_VARIABLE, "1" if asked else "0")
    result = CliRunner().invoke(verbs, ["broken"])
    assert result.exit_code == 3
    assert "unexpected ZeroDivisionError in test_console.py" in result.output
    assert f"{TRACEBACK_VARIABLE}=1" in result.output
    assert ("Traceback (most recent call last)" in result.output) == asked
    if not asked:
        assert len(result.output.strip().splitlines()) == 1
