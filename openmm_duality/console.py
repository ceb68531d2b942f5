"""Errors and notes as single paragraphs, options shared by the verbs, early checks of outputs, JSON output."""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any, NoReturn

import click

from openmm_duality.errors import DualityError
from openmm_duality.files import write_text

PATH = click.Path(path_type=Path)
TRACEBACK_VARIABLE = "OPENMM_DUALITY_TRACEBACK"
MOST_CHARACTERS = 800  # of an error message, whatever the value that it quotes


class Group(click.Group):
    """A click group that prints errors as one paragraph, and exits with the code that belongs to them.

    2: the input, the command or the machine; 3: a defect of the package; 130: Ctrl-C.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _note
                warnings.simplefilter("ignore", DeprecationWarning)  # raised by libraries, meant for developers
                return super().invoke(ctx)
        except DualityError as error:
            _fail(str(error), 2)
        except KeyboardInterrupt:
            _fail(
                "interrupted; the same command again goes on with a run or a reference, and begins an inference anew",
                130,
            )
        except (BrokenPipeError, click.ClickException, click.exceptions.Exit):
            raise  # for click; the first says that the reader of the output has closed it
        except (OSError, UnicodeDecodeError) as error:
            _fail(f"a file cannot be read or written: {error}", 2)
        except MemoryError as error:
            _fail(f"this needs more memory than there is ({error}); take smaller data or a larger machine", 2)
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(at.filename).name}, line {at.lineno}"
            if os.environ.get(TRACEBACK_VARIABLE) == "1":
                traceback.print_exc()
            _fail(
                f"unexpected {type(error).__name__} in {where}: {error}; please report this defect of the package "
                f"with what the same command prints if {TRACEBACK_VARIABLE}=1 is set",
                3,
            )


def _fail(message: str, code: int) -> NoReturn:
    text = " ".join(message.split())
    if len(text) > MOST_CHARACTERS:
        text = f"{text[: MOST_CHARACTERS // 2]} … {text[-MOST_CHARACTERS // 2 :]}"
    click.echo(f"openmm-duality: {text}", err=True)
    sys.exit(code)


def _note(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    # replaces warnings.showwarning; the location in the code is of no use to the user
    click.echo(f"openmm-duality: note: {' '.join(str(message).split())}", err=True)


def json_option(command: Any) -> Any:
    """Add the option ``--json FILE`` to a command."""
    return click.option("--json", "json_file", type=PATH, help="Also write the results to this file.")(command)


def overwrite_option(command: Any) -> Any:
    """Add the option ``--overwrite`` to a command."""
    return click.option("--overwrite", is_flag=True, help="Replace existing files.")(command)


def check_outputs(overwrite: bool, *paths: Path | None) -> None:
    """Refuse output paths that cannot or must not be written, before hours of work are lost.

    Raises
    ------
    DualityError
        If one is a folder or exists while `overwrite` is not set, or two are the same file.
    """
    seen: set[Path] = set()
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise DualityError(f"{path} is a folder, but a file is to be written there; give the name of a file in it")
        if path.exists() and not overwrite:
            raise DualityError(f"{path} exists already; choose another name, or give --overwrite")
        if path.resolve() in seen:
            raise DualityError(f"{path} would be written twice, with different content; choose another name")
        seen.add(path.resolve())


def write_json(path: Path | None, content: dict[str, Any], overwrite: bool) -> None:
    """Write the results of a verb to the file given by ``--json``, if any."""
    if path is not None:
        write_text(path, json.dumps(content, indent=1) + "\n", overwrite)
