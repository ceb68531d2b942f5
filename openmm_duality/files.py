"""Atomic writing, transparent decompression, hashes and locks of files."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import shutil
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from openmm_duality.errors import DualityError

# what reading a plain or compressed file may raise when it is missing, truncated or damaged
_EXPANSION, _ALWAYS = 50, 1 << 26  # times the size of a compressed file, and bytes, that it may expand to
_LONGEST_LINE = 1 << 24  # bytes in a compressed file
UNREADABLE = (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError, zlib.error)


@contextmanager
def atomic_write(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path` and move the file there when the block ends without an error.

    The temporary name keeps the suffix, because some writers choose their format by it. When the block raises, the
    temporary file is removed and an existing file at `path` is left as it was.

    Parameters
    ----------
    path : path
        Final path of the file; a missing folder is created.
    overwrite : bool
        Whether a file at `path` may be replaced.

    Raises
    ------
    DualityError
        If `path` exists and `overwrite` is not set, is a folder, or cannot be written.
    """
    target = Path(path)
    if target.is_dir():
        raise DualityError(f"{target} is a folder, but a file is to be written there; give the name of a file in it")
    if target.exists() and not overwrite:
        raise DualityError(
            f"{target} exists already and would be overwritten; choose another name, or ask to overwrite"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DualityError(f"cannot create the folder {target.parent} for {target.name}: {error}") from None
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        temporary.unlink(missing_ok=True)  # of an earlier process, or a link that someone has laid there
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise DualityError(
            f"{target} cannot be written: {error}; free some space or choose a folder in which you may write"
        ) from error
    finally:
        with suppress(OSError):  # an error here would hide the first one
            temporary.unlink(missing_ok=True)


@contextmanager
def staged(directory: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder, whose files are moved to `directory` together when the block ends without an error.

    Otherwise nothing is left, nor a folder that was made for them.

    Raises
    ------
    DualityError
        If one of the files exists there and `overwrite` is not set, or it cannot be written.
    """
    directory = Path(directory)
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    place = directory / f".{os.getpid()}.partial"
    try:
        place.mkdir(parents=True)
        yield place
        files = sorted(place.iterdir())
        for path in files:
            if (directory / path.name).exists() and not overwrite:
                raise DualityError(f"{path} exists already and would be overwritten; choose another folder")
        for path in files:
            os.replace(path, directory / path.name)
    except OSError as error:
        raise DualityError(
            f"{directory} cannot be written: {error}; free some space or choose another folder"
        ) from error
    except DualityError as error:
        raise DualityError(str(error).replace(str(place), str(directory))) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
        for path in made:
            with suppress(OSError):  # it holds something
                path.rmdir()


def write_text(path: str | Path, text: str, overwrite: bool = False) -> None:
    """Write a text file in UTF-8 as `atomic_write` does."""
    with atomic_write(path, overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")


def open_text(path: str | Path) -> IO[str]:
    """Open a text file for reading: xz or gzip by its suffix (``.xz``, ``.gz``), else plain.

    Reading raises a `DualityError` where a compressed file expands as no data do.
    """
    path = Path(path)
    if path.suffix not in (".xz", ".gz"):
        return open(path)
    unpack = lzma.open if path.suffix == ".xz" else gzip.open
    return io.TextIOWrapper(io.BufferedReader(_Unpacked(path, unpack(path, "rb")), 1 << 16))


def check_expansion(path: Path, size: int) -> None:
    """Refuse a compressed file that expands to a number of bytes that no data do.

    Raises
    ------
    DualityError
        If that is far more than its own size.
    """
    if size > _most_bytes(path):
        raise DualityError(
            f"{path}: expands to more than {_EXPANSION} times its size, as no data do; unpack it, and look at what is "
            "in it"
        )


def _most_bytes(path: Path) -> int:
    """To how many bytes a compressed file may expand."""
    return _EXPANSION * path.stat().st_size + _ALWAYS


class _Unpacked(io.RawIOBase):
    """The content of a compressed file, as long as it is not far larger than the file."""

    def __init__(self, path: Path, packed: Any) -> None:
        self._path, self._packed = path, packed
        self._left = _most_bytes(path)
        self._line = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._packed.read(len(buffer))
        buffer[: len(content)] = content
        self._left -= len(content)
        end = content.rfind(b"\n")
        self._line = self._line + len(content) if end < 0 else len(content) - end - 1
        if self._left < 0 or self._line > _LONGEST_LINE:
            raise DualityError(
                f"{self._path}: expands to more than {_EXPANSION} times its size, or to a line of more than "
                f"{_LONGEST_LINE:,} bytes, as no data do; unpack it, and look at what is in it"
            )
        return len(content)

    def close(self) -> None:
        self._packed.close()
        super().close()


def sha256(path: str | Path) -> str:
    """SHA-256 of the bytes of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def provenance(path: str | Path) -> str:
    """Provenance of a file as recorded in frames and models: ``"name sha256:…"``."""
    return f"{Path(path).name} sha256:{sha256(path)}"


def checksum(path: str | Path, begin: int, end: int, value: int = 0) -> int:
    """CRC-32 of the bytes `begin` to `end` of a file, going on from that of the bytes before; shorter if it ends."""
    with open(path, "rb") as handle:
        handle.seek(begin)
        while begin < end and (block := handle.read(min(end - begin, 1 << 20))):
            value = zlib.crc32(block, value)
            begin += len(block)
    return value


def require_own_files(directory: Path) -> None:
    """Refuse a folder with files that are not its own, through which something elsewhere would be changed.

    Raises
    ------
    DualityError
        If it holds a symbolic link, a file with another name elsewhere (a hard link) or something that is no file.
    """
    for path in sorted(directory.iterdir()):
        require_own(path)


def require_own(path: Path) -> None:
    """Refuse a file or folder that is a link, through which something elsewhere would be changed.

    Raises
    ------
    DualityError
        If it is a symbolic link, a file with another name elsewhere (a hard link) or something that is no file.
    """
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink > 1):
        raise DualityError(
            f"{path} is a link to something that may lie elsewhere, which writing here would change; remove the link, "
            "or put what it names in its place"
        )
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise DualityError(f"{path} is neither a file nor a folder; remove it, or choose another folder")


@contextmanager
def locked(path: str | Path, busy: str) -> Iterator[None]:
    """Lock a file, made if it is missing, while the block lasts.

    On Windows nothing is locked, but files that another process has open cannot be replaced anyway.

    Raises
    ------
    DualityError
        With the message `busy`, if another process holds the lock.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)  # never through a symbolic link
    with open(path, "r+", opener=lambda name, _: os.open(name, flags, 0o666)) as file:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DualityError(busy) from None
        yield
