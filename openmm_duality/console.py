"""The console: errors and notes in one paragraph each, checks of outputs before the work, JSON."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write

PATH = click.Path(path_type=Path)


class Group(click.Group):
    """A click group that prints the package's errors as one paragraph and exits with code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _note
                warnings.simplefilter("ignore", DeprecationWarning)  # of libraries, for those who write code
                return super().invoke(ctx)
        except DualityError as error:
            click.echo(f"openmm-duality: {error}", err=True)
            sys.exit(2)
        except BrokenPipeError:
            raise  # whoever read the output has left; click ends quietly
        except OSError as error:
            click.echo(f"openmm-duality: a file cannot be read or written: {error}", err=True)
            sys.exit(2)


def _note(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    # the signature is that of warnings.showwarning; the place in the code is of no use to the user
    click.echo(f"openmm-duality: note: {' '.join(str(message).split())}", err=True)


def json_option(command: Any) -> Any:
    """Add the option --json FILE."""
    return click.option("--json", "json_file", type=PATH, help="Write the figures to this file too.")(command)


def overwrite_option(command: Any) -> Any:
    """Add the option --overwrite."""
    return click.option("--overwrite", is_flag=True, help="Replace files that are there already.")(command)


def check_outputs(overwrite: bool, *paths: Path | None) -> None:
    """Refuse outputs that cannot or may not be written, before hours of work are lost.

    Raises
    ------
    DualityError
        If one is a folder, is there already and `overwrite` is not set, or two are the same file.
    """
    seen: set[Path] = set()
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise DualityError(f"{path} is a folder, and a file is to be written there; give the name of a file in it")
        if path.exists() and not overwrite:
            raise DualityError(f"{path} exists already; choose another name, or give --overwrite")
        if path.resolve() in seen:
            raise DualityError(f"{path} would be written twice, with different content; choose another name")
        seen.add(path.resolve())


def write_json(path: Path | None, content: dict[str, Any], overwrite: bool) -> None:
    """Write the figures of a verb to the file of --json, if one is given."""
    if path is not None:
        with atomic_write(path, overwrite) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")
