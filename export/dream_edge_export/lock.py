"""A lock that dies with its process: two exports to one place would write into each other's files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dream_edge_runtime.errors import OutputBusy

_LOCKED_BYTE = 1 << 30  # Windows locks bytes against reading too: one far from the holder's id


@contextmanager
def exclusive(path: Path, out: Path) -> Iterator[None]:
    """Hold the lock file `path`, made with its directory if need be, while the block runs.

    It is not removed; whoever removes it does so inside the block (or, on Windows, after it).

    Raises:
        OutputBusy: another process is writing `out`.
    """
    fd = _acquire(path, out)
    try:
        yield
    finally:
        os.close(fd)


def _acquire(path: Path, out: Path) -> int:
    while True:
        path.parent.mkdir(exist_ok=True)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # its last holder has just removed the directory
            continue
        try:
            if not _try_lock(fd):
                raise OutputBusy(out, _holder(fd))
            if _is_at(fd, path):
                _sign(fd)
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its last holder removed it between our opening and locking it


def _sign(fd: int) -> None:
    with suppress(OSError):  # a courtesy to whoever is refused
        os.ftruncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())


def _holder(fd: int) -> int | None:
    with suppress(OSError, ValueError):
        os.lseek(fd, 0, os.SEEK_SET)
        return int(os.read(fd, 20))
    return None


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int) -> bool:
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(fd, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
