"""Arrays and a JSON header in one safetensors file, which nothing is run to open."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write


def write_container(
    path: str | Path, kind: str, arrays: Mapping[str, npt.NDArray[Any]], header: Mapping[str, Any], overwrite: bool
) -> None:
    """Write a file of a kind (such as ``openmm_duality losses 1``), whole or not at all.

    Raises
    ------
    DualityError
        If the file exists and `overwrite` is not set, or cannot be written.
    """
    metadata = {"format": kind, "header": json.dumps(header)}
    with atomic_write(path, overwrite) as temporary:
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        try:
            save_file(contiguous, temporary, metadata=metadata)
        except SafetensorError as error:  # how it reports a full disk or a folder closed to writing
            raise OSError(str(error)) from error
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # safetensors lets only the owner read what it writes


def read_container(
    path: str | Path, kind: str, outdated: Mapping[str, str] | None = None
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """The arrays and the header of a file of a kind.

    Parameters
    ----------
    path : path
    kind : str
    outdated : mapping of str to str, optional
        From earlier kinds that are no longer read to what the user is told about them.

    Raises
    ------
    DualityError
        If there is no such file, it is of another kind, or it is cut short.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != kind:
                found = metadata.get("format", "no format")
                if found in (outdated or {}):
                    raise DualityError(f"{path}: {(outdated or {})[found]}")
                raise DualityError(f"{path}: expected a file of the format {kind!r}, found {found!r}")
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(metadata["header"])  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DualityError(
            f"{path}: expected a file of the format {kind!r}; it is missing, something else or cut short ({error})"
        ) from None
