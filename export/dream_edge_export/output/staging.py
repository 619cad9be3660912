"""The directory in which an artifact is built: hidden, beside its goal, locked, with a journal of what is finished.

    .OUT.partial/lock       held by the process that exports; the system releases it when that process dies
    .OUT.partial/journal    what is finished, so that the same command resumes there
    .OUT.partial/calibration/  what a calibration has finished, see `calibrate.store`
    .OUT.partial/artifact/  becomes OUT when it is whole
    .OUT.partial/replaced/  the old OUT, between the two renames that exchange them

Nothing but OUT itself is ever an artifact that somebody would load.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dream_edge_runtime.files.lock import hold_lock
from dream_edge_runtime.files.writing import remove_tree, sync_directory
from dream_edge_runtime.format.manifest import MANIFEST

JOURNAL = "journal"
CALIBRATION = "calibration"


def resolve_goal(out: Path) -> Path:
    """`out`, absolute and by one name for one place; a link at `out` itself is not followed."""
    out = out.absolute()
    return out.resolve() if out.name == ".." else out.parent.resolve() / out.name


def locate_staging(out: Path) -> Path:
    """Where an export to `out` is built."""
    out = resolve_goal(out)
    return out.with_name(f".{out.name}.partial")


class Staging:
    """The directory in which the artifact for `out` is built. Make one with `claim_staging`."""

    def __init__(self, out: Path, path: Path) -> None:
        self.out = out
        self.path = path
        self.artifact = self.path / "artifact"
        self.journal = self.path / JOURNAL
        self.calibration = self.path / CALIBRATION
        self.replaced = self.path / "replaced"
        self.is_resumable = self.journal.exists() or self.calibration.exists()
        """Whether something is finished that the next export can continue, so that it must outlive this one."""

    def clear(self) -> None:
        """Start over; a calibration stays."""
        remove_tree(self.artifact)
        self.journal.unlink(missing_ok=True)
        self.is_resumable = self.calibration.exists()
        self.artifact.mkdir()

    def put_in_place(self) -> None:
        """Make the artifact that was built the one at `out`; an older one is moved aside first and removed last."""
        sync_directory(self.artifact)
        if is_occupied(self.out):
            self.out.rename(self.replaced)
        elif self.out.exists():
            self.out.rmdir()
        try:
            self.artifact.rename(self.out)
        except OSError:
            self.recover()
            raise
        self.is_resumable = False
        sync_directory(self.out.parent)
        self.recover()

    def recover(self) -> None:
        """Undo an exchange that was interrupted between its two renames, or finish one that was not."""
        if not os.path.lexists(self.replaced):
            return
        if is_occupied(self.out):
            (self.replaced / MANIFEST).unlink(missing_ok=True)  # first: a half is no artifact
            remove_tree(self.replaced)
            return
        if self.out.exists():
            self.out.rmdir()
        self.replaced.rename(self.out)

    def remove(self) -> None:
        """Remove everything that an export has made here."""
        remove_tree(self.artifact)
        remove_tree(self.calibration)
        self.journal.unlink(missing_ok=True)
        _remove_lock(self.path)


@contextmanager
def claim_staging(out: Path) -> Iterator[Staging]:
    """The place where `out` is built, for this process alone. What can be resumed outlives the block.

    Raises: OutputBusy.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    path = locate_staging(out)
    try:
        with hold_lock(path / "lock", out):
            place = Staging(out, path)
            place.recover()
            place.artifact.mkdir(exist_ok=True)
            try:
                yield place
            finally:
                if not place.is_resumable and not os.path.lexists(place.replaced):
                    place.remove()
    finally:
        if os.name == "nt":
            _remove_lock(path)


def _remove_lock(path: Path) -> None:
    """Remove what is left of the directory, unless something is."""
    with suppress(OSError):
        if {entry.name for entry in path.iterdir()} <= {"lock", "lock.holder"}:
            for entry in path.iterdir():
                entry.unlink()  # Windows refuses while it is open
            path.rmdir()


def is_occupied(out: Path) -> bool:
    """Whether there is anything at `out` but an empty directory."""
    return out.is_symlink() or out.is_file() or (out.is_dir() and any(out.iterdir()))
