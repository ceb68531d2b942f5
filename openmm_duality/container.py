"""Arrays and a JSON header in one safetensors file; reading it runs no code."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write
from openmm_duality.schema import read_json


def write_container(
    path: str | Path,
    file_format: str,
    arrays: Mapping[str, npt.NDArray[Any]],
    header: Mapping[str, Any],
    overwrite: bool,
) -> None:
    """Write arrays and a header atomically to a file of a given format, such as ``openmm_duality losses 4``.

    Raises
    ------
    DualityError
        If the file exists and `overwrite` is not set, or cannot be written.
    """
    metadata = {"format": file_format, "header": json.dumps(header)}
    with atomic_write(path, overwrite) as temporary:
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        try:
            save_file(contiguous, temporary, metadata=metadata)
        except SafetensorError as error:  # raised for a full disk or a read-only folder
            raise OSError(str(error)) from error
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # safetensors makes its files readable by the owner only


def read_container(
    path: str | Path, file_format: str, outdated: Mapping[str, str] | None = None, earlier: Collection[str] = ()
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Read the arrays and the header of a file of a given format.

    Parameters
    ----------
    path : path
    file_format : str
    outdated : mapping of str to str, optional
        Error message for each earlier format that is no longer read.
    earlier : collection of str
        Earlier formats that are.

    Raises
    ------
    DualityError
        If the file does not exist, has another format or is truncated.
    """
    expected = f"{path}: expected a file of the format {file_format!r}"
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            found = metadata.get("format", "no format")
            if found in (outdated or {}):
                raise DualityError(f"{path}: {(outdated or {})[found]}")
            if found not in (file_format, *earlier):
                raise DualityError(f"{expected}, found {found!r}")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return arrays, read_json(metadata["header"], f"{path}: header")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DualityError(f"{expected}; it is missing, of another kind or cut short ({error})") from None


def format_of(path: str | Path) -> str | None:
    """The format that a container file names; None if it names none or cannot be read."""
    try:
        with safe_open(str(path), framework="numpy") as file:
            return (file.metadata() or {}).get("format")
    except (OSError, SafetensorError):
        return None
