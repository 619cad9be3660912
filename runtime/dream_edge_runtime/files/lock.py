"""A lock that dies with its process: two that write to one place would write into each other's files."""

from __future__ import annotations

import errno
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import OutputBusy

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}

_log = logging.getLogger(__name__)


@contextmanager
def hold_lock(path: Path, out: Path) -> Iterator[None]:
    """Hold the lock file `path`, made with its directory if need be, while the block runs.

    The id of its holder lies beside it, which the library does not keep. The lock file is not removed; remove it inside
    the block (or, on Windows, after it). Where the file system has no locks, there is a warning, and none is held.

    Raises:
        OutputBusy: another process is writing `out`.
    """
    holder = path.with_name(f"{path.name}.holder")
    lock = _acquire(path, out, holder)
    try:
        with suppress(OSError):  # only for the message to those who are refused
            holder.write_text(str(os.getpid()), "utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        lock.release()


def _acquire(path: Path, out: Path, holder: Path) -> FileLock:
    # not at once: a lock whose file its last holder has just removed counts as held for a moment
    lock = FileLock(path, timeout=0.1, poll_interval=0.02, thread_local=False)
    while True:
        path.parent.mkdir(exist_ok=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # the library's other kind would outlive its process
                lock.acquire()
        except FileNotFoundError:  # its last holder has just removed the directory
            continue
        except Timeout:
            raise OutputBusy(out, _read_id(holder)) from None
        except (UserWarning, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            _log.warning("The file system of %s has no locks: let no other process write there.", out)
        return lock


def _read_id(holder: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int(holder.read_text("utf-8"))
    return None
