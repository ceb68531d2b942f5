"""Commands as a user types them, in this process."""

from __future__ import annotations

import signal
from typing import Any

from click.testing import CliRunner

from openmm_duality.cli import main


def call(*arguments: Any, code: int = 0) -> str:
    """Runs a command, checks its exit code, and returns what it printed."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return str(result.output)


def hear_interrupts() -> None:
    """To be called in a child: what a shell starts in the background ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def refused(*arguments: Any) -> str:
    """The message of a command that must refuse its input: one paragraph, exit code 2."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    message = str(result.stderr).strip()
    assert message.startswith("openmm-duality: ")
    assert "\n" not in message
    assert "Traceback" not in result.output
    return message
