"""Functions of the user's own, named on the command line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from openmm_duality.errors import DualityError


def load_functions(name: str) -> list[Callable[..., Any]]:
    """The functions that a name stands for.

    Parameters
    ----------
    name : str
        ``module:function``, ``file.py:function``, or ``file.py`` for all public functions that the file defines.

    Raises
    ------
    DualityError
        If there is no such module, file or function, or it fails when it is imported.
    """
    place, _, function = name.rpartition(":") if ":" in name else (name, "", "")
    is_file = place.endswith(".py")
    if not (is_file or function):
        raise DualityError(f"--observable {name}: expected module:function, file.py:function or file.py")
    if is_file and not Path(place).is_file():
        raise DualityError(f"--observable {name}: there is no file {place}")
    try:
        module = _from_file(Path(place)) if is_file else _from_path(place)
    except Exception as error:  # whatever the user's module raises
        raise DualityError(
            f"--observable {name}: {place} cannot be imported ({type(error).__name__}: {error})"
        ) from error
    public = {
        key: value
        for key, value in vars(module).items()
        if not key.startswith("_") and callable(value) and getattr(value, "__module__", None) == module.__name__
    }
    if not function:
        if not public:
            raise DualityError(f"--observable {name}: the file defines no public function")
        return list(public.values())
    if not hasattr(module, function):
        raise DualityError(
            f"--observable {name}: {place} has no {function!r}; it defines {', '.join(public) or 'no public function'}"
        )
    return [getattr(module, function)]


def _from_file(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(path.stem, path)
    if specification is None or specification.loader is None:
        raise ImportError("no Python file")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def _from_path(name: str) -> ModuleType:
    """Import a module, also from the working directory, as the Python interpreter does."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)
