"""Progress in a log file: whole lines, now and then."""

from __future__ import annotations

import sys

import pytest

from openmm_duality import progress
from openmm_duality.progress import progress_bar


def test_lines_are_written_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_FIRST", 0.0)
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    assert not sys.stderr.isatty()
    assert sum(progress_bar(5, "reading", items=range(5))) == 10
    lines = capsys.readouterr().err.split("\n")
    assert "reading: 4 of 5 frames in" in lines[-2] or "reading: 5 of 5 frames in" in lines[-2]
    assert lines[-1] == ""  # the last line is whole
    assert not any("\r" in line for line in lines)


@pytest.mark.parametrize("show", [True, False])
def test_quick_work_says_nothing(capsys, show):
    with progress_bar(3, "reading", show=show) as bar:
        for _ in range(3):
            bar.update()
    assert capsys.readouterr().err == ""
