"""Opens files from a stranger: regular files only, without waiting, and the file that was checked is the one read."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import CorruptArtifact

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class Stamp(NamedTuple):
    """What tells a file from another one, and from itself before it was written to."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, file: Path | int) -> Stamp:
        """That of a path or of an open descriptor. Raises OSError."""
        status = os.stat(file)  # noqa: PTH116 - of a descriptor too
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def open_regular(path: Path) -> BinaryIO:
    """Open `path` for reading. Links are followed, as the caches of hubs lay them, if they lead to a regular file.

    Opening a named pipe would wait for its writer, and a check before opening could be outrun: so the file is opened
    without waiting, and what was opened is checked. Devices are checked before, too, since some act on being opened.

    Raises:
        CorruptArtifact: there is no such file, it is not a regular file, or it cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise CorruptArtifact(path, "is not a regular file")
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise CorruptArtifact(path, "the file is missing") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, CorruptArtifact):
            raise
        raise CorruptArtifact(path, f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CorruptArtifact(path, "is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, limit: int) -> bytes:
    """All bytes of the regular file `path`. Raises CorruptArtifact, also where it has more than `limit` bytes."""
    with open_regular(path) as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise CorruptArtifact(path, f"cannot be read ({error.strerror})") from None
    if len(data) > limit:
        raise CorruptArtifact(path, f"has more than {limit} bytes, too large for such a file")
    return data
