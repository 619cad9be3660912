"""Writing so that a file is there whole or not at all, survives a power cut, and an error says so if it cannot."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import DreamEdgeError, NotEnoughDisk, NotWritable

OF_THE_SYSTEM = {"lost+found", "System Volume Information", "$RECYCLE.BIN", ".Trashes", ".fseventsd", ".Spotlight-V100"}
_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends
_IN_USE = (5, 32)  # Windows' numbers for access denied and sharing violation
_WAITS = (0.02, 0.1, 0.5)  # seconds: a virus scanner or an indexer opens what is new
_MOST_AT_ONCE = 1 << 26  # a larger request could not be interrupted for seconds, and Linux takes 2 GB at most


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to; it becomes `path` once the block has ended well, and is removed otherwise.

    It lies beside `path` under a name of its own, and is on the disk before it takes its place. A link at `path` is
    replaced, not followed.

    Raises:
        NotWritable: the disk is full or fails, or the place is read-only; `path` is as it was.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    with explain_write_errors(path):
        if path.exists() and not path.is_file():
            raise OSError("it is a directory, a device or a pipe, which no file replaces")
        try:
            with beside.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            move(beside, path)
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
        sync_directory(path.parent)


def move(source: Path, goal: Path) -> None:
    """Rename a file, which replaces one at `goal`, or a directory. One that another program has open is tried again.

    Raises:
        NotWritable: it stays open. Windows alone refuses that.
        OSError: any other refusal.
    """
    for wait in (*_WAITS, None):
        try:
            source.replace(goal)
            return
        except PermissionError as error:
            if getattr(error, "winerror", None) not in _IN_USE:
                raise
            if wait is None:
                remedy = "Another program may have it open: close that, or name a directory that you can write to."
                raise NotWritable(goal, error.strerror or str(error), remedy) from error
            time.sleep(wait)


@contextmanager
def explain_write_errors(
    path: Path, remedy: str = "Name a writable directory with enough free space."
) -> Iterator[None]:
    """Turn errors of the system in the block, where `path` is written, into NotWritable."""
    try:
        yield
    except OSError as error:
        if isinstance(error, DreamEdgeError):
            raise
        raise NotWritable(path, error.strerror or str(error), remedy) from error


def check_disk(path: Path, needed: int, remedy: str) -> None:
    """Raise NotEnoughDisk, which names the `remedy`, unless `needed` more bytes fit on the disk of `path`.

    The message says "Make room, or `remedy`."
    """
    free = free_disk(path)
    if free < needed:
        raise NotEnoughDisk(path, needed, free, remedy)


def free_disk(path: Path) -> int:
    """Bytes free on the disk where `path` is or is going to be."""
    return shutil.disk_usage(next(each for each in (path, *path.absolute().parents) if each.is_dir())).free


def open_to_append(path: Path, size: int) -> int:
    """A descriptor that appends to `path` after its first `size` bytes; what follows them is cut off."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | _BINARY, 0o666)
    try:
        os.ftruncate(fd, size)
        os.lseek(fd, size, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def write_all(fd: int, data: memoryview | bytes) -> None:
    """Write all of `data`, in as many parts as the system takes it."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:_MOST_AT_ONCE]) :]


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file and have it on the disk, in a directory that nobody reads yet."""
    fd = open_to_append(path, 0)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directory(path: Path) -> None:
    """Have the names in a directory on the disk, where the platform and the file system can."""
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def remove_tree(path: Path) -> None:
    """Remove what can be removed."""
    shutil.rmtree(path, ignore_errors=True)


def list_entries(directory: Path) -> list[Path]:
    """What `directory` holds, without what a file system keeps in its root."""
    return [entry for entry in directory.iterdir() if entry.name not in OF_THE_SYSTEM]
