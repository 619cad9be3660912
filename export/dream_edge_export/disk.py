"""Writing so that what was written is there after a power cut, and an error says so if it cannot be."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

from dream_edge_runtime.format.manifest import FileEntry

_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends
_MOST_AT_ONCE = 1 << 26  # a larger request could not be interrupted for seconds, and Linux takes 2 GB at most


def append_file(path: Path, size: int) -> int:
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
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:_MOST_AT_ONCE]) :]


def write_file(path: Path, data: bytes) -> FileEntry:
    """Write a whole file and have it on the disk."""
    fd = append_file(path, 0)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    return FileEntry(path.name, len(data), hashlib.sha256(data).hexdigest())


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
