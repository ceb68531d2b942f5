"""Files: written atomically, opened whatever their compression, identified by their hash, locked."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from openmm_duality.errors import DualityError

# What reading a file, plain or compressed, may raise when it is missing, cut short or damaged.
UNREADABLE = (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError, zlib.error)


@contextmanager
def atomic_write(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`, and move the file there when the block ends without an error.

    The temporary name keeps the suffix, because some writers choose their format by it. When the block raises, the
    temporary file is removed and whatever lay at `path` stays as it was.

    Parameters
    ----------
    path : path
        Where the file shall be; its folder is made if it is missing.
    overwrite : bool
        Whether a file at `path` may be replaced.

    Raises
    ------
    DualityError
        If `path` exists and `overwrite` is not set, is a folder, or cannot be written.
    """
    target = Path(path)
    if target.is_dir():
        raise DualityError(f"{target} is a folder, and a file is to be written there; give the name of a file in it")
    if target.exists() and not overwrite:
        raise DualityError(
            f"{target} exists already and would be overwritten; choose another name, or ask to overwrite"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DualityError(f"cannot make the folder {target.parent} for {target.name}: {error}") from None
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise DualityError(
            f"{target} cannot be written: {error}; make room or choose a place where you may write"
        ) from error
    finally:
        with suppress(OSError):  # an error here would hide the first one
            temporary.unlink(missing_ok=True)


def open_text(path: str | Path) -> IO[str]:
    """Open a text file for reading: plain, ``.xz`` or ``.gz`` by its suffix."""
    path = Path(path)
    if path.suffix == ".xz":
        return lzma.open(path, "rt")
    if path.suffix == ".gz":
        return gzip.open(path, "rt")
    return open(path)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file as it lies on the disk, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def provenance(path: str | Path) -> str:
    """``"name sha256:…"`` of a file: how sources are named in frames and models."""
    return f"{Path(path).name} sha256:{sha256(path)}"


def lock(descriptor: int) -> bool:
    """Take the lock of an open file; False if another process has it. It ends with the file.

    On Windows there is none to take, but files that another process has open cannot be replaced anyway.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
